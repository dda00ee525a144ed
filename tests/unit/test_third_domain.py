"""The whole loop on a domain that no code knows: adapted, drawn, rated, rewarded, aligned, drawn again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.foundations import SIZE, save_foundation
from tests.image_files import encoded, write_files
from tests.unit.test_domains import TOY, learned
from training.adaptation.config import AdaptConfig
from training.adaptation.fit import fit as fit_adaptation
from training.alignment.config import AlignConfig
from training.alignment.fit import fit as fit_alignment
from training.inputs.rated import RATINGS_FILE
from training.loop.session import TrainingSession
from training.raters.simulated import SimulatedPathologist
from training.reward.config import RewardConfig
from training.reward.fit import fit as fit_reward
from vouch.domains.criteria import Domain, load_domain
from vouch.formats import images as codec
from vouch.models.pipelines import load_generator
from vouch.recipes import nested

PROMPTS = ["green", "red"] * 8


@pytest.fixture
def lights(tmp_path: Path) -> Domain:
    return load_domain(write_files(tmp_path / "lights", TOY))


def save_lights(folder: Path) -> Path:
    """Forty traffic lights in folders named after the lamp."""
    rng = np.random.default_rng(0)
    files = {}
    for number in range(40):
        pixels = rng.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
        pixels[8:24, 8:24, number % 2] = 220
        files[f"{('red', 'green')[number % 2]}/{number:02d}.png"] = encoded(Image.fromarray(pixels))
    return write_files(folder, files)


def rate(images: np.ndarray, domain: Domain, folder: Path) -> TrainingSession:
    """A run's folder with a simulated rater's answers to the domain's own checklist."""
    digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    opinions = SimulatedPathologist(learned(domain), "one", domain).rate(images, PROMPTS, digests)
    rows = [
        {
            "image": codec.encode_png(image), "prompt": prompt, "digest": digest, "overall": float(number % 3 > 0),
            "criteria": json.dumps({name: float(answer == "pass") for name, answer in opinion.answers.items()}),
            "ratings": json.dumps([digest]), "kinds": '["simulated"]',
        }
        for number, (image, prompt, digest, opinion) in enumerate(zip(images, PROMPTS, digests, opinions, strict=True))
    ]  # fmt: skip
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / RATINGS_FILE)
    return TrainingSession(folder)


def test_a_third_domain_goes_round_the_whole_loop(lights: Domain, tmp_path: Path) -> None:
    base, small = save_foundation(tmp_path / "base"), {"domain": lights, "threads": 1}
    adapted = AdaptConfig.model_validate({
        **small, "base": base, "data": save_lights(tmp_path / "data"), "out": tmp_path / "adapted", "steps": 2,
        "batch": 4, "rank": 0, "lr": 1e-2, "precision": "float32", "keep_vae": True,
    })  # fmt: skip
    fit_adaptation(adapted, TrainingSession(tmp_path / "adapting"))
    worded = [lights.captions.every(prompt)[1] for prompt in PROMPTS]  # "a traffic light that shows green"
    before = load_generator(adapted.out).generate(worded, range(16), 2, 2.0)

    reward = RewardConfig.model_validate({
        **small, "out": tmp_path / "reward", "criteria": lights.ids, "members": 3, "size": SIZE, "widths": (8, 16),
        "batch": 8, "steps": 4,
    })  # fmt: skip
    fit_reward(reward, rate(before, lights, tmp_path / "rated"))
    aligned = AlignConfig.model_validate({
        **small, "base": adapted.out, "reward": reward.out, "out": tmp_path / "aligned", "method": "draft",
        "steps": 2, "batch": 2, "rank": 2, "lr": 1e-2, **nested({"validation.every": 0, "draft.sample_steps": 2}),
    })  # fmt: skip
    fit_alignment(aligned, rate(before, lights, tmp_path / "aligning"))
    after = load_generator(aligned.out, adapted.out).generate(worded, range(16), 2, 2.0)
    assert after.shape == before.shape
    assert not np.array_equal(after, before)
