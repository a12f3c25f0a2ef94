"""Errors: whether to try again, and how those of httpx and Tiled are mapped."""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest

from bluesky_tiled_writer.errors import (
    DocumentsIncomplete,
    OutOfStep,
    RequestRefused,
    Retry,
    RunComplete,
    RunExists,
    ServerUnreachable,
    StorageError,
    StorageUnsupported,
    TooEarly,
    WrittenElsewhere,
    mapped_errors,
)

REQUEST = httpx.Request("GET", "http://tiled.example/api/v1/metadata/run")


def answer(status: int, content: bytes = b"", **headers: str) -> httpx.Response:
    return httpx.Response(status, content=content, headers=headers, request=REQUEST)


@pytest.mark.parametrize(
    ("status", "retry", "uncertain", "about_content"),
    [
        (408, Retry.LATER, True, False),
        (425, Retry.LATER, True, False),
        (429, Retry.LATER, True, False),
        (502, Retry.WHEN_SERVER_IS_BACK, True, False),
        (503, Retry.WHEN_SERVER_IS_BACK, True, False),
        (504, Retry.WHEN_SERVER_IS_BACK, True, False),
        (404, Retry.MAYBE, False, False),
        (500, Retry.MAYBE, True, True),
        (None, Retry.MAYBE, True, True),
        (400, Retry.NEVER, False, False),
        (401, Retry.WHEN_LOGIN_WORKS, False, False),
        (403, Retry.WHEN_ALLOWED, False, False),
        (409, Retry.NEVER, False, False),
        (413, Retry.NEVER, False, False),
        (422, Retry.NEVER, False, False),
        (501, Retry.NEVER, False, False),
    ],
)
def test_the_status_of_a_refusal_says_whether_to_try_again(
    status: int | None, retry: Retry, uncertain: bool, about_content: bool
) -> None:
    for error_class in (RequestRefused, StorageUnsupported):
        error = error_class("no", status=status)
        assert error.retry is retry
        assert error.uncertain is uncertain
        assert error.about_content is about_content


def test_errors_without_a_status_say_whether_to_try_again() -> None:
    assert ServerUnreachable("away").retry is Retry.WHEN_SERVER_IS_BACK
    assert TooEarly("wait", retry_after=2.0).retry is Retry.LATER
    elsewhere = WrittenElsewhere("wait", hint="", retry_after=2.0, answered=False)
    assert elsewhere.retry is Retry.WHEN_FREE
    assert elsewhere.retry_after == 2.0
    for error_class in (StorageError, RunExists, RunComplete, OutOfStep, DocumentsIncomplete):
        assert error_class("no").retry is Retry.NEVER
        assert not error_class("no").uncertain


def test_only_some_errors_ask_to_wait() -> None:
    assert TooEarly("wait", retry_after=2.0).retry_after == 2.0
    assert RequestRefused("busy", status=429, retry_after=3.0).retry_after == 3.0
    assert StorageError("no").retry_after == 0.0
    assert ServerUnreachable("away").retry_after == 0.0


def test_an_answer_of_the_server_becomes_a_refusal_with_its_detail_and_a_hint() -> None:
    with pytest.raises(RequestRefused) as raised, mapped_errors("PATCH metadata of run"):
        answer(401, b'{"detail": "Not authenticated."}').raise_for_status()
    assert raised.value.status == 401
    assert str(raised.value) == (
        "Tiled answered 401 to PATCH metadata of run: Not authenticated."
        " Log in again, or give the client an API key. [LoginRefused]"
    )
    assert isinstance(raised.value.__cause__, httpx.HTTPStatusError)


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'"text"', b'{"detail": ""}', b""])
def test_an_answer_that_is_not_of_tiled_is_told_by_its_status(content: bytes) -> None:
    told = pytest.raises(
        RequestRefused, match=r"502 to the request: Bad Gateway\. \[RequestRefused\]$"
    )
    with told, mapped_errors("the request"):
        answer(502, content).raise_for_status()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_time_for_which_a_server_wants_to_be_left_alone_is_kept(
    headers: dict[str, str], seconds: float
) -> None:
    with pytest.raises(RequestRefused) as raised, mapped_errors("the request"):
        answer(429, **headers).raise_for_status()
    assert raised.value.retry_after == seconds


@pytest.mark.parametrize(
    ("error_class", "uncertain"),
    [
        (httpx.ConnectError, False),
        (httpx.ConnectTimeout, False),
        (httpx.PoolTimeout, False),
        (httpx.ReadError, True),
        (httpx.ReadTimeout, True),
        (httpx.WriteError, True),
        (httpx.RemoteProtocolError, True),
    ],
)
def test_without_an_answer_a_request_may_have_taken_effect_unless_it_was_never_sent(
    error_class: type[httpx.HTTPError], uncertain: bool
) -> None:
    told = pytest.raises(ServerUnreachable, match=r"the request: .* why")
    with told as raised, mapped_errors("the request"):
        raise error_class("why")
    assert raised.value.uncertain is uncertain


def test_a_certificate_that_is_not_trusted_is_told_from_a_server_that_is_down() -> None:
    with pytest.raises(ServerUnreachable) as raised, mapped_errors("the request"):
        raise httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")
    assert "SSL_CERT_FILE" in raised.value.hint


def test_an_exception_of_an_app_in_this_process_is_a_refusal_without_a_status() -> None:
    told = pytest.raises(RequestRefused, match=r"Tiled failed on the request: KeyError: 'x'")
    with told as raised, mapped_errors("the request"):
        raise KeyError("x")
    assert raised.value.status is None
    with pytest.raises(KeyboardInterrupt), mapped_errors("the request"):
        raise KeyboardInterrupt


def test_errors_of_this_package_pass_the_boundary_unchanged() -> None:
    error = OutOfStep("other rows")
    with pytest.raises(OutOfStep) as raised, mapped_errors("outer"), mapped_errors("inner"):
        raise error
    assert raised.value is error
    assert error.__cause__ is None


def test_importing_the_errors_does_not_import_httpx() -> None:
    code = "import sys, bluesky_tiled_writer.errors; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
