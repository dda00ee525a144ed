"""The client as it is installed: its size, and the time of its import."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

IMPORTS = 11
INSTALLERS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth")
"""What a virtual environment has before anything is installed."""
NEVER = ("torch", "ray", "sqlalchemy", "diffusers")
"""What the client must not bring."""


class TooMuchInstalled(RuntimeError):
    """The bare installation brought a package of an extra."""


def copy_source(root: Path, to: Path) -> Path:
    """A copy of the files that git tracks, or would: what a clone of the working tree would hold."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = root / name, to / name
        if source.is_file() and not source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return to


def client_install_mb(root: Path, work: Path) -> float:
    """MiB that a bare `pip install` of the project takes in a new environment, caches of bytecode left out.

    Raises:
        TooMuchInstalled: a package that only an extra may bring came with it.
        CalledProcessError: pip failed, for instance without a package index.
    """
    source, environment = copy_source(root, work / "source"), work / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    subprocess.run(
        [
            str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--no-compile", "--constraint", str(source / "constraints.txt"), str(source),
        ],
        check=True,
    )  # fmt: skip
    (packages,) = environment.glob("lib/python*/site-packages")
    if heavy := [name for name in NEVER if (packages / name).exists()]:
        raise TooMuchInstalled(f"a bare installation brought {', '.join(heavy)}")
    return size_mb(packages)


def size_mb(packages: Path) -> float:
    """MiB on disk of everything in site-packages but pip, setuptools and caches of bytecode."""
    entries = [entry for entry in packages.iterdir() if not _is_installer(entry.name)]
    files = [file for entry in entries for file in (entry.rglob("*") if entry.is_dir() else (entry,))]
    return sum(
        file.lstat().st_blocks * 512 for file in files if file.is_file() and "__pycache__" not in file.parts
    ) / (1 << 20)


def _is_installer(name: str) -> bool:
    return name in INSTALLERS or re.match(r"(pip|setuptools)-[\d.]+\.dist-info$", name) is not None


def import_ms(root: Path, module: str, times: int = IMPORTS) -> list[float]:
    """Milliseconds of `import module` in new processes, by `python -X importtime`."""
    return [_import_once(root, module) for _ in range(times)]


def _import_once(root: Path, module: str) -> float:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return cumulative_ms(done.stderr.splitlines(), module)


def cumulative_ms(lines: Sequence[str], module: str) -> float:
    """The cumulative time of a module and its parents in the lines of `-X importtime`."""
    top = [match for line in lines if (match := re.match(r"import time: +\d+ \| +(\d+) \| (\S+)$", line))]
    parts = module.split(".")
    wanted = {".".join(parts[: number + 1]) for number in range(len(parts))}
    return sum(int(match[1]) for match in top if match[2] in wanted) / 1000
