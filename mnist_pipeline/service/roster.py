"""Which models serve: the champion, as the newest decision says, and a challenger where one is named.

A thread looks at the ledger. What it finds is loaded, verified, warmed up and only then put in place, in one
assignment, so that a request sees either the old or the new one. Whatever fails, the old one serves on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mnist_pipeline.alerts.doors import Alerter
from mnist_pipeline.alerts.kinds import alert
from mnist_pipeline.ledger import CorruptLedger, Decision
from mnist_pipeline.ml.digits import SIDE, Preparation, preparation_named
from mnist_pipeline.ml.predictor import Predictor, WrongAnswers
from mnist_pipeline.service.telling import Telling
from mnist_pipeline.storage.blobs import BlobMissing, StoreUnavailable
from mnist_pipeline.store import Card, CorruptVersion, ModelStore, UnknownVersion

FIRST_S = 10.0  # that the service waits for the first look before it answers
LOOK_S = 0.5  # between two looks at the ledger; a decision is to serve within 2 s
WHOLE_LOOK = 60  # looks after which the ledger is listed, and not only asked for the next number
AGAIN_S = 10.0  # before what was refused is tried again: a file may have been restored
WARM_UP = (1, 2, 8, 16)  # images a run; the first run of a size is slower
THREADS = 1  # of one run: others would wait for each other, and for the event loop

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Serving:
    """A verified model that answers. role: champion or challenger; decision: the number that holds now.

    digest: of the card that was decided on, "" where MNIST_CHALLENGER named it. shadow_only: the predecessor of a
    promoted champion, which is there to compare with, and answers nobody whatever the share.
    """

    role: str
    card: Card
    predictor: Predictor
    decision: int
    digest: str = ""
    shadow_only: bool = False

    @property
    def names(self) -> list[str]:
        """Of the classes."""
        return self.card.class_names

    @property
    def preparation(self) -> Preparation:
        """How images are made 28×28 for it."""
        return preparation_named(self.card.preparation)


@dataclass(frozen=True)
class NotServed:
    """What was decided on and cannot serve. decision: 0 for a challenger."""

    decision: int
    version: str
    reason: str


@dataclass(frozen=True)
class Standing:
    """Everything that a request needs to know, at one moment."""

    champion: Serving | None = None
    decision: Decision | None = None
    challenger: Serving | None = None
    refused: NotServed | None = None
    refused_challenger: NotServed | None = None


class Unlike(ValueError):
    """A model that is not as its card says, or a challenger that cannot compete with the champion."""


class Roster:
    """Looks after `standing`, which anyone may read at any time.

    challenger: a version; "" for the one that the ledger names. alerter: where it is told when a model is refused.
    """

    def __init__(self, store: ModelStore, alerter: Alerter, challenger: str = "", look_s: float = LOOK_S) -> None:
        self.standing = Standing()
        self.reached = True  # whether the store could be read at the last look
        self._store, self._named, self._look_s = store, challenger, look_s
        self._looks, self._again, self._challenger_again = 0, 0.0, 0.0
        self._telling = Telling(alerter)
        self._ends, self._looked = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="roster", daemon=True)

    def start(self) -> None:
        """Begin to look, and wait for the first look, so that who is ready is ready; not for a store that is slow."""
        self._telling.start()
        self._thread.start()
        self._looked.wait(FIRST_S)

    def stop(self) -> None:
        """End both threads."""
        self._ends.set()
        self._thread.join(timeout=5)
        self._telling.stop()

    def look(self) -> None:
        """One look. Raises nothing: what is wrong is kept in `standing`, logged and told."""
        try:
            if self._is_something_new():
                self._follow()
            self._follow_challenger()
            self._note_reached(None)
        except StoreUnavailable as error:
            self._note_reached(error)

    def _watch(self) -> None:
        ended = False
        while not ended:
            try:
                self.look()
            except Exception:  # the thread must not end: nobody would notice new decisions any more
                log.exception("looking for a new decision failed; it is tried again")
            self._looked.set()
            ended = self._ends.wait(self._look_s)

    def _is_something_new(self) -> bool:
        """Asks for the next number only, most of the time: listing a ledger in S3 costs ten times as much."""
        self._looks += 1
        refused, decision = self.standing.refused, self.standing.decision
        if (
            not self.reached
            or not (refused or decision)
            or self._looks % WHOLE_LOOK == 0
            or (refused and time.monotonic() >= self._again)
        ):
            return True
        known = refused.decision if refused else decision.number if decision else 0
        try:
            self._store.ledger.read(known + 1)
        except BlobMissing:
            return False
        except CorruptLedger:
            pass  # it is there, and told by whoever reads it next
        return True

    def _follow(self) -> None:
        standing = self.standing
        try:
            decision = self._store.current()
        except CorruptLedger as error:
            return self._refuse(max(self._store.ledger.numbers(), default=0), "", error)
        if decision is None and standing.decision:  # a ledger only grows: a disk is gone, or a bucket is another
            was = standing.decision.number
            raise StoreUnavailable(
                f"the ledger is empty, though it had decision {was}: is the right disk or bucket there?"
            )
        if decision is None or decision.serves is None:
            self.standing = replace(standing, champion=None, decision=decision, refused=None)
            return None
        held = standing.champion
        if held and standing.decision and _same_model(standing.decision, decision):
            self._serve(replace(held, decision=decision.number), decision)
            return None
        try:
            card, files = self._store.load_decided(decision)
            self._serve(Serving("champion", card, _able(card, files), decision.number), decision)
        except StoreUnavailable:
            raise
        except Exception as error:  # whatever is wrong with it: it does not serve
            return self._refuse(decision.number, decision.serves, error)
        log.info("decision %d: %s serves", decision.number, decision.serves)
        return None

    def _serve(self, champion: Serving, decision: Decision) -> None:
        rival = self.standing.challenger
        if rival and (rival.card.name == champion.card.name or rival.names != champion.names):
            rival = None  # it has won, or cannot compete any more
        if rival and not self._named and _wanted(decision) != (rival.card.name, rival.digest, rival.shadow_only):
            rival = None  # the contest has ended, or another has begun
        self.standing = replace(
            self.standing,
            champion=champion,
            decision=decision,
            challenger=rival and replace(rival, decision=decision.number),
            refused=None,
        )

    def _refuse(self, number: int, version: str, error: Exception) -> None:
        refused = NotServed(number, version, _reason(error))
        self._again = time.monotonic() + AGAIN_S
        if refused != self.standing.refused:
            self._tell(refused, f"decision {number}")
        self.standing = replace(self.standing, refused=refused)

    def _follow_challenger(self) -> None:
        """MNIST_CHALLENGER's, or the ledger's; the champion is never kept waiting or taken along by it."""
        standing, name = self.standing, self._rival()
        if standing.refused_challenger and standing.refused_challenger.version != name:
            standing = self.standing = replace(standing, refused_challenger=None)
        waits = standing.refused_challenger and time.monotonic() < self._challenger_again
        if not name or standing.challenger or waits or not standing.champion or standing.champion.card.name == name:
            return
        try:
            challenger = self._challenger(name, standing.champion)
        except StoreUnavailable:
            raise
        except Exception as error:
            refused = NotServed(0, name, _reason(error))
            self._challenger_again = time.monotonic() + AGAIN_S
            if refused != standing.refused_challenger:
                self._tell(refused, "the challenger")
            self.standing = replace(standing, refused_challenger=refused)
            return
        self.standing = replace(standing, challenger=challenger, refused_challenger=None)

    def _rival(self) -> str:
        decision = self.standing.decision
        return self._named or (decision.challenger if decision else None) or ""

    def _challenger(self, name: str, champion: Serving) -> Serving:
        """Raises Unlike and others."""
        decision = self.standing.decision
        if self._named or decision is None:
            card, files, digest, shadow_only = self._store.card(name), self._store.load(name), "", False
        else:
            card, files = self._store.load_challenger(decision)
            _, digest, shadow_only = _wanted(decision)
        predictor = _able(card, files)
        if card.class_names != champion.names:
            raise Unlike(f"it knows other classes than {champion.card.name}, so they cannot compete")
        return Serving("challenger", card, predictor, champion.decision, digest, shadow_only)

    def _note_reached(self, error: StoreUnavailable | None) -> None:
        if error and self.reached:
            log.error("the model store cannot be read; what serves serves on: %s", error)
        if not error and not self.reached:
            log.info("the model store can be read again")
        self.reached = error is None

    def _tell(self, refused: NotServed, what: str) -> None:
        champion = self.standing.champion
        log.error("%s is not served: %s", what, refused.reason)
        cause = f"{refused.version}: {refused.reason}. {champion.card.name if champion else 'Nothing'} serves on."
        identity = f"service/{refused.decision}/{refused.version}"
        self._telling.tell(alert(identity, "not_served", f"The service does not serve {what}", cause))


def _reason(error: Exception) -> str:
    """What clients may read. Errors of ours are written for people and name no path; of others only the kind is."""
    if isinstance(error, CorruptLedger | CorruptVersion | UnknownVersion | WrongAnswers | Unlike):
        return str(error)
    log.error("the model cannot be loaded", exc_info=error)
    return f"it cannot be loaded ({type(error).__name__}); the service's log says more"


def _wanted(decision: Decision) -> tuple[str, str, bool]:
    """Of the challenger: version, digest of its card, and whether it stays in the shadow, whatever the share."""
    return decision.challenger or "", decision.challenger_digest, decision.watches


def _same_model(held: Decision, newest: Decision) -> bool:
    return (held.serves, held.card_digest) == (newest.serves, newest.card_digest)


def _able(card: Card, files: Mapping[str, bytes]) -> Predictor:
    """Verified, warmed up and as its card says: each request would fail otherwise. Raises Unlike and others."""
    predictor = warmed(Predictor.load(files, THREADS))
    outputs = predictor.predict(np.zeros((1, SIDE, SIDE), np.uint8)).probabilities.shape[1]
    if outputs != len(card.class_names):
        raise Unlike(f"it gives {outputs} probabilities, but its card names {len(card.class_names)} classes")
    preparation_named(card.preparation)
    return predictor


def warmed(predictor: Predictor) -> Predictor:
    """After the first run of each size, which takes longer than all others."""
    for count in WARM_UP:
        predictor.predict(np.zeros((count, SIDE, SIDE), np.uint8))
    return predictor
