"""A generator version, from the registry into memory: verified, loaded, warmed up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.generation.orders import Description
from services.threads import use_threads
from vouch.captions import Vocabulary, caption
from vouch.errors import InvalidInput, NotFound
from vouch.records import Version
from vouch.registry import Registry

if TYPE_CHECKING:
    from vouch.pipelines import Generator

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

    def describe(self) -> Description:
        words = self.vocabulary or Vocabulary((), {})
        return Description(
            version=self.version.digest,
            version_name=self.version.name,
            width=self.generator.width,
            height=self.generator.height,
            sampler=self.generator.sampler,
            default_steps=self.generator.default_steps,
            default_guidance=self.generator.default_guidance,
            labels=words.labels,
            attributes=tuple((name.replace("_", " "), values) for name, values in words.attributes.items()),
            examples=_examples(words),
            whole_because=self.generator.whole_because,
        )


def load_version(registry: Registry, digest: str) -> ServedGenerator:
    """Verify every file of the version (and of its parent, when it is an adapter), load it, draw one image in one step.

    It takes one core: the engine may be busy with the others.

    Raises NotFound, CorruptVersion (naming the file), InvalidInput when it is no generator.
    """
    from vouch.pipelines import load_generator

    use_threads(1)
    version = registry.get(digest)
    if version.kind != "generator":
        raise InvalidInput(f"{version.name} is a {version.kind}, not a generator")
    folder = registry.open(version.digest)
    parent = registry.open(_base(registry, version).digest) if version.format == "lora" else None
    generator = load_generator(folder, parent)
    served = ServedGenerator(version, generator, _vocabulary(folder, parent))
    _warm_up(served)
    return served


def _base(registry: Registry, version: Version) -> Version:
    """The whole model that an adapter belongs to: its parent may be an adapter itself, which it replaces."""
    for ancestor in registry.lineage(version.digest):
        if ancestor.format != "lora":
            return ancestor
    raise NotFound(f"The model that {version.name} adapts is not in the registry.", "UNKNOWN_VERSION")


def _vocabulary(folder: Path, parent: Path | None) -> Vocabulary | None:
    return Vocabulary.load(folder) or (Vocabulary.load(parent) if parent else None)


def _warm_up(served: ServedGenerator) -> None:
    """The first call of a model pays for lazy set-up; no client's request shall."""
    prompt = (_examples(served.vocabulary) if served.vocabulary else ()) or ("image",)
    served.generator.generate([prompt[0]], [0], 1, served.generator.default_guidance, None)


def _examples(words: Vocabulary) -> tuple[str, ...]:
    plain = words.labels[: EXAMPLES - 1]
    first = {name: values[0] for name, values in list(words.attributes.items())[:2] if values}
    return (*plain, caption(words.labels[0], first)) if words.labels and first else plain
