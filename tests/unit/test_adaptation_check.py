"""The data check: what it finds, what it leaves alone, and what it never prints."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.adaptation.duplicates import measured
from tests.image_files import encoded, png, write_files
from tests.real import CXR224, needs_cxr224
from training.adaptation.check import check_data
from training.adaptation.data import load_set
from training.adaptation.duplicates import NEAR, groups_of, near_pairs, thumbnail
from training.adaptation.findings import DataReport
from training.adaptation.images import ReadOptions
from vouch.domains.criteria import load_domain
from vouch.errors import InvalidInput
from vouch.formats.intensity import IntensityWindow

CHEST = ReadOptions(load_domain("chest_xray"))


def picture(seed: int, size: int = 64) -> Image.Image:
    """A smooth grey picture that no other seed makes."""
    small = np.random.default_rng(seed).integers(0, 256, (7, 7), dtype=np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC).convert("RGB")


def chests(folder: Path, count: int = 40, **more: bytes | str) -> Path:
    """A clean set: two classes, a patient for every two images, both splits."""
    names = [f"{'val' if n % 10 < 2 else 'train'}/{n:03d}.png" for n in range(count)]
    write_files(folder, {name: encoded(picture(n)) for n, name in enumerate(names)})
    rows = [f"{name},{('normal', 'bacterial pneumonia')[n % 2]},p{n // 2}" for n, name in enumerate(names)]
    write_files(folder, {"metadata.csv": "\n".join(["file_name,label,patient", *rows]) + "\n"})
    return write_files(folder, more)


def codes(report: DataReport) -> set[str]:
    return {finding.code for finding in report.findings}


def found(report: DataReport, code: str):
    (finding,) = (finding for finding in report.findings if finding.code == code)
    return finding


def test_a_clean_set_has_nothing_wrong(tmp_path: Path) -> None:
    report = check_data(chests(tmp_path, 120), CHEST, size=64)
    assert codes(report) == set() and report.exit_code == 0
    assert (report.seen, report.readable, report.captioned, report.patients) == (120, 120, 120, 60)
    assert report.splits == {"train": 96, "val": 24} and report.labels == {
        "normal": 60,
        "bacterial pneumonia": 60,
    }
    assert (report.captions, report.grey, report.smallest) == (2, 120, (64, 64))
    report.refuse()


def test_nothing_is_edited_or_deleted(tmp_path: Path) -> None:
    chests(tmp_path, **{"train/bad.png": b"no image", "train/again.png": encoded(picture(3))})

    def state() -> dict[str, tuple[str, int]]:
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        return {
            str(file): (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
            for file in files
        }

    before = state()
    check_data(tmp_path, CHEST)
    assert state() == before


def test_unreadable_files_are_counted_by_reason(tmp_path: Path) -> None:
    cut = encoded(picture(99))[:400]
    report = check_data(
        chests(tmp_path, **{"train/x.png": b"", "train/y.png": b"", "train/z.png": cut}), CHEST
    )
    unreadable = [finding for finding in report.findings if finding.code == "unreadable"]
    assert sorted(finding.count for finding in unreadable) == [1, 2]
    assert report.readable == 40 and report.exit_code == 0


def test_exact_duplicates_and_what_makes_them_worse(tmp_path: Path) -> None:
    chests(tmp_path)
    write_files(tmp_path, {"train/again.png": encoded(picture(2))})  # 002 trains too
    report = check_data(tmp_path, CHEST)
    assert found(report, "exact-duplicates").count == 1
    assert "train/002.png = train/again.png" in found(report, "exact-duplicates").examples
    assert "exact-duplicates-under-two-captions" not in codes(
        report
    )  # the copy has no words that could differ
    write_files(tmp_path, {"train/again.txt": "something else"})
    assert "exact-duplicates-under-two-captions" in codes(check_data(tmp_path, CHEST))
    assert "exact-duplicates-in-two-splits" not in codes(report)
    write_files(tmp_path, {"val/again.png": encoded(picture(5))})
    report = check_data(tmp_path, CHEST)
    assert found(report, "exact-duplicates-in-two-splits").severity == "error" and report.exit_code == 2
    with pytest.raises(InvalidInput, match="more than one split"):
        report.refuse()
    accepted = check_data(tmp_path, CHEST, accept=["exact-duplicates-in-two-splits"])
    assert accepted.exit_code == 0 and "accepted" in found(accepted, "exact-duplicates-in-two-splits").message


@pytest.mark.parametrize("how", ["jpeg", "smaller", "brighter"])
def test_near_duplicates_are_found_across_splits(how: str, tmp_path: Path) -> None:
    chests(tmp_path, 60)
    original = picture(7)
    made = {
        "jpeg": lambda: encoded(original, "JPEG", quality=60),
        "smaller": lambda: encoded(original.resize((48, 48), Image.Resampling.LANCZOS)),
        "brighter": lambda: encoded(original.point(lambda v: min(255, int(v * 1.1) + 5))),
    }[how]()
    write_files(tmp_path, {"val/copy.png" if how != "jpeg" else "val/copy.jpg": made})
    report = check_data(tmp_path, CHEST)
    assert found(report, "near-duplicates").count == 1
    torn = found(report, "near-duplicates-in-two-splits")
    assert "train/007.png" in torn.examples[0] and torn.severity == "warning"


def test_a_patient_in_two_splits_is_an_error_that_names_no_patient(tmp_path: Path) -> None:
    chests(tmp_path)
    table = (
        (tmp_path / "metadata.csv").read_text().replace("p2\n", "p0\n")
    )  # 004 and 005 train, 000 validates
    (tmp_path / "metadata.csv").write_text(table.replace("p0\n", "MUELLER\n"))
    report = check_data(tmp_path, CHEST)
    assert found(report, "patient-in-two-splits").count == 1 and report.exit_code == 2
    assert "MUELLER" not in json.dumps(report.as_json())


def test_captions_that_never_vary_are_warned_of(tmp_path: Path) -> None:
    write_files(tmp_path, {f"lung/{n}.png": encoded(picture(n)) for n in range(12)})
    report = check_data(tmp_path, CHEST)
    assert "'lung'" in found(report, "one-caption").message
    assert found(report, "captions-from-folders").count == 12
    assert "one-caption" not in codes(check_data(chests(tmp_path / "x"), CHEST))


def test_images_without_any_caption_are_an_error(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{n}.png": encoded(picture(n)) for n in range(12)})
    report = check_data(tmp_path, CHEST)
    assert {finding.code for finding in report.errors} == {"no-caption", "too-few"}


def test_a_folder_for_each_patient_is_no_folder_for_each_class(tmp_path: Path) -> None:
    write_files(tmp_path, {f"patient{n:03d}/view.png": encoded(picture(n)) for n in range(12)})
    assert "folders-as-classes" in {finding.code for finding in check_data(tmp_path, CHEST).errors}


@pytest.mark.parametrize(
    ("words", "identifies"),
    [
        (lambda n: f"chest x-ray, effusion, case {n}", True),
        (lambda n: f"{['normal', 'effusion'][n % 2]} of {chr(97 + n)}o^john", True),
        (
            lambda n: (
                f"report {' '.join(f'finding{chr(97 + (n * k) % 20)}' for k in range(n))} on 2020-01-{n:02}"
            ),
            True,
        ),
        (lambda n: f"{chr(97 + n)}lpha {chr(97 + n)}eta {chr(97 + n)}amma {chr(97 + n % 7)}elta", False),
        (lambda n: f"effusion {n % 6}", False),
    ],
)
def test_an_identifier_in_nearly_every_caption_is_warned_of(
    tmp_path: Path, words: Callable[[int], str], identifies: bool
) -> None:
    write_files(tmp_path, {f"{n}.png": encoded(picture(n)) for n in range(20)})
    rows = [json.dumps({"file_name": f"{n}.png", "text": words(n)}) for n in range(20)]
    write_files(tmp_path, {"metadata.jsonl": "\n".join(rows)})
    report = check_data(tmp_path, CHEST)
    assert ("identifier-in-captions" in codes(report)) == identifies
    assert not identifies or found(report, "identifier-in-captions").count == 20


def test_folder_names_that_are_no_captions_are_counted_and_not_shown(tmp_path: Path) -> None:
    write_files(tmp_path, {f"Doe^John/{n}.png": encoded(picture(n)) for n in range(12)})
    write_files(tmp_path, {"metadata.csv": "file_name,caption\nDoe^John/3.png,an effusion\n"})
    unused = found(check_data(tmp_path, CHEST), "folder-names-unused")
    assert (unused.count, unused.examples) == (11, ()) and "doe" not in unused.message.lower()
    assert "folder-names-unused" not in codes(check_data(chests(tmp_path / "x"), CHEST))


@pytest.mark.parametrize(("count", "validating"), [(9, 0), (190, 19)])
def test_too_few_images_to_recognise_copies_by_are_warned_of(
    tmp_path: Path, count: int, validating: int
) -> None:
    write_files(tmp_path, {f"{'ab'[n % 2]}/{n}.png": encoded(picture(n, 16)) for n in range(count)})
    report = check_data(tmp_path, CHEST)
    guard = found(report, "no-copy-guard")
    assert (guard.severity, guard.count) == ("warning", validating)
    assert f"{validating} images validate, and 20 are needed" in guard.message
    assert ("from 10 patients on" in found(report, "few-validation").message) == (not validating)


def test_greys_of_12_bits_in_16_are_warned_of_unless_a_window_is_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for n in range(6):
        small = Image.fromarray(rng.integers(0, 4096, (7, 7)).astype(np.uint16))
        write_files(
            tmp_path, {f"{'ab'[n % 2]}/{n}.png": encoded(small.resize((64, 64), Image.Resampling.NEAREST))}
        )
    dark = found(check_data(tmp_path, CHEST), "small-range")
    assert dark.count == 6 and "--window 0:4095" in dark.message
    windowed = ReadOptions(CHEST.domain, IntensityWindow(0, 4095))
    assert "small-range" not in codes(check_data(tmp_path, windowed))
    plain, bright = (int(load_set(tmp_path, 64, one).images.max()) for one in (CHEST, windowed))
    assert plain < 17 and bright > 200


def test_tinted_grey_and_colour_are_told_apart(tmp_path: Path) -> None:
    chests(tmp_path)
    sepia = Image.merge(
        "RGB", [picture(90).getchannel(0).point(lambda v, d=d: max(0, v - d)) for d in (0, 6, 12)]
    )
    colour = Image.merge("RGB", [picture(91 + n).getchannel(0) for n in range(3)])
    write_files(tmp_path, {"train/sepia.png": encoded(sepia), "train/photo.png": encoded(colour)})
    report = check_data(tmp_path, CHEST)
    assert found(report, "tinted-grey").examples == ("train/sepia.png",)
    assert found(report, "colour-in-grey").examples == ("train/photo.png",)
    cells = check_data(tmp_path, ReadOptions(load_domain()))  # mostly grey, whatever the domain says
    assert found(cells, "tinted-grey").count == 1


def test_colours_of_a_set_in_colour_are_no_tint(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{'ab'[n % 2]}/{n}.png": png(10 * n, 16) for n in range(20)})
    assert not codes(check_data(tmp_path, ReadOptions(load_domain()))) & {"tinted-grey", "colour-in-grey"}


def test_a_jpeg_of_grey_is_grey(tmp_path: Path) -> None:
    write_files(
        tmp_path, {f"{'ab'[n % 2]}/{n}.jpg": encoded(picture(n), "JPEG", quality=50) for n in range(20)}
    )
    assert check_data(tmp_path, CHEST).grey == 20


def test_sizes_that_spread_and_sides_that_differ_are_warned_of(tmp_path: Path) -> None:
    chests(tmp_path)
    write_files(tmp_path, {"train/large.png": encoded(picture(80, 300)),
                           "train/wide.png": encoded(picture(81, 300).crop((0, 0, 300, 100)))})  # fmt: skip
    report = check_data(tmp_path, CHEST, size=65)
    assert found(report, "smaller-than-size").count == 40
    assert found(report, "not-square").examples == ("train/wide.png",)
    assert "64 to 300" in found(report, "size-spread").message


def test_too_few_images_are_an_error(tmp_path: Path) -> None:
    write_files(tmp_path, {f"train/{'ab'[n % 2]}/{n}.png": encoded(picture(n)) for n in range(4)})
    write_files(tmp_path, {"val/a/9.png": encoded(picture(9))})
    report = check_data(tmp_path, CHEST)
    assert found(report, "too-few").count == 4 and report.exit_code == 2
    assert found(report, "few-of-label").examples == ("a (2)", "b (2)")


def test_unknown_patients_blank_images_and_long_captions_are_said(tmp_path: Path) -> None:
    flat = Image.new("RGB", (64, 64), (9, 9, 9))
    write_files(tmp_path, {f"{n}.png": encoded(picture(n)) for n in range(30)} | {"30.png": encoded(flat)})
    rows = [{"file_name": f"{n}.png", "text": f"finding {n}"} for n in range(31)]
    rows[3]["text"] = "very " * 70 + "long"
    write_files(tmp_path, {"metadata.jsonl": "\n".join(map(json.dumps, rows))})
    report = check_data(tmp_path, CHEST)
    assert codes(report) >= {"no-patients", "blank", "long-caption"}
    assert found(report, "blank").examples == ("30.png",)


def test_burned_in_text_and_one_patient_for_all_are_said(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from tests.dicom_files import IDENTIFYING, dicom, write

    for n in range(8):
        grey = np.asarray(picture(n).getchannel(0))
        said = {"BurnedInAnnotation": "YES"} if n == 3 else {}
        write(dicom(grey, WindowCenter=128, WindowWidth=256, **said), tmp_path / f"ab{n % 2}" / f"{n}.dcm")
    report = check_data(tmp_path, CHEST)
    assert found(report, "look-at").examples == ("ab1/3.dcm",)
    assert "one-patient" in codes(report)
    assert not [value for value in IDENTIFYING if value in json.dumps(report.as_json())]


def test_images_that_are_alike_are_no_duplicates() -> None:
    """Different images of one kind: a shared shape, and differences of their own."""
    base = np.asarray(picture(0).getchannel(0), np.float32)
    alike = [
        np.stack(
            [(0.6 * base + 0.4 * np.asarray(picture(n).getchannel(0), np.float32)).astype(np.uint8)] * 3, -1
        )
        for n in range(1, 120)
    ]
    thumbnails = [thumbnail(pixels) for pixels in alike]
    assert list(near_pairs(thumbnails)) == []
    again = thumbnail(
        np.asarray(Image.open(io.BytesIO(encoded(Image.fromarray(alike[5]), "JPEG", quality=70))))
    )
    assert np.linalg.norm(again.astype(float) - thumbnails[5]) < NEAR
    assert groups_of(near_pairs([*thumbnails, again])) == [(5, 119)]


def test_pairs_are_joined_to_groups() -> None:
    assert groups_of(iter([(4, 2), (9, 4), (7, 8), (2, 9)])) == [(2, 4, 9), (7, 8)]


@needs_cxr224
def test_real_chest_radiographs_of_other_patients_are_no_duplicates() -> None:
    report = check_data(CXR224 / "val.parquet", CHEST)
    assert report.readable == 584 and report.grey == 584 and report.patients == 264
    assert codes(report) == set()


@needs_cxr224
def test_copies_among_real_chest_radiographs_are_found() -> None:
    told = measured(CXR224 / "val.parquet", planted=60)
    assert told["unplanted"] == 0
    for change in ("jpeg_60", "three_quarters", "brighter"):
        assert told[f"found_{change}"]["value"] > 0.95  # type: ignore[index]


def test_the_command_prints_a_table_or_json_and_ends_with_the_reports_code(tmp_path: Path) -> None:
    chests(tmp_path)
    command = [
        sys.executable,
        "-m",
        "vouch",
        "adapt",
        "--check-only",
        "--data",
        str(tmp_path),
        "--domain",
        "chest_xray",
    ]
    good = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=240)
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["captioned"] == 40
    write_files(tmp_path, {"val/again.png": encoded(picture(5))})
    bad = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert bad.returncode == 2
    assert "exact-duplicates-in-two-splits" in bad.stdout and "41 seen" in bad.stdout
