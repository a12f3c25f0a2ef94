"""Files of external keys: what is registered, in which order, and what a failure costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from documents import RunBuilder, data_key
from memory_run import MemoryRun

from bluesky_tiled_writer.consolidators import CONSOLIDATOR_REGISTRY, HDF5Consolidator
from bluesky_tiled_writer.run import RegisterAsset, UpdateAsset
from bluesky_tiled_writer.run.external import ExternalKey, ExternalKeys, Resource
from bluesky_tiled_writer.schema import DeclaredKey

URI = "file://localhost/data/frames.h5"
IMAGE = {"image": data_key("array", [2, 2], dtype_numpy="<u2", external="STREAM:")}


def resource(uid: str = "r1", **fields: Any) -> Resource:
    doc = {
        "uid": uid,
        "data_key": "image",
        "mimetype": "application/x-hdf5",
        "uri": URI,
        "parameters": {"dataset": "/frames"},
        **fields,
    }
    return Resource({name: value for name, value in doc.items() if value is not None})


def datum(start: int, stop: int) -> dict[str, Any]:
    return {
        "uid": f"datum-{start}",
        "indices": {"start": start, "stop": stop},
        "seq_nums": {"start": start + 1, "stop": stop + 1},
    }


def new_keys(**data_keys: Any) -> ExternalKeys:
    declared = {
        key: DeclaredKey.from_data_key(key, spec) for key, spec in (data_keys or IMAGE).items()
    }
    return ExternalKeys("run", "primary", declared, lambda key: f"node of {key}")


def new_key() -> ExternalKey:
    return new_keys().key(resource())


def test_the_first_rows_register_the_files_and_later_ones_update_them() -> None:
    key = new_key()
    assert key.steps() == []
    key.stream_datum(resource(), datum(0, 2))
    first, block = key.steps()
    assert isinstance(first, RegisterAsset)
    assert [asset.data_uri for asset in first.source.assets] == [URI]
    assert isinstance(block, UpdateAsset)
    assert (block.shape, block.offset) == ((2, 2, 2), (0, 0, 0))
    key.commit()
    assert key.steps() == []
    key.stream_datum(resource(), datum(2, 3))
    key.stream_datum(resource(), datum(3, 5))
    (update,) = key.steps()
    assert isinstance(update, UpdateAsset)
    assert (update.shape, update.offset) == ((3, 2, 2), (2, 0, 0))
    assert update.source.structure.shape == (5, 2, 2)


def test_steps_that_are_not_committed_are_decided_again() -> None:
    key = new_key()
    key.stream_datum(resource(), datum(0, 2))
    assert [type(step) for step in key.steps()] == [type(step) for step in key.steps()]
    assert not key.registered


def test_a_node_that_the_server_refuses_becomes_bytes_with_all_its_rows() -> None:
    key = new_key()
    key.stream_datum(resource(), datum(0, 2))
    key.stream_datum(resource(), datum(2, 3))
    key.as_bytes("the server does not know them")
    (step,) = key.steps()
    assert isinstance(step, RegisterAsset)
    assert step.source.structure_family == "bytes"
    key.commit()
    (note,) = [note for note in key.notes() if "as bytes" in note]
    assert "the server does not know them" in note
    # Files of a second resource become bytes, too.
    key.stream_datum(resource("r2", uri=f"{URI}.2"), datum(0, 1))
    (update,) = key.steps()
    assert [asset.data_uri for asset in update.source.assets] == [URI, f"{URI}.2"]


def test_a_key_whose_bytes_are_refused_is_given_up() -> None:
    key = new_key()
    key.stream_datum(resource(), datum(0, 2))
    key.as_bytes("no array")
    key.as_bytes("no bytes")
    assert key.steps() == []
    assert any("none of its rows" in note and "no bytes" in note for note in key.notes())


def test_a_second_resource_waits_until_the_first_is_registered() -> None:
    key = new_key()
    key.stream_datum(resource(), datum(0, 2))
    assert not key.must_register(resource())
    assert key.must_register(resource("r2"))
    key.steps()
    key.commit()
    assert not key.must_register(resource("r2"))


@pytest.mark.parametrize("mimetype", [None, 5, ["x"]])
def test_files_without_a_type_are_registered_as_bytes(mimetype: Any) -> None:
    key = new_key()
    key.stream_datum(resource(mimetype=mimetype), datum(0, 2))
    (step,) = key.steps()
    assert isinstance(step, RegisterAsset)
    assert step.source.structure_family == "bytes"
    key.commit()
    assert any("'r1'" in note and "MIME type" in note for note in key.notes())


BROKEN = "application/x-broken"


@pytest.fixture
def fails_at_the_second_datum() -> Iterator[None]:
    class Broken(HDF5Consolidator):
        supported_mimetypes = {BROKEN}  # noqa: RUF012

        def consume_stream_datum(self, doc: Any) -> Any:
            if doc["indices"]["start"]:
                raise ZeroDivisionError("a defect of the beamline")
            return super().consume_stream_datum(doc)

    CONSOLIDATOR_REGISTRY[BROKEN] = Broken
    yield
    del CONSOLIDATOR_REGISTRY[BROKEN]


@pytest.mark.usefixtures("fails_at_the_second_datum")
@pytest.mark.parametrize("registered_before", [False, True])
def test_what_came_before_a_failure_is_registered(registered_before: bool) -> None:
    key = new_key()
    broken = resource(mimetype=BROKEN)
    key.stream_datum(broken, datum(0, 2))
    if registered_before:
        key.steps()
        key.commit()
    key.stream_datum(broken, datum(2, 4))
    key.stream_datum(broken, datum(4, 6))
    if not registered_before:
        register, _ = key.steps()
        assert isinstance(register, RegisterAsset)
        assert register.source.structure.shape == (2, 2, 2)
        key.commit()
    assert key.steps() == []
    (note,) = [note for note in key.notes() if "could not be described" in note]
    for words in ("'image'", "'primary'", "2 of its rows", "'r1'", "ZeroDivisionError"):
        assert words in note


def test_each_key_has_a_node_and_its_name_is_noted() -> None:
    keys = new_keys(**IMAGE, other=data_key("array", [2], external="STREAM:"))
    first, second = resource(), resource("r2", data_key="other")
    assert keys.key(first) is keys.key(resource("r3"))
    assert keys.key(first) is not keys.key(second)
    assert keys.nodes == []
    keys.key(first).stream_datum(first, datum(0, 1))
    keys.key(first).steps()
    keys.key(first).commit()
    assert keys.nodes == ["node of image"]
    assert any("'node of image'" in note for note in keys.notes())


def test_a_datum_before_or_after_its_key_is_brought_by_an_event_gives_the_same_names() -> None:
    """The node of the files and that of the values have names in the order of the documents."""

    def names(batches: bool) -> list[tuple[str, ...]]:
        run = RunBuilder()
        run.uid = "run"
        run.start()
        run.descriptor("primary", {"x": "number", **IMAGE})
        run.event("primary", {"x": 1.0, "image": [[1, 2], [3, 4]]}, filled={"image": True})
        files = run.stream_resource("image", URI, dataset="/frames")
        run.stream_datum("primary", files, 1, 2)
        run.stop()
        memory = MemoryRun()
        for pair in run.docs:
            memory.emit([pair])
            if batches:
                memory.deliver()
        memory.deliver()
        assert memory.nodes["run", "primary", "image"].tolist() == [[[1, 2], [3, 4]]]
        assert list(memory.sources) == [("run", "primary", "image_")]
        return list(memory.nodes)

    assert names(batches=True) == names(batches=False)
