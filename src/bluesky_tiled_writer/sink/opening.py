"""Open a client of a container, without the patience of `tiled.client` and without a prompt."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from typing import Any

import httpx
from tiled.client import from_context, from_profile, from_uri
from tiled.client.base import BaseClient
from tiled.client.context import CannotPrompt, Context, raise_if_cannot_prompt
from tiled.profiles import load_profiles

from bluesky_tiled_writer.errors import (
    ContainerMissing,
    LoginRefused,
    RequestRefused,
    ServerUnreachable,
    mapped_errors,
)

from .address import Address

ANSWER_TIMEOUT = 3.0
"""Seconds within which a healthy server answers."""


@dataclass(frozen=True)
class Opening:
    """Opens a client of a container, when its server answers.

    `tiled.client` tries for three quarters of a minute to reach a server, and asks at the terminal
    for a password. Therefore the server is asked first, once.

    Parameters
    ----------
    address : Address
        The container.
    open : callable
        Gets the URI of a container, and returns a client of it.
    options : mapping
        The options of `tiled.client.from_uri`.
    query : str
        What follows the path in the URI, such as "?api_key=secret".
    """

    address: Address
    open: Callable[[str], BaseClient]
    options: Mapping[str, Any] = field(default_factory=dict)
    query: str = ""

    @classmethod
    def of_uri(cls, uri: str, options: Mapping[str, Any]) -> Opening:
        """Open with `tiled.client.from_uri`.

        Raises
        ------
        TypeError
            If there is no such option.
        StorageError
            If this is no URI of a server.
        """
        address = Address.parse(uri)
        signature(from_uri).bind(uri, **options)
        return cls(address, partial(_open_uri, options=options), options, _query(uri))

    @classmethod
    def of_profile(cls, name: str, options: Mapping[str, Any]) -> Opening | None:
        """Open with `tiled.client.from_profile`; None for a server in this process.

        Raises
        ------
        TypeError
            If there is no such option.
        StorageError
            If the URI of the profile is none of a server.
        """
        _, content = load_profiles().get(name, (None, {}))
        merged = {**content, **options}
        if "uri" not in merged:
            return None  # a server in this process; or an error, which Tiled tells
        uri = merged.pop("uri")
        signature(from_uri).bind(uri, **merged)

        def open_profile(uri: str) -> BaseClient:
            return from_profile(name, **{**options, "uri": uri})

        return cls(Address.parse(uri), open_profile, merged, _query(uri))

    # -- opening --------------------------------------------------------------------------------

    def root(self, *, prompt: bool) -> BaseClient:
        """Open the root of the server, which is there even if the container is not.

        Parameters
        ----------
        prompt : bool
            True if the user may be asked for a password.

        Raises
        ------
        StorageError
            If that cannot be done now. `LoginRefused` if it takes a login.
        """
        about = self.ask()
        server = Address(self.address.server)
        if self._lacks_key(about) or not (prompt or self._has_login(about)):
            raise LoginRefused(
                f"The server {server.server} asks for a login.",
                hint="`TiledWriter.client` logs in, or give an API key.",
            )
        with self._mapped_errors(server):
            return self.open(f"{server}{self.query}")

    def container(self, root: BaseClient) -> BaseClient:
        """Open the container, with the options and the login of the client of the root.

        Raises
        ------
        StorageError
            If that cannot be done now. `ContainerMissing` if it is not there.
        """
        if not self.address.path:
            return root
        try:
            with self._mapped_errors(self.address):
                client: BaseClient = from_context(
                    root.context,
                    root.structure_clients,
                    self.address.quoted_path,
                    self.options.get("include_data_sources", False),
                )
        except RequestRefused as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
            raise ContainerMissing(
                f"There is no container {self.address}.",
                hint="Make it, or write to another one: until then, runs wait in their journals.",
            ) from error
        return client

    def _mapped_errors(self, address: Address) -> AbstractContextManager[None]:
        own_auth = self.options.get("auth") is not None
        return mapped_errors(f"the request for {address}", address.server, own_auth=own_auth)

    def ask(self, timeout: float = ANSWER_TIMEOUT) -> Mapping[str, Any]:
        """Ask the server what it is; return its answer.

        Raises
        ------
        StorageError
            If it does not answer within some seconds, or is no Tiled server.
        """
        server = self.address.server
        with mapped_errors(f"a first request to {server}"):
            answer = httpx.get(
                server,
                follow_redirects=True,
                timeout=timeout,
                verify=self.options.get("verify", True),
                trust_env=self.options.get("trust_env", True),
                headers={**(self.options.get("headers") or {}), "Accept": "application/json"},
            )
            if answer.status_code != httpx.codes.NOT_FOUND:
                answer.raise_for_status()
        try:
            about: dict[str, Any] = answer.json()
            about["authentication"]["required"]
        except (ValueError, KeyError, TypeError):
            raise ServerUnreachable(
                f"What answers at {server} is no Tiled server.",
                hint="Is the address right?",
                uncertain=False,
            ) from None
        return about

    @property
    def _has_key(self) -> bool:
        known = (self.options.get("api_key"), self.options.get("auth"), os.getenv("TILED_API_KEY"))
        return any(value is not None for value in known) or "api_key=" in self.query

    def _lacks_key(self, about: Mapping[str, Any]) -> bool:
        """Return True if the server takes only an API key, and there is none."""
        authentication = about["authentication"]
        return authentication["required"] and not (authentication.get("providers") or self._has_key)

    def _has_login(self, about: Mapping[str, Any]) -> bool:
        """Return True if `tiled.client` would not ask the user for a login."""
        if not about["authentication"]["required"] or self._has_key:
            return True
        return bool(self.options.get("remember_me", True)) and self._has_tokens()

    def _has_tokens(self) -> bool:
        """Return True if there are tokens of an earlier login that still work."""
        known = ("headers", "verify", "trust_env")
        options = {key: copy(self.options[key]) for key in known if key in self.options}
        with mapped_errors(f"the login at {self.address.server}"):
            context, _ = Context.from_any_uri(self.address.server, **options)
            with context:
                return bool(context.use_cached_tokens())


def _open_uri(uri: str, options: Mapping[str, Any]) -> BaseClient:
    return from_uri(uri, **options)


def _query(uri: str) -> str:
    _, mark, query = str(uri).partition("?")
    return mark + query


def can_prompt() -> bool:
    """Return True if a user can be asked for a password here."""
    try:
        raise_if_cannot_prompt()
    except CannotPrompt:
        return False
    return True
