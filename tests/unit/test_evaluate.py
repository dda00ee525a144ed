"""An evaluation from end to end: a judge made of a few steps, two small generators, and what is written of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tiny import VOCABULARY, save_generator
from training.attributes import AttributesConfig
from training.attributes import fit as fit_attributes
from training.data import halves, load_examples
from training.evaluate import EvaluateConfig, fit
from training.evaluation.judge import Judge
from training.evaluation.report import SHOWN
from training.plausibility import learn_plausibility
from training.session import Progress, Session
from vouch import images as codec
from vouch.errors import Cancelled, InvalidInput
from vouch.networks.attributes import AttributeNet


def picture(label: int, number: int) -> np.ndarray:
    random = np.random.default_rng([label, number])
    return (random.integers(0, 40, (32, 32, 3)) + 30 * label).clip(0, 255).astype(np.uint8)


def parquet(path: Path, first: int, each: int = 24) -> Path:
    rows = [
        {"image": codec.encode_png(picture(place, first + number)), "label": label}
        for number in range(each)
        for place, label in enumerate(VOCABULARY.labels)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two generators, a judge, and real images that it has seen (train) and has not (test)."""
    root = tmp_path_factory.mktemp("evaluate")
    for seed in (0, 1):
        save_generator(root / f"generator-{seed}", seed)
    train, test = parquet(root / "train.parquet", 0), parquet(root / "test.parquet", 1000)
    config = AttributesConfig(
        data=train, out=root / "net", half="all", threads=1, size=32, widths=(8, 16), steps=30, batch=16
    )
    fit_attributes(config, Session(root / "net-run"))
    learned, calibration = halves(load_examples(train))
    plausibility = learn_plausibility(AttributeNet.load(root / "net"), learned, calibration, 0.9)
    judge = Judge(plausibility, np.zeros((0, 16), np.float32), 0.0)
    judge.reference = judge.features(load_examples(test).images.permute(0, 2, 3, 1).numpy())
    judge.save(root / "judge")
    return root


def config(place: Path, out: Path, **settings: object) -> EvaluateConfig:
    return EvaluateConfig.model_validate(
        {
            "version": {"name": "new", "folder": place / "generator-1"},
            "against": {"name": "old", "folder": place / "generator-0"},
            "data": place / "test.parquet",
            "train": place / "train.parquet",
            "judge": place / "judge",
            "out": out,
            "per_class": 6,
            "steps": 2,
            "threads": 1,
            **settings,
        }
    )


def test_everything_is_measured_with_its_interval_and_written_down(place, tmp_path):
    fit(config(place, tmp_path / "out"), Session(tmp_path / "run"))
    told = json.loads((tmp_path / "out" / "evidence.json").read_text())
    assert set(told["versions"]) == {"new", "old"}
    new = told["versions"]["new"]
    wanted = {
        "plausible", "real plausible", "below nearly all real", "recognised", "authentic", "real authentic",
        "copy alarms",
        "coverage, against real", "coverage, real against real", "alpha precision, against real",
        "beta recall, against real", "KID, against real", "FID, against real", "diversity within a prompt",
    }  # fmt: skip
    assert wanted <= set(new)
    assert new["plausible"]["low"] <= new["plausible"]["value"] <= new["plausible"]["high"]
    assert new["real plausible"]["value"] > new["plausible"]["value"]  # what the models draw is noise
    assert new["KID, real against real"]["value"] < new["KID, against real"]["value"]
    changes = {"plausible", "recognised", "coverage", "beta recall", "authentic", "copy alarms"}
    assert changes <= set(told["gain"])
    for name in ("coverage", "beta recall"):
        apart = (
            new[f"{name}, against real"]["value"] - told["versions"]["old"][f"{name}, against real"]["value"]
        )
        assert told["gain"][name]["value"] == pytest.approx(apart, abs=1e-3)
    assert told["gate"]["verdict"] == "refuse"  # noise is no gain over noise
    assert any("plausible" in reason or "distance" in reason for reason in told["gate"]["reasons"])


def test_the_page_is_whole_and_needs_nothing_else(place, tmp_path):
    fit(config(place, tmp_path / "out"), Session(tmp_path / "run"))
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2 * (len(VOCABULARY.labels) + SHOWN)
    assert "http" not in page.replace("http-equiv", "")
    assert "new against old" in page


def test_one_version_alone_is_measured_too_and_without_training_images_nothing_is_said_of_copies(
    place, tmp_path
):
    fit(config(place, tmp_path / "out", against=None, train=None), Session(tmp_path / "run"))
    told = json.loads((tmp_path / "out" / "evidence.json").read_text())
    assert told["gain"] == {}
    assert "authentic" not in told["versions"]["new"]


def test_an_evaluation_that_was_stopped_draws_only_what_is_missing(place, tmp_path):
    def stop_late(progress: Progress) -> bool:
        return "old" not in progress.message

    settings = config(place, tmp_path / "out", batch=4)
    with pytest.raises(Cancelled):
        fit(settings, Session(tmp_path / "run", stop_late, every_s=0))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.npy")}
    assert before
    fit(settings, Session(tmp_path / "run"))
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())


def test_images_of_other_settings_are_never_taken_for_these(place, tmp_path):
    """The same folder, but more steps: what was drawn before is of no use."""
    told = []
    for out, steps in (("two", 2), ("four", 4), ("fresh", 4)):
        run = tmp_path / ("fresh-run" if out == "fresh" else "run")
        fit(config(place, tmp_path / out, steps=steps, train=None), Session(run))
        told.append(json.loads((tmp_path / out / "evidence.json").read_text())["versions"])
    assert told[1] == told[2] != told[0]


def test_a_label_that_the_judge_does_not_know_is_refused_before_anything_is_drawn(place, tmp_path):
    table = pq.read_table(place / "test.parquet").to_pylist()
    foreign = [{**row, "label": "unicorn"} for row in table]
    pq.write_table(pa.Table.from_pylist(foreign), tmp_path / "foreign.parquet")
    with pytest.raises(InvalidInput, match="unicorn"):
        fit(config(place, tmp_path / "out", data=tmp_path / "foreign.parquet"), Session(tmp_path / "run"))
    assert not list((tmp_path / "run").rglob("*.npy"))
