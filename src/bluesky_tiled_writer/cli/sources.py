"""Where runs come from that move to another catalog: Tiled, databroker, files, or a program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from tiled.client.container import Container
from tiled.client.utils import ClientError

from bluesky_tiled_writer.consolidators import PathMap
from bluesky_tiled_writer.errors import TiledWriterError, mapped_errors
from bluesky_tiled_writer.run import RunIndex

from .run_filter import RunFilter
from .saved_documents import Documents, OnProblem, Pair, SavedDocuments
from .stored_runs import StoredRun

SUFFIXES = {".journal", ".json", ".jsonl", ".msgpack"}
"""Files of these kinds are taken from a directory."""


@dataclass(frozen=True)
class Item:
    """One thing that is moved by one worker: a run, or a file with some.

    Parameters
    ----------
    name : str
        The uid of the run, or the path of the file.
    size : int
        Its part of the `total` of its source.
    open : callable
        Returns its documents; problems with single ones go to the function that is passed.
    """

    name: str
    size: int
    open: Callable[[OnProblem], Documents]


class RunSource(Protocol):
    """Runs to move, in items."""

    in_bytes: bool
    """True if sizes are bytes, False if they are runs."""

    @property
    def total(self) -> int | None:
        """The size of all items, if it is known."""
        ...

    def __iter__(self) -> Iterator[Item]: ...


def source_of(
    source: Any,
    wanted: RunFilter,
    *,
    path_map: Mapping[str, str] | None = None,
    access_tags: bool = True,
) -> RunSource:
    """Return the source for what a program has; see `migrate`."""
    if isinstance(source, str | Path):
        return SavedRuns([Path(source)], wanted)
    if isinstance(source, Container):
        return StoredRuns(source, wanted, path_map=path_map, access_tags=access_tags)
    if callable(source):  # the Broker of databroker 1, and of databroker.v1
        return DocumentRuns(_of_broker(source, wanted), wanted)
    if isinstance(source, Mapping) or hasattr(source, "items"):
        return DocumentRuns((run for _, run in source.items()), wanted)
    runs = source if isinstance(source, Sequence) else None
    if runs and all(isinstance(run, str | Path) for run in runs):
        return SavedRuns(list(map(Path, runs)), wanted)
    return DocumentRuns(source, wanted)


class StoredRuns:
    """The runs in a container in Tiled.

    Parameters
    ----------
    container : tiled.client.container.Container
        The container.
    wanted : RunFilter
        Chooses among them.
    path_map : mapping of str to str, optional
        As for `TiledWriter`.
    access_tags : bool
        Let runs keep their access tags.
    """

    in_bytes = False

    def __init__(
        self,
        container: Any,
        wanted: RunFilter,
        *,
        path_map: Mapping[str, str] | None = None,
        access_tags: bool = True,
    ) -> None:
        self._wanted = RunFilter()
        with mapped_errors("the request for the runs of the source"):
            self._container = wanted.search(container)
            try:
                self.total: int | None = len(self._container)
            except ClientError:  # this server does not know such queries
                if not wanted:
                    raise
                self._container, self.total, self._wanted = container, len(container), wanted
        self._path_map = PathMap(path_map or {})
        self._access_tags = access_tags

    def __iter__(self) -> Iterator[Item]:
        with mapped_errors("the request for the runs of the source"):
            for name, client in self._container.items():
                if not self._wanted or self._wanted.matches(client.metadata.get("start") or {}):
                    yield Item(name, 1, lambda _, client=client: self.open(client))  # type: ignore[misc]

    def open(self, client: Any) -> Documents:
        """Return the documents of a run.

        Raises
        ------
        TiledWriterError
            If it is no run, or one that cannot be read.
        """
        specs = client.item["attributes"]["specs"]
        versions = [spec.get("version") for spec in specs if spec["name"] == "BlueskyRun"]
        if not versions:
            raise TiledWriterError(f"{client.item['id']!r} is no Bluesky run.")
        if str(versions[0]).startswith("3."):
            return StoredRun(client, path_map=self._path_map, access_tags=self._access_tags)
        if not hasattr(client, "documents"):
            raise TiledWriterError(
                f"Run {client.item['id']!r} is a BlueskyRun {versions[0]}, which this package"
                " cannot read by itself.",
                hint="Install bluesky-tiled-plugins, whose client can.",
            )
        return RunDocuments(client)


class SavedRuns:
    """The runs in files: journals, JSON Lines and msgpack, and directories of these.

    Parameters
    ----------
    paths : iterable of Path
        The files and directories; of a directory all that is below it.
    wanted : RunFilter
        Chooses among the runs.
    """

    in_bytes = True

    def __init__(self, paths: Iterable[Path], wanted: RunFilter) -> None:
        self._files = [file for path in paths for file in _files(path)]
        self._wanted = wanted

    @property
    def total(self) -> int | None:
        """The bytes of all files."""
        return sum(map(_size, self._files))

    def __iter__(self) -> Iterator[Item]:
        for file in self._files:
            yield Item(str(file), _size(file), lambda report, file=file: self._open(file, report))  # type: ignore[misc]

    def _open(self, file: Path, report: OnProblem) -> Documents:
        saved = SavedDocuments(file, report)
        return SelectedDocuments(saved, self._wanted) if self._wanted else saved


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # the error comes when it is opened


class SelectedDocuments:
    """The documents of some runs of a file.

    Parameters
    ----------
    saved : SavedDocuments
        The file.
    wanted : RunFilter
        Chooses among its runs.
    """

    one_run = False

    def __init__(self, saved: SavedDocuments, wanted: RunFilter) -> None:
        self._saved = saved
        self._wanted = wanted

    @property
    def options(self) -> dict[str, Any]:
        """Options that a writer needs for them."""
        return self._saved.options

    @property
    def position(self) -> int:
        """Number of bytes that were read."""
        return self._saved.position

    @property
    def torn(self) -> bool:
        """True if the last document of the file is incomplete."""
        return self._saved.torn

    def quiet(self) -> SelectedDocuments:
        """Return the same documents, for another use."""
        return SelectedDocuments(self._saved.quiet(), self._wanted)

    def __iter__(self) -> Iterator[Pair]:
        index, left_out = RunIndex(), set()
        for name, doc in self._saved:
            uid = index.run_of(name, doc)
            if name == "start" and not self._wanted.matches(doc):
                left_out.add(uid)
            if uid is None or uid not in left_out:
                yield name, doc


class DocumentRuns:
    """Runs that a program has: each an iterable of names and documents, or with `documents()`.

    Parameters
    ----------
    runs : iterable
        The runs.
    wanted : RunFilter
        Chooses among them.
    """

    in_bytes = False

    def __init__(self, runs: Iterable[Any], wanted: RunFilter) -> None:
        self._runs = runs
        self._wanted = wanted

    @property
    def total(self) -> int | None:
        """Their number, unless it is known only at the end."""
        return len(self._runs) if isinstance(self._runs, Sequence) else None

    def __iter__(self) -> Iterator[Item]:
        for run in self._runs:
            documents = RunDocuments(run)
            try:
                start = documents.start()
            except Exception as error:  # which costs no other run
                yield Item(f"{run!r:.80}", 1, _raising(error))
                continue
            if not self._wanted or self._wanted.matches(start):
                uid = str(start.get("uid"))
                yield Item(uid, 1, lambda _, documents=documents: documents)  # type: ignore[misc]


def _raising(error: Exception) -> Callable[[OnProblem], Documents]:
    def fail(_: OnProblem) -> Documents:
        raise error

    return fail


class RunDocuments:
    """The documents of a run of databroker or of a program.

    Parameters
    ----------
    run : Any
        Has a method `documents`, as runs of databroker do, or yields names and documents whenever
        it is iterated over.
    """

    one_run = True

    def __init__(self, run: Any) -> None:
        self._run = run

    @property
    def options(self) -> dict[str, Any]:
        """Options that a writer needs for them: none."""
        return {}

    def start(self) -> Mapping[str, Any]:
        """Return its start document."""
        return next((doc for name, doc in self if name == "start"), {})

    def quiet(self) -> RunDocuments:
        """Return the same documents, for another use."""
        return self

    def __iter__(self) -> Iterator[Pair]:
        documents = getattr(self._run, "documents", None)
        for name, doc in self._run if documents is None else _unfilled(documents):
            yield str(getattr(name, "name", name)), dict(doc)


def _unfilled(documents: Callable[..., Any]) -> Iterator[Any]:
    """Return documents whose external data stay in their files."""
    for fill in ({"fill": False}, {"fill": "no"}, {}):  # databroker 2, databroker 1, a program
        try:
            iterator = iter(documents(**fill))
            first = next(iterator, None)
        except (TypeError, ValueError):
            if not fill:
                raise
            continue
        return iterator if first is None else chain([first], iterator)
    return iter(())


def _of_broker(broker: Any, wanted: RunFilter) -> Iterator[Any]:
    """Return the runs of a databroker of version 1, which searches by the time itself."""
    times = {"since": wanted.since, "until": wanted.until}
    yield from broker(**{name: time for name, time in times.items() if time is not None})


def databroker_catalog(name: str) -> Any:
    """Return a catalog of databroker by its name.

    Raises
    ------
    TiledWriterError
        If databroker is not installed, or has no such catalog.
    """
    try:
        import databroker
    except ImportError as error:
        raise TiledWriterError(
            "Catalogs of databroker need databroker.",
            hint="Install it beside this package: pip install 'databroker[all]'.",
        ) from error
    try:
        return databroker.catalog[name]
    except Exception as error:  # of intake, of Tiled, or of a driver that is missing
        raise TiledWriterError(
            f"databroker cannot open the catalog {name!r}: {error!r}",
            hint="It knows: " + (", ".join(map(str, databroker.catalog)) or "none"),
        ) from error
