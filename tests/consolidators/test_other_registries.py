"""Classes that a beamline registers with bluesky or bluesky-tiled-plugins are used here, too."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from documents import RunBuilder, data_key, emit
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.consolidators import CONSOLIDATOR_REGISTRY, consolidator_factory

pytestmark = pytest.mark.plugins
MODULES = ["bluesky.consolidators", "bluesky_tiled_plugins.writing.consolidators"]
ENCODER = "application/x-encoder"
HDF5 = "application/x-hdf5"


def documents(mimetype: str, uri: str = "file://localhost/a.h5") -> tuple[Any, Any]:
    resource = {
        "uid": "resource",
        "data_key": "angle",
        "mimetype": mimetype,
        "uri": uri,
        "parameters": {"dataset": "angle", "chunk_shape": [1]},
    }
    declared = data_key("number", dtype_numpy="<f8", external="STREAM:")
    return resource, {"data_keys": {"angle": declared}}


def encoder_class(module: str) -> Any:
    """Return a class such as a beamline writes for the files of its encoders."""
    base: Any = import_module(module).HDF5Consolidator

    class EncoderConsolidator(base):
        supported_mimetypes = {ENCODER, HDF5}  # noqa: RUF012

        def get_data_source(self) -> Any:
            source = super().get_data_source()
            source.mimetype = HDF5
            return source

    return EncoderConsolidator


@pytest.mark.parametrize("mimetype", [ENCODER, HDF5])
@pytest.mark.parametrize("module", MODULES)
def test_a_class_of_a_beamline_is_found(
    module: str, mimetype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = encoder_class(module)
    monkeypatch.setitem(import_module(module).CONSOLIDATOR_REGISTRY, mimetype, theirs)
    assert type(consolidator_factory(*documents(mimetype))) is theirs


@pytest.mark.parametrize("module", MODULES)
def test_a_class_that_is_registered_here_comes_first(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = encoder_class(module), encoder_class(module)
    monkeypatch.setitem(import_module(module).CONSOLIDATOR_REGISTRY, ENCODER, theirs)
    monkeypatch.setitem(CONSOLIDATOR_REGISTRY, ENCODER, ours)
    assert type(consolidator_factory(*documents(ENCODER))) is ours


@pytest.mark.parametrize("module", MODULES)
def test_classes_that_come_with_those_packages_do_not_replace_ours(module: str) -> None:
    import_module(module)
    made = type(consolidator_factory(*documents(HDF5)))
    assert made is CONSOLIDATOR_REGISTRY[HDF5]


@pytest.mark.parametrize("module", MODULES)
def test_the_files_of_a_beamline_are_read_through_its_class(
    client: Container, tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(import_module(module).CONSOLIDATOR_REGISTRY, ENCODER, encoder_class(module))
    with h5py.File(tmp_path / "angle.h5", "w") as file:
        file["angle"] = np.arange(4.0)
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"angle": data_key(dtype_numpy="<f8", external="STREAM:")})
    uri = f"file://localhost{tmp_path / 'angle.h5'}"
    resource = run.stream_resource("angle", uri, mimetype=ENCODER, dataset="angle", chunk_shape=[1])
    run.stream_datum("primary", resource, 0, 4)
    run.stop()
    with TiledWriter(client) as writer:
        emit(run.docs, writer)
    np.testing.assert_array_equal(client[run.uid]["primary"]["angle"].read(), np.arange(4.0))
