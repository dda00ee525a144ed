"""The loop through the whole system: rated images teach a reward, the reward aligns the generator, lineage tells."""

from __future__ import annotations

import pytest

from services import loopback
from tests.ray.conftest import listening
from vouch.types.rating import NewRating

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

SMALL = {"threads": 1, "steps": 3, "batch": 8}


@pytest.fixture(scope="module")
def rated(client) -> int:
    """Twenty-four images of the serving generator with simulated ratings."""
    count = 24
    images = client.generate_images("neutrophil", count=count, seed=40).images
    answer = client.import_ratings(
        NewRating(
            request_id=f"learning-{image.digest}",
            image=image.digest,
            rater="simulated-1",
            kind="simulated",
            verdict="plausible" if number % 2 else "implausible",
            answers={"cell_size": "pass" if number % 2 else "fail"},
        )
        for number, image in enumerate(images)
    )
    assert answer.recorded == count
    return count


def finished(client, kind, config):
    run = list(client.watch_run(client.start_training(kind, config).run_id))[-1]
    assert run.state == "SUCCEEDED", run.error
    return run


def test_no_port_of_a_training_run_is_open_to_other_machines(system, client, rated) -> None:
    run = client.start_training("reward", {**SMALL, "kinds": ["simulated"]})
    ports: set[tuple[str, str, int]] = set()
    for change in client.watch_run(run.run_id):
        ports |= listening(system.process)
        run = change
    assert run.state == "SUCCEEDED", run.error
    assert any("RayTrainWorker" in name for name, _, _ in ports)
    assert [port for port in ports if not loopback.is_loopback(port[1])] == []


def test_a_reward_and_an_aligned_generator_know_what_they_learned_from(client, rated) -> None:
    reward = finished(client, "reward", {**SMALL, "kinds": ["simulated"]})
    aligned = finished(
        client, "align", {**SMALL, "kinds": ["simulated"], "reward": reward.version, "rank": 2}
    )
    version, *ancestors = client.get_lineage(aligned.version)
    assert version.format == "lora"
    assert len(version.lineage.rating_ids) >= rated
    assert version.lineage.run_id == aligned.run_id
    assert version.lineage.command.startswith("vouch train align")
    assert [ancestor.name for ancestor in ancestors] == [version.parent_name]
    drawn = client.generate_images("monocyte", seed=3, version=aligned.version)
    assert drawn.generator_version == aligned.version


def test_a_concept_is_learned_from_sub_labels_and_drawn_on_request(client, rated) -> None:
    images = list(client.list_images(label="neutrophil", limit=24))
    answer = client.import_ratings(
        NewRating(
            request_id=f"concept-{image.digest}",
            image=image.digest,
            rater="ada",
            kind="human",
            verdict="unsure",
            answers={"concept_pale_neutrophil": "pass" if number % 2 else "fail"},
        )
        for number, image in enumerate(images)
    )
    assert answer.recorded == len(images)
    asked = {"concept": "pale neutrophil", "kind_of": "neutrophil"}
    short = {"steps": 1, "rank": 2, "tutor_steps": 10, "practice_steps": 2}
    taught = finished(client, "concept", {**SMALL, **asked, **short})
    version = client.get_version(taught.version)
    assert version.format == "diffusers"
    assert len(version.lineage.rating_ids) == len(images)
    assert version.lineage.command.startswith("vouch concept add 'pale neutrophil' --parent neutrophil")
    drawn = client.generate_images("pale neutrophil", seed=3, version=taught.version)
    assert drawn.images[0].prompt == "pale neutrophil"


def test_a_missing_data_set_is_named(client, rated) -> None:
    config = {**SMALL, "kinds": ["simulated"], "data": "/nowhere/cells.parquet"}
    run = list(client.watch_run(client.start_training("reward", config).run_id))[-1]
    assert run.state == "FAILED"
    assert "/nowhere/cells.parquet" in run.error
