"""The command line. What a command needs is loaded when it runs, so that ``--help`` is quick."""

import asyncio
import json as jsonlib
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console
from typer.exceptions import TyperException

if TYPE_CHECKING:
    from infra.settings import Settings

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_UNREACHABLE, EXIT_INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    help="Event-driven calibration of ordered responses.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
dlq = typer.Typer(help="Dead letters: messages that no handler could take.", no_args_is_help=True)
gate = typer.Typer(help="Gates: what a fit must pass to be promoted.", no_args_is_help=True)
drill = typer.Typer(help="Drills: faults on purpose, and what must hold.", no_args_is_help=True)
app.add_typer(dlq, name="dlq")
app.add_typer(gate, name="gate")
app.add_typer(drill, name="drill")

Json = Annotated[bool, typer.Option("--json", help="Exactly one JSON document on stdout.")]
Iteration = Annotated[int, typer.Argument(min=0, max=999_999, help="The run's number.")]
Profile = Annotated[str, typer.Option(help="smoke (iterations 0-9) or production (10 and up).")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of simulator and sampler.")]
Method = Annotated[
    Literal["nuts", "mml"], typer.Option(help="Sampled, or by marginal maximum likelihood.")
]
Structure = Annotated[
    Literal["unidimensional", "correlated"] | None,
    typer.Option(help="Of the traits; the profile's own without it."),
]
Priors = Annotated[
    Literal["default", "weak"] | None,
    typer.Option(help="Of the items; the profile's own without it."),
]
Responses = Annotated[
    Path | None, typer.Option(help="CSV of ordered categories to run on, a row per respondent.")
]
Scales = Annotated[Path | None, typer.Option(help="TOML that groups the CSV's columns.")]
Groups = Annotated[
    str | None, typer.Option(help="Column of the CSV whose groups are to answer alike.")
]
err = Console(stderr=True)
out = Console()


@app.callback()
def _main(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(envvar="NEXUS_HOME", help="Folder of all embedded state.")
    ] = None,
) -> None:
    context.obj = home


@app.command()
def run(
    context: typer.Context,
    iteration: Annotated[int, typer.Option(min=0, max=999_999)] = 0,
    profile: Profile = "smoke",
    responses: Responses = None,
    scales: Scales = None,
    groups: Groups = None,
    method: Method = "nuts",
    structure: Structure = None,
    priors: Priors = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Run the whole system in one process until the iteration ends."""
    from nexus.progress import RunProgress  # noqa: PLC0415
    from nexus.run import Watcher, checked_request  # noqa: PLC0415
    from nexus.run import run as run_iteration  # noqa: PLC0415
    from nexus.tables import show_run  # noqa: PLC0415

    settings = _settings(context)
    request = checked_request(
        settings,
        iteration,
        profile,
        responses=responses,
        scales=scales,
        groups=groups,
        method=method,
        structure=structure,
        priors=priors,
        seed=seed,
    )
    with RunProgress(err) as progress:
        watcher = Watcher(progress.on_state, progress.on_training)
        document = _run(run_iteration(settings, request, watcher))
    if json:
        _print_json(document)
    else:
        show_run(document, out)
    if document["status"] == "failed":
        raise typer.Exit(EXIT_FAILED)


@app.command()
def start(
    context: typer.Context,
    iteration: Iteration,
    profile: Profile = "smoke",
    responses: Responses = None,
    scales: Scales = None,
    groups: Groups = None,
    method: Method = "nuts",
    structure: Structure = None,
    priors: Priors = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Start an iteration; workers (nexus serve) carry it out."""
    from nexus.run import checked_request  # noqa: PLC0415
    from nexus.serve import start_only  # noqa: PLC0415

    settings = _settings(context)
    request = checked_request(
        settings,
        iteration,
        profile,
        responses=responses,
        scales=scales,
        groups=groups,
        method=method,
        structure=structure,
        priors=priors,
        seed=seed,
    )
    started = _run(start_only(settings, request))
    if json:
        _print_json({"iteration": iteration, "started": started, "replayed": not started})
    else:
        again = "was started before, with the same parameters" if not started else "started"
        out.print(f"Iteration {iteration} {again}. Follow it: nexus status {iteration} --watch")


@app.command()
def serve(
    context: typer.Context,
    only: Annotated[str, typer.Option(help="Handlers to serve, separated by commas.")] = "",
    json: Json = False,
) -> None:
    """Work on what comes, until SIGTERM or Ctrl-C."""
    settings = _settings(context)
    from nexus.serve import serve as serve_handlers  # noqa: PLC0415

    def ready(handlers: tuple[str, ...], bus: str) -> None:
        if json:
            _print_json({"serving": list(handlers), "bus": bus})
        else:
            err.print(f"Serving {', '.join(handlers)} on {bus}. Ctrl-C ends it.")

    chosen = tuple(name.strip() for name in only.split(",") if name.strip())
    _run(_until_signal(serve_handlers(settings, chosen, ready)))


@app.command()
def status(
    context: typer.Context,
    iteration: Annotated[int | None, typer.Argument(min=0, max=999_999)] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until it ends.")] = False,
    json: Json = False,
) -> None:
    """Tell where iterations stand."""
    settings = _settings(context)
    from nexus import status as statuses  # noqa: PLC0415
    from nexus.progress import RunProgress  # noqa: PLC0415
    from nexus.tables import show_iterations, show_run  # noqa: PLC0415

    if iteration is None:
        documents = _run(statuses.statuses(settings))
        _print_json({"iterations": documents}) if json else show_iterations(documents, out)
        return
    if watch:
        with RunProgress(err) as progress:
            document = _run(
                statuses.watch(
                    settings,
                    iteration,
                    progress.on_state,
                    lambda: err.print(f"Waiting for iteration {iteration} to be started."),
                )
            )
    else:
        document = _run(statuses.status(settings, iteration))
    _print_json(document) if json else show_run(document, out)


@app.command()
def report(context: typer.Context, iteration: Iteration, json: Json = False) -> None:
    """Draw the report of an iteration again."""
    settings = _settings(context)
    from nexus.serve import draw_report  # noqa: PLC0415

    uri = _run(draw_report(settings, iteration))
    _print_json({"iteration": iteration, "report": uri}) if json else out.print(
        uri, soft_wrap=True, highlight=False
    )


@app.command()
def emulator(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8085,
    rest_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Serve REST there, may be --port; 0 takes a free one."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Keep everything in this folder.")] = None,
    in_memory: Annotated[
        bool, typer.Option("--in-memory", help="Keep nothing on disk (the default).")
    ] = False,
    allow_remote: Annotated[
        bool, typer.Option(help="Listen on an address that is not loopback; nobody is asked who.")
    ] = False,
    no_fsync: Annotated[
        bool, typer.Option("--no-fsync", help="Outlive the process, but not a power cut.")
    ] = False,
    json: Json = False,  # noqa: ARG001 - the ready line is JSON either way
) -> None:
    """Run the embedded Pub/Sub server alone; prints one ready line of JSON."""
    from infra.errors import InputError  # noqa: PLC0415

    if data_dir is not None and in_memory:
        raise InputError("--data-dir and --in-memory exclude each other: give one of them")
    # Loaded once it is sure that this process is to be the server and nothing else.
    from embedded_pubsub import DataDirError  # noqa: PLC0415 - as said above
    from embedded_pubsub.alone import serve_alone  # noqa: PLC0415 - as said above

    try:
        serve_alone(
            host=host,
            port=port,
            rest_port=rest_port,
            data_dir=data_dir,
            allow_remote=allow_remote,
            fsync=not no_fsync,
        )
    except (DataDirError, OSError, ValueError) as error:
        raise InputError(f"the emulator can't start: {error}") from error


@dlq.command("list")
def dlq_list(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most, per subscription.")] = 100,
    json: Json = False,
) -> None:
    """List the dead letters that wait; none is taken away."""
    settings = _settings(context)
    from nexus.serve import dead_letters  # noqa: PLC0415
    from nexus.tables import show_dead_letters  # noqa: PLC0415

    document = {"dead_letters": _run(dead_letters(settings, limit))}
    _print_json(document) if json else show_dead_letters(document, out)


@gate.command("list")
def gate_list(
    context: typer.Context,
    iteration: Iteration,
    family: Annotated[str | None, typer.Argument(help="One family only.")] = None,
    json: Json = False,
) -> None:
    """Show each gate's figure, threshold, verdict and reason."""
    settings = _settings(context)
    from nexus.status import gates  # noqa: PLC0415
    from nexus.tables import show_gates  # noqa: PLC0415

    families = _run(gates(settings, iteration, family))
    if json:
        _print_json({"iteration": iteration, "families": families})
    else:
        show_gates(families, out)


@gate.command("waive")
def gate_waive(
    context: typer.Context,
    iteration: Iteration,
    family: Annotated[str, typer.Argument(help="The family that is held.")],
    name: Annotated[str, typer.Argument(metavar="GATE", help="The gate's number or name.")],
    reason: Annotated[str, typer.Option(help="Why the family may pass; it is kept.")],
    by: Annotated[str | None, typer.Option(help="Who says so; you, without it.")] = None,
    json: Json = False,
) -> None:
    """Let a held family pass a gate; with no other gate to hold it, it is promoted."""
    settings = _settings(context)
    from nexus.tables import show_waiver  # noqa: PLC0415
    from nexus.waive import waive  # noqa: PLC0415

    document = _run(waive(settings, iteration, family, name, reason, by))
    _print_json(document) if json else show_waiver(document, out)


@drill.command("list")
def drill_list(json: Json = False) -> None:
    """List the drills and their mutants."""
    from drills.catalogue import DRILLS  # noqa: PLC0415

    known = [
        {"drill": d.name, "summary": d.summary, "mutants": list(d.mutants)} for d in DRILLS.values()
    ]
    if json:
        _print_json({"drills": known})
        return
    for line in known:
        out.print(f"[bold]{line['drill']}[/]  {line['summary']}")
        out.print(f"  mutants: {', '.join(line['mutants'])}")


@drill.command("run")
def drill_run(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...")] = None,
    every: Annotated[bool, typer.Option("--all", help="Run every drill.")] = False,
    seed: Seed = 0,
    mutant: Annotated[str | None, typer.Option(help="Break the system on purpose.")] = None,
    json: Json = False,
) -> None:
    """Run drills; exit 1 when one does not hold."""
    settings = _settings(context)
    from drills.runner import chosen, run_drill  # noqa: PLC0415
    from nexus.tables import show_drill  # noqa: PLC0415

    asked = chosen(names or [], every=every, mutant=mutant)
    told = [_run(run_drill(found, mutate, seed=seed, settings=settings)) for found, mutate in asked]
    if json:
        _print_json(told[0] if len(told) == 1 else {"drills": told})
    else:
        for document in told:
            show_drill(document, out)
    if not all(document["passed"] for document in told):
        raise typer.Exit(EXIT_FAILED)


def _settings(context: typer.Context) -> "Settings":
    from infra import logs, telemetry  # noqa: PLC0415
    from infra.settings import Settings  # noqa: PLC0415

    settings = Settings.load(context.obj)
    logs.configure(settings.log_level)
    telemetry.configure()
    return settings


def _run(work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever the work returns
    from infra import telemetry  # noqa: PLC0415

    try:
        return asyncio.run(work)
    except KeyboardInterrupt as interrupt:
        said = "Interrupted. Run the same command again: it goes on where it stopped."
        if "--json" in sys.argv:
            _print_error(interrupt, said)
        err.print(said)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    finally:
        telemetry.shut_down()


async def _until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Run until SIGTERM or SIGINT, then let the work put its things away."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


def _print_json(document: object) -> None:
    print(jsonlib.dumps(document, indent=2), flush=True)  # noqa: T201 - stdout is the result


def _tell_usage_error(end: SystemExit) -> None:
    """Typer shows its own errors on stderr and exits; with --json stdout tells them too."""
    error = end.__context__
    if isinstance(error, TyperException) and "--json" in sys.argv:
        _print_error(error, error.format_message())


def _print_error(error: BaseException, message: str) -> None:
    _print_json({"error": {"kind": type(error).__name__, "message": message}})


def _fail(error: Exception, code: int) -> NoReturn:
    if "--json" in sys.argv:
        _print_error(error, str(error))
    err.print(f"[red]Error:[/] {error}", highlight=False, soft_wrap=True)
    raise SystemExit(code)


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 bad input, 3 unreachable."""
    from infra.errors import InputError, NexusError, ServiceUnavailableError  # noqa: PLC0415

    try:
        app()
    except InputError as error:
        _fail(error, EXIT_BAD_INPUT)
    except ServiceUnavailableError as error:
        _fail(error, EXIT_UNREACHABLE)
    except NexusError as error:
        _fail(error, EXIT_FAILED)
    except SystemExit as end:
        _tell_usage_error(end)
        raise
    raise SystemExit(0)
