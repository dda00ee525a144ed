"""Makes the fault of every alert before a real Prometheus, and says which alerts fire.

A small exporter shows the metrics of one healthy system and of one system for each fault. Time runs `SPEED` times
faster: the exporter's counters rise so much faster, and every duration in the rules is divided by it.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from benchmarks.cluster.faults import ALERTS, FAULTS, Series, is_counter, job, shown

SPEED = 20
HEALTHY_S, FAULTY_S = 130, 300
SCRAPE_S = 2
_DURATION = re.compile(r"\b(\d+)([smhd])\b")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class AlertReplay:
    """Counters that rise and levels that stay, first of a healthy system, then of one with a fault."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._fault_at = float("inf")

    def break_everything(self) -> None:
        """From now on every system but the healthy one shows its fault."""
        self._fault_at = time.monotonic()

    def page(self, alert: str) -> str | None:
        """The metrics in Prometheus' text form; None where the fault is that none are answered."""
        now = time.monotonic()
        broken = bool(alert) and now >= self._fault_at
        if broken and FAULTS[alert].down:
            return None
        sound_s = (min(now, self._fault_at) - self._began) * SPEED
        broken_s = max(0.0, now - self._fault_at) * SPEED
        sound, faulty = shown(""), shown(alert)
        lines = [f"{name} {_value(name, sound, faulty, sound_s, broken_s)}" for name in sound]
        return "\n".join(lines) + "\n"


def _value(name: str, sound: Series, faulty: Series, sound_s: float, broken_s: float) -> float:
    if is_counter(name):
        return sound[name] * sound_s + faulty[name] * broken_s
    return faulty[name] if broken_s else sound[name]


@contextlib.contextmanager
def exporter(replay: AlertReplay) -> Iterator[int]:
    """Serves /<alert> for each system, "/healthy" for the sound one. The port."""

    class AlertPage(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/")
            text = replay.page("" if name == "healthy" else name)
            body = (text or "").encode()
            self.send_response(503 if text is None else 200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):  # a scrape that took too long
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), AlertPage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def quick_rules() -> str:
    """alerts.yaml with every duration divided by `SPEED`."""
    tree = yaml.safe_load(ALERTS.read_text("utf-8"))
    for group in tree["groups"]:
        group["interval"] = f"{SCRAPE_S}s"
        for rule in group["rules"]:
            rule["expr"] = re.sub(r"\[[^]]+\]", lambda match: _quick(match.group()), rule["expr"])
            if "for" in rule:
                rule["for"] = _quick(rule["for"])
    return str(yaml.safe_dump(tree))


def _quick(text: str) -> str:
    def shorter(match: re.Match[str]) -> str:
        return f"{int(match[1]) * _SECONDS[match[2]] * 1000 // SPEED}ms"

    return _DURATION.sub(shorter, text)


@contextlib.contextmanager
def prometheus(folder: Path, port: int) -> Iterator[str]:
    """A Prometheus that scrapes the exporter and evaluates the quick rules. Its address."""
    (folder / "alerts.yaml").write_text(quick_rules())
    jobs = [
        {
            "job_name": job(alert),
            "metrics_path": f"/{alert or 'healthy'}",
            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
        }
        for alert in ("", *FAULTS)
    ]
    every = f"{SCRAPE_S}s"
    config = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{_free_port()}"
    binary = shutil.which("prometheus")
    if binary is None:
        raise RuntimeError("There is no prometheus on this machine: install Debian's package of that name.")
    command = [
        binary,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield address
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def firing(address: str) -> set[tuple[str, str]]:
    """(alert, job) of what fires now."""
    with urllib.request.urlopen(f"http://{address}/api/v1/alerts", timeout=10) as answer:
        alerts: list[dict[str, Any]] = json.load(answer)["data"]["alerts"]
    return {(one["labels"]["alertname"], one["labels"]["job"]) for one in alerts if one["state"] == "firing"}


def run(folder: Path) -> dict[str, Any]:
    """Which alerts fired before and after their faults; takes `HEALTHY_S` + `FAULTY_S` at most."""
    replay = AlertReplay()
    wanted = {(alert, job(alert)) for alert in FAULTS}
    with exporter(replay) as port, prometheus(folder, port) as address:
        time.sleep(HEALTHY_S)
        before = firing(address)
        replay.break_everything()
        fired: set[tuple[str, str]] = set()
        deadline = time.monotonic() + FAULTY_S
        while time.monotonic() < deadline and not wanted <= fired:
            time.sleep(2)
            fired |= firing(address)
    return {
        "alerts": len(FAULTS),
        "fired": sorted(alert for alert, name in wanted & fired),
        "fired_before_any_fault": sorted(before),
        "fired_without_their_fault": sorted(fired - wanted),
    }
