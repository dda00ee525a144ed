"""Everything measured, as lines of JSON, written as it goes: a session that broke off can be continued.

Each line has a "kind": "setup", "tuning", "bare" or "run".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.serving.contenders import Setting
from benchmarks.serving.plan import ServingPlan
from benchmarks.serving.runs import ServingRun


class Log:
    """The lines of one file. It begins anew unless it is to be continued."""

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lines = read_lines(path) if resume and path.exists() else []
        # Written again, because the last line of a broken-off session may be half of one.
        path.write_text("".join(json.dumps(line) + "\n" for line in self._lines), "utf-8")

    def add(self, kind: str, **found: Any) -> None:
        self._lines.append({"kind": kind, **found})
        with self._path.open("a") as file:
            file.write(json.dumps(self._lines[-1]) + "\n")

    def find(self, kind: str, **wanted: Any) -> list[dict[str, Any]]:
        lines = (line for line in self._lines if line["kind"] == kind)
        return [line for line in lines if wanted.items() <= line.items()]

    @property
    def runs(self) -> list[ServingRun]:
        return [ServingRun.from_json(line["run"]) for line in self.find("run")]

    def has(self, contender: str, load: str, repeat: int) -> bool:
        return bool(self.find("run", contender=contender, load=load, repeat=repeat))

    def add_run(self, run: ServingRun) -> None:
        self.add("run", contender=run.contender, load=run.load, repeat=run.repeat, run=run.as_json())

    def setting(self, contender: str) -> Setting | None:
        """What tuning chose."""
        found = self.find("tuning", contender=contender)
        return Setting(*found[-1]["chosen"]) if found else None

    def check(self, plan: ServingPlan) -> None:
        """ValueError when the file was written with another plan."""
        for line in self.find("setup"):
            if line["plan"] != json.loads(json.dumps(plan.same_runs())):
                raise ValueError(
                    f"{self._path} holds runs of another plan: give the same options, or no --resume"
                )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file; what follows a broken one is left out."""
    lines: list[dict[str, Any]] = []
    for line in path.read_text("utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines
