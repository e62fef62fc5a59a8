"""Serves one judgement: its page, the images to be judged, and where answers go. No answer names a source until the end."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ...runs.judging import ANSWERS, Judgement
from ..server import SHARED, TYPES

WEB = Path(__file__).parent / "web"
MOST_BYTES = 200
"""Of an answer."""


def judging(judgement: Judgement) -> Starlette:
    """The page of a judgement, for a `Guard`."""

    async def state(_: Request) -> Response:
        return JSONResponse(state_of(judgement))

    async def image(request: Request) -> Response:
        k, place = request.path_params["k"], request.path_params["place"]
        if k >= judgement.n or place >= len(shown := judgement.shown(k)):
            return Response("there is no such image", 404)
        picture = io.BytesIO()
        Image.fromarray(shown[place]).save(picture, "PNG")
        return Response(picture.getvalue(), media_type="image/png")

    async def answer(request: Request) -> Response:
        if len(await request.body()) > MOST_BYTES:
            return Response("too long", 413)
        try:
            said: Any = await request.json()
            k, chosen = int(said["k"]), str(said["answer"])
        except (ValueError, TypeError, KeyError):
            return Response("an answer is k and answer", 400)
        if chosen == "back":
            judgement.take_back()
        elif chosen in ANSWERS:
            judgement.answer(k, chosen)
        return JSONResponse(state_of(judgement))

    files = {"/": WEB / "index.html", **{f"/{p.name}": p for p in WEB.iterdir()}, "/web/look.css": SHARED / "look.css"}
    return Starlette(routes=[
        *(_file(address, path) for address, path in files.items() if path.suffix in TYPES),
        Route("/state", state), Route("/image/{k:int}/{place:int}", image), Route("/answer", answer, methods=["POST"])])


def state_of(judgement: Judgement) -> dict[str, Any]:
    """What the page knows: not which image is whose, and how it stands only once all is answered."""
    return {"kind": judgement.kind, "k": judgement.done, "n": judgement.n,
            "result": judgement.result().in_words if judgement.ended else None}


def _file(address: str, path: Path) -> Route:
    async def send(_: Request) -> Response:
        return Response(path.read_bytes(), media_type=TYPES[path.suffix])

    return Route(address, send)
