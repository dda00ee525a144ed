"""The one table of RPCs: who may make each call, and which deployment answers it.

The gateway makes the RPCs of other deployments from this table, the guard of the door and the fake server of
`vouch.testing` read the roles, and the operations deployment finds its handlers here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vouch.types.token import Role

Deployment = Literal["gateway", "feedback", "operations"]


@dataclass(frozen=True)
class Rpc:
    """One RPC of the contract. role: the least that may call it. deployment: who has the method of this name."""

    name: str
    role: Role
    deployment: Deployment


RPCS: dict[str, Rpc] = {
    rpc.name: rpc
    for rpc in (
        Rpc("GenerateImages", "client", "gateway"),
        Rpc("StreamImages", "client", "gateway"),
        Rpc("DescribeGenerator", "client", "gateway"),
        Rpc("ScoreImages", "client", "gateway"),
        Rpc("ScoreStream", "client", "gateway"),
        Rpc("RecordRating", "rater", "feedback"),
        Rpc("ImportRatings", "rater", "gateway"),
        Rpc("ImportRealImages", "operator", "gateway"),
        Rpc("ListRatings", "rater", "feedback"),
        Rpc("NextForReview", "rater", "feedback"),
        Rpc("DescribeCriteria", "client", "feedback"),
        Rpc("DescribeCaller", "client", "gateway"),
        Rpc("GetImage", "client", "feedback"),
        Rpc("ListImages", "client", "feedback"),
        Rpc("ListVersions", "client", "operations"),
        Rpc("GetVersion", "client", "operations"),
        Rpc("GetServing", "client", "operations"),
        Rpc("GetLineage", "client", "operations"),
        Rpc("StartRollout", "operator", "operations"),
        Rpc("PromoteRollout", "operator", "operations"),
        Rpc("RollBackRollout", "operator", "operations"),
        Rpc("PauseRollout", "operator", "operations"),
        Rpc("ResumeRollout", "operator", "operations"),
        Rpc("GetServingHistory", "operator", "operations"),
        Rpc("ListAuditEntries", "operator", "operations"),
        Rpc("VerifyAudit", "operator", "operations"),
        Rpc("ReplayImage", "operator", "operations"),
        Rpc("GetRollout", "operator", "operations"),
        Rpc("WatchRollout", "operator", "operations"),
        Rpc("ListRollouts", "operator", "operations"),
        Rpc("StartTraining", "operator", "operations"),
        Rpc("GetRun", "operator", "operations"),
        Rpc("ListRuns", "operator", "operations"),
        Rpc("CancelRun", "operator", "operations"),
        Rpc("WatchRun", "operator", "operations"),
    )
}


def of(deployment: Deployment) -> tuple[Rpc, ...]:
    """The RPCs that a deployment answers."""
    return tuple(rpc for rpc in RPCS.values() if rpc.deployment == deployment)
