"""Training loops on Ray Train. The only file of `training` that knows Ray."""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

if "VOUCH_RAY_ADDRESS" not in os.environ:
    # A Ray of one's own names its node 127.0.0.1, so that no other machine reaches it; read when it is imported.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import ray
import ray.train.torch
import torch
from ray.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.callback import RayTrainCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from torch import distributed

from training.jobs.worker import Work, work
from vouch.errors import Cancelled, FailedPrecondition, Internal, VouchError

ATTEMPTS = 3
"""How often Ray is started: on a busy machine its control service now and then does not come up."""
MAX_FAILURES = 3
"""How often a killed worker is replaced; the loop then goes on from its last checkpoint."""
RESIZE_S = 60.0
"""Seconds between two looks of an elastic job at the cluster."""
PLACEMENT_S = 30
"""Seconds to wait for the places of all workers. Ray Train hears up to 20 s late that a node has left, and until then
waits for the places on it; then it tries again with the nodes that are left."""
LOOPBACK = "127.0.0.1"
LOOPBACK_INTERFACE = "lo0" if sys.platform == "darwin" else "lo"


def run_on_ray(
    job: Work,
    *,
    workers: int = 1,
    min_workers: int = 0,
    cpus: float = 0.5,
    gpus: float = 0.0,
    resize_s: float = RESIZE_S,
) -> dict[str, Any]:
    """Runs `job` as a Ray Train job and returns its figures.

    workers: each with so many CPUs and GPUs; with a GPU its networks compute there.
    min_workers: with so few the job goes on when nodes leave; 0 is all of them. It looks every `resize_s` seconds
        whether there is room for more, and then goes on from its last checkpoint.

    Joins the cluster that ``VOUCH_RAY_ADDRESS`` names, or starts one of its own on this machine.

    Raises:
        FailedPrecondition: the cluster has not the CPUs or GPUs for so many workers.
        Cancelled: the run was cancelled.
        VouchError: what the loop itself raised.
        Internal: anything else; says where the log is.
    """
    with _cluster(cpus * workers + 1) as has_dashboard:
        fewest = min_workers or workers
        _check_room({"CPU": cpus, "GPU": gpus}, fewest)
        scaling = ScalingConfig(
            num_workers=workers if fewest == workers else (fewest, workers),
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": cpus, **({"GPU": gpus} if gpus else {})},
            elastic_resize_monitor_interval_s=resize_s,
        )
        try:
            trainer = _trainer(job, scaling, grouped=workers > 1 or gpus > 0)
            trainer.watched = has_dashboard
            result = trainer.fit()
        except Exception as error:
            raise _cause(error, job) from error
    return dict(result.metrics or {})


class _Trainer(DataParallelTrainer):  # type: ignore[misc]
    """Without Ray Train's cleaner of placement groups where it could clean nothing: it asks the dashboard whether the
    controller lives, and without one a run waits 12 s for its answer before it ends."""

    watched = True

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        callbacks = super()._create_default_callbacks()
        return [
            one for one in callbacks if self.watched or not isinstance(one, PlacementGroupCleanerCallback)
        ]


class _GroupTrainer(_Trainer, TorchTrainer):  # type: ignore[misc]
    """Of several workers."""


def _trainer(job: Work, scaling: ScalingConfig, *, grouped: bool) -> _Trainer:
    """grouped: the workers form a process group. One worker on the CPU exchanges nothing, and with a group PyTorch
    would open a port on every interface."""
    kind = _GroupTrainer if grouped else _Trainer
    return kind(
        _train_loop,
        **({"torch_config": _GroupConfig()} if grouped else {}),
        train_loop_config=replace(job, device="cuda" if scaling.use_gpu else "cpu").as_json(),
        scaling_config=scaling,
        run_config=RunConfig(
            # Unique, because Ray Train returns the old result of a name that it has seen.
            name=f"{job.run_id or job.kind}-{uuid.uuid4().hex[:8]}",
            storage_path=str((Path(job.folder) / "ray").resolve()),
            failure_config=FailureConfig(max_failures=MAX_FAILURES, controller_failure_limit=3),
        ),
    )


def _check_room(each: Mapping[str, float], workers: int) -> None:
    """Ray would wait for ever for what is not there."""
    there = ray.cluster_resources()
    for name, wanted in each.items():
        if wanted * workers > there.get(name, 0.0):
            raise FailedPrecondition(
                f"{workers} training workers want {wanted * workers:g} {name}s in all, and the cluster has "
                f"{there.get(name, 0.0):g}. Lower VOUCH_TRAINING__WORKERS or VOUCH_TRAINING__GPUS, or add machines.",
                "NO_ROOM",
            )


def _train_loop(spec: dict[str, Any]) -> None:
    """Runs in a worker process. An error that a user can cause ends the job instead of being tried again."""
    job = Work(**spec)
    if job.device == "cuda":
        torch.cuda.set_device(ray.train.torch.get_device())  # of several workers each has its own
    try:
        figures: dict[str, Any] = dict(work(job))
    except VouchError as error:
        figures = {"error": [type(error).__name__, error.message, error.reason]}
    if ray.train.get_context().get_world_rank() > 0:
        ray.train.report({})
        return
    # The loop keeps its own checkpoints in the run's folder; Ray Train wants one to keep the figures.
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "done").write_text(job.run_id or job.kind)
        ray.train.report(figures, checkpoint=Checkpoint.from_directory(folder))


# ---- the process group of several workers


@dataclass
class _GroupConfig(TorchConfig):
    """Ray Train's own settings of a process group, with ports on loopback where all workers share a machine."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _GroupBackend


class _GroupBackend(_TorchBackend):  # type: ignore[misc]
    """PyTorch's store listens on every interface, and gloo on the one of the host's name: neither asks who comes."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        if set(worker_group.execute(ray.util.get_node_ip_address)) != {LOOPBACK}:
            super().on_start(worker_group, backend_config)  # workers on several machines need a network
            return
        size = len(worker_group)
        backend = "nccl" if worker_group.get_resources_per_worker().get("GPU", 0) > 0 else "gloo"
        worker_group.execute(_set_torch_distributed_env_vars)
        port = worker_group.execute_single(0, _open_store, size)
        joined = [
            worker_group.execute_single_async(
                rank, _join, rank, size, port, backend, backend_config.timeout_s
            )
            for rank in range(size)
        ]
        ray.get(joined)


_stores: list[distributed.TCPStore] = []
"""The store that the leader's process has opened; PyTorch closes it with its last reference."""


def _open_store(size: int) -> int:
    """In the leader's process: opens the store of a group of `size` workers on loopback; its port."""
    listener = socket.create_server((LOOPBACK, 0))
    port = int(listener.getsockname()[1])
    _stores.append(
        distributed.TCPStore(
            LOOPBACK, port, size, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
        )
    )
    return port


def _join(rank: int, size: int, port: int, backend: str, timeout_s: int) -> None:
    """In each worker's process: joins the group whose store listens at `port`."""
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = LOOPBACK_INTERFACE
    store = _stores[-1] if rank == 0 else distributed.TCPStore(LOOPBACK, port, size, is_master=False)
    distributed.init_process_group(
        backend, store=store, rank=rank, world_size=size, timeout=timedelta(seconds=timeout_s)
    )


# ---- Ray


def _start_ray(cpus: int, options: Mapping[str, Any]) -> None:
    for attempt in range(ATTEMPTS):
        try:
            ray.init(
                address="local",  # not whichever Ray someone else has started on this machine
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=100 * 2**20,
                _node_ip_address="127.0.0.1",
                **options,
            )
            return
        except Exception:
            ray.shutdown()
            if attempt + 1 == ATTEMPTS:
                raise


class _cluster:
    """A connection to Ray for the time of one job."""

    def __init__(self, cpus: float) -> None:
        self._cpus = cpus

    def __enter__(self) -> bool:
        """Whether it has a dashboard."""
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(PLACEMENT_S))
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "60")  # a busy machine takes longer than 30
        os.environ.setdefault(
            "RAY_agent_register_timeout_ms", "180000"
        )  # likewise; the raylet ends itself then
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
        if address := os.environ.get("VOUCH_RAY_ADDRESS"):
            return bool(ray.init(address=address, **options).dashboard_url)
        _start_ray(max(2, round(self._cpus)), options)
        return False

    def __exit__(self, *exc: object) -> None:
        ray.shutdown()


def raise_reported(figures: dict[str, Any]) -> dict[str, Any]:
    """Turns the error that a worker reported back into the exception; passes figures through."""
    from vouch import errors

    if "error" not in figures:
        return figures
    kind, message, reason = figures["error"]
    raise getattr(errors, kind, Internal)(message, reason)


def _cause(error: BaseException, job: Work) -> VouchError:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (VouchError, Cancelled)):
            return seen
        seen = seen.__cause__
    last = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return Internal(
        f"The training job failed: {last} Its checkpoints are in {job.folder}; start it again to resume."
    )
