"""A new clinical concept from 200 sub-labels: is it drawn when it is asked for, and is anything else forgotten?

    python -m benchmarks.alignment.concept --json FILE [--work FOLDER] [--seconds N] [--practice N] [--seed N]

The concept is the band neutrophil of pbc64, a sub-type that no label or caption of the generator tells. Two judge: the
project's judge says whether a neutrophil is seen, a witness says which. The witness learned from every sub-label of the
training split, from scratch, and taught nothing; what it says of unseen real cells stands beside.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.alignment.world import BATCH, STARTER
from benchmarks.report import Figure, Report, arguments, screen
from training.attributes.config import AttributesConfig
from training.attributes.fit import fit as fit_witness
from training.attributes.recognition import recognise
from training.concepts.fit import SUB_TYPES_FILE, ConceptConfig
from training.concepts.fit import fit as fit_concept
from training.data.examples import Examples, load_examples
from training.evaluation.diversity import relative, within_prompt
from training.evaluation.intervals import bootstrap, rate
from training.evaluation.judge import Judge
from training.loop.session import TrainingSession
from vouch.models.networks.attributes import AttributeNet
from vouch.models.pipelines import Generator, load_generator

PBC64 = Path("../shared/data/pbc64")
CONCEPT, KIND_OF, COLUMN, VALUE, OTHER = "band neutrophil", "neutrophil", "subtype", "BNE", "SNE"
SAME_BY_WORDS = "neutrophil, nucleus shape unsegmented-band"
"""What the generator could be asked for before: the same thing in the words of other annotators."""
SUB_LABELS, IMAGES, BASELINE, PER_CLASS = 200, 256, 128, 64
SECONDS, PRACTICE = 900.0, 1200.0
FIRST_SEED = 70_000_000
ENOUGH = 100_000
"""Steps that no budget of seconds reaches."""
DRAWING = {"steps": 12, "guidance": 2.0}


def main() -> None:
    parser = arguments("benchmarks.alignment.concept", __doc__ or "")
    parser.add_argument("--work", type=Path, help="keep what is drawn and trained here, and go on from it")
    parser.add_argument("--data", type=Path, default=PBC64, help="folder of pbc64")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of learning from images")
    parser.add_argument("--practice", type=float, default=PRACTICE, help="seconds of practice; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    report = Report("concept")
    with tempfile.TemporaryDirectory() as scratch:
        figures = measured(told.work or Path(scratch), (told.seconds, told.practice), told.seed, told.data)
    for name, figure in figures.items():
        report.add(name, figure)
    report.finish(told.json, console=screen())


def measured(folder: Path, seconds: tuple[float, float], seed: int, real: Path) -> dict[str, Figure]:
    """Teaches the concept in `seconds`, of learning from images and of practice, and measures. folder: keeps
    everything, so that a second call goes on; real: the folder of pbc64."""
    out = folder / "concept-{:g}s-{:g}s-{}".format(*seconds, seed)
    taught = teach(out, seconds, seed, real)
    jury = Jury(witness(folder / "witness", real))
    before, after = load_generator(STARTER / "generator"), load_generator(out / "generator")
    test = load_examples(real / "test.parquet")
    return {
        **_asked_for(jury, before, after, folder, out),
        **_forgotten(jury, before, after, folder, out),
        **_ceiling(jury, test),
        **_variety(jury, after, test, out),
        **_agreement(load_examples(real / "train.parquet")),
        **_head(taught, out, real),
    }


# --- what is taught ------------------------------------------------------------------------------------------


def teach(out: Path, seconds: tuple[float, float], seed: int, real: Path) -> dict[str, float]:
    """The generator that learned the concept, in `out`, and the figures of its training."""
    config = ConceptConfig(
        out=out / "generator", base=STARTER / "generator", reward=STARTER / "reward",
        rater=STARTER / "rater", concept=CONCEPT,
        kind_of=KIND_OF, data=real / "train.parquet", column=COLUMN, value=VALUE, others=(OTHER,),
        most=SUB_LABELS, steps=ENOUGH, minutes=seconds[0] / 60, seed=seed,
        practice_steps=ENOUGH if seconds[1] else 0, practice_minutes=seconds[1] / 60 or None,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    if not (out / "figures.json").is_file():
        found = fit_concept(config, TrainingSession(out / "run"))
        (out / "figures.json").write_text(json.dumps(found))
    taught: dict[str, float] = json.loads((out / "figures.json").read_text())
    return taught


def witness(folder: Path, real: Path) -> AttributeNet:
    """A network that tells band from segmented neutrophils, from all sub-labels of the training split."""
    if not (folder / "attributes.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        data = folder / "train.parquet"
        rows = pq.read_table(
            real / "train.parquet", filters=[("label", "=", KIND_OF), (COLUMN, "in", [VALUE, OTHER])]
        )
        pq.write_table(rows.set_column(rows.column_names.index("label"), "label", rows[COLUMN]), data)
        config = AttributesConfig(
            data=data, out=folder, split="all", seed=77, widths=(24, 48, 96, 160), steps=400,
            threads=torch.get_num_threads(),
        )  # fmt: skip
        fit_witness(config, TrainingSession(folder / "run"))
    return AttributeNet.load(folder)


class Jury:
    """The project's judge and the witness together."""

    def __init__(self, witness: AttributeNet) -> None:
        self.witness, self.judge = witness, Judge.load(STARTER / "judge")

    def is_band(self, images: np.ndarray) -> np.ndarray:
        """What the witness says of uint8 images [N, H, W, 3]: bool [N]."""
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        said = recognise(self.witness, pixels).labels.argmax(1).numpy()
        return np.asarray(said == self.witness.vocabulary.labels.index(VALUE))

    def is_neutrophil(self, images: np.ndarray) -> np.ndarray:
        return self.judge.assess(images, [KIND_OF] * len(images)).recognised

    def sees(self, images: np.ndarray) -> np.ndarray:
        """Whether they are band neutrophils."""
        return self.is_band(images) & self.is_neutrophil(images)


# --- what is measured ----------------------------------------------------------------------------------------


def _asked_for(jury: Jury, before: Generator, after: Generator, folder: Path, out: Path) -> dict[str, Figure]:
    drawn = _drawn(out / "concept.npy", after, [CONCEPT] * IMAGES)
    by_class = _drawn(folder / "before-class.npy", before, [KIND_OF] * BASELINE)
    by_words = _drawn(folder / "before-words.npy", before, [SAME_BY_WORDS] * BASELINE)
    plausible = jury.judge.assess(drawn, [KIND_OF] * IMAGES).plausible
    return {
        "concept_rate": _share(jury.sees(drawn), ">= 0.80", ">= 0.90"),
        "concept_rate_of_class_before": _share(jury.sees(by_class)),
        "concept_rate_by_other_words_before": _share(jury.sees(by_words)),
        "concept_plausible": _share(plausible),
        "class_plausible_before": _share(jury.judge.assess(by_class, [KIND_OF] * BASELINE).plausible),
    }


def _forgotten(jury: Jury, before: Generator, after: Generator, folder: Path, out: Path) -> dict[str, Figure]:
    """The drop of the recognised rate of what it knew before, from the same prompts and seeds."""
    assert before.vocabulary is not None
    prompts = [label for label in before.vocabulary.labels for _ in range(PER_CLASS)]
    known = [
        jury.judge.assess(_drawn(path, generator, prompts), prompts)
        for path, generator in ((folder / "before.npy", before), (out / "after.npy", after))
    ]
    drop = known[0].recognised.astype(float) - known[1].recognised
    plausible = known[0].plausible.astype(float) - known[1].plausible
    others = np.array([prompt != KIND_OF for prompt in prompts])
    return {
        "concept_forgetting_points": _points(drop[others], "<= 2", "<= 0"),
        "concept_forgetting_of_class_points": _points(drop[~others]),
        "concept_forgetting_plausible_points": _points(plausible[others]),
        "recognised_before": _share(known[0].recognised[others]),
    }


def _ceiling(jury: Jury, test: Examples) -> dict[str, Figure]:
    """What the jury says of real cells that nobody learned from: no generator can be judged more surely."""
    band, segmented = (_real(test, value) for value in (VALUE, OTHER))
    return {
        "concept_rate_of_real": _share(jury.sees(band)),
        "witness_right_of_real_band": _share(jury.is_band(band)),
        "witness_right_of_real_segmented": _share(~jury.is_band(segmented)),
    }


def _variety(jury: Jury, after: Generator, test: Examples, out: Path) -> dict[str, Figure]:
    """How different the concept's images are from each other, against real ones of it."""
    drawn, real = _drawn(out / "concept.npy", after, [CONCEPT] * IMAGES), _real(test, VALUE)
    ours, theirs = (
        within_prompt(jury.judge.features(images), [CONCEPT] * len(images)) for images in (drawn, real)
    )
    return {"concept_diversity_of_real": Figure(relative(ours, theirs), "share")}


def _agreement(train: Examples) -> dict[str, Figure]:
    """How often other annotators, asked for the shape of the nucleus, say of the same cells what the sub-label says."""
    told = [
        (hidden[COLUMN] == VALUE, shown["nucleus_shape"] == "unsegmented-band")
        for hidden, shown in zip(train.hidden, train.attributes, strict=True)
        if hidden.get(COLUMN) in (VALUE, OTHER) and "nucleus_shape" in shown
    ]
    band, unsegmented = np.array(told).T
    return {
        "annotators_agree": _share(band == unsegmented),
        "annotators_call_segmented_band": _share(unsegmented[~band]),
    }


def _head(taught: dict[str, float], out: Path, real: Path) -> dict[str, Figure]:
    """The head that taught: held out among its 200 sub-labels, and on those that it never saw."""
    told = json.loads((out / "run" / SUB_TYPES_FILE).read_text())["pseudo_labelled"]
    train = load_examples(real / "train.parquet")
    cells = [
        row.get(COLUMN) for row, label in zip(train.hidden, train.labels, strict=True) if label == KIND_OF
    ]
    right = np.array([(cells[int(row)] == VALUE) == (likely > 0.5) for row, likely in told.items()])
    return {
        "sub_labels": Figure(taught["sub_labels_yes"] + taught["sub_labels_no"], "images"),
        "head_accuracy": Figure(taught["head_accuracy"], "share"),
        "pseudo_labelled": Figure(float(len(told)), "images"),
        "pseudo_labelled_right": _share(right),
        "train_seconds": Figure(taught["train_seconds"], "s"),
        **_practised(taught),
    }


def _practised(taught: dict[str, float]) -> dict[str, Figure]:
    """What practice did by the tutor and the member of the reward that validate; the judges are asked above."""
    units = {"practice_seconds": "s", "practice_steps": "steps", "practice_best_step": "steps"}
    return {
        name: Figure(value, units.get(name, "deviations" if name.endswith("drift") else "share"))
        for name, value in taught.items()
        if name.startswith("practice_")
    }


# --- how -----------------------------------------------------------------------------------------------------


def _drawn(path: Path, generator: Generator, prompts: Sequence[str]) -> np.ndarray:
    """uint8 [N, H, W, 3]; the same seeds for every generator, and what an earlier start drew is read."""
    if not path.is_file():
        parts = []
        for start in range(0, len(prompts), BATCH):
            some = list(prompts[start : start + BATCH])
            seeds = list(range(FIRST_SEED + start, FIRST_SEED + start + len(some)))
            parts.append(generator.generate(some, seeds, **DRAWING))
        np.save(path, np.concatenate(parts))
    return np.load(path, allow_pickle=False)


def _real(examples: Examples, value: str) -> np.ndarray:
    rows = [row for row, hidden in enumerate(examples.hidden) if hidden.get(COLUMN) == value]
    return examples.images[rows].permute(0, 2, 3, 1).numpy()


def _share(passed: np.ndarray, must: str | None = None, aim: str | None = None) -> Figure:
    found = rate(int(passed.sum()), len(passed))
    return Figure(found.value, "share", found.low, found.high, must, aim)


def _points(rows: np.ndarray, must: str | None = None, aim: str | None = None) -> Figure:
    mean: Callable[[np.ndarray], float] = np.mean
    low, high = bootstrap(rows, mean)
    return Figure(100 * float(rows.mean()), "points", 100 * low, 100 * high, must, aim)


if __name__ == "__main__":
    main()
