"""Correlated traits from the request to the report: what a run leaves, and that it is done once."""

import io
import json
import random
from pathlib import Path

import duckdb
import numpy as np
import pytest

from calibration.artefact import GrmArtefact
from events.model import Sampler
from infra.profiles import OPENNESS
from infra.settings import Settings
from nexus.producer import Request
from nexus.run import Watcher, checked_request, run

# Fits that leave a persona out, twice: minutes where programs are compiled on a busy machine.
pytestmark = pytest.mark.timeout(900)

PAIRS = 15


def path_of(uri):
    return Path(uri.removeprefix("file://"))


async def completed(home, iteration=0, **wanted):
    settings = Settings(home=home)
    asked = checked_request(settings, iteration, "smoke", structure="correlated", **wanted)
    few = asked.parameters.model_copy(update={"sampler": Sampler(warmup=100, draws=250)})
    request = Request(iteration, few, asked.csv)
    return await run(settings, request, Watcher(lambda _: None, lambda _: None))


def rows(home, sql):
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as connection:
        return connection.sql(sql).fetchall()


def assert_the_fit_is_kept(family):
    text = path_of(family["grm"]).read_text()
    artefact = GrmArtefact.from_json(text)
    assert GrmArtefact.from_json(artefact.to_json()) == artefact
    assert json.loads(artefact.to_json()) == json.loads(text)
    assert artefact.traits == OPENNESS.items
    assert artefact.trait_of_item == {item: item for item in OPENNESS.items}
    assert len(artefact.correlations) == PAIRS
    folder = path_of(family["grm"]).parent
    with np.load(io.BytesIO(next(folder.glob("draws-*.npz")).read_bytes())) as draws:
        assert draws["correlation"].shape == (4, 250, 6, 6)
        mean = draws["correlation"].mean((0, 1))
    for pair in artefact.correlations:
        i, j = artefact.traits.index(pair.first), artefact.traits.index(pair.second)
        assert abs(mean[i, j] - pair.correlation.mean) < 1e-5
    assert path_of(family["inference_data"]).read_bytes().startswith(b"\x89HDF")


def assert_the_tables_hold_it(home):
    scored = rows(
        home, "SELECT trait, count(*), count(DISTINCT persona) FROM trait_scores GROUP BY 1"
    )
    assert sorted(scored) == sorted((item, 10, 10) for item in OPENNESS.items)
    assert rows(home, "SELECT count(*) FROM trait_correlations WHERE mean BETWEEN -1 AND 1") == [
        (PAIRS,)
    ]
    assert rows(home, "SELECT count(*) FROM scores") == [(10,)]
    assert rows(home, "SELECT count(*) FROM calibration_metrics") == [(6,)]
    models = rows(home, "SELECT model, left_out FROM model_comparisons ORDER BY 1")
    assert models == [("correlated", 10), ("independent_traits", 10), ("one_trait", 10)]


async def test_personas_are_run_with_correlated_traits_once(monkeypatch, new_nexus):
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    nexus = new_nexus()
    document = await completed(nexus.home)
    [family] = document["families"]
    assert (document["status"], document["structure"]) == ("completed", "correlated")
    assert document["priors"] == "default"
    assert family["status"] in {"promoted", "held"}
    assert (family["calibration_metrics_rows"], family["invariance_rows"]) == (6, 0)
    assert list(family["gates"]) == [str(number) for number in range(1, 11)]
    assert {n for n, word in family["gates"].items() if word == "not judged"} == {"8", "10"}
    assert_the_fit_is_kept(family)
    assert_the_tables_hold_it(nexus.home)
    page = path_of(document["report"]).read_text()
    for said in ("Correlations of the traits", "correlated traits", "--structure correlated"):
        assert said in page
    assert 'aria-label="Correlations of the traits"' in page

    before = nexus.files()
    again = await completed(nexus.home)
    assert (again["replayed"], set(again["effects"].values())) == (True, {0})
    assert nexus.files() == before
    told = nexus.run("status", "0", "--json").succeeded().document
    assert told["families"] == document["families"]
    drawn = nexus.run("report", "0", "--json").succeeded().document["report"]
    assert "Correlations of the traits" in path_of(drawn).read_text()


@pytest.fixture
def survey(tmp_path):
    """24 people, two traits of three items that correlate; the scales name them.

    In rare.csv two people gave the first item a category that nobody else did.
    """
    draw = random.Random(9)
    lines = ["a1,a2,a3,b1,b2,b3"]
    for _ in range(24):
        first = draw.gauss(0, 1)
        traits = (first, 0.6 * first + 0.8 * draw.gauss(0, 1))
        eta = [1.8 * traits[n // 3] + draw.gauss(0, 1.7) for n in range(6)]
        lines.append(",".join(str(1 + (one > -1.5) + (one > 0) + (one > 1.5)) for one in eta))
    (tmp_path / "survey.csv").write_text("\n".join(lines))
    lines[1:3] = [f"5{line[1:]}" for line in lines[1:3]]
    (tmp_path / "rare.csv").write_text("\n".join(lines))
    items = '[both]\nitems = ["a1", "a2", "a3", "b1", "b2", "b3"]\n'
    (tmp_path / "one.toml").write_text(items)
    traits = 'traits = { first = ["a1", "a2", "a3"], second = ["b1", "b2", "b3"] }\n'
    (tmp_path / "two.toml").write_text(items + traits)
    return tmp_path


def test_a_survey_without_traits_is_refused_and_leaves_nothing(nexus, survey):
    asked = ("run", "--iteration", "1", "--structure", "correlated")
    files = ("--responses", str(survey / "survey.csv"), "--scales")
    for more, said in (
        ((*files, str(survey / "one.toml")), "family both names no traits"),
        (("--structure", "guess"), "'guess'"),
    ):
        ended = nexus.run(*asked, *more, "--json")
        assert ended.code == 2
        assert said in ended.document["error"]["message"]
        assert "unidimensional" in ended.document["error"]["message"]
    assert nexus.steps("smoke/1") == {}


def test_priors_that_cannot_be_are_refused_and_leave_nothing(nexus):
    for asked, said in (
        (("--priors", "strong"), "'strong' is not one of 'default', 'weak'"),
        (("--priors", "weak", "--method", "mml"), "--priors weak needs --method nuts"),
    ):
        for command in (("run", "--iteration", "2"), ("start", "2")):
            ended = nexus.run(*command, *asked, "--json")
            assert ended.code == 2
            assert said in ended.document["error"]["message"]
    assert nexus.steps("smoke/2") == {}


def assert_waivers_let_it_through(nexus, held):
    """Each gate that holds it, one after the other; only the last word lets it through."""
    numbers = [told["number"] for told in held["gate_details"] if told["verdict"] == "failed"]
    assert 5 in numbers
    waive = ("gate", "waive", "1", "both", "--by", "ada", "--reason", "two people are enough here")
    for number in numbers:
        told = nexus.run(*waive[:4], str(number), *waive[4:], "--json").succeeded().document
        assert told["status"] == ("promoted" if number == numbers[-1] else "held")
    status = nexus.run("status", "1", "--json").succeeded().document
    [family] = status["families"]
    assert (family["status"], family["reason"]) == ("promoted", None)
    assert {n for n, word in family["gates"].items() if word == "waived"} == set(map(str, numbers))
    assert nexus.rows("SELECT number FROM waivers ORDER BY 1") == [(n,) for n in numbers]
    assert nexus.rows("SELECT status FROM promotions") == [("promoted",)]
    page = path_of(status["report"]).read_text()
    for said in ("two people are enough here", "Correlations of the traits", "Trait first"):
        assert said in page


async def test_a_survey_s_traits_are_those_of_its_scales(survey, monkeypatch, new_nexus):
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    nexus = new_nexus()
    files = {"responses": survey / "rare.csv", "scales": survey / "two.toml"}
    document = await completed(nexus.home, 1, priors="weak", **files)
    [family] = document["families"]
    assert family["status"] == "held"
    assert document["priors"] == "weak"
    artefact = GrmArtefact.from_json(path_of(family["grm"]).read_text())
    assert artefact.priors is not None
    assert artefact.priors.log_discrimination_sd == 1.0
    assert artefact.traits == ("first", "second")
    assert artefact.trait_of_item["b2"] == "second"
    [pair] = artefact.correlations
    assert pair.correlation.hdi95[0] < 0.6 < pair.correlation.hdi95[1]
    assert pair.correlation.mean > 0.2
    assert family["invariance_rows"] == 3
    assert family["gates"]["8"] in {"passed", "noted"}
    page = path_of(document["report"]).read_text()
    for said in ("Trait first", "weak: discriminations are left", "--priors weak"):
        assert said in page
    assert "Each trait's groups are compared by its own items" in page.replace("&#39;", "'")
    assert_waivers_let_it_through(nexus, family)


async def test_a_survey_s_traits_are_estimated_by_maximum_likelihood(
    survey, monkeypatch, new_nexus
):
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    home = new_nexus().home
    files = {"responses": survey / "survey.csv", "scales": survey / "two.toml"}
    document = await completed(home, 1, method="mml", **files)
    [family] = document["families"]
    assert family["status"] in {"promoted", "held"}
    assert (family["method"], family["r_hat_max"], family["inference_data"]) == ("mml", None, None)
    verdicts = family["gates"]
    unjudged = {number for number, word in verdicts.items() if word == "not judged"}
    assert unjudged == {"2", "3", "4", "10"}
    assert (verdicts["1"], verdicts["7"]) == ("passed", "passed")
    artefact = GrmArtefact.from_json(path_of(family["grm"]).read_text())
    [pair] = artefact.correlations
    assert pair.correlation.hdi95[0] < 0.6 < pair.correlation.hdi95[1] < 1
    assert artefact.population == {}
    kept = rows(home, "SELECT mean, sd, hdi_high, r_hat FROM trait_correlations")
    told = pair.correlation
    assert kept == [(told.mean, told.sd, told.hdi95[1], None)]
    scored = "SELECT trait, count(*), bool_and(sd > 0 AND sd < 1) FROM trait_scores GROUP BY 1"
    assert sorted(rows(home, scored)) == [("first", 24, True), ("second", 24, True)]
    assert rows(home, "SELECT count(*) FROM scores WHERE sd > 0") == [(24,)]
    assert rows(home, "SELECT count(*) FROM model_comparisons") == [(0,)]
    page = path_of(document["report"]).read_text()
    assert "estimate and 95% interval of each two traits" in page
    for said in ("No draws were kept for this fit", "has no draws: fit it by", "--method mml"):
        assert said in page
