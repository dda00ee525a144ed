"""Small foundation models in the forms that Stable Diffusion comes in, and captioned images to adapt them to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from tests.image_files import encoded, write_files
from vouch.models.captions import Vocabulary

Form = Literal["1.x", "2.x"]
SIZE = 32  # pixels
WORDS = Vocabulary(("chest", "bright", "dark", "photo", "of", "a", "sks"), {})


def save_foundation(
    folder: Path, form: Form = "1.x", seed: int = 0, variant: str | None = None, **scheduler: Any
) -> Path:
    """A diffusers folder with random weights and no vocabulary: it takes any words.

    1.x predicts epsilon; 2.x predicts v, with linear projections and as many channels a head at every level.
    variant: "fp16" for half precision weights in files of that name.
    """
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from training.pretraining.tokens import train_tokenizer

    torch.manual_seed(seed)
    tokenizer = train_tokenizer(WORDS, max_tokens=16)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    newer: dict[str, Any] = (
        {"attention_head_dim": [2, 4], "use_linear_projection": True} if form == "2.x" else {}
    )
    prediction = "v_prediction" if form == "2.x" else "epsilon"
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL(
            sample_size=SIZE, latent_channels=4, block_out_channels=(8, 8, 8), layers_per_block=1, norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=SIZE // 4, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=16,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), norm_num_groups=4,
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **{"attention_head_dim": 8, **newer},
        ),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1, prediction_type=prediction, **scheduler),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    if variant == "fp16":
        pipe.to(torch_dtype=torch.float16)
    pipe.save_pretrained(str(folder), safe_serialization=True, variant=variant)
    (folder / "defaults.json").write_text('{"steps": 4, "guidance": 2.0}')
    return folder


def save_chests(folder: Path, count: int = 40, patients: int = 20) -> Path:
    """Grey images of bright and dark noise, a little wider than high, with a caption each, of so many patients."""
    rng = np.random.default_rng(0)
    files, rows = {}, ["file_name,caption,patient"]
    for number in range(count):
        bright = number % 2
        grey = np.clip(rng.normal(180 if bright else 70, 25, (SIZE // 4, SIZE // 4 + 2)), 0, 255).astype(
            np.uint8
        )
        image = Image.fromarray(np.kron(grey, np.ones((4, 4), np.uint8))).convert("RGB")
        files[f"{number:03d}.png"] = encoded(image)
        rows.append(f"{number:03d}.png,a {'bright' if bright else 'dark'} chest,p{number % patients}")
    write_files(folder, files)
    return write_files(folder, {"metadata.csv": "\n".join(rows) + "\n"})
