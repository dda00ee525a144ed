"""`vouch logs`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from services import logs
from services.environment import LOGS_FOLDER
from tests.command_line import run, run_json
from vouch.cli.main import root
from vouch.storage.state import StateFolder


def test_the_reference_of_a_defect_leads_to_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StateFolder(tmp_path / "state").create()
    monkeypatch.setenv("VOUCH_STATE", str(folder.root))
    monkeypatch.setenv(LOGS_FOLDER, str(folder.logs))
    monkeypatch.setattr(logs.log, "handlers", [])
    logs.refused(
        reference="aa11", code="INVALID_ARGUMENT", reason="UNKNOWN_LABEL", rpc="GenerateImages", role="client"
    )
    try:
        raise RuntimeError("the lamp broke")
    except RuntimeError as error:
        logs.failed(
            error, reference="bb22", code="INTERNAL", reason="INTERNAL", rpc="GetRun", role="operator"
        )
    with next(folder.logs.glob("*.jsonl")).open("a") as file:
        file.write('{"at": "half a li')
    shown = CliRunner().invoke(root, ["logs", "bb22"])  # the one command whose answer is a traceback
    assert (shown.exit_code, "RuntimeError: the lamp broke" in shown.stdout) == (0, True)
    calls = run_json("logs")["calls"]
    assert [(call["reference"], "trace" in call) for call in calls] == [("aa11", False), ("bb22", False)]
    assert "UNKNOWN_LABEL" in run("logs").stdout
    assert "has no entry with the reference cc33" in run("logs", "cc33", code=4).output
    for handler in logs.log.handlers:
        handler.close()


def test_logs_where_no_system_ever_was_say_so(tmp_path: Path) -> None:
    assert "No system has been started" in run("logs", "--state", tmp_path / "nowhere", code=4).output
