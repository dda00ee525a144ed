"""What the benchmark of adaptation says of use and harm: what is kept, what is copied, what a classifier gains, and
what verdicts add to few images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.adaptation.__main__ import size_of
from benchmarks.adaptation.captions import Prompt
from benchmarks.adaptation.downstream import downstream_gain, drawings
from benchmarks.adaptation.experiment import Experiment, in_turn
from benchmarks.adaptation.judges import FindingJudge
from benchmarks.adaptation.kept import KnownCells
from benchmarks.adaptation.ladder import ALL, KNOWN_CELLS, Cell, LadderData, passes_of, settings_of
from benchmarks.adaptation.measures import authenticity_change, difference_interval
from benchmarks.adaptation.ratings import plausible, ratings
from benchmarks.adaptation.sets import CHEST_LABELS, Sets
from benchmarks.adaptation.summary import of_ratings, summarised
from tests.foundations import SIZE
from tests.unit.test_adaptation_benchmark import options, world  # noqa: F401 - a fixture
from training.data.examples import load_examples
from training.evaluation.downstream import Learning
from training.evaluation.judge import Judge
from training.raters.plausibility import learn_plausibility
from training.raters.simulated import SimulatedPathologist
from vouch.domains.criteria import load_domain
from vouch.errors import InvalidInput
from vouch.models.captions import Vocabulary
from vouch.models.networks.attributes import AttributeNet

SHORT = Learning(steps=6, batch=8, widths=(8, 8), synthetic_share=1.0, real_only_after=0.5, symmetric=False)


# ---- what is kept


def test_every_type_that_the_base_knows_is_asked_for_and_coverage_is_of_real_ones() -> None:
    assert KnownCells.prompts(2) == [*KNOWN_CELLS, *KNOWN_CELLS]
    assert KnownCells.prompts(14) == [*KNOWN_CELLS, *KNOWN_CELLS, *KNOWN_CELLS[:2]]
    torch.manual_seed(0)
    judge = FindingJudge("cells", AttributeNet(Vocabulary(KNOWN_CELLS, {}), 16, (8, 8)))
    images = np.random.default_rng(0).integers(0, 255, (12, 16, 16, 3), dtype=np.uint8)
    known, prompts = KnownCells(judge, judge.see(images)[1]), KnownCells.prompts(12)
    assert known.figures(images, prompts)["known_coverage"] == 1.0
    blank = known.figures(np.zeros_like(images), prompts)
    assert blank["known_coverage"] < 1.0 and blank["known_recognised"] == pytest.approx(1 / 6)


def test_what_is_kept_is_told_as_a_share_of_what_the_base_had() -> None:
    results = {
        "far/base": {"known_recognised": 0.8, "known_coverage": 0.5},
        "far/unet-full/10/0": {"known_recognised": 0.6, "known_coverage": 0.4},
        "far/unet-full-no-prior/10/0": {"known_recognised": 0.4},
    }
    figures = summarised("far", results).figures
    assert figures["far_unet_full_10_kept_coverage"].value == pytest.approx(0.8)
    assert figures["far_unet_full_no_prior_10_kept_after_adapting"].value == pytest.approx(0.5)
    assert "far_unet_full_no_prior_10_kept_coverage" not in figures


def test_a_run_without_prior_preservation_stands_beside_the_one_with(world: Path) -> None:  # noqa: F811
    data = LadderData("far", Sets(world / "data", SIZE))
    with_prior, without = (
        settings_of(Cell("far", recipe, 10, 0), data, 40_000, 16, None)
        for recipe in ("unet-full", "unet-full-no-prior")
    )
    assert "prior" in with_prior and "prior" not in without
    assert without["steps"] > with_prior["steps"] and without["lr"] == with_prior["lr"]


# ---- what is copied


def test_drawings_near_to_training_images_are_less_authentic_than_real_ones() -> None:
    rng = np.random.default_rng(0)
    taught, unseen, other = (rng.normal(size=(200, 8)) for _ in range(3))
    copies = taught + rng.normal(scale=0.01, size=taught.shape)
    change, low, high = authenticity_change(taught, copies, unseen)
    assert low < change < high < -30
    change, low, high = authenticity_change(taught, other, unseen)
    assert low < 0 < high and low < change < high


def test_the_interval_of_a_difference_is_newcombes() -> None:
    one, other = np.arange(70) < 56, np.arange(80) < 48  # the paper's first example, 56/70 and 48/80
    assert difference_interval(one, other) == pytest.approx((0.0524, 0.3339), abs=5e-5)


# ---- what a classifier gains


def shades(count: int, seed: int, swapped: bool = False) -> tuple[np.ndarray, tuple[str, ...]]:
    rng, names = np.random.default_rng(seed), ("bright", "dark") if swapped else ("dark", "bright")
    shade = np.array([60 if row % 2 == 0 else 190 for row in range(count)])[:, None, None, None]
    images = (shade + rng.normal(0, 60, (count, 16, 16, 3))).clip(0, 255).astype(np.uint8)
    return images, tuple(names[row % 2] for row in range(count))


def test_the_gain_is_that_of_a_pair_and_its_readings_are_kept(tmp_path: Path) -> None:
    few, drawn, test = (drawings(*shades(count, seed)) for count, seed in ((4, 0), (40, 1), (40, 2)))
    figures = downstream_gain(few, drawn, test, 2, tmp_path, SHORT)
    points = 100 * (figures["downstream_accuracy_generated_first"] - figures["downstream_accuracy_real"])
    assert figures["downstream_gain_points"] == pytest.approx(points)
    assert figures["downstream_gain_low_points"] <= points <= figures["downstream_gain_high_points"]
    assert len(list(tmp_path.iterdir())) == 4  # two seeds, two classifiers each
    assert downstream_gain(few, drawn, test, 2, tmp_path, SHORT) == figures


def test_a_gain_is_told_with_its_lower_bound_and_one_not_measured_is_not_told() -> None:
    gain = {
        "downstream_gain_points": 4.0,
        "downstream_gain_low_points": 1.0,
        "downstream_gain_high_points": 7.0,
    }
    report = summarised("far", {"far/unet-text/51/0": gain, "far/unet-lora/51/0": {}})
    assert report.figures["far_unet_text_51_downstream_gain_points"].low == 1.0
    lower = report.figures["far_unet_text_51_downstream_gain_low_points"]
    assert lower.meets(lower.must) and not any("lora" in name for name in report.figures)


def test_prompts_are_dealt_with_each_label_as_often_and_every_wording() -> None:
    asked = [Prompt(f"{label} {n}", label, "trained") for label in ("a", "b", "c") for n in range(2)]
    dealt = in_turn(asked, 7)
    assert [one.text for one in dealt] == ["a 0", "b 0", "c 0", "a 1", "b 1", "c 1", "a 0"]


def test_a_share_of_the_images_is_a_number_of_each_label(world: Path) -> None:  # noqa: F811
    data = LadderData("far", Sets(world / "data", SIZE))  # 24 training images of three labels
    assert (size_of("50%", data), size_of("all", data), size_of("7", data)) == (4, ALL, 7)
    assert (
        passes_of(51) == passes_of(10) and passes_of(2) == passes_of(5) and passes_of(ALL) == passes_of(5000)
    )


@pytest.mark.slow
def test_a_cell_is_asked_of_what_use_it_is(world: Path, tmp_path: Path) -> None:  # noqa: F811
    from dataclasses import replace

    experiment = Experiment("far", replace(options(world, tmp_path), downstream_seeds=1, downstream_drawn=6))
    figures = experiment.measure(Cell("far", "unet-lora", 2, 0))
    assert -100 <= figures["downstream_gain_points"] <= 100


# ---- what verdicts add


@pytest.fixture(scope="module")
def models(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A rater and a judge that learned nothing, with limits from real images."""
    folder, domain = tmp_path_factory.mktemp("models"), load_domain("chest_xray")
    real = load_examples(world / "data" / "cxr224" / "test.parquet", SIZE, domain)
    for seed, part in enumerate(("rater", "judge")):
        torch.manual_seed(seed)
        net = AttributeNet(Vocabulary(tuple(sorted(CHEST_LABELS)), {}), SIZE, (8, 8, 8, 8))
        knowledge = learn_plausibility(net.eval(), real, real, 0.5, domain)
        if part == "rater":
            knowledge.save(folder / part)
            continue
        judge = Judge(knowledge, np.zeros((0, 8), np.float32), 0.5)
        judge.reference = judge.features(real.images.permute(0, 2, 3, 1).numpy())
        judge.save(folder / part)
    return folder


def test_what_a_rater_accepts_teaches_with_the_prompt_that_it_was_drawn_of(models: Path) -> None:
    from training.raters.plausibility import Plausibility

    rater = SimulatedPathologist(Plausibility.load(models / "rater"), "one", load_domain("chest_xray"))
    images = np.random.default_rng(0).integers(0, 255, (30, SIZE, SIZE, 3), dtype=np.uint8)
    prompts = [
        Prompt(f"chest x-ray, {CHEST_LABELS[n % 3]}", CHEST_LABELS[n % 3], "trained") for n in range(30)
    ]
    accepted = plausible((images, prompts), rater)
    assert 0 < len(accepted) < 30 and set(accepted.splits) == {"train"}
    for row, key in enumerate(accepted.keys):
        drawn = int(key.rpartition("/")[2])
        assert np.array_equal(accepted.arrays[row], images[drawn])
        assert (
            accepted.captions[row] == (prompts[drawn].text,) and accepted.labels[row] == prompts[drawn].label
        )


@pytest.mark.parametrize("recipe", ["unet-lora", "unet-text"])
def test_both_sides_are_trained_and_judged_once(
    world: Path,  # noqa: F811
    models: Path,
    tmp_path: Path,
    recipe: str,
) -> None:
    from dataclasses import replace

    experiment = Experiment("far", replace(options(world, tmp_path), passes=600, drawn=9))
    figures = ratings(experiment, recipe, 0, models)
    assert {"plausible_alone", "plausible_rated", "coverage_alone", "coverage_rated", "accepted"} <= set(
        figures
    )
    assert experiment.results[f"ratings/far/{recipe}/10/0"] == figures
    assert ratings(experiment, recipe, 0, tmp_path / "no models") == figures
    assert not any("ratings" in name for name in summarised("far", experiment.results).figures)


def test_missing_models_are_named_with_what_makes_them(world: Path, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(InvalidInput, match="lacks rater.*--part rater --part judge"):
        ratings(Experiment("far", options(world, tmp_path)), "unet-lora", 0, tmp_path)


def test_what_verdicts_add_is_the_mean_of_paired_differences() -> None:
    def seed(alone: float, rated: float) -> dict[str, float | None]:
        return {"plausible_alone": alone, "plausible_rated": rated, "coverage_alone": 0.5, "coverage_rated": 0.49,
                "accepted": 20.0}  # fmt: skip

    figures = of_ratings("far", [seed(0.2, 0.4), seed(0.3, 0.4)]).figures
    gain = figures["far_ratings_beside_few_images_points"]
    assert gain.value == pytest.approx(15.0) and gain.meets(gain.must)
    assert (gain.low, gain.high) == pytest.approx((10.0, 20.0))
    lost = figures["far_ratings_beside_few_images_coverage_points"]
    assert lost.value == pytest.approx(-1.0) and lost.meets(lost.must)
