"""Labelled image sets as tensors, and the captions that training draws from them."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vouch.datasets.imagesets import SourceImage, open_image_set
from vouch.domains.criteria import Domain, load_domain
from vouch.errors import InvalidInput, VouchError
from vouch.formats import images as codec
from vouch.models.captions import Vocabulary, caption

log = logging.getLogger("vouch.training")


@dataclass(frozen=True)
class Examples:
    """A labelled image set in memory. `images` is uint8 [N, 3, H, W]; `hidden` holds what no caption names, `patients`
    whose image each is, "" where nothing says so."""

    images: torch.Tensor
    labels: tuple[str, ...]
    attributes: tuple[dict[str, str], ...]
    hidden: tuple[dict[str, str], ...]
    digest: str
    patients: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.of(self.labels, self.attributes)

    @property
    def groups(self) -> tuple[str | int, ...]:
        """What has to stay together: the patient of each image, or its own row where no patient is known. Images of one
        patient are no independent samples."""
        known = self.patients or ("",) * len(self)
        return tuple(patient or row for row, patient in enumerate(known))

    def subset(self, indices: Sequence[int]) -> Examples:
        """The examples at `indices`, in that order; the digest stays that of the whole file."""
        return Examples(
            self.images[torch.as_tensor(list(indices), dtype=torch.long)],
            tuple(self.labels[i] for i in indices),
            tuple(self.attributes[i] for i in indices),
            tuple(self.hidden[i] for i in indices),
            self.digest,
            tuple(self.patients[i] for i in indices) if self.patients else (),
        )


def load_examples(path: Path | str, size: int | None = None, domain: Domain | None = None) -> Examples:
    """Reads a labelled image set, resizing to `size` pixels square where given. domain: says which columns no caption
    names; default: the shipped one.

    Items without a label and unreadable ones are left out, and a warning says how many and why.

    Raises:
        InvalidInput: no labels, no readable image, or images of different sizes and no `size`.
    """
    domain = domain or load_domain()
    arrays, labels, attributes, hidden, patients = [], [], [], [], []
    left_out: dict[str, list[str]] = {}
    for item in open_image_set(path).images():
        try:
            pixels = _labelled_pixels(item, size)
        except VouchError as error:
            left_out.setdefault(error.message, []).append(item.key)
            continue
        arrays.append(pixels)
        labels.append(item.label)
        attributes.append({k: v for k, v in item.attributes.items() if k not in domain.uncaptioned})
        hidden.append({k: v for k, v in item.attributes.items() if k in domain.uncaptioned})
        patients.append(item.attributes.get(domain.patient_column) or item.patient)
    if not arrays:
        raise InvalidInput(
            f"{path} holds no labelled image. Training needs a `label` for each image.{_why(left_out)}"
        )
    if left_out:
        log.warning("%s: %d images are used.%s", path, len(arrays), _why(left_out))
    if len({a.shape for a in arrays}) > 1:
        raise InvalidInput(f"{path} holds images of different sizes. Give --size to bring them to one.")
    stacked = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    whose = tuple(patients) if any(patients) else ()
    return Examples(stacked, tuple(labels), tuple(attributes), tuple(hidden), digest_of(path), whose)


def _labelled_pixels(item: SourceImage, size: int | None) -> np.ndarray:
    """uint8 [H, W, 3] of a labelled image. Raises InvalidInput with the reason why it teaches nothing."""
    if problem := item.skipped or item.problem:
        raise InvalidInput(problem)
    if not item.label:
        raise InvalidInput(item.prompt_problem or "The image has no label.")
    return _pixels(item.data, size)


def _why(left_out: Mapping[str, Sequence[str]], shown: int = 5) -> str:
    """The most frequent reasons, each with how many images it left out and the first of them."""
    reasons = sorted(left_out.items(), key=lambda pair: -len(pair[1]))
    told = [f" Left out {len(keys)} ({keys[0]}, …): {why}" for why, keys in reasons[:shown]]
    return "".join(told) + (f" And {len(reasons) - shown} reasons more." if len(reasons) > shown else "")


def digest_of(path: Path | str) -> str:
    """SHA-256 over a file, or over the sorted names and bytes of a folder's files."""
    path, total = Path(path), hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(file.relative_to(path).as_posix().encode() + file.read_bytes())
    return total.hexdigest()


def halves(examples: Examples, seed: int = 0) -> tuple[Examples, Examples]:
    """Two disjoint halves: one teaches (rater, reward), the other judges, and neither sees the other's images, nor
    other images of the other's patients."""
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)
    first = {row for rows in taken(order, examples.groups, len(order) // 2) for row in rows}
    rest = [row for row in order if row not in first]
    return examples.subset(sorted(first)), examples.subset(sorted(rest))


def taken(order: Sequence[int], groups: Sequence[Hashable], count: int) -> list[list[int]]:
    """The groups of rows in the order in which they come first, until they hold at least `count` rows."""
    members: dict[Hashable, list[int]] = {}
    for row in order:
        members.setdefault(groups[row], []).append(row)
    found, held = [], 0
    for rows in members.values():
        if held >= count:
            break
        found.append(rows)
        held += len(rows)
    return found


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 [N, 3, H, W] to float in [-1, 1], as diffusers' pipelines expect."""
    return images.float().div_(127.5).sub_(1.0)


def random_caption(
    label: str, attributes: dict[str, str], rng: random.Random, bare: float = 0.4, full: float = 0.0
) -> str:
    """The bare label with probability `bare`, all attributes with probability `full`, else one to four of them.

    A generator that saw only full descriptions draws poorly when a client asks for "neutrophil" alone.
    """
    names = list(attributes)
    chance = rng.random()
    if not names or chance < bare:
        return caption(label)
    if chance >= 1.0 - full:
        return caption(label, attributes)
    chosen = rng.sample(names, rng.randint(1, min(4, len(names))))
    return caption(label, {name: attributes[name] for name in chosen})


def turned(images: torch.Tensor, turn: int) -> torch.Tensor:
    """Images [N, C, S, S] in one of the eight orientations of a square; 0 leaves them as they are."""
    part = torch.rot90(images, turn % 4, (2, 3))
    return part.flip(3) if turn >= 4 else part


def dihedral(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Flips and quarter turns, one drawn for each image [N, C, S, S]: cells have no up and no left."""
    turns = torch.randint(0, 8, (len(images),), generator=generator)
    out = torch.empty_like(images)
    for turn in range(8):
        rows = (turns == turn).nonzero().flatten()
        if len(rows):
            out[rows] = turned(images[rows], turn)
    return out


def _pixels(data: bytes, size: int | None) -> np.ndarray:
    array = codec.decode(data)
    if size is None or array.shape[:2] == (size, size):
        return array
    return np.asarray(Image.fromarray(array).resize((size, size), Image.Resampling.LANCZOS))
