"""What served at a moment, who decided it, and from whose ratings it had learned."""

from __future__ import annotations

from pathlib import Path

import pytest

from services import starter
from services.rollout.history import raters_of, served_at
from vouch.errors import NotFound
from vouch.storage.registry import Registry
from vouch.types.clock import now

A, B = "a" * 64, "b" * 64


def test_every_moment_of_a_slots_history_can_be_asked_for(catalog, tmp_path):
    registry = Registry(catalog, tmp_path / "models")
    catalog.serving.ensure("generator", A)
    moments = [now()]
    rollout = catalog.rollouts.start("generator", B, percent=5, actor="ada", request_id="1", reason="try it")
    moments.append(now())
    catalog.rollouts.promote(rollout.rollout_id, percent=100, actor="system", request_id="2", reason="e = 31")
    moments.append(now())
    catalog.rollouts.roll_back(rollout.rollout_id, actor="bob", request_id="3", reason="odd granules")
    moments.append(now())

    served = [served_at(catalog, registry, "generator", moment) for moment in moments]

    assert [(one.serving.champion, one.serving.candidate, one.serving.percent) for one in served] == [
        (A, "", 0), (A, B, 5), (B, "", 0), (A, "", 0),
    ]  # fmt: skip
    deciders = [(one.event.actor, one.event.reason) if one.event else None for one in served]
    assert deciders == [None, ("ada", "try it"), ("system", "e = 31"), ("bob", "odd granules")]
    with pytest.raises(NotFound):
        served_at(catalog, registry, "reward", moments[0])


def test_nothing_was_served_before_the_first_champion_was_there(catalog, tmp_path):
    registry = Registry(catalog, tmp_path / "models")
    before = now()
    first = publish(registry, tmp_path, "one", [])
    catalog.serving.ensure("generator", first.digest)
    after = now()
    for _ in ("no rollout yet", "after one"):
        with pytest.raises(NotFound, match="Nothing was served in slot generator before"):
            served_at(catalog, registry, "generator", before)
        assert served_at(catalog, registry, "generator", after).serving.champion == first.digest
        catalog.rollouts.start("generator", B, percent=5, actor="ada", request_id="1")


def test_a_folder_that_takes_the_champions_place_is_in_the_history_and_the_audit_log(
    catalog, settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(starter, "CHECKS", {"generator": lambda folder: None})
    monkeypatch.setattr(starter, "try_model", lambda kind, folder: None)
    registry = Registry(catalog, settings.folder.models, settings.models_url)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.safetensors").write_bytes(name.encode())
        starter._publish(catalog, registry, "generator", str(tmp_path / name))
    starter._publish(catalog, registry, "generator", str(tmp_path / "one"))
    one, two = (registry.digest(f"generator-{name}") for name in ("one", "two"))
    served = served_at(catalog, registry, "generator", now())
    assert (served.serving.champion, served.serving.previous) == (two, one), "seen before: it changes nothing"
    assert served.event.reason == "named by vouch up --generator"
    assert catalog.audit.head().details["version"] == two


def test_the_raters_of_a_version_are_those_of_its_whole_lineage(
    catalog, tmp_path, domain, make_image, make_rating
):
    registry = Registry(catalog, tmp_path / "models")
    catalog.images.add([make_image(number) for number in range(3)])
    rows = [("ada", "human"), ("ada", "human"), ("walk-1", "simulated")]
    ratings = [
        catalog.ratings.record(make_rating(make_image(number).digest, rater=rater, kind=kind), domain)
        for number, (rater, kind) in enumerate(rows)
    ]
    first = publish(registry, tmp_path, "one", [ratings[0].id])
    second = publish(registry, tmp_path, "two", [ratings[1].id, ratings[2].id], parent=first.digest)
    assert raters_of(catalog, registry, second.digest) == {"ada (human)": 2, "walk-1 (simulated)": 1}
    assert raters_of(catalog, registry, first.digest) == {"ada (human)": 1}
    assert raters_of(catalog, registry, B) == {}


def publish(registry: Registry, folder: Path, name: str, ratings: list[str], parent: str = ""):
    source = folder / name
    source.mkdir()
    (source / "weights.safetensors").write_bytes(name.encode())
    lineage = {"ratings": ratings}
    return registry.publish(
        source, kind="generator", format="diffusers", name=name, parent=parent, lineage=lineage
    )
