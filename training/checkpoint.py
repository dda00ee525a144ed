"""Checkpoints that are whole or absent, and hold tensors only: safetensors and JSON, nothing that is unpickled."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

KEPT = 2
"""How many checkpoints stay: the newest, and the one before in case a disk ends the newest."""

State = dict[str, Any]


def save(folder: Path, step: int, state: Mapping[str, Any]) -> Path:
    """Writes `state` (nested dicts and lists of tensors and JSON values) as ``folder/step-<step>``, by rename."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, torch.Tensor] = {}
    plain = _split(state, "", tensors)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".writing-"))
    save_file(tensors, temporary / "tensors.safetensors")
    (temporary / "state.json").write_text(json.dumps({"step": step, "state": plain}))
    final = folder / f"step-{step:08d}"
    shutil.rmtree(final, ignore_errors=True)
    os.replace(temporary, final)
    for old in _all(folder)[:-KEPT]:
        shutil.rmtree(old)
    return final


@torch.no_grad()
def restore(parameters: Sequence[torch.Tensor], saved: Sequence[torch.Tensor]) -> None:
    """Writes saved values into parameters, in their order."""
    for parameter, value in zip(parameters, saved, strict=True):
        parameter.copy_(value)


def load_latest(folder: Path) -> tuple[int, State] | None:
    """The newest checkpoint as (step, state), or None where there is none."""
    found = _all(folder)
    if not found:
        return None
    document = json.loads((found[-1] / "state.json").read_text())
    return document["step"], _join(document["state"], load_file(found[-1] / "tensors.safetensors"))


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def _split(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        # A clone, because tied weights share memory and safetensors refuses that.
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {"__tensor__": path}
    if isinstance(value, Mapping):
        items = [[key, _split(item, f"{path}/{key}", tensors)] for key, item in value.items()]
        return {"__map__": items}  # pairs, because an optimiser's keys are numbers
    if isinstance(value, (list, tuple)):
        return [_split(item, f"{path}/{index}", tensors) for index, item in enumerate(value)]
    return value


def _join(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_join(item, tensors) for item in value]
    if isinstance(value, dict) and "__tensor__" in value:
        return tensors[value["__tensor__"]]
    if isinstance(value, dict) and "__map__" in value:
        return {key: _join(item, tensors) for key, item in value["__map__"]}
    return value
