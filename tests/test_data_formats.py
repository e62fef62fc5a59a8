"""Which pictures are read, that others are counted with a reason, and what colour profiles do."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from reparam.data import formats
from reparam.data.decode import Header, Named, read_header, read_image
from reparam.data.open import open_images
from reparam.data.pixels import UnreadableImage
from reparam.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
GREY = RGB[..., :1]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path / "the-cache"))


def coded(picture, kind, name="x", **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return Named(name, stream.getvalue())


@pytest.mark.parametrize(("kind", "options", "off"), [
    ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 6),
    ("JPEG2000", {}, 0), ("PPM", {}, 0), ("HEIF", {"quality": -1}, 6)])
def test_formats_of_cameras_phones_and_laboratories_are_read(kind, options, off):
    formats.formats()
    file = coded(Image.fromarray(RGB), kind, **options)
    assert read_header(file) == Header((32, 48), 3, False, False)
    assert np.abs(read_image(file).astype(int) - RGB).max() <= off
    with pytest.raises(UnreadableImage):
        read_image(Named("cut", file.data[:len(file.data) // 2]))
    with pytest.raises(UnreadableImage, match="--max-pixels"):
        read_header(file, max_pixels=32 * 48 - 1)


def test_alpha_and_orientation_of_an_avif():
    clear = np.dstack([RGB, np.full(RGB.shape[:2], 0, np.uint8)])
    assert (read_image(coded(Image.fromarray(clear), "AVIF"), background="#ffffff") >= 254).all()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = coded(Image.fromarray(RGB), "AVIF", exif=exif, quality=100, subsampling="4:4:4")
    assert read_header(turned).size == (48, 32)
    assert np.abs(read_image(turned).astype(int) - np.rot90(RGB, -1)).max() <= 6


@pytest.mark.parametrize("background", [0, 77, 255])
def test_every_colour_at_every_transparency_is_drawn_to_the_nearest_level(background):
    colour, alpha = np.mgrid[:256, :2048] % 256  # more rows than are worked on at once
    file = coded(Image.fromarray(np.dstack([colour, 255 - colour, colour, alpha]).astype(np.uint8)), "PNG")
    want = (colour * alpha + background * (255 - alpha)) / 255
    found = read_image(file, background=f"#{background:02x}{background:02x}{background:02x}")
    np.testing.assert_array_equal(found[..., 0], np.rint(want))
    np.testing.assert_array_equal(found[..., 1], np.rint(((255 - colour) * alpha + background * (255 - alpha)) / 255))


def graymap(most, values, plain=False):
    head = f"P{2 if plain else 5} {len(values)} 1 {most}\n".encode()
    if plain:
        return Named("x.pgm", head + " ".join(map(str, values)).encode())
    return Named("x.pgm", head + np.array(values, ">u2" if most > 255 else "u1").tobytes())


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("most", [255, 100, 1023, 65535])
def test_a_graymap_fills_the_range_that_it_states(most, plain):
    values = [0, most // 5, most // 2, most]
    file = graymap(most, values, plain)
    assert read_header(file).grey
    np.testing.assert_allclose(read_image(file).ravel(), [v * 255 / most for v in values], atol=0.51)
    if most in (255, 65535):
        assert read_image(file, value_range=(0, most)).ravel()[-1] == 255
    else:  # the decoder has scaled them already
        with pytest.raises(UnreadableImage, match=r"scaled samples.*--value-range"):
            read_image(file, value_range=(0, most))


def test_a_float_map_is_read_as_floats():
    values = np.array([[0, 0.5, 1]], "<f4")
    file = Named("x.pfm", b"Pf\n3 1\n-1.0\n" + values.tobytes())
    assert read_image(file).ravel().tolist() == [0, 128, 255]


@pytest.mark.parametrize("name", ["IMG_1.HEIC", "a.svg", "b.CR2", "c.dng", "d.psd", "e.dcm", "f.exr", "g.jxl", "h.czi"])
def test_every_picture_that_is_not_read_is_counted_with_a_reason(tmp_path, monkeypatch, name):
    without = tuple(each for each in formats.formats() if each != "HEIF")
    monkeypatch.setattr(formats, "formats", lambda: without)
    for i in range(16):
        Image.fromarray(RGB[:8, :8] // (i + 1)).save(tmp_path / f"{i:02}.png")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / name).write_bytes(b"anything")
    (tmp_path / "notes.txt").write_text("no picture")
    found = open_images(tmp_path)
    kind = name.split(".")[1].upper()
    assert [each.name for each in found.skipped] == [f"below/{name}"]
    reason = found.skipped[0].reason
    assert reason.startswith(f"{kind} files ") and "convert them to PNG" in reason
    assert ("pip install pillow-heif" in reason) == (kind == "HEIC")
    assert any(f"1 × {kind} files" in note for note in found.notes)
    assert "1 file skipped" in repr(found)
    with pytest.raises(DataError, match=rf"below/{name}: {kind} files"):
        open_images(tmp_path, on_bad="error")


def test_what_was_not_read_is_read_once_its_library_is_there(tmp_path, monkeypatch):
    usable = formats.formats()
    for i in range(17):
        Image.fromarray(RGB[:16, :16] // (i + 1)).save(tmp_path / f"{i:02}.{'heic' if i == 16 else 'png'}")
    with monkeypatch.context() as without:
        without.setattr(formats, "formats", lambda: tuple(each for each in usable if each != "HEIF"))
        assert len(open_images(tmp_path).images) == 16
    assert len(open_images(tmp_path).images) == 17


def profile(gamma=1.0, swapped=False):
    """A matrix profile with the given gamma, written from sRGB's by changing its curves; `swapped` red and blue."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(data[132 + 12 * i:136 + 12 * i]): 132 + 12 * i for i in range(int.from_bytes(data[128:132], "big"))}
    curve = b"curv" + bytes(4) + (1).to_bytes(4, "big") + round(gamma * 256).to_bytes(2, "big") + bytes(2)
    place = len(data)
    data += curve
    for name in (b"rTRC", b"gTRC", b"bTRC"):
        data[tags[name] + 4:tags[name] + 12] = place.to_bytes(4, "big") + len(curve).to_bytes(4, "big")
    if swapped:
        red, blue = (bytes(data[tags[name] + 4:tags[name] + 12]) for name in (b"rXYZ", b"bXYZ"))
        data[tags[b"rXYZ"] + 4:tags[b"rXYZ"] + 12], data[tags[b"bXYZ"] + 4:tags[b"bXYZ"] + 12] = blue, red
    data[0:4] = len(data).to_bytes(4, "big")
    return bytes(data)


def srgb(linear):
    """sRGB's curve (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear**(1 / 2.4) - 0.055)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_colours_of_a_profile_become_srgb(kind):
    options = {"WEBP": {"lossless": True}}.get(kind, {})
    file = coded(Image.fromarray(RGB), kind, icc_profile=profile(gamma=1.0), **options)
    assert read_header(file).profile == "converted"
    expected = srgb(RGB / 255) * 255
    assert np.abs(read_image(file) - expected).max() <= 2
    assert np.abs(read_image(file).astype(int) - RGB).max() > 40


def test_a_profile_with_other_primaries_changes_places():
    file = coded(Image.new("RGB", (8, 8), (255, 0, 0)), "PNG", icc_profile=profile(2.2, swapped=True))
    assert read_image(file)[0, 0].tolist() == [0, 0, 255]


def test_grey_stays_grey_under_a_profile():
    file = coded(Image.fromarray(GREY[..., 0]), "PNG", icc_profile=profile(gamma=1.0))
    assert read_header(file) == Header((32, 48), 1, False, True, profile="converted")
    assert np.abs(read_image(file) - srgb(GREY / 255) * 255).max() <= 2


def test_transparency_is_left_alone_by_a_profile():
    both = np.dstack([RGB, GREY])
    image = read_image(coded(Image.fromarray(both), "PNG", icc_profile=profile(1.0)), background="keep")
    np.testing.assert_array_equal(image[..., 3:], GREY)
    assert np.abs(image[..., :3] - srgb(RGB / 255) * 255).max() <= 2


def test_planes_of_16_bits_have_a_profile_too():
    import tifffile

    stream = io.BytesIO()
    tifffile.imwrite(stream, RGB.astype(np.uint16).transpose(2, 0, 1) * 257, photometric="rgb", planarconfig="separate",
                     iccprofile=profile(gamma=1.0))
    assert np.abs(read_image(Named("x.tif", stream.getvalue())) - srgb(RGB / 255) * 255).max() <= 2


def test_srgb_itself_changes_nothing_and_a_useless_profile_is_said(tmp_path):
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file = coded(Image.fromarray(RGB), "PNG", icc_profile=own)
    np.testing.assert_array_equal(read_image(file), RGB)
    assert read_header(file).profile == "none"
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for i in range(18):
        useless = {16: b"junk", 17: lab}.get(i, own)
        chosen = profile(1.0) if i == 0 else useless
        Image.fromarray(RGB // (i + 1)).save(tmp_path / f"{i:02}.png", icc_profile=chosen)
    found = open_images(tmp_path)
    assert any("1 image has a colour profile: colours were converted to sRGB" in n for n in found.notes)
    assert any("2 images have a colour profile that is broken or of other channels" in n for n in found.notes)
    np.testing.assert_array_equal(found.images[16], RGB // 17)
