"""A node that holds data: what is known of it, how to create, check and delete it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import httpx
import pyarrow as pa

from bluesky_tiled_writer.errors import (
    OutOfStep,
    RequestRefused,
    StorageError,
    StorageUnsupported,
)
from bluesky_tiled_writer.run import Expected, Node
from bluesky_tiled_writer.schema import ServerLimits

from .address import NodePath
from .items import has_structure
from .requests import Requests

REFUSALS = 3
"""Refusals in a row after which the server is taken to be unable to store what was sent."""


class StoredNode:
    """One node in Tiled: its known state, and the ways to write to it.

    Acknowledged requests are known to have taken effect. When a request fails and may have taken
    effect nevertheless, the node is *uncertain* until the server was asked what it holds.

    Each structure family is a subclass.

    Parameters
    ----------
    requests : Requests
        The way to the server.
    node : Node
        Which node, and what it is created with.
    limits : ServerLimits
        Learns what the server turns out not to store.

    Attributes
    ----------
    rows : int
        Rows that the node is known to hold, exactly as they were sent.
    exists : bool
        True if the node was created.
    last_uncertain : float
        The monotonic time at which the node was last uncertain, 0 if it never was. An unanswered
        request may take effect later than that.
    """

    def __init__(self, requests: Requests, node: Node, limits: ServerLimits) -> None:
        self.node = node
        self.rows = 0
        self.exists = False
        self.last_uncertain = 0.0
        self._uncertain = False
        self._form: Any = None  # what all of its rows have in common
        self._lost = ""  # why its rows were deleted, which only a new sink can send again
        self._refusals = 0
        self._told: set[str] = set()  # limits for which rows were to be stored in another form
        self._requests = requests
        self._limits = limits

    @property
    def path(self) -> NodePath:
        """The path below the root of the writer."""
        return self.node.path

    @property
    def _name(self) -> str:
        return "/".join(self.path)

    # -- what a family defines ------------------------------------------------------------------

    def _matches(self, item: Mapping[str, Any], wanted: Any) -> bool:
        """Return True if a node found in Tiled has the wanted form."""
        raise NotImplementedError

    def _take_over(self, item: Mapping[str, Any]) -> None:
        """Learn how many rows a node found in Tiled holds; it has the wanted form."""
        raise NotImplementedError

    def _count(self) -> int:
        """Return how many rows the server holds; -1 if they cannot be read."""
        raise NotImplementedError

    # -- what was sent --------------------------------------------------------------------------

    def require_form(self, form: Any, start: int) -> None:
        """Make sure that rows of a form can follow those that the node holds.

        If they are all rows from the first one on, a node of another form is deleted: it was left
        behind by an attempt to store them in that form.

        Parameters
        ----------
        form : Any
            What all rows of the node have in common.
        start : int
            Number of the first row to store.

        Raises
        ------
        OutOfStep
            If it holds rows of another form before the first one.
        """
        if self.exists and self._form != form:
            if start:
                raise self.start_over("has another form")
            self.delete()
        self._form = form

    def check_sent(self, expected: Expected, *, again: bool) -> None:
        """Make sure that what was sent to the node is what its stream has.

        Parameters
        ----------
        expected : Expected
            What the stream has.
        again : bool
            As `check`.

        Raises
        ------
        StorageError
            As `check`.
        """
        if not self.exists:
            self._wrong("was not created", again=again)
        if self.rows != expected.rows:
            what = f"got {self.rows} rows where its stream has {expected.rows}"
            self._wrong(what, again=again)
        if expected.columns is not None and (
            not isinstance(self._form, pa.Schema) or self._form.names != list(expected.columns)
        ):
            self._wrong("did not get all columns of its stream", again=again)

    # -- what the server holds ------------------------------------------------------------------

    def first_missing(self, start: int) -> int:
        """Return how many rows, of those from row number `start` on, the node is known to hold.

        Raises
        ------
        OutOfStep
            If rows before `start` are missing.
        """
        if start > self.rows:
            raise OutOfStep(
                f"Rows {self.rows} to {start - 1} of {self._name} are missing in Tiled."
            )
        return self.rows - start

    def distrust(self) -> None:
        """Ask what the node holds before it is written again: others have written it."""
        if self.exists:
            self._uncertain = True
            self.last_uncertain = time.monotonic()

    def resolve_uncertainty(self, wanted: Any) -> None:
        """Ask the server what it holds, if that is uncertain; delete a node of another form.

        Raises
        ------
        OutOfStep
            If a node that held rows is gone.
        """
        if self._uncertain:
            self._ask(wanted)

    def _ask(self, wanted: Any) -> None:
        item = self._requests.item(self.path)
        self.last_uncertain = time.monotonic()
        if item is not None and not (has_structure(item) and self._matches(item, wanted)):
            self._delete()
            item = None
        self._uncertain, self.exists = False, item is not None
        if item is not None:
            self._take_over(item)
        elif self.rows:
            self.rows = 0
            raise self._gone()

    def is_there(self) -> bool:
        """Return True if the node exists; the server is asked if that is uncertain."""
        if self._uncertain and self._requests.item(self.path) is None:
            self._uncertain = self.exists = False
        return self.exists or self._uncertain

    def _item(self) -> dict[str, Any]:
        """Return what the server says of the node.

        Raises
        ------
        OutOfStep
            If there is no such node.
        """
        if (item := self._requests.item(self.path)) is None:
            raise self._gone()
        return item

    def _gone(self) -> OutOfStep:
        return OutOfStep(f"{self._name} is not in Tiled any more.")

    @contextmanager
    def noting_uncertainty(self) -> Iterator[None]:
        """Mark the node as uncertain if a request fails that may have taken effect.

        So does a 404: somebody may have deleted the node.
        """
        try:
            yield
        except StorageError as error:
            gone = isinstance(error, RequestRefused) and error.status == httpx.codes.NOT_FOUND
            if error.uncertain or gone:
                self._uncertain = True
                self.last_uncertain = time.monotonic()
            raise

    # -- writing --------------------------------------------------------------------------------

    def create(self, body: Mapping[str, Any], wanted: Any) -> httpx.Response | None:
        """Create the node; one that is there is taken over if it has the wanted form.

        Returns
        -------
        httpx.Response or None
            The answer; None if the node was there.

        Raises
        ------
        StorageError
            If that failed. `OutOfStep` if the node is created by somebody else again and again.
        """
        about = {
            "id": self.path[-1],
            "metadata": self.node.metadata,
            "specs": [],
            **self._requests.access(self.node.access_tags),
            **body,
        }
        endpoint = "register" if body["data_sources"][0]["assets"] else "metadata"
        for _ in range(2):
            try:
                with self.noting_uncertainty():
                    answer = self._requests.send(
                        "POST", endpoint, self.path[:-1], json_body=about, about=self.path
                    )
            except RequestRefused as error:
                if error.status != httpx.codes.CONFLICT:
                    raise
                self._ask(wanted)
                if self.exists:
                    return None
                continue  # it had another form, and was deleted
            self.exists = True
            self._refusals = 0
            return answer
        raise OutOfStep(f"{self._name} comes and goes: somebody else writes it.")

    def _write(
        self,
        method: str,
        endpoint: str,
        rows: int,
        content: bytes,
        media_type: str,
        params: Mapping[str, Any] | None = None,
    ) -> bool:
        """Write rows; return False if these are too many for one request."""
        size = self._limits.request_size
        if rows > 1 and len(content) > size.most:
            return False
        try:
            with self.noting_uncertainty():
                self._requests.send(
                    method,
                    endpoint,
                    self.path,
                    content=content,
                    headers={"Content-Type": media_type},
                    params=params,
                )
        except RequestRefused as error:
            if error.status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
                size.refused(len(content), final=rows == 1)
                if rows > 1:
                    return False
            raise
        self.rows += rows
        self._refusals = 0
        return True

    def start_over(self, why: str) -> OutOfStep:
        """Delete a node that does not hold what it should; return the error to raise."""
        self._uncertain = True  # until it is deleted
        self.delete()
        self._lost = why
        return OutOfStep(f"{self._name} {why}; it is stored again from the first row.")

    def delete(self) -> None:
        """Delete the node, if it was created."""
        if self.exists or self._uncertain:
            self._delete()
            self.exists, self._uncertain, self.rows = False, False, 0

    def _delete(self) -> None:
        with suppress(RequestRefused):  # a courtesy, which older servers do not know
            # Live subscribers would wait for rows that go to another node.
            self._requests.send("DELETE", "stream/close", self.path)
        try:
            # A deletion that takes effect late deletes what was created after it.
            with self.noting_uncertainty():
                params = {"external_only": False}
                self._requests.send("DELETE", "metadata", self.path, params=params)
        except RequestRefused as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise

    def learn(self, error: RequestRefused, *limits: str) -> None:
        """Learn what the server's database cannot store, if that is why it refused.

        The server does not say why, and may have been in trouble, such as a locked database: so
        the same request has to be refused `REFUSALS` times.

        Parameters
        ----------
        error : RequestRefused
            The refusal.
        *limits : str
            Possible reasons, see `ServerLimits`; the first one that is new is taken for it. One
            that another node has learned since the rows were planned is the reason without further
            attempts.

        Raises
        ------
        StorageUnsupported
            If the rows have to be stored in another form.
        """
        if not error.about_content or not limits:
            return
        self._refusals += 1
        if self._refusals >= REFUSALS:
            any(map(self._limits.learn, limits))
        if news := set(filter(self._limits.knows, limits)) - self._told:
            self._told |= news
            self._refusals = 0
            raise StorageUnsupported(str(error), status=error.status) from error

    # -- before the end of the run --------------------------------------------------------------

    def check(self, *, again: bool) -> None:
        """Make sure that the node holds as many rows as were sent.

        Rows of a request that was given up may have come in since; or others may be gone, which
        the server had put into the same transaction.

        Parameters
        ----------
        again : bool
            True if the whole run can be sent again.

        Raises
        ------
        OutOfStep
            If it holds another number: it is deleted, to be sent again.
        StorageError
            If it holds another number, but cannot be sent again.
        """
        if self._lost:
            raise self.start_over(self._lost)
        if not self.exists or (rows := self._count()) == self.rows:
            return
        what = f"holds {rows} rows where {self.rows} were sent" if rows >= 0 else "cannot be read"
        self._wrong(what, again=again)

    def _wrong(self, what: str, *, again: bool) -> NoReturn:
        if again:
            raise self.start_over(what)
        raise StorageError(
            f"{self._name} {what}.",
            hint="Without a journal it cannot be stored again: the rows stay as Tiled has them.",
        )
