"""A vision model of transformers as the eye of a reward: by path, frozen or not, and kept whole with the version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import VOCABULARY
from tests.unit.test_reward_training import cell, rated_folder
from training.concepts.subtype import features_of, sight_of_reward
from training.loop.progress import TrainingProgress
from training.loop.session import TrainingSession
from training.reward.config import RewardConfig
from training.reward.fit import fit
from vouch.errors import Cancelled, InvalidInput
from vouch.models.networks.backbone import to_input
from vouch.models.networks.reward import RewardEnsemble
from vouch.models.networks.vision import VisionBackbone

SMALL = {"threads": 1, "batch": 16, "lr": 1e-2, "members": 2, "real_share": 0.2, "views": 2}


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DINOv2 of one layer with random weights, and a preprocessor as its makers write it."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dinov2")
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2, image_size=42, patch_size=14
    )
    Dinov2Model(config).save_pretrained(str(folder))
    told = {
        "do_center_crop": True,
        "crop_size": {"height": 28, "width": 28},
        "size": {"shortest_edge": 32},
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.2, 0.2],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return folder


def test_images_come_to_the_backbone_as_its_preprocessor_says(dinov2: Path) -> None:
    eye = VisionBackbone.open(dinov2)
    assert (eye.looks.size, eye.looks.mean, eye.looks.pool) == (28, (0.5, 0.4, 0.3), "pooler")
    white = torch.ones(1, 3, 64, 64)
    wanted = eye.model(
        pixel_values=(torch.ones(1, 3, 28, 28) - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / 0.2
    )
    assert torch.allclose(eye(white), wanted.pooler_output, atol=1e-5)


def test_heads_learn_upon_a_frozen_backbone_and_the_version_needs_no_other_folder(
    dinov2: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "dinov2"
    shutil.copytree(dinov2, copied)
    config = RewardConfig(out=tmp_path / "reward", steps=40, backbone=copied, **SMALL)
    figures = fit(config, TrainingSession(rated_folder(tmp_path / "run")))
    assert figures["auroc"] > 0.95
    weights = VisionBackbone.open(copied).state_dict()
    shutil.rmtree(copied)
    reward = RewardEnsemble.load(tmp_path / "reward")
    kept = reward.backbone.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in weights.items())
    found = reward.score(np.stack([cell(True, 1000), cell(False, 1001)]), ["monocyte", "monocyte"])
    assert found.overall[0] > found.overall[1]


def test_an_alignment_has_a_gradient_through_the_backbone(dinov2: Path) -> None:
    reward = RewardEnsemble(VOCABULARY, (), members=2, backbone=VisionBackbone.open(dinov2)).eval()
    images = torch.zeros(1, 3, 32, 32, requires_grad=True)
    reward.logits(images, reward.encode(["monocyte"])).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


def test_a_concepts_head_reads_the_features_that_the_members_share(dinov2: Path) -> None:
    reward = RewardEnsemble(VOCABULARY, (), members=2, backbone=VisionBackbone.open(dinov2)).eval()
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        looked = reward.look(to_input(images, reward.size))
    assert np.allclose(features_of(sight_of_reward(reward), images, batch=2), looked.numpy(), atol=1e-5)


def test_a_backbone_that_may_learn_changes(dinov2: Path, tmp_path: Path) -> None:
    config = RewardConfig(out=tmp_path / "reward", steps=3, backbone=dinov2, fine_tune=True, **SMALL)
    fit(config, TrainingSession(rated_folder(tmp_path / "run", 24)))
    before = VisionBackbone.open(dinov2).state_dict()
    after = RewardEnsemble.load(tmp_path / "reward").backbone.state_dict()
    assert any(not torch.equal(after[name], value) for name, value in before.items())


def test_a_stopped_run_upon_a_frozen_backbone_goes_on_to_the_same_weights(
    dinov2: Path, tmp_path: Path
) -> None:
    def stop_at_8(progress: TrainingProgress) -> bool:
        return progress.step < 8

    config = RewardConfig(out=tmp_path / "a", steps=12, checkpoint_every=5, backbone=dinov2, **SMALL)
    fit(config, TrainingSession(rated_folder(tmp_path / "whole", 24), every_s=0))
    broken = rated_folder(tmp_path / "broken", 24)
    other = config.model_copy(update={"out": tmp_path / "b"})
    with pytest.raises(Cancelled):
        fit(other, TrainingSession(broken, stop_at_8, every_s=0))
    fit(other, TrainingSession(broken, every_s=0))
    assert (tmp_path / "a" / "reward.safetensors").read_bytes() == (
        tmp_path / "b" / "reward.safetensors"
    ).read_bytes()


def test_a_path_that_leads_nowhere_is_told_from_a_hub_id(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="Nothing is fetched"):
        VisionBackbone.open(Path("facebook/dinov2-small"))
    with pytest.raises(InvalidInput, match="needs config.json and weights as safetensors"):
        VisionBackbone.open(tmp_path)


def test_a_model_of_texts_is_no_backbone(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9
    )
    BertModel(config).save_pretrained(str(tmp_path))
    with pytest.raises(InvalidInput, match="BertModel, which does not look at images"):
        VisionBackbone.open(tmp_path)


def test_code_beside_the_weights_is_not_run(dinov2: Path, tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    shutil.copytree(dinov2, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "unheard-of",
        "auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.Config"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(InvalidInput, match="transformers cannot open"):
        VisionBackbone.open(folder)
