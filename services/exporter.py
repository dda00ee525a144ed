"""`python -m services.exporter`: the metrics of this machine on a port of their own.

One machine needs none: the gateway's page has them. In a cluster every pod runs one beside its Ray node, for the page
of a gateway holds the processes of its own node alone.
"""

from __future__ import annotations

import argparse
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from services import metrics
from services.environment import METRICS_FOLDER

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsHandler(BaseHTTPRequestHandler):
    """GET /metrics."""

    def do_GET(self) -> None:
        known = self.path.split("?")[0] == "/metrics"
        body = metrics.page() if known else b"/metrics\n"
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Does not log scrapes."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m services.exporter", description=__doc__)
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104 - Prometheus is on another machine; the page has no secrets
    parser.add_argument("--port", type=int, default=9464)
    options = parser.parse_args(arguments)
    folder = os.environ.get(METRICS_FOLDER)
    if not folder:
        sys.stderr.write(f"error: {METRICS_FOLDER} is not set: name the folder that the services write to.\n")
        return 2
    Path(folder).mkdir(parents=True, exist_ok=True)
    with ThreadingHTTPServer((options.host, options.port), MetricsHandler) as server:
        sys.stdout.write(f"metrics on port {server.server_address[1]}\n")
        sys.stdout.flush()
        server.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
