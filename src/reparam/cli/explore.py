"""The command `explore`: a page in the browser on which a model's latent space is looked at and walked in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..parts.ranges import SOME_IMAGES, Within
from ..progress import for_this_terminal, tell
from .app import LATENTS, app
from .options import Device
from .watch import check_explorer

PORT = Within(0, 65535, whole=True)


@app.command(group=LATENTS)
def explore(run: str, other: str | None = None, /, *, table: str | None = None, most: int = 100_000, port: int = 0,
            open_page: Annotated[bool, Parameter(name="--open")] = True, device: Device = "auto") -> None:
    """Look at a model's latent space in the browser and walk in it: maps, sliders, paths, samples, your own pictures.

    A server for this machine alone; its link holds a secret, and nothing is sent anywhere else. Stop it by Ctrl-C.

    Parameters
    ----------
    run
        A run's folder.
    other
        Another run's, to be looked at side by side.
    table
        A .csv or .parquet of attributes: a first column of image names as in the data, then a column for each attribute.
    most
        Images at most, evenly spaced among more.
    port
        By default one that is free.
    open_page
        Open the page in the browser.
    """
    SOME_IMAGES.check("--most", most)
    PORT.check("--port", port)
    check_explorer()
    from ..explorer.launch import serve
    from ..explorer.session import Session
    from ..explorer.watch import Watch, step_back

    if other is None and (Path(run) / "run.json").exists() and not (Path(run) / "model.safetensors").exists():
        tell("This run is still being trained: the page shows how that goes, and all of the explorer when it has ended.")
        step_back()
        serve(Watch(Path(run)), port, told, open_page=open_page)
        return
    folders = [run] if other is None else [run, other]
    session = Session.open(folders, table=table, most=most, device=device, report=for_this_terminal())
    tell(*session.notes)
    serve(session, port, told, open_page=open_page)


def told(link: str) -> None:
    tell(f"Open {link}", "Stop with Ctrl-C.")
