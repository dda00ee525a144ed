"""Loads generator versions from the registry: verified, shared between adapters, warmed up."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.threads import use_threads
from vouch.errors import InvalidInput
from vouch.models.captions import Vocabulary, caption
from vouch.storage.registry import Registry
from vouch.types.generator import GeneratorDescription, PromptAttribute
from vouch.types.version import Version

if TYPE_CHECKING:
    from vouch.models.pipelines import Generator

EXAMPLES = 5


@dataclass(frozen=True)
class ServedGenerator:
    """A generator that is ready to draw. `vocabulary` None accepts any prompt."""

    version: Version
    generator: Generator
    vocabulary: Vocabulary | None

    def label(self, prompt: str) -> str:
        """The class that the prompt names. Raises InvalidInput for words outside the vocabulary."""
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
            fallback_reason=self.generator.fallback_reason,
            kernel=self.generator.kernel,
            samplers=self.generator.samplers,
            default_guidance_method=options.method,
            default_guidance_start=options.start,
            default_guidance_stop=options.stop,
            default_adapter_start=options.adapter_start,
            guidance_methods=self.generator.guidance_methods,
        )


class Loader:
    """Loads versions. Adapters of one base share its weights in memory.

    Args:
        attach: called with every generator before its first image, as `KernelCache.attach`.
        device: "cpu" or "cuda".
    """

    def __init__(
        self,
        registry: Registry,
        attach: Callable[[Generator], None] = lambda generator: None,
        device: str = "cpu",
    ) -> None:
        self._registry, self._attach, self._device = registry, attach, device
        self._bases: weakref.WeakValueDictionary[str, Generator] = weakref.WeakValueDictionary()

    def load(self, digest: str) -> ServedGenerator:
        """Verify every file of the version and of an adapter's base, load it, and draw one image in one step.

        It uses one core: the engine may be busy with the others.

        Raises:
            NotFound: the version is not in the registry.
            CorruptVersion: a file is not what was published; names it.
            InvalidInput: it is no generator, or its output is not finite.
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
        generator = self._bases.get(digest)
        if generator is None:
            generator = self._bases[digest] = load_generator(folder, device=self._device)
            self._attach(generator)
            if generator.guide is not None:
                self._attach(generator.guide)
        return generator

    def _adapted(self, version: Version) -> Generator:
        from vouch.models.pipelines import adapt

        folder = self._registry.open(version.digest)
        generator = adapt(self._base(self._registry.base_of(version.digest).digest), folder)
        self._attach(generator)
        return generator


def _warm_up(served: ServedGenerator) -> None:
    """Pay for lazy set-up before the first request, and refuse a version whose output is not finite."""
    from vouch.models.loading import check_finite

    prompt = (_examples(served.vocabulary) if served.vocabulary else ()) or ("image",)
    check_finite(served.generator, prompt[0])
    served.describe()  # tries every sampler, which imports it


def _examples(words: Vocabulary) -> tuple[str, ...]:
    plain = words.labels[: EXAMPLES - 1]
    first = {name: values[0] for name, values in list(words.attributes.items())[:2] if values}
    return (*plain, caption(words.labels[0], first)) if words.labels and first else plain
