"""What an expert is asked: a checklist per domain, read from a file.

The blood-cell checklist ships in `vouch/domains/`. Another domain is a JSON file of the same form, chosen by one
setting (`VOUCH_DOMAIN=/path/to/mine.json`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from vouch.errors import InvalidInput, NotFound
from vouch.types.rating import ANSWERS, Answer, Verdict

_NAME = r"^[a-z][a-z0-9_]{0,63}$"
SUB_LABEL = "concept_"
"""How the answers begin that say whether an image of a class is of one of its sub-types: no matter of plausibility, so
no question of the checklist, and no part of its verdict."""
_SHIPPED = Path(__file__).parent
_MAX_BYTES = 1 << 20


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
    """The domain that ships under this name, or the one in this JSON file. For refs of this machine's own user.

    Raises:
        NotFound: neither a shipped name nor a file.
        InvalidInput: the file does not describe a domain; the message says where it is wrong.
    """
    name = str(ref)
    return _load(_SHIPPED / f"{name}.json" if name in shipped_domains() else Path(ref), name)


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
    return _load(_SHIPPED / f"{name}.json", name)


def shipped_domains() -> tuple[str, ...]:
    """The names of the domains that ship."""
    return tuple(sorted(entry.stem for entry in _SHIPPED.glob("*.json")))


def _load(path: Path, name: str) -> Domain:
    text = _read(path, name)
    try:
        return Domain.model_validate(_parse(text))
    except (ValueError, ValidationError) as error:
        raise InvalidInput(f"{name} does not describe a domain: {_first_line(error)}") from error


def _read(path: Path, name: str) -> str:
    """At most a mebibyte of a regular file: a pipe would never end."""
    try:
        if not path.is_file():
            raise FileNotFoundError(path)
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
        if len(raw) > _MAX_BYTES:
            raise InvalidInput(f"{name} is larger than a checklist can be: at most {_MAX_BYTES} bytes.")
        return raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(
            f"There is no domain {name!r}: give the path of a JSON file or one of {', '.join(shipped_domains())}.",
            "UNKNOWN_DOMAIN",
        ) from error


def _parse(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("a JSON object is expected")
    return cast("dict[str, Any]", value)


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}"
    return str(error)
