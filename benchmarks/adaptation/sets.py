"""The experiment's images, captioned: cells, five other kinds of medical image, and chest radiographs."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.adaptation.captions import cell_captions, kind_captions, light_of, training_captions
from training.adaptation.data import CaptionedSet, load_set
from training.adaptation.duplicates import near_pairs, thumbnail
from training.adaptation.images import ReadOptions
from training.adaptation.splits import Split
from vouch.datasets.imagesets import open_image_set
from vouch.domains.criteria import load_domain

DATA = Path("../shared/data")
SIZE = 64
PER_IMAGE = 6
"""Captions that are made for an image of the foundation model."""
CHEST_LABELS = ("normal", "bacterial pneumonia", "viral pneumonia")


@dataclass(frozen=True)
class Sets:
    """Loads the sets below `data` at `size` pixels a side."""

    data: Path = DATA
    size: int = SIZE

    def chests(self, split: Split) -> CaptionedSet:
        """Chest radiographs of cxr224, made smaller; no patient is in two splits."""
        domain = load_domain("chest_xray")
        images = load_set(self.data / "cxr224" / f"{split}.parquet", self.size, ReadOptions(domain, share=0))
        said = (training_captions(domain, label, CHEST_LABELS) for label in images.labels)
        return _of_split(replace(images, captions=tuple(said)), split)

    def kinds(self, split: Split, seed: int = 0) -> CaptionedSet:
        """The five kinds of mednist64. It names no patients: every image stands for itself."""
        path = self.data / "mednist64" / f"{split}.parquet"
        images = load_set(path, self.size, ReadOptions(load_domain("blood_cells"), share=0))
        light = light_of(images.images.float().mean((1, 2, 3)).numpy(), images.labels)
        rows = enumerate(zip(images.labels, light, strict=True))
        said = (kind_captions(label, word, PER_IMAGE, seed * 1_000_000 + row) for row, (label, word) in rows)
        return _of_split(replace(images, captions=tuple(said)), split)

    def cells(
        self, split: Split, without: Collection[str] = (), only: Collection[str] = (), seed: int = 0
    ) -> CaptionedSet:
        """Blood cells of pbc64. without: types that the near experiment's foundation model never sees; only: those that
        it is then adapted to."""
        path = self.data / "pbc64" / f"{split}.parquet"
        domain = load_domain("blood_cells")
        images = load_set(path, self.size, ReadOptions(domain, share=0))
        known = domain.vocabulary.attributes if domain.vocabulary else {}
        attributes = {
            item.key: {name: value for name, value in item.attributes.items() if name in known}
            for item in open_image_set(path).images()
        }
        said = (
            cell_captions(label, attributes[key], PER_IMAGE, seed * 1_000_000 + row)
            for row, (label, key) in enumerate(zip(images.labels, images.keys, strict=True))
        )
        cells = _of_split(replace(images, captions=tuple(said)), split)
        kept = [
            row
            for row, label in enumerate(cells.labels)
            if label not in without and (not only or label in only)
        ]
        return cells.subset(kept)


def without_repeats(images: CaptionedSet, of: Sequence[CaptionedSet]) -> CaptionedSet:
    """`images` without those that nearly repeat an image of another set: mednist64 has neighbouring slices of one
    volume on both sides of its splits, and what was trained on them would validate too well."""
    repeats = {row for other in of for row in _repeating(images, other)}
    if not repeats:
        return images
    # What counts as near depends on how dense the neighbourhood is, so those that are left are looked at again.
    return without_repeats(images.subset([row for row in range(len(images)) if row not in repeats]), of)


def _repeating(images: CaptionedSet, other: CaptionedSet) -> set[int]:
    """The rows of `images` that nearly repeat one of `other`."""
    thumbnails = [thumbnail(array) for one in (images, other) for array in one.arrays]
    return {min(pair) for pair in near_pairs(thumbnails) if min(pair) < len(images) <= max(pair)}


def joined(*sets: CaptionedSet) -> CaptionedSet:
    """Several sets of one size, one after the other."""
    import torch

    def chained(name: str) -> tuple:
        return tuple(value for one in sets for value in getattr(one, name))

    rest = (chained(name) for name in ("captions", "labels", "patients", "splits", "keys", "digests"))
    return CaptionedSet(torch.cat([one.images for one in sets]), *rest)


def mixed(images: CaptionedSet, count: int) -> CaptionedSet:
    """So many of the images, drawn at random, always the same."""
    return images.subset(random.Random(0).sample(range(len(images)), min(count, len(images))))


def _of_split(images: CaptionedSet, split: Split) -> CaptionedSet:
    """A file that is one split throughout says so by its name, which its keys do not repeat."""
    return replace(images, splits=(split,) * len(images))
