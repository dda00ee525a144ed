"""Images of one patient stay together wherever images are divided or resampled; a domain says what its columns are."""

from __future__ import annotations

import hashlib
import io
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.tiny import VOCABULARY
from training.concepts.sublabels import SubLabelled
from training.concepts.subtype import learn_head
from training.data.examples import Examples, load_examples
from training.data.splits import halves, split_of
from training.evaluation.copies import CopyAlarm
from training.evaluation.distance import kid
from training.evaluation.downstream import accuracy, share_of
from training.evaluation.evidence import apart
from training.evaluation.intervals import bootstrap, share
from training.evaluation.reach import changes_of_reach
from training.evaluation.sharpness import Spectra, sharpness
from training.raters.plausibility import FORMS, Plausibility
from vouch import recipes
from vouch.domains.criteria import Domain, load_domain
from vouch.formats import images as codec
from vouch.models.networks.attributes import AttributeNet

PBC64 = Path("../shared/data/pbc64")


def examples(patients: list[str] | None, count: int = 120) -> Examples:
    labels = tuple("sick" if row % 3 == 0 else "well" for row in range(count))
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return Examples(images, labels, ({},) * count, ({},) * count, "digest", tuple(patients or ()))


def of_patients(count: int = 120, patients: int = 30) -> Examples:
    """Some patients have one image, some a dozen; two images are of nobody known."""
    rng = random.Random(0)
    whose = [f"patient {min(rng.randrange(patients), rng.randrange(patients))}" for _ in range(count)]
    return examples([*whose[:-2], "", ""], count)


def test_no_patient_is_in_both_halves() -> None:
    whole = of_patients()
    one, other = halves(whole)
    assert not set(one.patients) & set(other.patients) - {""}
    assert len(one) + len(other) == len(whole) and abs(len(one) - len(other)) <= 24
    assert sorted([*one.images[:, 0, 0, 0].tolist(), *other.images[:, 0, 0, 0].tolist()]) == list(range(120))
    assert split_of(whole, "teach").patients == one.patients


def test_without_patients_the_halves_are_those_that_shipped_networks_learned_from() -> None:
    """The first half of a shuffled order, whatever else the code knows of by now."""
    order = list(range(121))
    random.Random(0).shuffle(order)
    one, other = halves(examples(None, 121))
    assert one.images[:, 0, 0, 0].tolist() == sorted(order[:60])
    assert other.images[:, 0, 0, 0].tolist() == sorted(order[60:])
    digest = hashlib.sha256(json.dumps(one.images[:, 0, 0, 0].tolist()).encode()).hexdigest()
    assert digest[:16] == "01b3fb3346f46420"


def test_a_share_takes_patients_whole() -> None:
    whole = of_patients()
    rows = share_of(whole.labels, 0.3, groups=whole.groups)
    inside, outside = {whole.groups[row] for row in rows}, set(whole.groups)
    outside -= inside
    assert {whole.groups[row] for row in range(len(whole)) if row not in rows} == outside
    assert 0.15 < len(rows) / len(whole) < 0.5
    assert share_of(whole.labels, 0.3) == share_of(whole.labels, 0.3, groups=range(len(whole)))


def test_sub_labels_of_a_patient_are_held_out_together() -> None:
    whose = tuple(f"patient {row // 4}" for row in range(80))
    said = torch.tensor([float(row % 2) for row in range(80)])
    found = SubLabelled(torch.zeros(80, 3, 2, 2).byte(), ({},) * 80, said, whose)
    known, held = found.apart(0.2, seed=0)
    learned = {known.patients[row] for row in known.labelled.tolist()}
    assert held.patients and not learned & set(held.patients)


def test_a_head_is_not_measured_on_patients_that_it_learned() -> None:
    """Features that tell nothing but the patient: measured image by image they seem to tell the concept."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(40), 5)
    features = np.repeat(rng.normal(size=(40, 60)), 5, axis=0) + rng.normal(size=(200, 60)) / 10
    concept = np.repeat(rng.permutation(40) % 2 == 0, 5)
    apart, together = (learn_head(features, concept, 0, groups) for groups in (None, patient.tolist()))
    assert apart.auroc > 0.95
    assert together.auroc < 0.75


def test_an_interval_over_patients_is_as_wide_as_patients_differ() -> None:
    """Forty images of each of 25 patients, who differ: the plain bootstrap takes them for 1,000 samples."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=25)
    rows, whose = np.repeat(means, 40) + rng.normal(size=1000) / 10, np.repeat(np.arange(25), 40).tolist()
    low, high = bootstrap(rows, np.mean, groups=whose)
    plain = bootstrap(rows, np.mean)
    assert high - low == pytest.approx(2 * 1.96 * means.std() / 5, rel=0.2)
    assert high - low > 4 * (plain[1] - plain[0])
    assert bootstrap(rows, np.mean, groups=range(1000)) == plain


def test_accuracy_resamples_patients_and_without_them_images() -> None:
    read = np.repeat(np.random.default_rng(0).random(30) < 0.7, 20)[None]
    whose = np.repeat(np.arange(30), 20).tolist()
    plain, clustered = accuracy(read), accuracy(read, whose)
    assert clustered.value == plain.value
    assert clustered.high - clustered.low > 3 * (plain.high - plain.low)


# ---- what a domain says


def xrays(**values: object) -> Domain:
    told = {"name": "x_rays", "criteria": [{"id": "lungs", "question": "?", "attributes": ["side"]}]}
    return Domain.model_validate(
        {**told, "patient_column": "person", "hidden_columns": ["scanner"], **values}
    )


def test_the_domain_says_which_columns_captions_name_and_whose_image_it_is(tmp_path: Path) -> None:
    sink = io.BytesIO()
    pixels = codec.encode_png(np.zeros((8, 8, 3), np.uint8))
    row = {"image": pixels, "label": "well", "person": "ada", "scanner": "s1", "side": "left", "subtype": "x"}
    pq.write_table(pa.Table.from_pylist([row, {**row, "person": "eve"}]), sink)
    (tmp_path / "x.parquet").write_bytes(sink.getvalue())
    found = load_examples(tmp_path / "x.parquet", domain=xrays())
    assert found.attributes[0] == {"side": "left", "subtype": "x"}
    assert found.hidden[0] == {"person": "ada", "scanner": "s1"}
    assert found.patients == ("ada", "eve")
    cells = load_examples(tmp_path / "x.parquet")
    assert cells.patients == () and set(cells.hidden[0]) == {"subtype"}


def test_a_recipe_turns_images_where_its_domain_is_symmetric_unless_told_otherwise() -> None:
    assert recipes.parse("align", {})[1].symmetric
    assert not recipes.parse("align", {}, xrays())[1].symmetric
    assert recipes.parse("align", {"symmetric": True}, xrays())[1].symmetric
    assert not recipes.parse("adapt", {"data": "films"})[1].symmetric  # nobody names the domain of new images
    assert recipes.parse("align", {}, xrays(symmetric=True))[1].symmetric


def test_a_run_is_told_its_systems_domain_whole(tmp_path: Path) -> None:
    """Workers read the recipe as JSON, in another folder."""
    recipe = recipes.parse("reward", {"domain": "x_rays"}, xrays())[1]
    told = json.loads(json.dumps(recipe.model_dump(mode="json", exclude_unset=True)))
    assert recipes.RewardTraining.model_validate(told).domain == xrays()
    assert recipes.RewardTraining().domain == load_domain()


def test_what_answers_a_criterion_is_kept_with_the_judge(tmp_path: Path) -> None:
    net = AttributeNet(VOCABULARY, 32, (8, 8))
    priors = {name: torch.ones(5, len(values)) for name, values in VOCABULARY.attributes.items()}
    bank, labels = torch.nn.functional.normalize(torch.randn(20, net.widths[-1]), dim=1), torch.arange(20) % 5
    made = Plausibility(net, bank, labels, priors, annotated={"nucleus": ["nucleus_shape"]})
    names = ("confidence", "distance", "rarity", "nucleus")
    made.limits = {name: torch.full((len(FORMS), 5), 1e9) for name in names}
    made.save(tmp_path)
    found = Plausibility.load(tmp_path).assess(torch.zeros(2, 3, 32, 32).byte(), ["monocyte"] * 2)
    assert set(found.criteria) == {"cell_type", "nucleus"}
    told = json.loads((tmp_path / "plausibility.json").read_text())
    del told["annotated"]
    (tmp_path / "plausibility.json").write_text(json.dumps(told))
    assert set(Plausibility.load(tmp_path).annotated) == set(load_domain().annotated)


def test_real_images_are_held_against_those_of_other_patients() -> None:
    whole = of_patients()
    rest, some = apart(whole.groups, 40)
    assert not {whole.groups[row] for row in rest} & {whole.groups[row] for row in some}
    assert sorted([*rest, *some]) == list(range(120)) and 28 <= len(some) <= 40


def test_intervals_against_real_images_widen_where_few_patients_gave_them() -> None:
    """Twelve images of each of ten patients, who differ, say less than 120 images of 120 patients."""
    random_ = np.random.default_rng(0)
    patients = np.repeat(np.arange(10), 12)
    real = random_.normal(0, 1, (10, 4))[patients] + random_.normal(0, 0.2, (120, 4))
    ours, theirs = random_.normal(0, 1, (2, 60, 4))
    few, many = (changes_of_reach(real, ours, theirs, whose)["coverage"] for whose in (list(patients), None))
    assert few.value == many.value and few.high - few.low > 1.3 * (many.high - many.low)

    power = np.exp(random_.normal(0, 1, 10)[patients] + random_.normal(0, 0.1, 120))
    spectra = Spectra(power[:, None].repeat(6, 1), power)
    drawn = Spectra(spectra.bands[:60], power[:60])
    few, many = (sharpness(spectra, drawn, whose)["high-band power"] for whose in (list(patients), None))
    assert few.value == many.value and few.high - few.low > 1.3 * (many.high - many.low)

    near = real[:, 0] > 0
    few, many = (share(near, whose) for whose in (list(patients), None))
    assert few.value == many.value and few.high - few.low > 1.3 * (many.high - many.low)
    few, many = (kid(real, ours, whose) for whose in (list(patients), None))
    assert few.value == many.value and few.high - few.low > 1.15 * (many.high - many.low)


def test_a_patients_images_are_on_one_side_of_the_copy_alarms_false_alarms() -> None:
    """Of four rare images of one patient, divided ones excuse each other: the limit of either half knows them."""
    alarm = CopyAlarm(torch.zeros(1, 3), False, np.concatenate([np.zeros(4), np.linspace(1, 2, 96)]), 0.0)
    divided, whole = (alarm.false_alarms(whose) for whose in (None, [0, 0, 0, 0, *range(1, 97)]))
    assert divided.value == 0.03
    assert whole.value == 0.05  # all four, and one more
    assert alarm.false_alarms(["one"] * 100).value == divided.value  # nobody to divide by
