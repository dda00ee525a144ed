"""What a run learns from is frozen once: whose ratings, which images, named by digest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from training.concepts.sublabels import freeze_sub_labels, load_sub_labels
from training.inputs.pairs import load_pairs
from training.inputs.rated import RATINGS_FILE, load_rated
from training.inputs.snapshot import freeze
from vouch.domains.criteria import Domain
from vouch.errors import FailedPrecondition
from vouch.formats import images as codec
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.rating import NewRating, Preference


@pytest.fixture
def drawn(catalog: Catalog, blobs: BlobStore, make_image) -> str:
    """The digest of one stored image."""
    data = codec.encode_png(np.full((64, 64, 3), 90, np.uint8))
    digest = blobs.put(data)
    catalog.images.add([make_image(0, digest=digest, size_bytes=len(data), prompt="monocyte")])
    return digest


def say(catalog: Catalog, domain: Domain, image: str, rater: str, verdict: str, kind: str = "human") -> str:
    rating = NewRating(
        request_id=f"{rater}/{verdict}",
        image=image,
        rater=rater,
        kind=kind,  # type: ignore[arg-type]
        verdict=verdict,  # type: ignore[arg-type]
        answers={"cell_size": "pass" if verdict == "plausible" else "fail", "granules": "unsure"},
    )
    return catalog.ratings.record(rating, domain).id


def test_two_raters_make_a_mean_and_an_open_question_stays_open(
    catalog: Catalog, blobs: BlobStore, domain: Domain, drawn: str, tmp_path: Path
) -> None:
    ids = [say(catalog, domain, drawn, "a", "plausible"), say(catalog, domain, drawn, "b", "implausible")]
    frozen = freeze(catalog, blobs, tmp_path / "run", kinds=("human",), domain=None)
    assert sorted(frozen.ratings) == sorted(ids)
    rated = load_rated(tmp_path / "run")
    assert rated is not None
    assert rated.prompts == ("monocyte",)
    assert float(rated.overall[0]) == 0.5
    assert float(rated.criteria["cell_size"][0]) == 0.5
    assert "granules" not in rated.criteria


def test_simulated_ratings_teach_only_when_they_are_asked_for(
    catalog: Catalog, blobs: BlobStore, domain: Domain, drawn: str, tmp_path: Path
) -> None:
    say(catalog, domain, drawn, "simulated-1", "plausible", kind="simulated")
    with pytest.raises(FailedPrecondition, match="no human rating to learn from"):
        freeze(catalog, blobs, tmp_path / "a", kinds=("human",), domain=None)
    frozen = freeze(catalog, blobs, tmp_path / "b", kinds=("human", "simulated"), domain=None)
    assert frozen.kinds == {"simulated": 1}


def test_a_rating_that_comes_later_changes_nothing(
    catalog: Catalog, blobs: BlobStore, domain: Domain, drawn: str, tmp_path: Path
) -> None:
    say(catalog, domain, drawn, "a", "plausible")
    first = freeze(catalog, blobs, tmp_path / "run", kinds=("human",), domain=None)
    say(catalog, domain, drawn, "b", "implausible")
    assert freeze(catalog, blobs, tmp_path / "run", kinds=("human",), domain=None) == first


def test_comparisons_are_frozen_with_both_images_however_often_they_were_compared(
    catalog: Catalog, blobs: BlobStore, domain: Domain, make_image, tmp_path: Path
) -> None:
    digests = []
    for number, level in enumerate((40, 200)):
        data = codec.encode_png(np.full((64, 64, 3), level, np.uint8))
        digests.append(blobs.put(data))
        record = make_image(number, digest=digests[-1], size_bytes=len(data), prompt="monocyte")
        catalog.images.add([record])
    for rater, image in (("a", 0), ("b", 1), ("c", 1)):
        preference = Preference(other=digests[1 - image], preferred=digests[1 if rater != "a" else 0])
        rating = NewRating(
            request_id=rater, image=digests[image], rater=rater, kind="human", verdict="unsure",
            preference=preference,
        )  # fmt: skip
        catalog.ratings.record(rating, domain)
    freeze(catalog, blobs, tmp_path / "run", kinds=("human",), domain=None)
    pairs = load_pairs(tmp_path / "run")
    assert pairs is not None
    assert len(pairs) == 1
    bright_first = bool(pairs.first.float().mean() > pairs.second.float().mean())
    assert float(pairs.preferred[0]) == pytest.approx(2 / 3 if bright_first else 1 / 3)


def test_who_is_often_wrong_counts_less_in_a_comparison(
    catalog: Catalog, blobs: BlobStore, domain: Domain, make_image, tmp_path: Path
) -> None:
    """Two who agree with each other are right, by Dawid and Skene; a mean would call a third of it undecided."""
    digests = []
    for level in range(32):
        data = codec.encode_png(np.full((8, 8, 3), 8 * level, np.uint8))
        digests.append(blobs.put(data))
        catalog.images.add([make_image(level, digest=digests[-1], size_bytes=len(data), prompt="monocyte")])
    for dark, bright in zip(digests[:16], digests[16:], strict=True):
        for rater, preferred in (("a", bright), ("b", bright), ("contrary", dark)):
            preference = Preference(other=bright, preferred=preferred)
            rating = NewRating(
                request_id=f"{rater}/{dark}", image=dark, rater=rater, kind="human", verdict="unsure",
                preference=preference,
            )  # fmt: skip
            catalog.ratings.record(rating, domain)
    freeze(catalog, blobs, tmp_path / "run", kinds=("human",), domain=None)
    pairs = load_pairs(tmp_path / "run")
    assert pairs is not None
    brighter = pairs.first.float().mean((1, 2, 3)) > pairs.second.float().mean((1, 2, 3))
    assert np.allclose(np.where(brighter, pairs.preferred, 1 - pairs.preferred), 1.0, atol=0.01)


def test_a_run_without_comparisons_has_none(tmp_path: Path) -> None:
    assert load_pairs(tmp_path) is None


def sub_label(catalog: Catalog, domain: Domain, image: str, rater: str, answer: str) -> str:
    rating = NewRating(
        request_id=f"{rater}/{image}", image=image, rater=rater, kind="human", verdict="unsure",
        answers={"concept_band_neutrophil": answer},  # type: ignore[dict-item]
    )  # fmt: skip
    return catalog.ratings.record(rating, domain).id


def test_sub_labels_are_frozen_with_the_images_of_the_class_that_nobody_told_of(
    catalog: Catalog, blobs: BlobStore, domain: Domain, make_image, tmp_path: Path
) -> None:
    for number in range(4):
        data = codec.encode_png(np.full((64, 64, 3), 40 + number, np.uint8))
        label = "monocyte" if number == 3 else "neutrophil"
        record = make_image(number, digest=blobs.put(data), size_bytes=len(data), prompt=label, label=label)
        catalog.images.add([record])
    images = [image.digest for image in catalog.images.list().items][::-1]
    ids = [
        sub_label(catalog, domain, images[number], "ada", answer)
        for number, answer in enumerate(("pass", "fail"))
    ]
    asked = {"concept": "band neutrophil", "kind_of": "neutrophil", "kinds": ("human",)}
    frozen = freeze_sub_labels(catalog, blobs, tmp_path / "run", **asked)  # type: ignore[arg-type]
    sub_label(catalog, domain, images[2], "ada", "pass")
    assert freeze_sub_labels(catalog, blobs, tmp_path / "run", **asked) == frozen  # type: ignore[arg-type]
    assert sorted(frozen.ratings) == sorted(ids)
    found = load_sub_labels(tmp_path / "run")
    assert found is not None
    said = dict(zip(found.images[:, 0, 0, 0].tolist(), found.probability.tolist(), strict=True))
    assert (said[40], said[41], len(said)) == (1.0, 0.0, 3)
    assert said[42] != said[42]
    assert found.counts() == (1, 1)
    assert len(found.only_labelled()) == 2


def test_a_sub_label_says_nothing_of_how_plausible_an_image_is(
    catalog: Catalog, blobs: BlobStore, domain: Domain, drawn: str, tmp_path: Path
) -> None:
    sub_label(catalog, domain, drawn, "a", "pass")
    with pytest.raises(FailedPrecondition, match="no human rating to learn from"):
        freeze(catalog, blobs, tmp_path / "none", kinds=("human",), domain=None)
    told = say(catalog, domain, drawn, "b", "plausible")
    assert freeze(catalog, blobs, tmp_path / "run", kinds=("human",), domain=None).ratings == (told,)


def test_an_image_of_a_concept_teaches_a_reward_as_one_of_its_class(
    catalog: Catalog, blobs: BlobStore, domain: Domain, make_image, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.json").write_text("{}")
    Registry(catalog, tmp_path / "models").publish(
        tmp_path / "model", kind="generator", format="diffusers",
        lineage={"concept": {"band neutrophil": "neutrophil"}},
    )  # fmt: skip
    data = codec.encode_png(np.full((64, 64, 3), 90, np.uint8))
    image = make_image(
        0, digest=blobs.put(data), size_bytes=len(data), prompt="band neutrophil, cell size big"
    )
    catalog.images.add([image])
    say(catalog, domain, image.digest, "a", "plausible")
    freeze(catalog, blobs, tmp_path / "run", kinds=("human",), domain=None)
    rated = load_rated(tmp_path / "run")
    assert rated is not None
    assert rated.prompts == ("neutrophil, cell size big",)


def test_without_images_of_the_class_there_are_no_sub_labels(
    catalog: Catalog, blobs: BlobStore, tmp_path: Path
) -> None:
    freeze_sub_labels(
        catalog, blobs, tmp_path, concept="band neutrophil", kind_of="neutrophil", kinds=("human",)
    )
    assert load_sub_labels(tmp_path) is None
    assert load_sub_labels(tmp_path / "elsewhere") is None


def test_ratings_that_were_frozen_before_real_images_could_be_given_are_of_drawn_ones(
    catalog: Catalog, blobs: BlobStore, domain: Domain, drawn: str, tmp_path: Path
) -> None:
    say(catalog, domain, drawn, "a", "plausible")
    freeze(catalog, blobs, tmp_path, kinds=("human",), domain=None)
    table = pq.read_table(tmp_path / RATINGS_FILE)
    pq.write_table(table.drop_columns(["source"]), tmp_path / RATINGS_FILE)
    rated = load_rated(tmp_path)
    assert rated is not None
    assert rated.drawn().digests == rated.digests == (drawn,)
