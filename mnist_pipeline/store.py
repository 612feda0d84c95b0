"""The model store: versions that never change, reports about them, and decisions on what production serves.

Here: the one door to all three, and what binds them: a report to its version, a decision to a verified one.
Not here: what a version is (`model_versions.py`), the chain of decisions (`ledger.py`), bytes (`blobs.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mnist_pipeline.ledger import CorruptLedger, Decision, Ledger, LostRace, Outcome, Strategy
from mnist_pipeline.model_versions import CARD, Card, CorruptVersion, UnknownVersion, Versions, corrupt
from mnist_pipeline.storage.blobs import BlobExists, check_part
from mnist_pipeline.storage.sealed import canonical, now, read_canonical, sha256

__all__ = [
    "Card",
    "CorruptLedger",
    "CorruptReport",
    "CorruptVersion",
    "Decision",
    "LostRace",
    "ModelStore",
    "Outcome",
    "Strategy",
    "UnknownVersion",
]
_REPORT = re.compile(r"reports/[^/]+/([0-9a-f]{16})\.json")


class CorruptReport(Exception):
    """An evaluation report is not what was stored: its evidence counts for nothing."""


@dataclass(frozen=True)
class ModelStore(Versions):
    """Versions, reports and decisions over one blob store."""

    @property
    def ledger(self) -> Ledger:
        """The chain of decisions in the same blob store."""
        return Ledger(self.blobs)

    def add_report(self, report: Mapping[str, Any]) -> str:
        """Store a report about the version of `report["model_digest"]`; the same again gives the same key.

        Two versions may have the same files and so one digest: `report["version"]` then says which is meant.
        Raises ValueError for a report without digests or with a NaN, UnknownVersion.
        """
        if not report.get("model_digest") or not report.get("data_digest"):
            raise ValueError("a report needs the model_digest and the data_digest that it is about")
        data = canonical(report)
        key = f"reports/{self._version_of(report)}/{sha256(data)[:16]}.json"
        try:
            self.blobs.create(key, data)
        except BlobExists:
            self.report(key)  # it must be whole, though, or this raises CorruptReport
        return key

    def report(self, key: str) -> dict[str, Any]:
        """The report under `key`, verified against its name. Raises BlobMissing, CorruptReport."""
        data = self.blobs.read(key)
        match = _REPORT.fullmatch(key)
        if not match or match[1] != sha256(data)[:16]:
            raise CorruptReport(f"{key} is not a report as it was stored: evaluate that version again")
        return read_canonical(data)

    def reports(self, version: str) -> list[str]:
        """The keys of all reports about a version. Raises UnknownVersion, so that a typo is no empty list."""
        keys = self.blobs.list(f"reports/{check_part(version)}/")
        if not keys:
            self.card(version)
        return keys

    def decisions(self) -> list[Decision]:
        """All decisions, oldest first. Raises CorruptLedger."""
        return [self.ledger.read(number) for number in self.ledger.numbers()]

    def current(self) -> Decision | None:
        """The newest decision: it is what production serves. None before the first. Raises CorruptLedger."""
        return self.ledger.newest()

    def production(self) -> str | None:
        """The version that serves now; None if nothing was deployed. Raises CorruptLedger."""
        current = self.current()
        return current.serves if current else None

    def load_decided(self, decision: Decision) -> tuple[Card, dict[str, bytes]]:
        """Card and verified files of what `decision` serves.

        Raises CorruptVersion also when the card is whole but not the one that was decided on, UnknownVersion.
        """
        if decision.serves is None:
            raise UnknownVersion("nothing has been deployed yet: materialize production_digit_classifier first")
        return self._as_decided(decision, decision.serves, decision.card_digest)

    def load_challenger(self, decision: Decision) -> tuple[Card, dict[str, bytes]]:
        """The same of what competes by `decision`. Raises UnknownVersion where nothing does."""
        if decision.challenger is None:
            raise UnknownVersion(f"nothing competes by decision {decision.number}")
        return self._as_decided(decision, decision.challenger, decision.challenger_digest)

    def decide(
        self,
        *,
        serves: str | None,
        strategy: Strategy,
        outcome: Outcome,
        candidate: str | None,
        reason: str,
        evidence: Mapping[str, Any],
        actor: str,
        expected: int,
        request: str = "",
        challenger: str | None = None,
    ) -> Decision:
        """Record decision `expected` + 1, made in view of decision `expected` (0: there was none).

        challenger: who competes from now on; where the outcome is "kept", whoever competed before does.


        A version to be deployed or to challenge is first read and verified as a whole. request: whoever decides again
        for the same one gets the decision that it took this number with. Raises LostRace if somebody else has decided
        meanwhile, UnknownVersion, CorruptVersion, ValueError.
        """
        draft = Decision(
            number=expected + 1,
            serves=serves,
            card_digest=self._whole(serves)[2] if serves and outcome == "deployed" else "",
            strategy=strategy,
            outcome=outcome,
            candidate=candidate,
            reason=reason,
            evidence=dict(evidence),
            actor=actor,
            time=now(),
            previous="",
            request=request,
            challenger=challenger,
            challenger_digest=self._whole(challenger)[2] if challenger and outcome == "challenged" else "",
        )
        return self.ledger.append(draft)

    def verify_chain(self) -> list[str]:
        """What is wrong with the decisions and the cards they were made on; [] when all is as it was written.

        No chain knows that its newest links were cut off: what was answered since may (`witnesses.py`).
        """
        problems = self.ledger.problems()
        if problems:
            return problems
        decisions = self.decisions()
        cards: dict[tuple[str, str], int] = {}
        for each in decisions:
            for version, digest in ((each.serves, each.card_digest), (each.challenger, each.challenger_digest)):
                if version:
                    cards[version, digest] = each.number
        needed = {decisions[-1].serves, decisions[-1].challenger} if decisions else set()
        checked = (self._card_problem(*card, number, needed) for card, number in cards.items())
        return [problem for problem in checked if problem]

    def _as_decided(self, decision: Decision, version: str, digest: str) -> tuple[Card, dict[str, bytes]]:
        card, files, found = self._whole(version)
        if found != digest:
            raise corrupt(card.name, CARD, f"it is not the card that decision {decision.number} was made on")
        return card, files

    def _version_of(self, report: Mapping[str, Any]) -> str:
        """The one version that a report is about."""
        digest, named = str(report["model_digest"]), report.get("version")
        similar = [named] if named else [name for name in self.versions() if name.endswith(f"-{digest[:12]}")]
        found = [name for name in similar if self.card(name).digest == digest]
        if len(found) != 1:
            raise UnknownVersion(
                f"a report about model digest {digest}, version {named or 'not given'}, fits "
                f"{' and '.join(found) or 'none'}: give the digest of a stored one and its name, 'version'"
            )
        return found[0]

    def _card_problem(self, version: str, digest: str, number: int, needed: Collection[str | None]) -> str | None:
        """What is wrong with the card of decision `number`; a version that is not needed may have been pruned."""
        try:
            if self._card(version)[1] != digest:
                return f"{version}: {CARD} is not the one that decision {number} was made on"
        except UnknownVersion as error:
            return str(error) if version in needed else None
        except CorruptVersion as error:
            return str(error)
        return None
