"""What a check of a data set found, as a value, a table and an exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.text import Text

from vouch.cli.render import facts, table
from vouch.errors import InvalidInput

Severity = Literal["error", "warning", "note"]
EXAMPLES = 5
_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or that a person should know.

    An error keeps training from starting, for its result would mean nothing; --accept CODE turns it into a warning.
    """

    code: str
    """A constant that a script can match, such as "patient-in-two-splits"."""
    severity: Severity
    message: str
    count: int = 0
    """Images (or groups of them) that it concerns."""
    examples: tuple[str, ...] = ()
    """Keys of the first few."""


@dataclass(frozen=True)
class DataReport:
    """A data set and what was found in it. Nothing in it names a patient."""

    path: str
    read_as: str
    seen: int
    """Everything that looks like an image."""
    readable: int
    captioned: int
    """Readable images with a caption: those that teach."""
    splits: Mapping[str, int]
    patients: int
    """Different patients that are known; 0 where none is."""
    labels: Mapping[str, int]
    captions: int
    """Different captions, each image's plainest."""
    smallest: tuple[int, int]
    """Width and height in pixels of the image with the shortest side."""
    largest: tuple[int, int]
    grey: int
    """Images without colour."""
    findings: tuple[Finding, ...] = field(default=())

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def exit_code(self) -> int:
        """0 where training may begin, else 2."""
        return InvalidInput.exit_code if self.errors else 0

    def refuse(self) -> None:
        """Raises `InvalidInput` with the first error, where there is one."""
        if self.errors:
            more = f" ({len(self.errors) - 1} errors more)" if len(self.errors) > 1 else ""
            raise InvalidInput(
                f"{self.errors[0].message}{more} `vouch adapt --check-only --data {self.path}` shows everything."
            )

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "exit_code": self.exit_code}

    def view(self) -> RenderableType:
        """For people: the numbers, and a table of the findings."""
        splits = ", ".join(f"{count} {name}" for name, count in sorted(self.splits.items()))
        labels = ", ".join(f"{name} {count}" for name, count in list(self.labels.items())[:12])
        more = f" and {len(self.labels) - 12} more" if len(self.labels) > 12 else ""
        numbers = facts(
            {
                "data": self.path,
                "read as": self.read_as,
                "images": f"{self.seen} seen, {self.readable} readable, {self.captioned} with a caption",
                "splits": splits,
                "patients": self.patients or "none known",
                "labels": labels + more,
                "captions": f"{self.captions} different",
                "sizes": f"{_size(self.smallest)} to {_size(self.largest)} pixels" if self.readable else "",
                "grey": f"{self.grey} of {self.readable}",
            }
        )
        rows = [
            (Text(f.severity, style=_STYLES[f.severity]), f.code, f.message, ", ".join(f.examples))
            for f in self.findings
        ]
        return Group(numbers, Text(), table(("", "code", "what", "such as"), rows, empty="Nothing found."))


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"
