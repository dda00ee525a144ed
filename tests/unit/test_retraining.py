"""The reward model trains again by itself: on enough ratings or drift, within cooldown and budget, through the gate."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from services.retraining.loop import retrain_now_and_then
from services.retraining.policy import LearningState, decide, error_at_least
from services.retraining.retrainer import Retrainer
from services.rollout.controller import RolloutController
from vouch.domains.criteria import Domain
from vouch.settings import RetrainingSettings, Settings
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.clock import now
from vouch.types.image import ImageRecord
from vouch.types.rating import NewRating
from vouch.types.score import Score

POLICY = RetrainingSettings(new_ratings=20, drift=0.3, cooldown_h=24, runs_in_30_days=2)


@pytest.mark.parametrize(
    ("seen", "train", "sentence"),
    [
        (LearningState(new_ratings=19), False, "19 new ratings"),
        (LearningState(new_ratings=20), True, "20 are enough"),
        (LearningState(new_ratings=5, wrong=90, judged=100), True, "contradicts 90 of 100"),
        (LearningState(new_ratings=5, wrong=35, judged=100), False, "no drift"),
        (LearningState(new_ratings=5, wrong=3, judged=3), False, "no drift"),
        (LearningState(new_ratings=20, busy=True), False, "under way"),
        (LearningState(new_ratings=20, since_last_h=23.0, recent=1), False, "24 h have to pass"),
        (LearningState(new_ratings=20, since_last_h=25.0, recent=1), True, "are enough"),
        (LearningState(new_ratings=20, since_last_h=25.0, recent=2), False, "2 of 2 trainings"),
    ],
)
def test_the_policy(seen: LearningState, train: bool, sentence: str) -> None:
    decision = decide(seen, POLICY)
    assert (decision.train, sentence in decision.reason) == (train, True), decision


def test_nothing_is_ever_wanted_where_it_is_off() -> None:
    seen = LearningState(new_ratings=10**6, wrong=100, judged=100)
    assert not decide(seen, RetrainingSettings()).train


def test_few_contradictions_prove_nothing() -> None:
    assert error_at_least(0, 0) == 0.0
    assert error_at_least(3, 3) < 0.3 < error_at_least(300, 300)


class Learning:
    """A system that serves one reward model, and experts who rate images that it scored."""

    def __init__(self, folder: Path, domain: Domain, images: Callable[..., ImageRecord]) -> None:
        self.settings = Settings(state=folder / "state", retraining=POLICY)
        self.settings.folder.create()
        self.catalog = Catalog(self.settings.resolved_catalog_url)
        self.registry = Registry(self.catalog, self.settings.folder.models)
        self._folder, self._domain, self._images, self._rated = folder, domain, images, 0
        self.first = self.publish("first", ())
        self.catalog.serving.ensure("reward", self.first)
        controller = RolloutController(self.catalog, self.registry, lambda slot: None)
        self.retrainer = Retrainer(self.settings, self.catalog, controller)

    def publish(self, name: str, learned: tuple[str, ...], auroc: float = 0.9, run: str = "") -> str:
        model = self._folder / name
        model.mkdir()
        (model / "reward.safetensors").write_bytes(name.encode())
        found = {"auroc": {"value": auroc, "low": auroc - 0.1, "high": auroc + 0.1}, "images": 40}
        (model / "evidence.json").write_text(json.dumps(found))
        lineage = {"ratings": list(learned), **({"run_id": run} if run else {})}
        return self.registry.publish(model, kind="reward", format="reward", lineage=lineage).digest

    def rate(self, count: int, score: float = 0.9, verdict: str = "plausible") -> None:
        for _ in range(count):
            self._rated += 1
            image = self._images(self._rated)
            told = Score(image=image.digest, version=self.first, overall=score, std=0.0, criteria={})
            self.catalog.images.add([image], [told])
            new = NewRating(
                request_id=uuid.uuid4().hex, image=image.digest, rater="a", kind="human", verdict=verdict
            )  # type: ignore[arg-type]
            self.catalog.ratings.record(new, self._domain)

    def finish(self, name: str, auroc: float = 0.9) -> str:
        """The run that is queued publishes a version that learned from every rating."""
        run = self.catalog.runs.list(state="QUEUED").items[0]
        self.catalog.runs.start(run.run_id)
        ratings, _ = self.catalog.ratings.freeze()
        digest = self.publish(name, tuple(one.id for one in ratings), auroc, run.run_id)
        self.catalog.runs.finish(run.run_id, "SUCCEEDED", version=digest)
        return digest

    @property
    def actions(self) -> list[str]:
        return [entry.action for entry in self.catalog.audit.entries()]


@pytest.fixture
def learning(tmp_path: Path, domain: Domain, make_image: Callable[..., ImageRecord]) -> Learning:
    return Learning(tmp_path, domain, make_image)


def test_enough_ratings_start_one_training_and_its_version_goes_through_the_gate(learning: Learning) -> None:
    learning.rate(19)
    assert not learning.retrainer.step().train
    learning.rate(1)
    assert learning.retrainer.step().train
    assert "0 new ratings" in learning.retrainer.step().reason
    learning.rate(20)
    assert learning.retrainer.step().reason == "a training is under way"
    digest = learning.finish("second")
    learning.retrainer.step()
    rollout = learning.catalog.rollouts.active("reward")
    assert rollout is not None
    assert (rollout.version, rollout.percent) == (digest, 5)
    assert rollout.plan is not None
    assert rollout.plan.gate["verdict"] == "pass"
    assert learning.actions == ["training start", "rollout start"]


def test_what_was_rolled_back_is_not_started_again(learning: Learning) -> None:
    learning.rate(20)
    learning.retrainer.step()
    learning.finish("second")
    learning.retrainer.step()
    rollout = learning.catalog.rollouts.active("reward")
    assert rollout is not None
    learning.catalog.rollouts.roll_back(rollout.rollout_id, actor="ops", request_id="back")
    learning.retrainer.step()
    assert learning.catalog.rollouts.active("reward") is None


def test_a_version_that_the_gate_refuses_is_noted_once_and_not_rolled_out(learning: Learning) -> None:
    learning.rate(20)
    learning.retrainer.step()
    learning.finish("second", auroc=0.55)
    for _ in range(3):
        learning.retrainer.step()
    assert learning.catalog.rollouts.active("reward") is None
    assert learning.actions == ["training start", "retraining refused"]


def test_a_retrainer_whose_controller_was_deposed_begins_and_notes_nothing(learning: Learning) -> None:
    learning.rate(20)
    learning.retrainer.step()
    learning.finish("second")
    successor = RolloutController(learning.catalog, learning.registry, lambda slot: None)
    learning.retrainer.step()
    assert learning.catalog.rollouts.active("reward") is None
    assert learning.actions == ["training start"]
    Retrainer(learning.settings, learning.catalog, successor).step()
    assert learning.actions == ["training start", "rollout start"]


def test_a_failed_training_is_not_repeated_for_the_same_ratings(
    learning: Learning, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning.rate(20)
    learning.retrainer.step()
    run = learning.catalog.runs.list().items[0]
    learning.catalog.runs.start(run.run_id)
    learning.catalog.runs.finish(run.run_id, "FAILED", error="no")
    monkeypatch.setattr("services.retraining.retrainer.now", lambda: now() + timedelta(days=2))
    assert "0 new ratings" in learning.retrainer.step().reason
    learning.rate(20)
    assert learning.retrainer.step().train


def test_drift_trains_before_there_are_many_ratings(learning: Learning) -> None:
    learning.rate(15, score=0.9, verdict="implausible")
    decision = learning.retrainer.step()
    assert decision.train
    assert "contradicts 15 of 15" in decision.reason


def test_ratings_by_simulated_raters_teach_nothing_by_themselves(learning: Learning, domain: Domain) -> None:
    learning.rate(1)
    image = learning.catalog.images.list().items[0].digest
    for number in range(30):
        new = NewRating(
            request_id=f"s-{number}", image=image, rater=f"s-{number}", kind="simulated", verdict="plausible"
        )
        learning.catalog.ratings.record(new, domain)
    assert not learning.retrainer.step().train


def test_the_loop_runs_only_where_it_is_asked_for(learning: Learning) -> None:
    off = Settings(state=learning.settings.state)
    controller = RolloutController(learning.catalog, learning.registry, lambda slot: None)
    assert retrain_now_and_then(Retrainer(off, learning.catalog, controller)) is None
    thread = retrain_now_and_then(learning.retrainer, every_s=3600)
    assert thread is not None
    assert thread.daemon


def test_a_look_that_fails_is_followed_by_another(
    learning: Learning, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, second = iter([RuntimeError("a torn file"), None]), threading.Event()

    def step() -> None:
        error = next(looks, None)
        if error is not None:
            raise error
        second.set()

    monkeypatch.setattr(learning.retrainer, "step", step)
    thread = retrain_now_and_then(learning.retrainer, every_s=0.001)
    assert second.wait(20)
    assert thread is not None
    assert thread.is_alive()
