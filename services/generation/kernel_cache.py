"""The kernel cache: attaches compiled U-Nets to generators, and compiles missing ones in the background."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from vouch.models.compiling import COMPILERS, start
from vouch.models.graphs import Graphed
from vouch.models.kernels import Architecture, Compiled, Eager, has_bfloat16_units

if TYPE_CHECKING:
    from vouch.models.pipelines import Generator

log = logging.getLogger("vouch.kernels")

LARGEST_DIFFERENCE = {"float32": 1e-3, "bfloat16": 1e-1}
"""Of any output of the compiled U-Net from the eager one's in the same precision. Outputs are of the order of one; a
larger difference could change grey levels."""
LEAST_SPEEDUP = 1.02


class KernelCache:
    """Compiled U-Nets by architecture. `attach` may be called from any thread.

    Args:
        folder: where packages are kept, one folder each. None keeps every generator eager.
        precision: "float32", or "bfloat16" where the processor has units for it.
        device: "cpu", or "cuda", where a CUDA graph is captured for each batch size and nothing is compiled.
    """

    def __init__(self, folder: Path | None, precision: str = "float32", device: str = "cpu") -> None:
        self._folder, self._device = folder, device
        possible = precision != "bfloat16" or has_bfloat16_units(device)
        self._precision = precision if possible else "float32"
        self._suffix = f"in {self._precision}" + (
            "" if possible else ", for this processor has no units for bfloat16"
        )
        self._waiting: dict[str, weakref.WeakSet[Generator]] = {}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._compiler = ThreadPoolExecutor(1, "compile")

    def attach(self, generator: Generator) -> None:
        """Attach the compiled U-Net to the generator; until there is one, the generator computes eagerly."""
        if generator.fallback_reason:
            return
        if self._device == "cuda":
            generator.network = Graphed(generator.pipe.unet, self._precision)
            generator.kernel = f"CUDA graphs {self._suffix}"
            return
        generator.network = Eager(generator.pipe.unet, self._precision)
        generator.kernel = f"eager {self._suffix}"
        if self._folder is not None:
            self._attach_compiled(generator, self._folder)

    def wait(self, timeout_s: float) -> None:
        """Return when every queued compilation has ended, well or not. Raises TimeoutError."""
        self._compiler.submit(lambda: None).result(timeout_s)  # one thread compiles, in order

    def stop(self) -> None:
        """End the compilation that runs."""
        with self._lock:
            self._stopping = True
            if self._process is not None:
                self._process.kill()
        self._compiler.shutdown()

    def _attach_compiled(self, generator: Generator, folder: Path) -> None:
        architecture = Architecture.of(generator.pipe, self._precision)
        package = folder / architecture.key
        if not _is_private(folder):
            generator.kernel += f": no code is loaded from {folder}, for others may write there"
        elif package.is_dir():
            self._load(generator, package)
        elif not any(map(shutil.which, COMPILERS)):
            generator.kernel += ": there is no C++ compiler to do better"
        else:
            generator.kernel += ", while compiled code is being made"
            self._queue(architecture, package, generator)

    def _queue(self, architecture: Architecture, package: Path, generator: Generator) -> None:
        with self._lock:
            first = architecture.key not in self._waiting
            self._waiting.setdefault(architecture.key, weakref.WeakSet()).add(generator)
        if first:
            self._compiler.submit(self._make, architecture, package)

    def _make(self, architecture: Architecture, package: Path) -> None:
        failure = self._compile(architecture, package)
        with self._lock:
            generators = list(self._waiting.pop(architecture.key))
            self._process = None
        if failure and not self._stopping:
            log.warning("the U-Net could not be compiled: %s", failure[-2000:])
        for generator in generators:
            if failure:
                last_line = failure.strip().splitlines()[-1]
                generator.kernel = f"eager {self._suffix}: compiling failed ({last_line:.200})"
            else:
                self._load(generator, package)

    def _compile(self, architecture: Architecture, package: Path) -> str:
        """Compile the package. Returns the compiler's complaint, "" when the package is there."""
        with self._lock:
            if self._stopping:
                return "the system was ended"
            try:
                self._process = process = start(architecture, package)
            except OSError as error:
                return str(error)
        with process:
            errors = process.stderr.read().decode(errors="replace") if process.stderr else ""
            failed = process.wait() != 0
        return (errors.strip() or "the compiler was ended") if failed else ""

    def _load(self, generator: Generator, package: Path) -> None:
        """Use the package where it was measured to be faster and accurate."""
        try:
            compiled = Compiled(generator.pipe.unet, package)
        except Exception as error:  # noqa: BLE001 - a damaged package must not stop serving: eager code works
            generator.kernel = (
                f"eager {self._suffix}: the code in {package} cannot be used; delete it to have it made again "
                f"({error!s:.200})"
            )
            return
        measured = compiled.measured
        figures = f"{measured.speedup:.2f} times as fast at {measured.rows} rows, difference {measured.difference:.0e}"
        if measured.speedup < LEAST_SPEEDUP or measured.difference > LARGEST_DIFFERENCE[self._precision]:
            generator.kernel = f"eager {self._suffix}: compiled code is {figures}"
            return
        generator.network, generator.kernel = compiled, f"compiled {self._suffix}: {figures}"


def _is_private(folder: Path) -> bool:
    """Whether only the owner may write there: packages are native code."""
    if not folder.exists():
        return True  # it will be created with mode 0700
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022
