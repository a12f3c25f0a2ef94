"""Which runs are wanted: by their time, and by what their start documents say."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tiled.queries import Key

_CONDITION = re.compile(r"([^=<>!]+?)\s*(==|!=|<=|>=|=|<|>)\s*(.*)", re.DOTALL)

_OPERATORS = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Condition:
    """A condition that the start document of a run meets, such as ``plan_name=count``.

    Parameters
    ----------
    key : str
        A key of the start document; dots lead into mappings.
    symbol : str
        One of ``= == != < <= > >=``.
    value : Any
        What it is compared with.
    """

    key: str
    symbol: str
    value: Any

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition. Its value is JSON if it can be, else text.

        Raises
        ------
        ValueError
            If it is no condition.
        """
        match = _CONDITION.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is no condition such as plan_name=count or scan_id>=100")
        try:
            value = json.loads(match[3])
        except ValueError:
            value = match[3]
        return cls(match[1].removeprefix("start."), match[2], value)

    def matches(self, start: Mapping[str, Any]) -> bool:
        """Return True if a start document meets it."""
        found: Any = start
        for name in self.key.split("."):
            if not isinstance(found, Mapping) or name not in found:
                return False
            found = found[name]
        try:
            return bool(_OPERATORS[self.symbol](found, self.value))
        except TypeError:  # text is neither smaller nor larger than a number
            return False

    def query(self) -> Any:
        """Return it as a query to Tiled."""
        return _OPERATORS[self.symbol](Key(f"start.{self.key}"), self.value)


@dataclass(frozen=True)
class RunFilter:
    """Chooses runs.

    Parameters
    ----------
    since, until : float, optional
        Runs that started at this time (seconds since 1970) or later; and before this one.
    conditions : sequence of Condition
        All of them are met.
    """

    since: float | None = None
    until: float | None = None
    conditions: Sequence[Condition] = ()

    @classmethod
    def of(
        cls,
        since: float | str | datetime | None = None,
        until: float | str | datetime | None = None,
        query: Sequence[str] = (),
    ) -> RunFilter:
        """Read times and conditions as people write them; see `migrate`.

        Raises
        ------
        ValueError
            If one of them cannot be read.
        """
        return cls(_seconds(since), _seconds(until), tuple(map(Condition.parse, query)))

    @property
    def all_conditions(self) -> list[Condition]:
        """The conditions, those of the time among them."""
        times = [("<", self.until), (">=", self.since)]
        found = [Condition("time", symbol, time) for symbol, time in times if time is not None]
        return [*found, *self.conditions]

    def __bool__(self) -> bool:
        return bool(self.all_conditions)

    def matches(self, start: Mapping[str, Any]) -> bool:
        """Return True if the run of a start document is wanted."""
        return all(condition.matches(start) for condition in self.all_conditions)

    def search(self, container: Any) -> Any:
        """Return what a container in Tiled has of wanted runs."""
        for condition in self.all_conditions:
            container = container.search(condition.query())
        return container


def _seconds(time: float | str | datetime | None) -> float | None:
    """Return a time in seconds since 1970; one without a time zone is local."""
    if time is None or isinstance(time, int | float):
        return time
    if isinstance(time, datetime):
        return time.timestamp()
    try:
        return float(time)
    except ValueError:
        return datetime.fromisoformat(time).timestamp()
