"""Model files with one bit changed, and cut short: none may ever serve."""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import vouch
from benchmarks.report import Figure, Report
from services.rollout.controller import RolloutController, RolloutOptions
from vouch.errors import CorruptVersion
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.version import Version

STARTER = Path(vouch.__file__).parent / "starter" / "reward"


class DamagedModels:
    """A reward model that serves, and another that an operator tries to roll out, damaged."""

    def __init__(self, folder: Path, source: Path = STARTER) -> None:
        self.catalog = Catalog(f"sqlite:///{folder / 'catalog.db'}")
        self._registry = Registry(self.catalog, folder / "models")
        common = {"kind": "reward", "format": "reward"}
        self.old = self._registry.publish(source, name="old", **common)  # type: ignore[arg-type]
        self.new = self._registry.publish(source, name="new", **common)  # type: ignore[arg-type]
        self.catalog.serving.ensure("reward", self.old.digest)
        self._controller = RolloutController(self.catalog, self._registry, lambda slot: None)

    def files(self) -> list[Path]:
        """Every file of the new version, its manifest too."""
        return sorted(path for path in self._registry.folder(self.new.digest).rglob("*") if path.is_file())

    def refusal(self) -> str:
        """Why the new version is not rolled out; "" when it is, or when the old one serves no more."""
        options = RolloutOptions(ref="new", percent=5, force=True, reason="a drill")
        try:
            self._controller.start(options, "operator", "")
        except CorruptVersion as error:
            return error.message if self._serves(self.old) else ""
        rollout = self.catalog.rollouts.active("reward")
        if rollout is not None:
            self._controller.roll_back(rollout.rollout_id, "operator", "", "")
        return ""

    def _serves(self, version: Version) -> bool:
        serving = self.catalog.serving.get("reward")
        return (serving.champion, serving.candidate) == (version.digest, "")


@contextmanager
def flipped(path: Path, bit: int) -> Iterator[None]:
    """The file with this bit changed, for the length of the block."""
    path.chmod(0o600)
    with open(path, "r+b") as file:
        _flip(file.fileno(), bit)
        try:
            yield
        finally:
            _flip(file.fileno(), bit)


def _flip(handle: int, bit: int) -> None:
    byte = os.pread(handle, 1, bit // 8)[0]
    os.pwrite(handle, bytes([byte ^ (1 << bit % 8)]), bit // 8)


@contextmanager
def cut_to(path: Path, length: int) -> Iterator[None]:
    """The file with its first `length` bytes alone, for the length of the block."""
    path.chmod(0o600)
    data = path.read_bytes()
    path.write_bytes(data[:length])
    try:
        yield
    finally:
        path.write_bytes(data)


def accepted(models: DamagedModels, each: int, seed: int = 0) -> tuple[list[str], Counter[str]]:
    """(what was accepted, how often each reason was given) of so many flips and as many truncations."""
    chance, files = random.Random(seed), models.files()
    passed, reasons = [], Counter[str]()
    for number in range(2 * each):
        path = chance.choice(files)
        size = path.stat().st_size
        what = f"{path.name} {'flipped' if number % 2 else 'cut'} ({number})"
        damaged = (
            flipped(path, chance.randrange(8 * size)) if number % 2 else cut_to(path, chance.randrange(size))
        )
        with damaged:
            said = models.refusal()
        reasons[_kind(said)] += 1
        if path.name not in said:
            passed.append(f"{what}: {said or 'rolled out'}")
    return passed, reasons


def _kind(said: str) -> str:
    words = ("has changed", "bytes instead of", "missing or damaged", "is not the one that was published")
    return next((one for one in words if one in said), said[:60])


def measure(report: Report, each: int) -> None:
    """`damaged_models_accepted`."""
    with tempfile.TemporaryDirectory(prefix="vouch-damage-") as folder:
        models = DamagedModels(Path(folder))
        passed, reasons = accepted(models, each)
        if models.refusal():
            raise RuntimeError("the undamaged version is refused too: this proves nothing")
        models.catalog.close()
    for one in passed[:20]:
        print(one)
    print(json.dumps(dict(reasons)))
    unit = f"of {each} single-bit flips and {each} truncations"
    report.add("damaged_models_accepted", Figure(len(passed), unit=unit, must="<= 0", aim="<= 0"))
