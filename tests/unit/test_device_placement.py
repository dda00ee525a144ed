"""Networks on a GPU: what goes in is moved there, what comes out is moved back, and gradients pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.loop.device_placement import device_of, place_on_device

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


class Nosy(nn.Module):
    """Remembers where it was given what."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.seen: list[str] = []

    def forward(self, x: torch.Tensor, more: dict[str, torch.Tensor]) -> torch.Tensor:
        self.seen += [x.device.type, more["text"].device.type]
        return torch.ones(2)


def test_what_is_given_to_a_network_is_brought_to_its_weights() -> None:
    network = Nosy()
    place_on_device([network, None], "meta")  # the one other device that every machine has
    network(torch.ones(2), more={"text": torch.ones(1)})
    assert network.seen == ["meta", "meta"]


def test_on_the_cpu_nothing_happens() -> None:
    network = Nosy()
    place_on_device([network], "cpu")
    network(torch.ones(2), more={"text": torch.ones(1)})
    assert network.seen == ["cpu", "cpu"]
    assert not network._forward_hooks and not network._forward_pre_hooks


def test_a_network_without_weights_is_on_the_cpu() -> None:
    assert device_of(nn.ReLU()) == torch.device("cpu")


@gpu
def test_it_computes_there_and_says_it_here() -> None:
    network = nn.Linear(2, 2)
    said_here = network(torch.ones(1, 2))
    place_on_device([network], "cuda")
    x = torch.ones(1, 2, requires_grad=True)
    said = network(x)
    said.sum().backward()
    assert (said.device.type, device_of(network).type) == ("cpu", "cuda")
    assert x.grad is not None and x.grad.device.type == "cpu"
    assert torch.allclose(said, said_here, atol=1e-5)
    network.cpu()
    assert torch.equal(network(torch.ones(1, 2)), said_here)
