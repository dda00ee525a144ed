"""Real but tiny models with random weights: a Stable Diffusion folder and a reward ensemble, made in seconds."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from vouch.models.captions import Vocabulary

VOCABULARY = Vocabulary(
    ("basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil"),
    {"cell_size": ("big", "small"), "nucleus_shape": ("segmented-bilobed", "unsegmented-round")},
)
CRITERIA = ("cell_size", "nucleus_shape")
SIZE = 32  # pixels


def save_generator(folder: Path, seed: int) -> Path:
    """A diffusers folder that draws 32-pixel noise, another for each seed."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from training.pretraining.tokens import train_tokenizer

    torch.manual_seed(seed)
    tokenizer = train_tokenizer(VOCABULARY)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL(
            sample_size=SIZE,
            latent_channels=4,
            block_out_channels=(8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=1,
            norm_num_groups=4,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=SIZE // 4,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=8,
            norm_num_groups=4,
        ),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(str(folder), safe_serialization=True)
    VOCABULARY.save(folder)
    (folder / "defaults.json").write_text(json.dumps({"steps": 4, "guidance": 2.0}))
    return folder


def save_guided_generator(folder: Path) -> Path:
    """One whose images mind their prompts, with a guide: the U-Net and the text encoder of another one."""
    save_generator(folder, seed=0)
    with tempfile.TemporaryDirectory() as scratch:
        weaker = save_generator(Path(scratch), seed=1)
        shutil.copytree(weaker / "unet", folder / "guide")
        shutil.copytree(weaker / "text_encoder", folder / "guide" / "text_encoder")
    _make_it_listen(folder)
    return folder


def _make_it_listen(folder: Path) -> None:
    """Random weights hardly mind their prompt, and guidance would change nothing: this makes them look for it.

    As predictions of the clean image, what they say counts in late steps too.
    """
    import torch
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(str(folder))
    pipe.scheduler.register_to_config(prediction_type="sample")
    with torch.no_grad():
        pipe.text_encoder.get_input_embeddings().weight.mul_(30)
        for name, module in pipe.unet.named_modules():
            if name.endswith("attn2"):
                for layer, louder in (
                    (module.to_q, 10),
                    (module.to_k, 10),
                    (module.to_v, 5),
                    (module.to_out[0], 5),
                ):
                    layer.weight.mul_(louder)
    pipe.save_pretrained(str(folder), safe_serialization=True)


def save_reward(folder: Path, seed: int) -> Path:
    """A reward ensemble of three tiny members, another for each seed."""
    import torch

    from vouch.models.networks.reward import RewardEnsemble

    torch.manual_seed(seed)
    RewardEnsemble(VOCABULARY, CRITERIA, members=3, size=32, widths=(8, 8, 8, 8)).save(folder)
    return folder
