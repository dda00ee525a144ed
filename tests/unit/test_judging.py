"""The judge beside a rollout: what counts as worse, better or neither, and its process."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import vouch
from services.rollout.judge_process import JudgeProcess, judge_command
from training.evaluation.judge import Judge
from training.judging import PairJudge, moves, outcome
from vouch.errors import Unavailable
from vouch.formats import images

JUDGE = Path(vouch.__file__).parent / "starter" / "judge"


def picture(seed: int, level: int = 120) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.clip(random.normal(level, 40, (64, 64, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load(JUDGE)


@pytest.mark.parametrize(
    ("worse", "better", "told"),
    [(True, False, "worse"), (False, True, "better"), (True, True, "tie"), (False, False, "tie")],
)
def test_a_pair_is_decided_only_where_the_two_differ(worse, better, told):
    assert outcome(worse, better) == told


def test_statistics_that_move_are_told_with_their_direction():
    image = picture(1)
    brighter = np.clip(image.astype(int) + 20, 0, 255).astype(np.uint8)
    assert moves(image, brighter)["brightness"] == "worse"
    assert moves(brighter, image)["brightness"] == "better"
    assert set(moves(image, image).values()) == {"tie"}
    blurred = image[::2, ::2].repeat(2, 0).repeat(2, 1)
    assert moves(image, blurred)["sharpness"] == "better"
    grey = image.mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8)
    assert moves(image, grey)["saturation"] == "better"


def test_equal_pictures_are_ties_by_every_metric(judge):
    pairs = PairJudge(judge)
    for seed in range(3):
        told = pairs.compare("neutrophil", picture(seed), picture(seed))
    assert set(told.values()) == {"tie"}
    assert {"plausible", "diversity", "near_duplicates", "brightness"} <= set(told)


def test_a_picture_that_cannot_be_judged_loses_its_pair(judge):
    pairs, good = PairJudge(judge), picture(1)
    assert pairs.compare("neutrophil", good, None) == {"plausible": "worse"}
    assert pairs.compare("neutrophil", None, good) == {"plausible": "better"}
    assert pairs.compare("neutrophil", None, None) == {"plausible": "tie"}
    assert pairs.compare("neutrophil", good, good[:32]) == {"plausible": "worse"}


def test_a_candidate_that_repeats_itself_is_narrower_and_draws_near_duplicates(judge):
    pairs = PairJudge(judge)
    told = [pairs.compare("neutrophil", picture(seed), picture(99)) for seed in range(4)]
    assert "diversity" not in told[0], "one picture alone has no variety"
    assert told[-1]["diversity"] == told[-1]["near_duplicates"] == "worse"


def test_pictures_that_both_sides_learned_from_are_known_again(judge):
    real = np.stack([picture(seed, 200) for seed in range(50, 53)])
    pairs = PairJudge(judge, known=real)
    pairs.compare("neutrophil", picture(1), picture(2))
    pairs.compare("neutrophil", picture(3), picture(4))
    assert pairs.compare("neutrophil", picture(5), real[1])["near_duplicates"] == "worse"


def test_the_process_answers_pairs_and_says_of_a_prompt_that_it_cannot_read_nothing():
    process = JudgeProcess(judge_command(JUDGE), niceness=0)
    try:
        image, other = images.encode_png(picture(1)), images.encode_png(picture(1, 160))
        assert process.compare("neutrophil", image, other)["brightness"] == "worse"
        assert process.compare("a purple cow", image, other) == {}
        assert process.compare("neutrophil", image, image)["brightness"] == "tie"
    finally:
        process.stop()


def test_a_process_that_ends_is_told_and_started_again_for_the_next_pair(tmp_path):
    """It ends after the first line that it answers."""
    script = 'import sys; sys.stdin.readline(); print(\'{"plausible": "tie"}\', flush=True)'
    process = JudgeProcess([sys.executable, "-c", script], niceness=0)
    try:
        assert process.compare("x", b"", b"") == {"plausible": "tie"}
        answers = []
        for _ in range(2):
            try:
                answers.append(process.compare("x", b"", b""))
            except Unavailable:
                answers.append(process.compare("x", b"", b""))
        assert answers == [{"plausible": "tie"}] * 2
    finally:
        process.stop()
