from __future__ import annotations

import json
import resource
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.image_files import encoded, write_files
from vouch.datasets.filter import FilterSettings, Item, Scored, Window, filter_images
from vouch.datasets.imagesets import SourceImage, open_image_set
from vouch.errors import FailedPrecondition, InvalidInput, StorageFull, Unavailable
from vouch.formats import images

VERSION = "a" * 64


class OwnSet:
    """An image set of these images, which then fails if `failure` is given."""

    layout = "a list"

    def __init__(self, *images: SourceImage, failure: Exception | None = None) -> None:
        self.path = Path("list")
        self.ignored: Counter[str] = Counter()
        self._images, self._failure = images, failure

    def count(self) -> int | None:
        return None

    def images(self, skip: Any = None) -> Iterator[SourceImage]:
        yield from (image for image in self._images if not (skip and skip(image.key)))
        if self._failure:
            raise self._failure


class BrightnessScorer:
    """Scores an item by the number in its data; "bad" data is an error; results come in reversed batches."""

    def __init__(self, fail_after: int | None = None, batch: int = 3) -> None:
        self.seen: list[str] = []
        self.versions: list[str] = []
        self.fail_after = fail_after
        self.batch = batch

    def __call__(self, items: Iterable[Item], version: str) -> Iterator[Scored]:
        self.versions.append(version)
        held: list[Item] = []
        for item in items:
            held.append(item)
            if len(held) == self.batch:
                yield from self._scores(held)
                held = []
        yield from self._scores(held)

    def _scores(self, items: list[Item]) -> Iterator[Scored]:
        for item in reversed(items):
            if self.fail_after is not None and len(self.seen) >= self.fail_after:
                raise Unavailable("The system went away.")
            self.seen.append(item.key)
            yield self._score(item)

    def _score(self, item: Item) -> Scored:
        text = item.data.decode()
        if text == "bad":
            return Scored(key=item.key, reason="IMAGE_TOO_LARGE", error="These bytes are not an image.")
        return Scored(
            key=item.key,
            score=float(text),
            score_std=0.1,
            criterion_scores={"nucleus": 0.5},
            reward_version=VERSION,
        )


def write_set(folder: Path, contents: list[str], prompt: str = "neutrophil") -> Path:
    folder.mkdir()
    for number, content in enumerate(contents):
        (folder / f"{number:03d}.png").write_text(content)
        if prompt:
            (folder / f"{number:03d}.txt").write_text(prompt)
    return folder


def run(source: Path, out: Path, score: Any = None, **settings: Any) -> dict[str, Any]:
    chosen = FilterSettings(source=str(source), min_score=settings.pop("min_score", 0.8), **settings)
    return filter_images(open_image_set(source), out, chosen, score or BrightnessScorer())


def rows_of(out: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(out / "ledger.parquet").to_pylist()
    assert len({row["key"] for row in rows}) == len(rows), "a key appears twice"
    return {row["key"]: row for row in rows}


def test_accepted_images_are_written_and_every_image_has_its_row(tmp_path: Path) -> None:
    source = write_set(tmp_path / "in", ["0.9", "0.1", "bad", "0.8"])
    (source / "004.png").write_bytes(b"")
    summary = run(source, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert {key: row["status"] for key, row in rows.items()} == {
        "000.png": "accepted", "001.png": "rejected", "002.png": "failed", "003.png": "accepted",
        "004.png": "failed",
    }  # fmt: skip
    assert (tmp_path / "out" / rows["000.png"]["file"]).read_text() == "0.9"
    assert rows["001.png"]["score"] == 0.1
    assert rows["001.png"]["file"] == ""
    assert dict(rows["001.png"]["criterion_scores"]) == {"nucleus": 0.5}
    assert "not an image" in rows["002.png"]["error"]
    assert "empty" in rows["004.png"]["error"]
    assert (summary["accepted"], summary["rejected"], summary["failed"], summary["images"]) == (2, 1, 2, 5)
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    assert summary["reward_version"] == VERSION


def test_the_accepted_folder_is_an_image_set_that_kept_its_prompts(tmp_path: Path) -> None:
    run(write_set(tmp_path / "in", ["0.9", "0.1"]), tmp_path / "out")
    again = list(open_image_set(tmp_path / "out" / "images").images())
    assert [(i.data, i.prompt) for i in again] == [(b"0.9", "neutrophil")]


def test_an_interrupted_run_continues_without_scoring_or_writing_twice(tmp_path: Path) -> None:
    source, out = write_set(tmp_path / "in", ["0.9", "0.2"] * 10), tmp_path / "out"
    first = BrightnessScorer(fail_after=7)
    with pytest.raises(Unavailable):
        run(source, out, first)
    second = BrightnessScorer()
    summary = run(source, out, second)
    assert not set(first.seen) & set(second.seen)
    assert len(first.seen) + len(second.seen) == 20 == summary["images"] == len(rows_of(out))
    assert summary["accepted"] == 10 == len(list((out / "images").glob("*.png")))


def test_a_resumed_run_stays_on_the_reward_version_it_began_with(tmp_path: Path) -> None:
    source, out = write_set(tmp_path / "in", ["0.9"] * 6), tmp_path / "out"
    with pytest.raises(Unavailable):
        run(source, out, BrightnessScorer(fail_after=3))
    second = BrightnessScorer()
    run(source, out, second)
    assert second.versions == [VERSION]


def test_a_finished_run_scores_nothing_again_and_says_the_same(tmp_path: Path) -> None:
    source, out = write_set(tmp_path / "in", ["0.9", "0.2", "bad"]), tmp_path / "out"
    first = run(source, out)
    scorer = BrightnessScorer()
    second = run(source, out, scorer)
    assert scorer.seen == []
    assert {k: second[k] for k in ("images", "accepted", "rejected", "failed", "mean_score")} == {
        k: first[k] for k in ("images", "accepted", "rejected", "failed", "mean_score")
    }


def test_an_accepted_image_that_a_power_cut_took_is_made_again(tmp_path: Path) -> None:
    source, out = write_set(tmp_path / "in", ["0.9", "0.95"]), tmp_path / "out"
    run(source, out)
    (out / "images" / "001.png").unlink()
    scorer = BrightnessScorer()
    summary = run(source, out, scorer)
    assert scorer.seen == ["001.png"]
    assert (out / "images" / "001.png").read_text() == "0.95"
    assert summary["accepted"] == 2 == len(rows_of(out))


def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    source, out = write_set(tmp_path / "in", ["0.9"]), tmp_path / "out"
    run(source, out)
    with pytest.raises(FailedPrecondition, match=r"min score 0\.8, not 0\.5"):
        run(source, out, min_score=0.5)


def test_a_foreign_folder_and_a_file_are_never_written_to(tmp_path: Path) -> None:
    source = write_set(tmp_path / "in", ["0.9"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(FailedPrecondition, match="not empty"):
        run(source, tmp_path / "mine")
    with pytest.raises(FailedPrecondition, match="is a file"):
        run(source, tmp_path / "mine" / "thesis.tex")


def test_two_runs_into_one_folder_at_a_time_are_refused(tmp_path: Path) -> None:
    source, out = write_set(tmp_path / "in", ["0.9"]), tmp_path / "out"

    def score_while_another_tries(items: Iterable[Item], version: str) -> Iterator[Scored]:
        with pytest.raises(FailedPrecondition, match="Another filter run"):
            run(source, out)
        yield from BrightnessScorer()(items, version)

    assert run(source, out, score_while_another_tries)["images"] == 1


def test_images_without_a_prompt_are_refused_before_anything_is_scored(tmp_path: Path) -> None:
    source = write_set(tmp_path / "in", ["0.9"], prompt="")
    with pytest.raises(InvalidInput, match="--prompt"):
        run(source, tmp_path / "out")
    assert run(source, tmp_path / "other", prompt="platelet")["accepted"] == 1
    assert rows_of(tmp_path / "other")["000.png"]["prompt"] == "platelet"


def test_an_image_that_could_not_be_scored_now_is_scored_by_the_next_run(tmp_path: Path) -> None:
    source, out = write_set(tmp_path / "in", ["0.9", "0.2"]), tmp_path / "out"

    def busy(items: Iterable[Item], version: str) -> Iterator[Scored]:
        for item in items:
            yield Scored(key=item.key, reason="EXHAUSTED", error="The queue is full.")

    with pytest.raises(Unavailable, match="2 images could not be scored now"):
        run(source, out, busy)
    assert run(source, out)["images"] == 2


def test_a_damaged_set_keeps_what_was_scored_before_the_damage(tmp_path: Path) -> None:
    source, out = write_set(tmp_path / "in", ["0.9", "0.2"]), tmp_path / "out"

    damaged = OwnSet(*open_image_set(source).images(), failure=InvalidInput("in.tar is truncated."))
    with pytest.raises(InvalidInput, match="truncated"):
        filter_images(damaged, out, FilterSettings(source=str(source), min_score=0.8), BrightnessScorer())
    scorer = BrightnessScorer()
    run(source, out, scorer)
    assert scorer.seen == []


def test_a_full_disk_says_so_and_loses_no_score(tmp_path: Path) -> None:
    source, out = write_set(tmp_path / "in", ["0.9"] * 3), tmp_path / "out"
    (source / "001.png").write_text("0.9" + "0" * 100_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))  # the kernel answers EFBIG as on a full quota
    try:
        with pytest.raises(StorageFull, match="disk is full"):
            run(source, out, BrightnessScorer(batch=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((out / "images").glob("*.tmp"))
    scorer = BrightnessScorer()
    assert run(source, out, scorer)["accepted"] == 3
    assert "000.png" not in scorer.seen


@pytest.mark.parametrize("key", ["../../etc/passwd", "/etc/passwd", "..", "a/../../b"])
def test_a_hostile_name_in_a_tar_stays_inside_the_folder(tmp_path: Path, key: str) -> None:
    hostile = OwnSet(SourceImage(key, b"0.9", "neutrophil"))
    out = tmp_path / "deep" / "out"
    filter_images(hostile, out, FilterSettings(source="x", min_score=0.5), BrightnessScorer())
    (row,) = rows_of(out).values()
    assert (out / row["file"]).resolve().is_relative_to((out / "images").resolve())


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_a_lowest_score_outside_0_to_1_is_refused(value: float) -> None:
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        FilterSettings(source="x", min_score=value)


def test_a_window_is_bounded_in_bytes_but_lets_a_large_image_through_alone() -> None:
    window = Window(images=10, size_bytes=100)
    assert window.put(SourceImage("large", b"x" * 500))
    assert window.take("large").key == "large"
    window.close()
    assert not window.put(SourceImage("late", b"x"))


def test_the_summary_counts_everything_that_was_seen(tmp_path: Path) -> None:
    source, out = write_set(tmp_path / "in", ["0.9", "0.1", "bad"]), tmp_path / "out"
    write_files(source, {"scan.nii": b"x", "other.nii": b"x", ".hidden.png": b"0.9", "README.md": "# cells"})
    summary = run(source, out)
    counts = {name: summary[name] for name in ("accepted", "rejected", "failed", "skipped")}
    assert counts == {"accepted": 1, "rejected": 1, "failed": 1, "skipped": 3}
    assert summary["seen"] == sum(counts.values()) == len(rows_of(out))
    assert summary["images"] == 3
    reasons = {why["count"]: (why["reason"], why["examples"]) for why in summary["skipped_why"]}
    assert reasons[1][1] == [".hidden.png"]
    assert reasons[2] == (rows_of(out)["scan.nii"]["error"], ["other.nii", "scan.nii"])
    assert summary["ignored"] == {"other files": 4}
    again = run(source, out)
    assert {name: again[name] for name in counts} == counts


def test_a_given_prompt_fills_only_what_has_none_and_says_how_often(tmp_path: Path) -> None:
    source = write_set(tmp_path / "in", ["0.9", "0.9"], prompt="monocyte")
    write_files(source, {"a.png": "0.9", "b.png": "0.9", "b.txt": "für".encode("latin-1")})
    summary = run(source, tmp_path / "out", prompt="basophil")
    rows = rows_of(tmp_path / "out")
    assert [(rows[k]["prompt"], rows[k]["prompt_source"]) for k in ("000.png", "a.png")] == [
        ("monocyte", "own"), ("basophil", "given"),
    ]  # fmt: skip
    assert rows["b.png"]["status"] == "failed"
    assert "b.txt is there, but not readable" in rows["b.png"]["error"]
    assert (summary["prompts_filled"], summary["prompts_overridden"]) == (1, 0)


def test_own_prompts_are_overridden_only_when_asked_for(tmp_path: Path) -> None:
    source = write_set(tmp_path / "in", ["0.9", "0.9"], prompt="monocyte")
    summary = run(source, tmp_path / "out", prompt="basophil", override_prompts=True)
    assert {row["prompt"] for row in rows_of(tmp_path / "out").values()} == {"basophil"}
    assert (summary["prompts_filled"], summary["prompts_overridden"]) == (0, 2)
    with pytest.raises(InvalidInput, match="needs the prompt"):
        FilterSettings(source="x", min_score=0.5, override_prompts=True)


def test_a_refusal_for_want_of_prompts_leaves_the_folder_free_for_another_try(tmp_path: Path) -> None:
    source = write_set(tmp_path / "in", ["", "0.9", "0.9"], prompt="")  # the first is unreadable besides
    with pytest.raises(InvalidInput, match=r"image 001\.png has no prompt, nor have the 1 that follow it"):
        run(source, tmp_path / "out")
    summary = run(source, tmp_path / "out", prompt="monocyte")
    assert (summary["accepted"], summary["failed"]) == (2, 1)


def test_some_images_without_a_prompt_fail_alone(tmp_path: Path) -> None:
    source = write_set(tmp_path / "in", ["0.9", "0.9"])
    write_files(source, {"0.png": "0.9"})  # the first of all
    summary = run(source, tmp_path / "out")
    assert (summary["accepted"], summary["failed"]) == (2, 1)
    assert rows_of(tmp_path / "out")["0.png"]["error"] == "The image has no prompt."


@pytest.mark.parametrize(
    "keys",
    [
        ("a.png", "b" * 249 + ".png", "c.png"),
        ("a.png", "/".join(["d" * 200] * 15) + "/b.png"),
        ("a.png", "a.png/b.png"),
        ("a.png/b.png", "a.png"),
        ("b.png", "a/../../b.png", "/b.png"),
        ("a", "a.img"),
    ],
)
def test_accepted_images_never_replace_or_hinder_one_another(tmp_path: Path, keys: tuple[str, ...]) -> None:
    sources = [SourceImage(key, f"0.9{number}".encode(), "neutrophil") for number, key in enumerate(keys)]
    out = tmp_path / "out"
    summary = filter_images(
        OwnSet(*sources), out, FilterSettings(source="x", min_score=0.5), BrightnessScorer()
    )
    assert summary["accepted"] == len(keys)
    rows = rows_of(out)
    assert {key: (out / row["file"]).read_bytes() for key, row in rows.items()} == {
        i.key: i.data for i in sources
    }


def test_texts_that_no_file_can_hold_do_not_end_the_run(tmp_path: Path) -> None:
    odd = SourceImage("a\ud800.png", b"0.9", "neutrophil", label="\udcff")
    out = tmp_path / "out"
    settings = FilterSettings(source="x", min_score=0.5)
    filter_images(OwnSet(odd, SourceImage("b.png", b"0.9", "neutrophil")), out, settings, BrightnessScorer())
    assert {row["status"] for row in rows_of(out).values()} <= {"accepted", "failed"}
    assert rows_of(out)["b.png"]["status"] == "accepted"
    assert len(rows_of(out)) == 2


def test_twelve_bit_images_are_scored_through_the_window_and_named_without_one(tmp_path: Path) -> None:
    deep = encoded(Image.fromarray(np.array([[0, 4095]], dtype=np.uint16)))
    sent: list[bytes] = []

    def score(items: Iterable[Item], version: str) -> Iterator[Scored]:
        for item in items:
            sent.append(item.data)
            yield Scored(key=item.key, score=0.9, reward_version=VERSION)

    source = write_files(tmp_path / "in", {"a.png": deep})
    summary = run(source, tmp_path / "whole", score, prompt="monocyte")
    assert summary["small_range"] == 1
    assert "--window 0:4095" in rows_of(tmp_path / "whole")["a.png"]["note"]
    assert run(source, tmp_path / "cut", score, prompt="monocyte", window="0:4095")["small_range"] == 0
    assert sent[0] == deep
    assert images.decode(sent[1])[0, :, 0].tolist() == [0, 255]
    assert (tmp_path / "cut" / "images" / "a.png").read_bytes() == deep, "the accepted image is as it was"


def test_a_run_of_before_a_setting_existed_goes_on(tmp_path: Path) -> None:
    source, out = write_set(tmp_path / "in", ["0.9"]), tmp_path / "out"
    run(source, out)
    known = json.loads((out / ".filter" / "settings.json").read_text())
    del known["window"], known["override_prompts"]
    (out / ".filter" / "settings.json").write_text(json.dumps(known))
    assert run(source, out)["accepted"] == 1
    with pytest.raises(FailedPrecondition, match="prompt"):
        run(source, out, prompt="monocyte")


@pytest.mark.parametrize("prompt", ["", "monocyte"])
def test_a_set_whose_prompts_cannot_be_read_is_refused_with_what_to_do(tmp_path: Path, prompt: str) -> None:
    source = write_set(tmp_path / "in", ["0.9", "0.9"], prompt="")
    write_files(source, {"metadata.csv": "isic_id,diagnosis\n000,melanoma\n"})
    with pytest.raises(
        InvalidInput, match=r"metadata\.csv is there, but has no column file_name.*override-prompts"
    ):
        run(source, tmp_path / "out", prompt=prompt)
    assert run(source, tmp_path / "out", prompt="monocyte", override_prompts=True)["accepted"] == 2
