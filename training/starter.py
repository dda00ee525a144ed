"""What ships beside the starter generator: a rater, a judge and a first reward model, from pbc64's train split.

The images are cut in two halves. One teaches (rater, reward), the other judges; limits are set on the two halves of
the val split in the same way. No image and no weight is on both sides.
"""

from __future__ import annotations

from pathlib import Path

from training.attributes import Answers, recognise
from training.data import Examples, halves, load_examples
from training.evaluation.judge import Judge, coverage_floor
from training.plausibility import Plausibility, learn_plausibility
from vouch.networks.attributes import AttributeNet

REAL_PASS_RATE = 0.93
"""The share of unseen real images that shall pass; the single signs' limits follow from it."""
PER_CLASS = 100


def finish_rater(net_folder: Path, data: Path, out: Path) -> dict[str, float]:
    """Gives the rater's network its limits. Returns what it makes of unseen real images (the test split)."""
    seen, calibration = (
        halves(load_examples(data / "train.parquet"))[0],
        halves(load_examples(data / "val.parquet"))[0],
    )
    rater = learn_plausibility(AttributeNet.load(net_folder), seen, calibration, REAL_PASS_RATE)
    rater.save(out)
    return _on_real(rater, load_examples(data / "test.parquet"))


def finish_judge(net_folder: Path, data: Path, out: Path) -> dict[str, float]:
    """Gives the judge's network its limits, the test split's features for coverage, and the real-against-real floor."""
    seen, calibration = (
        halves(load_examples(data / "train.parquet"))[1],
        halves(load_examples(data / "val.parquet"))[1],
    )
    plausibility = learn_plausibility(AttributeNet.load(net_folder), seen, calibration, REAL_PASS_RATE)
    test = load_examples(data / "test.parquet")
    reference = recognise(plausibility.net, test.images).features.half().float().numpy()
    judge = Judge(plausibility, reference, 0.0)
    judge.floor = coverage_floor(judge, load_examples(data / "val.parquet"), PER_CLASS)
    judge.save(out)
    return {**_on_real(plausibility, test), "coverage_floor": judge.floor}


def _on_real(plausibility: Plausibility, test: Examples) -> dict[str, float]:
    found = plausibility.assess(test.images, test.labels)
    accuracy = Answers(test, plausibility.vocabulary).accuracy(recognise(plausibility.net, test.images))
    return {
        "real_plausible": float(found.plausible.mean()),
        **{f"accuracy_{name}": value for name, value in accuracy.items()},
    }
