"""The machine and the versions a figure was measured on: enough to compare, nothing that names a host."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

PACKAGES = ("vouch", "torch", "ray", "diffusers", "grpcio", "numpy")
GIB = 1 << 30


def machine() -> dict[str, object]:
    """CPU model, usable cores, memory in GiB, operating system, and the GPU's model if torch sees one."""
    return {
        "cpu": _cpu_model(),
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": _gpu_model(),
    }


def versions() -> dict[str, str]:
    """Python's version and those of the packages that make the figures."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "missing"
    return found


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _gpu_model() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""
