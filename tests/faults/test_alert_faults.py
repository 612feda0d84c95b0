"""Alerts with the real daemon, real runs by CLI and a Slack on a real socket that is away, or slow, or asks to wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import InstigatorStatus, TickStatus
from fault_table import Tried
from pipelines import at_home, call, instance_of
from processes import Process, daemon, running, wait
from slack_stand_in import SlackStandIn, slack_stand_in

PATIENCE_S = 240.0  # the sensor ticks every 30 s; the rest is for computers that have other work


@pytest.fixture
def slack() -> Iterator[SlackStandIn]:
    with slack_stand_in() as made:
        yield made


@pytest.fixture
def env(tmp_path: Path, slack: SlackStandIn) -> dict[str, str]:
    sent = {"SLACK_API_URL": slack.url, "MNIST_HEARTBEAT_URL": slack.url}
    return at_home(
        tmp_path, MNIST_DATASET="embedded", SLACK_BOT_TOKEN="xoxb-1234-abcdefgh", SLACK_CHANNEL="C012", **sent
    )


@pytest.fixture
def started(env: dict[str, str], tmp_path: Path) -> Iterator[Process]:
    process = daemon(env, tmp_path / "daemon.log").start()
    yield process
    process.end()


def until(true: Callable[[], bool], what: str, process: Process) -> None:
    def seen() -> bool:
        assert process.child is not None
        assert process.child.poll() is None, f"the daemon ended:\n{process.tail()}"
        return true()

    try:
        wait(what, seen, PATIENCE_S)
    except TimeoutError as error:
        raise AssertionError(f"{error}:\n{process.tail()}") from error


def fails(env: dict[str, str], folder: str) -> str:
    """A run by CLI that cannot find its data; returns what its alert has to name."""
    command = ("-m", "dagster", "asset", "materialize", "-m", "mnist_pipeline.definitions")
    done = call(*command, "--select", "key:raw_mnist_data", **{**env, "MNIST_DATASET": "idx", "MNIST_DATA_DIR": folder})
    assert done.returncode != 0
    return folder


@pytest.mark.slow
def test_no_alert_is_lost_or_doubled_whatever_slack_and_the_daemon_do(
    env: dict[str, str], started: Process, slack: SlackStandIn, tried: Tried
) -> None:
    def told(folder: str) -> int:
        return sum(folder in text for text in slack.texts)

    def refused(more: int) -> Callable[[], bool]:
        wanted = len(slack.calls) + more
        return lambda: len(slack.calls) >= wanted

    done: dict[str, list[str]] = {}
    done["none at all, a run fails by CLI"] = [fails(env, "/nowhere/calm")]
    until(lambda: told("/nowhere/calm") > 0, "the first message", started)

    slack.always = "500"
    done["Slack answers 500 over two ticks"] = [fails(env, "/nowhere/five-hundred")]
    until(refused(2), "two refusals", started)
    slack.always = "429 1"
    done["Slack asks to wait (429) over two ticks, and once more"] = [fails(env, "/nowhere/busy")]
    until(refused(2), "being asked to wait", started)
    slack.answers, slack.always = ["", "429 1", ""], ""
    until(lambda: told("/nowhere/busy") > 0, "the messages after the outage", started)

    slack.always = "500"
    done["kill -9 of the daemon while Slack is down"] = [fails(env, "/nowhere/killed")]
    until(refused(1), "a refusal", started)
    started.kill()
    done["a run fails while the daemon is dead"] = [fails(env, "/nowhere/dead")]
    started.start()
    until(refused(1), "a refusal after the restart", started)
    slack.always = ""
    until(lambda: told("/nowhere/dead") > 0 and told("/nowhere/killed") > 0, "the messages after the restart", started)

    beats = slack.beats
    until(lambda: slack.beats > beats + 1, "signs of life", started)  # two minutes in which nothing may be said again
    for fault, folders in done.items():
        assert [told(folder) for folder in folders] == [1] * len(folders), fault
        tried(f"alerts: {fault}", len(folders))
    assert len(slack.messages) == len(done)  # and nothing else was said: all sensors tick, all daemons live


def switch(instance: dg.DagsterInstance, name: str, status: InstigatorStatus) -> None:
    """As the UI does it."""
    (state,) = (each for each in instance.all_instigator_state() if each.instigator_name == name)
    instance.update_instigator_state(state.with_status(status))


def has_failed(instance: dg.DagsterInstance, name: str) -> bool:
    states = [each for each in instance.all_instigator_state() if each.instigator_name == name]
    found = [instance.get_ticks(each.instigator_origin_id, each.selector_id) for each in states]
    return any(tick.status == TickStatus.FAILURE for ticks in found for tick in ticks)


@pytest.mark.slow
def test_what_is_switched_off_or_fails_under_a_real_daemon_is_told_with_what_to_do(
    env: dict[str, str], tmp_path: Path, slack: SlackStandIn
) -> None:
    """Those who watch each other, too: `alerts` tells that `watch` is off."""

    def told(title: str) -> list[str]:
        return [text for text in slack.texts if title in text]

    process = daemon(env, tmp_path / "daemon.log", ("-f", str(Path(__file__).with_name("watched_place.py"))))
    with instance_of(env) as instance, running(process, lambda: len(instance.all_instigator_state()) == 4):
        switch(instance, "ears", InstigatorStatus.STOPPED)
        switch(instance, "watch", InstigatorStatus.STOPPED)
        until(lambda: bool(told("sensor watch is switched off")), "what alerts says of watch", process)
        until(lambda: has_failed(instance, "broken"), "the schedule's failed tick", process)
        switch(instance, "watch", InstigatorStatus.RUNNING)
        until(lambda: len(told("ears is switched off") + told("broken fails")) == 2, "what watch says", process)
        until(lambda: bool(told("Over: sensor watch is switched off")), "that watch is back", process)
    (off,), (fails,) = told("sensor ears is switched off"), told("schedule broken fails")
    assert "*What to do*  Somebody switched it off. Switch it on again under Automation" in off
    assert "RuntimeError: the calendar is gone" in fails
    assert "watched_place.py" in fails
    assert "*What to do*  Open its ticks under Automation, remove the cause" in fails
    assert slack.beats > 0
