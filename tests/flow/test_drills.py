"""``nexus drill``: the idempotency storm holds, and fails on a system without claims."""

import pytest

STORM = ("drill", "run", "idempotency-storm", "--json")


@pytest.fixture(params=["embedded", "google"])
def server(request, project):
    if request.param == "embedded":
        return {}
    target = request.getfixturevalue("google_target")
    return {"PUBSUB_EMULATOR_HOST": target, "GOOGLE_CLOUD_PROJECT": project}


def test_the_storm_leaves_one_effect(nexus, server):
    document = nexus.run(*STORM, **server).succeeded().document
    assert set(document) == {"drill", "seed", "passed", "checks", "faults"}
    assert document["drill"] == "idempotency-storm"
    assert document["seed"] == 0
    assert document["passed"] is True
    checks = {check["name"]: check for check in document["checks"]}
    for check in checks.values():
        assert set(check) == {"name", "expected", "observed", "passed"}
        assert check["passed"] is (check["expected"] == check["observed"]) is True
    assert checks["rows"]["observed"] == 600
    assert checks["batches created"]["observed"] == 1
    assert checks["receipts"]["observed"] == 6
    assert checks["different receipts"]["observed"] == 1
    assert document["faults"]
    assert nexus.steps() == {}  # a drill's home is its own


def test_the_storm_again_on_the_same_server_holds_too(nexus, google_target, project):
    there = {"PUBSUB_EMULATOR_HOST": google_target, "GOOGLE_CLOUD_PROJECT": project}
    for _ in range(2):
        assert nexus.run(*STORM, **there).succeeded().document["passed"] is True


def test_without_claims_the_storm_is_seen(nexus):
    ended = nexus.run(*STORM, "--mutant", "no-claim")
    assert ended.code == 1
    document = ended.document
    assert document["passed"] is False
    assert any(not check["passed"] for check in document["checks"])
    assert "Traceback" not in ended.err


def test_drills_are_listed(nexus):
    (storm,) = nexus.run("drill", "list", "--json").succeeded().document["drills"]
    assert set(storm) == {"drill", "summary", "mutants"}
    assert storm["drill"] == "idempotency-storm"
    assert storm["mutants"] == ["no-claim"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("earthquake",), "idempotency-storm"),
        (("idempotency-storm", "--mutant", "gremlin"), "no-claim"),
        ((), "--all"),
    ],
)
def test_an_unknown_drill_is_refused_with_the_way_out(nexus, arguments, said):
    ended = nexus.run("drill", "run", *arguments, "--json")
    assert ended.code == 2
    assert said in ended.document["error"]["message"]
