"""The parity probe: the same calls to our server and to Google's emulator, and what differs.

`python -m tests.support.parity` starts both and writes docs/parity.md. Every difference in status
code or result must be judged in parity_judgements.toml; the wording of errors is listed
beside, since the documentation fixes none.
"""

import copy
import json
import re
import sys
import tomllib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import grpc
import httpx
from google.protobuf import json_format

from embedded_pubsub import Server
from embedded_pubsub.methods import Http, Method, methods
from embedded_pubsub.runtime import Runtime
from embedded_pubsub.store import MemoryStore
from embedded_pubsub.testing import ThreadedServer
from tests.support.google_emulator import google_emulator
from tests.support.parity_calls import HttpProbe, Probe, http_probes, probes

Document = dict[str, Any]

DOCUMENT = Path(__file__).parents[2] / "docs" / "parity.md"
CALL_SECONDS = 20
HTTP_SECONDS = 10
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
    ours: Outcome
    theirs: Outcome


class RefusedError(Exception):
    """A call that a server refused, with the status code's name and the message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Grpc:
    """Calls a server's methods as raw protobufs."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(
            target,
            [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        )

    def __call__(self, method: Method, request: Mapping[str, Any]) -> Document:
        call = self._channel.unary_unary(
            f"/{method.service}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.response.FromString,
        )
        message = json_format.ParseDict(request, method.request())
        try:
            return json_format.MessageToDict(call(message, timeout=CALL_SECONDS))
        except grpc.RpcError as error:
            raise RefusedError(error.code().name, error.details()) from error

    def close(self) -> None:
        self._channel.close()


class Rest:
    """Calls a server's methods by their HTTP bindings, as official clients put them together."""

    def __init__(self, target: str) -> None:
        # A connection each: the emulator's are of no use after some of its refusals.
        self._http = httpx.Client(
            base_url=f"http://{target}",
            timeout=HTTP_SECONDS,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def __call__(self, method: Method, request: Mapping[str, Any]) -> Document:
        for http in method.http:
            sent = _transcoded(http, request)
            if sent is not None:
                return self.send(*sent)
        raise RefusedError("NOT SENT", "the request fits no HTTP binding")

    def send(
        self, verb: str, path: str, body: bytes | None, headers: Iterable[tuple[str, str]] = ()
    ) -> Document:
        """Send a request as it is; the answer has to be JSON."""
        every = {"Content-Type": "application/json", **dict(headers)}
        try:
            answer = self._http.request(verb, path, content=body, headers=every)
        except httpx.TimeoutException:
            raise RefusedError("NO ANSWER", f"in {HTTP_SECONDS} s") from None
        try:
            document = answer.json()
        except ValueError:
            raise RefusedError(f"HTTP {answer.status_code}", answer.text.strip()) from None
        if answer.is_success:
            return dict(document)
        error = document["error"]
        if error["code"] != answer.status_code:
            raise RefusedError(f"HTTP {answer.status_code}", f"says {error['code']}")
        raise RefusedError(error["status"], error.get("message", ""))

    def close(self) -> None:
        self._http.close()


def _transcoded(http: Http, request: Mapping[str, Any]) -> tuple[str, str, bytes | None] | None:
    """Put the HTTP request of a binding together; None where the resource's name does not fit."""
    match = re.fullmatch(r"\{([^=]+)=([^}]+)\}(.*)", http.path)
    assert match is not None, http.path
    rest = copy.deepcopy(dict(request))
    owner = rest
    *parents, field = match[1].split(".")
    for parent in parents:
        owner = owner.get(parent, {})
    name = owner.pop(_camel(field), "") if http.body != "*" or not parents else owner[field]
    if not re.fullmatch(re.escape(match[2]).replace(r"\*", "[^/]+"), name):
        return None
    path = f"/v1/{quote(name, safe='/~')}{match[3]}"
    if http.body == "*":
        return http.verb, path, json.dumps(rest).encode()
    body = json.dumps(rest.pop(http.body, {})).encode() if http.body else None
    query = urlencode(list(_flat(rest)), quote_via=quote)
    return http.verb, f"{path}?{query}" if query else path, body


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            for each in value if isinstance(value, list) else [value]:
                yield prefix + name, each if isinstance(each, str) else json.dumps(each)


def outcome(send: Grpc | Rest, probe: Probe) -> Outcome:
    """Make a probe's calls in a project of its own; gives the outcome of the last one."""
    known = {"{p}": f"projects/p{uuid.uuid4().hex[:12]}"}
    found = Outcome("", "", "")
    for name, request in probe.steps:
        call = partial(send, _methods()[name], _filled(request, known))
        found = _outcome(known, probe, call)
    return found


def http_outcome(send: Rest, probe: HttpProbe) -> Outcome:
    """Make the calls that a probe of HTTP needs, then send its request as it is."""
    known = {"{p}": f"projects/p{uuid.uuid4().hex[:12]}"}
    for name, request in probe.steps:
        _outcome(known, probe, partial(send, _methods()[name], _filled(request, known)))
    path, body = _filled([probe.path, probe.body or ""], known)
    request = partial(send.send, probe.verb, path, body.encode() or None, probe.headers)
    return _outcome(known, probe, request)


def _outcome(
    known: dict[str, str], probe: Probe | HttpProbe, call: Callable[[], Document]
) -> Outcome:
    try:
        document = call()
    except RefusedError as refusal:
        return Outcome(refusal.code, refusal.message.replace(known["{p}"], "{p}"), "")
    known |= _learned(document)
    if not probe.whole:
        document = _without_usual(document)
    text = json.dumps(_masked(document), sort_keys=True, ensure_ascii=False)
    return Outcome("OK", "", text.replace(known["{p}"], "{p}"))


@cache
def _methods() -> dict[str, Method]:
    served = methods(Runtime(MemoryStore(), lambda: 0.0))
    return {f"{each.service.rpartition('.')[2]}.{each.name}": each for each in served}


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


class Findings(NamedTuple):
    """What the servers answer differently, over gRPC and over HTTP; what they refuse alike in
    other words; what ours answers differently over the two; and how many probes there were.
    """

    different: list[Difference]
    http: list[Difference]
    worded: list[Difference]
    ours_apart: list[Difference]
    count: int


def compare(ours: str, our_rest: str, theirs: str) -> Findings:
    """Probe both servers."""
    found = Findings([], [], [], [], len(probes()) + len(http_probes()))
    with ExitStack() as stack:
        first, second = (stack.enter_context(closing(Grpc(each))) for each in (ours, theirs))
        over_http = [stack.enter_context(closing(Rest(each))) for each in (our_rest, theirs)]
        for probe in probes():
            difference = Difference(probe.name, outcome(first, probe), outcome(second, probe))
            if difference.ours.differs(difference.theirs):
                found.different.append(difference)
            elif difference.ours.message != difference.theirs.message:
                found.worded.append(difference)
            name = f"HTTP: {probe.name}"
            again = Difference(name, *(outcome(each, probe) for each in over_http))
            _compare_transports(found, difference, again)
        for each in http_probes():
            difference = Difference(each.name, *(http_outcome(r, each) for r in over_http))
            if difference.ours.differs(difference.theirs):
                found.http.append(difference)
    return found


def _compare_transports(found: Findings, grpc_: Difference, http: Difference) -> None:
    if "NOT SENT" in {http.ours.code, http.theirs.code}:
        return
    if grpc_.ours.differs(http.ours):
        found.ours_apart.append(Difference(grpc_.name, grpc_.ours, http.ours))
    known = not (grpc_.ours.differs(http.ours) or grpc_.theirs.differs(http.theirs))
    if http.ours.differs(http.theirs) and not known:
        found.http.append(http)


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


def document(found: Findings) -> str:
    """Give docs/parity.md."""
    counts = (found.count, len(found.different), len(found.http), len(found.worded))
    parts = [_HEAD.format(*counts), *_sections(found.different)]
    parts += ["\n# Over HTTP\n", _HTTP_HEAD, *_sections(found.http)]
    parts.append("\n# Refused alike, in other words\n\n")
    parts.append("| Probe | Code | Ours says | The emulator says |\n|---|---|---|---|\n")
    parts += [
        f"| {_cell(d.name)} | {d.ours.code} | {_cell(d.ours.message, 110)} | "
        f"{_cell(d.theirs.message, 110)} |\n"
        for d in found.worded
    ]
    return "".join(parts)


def _sections(differences: Iterable[Difference]) -> Iterator[str]:
    judged: dict[Judgement | None, list[Difference]] = {}
    for difference in differences:
        judged.setdefault(judgement(difference), []).append(difference)
    return (_section(verdict, group) for verdict, group in judged.items())


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

{} calls are sent to `embedded_pubsub` and to Google's emulator (0.8.20), each in a project of
its own, over gRPC and over HTTP. Over gRPC {} are answered with another status code or result, and
over HTTP {} that are not among these; {} are refused with the same code in other words. Written by

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
without a revision was NOT_FOUND, and the deletion of a schema's only revision FAILED_PRECONDITION;
messages that were out at a seek waited for their leases to end. Over HTTP: an id with a colon was
NOT_FOUND, update masks in snake case were refused, bytes that are no base64 were read in part, a
parameter given twice counted the second time.
"""


_HTTP_HEAD = """
What is answered over HTTP as it is over gRPC, by both, is not listed again. Ours answers all calls
alike over both.
"""


def probe_both() -> Findings:
    """Start both servers and compare them."""
    with ExitStack() as stack:
        ours = stack.enter_context(ThreadedServer(Server(rest_port=0))).server
        theirs = stack.enter_context(google_emulator())
        return compare(ours.target, str(ours.rest_target), theirs)


def main() -> int:
    """Write the document; the exit status is 1 where a difference is not judged."""
    found = probe_both()
    DOCUMENT.write_text(document(found))
    unjudged = [each for each in [*found.different, *found.http] if judgement(each) is None]
    for each in [*unjudged, *found.ours_apart]:
        sys.stdout.write(f"{each.name}\n  {_answer(each.ours)}\n  {_answer(each.theirs)}\n")
    sys.stdout.write(f"{len(unjudged)} differences are not judged, ")
    sys.stdout.write(f"{len(found.ours_apart)} answers of ours are others over HTTP\n")
    return 1 if unjudged or found.ours_apart else 0


if __name__ == "__main__":
    sys.exit(main())
