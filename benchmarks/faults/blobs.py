"""The disk of the images takes nothing for a while, read-only and then full: is all that was acknowledged there?

The models and the catalog are elsewhere. An image is handed out only when it is stored, so calls are refused meanwhile.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import AbstractContextManager

import vouch
from benchmarks.faults.disk import mounted, why_not
from benchmarks.faults.live import PROMPTS, STEPS, rate, system
from benchmarks.report import Figure, Report
from vouch.client import Client
from vouch.errors import Internal, VouchError

PATIENCE_S = 60.0


def unwritable(report: Report, seconds: float) -> None:
    """`lost_images`, errors that name no cause, and the seconds until an image is drawn again."""
    if reason := why_not():
        report.add("lost_images", Figure(None, unit=f"not measured: {reason}", must="<= 0"))
        return
    with (
        mounted() as disk,
        system(VOUCH_BLOBS_URL=str(disk.root / "blobs")) as up,
        vouch.connect(state=up.state, timeout_s=10.0) as client,
    ):
        seen = [_draw(client, seed) for seed in range(5)]
        for name, fault in {"read-only": disk.read_only, "full": disk.full}.items():
            seen += _through(client, fault(), seconds, report, name)
        digests = list(filter(_is_digest, seen))
        lost = sum(not _is_there(client, digest) for digest in digests)
    report.add("lost_images", Figure(lost, unit=f"of {len(digests)} acknowledged", must="<= 0", aim="<= 0"))


def _through(
    client: Client, fault: AbstractContextManager[None], seconds: float, report: Report, name: str
) -> list[str]:
    """What came of calls while the fault lasts, and of the first that works again."""
    seen = list[str]()
    with fault:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            seen.append(_draw(client, 1000 + len(seen)))
    ended = time.monotonic()
    while not _is_digest(last := _draw(client, 2000)):
        if time.monotonic() > ended + PATIENCE_S:
            raise RuntimeError(f"nothing is drawn after a disk that was {name}: {last}")
    back_s = time.monotonic() - ended
    rated = rate(client, last, f"after-{name}")
    answers = Counter("drawn" if _is_digest(one) else one for one in seen)
    print(name, dict(answers))
    report.add(
        f"internal_errors, {name}",
        Figure(answers[Internal.reason], unit=f"of {len(seen)} calls", must="<= 0"),
    )
    report.add(f"recovery_s, {name}", Figure(back_s, unit="s until an image is drawn", must="<= 10"))
    report.add(f"rated_after, {name}", Figure(int(rated), unit="of 1 rating", must=">= 1"))
    return [*seen, last]


def _draw(client: Client, seed: int) -> str:
    """The digest of an image, or the reason why there is none."""
    try:
        return client.generate_images(PROMPTS[0], seed=seed, steps=STEPS, score=False).images[0].digest
    except VouchError as error:
        return error.reason


def _is_digest(answer: str) -> bool:
    return len(answer) == 64


def _is_there(client: Client, digest: str) -> bool:
    try:
        return bool(client.get_image(digest).data)
    except VouchError:
        return False
