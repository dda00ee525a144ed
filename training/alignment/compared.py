"""Images that experts compared, as latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from training.alignment.student import Student
from training.inputs.pairs import Pairs


@dataclass(frozen=True)
class ComparedLatents:
    """Latents [N, C, h, w] of images with their prompts, which of them were told apart: rows (worse, better), and how
    sure the raters are of each pair, |2p - 1|."""

    latents: torch.Tensor
    prompts: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    certainty: tuple[float, ...]

    @classmethod
    def of(cls, student: Student, pairs: Pairs) -> ComparedLatents:
        """Encodes every image once, in however many pairs it is. A pair of which neither is better is left out."""
        digests = [digest for side in zip(*pairs.digests, strict=True) for digest in side]
        once = {digest: row for row, digest in enumerate(digests)}
        place, rows = {digest: n for n, digest in enumerate(once)}, list(once.values())
        prompts = (*pairs.first_prompts, *pairs.second_prompts)
        rows_by_pair = [
            (place[second], place[first]) if preferred > 0.5 else (place[first], place[second])
            for (first, second), preferred in zip(pairs.digests, pairs.preferred.tolist(), strict=True)
            if preferred != 0.5
        ]
        images = torch.cat([pairs.first, pairs.second])[rows]
        sure = tuple(abs(2 * preferred - 1) for preferred in pairs.preferred.tolist() if preferred != 0.5)
        return cls(student.encode(images), tuple(prompts[row] for row in rows), tuple(rows_by_pair), sure)
