"""What a training run can be asked for."""

from __future__ import annotations

import typing

import pytest

from vouch import recipes
from vouch.errors import InvalidInput


def test_settings_are_told_apart_from_what_they_are_applied_to():
    asked, recipe = recipes.parse("reward", {"kinds": ["simulated"], "parent": "reward-1", "seed": 7})
    assert (asked.kinds, asked.parent) == (("simulated",), "reward-1")
    assert recipe.model_dump(exclude_unset=True) == {"seed": 7}


def test_a_method_that_is_best_with_other_settings_has_them_unless_told_otherwise():
    def told(settings):
        recipe = recipes.parse("align", settings)[1]
        return recipe.method, recipe.batch, recipe.sample_steps, recipe.gradient_steps

    assert told({}) == ("draft", 12, None, 2)
    assert told({"method": "draft", "batch": 5}) == ("draft", 5, None, 2)
    assert told({"method": "reward_gradient"}) == ("reward_gradient", 24, None, 1)


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        ("dance", {}, "no training of kind 'dance'. Known kinds: pretrain, reward, align"),
        ("reward", {"stepz": 3, "out": "/tmp"}, "no setting out, stepz"),
        ("reward", {"steps": 0}, "Setting steps: .*greater than or equal to 1"),
        ("reward", {"kinds": ["alien"]}, "Setting kinds.0"),
        ("pretrain", {"steps": 5}, "Setting data: Field required"),
        ("align", {"method": "magic"}, "Setting method: Input should be 'reward_gradient', "),
        ("align", {"method": ["draft"]}, "Setting method: Input should be 'reward_gradient', "),
    ],
)
def test_an_impossible_setting_is_named_with_those_there_are(kind, settings, says):
    with pytest.raises(InvalidInput, match=says):
        recipes.parse(kind, settings)


@pytest.mark.parametrize("kind", recipes.RECIPES)
def test_every_setting_that_is_shown_can_be_given(kind):
    known = {**recipes.RECIPES[kind].model_fields, **recipes.Asked.model_fields}
    assert set(recipes.described(kind)) <= set(known)
    assert "steps" in recipes.described(kind)


def numbers(kind: str) -> list[str]:
    """The settings of a kind that are numbers."""
    fields = recipes.RECIPES[kind].model_fields
    return [
        name
        for name, field in fields.items()
        if {int, float} & {field.annotation, *typing.get_args(field.annotation)}
    ]


@pytest.mark.parametrize("kind", recipes.RECIPES)
@pytest.mark.parametrize("value", [10**12, -(10**12)])
def test_every_number_has_a_least_and_a_most(kind, value):
    fields = recipes.RECIPES[kind].model_fields
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
