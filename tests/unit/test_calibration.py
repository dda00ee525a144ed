"""What is said of a reward's scores: whether they rank, whether they are true, and how sure that is."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch

from training.reward import calibration
from training.reward.evidence import RewardEvidence
from vouch.errors import InvalidInput
from vouch.models.networks.reward import RewardEnsemble
from vouch.models.scale import Calibration, Scale, read_scale

CRITERIA = ("cell_size", "granules")


def rated(count: int, sharpness: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [2, N, 3] of two members that agree, and ratings drawn from `sharpness` times them; nobody answered the
    second criterion."""
    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(count, generator=random)
    drawn = torch.rand(count, 2, generator=random) < (sharpness * logits).sigmoid()[:, None]
    targets = torch.cat([drawn.float(), torch.full((count, 1), torch.nan)], 1)
    return logits[None, :, None].expand(2, count, 3).clone(), targets


def test_calibration_takes_back_what_is_overconfident_and_shifted() -> None:
    logits, targets = rated(4000, sharpness=0.5)
    found = calibration.fit_calibration(logits[:, :, 0] + 1.0, targets[:, 0])
    assert found.temperature == pytest.approx(2.0, rel=0.15) and found.offset == pytest.approx(-0.5, abs=0.15)
    assert found.lapse < 0.03
    assert calibration.fit_calibration(logits[:, :0, 0], targets[:0, 0]) == Calibration()


def test_a_part_in_which_more_failed_by_chance_does_not_lower_every_score() -> None:
    logits, targets = rated(4000)
    said, everybody = targets[:, 0], float(targets[:, 0].mean())
    failed, passed = (said == 0).nonzero()[:1200, 0], (said == 1).nonzero()[:800, 0]
    part = torch.cat([failed, passed])
    alone, among_all = (
        calibration.fit_calibration(logits[:, part, 0], said[part], share) for share in (None, everybody)
    )
    mean = [float(calibration.scores(logits[:, :, 0], found).mean()) for found in (alone, among_all)]
    assert mean[0] < everybody - 0.02
    assert mean[1] == pytest.approx(everybody, abs=0.01)
    all_passed = torch.ones(5)
    assert calibration.fit_calibration(
        torch.full((2, 5), 2.0), all_passed, 0.9
    ) == calibration.fit_calibration(torch.full((2, 5), 2.0), all_passed)


def test_raters_who_err_are_not_promised_to_be_certain() -> None:
    logits, targets = rated(4000)
    flipped = torch.rand(4000, generator=torch.Generator().manual_seed(1)) < 0.1
    said = torch.where(flipped, 1 - targets[:, 0], targets[:, 0])
    found = calibration.fit_calibration(logits[:, :, 0], said)
    assert found.lapse == pytest.approx(0.1, abs=0.025) and found.temperature == pytest.approx(1.0, rel=0.2)
    score = calibration.scores(logits[:, :, 0], found)
    ece = calibration.expected_calibration_error(score, said.numpy())
    assert ece < calibration.error_of_perfect(score) + 0.01


def test_a_handful_that_all_went_right_does_not_make_it_certain() -> None:
    found = calibration.fit_calibration(torch.full((2, 5), 2.0), torch.ones(5))
    assert found.temperature > 0.7 and found.offset < 1.0


def test_no_score_is_made_with_a_calibration_that_its_own_rating_fitted() -> None:
    logits, targets = rated(400)
    before = calibration.crossed_scores(logits[:, :, 0], targets[:, 0])
    changed = targets[:, 0].clone()
    changed[:200] = 1 - changed[:200]
    after = calibration.crossed_scores(logits[:, :, 0], changed)
    assert np.array_equal(before[:200], after[:200]) and not np.allclose(before[200:], after[200:])


def verdicts(truth, count: int = 380, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores [N], and verdicts that come true as often as `truth` makes of the score."""
    random = np.random.default_rng(seed)
    score = random.beta(1.2, 0.8, count)
    return score, (random.random(count) < truth(score)).astype(float)


def test_exact_scores_show_an_error_and_have_none() -> None:
    """The plain error of exact scores is far from 0, and so is its bootstrap; the interval here holds 0."""
    repeats = [verdicts(lambda score: score, seed=seed) for seed in range(60)]
    found = [calibration.calibration_error(*one) for one in repeats]
    plain = np.mean([calibration.expected_calibration_error(*one) for one in repeats])
    assert plain == pytest.approx(calibration.error_of_perfect(repeats[0][0]), abs=0.01) and plain > 0.04
    assert np.mean([one.low == 0 for one in found]) >= 0.9
    assert np.mean([one.value for one in found]) < plain / 2


@pytest.mark.parametrize(
    "truth",
    [lambda score: np.clip(score - 0.12, 0, 1), lambda score: 0.5 + 0.6 * (score - 0.5)],
    ids=["too high", "too sure"],
)
def test_the_error_of_scores_that_are_not_true_lies_in_its_interval(truth) -> None:
    score, _ = verdicts(truth, 400_000)
    true = calibration.expected_calibration_error(score, truth(score))
    found = [calibration.calibration_error(*verdicts(truth, seed=seed)) for seed in range(1, 61)]
    assert np.mean([one.low <= true <= one.high for one in found]) >= 0.85
    assert np.mean([one.value for one in found]) == pytest.approx(true, abs=0.012)
    assert np.mean([one.low > 0 for one in found]) >= 0.85


def test_a_ranking_is_as_good_as_pairs_of_passed_and_failed_say() -> None:
    found = calibration.auroc(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 1, 0, 1]))
    assert found is not None and found.value == 0.75 and found.low <= 0.75 <= found.high
    assert calibration.auroc(np.array([0.1, 0.2]), np.array([1, 1])) is None
    weighed = calibration.auroc(np.array([0.1, 0.2, 0.9, 0.3, 0.4]), np.array([0.1, 0.8, 0.5, 0.2, 0.97]))
    assert weighed is not None and weighed.value == 0.75  # one is even, and left out


def test_evidence_masks_open_questions_and_lies_beside_the_weights(tmp_path: Path) -> None:
    found = RewardEvidence.of(*rated(300), CRITERIA)
    assert found is not None and found.images == 300 and set(found.criteria) == {"cell_size"}
    found.write(tmp_path, Scale(calibrated_on=300, raters={"simulated": 1500}))
    told = json.loads((tmp_path / "evidence.json").read_text())
    assert told["auroc"]["low"] < told["auroc"]["value"] < told["auroc"]["high"]
    assert sum(one["images"] for one in told["bins"]) == 300
    assert told["scale"]["meaning"].startswith("probability that a simulated rater finds")
    picture = ET.parse(tmp_path / "reliability.svg").getroot()
    circles = picture.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == len(found.bins)
    figures = found.figures()
    assert figures["ece_low"] <= figures["ece_high"] and "auroc_cell_size" in figures


def test_without_a_known_verdict_there_is_no_evidence() -> None:
    logits, targets = rated(30)
    assert RewardEvidence.of(logits, targets * torch.nan, CRITERIA) is None


def test_a_version_states_its_scale_and_an_older_one_only_its_temperature(tmp_path: Path) -> None:
    from tests import tiny

    folder = tiny.save_reward(tmp_path / "reward", 0)
    reward = RewardEnsemble.load(folder)
    reward.scale = Scale(
        verdict=Calibration(temperature=1.5, offset=0.3, lapse=0.04),
        criteria={"cell_size": Calibration(offset=-1.0)},
        calibrated_on=200,
        raters={"human": 900},
    )
    reward.save(folder)
    assert read_scale(folder) == RewardEnsemble.load(folder).scale == reward.scale
    assert "expert" in reward.scale.meaning and "200 held-out" in reward.scale.meaning
    config = json.loads((folder / "reward.json").read_text())
    del config["scale"]
    config["temperature"] = 1.5
    (folder / "reward.json").write_text(json.dumps(config))
    assert read_scale(folder) == Scale(verdict=Calibration(temperature=1.5))
    assert "not calibrated" in read_scale(folder).meaning
    with pytest.raises(InvalidInput, match="no reward.json"):
        read_scale(tmp_path)


def test_logits_are_calibrated_each_by_its_own(tmp_path: Path) -> None:
    from tests import tiny

    reward = RewardEnsemble.load(tiny.save_reward(tmp_path / "reward", 0))
    images, prompts = torch.zeros(1, 3, 32, 32), reward.encode(["monocyte"])
    plain = reward.logits(images, prompts)
    reward.scale = Scale(
        verdict=Calibration(temperature=2.0), criteria={"nucleus_shape": Calibration(offset=1.0)}
    )
    found = reward.logits(images, prompts)
    assert torch.allclose(found[..., 0], plain[..., 0] / 2)
    assert torch.allclose(found[..., 1], plain[..., 1] / 2)  # cell size: the verdict's temperature alone
    assert torch.allclose(found[..., 2], plain[..., 2] + 1)
    reward.scale = Scale(verdict=Calibration(lapse=0.05))
    sure = reward.probabilities(torch.full((2, 1, 3), 30.0))
    assert torch.allclose(sure[..., 0], torch.tensor(0.95)) and torch.allclose(
        sure[..., 1], torch.tensor(1.0)
    )


@pytest.mark.parametrize(
    ("raters", "who"),
    [
        ({"human": 3}, "an expert finds"),
        ({"simulated": 3}, "a simulated rater finds"),
        ({"human": 1, "simulated": 2000}, "a rater, some of them simulated, finds"),
        ({}, "an annotator of real images finds"),
    ],
)
def test_a_scale_says_whose_verdict_it_foretells(raters: dict[str, int], who: str) -> None:
    assert Scale(raters=raters).meaning.startswith(f"probability that {who} the image plausible")
