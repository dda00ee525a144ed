"""A generator version, from the registry into memory: verified, loaded, warmed up."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.threads import use_threads
from vouch.errors import InvalidInput, NotFound
from vouch.models.captions import Vocabulary, caption
from vouch.storage.registry import Registry
from vouch.types.generator import GeneratorDescription, PromptAttribute
from vouch.types.version import Version

if TYPE_CHECKING:
    from vouch.models.pipelines import Generator

EXAMPLES = 5


@dataclass(frozen=True)
class ServedGenerator:
    """A generator that is ready to draw. `vocabulary` None: any prompt goes."""

    version: Version
    generator: Generator
    vocabulary: Vocabulary | None

    def label(self, prompt: str) -> str:
        """The class that the prompt declares. Raises InvalidInput for a prompt that this version did not learn."""
        return self.vocabulary.parse(prompt).label if self.vocabulary else ""

    def describe(self) -> GeneratorDescription:
        words = self.vocabulary or Vocabulary((), {})
        options = self.generator.default_options
        return GeneratorDescription(
            generator_version=self.version.digest,
            generator_name=self.version.name,
            width=self.generator.width,
            height=self.generator.height,
            sampler=self.generator.sampler,
            default_steps=self.generator.default_steps,
            default_guidance=self.generator.default_guidance,
            open_vocabulary=not words.labels,
            labels=words.labels,
            attributes=tuple(
                PromptAttribute(name=name.replace("_", " "), values=values)
                for name, values in words.attributes.items()
            ),
            example_prompts=_examples(words),
            whole_because=self.generator.whole_because,
            kernel=self.generator.kernel,
            samplers=self.generator.samplers,
            default_guidance_method=options.method,
            default_guidance_start=options.start,
            default_guidance_stop=options.stop,
            default_adapter_start=options.adapter_start,
            guidance_methods=self.generator.guidance_methods,
        )


class Loader:
    """Loads versions; those that adapt the same base share its memory. equip: told of every generator before its first
    image. device: "cpu" or "cuda"."""

    def __init__(
        self,
        registry: Registry,
        equip: Callable[[Generator], None] = lambda generator: None,
        device: str = "cpu",
    ) -> None:
        self._registry, self._equip, self._device = registry, equip, device
        self._whole: weakref.WeakValueDictionary[str, Generator] = weakref.WeakValueDictionary()

    def load(self, digest: str) -> ServedGenerator:
        """Verify every file of the version (and of its base, when it is an adapter), load it, draw one image in one
        step. It takes one core: the engine may be busy with the others.

        Raises NotFound, CorruptVersion (naming the file), InvalidInput when it is no generator, or
        one that draws what is not finite.
        """
        use_threads(1)
        version = self._registry.get(digest)
        if version.kind != "generator":
            raise InvalidInput(f"{version.name} is a {version.kind}, not a generator")
        generator = self._adapted(version) if version.format == "lora" else self._base(version.digest)
        served = ServedGenerator(version, generator, generator.vocabulary)
        _warm_up(served)
        return served

    def _base(self, digest: str) -> Generator:
        from vouch.models.pipelines import load_generator

        folder = self._registry.open(digest)
        generator = self._whole.get(digest)
        if generator is None:
            generator = self._whole[digest] = load_generator(folder, device=self._device)
            self._equip(generator)
            if generator.guide is not None:
                self._equip(generator.guide)
        return generator

    def _adapted(self, version: Version) -> Generator:
        from vouch.models.pipelines import adapt

        folder = self._registry.open(version.digest)
        generator = adapt(self._base(_base(self._registry, version).digest), folder)
        self._equip(generator)
        return generator


def _base(registry: Registry, version: Version) -> Version:
    """The whole model that an adapter belongs to: its parent may be an adapter itself, which it replaces."""
    for ancestor in registry.lineage(version.digest):
        if ancestor.format != "lora":
            return ancestor
    raise NotFound(f"The model that {version.name} adapts is not in the registry.", "UNKNOWN_VERSION")


def _warm_up(served: ServedGenerator) -> None:
    """The first call of a model pays for lazy set-up; no client's request shall. It also proves that the version
    draws: one with weights that are not finite is refused in every replica."""
    from vouch.models.loading import check_finite

    prompt = (_examples(served.vocabulary) if served.vocabulary else ()) or ("image",)
    check_finite(served.generator.pipe, prompt[0], served.generator.default_guidance)
    served.describe()  # tries every sampler, which imports it


def _examples(words: Vocabulary) -> tuple[str, ...]:
    plain = words.labels[: EXAMPLES - 1]
    first = {name: values[0] for name, values in list(words.attributes.items())[:2] if values}
    return (*plain, caption(words.labels[0], first)) if words.labels and first else plain
