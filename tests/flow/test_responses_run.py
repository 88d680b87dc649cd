"""``nexus run --responses``: real responses through the same shards, MERGE and training."""

import csv
import json
import random
from pathlib import Path

import pytest

BFI = ("--iteration", "1", "--responses", "examples/bfi.csv", "--scales", "examples/bfi.toml")
SCALES = {
    "agreeableness": {"A1", "A2", "A3", "A4", "A5"},
    "conscientiousness": {"C1", "C2", "C3", "C4", "C5"},
    "extraversion": {"E1", "E2", "E3", "E4", "E5"},
    "neuroticism": {"N1", "N2", "N3", "N4", "N5"},
    "openness": {"O1", "O2", "O3", "O4", "O5"},
}


def answered(path="examples/bfi.csv"):
    rows = list(csv.DictReader(Path(path).read_text().splitlines()))
    return sum(value not in {"", "NA"} for row in rows for value in row.values())


def test_five_scales_of_real_people_are_calibrated(nexus):
    document = nexus.run("run", *BFI, "--method", "mml", "--json", seconds=280).succeeded().document
    assert document["status"] == "completed"
    assert document["shards"] == {"requested": 6, "merged": 6, "failed": 0}
    assert document["rows_merged"] == answered()
    assert {family["family"] for family in document["families"]} == set(SCALES)
    assert {family["calibration_metrics_rows"] for family in document["families"]} == {5}
    stored = nexus.rows("SELECT family, construct, count(*) FROM grades GROUP BY ALL")
    assert {(family, item) for family, item, _ in stored} == {
        (family, item) for family, items in SCALES.items() for item in items
    }
    assert sum(count for *_, count in stored) == answered()
    network = json.loads(Path(document["network"].removeprefix("file://")).read_text())
    assert set(network["families"]) == set(SCALES)
    assert network["log_score"] > network["log_score_empty"] + 5 * network["gain_se"]
    page = Path(document["report"].removeprefix("file://")).read_text()
    assert 'aria-label="Network over families"' in page
    scored = nexus.rows("SELECT family, count(*) FROM scores GROUP BY 1")
    assert {family for family, _ in scored} == set(SCALES)
    assert min(count for _, count in scored) > 2_700
    # Its own receipts follow from the file, so the same file is the same run.
    again = nexus.run("run", *BFI, "--method", "mml", "--json").succeeded().document
    assert again["replayed"] is True
    assert set(again["effects"].values()) == {0}


@pytest.fixture
def small_csv(tmp_path):
    """Categories from 0, quoted fields, a missing cell of each kind, and CRLF."""
    draw = random.Random(7)
    lines = ['"first","second",third,fourth']
    for _ in range(200):
        level = draw.gauss(0, 1)
        grades = [min(2, max(0, round(level + draw.gauss(0, 1.2) + 1))) for _ in range(4)]
        lines.append(f'"{grades[0]}",{grades[1]},"{grades[2]}",{grades[3]}')
    lines[5], lines[6] = '"0",NA,1,1', '2,,"1",2'
    path = tmp_path / "small.csv"
    path.write_bytes("\r\n".join(lines).encode() + b"\r\n")
    return path


def test_any_csv_of_ordered_categories_works(nexus, small_csv):
    asked = ("--responses", str(small_csv), "--method", "mml", "--json")
    document = nexus.run("run", "--iteration", "2", *asked).succeeded().document
    assert document["rows_merged"] == 200 * 4 - 2
    (family,) = document["families"]
    assert family["calibration_metrics_rows"] == 4
    grm = json.loads(Path(family["grm"].removeprefix("file://")).read_text())
    items = {item["item"]: item for item in grm["items"]}
    assert set(items) == {"first", "second", "third", "fourth"}
    assert items["first"]["categories"] == [0, 1, 2]
    assert nexus.rows("SELECT min(grade), max(grade) FROM grades") == [(0, 2)]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("x", "'x'"),
        ("2.5", "'2.5'"),
        ("-", "'-'"),
        ("1e3", "'1e3'"),
        ("inf", "'inf'"),
        ("nan", "'nan'"),
    ],
)
def test_a_bad_cell_is_named_and_leaves_nothing_behind(nexus, tmp_path, cell, said):
    path = tmp_path / "bad.csv"
    path.write_text(f"one,two\n1,2\n2,{cell}\n1,1\n")
    ended = nexus.run("run", "--iteration", "3", "--responses", str(path), "--json")
    assert ended.code == 2
    message = ended.document["error"]["message"]
    assert "bad.csv" in message
    assert "row 3" in message or "row 2" in message
    assert "two" in message
    assert said in message
    assert "Traceback" not in ended.err
    assert nexus.steps("smoke/3") == {}
    status = nexus.run("status", "3")
    assert status.code == 2
    assert "never started" in status.err
    assert nexus.run("status", "--json").succeeded().document == {"iterations": []}
