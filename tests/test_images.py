"""From folders, archives and arrays to one set: found, skipped, resized, split and kept."""

import errno
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reparam.data import cache, plan
from reparam.data.arrays import from_arrays
from reparam.data.imageset import ImageSet
from reparam.data.open import open_images, read_like
from reparam.data.parallel import in_parallel
from reparam.errors import DataError, ReparamError, UsageError


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    folder = tmp_path / "the-cache"
    monkeypatch.setenv("REPARAM_CACHE", str(folder))
    return folder


def noise(seed, height=16, width=16, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def put(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def photos(tmp_path):
    """Ten cats and ten dogs, 16×16, and files that are no images."""
    root = tmp_path / "photos"
    for i in range(20):
        put(root / ("cat" if i < 10 else "dog") / f"{i:02}.png", noise(i))
    (root / "README.md").write_text("hello")
    (root / "factors.csv").write_text("a,b")
    put(root / ".hidden" / "x.png", noise(99))
    (root / "cat" / "._01.png").write_bytes(b"junk")
    return root


def zipped(root, path, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root.parent))
    return path


def test_a_folder_gives_images_labels_and_classes(photos):
    found = open_images(photos)
    assert isinstance(found, ImageSet)
    assert found.images.shape == (20, 16, 16, 3) and found.images.dtype == np.uint8
    assert found.classes == ("cat", "dog") and found.labels.dtype == np.int64
    assert found.labels.tolist() == [0] * 10 + [1] * 10
    np.testing.assert_array_equal(found.images[13], noise(13))
    assert found.skipped == () and not found.test.any() and found.source == str(photos)
    assert not found.images.flags.writeable


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_archives_give_what_their_folder_gives(photos, tmp_path, kind):
    if kind == "zip":
        archive = zipped(photos, tmp_path / "photos.zip")
    else:
        archive = tmp_path / f"photos.{kind}"
        with tarfile.open(archive, "w:gz" if kind.endswith("gz") else "w") as tar:
            for file in sorted(photos.rglob("*.*"), reverse=True):
                tar.add(file, f"./{file.relative_to(photos.parent)}", recursive=False)
    before = sorted(tmp_path.rglob("*.png"))
    packed, plain = open_images(archive), open_images(photos)
    assert packed.fingerprint == plain.fingerprint
    np.testing.assert_array_equal(packed.images, plain.images)
    assert (packed.classes, packed.labels.tolist()) == (plain.classes, plain.labels.tolist())
    assert sorted(tmp_path.rglob("*.png")) == before


def test_odd_members_of_a_zip_are_skipped_with_a_reason(photos, tmp_path):
    archive = zipped(photos, tmp_path / "odd.zip")
    with zipfile.ZipFile(archive, "a") as added:
        added.writestr("photos/../../evil.png", b"x")
        added.writestr("photos/bad.png", b"this is text")
        added.writestr("__MACOSX/photos/cat/01.png", b"x")
        added.writestr(zipfile.ZipInfo("photos/huge.png"), bytes(2_000_000))
        link = zipfile.ZipInfo("photos/link.png")
        link.external_attr = 0xA000 << 16
        added.writestr(link, "cat/00.png")
        added.writestr("photos/broken.png", b"0123456789" * 50)
        added.writestr("photos/locked.png", b"secret")
    data = bytearray(archive.read_bytes())
    data[data.index(b"0123456789") + 3] ^= 1
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"photos/locked.png"))
    data[at + 8] |= 1
    archive.write_bytes(data)
    found = open_images(archive, max_pixels=1000)
    reasons = {each.name: each.reason for each in found.skipped}
    assert len(found.images) == 20
    assert "out of the archive" in reasons["photos/../../evil.png"]
    assert "not a PNG" in reasons["photos/bad.png"]
    assert "--max-pixels" in reasons["photos/huge.png"]
    assert reasons["photos/link.png"] == "a link"
    assert "CRC" in reasons["photos/broken.png"]
    assert reasons["photos/locked.png"] == "it is encrypted"
    assert len(reasons) == 6
    assert any("6 files could not be read" in note for note in found.notes)


def test_odd_members_of_a_tar_are_skipped(photos, tmp_path):
    archive = tmp_path / "odd.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(photos, "photos")
        link = tarfile.TarInfo("photos/secret.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert [tuple(each) for each in open_images(archive).skipped] == [
        ("photos/secret.png", "not a regular file")]


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x.tar"])
def test_broken_archives_are_data_errors(photos, tmp_path, name):
    whole = tmp_path / f"whole-{name}"
    if name.endswith("zip"):
        zipped(photos, whole)
    else:
        with tarfile.open(whole, "w:gz" if name.endswith("gz") else "w") as tar:
            tar.add(photos, "photos")
    (tmp_path / name).write_bytes(whole.read_bytes()[:3000])
    with pytest.raises(DataError):
        open_images(tmp_path / name)


@pytest.mark.parametrize("tests", ["test", "val", "valid"])
def test_train_and_test_folders_are_splits_with_labels_below(tmp_path, tests):
    root = tmp_path / "data"
    for i in range(20):
        put(root / ("train" if i < 14 else tests) / "ab"[i % 2] / f"{i}.png", noise(i))
    put(root / tests / "a" / "again.png", noise(0))
    found = open_images(root)
    held_out, kind = (found.test, "test") if tests == "test" else (found.validation, "validation")
    assert found.classes == ("a", "b") and held_out.sum() == 7
    assert any(f"1 {kind} image also occurs among the training images, where copies are left out" in n for n in found.notes)
    train, validation, test = found.split()
    np.testing.assert_array_equal(test if tests == "test" else validation, np.flatnonzero(held_out))
    assert not held_out[train].any() and not found.test[validation].any()
    assert not np.isin(found.digests[train], found.digests[held_out]).any()


def test_a_class_named_train_is_a_class(tmp_path):
    for i in range(18):
        put(tmp_path / "data" / ("train", "plane", "ship")[i % 3] / f"{i}.png", noise(i))
    found = open_images(tmp_path / "data")
    assert found.classes == ("plane", "ship", "train") and not found.test.any()


def test_unlabelled_test_images_and_numbered_classes(tmp_path):
    root = tmp_path / "data"
    for i in range(24):
        put(root / "train" / str(i) / "x.png", noise(i))
    put(root / "test" / "x.png", noise(50))
    found = open_images(root)
    assert found.classes == tuple(str(i) for i in range(24))
    assert found.labels[found.test].tolist() == [-1]
    assert sorted(found.labels[~found.test].tolist()) == list(range(24))
    assert any("1 image lies in no class's folder" in note for note in found.notes)


def test_test_folders_alone_are_trained_on(tmp_path):
    for i in range(18):
        put(tmp_path / "data" / ("test", "val")[i % 2] / f"{i}.png", noise(i))
    found = open_images(tmp_path / "data")
    assert not found.test.any() and found.labels is None


def test_one_folder_of_faces_has_no_labels(tmp_path):
    for i in range(16):
        put(tmp_path / "data" / "faces" / f"{i}.png", noise(i))
    found = open_images(tmp_path / "data")
    assert found.labels is None and found.classes == ()


def mixed(root, sizes, channels=3):
    for i, (width, height) in enumerate(sizes):
        put(root / f"{i:02}.png", noise(i, height, width, channels))
    return root


@pytest.mark.parametrize(("sizes", "options", "shape", "note"), [
    ([(28, 28)] * 16, {}, (28, 28), None),
    ([(40, 24)] * 16, {}, (24, 40), None),
    ([(28, 28)] * 16, {"image_size": 32}, (32, 32), "28×28"),
    ([(32, 32)] * 16, {"image_size": 32}, (32, 32), None),
    ([(200, 180)] * 16, {}, (64, 64), "all images are 200×180"),
    ([(100, 30)] * 16, {}, (32, 32), "the centre cut out"),
    ([(4, 4)] * 16, {}, (8, 8), "16 images are smaller than 8×8"),
    ([(20, 22)] * 10 + [(90, 80)] * 6, {}, (16, 16), "of 2 sizes the commonest is 20×22"),
    ([(200, 180)] * 10 + [(20, 20)] * 6, {}, (64, 64), "6 images are smaller than 64×64"),
])
def test_sizes_are_made_one_and_said(tmp_path, sizes, options, shape, note):
    found = open_images(mixed(tmp_path / "data", sizes), **options)
    assert found.images.shape[1:3] == shape
    resized = [each for each in found.notes if "resized" in each or "enlarged" in each]
    assert any(note in each for each in resized) if note else not resized


def test_arrays_follow_the_same_rule_as_files(tmp_path):
    files = open_images(mixed(tmp_path / "data", [(100, 30)] * 16))
    arrays = from_arrays(np.stack([noise(i, 30, 100) for i in range(16)]))
    np.testing.assert_array_equal(files.images, arrays.images)
    assert files.fingerprint == arrays.fingerprint and files.notes == arrays.notes


def test_grey_stays_grey_and_mixtures_become_rgb(tmp_path):
    grey = open_images(mixed(tmp_path / "grey", [(16, 16)] * 16, 1))
    assert grey.images.shape == (16, 16, 16, 1)
    put(tmp_path / "grey" / "colour.png", noise(77))
    both = open_images(tmp_path / "grey")
    assert both.images.shape == (17, 16, 16, 3)
    np.testing.assert_array_equal(both.images[0], np.repeat(grey.images[0], 3, 2))
    assert any("16 of 17 images are grey" in note for note in both.notes)


def test_background_keep_gives_alpha_to_all(tmp_path):
    grey = mixed(tmp_path / "grey", [(16, 16)] * 16, 1)
    assert open_images(grey, background="keep").images.shape[3] == 2
    color = mixed(tmp_path / "colour", [(16, 16)] * 16)
    put(color / "clear.png", noise(9, channels=4))
    kept = open_images(color, background="keep")
    assert kept.images.shape == (17, 16, 16, 4)
    np.testing.assert_array_equal(kept.images[16], noise(9, channels=4))
    drawn = open_images(color)
    assert any("1 image has transparency: drawn on white" in note for note in drawn.notes)


def test_npy_files_of_five_channels_must_agree(tmp_path):
    root = tmp_path / "cells"
    root.mkdir()
    for i in range(18):
        np.save(root / f"{i:02}.npy", noise(i, channels=5 if i else 3))
    found = open_images(root)
    assert found.images.shape == (17, 16, 16, 5)
    assert found.skipped == (("00.npy", "3 channels, unlike most files here"),)
    np.testing.assert_array_equal(found.images[0], noise(1, channels=5))


def test_dark_data_are_noted(tmp_path):
    values = (noise(1, 16, 16 * 16, 1).astype(np.uint16) * 16).reshape(16, 16, 16)
    dark = from_arrays(values)
    assert any("16 of 255" in note and "--value-range" in note for note in dark.notes)
    assert not from_arrays(values, value_range=(0, 4095)).notes


def test_unreadable_files_are_skipped_or_fatal(photos):
    whole = (photos / "cat" / "00.png").read_bytes()
    (photos / "cat" / "cut.png").write_bytes(whole[:len(whole) // 2])
    (photos / "dog" / "text.png").write_text("text")
    found = open_images(photos)
    assert [each.name for each in found.skipped] == ["cat/cut.png", "dog/text.png"]
    assert "truncated" in found.skipped[0].reason
    assert len(found.images) == len(found.labels) == len(found.digests) == len(found.test) == 20
    np.testing.assert_array_equal(found.images[10], noise(10))
    for _ in range(2):
        with pytest.raises(DataError, match=r"cat/cut\.png.*truncated|dog/text\.png.*not a PNG"):
            open_images(photos, on_bad="error")


def test_on_bad_error_stops_a_first_build(photos, cache_folder):
    (photos / "dog" / "text.png").write_text("text")
    with pytest.raises(DataError, match=r"dog/text\.png.*--on-bad skip"):
        open_images(photos, on_bad="error")
    assert list(cache_folder.iterdir()) == []


def test_too_few_images_say_what_is_wrong(tmp_path):
    root = mixed(tmp_path / "few", [(16, 16)] * 3)
    for i in range(5):
        (root / f"bad{i}.jpg").write_text("no")
    with pytest.raises(DataError) as caught:
        open_images(root)
    message = str(caught.value)
    assert "3 readable images, 5 not; at least 16" in message
    assert message.count("not a PNG") == 3 and "bad0.jpg" in message
    with pytest.raises(DataError, match="1 readable image;"):
        open_images(mixed(tmp_path / "one", [(16, 16)]))


def test_too_few_images_left_after_decoding(photos, cache_folder):
    for file in sorted(photos.rglob("[01]*.png"))[:6]:
        file.write_bytes(file.read_bytes()[:400])
    with pytest.raises(DataError, match=r"14 readable images, 6 not; .*or repair cat/00.png: the file is truncated"):
        open_images(photos)
    assert list(cache_folder.iterdir()) == []


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    (tmp_path / "phone").mkdir()
    with pytest.raises(DataError, match=r"no images in .*phone\. Accepted are PNG"):
        open_images(tmp_path / "phone")
    for i in range(3):
        (tmp_path / "phone" / f"{i}.HEIC").write_text("x")
    for i in range(3):
        (tmp_path / "phone" / f"{i}.CR2").write_text("x")
        (tmp_path / "phone" / f"{i}.mov").write_text("x")
    with pytest.raises(DataError, match=r"0 readable images, 6 not"):
        open_images(tmp_path / "phone")
    for file in (tmp_path / "phone").glob("*.HEIC"):
        file.unlink()
    with pytest.raises(DataError, match=r"which holds 3 \.mov files; 3 × CR2 files are not read: convert them to PNG"):
        open_images(tmp_path / "phone")


@pytest.mark.parametrize(("name", "message"), [
    ("photoz", r"no such folder or file: .*photoz' \(did you mean 'photos'\?\)\. .*a folder of images"),
    ("data.parquet", r"no such folder or file: 'data.parquet'\. Accepted are a folder"),
    ("notes.txt", "neither a folder nor a zip or tar"),
])
def test_sources_that_are_none(photos, monkeypatch, name, message):
    monkeypatch.chdir(photos.parent)
    Path("notes.txt").write_text("x")
    with pytest.raises(DataError, match=message):
        open_images(name)
    with pytest.raises(DataError, match=r"no such folder or file: 'digit' \(did you mean 'digits'"):
        open_images("digit")


@pytest.mark.parametrize("options", [
    {"image_size": 7}, {"image_size": 513}, {"max_pixels": 0}, {"max_pixels": 10**9},
    {"background": "pink"}, {"value_range": (1, 0)}, {"on_bad": "ignore"}])
def test_options_out_of_range_are_usage_errors(photos, options):
    with pytest.raises(UsageError):
        open_images(photos, **options)


def test_links_are_followed_once_and_broken_ones_named(photos, tmp_path):
    mixed(tmp_path / "elsewhere", [(16, 16)] * 3)
    (photos / "bird").symlink_to(tmp_path / "elsewhere")
    (photos / "bird" / "loop").symlink_to(photos)
    (photos / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(photos / "pipe.png")
    found = open_images(photos)
    assert len(found.images) == 23 and found.classes == ("bird", "cat", "dog")
    assert [each.name for each in found.skipped] == ["gone.png", "pipe.png"]


STACK = np.stack([noise(i) for i in range(20)])


@pytest.mark.parametrize(("array", "expected"), [
    (STACK, STACK),
    (STACK.transpose(0, 3, 1, 2), STACK),
    (STACK[..., 0], STACK[..., :1]),
    (STACK[..., 0] > 127, np.where(STACK[..., :1] > 127, 255, 0)),
    (STACK.astype(np.uint16) * 257, STACK),
    (STACK / 255, STACK),
    ((STACK / 255).astype(np.float32), STACK),
    (STACK.tolist(), None),
])
def test_arrays_of_each_type_and_layout(array, expected):
    if expected is None:  # a list of Python integers has no range of its own
        with pytest.raises(DataError, match=r"from 0 to 255.*--value-range LO,HI"):
            from_arrays(array)
        expected, array = STACK, np.asarray(array, np.uint8)
    np.testing.assert_array_equal(from_arrays(array).images, expected)


def test_nan_is_counted_and_placed_across_blocks(monkeypatch):
    monkeypatch.setattr("reparam.data.pixels._BLOCK", 1000)
    array = STACK / 255
    array[7, 3, 2, 1] = array[19, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match=r"2 values are NaN .* image 7, row 3, column 2, ch"):
        from_arrays(array)


@pytest.mark.parametrize("array", [np.zeros((20, 784)), np.zeros((480, 640, 3)), np.zeros(5),
                                   np.zeros((0, 8, 8)), np.zeros((20, 5, 64, 64))])
def test_arrays_of_other_shapes_are_refused(array):
    flat = array.shape == (20, 784)
    hint = r"reshape it to \(20, 28, 28\)" if flat else "is not a set of images"
    with pytest.raises(DataError, match=hint):
        from_arrays(array)
    with pytest.raises(DataError, match="differ in shape"):
        from_arrays([np.zeros((8, 8)), np.zeros((8, 9))])


def test_labels_are_numbers_or_names_one_for_each_image():
    assert from_arrays(STACK, np.arange(20.0)[:, None]).labels.tolist() == list(range(20))
    named = from_arrays(STACK, ["dog", "cat"] * 10)
    assert named.classes == ("cat", "dog") and named.labels.tolist() == [1, 0] * 10
    assert from_arrays(STACK, np.array([b"b", b"a"] * 10)).classes == ("a", "b")
    with pytest.raises(DataError, match=r"19 labels.*20 images"):
        from_arrays(STACK, np.zeros(19, int))
    for bad in (np.full(20, 0.5), np.full(20, np.nan)):
        with pytest.raises(DataError, match="neither whole numbers nor names"):
            from_arrays(STACK, bad)
    with pytest.raises(DataError, match="15 readable images"):
        from_arrays(STACK[:15])


def test_npy_is_mapped_and_not_copied(tmp_path, cache_folder):
    np.save(tmp_path / "x.npy", STACK)
    found = open_images(tmp_path / "x.npy")
    np.testing.assert_array_equal(found.images, STACK)
    base = found.images
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap) and not cache_folder.exists()


@pytest.mark.parametrize("keys", [
    ("images", "labels", None, None), ("x", "y", None, None), ("X", "Y", None, None),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"), ("anything", None, None, None)])
def test_npz_keys(tmp_path, keys):
    arrays = (STACK[:17], np.arange(17), STACK[17:], np.arange(17, 20))
    path = tmp_path / "x.npz"
    np.savez(path, **{key: array for key, array in zip(keys, arrays, strict=True) if key})
    found = open_images(path)
    n = 20 if keys[2] else 17
    np.testing.assert_array_equal(found.images, STACK[:n])
    assert found.test.tolist() == [i >= 17 for i in range(n)]
    assert (found.labels is None) if keys[1] is None else found.labels.tolist() == list(range(n))


def test_bad_array_files_are_data_errors(tmp_path):
    np.savez(tmp_path / "keys.npz", a=STACK, b=STACK)
    with pytest.raises(DataError, match="has the keys a, b; accepted are images and labels"):
        open_images(tmp_path / "keys.npz")
    np.savez(tmp_path / "length.npz", x_train=STACK, y_train=np.zeros(20), x_test=STACK,
             y_test=np.zeros(19))
    with pytest.raises(DataError, match="19 test labels for 20 images"):
        open_images(tmp_path / "length.npz")
    np.savez(tmp_path / "shape.npz", x_train=STACK, x_test=STACK[:, :8])
    with pytest.raises(DataError, match="must agree"):
        open_images(tmp_path / "shape.npz")
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    whole = io.BytesIO()
    np.save(whole, STACK)
    (tmp_path / "cut.npy").write_bytes(whole.getvalue()[:5000])
    (tmp_path / "text.npz").write_text("hello")
    for name in ("objects.npy", "cut.npy", "text.npz"):
        with pytest.raises(DataError, match=f"{name} cannot be read"):
            open_images(tmp_path / name)


def test_the_bundled_digits():
    found = open_images("digits")
    assert found.images.shape == (1797, 8, 8, 1) and found.images.max() == 255
    assert found.classes == tuple("0123456789") and found.labels[:3].tolist() == [0, 1, 2]
    assert set(np.unique(found.images)) == {int(i * 255 / 16 + 0.5) for i in range(17)}


many = st.lists(st.integers(0, 60), min_size=16, max_size=80).filter(lambda s: len(set(s)) > 1)
SMALL = np.random.default_rng(8).integers(0, 256, (64, 8, 8), np.uint8)


@settings(max_examples=60, deadline=None)
@given(many, st.floats(0.01, 0.99))
def test_splits_are_disjoint_and_copies_never_straddle(indices, fraction):
    found = from_arrays(SMALL[indices])
    parts = found.split(fraction)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(indices)))
    train, validation = ({indices[i] for i in part.tolist()} for part in parts[:2])
    assert train and validation and not train & validation


@settings(max_examples=60, deadline=None)
@given(many, st.lists(st.integers(0, 60), max_size=40))
def test_an_image_stays_on_its_side_as_the_data_grow(indices, more):
    found, grown = (from_arrays(SMALL[list(i)]) for i in (indices, indices + more))
    if (found.digests[found.split(0.3)[1]] < 0.3 * 2**64).all():
        new = set(grown.split(0.3)[1].tolist())
        assert set(found.split(0.3)[1].tolist()) == {i for i in new if i < len(indices)}


def test_the_split_follows_the_digests_and_the_fraction():
    found = from_arrays(np.random.default_rng(0).integers(0, 256, (3000, 8, 8), np.uint8))
    train, validation, _ = found.split(0.1)
    assert 240 < len(validation) < 360
    assert found.digests[validation].max() < 0.1 * 2**64 <= found.digests[train].min()


def test_splits_that_cannot_be_made():
    with pytest.raises(DataError, match="1 different images"):
        from_arrays(np.repeat(STACK[:1], 16, 0)).split()
    for fraction in (0, 1, -1):
        with pytest.raises(UsageError):
            from_arrays(STACK).split(fraction)


def test_copies_are_noted_and_the_fingerprint_sees_everything():
    twice = from_arrays(np.concatenate([STACK, STACK[:3]]))
    assert any("3 images are copies" in note for note in twice.notes)
    labels = np.arange(20)
    prints = [from_arrays(STACK).fingerprint, from_arrays(STACK[::-1]).fingerprint,
              from_arrays(STACK, labels).fingerprint, from_arrays(STACK, labels[::-1]).fingerprint,
              from_arrays(STACK, labels, classes=tuple("abcdefghijklmnopqrst")).fingerprint,
              from_arrays(STACK, test=labels > 17).fingerprint, twice.fingerprint]
    assert len(set(prints)) == len(prints)
    assert from_arrays(STACK.copy(), source="other").fingerprint == prints[0]


def refuse(*_, **__):
    raise AssertionError("decoded again")


def test_a_second_open_decodes_nothing(photos, monkeypatch):
    seen = []
    first = open_images(photos, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 20) for i in range(1, 21)]
    monkeypatch.setattr(plan, "read_contents", refuse)
    monkeypatch.setattr(plan, "read_header", refuse)
    second = open_images(photos)
    np.testing.assert_array_equal(first.images, second.images)
    for field in ("classes", "skipped", "notes", "source", "fingerprint"):
        assert getattr(first, field) == getattr(second, field)
    for field in ("labels", "digests", "test"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))


@pytest.mark.parametrize("change", ["pixels", "name", "option"])
def test_the_cache_is_keyed_by_content_names_and_options(photos, cache_folder, change):
    first = open_images(photos)
    options = {}
    if change == "pixels":
        stamp = (photos / "cat" / "03.png").stat()
        put(photos / "cat" / "03.png", noise(500))
        os.utime(photos / "cat" / "03.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    elif change == "name":
        (photos / "cat").rename(photos / "lynx")
    else:
        options = {"image_size": 8}
    second = open_images(photos, **options)
    assert first.fingerprint != second.fingerprint and len(list(cache_folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "missing", "words", "rows"])
def test_a_damaged_entry_is_rebuilt(photos, cache_folder, damage):
    first = np.array(open_images(photos).images)
    entry = next(cache_folder.iterdir())
    if damage == "cut":
        os.truncate(entry / "images.npy", 500)
    elif damage == "missing":
        (entry / "arrays.npz").unlink()
    elif damage == "words":
        (entry / "words.json").write_text("{")
    else:
        np.save(entry / "images.npy", first[:-1])
    np.testing.assert_array_equal(open_images(photos).images, first)
    assert [each.name for each in cache_folder.iterdir()] == [entry.name]


def test_an_interrupted_build_leaves_nothing_that_is_taken_for_whole(photos, cache_folder):
    def interrupt(done, total):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        open_images(photos, progress=interrupt)
    assert all(each.name.startswith(".") for each in cache_folder.iterdir())
    assert len(open_images(photos).images) == 20
    assert len(list(cache_folder.iterdir())) == 1, "it went on with what was there, and left no more"


def test_leftovers_of_dead_processes_are_removed_and_of_living_ones_kept(photos, cache_folder):
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    cache_folder.mkdir()
    for pid in (dead, os.getppid()):
        (cache_folder / f"{cache._prefix()}{pid}-abc").mkdir()
    (cache_folder / f".elsewhere-{dead}-abc").mkdir()
    open_images(photos)
    left = {each.name for each in cache_folder.iterdir() if each.name.startswith(".")}
    assert left == {f"{cache._prefix()}{os.getppid()}-abc", f".elsewhere-{dead}-abc"}


def test_a_full_disk_names_the_cache_and_leaves_nothing(photos, cache_folder, monkeypatch):
    def full(self, index, image, digest):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(cache.Rows, "put", full)
    with pytest.raises(ReparamError, match=r"No space left.*REPARAM_CACHE") as caught:
        open_images(photos)
    assert str(cache_folder) in str(caught.value) and list(cache_folder.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(photos, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path / "file"))
    with pytest.raises(ReparamError, match="REPARAM_CACHE"):
        open_images(photos)


def test_without_the_variable_the_cache_is_at_home(monkeypatch, tmp_path):
    monkeypatch.delenv("REPARAM_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache" / "reparam"


def test_what_waits_for_a_core_is_bounded():
    taken = []

    def files():
        for i in range(5000):
            taken.append(i)
            yield str(i), i
    results = in_parallel(lambda i: i * 2, files())
    assert next(results) == ("0", 0)
    assert len(taken) <= 64 * ((os.cpu_count() or 1) + 3)
    assert [value for _, value in results] == [2 * i for i in range(1, 5000)]


def shape_of(found):
    height, width, channels = found.images.shape[1:]
    return channels, height, width


@pytest.mark.parametrize("options", [
    {}, {"image_size": 24}, {"image_size": 24, "background": "keep"}, {"background": "#204060"}])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P"])
def test_a_file_is_read_like_the_training_image_it_was(tmp_path, mode, options):
    for i in range(16):
        picture = Image.fromarray(noise(i, 40, 30, 4)).convert(mode)
        picture.save(tmp_path / f"{i:02}.png")
    found = open_images(tmp_path, **options)
    files = sorted(tmp_path.glob("*.png"))
    read = read_like([str(files[9]), files[2]], shape_of(found), background=options.get("background", "white")).images
    assert read.dtype == np.uint8 and read.flags.c_contiguous
    np.testing.assert_array_equal(read, found.images[[9, 2]])


def test_a_large_jpeg_is_read_like_the_training_image_it_was(tmp_path):
    for i in range(16):
        Image.fromarray(noise(i, 30, 40)).resize((800, 600)).save(tmp_path / f"{i:02}.jpg")
    found = open_images(tmp_path)
    read = read_like(sorted(tmp_path.glob("*.jpg")), shape_of(found)).images
    np.testing.assert_array_equal(read, found.images)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_stated_range_is_applied_to_single_files(tmp_path, dtype):
    for i in range(16):
        np.save(tmp_path / f"{i:02}.npy", (noise(i, channels=1) * 16.0).astype(dtype))
    found = open_images(tmp_path, value_range=(0, 4095))
    read = read_like(sorted(tmp_path.glob("*.npy")), shape_of(found), value_range=(0, 4095)).images
    np.testing.assert_array_equal(read, found.images)


def test_a_grey_model_reads_colour_as_luma_and_a_colour_model_grey_as_rgb(tmp_path):
    color, grey = noise(1), noise(2, channels=1)
    put(tmp_path / "colour.png", color)
    put(tmp_path / "grey.png", grey)
    luma = np.asarray(Image.fromarray(color).convert("L"))
    files = [tmp_path / "colour.png", tmp_path / "grey.png"]
    np.testing.assert_array_equal(read_like(files, (1, 16, 16)).images, np.stack([luma, grey])[..., None])
    np.testing.assert_array_equal(read_like(files, (3, 16, 16)).images, np.stack([color, np.stack([grey] * 3, -1)]))


def test_alpha_is_kept_where_the_model_has_it_and_drawn_on_the_background_elsewhere(tmp_path):
    clear = noise(3, channels=4)
    clear[..., 3] = np.where(clear[..., 3] > 127, 255, 0)
    put(tmp_path / "clear.png", clear)
    put(tmp_path / "opaque.png", noise(4))
    files, hidden = [tmp_path / "clear.png", tmp_path / "opaque.png"], clear[..., 3:] == 0
    kept = read_like(files, (4, 16, 16), background="keep").images
    np.testing.assert_array_equal(kept[0], clear)
    np.testing.assert_array_equal(kept[1], np.dstack([noise(4), np.full((16, 16), 255, np.uint8)]))
    grey = read_like(files, (2, 16, 16), background="keep").images
    np.testing.assert_array_equal(grey[0, ..., 0], np.asarray(Image.fromarray(clear[..., :3]).convert("L")))
    np.testing.assert_array_equal(grey[..., 1], kept[..., 3])
    for background, behind in [("black", 0), ("white", 255), ("keep", 255)]:
        read = read_like(files[:1], (3, 16, 16), background=background).images
        np.testing.assert_array_equal(read[0], np.where(hidden, behind, clear[..., :3]))


@pytest.mark.parametrize(("channels", "background"), [(5, "white"), (4, "white"), (4, "keep"), (2, "keep")])
def test_a_model_of_other_channels_reads_npy_files_of_as_many(tmp_path, channels, background):
    many = tmp_path / "many"
    many.mkdir()
    for i in range(16):
        np.save(many / f"{i:02}.npy", noise(i, 20, 20, channels))
    found = open_images(many, image_size=16, background=background)
    assert shape_of(found) == (channels, 16, 16)
    read = read_like(sorted(many.iterdir()), (channels, 16, 16), background=background).images
    np.testing.assert_array_equal(read, found.images)
    np.save(tmp_path / "seven.npy", noise(1, channels=7))
    with pytest.raises(DataError, match=rf"seven\.npy: 7 channels, where the model's images have {channels}"):
        read_like([tmp_path / "seven.npy"], (channels, 16, 16), background=background)
    if background == "white":
        put(tmp_path / "colour.png", noise(1))
        with pytest.raises(DataError, match=rf"colour\.png: the model's images have {channels} channels: only an NPY"):
            read_like([tmp_path / "colour.png"], (channels, 16, 16))


def test_files_that_cannot_be_read_like_the_training_images_are_named(photos, tmp_path):
    good = photos / "cat" / "01.png"
    (tmp_path / "text.png").write_text("this is text")
    (tmp_path / "short.png").write_bytes(good.read_bytes()[:300])
    os.mkfifo(tmp_path / "pipe.png")
    for name, message in [
            (photos / "cat" / "O1.png", r"no such file: '.*O1\.png' \(did you mean '0?1\.png'"),
            (tmp_path / "nowhere" / "a.png", r"no such file: '.*a\.png'$"),
            (photos, r"'.*photos' is a folder: name it alone, or image files")]:
        with pytest.raises(DataError, match=message):
            read_like([good, name], (3, 16, 16))
    for name, message in [
            (tmp_path / "text.png", r"cannot read .*text\.png: not a PNG"),
            (tmp_path / "short.png", r"cannot read .*short\.png: .*truncated"),
            (tmp_path / "pipe.png", r"cannot read .*pipe\.png: not a regular file")]:
        with pytest.raises(DataError, match=message):
            read_like([name], (3, 16, 16))
        read = read_like([name, good], (3, 16, 16))
        assert read.names == (str(good),) and len(read.images) == 1
        ((left_out, reason),) = read.skipped
        assert left_out == str(name) and re.search(message, f"cannot read {left_out}: {reason}")
        with pytest.raises(DataError, match="Repair or remove it"):
            read_like([good, name], (3, 16, 16), on_bad="error")
    with pytest.raises(UsageError, match="no background"):
        read_like([good], (3, 16, 16), background="pink")
    with pytest.raises(DataError, match=r"2 files has 0 readable images, 2 not; at least 1 is needed"):
        read_like([tmp_path / "text.png", tmp_path / "short.png"], (3, 16, 16))


def test_a_source_joins_the_images_of_a_model(tmp_path):
    """A folder, an archive and an array of few images, grey or colour, of any size: as each file by itself, and named."""
    folder = tmp_path / "few"
    for name, channels in [("b/1.png", 3), ("a/2.png", 1), ("a/0.png", 4)]:
        put(folder / name, noise(channels, 24, 20, channels))
    (folder / "a" / "1.png").write_bytes(b"junk")
    files = [folder / name for name in ("a/0.png", "a/2.png", "b/1.png")]
    archive = Path(shutil.make_archive(str(tmp_path / "few"), "gztar", tmp_path, "few"))
    for shape in ((1, 16, 16), (3, 8, 12)):
        one_by_one = read_like(files, shape)
        for source, top in [(folder, ""), (archive, "few/")]:
            for _ in range(2):  # decoded, and from the cache
                found = read_like([source], shape)
                np.testing.assert_array_equal(found.images, one_by_one.images)
                assert found.names == (f"{top}a/0.png", f"{top}a/2.png", f"{top}b/1.png")
                assert found.labels.tolist() == [0, 0, 1] and found.classes == ("a", "b")
                assert [each.name for each in found.skipped] == [f"{top}a/1.png"]
        assert one_by_one.labels is None and one_by_one.names == tuple(map(str, files))
    grey = noise(5, channels=1)
    np.save(tmp_path / "set.npy", np.stack([grey, grey.T]))
    np.save(tmp_path / "one.npy", grey)
    found = read_like([tmp_path / "set.npy"], (3, 16, 16))
    assert found.names == ("0", "1")
    np.testing.assert_array_equal(found.images, np.stack([np.stack([grey] * 3, -1), np.stack([grey.T] * 3, -1)]))
    np.testing.assert_array_equal(read_like([tmp_path / "one.npy"], (3, 16, 16)).images, found.images[:1])
    assert read_like(["digits"], (3, 12, 12)).images.shape == (1797, 12, 12, 3)
    with pytest.raises(DataError, match="16 channels, where the model's images have 5"):
        read_like([tmp_path / "set.npy"], (5, 16, 16))
    with pytest.raises(DataError, match="digits: 1 channels, where the model's images have 5"):
        read_like(["digits"], (5, 16, 16))


def test_reading_images_needs_no_torch_and_no_scikit_learn(photos):
    code = ("import sys; from reparam.data import open_images\n"
            f"open_images({str(photos)!r}); print({{'torch', 'sklearn'}} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
