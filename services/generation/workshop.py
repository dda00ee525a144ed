"""Where loaded generators get compiled code: from an earlier start at once, or made beside the serving."""

from __future__ import annotations

import logging
import shutil
import subprocess
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from vouch.compiling import COMPILERS, start
from vouch.kernels import Architecture, Compiled, Eager, has_bfloat16_units

if TYPE_CHECKING:
    from vouch.pipelines import Generator

log = logging.getLogger("vouch.workshop")

# Of the U-Net's outputs, which are of the order of one, from the eager one's in the same precision. Grey levels mind
# more than that.
LARGEST_DIFFERENCE = {"float32": 1e-3, "bfloat16": 1e-1}
WORTH_IT = 1.02


class Workshop:
    """Equips generators. folder: where packages are kept, one folder each; None: everything stays eager.

    precision: "float32", or "bfloat16" where the processor has units for it.
    """

    def __init__(self, folder: Path | None, precision: str = "float32") -> None:
        self._folder = folder
        self._precision, self._told = precision, f"in {precision}"
        if precision == "bfloat16" and not has_bfloat16_units():
            self._precision, self._told = (
                "float32",
                "in float32, for this processor has no units for bfloat16",
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
        generator.network = Eager(generator.pipe.unet, self._precision)
        generator.kernel = f"eager {self._told}"
        if self._folder is None:
            return
        architecture = Architecture.of(generator.pipe, self._precision)
        package = self._folder / architecture.key
        if package.is_dir():
            self._fit(generator, package)
        elif not any(map(shutil.which, COMPILERS)):
            generator.kernel += ": there is no C++ compiler to do better"
        else:
            generator.kernel += ", while compiled code is being made"
            self._order(architecture, package, generator)

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
        with self._lock:
            if self._stopping:
                return
            self._process = start(architecture, package)
        complaint = (self._process.stderr.read() if self._process.stderr else b"").decode(errors="replace")
        made = self._process.wait() == 0
        with self._lock:
            wanting = list(self._wanting.pop(architecture.key))
            self._process = None
        if not made and not self._stopping:
            log.warning("the U-Net could not be compiled: %s", complaint[-2000:])
        for generator in wanting:
            self._fit(generator, package) if made else self._note_failure(generator, complaint)

    def _note_failure(self, generator: Generator, complaint: str) -> None:
        last = (complaint.strip().splitlines() or ["the compiler was ended"])[-1]
        generator.kernel = f"eager {self._told}: compiling failed ({last:.200})"

    def _fit(self, generator: Generator, package: Path) -> None:
        """Use the code where it was measured to be faster and true."""
        try:
            compiled = Compiled(generator.pipe.unet, package)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the eager way works
            generator.kernel = f"eager {self._told}: compiled code cannot be used ({error!s:.200})"
            return
        measured, bound = compiled.measured, LARGEST_DIFFERENCE[self._precision]
        told = f"{measured.speedup:.2f} times as fast at {measured.rows} rows, difference {measured.difference:.0e}"
        if measured.speedup < WORTH_IT or measured.difference > bound:
            generator.kernel = f"eager {self._told}: compiled code is {told}"
            return
        generator.network, generator.kernel = compiled, f"compiled {self._told}: {told}"
