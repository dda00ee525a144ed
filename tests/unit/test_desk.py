from __future__ import annotations

from collections.abc import Iterator

from tests.fakes import FakeClock
from vouch.cli.desk import HELP, Desk, Exhibit, Judgement, Question, RatingTally

QUESTIONS = (
    Question(id="nucleus", text="Is the nucleus right?", help="Segments joined by strands."),
    Question(id="granules", text="Are the granules right?"),
)


class TypedKeys:
    """Keys of a string; `{…}` is a line of free text. A `.` lets a second pass."""

    def __init__(self, text: str, clock: FakeClock) -> None:
        self._left = list(text)
        self._clock = clock

    def press(self) -> str:
        key = self._left.pop(0) if self._left else ""
        if key == ".":
            self._clock.advance(1.0)
            return self.press()
        return key

    def line(self) -> str:
        text = ""
        while (key := self._left.pop(0)) != "\n":
            text += key
        return text


class PaperScreen:
    def __init__(self) -> None:
        self.shown: list[str] = []
        self.asked: list[str] = []
        self.notes: list[str] = []

    def show(self, exhibit: Exhibit, number: int) -> None:
        self.shown.append(exhibit.digest)

    def ask(self, text: str) -> None:
        self.asked.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)


class Session:
    def __init__(self, keys: str, images: int = 3) -> None:
        clock = FakeClock()
        self.recorded: list[Judgement] = []
        self.screen = PaperScreen()
        desk = Desk(QUESTIONS, TypedKeys(keys, clock), self.screen, self._record, clock)
        self.tally: RatingTally = desk.rate(self._exhibits(images))

    def _record(self, verdict: Judgement) -> str:
        self.recorded.append(verdict)
        return f"rating-{len(self.recorded)}"

    def _exhibits(self, images: int) -> Iterator[Exhibit]:
        for number in range(images):
            yield Exhibit(digest=f"image-{number}", data=b"", prompt="neutrophil")


def test_each_question_takes_one_key_and_the_last_is_the_verdict() -> None:
    session = Session("ynynuu", images=2)
    first, second = session.recorded
    assert first.answers == {"nucleus": "pass", "granules": "fail"}
    assert first.verdict == "plausible"
    assert second.answers == {"nucleus": "fail", "granules": "unsure"}
    assert second.verdict == "unsure"
    assert (session.tally.rated, session.tally.rating_ids) == (2, ["rating-1", "rating-2"])


def test_back_reopens_the_question_before() -> None:
    (verdict,) = Session("ybnyy", images=1).recorded
    assert verdict.answers == {"nucleus": "fail", "granules": "pass"}


def test_back_from_the_first_question_rates_the_image_before_again_and_supersedes_it() -> None:
    session = Session("yyy" + "b" + "nnn" + "uuu", images=2)
    first, again, second = session.recorded
    assert [v.image for v in session.recorded] == ["image-0", "image-0", "image-1"]
    assert (first.supersedes, again.supersedes, second.supersedes) == ("", "rating-1", "")
    assert (session.tally.rated, session.tally.corrected) == (2, 1)


def test_a_correction_can_be_corrected() -> None:
    session = Session("yyy" + "b" + "nnn" + "b" + "uuu" + "yyy", images=2)
    assert [v.supersedes for v in session.recorded] == ["", "rating-1", "rating-2", ""]


def test_back_with_nothing_before_says_so_and_asks_again() -> None:
    session = Session("byyy", images=1)
    assert session.screen.notes == ["There is no earlier image to go back to."]
    assert len(session.recorded) == 1


def test_a_skipped_image_is_not_rated() -> None:
    session = Session("ysyyy", images=2)
    assert [v.image for v in session.recorded] == ["image-1"]
    assert (session.tally.rated, session.tally.skipped) == (1, 1)


def test_quitting_or_running_out_of_keys_leaves_the_open_image_unrated() -> None:
    assert len(Session("yyyyq", images=2).recorded) == 1
    assert len(Session("yyyy", images=2).recorded) == 1


def test_the_time_from_showing_to_the_verdict_is_measured() -> None:
    (verdict,) = Session("y..y.y", images=1).recorded
    assert verdict.duration_ms == 3000


def test_a_note_travels_with_the_rating() -> None:
    (verdict,) = Session("ytblurred rim\nyy", images=1).recorded
    assert verdict.text == "blurred rim"


def test_unknown_keys_and_question_marks_explain_and_change_nothing() -> None:
    session = Session("?xyyy", images=1)
    assert session.screen.notes == ["Segments joined by strands.", HELP]
    assert len(session.recorded) == 1
