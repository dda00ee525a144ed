"""Which steps are guided, what a request may choose, and what a generator's folder says."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from services.generation.engine import Engine
from services.generation.scheduler import StepScheduler
from services.generation.slots import Slot, Ticket
from tests.fakes import FakeStepper
from tests.inbox import Inbox
from tests.requests import image_request
from tests.unit.test_engine import Listening
from vouch.errors import InvalidInput
from vouch.models.defaults import DEFAULTS_FILE, Defaults, load_defaults
from vouch.types.guidance import PLAIN, GuidanceChoice, GuidanceOptions
from vouch.types.image import ImageRecord

MIDDLE = GuidanceOptions(start=0.25, stop=0.75)


# ---- the steps


@pytest.mark.parametrize(("start", "stop"), [(0.0, 1.0), (0.2, 0.7), (0.29, 0.9), (0.0, 0.01), (0.99, 1.0)])
def test_the_guided_steps_are_those_whose_share_lies_in_the_interval(start, stop):
    options = GuidanceOptions(start=start, stop=stop)
    for steps in range(1, 101):
        wanted = [i for i in range(steps) if start <= round(i / steps, 9) < stop]
        assert list(options.guided_steps(2.0, steps)) == wanted


def test_a_scale_of_one_guides_nothing_but_for_cfg_pp():
    assert not PLAIN.guided_steps(1.0, 10)
    assert not GuidanceOptions(method="autoguidance").guided_steps(1.0, 10)
    assert len(GuidanceOptions(method="cfg_pp").guided_steps(1.0, 10)) == 10


def test_a_fraction_of_floating_point_is_the_step_that_it_means():
    """0.29 * 100 is a little less than 29."""
    assert GuidanceOptions(adapter_start=0.29).adapted_from(100) == 29
    assert [GuidanceOptions(adapter_start=share).adapted_from(8) for share in (0.0, 0.5, 1.0)] == [0, 4, 8]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"method": "cfg++"}, "choose one of cfg, cfg_pp, autoguidance"),
        ({"start": -0.1}, "guidance_start is -0.1; it must be a number from 0 to 1"),
        ({"stop": math.nan}, "guidance_stop is nan"),
        ({"adapter_start": 1.5}, "adapter_start is 1.5"),
        ({"start": 0.5, "stop": 0.5}, "guidance must start before it stops"),
    ],
)
def test_what_makes_no_interval_is_refused(changes, complaint):
    with pytest.raises(InvalidInput, match=complaint.replace("+", "[+]")):
        GuidanceOptions(**changes)


# ---- the engine


@pytest.fixture
def watched():
    """An engine and what it tells of its steps."""
    observer = Listening()
    engine = Engine(max_batch=8, observer=observer)
    yield engine, observer
    engine.stop()


def ask(engine: Engine, model: FakeStepper, options: GuidanceOptions, scale: float = 2.0) -> None:
    inbox = Inbox()
    engine.submit(*image_request(model, "neutrophil", (5,), 4, scale, options=options), inbox)
    inbox.finished(1)


@pytest.mark.parametrize("method", ["cfg", "cfg_pp"])
def test_only_the_steps_of_the_interval_take_the_network_twice(watched, method):
    engine, observer = watched
    model = FakeStepper()
    ask(engine, model, replace(MIDDLE, method=method), scale=0.5 if method == "cfg_pp" else 2.0)
    assert model.batches == [[5], [5, 5], [5, 5], [5]]
    assert observer.steps == [(1, 1), (1, 2), (1, 2), (1, 1)]


def test_the_rows_of_a_guide_are_a_batch_of_their_own(watched):
    engine, observer = watched
    model = FakeStepper()
    model.guide = FakeStepper()
    ask(engine, model, replace(MIDDLE, method="autoguidance"))
    assert (model.batches, model.guide.batches) == ([[5]] * 4, [[5]] * 2)
    assert observer.steps == [(1, 1), (1, 2), (1, 2), (1, 1)]


def test_early_steps_are_the_bases_and_late_ones_the_adapters(watched):
    engine, _ = watched
    model = FakeStepper()
    model.base = FakeStepper()
    ask(engine, model, GuidanceOptions(adapter_start=0.5, stop=0.75))
    assert (model.base.batches, model.batches) == ([[5, 5]] * 2, [[5, 5], [5]])


def test_an_images_share_of_the_machine_is_counted_in_the_rows_that_it_takes():
    slot = Slot(
        Ticket(*image_request(FakeStepper(), "a", (1,), 8, 2.0, options=MIDDLE), lambda event: None), 0, 0.0
    )
    left, rows = [], []
    while not slot.done:
        left.append(slot.rows_left)
        rows.append(slot.rows)
        slot.step += 1
    assert rows == [1, 1, 2, 2, 2, 2, 1, 1]
    assert left == [sum(rows[step:]) for step in range(8)]
    assert slot.rows_left == 0


def test_images_whose_next_step_is_not_guided_take_one_place_of_a_step():
    scheduler = StepScheduler(8, 4)
    scheduler.add(
        Ticket(*image_request(FakeStepper(), "a", tuple(range(6)), 8, 2.0, options=MIDDLE), print), 0.0, 0
    )
    assert len(scheduler.next_batch()) == 4
    for slot in scheduler:
        slot.step = 2
    assert len(scheduler.next_batch()) == 3  # of twelve rows half are taken: those that wait are many


def test_a_broken_guide_fails_its_own_request_alone(watched):
    engine, _ = watched
    gate = threading.Semaphore(0)
    model, fine, broken = FakeStepper(gate=gate), Inbox(), Inbox()
    model.guide = FakeStepper(broken_prompt="neutrophil")
    engine.submit(*image_request(model, "neutrophil", (1,), 2, 1.0), fine)
    assert model.began.wait(20)
    options = GuidanceOptions(method="autoguidance")
    engine.submit(*image_request(model, "neutrophil", (2,), 2, 2.0, options=options), broken)
    gate.release(100)
    assert "a shape that does not fit" in broken.failed().error.message
    assert (fine.finished(1)[0].image == model.paint(1)).all()


# ---- what is chosen and what is recorded


def test_a_choice_is_laid_upon_the_generators_defaults():
    defaults = GuidanceOptions(method="cfg_pp", start=0.1, stop=0.6, adapter_start=0.3)
    assert GuidanceChoice().upon(defaults) == defaults
    assert GuidanceChoice(method="cfg", start=0.0).upon(defaults) == replace(
        defaults, method="cfg", start=0.0
    )
    with pytest.raises(InvalidInput, match="guidance_start is 0.8 and guidance_stop is 0.6"):
        GuidanceChoice(start=0.8).upon(defaults)


def test_a_repeat_agrees_with_a_record_when_it_asks_for_nothing_else():
    assert GuidanceChoice().agrees_with(MIDDLE)
    assert GuidanceChoice(start=0.25).agrees_with(MIDDLE)
    assert not GuidanceChoice(start=0.0).agrees_with(MIDDLE)
    assert not GuidanceChoice(method="cfg_pp").agrees_with(MIDDLE)


def test_a_record_says_how_its_image_was_guided():
    record = ImageRecord(
        digest="0" * 64, media_type="image/png", width=8, height=8, size_bytes=1, source="generated",
        guidance_method="autoguidance", guidance_start=0.25, guidance_stop=0.75, adapter_start=0.0,
    )  # fmt: skip
    assert record.guidance_options == replace(MIDDLE, method="autoguidance")
    old = replace(record, guidance_method="", guidance_start=None, guidance_stop=None, adapter_start=None)
    assert old.guidance_options == PLAIN


# ---- the folder's defaults


def test_defaults_come_back_as_they_were_saved(tmp_path: Path):
    defaults = Defaults(12, 0.6, GuidanceOptions(method="cfg_pp", start=0.1, stop=0.8))
    defaults.save(tmp_path)
    assert load_defaults(tmp_path) == defaults


def test_an_older_folder_is_guided_in_every_step(tmp_path: Path):
    (tmp_path / DEFAULTS_FILE).write_text(json.dumps({"steps": 20, "guidance": 2.0}))
    assert load_defaults(tmp_path) == Defaults(20, 2.0, PLAIN)


def test_an_adapters_folder_changes_what_it_names_and_keeps_the_rest(tmp_path: Path):
    base = Defaults(20, 2.0, MIDDLE)
    assert load_defaults(tmp_path, base) == base
    (tmp_path / DEFAULTS_FILE).write_text(json.dumps({"adapter_start": 0.4}))
    assert load_defaults(tmp_path, base) == Defaults(20, 2.0, replace(MIDDLE, adapter_start=0.4))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"stepz": 20}', "It holds stepz; known are steps, guidance"),
        ('{"guidance_method": "cfg_pp"}', "guidance is 7.5; CFG[+][+] interpolates"),
        ('{"guidance_start": "much"}', "could not convert"),
        ('{"guidance_stop": 0}', "guidance must start before it stops"),
        ("[20]", "cannot be used"),
        ("{", "cannot be used"),
    ],
)
def test_defaults_that_no_image_can_be_drawn_with_are_refused_by_name(tmp_path: Path, text, complaint):
    (tmp_path / DEFAULTS_FILE).write_text(text)
    with pytest.raises(InvalidInput, match=complaint) as refused:
        load_defaults(tmp_path)
    assert DEFAULTS_FILE in refused.value.message
