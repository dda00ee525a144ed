"""New clinical concepts: a generator learns to draw a sub-type that its labels never told of.

After algorithm 4 of arXiv 2306.12438. Experts sub-label some images of a class. A head that learned from these tells
which of the others are; the vocabulary gets a word for the concept; generator and word are fine-tuned on the concept's
images, while the other concepts are held where they were. Then the generator practises: it draws the concept and
follows what tutors, which learned the same sub-labels, and the reward say of its drawings.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from training import checkpoint
from training.alignment.methods.method import Chance
from training.concepts.batches import Kept, Side, SubTyped, draw_kept, known, real_kept
from training.concepts.practice import Practising, check_reward, practise, settings
from training.concepts.student import ConceptStudent
from training.concepts.sublabels import SubLabelled, check_enough, joined, load_sub_labels, read_sub_labels
from training.concepts.subtype import Sight, best_head, features_of, sight, sight_of_reward
from training.concepts.tutors import LEAST_AUROC, eyes, learn_tutors
from training.data import Examples, load_examples
from training.session import Session
from training.team import Team
from vouch.errors import FailedPrecondition
from vouch.models.captions import Vocabulary
from vouch.models.defaults import DEFAULTS_FILE, Defaults, load_defaults
from vouch.models.networks.attributes import AttributeNet
from vouch.models.networks.reward import RewardEnsemble
from vouch.models.pipelines import load_generator
from vouch.recipes import ConceptLearning

SUB_TYPES_FILE = "sub-types.json"
"""In the run's folder: which images the head sub-labelled, as numbers in the order gathered, and how sure it was."""


class ConceptConfig(ConceptLearning):
    """One concept."""

    out: Path
    base: Path
    """The diffusers folder that is fine-tuned."""
    parent: Path | None = None
    """A LoRA folder upon `base` to go on from."""
    reward: Path
    """The ensemble whose features the head may read, from which tutors begin, and which practice follows."""
    rater: Path | None = None
    """An attribute network whose features the head may read instead, if they tell the sub-types better; another tutor
    begins from it."""


@dataclass(frozen=True)
class Lesson:
    """What is learned from: images of either side, and what is to be kept."""

    new: SubTyped
    kept: Kept


@dataclass(frozen=True)
class Belonging:
    """Which images are the concept and which are not; those that only the head says so of, with the probability that it
    gives them of being the concept."""

    yes: Side
    no: Side
    pseudo_labelled: dict[int, float]
    figures: dict[str, float]


def fit(config: ConceptConfig, session: Session) -> dict[str, float]:
    """Learns the concept and writes a whole diffusers folder into `config.out`.

    Raises:
        FailedPrecondition: too few sub-labels, or a generator without a vocabulary.
        InvalidInput: a concept that the vocabulary cannot take, data that hold none of it.
    """
    torch.set_num_threads(config.threads)
    grown = _vocabulary(config).with_concept(config.concept, config.kind_of)
    data = load_examples(config.data, domain=config.domain) if config.data else None
    found = gather(config, data, session.folder)
    check_enough(found, config.concept, config.least)
    if config.practice_steps:
        check_reward(config.reward, config.kind_of, grown)
    kept = real_kept(data, grown) if data else _draw_kept(config, session)
    with tempfile.TemporaryDirectory() as scratch:
        figures = _learn(found, kept, grown, config, session, Path(scratch))
        figures |= _practise(Path(scratch), found, kept, config, session)
        if not session.team.leads:
            return {}
        shutil.copytree(scratch, config.out, dirs_exist_ok=True)
    session.note("figures.json", figures)
    return figures


def _learn(
    found: SubLabelled, kept: Kept, grown: Vocabulary, config: ConceptConfig, session: Session, out: Path
) -> dict[str, float]:
    """Word and generator from images; writes what they have become into `out`."""
    torch.manual_seed(config.seed)  # of the LoRA
    student = ConceptStudent(
        config.base, config.parent, config.reward, config.rank,
        concept=config.concept, kind_of=config.kind_of, device=session.device,
    )  # fmt: skip
    session.report(0, config.steps, "telling sub-types apart")
    members = belonging(student, found, config)
    session.note(SUB_TYPES_FILE, {"pseudo_labelled": members.pseudo_labelled})
    attributes = tuple(known(grown, row) for row in found.attributes)
    new = SubTyped(found.images, attributes, members.yes, members.no)
    seconds, losses = _train(student, Lesson(new, kept), config, session)
    _save(student, grown, config, out)
    return {**members.figures, "kept_images": float(len(kept)), "train_seconds": seconds, **losses}


def gather(config: ConceptConfig, data: Examples | None, folder: Path) -> SubLabelled:
    """All images of the class that are at hand: those frozen from the catalog, and those of the data. Drawn ones that
    nobody told of are left out where there are real ones to learn from."""
    frozen = load_sub_labels(folder)
    parts = []
    if frozen is not None:
        parts.append(frozen if data is None else frozen.only_told())
    if data is not None:
        parts.append(read_sub_labels(data, config.kind_of, config.column, config.value, config.others))
    if not parts:
        raise FailedPrecondition(f"There is no image of {config.kind_of} to learn from.", "NO_IMAGES")
    return joined(parts).limited(config.most, config.seed)


def belonging(student: ConceptStudent, found: SubLabelled, config: ConceptConfig) -> Belonging:
    """Sub-labelled images by their sub-label; of the others those that the head is sure of."""
    sights = _sights(student, config)
    seen = {name: features_of(see, found.images) for name, see in sights.items()}
    told, groups = found.told, found.groups
    name, head = best_head(
        seen, told, (found.said[told] > 0.5).numpy(), config.seed, [groups[row] for row in told.tolist()]
    )
    likely = torch.from_numpy(head.probability(seen[name])).float()
    untold = found.said.isnan()
    told = found.sides()
    pseudo = (untold & (likely > config.sure), untold & (likely < 1 - config.sure))
    either = pseudo[0] | pseudo[1]
    figures = {
        "sub_labels_yes": float(len(told[0])),
        "sub_labels_no": float(len(told[1])),
        "head_accuracy": head.accuracy,
        "head_auroc": head.auroc,
        "pseudo_labelled_yes": float(pseudo[0].sum()),
        "pseudo_labelled_no": float(pseudo[1].sum()),
        "pseudo_of": float(untold.sum()),
        "pseudo_confidence": float((likely[either] - 0.5).abs().mean() + 0.5) if either.any() else 0.0,
    }
    return Belonging(
        Side(tuple(told[0].tolist()), _rows(pseudo[0])),
        Side(tuple(told[1].tolist()), _rows(pseudo[1])),
        {row: round(float(likely[row]), 4) for row in _rows(either)},
        figures,
    )


def _sights(student: ConceptStudent, config: ConceptConfig) -> dict[str, Sight]:
    """Of each network at hand."""
    found = {"reward": sight_of_reward(student.reward)}
    if config.rater is not None:
        rater = AttributeNet.load(config.rater)
        found["rater"] = sight([rater.backbone], rater.size)
    return found


def _rows(chosen: torch.Tensor) -> tuple[int, ...]:
    return tuple(chosen.nonzero().flatten().tolist())


def _vocabulary(config: ConceptConfig) -> Vocabulary:
    found = (Vocabulary.load(config.parent) if config.parent else None) or Vocabulary.load(config.base)
    if found is None:
        raise FailedPrecondition(
            "The generator has no vocabulary.json, so it cannot be told which words it knows. Put one beside it.",
            "NO_VOCABULARY",
        )
    return found


def _draw_kept(config: ConceptConfig, session: Session) -> Kept:
    generator = load_generator(config.parent or config.base, config.base)
    return draw_kept(generator, _vocabulary(config).labels, session)


def _train(
    student: ConceptStudent, lesson: Lesson, config: ConceptConfig, session: Session
) -> tuple[float, dict[str, float]]:
    optimizer = torch.optim.AdamW(
        [
            {"params": student.trained, "peak": config.lr},
            {"params": [student.word.row], "peak": config.word_lr},
        ],
        betas=(0.9, 0.99),
        weight_decay=0.0,
    )
    step, seconds = _resume(student, optimizer, session.folder / "concept")
    team, learning = session.team, [*student.trained, student.word.row]
    team.align(learning)
    started = time.monotonic()
    losses: dict[str, float] = {}

    def spent() -> float:
        return seconds + time.monotonic() - started

    def done() -> float:
        return max(step / config.steps, spent() / (60 * config.minutes) if config.minutes else 0.0)

    while (at := team.agree(done())) < 1.0:
        falling = min(1.0, (1.0 - at) / 0.3)
        step += 1
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(falling, step / 10)
        losses = _step(student, lesson, config, optimizer, step, team)
        session.report(step, config.steps, f"learning {config.concept}", **losses)
        if team.leads and step % config.checkpoint_every == 0:
            _checkpoint(student, optimizer, session.folder / "concept", step, spent())
    # With the seconds of the very end: an attempt that only has to practise learns no more here.
    if team.leads:
        _checkpoint(student, optimizer, session.folder / "concept", step, spent())
    session.report(config.steps, config.steps, f"learned {config.concept}", **losses)
    return spent(), losses


def _step(
    student: ConceptStudent,
    lesson: Lesson,
    config: ConceptConfig,
    optimizer: torch.optim.Optimizer,
    step: int,
    team: Team,
) -> dict[str, float]:
    """The concept's loss, and the distance to what the parent says of everything else."""
    chance, batch = Chance.of(team.seed(config.seed), step), team.share(config.batch)
    keeping = max(1, round(batch * config.prior_share))
    told = lesson.new.draw(batch - keeping, config.concept, config.kind_of, config.symmetric, chance)
    learned = student.learning(told, config.sharpness, config.cleanest, chance)
    images, prompts = lesson.kept.draw(keeping, config.symmetric, chance)
    held = student.keeping(images, prompts, chance)
    loss = learned + config.prior * held.mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    team.average([*student.trained, student.word.row])
    torch.nn.utils.clip_grad_norm_(student.trained, 1.0)
    optimizer.step()
    return {"loss": float(learned.detach()), "forgetting": float(held.detach().mean())}


def _checkpoint(
    student: ConceptStudent, optimizer: torch.optim.Optimizer, folder: Path, step: int, seconds: float
) -> None:
    state = {
        "lora": list(student.trained),
        "word": student.word.row,
        "optimizer": optimizer.state_dict(),
        "seconds": seconds,
    }
    checkpoint.save(folder, step, state)


def _resume(student: ConceptStudent, optimizer: torch.optim.Optimizer, folder: Path) -> tuple[int, float]:
    found = checkpoint.load_latest(folder)
    if found is None:
        return 0, 0.0
    step, state = found
    checkpoint.restore([*student.trained, student.word.row], [*state["lora"], state["word"]])
    optimizer.load_state_dict(state["optimizer"])
    return step, state["seconds"]


def _practise(
    folder: Path, found: SubLabelled, kept: Kept, config: ConceptConfig, session: Session
) -> dict[str, float]:
    """Betters the generator in `folder`, which has the word, by what it draws; what came of it."""
    if not config.practice_steps:
        return {}
    seeing = eyes(
        RewardEnsemble.load(config.reward), AttributeNet.load(config.rater) if config.rater else None
    )
    tutors, auroc = learn_tutors(seeing, found, config, session.phase("tutors"))
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
