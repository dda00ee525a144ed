"""Every way of guidance, in the engine and offline, against plain diffusers or the papers' loops written out."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

from services.generation.engine import Engine
from tests.inbox import Inbox
from tests.requests import image_request
from tests.tiny import save_generator, save_guided_generator
from tests.unit.test_pipelines import lora
from vouch.errors import InvalidInput
from vouch.models.pipelines import Generator, adapt, load_generator
from vouch.types.guidance import PLAIN, GuidanceOptions

PROMPT, SEED, STEPS = "monocyte", 7, 8
MIDDLE = GuidanceOptions(start=0.25, stop=0.75)
SCHEDULERS: dict[str, Any] = {
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "dpm++2m": DPMSolverMultistepScheduler,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_guided_generator(tmp_path_factory.mktemp("guided") / "generator")


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    return load_generator(folder)


@pytest.fixture
def engine():
    engine = Engine(max_batch=32, step_rows=64, threads=1)
    yield engine
    engine.stop()


@functools.cache
def loaded(folder: Path) -> Any:
    return StableDiffusionPipeline.from_pretrained(str(folder))


def plain_pipe(folder: Path, sampler: str = "ddim") -> Any:
    parts = loaded(folder).components
    schedule = SCHEDULERS[sampler].from_config(parts["scheduler"].config, clip_sample=False)
    pipe = StableDiffusionPipeline(**{**parts, "scheduler": schedule}, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(
    engine: Engine, model: Generator, scale: float, options: GuidanceOptions, sampler: str = ""
) -> np.ndarray:
    inbox = Inbox()
    request = image_request(model, PROMPT, (SEED,), STEPS, scale, sampler=sampler, options=options)
    engine.submit(*request, inbox)
    return inbox.finished(1)[0].image.astype(int)


def same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    assert theirs.std() > 1, "a flat image would agree with anything"
    return bool(np.abs(ours - theirs).max() <= 1)


def grey(pixels: np.ndarray) -> np.ndarray:
    return (pixels * 255).round().astype(int)


# ---- plain diffusers, whose pipeline may be changed between two steps


def by_diffusers(pipe: Any, scale: float, guided: range, before_step: Callable[[int], None]) -> np.ndarray:
    """Its own loop; between two steps guidance is switched, and `before_step` changes what else is to change."""
    with torch.no_grad():
        said, unsaid = pipe.encode_prompt(PROMPT, pipe.device, 1, True)
    both = torch.cat([unsaid, said])

    def after(pipe: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale = scale if index + 1 in guided else 1.0
        before_step(index + 1)
        return {"prompt_embeds": both if index + 1 in guided else said}

    before_step(0)
    found = pipe(
        prompt_embeds=said, negative_prompt_embeds=unsaid, num_inference_steps=STEPS,
        guidance_scale=scale if 0 in guided else 1.0, generator=torch.Generator().manual_seed(SEED),
        callback_on_step_end=after, callback_on_step_end_tensor_inputs=["prompt_embeds"], output_type="np",
    )  # fmt: skip
    return grey(found.images[0])


@pytest.mark.parametrize("sampler", SCHEDULERS)
@pytest.mark.parametrize(("start", "stop"), [(0.25, 0.75), (0.0, 0.5), (0.5, 1.0)])
def test_guidance_on_an_interval_is_that_of_diffusers(engine, folder, generator, sampler, start, stop):
    options = GuidanceOptions(start=start, stop=stop)
    guided = range(round(start * STEPS), round(stop * STEPS))
    theirs = by_diffusers(plain_pipe(folder, sampler), 3.0, guided, lambda step: None)
    assert same(drawn(engine, generator, 3.0, options, sampler), theirs)
    assert not same(drawn(engine, generator, 3.0, PLAIN, sampler), theirs)
    if sampler == "ddim":
        offline = generator.generate([PROMPT], [SEED], STEPS, 3.0, options=options)[0].astype(int)
        assert same(offline, theirs)


def test_an_adapter_of_late_steps_is_that_of_diffusers(engine, folder, generator, tmp_path):
    adapter = lora(tmp_path / "adapter", folder, 1)
    adapted, options = adapt(generator, adapter), GuidanceOptions(adapter_start=0.5)
    pipe, base = StableDiffusionPipeline.from_pretrained(str(folder)), loaded(folder).unet
    pipe.load_lora_weights(str(adapter))
    whole = pipe.unet

    def before_step(step: int) -> None:
        pipe.unet = base if step < 4 else whole

    theirs = by_diffusers(pipe, 2.0, range(STEPS), before_step)
    assert same(drawn(engine, adapted, 2.0, options), theirs)
    assert same(adapted.generate([PROMPT], [SEED], STEPS, 2.0, options=options)[0].astype(int), theirs)
    assert not same(drawn(engine, adapted, 2.0, PLAIN), theirs)
    assert not same(drawn(engine, generator, 2.0, PLAIN), theirs)


def test_an_adapter_that_never_starts_leaves_its_base(engine, folder, generator, tmp_path):
    adapted = adapt(generator, lora(tmp_path / "adapter", folder, 1))
    never = drawn(engine, adapted, 2.0, GuidanceOptions(adapter_start=1.0))
    assert same(never, drawn(engine, generator, 2.0, PLAIN))


# ---- loops written out


@functools.cache
def encoded(pipe: Any, prompt: str) -> torch.Tensor:
    return pipe.encode_prompt(prompt, pipe.device, 1, False)[0]


class Loop:
    """What the loops share: a plain pipeline's networks, its noise levels, and clean latents from its outputs."""

    def __init__(self, folder: Path, sampler: str, prediction: str) -> None:
        self.pipe = plain_pipe(folder, sampler)
        self.pipe.scheduler.register_to_config(prediction_type=prediction)
        self.pipe.scheduler.set_timesteps(STEPS)
        self.schedule, self.prediction = self.pipe.scheduler, prediction

    def noise(self) -> torch.Tensor:
        size = self.pipe.unet.config.sample_size
        return torch.randn((1, 4, size, size), generator=torch.Generator().manual_seed(SEED))

    def clean(self, x: torch.Tensor, t: Any, alpha: Any, sigma: Any, prompt: str) -> torch.Tensor:
        """Predicted from x = alpha x0 + sigma noise."""
        out = self.pipe.unet(x, t, encoded(self.pipe, prompt)).sample
        return alpha * x - sigma * out if self.prediction == "v_prediction" else (x - sigma * out) / alpha

    def both(self, x: torch.Tensor, t: Any, alpha: Any, sigma: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """With the prompt and without."""
        return self.clean(x, t, alpha, sigma, PROMPT), self.clean(x, t, alpha, sigma, "")

    def pixels(self, x: torch.Tensor) -> np.ndarray:
        image = self.pipe.vae.decode(x / self.pipe.vae.config.scaling_factor).sample[0]
        return grey((image / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy())


def cfg_pp_ddim(loop: Loop, scale: float, guided: range) -> torch.Tensor:
    """Algorithm 2 of arXiv 2406.08070."""
    x, levels = loop.noise(), loop.schedule.alphas_cumprod
    for step, t in enumerate(loop.schedule.timesteps):
        before = t - 1000 // STEPS
        now, then = levels[t], levels[before] if before >= 0 else loop.schedule.final_alpha_cumprod
        said, unsaid = loop.both(x, t, now.sqrt(), (1 - now).sqrt())
        unsaid = unsaid if step in guided else said
        clean = unsaid + scale * (said - unsaid)
        noise = (x - now.sqrt() * unsaid) / (1 - now).sqrt()
        x = then.sqrt() * clean + (1 - then).sqrt() * noise
    return x


def cfg_pp_sigmas(loop: Loop, scale: float, guided: range, second_order: bool) -> torch.Tensor:
    """Euler and DPM-Solver++(2M) of the paper's own code, over latents that are x0 + sigma noise."""
    sigmas = loop.schedule.sigmas
    x = loop.noise() * (loop.schedule.init_noise_sigma if not second_order else (sigmas[0] ** 2 + 1) ** 0.5)
    old = None
    for step, t in enumerate(loop.schedule.timesteps):
        sigma, after = sigmas[step], sigmas[step + 1]
        alpha = 1 / (sigma**2 + 1) ** 0.5
        said, unsaid = loop.both(alpha * x, t, alpha, alpha * sigma)
        unsaid = unsaid if step in guided else said
        clean = unsaid + scale * (said - unsaid)
        if not second_order or old is None or after == 0:
            x = clean + after * (x - unsaid) / sigma
        else:
            h, h_last = sigma.log() - after.log(), sigmas[step - 1].log() - sigma.log()
            bend = -torch.expm1(-h) * (unsaid - old) / (2 * h_last / h)
            x = clean - torch.exp(-h) * unsaid + bend + torch.exp(-h) * x
        old = unsaid
    return x


@pytest.mark.parametrize(
    ("prediction", "guided"),
    [("epsilon", range(STEPS)), ("v_prediction", range(STEPS)), ("v_prediction", range(2, 6))],
)
@pytest.mark.parametrize("sampler", SCHEDULERS)
@torch.no_grad()
def test_cfg_pp_is_that_of_the_paper(engine, folder, sampler, prediction, guided):
    loop, model = Loop(folder, sampler, prediction), load_generator(folder)
    model.pipe.scheduler.register_to_config(prediction_type=prediction)
    clean = {
        "ddim": lambda: cfg_pp_ddim(loop, 0.7, guided),
        "euler": lambda: cfg_pp_sigmas(loop, 0.7, guided, second_order=False),
        "dpm++2m": lambda: cfg_pp_sigmas(loop, 0.7, guided, second_order=True),
    }[sampler]()
    options = GuidanceOptions(method="cfg_pp", start=guided.start / STEPS, stop=guided.stop / STEPS)
    assert same(drawn(engine, model, 0.7, options, sampler), loop.pixels(clean))
    assert not same(drawn(engine, model, 1.0, PLAIN, sampler), loop.pixels(clean))


@torch.no_grad()
def autoguided(folder: Path, sampler: str, scale: float, guided: range) -> np.ndarray:
    """Eq. 3 of arXiv 2406.02507, by the scheduler's own steps."""
    loop = Loop(folder, sampler, "sample")
    weaker = plain_pipe(folder)
    weaker.unet = UNet2DConditionModel.from_pretrained(str(folder / "guide"))
    weaker.text_encoder = type(weaker.text_encoder).from_pretrained(str(folder / "guide" / "text_encoder"))
    x = loop.noise() * loop.schedule.init_noise_sigma
    for step, t in enumerate(loop.schedule.timesteps):
        scaled = loop.schedule.scale_model_input(x, t)
        out, worse = (pipe.unet(scaled, t, encoded(pipe, PROMPT)).sample for pipe in (loop.pipe, weaker))
        out = worse + scale * (out - worse) if step in guided else out
        x = loop.schedule.step(out, t, x).prev_sample
    return loop.pixels(x)


@pytest.mark.parametrize("guided", [range(STEPS), range(2, 6)], ids=["throughout", "interval"])
@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_autoguidance_is_that_of_the_paper(engine, folder, generator, sampler, guided):
    theirs = autoguided(folder, sampler, 2.0, guided)
    options = GuidanceOptions(method="autoguidance", start=guided.start / STEPS, stop=guided.stop / STEPS)
    assert same(drawn(engine, generator, 2.0, options, sampler), theirs)
    assert not same(drawn(engine, generator, 2.0, replace(options, method="cfg"), sampler), theirs)
    if sampler == "ddim":
        offline = generator.generate([PROMPT] * 2, [SEED, 3], STEPS, 2.0, options=options)[0].astype(int)
        assert same(offline, theirs)


def test_a_guide_without_a_text_encoder_reads_what_the_generator_reads(folder, tmp_path):
    bare = shutil.copytree(folder, tmp_path / "bare")
    shutil.rmtree(bare / "guide" / "text_encoder")
    model = load_generator(bare)
    assert model.guide.pipe.text_encoder is model.pipe.text_encoder
    assert model.guide.pipe.unet is not model.pipe.unet


# ---- together


def test_images_of_all_methods_share_a_batch_and_do_not_mind(engine, folder, generator, tmp_path):
    adapted = adapt(generator, lora(tmp_path / "adapter", folder, 1))
    asked = [
        (scale, options)
        for scale, method in ((2.0, "cfg"), (0.7, "cfg_pp"), (2.0, "autoguidance"))
        for options in (
            GuidanceOptions(method=method),
            GuidanceOptions(method=method, start=0.25, stop=0.75),
            GuidanceOptions(method=method, stop=0.5, adapter_start=0.5),
        )
    ]
    alone = [drawn(engine, adapted, scale, options) for scale, options in asked]
    inboxes = [Inbox() for _ in asked]
    for (scale, options), inbox in zip(asked, inboxes, strict=True):
        engine.submit(*image_request(adapted, PROMPT, (SEED,), STEPS, scale, options=options), inbox)
    together = [inbox.finished(1)[0] for inbox in inboxes]
    assert max(image.batch for image in together) > 2
    for image, one in zip(together, alone, strict=True):
        assert same(image.image.astype(int), one)


@pytest.mark.parametrize(
    ("scale", "options", "complaint"),
    [
        (1.5, GuidanceOptions(method="cfg_pp"), "its scale is 0 to 1"),
        (2.0, GuidanceOptions(adapter_start=0.5), "no adapter upon another one"),
    ],
)
def test_what_a_generator_cannot_do_is_refused(generator, scale, options, complaint):
    with pytest.raises(InvalidInput, match=complaint):
        generator.generate([PROMPT], [SEED], 1, scale, options=options)


def test_a_generator_without_a_guide_says_so(folder, tmp_path):
    model = load_generator(save_generator(tmp_path / "alone", seed=0))
    assert (model.guidance_methods, load_generator(folder).guidance_methods) == (
        ("cfg", "cfg_pp"),
        ("cfg", "cfg_pp", "autoguidance"),
    )
    with pytest.raises(InvalidInput, match="no guide folder to autoguide with"):
        model.check_guidance(2.0, GuidanceOptions(method="autoguidance"))


def test_a_guide_of_other_latents_is_refused_when_it_is_loaded(folder, tmp_path):
    bad = shutil.copytree(folder, tmp_path / "bad")
    unet = UNet2DConditionModel.from_config(
        {**UNet2DConditionModel.load_config(str(bad / "unet")), "sample_size": 16}
    )
    unet.save_pretrained(str(bad / "guide"))
    with pytest.raises(InvalidInput, match="guide has sample_size 16, the generator's has 8"):
        load_generator(bad)


# ---- negative prompts


@pytest.mark.parametrize("sampler", list(SCHEDULERS))
def test_a_negative_prompt_draws_what_diffusers_draws(
    folder: Path, generator: Generator, engine: Engine, sampler: str
) -> None:
    """In two steps: these loud random weights blow up the rounding of more."""

    def ours(negative: str) -> np.ndarray:
        inbox, options = Inbox(), GuidanceOptions(negative_prompt=negative)
        engine.submit(
            *image_request(generator, PROMPT, (SEED,), 2, 2.0, sampler=sampler, options=options), inbox
        )
        return inbox.finished(1)[0].image.astype(int)

    theirs = plain_pipe(folder, sampler)(
        PROMPT, negative_prompt="basophil", num_inference_steps=2, guidance_scale=2.0,
        generator=torch.Generator().manual_seed(SEED), output_type="np",
    ).images[0]  # fmt: skip
    assert same(ours("basophil"), grey(theirs))
    assert not same(ours(""), grey(theirs))


def test_a_pipeline_that_draws_whole_images_takes_a_negative_prompt_too(generator: Generator) -> None:
    options = GuidanceOptions(negative_prompt="basophil")
    whole = generator.generate([PROMPT], [SEED], STEPS, 4.0, options=options)
    plain = generator.generate([PROMPT], [SEED], STEPS, 4.0)
    assert not np.array_equal(whole, plain)
