"""The parity probe: the same calls to our server and to Google's emulator, and what differs.

`python -m tests.support.parity` starts both and writes docs/parity.md. Every difference in status
code or result must be judged in parity_judgements.toml; the wording of errors is listed
beside, since the documentation fixes none.
"""

import json
import re
import sys
import tomllib
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.protobuf import json_format

from embedded_pubsub import Server
from embedded_pubsub.methods import Method, methods
from embedded_pubsub.runtime import Runtime
from embedded_pubsub.store import MemoryStore
from embedded_pubsub.testing import ThreadedServer
from tests.support.google_emulator import google_emulator
from tests.support.parity_calls import Probe, Step, probes

DOCUMENT = Path(__file__).parents[2] / "docs" / "parity.md"
CALL_SECONDS = 20
_MASKED = {
    "messageId": "ID", "messageIds": "ID", "publishTime": "TIME", "ackId": "ACK",
    "expireTime": "TIME", "revisionId": "REVISION", "revisionCreateTime": "TIME",
    "etag": "ETAG", "nextPageToken": "TOKEN", "googclient_schemarevisionid": "REVISION",
}  # fmt: skip


_USUAL = (("state", "ACTIVE"), ("expirationPolicy", {"ttl": "2678400s"}))


class Outcome(NamedTuple):
    """What a server answered: a status code, the error's message, and the result as JSON."""

    code: str
    message: str
    result: str

    def differs(self, other: "Outcome") -> bool:
        return (self.code, self.result) != (other.code, other.result)


class Judgement(NamedTuple):
    """A verdict on all probes whose name matches a regular expression."""

    title: str
    probes: str
    whose: str
    page: str
    link: str
    says: str


class Difference(NamedTuple):
    """A probe that the servers answer differently."""

    name: str
    call: Step
    ours: Outcome
    theirs: Outcome


class Client:
    """Sends the calls of probes to one server, as raw protobufs."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(
            target,
            [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        )
        served = methods(Runtime(MemoryStore(), lambda: 0.0))
        self._methods = {f"{m.service.rpartition('.')[2]}.{m.name}": m for m in served}

    def close(self) -> None:
        self._channel.close()

    def outcome(self, probe: Probe) -> Outcome:
        """Make a probe's calls in a project of its own; gives the outcome of the last one."""
        known = {"{p}": f"projects/p{uuid.uuid4().hex[:12]}"}
        outcome = Outcome("", "", "")
        for name, request in probe.steps:
            try:
                answer = self._call(self._methods[name], _filled(request, known))
            except grpc.RpcError as error:
                message = error.details().replace(known["{p}"], "{p}")
                outcome = Outcome(error.code().name, message, "")
                continue
            document = json_format.MessageToDict(answer)
            known |= _learned(document)
            if not probe.whole:
                document = _without_usual(document)
            text = json.dumps(_masked(document), sort_keys=True, ensure_ascii=False)
            outcome = Outcome("OK", "", text.replace(known["{p}"], "{p}"))
        return outcome

    def _call(self, method: Method, request: Mapping[str, Any]) -> Any:
        call = self._channel.unary_unary(
            f"/{method.service}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.response.FromString,
        )
        message = json_format.ParseDict(request, method.request())
        return call(message, timeout=CALL_SECONDS)


def _filled(value: Any, known: Mapping[str, str]) -> Any:
    match value:
        case dict():
            return {name: _filled(each, known) for name, each in value.items()}
        case list():
            return [_filled(each, known) for each in value]
        case str() if "{p}" in value or "$" in value:
            for name, replacement in known.items():
                value = value.replace(name, replacement)
    return value


def _learned(document: Mapping[str, Any]) -> dict[str, str]:
    learned = {}
    if document.get("receivedMessages"):
        learned["$ack"] = document["receivedMessages"][0]["ackId"]
    if "nextPageToken" in document:
        learned["$page"] = document["nextPageToken"]
    if "revisionId" in document and "definition" in document:
        learned["$revision"] = document["revisionId"]
    return learned


def _masked(value: Any, name: str = "") -> Any:
    match value:
        case list() if name in _MASKED:
            return [_MASKED[name]] * len(value)
        case str() if name in _MASKED:
            return _MASKED[name]
        case str():
            return re.sub(
                r"snapshots/snapshot-[0-9a-f-]+|snapshots/[0-9a-f-]{20,}", "snapshots/NEW", value
            )
        case dict():
            return {key: _masked(each, key) for key, each in value.items()}
        case list():
            return [_masked(each) for each in value]
    return value


def _without_usual(value: Any) -> Any:
    """Leave out what one server says in every answer, and the probes of all fields show."""
    match value:
        case dict():
            kept = {key: _without_usual(each) for key, each in value.items()}
            return {key: each for key, each in kept.items() if (key, each) not in _USUAL}
        case list():
            return [_without_usual(each) for each in value]
    return value


def differences(ours: str, theirs: str) -> tuple[list[Difference], list[Difference], int]:
    """Probe both servers.

    Returns:
        What they answer differently; what they refuse alike in other words; how many probes.
    """
    first, second = Client(ours), Client(theirs)
    different, worded = [], []
    wanted = probes()
    for probe in wanted:
        pair = first.outcome(probe), second.outcome(probe)
        difference = Difference(probe.name, probe.steps[-1], *pair)
        if pair[0].differs(pair[1]):
            different.append(difference)
        elif pair[0].message != pair[1].message:
            worded.append(difference)
    first.close()
    second.close()
    return different, worded, len(wanted)


@cache
def judgements() -> list[Judgement]:
    read = tomllib.loads(Path(__file__).with_name("parity_judgements.toml").read_text())
    return [
        Judgement(**{**each, "says": each["says"].replace("\n", " ")}) for each in read["judgement"]
    ]


def judgement(difference: Difference) -> Judgement | None:
    """Find who is right, and by which sentence of the documentation."""
    return next((j for j in judgements() if re.fullmatch(j.probes, difference.name)), None)


def _cell(text: str, width: int = 160) -> str:
    text = text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
    return text if len(text) <= width else f"{text[:width]}…"


def _answer(outcome: Outcome) -> str:
    return f"{outcome.code}: {_cell(outcome.message or outcome.result)}"


def document(different: Sequence[Difference], worded: Sequence[Difference], count: int) -> str:
    """Give docs/parity.md."""
    judged: dict[Judgement | None, list[Difference]] = {}
    for difference in different:
        judged.setdefault(judgement(difference), []).append(difference)
    parts = [_HEAD.format(count=count, different=len(different), worded=len(worded))]
    for verdict, group in judged.items():
        parts.append(_section(verdict, group))
    parts.append("\n## Refused alike, in other words\n\n")
    parts.append("| Probe | Code | Ours says | The emulator says |\n|---|---|---|---|\n")
    parts += [
        f"| {_cell(d.name)} | {d.ours.code} | {_cell(d.ours.message, 110)} | "
        f"{_cell(d.theirs.message, 110)} |\n"
        for d in worded
    ]
    return "".join(parts)


def _section(verdict: Judgement | None, group: Iterable[Difference]) -> str:
    if verdict is None:
        head = "\n## Not judged yet\n\n"
    else:
        head = (
            f"\n## {verdict.title}\n\n**{verdict.whose.capitalize()}.** {verdict.says} "
            f"([{verdict.page}]({verdict.link}))\n\n"
        )
    rows = "".join(
        f"| {_cell(d.name)} | {_answer(d.ours)} | {_answer(d.theirs)} |\n" for d in group
    )
    return f"{head}| Probe | Ours answers | The emulator answers |\n|---|---|---|\n{rows}"


_HEAD = """# Parity with Google's emulator

{count} calls are sent to `embedded_pubsub` and to Google's emulator (0.8.20), each in a project of
its own; {different} are answered with another status code or result, and {worded} are refused with
the same code in other words. Written by

```
python -m tests.support.parity
```

A difference is *theirs* where the emulator departs from what the documentation says, *ours* where
we do, *open* where the documentation leaves both free. Text in “ ” is quoted from the page that is
linked, all else is in our words.
`tests/conformance/test_parity.py` fails on a difference that is not listed here.

What the probe found to be *ours* is mended: labels were not checked; ids with `Goog` were refused
as if they began with `goog`; an ack id twice in one request failed on exactly-once subscriptions; a
push endpoint did not show its version; an update could clear a snapshot's expire time; a rollback
without a revision was NOT_FOUND, and the deletion of a schema's only revision FAILED_PRECONDITION.
"""


def probe_both(report: Callable[[str], object]) -> list[Difference]:
    """Start both servers, write the document with `report`, and give what is not judged."""
    with ExitStack() as stack:
        ours = stack.enter_context(ThreadedServer(Server())).server.target
        theirs = stack.enter_context(google_emulator())
        different, worded, count = differences(ours, theirs)
    report(document(different, worded, count))
    return [each for each in different if judgement(each) is None]


def main() -> int:
    unjudged = probe_both(DOCUMENT.write_text)
    for each in unjudged:
        sys.stdout.write(f"{each.name}\n  ours   {_answer(each.ours)}\n")
        sys.stdout.write(f"  theirs {_answer(each.theirs)}\n")
    sys.stdout.write(f"{len(unjudged)} differences are not judged\n")
    return 1 if unjudged else 0


if __name__ == "__main__":
    sys.exit(main())
