"""Guidance of an image: the method, the guided steps, and the steps with an adapter. No torch.

Fractions are shares of an image's denoising steps: step i of n, counted from 0, has i / n behind it. An interval holds
the steps with start <= i / n < stop, so [0, 1) is all of them, whatever their number and sampler.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from vouch.errors import InvalidInput

METHODS = ("cfg", "cfg_pp", "autoguidance")
"""Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598), CFG++ (Chung et al. 2024, arXiv 2406.08070), and
guidance by a weaker version of the network (Karras et al. 2024, arXiv 2406.02507)."""

ROUNDING = 1e-9  # 0.29 * 100 is a little less than 29


@dataclass(frozen=True, kw_only=True)
class GuidanceOptions:
    """The options of guidance besides the scale.

    method: one of METHODS. start, stop: the guided interval (Kynkäänniemi et al. 2024, arXiv 2404.07724); outside of it
    the network is asked once. adapter_start: the share of the steps before the
    adapter of an aligned version is applied (Sorokin et al. 2025, arXiv 2505.22569). negative_prompt: not used by
    autoguidance, which guides away from another network.

    Raises:
        InvalidInput: an unknown method, or fractions that make no interval within [0, 1].
    """

    method: str = "cfg"
    start: float = 0.0
    stop: float = 1.0
    adapter_start: float = 0.0
    negative_prompt: str = ""

    def __post_init__(self) -> None:
        check_method(self.method)
        check_fraction("guidance_start", self.start)
        check_fraction("guidance_stop", self.stop)
        check_fraction("adapter_start", self.adapter_start)
        if self.start >= self.stop:
            raise InvalidInput(
                f"guidance_start is {self.start:g} and guidance_stop is {self.stop:g}: guidance must start before it "
                "stops. To generate without guidance, set guidance to 1."
            )

    @property
    def plain(self) -> bool:
        """Whether a plain diffusers pipeline does the same."""
        return replace(self, negative_prompt="") == PLAIN

    def guided_steps(self, scale: float, steps: int) -> range:
        """The guided steps of `steps`, which evaluate the network twice."""
        if scale <= 1 and self.method != "cfg_pp":
            return range(0)
        return range(_first(self.start, steps), _first(self.stop, steps))

    def adapted_from(self, steps: int) -> int:
        """The first step with the adapter."""
        return _first(self.adapter_start, steps)

    def check_scale(self, scale: float) -> None:
        """Raises InvalidInput for a scale that the method does not take."""
        if self.method == "cfg_pp" and not 0 <= scale <= 1:
            raise InvalidInput(
                f"guidance is {scale:g}; CFG++ interpolates, so its scale is 0 to 1. Set guidance, for example to 0.6."
            )


@dataclass(frozen=True, kw_only=True)
class GuidanceChoice:
    """The options of a request; None means the generator's default. Fields as in GuidanceOptions."""

    method: str | None = None
    start: float | None = None
    stop: float | None = None
    adapter_start: float | None = None
    negative_prompt: str | None = None

    def upon(self, defaults: GuidanceOptions) -> GuidanceOptions:
        """The defaults, overridden by the choice. Raises InvalidInput if the interval is empty."""
        return replace(defaults, **self._chosen())

    def agrees_with(self, options: GuidanceOptions) -> bool:
        """Whether `options` are consistent with this choice."""
        return all(getattr(options, name) == value for name, value in self._chosen().items())

    def _chosen(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def check_method(method: str) -> str:
    """Raises InvalidInput for an unknown method."""
    if method not in METHODS:
        raise InvalidInput(f"guidance_method is {method!r}; choose one of {', '.join(METHODS)}.")
    return method


def check_fraction(name: str, value: float) -> float:
    """Raises InvalidInput for a value outside of 0 to 1."""
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise InvalidInput(
            f"{name} is {value:g}; it must be a number from 0 to 1, a share of the image's steps."
        )
    return value


def _first(share: float, steps: int) -> int:
    """The first step i with share <= i / steps."""
    return math.ceil(share * steps - ROUNDING)


PLAIN = GuidanceOptions()
"""What a plain diffusers pipeline does."""
NO_CHOICE = GuidanceChoice()
"""Everything is left to the generator."""
