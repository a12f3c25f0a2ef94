"""Rules of the house that the linters do not check, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path

import bluesky_tiled_writer
from bluesky_tiled_writer import errors
from bluesky_tiled_writer.delivery.run_life import Transition

PACKAGE = "bluesky_tiled_writer"
SOURCE = Path(bluesky_tiled_writer.__file__).parent
TESTS = Path(__file__).parent

MOST_LINES_OF_SOURCE = 400
MOST_LINES_OF_A_TEST = 600


def modules() -> list[Path]:
    """Return the files of the package."""
    found = sorted(SOURCE.rglob("*.py"))
    assert len(found) > 20, f"this is not the source: {SOURCE}"
    return found


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text("utf-8")))


def from_other_rooms(module: Path) -> Iterator[tuple[str, str, str]]:
    """Yield what a module imports from other rooms: its place, the module, and the name in it.

    The name is empty for ``import module``.
    """
    below = module.relative_to(SOURCE)
    package = [PACKAGE, *below.parts[:-1]]
    for node in nodes(module):
        if isinstance(node, ast.Import):
            imported = [(alias.name.split("."), "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            path = base + (node.module.split(".") if node.module else [])
            imported = [(path, alias.name) for alias in node.names]
        else:
            continue
        for path, name in imported:
            if path[0] == PACKAGE and path[1:2] not in ([], [below.parts[0]], [below.stem]):
                yield f"{below}:{node.lineno}", ".".join(path), name


def offered(room: str) -> Iterable[str]:
    """Return the names that a room offers to others."""
    module = import_module(room)
    public = [name for name in vars(module) if not name.startswith("_")]
    return getattr(module, "__all__", public)


def test_rooms_are_entered_through_their_front_doors() -> None:
    past = [
        f"{place} imports {name or 'all'} of {room}"
        for module in modules()
        for place, room, name in from_other_rooms(module)
        if room.count(".") > 1 or name not in offered(room)
    ]
    assert past == []


def test_no_two_classes_have_one_name() -> None:
    places = defaultdict(list)
    for module in modules():
        for node in nodes(module):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{module.relative_to(SOURCE)}:{node.lineno}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_source_files_are_short() -> None:
    assert longer_than(MOST_LINES_OF_SOURCE, modules()) == {}


def test_every_file_is_on_the_code_map() -> None:
    page = (TESTS.parent / "docs" / "explanations" / "architecture.md").read_text("utf-8")
    files = [path.relative_to(SOURCE) for path in modules() if not path.name.startswith("__")]
    assert [str(path) for path in files if f"| {path}" not in page.replace("*", "")] == []


def test_the_writer_imports_only_what_it_needs() -> None:
    """A profile imports it at each start; pandas alone takes as long as everything else."""
    heavy = {
        "bluesky",
        "pandas",
        "dask",
        "xarray",
        "awkward",
        "blosc2",
        "h5py",
        "tifffile",
        "typer",
    }
    heavy |= {"zarr", "sqlalchemy", "adbc_driver_manager", "matplotlib", "IPython", "tiled.server"}
    code = "import sys; from bluesky_tiled_writer import TiledWriter; print(*sys.modules, sep=',')"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    imported = set(output.stdout.strip().split(","))
    assert "bluesky_tiled_writer.sink.tables" in imported
    assert not heavy & imported


def test_the_transitions_of_a_run_are_those_of_the_documentation() -> None:
    page = (TESTS.parent / "docs" / "explanations" / "architecture.md").read_text("utf-8")
    documented = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0] in Transition.__members__:
            documented[cells[0]] = (cells[1], set(cells[2].split(", ")), cells[3])
    assert documented == {
        transition.name: (
            transition.who,
            {state.name for state in transition.sources},
            transition.target.name,
        )
        for transition in Transition
    }


def test_each_error_has_a_section_in_the_troubleshooting_page() -> None:
    page = (TESTS.parent / "docs" / "how-to" / "troubleshooting.md").read_text("utf-8")
    sections = {line.removeprefix("### ") for line in page.splitlines() if line.startswith("### ")}
    kinds = {
        kind.__name__
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.TiledWriterError)
    }
    assert sections == kinds - errors.GROUPS


def test_test_files_are_short() -> None:
    assert longer_than(MOST_LINES_OF_A_TEST, TESTS.rglob("*.py")) == {}


def test_test_modules_have_unique_names() -> None:
    places = defaultdict(list)
    for path in TESTS.rglob("test_*.py"):
        places[path.name].append(str(path.relative_to(TESTS)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_test_modules_are_not_imported() -> None:
    found = []
    for path in TESTS.rglob("*.py"):
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom):
                names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [part for alias in node.names for part in alias.name.split(".")]
            else:
                continue
            if any(name.startswith("test_") for name in names):
                found.append(f"{path.relative_to(TESTS)}:{node.lineno}")
    assert found == []


def longer_than(most: int, paths: Iterable[Path]) -> dict[str, int]:
    lines = {path.name: len(path.read_text("utf-8").splitlines()) for path in paths}
    return {name: count for name, count in lines.items() if count > most}
