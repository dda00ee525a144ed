"""The candidate beside the champion: what one of them served is drawn again by the other, and a judge compares. No Ray.

Pairs are the newest served images, so a machine that is too slow for all of them compares a part, chosen by when it was
drawn and by nothing else. Drawing, judging and counting run on a thread of their own: a roll-back never waits for them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from services.convergence import TEMPORARY
from services.generation.sides import COMPARISON
from services.rollout.analysis import Events, PairCounts
from services.rollout.evidence import Evidence
from services.rollout.experts import expert_pairs
from vouch.errors import DataLoss, NotFound
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.types.generation import GeneratedImage, GenerationRequest
from vouch.types.image import ImageRecord
from vouch.types.rollout import Rollout
from vouch.types.samplers import parse_name

log = logging.getLogger("vouch.rollout")

Outcome = Literal["worse", "better", "tie"]
"""Of the candidate in one pair; of a statistic "worse" is up and "better" is down."""
SLOT = "generator"
AT_ONCE = 4
PAUSE_S = 1.0


class JudgePort(Protocol):
    """The independent judge, as the comparison sees it."""

    def compare(self, prompt: str, champion: bytes, candidate: bytes) -> Mapping[str, Outcome]:
        """The outcome of each metric for two encoded images of one prompt and seed; none where it cannot judge them."""
        ...


class CounterPort(Protocol):
    """Counts errors and slow requests of both sides since the rollout began."""

    def events(self, rollout: Rollout) -> Mapping[str, tuple[Events, ...]]: ...

    def notes(self) -> dict[str, object]:
        """What its successor goes on from."""
        ...


Draw = Callable[[GenerationRequest], Sequence[GeneratedImage]]


class Comparison:
    """Collects the evidence of the active generator rollout. judge: None where none knows this kind of image."""

    def __init__(
        self,
        catalog: Catalog,
        blobs: BlobStore,
        draw: Draw,
        judge: JudgePort | None,
        counter: CounterPort | None = None,
    ) -> None:
        self._catalog, self._blobs, self._draw, self._judge = catalog, blobs, draw, judge
        self._counter = counter
        self._lock = threading.Lock()
        self._rollout = ""
        self._evidence, self._cursor = Evidence(), 0
        self._ratings = 0  # sequence number of the last rating before the rollout
        self._stop = threading.Event()

    # ---- the RolloutObserver of the controller

    def evidence(self, rollout: Rollout) -> Evidence:
        if rollout.slot != SLOT:  # nothing of a reward model is compared: it is promoted by an operator
            return Evidence()
        with self._lock:
            self._adopt(rollout)
            counted, ratings = self._evidence, self._ratings
        experts = expert_pairs(self._catalog, rollout, ratings)
        pairs = dict(counted.pairs) | ({"experts": experts} if experts.total else {})
        events = self._counter.events(rollout) if self._counter else counted.events
        return Evidence(pairs=pairs, events=events)

    def notes(self) -> dict[str, object]:
        counter = self._counter.notes() if self._counter else {}
        with self._lock:
            return {"cursor": self._cursor, "ratings": self._ratings, **counter}

    # ---- the background

    def start(self) -> None:
        if self._judge is not None:
            threading.Thread(target=self._run, name="comparison", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_S):
            try:
                while not self._stop.is_set() and self.compare_some():
                    pass
            except Exception as error:  # noqa: BLE001 - nothing is proven meanwhile, and that holds the rollout
                log.warning("the candidate could not be compared: %s", error)

    def compare_some(self) -> int:
        """Compare up to AT_ONCE of the newest images that were not compared yet; answers how many."""
        rollout, judge = self._catalog.rollouts.active(SLOT), self._judge
        if judge is None or rollout is None or rollout.plan is None or not rollout.plan.automatic:
            return 0
        with self._lock:
            self._adopt(rollout)
            cursor = self._cursor
        versions = (rollout.previous_version, rollout.version)
        images = self._catalog.images.newest_generated(after=cursor, versions=versions, limit=AT_ONCE)
        for number, record in images:
            outcomes = self._compared(rollout, record, judge)
            with self._lock:
                if self._rollout == rollout.rollout_id:
                    self._evidence = self._evidence.plus(counted(outcomes))
                    self._cursor = number
        return len(images)

    def _adopt(self, rollout: Rollout) -> None:
        """Go on with what the record holds of this rollout. Called with the lock held."""
        if self._rollout == rollout.rollout_id:
            return
        kept = dict(rollout.plan.evidence) if rollout.plan else {}
        evidence = Evidence.from_json(kept)
        without = {name: pairs for name, pairs in evidence.pairs.items() if name != "experts"}
        self._rollout, self._evidence = rollout.rollout_id, Evidence(pairs=without, events=evidence.events)
        # Sequence numbers and no times: the day's clock may be set in the middle of a rollout.
        self._cursor = int(kept.get("cursor", self._catalog.images.newest_seq()))
        self._ratings = int(kept.get("ratings", self._catalog.ratings.newest_seq()))

    def _compared(self, rollout: Rollout, record: ImageRecord, judge: JudgePort) -> Mapping[str, Outcome]:
        """Empty for an image that is lost. A version that alone cannot draw what the other served loses the pair."""
        by_champion = record.generator_version == rollout.previous_version
        try:
            served = self._blobs.get(record.digest)
        except (NotFound, DataLoss) as error:
            log.warning("an image cannot be compared: %s", error)
            return {}
        drawn = self._drawn_by(rollout.version if by_champion else rollout.previous_version, record)
        if drawn is None:
            return dict.fromkeys(("plausible", "errors"), "worse" if by_champion else "better")
        champion, candidate = (served, drawn) if by_champion else (drawn, served)
        return {"errors": "tie", **judge.compare(record.prompt, champion, candidate)}

    def _drawn_by(self, version: str, record: ImageRecord) -> bytes | None:
        """The image as `version` draws it; None where it fails twice and the version that served it draws in between.

        Raises what drawing raises where that is no fault of `version`.
        """
        try:
            return self._drawn(version, record)
        except TEMPORARY:
            raise
        except Exception:  # noqa: BLE001 - whose fault it is, the other version shows
            self._drawn(record.generator_version, record)
        try:
            return self._drawn(version, record)
        except TEMPORARY:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this version's
            log.warning("%s cannot draw image %s: %s", version[:12], record.digest[:12], error)
            return None

    def _drawn(self, version: str, record: ImageRecord) -> bytes:
        return self._draw(replay_request(record, version))[0].data


def counted(outcomes: Mapping[str, Outcome]) -> dict[str, PairCounts]:
    """One pair by metric."""
    return {
        name: PairCounts(int(outcome == "worse"), int(outcome == "better"), int(outcome == "tie"))
        for name, outcome in outcomes.items()
    }


def replay_request(record: ImageRecord, version: str) -> GenerationRequest:
    """The request that draws an image again by its record, with the given version."""
    assert record.seed is not None
    sampler, eta = parse_name(record.sampler)
    return GenerationRequest(
        request_id=f"again-{record.digest[:32]}",
        prompt=record.prompt,
        seeds=(record.seed,),
        steps=record.steps,
        guidance=record.guidance,
        version=version,
        client=COMPARISON,
        sampler=sampler,
        eta=eta,
        guidance_method=record.guidance_method,
        guidance_start=record.guidance_start,
        guidance_stop=record.guidance_stop,
        negative_prompt=record.negative_prompt,
        adapter_start=record.adapter_start,
        score=False,
    )
