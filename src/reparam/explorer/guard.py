"""Keeps all but the page itself from talking to the local server: other sites, other pages, and names that lead here.

Any site that a browser shows can send requests to 127.0.0.1, and a site's name can be made to mean 127.0.0.1 (DNS
rebinding). So a request must name this server as its host, come from this server's page where it could change anything or
opens a socket, and carry a secret. The secret stands in the link that is printed, at the page's address alone, and moves
into a cookie that no script reads and no other site sends.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
          "connect-src 'self'; font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
HEADERS = [
    (b"content-security-policy", POLICY.encode()), (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"), (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"), (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"), (b"cache-control", b"no-store")]
"""Of every answer."""
REFUSED = 1008
"""A socket's code for what is against the policy."""
ONWARD = b'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=/"><title>reparam</title>'


def new_token() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def link_to(port: int, token: str) -> str:
    """The address that opens the page of a guard with this port and secret."""
    return f"http://127.0.0.1:{port}/?token={token}"


@dataclass(frozen=True)
class Guard:
    """An ASGI app before another, which sees only what the guard lets through."""

    app: App
    port: int
    token: str = field(repr=False)

    @property
    def link(self) -> str:
        """The address that opens the page."""
        return link_to(self.port, self.token)

    @property
    def cookie(self) -> str:
        """The cookie's name; ports share cookies, so that it has the port's."""
        return f"reparam-{self.port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            return
        asked = _Asked.of(scope)
        why = self._refusal(asked)
        if why is not None:
            await _refuse(scope, send, why)
        elif self._is_entrance(asked):
            await self._enter(asked, send)
        elif not self._has_cookie(asked):
            await _refuse(scope, send, "token")
        else:
            await self.app(scope, receive, _with_headers(send))

    def _refusal(self, asked: _Asked) -> str | None:
        """Which rule a request breaks that asks for another host, or comes from another site; None for none."""
        hosts = [f"{name}:{self.port}" for name in ("127.0.0.1", "localhost", "[::1]")]
        host, origin, site = (asked.all(name) for name in ("host", "origin", "sec-fetch-site"))
        if len(host) != 1 or host[0] not in hosts:
            return "host"
        if (asked.writes or origin) and origin != [f"http://{host[0]}"]:
            return "origin"
        if any(each not in ("same-origin", "none") for each in site) and not (asked.is_page and asked.navigates):
            return "site"
        return None

    def _is_entrance(self, asked: _Asked) -> bool:
        """Whether it is the link that was printed."""
        given = dict(parse_qsl(asked.query)).get("token", "")
        return asked.is_page and hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    def _has_cookie(self, asked: _Asked) -> bool:
        """Whether one of its cookies of this name is the secret: other ports' servers can set more of them."""
        pairs = [pair.strip().partition("=") for line in asked.all("cookie") for pair in line.split(";")]
        given = [value.encode("utf-8", "replace") for name, _, value in pairs if name == self.cookie]
        return any(hmac.compare_digest(each, self.token.encode()) for each in given)

    async def _enter(self, asked: _Asked, send: Send) -> None:
        """Moves the secret from the link into the cookie, and leads to the page without it.

        Of a link on another site the browser sends no such cookie along a redirect, only with what a page of this server
        asks for.
        """
        cookie = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"
        headers = [(b"set-cookie", cookie.encode()), *HEADERS]
        if asked.all("sec-fetch-site") in (["cross-site"], ["same-site"]):
            await _respond(send, 200, [(b"content-type", b"text/html; charset=utf-8"), *headers], ONWARD)
        else:
            await _respond(send, 303, [(b"location", b"/"), *headers], b"")


@dataclass(frozen=True)
class _Asked:
    """What a request says of itself."""

    socket: bool
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]

    @staticmethod
    def of(scope: Scope) -> _Asked:
        headers = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"])
        return _Asked(scope["type"] == "websocket", scope.get("method", "GET"), scope["path"],
                      scope["query_string"].decode("latin-1"), headers)

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each == name]

    @property
    def writes(self) -> bool:
        """Whether it could change something, or opens a socket."""
        return self.socket or self.method not in ("GET", "HEAD")

    @property
    def is_page(self) -> bool:
        return not self.writes and self.path == "/"

    @property
    def navigates(self) -> bool:
        """Whether a browser asks for it to show it in a window of its own."""
        return self.all("sec-fetch-mode") == ["navigate"] and self.all("sec-fetch-dest") == ["document"]


async def _refuse(scope: Scope, send: Send, why: str) -> None:
    if scope["type"] == "websocket":  # before it is accepted, which a server answers with 403
        await send({"type": "websocket.close", "code": REFUSED})
    else:
        await _respond(send, 403, [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS], f"refused: {why}".encode())


async def _respond(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status,
                "headers": [(b"content-length", str(len(body)).encode()), *headers]})
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *HEADERS]
        await send(message)

    return with_headers
