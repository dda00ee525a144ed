"""One update of weights from a loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from training.loop.worker_group import WorkerGroup


def gradient_step(
    loss: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    group: WorkerGroup,
    limit: float = 1.0,
    clipped: Sequence[nn.Parameter] | None = None,
) -> None:
    """Takes the gradient of `loss` and applies it as `apply_gradients` does."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    apply_gradients(optimizer, parameters, group, limit, clipped)


def apply_gradients(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    group: WorkerGroup,
    limit: float = 1.0,
    clipped: Sequence[nn.Parameter] | None = None,
) -> None:
    """Averages the gradients of `parameters` over all workers, clips the norm of those of `clipped` (default: of all)
    at `limit`, and moves the weights."""
    group.all_reduce_gradients(parameters)
    nn.utils.clip_grad_norm_(parameters if clipped is None else clipped, limit)
    optimizer.step()
