from __future__ import annotations

import numpy as np
import pytest

from bluesky_tiled_writer.schema.limits import ServerLimits, ragged_name

U8, F8 = np.dtype("u8"), np.dtype("f8")


def capabilities(limits):
    return {
        "u8": limits.has_column(U8),
        "f8": limits.has_column(F8),
        "ragged u8": limits.has_ragged(U8),
        "ragged f8": limits.has_ragged(F8),
        "lists": limits.has_lists,
        "NUL": limits.has_nul,
    }


@pytest.mark.parametrize(
    ("refused", "lost"),
    [
        ("u8", {"u8"}),
        ("lists", {"lists"}),
        ("NUL", {"NUL"}),
        (ragged_name(U8), {"ragged u8"}),
        (ragged_name(F8), {"ragged u8", "ragged f8"}),
    ],
)
def test_a_server_is_offered_all_but_what_it_refused(refused, lost):
    limits = ServerLimits()
    assert all(capabilities(limits).values())
    assert limits.learn(refused)
    assert {name for name, has in capabilities(limits).items() if not has} == lost


def test_a_limit_that_was_known_is_no_news():
    limits = ServerLimits()
    assert limits.learn("lists")
    assert not limits.learn("lists")
    assert limits.learn("NUL")


def test_the_byte_order_of_a_type_is_no_matter():
    limits = ServerLimits()
    limits.learn("u8")
    assert not limits.has_column(np.dtype(">u8"))


@pytest.mark.parametrize(
    ("database", "concurrently"),
    [("", False), ("duckdb", False), ("sqlite", False), ("postgresql", True)],
)
def test_writes_go_together_only_on_a_database_that_is_known_to_take_them(database, concurrently):
    limits = ServerLimits()
    limits.database = database
    assert limits.writes_concurrently is concurrently


def test_limits_of_a_stream_change_only_when_they_are_brought_up_to_date():
    shared, own = ServerLimits(), ServerLimits()
    shared.learn("lists")
    shared.database = "sqlite"
    own.take_over(shared)
    shared.learn("NUL")
    assert (own.has_lists, own.has_nul, own.database) == (False, True, "sqlite")
    own.learn("order")
    assert shared.has_order
