"""Documents as a person reads them."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nexus.progress import FAMILY_STYLES
from nexus.summary import Document

_VERDICT_STYLES = {"passed": "green", "failed": "red", "waived": "yellow", "noted": "yellow"}


def show_run(document: Document, console: Console) -> None:
    """A run's summary."""
    shards, status = document["shards"], document["status"]
    again = " (replayed: it had ended before, nothing was done)" if document["replayed"] else ""
    kind = document["namespace"]
    kind += ", correlated traits" if document["structure"] == "correlated" else ""
    kind += ", weak priors" if document["priors"] == "weak" else ""
    console.print(f"Iteration {document['iteration']} ({kind}): [bold]{status}[/]{again}")
    console.print(
        f"{shards['merged']} of {shards['requested']} shards merged, "
        f"{document['rows_merged']:,} rows"
    )
    if document["reason"]:
        console.print(f"[red]{document['reason']}[/]")
    if document["families"]:
        console.print(_families(document))
    for family in document["families"]:
        _told_of(family, console)
    if document["report"]:
        console.print(f"Report: {document['report']}", soft_wrap=True, highlight=False)


def _told_of(family: Document, console: Console) -> None:
    """Why it is held, what was noted, who let it pass; a line each."""
    if family["reason"]:
        console.print(f"[yellow]{family['family']}[/]: {family['reason']}", highlight=False)
    for told in family["gate_details"]:
        if told["verdict"] == "noted":
            console.print(
                f"[dim]{family['family']}: gate {told['number']} ({told['name']}):[/] "
                f"{told['reason']}",
                highlight=False,
            )
    for waiver in family["waivers"]:
        console.print(
            f"{family['family']}: gate {waiver['number']} ({waiver['gate']}) waived by "
            f"{waiver['waived_by']}: {waiver['reason']}",
            highlight=False,
            markup=False,
        )


def show_gates(families: list[Document], console: Console) -> None:
    """Every gate of every family: its verdict, figure, threshold and reason."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("family", "gate", "verdict", "figure", "must be", "reason"):
        table.add_column(name, justify="right" if name == "figure" else "left")
    for family in families:
        for told in family["gate_details"]:
            style = _VERDICT_STYLES.get(told["verdict"], "dim")
            table.add_row(
                family["family"],
                f"{told['number']} {told['name']}",
                f"[{style}]{told['verdict']}[/]",
                _number(told["value"], 4 if told["number"] == 1 else 3),
                Text(told["threshold"]),
                Text(told["reason"]),
            )
    console.print(table)


def show_waiver(document: Document, console: Console) -> None:
    """What a waiver came to."""
    waiver = document["waiver"]
    again = " before" if document["replayed"] else ""
    console.print(
        f"Gate {waiver['number']} ({waiver['gate']}) of {document['family']} was waived{again} by "
        f"{waiver['waived_by']}: {waiver['reason']}",
        highlight=False,
        markup=False,
    )
    console.print(f"{document['family']} is {document['status']}.")
    if document["report"]:
        console.print(f"Report: {document['report']}", soft_wrap=True, highlight=False)


def _families(document: Document) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    left = {"family", "status", "gates"}
    for name in (
        "family", "status", "R-hat", "ESS bulk", "ESS tail", "divergences", "seconds", "gates",
    ):  # fmt: skip
        table.add_column(name, justify="left" if name in left else "right")
    for family in document["families"]:
        style = FAMILY_STYLES.get(family["status"], "")
        status = family["status"]
        table.add_row(
            family["family"],
            f"[{style}]{status}[/]" if style else status,
            _number(family["r_hat_max"], 4),
            _number(family["ess_bulk_min"], 0),
            _number(family["ess_tail_min"], 0),
            _number(family["divergences"], 0),
            _number(family["sampling_seconds"], 1),
            _gates(family["gates"]),
        )
    return table


def _gates(words: Mapping[str, str]) -> str:
    """``8 passed, 1 not judged (10)``: which ones, for all but those that passed."""
    by_word: dict[str, list[str]] = {}
    for number, word in words.items():
        by_word.setdefault(word, []).append(number)
    return ", ".join(
        f"{len(numbers)} {word}" + ("" if word == "passed" else f" ({', '.join(numbers)})")
        for word, numbers in by_word.items()
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def show_iterations(documents: list[Document], console: Console) -> None:
    """One line for each iteration."""
    if not documents:
        console.print("No iteration yet: start one with nexus run or nexus start N.")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("iteration", "namespace", "status", "shards", "families"):
        table.add_column(name)
    for document in documents:
        families = ", ".join(f"{f['family']} {f['status']}" for f in document["families"])
        merged, requested = document["shards"]["merged"], document["shards"]["requested"]
        table.add_row(
            str(document["iteration"]),
            document["namespace"],
            document["status"],
            f"{merged}/{requested}",
            families,
        )
    console.print(table)


def show_dead_letters(document: Document, console: Console) -> None:
    """One block for each dead letter."""
    if not document["dead_letters"]:
        console.print("No dead letters.")
    for letter in document["dead_letters"]:
        console.print(f"[bold]{letter['subscription']}[/]  {letter['message_id']}")
        console.print(f"  {letter['reason']}", highlight=False, soft_wrap=True)


def show_drill(document: Document, console: Console) -> None:
    """A drill's checks."""
    verdict = "[green]passed[/]" if document["passed"] else "[red]failed[/]"
    console.print(f"[bold]{document['drill']}[/] (seed {document['seed']}): {verdict}")
    for check in document["checks"]:
        mark = "[green]✓[/]" if check["passed"] else "[red]✗[/]"
        console.print(
            f"  {mark} {check['name']}: {check['observed']} (expected {check['expected']})"
        )
