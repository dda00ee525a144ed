import json

import pytest

from vouch.domains.criteria import Domain, load_domain
from vouch.errors import InvalidInput, NotFound


def test_the_blood_cell_checklist_ships(domain):
    assert domain.ids == (
        "cell_type",
        "cell_size",
        "nucleus_shape",
        "chromatin",
        "cytoplasm_colour",
        "granules",
        "vacuoles",
    )
    assert all(criterion.question.endswith("?") and criterion.help for criterion in domain.criteria)


def test_another_domain_is_a_file(tmp_path):
    path = tmp_path / "skin.json"
    path.write_text(
        json.dumps({"name": "skin", "criteria": [{"id": "border", "question": "Is the border right?"}]})
    )

    skin = load_domain(path)

    assert (skin.name, skin.ids) == ("skin", ("border",))
    skin.check({"border": "unsure"})


def test_an_unknown_criterion_is_refused_with_the_known_ones(domain):
    with pytest.raises(InvalidInput, match="'colour'.*cell_type, cell_size, nucleus_shape"):
        domain.check({"colour": "pass"})


def test_an_unknown_answer_is_refused_with_the_known_ones(domain):
    with pytest.raises(InvalidInput, match="pass, fail, unsure"):
        domain.check({"granules": "maybe"})


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "plausible"),
        ({"granules": "unsure"}, "unsure"),
        ({"granules": "unsure", "chromatin": "fail"}, "implausible"),
    ],
)
def test_an_image_is_plausible_when_every_criterion_holds(changed, verdict, domain):
    assert domain.verdict({**dict.fromkeys(domain.ids, "pass"), **changed}) == verdict


def test_an_unanswered_criterion_leaves_the_verdict_unsure(domain):
    assert domain.verdict({"granules": "pass"}) == "unsure"


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[]",
        '{"name": "x", "criteria": []}',
        '{"name": "x", "criteria": [{"id": "a", "question": "?"}, {"id": "a", "question": "?"}]}',
        '{"name": "x", "criterions": [{"id": "a", "question": "?"}]}',
        '{"name": "Has Spaces", "criteria": [{"id": "a", "question": "?"}]}',
    ],
)
def test_a_file_that_describes_no_domain_is_refused_by_name(content, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=r"mine\.json does not describe a domain"):
        load_domain(path)


@pytest.mark.parametrize("ref", ["blod_cells", "no/such.json", "../domains/blood_cells"])
def test_a_domain_that_is_not_there_is_refused_with_those_that_are(ref):
    with pytest.raises(NotFound, match="blood_cells"):
        load_domain(ref)


def test_a_domain_does_not_change(domain):
    with pytest.raises(ValueError, match="frozen"):
        domain.name = "other"
    assert Domain.model_validate_json(domain.model_dump_json()) == domain
