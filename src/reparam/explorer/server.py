"""The explorer's server: translates between the page and a `Session`.

Page and server talk over one WebSocket, `/ws`.

Page → server: a text message of JSON `{"id": 7, "lane": "hover", "op": "decode", …}`; or, with a file, a binary message: the
length of the JSON (u32, little endian), the JSON, the file's bytes. Of several waiting messages of one lane only the latest is
answered; those without a lane all are, in their order, but that what takes long (`column`, `path`, many codes) is
answered when it is ready, while others are answered before it.

Server → page: a binary message: the length of the header (u32, little endian), the header, JSON
`{"id", "error"?, "arrays": [{"name", "dtype": "uint8" | "float32" | "int32", "shape": […]}], …fields}`, padded with spaces so
that what follows begins at a multiple of 4, then the arrays one after the other, each padded to a multiple of 4.

Images are uint8 (n, h, w, c), codes float32 (n, d), flattened, rows numbers of the points. `run` is 0, the default, or 1.

| op | asks with | answer |
|---|---|---|
| hello | | runs (none while the run is trained for the first time, whose name and folder then stand beside them): [{name, folder, image: [h, w, c], latent: […], axes: [{index, nats, mean, std, low, high, name}], directions: [{name, accuracy}], ways: [{prior, title, resample, labels, guides}], temperature (that training chose), classes: […], has_encoder, refines, plain, has_curves}], points: {n, columns: [{name, title, kind: "class" or "number", values?: […], factor?}]}, planes: [{name, title, exact, missing? (what to install)}], notes: […], films, training: bool |
| plane | run, plane ("pca", "pacmap", "latents:3,7") | xy float32 (n, 2), titles: [x, y] or [], exact, by_neighbours, trustworthiness; or computing: true, to be asked for again |
| column | run, name ("label", "part", a table's column, "error", "elbo", "anomaly", "worse", …) | values float32 (n): numbers of classes or values, NaN where unknown |
| thumbs | rows | images, names |
| at | run, plane, x, y | code (1, d), image (1, …); neither where nothing is near |
| places | run, plane, codes | xy (n, 2), where they lie on the map |
| decode | run, codes: [[…]] or rows, detail? | images |
| of_row | run, row | image (its own); code, reconstruction, nats (d); name, label, known: {column: text} |
| encode | run; binary: a file | image, code, reconstruction, nats (d), difference (root mean square, levels of 255) |
| neighbours | run, code: […] or row, n | rows int32, distances float32 |
| mean | run, rows | code, image |
| path | run, codes (two or more), frames, geodesic? | images (frames, …), codes |
| direction | run, a: rows, b: rows; or the name of a kept one | vector (1, d), accuracy, interval, n |
| sample | run, prior?, n, label?, temperature?, guidance?, resample?, detail?, seed | images, codes |
| variations | run, code: […], n, variation, detail?, seed | images, codes |
| counterpart | run, codes: [[…]], detail? | images and codes of the other run, explained |
| training | run, known: a stamp | status: "reading images", "training", "finished" or "interrupted"; stamp, step, steps, progress (0 to 1), seconds, left (seconds), speed (images/s), quiet (seconds since the run last wrote), command (which makes such a run), remarks: [{step, text}]; unless known is the stamp, series: [{name, group}] and steps int32 (n), seconds float32 (n), values float32 (series, n), NaN where unknown |
| snapshot | run, known: a stamp | of the averaged weights that training saved last: stamp, step; unless known is the stamp, samples, originals, rebuilt (images), latents int32, nats float32 (of the latents that carry most), active, total, findings: [{title, evidence, advice}] |
| save | run, kind: "png", "strip", "zip", "gif", "webp", "mp4", "npy" or "csv", and codes, detail? or rows | file uint8 (m), name, type |

What cannot be answered has an `error` in words, without paths. No path, module or name of a run is taken from a message.
"""  # noqa: E501

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..errors import ReparamError, UsageError
from .lanes import Full, Waiting
from .messages import read_question, write_answer, write_error
from .questions import Answer, Answers, Question

WEB = Path(__file__).parent / "web"
SHARED = Path(__file__).parents[1] / "web"
"""Modules that exported pages have too. The page names them ../../web/…, which is /web/… in a browser: there is nothing
above /."""
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
MOST_SOCKETS, MOST_LONG = 8, 16
"""Open at once, and questions of one socket that take long and are worked on at once."""
PATIENCE = 30.0
"""Seconds that a page may take to read an answer."""
TOO_MANY = 1013
"""A socket's code for "try again later"."""
FAILED = "this could not be answered; where the explorer was started stands more"
log = logging.getLogger("reparam.explorer")


def application(session: Answers, web: Path = WEB) -> Starlette:
    """The page's files and its socket. What a request asks for is looked up in a table and never in the file system."""
    routes: list[BaseRoute] = [_file(f"{address}/{path.relative_to(folder).as_posix()}", path)
                               for address, folder in (("", web), ("/web", SHARED))
                               for path in sorted(folder.rglob("*")) if path.suffix in TYPES]
    answering = Answering(session)
    return Starlette(routes=[_file("/", web / "index.html"), *routes, WebSocketRoute("/ws", answering.talk)])


def _file(address: str, path: Path) -> Route:
    async def send(_: Request) -> Response:
        return Response(path.read_bytes(), media_type=TYPES[path.suffix])

    return Route(address, send, methods=["GET"])


class Answering:
    """Answers the sockets' questions, one step of one of them at a time, on a thread of its own."""

    def __init__(self, session: Answers) -> None:
        self._session, self._sockets = session, 0
        self._worker = ThreadPoolExecutor(1, "explorer")

    async def talk(self, socket: WebSocket) -> None:
        """One page, from its first question to its last."""
        await socket.accept()
        if self._sockets >= MOST_SOCKETS:
            await socket.close(TOO_MANY, "too many pages of this explorer are open: close one and load this one again")
            return
        self._sockets += 1
        conversation = _Conversation(socket, self)
        try:
            await conversation.go_on()
        finally:
            self._sockets -= 1

    async def step(self, steps: Iterator[Answer | None]) -> Answer | None:
        return await asyncio.get_running_loop().run_in_executor(self._worker, next, steps)

    def steps(self, question: Question) -> Iterator[Answer | None]:
        return self._session.steps(question)


class _Conversation:
    """What one page asks and is told."""

    def __init__(self, socket: WebSocket, answering: Answering) -> None:
        self._socket, self._answering, self._waiting = socket, answering, Waiting()
        self._sending, self._lasting = asyncio.Lock(), set[asyncio.Task[None]]()

    async def go_on(self) -> None:
        """Until the page leaves."""
        answering = asyncio.create_task(self._answer_all())
        listening = asyncio.create_task(self._listen())
        try:
            done, _ = await asyncio.wait((answering, listening), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (WebSocketDisconnect, TimeoutError, RuntimeError, OSError):  # the page is gone, or does not read
            pass
        finally:
            for task in (answering, listening, *self._lasting):
                task.cancel()
            await asyncio.gather(answering, listening, *self._lasting, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            content = message.get("text") or message.get("bytes") or b""
            try:
                self._waiting.put(read_question(content), len(content))
            except UsageError as e:
                await self._send(write_error(None, str(e)))
            except Full:
                await self._socket.close(TOO_MANY, "too many questions wait")
                return

    async def _answer_all(self) -> None:
        while True:
            question = await self._waiting.take()
            steps = self._answering.steps(question)
            told = await self._step(question, steps)
            if told is not None:
                await self._send(told)
            elif len(self._lasting) >= MOST_LONG:
                await self._send(write_error(_id(question), "too much is asked for at once: wait for what was asked before"))
            else:
                task = asyncio.create_task(self._go_through(question, steps))
                self._lasting.add(task)
                task.add_done_callback(self._lasting.discard)

    async def _go_through(self, question: Question, steps: Iterator[Answer | None]) -> None:
        """The rest of what takes long, in steps between which others are answered."""
        told = None
        while told is None:
            told = await self._step(question, steps)
        with contextlib.suppress(WebSocketDisconnect, TimeoutError, RuntimeError, OSError):  # as `go_on` finds
            await self._send(told)

    async def _step(self, question: Question, steps: Iterator[Answer | None]) -> bytes | None:
        """The answer as it is sent, or None where there is more to do."""
        asked = _id(question)
        try:
            answer = await self._answering.step(steps)
            return None if answer is None else write_answer(asked, answer)
        except ReparamError as e:
            return write_error(asked, without_paths(str(e)))
        except Exception:
            log.exception("a question that could not be answered")
            return write_error(asked, FAILED)

    async def _send(self, message: bytes) -> None:
        async with self._sending:
            await asyncio.wait_for(self._socket.send_bytes(message), PATIENCE)


def _id(question: Question) -> Any:
    """The question's id, where it is one that an answer can carry."""
    asked = question.said.get("id")
    return asked if isinstance(asked, int) or (isinstance(asked, str) and len(asked) <= 100) else None


def without_paths(text: str) -> str:
    """A message without the places of files."""
    begin = r"(?:~|[A-Za-z]:)?[/\\]"
    quoted = re.sub(rf"""(['"]){begin}.*?\1""", r"\1…\1", text)  # may hold spaces
    return re.sub(rf"(?<![\w.]){begin}[^\s'\",;()]*[^\s'\",;():]", "…", quoted)
