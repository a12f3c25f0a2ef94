"""A node that holds data, as far as is known here of what Tiled holds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from tiled.structures.core import StructureFamily

from bluesky_tiled_writer.errors import (
    OutOfStep,
    RequestRefused,
    StorageError,
    StorageUnsupported,
)
from bluesky_tiled_writer.run import Node
from bluesky_tiled_writer.schema import ServerLimits

from .requests import NodePath, Requests

ASKED = 3
"""Refusals in a row after which it is believed that the server cannot hold what was sent."""


class StoredNode:
    """What is known of one node, and how to write to it.

    What was acknowledged is known. After a request that failed and may have taken effect nothing
    is: the node is *in doubt* until the server was asked what it holds.

    Parameters
    ----------
    requests : Requests
        To the server.
    node : Node
        Which node, and what it takes to make it.
    limits : ServerLimits
        Takes what the server turns out not to hold.

    Attributes
    ----------
    rows : int
        Rows that the node certainly holds, exactly as they were sent.
    exists : bool
        Whether the node was made.
    uncertain_since : float
        When it was last, by the monotonic clock: a request that got no answer may be carried out
        later. 0 if it never was.
    early : bool
        Whether its stream may not be made yet; see `Lead`.
    untouched : bool
        Whether nobody else can have made it, or another one in its place.
    """

    def __init__(self, requests: Requests, node: Node, limits: ServerLimits) -> None:
        self.node = node
        self.rows = 0
        self.exists = False
        self.uncertain_since = 0.0
        self.early = False
        self.untouched = False
        self._uncertain = False
        self._lost = ""  # why its rows were deleted, which only a new sink can send again
        self._refusals = 0
        self._requests = requests
        self._limits = limits

    @property
    def path(self) -> NodePath:
        """The path below the root of the writer."""
        return self.node.path

    # -- for the families -----------------------------------------------------------------------

    def _matches(self, item: Mapping[str, Any], wanted: Any) -> bool:
        """Whether a node that is there has the form that is wanted."""
        raise NotImplementedError

    def _take_over(self, item: Mapping[str, Any]) -> None:
        """Learn from the server how much a node holds that is there, in the form wanted."""
        raise NotImplementedError

    def _item(self) -> dict[str, Any]:
        """What the server says of the node, which has to be there."""
        if (item := self._requests.item(self.path)) is None:
            raise self._gone()
        return item

    def _gone(self) -> OutOfStep:
        return OutOfStep(f"{'/'.join(self.path)} is not in Tiled any more.")

    # -- what is there --------------------------------------------------------------------------

    def first_missing(self, start: int) -> int:
        """How many rows of a step that starts at this row_number the node is known to hold."""
        if start > self.rows:
            raise OutOfStep(
                f"Rows {self.rows} to {start - 1} of {'/'.join(self.path)} are missing in Tiled."
            )
        return self.rows - start

    def resolve_uncertainty(self, wanted: Any) -> None:
        """Ask the server what it holds, if that is in doubt."""
        if self._uncertain:
            self._look(wanted)

    def _look(self, wanted: Any) -> None:
        item = self._requests.item(self.path)
        self.uncertain_since = time.monotonic()
        if item is not None and not self._matches(item, wanted):
            self._delete()
            item = None
        self._uncertain, self.exists = False, item is not None
        if item is not None:
            self._take_over(item)
        elif self.rows:
            self.rows = 0
            raise self._gone()

    @contextmanager
    def noting_uncertainty(self, *, early: bool = False) -> Iterator[None]:
        """Remember where a request may have taken effect in spite of an error.

        Parameters
        ----------
        early : bool
            Whether what it is about may not be made yet: that it is not there is no news then.
        """
        try:
            yield
        except StorageError as error:
            if error.uncertain or (is_gone(error) and not early):
                self._uncertain = True
                self.uncertain_since = time.monotonic()
            raise

    def create(self, body: Mapping[str, Any], wanted: Any) -> httpx.Response | None:
        """Make the node; one that is there is taken over if its form is the one wanted.

        Returns
        -------
        httpx.Response or None
            The answer, or None for a node that was there.
        """
        about = {
            "id": self.path[-1],
            "metadata": self.node.metadata,
            "specs": [],
            "access_tags": self.node.access_tags,
            **body,
        }
        endpoint = "register" if body["data_sources"][0]["assets"] else "metadata"
        for _ in range(2):
            try:
                with self.noting_uncertainty(early=self.early):
                    answer = self._requests.send(
                        "POST", endpoint, self.path[:-1], json_body=about, about=self.path
                    )
            except RequestRefused as error:
                if error.status != httpx.codes.CONFLICT:
                    raise
                self._look(wanted)
                if self.exists:
                    return None
                continue  # it was of another form, and is gone
            self.exists = True
            self._refusals = 0
            self._requests.distance.learn(answer)
            return answer
        raise self.disputed()

    def disputed(self) -> OutOfStep:
        """The error to raise for a node that changes without our doing."""
        return OutOfStep(f"{'/'.join(self.path)} comes and goes: somebody else writes it.")

    def start_over(self, why: str) -> OutOfStep:
        """Delete the node, since it does not hold what it should; gives the error to raise."""
        self._uncertain = True  # until it is deleted
        self.delete()
        self._lost = why
        return OutOfStep(f"{'/'.join(self.path)} {why}; it is stored again from the first row.")

    def delete(self) -> None:
        """Delete the node, if it was made."""
        if self.exists or self._uncertain:
            self._delete()
            self.exists, self._uncertain, self.rows = False, False, 0

    def _delete(self) -> None:
        try:
            with (
                self.noting_uncertainty()
            ):  # carried out late, it would delete what is made after it
                params = {"external_only": False}
                self._requests.send("DELETE", "metadata", self.path, params=params)
        except RequestRefused as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise

    def learn(self, error: RequestRefused, *limits: str) -> None:
        """Learn what the database behind the server cannot hold, if that is what it refused.

        The server does not say, and it may have been in trouble, such as a locked database: so
        it is asked again, and has to refuse the same every time.

        Raises
        ------
        StorageUnsupported
            If one of these limits is new; one at a time is taken for the reason.
        """
        if not error.about_content or not limits:
            return
        self._refusals += 1
        if self._refusals >= ASKED and any(map(self._limits.learn, limits)):
            self._refusals = 0
            raise StorageUnsupported(str(error), status=error.status) from error

    def check(self, *, again: bool) -> None:
        """Make sure, before the run is finished, that the node holds what was sent and no more.

        Rows of a request that was given up may have come in since; or with them, in the same
        transaction of the server, others have gone.

        Raises
        ------
        OutOfStep
            If it does not: it was deleted, and everything is to be stored `again`.
        StorageError
            The same, if that cannot be.
        """
        if self._lost:
            raise self.start_over(self._lost)
        if not self.exists or (rows := self._count()) == self.rows:
            return
        what = f"holds {rows} rows where {self.rows} were sent"
        if again:
            raise self.start_over(what)
        raise StorageError(
            f"{'/'.join(self.path)} {what}.",
            hint="There is no journal to store it from again: the rows are as Tiled has them.",
        )

    def _count(self) -> int:
        """How many rows the server holds; -1 for a node that cannot be read."""
        raise NotImplementedError


def data_source(
    family: StructureFamily, structure: Mapping[str, Any], mimetype: str | None = None
) -> dict[str, Any]:
    """What it takes to create a node that Tiled keeps the data of."""
    source = {
        "structure_family": family,
        "structure": structure,
        "id": None,
        "mimetype": mimetype,
        "parameters": {},
        "properties": {},
        "assets": [],
        "management": "writable",
    }
    return {"structure_family": family, "data_sources": [source]}


def structure_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """The structure in what the server says of a node."""
    return dict(item["attributes"]["structure"])


def is_gone(error: Exception) -> bool:
    """Whether the server has nothing at that path."""
    return isinstance(error, RequestRefused) and error.status == httpx.codes.NOT_FOUND
