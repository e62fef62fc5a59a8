"""Which files are pictures by their name, and which of them are read."""

from __future__ import annotations

import functools
import importlib.util
from typing import Final

from PIL import features

_READ: Final = {
    "PNG": ("png", "apng"),
    "JPEG": ("jpg", "jpeg", "jpe", "jfif"),
    "WEBP": ("webp",),
    "TIFF": ("tif", "tiff"),
    "BMP": ("bmp", "dib"),
    "GIF": ("gif",),
    "PPM": ("pbm", "pgm", "ppm", "pnm", "pfm"),
    "JPEG2000": ("jp2", "j2k", "jpx", "j2c", "jpc", "jpf"),
    "AVIF": ("avif", "avifs"),
    "HEIF": ("heic", "heif", "heics", "heifs", "hif"),
    "NPY": ("npy",),
}
_PLUGINS: Final = {"PNG": "Png", "JPEG": "Jpeg", "WEBP": "WebP", "TIFF": "Tiff", "BMP": "Bmp", "GIF": "Gif",
                   "PPM": "Ppm", "JPEG2000": "Jpeg2K", "AVIF": "Avif"}
_NEEDS: Final = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}  # what Pillow may be built without
_UNREAD: Final = frozenset({
    *("svg", "svgz", "eps", "ai", "wmf", "emf", "psd", "psb", "xcf", "kra", "ora", "exr", "hdr", "jxl", "jxr", "wdp"),
    *("tga", "pcx", "qoi", "ico", "icns", "cur", "dds", "sgi", "flif", "bpg", "mng"),
    *("cr2", "cr3", "crw", "nef", "nrw", "arw", "srf", "sr2", "dng", "orf", "rw2", "raf", "pef", "srw", "x3f", "3fr"),
    *("erf", "iiq", "mos", "kdc", "dcr", "mrw", "rwl"),
    *("dcm", "dicom", "nii", "mha", "mhd", "nrrd", "czi", "nd2", "lif", "lsm", "oib", "oif", "vsi", "svs", "ndpi", "scn"),
    *("mrxs", "fits", "fit"),
})


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats that the installed Pillow reads for us, with HEIF when pillow-heif is there.

    Only their plugins are loaded: Image.open by itself would try every format there is, in whichever thread is first.
    """
    usable = [name for name in _PLUGINS if name not in _NEEDS or features.check(_NEEDS[name])]
    for name in usable:
        importlib.import_module(f"PIL.{_PLUGINS[name]}ImagePlugin")
    if importlib.util.find_spec("pillow_heif"):
        importlib.import_module("pillow_heif").register_heif_opener()
        usable.append("HEIF")
    return tuple(usable)


def accepted() -> str:
    """The formats in words."""
    return ", ".join(name for name in _READ if name in (*formats(), "NPY"))


def is_read(suffix: str) -> bool:
    """Whether a file of this suffix, such as ".png", is read as an image."""
    return why_unread(suffix) == "" and _format_of(suffix) is not None


def why_unread(suffix: str) -> str:
    """Why a picture of this suffix is not read; "" when it is, or is no picture."""
    name, kind = _format_of(suffix), suffix.lower().lstrip(".").upper()
    if name == "HEIF" and name not in formats():
        return f'{kind} files need pillow-heif: pip install pillow-heif, or convert them to PNG'
    if name is not None and name not in (*formats(), "NPY"):
        return f"{kind} files are not read by the Pillow installed here: convert them to PNG"
    return f"{kind} files are not read: convert them to PNG" if kind.lower() in _UNREAD else ""


def _format_of(suffix: str) -> str | None:
    return _by_suffix().get(suffix.lower().lstrip("."))


@functools.cache
def _by_suffix() -> dict[str, str]:
    return {suffix: name for name, suffixes in _READ.items() for suffix in suffixes}
