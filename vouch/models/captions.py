"""Captions: how a label and its attributes become the words that a generator reads.

    caption("neutrophil", {"nucleus_shape": "segmented-bilobed"}) == "neutrophil, nucleus shape segmented-bilobed"

A `Vocabulary` lists the words that one generator learned; it lies beside the model as ``vocabulary.json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vouch.errors import AlreadyExists, InvalidInput

FILE_NAME = "vocabulary.json"
_CONCEPT = re.compile(r"[a-z0-9]+([ -][a-z0-9]+)*")


def caption(label: str, attributes: Mapping[str, str] | None = None) -> str:
    """The prompt for `label` with `attributes` (column name to value), in the order given."""
    phrases = [f"{name.replace('_', ' ')} {value}" for name, value in (attributes or {}).items() if value]
    return ", ".join([label, *phrases])


def general(prompt: str, concepts: Mapping[str, str]) -> str:
    """The prompt in the words of before `concepts` (each a kind of another label) were learned.

    Example: ``general("band neutrophil, cell size big", {"band neutrophil": "neutrophil"})`` names a neutrophil.
    """
    label, comma, rest = prompt.partition(",")
    while (concept := label.strip().lower()) in concepts:
        label = concepts[concept]
    return label + comma + rest


@dataclass(frozen=True)
class Declared:
    """What a prompt declares. Example: ``Declared("neutrophil", {"cell_size": "big"})``."""

    label: str
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class Vocabulary:
    """The labels and attribute values that a generator was trained on."""

    labels: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    concepts: Mapping[str, str] = field(default_factory=dict)
    """Labels that were learned later, as sub-types: each with the label that it is a kind of."""

    @classmethod
    def of(cls, labels: Iterable[str], attributes: Iterable[Mapping[str, str]]) -> Vocabulary:
        """The vocabulary of a data set, sorted."""
        values: dict[str, set[str]] = {}
        for row in attributes:
            for name, value in row.items():
                values.setdefault(name, set()).add(value)
        return cls(tuple(sorted(set(labels))), {name: tuple(sorted(values[name])) for name in sorted(values)})

    @classmethod
    def load(cls, folder: Path) -> Vocabulary | None:
        """The vocabulary beside a model, or None for a foreign model, which takes any prompt."""
        path = Path(folder) / FILE_NAME
        if not path.is_file():
            return None
        entries = json.loads(path.read_text(encoding="utf-8"))
        attributes = {name: tuple(v) for name, v in entries["attributes"].items()}
        return cls(tuple(entries["labels"]), attributes, entries.get("concepts", {}))

    def save(self, folder: Path) -> None:
        """Writes ``vocabulary.json`` into `folder`."""
        entries: dict[str, object] = {"labels": self.labels, "attributes": self.attributes}
        entries |= {"concepts": self.concepts} if self.concepts else {}
        text = json.dumps(entries, indent=1, sort_keys=True)
        (Path(folder) / FILE_NAME).write_text(text + "\n", encoding="utf-8")

    def with_concept(self, name: str, parent: str) -> Vocabulary:
        """The vocabulary that also knows `name`, a kind of `parent`. Example: "band neutrophil", "neutrophil".

        Raises:
            InvalidInput: a name that no prompt could say or that is part of known words, or a parent that is no label.
            AlreadyExists: the name is a label already.
        """
        if not _CONCEPT.fullmatch(name) or len(name) > 56:
            raise InvalidInput(
                f"{name!r} cannot name a concept: use lower-case words such as 'band neutrophil', at most 56 letters.",
                "BAD_CONCEPT",
            )
        if parent not in self.labels:
            raise InvalidInput(
                f"The generator knows no {parent!r} that {name!r} could be a kind of. It knows: "
                f"{', '.join(self.labels)}.",
                "UNKNOWN_LABEL",
            )
        if name in self.labels:
            raise AlreadyExists(
                f"The generator knows {name!r} already: ask for it as it is, or choose another name.",
                "KNOWN_LABEL",
            )
        if phrase := next((p for p in self._phrases() if re.search(rf"\b{re.escape(name)}\b", p)), None):
            raise InvalidInput(
                f"{name!r} is said in {phrase!r} already, which would change: choose another name.",
                "BAD_CONCEPT",
            )
        return Vocabulary((*self.labels, name), self.attributes, {**self.concepts, name: parent})

    def _phrases(self) -> Iterator[str]:
        """Everything that a prompt is made of."""
        yield from self.labels
        for name, values in self.attributes.items():
            yield from (f"{name.replace('_', ' ')} {value}" for value in values)

    def parse(self, prompt: str) -> Declared:
        """The label and attributes that `prompt` declares.

        Raises:
            InvalidInput: a label, an attribute or a value that the generator never learned; says which are known.
        """
        label, *phrases = [part.strip() for part in prompt.lower().split(",")]
        if label not in self.labels:
            raise InvalidInput(
                f"The prompt begins with {label!r}, which this generator never learned. "
                f"Begin with one of: {', '.join(self.labels)}.",
                reason="UNKNOWN_LABEL",
            )
        return Declared(label, dict(self._attribute(phrase) for phrase in phrases))

    def check(self, prompt: str) -> None:
        """Raises `InvalidInput` as `parse` does."""
        self.parse(prompt)

    def _attribute(self, phrase: str) -> tuple[str, str]:
        for name, values in self.attributes.items():
            words = name.replace("_", " ")
            if not phrase.startswith(words + " "):
                continue
            value = phrase[len(words) + 1 :].strip()
            if value in values:
                return name, value
            raise InvalidInput(
                f"The prompt asks for {words} {value!r}. Known values of {words}: {', '.join(values)}.",
                reason="UNKNOWN_ATTRIBUTE",
            )
        known = ", ".join(name.replace("_", " ") for name in self.attributes) or "none"
        raise InvalidInput(
            f"The prompt has an attribute that this generator never learned: {phrase!r}. "
            f"Write 'label, attribute value, …' with attributes from: {known}.",
            reason="UNKNOWN_ATTRIBUTE",
        )
