"""Pictures of the page: samples of every player, and the course of training."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from .figures import Measured
from .players import GAN, PLAYERS

LABEL, GAP = 118, 6


def samples(results: Path, found: Measured, data: str, where: Path) -> str | None:
    """One strip a player and budget, of its first seed that was measured; the picture's name, if there is one."""
    strips = [(f"{name}, {minutes:g} min", results / "samples" / f"{data}-{name}-{minutes:g}-{found.grid[data, minutes, name][0]['seed']}.png")
              for minutes in found.budgets(data) for name in found.players(data, minutes)]
    rows = [(label, Image.open(path).convert("RGB")) for label, path in strips if path.exists()]
    if not rows:
        return None
    paper = Image.new("RGB", (LABEL + max(r.width for _, r in rows), sum(r.height + GAP for _, r in rows)), "white")
    top = 0
    for label, row in rows:
        ImageDraw.Draw(paper).text((4, top + row.height // 2 - 6), label, fill="black")
        paper.paste(row, (LABEL, top))
        top += row.height + GAP
    name = f"vae-versus-gan-{data}.png"
    paper.quantize(128).save(where / name, optimize=True)
    return name


def curves(found: Measured, sets: tuple[str, ...], where: Path) -> list[str]:
    """FD by wavelets over processor seconds, of the longest training of each player's first seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.9 * max(len(sets), 2), 3.2), layout="constrained")
    sets = tuple(data for data in sets if any(c.get("curve") for (of, *_), cells in found.grid.items() if of == data for c in cells))
    if not sets:
        return []
    told = {}
    for axis, data in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        for i, name in enumerate(PLAYERS):
            cells = [c for minutes in found.budgets(data) for c in found.grid.get((data, minutes, name), [])[:1] if c.get("curve")]
            for cell in cells:
                points = [(p["seconds"], p["fd (wavelets)"]) for p in cell["curve"] if "fd (wavelets)" in p]
                told[name], = axis.plot(*zip(*points, strict=True), color=f"C{i}", ls="--" if PLAYERS[name].side == GAN else "-", lw=1.5)
        axis.set(title=data, xlabel="processor seconds", yscale="log")
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("FD (wavelets), own prior")
    figure.axes[-1].legend(told.values(), told, frameon=False, fontsize=7)
    figure.savefig(where / "vae-versus-gan-curves.png", dpi=90)
    return ["## Over time", "", "![quality against time](vae-versus-gan-curves.png)", "",
            "FD by wavelets, of 500 draws of the model's own prior, so without what is fitted to a VAE's codes afterwards, to 500 held-out "
            "training images; the first seed. Dashed: GANs.", ""]
