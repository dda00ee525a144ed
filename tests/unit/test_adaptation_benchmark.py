"""The benchmark of adaptation: its arithmetic, and that a ladder is measured, told and gone on with."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.adaptation.canaries import auc, canaries, chosen
from benchmarks.adaptation.experiment import Experiment, ExperimentOptions
from benchmarks.adaptation.judges import FindingJudge, share_of
from benchmarks.adaptation.ladder import (
    ALL,
    KNOWN,
    PRIOR,
    Cell,
    LadderData,
    cells,
    inversion_words,
    settings_of,
    steps_of,
)
from benchmarks.adaptation.measures import chroma, distance_closed, ks_distance, logit_distance
from benchmarks.adaptation.regret import ratio, regret
from benchmarks.adaptation.sets import CHEST_LABELS, Sets
from benchmarks.adaptation.summary import of_canaries, of_regret, summarised
from tests.foundations import SIZE, save_foundation
from tests.image_files import write_parquet
from tests.tiny import VOCABULARY
from training.adaptation.recipes import TUNINGS
from vouch.domains.criteria import load_domain
from vouch.models.networks.attributes import AttributeNet

CELLS = ("basophil", "erythroblast", "neutrophil")


def write_split(path: Path, labels: tuple[str, ...], seed: int, each: int = 8) -> None:
    """Grey noise, brighter for each further label; every image of its own patient."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng, every = np.random.default_rng(seed), labels * each
    rows = []
    for number, label in enumerate(every):
        level = 40 + 80 * labels.index(label)
        grey = rng.normal(level, 25, (SIZE, SIZE)).clip(0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(grey).convert("RGB").save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": f"{path.stem}-{number}.png"})
    patients = [f"{path.stem}-{number}" for number in range(len(every))]
    write_parquet(path, {"image": rows, "label": list(every), "patient": patients})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ladder")
    for number, split in enumerate(("train", "val", "test")):
        write_split(root / "data" / "cxr224" / f"{split}.parquet", CHEST_LABELS, number)
        write_split(root / "data" / "pbc64" / f"{split}.parquet", CELLS, 10 + number)
    save_foundation(root / "base")
    return root


def options(world: Path, work: Path) -> ExperimentOptions:
    few = {
        "warmup": 1,
        "precision": "float32",
        "threads": 1,
        "ema": 0.0,
        "prior": {"images": 2, "prompts": ("x-ray",)},
    }
    return ExperimentOptions(
        base=world / "base", sets=Sets(world / "data", SIZE), work=work, passes=24, batch=4, drawn=24, steps=2,
        judge_steps=3, probe=False, validated=4, settings=few,
    )  # fmt: skip


# ---- arithmetic


def test_chroma_is_nothing_for_grey_and_the_spread_of_channels_for_colour() -> None:
    images = np.zeros((2, 4, 4, 3), np.uint8)
    assert chroma(images + 77) == 0
    images[0, ..., 0] = 10
    assert chroma(images) == 5
    images[0, ..., 0], images[0, ..., 2] = 200, 255  # no wrap-around of unsigned bytes
    assert chroma(images) == 127.5


def test_the_ks_distance_is_the_largest_gap_of_two_distributions() -> None:
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(0)
    one, other = rng.normal(size=40), rng.normal(0.5, size=60)
    assert ks_distance(one, other) == pytest.approx(ks_2samp(one, other).statistic)
    assert ks_distance(one, one) == 0 and ks_distance(one, one + 100) == 1


def test_logits_are_compared_within_their_label() -> None:
    real = np.array([[5.0, 0], [6, 0], [0, 5], [0, 6]])
    labels = ("a", "a", "b", "b")
    assert logit_distance(real, real, labels, labels, ("a", "b")) == 0
    assert logit_distance(real, real[:2], labels, ("a", "a"), ("a", "b")) == 0
    assert logit_distance(real, real, labels, ("b", "b", "a", "a"), ("a", "b")) == 1


def test_the_distance_closed_is_a_share_of_the_way_to_real_images() -> None:
    assert distance_closed(10, 10, 2) == 0 and distance_closed(10, 2, 2) == 1
    assert distance_closed(10, 4, 2) == 0.75
    assert distance_closed(2, 1, 2) is None


def test_recognition_counts_every_label_alike() -> None:
    judge = FindingJudge("toy", AttributeNet(VOCABULARY, 32, (8, 8, 8, 8)))
    logits = np.eye(5)[[0, 0, 0, 0, 1, 0]]
    wanted = ["basophil"] * 4 + ["eosinophil"] * 2
    assert share_of(("basophil", "eosinophil"), wanted, judge, logits) == 0.75


def test_steps_cost_what_was_asked_for_with_and_without_a_prior() -> None:
    assert steps_of(4800, 16) == 100
    prior = {**PRIOR, "images": 100, "share": 0.25}
    steps = steps_of(100_000, 16, prior)
    spent = steps * (3 * (16 + 4) + 4) + 100 * 20 * 2
    assert 100_000 - 64 < spent <= 100_000
    assert steps_of(1, 16) == 1


def test_equal_compute_is_asked_of_every_recipe_and_nothing_ends_one_early(world: Path) -> None:
    data = LadderData("far", Sets(world / "data", SIZE))
    for recipe in ("text-inversion", "unet-lora", "scratch"):
        own = settings_of(Cell("far", recipe, 10, 3), data, 40_000, 16, None)
        kept = own.get("prior")
        assert own["steps"] == steps_of(40_000, 16, kept) and own["patience"] > own["steps"]
        assert own["seed"] == 3 and 1 <= own["validate_every"] <= own["steps"]
    assert set(settings_of(Cell("far", "unet-full", 10, 0), data, 1, 16, None)["prior"]["prompts"]) == set(
        KNOWN
    )


def test_a_setting_of_a_group_leaves_the_others_of_the_group(world: Path, tmp_path: Path) -> None:
    config = Experiment("far", options(world, tmp_path)).config_of(
        Cell("far", "unet-lora", 2, 0), tmp_path, 0.1
    )
    assert (config.prior.images, config.prior.weight, config.prior.share) == (
        2,
        PRIOR["weight"],
        PRIOR["share"],
    )
    assert config.lr == 0.1 and config.keep_vae and config.threads == 1


def test_the_first_seed_of_every_cell_comes_before_the_second_of_any() -> None:
    plan = list(cells(["far"], ["unet-lora", "scratch"], [5, ALL], range(2)))
    assert [cell.seed for cell in plan] == [0] * 4 + [1] * 4
    assert plan[2].name == "far/unet-lora/all/0"


def test_every_label_has_a_word_of_its_own() -> None:
    assert inversion_words(load_domain("chest_xray"), CHEST_LABELS) == (
        "<clear-lungs>=clear lungs",
        "<bacterial-pneumonia>=bacterial pneumonia",
        "<viral-pneumonia>=viral pneumonia",
    )


# ---- a ladder


@pytest.fixture(scope="module")
def measured(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The base, and two recipes from two images of each label."""
    experiment = Experiment("far", options(world, tmp_path_factory.mktemp("work")))
    experiment.measure_base()
    for recipe in ("text-inversion", "unet-lora"):
        experiment.measure(Cell("far", recipe, 2, 0))
    return experiment


def test_few_images_of_each_label_teach_and_all_that_validate_validate(world: Path) -> None:
    data = LadderData("far", Sets(world / "data", SIZE)).few(2, 0)
    taught = data.of("train")
    assert sorted(taught.labels) == sorted(CHEST_LABELS * 2) and len(data.of("val")) == 24
    assert not set(taught.patients) & set(data.of("val").patients)


def test_a_cell_tells_loss_recognition_copies_colour_and_distance(measured: Experiment) -> None:
    figures = measured.results["far/unet-lora/2/0"]
    told = {
        "validation_loss", "colour_leak", "copies", "recognised_no_copies", "known_recognised", "lr", "seconds",
        "convolutional_recognised_trained", "convolutional_recognised_held_out", "convolutional_recognised_negation",
        "convolutional_recognised_real", "convolutional_fid", "convolutional_fid_real",
        "convolutional_coverage_of_floor", "convolutional_finding_logit_distance", "known_coverage",
        "convolutional_authenticity_change_points", "convolutional_authenticity_change_high_points",
    }  # fmt: skip
    assert told <= set(figures)
    assert figures["convolutional_fid"] > 0 and 0 <= figures["copies"] <= 1
    curve = json.loads((measured.options.work / "cells/far/unet-lora/2/0/validation.json").read_text())
    assert curve["0"] == pytest.approx(figures["validation_loss_before"])


def test_a_cell_is_measured_once(measured: Experiment, world: Path) -> None:
    before = measured.results
    again = Experiment("far", options(world, measured.options.work))
    assert again.measure(Cell("far", "unet-lora", 2, 0)) == before["far/unet-lora/2/0"]
    assert again.results == before and "judges" not in vars(again)


def test_a_trained_cell_is_looked_at_again_where_that_is_asked_for(measured: Experiment, world: Path) -> None:
    cell, before = Cell("far", "unet-lora", 2, 0), measured.results["far/unet-lora/2/0"]
    measured.note(cell.name, {name: value for name, value in before.items() if "known" not in name})
    again = Experiment("far", replace(options(world, measured.options.work), look_again=True))
    figures = again.measure(cell)
    assert figures == before  # its seconds of training too: nothing was trained
    assert again.results[cell.name] == before


def test_an_inverted_model_is_asked_with_its_words(measured: Experiment) -> None:
    say = measured.reading(Cell("far", "text-inversion", 2, 0))
    assert say("chest x-ray without viral pneumonia") == "chest x-ray without <viral-pneumonia>"


def test_the_report_has_every_cell_and_no_figure_that_was_not_measured(measured: Experiment) -> None:
    report = summarised("far", measured.results)
    names = set(report.figures)
    assert {
        "far_unet_lora_2_distance_closed",
        "far_text_inversion_2_colour_leak",
        "far_base_colour_leak",
    } <= names
    assert {
        "far_unet_lora_2_authenticity_change_points",
        "far_unet_lora_2_authenticity_change_high_points",
    } <= names
    assert not any("scratch" in name or "prior_gain" in name or "downstream" in name for name in names)
    leak = report.figures["far_unet_lora_2_colour_leak"]
    assert leak.value == measured.results["far/unet-lora/2/0"]["colour_leak"] and leak.must == "<= 1"


def test_what_cannot_be_measured_here_says_why(measured: Experiment) -> None:
    assert "--encoder" in measured.why_not(Cell("far", "text-projection-linear", 2, 0))
    assert measured.why_not(Cell("far", "unet-lora", 2, 0)) == ""
    reason = measured.why_not(Cell("far", "scratch", 2, 0))
    assert ("is not there" in reason) == ("unet-text" not in TUNINGS)


def test_a_search_takes_the_rate_of_the_least_validation_loss(world: Path, tmp_path: Path) -> None:
    experiment = Experiment("far", replace(options(world, tmp_path), search=True))
    chosen = experiment.rate(Cell("far", "text-inversion", 2, 1))
    losses = experiment.results["rates/far/text-inversion"]
    assert len(losses) == 3 and losses[str(chosen)] == min(losses.values())


# ---- canaries, regret, the paper's figure


def test_exposure_is_how_often_a_planted_image_scores_above_a_held_out_one() -> None:
    assert auc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 1.0
    assert auc(np.array([1.0, 3.0]), np.array([2.0, 4.0])) == 0.25
    assert auc(np.ones(3), np.ones(5)) == 0.5


def test_planted_and_held_out_images_are_of_patients_apart(world: Path) -> None:
    planted, held_out = chosen(LadderData("far", Sets(world / "data", SIZE)).images("test"), count=5)
    assert len(planted) == len(held_out) == 5 and set(planted.splits) == {"train"}
    assert not set(planted.patients) & set(held_out.patients)


def test_the_regret_is_the_kept_distance_over_the_least() -> None:
    assert ratio(0.2, [0.4, 0.1, 0.2]) == pytest.approx(2.0)
    assert ratio(0.1, [0.1, 0.3]) == 1.0
    assert ratio(-0.001, [-0.002, -0.001]) == 1.0  # nearer to real images than other real ones are


def test_the_paper_counts_findings_of_the_best_recipe_and_few_shots_no_copies() -> None:
    def cell(found: float, copies: float) -> dict[str, float | None]:
        judged = {"findings_found": found, "findings_found_real": 0.8, "recognised_trained": found}
        return {
            "recognised_no_copies": found,
            "copies": copies,
            **{f"convolutional_{k}": v for k, v in judged.items()},
        }

    results = {
        "far/base": {}, "far/unet-lora/5/0": cell(0.6, 0.1), "far/text-inversion/5/0": cell(0.5, 0.0),
        "far/unet-lora/all/0": cell(0.7, 0.0), "far/unet-full/all/0": cell(0.9, 0.0),
        "far/scratch/all/0": cell(1.0, 0.0),
    }  # fmt: skip
    figures = summarised("far", results).figures
    assert (figures["paper_figure"].value, figures["paper_figure_on_real"].value) == (0.9, 0.8)
    assert (figures["far_few_shot_recognised"].value, figures["far_few_shot_copies"].value) == (0.6, 0.1)


def test_the_recipe_that_validates_best_answers_for_the_ladder_and_findings_count_where_it_covers_enough() -> (
    None
):
    def cell(loss: float, fid: float, covers: float, recognised: float = 0.7) -> dict[str, float | None]:
        judged = {
            "fid": fid, "fid_real": 10.0, "coverage_of_floor": covers, "recognised_trained": recognised,
            "finding_agreement_points": -1.5, "finding_logit_distance": 0.2,
        }  # fmt: skip
        return {
            "validation_loss": loss,
            "colour_leak": 2.0,
            **{f"convolutional_{k}": v for k, v in judged.items()},
        }

    results = {
        "far/base": {"convolutional_fid": 110.0},
        "far/unet-lora/100/0": cell(0.3, 20.0, 0.9), "far/unet-text/100/0": cell(0.2, 30.0, 0.8),
        "far/scratch/100/0": cell(0.1, 10.0, 0.75, recognised=0.6),
    }  # fmt: skip
    figures = summarised("far", results).figures
    assert figures["far_distance_closed"].value == pytest.approx(0.8)  # of unet-text, not of the nearest
    assert figures["far_finding_agreement_points"].value == 1.5
    assert figures["far_finding_logit_distance"].meets("<= 0.15") is False
    assert figures["far_prior_gain_points_100"].value == pytest.approx(10.0)
    assert figures["far_prior_gain_coverage_points_100"].value == pytest.approx(5.0)
    assert figures["far_unet_text_100_colour_leak"].must == "<= 1"
    results["far/unet-text/100/0"] = cell(0.2, 30.0, 0.6)
    assert "far_finding_agreement_points" not in summarised("far", results).figures
    near = {name.replace("far", "near"): one for name, one in results.items()}
    assert "near_unet_text_100_colour_leak" not in summarised("near", near).figures  # cells are stained


def test_canaries_and_regret_are_measured_on_a_small_setting(measured: Experiment) -> None:
    cell = Cell("far", "unet-lora", 2, 0)
    told = of_canaries("far", canaries(measured, cell, overtrain=2)).figures
    assert all(0 <= told[name].value <= 1 for name in ("far_canary_auc", "far_canary_auc_overtrained"))
    lost = of_regret("far", regret(measured, cell)).figures
    assert lost["far_best_checkpoint_regret"].value >= 1
    assert any(name.startswith("far_regret_kid_") for name in lost)
