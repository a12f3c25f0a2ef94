"""Runs that write to the same nodes send one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from bluesky_tiled_writer.delivery.run_lock import Turn, under_way


@dataclass
class Run:
    stopped: bool = False
    is_orphan: bool = False
    stored: bool = False


def turn_of(run: Run, nodes: object, woken: list[Run] | None = None) -> Turn:
    turn = Turn(run, nodes, lambda: None if woken is None else woken.append(run))
    turn.line_up()
    return turn


def test_a_turn_comes_when_those_before_have_ended():
    nodes, woken, runs = object(), [], [Run(), Run(), Run()]
    first, second, third = (turn_of(run, nodes, woken) for run in runs)
    assert [turn.come for turn in (first, second, third)] == [True, False, False]
    assert set(under_way(nodes)) == {first, second, third}
    first.end()
    assert [turn.come for turn in (second, third)] == [True, False]
    second.end()
    assert third.come
    assert woken == [runs[1], runs[2], runs[2]]
    assert under_way(nodes) == [third]


def test_other_nodes_and_turns_that_have_ended_are_not_waited_for():
    nodes = object()
    turn_of(Run(), object())
    turn_of(Run(), nodes).end()
    assert turn_of(Run(), nodes).come


def test_a_turn_whose_run_is_gone_is_not_waited_for():
    nodes = object()
    turn_of(Run(), nodes)
    assert turn_of(Run(), nodes).come


def test_one_that_has_stopped_waits_for_one_that_has_too():
    nodes, run, later = object(), Run(), Run(stopped=True)
    first, second = turn_of(run, nodes), turn_of(later, nodes)
    assert second.come, "the first one may never stop"
    run.stopped = True
    assert not second.come
    first.end()
    assert second.come


def test_one_of_a_journal_waits_for_one_that_goes_on():
    nodes = object()
    first, second = turn_of(Run(), nodes), turn_of(Run(stopped=True, is_orphan=True), nodes)
    assert not second.come
    assert second.waits_for_documents
    first.end()
    assert second.come


def test_nobody_passes_one_of_a_journal():
    nodes = object()
    first, second = turn_of(Run(is_orphan=True), nodes), turn_of(Run(stopped=True), nodes)
    assert not second.come
    assert not second.waits_for_documents
    first.end()
    assert second.come


def test_a_turn_is_near_when_all_before_are_stored():
    nodes, run = object(), Run(stopped=True)
    first, second = turn_of(run, nodes), turn_of(Run(stopped=True), nodes)
    assert not second.is_near
    run.stored = True
    assert second.is_near
    assert not second.come
    first.end()
    assert second.is_near


def test_whether_it_takes_documents_before_it_comes():
    nodes, run, later = object(), Run(), Run()
    first, second = turn_of(run, nodes), turn_of(later, nodes)
    assert not first.waits_for_documents
    assert second.waits_for_documents
    run.stopped = True
    assert not second.waits_for_documents
    first.end()
    assert not second.waits_for_documents


def test_it_may_come_with_the_stop_document_only():
    run = Run()
    turn = turn_of(run, object())
    turn.until_stop = True
    assert not turn.come
    assert turn.waits_for_documents
    run.stopped = True
    assert turn.come
    assert not turn.waits_for_documents
