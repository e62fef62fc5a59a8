"""Starts the explorer's server on this machine alone, and opens its page."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Generator
from pathlib import Path

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import ReparamError
from .guard import App, Guard, new_token
from .questions import Answers
from .server import application

MOST_AT_ONCE, MOST_BYTES = 64, 20_000_000
"""Connections, and bytes of a message."""
AT_A_TIME, MOST_QUEUED = 2, 1024
"""Connections that are taken up before pages have their turn again, and that wait for it."""
PATIENCE = 10.0
"""Seconds within which a request must have come and been answered."""
STANDS_OPEN = 60.0
"""Seconds that a browser has to open the page."""
DOOR = """<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={link}"><title>reparam explore</title><p><a href="{link}">Open the explorer</a>"""


def listening_on(port: int) -> socket.socket:
    """A socket of 127.0.0.1; of a port that is free, for 0.

    Raises:
        ReparamError: the port is taken, or needs rights that one does not have.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", port))
        made.listen(MOST_QUEUED)  # so that who opens the link at once is waited for
    except OSError as e:
        made.close()
        raise ReparamError(f"port {port} cannot be listened on: {e.strerror or e}. Leave out --port, and a free one is "
                           "taken") from e
    return made


def serve(session: Answers, port: int, told: Callable[[str], None], *, open_page: bool) -> None:
    """Serves the explorer's page of a session, as `serve_app` does."""
    with contextlib.ExitStack() as until_the_end:
        until_the_end.callback(session.close)
        serve_app(application(session), port, told, open_page=open_page)


def serve_app(app: App, port: int, told: Callable[[str], None], *, open_page: bool) -> None:
    """Serves an app behind a guard until it is interrupted; `told` is given the link.

    Raises:
        ReparamError: the port cannot be listened on.
    """
    with contextlib.closing(listening_on(port)) as listening, contextlib.ExitStack() as until_the_end:
        guard = Guard(app, int(listening.getsockname()[1]), new_token())
        told(guard.link)
        until_the_end.enter_context(shown(guard.link, open_page=open_page))
        with contextlib.suppress(KeyboardInterrupt):
            server_of(guard).run(sockets=[listening])


@contextlib.contextmanager
def shown(link: str, *, open_page: bool) -> Generator[None]:
    """Opens a link in the browser, where there is a screen for one, and leaves nothing behind."""
    with contextlib.ExitStack() as until_the_end:
        if open_page and has_display():
            with contextlib.suppress(OSError):  # no door can be made: the link that was told opens the page
                webbrowser.open(until_the_end.enter_context(door_to(link)).as_uri())
        yield


def has_display() -> bool:
    """Whether a browser has a screen to open on, other than this terminal."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


@contextlib.contextmanager
def door_to(link: str) -> Generator[Path]:
    """A file, for a minute, that leads a browser to the link: of what it is started with others see the file's name alone.

    It lies in the home directory: a browser that is confined, as a snap, reads none of the temporary directory.
    """
    made, name = tempfile.mkstemp(".html", "reparam-explore-", Path.home())  # of mode 0600
    path = Path(name)
    closing = threading.Timer(STANDS_OPEN, path.unlink, kwargs={"missing_ok": True})
    closing.daemon = True
    try:
        with os.fdopen(made, "w", encoding="utf-8") as file:
            file.write(DOOR.format(link=link))
        closing.start()
        yield path
    finally:
        closing.cancel()
        path.unlink(missing_ok=True)


class Prompt(H11Protocol):
    """HTTP that cuts off a connection whose request does not come to an end, which would take another's place."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop_waiting()
        self._late = self.loop.call_later(PATIENCE, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()


class Server(uvicorn.Server):
    """One that takes up a few connections at a time, between which pages have their turn, while others wait unharmed."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)  # listens with a queue as short as what is taken up at a time
        for each in sockets or ():
            each.listen(MOST_QUEUED)


def server_of(guard: Guard) -> Server:
    """A server of this app that says nothing unless something fails, and reads no more than it must."""
    return Server(uvicorn.Config(
        guard, http=Prompt, ws="websockets-sansio", ws_max_size=MOST_BYTES, ws_per_message_deflate=False, lifespan="off",
        limit_concurrency=MOST_AT_ONCE, backlog=AT_A_TIME, log_level="error", server_header=False,
        proxy_headers=False, timeout_graceful_shutdown=1))
