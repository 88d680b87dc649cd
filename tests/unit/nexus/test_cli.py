import json
import subprocess
import sys

import pytest

HEAVY = ("jax", "numpyro", "duckdb", "google", "faststream", "grpc", "numpy", "matplotlib")
LOADED = """
import sys
sys.argv = ["nexus", *sys.argv[1:]]
try:
    from nexus.cli import main
    main()
finally:
    found = {name.partition(".")[0] for name in sys.modules}
    print("LOADED", *sorted(found & set(HEAVY)), file=sys.stderr)
"""


@pytest.fixture
def nexus(tmp_path, monkeypatch):
    """Runs the command line in a process of its own, with a home of its own."""
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments, program=("-m", "nexus")):
        command = [sys.executable, *program, *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)

    return run


def loaded(nexus, *arguments):
    done = nexus(*arguments, program=("-c", f"HEAVY = {HEAVY!r}\n{LOADED}"))
    [line] = [line for line in done.stderr.splitlines() if line.startswith("LOADED")]
    return done, set(line.split()[1:])


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["drill", "run", "--help"]])
def test_help_loads_nothing_heavy(nexus, arguments):
    done, found = loaded(nexus, *arguments)
    assert done.returncode == 0
    assert "Usage" in done.stdout
    assert found == set()


def test_status_loads_neither_jax_nor_a_warehouse(nexus):
    done, found = loaded(nexus, "status", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"iterations": []}
    assert found & {"jax", "numpyro", "duckdb", "google", "faststream", "grpc"} == set()


BAD = {
    "an option that is none": (["run", "--metod", "nuts"], "No such option: --metod"),
    "a command that is none": (["dlq", "lst"], "No such command 'lst'"),
    "a number that is none": (["run", "--iteration", "x"], "'--iteration'"),
    "an iteration too large": (["run", "--iteration", "1000000"], "--iteration"),
    "an argument too few": (["start"], "Missing argument"),
    "another method": (["run", "--method", "em"], "'em' is not one of 'nuts', 'mml'"),
    "another namespace": (["run", "--iteration", "10"], "use --profile production"),
    "no such file": (["run", "--responses", "absent.csv"], "absent.csv can't be read"),
    "scales alone": (["run", "--scales", "s.toml"], "needs --responses"),
    "no drill": (["drill", "run"], "name one or more drills"),
    "an unknown drill": (["drill", "run", "fire"], "drill 'fire' is unknown"),
    "an unknown mutant": (
        ["drill", "run", "idempotency-storm", "--mutant", "x"],
        "has no mutant 'x': use no-claim",
    ),
    "an unknown handler": (["serve", "--only", "cooks"], "handler 'cooks' is unknown"),
    "two places for data": (["emulator", "--data-dir", "d", "--in-memory"], "exclude each other"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_exits_2_with_one_json_document(nexus, case, tmp_path):
    arguments, reason = BAD[case]
    done = nexus(*arguments, "--json")
    assert done.returncode == 2, done.stderr
    document = json.loads(done.stdout)
    assert set(document) == {"error"}
    assert set(document["error"]) == {"kind", "message"}
    assert reason in document["error"]["message"]
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "home").rglob("*.csv"))


def test_without_json_stdout_stays_empty_and_stderr_says_why(nexus):
    done = nexus("run", "--method", "em")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'em' is not one of 'nuts', 'mml'" in done.stderr


def test_a_bad_setting_exits_2_by_its_name(nexus, monkeypatch):
    monkeypatch.setenv("NEXUS_TRIES", "0")
    done = nexus("status", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["kind"] == "SettingsError"
    assert "NEXUS_TRIES='0'" in done.stderr


def test_what_cannot_be_reached_exits_3(nexus, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("NEXUS_LEDGER", f"sqlite:///{tmp_path}/file/ledger.db")
    done = nexus("status", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["kind"] == "ServiceUnavailableError"


def test_an_unknown_iteration_is_bad_input(nexus):
    done = nexus("status", "7", "--json")
    assert done.returncode == 2
    assert "7" in json.loads(done.stdout)["error"]["message"]


def test_the_drills_are_listed(nexus):
    done = nexus("drill", "list", "--json")
    assert done.returncode == 0
    [drill] = json.loads(done.stdout)["drills"]
    assert (drill["drill"], drill["mutants"]) == ("idempotency-storm", ["no-claim"])
    assert drill["summary"]
