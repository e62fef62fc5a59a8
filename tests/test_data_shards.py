"""Images in shards: columns of Parquet as people write them, addresses, packing, and shards that are broken."""

import io
import json
import os
import signal
import subprocess
import sys

import fsspec
import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from reparam.cli.app import main
from reparam.data import addresses, open_images
from reparam.data.pack import pack
from reparam.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path / "the-cache"))
    monkeypatch.setattr(addresses, "PAUSE", 0)


def pixels(i):
    return np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)


def png(i):
    stream = io.BytesIO()
    Image.fromarray(pixels(i)).save(stream, "PNG")
    return stream.getvalue()


def shard(path, numbers, *, labels=None, names=None, struct=True, **columns):
    """A shard of the pictures with these numbers, eight in a group."""
    data = [png(i) for i in numbers]
    kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())]) if struct else arrow.binary()
    rows = [{"bytes": each, "path": f"{i}.png"} for i, each in zip(numbers, data, strict=True)] if struct else data
    table = arrow.table({"image": arrow.array(rows, kind), **columns} | ({"label": labels} if labels is not None else {}))
    if names:
        noted = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(noted)})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=8)


@pytest.mark.parametrize(("labels", "names", "classes", "first"), [
    (None, None, (), None),
    ([1, 0] * 10, ["cat", "dog"], ("cat", "dog"), [1, 0]),
    ([7, 3] * 10, None, ("3", "7"), [1, 0]),
    (["dog", None] * 10, None, ("dog",), [0, -1]),
])
def test_columns_as_people_write_them(tmp_path, labels, names, classes, first):
    for struct in (True, False):
        shard(tmp_path / "d" / "a.parquet", range(20), labels=labels, names=names, struct=struct, other=[0.5] * 20)
        found = open_images(tmp_path / "d" / "a.parquet")
        rows = [int(name.partition("#")[2]) for name in found.names]
        assert np.array_equal(found.images, [pixels(i) for i in rows]) and found.classes == classes
        assert (None if first is None else [first[i % 2] for i in rows]) == (None if found.labels is None else
                                                                            found.labels.tolist())


def test_other_columns_are_factors_where_they_tell_images_apart(tmp_path):
    told = {"hue": [i % 5 / 5 for i in range(20)], "kind": ["fish", "bird"] * 10, "round": [i < 9 for i in range(20)],
            "same": [1] * 20, "lacking": [None, 2] * 10, "caption": [f"{i} " * 100 for i in range(20)]}
    for name in ("train-0.parquet", "train-1.parquet"):
        shard(tmp_path / "d" / name, range(20 * int(name[6]), 20 * int(name[6]) + 20), labels=[0, 1] * 10, **told)
    for _ in range(2):  # made, and from the cache
        found = open_images(tmp_path / "d")
        rows = [int(name.partition("#")[2]) for name in found.names]
        assert {name: column.tolist() for name, column in found.factors.items()} == {
            name: [told[name][i] for i in rows] for name in ("hue", "kind", "round")}
    assert "3 more columns (hue, kind, round) say something of each image" in " ".join(found.notes)
    shard(tmp_path / "d" / "train-2.parquet", range(40, 60), labels=[0, 1] * 10, hue=told["hue"])
    assert [*open_images(tmp_path / "d").factors] == ["hue"]
    assert len(open_images(tmp_path / "d", stream=True).factors["hue"]) == 60


def test_shards_named_by_splits_and_classes_of_all_of_them(tmp_path):
    shard(tmp_path / "data" / "train-00000-of-00002.parquet", range(20), labels=[0] * 20)
    shard(tmp_path / "data" / "train-00001-of-00002.parquet", range(20, 40), labels=[4] * 20)
    shard(tmp_path / "data" / "validation-00000-of-00001.parquet", range(40, 50), labels=[4] * 10)
    shard(tmp_path / "data" / "test-00000-of-00001.parquet", range(50, 60), labels=[2] * 10)
    found = open_images(tmp_path / "data")
    assert [len(part) for part in found.split()] == [40, 10, 10]
    assert found.classes == ("0", "2", "4") and set(found.labels[found.test]) == {1}
    assert len(open_images(f"{tmp_path}/data/train-*.parquet")) == 40


def test_addresses(tmp_path, monkeypatch):
    shard(tmp_path / "a.parquet", range(20))
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "a.parquet"), "/bucket/deep/a.parquet")
    for source in ("memory://bucket", "memory://bucket/**", "memory://bucket/deep/a.parquet", f"file://{tmp_path}/*.parquet"):
        assert len(open_images(source)) == 20
    monkeypatch.setattr(addresses, "HUB", "memory://datasets/")  # what 'hf:' stands for
    memory.put(str(tmp_path / "a.parquet"), f"/datasets/owner/name{addresses.CONVERTED}/default/train/0000.parquet")
    assert len(open_images("hf:owner/name")) == 20
    memory.put(str(tmp_path / "a.parquet"), "/datasets/owner/name/data/train.parquet")
    assert len(open_images("hf:owner/name")) == 20
    with pytest.raises(DataError, match=r"no \.parquet or \.tar files at 'hf:owner/other'"):
        open_images("hf:owner/other")
    with pytest.raises(UsageError, match="Protocol not known: nowhere"):
        open_images("nowhere://x")


def test_a_shard_that_fails_is_tried_again_then_left_out_by_name(tmp_path, monkeypatch):
    shard(tmp_path / "d" / "a.parquet", range(20))
    (tmp_path / "d" / "b.parquet").write_bytes(b"PAR1 nothing")
    found = open_images(tmp_path / "d")
    assert len(found) == 20
    assert [(s.name, s.reason) for s in found.skipped] == [("b.parquet", "it is not Parquet, or is truncated")]
    with pytest.raises(DataError, match=r"b\.parquet: it is not Parquet"):
        open_images(tmp_path / "d", on_bad="error")
    tries = []

    def flaky(self):
        tries.append(self.name)
        if len(tries) % 3:
            raise OSError("the line is dead")
        return self.system.open(self.path, "rb")

    (tmp_path / "d" / "b.parquet").unlink()
    monkeypatch.setattr(addresses.Address, "open", flaky)
    assert not open_images(tmp_path / "d", image_size=16).skipped and len(tries) > 6


def test_a_broken_picture_is_told_with_its_shard_and_its_name(tmp_path):
    shard(tmp_path / "a.parquet", range(20))
    table = parquet.read_table(tmp_path / "a.parquet")
    rows = table.column("image").to_pylist()
    rows[3]["bytes"], rows[4] = rows[3]["bytes"][:50], {"bytes": None, "path": "far/away.png"}
    parquet.write_table(table.set_column(0, "image", arrow.array(rows, table.schema.field("image").type)),
                        tmp_path / "a.parquet")
    skipped = {each.name: each.reason for each in open_images(tmp_path / "a.parquet").skipped}
    assert skipped.keys() == {"a.parquet#3", "a.parquet#4"}
    assert "far/away.png, outside of the shard" in skipped["a.parquet#4"]


def test_a_table_beside_images_is_no_data(tmp_path):
    for i in range(20):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    parquet.write_table(arrow.table({"file": ["1.png"], "kind": ["cat"]}), tmp_path / "known.parquet")
    assert open_images(tmp_path).names[0] == "0.png"


def test_columns_without_images_are_told(tmp_path):
    parquet.write_table(arrow.table({"x": [1.0]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"no column of encoded images.*its columns are x \(double\)"):
        open_images(tmp_path / "a.parquet")


def test_packed_images_are_the_same(tmp_path, capsys):
    for i in range(30):
        path = tmp_path / "photos" / ("test" if i % 5 == 0 else "train") / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))
    (tmp_path / "photos" / "train" / "a" / "bad.png").write_bytes(b"no")
    assert main(["pack", str(tmp_path / "photos"), str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["images"], told["shards"], told["skipped"][0]["name"]) == (30, 2, "train/a/bad.png")
    plain, packed = open_images(tmp_path / "photos"), open_images(tmp_path / "out")

    def contents(found):
        return {int(d): (found.classes[y], bool(t)) for d, y, t in
                zip(found.digests, found.labels, found.test, strict=True)}

    assert contents(plain) == contents(packed) and [len(p) for p in plain.split()] == [len(p) for p in packed.split()]
    order = parquet.read_table(next((tmp_path / "out").glob("train*"))).column("image").to_pylist()
    assert [each["path"] for each in order] != sorted(each["path"] for each in order)
    assert all(each["bytes"] == (tmp_path / "photos" / each["path"]).read_bytes() for each in order)
    pack(tmp_path / "photos", tmp_path / "small", options=None)
    with pytest.raises(UsageError, match="shards of other images"):
        pack("digits", tmp_path / "small")


KILLED = """
import os, sys
from reparam.data import pack
pack.FEWEST_ROWS = pack.MOST_ROWS = 256
pack.pack("digits", sys.argv[1], progress=lambda done, total: done > 500 and os.kill(os.getpid(), 9))
"""


def test_packing_goes_on_after_a_kill(tmp_path, monkeypatch):
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a")], timeout=60,
                           env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    first = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a").glob("*.parquet")}
    assert ended.returncode == -signal.SIGKILL and 0 < len(first) < 8
    from reparam.data import pack as module

    monkeypatch.setattr(module, "FEWEST_ROWS", 256)
    monkeypatch.setattr(module, "MOST_ROWS", 256)
    assert pack("digits", tmp_path / "a")[1:3] == (8, 1797)
    assert all((tmp_path / "a" / name).stat().st_mtime_ns == when for name, when in first.items())
    assert sorted(open_images(tmp_path / "a").digests) == sorted(open_images("digits").digests)
