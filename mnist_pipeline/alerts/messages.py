"""What an alert looks like: in the log, alone in Slack, or as one of many in a digest; without secrets in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mnist_pipeline.alerts.kinds import Alert
from mnist_pipeline.alerts.redaction import Redaction

LISTED = 10  # links, and causes, in a digest
# Slack takes 150 characters in a header and 3,000 in a section, counted after escaping; ten links share a section.
HEADER, CAUSE, LINK = 140, 2_000, 200
SIGNS = {"error": ":red_circle:", "warning": ":large_yellow_circle:", "info": ":large_blue_circle:"}


def redacted(each: Alert, redaction: Redaction) -> Alert:
    """The same without secrets in any of its texts."""
    texts: dict[str, Any] = {
        name: redaction(getattr(each, name)) for name in ("title", "cause", "job", "asset", "link", "to_do")
    }
    return replace(each, **texts)


def plain(each: Alert) -> str:
    """In full, for a log."""
    rows = [("job", each.job), ("asset", each.asset), ("cause", each.cause), ("do", each.to_do), ("see", each.link)]
    return "\n".join([f"[{each.kind}] {each.title}", *(f"  {name}: {value}" for name, value in rows if value)])


def single(each: Alert) -> dict[str, Any]:
    """Blocks and the text that notifications show."""
    facts = [f"*{name}*  {fit(value, 300)}" for name, value in (("Job", each.job), ("Asset", each.asset)) if value]
    body = f"*Cause*\n```{fit(each.cause.replace('```', chr(39) * 3).strip() or 'no reason was given', CAUSE)}```"
    parts = [*(["\n".join(facts)] if facts else []), body, f"*What to do*  {fit(each.to_do, 500)}"]
    parts += [linked(each.link, "Open in Dagster")] if each.link else []
    text = f"{fit(each.title, 300)}: {fit(each.cause, 500)} {linked(each.link, 'open')}".strip()
    return {"text": text, "blocks": [_header(f"{SIGNS[each.severity]} {each.title}"), *map(_section, parts)]}


def digest(alerts: Sequence[Alert], runs_page: str) -> dict[str, Any]:
    """Many alerts in one message: counts by job and cause, what to do, the first links, and where to see them all."""
    worst = next(each for each in ("error", "warning", "info") if each in {a.severity for a in alerts})
    title = f"{len(alerts):,} alerts"
    counts = Counter((a.kind.replace("_", " "), a.job or a.asset or a.title, first_line(a.cause)) for a in alerts)
    rows = [
        f"• {count:,} × {kind}, {fit(where, 60)}: {fit(why, 120)}"
        for (kind, where, why), count in counts.most_common(LISTED)
    ]
    rows += [f"• and {len(counts) - LISTED:,} other causes"] if len(counts) > LISTED else []
    links = [linked(a.link, a.title) for a in alerts if a.link][:LISTED]
    parts = ["\n".join(rows), *(["\n".join(links)] if links else [])]
    parts.insert(1, "*What to do*\n" + "\n".join(_advice(alerts)))
    parts += [linked(runs_page, "All runs")] if runs_page else []
    return {
        "text": f"{title}: {fit(rows[0], 500)}",
        "blocks": [_header(f"{SIGNS[worst]} {title}"), *map(_section, parts)],
    }


def _advice(alerts: Sequence[Alert]) -> list[str]:
    """What to do, once for each kind."""
    kinds = Counter((each.kind.replace("_", " "), each.to_do) for each in alerts)
    return [f"• {kind}: {fit(to_do, 200)}" for (kind, to_do), _ in kinds.most_common(LISTED)]


def first_line(text: str) -> str:
    """Of a cause, to count by."""
    return (text.strip().splitlines() or ["no reason was given"])[0]


def fit(text: str, limit: int) -> str:
    """Escaped for Slack and at most `limit` characters (UTF-16, as Slack counts), cut between characters."""
    names = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
    whole = [names.get(c, c) if c.isprintable() or c == "\n" else " " for c in text[: limit + 1]]
    room, kept = limit - 1, list[str]()
    for piece in whole:
        room -= len(piece.encode("utf-16-le")) // 2
        if room < 0:
            return "".join(kept) + "…"
        kept.append(piece)
    return "".join(kept)


def linked(url: str, label: str) -> str:
    """A link, or only its label where the URL is none, or too long to be whole."""
    safe = "".join(c if c.isascii() and c.isprintable() and c not in ' <>|"' else _hex(c) for c in url)
    safe = safe.replace("&", "&amp;")
    usable = safe.startswith(("http://", "https://")) and len(safe) <= LINK
    said = fit(label, 50).strip() or "untitled"
    return f"<{safe}|{said}>" if usable else said


def _hex(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "replace"))


def _header(text: str) -> dict[str, Any]:
    flat = " ".join(text.split())
    cut = flat if len(flat.encode("utf-16-le")) // 2 <= HEADER else flat[: HEADER // 2] + "…"
    return {"type": "header", "text": {"type": "plain_text", "text": cut, "emoji": True}}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}
