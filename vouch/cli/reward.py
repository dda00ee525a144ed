"""``vouch reward``: compare reward versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vouch.cli import render
from vouch.cli.session import Session, command
from vouch.errors import InvalidInput, NotFound
from vouch.extras import require

if TYPE_CHECKING:
    from pathlib import Path

    from vouch.datasets.rescoring import ThresholdComparison
    from vouch.settings import Settings
    from vouch.storage.registry import Registry
    from vouch.types.version import Version

app = typer.Typer(help="Map thresholds from one reward version to another.", no_args_is_help=True)


@app.callback()
def main() -> None:
    """Makes `compare` a sub-command."""


@command(
    app,
    "compare",
    """
    vouch reward compare starter-reward reward-1
    vouch reward compare reward-1 reward-2 --threshold 0.8 --threshold 0.95
    """,
)
def compare(
    session: Session,
    old: Annotated[str, typer.Argument(help="Version that the threshold was chosen for.")],
    new: Annotated[str, typer.Argument(help="Version that replaces it.")],
    threshold: Annotated[list[float], typer.Option(help="Score threshold, 0 to 1. Repeatable.")] = [  # noqa: B006
        0.5,
        0.8,
        0.9,
    ],
) -> None:
    """Map thresholds from OLD to NEW at an equal acceptance rate.

    Stored images with a score of OLD and none of NEW are scored by NEW first; both scores are kept. Uses the state
    folder; needs no running system.
    """
    require("server")
    from vouch.datasets import rescoring
    from vouch.models.networks.reward import RewardEnsemble
    from vouch.settings import load_settings
    from vouch.storage.blobs import BlobStore
    from vouch.storage.catalog import Catalog
    from vouch.storage.registry import Registry

    settings = load_settings(state=session.state)
    with Catalog(_catalog_url(settings)) as catalog:
        registry = Registry(catalog, settings.folder.models, settings.models_url)
        before, after = _reward(registry, old), _reward(registry, new)
        model = RewardEnsemble.load(registry.open(after.digest))
        with render.progress() as bar:
            task = bar.add_task(f"scoring with {after.name}", total=None)
            rescored = rescoring.rescore(
                catalog,
                BlobStore(settings.resolved_blobs_url),
                before.digest,
                after.digest,
                model.score,
                lambda done, total: bar.update(task, completed=done, total=total),
            )
        comparison = rescoring.compare(*rescoring.both(catalog, before.digest, after.digest), threshold)
        folders = [registry.folder(version.digest) for version in (before, after)]
    report = {"old": before.name, "new": after.name, "rescored": rescored, **vars(comparison)}
    session.emit(report, lambda: _view(before, after, folders, rescored, comparison))


def _catalog_url(settings: Settings) -> str:
    file = settings.folder.root / "catalog.db"
    if not settings.catalog_url and not file.is_file():
        raise NotFound(f"There is no {file}: give the state folder of a system with --state.", "NO_STATE")
    return settings.resolved_catalog_url


def _reward(registry: Registry, ref: str) -> Version:
    version = registry.get(ref)
    if version.kind != "reward":
        raise InvalidInput(f"{version.name} is a {version.kind}, not a reward model: name a reward version.")
    return version


def _view(
    before: Version, after: Version, folders: list[Path], rescored: Any, comparison: ThresholdComparison
) -> Any:
    from vouch.models.scale import read_scale

    rows = [
        (
            f"{one.threshold:g}",
            render.percent(one.kept_before),
            render.percent(one.kept_after),
            f"{one.same_share:.3f}",
            f"{one.same_share_low:.3f} to {one.same_share_high:.3f}",
            render.percent(one.same_images),
        )
        for one in comparison.thresholds
    ]
    columns = (
        "threshold",
        f"#{before.name} keeps",
        f"#{after.name} keeps",
        "#equal acceptance at",
        "95 %",
        "#same images kept",
    )
    failed = f", {rescored.failed} failed" if rescored.failed else ""
    return render.facts(
        {
            before.name: read_scale(folders[0]).meaning,
            after.name: read_scale(folders[1]).meaning,
            "images": f"{comparison.images} with both scores; {rescored.scored} scored now{failed}",
            "mean score": f"{comparison.mean_before:.3f}, now {comparison.mean_after:.3f}",
            "rank correlation": f"{comparison.rank_agreement:.3f} (Spearman)",
            "thresholds": render.table(columns, rows),
        }
    )
