"""The commands of `bluesky-tiled-writer`: their options, what they do, and their exit status."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress
from typer.core import TyperGroup

from bluesky_tiled_writer.checks import RunInTiled
from bluesky_tiled_writer.checks import verify as differences
from bluesky_tiled_writer.errors import (
    JournalError,
    TiledWriterError,
    UnreadableFile,
)
from bluesky_tiled_writer.journal import JournalDirectory, to_json_lines
from bluesky_tiled_writer.run import RunIndex
from bluesky_tiled_writer.sink import sort_stored

from .check import check
from .consume import consume
from .migrate_command import migrate
from .options import ApiKey, Journals, PathMaps, To, connected, pairs
from .output import (
    complain,
    count,
    describe,
    print_report,
    progress_bar,
    progress_bars,
    show_again,
)
from .replay import TIMEOUT, Replay
from .saved_documents import SavedDocuments
from .sources import SUFFIXES

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

MAX_SHOWN = 10
"""Differences of a key that are printed at most."""

_NAME = "bluesky-tiled-writer"


class _Group(TyperGroup):
    """Prints an error and its hint instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TiledWriterError as error:
            if ctx.params.get("debug"):
                raise
            complain(f"Error: {error.args[0]}")
            if error.hint:
                complain(error.hint)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            complain("Interrupted. Run the same command again to continue.")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    # They would show the values of variables, API keys among them.
    pretty_exceptions_enable=False,
    help="Store saved Bluesky documents in Tiled, move catalogs, compare runs, and show journals.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{_NAME} {version(_NAME)}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    if debug:
        logging.basicConfig(level=logging.INFO)
    # The commands print every problem themselves; without a handler, Python would repeat it.
    logging.getLogger("bluesky_tiled_writer").addHandler(logging.NullHandler())


app.add_typer(consume, name="consume")
app.command()(check)


@app.command()
def replay(
    paths: Annotated[
        list[Path], typer.Argument(help="Journals, JSON Lines or msgpack; or directories of these.")
    ],
    to: To,
    api_key: ApiKey = None,
    finish: Annotated[
        bool,
        typer.Option(
            "--finish",
            help="Close runs without a stop document as interrupted, as in journals.",
        ),
    ] = False,
    max_array_size: Annotated[
        int, typer.Option(help="As for TiledWriter; that of a journal takes precedence.")
    ] = 0,
    path_map: PathMaps = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long to wait for a server that is down.")
    ] = TIMEOUT,
) -> None:
    """Store saved documents in Tiled.

    What Tiled has already is not sent again: run the command again after any failure, and it
    sends the rest. The exit status is 0 if Tiled has all of it.
    """
    files = list(_files(paths))
    maps, complete = pairs(path_map or [], "--path-map"), True
    with connected(to, api_key) as client, progress_bars() as progress:
        to_tiled = Replay(
            client, finish=finish, timeout=timeout, max_array_size=max_array_size, path_map=maps
        )
        for path in files:
            try:
                complete &= _replay_file(to_tiled, path, progress)
            except (JournalError, UnreadableFile) as error:  # go on with the other files
                complain(str(error))
                complete = False
    raise typer.Exit(0 if complete else 1)


def _replay_file(to_tiled: Replay, path: Path, progress: Progress) -> bool:
    """Store the runs in a file; return True if Tiled has all that is in it."""
    problems: list[TiledWriterError] = []
    try:
        saved = SavedDocuments(path, problems.append)
        with progress_bar(progress, saved) as advance:
            report = to_tiled.store(saved, advance)
    finally:
        for problem in problems:
            complain(str(problem))
    print_report(path, report)
    unreadable = len(problems) - saved.torn
    return report.complete and bool(report.runs) and not unreadable


app.command()(migrate)


@app.command()
def status(
    journal_directory: Journals = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again, until Ctrl-C.")] = False,
) -> None:
    """Show the journals, which are of runs that Tiled does not have to their end."""
    directory = JournalDirectory(journal_directory)
    if watch:
        show_again(lambda: _status(directory))
        return
    for line in _status(directory):
        typer.echo(line)


def _status(directory: JournalDirectory) -> Iterator[str]:
    journals = directory.journals()
    if not journals:
        yield f"No runs are waiting in {directory.path}."
        return
    yield f"{count(len(journals), 'run')} in {directory.path}:"
    for info in journals:
        yield ""
        yield from describe(info)
    if not all(info.locked for info in journals):
        yield ""
        yield "Runs without an owner are stored by the next TiledWriter for their server,"
        yield f"or by `{_NAME} replay FILE --to URI`."


@app.command()
def verify(
    run: Annotated[str, typer.Argument(help="Uid of the run.")],
    path: Annotated[Path, typer.Argument(help="Its documents: a journal, JSON Lines or msgpack.")],
    to: To,
    api_key: ApiKey = None,
) -> None:
    """Compare the documents of a run with what Tiled has, row by row.

    A difference that the notes of the run mention does not count. The exit status is 0 if there is
    no other one.
    """
    saved, index = SavedDocuments(path, lambda problem: complain(str(problem))), RunIndex()
    with connected(to, api_key) as client, progress_bars() as progress:
        with progress_bar(progress, saved) as advance:
            documents = []
            for name, doc in saved:
                if index.run_of(name, doc) in (run, None):
                    documents.append((name, doc))
                advance()
        found: Counter[tuple[str | None, str | None]] = Counter()
        for difference in differences(documents, RunInTiled.find(client, run)):
            where = difference.stream, difference.key
            found[where] += 1
            if found[where] <= MAX_SHOWN:
                typer.echo(str(difference))
    for (stream, key), number in found.items():
        if number > MAX_SHOWN:
            typer.echo(f"stream {stream!r}, key {key!r}: {number - MAX_SHOWN} more differences")
    total = sum(found.values())
    typer.echo(f"Run {run}: {count(total, 'difference') if total else 'no difference'}.")
    raise typer.Exit(1 if total else 0)


@app.command()
def sort(
    runs: Annotated[list[str], typer.Argument(help="Uids of the runs.")],
    to: To,
    api_key: ApiKey = None,
) -> None:
    """Give runs that are stored already the order of their rows.

    PostgreSQL returns rows in any order unless it is asked to sort them, which earlier writers did
    not do. The exit status is 1 if no columns of a table tell the order of its rows.
    """
    unsorted = 0
    with connected(to, api_key) as client:
        for run in runs:
            for table in sort_stored(client, run):
                by = " and ".join(table.order)
                if table.changed:
                    typer.echo(f"{table.path}: sorted by {by} from now on.")
                elif by:
                    typer.echo(f"{table.path}: is sorted by {by}.")
                elif table.in_order:
                    typer.echo(f"{table.path}: its database keeps the order of rows.")
                else:
                    typer.echo(f"{table.path}: no columns tell the order of its rows.")
                    unsorted += 1
    raise typer.Exit(1 if unsorted else 0)


@app.command()
def export(
    path: Annotated[Path, typer.Argument(help="A journal; its owner may still be writing it.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File.", show_default="standard output")
    ] = None,
) -> None:
    """Write the documents of a journal as JSON Lines.

    The exit status is 1 if a part of the journal could not be read.
    """
    if output is None:
        damage = to_json_lines(path, sys.stdout)
    else:
        try:
            with output.open("w", encoding="utf-8") as file:
                damage = to_json_lines(path, file)
        except OSError as error:
            raise TiledWriterError(f"{output} cannot be written: {error.strerror}.") from error
    for part in damage:
        complain(f"{path}: cannot read {part}.")
    raise typer.Exit(1 if damage else 0)


# -- parts --------------------------------------------------------------------------------------


def _files(paths: list[Path]) -> Iterator[Path]:
    """Return the files, and from directories those with a known suffix, by name."""
    for path in paths:
        if path.is_dir():
            yield from sorted(item for item in path.iterdir() if item.suffix in SUFFIXES)
        else:
            yield path


if __name__ == "__main__":
    app()
