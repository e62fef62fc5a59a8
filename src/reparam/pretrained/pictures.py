"""Grids of images and curves of training, as PNG files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..files.writing import replacing

GAP = 2
PAPER = 255
MARGIN = 4
"""Columns of a terminal between images."""


def visible(images: np.ndarray) -> np.ndarray:
    """uint8 (n, H, W[, C]) as (n, H, W, 3): grey is repeated, an alpha channel is laid on white, further ones left out."""
    x = images[..., None] if images.ndim == 3 else images
    c = x.shape[-1]
    if c in (2, 4):
        alpha = x[..., -1:].astype(np.float32) / 255
        x = (x[..., :-1] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
    return np.repeat(x[..., :1], 3, -1) if x.shape[-1] < 3 else x[..., :3]


def thumbnails(images: np.ndarray, side: int) -> np.ndarray:
    """Images uint8 (n, H, W, C) in colour, (n, h, w, 3), made smaller where they are larger than `side`."""
    x, (h, w) = visible(images), images.shape[1:3]
    return x if max(h, w) <= side else np.stack([np.asarray(scaled(image, side)) for image in x])


def scaled(image: np.ndarray, side: int) -> Image.Image:
    """An image uint8 (h, w, 3) whose longer side is so many pixels."""
    h, w, _ = image.shape
    size = max(round(w * side / max(h, w)), 1), max(round(h * side / max(h, w)), 1)
    return Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)


def sprite(pictures: np.ndarray) -> Image.Image:
    """Images (n, h, w, 3) side by side, row by row, in a square of as many rows as columns."""
    n, h, w, _ = pictures.shape
    columns = math.ceil(n**0.5)
    sheet = np.zeros((columns * columns, h, w, 3), np.uint8)
    sheet[:n] = pictures
    return Image.fromarray(sheet.reshape(columns, columns, h, w, 3).swapaxes(1, 2).reshape(columns * h, columns * w, 3))


def grid(images: np.ndarray, columns: int | None = None, *, side: int = 64) -> Image.Image:
    """Images (n, H, W[, C]) uint8 in rows, small ones enlarged by a whole factor to about `side` pixels."""
    x = visible(images)
    n, h, w, _ = x.shape
    columns = columns or math.ceil(n**0.5)
    zoom = max(1, side // max(h, w))
    x = x.repeat(zoom, 1).repeat(zoom, 2)
    h, w, rows = h * zoom, w * zoom, -(-n // columns)
    paper = np.full((rows * (h + GAP) + GAP, columns * (w + GAP) + GAP, 3), PAPER, np.uint8)
    for i, image in enumerate(x):
        top, left = GAP + i // columns * (h + GAP), GAP + i % columns * (w + GAP)
        paper[top : top + h, left : left + w] = image
    return Image.fromarray(paper)


def save_png(picture: Image.Image, path: str | Path) -> None:
    """Writes a PNG atomically."""
    with replacing(path) as temporary:
        picture.save(temporary, "PNG", optimize=True)


def pairs(originals: np.ndarray, rebuilt: np.ndarray, columns: int = 8) -> np.ndarray:
    """Rows of originals, each above the row of its reconstructions."""
    columns, rows = min(columns, len(originals)), list[np.ndarray]()
    for i in range(0, len(originals), columns):
        for row in (originals[i : i + columns], rebuilt[i : i + columns]):
            blank = [(0, columns - len(row))] + [(0, 0)] * (row.ndim - 1)
            rows.append(np.pad(row, blank, constant_values=PAPER))
    return np.concatenate(rows)


def of_one_size(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Images uint8 (h, w, 3) at the size of the largest of them."""
    h, w = (max(each.shape[i] for each in images) for i in (0, 1))
    return [_resized(each, w, h) for each in images]


def _resized(image: np.ndarray, w: int, h: int) -> np.ndarray:
    """An image (h, w, 3) at a size; pixels that are enlarged by a whole factor stay squares."""
    whole = w % image.shape[1] == 0 and h % image.shape[0] == 0
    how = Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS
    return image if image.shape[:2] == (h, w) else np.asarray(Image.fromarray(image).resize((w, h), how))


def half_blocks(images: Sequence[np.ndarray], columns: int) -> str:
    """Images uint8 (h, w, 3) side by side for a terminal of so many columns and 24-bit colour: each character is two pixels,
    the upper one its ink and the lower one its paper."""
    sized = of_one_size(images)
    h, w = sized[0].shape[:2]
    width = max(min((columns - MARGIN * len(sized)) // len(sized), max(64 // w, 1) * w), 8)
    height = 2 * max(round(h * width / w / 2), 1)
    small = [_resized(each, width, height) for each in sized]
    lines = [[_line(each[y], each[y + 1]) for y in range(0, height, 2)] for each in small]
    return "".join(f"{(' ' * MARGIN).join(row)}\n" for row in zip(*lines, strict=True))


def _line(above: np.ndarray, below: np.ndarray) -> str:
    colors = np.concatenate([above, below], 1).tolist()
    return "".join(f"\x1b[38;2;{r};{g};{b};48;2;{p};{q};{s}m▀" for r, g, b, p, q, s in colors) + "\x1b[0m"


def equation(terms: Sequence[tuple[float, np.ndarray]], result: np.ndarray) -> Image.Image:
    """Weighted images (H, W[, C]) in a row with their signs and weights before them, an equals sign, and the result."""
    signs = [f"{'-' if w < 0 else '+' if i else ''}{'' if abs(w) == 1 else f'{abs(w):g}'}" for i, (w, _) in enumerate(terms)]
    pieces: list[Image.Image] = []
    for text, image in zip([*signs, "="], [*(image for _, image in terms), result], strict=True):
        pieces += [_sign(text, 128)] if text else []
        pieces.append(grid(image[None], 1, side=128))
    size = sum(piece.width + GAP for piece in pieces) + GAP, max(piece.height for piece in pieces) + 2 * GAP
    row = Image.new("RGB", size, "white")
    left = GAP
    for piece in pieces:
        row.paste(piece, (left, (row.height - piece.height) // 2))
        left += piece.width + GAP
    return row


def _sign(text: str, height: int) -> Image.Image:
    font = ImageFont.load_default(size=height // 4)
    left, _, right, _ = font.getbbox(text)
    made = Image.new("RGB", (round(right - left) + height // 8, height), "white")
    ImageDraw.Draw(made).text((made.width / 2, height / 2), text, "black", font, anchor="mm")
    return made
