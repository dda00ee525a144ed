"""Several workers of one job: every loop that they share moves all of them by the mean of their gradients."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.tiny import SIZE, VOCABULARY, save_generator, save_reward
from tests.together import Pair
from tests.unit.test_reward_training import SMALL, rated_folder
from training.jobs.kinds import LOOPS, SHARED
from training.loop.progress import TrainingProgress
from training.loop.session import TrainingSession
from training.loop.worker_group import WorkerGroup
from vouch.errors import Cancelled
from vouch.formats import images as codec


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Pair() as two:
        yield two


@pytest.mark.parametrize(("batch", "size"), [(24, 1), (24, 2), (25, 2), (24, 5), (3, 3)])
def test_the_shares_of_a_batch_are_the_batch(batch: int, size: int) -> None:
    shares = [WorkerGroup(rank, size).batch_share(batch) for rank in range(size)]
    assert sum(shares) == batch
    assert max(shares) - min(shares) <= 1


def test_nobody_is_left_without_work() -> None:
    assert [WorkerGroup(rank, 3).batch_share(1) for rank in range(3)] == [1, 1, 1]


def test_rank_zero_draws_what_one_worker_alone_would_and_the_others_something_else() -> None:
    assert WorkerGroup(0, 3).rank_seed(7) == WorkerGroup().rank_seed(7)
    assert len({WorkerGroup(rank, 3).rank_seed(7) for rank in range(3)}) == 3


def gradient_of(group: WorkerGroup) -> tuple[list[float], list[float]]:
    torch.manual_seed(group.rank)
    weights = torch.nn.Parameter(torch.randn(3))
    frozen = torch.nn.Parameter(torch.ones(1), requires_grad=False)
    unused, only_first = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    group.broadcast_parameters([weights])
    rows = torch.arange(12.0).view(4, 3).chunk(group.size)[group.rank]
    (rows @ weights).pow(2).mean().backward()
    if group.is_rank_zero:
        only_first.sum().backward()
    group.all_reduce_gradients([weights, unused, frozen, only_first])
    assert weights.grad is not None and only_first.grad is not None
    assert unused.grad is None and frozen.grad is None
    return weights.grad.tolist(), only_first.grad.tolist()


def test_two_halves_of_a_batch_have_the_gradient_of_the_whole(pair: Pair) -> None:
    whole, _ = gradient_of(WorkerGroup())
    for gradient, only_first in pair(gradient_of):
        np.testing.assert_allclose(gradient, whole, rtol=1e-5)
        assert only_first == [0.5, 0.5]


def broadcast_answers(group: WorkerGroup) -> list[bool]:
    return [group.broadcast_scalar(answer == group.is_rank_zero) for answer in (True, False)]


def test_all_get_the_scalar_of_rank_zero(pair: Pair) -> None:
    assert pair(broadcast_answers) == [[True, False], [True, False]]


# ---- the loops


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random generator and reward, rated images, and labelled cells with a sub-type."""
    root = tmp_path_factory.mktemp("group")
    save_generator(root / "base", seed=0)
    save_reward(root / "reward", seed=0)
    rng = np.random.default_rng(0)
    cells = [
        {
            "image": codec.encode_png(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)),
            "label": VOCABULARY.labels[number % len(VOCABULARY.labels)],
            "cell_size": "big",
            "subtype": "bright" if number % 2 else "dark",
        }
        for number in range(40)
    ]
    pq.write_table(pa.Table.from_pylist(cells), root / "cells.parquet")
    return root


def asked(kind: str, world: Path, folder: Path) -> dict[str, Any]:
    """Settings of two small steps."""
    cells, small = str(world / "cells.parquet"), {"threads": 1, "steps": 2, "out": str(folder / "out")}
    trained = {**small, "base": str(world / "base"), "reward": str(world / "reward"), "rank": 2}
    return {
        "pretrain": {
            **small, "data": cells, "vae_steps": 2, "vae_batch": 4, "vae_crop": 16, "vae_channels": (16, 16),
            "views": 1, "batch": 4, "channels": (32, 32), "text_width": 16, "text_layers": 1,
        },
        "reward": {**small, **SMALL, "data": cells},
        "align": {**trained, "batch": 4, "validation": {"every": 1, "images": 2}, "draft": {"sample_steps": 2}},
        "concept": {
            **trained, "concept": "bright cell", "kind_of": VOCABULARY.labels[0], "data": cells, "column": "subtype",
            "practice_steps": 2, "practice_gradient_steps": 1, "tutor_steps": 10,
            "value": "bright", "batch": 6, "least": 2,
        },
        "adapt": {**small, "base": str(world / "base"), "data": cells, "rank": 2, "batch": 4, "keep_vae": True},
    }[kind]  # fmt: skip


_average = WorkerGroup.all_reduce_gradients
CLOCK = "training.loop.budget"
"""The module that looks at the clock for every loop."""


class Learned(NamedTuple):
    """The figures of a loop; at every step how large this worker's own gradient was, and the weights."""

    figures: dict[str, float]
    gradients: list[float]
    weights: list[float]


def learn(
    group: WorkerGroup,
    kind: str,
    settings: dict[str, Any],
    folder: Path,
    clocks: tuple[float, float] | None = None,
) -> Learned:
    """clocks: by how many seconds each worker's own clock moves on whenever it is looked at."""
    gradients: list[float] = []
    weights: list[float] = []

    def watched(group: WorkerGroup, parameters: Any) -> None:
        parameters = list(parameters)
        gradients.append(size_of(p.grad for p in parameters))
        weights.append(size_of(parameters))
        _average(group, parameters)

    config, fit = LOOPS[kind]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorkerGroup, "all_reduce_gradients", watched)
        if clocks:
            ticks = itertools.count(0.0, clocks[group.rank])
            module = sys.modules[CLOCK]
            patch.setattr(module, "time", SimpleNamespace(monotonic=ticks.__next__))
        figures = fit(config.model_validate(settings), TrainingSession(folder, group=group))
    return Learned(figures, gradients, weights)


def size_of(tensors: Iterable[torch.Tensor | None]) -> float:
    return float(sum(tensor.detach().abs().double().sum() for tensor in tensors if tensor is not None))


@pytest.mark.parametrize("kind", SHARED)
def test_workers_of_every_shared_loop_learn_from_different_images_and_stay_alike(
    kind: str, pair: Pair, world: Path, tmp_path: Path
) -> None:
    folder = rated_folder(tmp_path / "run")
    first, other = pair(learn, kind, asked(kind, world, tmp_path), folder)
    assert first.figures and not other.figures  # rank zero saves and measures
    assert (tmp_path / "out").is_dir()
    assert len(set(first.weights)) >= 2
    assert first.weights == other.weights
    assert all(ours != theirs for ours, theirs in zip(first.gradients, other.gradients, strict=True))


@pytest.mark.parametrize("kind", ["pretrain", "align", "concept"])
def test_workers_whose_clocks_differ_stop_together_and_stay_alike(
    kind: str, pair: Pair, world: Path, tmp_path: Path
) -> None:
    settings = asked(kind, world, tmp_path) | {"steps": 1000, "minutes": 0.02}
    clocks = (0.1, 0.13)
    first, other = pair(learn, kind, settings, rated_folder(tmp_path / "run"), clocks)
    assert 3 <= len(first.weights) < 50
    assert first.weights == other.weights


def leave_early(group: WorkerGroup, settings: dict[str, Any], folder: Path) -> str:
    def stop(progress: TrainingProgress) -> bool:
        return False

    config, fit = LOOPS["reward"]
    try:
        fit(
            config.model_validate(settings),
            TrainingSession(folder, stop if group.is_rank_zero else None, every_s=0, group=group),
        )
    except Cancelled as error:
        return error.message
    return "went on to the end"


def test_when_rank_zero_is_told_to_stop_all_stop(pair: Pair, world: Path, tmp_path: Path) -> None:
    folder = rated_folder(tmp_path / "run")
    said = pair(leave_early, asked("reward", world, tmp_path), folder)
    assert said == ["The run was cancelled at step 1 of 2."] * 2
