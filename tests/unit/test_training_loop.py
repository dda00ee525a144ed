"""The loop that every trainer runs in: what a trainer gets from it without a line of its own."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from training.alignment.methods.method import Method
from training.alignment.pass_counter import PassCounter
from training.alignment.step_rng import StepRng
from training.loop import budget
from training.loop.gradient_step import gradient_step
from training.loop.learning_rates import one_cycle, warm_up
from training.loop.progress import TrainingProgress
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer
from training.loop.training_loop import TrainingLoop, TrainingResult
from training.randomness import tensors
from vouch.errors import Cancelled


class Line(Trainer):
    """Fits a line to noise with momentum, at two learning rates."""

    parts = ("net", "optimizer")

    def __init__(self, session: TrainingSession, stop_at: int = 1000) -> None:
        torch.manual_seed(0)
        self.group, self.net, self.stop_at = session.group, torch.nn.Linear(3, 1), stop_at
        self.parameters = list(self.net.parameters())
        groups = [{"params": [self.net.weight], "lr": 1e-2}, {"params": [self.net.bias], "lr": 1e-3}]
        self.optimizer = torch.optim.AdamW(groups)
        self.seen: list[int] = []
        self.finished: list[int] = []

    def rate(self, done: float, step: int) -> float:
        return warm_up(step, 4) * (1 - done)

    def step(self, step: int, done: float) -> dict[str, float]:
        self.seen.append(step)
        x = torch.randn(8, 3, generator=tensors("line", step))
        loss = (self.net(x) - x.sum(1, keepdim=True)).pow(2).mean()
        gradient_step(loss, self.optimizer, self.parameters, self.group)
        return {"loss": float(loss.detach())}

    def after_step(self, step: int, session: TrainingSession) -> bool:
        return step >= self.stop_at

    def finish(self, step: int, session: TrainingSession) -> None:
        self.finished.append(step)


def run(
    trainer: Line, session: TrainingSession, steps: int = 9, minutes: float | None = None
) -> TrainingResult:
    return TrainingLoop(
        trainer,
        session,
        "line",
        session.folder / "line",
        steps,
        minutes,
        checkpoint_every=3,
        metrics_prefix="line_",
    ).run()


def weights(trainer: Line) -> list[float]:
    return [*trainer.net.weight.flatten().tolist(), *trainer.net.bias.tolist()]


@pytest.mark.parametrize("killed_at", [1, 3, 4, 9])
def test_a_trainer_that_names_its_parts_is_resumed_to_the_same_weights(
    tmp_path: Path, killed_at: int
) -> None:
    whole = Line(TrainingSession(tmp_path / "whole"))
    result = run(whole, TrainingSession(tmp_path / "whole"))
    killed = TrainingSession(tmp_path / "broken", lambda progress: progress.step < killed_at, every_s=0)
    with pytest.raises(Cancelled):
        run(Line(killed), killed)
    again = Line(TrainingSession(tmp_path / "broken"))
    resumed = run(again, TrainingSession(tmp_path / "broken"))
    assert weights(again) == weights(whole)
    assert again.seen == list(range(3 * ((killed_at - 1) // 3) + 1, 10)), (
        "it goes on from the last checkpoint"
    )
    assert (resumed.steps, resumed.metrics) == (result.steps, result.metrics)
    assert resumed.seconds > 0


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first = run(Line(TrainingSession(tmp_path)), TrainingSession(tmp_path), steps=4)
    again = Line(TrainingSession(tmp_path))
    result = run(again, TrainingSession(tmp_path), steps=4)
    assert not again.seen and again.finished == [4]
    assert (result.steps, result.metrics) == (first.steps, first.metrics)
    assert run(again, TrainingSession(tmp_path), steps=6).steps == 6, "more steps go on from there"


def test_a_trainer_can_end_it_and_a_resumed_one_stays_at_its_end(tmp_path: Path) -> None:
    reported: list[TrainingProgress] = []
    session = TrainingSession(tmp_path, lambda progress: not reported.append(progress), every_s=0)
    trainer = Line(session, stop_at=5)
    assert run(trainer, session).steps == 5
    assert trainer.finished == [5]
    assert (reported[-1].step, reported[-1].total_steps) == (9, 9), "a bar reaches its end"
    assert set(reported[-1].metrics) == {"line_loss"}
    again = Line(session, stop_at=5)
    assert run(again, session).steps == 5 and not again.seen


def test_a_loss_is_read_when_it_is_told_and_not_at_every_step(tmp_path: Path) -> None:
    read: list[float] = []

    class Loss(torch.Tensor):
        """On a GPU, reading one waits for everything that was asked of it before."""

        def __float__(self) -> float:
            read.append(self.item())
            return read[-1]

    session = TrainingSession(tmp_path, lambda progress: bool(progress.metrics), every_s=1000)
    session.report(1, 25, "line", loss=torch.tensor(1.0).as_subclass(Loss))  # the first is told
    for step in range(2, 25):
        session.report(step, 25, "line", loss=torch.tensor(float(step)).as_subclass(Loss))
    session.report(25, 25, "line", loss=torch.tensor(25.0).as_subclass(Loss))
    assert read == [1.0, 10.0, 20.0, 25.0]


def test_the_rate_multiplies_that_of_each_group(tmp_path: Path) -> None:
    session = TrainingSession(tmp_path)
    trainer = Line(session)
    run(trainer, session, steps=2)
    shares = [group["lr"] for group in trainer.optimizer.param_groups]
    assert shares == [pytest.approx(1e-2 * 0.5 * 0.5), pytest.approx(1e-3 * 0.5 * 0.5)]


def test_minutes_count_over_all_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0.0, 1.0)
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=clock.__next__))
    killed = TrainingSession(tmp_path, lambda progress: progress.step < 7, every_s=0)
    with pytest.raises(Cancelled):
        run(Line(killed), killed, steps=1000, minutes=0.5)
    result = run(Line(TrainingSession(tmp_path)), TrainingSession(tmp_path), steps=1000, minutes=0.5)
    assert 20 < result.steps < 30
    assert result.seconds >= 30


def test_one_cycle_rises_from_a_25th_to_its_peak_and_falls_to_nothing() -> None:
    rates = [one_cycle(done / 100) for done in range(101)]
    assert rates[0] == pytest.approx(0.04) and max(rates) == rates[20] == 1.0
    assert rates[:21] == sorted(rates[:21]) and rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] == pytest.approx(4e-6)


def test_a_new_method_of_alignment_is_resumed_with_what_it_keeps() -> None:
    class Counting(Method):
        def __init__(self) -> None:
            self.passes, self.notes = PassCounter(), ["plain"]

        def loss(self, rng: StepRng) -> torch.Tensor:
            self.passes.forward += 1
            return torch.zeros(())

    one, other = Counting(), Counting()
    one.loss(StepRng.of(0, 1))
    other.load_state_dict(one.state_dict())
    assert one.state_dict() == {"passes": {"forward": 1, "backward": 0}}
    assert other.passes.forward == 1
