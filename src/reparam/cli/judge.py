"""The command `judge`: people look at images of two sources, blind, and say which they prefer or which are real."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ..errors import UsageError
from ..parts.ranges import SEED, SOME_IMAGES
from ..progress import for_this_terminal, tell
from .app import TRAINING, app, print_json
from .explore import PORT
from .options import Device, Json
from .watch import check_explorer

if TYPE_CHECKING:
    from ..runs.judging import Answer, Judgement

KEYS = {"\x1b[D": "left", "\x1b[C": "right", "\x1bOD": "left", "\x1bOC": "right", " ": "unsure",
        "\x7f": "back", "\b": "back", "q": "quit", "\x04": "quit",
        "left": "left", "right": "right", "l": "left", "r": "right", "": "unsure", "b": "back"}
"""What keys, or lines where no keys can be read, stand for."""


@app.command(group=TRAINING)
def judge(a: str, b: str | None = None, /, *, single: Annotated[bool, Parameter(negative="")] = False,
          terminal: Annotated[bool, Parameter(negative="")] = False,
          n: Annotated[int, Parameter(name=["--number", "-n"])] = 50, out: str | None = None, seed: int = 0, port: int = 0,
          open_page: Annotated[bool, Parameter(name="--open")] = True, device: Device = "auto", json: Json = False) -> None:
    """Judge by eye, blind: pairs of images of A and B, by lot left or right; says which is preferred, and how surely.

    Keys: ← or → for the image there, space where you cannot tell, backspace takes the last answer back. Every answer is kept
    at once: stop by Ctrl-C, and the same command goes on.

    Parameters
    ----------
    a
        A run's folder, a model's, or a folder of images.
    b
        Another; by default the real images that A, a run, is measured on.
    single
        Show one image at a time, of A or B, and ask whether it is real: B holds the real ones.
    terminal
        Show images in the terminal in place of a page in the browser, and each as a picture beside --out.
    n
        Pairs, or single images.
    out
        The .json file of the answers; by default beside A, <A>-or-<B>.json.
    seed
        Of what is drawn and of the lot.
    port
        Of the page; by default one that is free.
    open_page
        Open the page in the browser.
    """
    SOME_IMAGES.check("-n", n)
    SEED.check("--seed", seed)
    PORT.check("--port", port)
    if out is not None and not out.endswith(".json"):
        raise UsageError(f"--out names the file of the answers, which ends in .json; got {out!r}")
    if not terminal:
        check_explorer()
    from ..runs.judging import Judgement, Pools

    pools = Pools.of(a, b, n=n, seed=seed, device=device, report=for_this_terminal())
    judgement = Judgement.open(pools, out or answers_beside(a, b), "single" if single else "pairs")
    if judgement.done:
        tell(f"{judgement.path} holds {judgement.done} of {judgement.n} answers already", error=True)
    if not judgement.ended:
        (_in_terminal if terminal else _on_page)(judgement, port, open_page)
    found = judgement.result()
    if json:
        print_json({"file": str(judgement.path), **found.to_dict()})
        return
    tell(found.in_words, f"Judged {judgement.done} of {judgement.n}, seed {seed}; kept in {judgement.path}")


def answers_beside(a: str, b: str | None) -> Path:
    """The file of answers, beside the first source."""
    first = Path(a).resolve()
    return first.with_name(f"{first.name}-or-{Path(b).resolve().name if b is not None else 'real'}.json")


def _on_page(judgement: Judgement, port: int, open_page: bool) -> None:
    from ..explorer.judging.server import judging
    from ..explorer.launch import serve_app

    def told(link: str) -> None:
        tell(f"Open {link}", "Stop with Ctrl-C, which says what the answers come to.", error=True)

    serve_app(judging(judgement), port, told, open_page=open_page)


def _in_terminal(judgement: Judgement, port: int, open_page: bool) -> None:
    keys = pressed()
    folder = tempfile.mkdtemp(prefix="reparam-judge-")
    picture = Path(folder) / "judged.png"
    tell(f"Each is in {picture} as well, while it is judged", error=True)
    question = ("← real   → made" if judgement.kind == "single" else "Which looks more real?   ← left   → right")
    try:
        while not judgement.ended:
            _show(judgement, picture)
            tell(f"{judgement.done + 1} of {judgement.n}   {question}   space: cannot tell   backspace: take back   q: stop",
                 error=True)
            said = next(keys, "quit")
            if said == "quit":
                return
            if said == "back":
                judgement.take_back()
            else:
                judgement.answer(judgement.done, answer_of(said))
    except KeyboardInterrupt:
        return
    finally:
        keys.close()
        shutil.rmtree(folder, ignore_errors=True)


def answer_of(said: str) -> Answer:
    return "left" if said == "left" else "right" if said == "right" else "unsure"


def _show(judgement: Judgement, picture: Path) -> None:
    """Writes what is to be judged as a PNG, and as half blocks into a terminal."""
    import numpy as np

    from ..pretrained.pictures import grid, half_blocks, of_one_size, save_png

    shown = judgement.shown(judgement.done)
    save_png(grid(np.stack(of_one_size(shown)), len(shown), side=256), picture)
    if sys.stderr.isatty():
        sys.stderr.write(half_blocks(shown, shutil.get_terminal_size().columns))
        sys.stderr.flush()


def pressed() -> Generator[str]:
    """What is asked for, key by key at a terminal, and line by line elsewhere."""
    with _keys() as keys:
        for key in keys:
            if key in KEYS:
                yield KEYS[key]


@contextmanager
def _keys() -> Generator[Iterator[str]]:
    if not sys.stdin.isatty():
        yield (line.strip().lower() for line in sys.stdin)
        return
    try:
        import termios
        import tty
    except ImportError as e:
        raise UsageError("this terminal gives no single keys: leave out --terminal, and a page opens in the browser") from e
    import os

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        yield iter(lambda: os.read(number, 8).decode("utf-8", "replace"), "")
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
