"""The one Ray node of a system: started, asked for GPUs, and watched."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

import psutil
import ray

from services import loopback
from services.scratch import object_store_folder
from services.trial import MODULE as TRIAL
from vouch.errors import FailedPrecondition
from vouch.settings import GenerationSettings

OBJECT_STORE_BYTES = 100 * 2**20
ATTEMPTS = 3
VITAL = {"gcs_server": "the GCS server", "raylet": "the raylet"}
"""Without these no call is ever answered again. The raylet ends by itself when its runtime-env agent ends."""


class Node:
    """A Ray node of this process, with its files in `folder`."""

    def __init__(self, folder: Path) -> None:
        """Start it. A machine that is busy with something else can be too slow for Ray's patience: then once more."""
        for attempt in range(ATTEMPTS):
            try:
                _start(folder / f"ray{attempt}")
                break
            except (Exception, SystemExit):
                ray.shutdown()
                _kill_children()  # a start that broke off half-way leaves processes that Ray no longer knows
                if attempt + 1 == ATTEMPTS:
                    raise
        children = {child.name(): child for child in psutil.Process().children(recursive=True)}
        self._vital = {label: children.get(name) for name, label in VITAL.items()}

    def lost(self) -> str:
        """The name of a vital process that has ended; "" while all are alive."""
        return next((label for label, process in self._vital.items() if _has_ended(process)), "")

    def stop(self) -> None:
        if ray.is_initialized():
            ray.shutdown()


def check_gpus(settings: GenerationSettings) -> None:
    """Raises FailedPrecondition where there are fewer than the replicas want: Serve would wait for ever."""
    there, wanted = ray.cluster_resources().get("GPU", 0), settings.gpus * settings.replicas
    if wanted > there:
        raise FailedPrecondition(
            f"The generation replicas want {wanted:g} GPUs and Ray finds {there:g}. Set VOUCH_GENERATION__GPUS=0 "
            "to draw on the CPU.",
            "NO_GPU",
        )


def _has_ended(process: psutil.Process | None) -> bool:
    try:
        return process is None or not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _start(folder: Path) -> None:
    ray.init(
        address="local",
        num_cpus=max(4, os.cpu_count() or 1),  # logical: replicas and training jobs ask for fractions
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _plasma_directory=str(object_store_folder(folder.parent, OBJECT_STORE_BYTES)),
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=False,
        _temp_dir=str(folder),
        _node_ip_address=loopback.HOST,
        runtime_env={"worker_process_setup_hook": loopback.SETUP_HOOK},
    )


def _kill_children() -> None:
    """End what a start that broke off has left, but not the trial of a model that goes on beside it."""
    children = [child for child in psutil.Process().children(recursive=True) if not _is_trial(child)]
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=10)


def _is_trial(process: psutil.Process) -> bool:
    try:
        return TRIAL in process.cmdline()
    except psutil.Error:  # it has just ended
        return False
