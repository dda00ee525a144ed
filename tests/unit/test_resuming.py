"""A run is bound to what its first attempt found: versions, ratings and data, whatever serves or is rated by then."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from training.inputs.rated import load_rated
from training.jobs.plans import Store
from training.jobs.worker import Work
from training.run import Fit, execute
from vouch.domains.criteria import Domain
from vouch.errors import FailedPrecondition
from vouch.formats import images as codec
from vouch.settings import Settings
from vouch.types.rating import NewRating, Preference
from vouch.types.run import Run
from vouch.types.version import Version


class Killed(BaseException):
    """The process is gone: nothing catches it, and the record stays as it was."""


@dataclass
class Loop:
    """Stands for a training loop: `meanwhile` happens while it trains, and then it leaves a version.

    What it was told is in `config`, the verdicts that it began and ended with in `began` and `ended`.
    """

    meanwhile: Callable[[], object] = lambda: None
    config: dict[str, object] = field(default_factory=dict)
    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    def __call__(self, job: Work) -> dict[str, object]:
        self.config, self.began = dict(job.config), verdicts(job)
        self.meanwhile()
        self.ended = verdicts(job)
        leave(Path(str(job.config["out"])), "trained", "reward.json", "weights.json")
        return {"loss": 0.5}


def verdicts(job: Work) -> list[float]:
    rated = load_rated(Path(job.folder))
    return [] if rated is None else rated.overall.tolist()


def killed() -> None:
    raise Killed


def leave(folder: Path, text: str, *names: str) -> Path:
    """A folder with files that hold this text as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("weights.json",):
        (folder / name).write_text(json.dumps({"said": text}))
    return folder


class System:
    """Stores without anything that runs: the versions are stand-ins, catalog, blobs and registry are real."""

    def __init__(self, root: Path, settings: Settings, domain: Domain) -> None:
        self.root, self._domain, self._numbers = root, domain, itertools.count()
        self._settings = settings
        self.store = Store.open(settings)

    def version(self, slot: str, **values: str) -> Version:
        """A new version, which serves from now on."""
        folder = leave(self.root / "made" / str(next(self._numbers)), slot + str(next(self._numbers)))
        told = {"kind": slot, "format": "reward" if slot == "reward" else "diffusers", **values}
        version = self.store.registry.publish(folder, **told)  # type: ignore[arg-type]
        if self.store.catalog.serving.ensure(slot, version.digest).champion != version.digest:
            self.store.catalog.rollouts.start(
                slot, version.digest, percent=100, actor="ops", request_id=version.digest
            )
        return version

    def rate(self, make_image: Callable, verdict: str) -> str:
        """A new image that an expert rates; the rating's id."""
        number = next(self._numbers)
        data = codec.encode_png(np.full((32, 32, 3), number, np.uint8))
        record = make_image(number, digest=self.store.blobs.put(data), size_bytes=len(data))
        self.store.catalog.images.add([record])
        rating = NewRating(
            request_id=str(number), image=record.digest, rater="ada", kind="human",
            verdict=verdict,  # type: ignore[arg-type]
        )  # fmt: skip
        return self.store.catalog.ratings.record(rating, self._domain).id

    def compare(self, ratings: Sequence[str]) -> None:
        """An expert prefers the first of two images that were rated."""
        image, other = (self.store.catalog.ratings.get(rating).image for rating in ratings)
        rating = NewRating(
            request_id=f"{image}/{other}", image=image, rater="bob", kind="human", verdict="unsure",
            preference=Preference(other=other, preferred=image),
        )  # fmt: skip
        self.store.catalog.ratings.record(rating, self._domain)

    def ask(self, kind: str, **config: object) -> Run:
        return self.store.catalog.runs.create(kind, config, request_id="asked")  # type: ignore[arg-type]

    def attempt(self, run: Run, fit: Fit) -> Version:
        return execute(self._settings, run.run_id, fit)


@pytest.fixture
def system(tmp_path: Path, settings: Settings, domain: Domain) -> Iterator[System]:
    system = System(tmp_path, settings, domain)
    yield system
    system.store.catalog.close()


def test_an_alignment_that_is_resumed_keeps_its_parent_reward_and_ratings(
    system: System, make_image: Callable
) -> None:
    base, reward = system.version("generator"), system.version("reward")
    parent = system.version("generator", format="lora", parent=base.digest)
    told = [system.rate(make_image, "plausible"), system.rate(make_image, "implausible")]
    run, first, second = system.ask("align"), Loop(killed), Loop()
    with pytest.raises(Killed):
        system.attempt(run, first)
    assert system.store.catalog.runs.get(run.run_id).state == "RUNNING"
    system.version("generator")
    system.version("reward")
    system.rate(make_image, "implausible")
    published = system.attempt(run, second)
    assert first.config == second.config
    assert str(second.config["parent"]).endswith(parent.digest)
    assert (published.parent, published.lineage["reward"]) == (parent.digest, reward.digest)
    assert (published.lineage["base"], sorted(published.lineage["ratings"])) == (base.digest, sorted(told))
    ended = system.store.catalog.runs.get(run.run_id)
    assert (ended.state, ended.attempt, ended.version) == ("SUCCEEDED", 2, published.digest)
    assert ended.inputs["parent"] == published.parent
    bound = {name: value for name, value in ended.inputs.items() if name != "parent"}
    assert bound == {name: published.lineage[name] for name in bound}


def test_a_reward_training_that_is_resumed_keeps_its_parent(system: System, make_image: Callable) -> None:
    parent = system.version("reward")
    system.rate(make_image, "plausible")
    run = system.ask("reward")
    with pytest.raises(Killed):
        system.attempt(run, Loop(killed))
    system.version("reward")
    assert system.attempt(run, Loop()).parent == parent.digest


def test_ratings_that_come_while_a_run_learns_do_not_change_what_it_learns(
    system: System, make_image: Callable
) -> None:
    system.version("generator")
    system.version("reward")
    told = [system.rate(make_image, "plausible"), system.rate(make_image, "plausible")]
    loop = Loop(lambda: system.rate(make_image, "implausible"))
    run = system.ask("align")
    published = system.attempt(run, loop)
    assert loop.began == loop.ended == [1.0, 1.0]
    assert sorted(published.lineage["ratings"]) == sorted(told)
    assert sorted(system.store.catalog.runs.get(run.run_id).inputs["ratings"]) == sorted(told)


@pytest.mark.parametrize(
    ("setting", "says"),
    [("data", "the images of --data changed"), ("backbone", "the folder of --backbone changed")],
)
def test_a_run_whose_data_have_changed_since_is_refused(
    system: System, make_image: Callable, setting: str, says: str
) -> None:
    system.version("reward")
    system.rate(make_image, "plausible")
    folder = leave(system.root / "brought", "before", "config.json", "model.safetensors")
    run = system.ask("reward", **{setting: str(folder)})
    with pytest.raises(Killed):
        system.attempt(run, Loop(killed))
    leave(folder, "after", "config.json")
    untouched = Loop()
    with pytest.raises(FailedPrecondition, match=f"{says}.*Start a new run"):
        system.attempt(run, untouched)
    assert not untouched.config
    assert system.store.catalog.runs.get(run.run_id).state == "FAILED"


@pytest.mark.parametrize(("name", "lost"), [("ratings", "ratings"), ("pairs", "comparisons")])
def test_frozen_ratings_that_are_lost_are_not_replaced_by_newer_ones(
    system: System, make_image: Callable, name: str, lost: str
) -> None:
    system.version("generator")
    system.version("reward")
    system.compare([system.rate(make_image, "plausible"), system.rate(make_image, "implausible")])
    run = system.ask("align")
    with pytest.raises(Killed):
        system.attempt(run, Loop(killed))
    system.rate(make_image, "implausible")
    (system.store.folder.run(run.run_id) / f"{name}.parquet").unlink()
    with pytest.raises(FailedPrecondition, match=f"the frozen {lost} in its folder changed"):
        system.attempt(run, Loop())
