"""Is this image a plausible cell of the declared type? An assessment with a range, calibrated on real images.

A class recogniser alone calls a malformed cell a neutrophil, because nothing else is as near. So an image is
plausible when its declared class is recognised **and** it is, for that class, no odder than the oddest few per
cent of real images by each of three signs:

- confidence: -log p(declared class);
- rarity: how unlikely its predicted attributes are for real cells of that class (or for the prompt's own);
- distance: to the fifth-nearest real image of the class in the network's features.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from training.attributes.recognition import recognise
from training.data.examples import Examples
from training.randomness import numbers
from vouch.domains.criteria import Domain, load_domain
from vouch.models.captions import Declared, Vocabulary, caption
from vouch.models.networks.attributes import AttributeNet, Recognition

NEIGHBOUR = 5
FORMS = {"bare": 0, "some attributes": 1, "many attributes": 5}
"""Forms of a prompt, each with the fewest attributes that it declares. Every declared attribute is one more chance for
annotator and network to differ, so each form has limits of its own."""
QUANTILES = (0.93, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995)


@dataclass(frozen=True)
class Assessment:
    """What was found of N images.

    `plausible` [N] and `recognised` [N] are bool; `criteria` holds for each criterion 1.0 (pass), 0.0 (fail) or nan
    (nothing is known of this criterion for that class).
    """

    plausible: np.ndarray
    recognised: np.ndarray
    criteria: Mapping[str, np.ndarray]


class Plausibility:
    """An attribute network with the statistics of real images that make its opinion a verdict.

    `priors[name]` [L, V] are attribute frequencies per class (rows of nan where the class has no annotation);
    `limits[sign]` [F, L] the oddest accepted value of each sign, per form of the prompt (`FORMS`) and class;
    `annotated[criterion]` the attributes that answer it, `class_criterion` what the declared class answers; by default
    those of the blood cells.
    """

    def __init__(
        self,
        net: AttributeNet,
        bank: torch.Tensor,
        bank_labels: torch.Tensor,
        priors: Mapping[str, torch.Tensor],
        limits: Mapping[str, torch.Tensor] | None = None,
        annotated: Mapping[str, Sequence[str]] | None = None,
        class_criterion: str = "",
    ) -> None:
        self.annotated = load_domain().annotated if annotated is None else annotated
        self.class_criterion = class_criterion or load_domain().class_criterion
        self.net, self.bank, self.bank_labels = net, bank, bank_labels
        self.priors, self.limits = dict(priors), dict(limits or {})

    @property
    def vocabulary(self) -> Vocabulary:
        return self.net.vocabulary

    def assess(self, images: torch.Tensor, prompts: Sequence[str]) -> Assessment:
        """Images uint8 [N, 3, H, W] and their prompts.

        Raises:
            InvalidInput: a prompt outside the vocabulary.
        """
        recognition = recognise(self.net, images)
        declared = [self.vocabulary.parse(prompt) for prompt in prompts]
        labels = torch.tensor([self.vocabulary.labels.index(d.label) for d in declared])
        signs = self._signs(recognition, labels, declared)
        recognised = recognition.labels.argmax(1) == labels
        forms = _forms(declared)
        within = {n: ~(value > self.limits[n][forms, labels]) for n, value in signs.items()}  # nan passes
        plausible = recognised & within["confidence"] & within["rarity"] & within["distance"]
        criteria = {self.class_criterion: (recognised & within["confidence"] & within["distance"]).float()}
        for name in self.annotated:
            known = ~signs[name].isnan()
            criteria[name] = torch.where(known, within[name].float(), torch.nan)
        return Assessment(plausible.numpy(), recognised.numpy(), {k: v.numpy() for k, v in criteria.items()})

    def calibrate(self, real: Examples, target: float) -> None:
        """Sets the limits on `real`, images that the network never saw, once for each form of the prompt.

        The quantile of the single signs is raised until `target` of the images pass all of them.
        """
        recognition = recognise(self.net, real.images)
        labels = torch.tensor([self.vocabulary.labels.index(label) for label in real.labels])
        by_form = [self._limits(recognition, labels, prompts_of(real, form), target) for form in FORMS]
        self.limits = {name: torch.stack([limits[name] for limits in by_form]) for name in by_form[0]}

    def _limits(
        self, recognition: Recognition, labels: torch.Tensor, prompts: Sequence[str], target: float
    ) -> dict[str, torch.Tensor]:
        """Each sign's limit [L] for prompts of one form."""
        signs = self._signs(recognition, labels, [self.vocabulary.parse(prompt) for prompt in prompts])
        right = recognition.labels.argmax(1) == labels
        limits: dict[str, torch.Tensor] = {}
        for quantile in QUANTILES:
            limits = {name: self._quantiles(value, labels, right, quantile) for name, value in signs.items()}
            within = [~(signs[name] > limits[name][labels]) for name in ("confidence", "rarity", "distance")]
            if (right & torch.stack(within).all(0)).float().mean() >= target:
                break
        return limits

    def _quantiles(
        self, value: torch.Tensor, labels: torch.Tensor, right: torch.Tensor, quantile: float
    ) -> torch.Tensor:
        rows = [value[(labels == c) & right & ~value.isnan()] for c in range(len(self.vocabulary.labels))]
        return torch.tensor([float(r.quantile(quantile)) if len(r) else float("inf") for r in rows])

    def _signs(
        self, recognition: Recognition, labels: torch.Tensor, declared: Sequence[Declared]
    ) -> dict[str, torch.Tensor]:
        log_p = recognition.labels.log_softmax(1)
        signs = {
            "confidence": -log_p.gather(1, labels[:, None])[:, 0],
            "distance": self._distance(recognition.features, labels),
        }
        odd = {
            name: self._rarity(name, logits, labels, declared)
            for name, logits in recognition.attributes.items()
        }
        for criterion, names in self.annotated.items():
            known = [odd[name] for name in names if name in odd]
            signs[criterion] = torch.stack(known).sum(0) if known else torch.full((len(labels),), torch.nan)
        signs["rarity"] = torch.stack(list(odd.values())).nansum(0) if odd else torch.zeros(len(labels))
        return signs

    def _rarity(
        self, name: str, logits: torch.Tensor, labels: torch.Tensor, declared: Sequence[Declared]
    ) -> torch.Tensor:
        """-log Σ_v p(v | image) · P(v | class); a declared value takes the place of the class's frequencies."""
        prior = self.priors[name][labels].clone()
        for row, d in enumerate(declared):
            if name in d.attributes and not prior[row].isnan().any():
                # The frequencies are scaled to a peak of one, so that a rare value asked for is not a rarity.
                value = self.vocabulary.attributes[name].index(d.attributes[name])
                prior[row] = torch.zeros_like(prior[row])
                prior[row, value] = 1.0
        return -(logits.softmax(1) * prior).sum(1).clamp(min=1e-6).log()

    def _distance(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        features = torch.nn.functional.normalize(features, dim=1)
        out = torch.empty(len(features))
        for c in labels.unique():
            rows = (labels == c).nonzero().flatten()
            bank = self.bank[self.bank_labels == c].float()
            k = min(NEIGHBOUR, len(bank))
            out[rows] = torch.cdist(features[rows], bank).topk(k, largest=False).values[:, -1]
        return out

    def save(self, folder: Path) -> None:
        """Writes the network and its statistics of real images."""
        self.net.save(folder)
        tensors = {f"prior.{k}": v for k, v in self.priors.items()} | {
            f"limit.{k}": v for k, v in self.limits.items()
        }
        tensors |= {"bank": self.bank.half(), "bank_labels": self.bank_labels.to(torch.uint8)}
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "plausibility.safetensors")
        (folder / "plausibility.json").write_text(
            json.dumps(
                {
                    "format": "plausibility",
                    "neighbour": NEIGHBOUR,
                    "annotated": self.annotated,
                    "class_criterion": self.class_criterion,
                }
            )
        )

    @classmethod
    def load(cls, folder: Path) -> Plausibility:
        tensors = load_file(Path(folder) / "plausibility.safetensors")
        document = json.loads((Path(folder) / "plausibility.json").read_text())

        def part(prefix: str) -> dict[str, torch.Tensor]:
            return {k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)}

        net = AttributeNet.load(Path(folder))
        bank, labels = tensors["bank"].float(), tensors["bank_labels"].long()
        answers = document.get("annotated"), document.get("class_criterion", "")
        return cls(net, bank, labels, part("prior."), part("limit."), *answers)


def prompts_of(real: Examples, form: str, seed: int = 0) -> list[str]:
    """A prompt of `form` for each real image, by its own annotation; bare where it has none."""
    return [
        _prompt(label, row, form, numbers(seed, "prompt form", form, index))
        for index, (label, row) in enumerate(zip(real.labels, real.attributes, strict=True))
    ]


def _prompt(label: str, attributes: Mapping[str, str], form: str, rng: random.Random) -> str:
    if form == "bare" or not attributes:
        return caption(label)
    fewest = FORMS["many attributes"]
    count = rng.randint(1, fewest - 1) if form == "some attributes" else len(attributes)
    names = rng.sample(sorted(attributes), min(count, len(attributes)))
    return caption(label, {name: attributes[name] for name in names})


def _forms(declared: Sequence[Declared]) -> torch.Tensor:
    """The index [N] of each prompt's form."""
    fewest = torch.tensor(list(FORMS.values()))
    counts = torch.tensor([len(d.attributes) for d in declared])
    return (counts[:, None] >= fewest[None, :]).sum(1) - 1


def learn_plausibility(
    net: AttributeNet, seen: Examples, calibration: Examples, target: float, domain: Domain | None = None
) -> Plausibility:
    """Statistics from `seen` (what the network trained on), limits from `calibration` (what it did not), such that
    `target` of the calibration images pass. domain: says what answers which criterion; default: the blood cells."""
    features = torch.nn.functional.normalize(recognise(net, seen.images).features, dim=1)
    labels = torch.tensor([net.vocabulary.labels.index(label) for label in seen.labels])
    asked = domain or load_domain()
    priors = _priors(net.vocabulary, seen)
    learned = Plausibility(
        net, features, labels, priors, annotated=asked.annotated, class_criterion=asked.class_criterion
    )
    learned.calibrate(calibration, target)
    return learned


def _priors(vocabulary: Vocabulary, examples: Examples) -> dict[str, torch.Tensor]:
    priors = {}
    for name, values in vocabulary.attributes.items():
        counts = torch.zeros(len(vocabulary.labels), len(values))
        for label, row in zip(examples.labels, examples.attributes, strict=True):
            if name in row:
                counts[vocabulary.labels.index(label), values.index(row[name])] += 1
        total = counts.sum(1, keepdim=True)
        # One imagined image spread over all values: never seen is rare, not impossible.
        smooth = (counts + 1.0 / len(values)) / (total + 1.0)
        smooth = smooth / smooth.amax(1, keepdim=True)
        priors[name] = torch.where(total > 0, smooth, torch.nan)
    return priors
