"""`vouch lora`: adapters in and out, without a running system."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.command_line import run, run_json
from tests.foundations import save_foundation
from training.alignment.student import TARGETS
from vouch.models.loading import load_pipeline
from vouch.models.pipelines import LORA_FILE
from vouch.settings import Settings
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.version import Version


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Version, Version]:
    """A foundation model and a LoRA upon it, in a state folder that the commands find."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    base = save_foundation(tmp_path / "base")
    pipe = load_pipeline(base)
    torch.manual_seed(0)
    pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=TARGETS, init_lora_weights=False))
    layers = {key: value.half() for key, value in get_peft_model_state_dict(pipe.unet).items()}
    type(pipe).save_lora_weights(str(tmp_path / "lora"), weight_name=LORA_FILE, unet_lora_layers=layers)
    monkeypatch.setenv("VOUCH_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    registry = opened(tmp_path)
    whole = registry.publish(base, kind="generator", format="diffusers", name="base")
    lora = registry.publish(
        tmp_path / "lora", kind="generator", format="lora", name="chests", parent=whole.digest
    )
    return whole, lora


def opened(root: Path) -> Registry:
    (root / "state").mkdir(exist_ok=True)
    settings = Settings(state=root / "state")
    return Registry(Catalog(settings.resolved_catalog_url), settings.folder.models)


@pytest.mark.parametrize("form", ["kohya", "peft", "diffusers"])
def test_what_is_exported_is_published_again_upon_its_base(
    versions: tuple[Version, Version], tmp_path: Path, form: str
) -> None:
    out = tmp_path / ("out" if form == "peft" else "out.safetensors")
    written = Path(run_json("lora", "export", "chests", out, "--form", form)["path"])
    assert written.exists()
    back = run_json("lora", "import", written, "--base", "base", "--name", "back")
    registry, (whole, lora) = opened(tmp_path), versions
    version = registry.get(back["digest"])
    assert (version.name, version.format, version.parent) == ("back", "lora", whole.digest)
    assert version.lineage == {"command": f"vouch lora import {written.name}", "base": whole.digest}
    ours, theirs = (load_file(registry.open(one.digest) / LORA_FILE) for one in (lora, version))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[key].float(), theirs[key].float(), atol=2e-3) for key in ours)


def test_the_default_form_is_kohyas_and_the_next_name_is_numbered(
    versions: tuple[Version, Version], tmp_path: Path
) -> None:
    shown = run("lora", "export", "chests", tmp_path / "chests.safetensors").stdout
    assert f"wrote {tmp_path}" in " ".join(shown.split()) or "chests.safetensors" in shown
    assert all(key.startswith("lora_unet_") for key in load_file(tmp_path / "chests.safetensors"))
    assert run_json("lora", "import", tmp_path / "chests.safetensors", "--base", "base")["name"].startswith(
        "generator-"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("export", "chests", "x", "--form", "onnx"), 2, "choose one of diffusers, kohya, peft"),
        (("export", "base", "x"), 2, "is no LoRA"),
        (("export", "nobody", "x"), 4, "nobody"),
        (("import", __file__, "--base", "base"), 2, "test_lora.py"),
        (("import", __file__, "--base", "chests"), 2, "chests is not a whole model"),
        (("import", __file__), 2, "--base"),
    ],
)
def test_what_cannot_be_carried_over_is_refused_with_a_reason(
    versions: tuple[Version, Version], arguments: tuple[str, ...], code: int, says: str
) -> None:
    assert says in " ".join(run("lora", *arguments, code=code).stderr.split())
