"""What every request passes: its id, the host, the token, limits of size and time, a line of log, metrics, headers."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from hardgnn.errors import shown
from hardgnn.serve.metrics import observe
from hardgnn.serve.state import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/healthz", "/readyz", "/")  # health, and the page, which holds no data and asks for the token
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
CLOSE = (b"connection", b"close")
LINGER_S, LINGER_BYTES = 1.0, 2**18  # what is still read of a request that was refused
log = logging.getLogger("hardgnn.serve")


class Refused(Exception):
    """An answer that the gate gives itself: a status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Gate:
    """Wraps the application. Once `closing` is set, every answer is the last one on its connection.

    Args:
        app: the application.
        settings: hosts, token and limits.
        draining: whether the end has begun, so that connections should end too.
    """

    def __init__(self, app: App, settings: Settings, draining: Callable[[], bool] = lambda: False) -> None:
        self.app, self.settings, self.draining = app, settings, draining
        self.closing = False
        self._token = None if settings.token is None else f"Bearer {settings.token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        began = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id", b""))
        scope.setdefault("state", {})["request_id"] = request_id
        status, whole = 0, False

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = [
                    *HEADERS,
                    (b"x-request-id", request_id.encode()),
                    *([CLOSE] if self.closing or self.draining() else []),
                ]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        try:
            try:
                async with asyncio.timeout(self.settings.timeout):
                    self._check_host(headers)
                    self._check_token(scope["path"], headers)
                    body = await self._body(headers, receive)
                    whole = True
                    await self.app(scope, _replay(body, receive), sent)
            except TimeoutError:
                raise self._late(whole) from None
            except asyncio.CancelledError:
                whole = True  # as far as it matters: nothing more is read
                raise Refused(503, "the service ends") from None
        except Refused as refusal:
            if status == 0:
                await _refuse(sent, None if whole else receive, refusal, request_id)
        except Exception:
            log.exception("unexpected error", extra={"request_id": request_id})
            if status == 0:
                await _refuse(sent, None, Refused(500, "unexpected error"), request_id)
        self._note(scope, request_id, status, time.perf_counter() - began)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Starting and ending go through; there is nothing else but requests."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)

    def _late(self, whole: bool) -> Refused:
        within = f"within {self.settings.timeout:g} s"
        return Refused(503, f"no answer {within}") if whole else Refused(408, f"the body was not whole {within}")

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        """Counts an answered request, and logs it where that is asked for."""
        observe(scope["method"], getattr(scope.get("route"), "path", "other"), status, seconds)
        if self.settings.access_log:
            fields = {"request_id": request_id, "method": scope["method"], "path": scope["path"], "status": status}
            log.info("request", extra=fields | {"ms": round(seconds * 1000, 2)})

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        """Refuses names that may be somebody else's for this address (DNS rebinding); addresses are no names."""
        given = headers.get(b"host", b"").decode("latin-1").lower()
        host = given[1:].partition("]")[0] if given.startswith("[") else given.partition(":")[0].rstrip(".")
        if host in self.settings.hosts or "*" in self.settings.hosts or not host:
            return
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise Refused(
                421, f"the host '{shown(host[:100])}' is not one of this service; allow it with --allowed-host"
            ) from None

    def _check_token(self, path: str, headers: dict[bytes, bytes]) -> None:
        if self._token is None or path in OPEN:
            return
        if not hmac.compare_digest(headers.get(b"authorization", b""), self._token):
            raise Refused(401, "a token is needed: Authorization: Bearer TOKEN")

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body, which is small by rule."""
        most = self.settings.max_body
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > most:
            raise Refused(413, f"the body is larger than {most:,} bytes")
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refused(400, "the client went away")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise Refused(413, f"the body is larger than {most:,} bytes")
            more = message.get("more_body", False)
        return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, receive: Receive | None, refusal: Refused, request_id: str) -> None:
    """Answers with a sentence. With `receive` the request is not whole: the connection ends with the answer."""
    body = json.dumps({"error": str(refusal), "request_id": request_id}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if receive is not None:
        headers.append(CLOSE)
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": receive is not None})
    if receive is not None:
        await _linger(receive)
        await send({"type": "http.response.body", "body": b""})


async def _linger(receive: Receive) -> None:
    """Throws away what still comes, for a moment: closed at once, a client that sends would not see the answer."""
    left, more = LINGER_BYTES, True
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while more and left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                more = message.get("more_body", False)


def _request_id(given: bytes) -> str:
    """What a request calls itself, or a name of ours."""
    return given.decode() if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
