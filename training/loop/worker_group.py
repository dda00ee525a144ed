"""The workers of one job: data-parallel training.

Each learns from its own share of every batch. All move by the mean of their gradients, so their weights stay equal.
Rank zero keeps checkpoints, reports, and decides when to stop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True)
class WorkerGroup:
    """This worker among `size` workers. Of one worker alone nothing is exchanged."""

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> WorkerGroup:
        """As PyTorch's process group says, which Ray Train makes; alone without one."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def is_rank_zero(self) -> bool:
        return self.rank == 0

    def batch_share(self, batch: int) -> int:
        """Rows of a batch that are this worker's, at least one."""
        return max(1, batch * (self.rank + 1) // self.size - batch * self.rank // self.size)

    def rank_seed(self, seed: int) -> object:
        """The seed of this worker's random numbers. Rank zero draws what one worker alone would."""
        return f"{seed}/{self.rank}" if self.rank else seed

    @torch.no_grad()
    def broadcast_parameters(self, parameters: Iterable[torch.Tensor]) -> None:
        """Gives every worker the values of rank zero."""
        if self.size > 1:
            for parameter in parameters:
                values = parameter.data.to(_meeting())
                distributed.broadcast(values, 0)
                parameter.data.copy_(values)

    @torch.no_grad()
    def all_reduce_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Puts the mean of all workers' gradients in place of this worker's own. Who has none counts as zero; where
        nobody has one there is none."""
        if self.size == 1:
            return
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
        has = torch.tensor([float(p.grad is not None) for p in learning], device=_meeting())
        flat = torch.cat(
            [has, *(gradient.flatten().to(has.device) for gradient in gradients)]
        )  # one message, not hundreds
        distributed.all_reduce(flat)
        has, *means = flat.split([len(learning), *(gradient.numel() for gradient in gradients)])
        for parameter, anyone, mean in zip(learning, has.tolist(), means, strict=True):
            here = (mean / self.size).view_as(parameter).to(parameter.device)
            parameter.grad = here if anyone else None

    def any(self, truth: bool) -> bool:
        """Whether it is true of any worker. Every worker has to call it as often as the others."""
        if self.size == 1:
            return truth
        answer = torch.tensor([float(truth)], device=_meeting())
        distributed.all_reduce(answer, distributed.ReduceOp.MAX)
        return bool(answer.item())

    def broadcast_scalar(self, value: float) -> float:
        """The value of rank zero, a number or a truth value. Every worker has to call it as often as the others."""
        if self.size == 1:
            return value
        answer = torch.tensor([float(value)], dtype=torch.float64, device=_meeting())
        distributed.broadcast(answer, 0)
        return float(answer.item())


def _meeting() -> str:
    """Where tensors have to be to be exchanged."""
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"
