"""A kind of image: what an expert is asked about it, how it is captioned, and what its image sets hold.

Blood cells and chest radiographs ship in `vouch/domains/`, a folder each. Another domain is a folder of the same form,
chosen by one setting (`VOUCH_DOMAIN=/path/to/mine`); docs/how-to/own-domain.md shows how one is made.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vouch.domains.folder import is_domain, read_domain
from vouch.domains.wordings import Wordings
from vouch.errors import InvalidInput, NotFound
from vouch.types.rating import ANSWERS, Answer, Verdict

_NAME = r"^[a-z][a-z0-9_]{0,63}$"
SUB_LABEL = "concept_"
"""How the answers begin that say whether an image of a class is of one of its sub-types: no matter of plausibility, so
no question of the checklist, and no part of its verdict."""
_SHIPPED = Path(__file__).parent

log = logging.getLogger("vouch.domains")


def sub_label(concept: str) -> str:
    """The key in `Rating.answers` of "is this one a CONCEPT?": "concept_band_neutrophil" for "band neutrophil"."""
    return SUB_LABEL + re.sub(r"[ -]", "_", concept)


class Criterion(BaseModel):
    """One question about an image, answered with pass, fail or unsure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=_NAME)
    question: str = Field(min_length=1, max_length=500)
    help: str = Field(default="", max_length=5000)
    attributes: tuple[str, ...] = ()
    """Columns of labelled image sets whose annotation answers this question. Networks that learn the annotations (the
    judge, the simulated rater) say nothing of a criterion without any."""
    error_rate: float = Field(default=0.04, ge=0, le=0.5)
    """How often two experts differ on this question: how often a simulated rater's answer flips."""


class ImageHints(BaseModel):
    """What the images of a domain are like."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int | None = Field(default=None, ge=8, le=4096)
    """Pixels a side below which what the criteria ask about is lost."""
    grey: bool = False
    """Whether the images have no colour: the data check reports those that have."""


class KnownWords(BaseModel):
    """The labels and attribute values that the domain's image sets use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...] = Field(default=(), max_length=10_000)
    attributes: Mapping[str, tuple[str, ...]] = Field(default_factory=dict, max_length=1000)


class Domain(BaseModel):
    """A kind of image, the checklist that belongs to it, and what its labelled image sets hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME)
    title: str = Field(default="", max_length=200)
    symmetric: bool = False
    """Whether an image that is flipped or turned by quarters is as likely: so of single cells, not of chest X-rays."""
    hidden_columns: tuple[str, ...] = ()
    """Columns of labelled image sets that no caption names: hidden concepts, artefacts of the slide."""
    patient_column: str = "patient"
    """The column that says whose image it is. No caption names it; images of one patient are never divided between
    those that learn and those that judge."""
    criteria: tuple[Criterion, ...] = Field(min_length=1, max_length=100)
    class_criterion: str = ""
    """The criterion that asks whether the image shows what its prompt declares; "" in a file means the first."""
    captions: Wordings = Wordings()
    """How a label becomes a caption, where images have a label and no words of their own."""
    vocabulary: KnownWords | None = None
    """None: any label will do, and no attributes are known."""
    image: ImageHints = ImageHints()

    @model_validator(mode="before")
    @classmethod
    def _first_asks_for_the_class(cls, fields: Any) -> Any:
        criteria = fields.get("criteria") if isinstance(fields, dict) else None
        if not isinstance(criteria, (list, tuple)) or not criteria or fields.get("class_criterion"):
            return fields
        first = criteria[0]
        return {**fields, "class_criterion": first.get("id") if isinstance(first, dict) else first.id}

    @model_validator(mode="after")
    def _class_criterion_is_asked(self) -> Domain:
        if self.class_criterion not in self.ids:
            raise ValueError(f"class_criterion {self.class_criterion!r} is none of {', '.join(self.ids)}")
        return self

    @field_validator("criteria")
    @classmethod
    def _distinct(cls, criteria: tuple[Criterion, ...]) -> tuple[Criterion, ...]:
        ids = [criterion.id for criterion in criteria]
        if len(set(ids)) != len(ids):
            raise ValueError("two criteria have the same id")
        return criteria

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(criterion.id for criterion in self.criteria)

    @property
    def annotated(self) -> dict[str, tuple[str, ...]]:
        """Criteria that annotated attributes answer, with those attributes."""
        return {criterion.id: criterion.attributes for criterion in self.criteria if criterion.attributes}

    @property
    def error_rates(self) -> dict[str, float]:
        """How often experts differ on each criterion."""
        return {criterion.id: criterion.error_rate for criterion in self.criteria}

    @property
    def uncaptioned(self) -> frozenset[str]:
        """Columns that no caption names."""
        return frozenset({*self.hidden_columns, self.patient_column})

    def check(self, answers: Mapping[str, str]) -> None:
        """Raises InvalidInput for a criterion that this domain does not ask, or an answer that does not exist."""
        for criterion, answer in answers.items():
            named = criterion.startswith(SUB_LABEL) and re.fullmatch(_NAME, criterion)
            if criterion not in self.ids and not named:
                raise InvalidInput(
                    f"Unknown criterion {criterion!r}. Domain {self.name} asks: {', '.join(self.ids)}.",
                    "UNKNOWN_CRITERION",
                )
            if answer not in ANSWERS:
                raise InvalidInput(
                    f"{answer!r} is not an answer to {criterion}: choose {', '.join(ANSWERS)}."
                )

    def verdict(self, answers: Mapping[str, Answer]) -> Verdict:
        """What the answers say together: all must hold. An unanswered criterion leaves it unsure."""
        given = [answers.get(criterion, "unsure") for criterion in self.ids]
        if "fail" in given:
            return "implausible"
        return "unsure" if "unsure" in given else "plausible"


def load_domain(ref: str | Path = "blood_cells") -> Domain:
    """The domain that ships under this name, or the one in this folder or JSON file.

    Raises:
        NotFound: neither a shipped name, nor a folder with a `domain.json`, nor a file.
        InvalidInput: it does not describe a domain; the message says where it is wrong.
    """
    name = str(ref)
    path = _SHIPPED / name if name in shipped_domains() else Path(ref)
    if not path.is_file() and not is_domain(path):
        raise NotFound(
            f"There is no domain {name!r}: give the path of a folder with a domain.json, of a JSON file, or one of "
            f"{', '.join(shipped_domains())}.",
            "UNKNOWN_DOMAIN",
        )
    if path.is_file():
        log.info(
            "%s is a domain in one file. A folder can also word captions: docs/how-to/own-domain.md.", name
        )
    return _load(path, name)


def shipped_domain(name: str) -> Domain:
    """The domain that ships under this name. For names that come from elsewhere: nothing else is ever opened.

    Raises:
        NotFound: no domain of this name ships.
    """
    if name not in shipped_domains():
        raise NotFound(
            f"There is no domain {name[:80]!r} here; there are {', '.join(shipped_domains())}.",
            "UNKNOWN_DOMAIN",
        )
    return _load(_SHIPPED / name, name)


def shipped_domains() -> tuple[str, ...]:
    """The names of the domains that ship: the folders beside this file."""
    return tuple(sorted(entry.name for entry in _SHIPPED.iterdir() if is_domain(entry)))


def _load(path: Path, name: str) -> Domain:
    try:
        return Domain.model_validate(read_domain(path, name))
    except (ValueError, ValidationError) as error:
        raise InvalidInput(f"{name} does not describe a domain: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}"
    return str(error)
