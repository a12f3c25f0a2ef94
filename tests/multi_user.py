"""Servers with several users, who have passwords, API keys and access tags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tiled.client import from_uri
from tiled.client.container import Container
from tiled.client.context import Context, password_grant

PROVIDER = "toy"
ADMIN = "alice"
PASSWORDS = {name: f"the password of {name}" for name in (ADMIN, "bob", "carol", "dave", "erin")}

AUTHENTICATION: Mapping[str, Any] = {
    "providers": [
        {
            "provider": PROVIDER,
            "authenticator": "tiled.authenticators:DictionaryAuthenticator",
            "args": {"users_to_passwords": PASSWORDS},
        }
    ],
    "secret_keys": ["secret"],
    "tiled_admins": [{"provider": PROVIDER, "id": user} for user in (ADMIN, "bob")],
}
"""For the configuration of a server. Others than admins may not register files."""

READING = ["read:metadata", "read:data"]
WRITING = [*READING, "write:metadata", "write:data", "create:node", "register"]
DELETING = ["delete:node", "delete:revision"]


def log_in(context: Context, user: str = ADMIN, *, remember_me: bool = False) -> None:
    """Do what ``client.login()`` does after its prompt.

    Tokens that are not remembered cannot be refreshed.
    """
    (provider,) = context.server_info.authentication.providers
    endpoint = provider.links["auth_endpoint"]
    tokens = password_grant(context.http_client, endpoint, PROVIDER, user, PASSWORDS[user])
    context.configure_auth(tokens, remember_me=remember_me)


@contextmanager
def logged_in(url: str, user: str) -> Iterator[Context]:
    """Yield a context with the tokens of a user."""
    with Context(f"{url}/api/v1/") as context:
        log_in(context, user)
        yield context


@contextmanager
def client_of(url: str, user: str, scopes: Sequence[str] | None = None) -> Iterator[Container]:
    """Yield a client with an API key of a user, which has all of the user's scopes, or these."""
    with logged_in(url, user) as context:
        key = context.create_api_key(scopes=scopes and list(scopes))["secret"]
    client = from_uri(url, api_key=key)
    yield client
    client.context.close()
