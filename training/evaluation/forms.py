"""Prompts for real images in the form of the prompts that were drawn.

The more attributes a prompt asks for, the more an image can miss: real cells pass less often under their full
annotation than under their class alone. So real images are judged under prompts of the drawings' own form.
"""

from __future__ import annotations

from collections.abc import Sequence

from training.data.examples import Examples
from training.randomness import numbers
from vouch.models.captions import Vocabulary, caption


def prompts_of_form(asked: Sequence[str], real: Examples, vocabulary: Vocabulary) -> tuple[str, ...]:
    """For each real image a prompt that names those of its own attributes that some prompt of `asked`, of its class and
    drawn at random, names; its class alone where none was asked of that class.

    Raises:
        InvalidInput: a prompt outside the vocabulary.
    """
    names: dict[str, list[tuple[str, ...]]] = {}
    for declared in map(vocabulary.parse, asked):
        names.setdefault(declared.label, []).append(tuple(declared.attributes))
    random, prompts = numbers("form of prompts"), []
    for label, attributes in zip(real.labels, real.attributes, strict=True):
        chosen = random.choice(names.get(label, [()]))
        prompts.append(caption(label, {name: attributes[name] for name in chosen if name in attributes}))
    return tuple(prompts)
