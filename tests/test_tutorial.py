"""The tutorial that users of Bluesky and Tiled know, with each way to run a server."""

from __future__ import annotations

from collections.abc import Iterator

import bluesky.plans as bp
import numpy as np
import pandas as pd
import pytest
from bluesky import RunEngine
from conftest import SERVER
from ophyd.sim import SynAxis, SynGauss
from tiled.client import from_context, from_uri
from tiled.client.container import Container

SERVERS = ["in-process"] if SERVER else ["LocalServer", "tiled serve catalog", "in-process"]


@pytest.fixture(scope="module", params=SERVERS)
def tiled_client(request: pytest.FixtureRequest) -> Iterator[Container]:
    """Replaces the plugin's, so that `RE` writes to each of the servers."""
    if request.param == "in-process":
        yield from_context(request.getfixturevalue("app_context"))
        return
    if request.param == "LocalServer":
        uri = request.getfixturevalue("tiled_server").uri
    else:
        uri = request.getfixturevalue("served_catalog")
    client = from_uri(uri)
    yield client
    client.context.close()


def test_a_scan_is_read_back_as_a_data_frame(RE: RunEngine, tiled_client: Container) -> None:
    motor = SynAxis(name="motor")
    det = SynGauss("det", motor, "motor", center=0, Imax=1, sigma=1)

    (scan_id,) = RE(bp.scan([det], motor, -5, 5, 10))

    bs_stream = tiled_client[scan_id]["primary"]
    event_data = bs_stream["internal/events"]
    df = event_data.read()

    assert isinstance(df, pd.DataFrame)
    keys = ["det", "motor", "motor_setpoint"]
    assert sorted(df.columns) == sorted(["seq_num", "time", *keys, *(f"ts_{k}" for k in keys)])
    assert df.dtypes.pop("seq_num") == np.int64
    assert set(df.drop(columns="seq_num").dtypes) == {np.dtype("float64")}
    positions = np.linspace(-5, 5, 10)
    np.testing.assert_array_equal(df["seq_num"], np.arange(1, 11))
    np.testing.assert_array_equal(df["motor"], positions)
    np.testing.assert_array_equal(df["motor_setpoint"], positions)
    np.testing.assert_allclose(df["det"], np.exp(-(positions**2) / 2))
    assert df["time"].is_monotonic_increasing
    assert (df["ts_motor"] <= df["time"]).all()


def test_the_columns_can_be_read_by_name(RE: RunEngine, tiled_client: Container) -> None:
    motor = SynAxis(name="motor")
    (scan_id,) = RE(bp.scan([], motor, 0, 1, 3))
    stream = tiled_client[scan_id]["primary"]
    assert list(stream["motor"].read()) == [0.0, 0.5, 1.0]
    assert list(stream.read()["motor"]) == [0.0, 0.5, 1.0]
