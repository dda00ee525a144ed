"""Alert rules, dashboards and runbooks: what they name exists, and every alert fires when its fault is made."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from benchmarks.cluster import alerts
from benchmarks.cluster.faults import ALERTS, FAULTS, rules
from benchmarks.cluster.promtool import write_tests
from services import metrics

ROOT = Path(__file__).parents[2]
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
NAMES = re.compile(r"\bvouch_[a-z_]+")

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus"
)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)


@needs_promtool
def test_prometheus_can_read_the_rules_and_the_scrape_config():
    done = promtool("check", "rules", str(ALERTS))
    assert (done.returncode, done.stderr) == (0, "")
    done = promtool("check", "config", "--syntax-only", str(ALERTS.parent / "prometheus.yml"))
    assert done.returncode == 0, done.stderr


@needs_promtool
def test_every_alert_fires_with_its_fault_alone_and_none_without(tmp_path):
    write_tests(tmp_path / "tests.yaml")
    done = promtool("test", "rules", str(tmp_path / "tests.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("alert", ["VouchErrors", "VouchRewardDrift", "VouchDown"])
def test_a_rule_that_does_not_see_its_fault_is_found(alert, tmp_path):
    write_tests(tmp_path / "tests.yaml")
    tree = yaml.safe_load(ALERTS.read_text())
    for group in tree["groups"]:
        for rule in group["rules"]:
            if rule["alert"] == alert:
                rule["for"] = "5h"
    (tmp_path / ALERTS.name).write_text(yaml.safe_dump(tree))
    assert promtool("test", "rules", str(tmp_path / "tests.yaml")).returncode == 1


def test_every_alert_has_a_fault_a_severity_and_a_runbook():
    runbooks = (ROOT / "docs" / "how-to" / "runbooks.md").read_text()
    sections = re.findall(r"^## (\w+)$", runbooks, re.M)
    assert [rule["alert"] for rule in rules()] == list(FAULTS) == sections
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["runbook"] == f"runbooks.md#{rule['alert'].lower()}"


def test_every_metric_that_a_rule_names_exists():
    named = {name for rule in rules() for name in NAMES.findall(rule["expr"])}
    assert named and named <= metrics.sample_names()


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_every_metric_that_a_dashboard_names_exists(dashboard):
    board = json.loads(dashboard.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    named = {name for query in queries for name in NAMES.findall(query)}
    assert named and named <= metrics.sample_names()
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@needs_promtool
@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_prometheus_can_parse_every_query_of_a_dashboard(dashboard, tmp_path):
    board = json.loads(dashboard.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    recorded = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    done = promtool("check", "rules", str(tmp_path / "rules.yaml"))
    assert done.returncode == 0, done.stderr


def test_every_metric_is_in_the_one_list():
    families = {metric.describe()[0].name for metric in metrics.ALL}
    defined = re.findall(r'"(vouch_[a-z_]+)"', (ROOT / "services" / "metrics.py").read_text())
    assert {name.removesuffix("_total") for name in defined} == families


@needs_promtool
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_alert_fires_in_a_real_prometheus(tmp_path):
    figures = alerts.run(tmp_path)
    assert figures["fired_before_any_fault"] == []
    assert figures["fired"] == sorted(FAULTS)
    assert figures["fired_without_their_fault"] == []


def test_the_exporter_shows_what_services_have_counted(tmp_path):
    code = "import services.metrics as m; m.SCORES.inc(3)"
    environment = {"SERVICES_METRICS_FOLDER": str(tmp_path), "PATH": "", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    command = [sys.executable, "-m", "services.exporter", "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as exporter:
        try:
            port = exporter.stdout.readline().split()[-1]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
                page = answer.read().decode()
        finally:
            exporter.terminate()
    assert "vouch_scores_total 3.0" in page
    assert 'vouch_swaps_refused_total{slot="generator"} 0.0' in page
