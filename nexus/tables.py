"""Documents as a person reads them."""

from rich.console import Console
from rich.table import Table

from nexus.progress import FAMILY_STYLES
from nexus.summary import Document


def show_run(document: Document, console: Console) -> None:
    """A run's summary."""
    shards, status = document["shards"], document["status"]
    again = " (replayed: it had ended before, nothing was done)" if document["replayed"] else ""
    console.print(
        f"Iteration {document['iteration']} ({document['namespace']}): [bold]{status}[/]{again}"
    )
    console.print(
        f"{shards['merged']} of {shards['requested']} shards merged, "
        f"{document['rows_merged']:,} rows"
    )
    if document["reason"]:
        console.print(f"[red]{document['reason']}[/]")
    if document["families"]:
        console.print(_families(document))
    for family in document["families"]:
        if family["reason"]:
            console.print(f"[yellow]{family['family']}[/]: {family['reason']}", highlight=False)
    if document["report"]:
        console.print(f"Report: {document['report']}", soft_wrap=True, highlight=False)


def _families(document: Document) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("family", "status", "R-hat", "ESS bulk", "ESS tail", "divergences", "seconds"):
        table.add_column(name, justify="left" if name in {"family", "status"} else "right")
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
        )
    return table


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
