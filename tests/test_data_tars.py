"""Shards of WebDataset: tars whose files share names, read by an index; broken ones, and what was packed to harm."""

import io
import itertools
import json
import tarfile

import fsspec
import numpy as np
import pytest
from test_data_shards import cache_folder, pixels, png  # noqa: F401 (the fixture)

from reparam.data import open_images, tars
from reparam.errors import DataError


def add(archive, name, data, **told):
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(data), 1
    for key, value in told.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(data))


def shard(path, numbers, *, label=None, mode="w"):
    """A tar of pictures with these numbers; `label` makes the ending and the contents of what stands beside each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for i in numbers:
            add(archive, f"{i:06d}.png", png(i))
            if label:
                ending, contents = label(i)
                add(archive, f"{i:06d}.{ending}", contents)
            add(archive, f"{i:06d}.caption.txt", b"a picture")


@pytest.mark.parametrize(("label", "classes", "first"), [
    (None, (), None),
    (lambda i: ("cls", str(3 + 4 * (i % 2)).encode()), ("3", "7"), [0, 1]),
    (lambda i: ("cls", b"dog" if i % 2 else b"cat\n"), ("cat", "dog"), [0, 1]),
    (lambda i: ("json", json.dumps({"caption": "x", "label": i % 2}).encode()), ("0", "1"), [0, 1]),
    (lambda i: ("json", b'{"label": "dog"}' if i % 2 else b"{"), ("dog",), [-1, 0]),
])
def test_labels_stand_beside_images(tmp_path, label, classes, first):
    shard(tmp_path / "d" / "train-0.tar", range(20), label=label)
    shard(tmp_path / "d" / "test-0.tar", range(20, 30), label=label)
    found = open_images(tmp_path / "d")
    assert [len(part) for part in found.split()][2] == 10 and len(found) == 30 and found.classes == classes
    rows = [int(n.partition("#")[2].split()[0]) + 20 * n.startswith("test") for n in found.names]
    assert np.array_equal(found.images, [pixels(i) for i in rows])
    assert (None if first is None else [first[i % 2] for i in rows]) == (
        None if found.labels is None else found.labels.tolist())


def test_a_tar_of_a_folder_is_a_folder_and_one_of_webdataset_is_a_shard(tmp_path):
    with tarfile.open(tmp_path / "folder.tar", "w") as archive:
        for i in range(20):
            add(archive, f"{'ab'[i % 2]}/{i}.png", png(i))
    assert open_images(tmp_path / "folder.tar").classes == ("a", "b")
    shard(tmp_path / "shard.tar", range(20), label=lambda i: ("cls", b"%d" % (i % 2)))
    assert open_images(tmp_path / "shard.tar").names[0] == "shard.tar#0 000000.png"


def test_tars_are_streamed_and_resumed_in_one_order_at_an_address(tmp_path, monkeypatch):
    monkeypatch.setattr(tars, "GROUP_ROWS", 8)
    memory = fsspec.filesystem("memory")
    for k in range(3):
        shard(tmp_path / f"train-{k}.tar", range(40 * k, 40 * k + 40), label=lambda i: ("cls", b"%d" % (i % 3)))
        memory.put(str(tmp_path / f"train-{k}.tar"), f"/tars/train-{k}.tar")
    streamed = open_images("memory://tars", stream=True).streamed
    assert streamed.sizes != [40] * 3 and max(streamed.sizes) <= 8

    def drawn(start, count):
        return [(x.sum((1, 2, 3)).tolist(), y.tolist())
                for x, y in itertools.islice(streamed.batches(7, 5, start, 0, 1), count)]

    whole = drawn(0, 40)
    assert drawn(23, 17) == whole[23:]
    one_pass = [each for x, y in whole for each in zip(x, y, strict=True)][: streamed.count]
    assert len(set(one_pass)) > 100 and set(one_pass) <= {(int(pixels(i).sum()), i % 3) for i in range(120)}


def test_the_index_is_made_once_and_again_when_the_tar_has_changed(tmp_path, monkeypatch):
    shard(tmp_path / "d" / "a.tar", range(20))
    first = open_images(tmp_path / "d")
    with monkeypatch.context() as kept:
        kept.setattr(tars, "files_in_tar", lambda *_: pytest.fail("the index was kept"))
        assert open_images(tmp_path / "d").fingerprint == first.fingerprint
    shard(tmp_path / "d" / "a.tar", range(40, 60))
    assert {x.sum() for x in open_images(tmp_path / "d").images} == {pixels(i).sum() for i in range(40, 60)}


def test_what_was_packed_to_harm_is_left_out_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(tars, "MOST_BYTES", 5000)
    path = tmp_path / "d" / "a.tar"
    shard(path, range(20))
    with tarfile.open(path, "a") as archive:
        add(archive, "link.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(archive, "pipe.png", b"", type=tarfile.FIFOTYPE)
        add(archive, "../../\x1b[31mout.png", png(90))
        add(archive, "broken.png", png(91)[:60])
        add(archive, "large.png", bytes(6000))
        add(archive, "odd.png", png(92))
        add(archive, "odd.cls", str(10**30).encode())
        add(archive, "._odd.png", b"of a device")
    found = open_images(path.parent)
    told = {each.name: each.reason for each in found.skipped}
    assert len(found) == 22 and told.keys() == {"a.tar#21 broken.png", "a.tar#22 large.png"}
    assert "6,000 bytes are too many" in told["a.tar#22 large.png"] and "a.tar#20 ../../\\x1b[31mout.png" in found.names
    assert found.labels is None
    streamed = open_images(path.parent, stream=True).streamed
    list(itertools.islice(streamed.batches(20, 0, 0, 0, 1), 3))
    assert any(each.name == "a.tar#21 broken.png" for each in streamed.skips)
    data = path.read_bytes()
    for name, cut in (("cut.tar", data[: len(data) // 2]), ("no.tar", b"nothing" * 300), ("huge.tar", header(1 << 60))):
        (path.parent / name).write_bytes(cut)
    found = open_images(path.parent, image_size=16)
    assert {each.name for each in found.skipped} > {"cut.tar", "no.tar", "huge.tar"} and len(found) == 22
    with pytest.raises(DataError, match=r"cut\.tar: it is no tar, or is truncated"):
        open_images(path.parent, on_bad="error")


def header(size):
    info = tarfile.TarInfo("x.png")
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT) + png(0)
