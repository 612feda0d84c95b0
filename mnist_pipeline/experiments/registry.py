"""MLflow's registry as a mirror of the model store: every version, and aliases for what the ledger says of them.

The mirror is made equal whenever it differs, and never read to decide anything: MLflow cannot compare and swap.
A registered version points to the card among the artifacts of its run, not to a pickled model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from mnist_pipeline.experiments.answers import is_for_good, said
from mnist_pipeline.experiments.runs import MlflowRuns
from mnist_pipeline.experiments.spool import RunFacts
from mnist_pipeline.ledger import Decision, served_before
from mnist_pipeline.model_versions import Card, CorruptVersion
from mnist_pipeline.store import ModelStore

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

MODEL = "digit_classifier"
ALIASES = ("champion", "previous", "challenger")
NAME_TAG, DIGEST_TAG = "version", "digest"
FOLDER = "version"  # of the run's artifacts


@dataclass(frozen=True)
class Mirror:
    """The registered model and the store that it mirrors."""

    runs: MlflowRuns
    store: ModelStore

    def versions(self) -> tuple[int, list[str], list[str]]:
        """Register what is missing: how many, which versions of the store are damaged, which ones MLflow refuses."""
        known, damaged, refused, count = self._registered(), list[str](), list[str](), 0
        for name in self.store.versions():
            if name in known:
                continue
            try:
                self._register(self.store.card(name))
                count += 1
            except CorruptVersion as error:
                damaged.append(str(error))
            except Exception as error:
                if not is_for_good(error):
                    raise
                refused.append(f"MLflow refuses to register the version {name}: {said(error, self.runs.uri)}")
        return count, damaged, refused

    def aliases(self) -> int:
        """Move the aliases to where the ledger has them; how many were elsewhere."""
        client, known = self.runs.client, self._registered()
        there = {name: str(number) for name, number in self._model_aliases().items() if name in ALIASES}
        wanted = {alias: known[name] for alias, name in roles(self.store.decisions()).items() if name in known}
        for alias in there.keys() - wanted.keys():
            client.delete_registered_model_alias(MODEL, alias)
        moved = {alias: number for alias, number in wanted.items() if there.get(alias) != number}
        for alias, number in moved.items():
            client.set_registered_model_alias(MODEL, alias, number)
        return len(moved) + len(there.keys() - wanted.keys())

    def _model_aliases(self) -> dict[str, str]:
        from mlflow.exceptions import MlflowException

        try:
            return dict(self.runs.client.get_registered_model(MODEL).aliases)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            self.runs.client.create_registered_model(
                MODEL, description="Mirror of the model store and its ledger; aliases moved by hand are moved back."
            )
            return {}

    def _registered(self) -> dict[str, str]:
        """Name in the store -> number in the registry; the oldest where two senders registered the same."""
        found: dict[str, str] = {}
        for version in sorted(self._all(), key=lambda each: int(each.version)):
            name = version.tags.get(NAME_TAG)
            if name:
                found.setdefault(name, str(version.version))
        return found

    def _all(self) -> list[ModelVersion]:
        versions: list[ModelVersion] = []
        page = None
        while page is None or page.token:
            page = self.runs.client.search_model_versions(
                f"name = '{MODEL}'", max_results=1_000, page_token=page.token if page else None
            )
            versions += page
        return versions

    def _register(self, card: Card) -> None:
        """The card goes to the run that trained the version, which is made if MLflow does not have it."""
        self._model_aliases()  # makes the registered model
        run = self._run_of(card)
        self.runs.log_bytes(run, f"{FOLDER}/card.json", json.dumps(asdict(card), indent=2).encode())
        source = f"{self.runs.client.get_run(run).info.artifact_uri}/{FOLDER}"
        tags = {NAME_TAG: card.name, DIGEST_TAG: card.digest}
        self.runs.client.create_model_version(MODEL, source, run, tags)

    def _run_of(self, card: Card) -> str:
        found = self.runs.find(card.run_id)
        if found or self.runs.spool.facts(card.run_id):
            return found or self.runs.run_of(self.runs.spool.facts(card.run_id) or _facts(card))
        made = self.runs.run_of(_facts(card))
        self.runs.close(made, "FINISHED", _facts(card).begun_ms)
        self.runs.spool.unclaim(card.run_id)
        return made


def roles(decisions: list[Decision]) -> Mapping[str, str]:
    """Alias -> version. challenger: who competes by the ledger; else the newest candidate that was not taken since."""
    serves = decisions[-1].serves if decisions else None
    found = {"champion": serves, "previous": served_before(decisions)}
    for decision in reversed(decisions):
        if decision.challenger:
            found["challenger"] = decision.challenger
            break
        if decision.outcome != "kept":
            break
        if decision.candidate != serves:
            found["challenger"] = decision.candidate
            break
    return {alias: name for alias, name in found.items() if name}


def _facts(card: Card) -> RunFacts:
    made_ms = int(datetime.fromisoformat(card.created).timestamp() * 1_000)
    return RunFacts(card.run_id, f"trained {card.name}", made_ms, {"restored_from": "the model store"})
