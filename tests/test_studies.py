"""Studies: asked and told from several processes, going on where they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnist_pipeline.ml.tuning.problems import Abandoned, Scored
from mnist_pipeline.ml.tuning.spaces import Choices, Floats, Space
from mnist_pipeline.studies import FAILED, PRUNED, RUNNING, SCORED, DamagedStudy, Studies, Study

SPACE: Space = {"x": Floats(0, 1), "kind": Choices(("a", "b"))}
BASE = {"x": 0.5, "kind": "a", "epochs": 3}


@pytest.fixture
def studies(tmp_path: Path) -> Studies:
    return Studies(tmp_path / "studies")


@pytest.fixture
def study(studies: Studies) -> Study:
    return studies.begin("peaks", {"about": "peaks"})


def ask(study: Study, slot: int, step: str = "s") -> int:
    return study.ask(SPACE, BASE, f"7 {slot}", "run", step).number


def score(study: Study, number: int, value: float, loss: float = 0.0) -> None:
    study.tell_scored(number, Scored(value, loss, [1, 2]), 0.1)


def states(study: Study) -> list[str]:
    return [trial.state for trial in study.trials()]


def test_what_was_told_is_there_for_whoever_opens_it(studies: Studies, study: Study) -> None:
    score(study, ask(study, 0), 0.7)
    study.tell_pruned(ask(study, 1), "behind", 0.2)
    study.tell_failed(ask(study, 2), "ValueError: no")
    ask(study, 3)
    again = studies.open("peaks")
    assert again.facts == {"about": "peaks"}
    assert states(again) == [SCORED, PRUNED, FAILED, RUNNING]
    first, second, third, fourth = again.trials()
    assert first.scored == Scored(0.7, 0.0, [1, 2])
    assert (second.reason, third.reason, fourth.run) == ("behind", "ValueError: no", "run")
    assert {trial.settings["epochs"] for trial in again.trials()} == {3}
    assert [each.name for each in studies.all()] == ["peaks"]


def test_the_current_configuration_is_first_and_is_tried_once(study: Study) -> None:
    study.propose(SPACE, BASE)
    study.propose(SPACE, BASE)
    asked = study.ask(SPACE, BASE, "7 0", "run", "s")
    assert asked.settings == BASE
    assert asked.is_current
    score(study, asked.number, 0.5)
    study.propose(SPACE, BASE)
    assert not study.ask(SPACE, BASE, "7 1", "run", "s").is_current
    found = study.find(BASE)
    assert found
    assert found.number == 0


def test_a_current_configuration_that_broke_is_proposed_anew(study: Study) -> None:
    study.propose(SPACE, BASE)
    study.tell_failed(ask(study, 0), "out of memory")
    study.propose(SPACE, BASE)
    assert study.ask(SPACE, BASE, "7 1", "run", "s").is_current


def test_values_that_the_space_does_not_have_are_tried_as_they_are(study: Study) -> None:
    outside = {"x": 12.345678, "kind": "a", "epochs": 3}
    study.propose(SPACE, outside)
    assert study.ask(SPACE, outside, "7 0", "run", "s").settings == outside


def test_the_same_seed_gives_the_same_study_and_another_another(studies: Studies) -> None:
    def settings(name: str, seed: str) -> list[dict[str, object]]:
        study = studies.begin(name, {})
        for slot in range(12):  # beyond the ten that are drawn at random
            asked = study.ask(SPACE, BASE, f"{seed} {slot}", "run", "s")
            score(study, asked.number, asked.settings["x"])
        return [trial.settings for trial in study.trials()]

    assert settings("one", "1") == settings("two", "1")
    assert settings("one more", "2") != settings("two", "1")


def test_the_best_comes_first_and_equals_by_their_loss(study: Study) -> None:
    for slot, (value, loss) in enumerate([(0.5, 0.1), (0.9, 0.3), (0.9, 0.2), (0.9, 0.3)]):
        score(study, ask(study, slot), value, loss)
    assert [trial.number for trial in study.ranked()] == [2, 1, 3, 0]


def run_to(study: Study, slot: int, value: float) -> None:
    asked = study.ask(SPACE, BASE, f"7 {slot}", "run", "s")
    for step in (1, 2, 3):
        asked.report(step, value)
    score(study, asked.number, value)


def test_what_falls_behind_is_abandoned_after_the_first_trials_and_steps(study: Study) -> None:
    for slot, value in enumerate([0.9, 0.1, 0.8, 0.85]):
        run_to(study, slot, value)
    late = study.ask(SPACE, BASE, "7 4", "run", "s")
    late.report(1, 0.2)
    with pytest.raises(Abandoned, match=r"0\.2000 after step 2 is behind the median"):
        late.report(2, 0.2)
    run_to(study, 5, 0.95)


def test_the_current_configuration_is_never_abandoned(study: Study) -> None:
    for slot in range(4):
        run_to(study, slot, 0.9)
    study.propose(SPACE, BASE)
    run_to(study, 4, 0.1)
    assert study.trials()[4].scored == Scored(0.1, 0.0, [1, 2])


def test_what_will_never_be_told_is_closed(study: Study) -> None:
    score(study, ask(study, 0), 0.5)
    ask(study, 1, "mine")
    ask(study, 2, "another's")
    assert study.close(lambda trial: trial.step == "mine", "killed") == [1]
    assert states(study) == [SCORED, FAILED, RUNNING]
    assert study.trials()[1].reason == "killed"


def test_a_damaged_journal_says_so(studies: Studies, study: Study) -> None:
    ask(study, 0)
    study.path.write_bytes(study.path.read_bytes()[:-20] + b"\n{}\n")
    with pytest.raises(DamagedStudy, match=r"peaks\.journal is damaged .*: remove it"):
        studies.open("peaks").trials()
