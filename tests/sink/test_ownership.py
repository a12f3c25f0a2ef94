"""Who writes a run that several processes have: each sink here stands for one of them."""

from __future__ import annotations

import math
import time
import uuid
from dataclasses import dataclass, field

import pyarrow as pa
import pytest
from tiled.client.container import Container
from tree import read_arrow

from bluesky_tiled_writer.errors import (
    DocumentsIncomplete,
    RunComplete,
    TooEarly,
    WrittenElsewhere,
)
from bluesky_tiled_writer.run import (
    AppendRows,
    CheckHeld,
    CheckNodes,
    Claim,
    CreateRun,
    CreateStream,
    Expected,
    Known,
    Node,
    Step,
    UpdateMetadata,
    interrupted_stop,
)
from bluesky_tiled_writer.sink import Connection, TiledSink, ownership

ENOUGH = 30.0
"""s: for anything that has to happen."""


@pytest.fixture
def client(process_client: Container) -> Container:
    return process_client


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "PATIENCE", 0.6)
    monkeypatch.setattr(ownership, "REST", 0.2)
    monkeypatch.setattr(ownership, "GRACE", 0.1)


@pytest.fixture
def uid() -> str:
    return str(uuid.uuid4())


@dataclass
class Process:
    """A sink, and what it is entitled by."""

    client: Container
    uid: str
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    documents: float = math.inf

    def __post_init__(self) -> None:
        self.sink = TiledSink(Connection.of(self.client))

    def begin(self) -> None:
        claim = Claim(self.token, lambda: self.documents)
        self.sink.execute(CreateRun(self.uid, {"start": {"uid": self.uid}}, [], claim=claim))

    def open_stream(self) -> None:
        self.execute(CreateStream(self.uid, "primary", {}, []))

    def rows(self, start: int, stop: int) -> AppendRows:
        values = [float(i) for i in range(start, stop)]
        columns = {"seq_num": [i + 1 for i in range(start, stop)], "time": values, "x": values}
        return AppendRows(Node(self.uid, "primary", "internal"), start, pa.table(columns))

    def store(self, start: int, stop: int) -> None:
        self.execute(self.rows(start, stop))

    def stop(self, **stop: str) -> None:
        self.execute(UpdateMetadata(self.uid, None, {"stop": {"uid": "the stop", **stop}}))

    def execute(self, step: Step) -> None:
        self.sink.execute(step)

    def execute_in_time(self, step: Step) -> list[WrittenElsewhere | TooEarly]:
        """Try as the sender does; return the errors until it worked."""
        errors: list[WrittenElsewhere | TooEarly] = []
        deadline = time.monotonic() + ENOUGH
        while time.monotonic() < deadline:
            try:
                self.execute(step)
            except (WrittenElsewhere, TooEarly) as error:
                errors.append(error)
                time.sleep(error.retry_after)
            else:
                return errors
        raise TimeoutError(str(errors[-1]))


@pytest.fixture
def maker(client: Container, uid: str) -> Process:
    """A process that has made a run, and stored three rows."""
    maker = Process(client, uid)
    maker.begin()
    maker.open_stream()
    maker.store(0, 3)
    return maker


def seq_nums(client: Container, uid: str) -> list[int]:
    return list(read_arrow(client[uid, "primary", "internal"])["seq_num"].to_pylist())


def test_a_run_says_who_writes_it_until_it_has_its_stop(
    client: Container, uid: str, maker: Process
) -> None:
    assert client[uid].metadata["written_by"] == maker.token
    maker.stop()
    assert dict(client[uid].metadata) == {"start": {"uid": uid}, "stop": {"uid": "the stop"}}


def test_whoever_goes_on_with_the_same_documents_need_not_wait(
    client: Container, uid: str, maker: Process
) -> None:
    heir = Process(client, uid, maker.token)
    heir.begin()
    heir.open_stream()
    heir.store(0, 3)
    heir.store(3, 5)
    assert seq_nums(client, uid) == [1, 2, 3, 4, 5]


def test_one_who_writes_answers_those_who_ask_for_the_run(
    client: Container, uid: str, maker: Process
) -> None:
    other = Process(client, uid)
    other.begin()
    answered = []
    for row in range(3, 6):
        with pytest.raises(WrittenElsewhere) as raised:  # it asks
            other.open_stream()
        answered.append(raised.value.answered)
        time.sleep(ownership.REST)
        maker.store(row, row + 1)
        time.sleep(raised.value.retry_after)
        with pytest.raises(WrittenElsewhere) as raised:  # it has an answer
            other.open_stream()
        time.sleep(raised.value.retry_after)
    assert answered == [False, True, True]
    maker.stop()
    with pytest.raises(RunComplete):
        other.execute_in_time(CreateStream(uid, "primary", {}, []))
    assert seq_nums(client, uid) == [1, 2, 3, 4, 5, 6]


def test_another_one_takes_a_run_over_when_there_is_no_answer(
    client: Container, uid: str, maker: Process
) -> None:
    other = Process(client, uid)
    other.begin()
    assert other.execute_in_time(CreateStream(uid, "primary", {}, []))
    other.store(0, 5)
    assert client[uid].metadata["written_by"] == other.token
    assert seq_nums(client, uid) == [1, 2, 3, 4, 5]


def test_one_who_has_nothing_more_does_not_ask(client: Container, uid: str, maker: Process) -> None:
    other = Process(client, uid, documents=5)
    other.begin()
    for _ in range(3):
        with pytest.raises(WrittenElsewhere) as raised:
            other.open_stream()
        assert client[uid].metadata["written_by"] == maker.token
        time.sleep(raised.value.retry_after)
    other.documents = 6
    other.execute_in_time(CreateStream(uid, "primary", {}, []))


def test_one_who_comes_back_after_a_rest_finds_that_its_run_was_taken_over(
    client: Container, uid: str, maker: Process
) -> None:
    other = Process(client, uid)
    other.begin()
    other.execute_in_time(CreateStream(uid, "primary", {}, []))
    other.store(0, 5)

    time.sleep(ownership.REST)
    with pytest.raises(WrittenElsewhere):
        maker.store(3, 6)
    maker.execute_in_time(maker.rows(3, 6))  # the other one does not answer now

    assert seq_nums(client, uid) == [1, 2, 3, 4, 5, 6]
    expected = Expected(Node(uid, "primary", "internal"), 6)
    maker.execute_in_time(CheckNodes(uid, again=True, expected=[expected]))
    maker.stop()
    assert seq_nums(client, uid) == [1, 2, 3, 4, 5, 6]
    time.sleep(ownership.REST)
    with pytest.raises(RunComplete):
        other.store(5, 6)


def test_rows_of_another_one_that_the_documents_do_not_give_are_not_deleted(
    client: Container, uid: str, maker: Process
) -> None:
    other = Process(client, uid)
    other.begin()
    other.execute_in_time(CreateStream(uid, "primary", {}, []))
    other.store(0, 9)
    time.sleep(ownership.REST)
    maker.execute_in_time(maker.rows(3, 6))
    expected = Expected(Node(uid, "primary", "internal"), 6)
    check = CheckNodes(uid, again=True, expected=[expected])
    with pytest.raises(DocumentsIncomplete, match="stored 9 rows"):
        maker.execute_in_time(check)
    assert seq_nums(client, uid) == [*range(1, 10)]


def test_a_run_whose_rows_the_documents_do_not_give_is_left_as_it_was(
    client: Container, uid: str, maker: Process
) -> None:
    before = dict(client[uid].metadata)
    other = Process(client, uid)
    other.begin()
    with pytest.raises(DocumentsIncomplete, match="give 2 rows"):
        other.execute_in_time(CheckHeld(uid, lambda: Known({"primary": 2})))
    assert dict(client[uid].metadata) == before
    maker.store(3, 4)


def test_of_two_who_wait_for_a_dead_one_only_one_takes_over(
    client: Container, uid: str, maker: Process
) -> None:
    waiting = [Process(client, uid), Process(client, uid)]
    for other in waiting:
        other.begin()
    due = [0.0, 0.0]
    winners: list[int] = []
    deadline = time.monotonic() + ENOUGH
    while not winners and time.monotonic() < deadline:
        for i, other in enumerate(waiting):
            if time.monotonic() >= due[i]:
                try:
                    other.open_stream()
                except WrittenElsewhere as error:
                    due[i] = time.monotonic() + error.retry_after
                else:
                    winners.append(i)
        time.sleep(0.005)
    (winner,) = winners
    waiting[winner].store(0, 5)
    loser = waiting[1 - winner]
    with pytest.raises(WrittenElsewhere):
        loser.open_stream()
    waiting[winner].stop()
    with pytest.raises(RunComplete):
        loser.execute_in_time(CreateStream(uid, "primary", {}, []))
    assert seq_nums(client, uid) == [1, 2, 3, 4, 5]


def test_a_run_of_a_process_that_ended_is_free_at_once(
    client: Container, uid: str, maker: Process
) -> None:
    made = interrupted_stop(uid, "It ended.", {"primary": 3})
    maker.execute(UpdateMetadata(uid, None, {"stop": made, "notes": ["It ended."]}))
    other = Process(client, uid)
    other.begin()
    (error,) = other.execute_in_time(CheckHeld(uid, lambda: Known({"primary": 4}, "the stop")))
    assert error.retry_after == ownership.GRACE
    other.store(0, 4)
    other.stop()
    assert seq_nums(client, uid) == [1, 2, 3, 4]
    assert dict(client[uid].metadata) == {"start": {"uid": uid}, "stop": {"uid": "the stop"}}


def test_a_stop_whose_answer_was_lost_is_sent_again(uid: str, maker: Process) -> None:
    maker.stop()
    time.sleep(ownership.PATIENCE)
    maker.stop()
