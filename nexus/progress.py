"""How a run goes on, on stderr: a bar for the shards, the rows, and the sampler of each family."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from infra.ports import TrainingProgress
from nexus.summary import Document

FAMILY_STYLES = {"promoted": "green", "held": "yellow", "failed": "red"}


_PHASES = {
    "mode": "finding the mode",
    "compile": "compiling",
    "warmup": "warming up",
    "draws": "sampling",
}


class RunProgress:
    """Live bars; on no terminal, a line for each thing that ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}[/]"),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._said: set[str] = set()

    def on_state(self, state: Document) -> None:
        """Show where the ledger says the run is."""
        shards = state["shards"]
        if shards["requested"]:
            note = f"{state['rows_merged']:,} rows" + (
                f", {shards['failed']} failed" if shards["failed"] else ""
            )
            self._bar("shards merged", shards["merged"], shards["requested"], note)
            if shards["merged"] == shards["requested"]:
                self._say("shards", f"{shards['merged']} shards merged, {note}")
        for family in state["families"]:
            self._on_family(family)

    def on_training(self, told: TrainingProgress) -> None:
        """Show how far a fit is."""
        total, phase = max(told.total, 1), _PHASES.get(told.phase, told.phase)
        self._bar(f"family {told.family}", min(told.done, total), total, phase)
        self._say(f"family {told.family} {phase}", f"family {told.family}: {phase}")

    def _on_family(self, family: Document) -> None:
        style = FAMILY_STYLES.get(family["status"])
        if style is None:
            return
        name = family["family"]
        self._bar(f"family {name}", 1, 1, family["status"])
        self._say(f"family {name}", f"family {name} [{style}]{family['status']}[/]")

    def _bar(self, name: str, done: float, total: float, note: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, note=note)
        self._bars.update(self._tasks[name], completed=done, total=total, note=note)

    def _say(self, key: str, line: str) -> None:
        if not self._console.is_terminal and key not in self._said:
            self._said.add(key)
            self._console.print(line)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()
