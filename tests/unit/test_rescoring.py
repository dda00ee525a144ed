"""When the reward changes, stored images get the new score once, and a threshold is told where it went."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import tiny
from vouch.datasets.rescoring import both, compare, rescore, same_share
from vouch.errors import FailedPrecondition, InvalidInput
from vouch.formats import images as codec
from vouch.models.networks.reward import EnsembleScores
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.types.image import ImageRecord
from vouch.types.score import Score

OLD, NEW = "a" * 64, "b" * 64


def brightness(images: np.ndarray, prompts: list[str]) -> EnsembleScores:
    """A reward that likes bright images and knows no platelets."""
    if "platelet" in prompts:
        raise InvalidInput("no platelets")
    score = images.mean((1, 2, 3)).astype(np.float32) / 255
    return EnsembleScores(score, np.zeros_like(score), {})


def stored(catalog: Catalog, blobs: BlobStore, grey: int, prompt: str = "monocyte", size: int = 8) -> str:
    data = codec.encode_png(np.full((size, size, 3), grey, np.uint8))
    digest = blobs.put(data)
    record = ImageRecord(
        digest=digest, media_type="image/png", width=size, height=size, size_bytes=len(data),
        source="generated", prompt=prompt,
    )  # fmt: skip
    catalog.images.add([record], [Score(image=digest, version=OLD, overall=grey / 510, std=0.0)])
    return digest


@pytest.fixture
def place(catalog: Catalog, blobs: BlobStore) -> tuple[Catalog, BlobStore]:
    return catalog, blobs


def test_only_what_lacks_the_new_score_is_scored(place: tuple[Catalog, BlobStore]) -> None:
    catalog, blobs = place
    seen: list[int] = []

    def counted(images: np.ndarray, prompts: list[str]) -> EnsembleScores:
        seen.append(len(images))
        return brightness(images, prompts)

    first = stored(catalog, blobs, 100)
    assert rescore(catalog, blobs, OLD, NEW, counted).scored == 1
    stored(catalog, blobs, 200)
    stored(catalog, blobs, 50, size=16)
    assert rescore(catalog, blobs, OLD, NEW, counted).scored == 2
    assert rescore(catalog, blobs, OLD, NEW, counted).scored == 0
    assert seen == [1, 1, 1]
    assert {score.version for score in catalog.images.scores(first)} == {OLD, NEW}
    before, after = both(catalog, OLD, NEW)
    assert np.allclose(after, 2 * before, atol=1e-6)


def test_an_image_that_cannot_be_scored_costs_no_other_its_score(place: tuple[Catalog, BlobStore]) -> None:
    catalog, blobs = place
    for grey in (10, 20, 30):
        stored(catalog, blobs, grey)
    stored(catalog, blobs, 40, "platelet")
    found = rescore(catalog, blobs, OLD, NEW, brightness)
    assert (found.scored, found.failed) == (3, 1)


def test_a_threshold_moves_with_the_scores() -> None:
    before = np.linspace(0, 1, 101)
    found = compare(before, before**2, [0.8])
    (moved,) = found.thresholds
    assert moved.same_share == pytest.approx(0.64)
    assert moved.same_share_low <= moved.same_share <= moved.same_share_high
    assert moved.kept_before == pytest.approx(21 / 101)
    assert moved.kept_after == pytest.approx(11 / 101)  # 0.9² = 0.81 is the first above
    assert moved.same_images == 1.0
    assert found.rank_agreement == pytest.approx(1.0)


def test_a_threshold_that_keeps_nothing_or_everything_goes_on_doing_so() -> None:
    before, after = np.linspace(0.2, 0.6, 30), np.linspace(0.1, 0.9, 30)
    assert same_share(before, after, 0.7) == 1.0
    assert same_share(before, after, 0.0) == pytest.approx(0.1)


def test_too_few_images_and_impossible_thresholds_are_refused() -> None:
    with pytest.raises(FailedPrecondition, match="Only 3 stored images"):
        compare(np.ones(3), np.ones(3), [0.5])
    with pytest.raises(InvalidInput, match="from 0 to 1"):
        compare(np.ones(30), np.ones(30), [80.0])


def test_the_command_compares_two_published_versions(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from typer.testing import CliRunner

    from vouch.cli.main import root
    from vouch.storage.registry import Registry
    from vouch.storage.state import StateFolder

    folder = StateFolder(tmp_path / "state").create()
    with Catalog(folder.catalog_url) as catalog:
        registry = Registry(catalog, folder.models)
        versions = [
            registry.publish(
                tiny.save_reward(tmp_path / name, seed), kind="reward", format="reward", name=name
            )
            for seed, name in enumerate(("first", "second"))
        ]
        for grey in range(25):
            digest = stored(catalog, BlobStore(folder.blobs), 10 * grey)
            catalog.images.add_scores(
                [Score(image=digest, version=versions[0].digest, overall=grey / 25, std=0)]
            )
    run = CliRunner().invoke
    told = run(
        root, ["reward", "compare", "first", "second", "--threshold", "0.5", "--state", str(folder.root)]
    )
    assert told.exit_code == 0, told.output
    assert "25 with both scores; 25 scored now" in told.output and "not calibrated" in told.output
    again = run(root, ["reward", "compare", "first", "second", "--json", "--state", str(folder.root)])
    assert '"scored": 0' in again.output
    assert run(root, ["reward", "compare", "a", "b", "--state", str(tmp_path)]).exit_code == 4
