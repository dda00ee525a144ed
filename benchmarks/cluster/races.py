"""Two processes publish a version under one name at the same moment, again and again.

Each race ends well when both have published the same version, or one has and the other is told that the name is
taken. Afterwards the store holds every file of every version that the catalog names, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

from vouch.errors import AlreadyExists, VouchError
from vouch.storage import registry as registry_module
from vouch.storage.catalog import Catalog
from vouch.storage.objects import object_path
from vouch.storage.registry import MANIFEST, Registry

Clock = Literal["own", "same"]
"""Of the two processes. With the same one they publish one digest, byte for byte."""


@dataclass
class Outcomes:
    """How races ended. `wrong` says of each that ended badly what it left."""

    both: int = 0
    one: int = 0
    wrong: list[str] = field(default_factory=list)


def run(catalog_url: str, models_url: str, folder: Path, *, races: int, clock: Clock) -> Outcomes:
    """Race two processes; `folder` holds what they publish and their copies.

    models_url: an object store, of which each process keeps copies of its own; "" is one folder that both write to.
    """
    source = folder / "source"
    source.mkdir()
    (source / "weights.json").write_text(json.dumps(list(range(200))))
    copies = [folder / name if models_url else folder / "models" for name in ("a", "b")]
    workers = [_worker(catalog_url, models_url, path, source) for path in copies]
    outcomes = Outcomes()
    try:
        with Catalog(catalog_url) as catalog:
            for number in range(races):
                _count(outcomes, catalog, f"race-{clock}-{number}", _race(workers, number, clock))
            outcomes.wrong += _left_over(catalog, models_url or str(folder / "models"))
            reader = Registry(catalog, folder / ("reader" if models_url else "models"), models_url)
            outcomes.wrong += _unreadable(reader, races)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return outcomes


def _worker(catalog_url: str, models_url: str, copies: Path, source: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.cluster.races", models_url, str(copies), str(source)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    _tell(process, {"catalog_url": catalog_url})  # it may hold a password, which a command line would show
    return process


def _tell(process: subprocess.Popen[str], value: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(value) + "\n")
    process.stdin.flush()


def _race(workers: list[subprocess.Popen[str]], number: int, clock: Clock) -> list[dict[str, str]]:
    moment = datetime(2020, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=number)
    order = {"name": f"race-{clock}-{number}", "moment": moment.isoformat() if clock == "same" else ""}
    for worker in workers:
        _tell(worker, order)
    return [json.loads(worker.stdout.readline()) for worker in workers if worker.stdout is not None]


def _count(outcomes: Outcomes, catalog: Catalog, name: str, answers: list[dict[str, str]]) -> None:
    published = {answer["digest"] for answer in answers if answer.get("digest")}
    errors = [answer["error"] for answer in answers if answer.get("error")]
    entry = catalog.versions.find(name)
    if entry is None or published != {entry.digest} or any(error != "AlreadyExists" for error in errors):
        outcomes.wrong.append(f"{name}: answers {answers}, entry {entry and entry.digest}")
    elif errors:
        outcomes.one += 1
    else:
        outcomes.both += 1


def _left_over(catalog: Catalog, store: str) -> list[str]:
    """Folders of the store that differ from the catalog's entries, in either direction."""
    root = object_path(store)
    present: dict[str, set[str]] = {}
    for path in root.fs.find(root.path):
        digest, _, name = path.split(f"{root.path}/")[-1].partition("/")
        present.setdefault(digest, set()).add(name)
    named = {version.digest: {*version.files, MANIFEST} for version in Registry(catalog, "unused").list()}
    differing = sorted(digest for digest in {*present, *named} if present.get(digest) != named.get(digest))
    return [f"{digest}: store {present.get(digest)}, catalog {named.get(digest)}" for digest in differing]


def _unreadable(reader: Registry, races: int) -> list[str]:
    """Of at most 100 versions spread over all, those that another process cannot open."""
    failures = []
    for version in reader.list()[:: max(1, races // 100)]:
        try:
            reader.open(version.digest)
        except VouchError as error:
            failures.append(f"{version.name}: {error.message}")
    return failures


def _work(models_url: str, copies: Path, source: Path) -> None:
    """One of the two processes: publishes what each line of standard input asks for."""
    with Catalog(json.loads(sys.stdin.readline())["catalog_url"]) as catalog:
        registry = Registry(catalog, copies, models_url)
        for line in sys.stdin:
            answer = _publish(registry, source, **json.loads(line))
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


def _publish(registry: Registry, source: Path, name: str, moment: str) -> dict[str, str]:
    if moment:
        registry_module.now = lambda: datetime.fromisoformat(moment)  # type: ignore[assignment]
    try:
        return {"digest": registry.publish(source, kind="generator", format="diffusers", name=name).digest}
    except AlreadyExists:
        return {"error": "AlreadyExists"}
    except Exception as error:  # noqa: BLE001 - whatever it is, the race ended wrong
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One of two racing processes.")
    parser.add_argument("models_url")
    parser.add_argument("copies", type=Path)
    parser.add_argument("source", type=Path)
    arguments = parser.parse_args()
    _work(arguments.models_url, arguments.copies, arguments.source)
