"""Checkpoints that are whole or absent, and hold tensors only: safetensors and JSON, nothing that is unpickled."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vouch.errors import DataLoss
from vouch.storage.atomic import sync

log = logging.getLogger(__name__)

TENSORS, PLAIN, SEAL = "tensors.safetensors", "state.json", "sha256"
UNFINISHED = ".writing-"
KEPT = 2
"""How many checkpoints stay: the newest, and the one before in case a disk ends the newest."""

State = dict[str, Any]


def save(folder: Path, step: int, state: Mapping[str, Any]) -> Path:
    """Writes `state` (nested dicts and lists of tensors and JSON values) as ``folder/step-<step>``.

    It appears by rename, and only after its files and their folder are on the disk: a power cut leaves this one whole
    or the one before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{UNFINISHED}*"):  # of a process that was killed; one process saves at a time
        shutil.rmtree(left, ignore_errors=True)
    tensors: dict[str, torch.Tensor] = {}
    plain = _split(state, "", tensors)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=UNFINISHED))
    try:
        save_file(tensors, temporary / TENSORS)
        (temporary / PLAIN).write_text(json.dumps({"step": step, "state": plain}))
        (temporary / SEAL).write_text(_digest(temporary))
        for path in (*temporary.iterdir(), temporary):
            sync(path)
        final = folder / f"step-{step:08d}"
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(folder)
    for old in _all(folder)[:-KEPT]:
        shutil.rmtree(old)
    return final


@torch.no_grad()
def restore(parameters: Sequence[torch.Tensor], saved: Sequence[torch.Tensor]) -> None:
    """Writes saved values into parameters, in their order."""
    for parameter, value in zip(parameters, saved, strict=True):
        parameter.copy_(value)


def load_latest(folder: Path) -> tuple[int, State] | None:
    """The newest checkpoint as (step, state), or None where there is none. Where it is damaged, the one before.

    Raises:
        DataLoss: every checkpoint is damaged; to begin again would throw away what a person may still restore.
    """
    problems = []
    for path in reversed(_all(folder)):
        try:
            loaded = _load(path)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            problems.append(f"{path} ({type(error).__name__}: {error})")
            log.warning("The checkpoint %s is damaged (%s: %s).", path, type(error).__name__, error)
            continue
        if problems:
            log.warning("Training goes on from %s, the checkpoint before.", path)
        return loaded
    if problems:
        raise DataLoss(
            f"No checkpoint can be read: {'; '.join(problems)}. Restore one from a backup, or remove the folder "
            "to begin again."
        )
    return None


def _load(path: Path) -> tuple[int, State]:
    seal = path / SEAL  # checkpoints of older versions have none
    if seal.is_file() and seal.read_text() != _digest(path):
        raise ValueError("its content is not what was saved")
    document = json.loads((path / PLAIN).read_text())
    return document["step"], _join(document["state"], load_file(path / TENSORS))


def _digest(path: Path) -> str:
    """SHA-256 of a checkpoint's two files: neither of their formats would notice a changed number."""
    hashed = hashlib.sha256()
    for name in (TENSORS, PLAIN):
        with open(path / name, "rb") as file:
            while chunk := file.read(2**20):
                hashed.update(chunk)
    return hashed.hexdigest()


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
