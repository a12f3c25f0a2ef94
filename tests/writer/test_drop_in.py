"""A drop-in for the writers of bluesky and bluesky-tiled-plugins: keywords and behaviour."""

from __future__ import annotations

import copy
import inspect
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiled.profiles
from bluesky.callbacks.tiled_writer import RunNormalizer as BlueskyNormalizer
from bluesky.callbacks.tiled_writer import TiledWriter as BlueskyWriter
from delivery.helpers import refused_for_good
from documents import Document, Pair, RunBuilder, data_key, emit, scalar_run
from tiled.client import from_context, from_uri
from tiled.client.container import Container
from tiled.client.context import Context
from tiled.server import SimpleTiledServer
from tiled.server.settings import get_settings
from tree import clients_without, read_arrow, snapshot, stream_of

from bluesky_tiled_writer import RunNormalizer, TiledWriter, TiledWriterError

LOCAL_VALIDATION = "does not support remote validation"


def plugins() -> Any:
    return pytest.importorskip("bluesky_tiled_plugins")


def plugins_writer() -> Any:
    return plugins().TiledWriter


def plugins_normalizer() -> Any:
    return pytest.importorskip("bluesky_tiled_plugins.writing.tiled_writer").RunNormalizer


with_plugins = pytest.mark.plugins
PEERS = pytest.mark.parametrize(
    "get_peer",
    [
        pytest.param(lambda: BlueskyWriter, id="bluesky"),
        pytest.param(plugins_writer, id="bluesky-tiled-plugins", marks=with_plugins),
    ],
)


# -- keywords -------------------------------------------------------------------------------------

OTHER_DEFAULTS = {
    "normalizer": "a class of our own",
    "max_array_size": "list columns come back from Tiled's clients as text",
}


@PEERS
def test_the_constructor_takes_every_keyword_of_the_others(get_peer: Callable[[], type]) -> None:
    theirs = inspect.signature(get_peer()).parameters
    ours = inspect.signature(TiledWriter).parameters
    assert next(iter(theirs)) == next(iter(ours)) == "client"
    for name, parameter in theirs.items():
        assert ours[name].kind == parameter.kind
        if name not in OTHER_DEFAULTS:
            assert ours[name].default == parameter.default


@PEERS
@pytest.mark.parametrize("constructor", ["from_uri", "from_profile"])
def test_the_other_constructors_take_every_keyword_of_the_others(
    get_peer: Callable[[], type], constructor: str
) -> None:
    theirs = inspect.signature(getattr(get_peer(), constructor)).parameters
    ours = inspect.signature(getattr(TiledWriter, constructor)).parameters
    assert next(iter(theirs)) == next(iter(ours))
    keywords = {name for name, p in theirs.items() if p.kind is p.KEYWORD_ONLY}
    assert keywords <= inspect.signature(TiledWriter).parameters.keys()
    assert any(p.kind is p.VAR_KEYWORD for p in ours.values())


@PEERS
@pytest.mark.parametrize("method", ["subscribe", "unsubscribe", "emit", "start", "event"])
def test_the_normalizer_has_the_methods_that_beamlines_use(
    get_peer: Callable[[], type], method: str
) -> None:
    normalizer = inspect.getmodule(get_peer()).RunNormalizer  # type: ignore[union-attr]
    theirs = inspect.signature(getattr(normalizer, method)).parameters
    assert list(theirs) == list(inspect.signature(getattr(RunNormalizer, method)).parameters)


# -- constructors that connect --------------------------------------------------------------------


class Everything:
    """A value for each option, and a check that each has its effect."""

    def __init__(self, journals: Path) -> None:
        self.backup: dict[str, Any] = {}
        self.journals = journals

    @property
    def options(self) -> dict[str, Any]:
        return {
            "normalizer": MarkingNormalizer,
            "patches": {"start": patch_start},
            "spec_to_mimetype": {"MINE": "text/csv"},
            "backup_directory": None,
            "backup_dictionary": self.backup,
            "batch_size": 1,
            "max_array_size": 4,
            "path_map": {"/detector": "/server"},
            "validate": False,
            "ignore_errors": ["nothing"],
            "flush_interval": 7.0,
            "timeout": 8.0,
            "max_pending_bytes": 9,
            "journal_directory": self.journals,
            "journal_max_bytes": 10,
        }

    def assert_in_effect(self, writer: TiledWriter, client: Container) -> None:
        assert self.options.keys() == inspect.signature(TiledWriter).parameters.keys() - {"client"}
        run = RunBuilder()
        run.start()
        image = data_key("array", [2, 2], external="STREAM:")
        wave = data_key("array", [2], dtype_numpy="<f8")
        run.descriptor("primary", {"wave": wave, "image": image})
        run.event("primary", {"wave": [0.5, 1.5]})
        uri = "file://localhost/detector/a.h5"
        run.stream_datum("primary", run.stream_resource("image", uri, dataset="/x"), 0, 1)
        emit(run.docs, writer)
        assert writer.flush(timeout=30.0)  # a call waits for a second at most
        assert len(list(self.journals.iterdir())) == 1
        node = client[run.uid]
        assert stream_of(client, run.uid)["image"].metadata == {"original_uris": [uri]}
        assert node.metadata["start"]["patched"] is True
        assert node.metadata["start"]["spec_to_mimetype"] == "text/csv"
        table = read_arrow(stream_of(client, run.uid)["internal"])
        assert table["wave"].to_pylist() == [[0.5, 1.5]]
        assert writer.backup_dictionary is self.backup
        assert writer.ignore_errors == ["nothing"]
        assert writer.status.journals is not None
        assert writer.status.journals.most == 10
        run.stop()
        emit(run.docs[-1:], writer)
        assert writer.close()
        assert self.backup == {}
        assert list(self.journals.iterdir()) == []


class MarkingNormalizer(RunNormalizer):
    def start(self, doc: Any) -> None:
        super().start({**doc, "spec_to_mimetype": self.spec_to_mimetype["MINE"]})


def patch_start(doc: Document) -> Document:
    return {**doc, "patched": True}


def test_from_uri_takes_every_option_and_passes_on_the_rest(
    served_catalog: str, tmp_path: Path
) -> None:
    everything = Everything(tmp_path)  # list columns too, which SQLite lacks and DuckDB has
    writer = TiledWriter.from_uri(
        served_catalog, **everything.options, headers={"X-Who": "me"}, include_data_sources=True
    )
    try:
        everything.assert_in_effect(writer, writer.client)
        assert writer.client.context.http_client.headers["X-Who"] == "me"
        assert writer.client.data_sources() is not None
    finally:
        writer.client.context.close()


def test_from_profile_takes_every_option_and_passes_on_the_rest(
    served_catalog: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "profiles.yml").write_text(f"my-beamline:\n  uri: {served_catalog}\n")
    monkeypatch.setattr(tiled.profiles, "paths", [tmp_path])
    tiled.profiles.load_profiles.cache_clear()
    everything = Everything(tmp_path / "journals")
    writer = TiledWriter.from_profile("my-beamline", **everything.options, headers={"X-Who": "me"})
    try:
        everything.assert_in_effect(writer, writer.client)
        assert writer.client.context.http_client.headers["X-Who"] == "me"
    finally:
        writer.client.context.close()
        tiled.profiles.load_profiles.cache_clear()


def test_an_unknown_option_is_an_error(client: Container, http_server: str) -> None:
    with pytest.raises(TypeError, match="batchsize"):
        TiledWriter(client, batchsize=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="batchsize"):
        TiledWriter.from_uri(http_server, batchsize=1)


def test_a_subclass_is_made_by_the_constructors_too(http_server: str) -> None:
    class Mine(TiledWriter):
        def __init__(self, client: Any, *, proposal: str, **options: Any) -> None:
            super().__init__(client, **options)
            self.proposal = proposal

    writer = Mine.from_uri(http_server, proposal="p-1", batch_size=1)
    writer.client.context.close()
    assert type(writer) is Mine
    assert writer.proposal == "p-1"


# -- normalizer -----------------------------------------------------------------------------------


def old_run() -> RunBuilder:
    """A run that needs a normalizer: its descriptor has a type in the old form."""
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": data_key(dtype_str="<f4"), "y": "number"})
    run.event("primary", {"x": 0.5, "y": 1.5})
    run.stop()
    return run


def table_of_run(client: Container, run: RunBuilder) -> dict[str, str]:
    schema = stream_of(client, run.uid)["internal"].structure().arrow_schema_decoded
    return {field.name: str(field.type) for field in schema if not field.name.startswith("ts_")}


NORMALIZERS = pytest.mark.parametrize(
    "get_normalizer",
    [
        pytest.param(lambda: RunNormalizer, id="ours"),
        pytest.param(lambda: BlueskyNormalizer, id="bluesky"),
        pytest.param(plugins_normalizer, id="bluesky-tiled-plugins", marks=with_plugins),
    ],
)


@NORMALIZERS
def test_the_normalizers_of_the_others_can_be_used(
    client: Container, get_normalizer: Callable[[], type]
) -> None:
    run = old_run()
    emit(run.docs, TiledWriter(client, normalizer=get_normalizer()))
    assert table_of_run(client, run) == {
        "seq_num": "int64",
        "time": "double",
        "x": "float",
        "y": "double",
    }


@NORMALIZERS
def test_a_normalizer_of_a_beamline_takes_effect(
    client: Container, get_normalizer: Callable[[], type]
) -> None:
    base: Any = get_normalizer()

    class Beamline(base):  # type: ignore[misc]
        def start(self, doc: Any) -> None:
            super().start({**doc, "beamline": "31-ID"})

        def event(self, doc: Any) -> None:
            super().event({**doc, "data": {**doc["data"], "x": -1.5}})

    run = scalar_run()
    emit(run.docs, TiledWriter(client, normalizer=Beamline))
    assert client[run.uid].metadata["start"]["beamline"] == "31-ID"
    assert list(stream_of(client, run.uid)["internal"].read()["x"]) == [-1.5] * 3


def test_without_a_normalizer_documents_are_taken_as_they_are(client: Container) -> None:
    def never(doc: Document) -> Document:
        raise AssertionError("patches belong to the normalizer")

    run = scalar_run(anything="goes")
    writer = TiledWriter(client, normalizer=None, patches={"start": never, "event": never})
    emit(run.docs, writer)
    stream = stream_of(client, run.uid)
    assert stream.metadata["data_keys"] == run.docs[1][1]["data_keys"]
    assert list(stream["internal"].read()["n"]) == [0, 1, 2]
    assert client[run.uid].metadata == {"start": run.docs[0][1], "stop": run.docs[-1][1]}


# -- validation -----------------------------------------------------------------------------------


def test_to_ask_for_validation_warns_of_nothing(client: Container) -> None:
    """Suites of the field run with warnings as errors, and so does this one."""
    TiledWriter(client, validate=True)


@with_plugins
def test_a_run_is_validated_after_its_stop_when_asked_for(client: Container) -> None:
    plugins()
    writer = TiledWriter(client, validate=True)
    run = old_run()
    emit(run.docs[:-1], writer)
    with pytest.warns(UserWarning, match=LOCAL_VALIDATION):
        emit(run.docs[-1:], writer)
    assert client[run.uid].metadata["stop"]["exit_status"] == "success"


def test_what_is_wrong_with_a_run_is_logged_by_key_with_or_without_the_plugins(
    app_context: Context, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = from_context(app_context, structure_clients=clients_without("bluesky_tiled_plugins"))
    for ignored, logged in ([], ["img"]), (["'img'.*missing|no file|not"], []):
        caplog.clear()
        writer = TiledWriter(client, validate=True, ignore_errors=ignored)
        run = RunBuilder()
        run.start()
        run.descriptor("primary", {"img": data_key("array", [2, 2], external="STREAM:")})
        uri = f"file://localhost{tmp_path}/missing.h5"
        run.stream_datum("primary", run.stream_resource("img", uri, dataset="/x"), 0, 1)
        run.stop()
        emit(run.docs, writer)
        records = [r for r in caplog.records if r.name == "bluesky_tiled_writer"]
        assert [key for r in records for key in logged if key in r.getMessage()] == logged
        assert len(records) == len(logged), [r.getMessage() for r in records]
        assert client[run.uid].metadata["stop"]["exit_status"] == "success"


# -- backup ---------------------------------------------------------------------------------------


def backup_of(directory: Path, uid: str) -> list[Pair]:
    lines = (directory / f"{uid}.jsonl").read_text("utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    assert all(entry.keys() == {"name", "doc"} for entry in entries)
    return [(entry["name"], entry["doc"]) for entry in entries]


@pytest.mark.parametrize("written", range(6))
def test_a_run_that_is_refused_at_any_point_is_backed_up_whole(
    client: Container,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    written: int,
) -> None:
    backups: dict[str, Any] = {}
    writer = TiledWriter(client, backup_directory=tmp_path, backup_dictionary=backups)
    run = scalar_run()
    emit(run.docs[:written], writer)
    assert writer.flush()
    with refused_for_good(client):
        emit(run.docs[written:], writer)

    assert backup_of(tmp_path, run.uid) == run.docs
    assert backups == {run.uid: [{"name": name, "doc": doc} for name, doc in run.docs]}
    assert [path.name for path in tmp_path.iterdir()] == [f"{run.uid}.jsonl"]
    (record,) = [r for r in caplog.records if r.name.startswith("bluesky_tiled_writer")]
    assert record.levelno == logging.ERROR
    assert run.uid in record.getMessage()
    assert "405" in record.getMessage()


def test_a_run_stays_in_its_backup_when_the_server_is_back(
    client: Container, tmp_path: Path
) -> None:
    writer = TiledWriter(client, backup_directory=tmp_path)
    run = scalar_run()
    emit(run.docs[:2], writer)
    assert writer.flush()
    with refused_for_good(client):
        emit(run.docs[2:3], writer)
        writer.flush()
    emit(run.docs[3:], writer)
    assert backup_of(tmp_path, run.uid) == run.docs
    assert "stop" not in client[run.uid].metadata


def test_other_runs_go_on_while_one_is_backed_up(client: Container, tmp_path: Path) -> None:
    writer = TiledWriter(client, backup_directory=tmp_path)
    before, refused, after = scalar_run(), scalar_run(), scalar_run()
    emit(before.docs[:3], writer)
    assert writer.flush()
    with refused_for_good(client):
        emit(refused.docs[:1], writer)
        assert writer.flush()
    emit(before.docs[3:4], writer)
    emit(after.docs[:4], writer)
    emit(refused.docs[1:], writer)
    emit(after.docs[4:], writer)
    emit(before.docs[4:], writer)

    assert refused.uid not in client
    assert backup_of(tmp_path, refused.uid) == refused.docs
    for run in (before, after):
        assert client[run.uid].metadata["stop"] == run.docs[-1][1]
        assert list(stream_of(client, run.uid)["internal"].read()["n"]) == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_run_is_backed_up_when_the_server_is_gone(tmp_path: Path) -> None:
    run = scalar_run()
    with SimpleTiledServer(api_key=get_settings().single_user_api_key) as server:
        client = from_uri(server.uri)
        writer = TiledWriter(client, backup_directory=tmp_path / "backups")
        emit(run.docs[:3], writer)
        assert writer.flush()
    emit(run.docs[3:], writer)
    writer.close(timeout=1.0)
    client.context.close()
    assert backup_of(tmp_path / "backups", run.uid) == run.docs


def test_a_run_whose_uid_tiled_has_already_is_backed_up(client: Container, tmp_path: Path) -> None:
    run = scalar_run()
    emit(run.docs, TiledWriter(client))
    stored = snapshot(client[run.uid])
    other = copy.deepcopy(run.docs)
    other[0][1]["scan_id"] = 4711
    emit(other, TiledWriter(client, backup_directory=tmp_path))
    assert backup_of(tmp_path, run.uid) == other
    assert snapshot(client[run.uid]) == stored


def test_a_run_that_is_stored_leaves_no_backup(client: Container, tmp_path: Path) -> None:
    backups: dict[str, Any] = {}
    writer = TiledWriter(client, backup_directory=tmp_path / "new", backup_dictionary=backups)
    run = scalar_run()
    emit(run.docs, writer)
    assert backups == {}
    assert not (tmp_path / "new").exists()


def test_a_backup_holds_what_json_cannot(client: Container, tmp_path: Path) -> None:
    writer = TiledWriter(client, backup_directory=str(tmp_path / "not" / "yet" / "there"))
    run = RunBuilder()
    run.start(motors=("x", "y"), shape=np.array([2, 3]), gain=np.float32(0.5), blob=b"\xff\x00")
    run.descriptor("primary", {"x": "number", "image": data_key("array", [2, 2])})
    image = np.arange(4.0).reshape(2, 2)
    run.event("primary", {"x": np.float64(1.5), "image": image})
    run.event("primary", {"x": float("nan"), "image": image + 1})
    run.stop()
    with refused_for_good(client):
        for name, doc in run.docs:
            writer(name, doc)
        image.fill(7)

    docs = backup_of(tmp_path / "not" / "yet" / "there", run.uid)
    assert docs[0][1]["shape"] == [2, 3]
    assert docs[0][1]["motors"] == ["x", "y"]
    assert docs[0][1]["gain"] == 0.5
    assert docs[2][1]["data"] == {"x": 1.5, "image": [[0.0, 1.0], [2.0, 3.0]]}
    assert docs[3][1]["data"] == {"x": "NaN", "image": [[1.0, 2.0], [3.0, 4.0]]}


def test_a_backup_can_be_written_when_the_server_is_back(client: Container, tmp_path: Path) -> None:
    run = scalar_run()
    with refused_for_good(client):
        emit(run.docs, TiledWriter(client, backup_directory=tmp_path))
    emit(backup_of(tmp_path, run.uid), TiledWriter(client))
    assert list(stream_of(client, run.uid)["internal"].read()["n"]) == [0, 1, 2]
    assert client[run.uid].metadata["start"] == run.docs[0][1]


def test_runs_whose_uids_start_alike_have_backups_of_their_own(
    client: Container, tmp_path: Path
) -> None:
    writer = TiledWriter(client, backup_directory=tmp_path)
    runs = []
    for number in range(2):
        run = RunBuilder()
        run.uid = f"6b6ab5ae-{number}"
        run.start()
        run.stop()
        runs.append(run)
    with refused_for_good(client):
        for pair in zip(*(run.docs for run in runs), strict=True):
            emit(pair, writer)
    for run in runs:
        assert backup_of(tmp_path, run.uid) == run.docs


@pytest.mark.parametrize("uid", ["a b", "ü", "x" * 300, ".hidden", "CON:1", "%2e%2e"])
def test_no_uid_steers_the_path_of_a_backup(client: Container, tmp_path: Path, uid: str) -> None:
    run = RunBuilder()
    run.uid = uid
    run.start()
    run.stop()
    with refused_for_good(client):
        emit(run.docs, TiledWriter(client, backup_directory=tmp_path / "backups"))
    assert [path.name for path in tmp_path.iterdir()] == ["backups"]
    (path,) = (tmp_path / "backups").iterdir()
    assert path.suffix == ".jsonl"
    assert backup_of(path.parent, path.stem) == run.docs


def test_a_run_that_is_backed_up_is_not_validated(client: Container, tmp_path: Path) -> None:
    writer = TiledWriter(client, backup_directory=tmp_path, validate=True)
    run = scalar_run()
    with refused_for_good(client):
        emit(run.docs, writer)
    assert backup_of(tmp_path, run.uid) == run.docs


@pytest.mark.parametrize("written", [0, 2, 5])
def test_without_a_backup_the_caller_is_told(client: Container, written: int) -> None:
    run, other = scalar_run(), scalar_run()
    writer = TiledWriter(client, journal_directory=None)
    emit(other.docs[:3], writer)
    emit(run.docs[:written], writer)
    assert writer.flush()
    with refused_for_good(client), pytest.raises(TiledWriterError, match="405"):
        emit(run.docs[written:], writer)
    emit(other.docs[3:], writer)
    assert client[other.uid].metadata["stop"] == other.docs[-1][1]


def test_a_wrong_document_is_the_callers_also_with_a_backup(
    client: Container, tmp_path: Path
) -> None:
    """It is no error of Tiled, so it goes to no backup, which would repeat it."""
    writer = TiledWriter(client, backup_directory=tmp_path)
    run = scalar_run()
    emit(run.docs[:2], writer)
    wrong = {**run.docs[2][1], "data": {"surprise": 1}}
    with pytest.raises(TiledWriterError, match="surprise"):
        writer("event", wrong)
    emit(run.docs[2:], writer)
    assert list(tmp_path.iterdir()) == []
    assert list(stream_of(client, run.uid)["internal"].read()["n"]) == [0, 1, 2]
