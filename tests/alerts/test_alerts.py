"""Alerts: what a message looks like, what never leaves in one, and how Slack's moods are borne."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines import PROD
from slack_sdk import WebClient
from slack_stand_in import SlackStandIn, slack_stand_in

from mnist_pipeline.alerts.doors import AlertsUndelivered, LogAlerter, SlackAlerter, UrlHeartbeat
from mnist_pipeline.alerts.kinds import AT_ONCE, KINDS, Alert, alert, batches
from mnist_pipeline.alerts.messages import digest, plain, single
from mnist_pipeline.alerts.redaction import GONE, Redaction
from mnist_pipeline.resources import Alerts, dev_resources, prod_resources

TOKEN = PROD["SLACK_BOT_TOKEN"]
UI = "http://ui.example:3000"


def some(number: int = 1, **more: Any) -> Alert:
    told = {
        "title": "Run failed: training",
        "cause": "ValueError: no such file\n  at assets/data.py:12",
        "job": "training",
        "asset": "raw_mnist_data",
        "link": f"{UI}/runs/{number}",
    }
    return alert(f"run{number}:failed", "run_failed", **{**told, **more})


@pytest.fixture
def slack() -> Iterator[SlackStandIn]:
    with slack_stand_in() as made:
        yield made


@pytest.fixture
def door(slack: SlackStandIn) -> SlackAlerter:
    client = WebClient(TOKEN, base_url=slack.url, timeout=1, retry_handlers=[])
    return SlackAlerter(client, "C012", Redaction(("hunter2-long",)), f"{UI}/runs", pause=waited.append)


waited: list[float] = []


@pytest.fixture(autouse=True)
def nobody_waited() -> None:
    waited.clear()


def strings(message: Any) -> list[str]:
    if isinstance(message, str):
        return [message]
    inner = message.values() if isinstance(message, dict) else message if isinstance(message, list) else []
    return [text for each in inner for text in strings(each)]


# --- what a message says ---


def test_a_message_has_job_asset_cause_link_and_what_to_do() -> None:
    message = single(some())
    whole = "\n".join(strings(message["blocks"]))
    for part in ("Run failed: training", "raw_mnist_data", "ValueError: no such file", "assets/data.py:12"):
        assert part in whole
    assert f"<{UI}/runs/1|Open in Dagster>" in whole
    assert KINDS["run_failed"].to_do.replace(">", "&gt;") in whole
    assert "Run failed: training: ValueError: no such file" in message["text"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_to_do(kind: str) -> None:
    made = alert("x:y", kind, "title", "cause")
    assert made.severity in ("error", "warning", "info")
    assert len(made.to_do) > 10


def test_what_slack_would_take_for_markup_or_a_mention_is_escaped() -> None:
    message = single(some(cause="<!channel> a < b & c > d ``` <http://evil|click>", job="<@U1>"))
    for text in [*strings(message["blocks"][1:]), message["text"]]:
        assert "<!channel>" not in text
        assert "<@U1>" not in text
        assert "|click>" not in text
    cause = next(text for text in strings(message["blocks"]) if text.startswith("*Cause*"))
    assert cause.count("```") == 2
    assert "a &lt; b &amp; c &gt; d" in cause


def test_a_link_cannot_be_closed_from_inside_and_a_bad_one_is_only_its_label() -> None:
    assert "<http://ui/a%3Eb%7Cc|Open in Dagster>" in strings(single(some(link="http://ui/a>b|c"))["blocks"])
    assert "Open in Dagster" in strings(single(some(link="javascript:alert(1)"))["blocks"])


def test_up_to_five_go_out_one_by_one_and_more_as_one_digest() -> None:
    assert [len(batch) for batch in batches([some(n) for n in range(AT_ONCE)])] == [1] * AT_ONCE
    assert [len(batch) for batch in batches([some(n) for n in range(AT_ONCE + 1)])] == [AT_ONCE + 1]
    assert batches([]) == []


def test_a_digest_counts_by_job_and_cause_and_links_the_first_ten() -> None:
    many = [some(n) for n in range(987)] + [
        some(n, job="nightly", cause="OSError: disk full") for n in range(987, 1000)
    ]
    whole = "\n".join(strings(digest(many, f"{UI}/runs")))
    assert "1,000 alerts" in whole
    assert "987 × run failed, training: ValueError: no such file" in whole
    assert "13 × run failed, nightly: OSError: disk full" in whole
    assert whole.count(f"<{UI}/runs/") == 10
    assert f"<{UI}/runs|All runs>" in whole
    assert whole.count("Open the run, remove the cause") == 1  # what to do, once for each kind


def test_a_digest_of_a_thousand_causes_says_how_many_it_leaves_out() -> None:
    whole = "\n".join(strings(digest([some(n, cause=f"E: {n}") for n in range(1000)], "")))
    assert "and 990 other causes" in whole


anything = st.text(max_size=4_000) | st.text(alphabet="<>&`|\ud800\U0001f600\x00é", max_size=4_000)


@settings(max_examples=150, deadline=None)
@given(title=anything, cause=anything, job=anything, link=anything, count=st.integers(1, 12))
def test_whatever_is_said_slack_takes_it(title: str, cause: str, job: str, link: str, count: int) -> None:
    """Header 150, section 3,000, at most 50 blocks, nothing empty, valid UTF-8; lengths as JavaScript counts them."""
    clean = Redaction()
    made = [
        Alert(f"{n}:x", "run_failed", clean(title), clean(cause), clean(job), clean(job), clean(link))
        for n in range(count)
    ]
    message = single(made[0]) if count == 1 else digest(made, clean(link))
    assert len(message["blocks"]) <= 50
    for block in message["blocks"]:
        text = block["text"]["text"]
        assert 0 < len(text.encode("utf-16-le")) // 2 <= (150 if block["type"] == "header" else 3_000)
        assert text.strip()
    assert len(message["text"]) < 4_000
    assert message["text"].strip()


# --- secrets ---

secrets = st.text(st.characters(codec="utf-8", exclude_characters="[]", min_codepoint=33), min_size=8, max_size=60)


@settings(max_examples=200, deadline=None)
@given(secret=secrets, before=st.text(max_size=2_500), after=st.text(max_size=50), twice=st.booleans())
def test_the_value_of_a_secret_variable_never_leaves(secret: str, before: str, after: str, twice: bool) -> None:
    """Also where the message is cut in its middle."""
    redaction = Redaction.of({"SOME_TOKEN": secret, "HOME": "/home/x"})
    cause = redaction(before + secret * (1 + twice) + after)
    message = single(Alert("a:b", "run_failed", redaction(secret), cause, link=redaction(f"http://ui/{secret}")))
    shown = "".join(strings(message)).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    if secret.strip() not in before + after and secret not in "".join(strings(single(some()))):
        assert secret.strip() not in shown


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("token xoxb-12-34-abCD not accepted", "xoxb-12-34-abCD"),
        ("AKIAIOSFODNN7EXAMPLE has no access", "AKIAIOSFODNN7EXAMPLE"),
        ("postgresql://dagster:p@ss/word@db:5432/x failed", "p@ss/word"),
        ("https://user:secret99@proxy.example", "secret99"),
        ("{'password': 'correct-horse'}", "correct-horse"),
        ("aws_secret_access_key=wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI"),
        ("Authorization: Bearer abcdef123456", "abcdef123456"),
        ("POST https://hooks.slack.com/services/T0/B0/xyz", "T0/B0/xyz"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "ghp_abcdefghijklmnop"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc", "MIIE"),
    ],
)
def test_what_looks_like_a_secret_is_removed_without_being_known(text: str, secret: str) -> None:
    assert secret not in Redaction()(text)
    assert GONE in Redaction()(text)


def test_a_secret_is_found_in_other_spellings_too() -> None:
    redaction = Redaction.of({"DB_PASSWORD": "pä ss/w'rd&1"})
    assert GONE in redaction("https://x/?p=p%C3%A4%20ss%2Fw%27rd%261")
    assert redaction("it's 'pä ss/w\\'rd&1'").count(GONE) == 1


def test_which_variables_are_secret_is_seen_by_their_names_and_by_urls() -> None:
    env = {
        "SLACK_BOT_TOKEN": "tttttttt",
        "AWS_SECRET_ACCESS_KEY": "kkkkkkkk",
        "DAGSTER_PG_URL": "postgresql://u:pppppppp@h/db",
        "PWD": "/home/someone",
        "MNIST_DATASET": "embedded",
        "SHORT_TOKEN": "abc",
    }
    assert Redaction.of(env).secrets == ("kkkkkkkk", "pppppppp", "tttttttt")
    assert Redaction.of(env)("in /home/someone embedded abc") == "in /home/someone embedded abc"


# --- Slack's moods ---


def test_a_message_reaches_the_channel_with_the_token_and_without_secrets(
    door: SlackAlerter, slack: SlackStandIn
) -> None:
    door.send([some(cause="RuntimeError: hunter2-long was wrong")])
    (message,) = slack.messages
    assert message["channel"] == "C012"
    assert slack.tokens == [f"Bearer {TOKEN}"]
    assert "hunter2-long" not in slack.texts[0]
    assert f"{GONE} was wrong" in slack.texts[0]


def test_several_alerts_are_one_message(door: SlackAlerter, slack: SlackStandIn) -> None:
    door.send([some(n) for n in range(7)])
    assert len(slack.messages) == 1
    assert "7 alerts" in slack.texts[0]


def test_too_many_requests_are_waited_out_within_bounds(door: SlackAlerter, slack: SlackStandIn) -> None:
    slack.answers = ["429 3", "429 4", ""]
    door.send([some()])
    assert (waited, len(slack.messages)) == ([3.0, 4.0], 1)


@pytest.mark.parametrize("answers", [["429 60"], ["429 6", "429 6"]])
def test_a_wait_beyond_the_bound_is_left_to_the_next_tick(
    door: SlackAlerter, slack: SlackStandIn, answers: list[str]
) -> None:
    slack.answers = list(answers)
    with pytest.raises(AlertsUndelivered, match=r"ratelimited.*tried again at the next tick"):
        door.send([some()])
    assert len(slack.calls) == len(answers)
    assert sum(waited) <= 10


@pytest.mark.parametrize(
    ("answer", "cure"),
    [
        ("invalid_auth", "SLACK_BOT_TOKEN is not accepted"),
        ("channel_not_found", "SLACK_CHANNEL 'C012' is not known to the bot"),
        ("not_in_channel", "invite the bot into 'C012'"),
        ("500", "500"),
        ("something_new", "something_new"),
    ],
)
def test_a_refusal_is_raised_with_its_cure(door: SlackAlerter, slack: SlackStandIn, answer: str, cure: str) -> None:
    slack.answers = [answer]
    with pytest.raises(AlertsUndelivered, match=cure) as raised:
        door.send([some()])
    assert TOKEN not in str(raised.value)
    assert len(slack.calls) == 1  # no second try that could say it twice


def test_a_slack_that_does_not_answer_is_given_up_on(door: SlackAlerter, slack: SlackStandIn) -> None:
    slack.answers = ["hang"]
    with pytest.raises(AlertsUndelivered, match="cannot be reached"):
        door.send([some()])


def test_nobody_at_the_address() -> None:
    door = SlackAlerter(WebClient(TOKEN, base_url="http://127.0.0.1:1/", timeout=1, retry_handlers=[]), "C012")
    with pytest.raises(AlertsUndelivered, match=r"cannot be reached at http://127.0.0.1:1/"):
        door.send([some()])


def test_the_bot_says_who_it_is(door: SlackAlerter) -> None:
    assert door.check() == "mnist in digits"


# --- the log, the heartbeat, the resource ---


def test_without_slack_the_same_alerts_are_logged_in_full(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("test_alerts")
    with caplog.at_level(logging.INFO):
        LogAlerter(log, Redaction(("hunter2-long",))).send([some(n, cause=f"E{n}: hunter2-long") for n in range(9)])
    assert len(caplog.records) == 9
    assert "hunter2-long" not in caplog.text
    assert all(f"E{n}: {GONE}" in caplog.text and f"{UI}/runs/{n}" in caplog.text for n in range(9))
    assert plain(some()).startswith("[run_failed] Run failed: training")


def test_the_heartbeat_asks_for_its_url_and_says_when_nobody_answers(slack: SlackStandIn) -> None:
    UrlHeartbeat(slack.url).beat()
    assert slack.beats == 1
    slack.always = "500"
    for url in (slack.url, "http://127.0.0.1:1/", "no url"):
        with pytest.raises(OSError, match=r"."):
            UrlHeartbeat(url).beat()


def test_dev_uses_slack_with_a_token_and_the_log_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, env = logging.getLogger("test_alerts"), {"MNIST_PIPELINE_STATE": str(tmp_path)}
    assert isinstance(dev_resources(env)["alerts"].open(log), LogAlerter)
    monkeypatch.setenv("SLACK_BOT_TOKEN", TOKEN)
    made = dev_resources({**env, **PROD, "SLACK_API_URL": "http://127.0.0.1:9/api"})[
        "alerts"
    ].process_config_and_initialize()
    door = made.open(log)
    assert isinstance(door, SlackAlerter)
    assert (door.channel, door.client.token, door.client.base_url) == ("C012", TOKEN, "http://127.0.0.1:9/api/")
    assert (door.client.timeout, door.client.retry_handlers) == (5, [])


def test_the_token_is_not_in_the_configuration_of_prod(tmp_path: Path) -> None:
    made = prod_resources({"MNIST_PIPELINE_STATE": str(tmp_path), **PROD})["alerts"]
    assert TOKEN not in repr(made)


@pytest.mark.parametrize("missing", [["SLACK_BOT_TOKEN"], ["SLACK_CHANNEL"], ["SLACK_BOT_TOKEN", "SLACK_CHANNEL"]])
def test_prod_names_every_variable_that_is_missing(missing: list[str]) -> None:
    env = {name: value for name, value in PROD.items() if name not in missing}
    with pytest.raises(ValueError, match="MNIST_PIPELINE_ENV=prod needs") as raised:
        prod_resources(env)
    assert {name for name in PROD if f"{name}:" in str(raised.value)} == set(missing)


def test_links_lead_to_the_ui_that_is_configured() -> None:
    made: Alerts = dev_resources({"DAGSTER_UI_URL": "https://dagster.example/"})["alerts"]
    assert made.ui_url == "https://dagster.example"
