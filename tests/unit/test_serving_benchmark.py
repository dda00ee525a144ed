"""The serving benchmark, as far as it needs no server: traces, scores, choices and figures from made-up runs."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report import Figure
from benchmarks.serving import page
from benchmarks.serving.alone import AloneTimes
from benchmarks.serving.asks import Ask, pack, unpack
from benchmarks.serving.contenders import Setting
from benchmarks.serving.figures import Results, ratio, report_on
from benchmarks.serving.log import Log
from benchmarks.serving.peers.drawing import alike, draw, load
from benchmarks.serving.plan import QUICK, ServingPlan
from benchmarks.serving.replay import PNG, closed_loop, open_loop
from benchmarks.serving.runs import SATURATION, Answer, ServingRun
from benchmarks.serving.scores import good_images, image_steps, images, latencies, percentile, rate, rates
from benchmarks.serving.trace import Arrival, Mix, poisson, prompts_of
from benchmarks.serving.tuning import best
from tests.tiny import VOCABULARY, save_generator

MIX = Mix(("monocyte", "basophil"))


def run(
    took_s: Sequence[float | None],
    *,
    contender: str = "vouch",
    load: str = "at_60",
    repeat: int = 0,
    page: page.Page | None = None,
) -> ServingRun:
    """Requests of two images, one each second; each takes one second alone."""
    answers = [Answer(float(at_s), took, 2, 40, 1.0) for at_s, took in enumerate(took_s)]
    return ServingRun(contender, load, repeat, 10.0, 0.0, 20.0, answers, page=page or {})


# ---- traces


def test_a_trace_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    first, again, other = (poisson(MIX, per_s=5, seconds=10, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_requests_arrive_in_order_and_as_often_as_asked_for() -> None:
    arrivals = poisson(MIX, per_s=20, seconds=100, seed=3)
    times = [arrival.at_s for arrival in arrivals]
    assert times == sorted(times) and times[0] > 0 and times[-1] < 100
    assert len(arrivals) == pytest.approx(2000, rel=0.1)
    assert np.std(np.diff(times)) == pytest.approx(1 / 20, rel=0.15), (
        "exponential gaps vary as much as they last"
    )


def test_the_mean_cost_of_a_mix_is_that_of_its_requests() -> None:
    asks = list(itertools.islice(MIX.asks(seed=4), 4000))
    assert np.mean([ask.image_steps for ask in asks]) == pytest.approx(MIX.mean_image_steps, rel=0.05)


def test_half_of_the_requests_are_guided_and_a_guided_step_counts_twice() -> None:
    asks = list(itertools.islice(MIX.asks(seed=5), 2000))
    assert np.mean([ask.guided for ask in asks]) == pytest.approx(0.5, abs=0.05)
    assert Ask("", 3, 0, 10, 1.0).image_steps == 30
    assert Ask("", 3, 0, 10, 3.0).image_steps == 60


def test_no_two_requests_share_the_seed_of_an_image() -> None:
    asks = itertools.islice(MIX.asks(seed=6), 500)
    seeds = [ask.seed + index for ask in asks for index in range(ask.count)]
    assert len(seeds) == len(set(seeds))


def test_prompts_are_ones_that_the_model_knows(tmp_path: Path) -> None:
    VOCABULARY.save(tmp_path)
    for prompt in prompts_of(tmp_path):
        VOCABULARY.check(prompt)


def test_requests_and_images_come_over_the_wire_as_they_were() -> None:
    ask = Ask("monocyte", 2, 7, 10, 3.0)
    assert Ask.decode(ask.encode()) == ask
    assert unpack(pack([b"one", b"", b"three"])) == [b"one", b"", b"three"]


# ---- replaying


def test_every_request_of_a_trace_is_sent_and_what_fails_is_noted() -> None:
    async def send(ask: Ask) -> list[bytes]:
        if ask.count == 3:
            raise RuntimeError("refused")
        return [PNG] * min(ask.count, 2)

    arrivals = [Arrival(0.0, Ask("", count, 0, 1, 1.0)) for count in (1, 2, 3, 4)]
    outcomes = asyncio.run(open_loop(send, arrivals, grace_s=5)).outcomes
    errors = {outcome.ask.count: outcome.error for outcome in outcomes}
    assert errors == {1: "", 2: "", 3: "RuntimeError: refused", 4: "2 images instead of 4"}
    assert all((outcome.took_s is None) == bool(outcome.error) for outcome in outcomes)


def test_a_request_that_nobody_answers_is_abandoned() -> None:
    async def send(ask: Ask) -> list[bytes]:
        await asyncio.Event().wait()
        return []

    notes = asyncio.run(open_loop(send, [Arrival(0.0, Ask("", 1, 0, 1, 1.0))], grace_s=0.0))
    (outcome,) = notes.outcomes
    assert outcome.took_s is None and outcome.error == "abandoned"


def test_what_is_under_way_when_a_closed_loop_ends_is_left_out() -> None:
    answered = 0

    async def send(ask: Ask) -> list[bytes]:
        nonlocal answered
        if answered == 5:
            await asyncio.Event().wait()
        answered += 1
        return [PNG] * ask.count

    notes = asyncio.run(closed_loop(send, MIX.asks(seed=1), outstanding=3, seconds=0.01))
    assert [outcome.error for outcome in notes.outcomes] == [""] * 5


# ---- scores


def test_an_image_is_good_when_it_took_no_longer_than_three_times_its_time_alone() -> None:
    found = run([1.0, 3.0, 3.1, None])
    assert rate([found], good_images) == pytest.approx(2 * 2 / 10)
    assert rate([found], images) == pytest.approx(3 * 2 / 20), "over the whole time until the last answer"
    assert rate([found], image_steps) == pytest.approx(3 * 40 / 20)


def test_a_request_without_an_answer_has_waited_until_the_run_was_over() -> None:
    found = run([1.0, None, 2.0])
    assert latencies(found) == [1.0, 19.0, 2.0]
    assert percentile([found], 100) == 19.0
    assert percentile([run([1.0]), run([3.0])], 50) == 2.0
    assert percentile([], 95) is None


def test_at_saturation_only_what_ends_inside_the_window_counts() -> None:
    answers = [Answer(0.0, 4.0, 1, 10, 1.0), Answer(4.0, 2.0, 1, 10, 1.0), Answer(9.0, 9.0, 1, 10, 1.0)]
    found = ServingRun("vouch", SATURATION, 0, 10.0, 5.0, 15.0, answers)
    assert rate([found], images) == pytest.approx(1 / 10)
    assert latencies(found) == [2.0]


def test_the_slices_of_a_run_make_up_the_whole() -> None:
    found = run([0.5, 1.5, 9.0, None, 2.0])
    assert np.mean(rates(found, images)) == pytest.approx(4 * 2 / 20)
    assert rates(found, images)[0] == pytest.approx(2 * 2 / 4), "two of them ended in the first fifth"


def test_time_alone_is_a_line_between_the_two_that_were_measured() -> None:
    alone = AloneTimes.of([(1, False, 10, 1.5), (1, False, 50, 5.5), (1, True, 10, 2.5), (1, True, 50, 10.5)])
    assert alone.seconds(Ask("", 1, 0, 30, 1.0)) == pytest.approx(3.5)
    assert alone.seconds(Ask("", 1, 0, 30, 3.0)) == pytest.approx(6.5)


# ---- choices


def test_the_setting_with_the_most_good_images_is_chosen_and_among_equals_the_quicker() -> None:
    many, few, quick = Setting(16, 0.5), Setting(4, 0.5), Setting(4, 0.05)
    assert best({few: run([1.0, 9.0]), many: run([1.0, 2.0])}) == many
    assert best({many: run([1.0, 2.0]), quick: run([1.0, 1.0]), few: run([1.5, 2.5])}) == quick


# ---- vouch's own page

TEXT = """
# TYPE vouch_engine_admission_steps histogram
vouch_engine_admission_steps_bucket{le="0.0"} %d
vouch_engine_admission_steps_bucket{le="1.0"} %d
vouch_engine_admission_steps_bucket{le="+Inf"} %d
vouch_engine_admission_steps_count %d
vouch_engine_admission_steps_sum %d
# TYPE python_gc counter
python_gc_total 7
"""


def test_a_page_is_read_as_the_difference_that_a_run_made() -> None:
    found = page.between(page.read(TEXT % (5, 5, 5, 5, 0)), page.read(TEXT % (85, 105, 105, 105, 20)))
    assert page.mean(found, "vouch_engine_admission_steps") == pytest.approx(0.2)
    assert page.percentile(found, "vouch_engine_admission_steps", 50) == 0
    assert page.percentile(found, "vouch_engine_admission_steps", 99) == 1
    assert all(name.startswith("vouch_engine_") for name in found)


def test_what_a_page_does_not_have_is_not_measured() -> None:
    assert page.mean({}, "vouch_engine_batch_images") is None
    assert page.percentile({}, "vouch_engine_admission_steps", 99) is None
    beyond = page.read(TEXT % (0, 0, 9, 9, 90))
    assert page.percentile(beyond, "vouch_engine_admission_steps", 99) is None, "the last bucket has no bound"


# ---- figures


def figures(runs: Sequence[ServingRun], bare: Sequence[float] = (20.0,)) -> dict[str, Figure]:
    return report_on(Results(runs, bare), {"litserve": Setting(16, 0.05)}).figures


def test_vouch_is_compared_with_the_best_peer_of_each_figure() -> None:
    found = figures(
        [
            run([1.0] * 10),
            run([1.0] * 10, load=SATURATION),
            run([2.0] * 10, contender="litserve"),
            run([2.0] * 2, contender="litserve", load=SATURATION),
            run([8.0] * 10, contender="bentoml"),
            run([8.0] * 5, contender="bentoml", load=SATURATION),
        ]
    )
    assert found["p95_vs_best_peer"].value == pytest.approx(0.5), "litserve is the quicker peer"
    assert found["images_vs_best_peer"].value == pytest.approx(2.0), "bentoml is the one that does more"
    assert found["goodput_vs_best_peer"].value == pytest.approx(1.0), "litserve is in time with all of them"
    assert found["steps_of_limit"].value == pytest.approx(10 * 40 / 20 / 20.0)
    assert found["litserve_max_batch"].value == 16
    assert found["vouch_at_60_p95"].value == 1.0


def test_a_ratio_lies_within_its_interval() -> None:
    runs = [
        run(list(np.random.default_rng(repeat).exponential(scale, 20)), contender=contender, repeat=repeat)
        for contender, scale in (("vouch", 1.0), ("litserve", 3.0))
        for repeat in range(3)
    ]
    found = figures(runs)["p95_vs_best_peer"]
    assert found.value is not None and found.low is not None and found.high is not None
    assert found.low < found.value < found.high


def test_without_peers_or_without_vouch_nothing_is_compared() -> None:
    alone, without = figures([run([1.0])]), figures([run([1.0], contender="litserve")], bare=[])
    assert alone["p95_vs_best_peer"].value is None
    assert without["goodput_vs_best_peer"].value is None and without["steps_of_limit"].value is None


def test_a_peer_that_is_never_in_time_makes_no_ratio() -> None:
    assert figures([run([1.0]), run([None], contender="litserve")])["goodput_vs_best_peer"].value is None
    assert ratio([[1.0]], [[0.0]] * 9 + [[1.0]], np.mean).low is None


def test_waiting_beside_a_free_slot_is_read_over_all_loads() -> None:
    steps = page.read(TEXT % (90, 100, 100, 100, 10))
    found = figures([run([1.0], page=steps), run([1.0], load="at_90", page=steps)])
    assert found["admission_steps_p99"].value == 1


# ---- the log


def test_a_session_that_broke_off_goes_on_where_it_was(tmp_path: Path) -> None:
    path, written = tmp_path / "runs.jsonl", run([1.0, None], page={"vouch_engine_steps_total": 3.0})
    log = Log(path)
    log.add("setup", plan=QUICK.same_runs())
    log.add_run(written)
    log.add("tuning", contender="litserve", chosen=[16, 0.5])
    with path.open("a") as file:
        file.write('{"kind": "run", "contender": "lits')

    again = Log(path, resume=True)
    assert again.runs == [written]
    assert again.has("vouch", "at_60", 0) and not again.has("vouch", "at_60", 1)
    assert again.setting("litserve") == Setting(16, 0.5) and again.setting("bentoml") is None
    again.check(QUICK)
    with pytest.raises(ValueError, match="another plan"):
        again.check(ServingPlan())


# ---- the peers' drawing


def test_requests_that_agree_in_steps_and_guidance_are_drawn_together() -> None:
    asks = [Ask("", 1, 0, steps, guidance) for steps, guidance in ((10, 1), (20, 1), (10, 1), (10, 3))]
    assert alike(asks) == [[0, 2], [1], [3]]


def test_peers_draw_what_the_pipeline_draws_alone(tmp_path: Path) -> None:
    import torch
    from PIL import Image

    pipe = load(save_generator(tmp_path, seed=0))
    asks = [Ask("monocyte", 2, 7, 4, 3.0), Ask("basophil", 1, 1, 2, 1.0), Ask("neutrophil", 1, 3, 4, 3.0)]
    drawn = draw(pipe, asks)
    assert [len(images) for images in drawn] == [2, 1, 1]
    for ask, pngs in zip(asks, drawn, strict=True):
        for index, png in enumerate(pngs):
            alone = pipe(
                ask.prompt,
                num_inference_steps=ask.steps,
                guidance_scale=ask.guidance,
                generator=torch.Generator().manual_seed(ask.seed + index),
            ).images[0]
            among = np.asarray(Image.open(io.BytesIO(png)), dtype=int)
            assert np.abs(among - np.asarray(alone, dtype=int)).max() <= 1
