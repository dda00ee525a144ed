"""Settings of an adaptation that would change nothing. They are refused: whoever gives one expects something of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from vouch.errors import InvalidInput

if TYPE_CHECKING:
    from vouch.recipes.adaptation import Adaptation

UNET = ("unet", "unet-text")
DENOISING = (*UNET, "text-inversion", "text-projection")
READ_BY: Mapping[str, tuple[str, ...]] = {
    "rank": UNET,
    "text_lr": ("unet-text", "text-projection"),
    "encoder": ("text-projection",),
    "projection": ("text-projection",),
    "embeddings": ("text-inversion",),
    "inversion": ("text-inversion",),
    "prior": (*UNET, "text-projection", "vae"),
    "vae": ("vae",),
    **dict.fromkeys(
        (
            "keep_vae",
            "accumulate",
            "min_snr",
            "drop_caption",
            "dropout",
            "token",
            "cache_latents",
            "crops",
            "copy_guard",
        ),
        DENOISING,
    ),
    "sheet_every": DENOISING,
}
"""The recipes that read a setting or group; every recipe reads the others."""


def refuse_idle(asked: Adaptation) -> None:
    """Raises InvalidInput with the first given setting that has no effect beside the others."""
    for name, why in _idle(asked):
        raise InvalidInput(f"Setting {name} has no effect {why}. Leave it out.", "NO_EFFECT")


def _idle(asked: Adaptation) -> Iterator[tuple[str, str]]:
    """Given settings without effect, each with the words for when."""
    recipes = UNET if asked.is_open else (asked.recipe,)
    for name in sorted(asked.model_fields_set & set(READ_BY)):
        if not set(recipes) & set(READ_BY[name]):
            yield name, f"in the recipe {asked.recipe}: {' and '.join(READ_BY[name])} read it"
    yield from _idle_in_words(asked)
    yield from _idle_in_prior(asked, may_forget="unet-text" in recipes)
    if "kl" in asked.vae.model_fields_set and asked.vae.part != "all":
        yield "vae.kl", "while the encoder is kept: --vae.part all trains it too"


def _idle_in_words(asked: Adaptation) -> Iterator[tuple[str, str]]:
    """Of the recipes that learn words."""
    given, inversion = asked.model_fields_set, asked.inversion
    if asked.recipe == "text-projection" and "text_lr" in given and not asked.projection.tune_encoder:
        yield "text_lr", "while the encoder is kept: --projection.tune-encoder true trains it"
    if asked.recipe != "text-inversion":
        return
    if "token" in given and inversion.words:
        yield "token", "beside inversion.words, which names the words"
    if "weight_decay" in given and inversion.keep_norm:
        yield "weight_decay", "while every vector keeps its length: --inversion.keep-norm false lets it go"
    if asked.embeddings is not None and len(inversion.words) < 2:
        for name in ("begins_as", "vectors"):
            if name in inversion.model_fields_set:
                yield f"inversion.{name}", "on the word that embeddings begins with"


def _idle_in_prior(asked: Adaptation, may_forget: bool) -> Iterator[tuple[str, str]]:
    """Of what is kept. may_forget: whether a recipe draws the base's images although nothing is kept."""
    given = asked.prior.model_fields_set
    if asked.recipe == "vae" and "kind" in given:
        yield "prior.kind", "in the recipe vae, which restores the images that the base drew"
    if asked.prior.weight:
        return
    for name in ("kind", "share") if may_forget else ("kind", "share", "images", "prompts"):
        if name in given:
            yield f"prior.{name}", "while prior.weight is 0"
