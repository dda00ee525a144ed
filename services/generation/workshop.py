"""Where loaded generators get compiled code: from an earlier start at once, or made beside the serving."""

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

log = logging.getLogger("vouch.workshop")

# Of the U-Net's outputs, which are of the order of one, from the eager one's in the same precision. Grey levels mind
# more than that.
LARGEST_DIFFERENCE = {"float32": 1e-3, "bfloat16": 1e-1}
WORTH_IT = 1.02


class Workshop:
    """Equips generators. folder: where packages are kept, one folder each; None: everything stays eager.

    precision: "float32", or "bfloat16" where the processor has units for it. device: "cpu", or "cuda", where a graph is
    captured for each batch size and nothing is compiled.
    """

    def __init__(self, folder: Path | None, precision: str = "float32", device: str = "cpu") -> None:
        self._folder, self._device = folder, device
        possible = precision != "bfloat16" or has_bfloat16_units(device)
        self._precision = precision if possible else "float32"
        self._told = f"in {self._precision}" + (
            "" if possible else ", for this processor has no units for bfloat16"
        )
        self._wanting: dict[str, weakref.WeakSet[Generator]] = {}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._maker = ThreadPoolExecutor(1, "compile")

    def equip(self, generator: Generator) -> None:
        """Give the generator its code if there is some; else it goes on as it is until some has been made."""
        if generator.whole_because:
            return
        if self._device == "cuda":
            generator.network = Graphed(generator.pipe.unet, self._precision)
            generator.kernel = f"CUDA graphs {self._told}"
            return
        generator.network = Eager(generator.pipe.unet, self._precision)
        generator.kernel = f"eager {self._told}"
        if self._folder is None:
            return
        architecture = Architecture.of(generator.pipe, self._precision)
        package = self._folder / architecture.key
        if not _is_private(self._folder):
            generator.kernel += f": no code is loaded from {self._folder}, for others may write there"
        elif package.is_dir():
            self._fit(generator, package)
        elif not any(map(shutil.which, COMPILERS)):
            generator.kernel += ": there is no C++ compiler to do better"
        else:
            generator.kernel += ", while compiled code is being made"
            self._order(architecture, package, generator)

    def wait(self, timeout_s: float) -> None:
        """Return when everything that has been ordered is made, or has failed. Raises TimeoutError."""
        self._maker.submit(lambda: None).result(timeout_s)  # one thread makes all, in turn

    def stop(self) -> None:
        """End what is being made."""
        with self._lock:
            self._stopping = True
            if self._process is not None:
                self._process.kill()
        self._maker.shutdown()

    def _order(self, architecture: Architecture, package: Path, generator: Generator) -> None:
        with self._lock:
            first = architecture.key not in self._wanting
            self._wanting.setdefault(architecture.key, weakref.WeakSet()).add(generator)
        if first:
            self._maker.submit(self._make, architecture, package)

    def _make(self, architecture: Architecture, package: Path) -> None:
        complaint = self._compile(architecture, package)
        with self._lock:
            wanting = list(self._wanting.pop(architecture.key))
            self._process = None
        if complaint and not self._stopping:
            log.warning("the U-Net could not be compiled: %s", complaint[-2000:])
        for generator in wanting:
            if complaint:
                last = complaint.strip().splitlines()[-1]
                generator.kernel = f"eager {self._told}: compiling failed ({last:.200})"
            else:
                self._fit(generator, package)

    def _compile(self, architecture: Architecture, package: Path) -> str:
        """What went wrong; "" when the package is there."""
        with self._lock:
            if self._stopping:
                return "the system was ended"
            try:
                self._process = process = start(architecture, package)
            except OSError as error:
                return str(error)
        with process:
            told = process.stderr.read().decode(errors="replace") if process.stderr else ""
            failed = process.wait() != 0
        return (told.strip() or "the compiler was ended") if failed else ""

    def _fit(self, generator: Generator, package: Path) -> None:
        """Use the code where it was measured to be faster and true."""
        try:
            compiled = Compiled(generator.pipe.unet, package)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the eager way works
            generator.kernel = (
                f"eager {self._told}: the code in {package} cannot be used; delete it to have it made again "
                f"({error!s:.200})"
            )
            return
        measured, bound = compiled.measured, LARGEST_DIFFERENCE[self._precision]
        told = f"{measured.speedup:.2f} times as fast at {measured.rows} rows, difference {measured.difference:.0e}"
        if measured.speedup < WORTH_IT or measured.difference > bound:
            generator.kernel = f"eager {self._told}: compiled code is {told}"
            return
        generator.network, generator.kernel = compiled, f"compiled {self._told}: {told}"


def _is_private(folder: Path) -> bool:
    """Native code is only as good as whoever may write it."""
    if not folder.exists():
        return True  # it will be ours
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022
