"""Print for the commands: results to standard output, all else to standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from bluesky_tiled_writer.journal import JournalInfo, age_text, size_text

from .reports import FileReport
from .saved_documents import SavedDocuments


def complain(text: str) -> None:
    """Print a line to standard error."""
    typer.echo(text, err=True)


def print_report(path: Path, report: FileReport) -> None:
    """Print what became of the runs in a file."""
    for run in report.runs.values():
        typer.echo(f"{run.outcome.value:<14}  {run.uid}{': ' * bool(run.reason)}{run.reason}")
        if run.refused:
            complain(f"  {count(run.refused, 'document')} of it cannot be stored:")
            complain(f"  {run.first_refusal}")
    if report.without_run:
        complain(f"{path}: {count(report.without_run, 'document')} of no known run:")
        complain(f"  {report.first_without_run}")
    if not report.runs:
        complain(f"{path}: there is no run in it.")


def describe(info: JournalInfo) -> Iterator[str]:
    """Return the lines that describe a journal."""
    header = info.header
    if header is None:
        yield f"(unreadable: {info.problem})"
    else:
        yield f"{header.uid}"
        yield f"  to     {header.server}"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(header.since))
        yield f"  since  {since} ({age_text(time.time() - header.since)} ago)"
    yield f"  size   {size_text(info.size)}"
    process = f"process {header.pid} on {header.host}" if header is not None else "its process"
    if info.locked:
        yield f"  owner  {process}"
    else:
        yield f"  owner  none: {process} has ended, or has released it"
    yield f"  file   {info.path}"


def count(number: int, noun: str) -> str:
    """Return a number with a noun, such as "1 run" or "2 runs"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def progress_bars() -> Progress:
    """Return a display of progress on standard error; nothing is shown unless it is a terminal."""
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


def show_again(lines: Callable[[], Iterable[str]], every: float = 2.0) -> None:
    """Show lines, and again every few seconds what they are then, until Ctrl-C."""
    with Live(auto_refresh=False) as live, suppress(KeyboardInterrupt):
        while True:
            live.update("\n".join(lines()), refresh=True)
            time.sleep(every)


@contextmanager
def progress_bar(progress: Progress, saved: SavedDocuments) -> Iterator[Callable[[], None]]:
    """Show a bar for the reading of a file; call what this yields to advance it."""
    task = progress.add_task(saved.path.name, total=saved.size)
    try:
        yield lambda: progress.update(task, completed=saved.position)
    finally:
        progress.remove_task(task)
