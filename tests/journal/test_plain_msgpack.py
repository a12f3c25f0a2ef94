"""Packages that replace the classes of msgpack, as bluesky-kafka does, change nothing here."""

from __future__ import annotations

import subprocess
import sys

import msgpack
import msgpack_numpy
import numpy as np
import pytest

from bluesky_tiled_writer.consumers.source import unpack
from bluesky_tiled_writer.errors import InvalidDocument
from bluesky_tiled_writer.journal.codec import Encoder, decode

ROUND_TRIP = """
import msgpack_numpy
msgpack_numpy.patch()
import numpy as np
from bluesky_tiled_writer.journal.codec import Encoder, decode
given = {"a": np.arange(3.0), "t": np.array(["2026-11-29"], "M8[D]")}
got = decode(Encoder().encode(given))
assert all(got[key].dtype == given[key].dtype and (got[key] == given[key]).all() for key in given)
assert got["a"].flags.writeable
"""


def test_documents_come_back_though_msgpack_was_replaced_before() -> None:
    subprocess.run([sys.executable, "-c", ROUND_TRIP], check=True)


class Attack:
    loaded = False

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("loaded",)


def test_a_pickle_in_a_message_is_not_loaded_though_msgpack_was_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    message = msgpack_numpy.packb(["event", {"data": np.array([Attack()], object)}])
    for name in ("Packer", "Unpacker", "unpackb", "loads"):
        monkeypatch.setattr(msgpack, name, getattr(msgpack_numpy, name, msgpack_numpy.unpackb))
    with pytest.raises(InvalidDocument, match="pickled"):
        unpack(message)
    assert not capsys.readouterr().out
    given = np.arange(3.0)
    assert (decode(Encoder().encode({"a": given}))["a"] == given).all()
