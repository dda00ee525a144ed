"""All models of a domain's loop come from one command: the domain is a folder, its images have labels and patients."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.adaptation import assembled
from tests.foundations import SIZE, save_foundation
from tests.image_files import write_files, write_parquet
from tests.unit.test_pipelines import lora
from training.demo.system import DemoOptions
from training.domain_models import PARTS, DomainModels
from training.evaluation.judge import Judge
from training.jobs.worker import Work, work
from training.raters.plausibility import Plausibility
from training.raters.simulated import SimulatedPathologist
from vouch.domains.criteria import Domain, load_domain
from vouch.models.networks.reward import RewardEnsemble
from vouch.models.pipelines import adapt, load_generator

LIGHTS = ("green", "red")
FEW: dict[str, dict[str, Any]] = {
    "rater": {"steps": 60, "batch": 16, "widths": (8, 8, 8, 8), "threads": 1},
    "judge": {"steps": 60, "batch": 16, "widths": (8, 8, 8, 8), "threads": 1},
    "autoencoder": {"steps": 2, "batch": 4, "threads": 1, "accept": ("few-of-label",)},
    "generator": {"steps": 2, "batch": 4, "threads": 1, "precision": "float32"},
    "reward": {"steps": 2, "members": 1, "widths": (8, 8, 8, 8), "threads": 1},
}


class Jobs:
    """Notes the jobs that are asked for, and trains nothing."""

    def __init__(self) -> None:
        self.asked: dict[str, dict[str, Any]] = {}

    def __call__(self, kind: str, config: dict[str, Any], folder: Path) -> dict[str, Any]:
        self.asked[folder.name] = {"kind": kind, **config}
        return {}


def here(kind: str, config: dict[str, Any], folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    return dict(work(Work(kind, config, str(folder))))


@pytest.fixture
def lights(tmp_path: Path) -> Domain:
    """A third domain: a folder that no code names."""
    criteria = [
        {"id": "lamp", "question": "Is the declared lamp lit?"},
        {"id": "pole", "question": "Is it upright?"},
    ]
    files = {"domain.json": json.dumps({"name": "lights", "patient_column": "corner"})}
    return load_domain(write_files(tmp_path / "lights", {**files, "criteria.json": json.dumps(criteria)}))


def write_split(path: Path, seed: int, count: int = 60) -> None:
    """Noise, green or red, two images of each street corner."""
    rng, rows = np.random.default_rng(seed), []
    labels = [LIGHTS[number // 2 % 2] for number in range(count)]
    for label in labels:
        pixels = rng.integers(0, 90, (SIZE, SIZE, 3), dtype=np.uint8)
        pixels[..., 1 if label == "green" else 0] += 150
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": f"{len(rows)}.png"})
    corners = [f"{path.stem} {number // 2}" for number in range(count)]
    path.parent.mkdir(exist_ok=True)
    write_parquet(path, {"image": rows, "label": labels, "corner": corners})


@pytest.fixture
def models(lights: Domain, tmp_path: Path) -> DomainModels:
    for seed, split in enumerate(("train", "val", "test")):
        write_split(tmp_path / "data" / f"{split}.parquet", seed)
    base = save_foundation(tmp_path / "base")
    return DomainModels(lights, tmp_path / "data", base, tmp_path / "models", tmp_path / "runs", SIZE, FEW)


def test_the_expert_and_the_judge_know_no_common_patient_and_the_judge_teaches_nobody(
    models: DomainModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("finish_rater", "finish_judge"):
        monkeypatch.setattr(f"training.domain_models.{name}", lambda *_: {})
    models.out.joinpath("generator").mkdir(parents=True)
    jobs = Jobs()
    assert tuple(models.build(jobs)) == PARTS
    splits = {name: asked.get("split") for name, asked in jobs.asked.items()}
    assert (splits["rater"], splits["reward"], splits["judge"]) == ("teach", "teach", "judge")
    judged = (str(models.out / "judge"), str(models.runs / "judge"))
    others = [asked for name, asked in jobs.asked.items() if name != "judge"]
    assert not any(str(value).startswith(judged) for asked in others for value in asked.values())
    assert jobs.asked["generator"]["base"] == jobs.asked["autoencoder"]["out"]
    assert jobs.asked["autoencoder"]["recipe"] == "vae" and jobs.asked["autoencoder"]["steps"] == 2


def test_one_part_can_be_made_anew(models: DomainModels) -> None:
    jobs = Jobs()
    assert list(models.build(jobs, ["reward"])) == ["reward"]
    assert list(jobs.asked) == ["reward"] and jobs.asked["reward"]["criteria"] == ("lamp", "pole")


def test_a_third_domain_gets_models_that_its_loop_runs_on(models: DomainModels, lights: Domain) -> None:
    figures = models.build(here)
    DemoOptions(domain=str(models.out.parent / "lights"), models=models.out).check()
    images = models.examples("test")
    judge, rater = Judge.load(models.out / "judge"), Plausibility.load(models.out / "rater")
    assert figures["rater"]["accuracy_label"] > 0.9 and judge.floor > 0
    opinions = SimulatedPathologist(rater, "one", lights).rate(
        images.arrays[:4], images.labels[:4], list("abcd")
    )
    assert all(set(opinion.answers) == {"lamp"} for opinion in opinions)  # no annotation answers the other
    generator = load_generator(models.out / "generator")
    assert generator.vocabulary is not None and generator.vocabulary.labels == LIGHTS
    assert generator.generate(["green"], [0], 2, 2.0).shape == (1, SIZE, SIZE, 3)
    assert tuple(RewardEnsemble.load(models.out / "reward").criteria) == ("lamp", "pole")


def test_a_generator_that_is_kept_as_a_lora_becomes_the_whole_that_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foundation, tuned = save_foundation(tmp_path / "foundation"), save_foundation(tmp_path / "tuned", seed=1)
    monkeypatch.setattr(assembled, "FOUNDATION", foundation)
    kept = lora(tmp_path / "kept", foundation, seed=2)
    shutil.copytree(tuned / "vae", kept / "vae")
    write_files(kept, {"vocabulary.json": json.dumps({"labels": ["bright"], "attributes": {}})})
    whole = load_generator(assembled.assembled(kept, tmp_path / "whole"))
    before = load_generator(foundation)
    before.pipe.vae = load_generator(tuned).pipe.vae
    ours, theirs, plain = (
        one.generate(["bright"], [7], 4, 2.0).astype(int) for one in (whole, adapt(before, kept), before)
    )
    assert np.abs(ours - theirs).max() <= 1
    assert np.abs(ours - plain).max() > 1
    assert whole.vocabulary is not None and whole.vocabulary.labels == ("bright",)
    assert assembled.assembled(foundation, tmp_path / "unused") == foundation
