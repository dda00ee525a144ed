"""An evaluation from end to end: a judge made of a few steps, two small generators, and what is written of them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

from tests.tiny import VOCABULARY, save_generator
from training.attributes.config import AttributesConfig
from training.attributes.fit import fit as fit_attributes
from training.data.examples import Examples, load_examples
from training.data.splits import halves
from training.evaluation.config import EvaluateConfig
from training.evaluation.copies import KINDS
from training.evaluation.features import Extractor, local_model, remembered
from training.evaluation.gate import FIRST, RULES
from training.evaluation.judge import Judge
from training.evaluation.report import SHOWN
from training.evaluation.run import FIRST_SEED, _repeated, _request, first_champion, fit
from training.jobs.plans import Store
from training.jobs.worker import Work, work
from training.loop.progress import TrainingProgress
from training.loop.session import TrainingSession
from training.raters.plausibility import learn_plausibility
from training.run import execute
from vouch.errors import Cancelled, InvalidInput, VouchError
from vouch.formats import images as codec
from vouch.models.networks.attributes import AttributeNet
from vouch.settings import Settings
from vouch.storage.state import StateFolder
from vouch.types.version import Version


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
        data=train, out=root / "net", split="all", threads=1, size=32, widths=(8, 16), steps=30, batch=16
    )
    fit_attributes(config, TrainingSession(root / "net-run"))
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


def save_dinov2(folder: Path) -> Path:
    """A vision model of transformers with random weights, as `save_pretrained` leaves one."""
    torch.manual_seed(0)
    shape = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    Dinov2Model(shape).save_pretrained(str(folder))
    size = {"height": 28, "width": 28}
    BitImageProcessorPil(size=size, crop_size=size).save_pretrained(str(folder))
    return folder


def test_everything_is_measured_with_its_interval_and_written_down(place, tmp_path):
    more = {"features": [save_dinov2(tmp_path / "dinov2")], "cache": tmp_path / "cache"}
    fit(config(place, tmp_path / "out", **more), TrainingSession(tmp_path / "run"))
    told = json.loads((tmp_path / "out" / "evidence.json").read_text())
    assert set(told["versions"]) == {"new", "old"}
    new = told["versions"]["new"]
    wanted = {
        "plausible", "real plausible", "below nearly all real", "recognised", "authentic", "real authentic",
        "copy alarms",
        "coverage, against real", "coverage, real against real", "alpha precision, against real",
        "beta recall, against real", "KID, against real", "FID, against real", "diversity within a class",
        "KID, against real, by dinov2", "coverage, real against real, by dinov2", "authentic, by dinov2",
        "distance to the nearest training image", "real copy alarms", "brightness, distance from real",
        "pairwise distance within a prompt", "real pairwise distance within a prompt", "pairwise SSIM within a prompt",
        "real pairwise SSIM within a prompt", "pairwise distance within a prompt, by dinov2", "high-band power",
        "high-band power, distance from real", *(f"copy alarm power, {kind}" for kind in KINDS),
    }  # fmt: skip
    assert wanted <= set(new)
    known = {
        name: figure for name, figure in new.items() if name != "attributes asked for"
    }  # no prompt has one
    assert all(None not in figure.values() for figure in known.values())
    assert new["copy alarm power, exact"]["value"] == new["copy alarm power, turned"]["value"] == 1.0
    assert not [name for name in told["versions"]["old"] if "power, exact" in name]  # the alarm is the same
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 4  # unseen and train, in two spaces
    assert new["plausible"]["low"] <= new["plausible"]["value"] <= new["plausible"]["high"]
    assert new["real plausible"]["value"] > new["plausible"]["value"]  # what the models draw is noise
    assert new["KID, real against real"]["value"] < new["KID, against real"]["value"]
    changes = {rule.name for rule in RULES} | {"authentic"}
    assert changes | {"pairwise distance within a prompt", "pairwise SSIM within a prompt"} <= set(
        told["gain"]
    )
    assert "A class is 20.0 to 20.0 %" in told["notes"][0] and "20 images of 5 prompts" in told["notes"][1]
    for name in ("coverage", "beta recall"):
        apart = (
            new[f"{name}, against real"]["value"] - told["versions"]["old"][f"{name}, against real"]["value"]
        )
        assert told["gain"][name]["value"] == pytest.approx(apart, abs=1e-3)
    assert told["gate"]["verdict"] == "refuse"  # noise is no gain over noise
    assert any("plausible" in reason or "distance" in reason for reason in told["gate"]["reasons"])


def test_what_was_lost_since_the_first_champion_is_measured_on_the_same_prompts_and_seeds(place, tmp_path):
    """The candidate is the first champion again: nothing is lost since it, whatever it is beside what serves."""
    first = {"name": "first", "folder": place / "generator-1"}
    fit(config(place, tmp_path / "out", first=first, train=None), TrainingSession(tmp_path / "run"))
    told = json.loads((tmp_path / "out" / "evidence.json").read_text())
    assert set(told["versions"]) == {"new", "old", "first"}
    assert {figure["value"] for figure in told["since_first"].values()} == {0.0}
    checks = [check for check in told["gate"]["checks"] if check["baseline"] == FIRST]
    assert [check["name"] for check in checks] == [rule.name for rule in RULES]
    assert all(check["passed"] is not False for check in checks)


def test_the_first_champion_is_the_root_of_the_lineage_of_what_serves(place, settings):
    store = Store.open(settings)
    parent = ""
    for name, seed in (("one", 0), ("two", 1)):
        version = store.registry.publish(
            place / f"generator-{seed}", kind="generator", format="diffusers", name=name, parent=parent
        )
        parent = version.digest
    assert first_champion(store, "two") == "one"
    assert first_champion(store, "one") == "", "it serves itself: nothing else was before"


def test_the_page_is_whole_and_needs_nothing_else(place, tmp_path):
    fit(config(place, tmp_path / "out"), TrainingSession(tmp_path / "run"))
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2 * (len(VOCABULARY.labels) + SHOWN)
    assert "http" not in page.replace("http-equiv", "")
    assert "new against old" in page
    assert (
        "A class is 20.0 to 20.0 % of the generated images" in page and "Within a prompt: 20 images" in page
    )


@pytest.mark.timeout(900)
def test_the_command_measures_published_versions_and_keeps_what_it_found_with_them(place, tmp_path):
    store = Store.open(Settings(state=StateFolder(tmp_path / "state").create().root))
    for seed, name in ((0, "old"), (1, "new")):
        store.registry.publish(place / f"generator-{seed}", kind="generator", format="diffusers", name=name)
    command = [
        *(
            sys.executable,
            "-m",
            "vouch",
            "evaluate",
            "new",
            "--offline",
            "--against",
            "old",
            "--per-class",
            "4",
        ),
        *("--data", place / "test.parquet", "--train", place / "train.parquet", "--judge", place / "judge"),
        *("--out", tmp_path / "out", "--state", tmp_path / "state"),
    ]
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["plausible"] < 0.5
    told = json.loads((tmp_path / "out" / "evidence.json").read_text())
    page = (tmp_path / "out" / "report.html").read_text()
    assert "No: it is refused." in page and page.count("<td class=refused>") == len(told["gate"]["reasons"])
    kept = store.registry.evidence("new")
    assert kept["gate"] == told["gate"] and kept["against_name"] == "old"
    assert kept["sha256"] == hashlib.sha256((tmp_path / "out" / "evidence.json").read_bytes()).hexdigest()
    assert kept["figures"]["plausible"] == told["versions"]["new"]["plausible"]
    assert store.registry.evidence("old") == {}


def test_one_version_alone_is_measured_too_and_without_training_images_nothing_is_said_of_copies(
    place, tmp_path
):
    fit(config(place, tmp_path / "out", against=None, train=None), TrainingSession(tmp_path / "run"))
    told = json.loads((tmp_path / "out" / "evidence.json").read_text())
    assert told["gain"] == {}
    assert "authentic" not in told["versions"]["new"]


def test_an_evaluation_that_was_stopped_draws_only_what_is_missing(place, tmp_path):
    def stop_late(progress: TrainingProgress) -> bool:
        return "old" not in progress.message

    settings = config(place, tmp_path / "out", batch=4)
    with pytest.raises(Cancelled):
        fit(settings, TrainingSession(tmp_path / "run", stop_late, every_s=0))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.npy")}
    assert before
    fit(settings, TrainingSession(tmp_path / "run"))
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())


def test_images_of_other_settings_are_never_taken_for_these(place, tmp_path):
    """The same folder, but more steps: what was drawn before is of no use."""
    told = []
    for out, steps in (("two", 2), ("four", 4), ("fresh", 4)):
        run = tmp_path / ("fresh-run" if out == "fresh" else "run")
        fit(config(place, tmp_path / out, steps=steps, train=None), TrainingSession(run))
        told.append(json.loads((tmp_path / out / "evidence.json").read_text())["versions"])
    assert told[1] == told[2] != told[0]


def test_a_label_that_the_judge_does_not_know_is_refused_before_anything_is_drawn(place, tmp_path):
    table = pq.read_table(place / "test.parquet").to_pylist()
    foreign = [{**row, "label": "unicorn"} for row in table]
    pq.write_table(pa.Table.from_pylist(foreign), tmp_path / "foreign.parquet")
    with pytest.raises(InvalidInput, match="unicorn"):
        fit(
            config(place, tmp_path / "out", data=tmp_path / "foreign.parquet"),
            TrainingSession(tmp_path / "run"),
        )
    assert not list((tmp_path / "run").rglob("*.npy"))


def test_repeated_prompts_differ_in_seeds_alone_and_share_none_with_the_others(place, tmp_path):
    settings = config(place, tmp_path / "out", repeats=3)
    labels, images = ("monocyte",) * 4 + ("platelet",), torch.zeros(5, 3, 2, 2, dtype=torch.uint8)
    attributes = (*({"cell_size": size} for size in ("big", "small") * 2), {})
    request = _repeated(Examples(images, labels, attributes, ({},) * 5, "digest"), settings)
    prompts = list(dict.fromkeys(request.prompts))
    assert len(prompts) == 3 and prompts[2] == "platelet"  # of which nothing else can be asked
    assert request.prompts == tuple(prompt for prompt in prompts for _ in range(3))
    others = _request(load_examples(place / "test.parquet"), settings)
    assert len({*request.seeds, *others.seeds}) == len(request.seeds) + len(others.seeds)
    assert min(request.seeds) > FIRST_SEED


def test_without_repeated_prompts_nothing_is_said_of_them(place, tmp_path):
    fit(config(place, tmp_path / "out", repeated_per_class=0, train=None), TrainingSession(tmp_path / "run"))
    told = json.loads((tmp_path / "out" / "evidence.json").read_text())
    assert len(told["notes"]) == 1
    assert not [name for name in (*told["versions"]["new"], *told["gain"]) if "within a prompt" in name]


def test_classifiers_learn_from_what_was_drawn_where_that_is_asked_for(place, tmp_path):
    short = {"downstream": True, "downstream_steps": 10, "downstream_seeds": 1, "downstream_share": 0.5}
    fit(config(place, tmp_path / "out", against=None, **short), TrainingSession(tmp_path / "run"))
    new = json.loads((tmp_path / "out" / "evidence.json").read_text())["versions"]["new"]
    arms = [
        new[f"downstream accuracy, {arm}"]["value"] for arm in ("real", "real and synthetic", "synthetic")
    ]
    assert all(0 <= accuracy <= 1 for accuracy in arms)
    assert new["downstream gain"]["value"] == pytest.approx(arms[1] - arms[0])


def test_downstream_without_real_images_to_learn_from_is_refused(place, tmp_path):
    with pytest.raises(ValueError, match="train"):
        config(place, tmp_path / "out", train=None, downstream=True)


@pytest.mark.parametrize("left_out", ["preprocessor_config.json", "model.safetensors", "config.json"])
def test_a_folder_that_is_no_vision_model_is_refused_with_what_it_needs(tmp_path, left_out):
    (save_dinov2(tmp_path / "dinov2") / left_out).unlink()
    with pytest.raises(InvalidInput, match="preprocessor_config.json"):
        local_model(tmp_path / "dinov2")


def test_features_of_real_images_are_computed_once_for_each_data_set_and_network(tmp_path):
    asked = []

    def features(images: np.ndarray) -> np.ndarray:
        asked.append(len(images))
        return images.reshape(len(images), -1).astype(np.float32)

    images = np.zeros((3, 2, 2, 3), np.uint8)
    for network, data in (("a", "one"), ("a", "one"), ("b", "one"), ("a", "two")):
        found = remembered(Extractor("any", network, features), images, data, tmp_path)
        assert found.shape == (3, 12)
    assert asked == [3, 3, 3]


def in_this_process(job: Work) -> dict[str, object]:
    """A worker without Ray."""
    return dict(work(replace(job, catalog_url="")))


def test_an_evaluation_is_a_run_and_its_verdict_is_kept_with_the_version(place, settings, tmp_path):
    store = Store.open(settings)
    old, new = (published(store, copied(place / f"generator-{n}", tmp_path), f"g-{n}") for n in (0, 1))
    store.catalog.serving.ensure("generator", old.digest)
    asked = {
        "data": str(place / "test.parquet"),
        "judge": str(place / "judge"),
        "per_class": 2,
        "steps": 2,
        "threads": 1,
    }
    run = store.catalog.runs.create("evaluate", {"version": "g-1", **asked}, request_id="asked")
    before = len(store.registry.list())

    version = execute(settings, run.run_id, in_this_process)

    ended = store.catalog.runs.get(run.run_id)
    assert (ended.state, ended.version, version.digest) == ("SUCCEEDED", new.digest, new.digest)
    assert len(store.registry.list()) == before, "nothing is published"
    assert (ended.inputs["version"], ended.inputs["against"]) == (new.digest, old.digest)
    evidence = store.registry.evidence("g-1")
    assert evidence["against"] == old.digest
    assert evidence["gate"]["verdict"] in ("pass", "refuse")
    assert Path(evidence["report"]).is_file()
    assert Path(evidence["report"]).is_relative_to(store.folder.run(run.run_id))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"version": "g-0"}, "is what it would be compared with"),
        ({"version": "r-0"}, "compares generators"),
        ({"version": "g-1", "data": "nowhere.parquet"}, "There is no file or folder"),
        ({"version": "g-9"}, "g-9"),
    ],
)
def test_an_evaluation_that_makes_no_sense_fails_with_a_reason(place, settings, tmp_path, asked, says):
    store = Store.open(settings)
    for name, kind in (("g-0", "generator"), ("g-1", "generator"), ("r-0", "reward")):
        source = tmp_path / name
        source.mkdir()
        (source / "weights.safetensors").write_bytes(name.encode())
        store.registry.publish(source, kind=kind, format="diffusers", name=name)
    store.catalog.serving.ensure("generator", store.registry.get("g-0").digest)
    given = {"data": str(place / "test.parquet"), "judge": str(place / "judge"), **asked}
    run = store.catalog.runs.create("evaluate", given, request_id="asked")
    with pytest.raises(VouchError, match=says):
        execute(settings, run.run_id, in_this_process)
    ended = store.catalog.runs.get(run.run_id)
    assert ended.state == "FAILED"
    assert says in ended.error


def published(store: Store, folder: Path, name: str) -> Version:
    return store.registry.publish(folder, kind="generator", format="diffusers", name=name)


def copied(folder: Path, scratch: Path) -> Path:
    """Publishing moves a folder."""
    return Path(shutil.copytree(folder, scratch / folder.name))
