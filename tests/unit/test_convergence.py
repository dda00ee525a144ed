from __future__ import annotations

import gc
import threading
import weakref

import pytest

from services.convergence import Convergence, Routes, bucket
from vouch.errors import CorruptVersion, FailedPrecondition, NotFound, Unavailable
from vouch.types.serving import ReplicaReport, Serving


class FakeModel:
    def __init__(self, digest: str) -> None:
        self.digest = digest


class FakeStore:
    """A desired state to change by hand, versions to load, and the reports that came back."""

    def __init__(self) -> None:
        self.serving = Serving(slot="generator", champion="a")
        self.versions = {"a", "b", "c", "d", "e"}
        self.corrupt: set[str] = set()
        self.loads: list[str] = []
        self.reports: list[ReplicaReport] = []

    def want(self, champion: str, candidate: str = "", percent: int = 0) -> None:
        revision = self.serving.revision + 1
        self.serving = Serving(
            slot="generator", champion=champion, candidate=candidate, percent=percent, revision=revision
        )

    def load(self, digest: str) -> FakeModel:
        self.loads.append(digest)
        if digest not in self.versions:
            raise NotFound(f"version {digest} is not in this folder")
        if digest in self.corrupt:
            raise CorruptVersion(f"unet.safetensors of {digest} is not what was published")
        return FakeModel(digest)

    def convergence(self, **options) -> Convergence[FakeModel]:
        return Convergence(
            slot="generator", replica="r1", desired=lambda: self.serving,
            load=self.load, report=self.reports.append, **options,
        )  # fmt: skip


@pytest.fixture
def store():
    return FakeStore()


def test_before_the_first_version_a_request_is_told_to_come_back(store):
    with pytest.raises(Unavailable, match="still loading"):
        _ = store.convergence().routes


def test_a_replica_serves_what_the_catalog_wants_and_says_so(store):
    convergence = store.convergence()
    assert convergence.converge()
    assert convergence.routes.champion.model.digest == "a"
    assert [(r.ok, r.champion_version, r.revision) for r in store.reports] == [(True, "a", 1)]


def test_an_unchanged_desired_state_loads_nothing(store):
    convergence = store.convergence()
    convergence.converge()
    assert not convergence.converge()
    assert store.loads == ["a"]


def test_a_request_in_flight_keeps_the_table_that_it_began_with(store):
    convergence = store.convergence()
    convergence.converge()
    in_flight = convergence.routes
    store.want("b")
    convergence.converge()
    assert (in_flight.champion.digest, convergence.routes.champion.digest) == ("a", "b")


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda s: s.corrupt.add("b"), "unet.safetensors of b is not what was published"),
        (lambda s: s.versions.discard("b"), "version b is not in this folder"),
    ],
    ids=["corrupt", "missing"],
)
def test_a_version_that_does_not_load_is_reported_and_the_old_one_serves_on(store, break_it, sentence):
    convergence = store.convergence()
    convergence.converge()
    break_it(store)
    store.want("a", candidate="b", percent=5)
    assert not convergence.converge()
    assert convergence.routes.champion.digest == "a"
    assert convergence.routes.candidate is None
    last = store.reports[-1]
    assert (last.ok, last.reason, last.revision, last.champion_version) == (False, sentence, 2, "a")


def test_a_refused_state_is_not_tried_again_at_every_poll_but_when_hurried(store):
    convergence = store.convergence()
    store.corrupt.add("a")
    convergence.converge(), convergence.converge()
    assert store.loads == ["a"]
    store.corrupt.clear()
    convergence.notify()
    assert convergence.converge()


def test_swapping_to_and_fro_loads_each_version_once(store):
    convergence = store.convergence()
    for champion in "abababab":
        store.want(champion)
        convergence.converge()
    assert store.loads == ["a", "b"]


def test_versions_no_longer_wanted_leave_memory(store):
    convergence = store.convergence(keep=1)
    convergence.converge()
    gone = weakref.ref(convergence.routes.champion.model)
    for champion in "bcd":
        store.want(champion)
        convergence.converge()
    gc.collect()
    assert gone() is None


def test_a_candidate_gets_its_share_and_the_same_request_the_same_version(store):
    convergence = store.convergence()
    store.want("a", candidate="b", percent=25)
    convergence.converge()
    chosen = [convergence.routes.choose(f"request-{i}").digest for i in range(4000)]
    assert 0.22 < chosen.count("b") / len(chosen) < 0.28
    assert chosen[:50] == [convergence.routes.choose(f"request-{i}").digest for i in range(50)]


def test_whoever_had_the_candidate_at_five_percent_has_it_at_twenty_five():
    ids = [f"request-{i}" for i in range(1000)]
    assert {i for i in ids if bucket(i) < 5} <= {i for i in ids if bucket(i) < 25}


def test_any_version_can_be_asked_for_by_digest(store):
    convergence = store.convergence()
    convergence.converge()
    assert convergence.version("a") is convergence.routes.champion
    assert convergence.version("c").model.digest == "c"
    with pytest.raises(NotFound):
        convergence.version("nowhere")


def test_an_unreadable_catalog_changes_nothing(store):
    def broken() -> Serving:
        raise OSError("disk went away")

    convergence = Convergence(
        slot="generator", replica="r1", desired=broken, load=store.load, report=store.reports.append
    )
    assert not convergence.converge()


def test_the_background_thread_converges_when_hurried(store):
    swapped = threading.Event()
    seen: list[Routes] = []

    def on_swap(routes: Routes) -> None:
        seen.append(routes)
        swapped.set()

    convergence = store.convergence(poll_s=60, on_swap=on_swap)
    convergence.start()
    assert swapped.wait(20)
    swapped.clear()
    store.want("b")
    convergence.notify()
    assert swapped.wait(20)
    convergence.stop()
    assert [routes.champion.digest for routes in seen] == ["a", "b"]


def test_a_replica_repeats_its_report_as_a_sign_of_life(store):
    convergence = store.convergence(heartbeat_s=0.0)
    convergence.converge(), convergence.converge()
    assert [report.revision for report in store.reports] == [1, 1]


def test_a_replica_that_starts_beside_a_corrupt_candidate_serves_the_champion(store):
    convergence = store.convergence()
    store.corrupt.add("b")
    store.want("a", candidate="b", percent=5)
    assert convergence.converge()
    assert (convergence.routes.champion.digest, convergence.routes.candidate) == ("a", None)
    assert not store.reports[-1].ok


def test_a_replica_with_nothing_that_loads_says_why_and_that_waiting_does_not_help(store):
    convergence = store.convergence()
    store.corrupt.add("a")
    convergence.converge()
    with pytest.raises(FailedPrecondition, match="unet.safetensors of a is not what was published"):
        _ = convergence.routes


def test_a_replica_that_ran_out_of_memory_asks_to_be_tried_again(store):
    def load(digest: str) -> FakeModel:
        raise MemoryError("no room for the unet")

    store.load = load
    convergence = store.convergence()
    convergence.converge()
    with pytest.raises(Unavailable, match="no room for the unet"):
        _ = convergence.routes


def test_a_load_that_fails_for_now_refuses_nothing_and_is_tried_again(store):
    convergence = store.convergence(retry_s=0.0)
    convergence.converge()
    convergence._load = _unavailable
    store.want("a", candidate="b", percent=5)
    convergence.converge()
    last = store.reports[-1]
    assert (last.ok, last.revision, last.reason) == (False, 1, "the catalog does not answer")
    convergence._load = store.load
    assert convergence.converge()
    assert (store.reports[-1].ok, store.reports[-1].revision) == (True, 2)


def _unavailable(digest: str) -> FakeModel:
    raise Unavailable("the catalog does not answer")


def test_a_roll_back_to_a_version_in_memory_waits_for_no_load(store):
    loading, goes_on = threading.Event(), threading.Event()

    def load(digest: str) -> FakeModel:
        if digest == "c":
            loading.set()
            assert goes_on.wait(20)
        return FakeModel(digest)

    store.load = load
    convergence = store.convergence()
    store.want("a", candidate="b", percent=5)
    convergence.converge()
    pinned = threading.Thread(target=convergence.version, args=("c",))
    pinned.start()
    assert loading.wait(20)
    store.want("a")
    back = threading.Thread(target=convergence.converge)
    back.start()
    back.join(20)
    assert not back.is_alive()
    assert convergence.routes.candidate is None
    assert convergence.version("b").model.digest == "b", "nor does a pinned version in memory"
    goes_on.set()
    pinned.join(20)
