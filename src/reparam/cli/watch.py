"""The page on which a run is watched while it is trained, beside the command that trains it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Generator
from importlib.util import find_spec
from pathlib import Path

from ..errors import UsageError
from ..progress import tell

NEEDED = ("starlette", "uvicorn", "websockets")


def check_explorer() -> None:
    """Raises UsageError where what serves a page is not installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(f'the explorer needs {", ".join(missing)}: pip install "reparam[explore]"')


@contextlib.contextmanager
def watched(*, open_page: bool) -> Generator[Callable[[Path], None]]:
    """What the block calls with a run's folder prints the link of its page and opens it. Where there is someone at a
    terminal the page outlives the block, until Ctrl-C; elsewhere, and where the block fails, it ends with it."""
    check_explorer()
    from ..explorer.guard import link_to, new_token
    from ..explorer.launch import listening_on, shown
    from ..explorer.watch import Watch, start

    with contextlib.closing(listening_on(0)) as listening:
        started = contextlib.ExitStack()

        def begin(folder: Path) -> None:
            if os.environ.get("RANK", "0") != "0":  # of several processes that train together one has the page
                return
            token = new_token()
            link = link_to(int(listening.getsockname()[1]), token)
            page = start(Watch(folder), listening, token)
            started.callback(page.terminate)
            tell(f"Watch it at {link}", error=True)
            started.enter_context(shown(link, open_page=open_page))

        with started:
            yield begin
            if at_a_terminal():
                tell("", "The page goes on, with all of the explorer. Stop it with Ctrl-C.", error=True)
                with contextlib.suppress(KeyboardInterrupt):
                    _until_interrupted()


def at_a_terminal() -> bool:
    """Whether someone reads what is printed and can press Ctrl-C."""
    return all(stream is not None and not stream.closed and stream.isatty() for stream in (sys.stdin, sys.stdout))


def _until_interrupted() -> None:
    import threading

    threading.Event().wait()
