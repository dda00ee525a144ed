"""`make gpu`: pieces that end in time and leave small files, and one sentence where there is no GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import gpu_pieces as gpu
from benchmarks.gpu_pieces import PIECES, SECONDS, WORK, Piece, run, too_large


def test_without_a_gpu_it_says_so_and_ends(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "has_gpu", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path / "out")])
    assert gpu.main() == 0
    assert "no GPU" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_every_piece_is_ended_within_nine_minutes_and_names_files_that_exist() -> None:
    root = Path(__file__).parents[2]
    assert SECONDS <= 540 and len({piece.name for piece in PIECES}) == len(PIECES)
    for piece in PIECES:
        module = piece.arguments[1].replace(".", "/")
        assert (
            module == "pytest"
            or (root / f"{module}.py").is_file()
            or (root / module / "__main__.py").is_file()
        )
    assert all((root / path).is_file() for path in gpu.GPU_TESTS)


def test_a_piece_that_takes_too_long_or_fails_is_told(tmp_path: Path, capsys) -> None:
    wrote = Piece("quick", ("-c", "open(r'{out}/figures.json', 'w').write('{{}}')"))
    assert run(wrote, tmp_path, tmp_path) and (tmp_path / "figures.json").read_text() == "{}"
    assert not run(Piece("broken", ("-c", "raise SystemExit(3)")), tmp_path, tmp_path)
    assert not run(
        Piece("endless", ("-c", "import threading; threading.Event().wait()")), tmp_path, tmp_path, 0.2
    )
    assert "endless was ended after 0 s" in capsys.readouterr().out


def test_large_files_are_named_unless_they_are_work(tmp_path: Path) -> None:
    for path in (tmp_path / "weights.bin", tmp_path / WORK / "checkpoint.bin"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"0" * 11)
    assert too_large(tmp_path, 11) == []
    (line,) = too_large(tmp_path, 10)
    assert "weights.bin has 11 bytes" in line
