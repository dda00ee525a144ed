"""What a prompt may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from vouch.errors import InvalidInput
from vouch.models.captions import Vocabulary, caption, general

VOCABULARY = Vocabulary.of(
    ["neutrophil", "monocyte"],
    [{"nucleus_shape": "segmented-bilobed", "cell_size": "big"}, {"nucleus_shape": "irregular"}],
)


def test_a_caption_reads_back_as_what_it_declares() -> None:
    declared = VOCABULARY.parse(
        caption("neutrophil", {"nucleus_shape": "segmented-bilobed", "cell_size": "big"})
    )
    assert declared.label == "neutrophil"
    assert declared.attributes == {"nucleus_shape": "segmented-bilobed", "cell_size": "big"}


def test_a_prompt_may_be_written_with_capitals_and_loose_spaces() -> None:
    assert VOCABULARY.parse("  Neutrophil ,  cell size   big").attributes == {"cell_size": "big"}


@pytest.mark.parametrize(
    ("prompt", "reason", "help_"),
    [
        ("zebra", "UNKNOWN_LABEL", "monocyte, neutrophil"),
        ("", "UNKNOWN_LABEL", "monocyte, neutrophil"),
        ("neutrophil, nucleus shape square", "UNKNOWN_ATTRIBUTE", "irregular, segmented-bilobed"),
        ("neutrophil, mood good", "UNKNOWN_ATTRIBUTE", "cell size, nucleus shape"),
    ],
)
def test_a_word_that_was_never_learned_is_refused_with_what_is_known(
    prompt: str, reason: str, help_: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        VOCABULARY.check(prompt)
    assert caught.value.reason == reason
    assert help_ in caught.value.message


def test_a_vocabulary_survives_its_file_and_a_foreign_model_has_none(tmp_path: Path) -> None:
    VOCABULARY.save(tmp_path)
    assert Vocabulary.load(tmp_path) == VOCABULARY
    assert Vocabulary.load(tmp_path / "elsewhere") is None


def test_a_concept_is_named_by_what_it_is_a_kind_of_where_nobody_knows_it() -> None:
    concepts = {"band neutrophil": "neutrophil", "giant band neutrophil": "band neutrophil"}
    assert general("Giant band neutrophil, cell size big", concepts) == "neutrophil, cell size big"
    assert general("monocyte, cell size big", concepts) == "monocyte, cell size big"


def test_a_concept_of_a_concept_keeps_both() -> None:
    grown = VOCABULARY.with_concept("band neutrophil", "neutrophil")
    grown = grown.with_concept("giant band neutrophil", "band neutrophil")
    assert grown.parse("giant band neutrophil, cell size big").label == "giant band neutrophil"
    assert set(grown.concepts) == {"band neutrophil", "giant band neutrophil"}
