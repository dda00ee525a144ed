"""The judge beside a rollout: pairs of pictures in, one outcome by metric out, as lines of JSON on standard streams.

    python -m training.judging --judge FOLDER

A line in: {"prompt": ..., "champion": base64, "candidate": base64}, both drawn from one prompt and seed.
A line out: {"plausible": "worse" | "better" | "tie", ...}, said of the candidate; of brightness, contrast, saturation
and sharpness "worse" is a move up and "better" a move down.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import sys
from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training.evaluation.judge import Judge
from training.evaluation.pixels import LUMA, statistics

NARROWER = 0.7
"""A distance between two pictures of one class so many times that of the other side is narrower."""
MEMORY = 64
"""Earlier pictures of a class that a new one may be a near-duplicate of."""
NEAR = 0.25
"""Times the median distance of the champion's pictures of the class: below it two pictures are near-duplicates."""
MOVES = {"brightness": 0.02, "contrast": 0.015, "saturation": 0.03, "sharpness": 0.25}
"""How far a statistic moves to count: of the scale 0 to 1, of sharpness as a natural logarithm."""


@dataclass
class Side:
    """Features [D] of what a side drew so far, by class."""

    seen: dict[str, deque[np.ndarray]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=MEMORY))
    )

    def to_last(self, label: str, features: np.ndarray) -> float:
        """Distance to the picture of the class before; nan for the first."""
        return float(np.linalg.norm(self.seen[label][-1] - features)) if self.seen[label] else float("nan")

    def to_nearest(self, label: str, features: np.ndarray) -> float:
        """Distance to the nearest earlier picture of the class; infinite without any."""
        return min((float(np.linalg.norm(one - features)) for one in self.seen[label]), default=float("inf"))


class PairJudge:
    """Remembers what both sides drew, for diversity and near-duplicates.

    known: real images uint8 [N, H, W, 3] that the versions learned from, when there are any: a copy of one of them is a
    near-duplicate too.
    """

    def __init__(self, judge: Judge, known: np.ndarray | None = None) -> None:
        self._judge = judge
        self._champion, self._candidate = Side(), Side()
        self._known = None if known is None else judge.features(known)
        self._distances: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MEMORY))

    def compare(
        self, prompt: str, champion: np.ndarray | None, candidate: np.ndarray | None
    ) -> dict[str, str]:
        """Two images uint8 [H, W, 3] of one prompt and seed; None for one that cannot be read, which is implausible.

        A candidate of another size than the champion is implausible as well. Raises InvalidInput for a prompt that the
        judge cannot read.
        """
        if champion is None or candidate is None:
            return {"plausible": outcome(candidate is None, champion is None)}
        if champion.shape != candidate.shape:
            return {"plausible": "worse"}
        images = np.stack([champion, candidate])
        plausible = self._judge.assess(images, [prompt, prompt]).plausible
        features = self._judge.features(images)
        label = self._judge.plausibility.vocabulary.parse(prompt).label
        outcomes = {"plausible": outcome(not plausible[1], not plausible[0])}
        outcomes |= self._variety(label, features[0], features[1])
        return outcomes | moves(champion, candidate)

    def _variety(self, label: str, champion: np.ndarray, candidate: np.ndarray) -> dict[str, str]:
        apart = self._champion.to_last(label, champion), self._candidate.to_last(label, candidate)
        near = (
            self._is_near(label, self._champion, champion),
            self._is_near(label, self._candidate, candidate),
        )
        self._champion.seen[label].append(champion)
        self._candidate.seen[label].append(candidate)
        outcomes = {"near_duplicates": outcome(near[1], near[0])}
        if apart[0] == apart[0]:
            self._distances[label].append(apart[0])
            outcomes["diversity"] = outcome(apart[1] < NARROWER * apart[0], apart[0] < NARROWER * apart[1])
        return outcomes

    def _is_near(self, label: str, side: Side, features: np.ndarray) -> bool:
        distances = self._distances[label]
        if not distances:
            return False
        limit = NEAR * float(np.median(distances))
        known = np.inf if self._known is None else np.linalg.norm(self._known - features, axis=1).min()
        return min(side.to_nearest(label, features), float(known)) < limit


def outcome(worse: bool, better: bool) -> str:
    """Of a pair in which the candidate, and the champion, did badly."""
    return "tie" if bool(worse) == bool(better) else "worse" if worse else "better"


def moves(champion: np.ndarray, candidate: np.ndarray) -> dict[str, str]:
    """Where each statistic of the picture moved."""
    before, after = (statistics(one[None]) for one in (champion, candidate))
    changes = {
        name: float(after[name][0] - before[name][0]) for name in ("brightness", "contrast", "saturation")
    }
    changes["sharpness"] = float(np.log(_sharpness(candidate) / _sharpness(champion)))
    return {name: outcome(change > MOVES[name], change < -MOVES[name]) for name, change in changes.items()}


def _sharpness(image: np.ndarray) -> float:
    """Mean power of the discrete Laplacian of luma, 0 to 1."""
    luma = image.astype(np.float32) / 255 @ LUMA
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    return float((laplacian**2).mean()) + 1e-9


def _pixels(text: str) -> np.ndarray | None:
    """uint8 [H, W, 3]; None for bytes that are no image."""
    try:
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
    except (OSError, SyntaxError, ValueError):  # what Pillow raises for damaged files
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", type=Path, required=True)
    torch.set_num_threads(1)
    judge = PairJudge(Judge.load(parser.parse_args().judge))
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            reply = judge.compare(asked["prompt"], _pixels(asked["champion"]), _pixels(asked["candidate"]))
        except Exception as error:  # noqa: BLE001 - a prompt that cannot be judged proves nothing
            reply = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
