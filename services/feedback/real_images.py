"""Real images whose class is known, stored so that nothing but the picture tells them from drawn ones."""

from __future__ import annotations

from vouch.errors import InvalidInput, VouchError
from vouch.formats import images as codec
from vouch.models.captions import Vocabulary, caption
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.types.generator import GeneratorDescription
from vouch.types.image import ImageRecord


class RealImageStore:
    """What is hidden among drawn images to show how reliable a rater is."""

    def __init__(self, catalog: Catalog, blobs: BlobStore) -> None:
        self._catalog, self._blobs = catalog, blobs

    def add(self, data: bytes, prompt: str, drawn: GeneratorDescription) -> bool:
        """Store an image in the format and size of those that are `drawn`; whether it was new.

        Raises:
            InvalidInput: a prompt with words that the generator never learned, or an image that is unreadable or
                smaller than the drawn ones.
        """
        words, label = _declared(prompt, drawn)
        png = _fitted(data, drawn)
        record = ImageRecord(
            digest=self._blobs.put(png),
            media_type="image/png",
            width=drawn.width,
            height=drawn.height,
            size_bytes=len(png),
            source="real",
            prompt=words,
            label=label,
        )
        return bool(self._catalog.images.add([record]))


def _fitted(data: bytes, drawn: GeneratorDescription) -> bytes:
    """The image as a PNG of the size of those that are `drawn`. One that cannot be had fails alone."""
    try:
        return codec.encode_png(codec.fitted(codec.decode(data), drawn.width, drawn.height))
    except VouchError:
        raise
    except Exception as error:
        raise InvalidInput(
            f"The image could not be brought to {drawn.width} × {drawn.height} pixels"
            f" ({type(error).__name__}: {error}). Convert it to PNG first.",
            "IMAGE_DAMAGED",
        ) from error


def _declared(prompt: str, drawn: GeneratorDescription) -> tuple[str, str]:
    """The prompt as the generator's own are worded, and the class that it names."""
    if not prompt.strip():
        raise InvalidInput(
            "The image has no label, and a rater is told what it should show: name its class.", "NO_LABEL"
        )
    if not drawn.labels:
        return prompt.strip(), ""
    declared = Vocabulary(drawn.labels, {one.name: one.values for one in drawn.attributes}).parse(prompt)
    return caption(declared.label, declared.attributes), declared.label
