"""What came of a study, for people: a table of its trials, and the record of the best."""

from typing import Any

from mnist_pipeline.jobs.targets import Settings
from mnist_pipeline.jobs.trials import Plan
from mnist_pipeline.ml.tuning.problems import Problem, Scored, Verdict
from mnist_pipeline.studies import Study, Trial


def result_name(target: str, partition: str = "") -> str:
    """The file of the best configuration, e.g. best/digit_classifier.json."""
    return f"best/{target}{'/' + partition if partition else ''}.json"


def table(study: Study, current: Settings) -> str:
    """Markdown: all trials, the best first, with what each has changed."""
    ranked = study.ranked()
    rest = [trial for trial in study.trials() if not trial.scored]
    lines = ["| rank | trial | score | seconds | changed |", "|---|---|---|---|---|"]
    for rank, trial in enumerate([*ranked, *rest], 1):
        score = f"{score_of(trial):.4f}" if trial.scored else f"{trial.state}: {trial.reason}"
        told = ", ".join(f"{name} {value}" for name, value in changes(trial, current).items()) or "nothing: today's"
        lines.append(f"| {rank if trial.scored else '–'} | {trial.number} | {score} | {trial.seconds:.1f} | {told} |")
    return "\n".join(lines)


def changes(trial: Trial, current: Settings) -> Settings:
    """What a trial has set otherwise than it is today."""
    return {name: value for name, value in trial.settings.items() if current.get(name) != value}


def record_of(plan: Plan, problem: Problem, best: Trial, today: Trial, verdict: Verdict) -> dict[str, Any]:
    """What is kept of the best trial, ready for JSON: its settings, how good they are, and for what that holds."""
    return {
        "reason": verdict.reason,
        "measure": problem.measure,
        "score": score_of(best),
        "current_score": score_of(today),
        "trial": best.number,
        "changed": changes(best, plan.current),
        "settings": best.settings,
        **{name: getattr(plan, name) for name in ("target", "partition", "study", "fixed", "data_version")},
    }


def scored_of(trial: Trial) -> Scored:
    """Of a trial in state "scored"."""
    assert trial.scored
    return trial.scored


def score_of(trial: Trial) -> float:
    """The same as one number."""
    return scored_of(trial).score
