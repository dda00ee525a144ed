"""Real images on real parts: stored like drawn ones, hidden in reviews, and telling whom to believe."""

from __future__ import annotations

import asyncio
import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.feedback.app import Feedback
from services.feedback.real_images import RealImageStore
from services.feedback.review import Review
from services.identity import Identity
from training.inputs.rated import load_rated
from training.inputs.snapshot import freeze
from vouch.domains.criteria import Domain
from vouch.errors import InvalidInput, StorageFull
from vouch.formats import images as codec
from vouch.pb.v1 import feedback_pb2 as pb
from vouch.settings import ReviewSettings, Settings
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.types.generator import GeneratorDescription, PromptAttribute
from vouch.types.image import ImageRecord
from vouch.types.rating import NewRating

SIZE = 16
LABELS = ("monocyte", "neutrophil")
DRAWN = GeneratorDescription(
    generator_version="g" * 64, generator_name="starter", width=SIZE, height=SIZE, sampler="ddim", default_steps=4,
    default_guidance=1.0, labels=LABELS,
    attributes=(PromptAttribute(name="cell size", values=("big", "small")),),
)  # fmt: skip


def picture(number: int, size: tuple[int, int] = (SIZE, SIZE), kind: str = "PNG", **options: Any) -> bytes:
    """An encoded image of random pixels, (width, height)."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def real(catalog: Catalog, blobs: BlobStore) -> RealImageStore:
    return RealImageStore(catalog, blobs)


def stored(catalog: Catalog) -> tuple[ImageRecord, ...]:
    return catalog.images.list(source="real", page_size=1000).items


# ---- what is stored


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_whatever_comes_is_kept_as_a_drawn_image_would_be(
    catalog: Catalog, blobs: BlobStore, real: RealImageStore, kind: str
) -> None:
    exif = Image.Exif()
    exif[0x010E] = "patient 7"
    assert real.add(picture(1, (40, 24), kind, exif=exif.tobytes()), "neutrophil, cell size big", DRAWN)
    (record,) = stored(catalog)
    data = blobs.get(record.digest)
    assert data == codec.encode_png(codec.decode(data))  # to the byte what our own encoder writes
    assert b"patient" not in data
    shown = codec.inspect(data)
    assert (shown.media_type, shown.width, shown.height) == ("image/png", SIZE, SIZE)
    assert (record.media_type, record.width, record.size_bytes) == ("image/png", SIZE, len(data))
    assert (record.source, record.generator_version, record.seed) == ("real", "", None)
    assert (record.prompt, record.label) == ("neutrophil, cell size big", "neutrophil")


def test_an_image_of_the_right_size_keeps_its_pixels(
    catalog: Catalog, blobs: BlobStore, real: RealImageStore
) -> None:
    real.add(picture(1), "neutrophil", DRAWN)
    assert (codec.decode(blobs.get(stored(catalog)[0].digest)) == codec.decode(picture(1))).all()


def test_the_same_image_is_stored_once_and_keeps_its_first_words(
    catalog: Catalog, real: RealImageStore
) -> None:
    assert real.add(picture(1), "neutrophil", DRAWN)
    assert not real.add(picture(1), "monocyte", DRAWN)
    assert [record.prompt for record in stored(catalog)] == ["neutrophil"]


def test_words_are_kept_as_the_generator_writes_them(catalog: Catalog, real: RealImageStore) -> None:
    real.add(picture(1), "  Neutrophil ,cell size BIG", DRAWN)
    assert stored(catalog)[0].prompt == "neutrophil, cell size big"


@pytest.mark.parametrize(
    ("data", "prompt", "says"),
    [
        (
            picture(1),
            "blast",
            "'blast', which this generator never learned. Begin with one of: monocyte, neutro",
        ),
        (picture(1), "neutrophil, cell size huge", "Known values of cell size: big, small"),
        (picture(1), " ", "has no label"),
        (picture(1, (SIZE, SIZE - 1)), "neutrophil", "16 × 15 pixels; at least 16 × 16"),
        (b"not an image", "neutrophil", "not an image"),
        (picture(1)[:60], "neutrophil", "damaged or truncated"),
    ],
)
def test_what_cannot_be_hidden_is_refused_and_leaves_nothing(
    catalog: Catalog, real: RealImageStore, data: bytes, prompt: str, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        real.add(data, prompt, DRAWN)
    assert stored(catalog) == ()


def test_a_generator_that_takes_any_words_takes_any_label(catalog: Catalog, real: RealImageStore) -> None:
    foreign = GeneratorDescription(
        generator_version="f" * 64, generator_name="sd", width=SIZE, height=SIZE, sampler="ddim", default_steps=4,
        default_guidance=1.0,
    )  # fmt: skip
    real.add(picture(1), "a photo of a Neutrophil, stained", foreign)
    assert [(r.prompt, r.label) for r in stored(catalog)] == [("a photo of a Neutrophil, stained", "")]


# ---- the call


@pytest.fixture
def feedback(settings: Settings) -> Feedback:
    return Feedback(settings)


def handed(feedback: Feedback, *images: tuple[bytes, str], offset: int = 0) -> Any:
    message = pb.ImportRealImagesRequest(images=[pb.RealImage(data=d, prompt=prompt) for d, prompt in images])
    return asyncio.run(feedback.ImportRealImages(message, offset, DRAWN, Identity.unchecked()))


def test_a_call_counts_what_it_stored_knew_and_refused(feedback: Feedback) -> None:
    good = picture(1), "neutrophil"
    answer = handed(feedback, good, (b"no", "neutrophil"), good, offset=40)
    assert (answer.stored, answer.already_stored, answer.failed) == (1, 1, 1)
    assert [(one.index, one.reason) for one in answer.failures] == [(41, "NOT_AN_IMAGE")]
    (image,) = asyncio.run(feedback.ListImages(pb.ListImagesRequest(), Identity.unchecked())).images
    assert (image.source, image.generator_version) == (pb.IMAGE_SOURCE_REAL, "")


def test_an_image_whose_prompt_is_too_long_is_refused_alone(feedback: Feedback) -> None:
    answer = handed(feedback, (picture(1), "x" * 1001), (picture(2), "neutrophil"))
    assert (answer.stored, answer.failed) == (1, 1)
    assert "prompt has 1001 characters" in answer.failures[0].message


def test_a_full_disk_ends_the_call(feedback: Feedback, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise StorageFull("The disk is full.")

    monkeypatch.setattr(BlobStore, "put", full)
    with pytest.raises(StorageFull):
        handed(feedback, (picture(1), "neutrophil"))


# ---- from the import to what is learned


@pytest.fixture
def reviewed(catalog: Catalog, blobs: BlobStore, real: RealImageStore, tmp_path: Path, make_image) -> Review:
    """60 drawn images, and 60 real ones that were given as JPEG and larger; a third may be hidden."""
    for number in range(60):
        data = picture(number)
        record = make_image(
            number,
            digest=blobs.put(data),
            size_bytes=len(data),
            width=SIZE,
            height=SIZE,
            generator_version="g" * 64,
        )
        catalog.images.add([record])
        words = "neutrophil" if number % 2 else "neutrophil, cell size big"
        assert real.add(picture(1000 + number, (24, 24), "JPEG"), words, DRAWN)
    settings = ReviewSettings(real_share=0.33, repeat_share=0.0)
    return Review(catalog, blobs, settings, random.Random(0))


def rate(catalog: Catalog, domain: Domain, review: Review, rater: str, wrong: float) -> list[ImageRecord]:
    """Rates 80 images, one by one. Half of the drawn ones are plausible; the rater is wrong so often."""
    chance, seen = random.Random(rater), []
    for number in range(80):
        ((record, _),) = review.next(rater, 1, kind="human", label=None, generator=None)
        right = plausible(record) != (chance.random() < wrong)
        catalog.ratings.record(
            NewRating(
                request_id=f"{rater} {number}", image=record.digest, rater=rater, kind="human",
                verdict="plausible" if right else "implausible",
            ),
            domain,
        )  # fmt: skip
        seen.append(record)
    return seen


def plausible(record: ImageRecord) -> bool:
    return record.source == "real" or bool(record.seed and record.seed % 2)


def test_about_the_share_that_was_configured_is_real(
    catalog: Catalog, domain: Domain, reviewed: Review
) -> None:
    seen = rate(catalog, domain, reviewed, "ada", 0.0)
    assert 0.2 < sum(record.source == "real" for record in seen) / len(seen) < 0.46


def test_nothing_in_the_answer_tells_real_images_from_drawn_ones(
    feedback: Feedback, settings: Settings, make_image
) -> None:
    """All that a rater is sent is what both have: format, size, words, and nothing beside these."""
    catalog, blobs = Catalog(settings.resolved_catalog_url), BlobStore(settings.resolved_blobs_url)
    for number in range(100):
        data = picture(number)
        catalog.images.add([make_image(number, digest=blobs.put(data), width=SIZE, height=SIZE)])
        words = "neutrophil" if number % 2 else "neutrophil, cell size big"
        handed(feedback, (picture(1000 + number, (24, 24), "JPEG"), words))
    call = pb.NextForReviewRequest(rater="ada", count=50)
    found = [
        item
        for _ in range(4)
        for item in asyncio.run(feedback.NextForReview(call, Identity.unchecked())).items
    ]
    assert {catalog.images.get(item.digest).source for item in found} == {"generated", "real"}
    assert len({(i.media_type, i.width, i.height, i.prompt, codec.inspect(i.data)) for i in found}) == 1
    assert {field.name for field in pb.ReviewItem.DESCRIPTOR.fields} == {
        "digest", "data", "media_type", "width", "height", "prompt",
    }  # fmt: skip


def test_a_rater_who_fails_real_images_weighs_less_in_what_is_frozen(
    catalog: Catalog, blobs: BlobStore, domain: Domain, reviewed: Review, tmp_path: Path
) -> None:
    rate(catalog, domain, reviewed, "careful", 0.0)
    rate(catalog, domain, reviewed, "careless", 0.5)
    freeze(catalog, blobs, tmp_path / "run", kinds=("human",), domain=None)
    rated = load_rated(tmp_path / "run")
    assert rated is not None
    frozen = dict(zip(rated.digests, rated.overall.tolist(), strict=True))
    said: dict[str, dict[str, bool]] = {"careful": {}, "careless": {}}
    for rating in catalog.ratings.list(page_size=1000).items:
        said[rating.rater][rating.image] = rating.verdict == "plausible"
    drawn = {record.digest for record in catalog.images.list(source="generated", page_size=1000).items}
    torn = [one for one in drawn if said["careful"].get(one, 0) != said["careless"].get(one, 0)]
    torn = [one for one in torn if one in said["careful"] and one in said["careless"]]
    assert len(torn) > 5
    assert all((frozen[one] > 0.5) == said["careful"][one] for one in torn)


def test_alignment_learns_from_drawn_images_alone_and_the_reward_from_all(
    catalog: Catalog, blobs: BlobStore, domain: Domain, reviewed: Review, tmp_path: Path
) -> None:
    seen = rate(catalog, domain, reviewed, "ada", 0.0)
    freeze(catalog, blobs, tmp_path / "run", kinds=("human",), domain=None)
    rated = load_rated(tmp_path / "run")
    assert rated is not None
    assert set(rated.digests) == {record.digest for record in seen}
    drawn = rated.drawn()
    assert set(drawn.digests) == {record.digest for record in seen if record.source == "generated"}
    assert set(drawn.sources) == {"generated"}
    assert len(drawn.images) == len(drawn.overall) == len(drawn)
