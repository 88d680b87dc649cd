"""A held family, an operator's word, and what the next iteration makes of it."""

import random
from pathlib import Path

import pytest


@pytest.fixture
def rare_csv(tmp_path):
    """Two groups; a category of the first item that two respondents gave: gate 5 holds it."""
    draw = random.Random(7)
    lines = ["first,second,third,fourth,where"]
    for row in range(240):
        level = draw.gauss(0, 1)
        grades = [min(2, max(0, round(level + draw.gauss(0, 1.2) + 1))) for _ in range(4)]
        grades[0] = 3 if row < 2 else grades[0]
        lines.append(f"{','.join(map(str, grades))},{'north' if row % 2 else 'south'}")
    path = tmp_path / "rare.csv"
    path.write_text("\n".join(lines))
    return path


def assert_refused(nexus):
    """What can't be waived is refused, and leaves nothing behind."""
    for iteration, family, gate, reason, said in (
        ("1", "rare", "1", "x", "gate 1 (convergence) was passed: it holds nothing back"),
        ("1", "rare", "11", "x", "gate '11' is none of this fit's: use 1 (convergence), 2"),
        ("1", "rare", "5", " ", "--reason is empty"),
        ("1", "nobody", "5", "x", "has no judged fit"),
        ("3", "rare", "5", "x", "iteration 3 was never started"),
    ):
        ended = nexus.run("gate", "waive", iteration, family, gate, "--reason", reason)
        assert ended.code == 2
        assert said in " ".join(ended.err.split())
    assert nexus.steps("smoke/1/family/rare/gate") == {}


def test_a_waived_gate_lets_the_family_through_once_and_is_told(nexus, rare_csv):
    run = ("run", "--responses", str(rare_csv), "--groups", "where", "--method", "mml")
    document = nexus.run(*run, "--iteration", "1", "--json", seconds=200).succeeded().document
    (family,) = document["families"]
    assert (family["family"], family["status"]) == ("rare", "held")
    assert (family["gates"]["5"], family["gates"]["10"]) == ("failed", "not judged")
    assert [told["number"] for told in family["gate_details"]] == list(range(1, 11))
    groups = nexus.rows("SELECT item, invariant FROM item_checks ORDER BY item")
    assert [item for item, _ in groups] == ["first", "fourth", "second", "third"]

    assert_refused(nexus)
    waive = ("gate", "waive", "1", "rare", "category-use", "--by", "ada", "--reason")
    told = nexus.run(*waive, "two are enough here", "--json").succeeded().document
    assert (told["status"], told["replayed"]) == ("promoted", False)
    assert told["waiver"]["reason"] == "two are enough here"
    assert told["report"] != document["report"]
    page = Path(told["report"].removeprefix("file://")).read_text()
    assert "two are enough here" in page
    assert nexus.rows("SELECT status FROM promotions") == [("promoted",)]
    assert nexus.rows("SELECT number, gate, waived_by FROM waivers") == [(5, "category use", "ada")]

    again = nexus.run(*waive, "another reason", "--json").succeeded().document
    assert again["replayed"] is True
    assert again["waiver"] == told["waiver"]
    status = nexus.run("status", "1", "--json").succeeded().document
    assert (status["status"], status["report"]) == ("completed", told["report"])
    (family,) = status["families"]
    assert (family["status"], family["reason"], family["gates"]["5"]) == (
        "promoted",
        None,
        "waived",
    )
    assert family["waivers"] == [told["waiver"]]
    shown = nexus.run("gate", "list", "1").succeeded().out
    assert "5 category use" in shown
    assert "waived" in shown

    following = nexus.run(*run, "--iteration", "2", "--json", seconds=200).succeeded().document
    gates = following["families"][0]["gates"]
    assert (gates["5"], gates["10"]) == ("failed", "passed")
