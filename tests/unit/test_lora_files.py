"""LoRA files of other programs: what is written is read again, and draws the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.foundations import save_foundation
from training.alignment.student import TARGETS, TEXT_TARGETS
from vouch.errors import InvalidInput
from vouch.models.loading import load_pipeline
from vouch.models.lora_files import export_lora, import_lora
from vouch.models.pipelines import LORA_FILE, load_generator


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, and a LoRA upon its U-Net and text encoder that changes what it draws."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    root = tmp_path_factory.mktemp("lora")
    pipe = load_pipeline(save_foundation(root / "base"))
    torch.manual_seed(0)
    layers = {}
    for part, targets in (("unet", TARGETS), ("text_encoder", TEXT_TARGETS)):
        network = getattr(pipe, part)
        network.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False))
        layers[f"{part}_lora_layers"] = {k: v.half() for k, v in get_peft_model_state_dict(network).items()}
    type(pipe).save_lora_weights(str(root / "lora"), weight_name=LORA_FILE, **layers)
    return root


def drawn(folder: Path, base: Path) -> np.ndarray:
    return load_generator(folder, base).generate(["a bright chest"], [0], 3, 2.0).astype(int)


@pytest.mark.parametrize("form", ["kohya", "peft", "diffusers"])
def test_what_is_exported_is_imported_again(world: Path, tmp_path: Path, form: str) -> None:
    written = export_lora(world / "lora", tmp_path / "out", form)  # type: ignore[arg-type]
    import_lora(written, world / "base", tmp_path / "back")
    ours, back = load_file(world / "lora" / LORA_FILE), load_file(tmp_path / "back" / LORA_FILE)
    assert ours.keys() == back.keys()
    assert all(torch.allclose(ours[key].float(), back[key].float(), atol=2e-3) for key in ours)
    assert any("text_encoder" in key for key in back) and any("unet" in key for key in back)
    assert np.abs(drawn(tmp_path / "back", world / "base") - drawn(world / "lora", world / "base")).max() <= 2


def test_kohyas_names_are_those_of_its_scripts(world: Path, tmp_path: Path) -> None:
    file = load_file(export_lora(world / "lora", tmp_path / "chests.safetensors", "kohya"))
    name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    assert {f"{name}.lora_down.weight", f"{name}.lora_up.weight", f"{name}.alpha"} <= set(file)
    assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight" in file


def test_a_strength_that_a_file_states_is_in_the_weights_afterwards(world: Path, tmp_path: Path) -> None:
    full = export_lora(world / "lora", tmp_path / "full.safetensors", "kohya")
    file = load_file(full)
    halved = {key: value / 2 if key.endswith(".alpha") else value for key, value in file.items()}
    save_file(halved, tmp_path / "half.safetensors")
    peft = export_lora(world / "lora", tmp_path / "peft", "peft")
    for config in peft.glob("*/adapter_config.json"):
        config.write_text(json.dumps({**json.loads(config.read_text()), "lora_alpha": 1}))
    ours = load_file(world / "lora" / LORA_FILE)
    for number, source in enumerate((tmp_path / "half.safetensors", peft)):
        import_lora(source, world / "base", tmp_path / str(number))
        back = load_file(tmp_path / str(number) / LORA_FILE)
        for key, weight in ours.items():
            wanted = weight.float() * (0.5 if ".lora_B." in key else 1.0)
            assert torch.allclose(back[key].float(), wanted, atol=2e-3)


def test_ranks_that_differ_by_layer_are_written_and_read_as_peft_does(world: Path, tmp_path: Path) -> None:
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipe = load_pipeline(world / "base")
    wide = LoraConfig(r=2, target_modules=TARGETS, rank_pattern={"to_k": 3}, init_lora_weights=False)
    pipe.unet.add_adapter(wide)
    layers = {"unet_lora_layers": get_peft_model_state_dict(pipe.unet)}
    type(pipe).save_lora_weights(str(tmp_path / "lora"), weight_name=LORA_FILE, **layers)
    written = export_lora(tmp_path / "lora", tmp_path / "peft", "peft")
    fresh = load_pipeline(world / "base").unet
    fresh.add_adapter(LoraConfig.from_pretrained(str(written / "unet")))
    ours = load_file(tmp_path / "lora" / LORA_FILE)
    shapes = {f"unet.{key}": weight.shape for key, weight in get_peft_model_state_dict(fresh).items()}
    assert shapes == {key: weight.shape for key, weight in ours.items()}
    config = written / "unet" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "alpha_pattern": {"attn2.to_k": 6}}))
    import_lora(written, world / "base", tmp_path / "back")
    back = load_file(tmp_path / "back" / LORA_FILE)
    for key, weight in ours.items():
        strength = 1.0 if ".lora_A." in key or "to_k" not in key else 2.0 if "attn2" in key else 2 / 3
        assert torch.allclose(back[key].float(), weight * strength, atol=5e-3), key


def test_a_file_that_is_no_lora_of_this_base_is_refused(world: Path, tmp_path: Path) -> None:
    (tmp_path / "note.safetensors").write_bytes(b"no tensors")
    (tmp_path / "empty").mkdir()
    for source in ("note.safetensors", "empty"):
        with pytest.raises(InvalidInput, match="cannot be read as safetensors|holds no LoRA"):
            import_lora(tmp_path / source, world / "base", tmp_path / "out")
    wide = {key: torch.zeros(weight.shape[0], 999) if ".lora_A." in key and weight.ndim == 2 else weight
            for key, weight in load_file(world / "lora" / LORA_FILE).items()}  # fmt: skip
    save_file(wide, tmp_path / "wide.safetensors")
    with pytest.raises(InvalidInput, match="does not fit base"):
        import_lora(tmp_path / "wide.safetensors", world / "base", tmp_path / "out")
    with pytest.raises(InvalidInput, match="is no LoRA"):
        export_lora(world / "base", tmp_path / "out", "kohya")
