"""A zoo of image files, mode × format × defect, each with the array that it must become."""

import io
import struct
import threading
import time
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from reparam.data.decode import Header, Named, quiet, read_header, read_image
from reparam.data.pixels import UnreadableImage, fit, to_uint8
from reparam.errors import DataError, UsageError

RAMP16 = np.arange(65536, dtype=np.uint16).reshape(256, 256)
RAMP8 = np.floor(RAMP16 / 257 + 0.5).astype(np.uint8)[..., None]
RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
GREY = RGB[..., :1]


def coded(picture, kind, name="x", **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return Named(name, stream.getvalue())


def npy(array, name="x.npy"):
    stream = io.BytesIO()
    np.save(stream, array)
    return Named(name, stream.getvalue())


def png(width, height, depth, color, rows, *chunks):
    """A PNG written by hand, for what Pillow cannot write."""
    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    head += b"".join(chunk(*each) for each in chunks)
    return Named("made.png", b"\x89PNG\r\n\x1a\n" + head + body)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP", "GIF"])
def test_lossless_formats_give_the_pixels_that_went_in(kind):
    file = coded(Image.fromarray(RGB), kind, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(read_image(file), RGB)
    assert read_header(file) == Header((7, 5), 3, False, False)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_grey_stays_one_channel_or_is_replicated(kind):
    file = coded(Image.fromarray(GREY[..., 0]), kind)
    assert read_header(file) == Header((7, 5), 1, False, True)
    np.testing.assert_array_equal(read_image(file), GREY)
    np.testing.assert_array_equal(read_image(file, grey=False), np.repeat(GREY, 3, 2))


def test_colour_read_as_grey_is_its_luma():
    expected = np.asarray(Image.fromarray(RGB).convert("L"))[..., None]
    file = coded(Image.fromarray(RGB), "PNG")
    np.testing.assert_array_equal(read_image(file, grey=True), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_becomes_black_and_white(kind):
    bits = GREY[..., 0] > 100
    file = coded(Image.fromarray(bits), kind)
    np.testing.assert_array_equal(read_image(file), np.where(bits, 255, 0)[..., None])
    assert read_header(file).grey


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_16_bit_ramp_keeps_256_levels(kind):
    image = read_image(coded(Image.fromarray(RAMP16), kind))
    np.testing.assert_array_equal(image, RAMP8)
    assert len(np.unique(image)) == 256


def test_a_big_endian_16_bit_tiff_keeps_256_levels():
    big = Image.frombytes("I;16B", (256, 256), RAMP16.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_image(coded(big, "TIFF")), RAMP8)


def test_a_16_bit_tiff_whose_white_is_zero_is_inverted():
    file = coded(Image.fromarray(RAMP16), "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(read_image(file), 255 - RAMP8)


def test_12_bits_in_a_tiff_fill_the_range():
    stream = bytearray(coded(Image.fromarray(np.zeros((1, 4), np.uint16)), "TIFF").data)
    samples = [0, 4095, 2048, 16]
    packed = bytes([0, 0x0F, 0xFF, 0x80, 0x00, 0x10])
    at = stream.index(struct.pack("<HHI", 258, 3, 1)) + 8
    stream[at:at + 2] = struct.pack("<H", 12)
    count = stream.index(struct.pack("<HHI", 279, 4, 1)) + 8
    start = struct.unpack_from("<I", stream, stream.index(struct.pack("<HHI", 273, 4, 1)) + 8)[0]
    stream[count:count + 4] = struct.pack("<I", 6)
    stream[start:start + 6] = packed
    expected = [round(s * 255 / 4095) for s in samples]
    assert read_image(Named("12.tif", bytes(stream))).ravel().tolist() == expected


def test_16_bit_colour_and_grey_with_alpha_pngs():
    samples = np.array([0, 257, 65535, 32896], ">u2")
    color = png(1, 1, 16, 6, b"\0" + samples.tobytes())
    np.testing.assert_array_equal(read_image(color, background="keep"), [[[0, 1, 255, 128]]])
    both = png(2, 1, 16, 4, b"\0" + samples.tobytes())
    assert read_header(both) == Header((2, 1), 2, True, True)
    np.testing.assert_array_equal(read_image(both, background="keep"), [[[0, 1], [255, 128]]])
    with pytest.raises(UnreadableImage, match="16-bit colour"):
        read_image(color, value_range=(0, 4095))


def test_float_tiff_is_scaled_from_0_to_1():
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    image = read_image(coded(Image.fromarray(values), "TIFF"))
    np.testing.assert_array_equal(image.ravel(), np.arange(256))


@pytest.mark.parametrize(("array", "expected"), [
    (np.array([[0, 65535], [257, 128]], np.uint16), [0, 255, 1, 0]),
    (np.array([[0, 65535], [257, 129]], ">u2"), [0, 255, 1, 1]),
    (np.array([[0, 1], [0.5, 0.25]], np.float64), [0, 255, 128, 64]),
    (np.array([[0, 1], [0.5, 0.25]], np.float16), [0, 255, 128, 64]),
    (np.array([[False, True], [True, False]]), [0, 255, 255, 0]),
    (np.asfortranarray([[1, 2], [3, 4]]).astype(np.uint8, order="F"), [1, 2, 3, 4]),
])
def test_npy_of_each_type(array, expected):
    assert read_image(npy(array)).shape == (2, 2, 1)
    assert read_image(npy(array)).ravel().tolist() == expected


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_npy_of_other_channels_is_left_alone(channels):
    array = np.random.default_rng(1).integers(0, 256, (4, 3, channels), np.uint8)
    assert read_header(npy(array)) == Header((3, 4), channels, False, False)
    for options in ({}, {"grey": True}, {"background": "keep"}):
        np.testing.assert_array_equal(read_image(npy(array), **options), array)


@pytest.mark.parametrize(("array", "found"), [
    (np.array([[0.0, 255.0]]), "from 0 to 255"),
    (np.array([[-1.0, 1.0]]), "from -1 to 1"),
    (np.array([[-5, 300]], np.int32), "from -5 to 300"),
    (np.array([[0, 7]], np.int64), "from 0 to 7"),
    (np.array([[0, 7]], np.uint32), "from 0 to 7"),
])
def test_values_without_a_known_range_are_refused_by_what_was_found(array, found):
    with pytest.raises(UnreadableImage, match=rf"{found}.*--value-range LO,HI"):
        read_image(npy(array))


def test_a_stated_range_overrides_the_type_and_still_never_clips():
    assert read_image(npy(np.array([[0, 4095]], np.uint16)), value_range=(0, 4095)).max() == 255
    assert read_image(npy(np.array([[-1.0, 0, 1]])), value_range=(-1, 1)).ravel().tolist() == [
        0, 128, 255]
    assert read_image(coded(Image.fromarray(np.array([[0, 16]], np.uint8)), "PNG"),
                      value_range=(0, 16)).ravel().tolist() == [0, 255]
    with pytest.raises(UnreadableImage, match="to 4096 lie outside the stated range 0 to 4095"):
        read_image(npy(np.array([[0, 4096]], np.uint16)), value_range=(0, 4095))
    with pytest.raises(UsageError, match="--value-range"):
        read_image(npy(np.zeros((2, 2))), value_range=(1, 1))


def test_signed_and_32_bit_tiffs_are_refused_and_keep_their_sign():
    signed = coded(Image.fromarray(np.array([[-3, 70000]], np.int32)), "TIFF")
    with pytest.raises(UnreadableImage, match="from -3 to 70000"):
        read_image(signed)
    byte = bytearray(coded(Image.fromarray(np.array([[200, 100]], np.uint8)), "TIFF",
                           tiffinfo={339: 2}).data)
    with pytest.raises(UnreadableImage, match="from -56 to 100"):
        read_image(Named("s8.tif", bytes(byte)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_counted_and_placed(bad):
    array = np.zeros((4, 5), np.float32)
    array[2, 3] = array[3, 0] = bad
    with pytest.raises(UnreadableImage, match=r"2 values are NaN or infinite.*row 2, column 3"):
        read_image(npy(array))
    with pytest.raises(UnreadableImage, match="NaN or infinite"):
        read_image(coded(Image.fromarray(array), "TIFF"))


RGBA = np.array([[[255, 0, 0, 0], [10, 20, 30, 255], [100, 200, 50, 128]]], np.uint8)


@pytest.mark.parametrize(("background", "expected"), [
    ("white", [[255, 255, 255], [10, 20, 30], [177, 227, 152]]),
    ("black", [[0, 0, 0], [10, 20, 30], [50, 100, 25]]),
    ("#102030", [[16, 32, 48], [10, 20, 30], [58, 116, 49]]),
    ("keep", RGBA[0]),
])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_drawn_on_the_background_or_kept(kind, background, expected):
    file = coded(Image.fromarray(RGBA), kind,
                 **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    assert read_header(file) == Header((3, 1), 4, True, False)
    np.testing.assert_array_equal(read_image(file, background=background)[0], expected)


def test_grey_with_alpha():
    bands = [Image.fromarray(np.array([band], np.uint8)) for band in ([0, 100, 0], [0, 255, 51])]
    file = coded(Image.merge("LA", bands), "PNG")
    assert read_header(file) == Header((3, 1), 2, True, True)
    assert read_image(file).ravel().tolist() == [255, 100, 204]
    assert read_image(file, background="#000000", grey=False)[0, 1].tolist() == [100] * 3
    assert read_image(file, background="keep").shape == (1, 3, 2)


def test_keep_gives_every_image_an_alpha_channel():
    image = read_image(coded(Image.fromarray(RGB), "PNG"), background="keep")
    assert image.shape == (5, 7, 4) and (image[..., 3] == 255).all()


def test_an_unknown_background_is_a_usage_error():
    with pytest.raises(UsageError, match="did you mean 'white'"):
        read_image(npy(np.zeros((2, 2))), background="whit")


def palette(colors, indices):
    picture = Image.fromarray(np.array([indices], np.uint8)).convert("L")
    picture = Image.frombytes("P", picture.size, picture.tobytes())
    picture.putpalette([c for color in colors for c in color])
    return picture


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "BMP"])
def test_palettes_are_expanded(kind):
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 8, 7)]
    file = coded(palette(colors, [3, 2, 1, 0]), kind)
    assert read_header(file) == Header((4, 1), 3, False, False)
    np.testing.assert_array_equal(read_image(file)[0], colors[::-1])


@pytest.mark.parametrize("transparency", [1, b"\xff\x00\xff\x80"])
def test_a_palette_with_transparency_shows_the_background(transparency):
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)]
    file = coded(palette(colors, [0, 1, 2, 3]), "PNG", transparency=transparency)
    assert read_header(file).alpha
    image = read_image(file, background="#ffffff")
    assert image[0, :3].tolist() == [[255, 0, 0], [255, 255, 255], [0, 0, 255]]
    assert image[0, 3, 0] == (0 if transparency == 1 else 127)


def test_a_grey_palette_is_grey():
    file = coded(palette([(0, 0, 0), (90, 90, 90), (7, 7, 7)], [1, 2, 0]), "PNG")
    assert read_header(file) == Header((3, 1), 1, False, True)
    assert read_image(file).ravel().tolist() == [90, 7, 0]


def test_a_transparent_colour_key_is_read_in_the_depth_of_the_file():
    four_bit = png(2, 1, 4, 0, b"\0\x5f", (b"tRNS", struct.pack(">H", 5)))
    np.testing.assert_array_equal(read_image(four_bit, background="keep"), [[[85, 0], [255, 255]]])
    deep = png(2, 1, 16, 0, b"\0" + np.array([300, 301], ">u2").tobytes(),
               (b"tRNS", struct.pack(">H", 300)))
    np.testing.assert_array_equal(read_image(deep, background="keep"), [[[1, 0], [1, 255]]])
    color = coded(Image.fromarray(RGB), "PNG", transparency=tuple(RGB[0, 0].tolist()))
    assert read_image(color)[0, 0].tolist() == [255] * 3
    deep_color = png(2, 1, 16, 2, b"\0" + np.array([300, 0, 900, 0, 0, 0], ">u2").tobytes(),
                      (b"tRNS", struct.pack(">HHH", 300, 0, 900)))
    assert read_image(deep_color, background="keep")[0, :, 3].tolist() == [0, 255]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind):
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    file = coded(ink, kind, **({"quality": 100} if kind == "JPEG" else {}))
    image = read_image(file)
    assert image.shape == (16, 16, 3)
    assert np.abs(image.astype(int) - [255, 0, 0]).max() <= 2
    assert read_header(file) == Header((16, 16), 3, False, False)


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_other_colour_spaces_become_rgb(mode):
    picture = Image.new("RGB", (4, 4), (200, 60, 30))
    if mode == "LAB":
        picture = Image.new("LAB", (4, 4), (128, 128, 128))
    image = read_image(coded(picture.convert(mode) if mode != "LAB" else picture, "TIFF"))
    expected = [119, 119, 119] if mode == "LAB" else [200, 60, 30]
    assert image.shape == (4, 4, 3)
    assert np.abs(image.astype(int) - expected).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    small = np.array([[0, 255, 90], [40, 160, 220]], np.uint8)
    stored = small.repeat(16, 0).repeat(16, 1)
    turns = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
             5: np.transpose, 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).T,
             8: np.rot90}
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    file = coded(Image.fromarray(stored), kind, exif=exif, **options)
    seen = turns[orientation](stored)
    assert read_header(file).size == seen.shape[::-1]
    image = read_image(file, grey=True)[..., 0]
    assert image.shape == seen.shape
    assert np.abs(image.astype(int) - seen).max() <= 8


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_only_the_first_frame_is_read_and_the_header_says_so(kind):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    file = coded(frames[0], kind, save_all=True, append_images=frames[1:],
                 **({"lossless": True} if kind == "WEBP" else {}))
    assert read_header(file).more_frames
    np.testing.assert_array_equal(read_image(file), np.full((8, 8, 3), [255, 0, 0]))


NOISE = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "NPY"])
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_truncated_files_are_refused(kind, part):
    _, data = npy(NOISE) if kind == "NPY" else coded(Image.fromarray(NOISE), kind)
    with pytest.raises(UnreadableImage) as caught:
        read_image(Named(f"half.{kind}", data[:int(len(data) * part)]))
    assert f"half.{kind}" in str(caught.value) and caught.value.reason
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("data", [b"", b"hello, this is text", b"\x89PNG\r\n\x1a\n",
                                  b"\xff\xd8\xff", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{",
                                  b"II*\0\xff\xff\xff\x7f", b"GIF89a", b"BM" + b"\0" * 60,
                                  b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_what_is_no_image_is_refused(data, tmp_path):
    file = tmp_path / "notes.png"
    file.write_bytes(data)
    for read in (read_header, read_image):
        with pytest.raises(UnreadableImage, match=r"notes\.png"):
            read(file)
    assert issubclass(UnreadableImage, DataError)


def test_broken_bytes_never_raise_anything_else():
    rng = np.random.default_rng(5)
    small = Image.fromarray(NOISE[:12, :12])
    files = [coded(small, k).data for k in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")]
    files += [npy(NOISE[:12, :12]).data, coded(small.quantize(8), "PNG").data]
    for data in files:
        for _ in range(60):
            broken = bytearray(data)
            for at in rng.integers(0, min(len(data), 200), 3):
                broken[at] = rng.integers(0, 256)
            try:
                image = read_image(Named("broken", bytes(broken)), max_pixels=10_000)
            except UnreadableImage:
                continue
            assert image.ndim == 3 and image.dtype == np.uint8


def test_pickled_arrays_are_never_loaded():
    with pytest.raises(UnreadableImage, match="Python objects"):
        read_image(npy(np.array([[{}]], object)))


@pytest.mark.parametrize("array", [np.zeros(5), np.zeros((2, 2, 2, 2)), np.zeros((0, 5)),
                                   np.zeros((5, 64, 64)), np.zeros((2, 2), complex)])
def test_arrays_of_other_shapes_and_types_are_refused(array):
    with pytest.raises(UnreadableImage):
        read_image(npy(array))


def bomb():
    """About 10 kB that would decode to 240 MB."""
    return png(10_000, 8_000, 1, 0, (b"\0" + b"\0" * 1250) * 8_000), png(
        40_000, 40_000, 8, 2, b"\0")


def test_a_bomb_is_refused_from_its_header():
    large, larger = bomb()
    assert len(large.data) < 15_000
    small = npy(np.zeros((1, 1), np.uint8)).data
    shape = small.replace(b"(1, 1), }        ", b"(90000, 90000), }")
    assert shape != small and len(shape) == len(small)
    tracemalloc.start()
    began = time.process_time()
    for file in (large, larger, Named("x.npy", shape)):
        for read in (read_header, read_image):
            with pytest.raises(UnreadableImage):
                read(file)
    took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 0.5 and peak < 4_000_000
    with pytest.raises(UnreadableImage, match=r"80\.0 million pixels, more than --max-pixels 50"):
        read_header(large)


def test_the_cap_can_be_moved_and_pillows_warning_does_not_leak():
    file = png(10_000, 9_000, 1, 0, (b"\0" + b"\0" * 1250) * 9_000)
    assert Image.MAX_IMAGE_PIXELS < 10_000 * 9_000
    assert read_header(file, max_pixels=100_000_000).size == (10_000, 9_000)
    with pytest.raises(UnreadableImage, match="--max-pixels 34"):
        read_image(coded(Image.fromarray(RGB), "PNG"), max_pixels=34)
    assert read_image(coded(Image.fromarray(RGB), "PNG"), max_pixels=35).shape == (5, 7, 3)


def test_a_file_far_longer_than_its_pixels_is_refused():
    file = coded(Image.fromarray(RGB), "PNG")
    with pytest.raises(UnreadableImage, match="bytes are too many"):
        read_image(Named("long.png", file.data + bytes(1000)), max_pixels=40)


def test_warnings_stay_off_until_the_last_reader_is_done():
    with quiet:
        with quiet:
            pass
        warnings.warn_explicit("bomb", RuntimeWarning, "Image.py", 1, module="PIL.Image")
    with pytest.raises(RuntimeWarning):
        warnings.warn_explicit("bomb", RuntimeWarning, "Image.py", 1, module="PIL.Image")


def test_reading_in_threads_leaves_the_warning_filters_as_they_were():
    before = list(warnings.filters)
    file = coded(Image.fromarray(RGB), "PNG")
    threads = [threading.Thread(target=lambda: [read_image(file) for _ in range(50)])
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def test_a_coarse_jpeg_is_as_large_as_asked_and_looks_the_same():
    blobs = Image.fromarray(NOISE[:8, :8])
    smooth = np.asarray(blobs.resize((512, 384), Image.Resampling.BICUBIC))
    file = coded(Image.fromarray(smooth), "JPEG", quality=95)
    coarse = read_image(file, at_least=90)
    assert 90 <= min(coarse.shape[:2]) < 384
    small = [fit(image, (32, 32)).astype(int) for image in (coarse, smooth)]
    assert np.abs(small[0] - small[1]).max() <= 6


def test_fit_cuts_the_centre_and_antialiases():
    image = np.zeros((8, 24, 1), np.uint8)
    image[:, 8:16] = 200
    whole = np.asarray(Image.fromarray(image[..., 0]).resize((12, 4), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(fit(image, (4, 4))[..., 0], whole[:, 4:8])
    stripes = np.tile(np.array([0, 255], np.uint8), 32)[None, :, None].repeat(64, 0)
    assert np.abs(fit(stripes, (16, 16))[:, 2:-2].astype(int) - 128).max() <= 2
    many = np.arange(5, dtype=np.uint8)[None, None].repeat(9, 0).repeat(9, 1)
    np.testing.assert_array_equal(fit(many, (3, 3)), many[:3, :3])


def test_fit_keeps_hidden_colours_from_bleeding():
    image = np.zeros((8, 8, 4), np.uint8)
    image[:, :4] = [0, 0, 255, 255]
    image[:, 4:] = [255, 0, 0, 0]
    assert fit(image, (2, 2), alpha=True)[:, 0, 0].max() == 0


def test_to_uint8_returns_uint8_itself():
    assert to_uint8(RGB) is RGB
