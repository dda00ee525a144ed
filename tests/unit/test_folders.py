"""Folders that people bring: what loads, and what is refused with the part that is wrong and a remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from services.generation.models import Loader
from services.reward.models import load_reward
from services.trial import try_model
from tests.tiny import save_generator, save_reward
from vouch.errors import InvalidInput
from vouch.models.folders import check_generator_folder, check_reward_folder
from vouch.models.loading import check_finite
from vouch.models.pipelines import Generator, load_generator
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry

UNET = "unet/diffusion_pytorch_model.safetensors"
GUIDE_UNET = "guide/diffusion_pytorch_model.safetensors"
GUIDE_ENCODER = "guide/text_encoder/model.safetensors"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_generator(tmp_path_factory.mktemp("sound") / "model", seed=0)


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(sound, tmp_path / "model"))


def draw(folder: Path) -> np.ndarray:
    return load_generator(folder).generate(["monocyte"], [7], 2, 2.0)[0]


def use(folder: Path) -> Generator:
    generator = load_generator(folder)
    check_finite(generator, "monocyte")
    return generator


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def change_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(str(path))
    change(weights)
    save_file(weights, str(path), metadata={"format": "pt"})


def as_variant(folder: Path, part: str, name: str = "fp16") -> None:
    """Only weights of half precision under a variant's name, as many hub folders have them."""
    for path in (folder / part).glob("*.safetensors"):
        weights = {key: value.half() for key, value in load_file(str(path)).items()}
        save_file(weights, str(path.with_name(f"{path.stem}.{name}.safetensors")), metadata={"format": "pt"})
        path.unlink()


def test_a_folder_of_fp16_variants_alone_draws_what_the_whole_one_draws(sound: Path, folder: Path) -> None:
    for part in ("unet", "vae", "text_encoder"):
        as_variant(folder, part)
    assert np.abs(draw(folder).astype(int) - draw(sound)).max() <= 3  # half precision in the file


def test_a_folder_with_a_variant_for_one_part_loads(folder: Path) -> None:
    as_variant(folder, "unet")
    (folder / "unet" / "README").write_text("a file that is no weights")
    assert draw(folder).shape == (32, 32, 3)


@pytest.mark.parametrize("variant", ["", "fp16"])
def test_sharded_weights_load(sound: Path, folder: Path, variant: str) -> None:
    pipe = load_generator(sound).pipe
    for part in ("unet", "text_encoder"):
        shutil.rmtree(folder / part)
        getattr(pipe, part).save_pretrained(
            str(folder / part), max_shard_size="20KB", variant=variant or None, safe_serialization=True
        )
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1
    assert (draw(folder) == draw(sound)).all()


def test_a_safety_checker_that_is_named_and_not_there_does_not_matter(folder: Path) -> None:
    change_json(
        folder / "model_index.json",
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "ThatIsGone"],
        requires_safety_checker=True,
    )
    assert draw(folder).shape == (32, 32, 3)


@pytest.fixture
def guided(folder: Path) -> Path:
    """The folder with a guide that has its own text encoder: copies of the generator's."""
    shutil.copytree(folder / "unet", folder / "guide")
    shutil.copytree(folder / "text_encoder", folder / "guide" / "text_encoder")
    return folder


def test_a_guide_of_variants_alone_loads(guided: Path) -> None:
    as_variant(guided, "guide")
    as_variant(guided / "guide", "text_encoder")
    guide = use(guided).guide
    assert guide is not None and guide.pipe.unet.dtype == torch.float32


@pytest.mark.parametrize(
    ("weights", "change", "what"),
    [
        (
            GUIDE_UNET,
            lambda tensors: tensors.pop("conv_in.weight"),
            "weights of its guide lack conv_in.weight",
        ),
        (
            GUIDE_UNET,
            lambda tensors: tensors["conv_in.bias"].fill_(torch.nan),
            "guide's unet has weights that",
        ),
        (GUIDE_ENCODER, lambda tensors: tensors.popitem(), "weights of its text_encoder lack"),
        (
            GUIDE_ENCODER,
            lambda tensors: next(iter(tensors.values())).fill_(torch.inf),
            "guide's text_encoder has",
        ),
    ],
)
def test_a_guide_that_is_not_whole_or_not_finite_is_refused(
    guided: Path, weights: str, change: Callable[[dict[str, torch.Tensor]], object], what: str
) -> None:
    change_weights(guided / weights, change)
    with pytest.raises(InvalidInput, match=what):
        use(guided)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "SDXL": (
        lambda folder: change_json(folder / "model_index.json", _class_name="StableDiffusionXLPipeline"),
        "is an SDXL model",
    ),
    "a unet of SDXL": (
        lambda folder: change_json(folder / "unet/config.json", addition_embed_type="text_time"),
        "unet of an SDXL model",
    ),
    "an inpainting pipeline": (
        lambda folder: change_json(folder / "model_index.json", _class_name="StableDiffusionInpaintPipeline"),
        "is an inpainting model",
    ),
    "an inpainting unet": (
        lambda folder: change_json(folder / "unet/config.json", in_channels=9),
        "unet that takes 9 channels where 4 are drawn: an inpainting model's",
    ),
    "custom code": (
        lambda folder: change_json(folder / "model_index.json", _class_name=["pipeline", "Mine"]),
        "names no pipeline class of diffusers",
    ),
    "a part that is not named": (
        lambda folder: change_json(folder / "model_index.json", vae=[None, None]),
        "has no vae",
    ),
    "a part that is not there": (lambda folder: shutil.rmtree(folder / "vae"), "lacks the folder vae"),
    "no scheduler file": (
        lambda folder: (folder / "scheduler/scheduler_config.json").unlink(),
        "lacks scheduler/scheduler_config.json",
    ),
    "a damaged index": (
        lambda folder: (folder / "model_index.json").write_text("{"),
        "has a damaged model_index.json",
    ),
    "no vocabulary": (
        lambda folder: [path.unlink() for path in (folder / "tokenizer").iterdir()],
        "its tokenizer has no vocabulary",
    ),
    "no weights": (lambda folder: (folder / UNET).unlink(), "its unet has no weights"),
    "pickled weights": (
        lambda folder: (folder / UNET).rename(folder / "unet/diffusion_pytorch_model.bin"),
        "weights of its unet in diffusion_pytorch_model.bin alone, which vouch never loads",
    ),
    "a shard that is not there": (
        lambda folder: (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(
            json.dumps(
                {"weight_map": {"conv_in.weight": "diffusion_pytorch_model-00002-of-00002.safetensors"}}
            )
        ),
        "names diffusion_pytorch_model-00002-of-00002.safetensors, which is not there",
    ),
    "no size": (
        lambda folder: change_json(folder / "unet/config.json", sample_size=None),
        "does not say in unet/config.json how large it draws",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_is_refused_from_its_files_alone(folder: Path, name: str) -> None:
    spoil, sentence = REFUSED[name]
    spoil(folder)
    with pytest.raises(InvalidInput, match=r"Remedy: .+\.$") as caught:
        check_generator_folder(folder)
    assert sentence in caught.value.message


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a scheduler that cannot be built": (
        lambda folder: change_json(folder / "scheduler/scheduler_config.json", beta_schedule="none"),
        "has a scheduler that cannot be loaded",
    ),
    "a scheduler that nobody knows": (
        lambda folder: change_json(folder / "model_index.json", scheduler=["diffusers", "NoScheduler"]),
        r"has a scheduler of a class that is not known here \(diffusers.NoScheduler\)",
    ),
    "a tensor that is missing": (
        lambda folder: change_weights(folder / UNET, lambda weights: weights.pop("conv_in.weight")),
        "the weights of its unet lack conv_in.weight",
    ),
    "a tensor that is missing in the vae": (
        lambda folder: change_weights(
            folder / "vae/diffusion_pytorch_model.safetensors", lambda weights: weights.popitem()
        ),
        "the weights of its vae lack",
    ),
    "a tensor that is missing in the text encoder": (
        lambda folder: change_weights(
            folder / "text_encoder/model.safetensors", lambda weights: weights.popitem()
        ),
        "the weights of its text_encoder lack",
    ),
    "weights that were cut": (
        lambda folder: (folder / UNET).write_bytes((folder / UNET).read_bytes()[:999]),
        "has a unet that cannot be loaded",
    ),
    "weights that are not finite": (
        lambda folder: change_weights(
            folder / UNET, lambda weights: weights["conv_in.weight"].fill_(torch.nan)
        ),
        r"The unet has weights that are not finite \(NaN or infinity\), conv_in.weight first",
    ),
    "finite weights that overflow": (
        lambda folder: change_weights(folder / UNET, lambda weights: weights["conv_out.weight"].fill_(3e38)),
        "draws values that are not finite",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_used_is_refused_when_it_is_tried(folder: Path, name: str) -> None:
    spoil, sentence = UNUSABLE[name]
    spoil(folder)
    with pytest.raises(InvalidInput, match=sentence) as caught:
        use(folder)
    assert "Remedy: " in caught.value.message


def test_a_lora_alone_is_told_from_a_model(tmp_path: Path) -> None:
    (tmp_path / "pytorch_lora_weights.safetensors").write_bytes(b"x")
    with pytest.raises(InvalidInput, match="holds a LoRA alone"):
        check_generator_folder(tmp_path)


def test_a_single_file_is_told_how_it_becomes_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "sd15.safetensors"
    file.write_bytes(b"x")
    with pytest.raises(InvalidInput, match="from_single_file"):
        check_generator_folder(file)
    with pytest.raises(InvalidInput, match="holds a checkpoint in a single file"):
        check_generator_folder(tmp_path)


def test_a_folder_around_a_model_is_told_which_one_is_meant(folder: Path) -> None:
    with pytest.raises(InvalidInput, match=f"name {folder}, which is one"):
        check_generator_folder(folder.parent)


def test_a_generator_and_a_reward_model_are_told_apart(folder: Path, tmp_path: Path) -> None:
    reward = save_reward(tmp_path / "reward", seed=0)
    with pytest.raises(InvalidInput, match="name it with --generator"):
        check_reward_folder(folder)
    with pytest.raises(InvalidInput, match="name it with --reward"):
        check_generator_folder(reward)
    check_reward_folder(reward)


def test_a_reward_model_whose_weights_are_not_finite_is_refused(tmp_path: Path) -> None:
    reward = save_reward(tmp_path / "reward", seed=0)
    change_weights(
        reward / "reward.safetensors", lambda weights: weights["members.0.head.2.bias"].fill_(torch.inf)
    )
    with pytest.raises(InvalidInput, match="not finite"):
        load_reward(reward)


def test_a_reward_folder_that_lacks_a_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    reward = save_reward(tmp_path / "reward", seed=0)
    (reward / "vocabulary.json").unlink()
    with pytest.raises(InvalidInput, match=r"cannot be loaded .* Remedy: "):
        load_reward(reward)


def test_a_version_that_is_not_finite_is_refused_by_the_replica_that_loads_it(
    folder: Path, tmp_path: Path
) -> None:
    change_weights(folder / UNET, lambda weights: weights["conv_in.bias"].fill_(torch.nan))
    with Catalog(f"sqlite:///{tmp_path}/catalog.db") as catalog:
        registry = Registry(catalog, tmp_path / "models")
        version = registry.publish(folder, kind="generator", format="diffusers")
        with pytest.raises(InvalidInput, match="conv_in.bias"):
            Loader(registry).load(version.digest)


def test_a_trial_says_in_another_process_why_a_folder_cannot_be_served(folder: Path) -> None:
    change_json(folder / "scheduler/scheduler_config.json", beta_schedule="none")
    with pytest.raises(InvalidInput, match="The generator cannot be served. .* has a scheduler"):
        try_model("generator", folder)
