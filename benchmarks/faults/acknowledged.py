"""What a system has acknowledged, and whether it is still there: durability, and the order of each key."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.faults.parts import CHAMPION, FIRST_STEP, SLOT, Answer, digest_of
from services.rollout.policy import next_percent
from vouch.errors import VouchError
from vouch.settings import Settings
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.check import check
from vouch.storage.registry import Registry
from vouch.types.page import every
from vouch.types.rating import Rating


@dataclass
class Course:
    """One rollout, as it was acknowledged. version, previous: digests."""

    rollout: str
    version: str
    previous: str
    events: list[tuple[str, int]] = field(default_factory=list)  # action, percent

    @property
    def state(self) -> str:
        action, percent = self.events[-1]
        return "ROLLED_BACK" if action == "roll_back" else "COMPLETED" if percent == 100 else "ACTIVE"


class Acknowledged:
    """Notes each acknowledgement once. `violations` answers with sentences; none means that all is well."""

    def __init__(self, champion: str) -> None:
        self.images: list[int] = []
        self.ratings: dict[str, tuple[str, int, str]] = {}  # request: id, image, verdict
        self.refused: set[str] = set()  # requests
        self.models: dict[int, str] = {}
        self.evidence: dict[int, set[int]] = {}  # one value, or those that it may be
        self.champion, self.courses = champion, list[Course]()
        self.perhaps: tuple[str, int] | None = None
        """A move of the last course that may have been made before a fault, and was not acknowledged."""

    @property
    def active(self) -> Course | None:
        return next((one for one in self.courses[-1:] if one.state == "ACTIVE"), None)

    @property
    def moves(self) -> int:
        return sum(len(course.events) for course in self.courses)

    def note(self, name: str, arguments: dict[str, Any], answer: Answer) -> list[str]:
        """One answer to one request. The violations that the answer itself shows."""
        if "broke" in answer:
            return [f"{name} broke: {answer['broke']}"]
        if "refused" in answer:
            if name == "rate" and arguments["request"] not in self.ratings:
                self.refused.add(arguments["request"])
            return []
        noter = getattr(self, f"_note_{name}", None)
        return list(noter(arguments, answer) or []) if noter else []

    def may_be(self, number: int, value: int) -> None:
        """This evidence is about to be written: until it is acknowledged either is right."""
        self.evidence.setdefault(number, {0}).add(value)

    def violations(self, settings: Settings) -> list[str]:
        """Compare with what the state folder holds now."""
        try:
            with Catalog(settings.resolved_catalog_url) as catalog:
                registry = Registry(catalog, settings.folder.models)
                blobs = BlobStore(settings.resolved_blobs_url)
                return [
                    *(f"check: {one}" for one in check(catalog, blobs, registry).problems),
                    *self._of_images(catalog, blobs),
                    *self._of_ratings(catalog),
                    *self._of_models(registry),
                    *self._of_moves(catalog),
                ]
        except VouchError as error:
            return [f"the state cannot be read: {error.message}"]

    def settle(self, settings: Settings) -> None:
        """Whether the move that may have been made was made."""
        perhaps, self.perhaps = self.perhaps, None
        if perhaps is None or self.active is None:
            return
        with Catalog(settings.resolved_catalog_url) as catalog:
            if _events(catalog).get(self.active.rollout) == [*self.active.events, perhaps]:
                self._move(*perhaps)

    # ---- answers

    def _note_image(self, arguments: dict[str, Any], answer: Answer) -> None:
        if arguments["number"] not in self.images:
            self.images.append(arguments["number"])

    def _note_rate(self, arguments: dict[str, Any], answer: Answer) -> list[str]:
        request = arguments["request"]
        said = (answer["id"], arguments["number"], arguments["verdict"])
        known = self.ratings.setdefault(request, said)
        self.refused.discard(request)
        if known[1:] != said[1:]:
            return [f"request {request} was taken a second time, for another rating"]
        if known[0] != said[0]:
            return [f"request {request} was answered with two ratings"]
        return []

    def _note_publish(self, arguments: dict[str, Any], answer: Answer) -> list[str]:
        number, digest = arguments["number"], answer["digest"]
        if self.models.setdefault(number, digest) != digest:
            return [f"model-{number} was published as two versions"]
        self.evidence.setdefault(number, {0})
        return []

    def _note_evidence(self, arguments: dict[str, Any], answer: Answer) -> None:
        self.evidence[arguments["number"]] = {arguments["value"]}

    def _note_start(self, arguments: dict[str, Any], answer: Answer) -> list[str]:
        if self.active is not None:
            return ["a second rollout was started beside the first"]
        version = self.models[arguments["number"]]
        course = Course(answer["rollout"], version, self.champion, [("start", FIRST_STEP)])
        self.courses.append(course)
        return []

    def _note_promote(self, arguments: dict[str, Any], answer: Answer) -> list[str]:
        course = self.courses[-1]
        if course.rollout != arguments["rollout"] or course.state != "ACTIVE":
            return [f"{arguments['rollout']} was promoted and is not under way"]
        self._move("promote", next_percent(course.events[-1][1]))
        return []

    def _note_roll_back(self, arguments: dict[str, Any], answer: Answer) -> list[str]:
        if self.courses[-1].rollout != arguments["rollout"] or self.courses[-1].state == "ROLLED_BACK":
            return [f"{arguments['rollout']} was rolled back and was not under way"]
        self._move("roll_back", 0)
        return []

    def _note_step(self, arguments: dict[str, Any], answer: Answer) -> list[str]:
        if answer["moved"] and self.active is None:
            return ["the controller rolled back what was not under way"]
        if answer["moved"]:
            self._move("roll_back", 0)
        return []

    def _move(self, action: str, percent: int) -> None:
        course = self.courses[-1]
        course.events.append((action, percent))
        self.champion = course.version if course.state == "COMPLETED" else course.previous

    # ---- the state

    def _of_images(self, catalog: Catalog, blobs: BlobStore) -> list[str]:
        stored = {
            one.digest for one in every(lambda token: catalog.images.list(page_size=1000, page_token=token))
        }
        return [
            f"image {number} was acknowledged and is gone"
            for number in self.images
            if digest_of(number) not in stored or not blobs.exists(digest_of(number))
        ]

    def _of_ratings(self, catalog: Catalog) -> list[str]:
        stored: dict[str, Rating] = {}
        counts: Counter[tuple[str, str]] = Counter()
        for rating in catalog.ratings.iterate():
            stored[rating.request_id] = rating
            counts[rating.request_id.split("#")[0], rating.image] += 1
        found = [
            f"request {request} left {count} ratings" for (request, _), count in counts.items() if count > 1
        ]
        for request, (rating_id, number, verdict) in self.ratings.items():
            rating = stored.get(request)  # type: ignore[assignment]
            if rating is None:
                found.append(f"rating {request} was acknowledged and is gone")
            elif (rating.id, rating.image, rating.verdict) != (rating_id, digest_of(number), verdict):
                found.append(f"rating {request} is not the one that was acknowledged")
        found += [
            f"rating {request} was never handed in"
            for request in stored.keys() - self.ratings.keys() - self.refused
        ]
        return found

    def _of_models(self, registry: Registry) -> list[str]:
        found, stored = [], {one.name: one.digest for one in registry.list()}
        for number, digest in self.models.items():
            if stored.get(f"model-{number}") != digest:
                found.append(f"model-{number} was acknowledged and is gone")
                continue
            value = registry.evidence(digest).get("value", 0)
            if value not in self.evidence[number]:
                found.append(f"evidence of model-{number} is {value}, not {sorted(self.evidence[number])}")
            self.evidence[number] = {value}
        unknown = stored.keys() - {CHAMPION, *(f"model-{number}" for number in self.models)}
        return found + [f"version {name} was never acknowledged" for name in sorted(unknown)]

    def _of_moves(self, catalog: Catalog) -> list[str]:
        events = _events(catalog)
        wanted = {course.rollout: course.events for course in self.courses}
        found = [
            f"{name} went {events.get(name)}, acknowledged was {wanted.get(name)}"
            for name in sorted(events.keys() | wanted.keys())
            if events.get(name) != wanted.get(name)
        ]
        serving, active = catalog.serving.get(SLOT), self.active
        shown = (serving.champion, serving.candidate, serving.percent)
        right = (self.champion, active.version, active.events[-1][1]) if active else (self.champion, "", 0)
        if shown != right:
            found.append(f"the slot serves {_short(shown)}, acknowledged was {_short(right)}")
        return found


def _events(catalog: Catalog) -> dict[str, list[tuple[str, int]]]:
    """(action, percent) of each event of each rollout, in their order."""
    return {
        one.rollout_id: [(event.action, event.percent) for event in one.events]
        for one in every(lambda token: catalog.rollouts.list(page_size=100, page_token=token))
    }


def _short(state: tuple[str, str, int]) -> str:
    return f"{state[0][:8]}, {state[1][:8] or 'no candidate'} at {state[2]} %"
