"""May a version begin a rollout at all? Decided from the evidence that is kept with it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vouch.errors import FailedPrecondition
from vouch.types.version import Version

FORCE = "To start it all the same: --force --reason WHY, which the audit log keeps."


def admit(version: Version, champion: Version, evidence: Mapping[str, Any]) -> dict[str, object]:
    """What of `evidence` admits the version, to be kept with its rollout.

    A generator needs a passed gate of `vouch evaluate` against the champion. A reward model needs to have been measured
    on ratings that it did not learn from, and to order them better than chance.

    Raises FailedPrecondition (NOT_EVALUATED, NOT_PROVEN), saying what is missing or was refused.
    """
    return (_generator if version.kind == "generator" else _reward)(version, champion, evidence)


def _generator(version: Version, champion: Version, evidence: Mapping[str, Any]) -> dict[str, object]:
    command = f"vouch evaluate {version.name} --against {champion.name} --data IMAGES"
    gate = evidence.get("gate")
    if not gate:
        raise FailedPrecondition(
            f"{version.name} was not compared with {champion.name}, which serves. Run `{command}`. {FORCE}",
            "NOT_EVALUATED",
        )
    if evidence.get("against") != champion.digest:
        raise FailedPrecondition(
            f"{version.name} was compared with {evidence.get('against_name') or 'another version'}, and "
            f"{champion.name} serves. Run `{command}`. {FORCE}",
            "NOT_EVALUATED",
        )
    if gate.get("verdict") != "pass":
        reasons = "; ".join(map(str, gate.get("reasons", ()))) or "no reason was kept"
        raise FailedPrecondition(
            f"`vouch evaluate` refused {version.name}: {reasons[:600]}. {FORCE}", "NOT_PROVEN"
        )
    unmeasured = [str(one.get("name")) for one in gate.get("checks", ()) if one.get("passed") is None]
    return {
        "verdict": "pass",
        "against": champion.digest,
        "sha256": evidence.get("sha256", ""),
        "measured_at": evidence.get("measured_at", ""),
        "not_measured": unmeasured,
    }


def _reward(version: Version, champion: Version, evidence: Mapping[str, Any]) -> dict[str, object]:
    auroc = evidence.get("auroc")
    if not auroc or auroc.get("low") is None:
        raise FailedPrecondition(
            f"{version.name} was not measured on ratings that it did not learn from: train it with ratings to hold "
            f"out. {FORCE}",
            "NOT_EVALUATED",
        )
    if not auroc["low"] > 0.5:
        raise FailedPrecondition(
            f"{version.name} is not proven better than chance: its AUROC on held-out ratings is {auroc['value']:.2f} "
            f"({auroc['low']:.2f} to {auroc['high']:.2f}). {FORCE}",
            "NOT_PROVEN",
        )
    return {"verdict": "pass", "auroc": dict(auroc), "images": evidence.get("images", 0)}
