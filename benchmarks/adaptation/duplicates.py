"""How well the data check tells copies of an image from other images: ``python -m benchmarks.adaptation.duplicates``.

Copies of images drawn at random are planted: compressed again, scaled, brightened, cropped, shifted. `found_…` is the
share that the check groups with its original; `unplanted` counts pairs that it groups although nobody planted them.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.adaptation.sets import DATA
from training.adaptation.duplicates import groups_of, near_pairs, thumbnail
from training.evaluation.intervals import rate
from vouch.datasets.imagesets import open_image_set
from vouch.formats import images as codec

PLANTED = 200

Change = Callable[[Image.Image], Image.Image]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the shared image sets")
    parser.add_argument("--sets", nargs="+", default=["cxr224", "mednist64", "pbc64"])
    parser.add_argument("--split", default="train")
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    figures = {
        name: measured(arguments.data / name / f"{arguments.split}.parquet") for name in arguments.sets
    }
    text = json.dumps(figures, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


def measured(path: Path, planted: int = PLANTED) -> dict[str, object]:
    """The figures of one image set."""
    images = [codec.decode(item.data) for item in open_image_set(path).images()]
    whole = [thumbnail(image) for image in images]
    rows = np.random.default_rng(0).permutation(len(images))[:planted]
    alone = groups_of(near_pairs(whole))
    told: dict[str, object] = {"images": len(images), "unplanted": sum(len(group) - 1 for group in alone)}
    for name, change in CHANGES.items():
        copies = [thumbnail(np.asarray(change(Image.fromarray(images[row])).convert("RGB"))) for row in rows]
        told[f"found_{name}"] = share_found([*whole, *copies], rows, len(images))
    return told


def share_found(thumbnails: list, rows: np.ndarray, first: int) -> dict[str, float | None]:
    """The share of copies, from place `first` on, that are in one group with their originals."""
    group_of = {
        row: number for number, group in enumerate(groups_of(near_pairs(thumbnails))) for row in group
    }
    found = [group_of.get(int(row), -1) == group_of.get(first + place, -2) for place, row in enumerate(rows)]
    estimate = rate(sum(found), len(found))
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return Image.open(io.BytesIO(buffer.getvalue()))


def _scaled(image: Image.Image) -> Image.Image:
    return image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.LANCZOS)


def _brighter(image: Image.Image) -> Image.Image:
    return image.point(lambda value: min(255, int(value * 1.1) + 8))


def _cropped(image: Image.Image) -> Image.Image:
    edge = max(1, round(image.width * 0.02))
    return image.crop((edge, edge, image.width - edge, image.height - edge))


def _shifted(image: Image.Image) -> Image.Image:
    by = max(1, round(image.width * 0.01))
    return image.crop((by, 0, image.width, image.height - by))


CHANGES: dict[str, Change] = {
    "jpeg_60": _jpeg,
    "three_quarters": _scaled,
    "brighter": _brighter,
    "cropped_2_percent": _cropped,
    "shifted_1_percent": _shifted,
}


if __name__ == "__main__":
    main()
