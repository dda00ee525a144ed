"""The settings of a concept with the folders that its training reads and writes."""

from __future__ import annotations

from pathlib import Path

from vouch.recipes import ConceptLearning


class ConceptConfig(ConceptLearning):
    """One concept."""

    out: Path
    base: Path
    """The diffusers folder that is fine-tuned."""
    parent: Path | None = None
    """A LoRA folder upon `base` to go on from."""
    reward: Path
    """The ensemble whose features the head may read, from which tutors begin, and which practice follows."""
    rater: Path | None = None
    """An attribute network whose features the head may read instead, if they tell the sub-types better; another tutor
    begins from it."""
