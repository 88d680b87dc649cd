"""What a server has at the moment, for people to look at."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any, NamedTuple

from embedded_pubsub.protos import Proto
from embedded_pubsub.resources import SubscriptionState
from embedded_pubsub.runtime import Runtime
from embedded_pubsub.settings import EXPORTS

Row = Mapping[str, Any]

REFRESH_SECONDS = 5
_STYLE = """
:root{color-scheme:light dark}body{font:15px/1.4 system-ui,sans-serif;margin:2rem auto;
max-width:72rem;padding:0 1rem}h1{font-size:1.4rem;margin:0}
h2{font-size:1.15rem;margin:2rem 0 .5rem}
table{border-collapse:collapse;width:100%;margin-bottom:1rem}th{font-weight:600;opacity:.7}
th,td{text-align:left;padding:.3rem .7rem;border-bottom:1px solid #8884;vertical-align:top}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}td:first-child{font-weight:600}
i{font:12px system-ui,sans-serif;border:1px solid #8888;border-radius:.6rem;padding:0 .45rem;
margin-left:.35rem;white-space:nowrap}.wait{background:#e8a01c33}p,footer{opacity:.7}
@media(max-width:40rem){th,td{padding:.3rem}th{white-space:normal!important;font-size:.8rem}
td:not(.n){overflow-wrap:anywhere;min-width:8.5rem}}
"""


class _Column(NamedTuple):
    title: str
    cell: Callable[[Row], str]
    number: bool = True


def overview(runtime: Runtime) -> dict[str, list[dict[str, Any]]]:
    """Give what a running server has, as JSON.

    Returns:
        `topics`, `subscriptions`, `snapshots` and `schemas`, each a list ordered by name. Of a
        subscription: `backlog` (unacked messages), `leases` (how many of them are out),
        `oldest_unacked_seconds` (None where there is no backlog), `consumers` (open streams
        and waiting pulls) and `delivery` (what is special about it, in words).
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
        "delivery": _delivery(subscription.config),
    }


def _delivery(config: Proto) -> list[str]:
    words = {
        "detached": config.detached,
        "in order": config.enable_message_ordering,
        "exactly once": config.enable_exactly_once_delivery,
        "filtered": bool(config.filter),
        "transformed": bool(config.message_transforms),
        "dead letters": config.HasField("dead_letter_policy"),
        "pushed": bool(config.push_config.push_endpoint),
        "export is not run": any(config.HasField(name) for name in EXPORTS),
    }
    return [word for word, holds in words.items() if holds]


def as_html(document: Mapping[str, Sequence[Row]]) -> str:
    """Give an overview as a page, project by project."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>embedded_pubsub</title>",
        f"<meta name=viewport content=width=device-width><style>{_STYLE}</style>",
        f"<meta http-equiv=refresh content={REFRESH_SECONDS}><h1>embedded_pubsub</h1>",
    ]
    rows = [(_project(row), kind, row) for kind, found in document.items() for row in found]
    order = list(_TABLES)
    rows.sort(key=lambda each: (each[0], order.index(each[1])))
    for project, of_project in groupby(rows, key=lambda each: each[0]):
        parts.append(f"<h2>{escape(project)}</h2>")
        for kind, of_kind in groupby(of_project, key=lambda each: each[1]):
            parts.append(_table(_TABLES[kind], [row for _, _, row in of_kind]))
    if not rows:
        parts.append("<p>There is nothing yet: no topic, subscription, snapshot or schema.</p>")
    parts.append(
        f"<footer>Read anew every {REFRESH_SECONDS} s; as JSON with <code>Accept: application/json"
        "</code>. Marked: messages wait, and nobody consumes.</footer>"
    )
    return "".join(parts)


def _project(row: Row) -> str:
    name = str(next(iter(row.values())))
    return "/".join(name.split("/")[:2])


def _name(key: str, *, badges: bool = False) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        name = str(row[key])
        words = "".join(f"<i>{escape(word)}</i>" for word in row["delivery"]) if badges else ""
        return f'<span title="{escape(name)}">{escape(name.rpartition("/")[2])}</span>{words}'

    return cell


def _count(key: str) -> Callable[[Row], str]:
    return lambda row: f"{row[key]:,}"


def _age(row: Row) -> str:
    seconds = row["oldest_unacked_seconds"]
    if seconds is None:
        return ""
    steps = ((86_400, "d"), (3600, "h"), (60, "min"))
    large = next(((size, unit) for size, unit in steps if seconds >= size), None)
    return f"{seconds / large[0]:.1f} {large[1]}" if large else f"{seconds:.1f} s"


_RETAINED = _Column("retained", _count("retained_messages"))
_TABLES = {
    "subscriptions": (
        _Column("subscription", _name("subscription", badges=True), number=False),
        _Column("backlog", _count("backlog")),
        _Column("oldest unacked", _age),
        _Column("leases", _count("leases")),
        _Column("consumers", _count("consumers")),
        _RETAINED,
        _Column("topic", _name("topic"), number=False),
    ),
    "topics": (
        _Column("topic", _name("topic"), number=False),
        _Column("subscriptions", _count("subscriptions")),
        _RETAINED,
    ),
    "snapshots": (
        _Column("snapshot", _name("snapshot"), number=False),
        _Column("messages", _count("messages")),
    ),
    "schemas": (
        _Column("schema", _name("schema"), number=False),
        _Column("revisions", _count("revisions")),
    ),
}


def _table(columns: Sequence[_Column], rows: Iterable[Row]) -> str:
    head = "".join(_cell("th", column, column.title) for column in columns)
    lines = []
    for row in rows:
        waits = " class=wait" if row.get("backlog") and not row["consumers"] else ""
        cells = "".join(_cell("td", column, column.cell(row)) for column in columns)
        lines.append(f"<tr{waits}>{cells}</tr>")
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _cell(tag: str, column: _Column, content: str) -> str:
    return f"<{tag}{' class=n' if column.number else ''}>{content}</{tag}>"
