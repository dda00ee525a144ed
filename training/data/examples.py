"""Labelled image sets as tensors, and the captions that training draws from them."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training.data.captions import FULL_CAPTIONS, random_caption
from training.data.digest import digest_of
from vouch.datasets.imagesets import SourceImage, open_image_set
from vouch.domains.criteria import Domain, load_domain
from vouch.errors import InvalidInput, VouchError
from vouch.formats import images as codec
from vouch.models.captions import Vocabulary

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

    @property
    def arrays(self) -> np.ndarray:
        """The images as uint8 [N, H, W, 3]."""
        return self.images.permute(0, 2, 3, 1).numpy()

    def caption(self, row: int, rng: random.Random) -> str:
        """The caption of the image in this row in one of its forms."""
        return random_caption(self.labels[row], self.attributes[row], rng, full=FULL_CAPTIONS)

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
    noted: list[str] = []
    for item in open_image_set(path).images():
        try:
            pixels = _labelled_pixels(item, size)
            noted += [f" {item.key}: {note}" for note in [codec.range_note(item.data)] if note]
        except Exception as error:  # noqa: BLE001 - one odd image must not end the training
            why = error.message if isinstance(error, VouchError) else f"{type(error).__name__}: {error}."
            left_out.setdefault(why, []).append(item.key)
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
    if noted:
        log.warning("%s: %d images use a small part of their range.%s …", path, len(noted), noted[0])
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
    sentences = [f" Left out {len(keys)} ({keys[0]}, …): {why}" for why, keys in reasons[:shown]]
    return "".join(sentences) + (f" And {len(reasons) - shown} reasons more." if len(reasons) > shown else "")


def _pixels(data: bytes, size: int | None) -> np.ndarray:
    array = codec.decode(data)
    if size is None or array.shape[:2] == (size, size):
        return array
    return np.asarray(Image.fromarray(array).resize((size, size), Image.Resampling.LANCZOS))
