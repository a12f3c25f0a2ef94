"""Every type of signal that ophyd-async has, as data, as configuration, and as a monitor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import numpy as np
import pytest
from bluesky import RunEngine
from ophyd_async.core import (
    Array1D,
    StandardReadable,
    StandardReadableFormat,
    StrictEnum,
    SubsetEnum,
    Table,
    init_devices,
    soft_signal_rw,
)
from tiled.client.container import Container
from tree import stream_of


class Mode(StrictEnum):
    SLOW = "Slow"
    FAST = "Fast µ"


class Gain(SubsetEnum):
    LOW = "Low"
    HIGH = "High"


class Positions(Table):
    x: Array1D[np.float64]
    n: Array1D[np.int32]
    on: Array1D[np.bool_]
    label: Sequence[str]


def positions(*labels: str) -> Positions:
    count = len(labels)
    return Positions(
        x=np.arange(count) / 2,
        n=np.arange(count, dtype=np.int32),
        on=np.arange(count) % 2 == 1,
        label=list(labels),
    )


VALUES: dict[str, tuple[Any, list[Any]]] = {
    "bool": (bool, [True, False, True]),
    "int": (int, [1, -2, 2**40]),
    "float": (float, [0.5, -1e300, 3.0]),
    "str": (str, ["a", "µm and more than forty characters, which is what is declared", ""]),
    "strict_enum": (Mode, [Mode.SLOW, Mode.FAST, Mode.SLOW]),
    "subset_enum": (Gain, [Gain.LOW, "Other", Gain.HIGH]),
    "floats": (Array1D[np.float64], [np.array([1.5, 2.5]), np.array([3.0, 4.0]), np.zeros(2)]),
    "bytes": (Array1D[np.uint8], [np.array([1, 255], np.uint8)] * 3),
    "int64s": (Array1D[np.int64], [np.array([2**62, -1])] * 3),
    "flags": (Array1D[np.bool_], [np.array([True, False])] * 3),
    "lengths_vary": (Array1D[np.float32], [np.arange(n, dtype=np.float32) for n in (2, 0, 3)]),
    "image": (np.ndarray, [np.full((2, 3), n, np.uint16) for n in range(3)]),
    "texts": (Sequence[str], [["a", "µ" * 50], ["", "b"], ["c", "d"]]),
    "enums": (Sequence[Mode], [[Mode.SLOW, Mode.FAST]] * 3),
    "table": (Positions, [positions("a", "bµ"), positions("c", "d"), positions("", "e" * 50)]),
}
"""The type of a signal, and what it is set to one after the other."""


class Everything(StandardReadable):
    """A device with a signal of each type, which is read or is configuration."""

    def __init__(self, how: StandardReadableFormat, name: str = "") -> None:
        with self.add_children_as_readables(how):
            for key, (datatype, values) in VALUES.items():
                setattr(self, key, soft_signal_rw(datatype, values[0]))
        super().__init__(name)


def plan(device: Everything) -> Any:
    yield from bps.open_run()
    for row in range(3):
        for key, (_, values) in VALUES.items():
            yield from bps.abs_set(getattr(device, key), values[row], wait=True)
        yield from bps.create("primary")
        yield from bps.read(device)
        yield from bps.save()
    yield from bps.close_run()


def plain(value: Any) -> Any:
    """Return a value as it is to come back: a table as a list of its rows."""
    if isinstance(value, Positions):
        return [
            (float(x), int(n), bool(on), label)
            for x, n, on, label in zip(value.x, value.n, value.on, value.label, strict=True)
        ]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [plain(item) for item in value]
    return str(value.value) if isinstance(value, Mode | Gain) else value


@pytest.fixture
def tiled_client(client: Container) -> Container:
    """Replaces the plugin's, so that `RE` writes to the app in this process."""
    return client


def read_key(client: Container, uid: str, stream: str, key: str) -> list[Any]:
    container = stream_of(client, uid, stream)
    if key in container:
        return [as_rows(row) for row in container[key].read().tolist()]
    return [plain(value) for value in container["internal"].read()[key]]


def as_rows(value: Any) -> Any:
    return [tuple(row) if isinstance(row, tuple) else row for row in value]


def expected(key: str) -> list[Any]:
    return [plain(value) for value in VALUES[key][1]]


@pytest.mark.filterwarnings("ignore:Failed to convert ragged")  # Tiled's, where xarray reads it
def test_every_signal_comes_back_as_it_was_read(client: Container, RE: RunEngine) -> None:
    with init_devices(mock=False):
        device = Everything(StandardReadableFormat.UNCACHED_SIGNAL, name="device")
    (uid,) = RE(plan(device))
    for key in VALUES:
        name = f"device-{key}"
        found = read_key(client, uid, "primary", name)
        assert found == expected(key), key
        client[uid]["primary"][name].read()
    client[uid]["primary"].read()
    assert not client[uid].metadata.get("notes")


def test_every_signal_is_in_the_configuration_as_it_is(client: Container, RE: RunEngine) -> None:
    with init_devices(mock=False):
        device = Everything(StandardReadableFormat.CONFIG_SIGNAL, name="device")
    (uid,) = RE(bp.count([device]))
    held = client[uid]["primary"].metadata["configuration"]["device"]["data"]
    for key, (_, values) in VALUES.items():
        value = values[0]
        if isinstance(value, Positions):
            columns = {name: plain(column) for name, column in value}
            assert held[f"device-{key}"] == columns
        else:
            assert held[f"device-{key}"] == plain(value), key


@pytest.mark.parametrize("key", VALUES)
def test_every_signal_can_be_monitored(client: Container, RE: RunEngine, key: str) -> None:
    datatype, values = VALUES[key]
    with init_devices(mock=False):
        signal = soft_signal_rw(datatype, values[0], name="signal")

    def monitored() -> Any:
        yield from bps.open_run()
        yield from bps.monitor(signal, name="signal_monitor")
        for value in values[1:]:
            yield from bps.abs_set(signal, value, wait=True)
        yield from bps.unmonitor(signal)
        yield from bps.close_run()

    (uid,) = RE(monitored())
    assert read_key(client, uid, "signal_monitor", "signal") == expected(key)
