"""Ratings of several raters, aggregated to one row for each image or pair."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from training.inputs.concept_words import learned_concepts
from training.inputs.consensus import BinaryAnswer, consensus
from vouch.domains.criteria import SUB_LABEL
from vouch.models.captions import general
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.types.rating import Rating

_VERDICTS = {"plausible": True, "implausible": False}
_ANSWERS = {"pass": True, "fail": False}


def image_rows(ratings: Iterable[Rating], catalog: Catalog, blobs: BlobStore) -> list[dict]:
    """One row per image: what its raters say together, of the whole and of each criterion."""
    by_image: dict[str, list[Rating]] = defaultdict(list)
    for rating in ratings:
        by_image[rating.image].append(rating)
    concepts, uniform = learned_concepts(catalog), catalog.reviews.uniform()
    records = {digest: catalog.images.get(digest) for digest in sorted(by_image)}
    real = {digest: True for digest, record in records.items() if record.source == "real"}
    overall, criteria = _consensus([rating for given in by_image.values() for rating in given], real)
    return [
        {
            "image": blobs.get(digest),
            "prompt": general(record.prompt, concepts),
            "digest": digest,
            "source": record.source,
            "uniform": digest in uniform,
            "overall": overall.get(digest),
            "criteria": json.dumps({name: yes[digest] for name, yes in criteria.items() if digest in yes}),
            "ratings": json.dumps(sorted(rating.id for rating in by_image[digest])),
            "kinds": json.dumps([rating.kind for rating in by_image[digest]]),
        }
        for digest, record in records.items()
    ]


def _consensus(
    ratings: list[Rating], real: Mapping[str, bool]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The probability of yes by image: of the verdict, and of each criterion by its name. Real images are plausible and
    pass."""
    overall = consensus(binary_answers(ratings, lambda rating: _VERDICTS.get(rating.verdict)), real)
    names = sorted({name for r in ratings for name in r.answers if not name.startswith(SUB_LABEL)})
    return overall, {name: consensus(criterion_answers(ratings, name), real) for name in names}


def binary_answers(ratings: Iterable[Rating], read: Callable[[Rating], bool | None]) -> list[BinaryAnswer]:
    """What was answered; open questions are no answers."""
    answers = ((rating, read(rating)) for rating in ratings)
    return [BinaryAnswer(rating.image, _rater(rating), yes) for rating, yes in answers if yes is not None]


def _rater(rating: Rating) -> str:
    return f"{rating.kind} {rating.rater}"


def criterion_answers(ratings: Iterable[Rating], name: str) -> list[BinaryAnswer]:
    """What was criterion_answers to the question `name`; open ones are no answers."""
    return binary_answers(ratings, lambda rating: _ANSWERS.get(rating.answers.get(name, "")))


def pair_rows(ratings: Iterable[Rating], catalog: Catalog, blobs: BlobStore) -> list[dict]:
    """One row per pair that was compared, however often, with what those who compared it say together."""
    answers = []
    for rating in ratings:
        if rating.preference:
            first, second = sorted((rating.image, rating.preference.other))
            preferred = rating.preference.preferred == first
            answers.append(BinaryAnswer(f"{first} {second}", _rater(rating), preferred))
    concepts = learned_concepts(catalog)
    return [
        {
            "first": blobs.get(first),
            "second": blobs.get(second),
            "first_digest": first,
            "second_digest": second,
            "first_prompt": general(catalog.images.get(first).prompt, concepts),
            "second_prompt": general(catalog.images.get(second).prompt, concepts),
            "preferred": preferred,
        }
        for pair, preferred in sorted(consensus(answers).items())
        for first, second in [pair.split()]
    ]
