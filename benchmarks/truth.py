"""What a version really draws, found outside the system, so that a reply's word need not be taken for it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.load import Order, Sample
from vouch.formats import images
from vouch.storage.state import StateFolder

Reference = Mapping[tuple[str, Order], np.ndarray]
SCALE = 0.9  # of the twin's last convolution: plainly other images, of the same cost


@dataclass(frozen=True)
class Truth:
    """Both versions' images of every order, uint8 [H, W, 3]."""

    versions: tuple[str, str]
    references: Reference

    @classmethod
    def drawn(cls, state: Path, versions: tuple[str, str], orders: Sequence[Order]) -> Truth:
        """Draw every order with both versions. RuntimeError when an order's two images are too alike to tell."""
        from vouch.models.pipelines import load_generator
        from vouch.storage.catalog import Catalog
        from vouch.storage.registry import Registry

        folder, references = StateFolder(state), {}
        with Catalog(folder.catalog_url) as catalog:
            registry = Registry(catalog, folder.models)
            for version in versions:
                generator = load_generator(registry.open(version))
                for order in orders:
                    guidance = generator.default_guidance
                    drawn = generator.generate([order.prompt], [order.seed], order.steps, guidance, None)
                    references[version, order] = drawn[0]
        for order in orders:
            if distance(*(references[version, order] for version in versions)) < 1.0:
                raise RuntimeError(
                    f"both versions draw the same for {order}: a wrong digest could not be seen"
                )
        return cls(versions, references)

    def confirms(self, sample: Sample) -> bool:
        """Whether reply and image name one version, and the image is what that version draws.

        Batch mates change the last bits of an image, so the nearer reference decides.
        """
        if sample.version != sample.image_version or sample.version not in self.versions:
            return False
        drawn = images.decode(sample.data)
        other = next(version for version in self.versions if version != sample.version)
        to_named = distance(drawn, self.references[sample.version, sample.order])
        to_other = distance(drawn, self.references[other, sample.order])
        return to_named < 0.5 * to_other


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference in grey levels."""
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean())


def publish_twin(state: Path, version: str) -> str:
    """Publish a version of the same shape and cost that draws differently. Returns its digest."""
    from safetensors.torch import load_file, save_file

    from vouch.storage.catalog import Catalog
    from vouch.storage.registry import Registry

    folder = StateFolder(state)
    with Catalog(folder.catalog_url) as catalog, tempfile.TemporaryDirectory() as scratch:
        registry = Registry(catalog, folder.models)
        copy = Path(scratch, "twin")
        shutil.copytree(registry.open(version), copy, ignore=shutil.ignore_patterns("manifest.json"))
        (weights,) = copy.glob("unet/*.safetensors")
        tensors = load_file(weights)
        tensors["conv_out.weight"] = tensors["conv_out.weight"] * SCALE
        save_file(tensors, weights, metadata={"format": "pt"})
        published = registry.publish(
            copy, kind="generator", format="diffusers", label="twin", parent=version,
            lineage={"command": "benchmarks.swap"},
        )  # fmt: skip
    return published.digest
