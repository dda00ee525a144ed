"""New clinical concepts: a generator learns to draw a sub-type that its labels never told of.

After algorithm 4 of arXiv 2306.12438. Experts sub-label some images of a class. A head that learned from these tells
which of the others are; the vocabulary gets a word for the concept; generator and word are fine-tuned on the concept's
images, while the other concepts are held where they were. Then the generator practises: it draws the concept and
follows what tutors, which learned the same sub-labels, and the reward say of its drawings.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from training.concepts.batches import Kept, SubTyped, SubTypeRows, draw_kept, known, real_kept
from training.concepts.config import ConceptConfig
from training.concepts.practice import Practising, check_reward, practise, settings
from training.concepts.student import ConceptStudent
from training.concepts.sublabels import SubLabelled, check_enough, joined, load_sub_labels, read_sub_labels
from training.concepts.subtype import Head, Sight, best_head, features_of, sight, sight_of_reward
from training.concepts.trainer import ConceptTrainer, Lesson
from training.concepts.tutors import LEAST_AUROC, learn_tutors, tutor_backbones
from training.data.examples import Examples, load_examples
from training.loop.session import TrainingSession
from training.loop.training_loop import TrainingLoop
from vouch.errors import FailedPrecondition
from vouch.models.captions import Vocabulary
from vouch.models.defaults import DEFAULTS_FILE, Defaults, load_defaults
from vouch.models.networks.attributes import AttributeNet
from vouch.models.networks.reward import RewardEnsemble
from vouch.models.pipelines import load_generator

SUB_TYPES_FILE = "sub-types.json"
"""In the run's folder: which images the head sub-labelled, as numbers in the order gathered, and how sure it was."""


@dataclass(frozen=True)
class Belonging:
    """Which images are the concept and which are not; those that only the head says so of, with the probability that it
    gives them of being the concept."""

    yes: SubTypeRows
    no: SubTypeRows
    pseudo_labelled: dict[int, float]
    figures: dict[str, float]


def fit(config: ConceptConfig, session: TrainingSession) -> dict[str, float]:
    """Learns the concept and writes a whole diffusers folder into `config.out`.

    Raises:
        FailedPrecondition: too few sub-labels, or a generator without a vocabulary.
        InvalidInput: a concept that the vocabulary cannot take, data that hold none of it.
    """
    torch.set_num_threads(config.threads)
    grown = _vocabulary(config).with_concept(config.concept, config.kind_of)
    data = load_examples(config.data, domain=config.domain) if config.data else None
    images = gather(config, data, session.folder)
    check_enough(images, config.concept, config.least)
    if config.practice_steps:
        check_reward(config.reward, config.kind_of, grown)
    kept = real_kept(data, grown) if data else _draw_kept(config, session)
    with tempfile.TemporaryDirectory() as scratch:
        figures = _learn(images, kept, grown, config, session, Path(scratch))
        figures |= _practise(Path(scratch), images, kept, config, session)
        if not session.group.is_rank_zero:
            return {}
        shutil.copytree(scratch, config.out, dirs_exist_ok=True)
    session.note("figures.json", figures)
    return figures


def _learn(
    images: SubLabelled,
    kept: Kept,
    grown: Vocabulary,
    config: ConceptConfig,
    session: TrainingSession,
    out: Path,
) -> dict[str, float]:
    """Word and generator from images; writes what they have become into `out`."""
    torch.manual_seed(config.seed)  # of the LoRA
    student = ConceptStudent(
        config.base, config.parent, config.reward, config.rank,
        concept=config.concept, kind_of=config.kind_of, device=session.device,
    )  # fmt: skip
    session.report(0, config.steps, "telling sub-types apart")
    members = belonging(student, images, config)
    session.note(SUB_TYPES_FILE, {"pseudo_labelled": members.pseudo_labelled})
    attributes = tuple(known(grown, row) for row in images.attributes)
    new = SubTyped(images.images, attributes, members.yes, members.no)
    result = TrainingLoop(
        ConceptTrainer(student, Lesson(new, kept), config, session), session, f"learning {config.concept}",
        session.folder / "concept", config.steps, config.minutes, config.checkpoint_every,
    ).run()  # fmt: skip
    _save(student, grown, config, out)
    figures = {"kept_images": float(len(kept)), "train_seconds": result.seconds}
    return {**members.figures, **figures, **result.metrics}


def gather(config: ConceptConfig, data: Examples | None, folder: Path) -> SubLabelled:
    """All images of the class that are at hand: those frozen from the catalog, and those of the data. Drawn ones that
    nobody told of are left out where there are real ones to learn from."""
    frozen = load_sub_labels(folder)
    parts = []
    if frozen is not None:
        parts.append(frozen if data is None else frozen.only_labelled())
    if data is not None:
        parts.append(read_sub_labels(data, config.kind_of, config.column, config.value, config.others))
    if not parts:
        raise FailedPrecondition(f"There is no image of {config.kind_of} to learn from.", "NO_IMAGES")
    return joined(parts).limited(config.most, config.seed)


def belonging(student: ConceptStudent, images: SubLabelled, config: ConceptConfig) -> Belonging:
    """Sub-labelled images by their sub-label; of the others those that the head is sure of."""
    head, likely = _head(student, images, config)
    yes, no = images.sides()
    unlabelled = images.probability.isnan()
    pseudo_yes, pseudo_no = unlabelled & (likely > config.sure), unlabelled & (likely < 1 - config.sure)
    pseudo = pseudo_yes | pseudo_no
    figures = {
        "sub_labels_yes": float(len(yes)),
        "sub_labels_no": float(len(no)),
        "head_accuracy": head.accuracy,
        "head_auroc": head.auroc,
        "pseudo_labelled_yes": float(pseudo_yes.sum()),
        "pseudo_labelled_no": float(pseudo_no.sum()),
        "pseudo_of": float(unlabelled.sum()),
        "pseudo_confidence": float((likely[pseudo] - 0.5).abs().mean() + 0.5) if pseudo.any() else 0.0,
    }
    return Belonging(
        SubTypeRows(tuple(yes.tolist()), _rows(pseudo_yes)),
        SubTypeRows(tuple(no.tolist()), _rows(pseudo_no)),
        {row: round(float(likely[row]), 4) for row in _rows(pseudo)},
        figures,
    )


def _head(student: ConceptStudent, images: SubLabelled, config: ConceptConfig) -> tuple[Head, torch.Tensor]:
    """The best head upon the features at hand, and the probability [N] of the concept that it gives each image."""
    features = {name: features_of(see, images.images) for name, see in _sights(student, config).items()}
    rows = images.labelled
    groups = [images.groups[row] for row in rows.tolist()]
    name, head = best_head(features, rows, (images.probability[rows] > 0.5).numpy(), config.seed, groups)
    return head, torch.from_numpy(head.probability(features[name])).float()


def _sights(student: ConceptStudent, config: ConceptConfig) -> dict[str, Sight]:
    """Of each network at hand."""
    sights = {"reward": sight_of_reward(student.reward)}
    if config.rater is not None:
        rater = AttributeNet.load(config.rater)
        sights["rater"] = sight([rater.backbone], rater.size)
    return sights


def _rows(chosen: torch.Tensor) -> tuple[int, ...]:
    return tuple(chosen.nonzero().flatten().tolist())


def _vocabulary(config: ConceptConfig) -> Vocabulary:
    vocabulary = (Vocabulary.load(config.parent) if config.parent else None) or Vocabulary.load(config.base)
    if vocabulary is None:
        raise FailedPrecondition(
            "The generator has no vocabulary.json, so it cannot be told which words it knows. Put one beside it.",
            "NO_VOCABULARY",
        )
    return vocabulary


def _draw_kept(config: ConceptConfig, session: TrainingSession) -> Kept:
    generator = load_generator(config.parent or config.base, config.base)
    return draw_kept(generator, _vocabulary(config).labels, session)


def _practise(
    folder: Path, images: SubLabelled, kept: Kept, config: ConceptConfig, session: TrainingSession
) -> dict[str, float]:
    """Betters the generator in `folder`, which has the word, by what it draws; what came of it."""
    if not config.practice_steps:
        return {}
    rater = AttributeNet.load(config.rater) if config.rater else None
    backbones = tutor_backbones(RewardEnsemble.load(config.reward), rater)
    tutors, auroc = learn_tutors(backbones, images, config, session.phase("tutors"))
    if auroc < LEAST_AUROC:
        return {"tutor_auroc": auroc, "practice_steps": 0.0}
    torch.manual_seed(config.seed)  # of the LoRA, whatever an earlier attempt has spared this one
    student = Practising(folder, config.reward, tutors, config, session.device)
    align = settings(config, folder, config.reward, config.out)
    figures = practise(student, kept, config, align, session.phase("practice"))
    student.merge(folder)
    return {"tutor_auroc": auroc, **figures}


def _save(student: ConceptStudent, vocabulary: Vocabulary, config: ConceptConfig, out: Path) -> None:
    """A whole diffusers folder: a LoRA could not carry the word, and what is learned upon it later would lose it."""
    student.save(out)
    vocabulary.save(out)
    if (config.base / DEFAULTS_FILE).is_file():
        _unguided_by_another(load_defaults(config.base)).save(out)


def _unguided_by_another(defaults: Defaults) -> Defaults:
    """With guidance by the empty caption instead of by a weaker network, which has not learned the word."""
    if defaults.options.method != "autoguidance":
        return defaults
    return replace(defaults, options=replace(defaults.options, method="cfg"))
