"""What a server has at the moment, for people to look at."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from embedded_pubsub.resources import SubscriptionState
from embedded_pubsub.runtime import Runtime

_STYLE = (
    "body{font:15px system-ui;margin:2rem;max-width:75rem}table{border-collapse:collapse}"
    "th,td{text-align:left;padding:.25rem .75rem;border-bottom:1px solid #ccc}"
    "td.n{text-align:right;font-variant-numeric:tabular-nums}"
)


def overview(runtime: Runtime) -> dict[str, Any]:
    """Give what a running server has, as JSON.

    Returns:
        `topics`, `subscriptions`, `snapshots` and `schemas`, each a list ordered by name. Of a
        subscription: `backlog` (unacked messages), `leases` (how many of them are out),
        `oldest_unacked_seconds` (None where there is no backlog) and `consumers` (open streams
        and waiting pulls).
    """
    state = runtime.state
    return {
        "topics": [
            {
                "topic": name,
                "subscriptions": len(topic.subscriptions),
                "retained_messages": len(topic.retained or ()),
            }
            for name, topic in sorted(state.topics.items())
        ],
        "subscriptions": [
            _subscription(each, runtime) for _, each in sorted(state.subscriptions.items())
        ],
        "snapshots": [
            {"snapshot": name, "messages": len(each)}
            for name, each in sorted(state.snapshots.items())
        ],
        "schemas": [
            {"schema": name, "revisions": len(revisions)}
            for name, revisions in sorted(state.schemas.by_name.items())
        ],
    }


def _subscription(subscription: SubscriptionState, runtime: Runtime) -> dict[str, Any]:
    backlog = subscription.backlog
    oldest = next(backlog.messages(), None)
    return {
        "subscription": subscription.config.name,
        "topic": subscription.config.topic,
        "backlog": len(backlog),
        "oldest_unacked_seconds": oldest
        and max(0.0, round(runtime.now() - oldest.publish_time, 3)),
        "leases": len(backlog.leases),
        "consumers": runtime.consumers(subscription),
        "retained_messages": len(subscription.retained),
    }


def as_html(document: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Give an overview as a page."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>embedded_pubsub</title>",
        f"<style>{_STYLE}</style><h1>embedded_pubsub</h1>",
    ]
    for title, rows in document.items():
        parts.append(f"<h2>{title.capitalize()}</h2>")
        parts.append(_table(rows) if rows else "<p>None.</p>")
    return "".join(parts)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = _row("th", (column.replace("_", " ") for column in rows[0]))
    return f"<table>{head}{''.join(_row('td', row.values()) for row in rows)}</table>"


def _row(tag: str, cells: Iterable[object]) -> str:
    return f"<tr>{''.join(_cell(tag, cell) for cell in cells)}</tr>"


def _cell(tag: str, value: object) -> str:
    kind = " class=n" if isinstance(value, (int, float)) else ""
    return f"<{tag}{kind}>{'' if value is None else escape(str(value))}</{tag}>"
