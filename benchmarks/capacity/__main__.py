"""`python -m benchmarks.capacity --images-per-s 50 --p95-s 3`: the replicas that a load and a latency goal need.

Calibrated on the step times of `benchmarks.kernels` (this project's report of them, or --kernels FILE of your machine).
--validate measures the engine on this machine under three loads that it was not calibrated on, and reports how far the
prediction is off.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.capacity.model import OfferedLoad, calibration_of, replicas_for
from benchmarks.report import Report, arguments

KERNELS = Path(__file__).parents[1] / "reports" / "kernels.json"


def main() -> int:
    parser = arguments("benchmarks.capacity", "Sizes replicas for a load and a latency goal.")
    parser.add_argument("--images-per-s", type=float, default=10.0)
    parser.add_argument(
        "--p95-s", type=float, default=3.0, help="goal for a request, from arrival to its last image"
    )
    parser.add_argument("--images", type=int, default=1, help="of a request")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--unguided", action="store_true", help="one row for an image in a step, not two")
    parser.add_argument("--eager", action="store_true", help="without compiled kernels")
    parser.add_argument(
        "--kernels", type=Path, default=KERNELS, help="a report of python -m benchmarks.kernels --json"
    )
    parser.add_argument(
        "--validate", action="store_true", help="measure this machine's engine under held-out loads"
    )
    given = parser.parse_args()
    if given.validate:
        from benchmarks.capacity.validate import validate

        report = Report("capacity")
        validate(report)
        report.finish(given.json)
        return 0
    load = OfferedLoad(given.images_per_s, given.images, given.steps, 1 if given.unguided else 2)
    try:
        calibration = calibration_of(given.kernels, "eager" if given.eager else "compiled")
        replicas, latency = replicas_for(calibration, load, given.p95_s)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    answer = {
        "replicas": replicas,
        "p50_s": round(latency.p50_s, 3),
        "p95_s": round(latency.p95_s, 3),
        "busy": round(latency.busy, 3),
        "images_per_s_of_one_full_replica": round(calibration.images_per_s(load), 2),
    }
    print(json.dumps(answer, indent=1))
    if given.json:
        given.json.write_text(json.dumps(answer, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
