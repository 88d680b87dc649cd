"""``nexus run`` of the smoke profile: what it says, what it leaves, and that it is done once."""

import json
import re
import urllib.parse
from pathlib import Path

import pytest

from calibration.artefact import GrmArtefact

SHARDS = 6
FAMILY_FIELDS = {
    "family", "status", "r_hat_max", "ess_bulk_min", "ess_tail_min", "divergences",
    "sampling_seconds", "gates", "grm", "calibration_metrics_rows", "invariance_rows",
}  # fmt: skip
CONSTRUCTS = {
    "imagination", "artistic_interests", "emotionality", "adventurousness", "intellect",
    "liberalism",
}  # fmt: skip


def path_of(uri: str) -> Path:
    parts = urllib.parse.urlsplit(uri)
    assert parts.scheme == "file"
    return Path(urllib.parse.unquote(parts.path))


@pytest.fixture(scope="module")
def finished(new_nexus):
    """A finished run that tests look at and change nothing of."""
    nexus = new_nexus()
    return nexus, nexus.run("run", "--method", "mml", "--json", seconds=280).succeeded().document


def assert_contract(document):
    assert document["iteration"] == 0
    assert document["namespace"] == "smoke"
    assert document["status"] == "completed"
    assert document["replayed"] is False
    assert document["shards"] == {"requested": SHARDS, "merged": SHARDS, "failed": 0}
    assert document["rows_merged"] == 3_600
    assert set(document["effects"]) == {
        "objects_written", "batches_created", "merges", "events_published",
    }  # fmt: skip
    assert document["effects"]["batches_created"] == SHARDS
    (family,) = document["families"]
    assert set(family) >= FAMILY_FIELDS
    assert family["family"] == "openness"
    assert family["calibration_metrics_rows"] == 6
    assert family["invariance_rows"] == 3
    assert list(family["gates"]) == [str(number) for number in range(1, 11)]
    assert set(family["gates"].values()) <= {"passed", "failed", "noted", "not judged"}
    assert family["gates"]["10"] == "not judged"
    for told in family["gate_details"]:
        assert told["verdict"] == family["gates"][str(told["number"])]
        assert told["threshold"]
        assert told["reason"]
    merged = [one for one in document["receipts"] if one["step"] == "merge"]
    assert [one["shard_index"] for one in merged] == list(range(SHARDS))
    for receipt in document["receipts"]:
        assert set(receipt) == {"shard_index", "step", "digest"}
        assert re.fullmatch("sha256:[0-9a-f]{64}", receipt["digest"])


def assert_loads_back_equal(family, method):
    text = path_of(family["grm"]).read_text()
    artefact = GrmArtefact.from_json(text)
    assert GrmArtefact.from_json(artefact.to_json()) == artefact
    document = json.loads(text)
    assert json.loads(artefact.to_json()) == document
    assert document["schema_version"] == 1
    assert document["model"] == "grm"
    assert document["n_responses"] == 3_600
    assert document["diagnostics"]["method"] == method
    assert {item["item"] for item in document["items"]} == CONSTRUCTS


def assert_self_contained(page, *, sampled):
    assert page.lstrip().lower().startswith("<!doctype html")
    assert page.count("<svg") >= 3
    assert not re.search(r"<script[^>]+src=|<link[^>]+href=|<img[^>]+src=[\"']?http|@import", page)
    assert not re.search(r"url\(\s*[\"']?https?:", page)
    assert ("trace" in page.lower()) >= sampled


def test_the_sampled_run_keeps_the_contract(nexus):
    document = nexus.run("run", "--json", seconds=280).succeeded().document
    assert_contract(document)
    (family,) = document["families"]
    assert family["r_hat_max"] > 0.9
    assert family["ess_bulk_min"] > 0
    assert family["ess_tail_min"] > 0
    assert family["sampling_seconds"] > 0
    trusted = (
        family["r_hat_max"] < 1.01
        and min(family["ess_bulk_min"], family["ess_tail_min"]) >= 400
        and family["divergences"] == 0
    )
    assert trusted or family["status"] == "held"
    assert_loads_back_equal(family, "nuts")
    page = path_of(document["report"]).read_text()
    assert_self_contained(page, sampled=True)
    assert document["network"] is None
    assert "Not learned: 1 family was calibrated" in page
    models = nexus.rows("SELECT model, difference < 0, left_out FROM model_comparisons ORDER BY 1")
    assert models == [
        ("equal_discrimination", True, 10),
        ("grm", False, 10),
        ("independence", True, 10),
    ]
    assert "one discrimination for all items" in page
    assert nexus.rows("SELECT max(unreliable) FROM model_comparisons") == [(0,)]
    assert "the model was fitted again without them" in page
    assert nexus.rows("SELECT count(*) FROM scores") == [(10,)]
    kept = path_of(family["inference_data"]).read_bytes()
    assert kept.startswith(b"\x89HDF")


def test_a_run_keeps_the_contract(finished):
    _, document = finished
    assert_contract(document)
    (family,) = document["families"]
    assert_loads_back_equal(family, "mml")
    assert_self_contained(path_of(document["report"]).read_text(), sampled=False)


def test_the_warehouse_holds_each_row_once(finished):
    nexus, _ = finished
    talks = "SELECT count(*), count(DISTINCT (persona, session, turn, construct)) FROM grades"
    assert nexus.rows(talks) == [(3_600, 3_600)]
    assert nexus.rows("SELECT DISTINCT namespace, iteration FROM grades") == [("smoke", 0)]
    shards = nexus.rows("SELECT shard_index, count(*) FROM grades GROUP BY 1 ORDER BY 1")
    assert shards == [(index, 600) for index in range(SHARDS)]
    assert {row[0] for row in nexus.rows("SELECT item FROM calibration_metrics")} == CONSTRUCTS
    assert nexus.rows("SELECT count(*) FROM calibration_metrics") == [(6,)]
    levels = sorted(nexus.rows("SELECT level FROM invariance"))
    assert levels == [("configural",), ("metric",), ("scalar",)]
    assert nexus.rows("SELECT count(*) FROM promotions") == [(1,)]
    assert nexus.rows("SELECT number FROM gates ORDER BY 1") == [(n,) for n in range(1, 11)]
    assert {row[0] for row in nexus.rows("SELECT item FROM item_checks")} == CONSTRUCTS


def test_the_same_run_again_is_replayed_and_changes_nothing(finished):
    nexus, document = finished
    before = nexus.files()
    again = nexus.run("run", "--method", "mml", "--json").succeeded().document
    assert again["replayed"] is True
    assert set(again["effects"].values()) == {0}
    changed = {"replayed", "effects"}
    assert {k: v for k, v in again.items() if k not in changed} == {
        k: v for k, v in document.items() if k not in changed
    }
    assert nexus.files() == before


@pytest.mark.parametrize(
    "other", [("--seed", "1"), ("--method", "nuts"), ("--responses", "examples/bfi.csv")]
)
def test_other_parameters_are_refused_and_change_nothing(finished, other):
    nexus, _ = finished
    before = nexus.files()
    ended = nexus.run("run", "--method", "mml", *other, "--json")
    assert ended.code == 2
    assert "iteration 0 exists with other parameters" in ended.document["error"]["message"]
    assert "use another number" in ended.err
    assert "Traceback" not in ended.err
    assert nexus.files() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--iteration", "10"), "iteration 10 is a production iteration"),
        (("--iteration", "0", "--profile", "production"), "iteration 0 is a smoke iteration"),
        (("--profile", "huge"), "'huge'"),
        (("--method", "guess"), "'guess'"),
        (("--scales", "examples/bfi.toml"), "needs --responses"),
        (("--responses", "no/such.csv"), "no/such.csv"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_started(nexus, arguments, said):
    assert_refused(nexus, nexus.run("run", *arguments), said)


def test_what_cannot_run_cannot_be_started_either(nexus):
    ended = nexus.run("start", "10", "--profile", "smoke")
    assert_refused(nexus, ended, "iteration 10 is a production iteration")


def assert_refused(nexus, ended, said):
    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert nexus.steps() == {}


def test_the_same_seed_gives_equal_receipts_in_another_home(finished, new_nexus):
    _, document = finished
    other = new_nexus()
    same = other.run("run", "--method", "mml", "--json", seconds=280).succeeded().document
    assert same["receipts"] == document["receipts"]
    fits = [json.loads(path_of(d["families"][0]["grm"]).read_text()) for d in (document, same)]
    assert fits[0] == fits[1]


def test_status_and_report_tell_of_a_finished_run(finished):
    nexus, document = finished
    told = nexus.run("status", "0", "--json").succeeded().document
    assert told["status"] == "completed"
    assert told["receipts"] == document["receipts"]
    (listed,) = nexus.run("status", "--json").succeeded().document["iterations"]
    assert listed["iteration"] == 0
    never = nexus.run("status", "4")
    assert never.code == 2
    assert "never started" in never.err
