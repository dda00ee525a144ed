"""Looks once a minute whether the reward model should be trained again, where the settings ask for it."""

from __future__ import annotations

import logging
import threading

from services.retraining.retrainer import Retrainer
from vouch.errors import VouchError

log = logging.getLogger("vouch.retraining")

LOOK_S = 60.0


def retrain_now_and_then(retrainer: Retrainer, every_s: float = LOOK_S) -> threading.Thread | None:
    """A thread that ends with the process; None where retraining is off."""
    if not retrainer.is_on:
        return None
    thread = threading.Thread(target=_look, args=(retrainer, every_s), name="retraining", daemon=True)
    thread.start()
    return thread


def _look(retrainer: Retrainer, every_s: float) -> None:
    ended = threading.Event()
    while not ended.wait(every_s):
        try:
            retrainer.step()
        except VouchError as error:  # the catalog is busy; the next look comes
            log.warning("the look at new ratings failed: %s", error)
        except Exception:  # an unexpected error must not end the thread; the next look may succeed
            log.exception("the look at new ratings failed")
