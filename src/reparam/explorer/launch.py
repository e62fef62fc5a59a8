"""Starts the explorer's server on this machine alone, and opens its page."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import webbrowser
from collections.abc import Callable

import uvicorn

from ..errors import ReparamError
from .guard import Guard, new_token
from .server import application
from .session import Session

MOST_AT_ONCE, MOST_BYTES = 64, 20_000_000
"""Connections, and bytes of a message."""


def listening_on(port: int) -> socket.socket:
    """A socket of 127.0.0.1; of a port that is free, for 0.

    Raises:
        ReparamError: the port is taken, or needs rights that one does not have.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", port))
        made.listen(MOST_AT_ONCE)  # so that who opens the link at once is waited for
    except OSError as e:
        made.close()
        raise ReparamError(f"port {port} cannot be listened on: {e.strerror or e}. Leave out --port, and a free one is "
                           "taken") from e
    return made


def serve(session: Session, port: int, told: Callable[[str], None], *, open_page: bool) -> None:
    """Serves until it is interrupted; `told` is given the link.

    Raises:
        ReparamError: the port cannot be listened on.
    """
    with contextlib.closing(listening_on(port)) as listening:
        guard = Guard(application(session), int(listening.getsockname()[1]), new_token())
        told(guard.link)
        if open_page and has_display():
            webbrowser.open(guard.link)
        with contextlib.suppress(KeyboardInterrupt):
            server_of(guard).run(sockets=[listening])


def has_display() -> bool:
    """Whether a browser has a screen to open on, other than this terminal."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def server_of(guard: Guard) -> uvicorn.Server:
    """A server of this app that says nothing unless something fails, and reads no more than it must."""
    return uvicorn.Server(uvicorn.Config(
        guard, ws="websockets-sansio", ws_max_size=MOST_BYTES, ws_per_message_deflate=False, lifespan="off",
        limit_concurrency=MOST_AT_ONCE, log_level="error", server_header=False, timeout_graceful_shutdown=1))
