"""A domain is a folder: two ship, and a third is read, rated, judged and captioned without any code of its own."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import demo
from tests.image_files import write_files
from training.data.examples import Examples
from training.demo.system import MODELS, STARTER, DemoOptions
from training.evaluation.config import EvaluateConfig
from training.raters.plausibility import Plausibility, learn_plausibility
from training.raters.simulated import SimulatedPathologist
from training.reward.batches import pseudo
from vouch import recipes
from vouch.domains.criteria import Domain, load_domain, shipped_domain, shipped_domains
from vouch.errors import InvalidInput, NotFound
from vouch.models.captions import Vocabulary
from vouch.models.networks.attributes import AttributeNet
from vouch.models.networks.reward import RewardEnsemble
from vouch.storage.catalog import Catalog

TOY = {
    "domain.json": json.dumps({"name": "traffic_lights", "title": "Traffic lights", "symmetric": False}),
    "criteria.json": json.dumps(
        [
            {"id": "lamp", "question": "Is the declared lamp lit?", "error_rate": 0.0},
            {
                "id": "housing",
                "question": "Is the housing whole?",
                "attributes": ["shape"],
                "error_rate": 0.5,
            },
        ]
    ),
    "captions.json": json.dumps(
        {
            "wordings": ["{label}", "a traffic light that shows {label}"],
            "held_out": ["{label} light"],
            "negations": ["a traffic light without {label}"],
            "absent": "off",
            "phrases": {"off": "no lamp"},
        }
    ),
    "vocabulary.json": json.dumps({"labels": ["green", "off", "red"], "attributes": {"shape": ["round"]}}),
}


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return write_files(tmp_path / "lights", TOY)


def test_two_domains_ship_as_folders() -> None:
    assert shipped_domains() == ("blood_cells", "chest_xray")
    cells, chest = load_domain(), shipped_domain("chest_xray")
    assert cells.symmetric and not chest.symmetric
    assert (cells.class_criterion, chest.class_criterion) == ("cell_type", "finding")
    assert chest.image.grey and chest.vocabulary is None and not chest.annotated
    assert cells.vocabulary is not None and len(cells.vocabulary.labels) == 8
    for domain in (cells, chest):
        assert all(c.question.endswith("?") and len(c.help) > 60 for c in domain.criteria)
        assert Domain.model_validate_json(domain.model_dump_json()) == domain


def test_the_chest_checklist_ships_in_the_package() -> None:
    """Beside the code, and named by the package data that an installation copies."""
    folder = Path(sys.modules["vouch.domains.criteria"].__file__ or "").parent / "chest_xray"
    assert {file.name for file in folder.iterdir()} >= {"domain.json", "criteria.json", "captions.json"}
    assert '"domains/**/*"' in Path("pyproject.toml").read_text()


def test_a_third_domain_is_a_folder(toy: Path) -> None:
    lights = load_domain(toy)
    assert (lights.name, lights.ids, lights.class_criterion) == (
        "traffic_lights",
        ("lamp", "housing"),
        "lamp",
    )
    assert lights.captions.every("off") == ("no lamp", "a traffic light that shows no lamp")
    assert lights.captions.unseen("red") == ("red light",)
    assert lights.captions.deny("red") == ("a traffic light without red",)
    drawn = {lights.captions.draw("red", random.Random(seed)) for seed in range(20)}
    assert drawn == set(lights.captions.every("red"))


def test_runs_and_evaluations_read_symmetry_from_it(toy: Path, tmp_path: Path) -> None:
    lights = load_domain(toy)
    assert not recipes.parse("align", {}, lights)[1].symmetric
    given = {
        "version": {"name": "a", "folder": "a"},
        "data": "d",
        "judge": "j",
        "out": "o",
        "domain": lights.model_dump(mode="json"),
    }
    assert not EvaluateConfig.model_validate(given).symmetric
    assert EvaluateConfig.model_validate({**given, "symmetric": True}).symmetric
    del given["domain"]
    assert EvaluateConfig.model_validate(given).symmetric


def test_its_ratings_are_recorded_under_its_name(toy: Path, tmp_path: Path, make_image, make_rating) -> None:
    lights = load_domain(toy)
    with Catalog(f"sqlite:///{tmp_path / 'catalog.db'}") as catalog:
        catalog.images.add([make_image(1)])
        rating = catalog.ratings.record(make_rating(make_image(1).digest, answers={"lamp": "pass"}), lights)
        assert rating.domain == "traffic_lights"
        with pytest.raises(InvalidInput, match="traffic_lights asks: lamp, housing"):
            catalog.ratings.record(
                make_rating(make_image(1).digest, answers={"nucleus_shape": "pass"}), lights
            )


def learned(domain: Domain) -> Plausibility:
    """A judge of two labels that differ in brightness; its network is untrained, which is enough to be asked."""
    torch.manual_seed(0)
    vocabulary = Vocabulary(("green", "red"), {"shape": ("round", "square")})
    images = torch.cat([torch.full((20, 3, 16, 16), 40), torch.full((20, 3, 16, 16), 200)]).byte()
    labels, rows = ("green",) * 20 + ("red",) * 20, tuple({"shape": "round"} for _ in range(40))
    seen = Examples(images, labels, rows, ({},) * 40, "d")
    return learn_plausibility(AttributeNet(vocabulary, 16, (8, 8)), seen, seen, 0.5, domain)


def test_its_judge_answers_its_own_criteria(toy: Path, tmp_path: Path) -> None:
    lights = load_domain(toy)
    learned(lights).save(tmp_path)
    found = Plausibility.load(tmp_path).assess(torch.zeros(2, 3, 16, 16).byte(), ["green", "red"])
    assert set(found.criteria) == {"lamp", "housing"}


def test_its_simulated_raters_err_as_its_experts_do(toy: Path) -> None:
    lights = load_domain(toy)
    judge, images = learned(lights), np.zeros((200, 16, 16, 3), np.uint8)
    digests = [f"{number:064d}" for number in range(200)]
    opinions = SimulatedPathologist(judge, "one", lights).rate(images, ["green"] * 200, digests)
    lamp, housing = ([one.answers[name] for one in opinions] for name in ("lamp", "housing"))
    assert len(set(lamp)) == 1  # error rate 0
    assert 60 < housing.count("pass") < 140  # error rate 0.5


def test_a_reward_model_learns_which_criterion_a_swapped_class_fails(toy: Path) -> None:
    lights = load_domain(toy)
    model = RewardEnsemble(Vocabulary(("green",), {}), lights.ids, members=1, size=16, widths=(8, 8))
    model.class_criterion = lights.class_criterion
    assert pseudo(model, 0.0)[:2].tolist() == [0.0, 0.0] and pseudo(model, 0.0)[2].isnan()
    assert pseudo(model, 1.0).tolist() == [1.0, 1.0, 1.0]


def test_a_domain_in_one_file_is_still_read_and_says_how_it_could_grow(tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO", logger="vouch.domains")
    told = {"name": "skin", "criteria": [{"id": "border", "question": "Is the border right?"}]}
    write_files(tmp_path, {"skin.json": json.dumps(told)})
    skin = load_domain(tmp_path / "skin.json")
    assert (skin.class_criterion, skin.captions.every("naevus")) == ("border", ("naevus",))
    assert "own-domain.md" in caplog.text


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"domain.json": "{"}, "domain.json is not JSON"),
        ({"domain.json": "[]"}, "a JSON object is expected"),
        ({"criteria.json": "[]"}, "criteria"),
        ({"criteria.json": '{"id": "a"}'}, "criteria"),
        ({"captions.json": '{"wordings": ["a light"]}'}, "captions.wordings.0"),
        ({"captions.json": '{"wordings": []}'}, "captions.wordings"),
        ({"domain.json": '{"name": "x", "criteria": []}'}, "give it once"),
        ({"domain.json": '{"name": "x", "class_criterion": "colour"}'}, "'colour' is none of lamp, housing"),
        ({"domain.json": '{"name": "x", "colour": true}'}, "colour"),
        ({"captions.json": " " * (1 << 20) + "{}"}, "at most 1048576 bytes"),
    ],
)
def test_a_folder_that_describes_no_domain_says_where_it_is_wrong(changed, why, toy: Path) -> None:
    write_files(toy, changed)
    with pytest.raises(InvalidInput, match=why):
        load_domain(toy)


def test_a_folder_without_a_domain_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"blood_cells, chest_xray"):
        load_domain(tmp_path)


def test_evaluating_another_domain_asks_for_its_judge(toy: Path, tmp_path: Path) -> None:
    data = write_files(tmp_path / "data", {"a.png": b"x"})
    arguments = [
        "evaluate",
        "v",
        "--offline",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "out"),
        "--domain",
        str(toy),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "vouch", *arguments, "--state", str(tmp_path / "state")],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2, done.stderr
    assert "one of traffic_lights with --judge" in " ".join(done.stderr.split())


def test_the_demo_takes_the_models_that_the_checkout_has_for_a_domain(toy: Path, tmp_path: Path) -> None:
    assert demo.models_of("blood_cells", tmp_path) == STARTER
    assert demo.models_of(str(toy), tmp_path) == STARTER  # which `check` then refuses by name
    for part in MODELS:
        assert demo.models_of(str(toy), tmp_path) == STARTER
        (tmp_path / "traffic_lights" / part).mkdir(parents=True)
    assert demo.models_of(str(toy), tmp_path) == tmp_path / "traffic_lights"


def test_the_demo_asks_for_models_of_the_domain(toy: Path, tmp_path: Path) -> None:
    DemoOptions().check()
    with pytest.raises(InvalidInput, match="models of traffic_lights with --models"):
        DemoOptions(domain=str(toy)).check()
    options = DemoOptions(domain=str(toy), models=tmp_path / "models")
    for part in ("generator", "reward", "rater"):
        (options.models / part).mkdir(parents=True)
    with pytest.raises(InvalidInput, match="lacks judge"):
        options.check()
    (options.models / "judge").mkdir()
    with pytest.raises(InvalidInput, match="lists no labels"):
        options.check()
    (options.models / "generator" / "vocabulary.json").touch()
    options.check(whole=False)
    with pytest.raises(InvalidInput, match="no diffusers folder"):
        options.check()
    (options.models / "generator" / "model_index.json").touch()
    options.check()
