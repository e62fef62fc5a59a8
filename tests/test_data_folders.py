"""Folders and archives as people have them: splits, links, what devices leave, runs, and what was packed to harm."""

import gzip
import io
import lzma
import os
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reparam.data import archives as members
from reparam.data import tarfiles
from reparam.data.arrays import from_arrays
from reparam.data.folders import read_folders
from reparam.data.open import open_images
from reparam.errors import DataError


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path / "the-cache"))


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)


def put(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed)).save(path)


def png(seed):
    stream = io.BytesIO()
    Image.fromarray(noise(seed)).save(stream, "PNG")
    return stream.getvalue()


def said(*names):
    found = read_folders([f"{name}.png" for name in names])
    labels = None if found.labels is None else [found.classes[i] if i >= 0 else "" for i in found.labels]
    return labels, "".join("t" if t else "v" if v else "-" for t, v in zip(found.test, found.validation, strict=True))


@pytest.mark.parametrize(("names", "labels", "parts"), [
    (("train/train/cat/1", "train/train/dog/2", "test/test/cat/3", "test/test/dog/4"), ["cat", "dog", "cat", "dog"], "--tt"),
    (("a/train/x/cat/1", "a/train/x/dog/2", "a/Test/y/z/dog/4"), ["cat", "dog", "dog"], "--t"),
    (("train/cat/1", "train/dog/2", "val/cat/3", "test/dog/4"), ["cat", "dog", "cat", "dog"], "--vt"),
    (("train/cat/1", "train/dog/2", "test/cat/3"), ["cat", "dog", "cat"], "--t"),
    (("train/cat/1", "test/dog/2"), ["cat", "dog"], "-t"),
    (("train/1", "test/test/2"), None, "-t"),
    (("cat/train/1", "cat/test/2", "dog/train/3", "dog/test/4"), ["cat", "cat", "dog", "dog"], "-t-t"),
    (("cat/train/1", "cat/2", "dog/test/3"), ["cat", "cat", "dog"], "---"),
    (("train/1", "plane/2"), ["train", "plane"], "--"),
    (("val/cat/1", "test/dog/2"), ["cat", "dog"], "--"),
    (("cat/1", "2"), None, "--"),
])
def test_labels_and_splits_come_from_the_folders_that_differ(names, labels, parts):
    assert said(*names) == (labels, parts)


def test_a_link_has_the_label_of_its_place_unless_its_target_is_read_already(tmp_path):
    data, outside = tmp_path / "data", tmp_path / "outside"
    for i in range(20):
        put(data / ("cats" if i % 2 else "dogs") / f"{i}.png", i)
        put(outside / f"{i}.png", 100 + i)
    (data / "aaa").symlink_to("cats")                        # beside the folder, before and after it
    (data / "zzz").symlink_to(data / "dogs")
    (data / "birds").symlink_to(outside)                     # elsewhere
    (data / "foxes").symlink_to(outside)                     # the same again
    (data / "cats" / "up").symlink_to(data)                  # a loop
    (data / "dogs" / "self").symlink_to(data / "dogs" / "self")
    (data / "best").mkdir()
    (data / "best" / "1.png").symlink_to(data / "cats" / "1.png")
    found = open_images(data)
    assert found.classes == ("birds", "cats", "dogs") and len(found.images) == 40
    assert any("5 links lead to files or folders that are read already" in note for note in found.notes)


def test_copies_that_devices_make_are_no_images(tmp_path):
    for i in range(18):
        put(tmp_path / "d" / f"{i}.png", i)
    for name in ("@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", ".thumbnails/1.jpg", "__MACOSX/1.png", "._1.png", "#recycle/x.png",
                 "$RECYCLE.BIN/x.png", "@__thumb/1.jpg", "below/@eaDir/1.jpg"):
        put(tmp_path / "d" / name, 50)
    (tmp_path / "d" / "Thumbs.db").write_bytes(b"x")
    found = open_images(tmp_path / "d")
    assert len(found.images) == 18 and found.labels is None and found.skipped == ()


@pytest.mark.parametrize("packed", [False, True])
def test_a_run_inside_the_data_is_no_data(tmp_path, packed):
    data = tmp_path / "data"
    for i in range(18):
        put(data / ("a" if i % 2 else "b") / f"{i}.png", i)
    for name in ("runs/x/samples.png", "runs/x/new/1.png", "runs/y/curves.png"):
        put(data / name, 70)
    for name in ("runs/x/run.json", "runs/x/config.json", "runs/y/run.json", "runs/y/metrics.jsonl"):
        (data / name).write_text("{}")
    (data / "a" / "run.json").write_text("{}")  # by itself it says nothing
    if packed:
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
            for file in sorted(data.rglob("*.*")):
                archive.write(file, file.relative_to(data))
    found = open_images(tmp_path / "data.zip" if packed else data)
    assert found.classes == ("a", "b") and len(found.images) == 18
    assert any("3 pictures lie in 2 folders that hold a run" in note and "runs/x" in note for note in found.notes)
    (data / "run.json").write_text("{}")
    (data / "config.json").write_text("{}")
    if not packed:
        with pytest.raises(DataError, match=r"no images in .*hold a run"):
            open_images(data)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_made_on_windows_has_folders(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data\\cat\\", b"")
            for i in range(18):
                archive.writestr(f"data\\{'cat' if i % 2 else 'dog'}\\{i}.png", png(i))
    else:
        with tarfile.open(path, "w") as archive:
            for i in range(18):
                info = tarfile.TarInfo(f"data\\{'cat' if i % 2 else 'dog'}\\{i}.png")
                info.size = len(png(i))
                archive.addfile(info, io.BytesIO(png(i)))
    assert open_images(path).classes == ("cat", "dog")


@pytest.mark.parametrize("name", ["pipe", "pipe.npy", "pipe.zip"])
def test_what_would_be_waited_on_for_ever_is_refused(tmp_path, name):
    os.mkfifo(tmp_path / name)
    for source in (tmp_path / name, Path("/dev/zero")):
        with pytest.raises(DataError, match="not a regular file or folder"):
            open_images(source)
        with pytest.raises(DataError, match="not a regular file or folder"), members.members(source, 1):
            pass


def test_names_that_are_not_utf8_are_read_and_kept(tmp_path):
    data = os.fsencode(tmp_path / "d")
    for i in range(20):
        put(tmp_path / "plain" / f"{i}.png", i)
    (tmp_path / "d").mkdir()
    for folder in (b"caf\xe9", b"tea"):
        Path(os.fsdecode(data + b"/" + folder)).mkdir()
    for i in range(20):
        name = (b"/caf\xe9/" if i % 2 else b"/tea/") + b"%d\xff.png" % i
        (tmp_path / "plain" / f"{i}.png").rename(os.fsdecode(data + name))
    Path(os.fsdecode(data + b"/tea/br\xfc.png")).write_bytes(b"junk")
    first, second = open_images(tmp_path / "d"), open_images(tmp_path / "d")  # the second from the cache
    assert first.classes == second.classes == (os.fsdecode(b"caf\xe9"), "tea")
    assert first.skipped == second.skipped and os.fsencode(first.skipped[0].name) == b"tea/br\xfc.png"
    assert first.names == second.names and os.fsencode(first.names[0]).endswith(b"\xff.png")


def tar_with(header_type, size, path, count=18):
    """A .tar.gz with an extended header of `size` zeros in front of its last image."""
    with gzip.open(path, "wb", 1) as stream:
        for i in range(count):
            if i == count - 1:
                info = tarfile.TarInfo("x")
                info.type, info.size = header_type, size
                stream.write(info.tobuf(tarfile.GNU_FORMAT))
                for _ in range(size >> 16):
                    stream.write(bytes(1 << 16))
            info = tarfile.TarInfo(f"{i}.png")
            info.size = len(png(i))
            stream.write(info.tobuf() + png(i) + bytes(-len(png(i)) % 512))
        stream.write(bytes(1024))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_long_header_of_a_tar_is_refused_and_not_read(tmp_path, kind):
    tar_with(kind, 32 << 20, tmp_path / "x.tar.gz")
    tracemalloc.start()
    with pytest.raises(DataError, match="a header of more than 1,048,576 bytes"):
        open_images(tmp_path / "x.tar.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_headers_of_many_files_are_not_counted_together(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for i in range(2100):
            archive.addfile(tarfile.TarInfo(f"{i}.txt"))
        for i in range(16):
            info = tarfile.TarInfo(f"{i}.png")
            info.size = len(png(i))
            archive.addfile(info, io.BytesIO(png(i)))
    assert len(open_images(tmp_path / "x.tar").images) == 16


def test_many_headers_before_one_file_are_bounded_together(tmp_path):
    with gzip.open(tmp_path / "x.tar.gz", "wb", 1) as stream:
        info = tarfile.TarInfo("x")
        info.type, info.size = tarfile.XGLTYPE, 1 << 16
        for _ in range(40):
            stream.write(info.tobuf() + b"65536 a=".ljust(65535, b"b") + b"\n")
    with pytest.raises(DataError, match="a header of more than"):
        open_images(tmp_path / "x.tar.gz")


def test_more_files_than_the_bound_are_refused(tmp_path, monkeypatch):
    tar_with(tarfile.GNUTYPE_LONGNAME, 0, tmp_path / "x.tar.gz")
    monkeypatch.setattr(tarfiles, "MOST_FILES", 10)
    with pytest.raises(DataError, match="more than 10 files"):
        open_images(tmp_path / "x.tar.gz")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_long_file_in_an_archive_is_left_out_unread(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(members, "MOST_BYTES", 1 << 20)
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for i in range(18):
                archive.writestr(f"{i}.png", png(i))
            archive.writestr("long.png", bytes(32 << 20))
    else:
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            for name, data in [*((f"{i}.png", png(i)) for i in range(18)), ("long.png", bytes(32 << 20))]:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    tracemalloc.start()
    found = open_images(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.images) == 18 and peak < 16 << 20
    assert [each.name for each in found.skipped] == ["long.png"] and "unpack the archive" in found.skipped[0].reason


def test_what_waits_of_an_archive_is_bounded_in_bytes(monkeypatch):
    from reparam.data import parallel
    from reparam.data.decode import Named

    monkeypatch.setattr(parallel, "MOST_WAITING", 40)
    monkeypatch.setattr(parallel, "_BATCH_BYTES", 5)
    monkeypatch.setattr(parallel.os, "cpu_count", lambda: 16)
    taken = []

    def files():
        for i in range(100):
            taken.append(i)
            yield str(i), Named(str(i), bytes(10))

    results = parallel.in_parallel(lambda file: len(file.data), files())
    assert next(results) == ("0", 10) and len(taken) <= 6
    assert len(list(results)) == 99


def test_an_archive_packed_a_thousandfold_takes_little_memory(tmp_path):
    path = tmp_path / "x.zip"
    packed = zlib.compressobj(1, zlib.DEFLATED, -15)
    body = packed.compress(bytes(200 << 20)) + packed.flush()
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(18):
            archive.writestr(f"{i}.png", png(i))
        for i in range(3):
            info = zipfile.ZipInfo(f"long{i}.png")
            archive.writestr(info, body)
    raw = bytearray(path.read_bytes())
    for i in range(3):  # the bodies are deflated already: say so
        for start, method, sizes in ((raw.index(b"PK\3\4", raw.index(b"long%d" % i) - 34), 8, 22),
                                     (raw.rindex(b"PK\1\2", 0, raw.rindex(b"long%d" % i)), 10, 24)):
            raw[start + method:start + method + 2] = (8).to_bytes(2, "little")
            raw[start + sizes:start + sizes + 4] = (200 << 20).to_bytes(4, "little")
    path.write_bytes(raw)
    # VmHWM begins anew with the program; ru_maxrss would count what the process that started it had
    code = ("import sys; from reparam.data import open_images; found = open_images(sys.argv[1]);"
            "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'));"
            "print(len(found.images), len(found.skipped), int(peak.split()[1]) >> 10)")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    images, skipped, megabytes = map(int, done.stdout.split())
    assert (images, skipped) == (18, 3) and megabytes < 400


def with_a_huge_dictionary(packed):
    """An .xz stream whose block asks for a dictionary of 1 GiB (36 in the LZMA2 filter), with its header's checksum."""
    header = bytearray(packed[12:12 + 4 * (packed[12] + 1)])
    assert header[1:4] == b"\0\x21\x01"
    header[4] = 36
    header[-4:] = zlib.crc32(header[:-4]).to_bytes(4, "little")
    return packed[:12] + bytes(header) + packed[12 + len(header):]


@pytest.mark.parametrize("huge", ["no", "first", "second"])
def test_a_dictionary_of_gigabytes_is_refused_in_every_stream_of_an_xz(tmp_path, huge):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for i in range(18):
            data = png(i)
            info = tarfile.TarInfo(f"{i:02}.png")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    parts = [lzma.compress(part) for part in (stream.getvalue()[:9000], stream.getvalue()[9000:])]
    parts = [with_a_huge_dictionary(part) if huge == name else part
             for name, part in zip(("first", "second"), parts, strict=True)]
    (tmp_path / "a.tar.xz").write_bytes(parts[0] + bytes(8) + parts[1] + bytes(4))
    if huge == "no":
        assert len(open_images(tmp_path / "a.tar.xz").images) == 18
    else:
        with pytest.raises(DataError, match=r"a\.tar\.xz.*(?i:memory)"):
            open_images(tmp_path / "a.tar.xz")


def test_a_set_is_printed_on_one_line():
    found = from_arrays(np.stack([noise(i) for i in range(20)]), list("abcdefghij") * 2, test=np.arange(20) > 16)
    assert repr(found) == str(found) == (
        "<ImageSet 'array': 20 images of 8×8×1; 10 classes (a, b, c, d, e, …); 3 for test>")
