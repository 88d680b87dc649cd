"""A fit that can't be trusted is held, and the run says so."""

from rich.console import Console

from events.model import Sampler
from infra.settings import Settings
from nexus.producer import Request
from nexus.run import Watcher, checked_request, run
from nexus.tables import show_run


async def test_too_few_draws_hold_the_family(tmp_path, monkeypatch):
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    settings = Settings(home=tmp_path / "home")
    asked = checked_request(settings, 0, "smoke")
    few = asked.parameters.model_copy(update={"sampler": Sampler(warmup=50, draws=50)})
    document = await run(settings, Request(0, few), Watcher(lambda _: None, lambda _: None))
    family = document["families"][0]
    assert document["status"] == "completed"
    assert family["status"] == "held"
    assert family["ess_bulk_min"] < 400
    assert family["gates"]["2"] == "failed"
    assert "ESS is" in family["reason"]
    console = Console(record=True, width=200)
    show_run(document, console)
    said = console.export_text()
    assert "held" in said
    assert family["reason"] in said
    report = tmp_path / "home" / document["report"].partition("/home/")[2]
    assert family["reason"].partition(";")[0].split(": ")[1] in report.read_text()
