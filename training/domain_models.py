"""Everything that a domain's loop needs, from labelled images with patients: expert, judge, generator, reward.

As for the starter, one half of the patients teaches (rater, reward), the other judges; no patient is on both sides. The
generator is adapted from a foundation model: first its autoencoder, which has to restore the images, then its U-Net.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.data.examples import Examples, load_examples
from training.starter import JUDGE, RATER, REWARD, Job, finish_judge, finish_rater
from vouch.domains.criteria import Domain
from vouch.domains.wordings import Wordings
from vouch.models.captions import Vocabulary

PARTS = ("rater", "judge", "autoencoder", "generator", "reward")


@dataclass(frozen=True)
class DomainModels:
    """The models of one domain.

    data: a folder with train, val and test.parquet, labelled. base: diffusers folder of a foundation model. out: where
    `generator`, `reward`, `rater` and `judge` go. settings: further ones of a part, by its name.
    """

    domain: Domain
    data: Path
    base: Path
    out: Path
    runs: Path
    size: int = 64
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def build(self, job: Job, parts: Sequence[str] = PARTS) -> dict[str, Any]:
        """Trains these parts in their order; what was begun goes on."""
        return {part: getattr(self, f"_{part}")(job) for part in PARTS if part in parts}

    def examples(self, split: str) -> Examples:
        """The labelled images of a split, at the size that is drawn."""
        return load_examples(self.data / f"{split}.parquet", self.size, self.domain)

    def _rater(self, job: Job) -> dict[str, float]:
        return finish_rater(
            self._network("rater", RATER, job), self.data, self.out / "rater", self.size, self.domain
        )

    def _judge(self, job: Job) -> dict[str, float]:
        return finish_judge(
            self._network("judge", JUDGE, job), self.data, self.out / "judge", self.size, self.domain
        )

    def _network(self, part: str, recipe: Mapping[str, Any], job: Job) -> Path:
        """An attribute network upon one half of the patients."""
        net = self.runs / part / "net"
        asked = {"data": self._images, "out": str(net), "size": self.size, "domain": self._domain(), **recipe}
        job("attributes", {**asked, **self._further(part)}, self.runs / part)
        return net

    def _autoencoder(self, job: Job) -> dict[str, Any]:
        tuned = self._adapted(self.base, self.runs / "autoencoder" / "version")
        recipe = {"recipe": "vae", "vae": {"part": "all"}, "features": str(self.out / "rater")}
        return job("adapt", {**tuned, **recipe, **self._further("autoencoder")}, self.runs / "autoencoder")

    def _generator(self, job: Job) -> dict[str, Any]:
        out = self.out / "generator"
        asked = self._adapted(self.runs / "autoencoder" / "version", out)
        recipe = {"recipe": "unet-text", "rank": 0, "keep_vae": True, "lr": 3e-4}
        figures = job("adapt", {**asked, **recipe, **self._further("generator")}, self.runs / "generator")
        self._labels().save(out)
        return figures

    def _reward(self, job: Job) -> dict[str, Any]:
        asked = {"data": self._images, "out": str(self.out / "reward"), "criteria": self.domain.ids}
        own = {"size": self.size, "domain": self._domain(), **REWARD, **self._further("reward")}
        return job("reward", {**asked, **own}, self.runs / "reward")

    def _adapted(self, base: Path, out: Path) -> dict[str, Any]:
        """An adaptation says a label as it is: raters, judge and reward know images by their labels."""
        plain = self.domain.model_copy(update={"captions": Wordings()})
        return {
            "base": str(base), "data": self._images, "out": str(out), "domain": plain.model_dump(mode="json"),
            "fit": "squash",
        }  # fmt: skip

    def _labels(self) -> Vocabulary:
        return Vocabulary(tuple(sorted(set(self.examples("test").labels))), {})

    def _domain(self) -> dict[str, Any]:
        return self.domain.model_dump(mode="json")

    def _further(self, part: str) -> dict[str, Any]:
        return dict(self.settings.get(part, {}))

    @property
    def _images(self) -> str:
        return str(self.data / "train.parquet")
