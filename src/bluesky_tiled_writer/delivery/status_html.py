"""The status of a writer as tables, for notebooks. All text in them is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from bluesky_tiled_writer.journal import age_text

from .run_status import RunStatus

MOST_RUNS = 50
"""Runs that are shown at most; a longer table is hard to read."""

MOST_CHARACTERS = 200
"""Of a text in a cell: anything may stand in a start document, or in an answer of a server."""

SHORT = 8
"""Characters of a uid that are shown."""

_LEFT = "style='text-align:left'"

_HEADINGS = ("run", "scan", "plan", "streams", "stored", "waiting", "since", "state", "waits for")


def table_of_lines(lines: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and values."""
    rows = [
        f"<th {_LEFT}>{_text(name)}</th><td {_LEFT}>{_text(value)}</td>" for name, value in lines
    ]
    return _table(rows)


def table_of_runs(runs: Iterable[RunStatus]) -> str:
    """Return a table of runs; empty if there is none."""
    shown = list(runs)
    if not shown:
        return ""
    headings = "".join(f"<th {_LEFT}>{heading}</th>" for heading in _HEADINGS)
    rows = [headings, *map(_row, shown[:MOST_RUNS])]
    if (more := len(shown) - MOST_RUNS) > 0:
        rows.append(f"<td {_LEFT}>and {more} more</td>")
    return _table(rows)


def _table(rows: Iterable[str]) -> str:
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _row(run: RunStatus) -> str:
    name = _text(run.uid[:SHORT])
    if run.link:
        name = f"<a href='{escape(run.link)}' target='_blank'>{name}</a>"
    streams = ", ".join(f"{stream} {rows}" for stream, rows in run.streams.items())
    cells = (
        run.scan_id,
        run.plan_name,
        streams,
        run.rows_stored,
        _waiting(run),
        age_text(run.age) if run.age else "",
        run.state,
        run.waits_for,
    )
    rest = "".join(f"<td {_LEFT}>{_text(cell)}</td>" for cell in cells)
    return f"<td {_LEFT} title='{escape(run.uid)}'>{name}</td>{rest}"


def _waiting(run: RunStatus) -> str:
    """Return what waits; of a run that is on disk, the documents are known, and only some rows."""
    on_disk = run.state in ("behind", "recovering") or not run.rows_waiting
    if on_disk and run.documents_waiting:
        return f"{run.documents_waiting} documents"
    return str(run.rows_waiting)


def _text(value: Any) -> str:
    text = "" if value is None else str(value)
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]}..."
    return escape(text)
