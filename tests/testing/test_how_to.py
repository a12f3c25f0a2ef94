"""The examples of the how-to page on testing are executed as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
_CELL = re.compile(r"```\{code-cell\} ipython3\n(.*?)```", re.DOTALL)
_PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


def run_cells(page: str) -> dict[str, Any]:
    """Run the cells of a page one after the other; a later one sees what earlier ones defined."""
    text = (HOW_TO / page).read_text()
    names: dict[str, Any] = {"__name__": page}
    for match in _CELL.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        code = re.sub(r"\A(:.*\n)+", "", match[1])  # options of the cell
        exec(compile("\n" * line + code, str(HOW_TO / page), "exec"), names)
    return names


def test_the_examples_of_test_your_own_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = run_cells("test-your-own.md")
    assert names["source"].structure.shape == (6, 8)
    # The class for pytest is not run on the page, since pytest would collect it.
    (block,) = _PYTHON.findall((HOW_TO / "test-your-own.md").read_text())
    exec(block, names)
    tests = names["TestChannels"]()
    monkeypatch.setitem(
        names["CONSOLIDATOR_REGISTRY"], names["MIMETYPE"], names["ChannelConsolidator"]
    )
    for check in ("test_structure", "test_growth", "test_batchings", "test_frames"):
        getattr(tests, check)(tmp_path)
