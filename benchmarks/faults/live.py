"""Faults of a running system: what callers of the client see, and how soon it serves again."""

from __future__ import annotations

import hashlib
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import vouch
from benchmarks import field_faults
from benchmarks.field_faults import Up, running
from benchmarks.load import ConstantLoad, Order, Sample, saturated_s
from benchmarks.report import Figure, Report
from benchmarks.swap import SLOT, swap
from benchmarks.truth import publish_twin
from services.processes import marked
from vouch.client import Client
from vouch.errors import VouchError
from vouch.storage.catalog import Catalog
from vouch.storage.state import StateFolder
from vouch.types.rating import NewRating
from vouch.types.serving import ServingSlot

UTILISATION = 0.6
STEPS = 4
SURVIVED = ("gateway", "serve controller", "haproxy", "operations")
"""What Serve replaces, of `field_faults`; the jobs service is the operations deployment."""
REPEATED = 60
"""Finished requests that are asked once more."""
KILL_EVERY_S, LEFT_AFTER_S = 10.0, 10.0
PROMPTS = ("neutrophil", "monocyte", "eosinophil")


@contextmanager
def system(**settings: str) -> Iterator[Up]:
    with (
        tempfile.TemporaryDirectory(prefix="vouch-live-") as folder,
        running(Path(folder) / "state", **settings) as up,
    ):
        yield up


def orders(name: str, count: int = 20_000) -> list[Order]:
    """Each with a request id and a seed of its own."""
    return [
        Order(PROMPTS[n % len(PROMPTS)], 10_000 + n, STEPS, request_id=f"{name}-{n}") for n in range(count)
    ]


def _pace(up: Up, utilisation: float) -> float:
    """Seconds between two requests at this share of what the system can answer."""
    return saturated_s(up.state, [replace(one, request_id="") for one in orders("pace", 200)]) / utilisation


# ---- replicas


def replicas(report: Report, seconds: float, utilisation: float = UTILISATION) -> None:
    """A generation replica of two is killed every 10 seconds under load: `client_failures`, `duplicate_draws`."""
    with system(VOUCH_GENERATION__REPLICAS="2") as up:
        every_s, kills = _pace(up, utilisation), 0
        with ConstantLoad(up.state, orders("kill"), every_s=every_s) as load:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                time.sleep(KILL_EVERY_S)
                kills += _kill_one(up)
        samples = load.samples
        failed, duplicates = [one for one in samples if one.error], _duplicates(up, samples)
    for one in failed[:10]:
        print(one.error)
    unit = f"of {len(samples)} calls at {utilisation:.0%} load; {kills} replicas killed in {seconds:.0f} s"
    report.add("client_failures", Figure(len(failed), unit=unit, must="<= 0", aim="<= 0"))
    report.add(
        "duplicate_draws",
        Figure(duplicates, unit=f"of {REPEATED} requests asked again", must="<= 0", aim="<= 0"),
    )
    slowest = max((one.seconds for one in samples), default=None)
    report.add("slowest_while_killing", Figure(slowest, unit="s"))


def _kill_one(up: Up) -> bool:
    try:
        up.find("ray::ServeReplica:vouch:generation").kill()
    except LookupError:  # both are being replaced
        return False
    return True


def _duplicates(up: Up, samples: Sequence[Sample]) -> int:
    """Requests that were drawn twice: they have two images, or a repeat gets another one."""
    done = [one for one in samples if not one.error]
    chosen = random.Random(0).sample(done, min(REPEATED, len(done)))
    found = 0
    with vouch.connect(state=up.state, role="client") as client, _catalog(up) as catalog:
        for one in chosen:
            order = one.order
            again = client.generate_images(
                order.prompt, seed=order.seed, steps=order.steps, score=False, request_id=order.request_id
            )
            stored = catalog.images.list(request_id=order.request_id).items
            same = again.images[0].digest == hashlib.sha256(one.data).hexdigest()
            found += not same or len(stored) != 1
    return found


def _catalog(up: Up) -> Catalog:
    return Catalog(StateFolder(up.state).catalog_url)


# ---- one process after the other


def turns(report: Report, repeats: int) -> None:
    """Gateway, Serve's controller, HAProxy and the jobs service killed in turn, then the raylet, which ends the system:
    `recovery_s_max`."""
    kinds = {name: field_faults.SURVIVED[name] for name in SURVIVED}
    with tempfile.TemporaryDirectory(prefix="vouch-live-") as folder:
        seen = field_faults.kills(Path(folder), repeats, kinds)
    for kind, came_to in seen["kills"].items():
        print(f"{kind}: {came_to}")
        report.add(
            f"recovery_s, {kind}",
            Figure(max(came_to["recovery_s"].values()), unit="s, slowest of seven calls"),
        )
    raylet_s, same = _after_raylet()
    report.add("recovery_s, raylet", Figure(raylet_s, unit="s, started again at once by a supervisor"))
    slowest = max(seen["kill_recovery_s_max"], raylet_s)
    report.add("recovery_s_max", Figure(slowest, unit="s, with the raylet", must="<= 10", aim="<= 3"))
    report.add(
        "recovery_s_max_of_replaced", Figure(seen["kill_recovery_s_max"], unit="s, without the raylet")
    )
    unit = f"of {seen['kill_calls']} calls while processes are killed in turn"
    report.add("client_failures_in_turns", Figure(seen["kill_failures_seen"], unit=unit, must="<= 0"))
    report.add("other_version_after", Figure(not same, unit="after a raylet that was killed", must="<= 0"))


def _after_raylet() -> tuple[float, bool]:
    """Seconds from the raylet's death to the first image of the system that a supervisor starts at once, and whether
    the same version serves."""
    with tempfile.TemporaryDirectory(prefix="vouch-live-") as folder:
        state = Path(folder) / "state"
        with running(state) as up:
            with vouch.connect(state=state) as client:
                before = _champion(client)
            up.find(field_faults.FATAL["raylet"]).kill()
            killed = time.monotonic()
            up.wait(60)
        with running(state), vouch.connect(state=state) as client:
            client.generate_images(PROMPTS[0], steps=1)
            return time.monotonic() - killed, _champion(client) == before


def _champion(client: Client) -> str:
    return client.get_serving(SLOT).slots[0].champion_version


# ---- the system's own process


def orphans(report: Report) -> None:
    """`vouch up` gets SIGKILL: `orphans_after_kill`, and the next start serves."""
    with tempfile.TemporaryDirectory(prefix="vouch-live-") as folder:
        state = Path(folder) / "state"
        with running(state) as up:
            mark = up.mark
            up.process.send_signal(signal.SIGKILL)
            time.sleep(LEFT_AFTER_S)
            left = [one.as_dict(["pid", "cmdline"]) for one in marked(mark)]
        print("left:", left)
        with running(state), vouch.connect(state=state) as client:
            served = len(client.generate_images(PROMPTS[0], steps=1).images)
    report.add("orphans_after_kill", Figure(len(left), unit="processes after 10 s", must="<= 0", aim="<= 0"))
    report.add("served_after_kill", Figure(served, unit="image of the next start", must=">= 1"))


# ---- rollback


def rollback(report: Report, repeats: int) -> None:
    """From the decision to the last replica that serves the old version again: `rollback_s`."""
    with system() as up, vouch.connect(state=up.state) as client:
        first = _champion(client)
        twin = publish_twin(up.state, first)
        swap(client, twin)
        swap(client, first)  # both have been loaded once
        taken = [_rolled_back(client, twin, first) for _ in range(repeats)]
    report.add("rollback_s", Figure(max(taken), unit=f"s, slowest of {repeats}", must="<= 2", aim="<= 1"))


def _rolled_back(client: Client, twin: str, first: str) -> float:
    rollout = client.start_rollout(twin, percent=50, force=True, reason="a drill")
    _wait_for(client, lambda slot: slot.converged)
    began = time.monotonic()
    client.roll_back_rollout(rollout.rollout_id, reason="a drill")
    _wait_for(
        client,
        lambda slot: slot.converged and slot.candidate_version == "" and slot.champion_version == first,
    )
    return time.monotonic() - began


def _wait_for(client: Client, what: Callable[[ServingSlot], bool], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not what(client.get_serving(SLOT).slots[0]):
        if time.monotonic() > deadline:
            raise RuntimeError("the replicas do not follow")
        time.sleep(0.02)


# ---- ratings


def rate(client: Client, image: str, request: str) -> bool:
    """Whether it was acknowledged."""
    rating = NewRating(request_id=request, image=image, rater="operator", kind="human", verdict="plausible")
    try:
        client.record_rating(rating)
    except VouchError as error:
        print("not rated:", type(error).__name__, str(error)[:160])
        return False
    return True
