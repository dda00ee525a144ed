"""How different the images of one prompt are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def within_prompt(features: np.ndarray, prompts: Sequence[str]) -> dict[str, float]:
    """Mean distance between two images of a prompt, by features [N, D]; prompts with one image have none."""
    names = np.array(prompts)
    found = {}
    for prompt in sorted(set(prompts)):
        rows = features[names == prompt]
        if len(rows) > 1:
            found[prompt] = float(_pairwise(rows).sum() / (len(rows) * (len(rows) - 1)))
    return found


def relative(generated: dict[str, float], real: dict[str, float]) -> float:
    """The mean over common prompts of generated diversity ÷ that of as many real images; nan without any."""
    common = [prompt for prompt in generated if real.get(prompt)]
    return float(np.mean([generated[prompt] / real[prompt] for prompt in common])) if common else float("nan")


def _pairwise(rows: np.ndarray) -> np.ndarray:
    squares = (rows**2).sum(1)
    return np.asarray(np.sqrt(np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0)))
