"""HDF5 files are read while a detector writes them in SWMR mode: what is there, or a 503."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import h5py
import httpx
import numpy as np
import pytest
from conftest import ContextOn
from documents import Pair, RunBuilder, data_key
from tiled.client import from_context
from tiled.client.container import Container
from tree import stream_of

from bluesky_tiled_writer import TiledWriter

FRAMES = 9
SHAPE = (4, 5)
DATASET = "/entry/data"
OCTETS = {"Accept": "application/octet-stream"}


def frame(n: int) -> np.ndarray:
    return np.full(SHAPE, n, dtype="<u2")


@pytest.fixture
def client(context_on: ContextOn) -> Container:
    return from_context(context_on("sqlite"))


@pytest.fixture
def writer(client: Container, journals: Path) -> Iterator[TiledWriter]:
    with TiledWriter(client, journal_directory=journals, batch_size=1) as writer:
        yield writer


class Detector:
    """A file in SWMR mode, and the run that tells of it."""

    def __init__(self, path: Path, declared: Sequence[int] = SHAPE, *, swmr: bool = True) -> None:
        self._file = h5py.File(path, "w", libver="latest")
        self._frames = self._file.create_dataset(
            DATASET, (0, *SHAPE), "<u2", maxshape=(None, *SHAPE), chunks=(1, *SHAPE)
        )
        self._file.flush()
        if swmr:
            self._file.swmr_mode = True
        self.run = RunBuilder()
        self.run.start()
        key = data_key("array", declared, external="STREAM:", dtype_numpy="<u2")
        self.run.descriptor("primary", {"n": "integer", "image": key})
        uri = f"file://localhost{path}"
        self._resource = self.run.stream_resource(
            "image", uri, dataset=DATASET, chunk_shape=[1, *SHAPE]
        )
        self.opening = list(self.run.docs)

    def write(self, n: int) -> None:
        """Write a frame to the file."""
        self._frames.resize(n + 1, axis=0)
        self._frames[n] = frame(n)
        self._frames.flush()

    def documents(self, n: int) -> list[Pair]:
        """Return the documents of a frame."""
        datum = self.run.stream_datum("primary", self._resource, n, n + 1)
        return [datum, self.run.event("primary", {"n": n})]

    def close(self) -> None:
        self._file.close()


def send(docs: list[Pair], writer: TiledWriter) -> None:
    for name, doc in docs:
        writer(name, doc)


class Reader:
    """Ask for all frames of a run, again and again.

    Attributes
    ----------
    answers : Counter
        How often there was which answer.
    rows : int
        How many frames there were last.
    wrong : list of str
        Answers that were not the frames of the run.
    """

    def __init__(self, client: Container, uid: str) -> None:
        self._http = client.context.http_client
        self._api = str(client.context.api_uri)
        self._node = f"{uid}/primary/image"
        self.answers: Counter[int] = Counter()
        self.rows = 0
        self.wrong: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll)

    def read(self) -> httpx.Response | None:
        """Read all rows that Tiled knows of; None if there is no node yet."""
        known = self._http.get(f"{self._api}metadata/{self._node}")
        if known.status_code == httpx.codes.NOT_FOUND:
            return None
        rows = known.json()["data"]["attributes"]["structure"]["shape"][0]
        url = f"{self._api}array/full/{self._node}"
        answer = self._http.get(url, params={"slice": f"0:{rows}"}, headers=OCTETS)
        self.answers[answer.status_code] += 1
        if answer.is_success:
            frames = np.frombuffer(answer.content, "<u2").reshape(rows, *SHAPE)
            if not np.array_equal(frames, [frame(n) for n in range(rows)]):
                self.wrong.append(str(frames))
            self.rows = rows
        return answer

    def _poll(self) -> None:
        while not self._over.wait(0.02):
            self.read()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()


def stored(client: Container, uid: str) -> Any:
    return stream_of(client, uid)["image"]


def test_a_growing_file_is_read_without_an_error_of_the_server(
    client: Container, writer: TiledWriter, tmp_path: Path
) -> None:
    with closing(Detector(tmp_path / "frames.h5")) as detector:
        send(detector.opening, writer)
        with Reader(client, detector.run.uid) as reader:
            for n in range(FRAMES):
                docs = detector.documents(n)
                if n % 3 == 1:  # a detector may tell of a frame before it is in the file
                    send(docs, writer)
                    assert writer.flush(20)
                    detector.write(n)
                else:
                    detector.write(n)
                    send(docs, writer)
                    assert writer.flush(20)
    send([detector.run.stop()], writer)
    assert writer.wait_for(detector.run.uid)
    assert set(reader.answers) <= {200, 503}
    assert reader.answers[200]
    assert not reader.wrong
    assert reader.rows > 1
    with h5py.File(tmp_path / "frames.h5") as file:
        assert np.array_equal(stored(client, detector.run.uid).read(), file[DATASET][:])


UNPROCESSABLE = pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="Tiled 0.2.20 answers 422 where a row has more dimensions than a frame in the file, and"
    " before the first frame. If it does not: docs/how-to/watch-a-scan.md, section Files",
)


@pytest.mark.parametrize(
    ("declared", "frames"),
    [
        pytest.param(SHAPE, 1, id="second frame"),
        pytest.param((1, *SHAPE), 1, id="events of one frame", marks=UNPROCESSABLE),
        pytest.param(SHAPE, 0, id="first frame", marks=UNPROCESSABLE),
    ],
)
def test_a_frame_that_is_not_in_the_file_yet_is_a_503_until_it_is(
    client: Container, writer: TiledWriter, tmp_path: Path, declared: tuple[int, ...], frames: int
) -> None:
    with closing(Detector(tmp_path / "frames.h5", declared)) as detector:
        send(detector.opening, writer)
        for n in range(frames):
            detector.write(n)
            send(detector.documents(n), writer)
        send(detector.documents(frames), writer)
        assert writer.flush(20)
        reader = Reader(client, detector.run.uid)
        early = reader.read()
        detector.write(frames)
        later = reader.read()
    send([detector.run.stop()], writer)
    assert writer.wait_for(detector.run.uid)
    assert later is not None
    assert later.status_code == httpx.codes.OK
    assert early is not None
    assert early.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert early.headers["Retry-After"]


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="Tiled 0.2.20 answers 500 while a file is open for writing outside of SWMR mode. If it"
    " does not any more: docs/how-to/watch-a-scan.md, section Files",
)
def test_a_file_outside_of_swmr_mode_is_no_error_of_the_server(
    client: Container, writer: TiledWriter, tmp_path: Path
) -> None:
    with closing(Detector(tmp_path / "frames.h5", swmr=False)) as detector:
        detector.write(0)
        send([*detector.opening, *detector.documents(0)], writer)
        assert writer.flush(20)
        answer = Reader(client, detector.run.uid).read()
    send([detector.run.stop()], writer)
    assert writer.wait_for(detector.run.uid)
    assert answer is not None
    assert answer.status_code != httpx.codes.INTERNAL_SERVER_ERROR
