"""``vouch generate``: images from a prompt, shown in the terminal and written to a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vouch.cli import render
from vouch.cli.session import Session, command
from vouch.extras import is_installed

if TYPE_CHECKING:
    from vouch.types.generation import GeneratedImage, GenerationSummary

SHOWN = 4
"""Images shown in the terminal without --out."""

app = typer.Typer()


PromptArgument = Annotated[
    str, typer.Argument(help="Prompt of every image. `vouch generate ?` lists the vocabulary.")
]
CountOption = Annotated[int, typer.Option("--count", "-n", help="Number of images, 1 to 10,000.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder for the images; created if missing.")
]
SeedOption = Annotated[
    int | None, typer.Option(help="Seed of the first image. Default: random; the output reports it.")
]
StepsOption = Annotated[int | None, typer.Option(help="Denoising steps, 1 to 200.")]
GuidanceOption = Annotated[
    float | None, typer.Option(help="Guidance scale, 0 to 30; 1 switches guidance off. For cfg_pp 0 to 1.")
]
GuidanceMethodOption = Annotated[
    str, typer.Option(help="cfg, cfg_pp or autoguidance. Default: the generator's default.")
]
GuidanceStartOption = Annotated[
    float | None, typer.Option(help="Fraction of the steps at which guidance starts, 0 to 1.")
]
GuidanceStopOption = Annotated[
    float | None, typer.Option(help="Fraction of the steps at which guidance stops, 0 to 1.")
]
AdapterStartOption = Annotated[
    float | None,
    typer.Option(help="Fraction of the steps denoised without the LoRA of an aligned version, 0 to 1."),
]
NegativeOption = Annotated[str, typer.Option("--negative", help="Negative prompt.")]
SamplerOption = Annotated[str, typer.Option(help="ddim, euler or dpm++2m. Default: the generator's default.")]
EtaOption = Annotated[float, typer.Option(help="DDIM eta, 0 to 1.")]
VersionOption = Annotated[
    str, typer.Option(help="Generator by name or digest. Default: the serving version.")
]
ScoreOption = Annotated[bool, typer.Option(help="Score the images with the reward model.")]


@command(
    app,
    "generate",
    """
    vouch generate neutrophil
    vouch generate "neutrophil, nucleus shape segmented-bilobed" --count 16 --out cells/
    vouch generate platelet --count 1000 --seed 1 --out platelets/ --json | jq .summary
    """,
)
def generate(
    session: Session,
    prompt: PromptArgument,
    count: CountOption = 1,
    out: OutOption = None,
    seed: SeedOption = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    guidance_method: GuidanceMethodOption = "",
    guidance_start: GuidanceStartOption = None,
    guidance_stop: GuidanceStopOption = None,
    adapter_start: AdapterStartOption = None,
    negative: NegativeOption = "",
    sampler: SamplerOption = "",
    eta: EtaOption = 0.0,
    version: VersionOption = "",
    score: ScoreOption = True,
) -> None:
    """Generate images from a prompt.

    Every image is stored in the system with its provenance. With --out it is also written as a PNG file, with a .json
    file of its prompt, seed, settings, versions and score.
    """
    with session.connect() as client:
        if prompt == "?":
            _list_words(session, client)
            return
        sampling: dict[str, Any] = {
            "steps": steps,
            "sampler": sampler,
            "eta": eta,
            "adapter_start": adapter_start,
        }
        guiding: dict[str, Any] = {
            "guidance": guidance, "guidance_method": guidance_method, "guidance_start": guidance_start,
            "guidance_stop": guidance_stop, "negative_prompt": negative,
        }  # fmt: skip
        events = client.stream_images(
            prompt, count=count, seed=seed, version=version, score=score, **sampling, **guiding
        )
        images, summary = _collect(events, count, out)
    _report(session, images, summary, out)


def _collect(
    events: Any, count: int, out: Path | None
) -> tuple[list[GeneratedImage], GenerationSummary | None]:
    from vouch.types.generation import GeneratedImage, GenerationSummary

    images: list[GeneratedImage] = []
    summary: GenerationSummary | None = None
    with render.progress() as bar:
        task = bar.add_task("generating", total=count)
        for event in events:
            if isinstance(event, GenerationSummary):
                summary = event
            elif isinstance(event, GeneratedImage):
                if out is not None:
                    _write(out, event)
                images.append(event)
                bar.update(task, completed=len(images))
            else:
                bar.update(task, description=f"generating, step {event.step}/{event.total_steps}")
    return sorted(images, key=lambda image: image.index), summary


def _write(out: Path, image: GeneratedImage) -> None:
    out.mkdir(parents=True, exist_ok=True)
    file = out / _name(image)
    file.write_bytes(image.data)
    note = json.dumps(render.plain(image), indent=2, ensure_ascii=False)
    file.with_suffix(".json").write_text(note + "\n", encoding="utf-8")


def _name(image: GeneratedImage) -> str:
    return f"{image.index:05d}-{render.digest(image.digest)}.png"


def _report(
    session: Session, images: list[GeneratedImage], summary: GenerationSummary | None, out: Path | None
) -> None:
    def file(image: GeneratedImage) -> str:
        return str(out / _name(image)) if out else ""

    session.emit(
        {"images": [{**render.plain(i), "file": file(i)} for i in images], "summary": summary},
        lambda: _view(images, summary, out),
    )


def _view(images: list[GeneratedImage], summary: GenerationSummary | None, out: Path | None) -> None:
    console = render.stdout()
    if out is None and console.is_terminal and is_installed("formats"):
        for image in images[:SHOWN]:
            console.print(render.half_blocks(image.data, min(32, render.image_width(console))))
    rows = [
        (i.index, render.digest(i.digest), i.seed, render.score(i.score, i.score_std), i.generator_name)
        for i in images[:20]
    ]
    console.print(render.table(("#", "image", "#seed", "score", "generator"), rows))
    if len(images) > len(rows):
        console.print(f"… and {len(images) - len(rows)} more")
    took = f" in {summary.total_s:.1f} s" if summary else ""
    console.print(f"{len(images)} images{took}" + (f", written to {out}" if out else ""))


def _list_words(session: Session, client: Any) -> None:
    known = client.describe_generator()

    def view() -> Any:
        if known.open_vocabulary:
            return "This generator accepts any prompt."
        rows = [("begin with", ", ".join(known.labels))]
        rows += [(one.name.replace("_", " "), ", ".join(one.values)) for one in known.attributes]
        return render.table(("words", "choose from"), rows, title=f"Prompts of {known.generator_name}")

    session.emit(known, view)
