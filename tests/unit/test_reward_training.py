"""A reward ensemble learns what raters said, keeps what it has not seen for measuring, and says how sure it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.tiny import VOCABULARY
from training.inputs.pairs import PAIRS_FILE
from training.inputs.rated import RATINGS_FILE, load_rated
from training.loop.progress import TrainingProgress
from training.loop.session import TrainingSession
from training.reward.config import RewardConfig
from training.reward.evidence import CHOSEN, MIXED, UNIFORM
from training.reward.fit import fit, measured_on, split
from training.reward.recognition import UNKNOWN, Recognisers, indices
from vouch.errors import Cancelled, FailedPrecondition
from vouch.formats import images as codec
from vouch.models.networks.reward import RewardEnsemble

SMALL = {"threads": 1, "size": 32, "widths": (8, 16), "batch": 16, "lr": 1e-2, "members": 2}


def cell(bright: bool, number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    return (rng.integers(0, 60, (32, 32, 3)) + (180 if bright else 20)).astype(np.uint8)


def rated_folder(folder: Path, count: int = 80) -> Path:
    """Ratings of a rater who likes bright images."""
    folder.mkdir(parents=True)
    rows = [
        {
            "image": codec.encode_png(cell(i % 2 == 0, i)),
            "prompt": VOCABULARY.labels[i % len(VOCABULARY.labels)],
            "digest": str(i),
            "overall": float(i % 2 == 0),
            "criteria": json.dumps({"cell_size": float(i % 2 == 0)}),
            "ratings": json.dumps([str(i)]),
            "kinds": '["human"]',
        }
        for i in range(count)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / RATINGS_FILE)
    return folder


def test_it_learns_the_raters_taste_and_measures_on_images_it_never_saw(tmp_path: Path) -> None:
    config = RewardConfig(out=tmp_path / "reward", steps=40, real_share=0.2, **SMALL)
    figures = fit(config, TrainingSession(rated_folder(tmp_path / "run")))
    assert figures["auroc"] > 0.95
    assert figures["ratings_learned"] + figures["held_out"] == 80
    reward = RewardEnsemble.load(tmp_path / "reward")
    images = np.stack([cell(True, 1000), cell(False, 1001)])
    found = reward.score(images, ["monocyte", "monocyte"])
    assert found.overall[0] > found.overall[1]
    assert found.criteria["cell_size"][0] > found.criteria["cell_size"][1]
    assert (found.std >= 0).all()


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    def stop_at_30(progress: TrainingProgress) -> bool:
        return progress.step < 30

    config = RewardConfig(out=tmp_path / "a", steps=40, checkpoint_every=10, **SMALL)
    fit(config, TrainingSession(rated_folder(tmp_path / "whole"), every_s=0))
    broken = rated_folder(tmp_path / "broken")
    with pytest.raises(Cancelled):
        fit(config.model_copy(update={"out": tmp_path / "b"}), TrainingSession(broken, stop_at_30, every_s=0))
    fit(config.model_copy(update={"out": tmp_path / "b"}), TrainingSession(broken, every_s=0))
    assert (tmp_path / "a" / "reward.safetensors").read_bytes() == (
        tmp_path / "b" / "reward.safetensors"
    ).read_bytes()


def test_without_ratings_and_without_real_images_there_is_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="needs ratings or labelled real images"):
        fit(RewardConfig(out=tmp_path / "reward", **SMALL), TrainingSession(tmp_path / "run"))


def test_a_score_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    fit(
        RewardConfig(out=tmp_path / "reward", steps=3, **SMALL),
        TrainingSession(rated_folder(tmp_path / "run")),
    )
    reward = RewardEnsemble.load(tmp_path / "reward")
    images = np.stack([cell(i % 3 == 0, i) for i in range(9)])
    prompts = [VOCABULARY.labels[i % 5] for i in range(9)]
    together = reward.score(images, prompts, batch=4)
    alone = [reward.score(images[i : i + 1], prompts[i : i + 1]).overall[0] for i in range(9)]
    assert np.allclose(together.overall, alone, atol=1e-5)


def test_comparisons_teach_where_verdicts_say_nothing(tmp_path: Path) -> None:
    """Every verdict is open; which of two images was preferred is all that is known."""
    folder = rated_folder(tmp_path / "run")
    table = pq.read_table(folder / RATINGS_FILE).to_pylist()
    nothing = [{**row, "overall": None, "criteria": "{}"} for row in table]
    schema = pq.read_schema(folder / RATINGS_FILE)
    pq.write_table(pa.Table.from_pylist(nothing, schema=schema), folder / RATINGS_FILE)
    pairs = [
        {
            "first": codec.encode_png(cell(i % 2 == 0, i)),
            "second": codec.encode_png(cell(i % 2 == 1, 100 + i)),
            "first_digest": f"first {i}",
            "second_digest": f"second {i}",
            "first_prompt": "monocyte",
            "second_prompt": "monocyte",
            "preferred": float(i % 2 == 0),
        }
        for i in range(40)
    ]
    pq.write_table(pa.Table.from_pylist(pairs), folder / PAIRS_FILE)
    fit(RewardConfig(out=tmp_path / "reward", steps=40, real_share=0.0, **SMALL), TrainingSession(folder))
    reward = RewardEnsemble.load(tmp_path / "reward")
    images = np.stack([cell(True, 1000), cell(False, 1001)])
    found = reward.score(images, ["monocyte", "monocyte"])
    assert found.overall[0] > found.overall[1] + 0.2


def test_a_comparison_with_an_image_that_figures_are_measured_on_is_not_learned(tmp_path: Path) -> None:
    config = {"steps": 5, "real_share": 0.0, **SMALL}
    folders = [rated_folder(tmp_path / name) for name in ("without", "with")]
    rated = load_rated(folders[0])
    _, held_out = split(rated, RewardConfig(out=tmp_path, **config))
    image = codec.encode_png(cell(True, 0))
    common = {"first": image, "second": image, "first_prompt": "monocyte", "second_prompt": "monocyte"}
    rows = [
        {**common, "first_digest": rated.digests[held], "second_digest": "elsewhere", "preferred": 1.0}
        for held in held_out
    ]
    pq.write_table(pa.Table.from_pylist(rows), folders[1] / PAIRS_FILE)
    for folder in folders:
        fit(RewardConfig(out=folder / "out", **config), TrainingSession(folder))
    weights = [(folder / "out" / "reward.safetensors").read_bytes() for folder in folders]
    assert weights[0] == weights[1]


def test_the_version_says_whose_ratings_taught_it_and_what_was_found(tmp_path: Path) -> None:
    config = RewardConfig(out=tmp_path / "reward", steps=5, real_share=0.0, **SMALL)
    figures = fit(config, TrainingSession(rated_folder(tmp_path / "run")))
    scale = RewardEnsemble.load(tmp_path / "reward").scale
    assert (scale.calibrated_on, scale.raters) == (figures["held_out"], {"human": 80})
    evidence = json.loads((tmp_path / "reward" / "evidence.json").read_text())
    assert evidence["auroc"]["value"] == figures["auroc"]
    assert (tmp_path / "reward" / "reliability.svg").is_file()


def test_naming_what_real_images_show_counts_only_what_is_annotated() -> None:
    vocabulary = VOCABULARY
    facts = [{"label": "monocyte", "cell_size": "big"}, {"label": "neutrophil"}, {}]
    wanted = indices(facts, vocabulary)
    assert wanted["label"].tolist() == [3, 4, UNKNOWN] and wanted["cell_size"].tolist() == [
        0,
        UNKNOWN,
        UNKNOWN,
    ]
    heads = Recognisers(vocabulary, width=4, members=1)
    features = torch.randn(3, 4, requires_grad=True)
    heads.loss(0, features, wanted).backward()
    assert features.grad is not None
    assert (features.grad[:2] != 0).any() and (features.grad[2] == 0).all()
    nothing = indices([{}, {}, {}], vocabulary)
    assert float(heads.loss(0, features, nothing)) == 0.0


def test_what_is_held_out_stays_so_when_more_is_rated(tmp_path: Path) -> None:
    """Else a version would be measured on images that its parent learned from."""
    config = RewardConfig(out=tmp_path)
    first = load_rated(rated_folder(tmp_path / "first", 60))
    later = load_rated(rated_folder(tmp_path / "later", 80))
    learned, held = split(first, config)
    assert sorted([*learned, *held]) == list(range(60)) and 3 < len(held) < 25
    assert set(held) <= set(split(later, config)[1]) and set(learned) <= set(split(later, config)[0])


def test_images_that_the_queue_drew_uniformly_measure_and_never_teach(tmp_path: Path) -> None:
    rated = load_rated(rated_folder(tmp_path / "run", 200))
    assert rated is not None
    config = RewardConfig(out=tmp_path, **SMALL)
    fair = replace(rated, uniform=frozenset(map(str, range(30))))
    assert split(fair, config)[1] == list(range(30))
    few = replace(rated, uniform=frozenset(map(str, range(5))))
    learned, held = split(few, config)
    assert set(range(5)) < set(held) and len(held) > 20
    assert not set(learned) & set(range(5))
    assert [measured_on(one, split(one, config)[1]) for one in (rated, few, fair)] == [CHOSEN, MIXED, UNIFORM]


def test_the_evidence_says_that_a_uniform_stratum_was_measured(tmp_path: Path) -> None:
    folder = rated_folder(tmp_path / "run")
    rows = pq.read_table(folder / RATINGS_FILE).to_pylist()
    marked = [{**row, "uniform": number < 24} for number, row in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(marked), folder / RATINGS_FILE)
    figures = fit(RewardConfig(out=tmp_path / "reward", steps=5, **SMALL), TrainingSession(folder))
    assert (figures["held_out"], figures["uniform"]) == (24, 1.0)
    assert json.loads((tmp_path / "reward" / "evidence.json").read_text())["stratum"] == UNIFORM
