"""TIFF of every layout, type and number of bands: the samples that were written, or the reason in words."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from reparam.data.decode import Header, Named, read_header, read_image
from reparam.data.open import open_images
from reparam.data.pixels import UnreadableImage, to_uint8

LEVELS = np.random.default_rng(2).integers(0, 256, (37, 21, 7), np.uint8)
SCALES = {np.uint8: 1, np.uint16: 257, np.float16: 1 / 255, np.float32: 1 / 255, np.float64: 1 / 255}


def written(samples, name="x.tif", **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, **options)
    return Named(name, stream.getvalue())


def samples_of(bands, dtype):
    return (LEVELS[..., :bands].astype(np.float64) * SCALES[dtype]).astype(dtype)


@pytest.mark.parametrize("storage", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True},
                                     {"tile": (16, 16)}, {"rowsperstrip": 5}, {"byteorder": ">"}, {"bigtiff": True}])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(("bands", "photometric"), [(1, "minisblack"), (3, "rgb"), (2, "minisblack"), (5, "minisblack"),
                                                    (7, "rgb")])
def test_every_layout_gives_the_samples_that_were_written(storage, planar, bands, photometric):
    for dtype in SCALES:
        if dtype().dtype.kind == "f" and "predictor" in storage:
            continue
        given = samples_of(bands, dtype)
        stored = given[..., 0] if bands == 1 else given if planar == "contig" else given.transpose(2, 0, 1)
        file = written(stored, photometric=photometric, planarconfig=None if bands == 1 else planar, **storage)
        assert read_header(file) == Header((21, 37), bands, False, bands == 1), dtype
        np.testing.assert_array_equal(read_image(file), LEVELS[..., :bands], err_msg=str(dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("bands", "photometric"), [(2, "minisblack"), (4, "rgb")])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_band_that_says_so_is_transparency(dtype, bands, photometric, planar):
    given = samples_of(bands, dtype)
    stored = given if planar == "contig" else given.transpose(2, 0, 1)
    options = {"photometric": photometric, "planarconfig": planar}
    file = written(stored, extrasamples=["unassalpha"], **options)
    assert read_header(file) == Header((21, 37), bands, True, bands == 2)
    np.testing.assert_array_equal(read_image(file, background="keep"), LEVELS[..., :bands])
    clear = written(np.zeros_like(stored), extrasamples=["unassalpha"], **options)
    assert (read_image(clear, background="#ffffff") == 255).all()
    bands_only = written(stored, extrasamples=["unspecified"], **options)
    assert read_header(bands_only) == Header((21, 37), bands, False, False)


def test_colours_multiplied_by_alpha_are_divided_again():
    file = written(np.array([[[50, 100, 0, 128], [0, 0, 0, 0], [9, 8, 7, 255]]], np.uint8), photometric="rgb",
                   extrasamples=["assocalpha"])
    assert read_image(file, background="keep").tolist() == [[[100, 199, 0, 128], [0, 0, 0, 0], [9, 8, 7, 255]]]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_white_that_is_zero_is_inverted(dtype):
    file = written(samples_of(1, dtype)[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_image(file), 255 - LEVELS[..., :1])


def test_a_stated_range_is_applied_to_colour_of_16_bits():
    given = LEVELS[..., :3].astype(np.uint16) * 16
    np.testing.assert_array_equal(read_image(written(given, photometric="rgb"), value_range=(0, 4095)),
                                  to_uint8(given, (0, 4095)))
    with pytest.raises(UnreadableImage, match=r"from 0 to 3,.*--value-range"):
        read_image(written(np.array([[0, 3]], np.int16)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_planes_are_turned_upright(orientation):
    file = written(samples_of(3, np.uint16).transpose(2, 0, 1), photometric="rgb", planarconfig="separate",
                   extratags=[(274, 3, 1, orientation, True)])
    seen = np.asarray(Image.fromarray(LEVELS[..., :3]))
    for at, turn in {2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2),
                     6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: np.rot90}.items():
        seen = turn(seen) if at == orientation else seen
    assert read_header(file).size == seen.shape[1::-1]
    np.testing.assert_array_equal(read_image(file), seen)


def test_more_pages_are_said_and_more_bands_than_the_limit_refused():
    stack = written(samples_of(1, np.uint16)[None, ..., 0].repeat(3, 0), photometric="minisblack")
    assert read_header(stack).more_frames
    np.testing.assert_array_equal(read_image(stack), LEVELS[..., :1])
    with pytest.raises(UnreadableImage, match="17 bands, 16 at most"):
        read_header(written(np.zeros((4, 4, 17), np.uint8), photometric="minisblack", planarconfig="contig"))


def retagged(file, tag, value):
    """The file with another value of a tag that holds one number."""
    whole = bytearray(file.data)
    at = next(i for kind in (3, 4) if (i := whole.find(struct.pack("<HHI", tag, kind, 1))) >= 0)
    whole[at:at + 12] = struct.pack("<HHII", tag, 4, 1, value)
    return Named(file.name, bytes(whole))


@pytest.mark.parametrize(("tag", "value", "planar", "bands", "words"), [
    (259, 5, "contig", 5, "5 bands of 8 bits, compression lzw and colour minisblack"),
    (259, 5, "separate", 5, "5 bands of 8 bits in separate planes, compression lzw"),
    (262, 8, "separate", 3, "3 bands of 16 bits in separate planes, compression none and colour cielab"),
])
def test_what_neither_library_reads_rightly_is_named(tag, value, planar, bands, words):
    given = samples_of(bands, np.uint16 if tag == 262 else np.uint8)
    file = retagged(written(given if planar == "contig" else given.transpose(2, 0, 1), planarconfig=planar,
                            photometric="rgb" if bands == 3 else "minisblack"), tag, value)
    for read in (read_header, read_image):
        with pytest.raises(UnreadableImage, match=f"{words}.*save it uncompressed or deflated"):
            read(file)


@pytest.mark.parametrize("storage", [{}, {"tile": (16, 16)}, {"compression": "zlib", "rowsperstrip": 9}])
def test_no_part_of_a_cut_file_is_read_as_black(storage):
    for planar in ("contig", "separate"):
        given = samples_of(5, np.uint16)
        file = written(given if planar == "contig" else given.transpose(2, 0, 1), photometric="minisblack",
                       planarconfig=planar, **storage)
        for part in (0.3, 0.9, 0.999):
            with pytest.raises(UnreadableImage, match="truncated"):
                read_image(Named("cut.tif", file.data[:int(len(file.data) * part)]))


def test_a_strip_that_unpacks_to_less_or_more_than_it_should_is_refused():
    file = written(np.zeros((64, 64, 5), np.uint8), photometric="minisblack", planarconfig="contig", compression="zlib")
    for size, words in ((64 * 64 * 5 - 1, "truncated"), (40 << 20, "more than its 20,480 bytes")):
        other = zlib.compress(bytes(size), 9)
        longer = Named("x.tif", file.data + other)
        changed = retagged(retagged(longer, 273, len(file.data)), 279, len(other))
        tracemalloc.start()
        with pytest.raises(UnreadableImage, match=words):
            read_image(changed)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8_000_000


def test_too_many_pixels_or_a_huge_tile_are_refused_from_the_tags():
    file = written(np.zeros((16, 16, 5), np.uint8), photometric="minisblack", planarconfig="contig", tile=(16, 16))
    large = retagged(retagged(file, 256, 60000), 257, 60000)
    with pytest.raises(UnreadableImage, match="more than --max-pixels"):
        read_header(large)
    with pytest.raises(UnreadableImage, match="60000×60000"):
        read_image(retagged(retagged(file, 322, 60000), 323, 60000))


def test_broken_tags_never_raise_anything_else_nor_print(capfd):
    rng = np.random.default_rng(5)
    files = [written(samples_of(5, np.uint16), photometric="minisblack", planarconfig="contig").data,
             written(samples_of(3, np.float64).transpose(2, 0, 1), photometric="rgb", planarconfig="separate",
                     compression="zlib").data]
    for data in files:
        for _ in range(150):
            broken = bytearray(data)
            for at in rng.integers(0, 320, 3):
                broken[at] = rng.integers(0, 256)
            try:
                image = read_image(Named("broken", bytes(broken)), max_pixels=10_000)
            except UnreadableImage:
                continue
            assert image.ndim == 3 and image.dtype == np.uint8
    assert capfd.readouterr() == ("", "")


def test_a_folder_of_bands_is_a_set_of_as_many_channels(tmp_path, monkeypatch):
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path / "cache"))
    stack = np.random.default_rng(0).integers(0, 256, (16, 8, 9, 6), np.uint8)
    for i, image in enumerate(stack):
        tifffile.imwrite(tmp_path / f"{i:02}.tif", image.astype(np.uint16) * 257, photometric="minisblack",
                         planarconfig="contig")
    np.testing.assert_array_equal(open_images(tmp_path).images, stack)
