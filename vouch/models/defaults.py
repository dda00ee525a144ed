"""What a generator draws with when a request says nothing: `defaults.json` in its folder. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vouch.errors import InvalidInput
from vouch.types.guidance import PLAIN, GuidanceOptions

DEFAULTS_FILE = "defaults.json"
KEYS = ("steps", "guidance", "guidance_method", "guidance_start", "guidance_stop", "adapter_start")


@dataclass(frozen=True)
class Defaults:
    """steps: denoising steps. guidance: the scale of guidance. options: the rest of it."""

    steps: int = 30
    guidance: float = 7.5
    options: GuidanceOptions = PLAIN

    def save(self, folder: Path) -> None:
        (folder / DEFAULTS_FILE).write_text(json.dumps(self.entries(), indent=2) + "\n")

    def entries(self) -> dict[str, Any]:
        """What the file holds, by its keys."""
        options = self.options
        values = (
            self.steps,
            self.guidance,
            options.method,
            options.start,
            options.stop,
            options.adapter_start,
        )
        return dict(zip(KEYS, values, strict=True))


def load_defaults(folder: Path, others: Defaults | None = None) -> Defaults:
    """The defaults in `folder`; what its file leaves out, or where there is none, is as in `others`.

    Raises:
        InvalidInput: a key or a value that no generator can have; says which.
    """
    others = others or Defaults()
    path = Path(folder) / DEFAULTS_FILE
    if not path.is_file():
        return others
    try:
        return _of({**others.entries(), **json.loads(path.read_text())})
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{DEFAULTS_FILE} of {path.parent.name} cannot be used: {error}.") from None
    except InvalidInput as error:
        raise InvalidInput(f"{DEFAULTS_FILE} of {path.parent.name} cannot be used: {error}") from None


def _of(entries: dict[str, Any]) -> Defaults:
    unknown = [key for key in entries if key not in KEYS]
    if unknown:
        raise InvalidInput(f"It holds {', '.join(unknown)}; known are {', '.join(KEYS)}.")
    steps, guidance = int(entries["steps"]), float(entries["guidance"])
    options = GuidanceOptions(
        method=str(entries["guidance_method"]),
        start=float(entries["guidance_start"]),
        stop=float(entries["guidance_stop"]),
        adapter_start=float(entries["adapter_start"]),
    )
    options.check_scale(guidance)
    return Defaults(steps, guidance, options)
