"""Are served images drawn again the same, across swaps, samplers and mixed batches? A tampered file has to be named."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.report import Figure, Report
from benchmarks.rollout.plan import MeasurementPlan
from benchmarks.swap import swap
from benchmarks.system import BenchmarkSystem, running_system
from benchmarks.truth import publish_twin
from training.evaluation.intervals import wilson
from vouch.client import Client
from vouch.errors import DataLoss
from vouch.storage.state import StateFolder
from vouch.types.samplers import SAMPLERS

AT_ONCE = 4
"""Calls side by side, so that images share batches."""


def measure(report: Report, plan: MeasurementPlan) -> None:
    """`replayed_equal` and `tampered_named`."""
    with (
        tempfile.TemporaryDirectory(prefix="vouch-replay-") as folder,
        running_system(Path(folder)) as (system, _),
        system.client() as client,
    ):
        digests = _served(system, client, plan)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(client.replay_image, digests))
        same, equal = sum(one.same for one in answers), sum(one.equal for one in answers)
        low, high = wilson(same, len(answers))
        report.add(
            "replayed_equal",
            Figure(
                same, low=low * len(answers), high=high * len(answers),
                unit=f"of {len(answers)} images, {plan.swaps} swaps",
                must=f">= {len(answers)}", aim=f">= {len(answers)}",
            ),
        )  # fmt: skip
        report.add("replayed_bit_equal", Figure(equal, unit=f"of {len(answers)} images"))
        worst = max(one.largest_difference for one in answers)
        report.add("replayed_largest_difference", Figure(worst, unit="grey levels"))
        report.add(
            "tampered_named", Figure(int(_named(system, client, digests[0])), unit="of 1 file", must=">= 1")
        )


def _served(system: BenchmarkSystem, client: Client, plan: MeasurementPlan) -> list[str]:
    """Digests of images that both versions drew, in turn, with every sampler."""
    first = client.get_serving("generator").slots[0].champion_version
    versions = (first, publish_twin(system.state, first))
    prompts = client.describe_generator().example_prompts
    digests: list[str] = []
    for number in range(plan.swaps):
        swap(client, versions[(number + 1) % 2])
        digests += _drawn(client, prompts, number, plan)
    return digests[: plan.replays]


def _drawn(client: Client, prompts: Sequence[str], number: int, plan: MeasurementPlan) -> list[str]:
    each = -(-plan.replays // plan.swaps)

    def one(row: int) -> str:
        seed, sampler = number * each + row, list(SAMPLERS)[row % len(SAMPLERS)]
        answer = client.generate_images(
            prompts[row % len(prompts)], seed=seed, steps=plan.steps + row % 3, sampler=sampler
        )
        return answer.images[0].digest

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, range(each)))


def _named(system: BenchmarkSystem, client: Client, digest: str) -> bool:
    """Change one bit of a stored image: is it named instead of being compared?"""
    path = StateFolder(system.state).blobs / digest[:2] / digest[2:]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    try:
        client.replay_image(digest)
    except DataLoss as error:
        return digest in error.message
    return False
