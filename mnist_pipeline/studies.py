"""Studies: which configuration is tried next, and what came of all that were tried, shared between processes.

A study is an Optuna journal, one file each under the state folder of this machine: several processes append to it, and
a later run of the same study goes on from what is known. It is working knowledge and can be made again.
Not here: how a configuration is scored and judged (`ml/tuning/`), and the job (`jobs/tuning.py`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_pipeline.ml.tuning.problems import Abandoned, Scored
from mnist_pipeline.ml.tuning.spaces import Space, draw, inside

if TYPE_CHECKING:
    import optuna

SCORED, PRUNED, FAILED, RUNNING = "scored", "pruned", "failed", "running"
STATES = {"COMPLETE": SCORED, "PRUNED": PRUNED, "FAIL": FAILED, "RUNNING": RUNNING}
UNPRUNED_TRIALS = 4  # the first ones run to their end: there has to be a median to fall behind
UNPRUNED_STEPS = 2  # nothing is said about a training by its first epoch, or about a model by its first fold


class DamagedStudy(RuntimeError):
    """A journal that cannot be read."""


@dataclass(frozen=True)
class Trial:
    """One configuration that was tried. scored: in state "scored" only. run, step: that of Dagster."""

    number: int
    state: str
    settings: dict[str, Any]
    scored: Scored | None
    reached: float | None  # the last score on the way, where there was one
    seconds: float
    reason: str
    run: str
    step: str


class Asked:
    """A trial that was begun here, and has to be told."""

    def __init__(self, trial: optuna.Trial, settings: dict[str, Any]) -> None:
        self.number, self.settings, self._trial = trial.number, settings, trial
        self.is_current = bool(trial.user_attrs.get("current"))

    def report(self, step: int, score: float) -> None:
        """A score on the way. Raises Abandoned when it falls behind; the current configuration is never given up."""
        self._trial.report(score, step)
        if not self.is_current and self._trial.should_prune():
            raise Abandoned(f"{score:.4f} after step {step} is behind the median of the others")


class Study:
    """One study. Every answer is read anew."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name

    @property
    def facts(self) -> dict[str, Any]:
        """What it is about, as it was begun."""
        return dict(self._open().user_attrs)

    def trials(self) -> list[Trial]:
        """All that were begun, in order."""
        found = self._open().get_trials(deepcopy=False)
        return [_trial(each) for each in found if each.state.name in STATES]

    def ranked(self) -> list[Trial]:
        """All that were scored, the best first; of equals the one tried first."""
        done = [(trial.scored, trial) for trial in self.trials() if trial.scored]
        return [trial for _, trial in sorted(done, key=lambda d: (-d[0].score, d[0].loss, d[1].number))]

    def find(self, settings: Mapping[str, Any]) -> Trial | None:
        """Where exactly these settings were scored."""
        return next((trial for trial in self.ranked() if trial.settings == settings), None)

    def propose(self, space: Space, current: Mapping[str, Any]) -> None:
        """Have these settings tried next, unless they were scored or wait already."""
        study = self._open()
        waiting = [each for each in study.get_trials(deepcopy=False) if each.state.name == "WAITING"]
        if self.find(current) or any(each.user_attrs["settings"] == dict(current) for each in waiting):
            return
        drawn = inside(space, current)
        kept = {name: current[name] for name in space if name not in drawn}
        study.enqueue_trial(drawn, {"settings": dict(current), "kept": kept, "current": True})

    def ask(self, space: Space, base: Mapping[str, Any], seed: str, run: str, step: str) -> Asked:
        """Begin the next trial: base with a drawn value for each knob. Same seed, same trials before: the same."""
        trial = self._open(seed).ask()
        trial.set_user_attr("run", run)
        trial.set_user_attr("step", step)
        drawn = draw(space, trial, trial.user_attrs.get("kept", {}))
        settings = trial.user_attrs.get("settings") or {**base, **drawn}  # proposed ones have digits of their own
        trial.set_user_attr("settings", settings)
        return Asked(trial, settings)

    def tell_scored(self, number: int, scored: Scored, seconds: float) -> None:
        """It ran to its end."""
        import optuna

        self._note(number, **{**asdict(scored), "seconds": seconds})
        self._open().tell(number, scored.score, state=optuna.trial.TrialState.COMPLETE)

    def tell_pruned(self, number: int, reason: str, seconds: float) -> None:
        """It was given up: bad, which is knowledge too."""
        import optuna

        self._note(number, reason=reason, seconds=seconds)
        self._open().tell(number, state=optuna.trial.TrialState.PRUNED)

    def tell_failed(self, number: int, reason: str) -> None:
        """It broke: nothing is known about it."""
        import optuna

        self._note(number, reason=reason)
        self._open().tell(number, state=optuna.trial.TrialState.FAIL)

    def close(self, is_over: Callable[[Trial], bool], reason: str) -> list[int]:
        """Tell as failed what is still running and will never be told. Returns the numbers of those trials."""
        left = [trial.number for trial in self.trials() if trial.state == RUNNING and is_over(trial)]
        for number in left:
            self.tell_failed(number, reason)
        return left

    def _note(self, number: int, **facts: Any) -> None:
        study = self._storage.get_study_id_from_name(self.name)
        trial = self._storage.get_trial_id_from_study_id_trial_number(study, number)
        for name, value in facts.items():
            self._storage.set_trial_user_attr(trial, name, value)

    @cached_property
    def _storage(self) -> optuna.storages.JournalStorage:
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)  # the run's log says what it does
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return optuna.storages.JournalStorage(JournalFileBackend(str(self.path)))
        except ValueError as error:  # a line that is no JSON, or cut in the middle
            raise DamagedStudy(f"{self.path} is damaged ({error}): remove it, and the study begins anew") from error

    def _open(self, seed: str = "") -> optuna.Study:
        import optuna

        return optuna.create_study(
            storage=self._storage,
            study_name=self.name,
            direction="maximize",
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(seed=zlib.crc32(seed.encode())),
            pruner=optuna.pruners.MedianPruner(UNPRUNED_TRIALS, UNPRUNED_STEPS),
        )


@dataclass(frozen=True)
class Studies:
    """Studies in a folder of this machine."""

    folder: Path

    def begin(self, name: str, facts: Mapping[str, Any]) -> Study:
        """The study of this name, new or going on. facts: what it is about, to be read by people."""
        study = self.open(name)
        begun = study._open()
        for key, value in facts.items():
            begun.set_user_attr(key, value)
        return study

    def open(self, name: str) -> Study:
        """The study of this name."""
        return Study(self.folder / f"{name}.journal", name)

    def all(self) -> list[Study]:
        """Those that were begun."""
        return [self.open(path.stem) for path in sorted(self.folder.glob("*.journal"))]


def _trial(found: optuna.trial.FrozenTrial) -> Trial:
    state, facts = STATES[found.state.name], found.user_attrs
    value = found.values[0] if state == SCORED and found.values else None
    return Trial(
        number=found.number,
        state=state,
        settings=facts.get("settings", {}),
        scored=None if value is None else Scored(value, facts["loss"], facts["evidence"]),
        reached=found.intermediate_values[found.last_step] if found.last_step is not None else None,
        seconds=facts.get("seconds", 0.0),
        reason=facts.get("reason", ""),
        run=facts.get("run", ""),
        step=facts.get("step", ""),
    )
