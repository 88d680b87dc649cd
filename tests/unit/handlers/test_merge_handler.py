import json
import random

import pytest

from events.catalogue import BatchCompleted
from handlers.merge import grade_rows, merge_lost, merge_shard
from handlers.shards import request_lines
from infra.errors import BatchJobError, DuplicateKeyError
from schemas.tables import GRADES

WHERE = {"namespace": "smoke", "iteration": 4}


@pytest.fixture
def shard(requests):
    return requests[2]


@pytest.fixture
def asked(shard):
    return ("\n".join(request_lines(shard)) + "\n").encode()


@pytest.fixture
def completed(shard, asked, real):
    objects = real.ports.objects

    async def stored(output, key="output", **changes):
        requests = await objects.put_once("requests.jsonl", asked)
        answers = await objects.put_once(f"{key}.jsonl", output)
        known = {
            "iteration": 4,
            "shard_index": shard.shard_index,
            "job": "j",
            "requests_uri": requests.uri,
            "output_uri": answers.uri,
            "n_requests": len(asked.splitlines()),
            "families": shard.families,
        }
        return BatchCompleted(**{**known, **changes})

    return stored


def answers(asked, grade=lambda row, item: 1 + (len(row) + len(item)) % 5):
    lines = []
    for line in asked.splitlines():
        request = json.loads(line)
        grades = {item: grade(request["row_id"], item) for item in request["constructs"]}
        lines.append(json.dumps({"row_id": request["row_id"], "grades": grades}))
    return lines


def joined(lines):
    return ("\n".join(lines) + "\n").encode()


async def test_every_grade_is_merged_once(real, asked, completed, claim):
    event = await completed(joined(answers(asked)))
    outcome = await merge_shard(event, claim(event, "merge"), real.ports)
    rows = (await real.ports.warehouse.read(GRADES, where=WHERE)).to_pylist()
    assert len(rows) == event.n_requests * 6
    first = json.loads(answers(asked)[0])
    persona, session, turn = map(int, first["row_id"].split("/"))
    found = {
        row["construct"]: row["grade"]
        for row in rows
        if (row["persona"], row["session"], row["turn"]) == (persona, session, turn)
    }
    assert found == first["grades"]
    assert {(row["shard_index"], row["family"]) for row in rows} == {(2, "openness")}
    assert outcome.receipt.counts == {"rows": len(rows)}
    [merged] = outcome.events
    assert (merged.rows, merged.digest) == (len(rows), outcome.receipt.digest)


async def test_the_merge_twice_is_once(real, asked, completed, claim):
    event = await completed(joined(answers(asked)))
    outcomes = [
        await merge_shard(event, claim(event, "merge", attempt), real.ports) for attempt in (1, 2)
    ]
    assert outcomes[0] == outcomes[1]
    rows = await real.ports.warehouse.read(GRADES, where=WHERE)
    assert rows.num_rows == event.n_requests * 6


async def test_the_order_of_the_output_does_not_matter(real, asked, completed, claim):
    lines = answers(asked)
    shuffled = random.Random(1).sample(lines, len(lines))
    assert shuffled != lines
    receipts = []
    for place, order in enumerate((lines, shuffled)):
        event = await completed(joined(order), f"output-{place}")
        receipts.append((await merge_shard(event, claim(event, "merge"), real.ports)).receipt)
    assert receipts[0] == receipts[1]


async def test_another_grade_is_another_receipt(real, asked, completed, claim):
    receipts = []
    for grade in (1, 2):
        event = await completed(joined(answers(asked, lambda *_, g=grade: g)), f"output-{grade}")
        receipts.append((await merge_shard(event, claim(event, "merge"), real.ports)).receipt)
    assert receipts[0].digest != receipts[1].digest


async def test_a_missing_answer_is_no_row(real, asked, completed, claim):
    lines = [json.loads(line) for line in answers(asked)]
    lines[0]["grades"].pop("intellect")
    lines[1]["grades"] = {}
    lines[2]["grades"]["unasked"] = 3
    event = await completed(joined(map(json.dumps, lines)))
    outcome = await merge_shard(event, claim(event, "merge"), real.ports)
    assert outcome.receipt.counts == {"rows": event.n_requests * 6 - 7}


def replaced(line, **changes):
    return json.dumps({**json.loads(line), **changes})


BAD = {
    "no JSON": (lambda line: line[:-5], "output line 1 is no answer"),
    "an array": (lambda _: "[1]", "output line 1 is no answer"),
    "a number": (lambda _: "7", "output line 1 is no answer"),
    "no row_id": (lambda _: '{"grades": {}}', "KeyError('row_id')"),
    "a row_id of another type": (lambda line: replaced(line, row_id=7), "text row_id"),
    "grades of another type": (lambda line: replaced(line, grades=[1]), "object grades"),
    "a fraction": (lambda line: replaced(line, grades={"intellect": 2.5}), "'intellect' is 2.5"),
    "a truth": (lambda line: replaced(line, grades={"intellect": True}), "is True, not a whole"),
    "a text": (lambda line: replaced(line, grades={"intellect": "4"}), "is '4', not a whole"),
    "a null": (lambda line: replaced(line, grades={"intellect": None}), "is None, not a whole"),
}


@pytest.mark.parametrize("how", BAD)
async def test_a_bad_line_is_named_and_nothing_is_merged(real, asked, completed, claim, how):
    change, reason = BAD[how]
    lines = answers(asked)
    event = await completed(joined([change(lines[0]), *lines[1:]]))
    with pytest.raises(BatchJobError) as caught:
        await merge_shard(event, claim(event, "merge"), real.ports)
    assert reason in str(caught.value)
    assert (await real.ports.warehouse.read(GRADES, where=WHERE)).num_rows == 0


async def test_an_output_that_is_cut_is_refused(real, asked, completed, claim):
    event = await completed(joined(answers(asked)[:-3]))
    with pytest.raises(BatchJobError, match="lacks 3 of 100 requests and answers 0 others"):
        await merge_shard(event, claim(event, "merge"), real.ports)


async def test_an_output_of_another_shard_is_refused(real, requests, completed, claim):
    """Both have as many requests: only the row ids tell them apart."""
    other = ("\n".join(request_lines(requests[3]))).encode()
    event = await completed(joined(answers(other)))
    assert len(other.splitlines()) == event.n_requests
    with pytest.raises(BatchJobError, match="lacks 100 of 100 requests and answers 100 others"):
        await merge_shard(event, claim(event, "merge"), real.ports)


async def test_an_answer_given_twice_is_refused(real, asked, completed, claim):
    lines = answers(asked)
    event = await completed(joined([*lines, lines[5]]))
    with pytest.raises(DuplicateKeyError):
        await merge_shard(event, claim(event, "merge"), real.ports)
    assert (await real.ports.warehouse.read(GRADES, where=WHERE)).num_rows == 0


@pytest.mark.parametrize("row_id", ["1/2", "1/2/x", "1/2/3/4", "-1/0/0", ""])
async def test_a_row_id_of_another_shape_is_refused(completed, row_id):
    event = await completed(b"unused")
    requests = json.dumps({"row_id": row_id}).encode()
    output = json.dumps({"row_id": row_id, "grades": {"intellect": 1}}).encode()
    with pytest.raises(BatchJobError, match="is not persona/session/turn"):
        list(grade_rows(requests, output, event))


async def test_what_the_saga_is_told(completed):
    told = merge_lost(await completed(b"unused"), "why")
    assert (told.subject, told.step, told.reason) == ("smoke/4/shard/2", "merge", "why")
