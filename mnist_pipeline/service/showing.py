"""`GET /model`: who serves, by which decision, with its card; who competes; and who was refused."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mnist_pipeline.ledger import Decision
from mnist_pipeline.service.answering import no_model
from mnist_pipeline.service.errors import json_response
from mnist_pipeline.service.guard import Endpoint
from mnist_pipeline.service.roster import Roster, Serving


@cache
def own_version() -> str:
    """Of this project, which stands in a file of its installation."""
    return version("mnist-pipeline")


def model_with(roster: Roster) -> Endpoint:
    """The endpoint."""

    async def model(request: Request) -> Response:
        standing = roster.standing
        if standing.champion is None or standing.decision is None:
            raise no_model(standing)
        decision = standing.decision
        told = {"outcome": decision.outcome, "strategy": decision.strategy, "reason": decision.reason}
        decided = {**told, "decided": decision.time, "evidence": decision.evidence}
        return json_response(
            {
                "champion": {**_shown(standing.champion), **decided},
                "challenger": standing.challenger and _competing(standing.challenger, decision),
                "refused": standing.refused,
                "refused_challenger": standing.refused_challenger,
                "class_names": standing.champion.names,
                "store_reached": roster.reached,
            }
        )

    return model


def _competing(rival: Serving, decision: Decision) -> dict[str, Any]:
    """With the decision since which it competes; 0 where MNIST_CHALLENGER has named it."""
    since = decision.contest if rival.digest else 0
    return {**_shown(rival), "since_decision": since, "shadow_only": rival.shadow_only}


def _shown(serving: Serving) -> dict[str, Any]:
    return {"version": serving.card.name, "decision": serving.decision, "card": asdict(serving.card)}
