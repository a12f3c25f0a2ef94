"""The command `bluesky-tiled-writer`: what is in files, and what became of it in Tiled."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from tiled.client import from_uri
from typer.core import TyperGroup

from bluesky_tiled_writer.checks import RunInTiled, reading
from bluesky_tiled_writer.checks import verify as differences
from bluesky_tiled_writer.errors import JournalError, TiledWriterError, UnreadableFile
from bluesky_tiled_writer.journal import JournalDirectory, JournalInfo, to_json_lines

from .replay import TIMEOUT, Replay
from .saved_documents import RunIndex, SavedDocuments

INTERRUPTED = 130
MAX_SHOWN = 10
"""Differences of a key that are printed."""

SUFFIXES = {".journal", ".json", ".jsonl", ".msgpack"}
"""Of the files that are taken from a directory."""

_NAME = "bluesky-tiled-writer"


class _Group(TyperGroup):
    """Prints what is wrong, and what to do about it, where Python would print a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TiledWriterError as error:
            if ctx.params.get("debug"):
                raise
            _complain(f"Error: {error.args[0]}")
            if error.hint:
                _complain(error.hint)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            _complain("Interrupted. The same command goes on from here.")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    # They would show the values of variables: API keys among them.
    pretty_exceptions_enable=False,
    help="Store saved Bluesky documents in Tiled, and look after journals.",
)

To = Annotated[str, typer.Option("--to", metavar="URI", help="Address of the container in Tiled.")]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key", envvar="TILED_API_KEY", show_envvar=True, help="API key of the server."
    ),
]
Directory = Annotated[
    Path | None,
    typer.Option(
        "--journal-directory", help="Where the journals are.  [default: as for TiledWriter]"
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{_NAME} {version(_NAME)}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    if debug:
        logging.basicConfig(level=logging.INFO)
    # What goes wrong is printed by the commands: Python would print it a second time.
    logging.getLogger("bluesky_tiled_writer").addHandler(logging.NullHandler())


@app.command()
def replay(
    paths: Annotated[
        list[Path], typer.Argument(help="Journals, JSON Lines, msgpack; or directories of them.")
    ],
    to: To,
    api_key: ApiKey = None,
    finish: Annotated[
        bool,
        typer.Option(
            "--finish", help="Close runs without a stop document as interrupted; journals always."
        ),
    ] = False,
    max_array_size: Annotated[
        int, typer.Option(help="As for TiledWriter; journals know their own.")
    ] = 0,
    path_map: Annotated[
        list[str] | None,
        typer.Option(metavar="FROM=TO", help="As for TiledWriter; may be given more than once."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long to wait for a server that is down.")
    ] = TIMEOUT,
) -> None:
    """Store saved documents in Tiled.

    What Tiled holds already is not sent again. So whatever ends this command, running it once
    more sends the rest. The exit status is 0 if all of it is in Tiled.
    """
    files = list(_files(paths))
    maps, complete = _pairs(path_map or []), True
    with _connected(to, api_key) as client, _progress() as progress:
        one = Replay(
            client, finish=finish, timeout=timeout, max_array_size=max_array_size, path_map=maps
        )
        for path in files:
            try:
                complete &= _replay_file(one, path, progress)
            except (JournalError, UnreadableFile) as error:  # costs that file only
                _complain(str(error))
                complete = False
    raise typer.Exit(0 if complete else 1)


def _replay_file(one: Replay, path: Path, progress: Progress) -> bool:
    """Store the runs in a file; gives whether all that is in it is in Tiled now."""
    problems: list[TiledWriterError] = []
    try:
        saved = SavedDocuments(path, problems.append)
        with _task(progress, saved) as advance:
            report = one.file(saved, advance)
    finally:
        for problem in problems:
            _complain(str(problem))
    for run in report.runs.values():
        typer.echo(_line(run.outcome.value, run.uid, run.text))
        if run.refused:
            _complain(f"  {_count(run.refused, 'document')} of it cannot be stored:")
            _complain(f"  {run.first_refusal}")
    if report.lost:
        _complain(f"{path}: {_count(report.lost, 'document')} of no known run:")
        _complain(f"  {report.first_lost}")
    if not report.runs:
        _complain(f"{path}: there is no run in it.")
    unreadable = len(problems) - saved.torn
    return report.complete and bool(report.runs) and not unreadable


@app.command()
def status(journal_directory: Directory = None) -> None:
    """Show the journals: runs that are not in Tiled yet, or not to their end."""
    directory = JournalDirectory(journal_directory)
    journals = directory.journals()
    if not journals:
        typer.echo(f"No run waits in {directory.path}.")
        return
    typer.echo(f"{_count(len(journals), 'run')} in {directory.path}:")
    for info in journals:
        typer.echo("")
        for line in _about(info):
            typer.echo(line)
    if not all(info.locked for info in journals):
        typer.echo("")
        typer.echo("Those without an owner are stored by the next TiledWriter for their server,")
        typer.echo(f"or by `{_NAME} replay FILE --to URI`.")


@app.command()
def verify(
    run: Annotated[str, typer.Argument(help="Uid of the run.")],
    path: Annotated[Path, typer.Argument(help="Its documents: a journal, JSON Lines or msgpack.")],
    to: To,
    api_key: ApiKey = None,
) -> None:
    """Compare the documents of a run with what Tiled holds, row by row.

    What the notes of the run mention is no difference. The exit status is 0 if there is none.
    """
    saved, index = SavedDocuments(path, lambda problem: _complain(str(problem))), RunIndex()
    with _connected(to, api_key) as client, _progress() as progress:
        with _task(progress, saved) as advance:
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
    for (stream, key), count in found.items():
        if count > MAX_SHOWN:
            typer.echo(f"stream {stream!r}, key {key!r}: {count - MAX_SHOWN} more differences")
    total = sum(found.values())
    typer.echo(f"Run {run}: {_count(total, 'difference') if total else 'no difference'}.")
    raise typer.Exit(1 if total else 0)


@app.command()
def export(
    path: Annotated[Path, typer.Argument(help="A journal; its owner may be at work.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File.  [default: standard output]")
    ] = None,
) -> None:
    """Write the documents of a journal as JSON Lines.

    The exit status is 1 if some of it could not be read.
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
        _complain(f"Cannot read bytes {part.start} to {part.end} of {path}: {part.reason}.")
    raise typer.Exit(1 if damage else 0)


# -- parts --------------------------------------------------------------------------------------


@contextmanager
def _connected(uri: str, api_key: str | None) -> Iterator[Any]:
    with reading():
        client = from_uri(uri, api_key=api_key)
    try:
        yield client
    finally:
        client.context.close()


def _files(paths: list[Path]) -> Iterator[Path]:
    """The files, and in directories those that may be meant, by name."""
    for path in paths:
        if path.is_dir():
            yield from sorted(item for item in path.iterdir() if item.suffix in SUFFIXES)
        else:
            yield path


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        left, equals, right = text.partition("=")
        if not (left and equals and right):
            raise typer.BadParameter(f"{text!r} is not FROM=TO", param_hint="--path-map")
        pairs[left] = right
    return pairs


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def _task(progress: Progress, saved: SavedDocuments) -> Iterator[Any]:
    task = progress.add_task(saved.path.name, total=saved.size)
    try:
        yield lambda: progress.update(task, completed=saved.position)
    finally:
        progress.remove_task(task)


def _about(info: JournalInfo) -> Iterator[str]:
    """A journal, in words."""
    header = info.header
    if header is None:
        yield f"(unreadable: {info.problem})"
    else:
        yield f"{header.uid}"
        yield f"  to     {header.server}"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(header.since))
        yield f"  since  {since} ({_age(time.time() - header.since)} ago)"
    yield f"  size   {_size(info.size)}"
    by = f"process {header.pid} on {header.host}" if header is not None else "a process"
    if info.locked:
        yield f"  owner  {by} is at work on it"
    else:
        yield f"  owner  none: {by} is gone, or has given it up"
    yield f"  file   {info.path}"


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _line(outcome: str, uid: str, text: str) -> str:
    return f"{outcome:<14}  {uid}{': ' * bool(text)}{text}"


def _complain(text: str) -> None:
    typer.echo(text, err=True)


if __name__ == "__main__":
    app()
