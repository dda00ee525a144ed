"""What a training run can be asked for."""

from __future__ import annotations

import re
import typing

import pytest

from vouch import recipes
from vouch.errors import InvalidInput
from vouch.recipes.renamed import RENAMED


def test_settings_are_told_apart_from_what_they_are_applied_to():
    asked, recipe = recipes.parse("reward", {"kinds": ["simulated"], "parent": "reward-1", "seed": 7})
    assert (asked.kinds, asked.parent) == (("simulated",), "reward-1")
    assert recipe.model_dump(exclude_unset=True) == {"seed": 7}


def test_a_method_that_is_best_with_another_batch_has_it_unless_told_otherwise():
    def batch_of(settings):
        recipe = recipes.parse("align", settings)[1]
        return recipe.method, recipe.batch

    assert batch_of({}) == ("draft", 12)
    assert batch_of({"method": "draft", "batch": 5}) == ("draft", 5)
    assert batch_of({"method": "reward_gradient"}) == ("reward_gradient", 24)


@pytest.mark.parametrize("kind", recipes.RECIPES)
def test_every_setting_that_a_person_may_choose_has_a_description(kind):
    fields = {**recipes.setting_fields(recipes.RECIPES[kind]), **recipes.Asked.model_fields}
    assert [name for name, field in fields.items() if not field.description] == []


@pytest.mark.parametrize("settings", [{"nft.beta": 0.1}, {"nft": {"beta": 0.1}}])
def test_a_setting_of_one_method_is_named_with_a_dot_or_in_a_mapping(settings):
    recipe = recipes.parse("align", {"method": "nft", "nft.groups": 4, **settings})[1]
    assert (recipe.nft.beta, recipe.nft.groups) == (0.1, 4)
    assert (recipe.kto.beta, recipe.dpo.beta) == (2000.0, 2000.0)
    told = recipe.model_dump(mode="json", exclude_unset=True)
    assert recipes.flat(told) == {"method": "nft", "nft.beta": 0.1, "nft.groups": 4}


def test_assignments_are_read_as_json_or_text():
    assert recipes.parse_assignments(["nft.beta=0.1", "method=nft", "widths=[8,16]"]) == {
        "nft.beta": 0.1,
        "method": "nft",
        "widths": [8, 16],
    }
    with pytest.raises(InvalidInput, match="'nft.beta' is not of the form NAME=VALUE"):
        recipes.parse_assignments(["nft.beta"])


@pytest.mark.parametrize(("kind", "old"), [(kind, old) for kind, names in RENAMED.items() for old in names])
def test_an_old_name_is_refused_with_the_new_one_and_the_new_one_is_known(kind, old):
    new = re.split(", | or ", RENAMED[kind][old])
    with pytest.raises(
        InvalidInput, match=f"There is no setting {old}. Setting {old} is now {re.escape(new[0])}"
    ):
        recipes.parse(kind, {old: 1})
    assert set(new) <= set(recipes.setting_fields(recipes.RECIPES[kind]))


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        ("dance", {}, "no training of kind 'dance'. Known kinds: pretrain, reward, align"),
        ("reward", {"stepz": 3, "out": "/tmp"}, "no setting out, stepz"),
        ("reward", {"steps": 0}, "Setting steps: .*greater than or equal to 1"),
        ("reward", {"kinds": ["alien"]}, "Setting kinds.0"),
        ("pretrain", {"steps": 5}, "Setting data: Field required"),
        ("align", {"method": "magic"}, "Setting method: Input should be 'reward_gradient', "),
        ("align", {"nft.bta": 1}, "no setting nft.bta. Settings of align: .*nft.beta"),
        ("align", {"nft.beta": 1, "nft": {"beta": 2}}, "Setting nft.beta is given twice"),
        ("align", {"nft": 3}, "Setting nft: Input should be a valid dictionary or instance of NftSettings"),
        ("align", {"nft": 3, "nft.beta": 1}, "Setting nft is a value, so there is no nft.beta"),
        (
            "align",
            {"reward_gradient.min_timestep": 700},
            "Setting reward_gradient: .*must be below max_timestep",
        ),
        ("align", {"steps.more": 3}, "Setting steps: Input should be a valid integer"),
        ("align", {"method": ["draft"]}, "Setting method: Input should be 'reward_gradient', "),
    ],
)
def test_an_impossible_setting_is_named_with_those_there_are(kind, settings, says):
    with pytest.raises(InvalidInput, match=says):
        recipes.parse(kind, settings)


@pytest.mark.parametrize("kind", recipes.RECIPES)
def test_every_setting_that_is_shown_can_be_given(kind):
    known = {**recipes.setting_fields(recipes.RECIPES[kind]), **recipes.Asked.model_fields}
    assert set(recipes.described(kind)) <= set(known)
    assert "steps" in recipes.described(kind)


def numbers(kind: str) -> list[str]:
    """The settings of a kind that are numbers."""
    fields = recipes.setting_fields(recipes.RECIPES[kind])
    return [
        name
        for name, field in fields.items()
        if {int, float} & {field.annotation, *typing.get_args(field.annotation)}
    ]


@pytest.mark.parametrize("kind", recipes.RECIPES)
@pytest.mark.parametrize("value", [10**12, -(10**12)])
def test_every_number_has_a_least_and_a_most(kind, value):
    fields = recipes.setting_fields(recipes.RECIPES[kind])
    for name in numbers(kind):
        asked = 2**63 if name == "seed" and value > 0 else value
        needed = {"data": "d", "concept": "c", "kind_of": "k", "version": "v"}
        given = {known: word for known, word in needed.items() if known in fields}
        with pytest.raises(InvalidInput, match=f"Setting {name}: "):
            recipes.parse(kind, {**given, name: asked})


def test_a_milliard_members_are_refused():
    with pytest.raises(InvalidInput, match="Setting members: .*less than or equal to 64"):
        recipes.parse("reward", {"members": 10**9})


@pytest.mark.parametrize("widths", [[], [10**9], [8] * 100])
def test_a_network_has_a_few_stages_of_some_thousand_channels(widths):
    with pytest.raises(InvalidInput, match="Setting widths"):
        recipes.parse("reward", {"widths": widths})
