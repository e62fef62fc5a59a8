"""Where what a model makes is written: all its channels, names that stay names, old files that stay out of new sets."""

from __future__ import annotations

import csv
import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reparam.data.open import read_like
from reparam.errors import ReparamError, UsageError
from reparam.pretrained.outputs import (
    ANIMATED,
    FOLDER,
    PICTURES,
    TABLES,
    Output,
    safe_names,
    save_codes,
    save_images,
    there_and_back,
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path)


def noise(n, channels, side=12, seed=0):
    shape = (n, side, side, channels) if channels > 1 else (n, side, side)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def written(images, out, accepted=ANIMATED, **how):
    save_images(images, Output.of(str(out), accepted), **how)


# Folders


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA"), (5, None)])
def test_a_folder_holds_images_with_all_their_channels(channels, mode, tmp_path):
    images = noise(3, channels)
    written(images, "new")
    files = sorted((tmp_path / "new").iterdir())
    assert [f.stem for f in files] == ["00000", "00001", "00002"]
    for file, image in zip(files, images, strict=True):
        if mode is None:
            assert (np.load(file) == image).all()
        else:
            with Image.open(file) as picture:
                assert picture.mode == mode
                assert (np.asarray(picture) == image).all()
    # and the reader of a model with such images finds the same
    back = read_like(["new"], (channels, 12, 12), background="keep" if channels in (2, 4) else "white")
    assert (back.images == images.reshape(back.images.shape)).all()


def test_one_channel_beside_the_others_is_grey(tmp_path):
    written(noise(1, 1)[..., None], "new")
    with Image.open(tmp_path / "new" / "00000.png") as picture:
        assert picture.mode == "L"


def test_a_new_set_takes_the_place_of_an_old_one(tmp_path):
    written(noise(5, 3), "new")
    (tmp_path / "new" / "empty").mkdir()
    written(noise(2, 3, seed=1), "new", names=["a/x.jpg", "b/y.jpg"])
    assert sorted(str(p.relative_to(tmp_path / "new")) for p in (tmp_path / "new").rglob("*.png")) == ["a/x.png", "b/y.png"]
    written(noise(2, 3, seed=2), "new")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["00000.png", "00001.png"]
    with Image.open(tmp_path / "new" / "00001.png") as picture:
        assert (np.asarray(picture) == noise(2, 3, seed=2)[1]).all()


@pytest.mark.parametrize("mine", ["00000.png", "notes.txt", ".hidden", "deep/down/00000.png", "link.png"])
def test_files_of_others_stay_and_no_new_ones_come_among_them(mine, tmp_path):
    written(noise(2, 1), "new")
    file = tmp_path / "new" / mine
    file.parent.mkdir(parents=True, exist_ok=True)
    if mine == "link.png":
        shutil.copy(tmp_path / "new" / "00000.png", tmp_path / "original.png")
        file.symlink_to(tmp_path / "original.png")
    elif file.suffix == ".png":
        Image.fromarray(noise(1, 1, seed=3)[0]).save(file)
    else:
        file.write_text("mine")
    before = {p: p.read_bytes() for p in (tmp_path / "new").rglob("*") if p.is_file()}
    with pytest.raises(UsageError, match=r"new holds other files, such as .*: name a new folder, or empty this one"):
        written(noise(3, 1), "new")
    assert {p: p.read_bytes() for p in (tmp_path / "new").rglob("*") if p.is_file()} == before


def test_a_folder_that_cannot_be_filled_stays_as_it_was(tmp_path, monkeypatch):
    written(noise(3, 3), "new")
    before = {p.name: p.read_bytes() for p in (tmp_path / "new").iterdir()}
    save, left = Image.Image.save, iter(range(2))

    def full(self, *args, **kwargs):
        if next(left, None) is None:
            raise OSError(28, os.strerror(28))
        save(self, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ReparamError, match="cannot write new: No space left"):
        written(noise(5, 3, seed=1), "new")
    assert {p.name: p.read_bytes() for p in (tmp_path / "new").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


def test_what_is_a_folder(tmp_path):
    (tmp_path / "there.v2").mkdir()
    (tmp_path / "file").write_text("mine")
    assert Output.of("plain", PICTURES).form == FOLDER
    assert Output.of("samples-v1.5/", PICTURES).form == FOLDER
    assert Output.of("shots.png/", PICTURES).form == FOLDER
    assert Output.of("there.v2", PICTURES).form == FOLDER
    assert Output.of("shots.PNG", PICTURES).form == ".png"
    with pytest.raises(UsageError, match=r"got 'samples-v1\.5'; for a folder of that name: samples-v1\.5/"):
        Output.of("samples-v1.5", PICTURES)
    with pytest.raises(UsageError, match="file is a file"):
        Output.of("file", PICTURES)
    for out in ("codes", "there.v2", "codes/", "codes.txt"):
        with pytest.raises(UsageError, match=r"must be an \.npz, a \.csv or a \.parquet; got"):
            Output.of(out, TABLES)


# Names


@given(st.lists(st.text(st.characters(codec=None), max_size=8).map(lambda s: s.replace("\0", "")), min_size=1, max_size=8),
       st.sampled_from(["", "../", "/etc/", "a/", "A/../", "C:\\", "..\\"]))
def test_names_stay_inside_their_folder_and_apart(names, start):
    safe = safe_names([start + name for name in names], ".png")
    assert len({name.casefold() for name in safe}) == len(names)
    for name in safe:
        assert name.endswith(".png")
        assert not any(part == "" or part.startswith(".") or part.endswith((".", " ")) for part in name.split("/"))
        assert not any(c in '\\:<>"|?*' or ord(c) < 32 or ord(c) == 127 for c in name)


@pytest.mark.parametrize(("names", "safe"), [
    (["photos/cat/1.jpg", "photos/dog/1.jpg"], ["cat/1.png", "dog/1.png"]),
    (["photos/1.jpg", "photos/2.png"], ["1.png", "2.png"]),
    (["1.jpg", "1.png", "1.PNG", "1-2.png"], ["1.png", "1-2.png", "1-3.png", "1-2-2.png"]),
    (["../up.png", "/etc/passwd.png", "~/home.png"], ["up.png", "etc/passwd.png", "home.png"]),
    (["a.png/b.png", "a.png"], ["a.png_/b.png", "a.png"]),
    (["x/caf\udce9.png"], ["caf\udce9.png"]),
    (["0", "1"], ["0.png", "1.png"]),
    (["con:.png", "a\nb.png", "..", ""], ["con_.png", "a_b.png", "image.png", "image-2.png"]),
])
def test_files_are_called_as_what_they_are_made_of(names, safe, tmp_path):
    assert safe_names(names, ".png") == safe
    written(noise(len(names), 1), "new", names=names)
    found = {str(p.relative_to(tmp_path / "new")) for p in (tmp_path / "new").rglob("*.png") if p.is_file()}
    assert found == set(safe)


# Animations


def test_the_way_back_repeats_neither_end():
    assert there_and_back(np.arange(5)).tolist() == [0, 1, 2, 3, 4, 3, 2, 1]
    assert there_and_back(np.arange(2)).tolist() == [0, 1] and there_and_back(np.arange(1)).tolist() == [0]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_goes_there_and_back(suffix, channels, tmp_path):
    path = np.linspace(0, 255, 5)[:, None, None, None] * np.ones((1, 8, 8, channels))
    images = path.astype(np.uint8)
    written(images, f"walk{suffix}", moving=there_and_back(images[:, None]))
    with Image.open(tmp_path / f"walk{suffix}") as animation:
        assert animation.n_frames == 8 and animation.info["loop"] == 0
        middles = []
        for i in range(8):
            animation.seek(i)
            frame = animation.convert("RGB")
            middles.append(frame.getpixel((frame.width // 2, frame.height // 2))[0])
    expected = [0, 63, 127, 191, 255, 191, 127, 63]
    if channels == 4:  # alpha is as large as the colour: laid on white
        expected = [round(v * v / 255 + 255 - v) for v in expected]
    assert np.abs(np.array(middles) - expected).max() <= (1 if suffix == ".gif" else 0)


def program(folder, name, lines):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n" + lines)
    (folder / name).chmod(stat.S_IRWXU)


def test_a_video_is_written_by_ffmpeg(tmp_path, monkeypatch):
    """A program in its place tells what it was given; real players want even sides."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}")
    program(tmp_path / "bin", "ffmpeg", f'echo "$@" > {tmp_path}/asked; cat > "$(eval echo \\${{$#}})"\n')
    images = noise(3, 3, side=35)
    written(images, "walk.mp4", moving=there_and_back(images[:, None]), seconds=0.1)
    asked = (tmp_path / "asked").read_text()
    assert "-s 250x250" in asked and "-r 10 " in asked and "yuv420p" in asked and "-f mp4" in asked
    frames = np.frombuffer((tmp_path / "walk.mp4").read_bytes(), np.uint8).reshape(4, 250, 250, 3)
    assert (frames[1] == frames[3]).all() and (frames[0] != frames[2]).any()
    assert (frames[0, 2:247:7, 2:247:7] == images[0]).all()


def test_a_video_without_ffmpeg_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"ffmpeg, which is not on the PATH: install it, or write a \.gif or \.webp"):
        Output.of("walk.mp4", ANIMATED)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}")
    program(tmp_path / "bin", "ffmpeg", "cat > /dev/null; echo no such encoder >&2; exit 1\n")
    with pytest.raises(ReparamError, match=r"\(no such encoder\): write a \.gif"):
        written(noise(3, 1), "walk.mp4")
    assert not (tmp_path / "walk.mp4").exists()


# Codes


NAMES = ["=1+1.png", "a,b\n.png", "caf\udce9.png", "-2.png", "plain.png"]


@pytest.fixture
def labelled(tmp_path):
    """Five images with names that want care, two of them in class folders, and their codes."""
    for folder, name in zip(("a", "b", ".", "a", "b"), NAMES, strict=True):
        (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(1, 1)[0]).save(tmp_path / "data" / folder / name)
    found = read_like(["data"], (1, 12, 12))
    return found, np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)


def test_codes_as_arrays(labelled):
    found, z = labelled
    save_codes(z, found, Output.of("c.npz", TABLES))
    with np.load("c.npz", allow_pickle=False) as codes:
        assert codes["names"].tolist() == list(found.names)
        assert sorted(name.split("/")[-1] for name in found.names) == sorted(NAMES)
        assert (codes["z"] == z).all()
        assert codes["labels"].tolist() == [n[0] if "/" in n else "" for n in found.names]


def test_codes_as_a_table(labelled):
    found, z = labelled
    save_codes(z, found, Output.of("c.csv", TABLES))
    with Path("c.csv").open(encoding="utf-8", newline="") as f:
        heads, *rows = csv.reader(f)
    assert heads == ["name", "label", *(f"z{i}" for i in range(6))]
    assert (np.array([row[2:] for row in rows], np.float32) == z.reshape(5, 6)).all()  # every digit that float32 has
    names = [row[0] for row in rows]
    assert names == ["a/-2.png", "a/=1+1.png", "b/a,b\\n.png", "b/plain.png", "caf\\xe9.png"]
    assert [row[1] for row in rows] == ["a", "a", "b", "b", ""]


def test_no_cell_is_a_formula(tmp_path):
    (tmp_path / "flat").mkdir()
    for name in ("=1+1.png", "@x.png", "+1.png", "-1.png"):
        Image.fromarray(noise(1, 1)[0]).save(tmp_path / "flat" / name)
    found = read_like(["flat"], (1, 12, 12))
    save_codes(np.zeros((4, 1), np.float32), found, Output.of("c.csv", TABLES))
    assert all(line.startswith("'") for line in (tmp_path / "c.csv").read_text().splitlines()[1:])


def test_a_table_of_codes_as_parquet(labelled):
    found, z = labelled
    save_codes(z, found, Output.of("c.parquet", TABLES))
    table = parquet.read_table("c.parquet")
    assert table.column_names == ["name", "label", *(f"z{i}" for i in range(6))]
    assert (np.stack([table[f"z{i}"].to_numpy() for i in range(6)], 1) == z.reshape(5, 6)).all()
    assert table["label"].to_pylist() == [n[0] if "/" in n else "" for n in found.names]


def test_parquet_without_its_package_is_refused_at_once(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"reparam\[parquet\]"):
        Output.of("c.parquet", TABLES)


# The commands


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of RGBA images of two classes, and one of five bands."""
    from reparam.data.options import DataOptions
    from reparam.runs.train import train

    folder = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPARAM_CACHE", str(folder / "cache"))
        for i, image in enumerate(noise(24, 4, side=8)):
            (folder / "clear" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / "clear" / "ab"[i % 2] / f"{i:02}.png")
        np.save(folder / "bands.npy", noise(24, 5, side=8))
        how = {"steps": 2, "threads": 1, "precision": "float32", "encoder": "mlp((8,))", "decoder": "mlp((8,))",
               "latent": "flat(2)", "fitted_prior": "none"}
        train(str(folder / "clear"), out=folder / "rgba", options=DataOptions(background="keep"), **how)
        train(str(folder / "bands.npy"), out=folder / "five", **how)
    return folder


@pytest.fixture
def reparam(capsys):
    from reparam.cli.app import main

    def call(*arguments):
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("command", ["sample", "interpolate", "traverse", "reconstruct"])
def test_every_command_keeps_what_the_model_makes(command, trained, reparam, tmp_path):
    for run, channels in (("rgba", 4), ("five", 5)):
        source = {"rgba": "clear", "five": "bands.npy"}[run]
        given = [trained / source] if command == "reconstruct" else []
        assert reparam(command, trained / run, *given, "--out", f"{run}/")[0] == 0
        file = min(p for p in (tmp_path / run).rglob("*") if p.is_file())
        image = np.load(file) if channels == 5 else np.asarray(Image.open(file))
        assert image.shape == (8, 8, channels)
        assert reparam(command, trained / run, *given, "--out", f"{run}.png")[0] == 0  # a picture is for looking at
        with Image.open(tmp_path / f"{run}.png") as picture:
            assert picture.mode == "RGB"


def test_a_folder_is_reconstructed_under_its_names(trained, reparam, tmp_path):
    assert reparam("reconstruct", trained / "rgba", trained / "clear", "--out", "new")[0] == 0
    names = {p.relative_to(trained / "clear") for p in (trained / "clear").rglob("*.png")}
    assert {p.relative_to(tmp_path / "new") for p in (tmp_path / "new").rglob("*.png")} == names
    code, _, err = reparam("reconstruct", trained / "rgba", trained / "clear", "--out", trained / "clear")
    assert code == 2 and "holds other files" in err  # the originals themselves


def test_codes_of_a_folder_with_a_broken_file(trained, reparam, tmp_path):
    shutil.copytree(trained / "clear", tmp_path / "data")
    assert reparam("encode", trained / "rgba", "data", "--out", "all.npz")[0] == 0
    (tmp_path / "data" / "a" / "04.png").write_bytes(b"junk")
    code, out, err = reparam("encode", trained / "rgba", "data", "--out", "fewer.npz", "--json")
    assert code == 0 and "left out a/04.png: " in err
    assert [each["name"] for each in json.loads(out)["skipped"]] == ["a/04.png"]
    every, fewer = np.load("all.npz"), np.load("fewer.npz")
    row_of = {name: i for i, name in enumerate(every["names"].tolist())}
    assert len(fewer["names"]) == 23
    for name, label, z in zip(fewer["names"].tolist(), fewer["labels"].tolist(), fewer["z"], strict=True):
        assert label == name[0] and np.allclose(z, every["z"][row_of[name]], atol=1e-5)


def test_grey_and_colour_files_join_a_model_one_by_one_and_in_a_folder(trained, reparam, tmp_path):
    (tmp_path / "few").mkdir()
    for i, channels in enumerate((1, 2, 3, 4)):
        Image.fromarray(noise(1, channels, side=20)[0]).save(tmp_path / "few" / f"{i}.png")
    assert reparam("encode", trained / "rgba", "few", "--out", "folder.npz")[0] == 0
    assert reparam("encode", trained / "rgba", *sorted((tmp_path / "few").iterdir()), "--out", "files.npz")[0] == 0
    folder, files = np.load("folder.npz"), np.load("files.npz")
    assert np.allclose(folder["z"], files["z"], atol=1e-5) and len(files["z"]) == 4
    assert folder["names"].tolist() == ["0.png", "1.png", "2.png", "3.png"]
    code, _, err = reparam("traverse", trained / "rgba", "few")
    assert code == 2 and "name one image; few holds 4" in err


@pytest.mark.parametrize("command", ["sample", "interpolate", "traverse", "reconstruct", "encode"])
def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_read(command, reparam, tmp_path):
    """The run is not there, which would be told as exit code 1."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    images = ["a.png"] if command in ("reconstruct", "encode") else []
    for out in ("mine", "x.jpeg", "mine/"):
        code, _, err = reparam(command, "nowhere", *images, "--out", out)
        assert code == 2 and out.rstrip("/") in err


NUMBERS = [("sample", flag, value)
           for flag in ("-n", "--seed", "--steps", "--temperature", "--guidance", "--refine-temperature")
           for value in ("nan", "inf", "-1", "1e308")]
NUMBERS += [("sample", "-n", "0"), ("sample", "--steps", "0"), ("sample", "--refine-temperature", "0"),
            ("sample", "--temperature", "1,nan"), ("sample", "--seed", str(2**64)), ("sample", "-n", "99999999999")]
NUMBERS += [(command, "--seed", value) for command in ("reconstruct", "interpolate", "encode")
            for value in ("-1", str(2**64), "nan")]
NUMBERS += [("interpolate", "--steps", "1"), ("interpolate", "--steps", "inf"), ("interpolate", "--steps", "10001"),
            ("traverse", "--steps", "0"), ("traverse", "--dims", "0"), ("traverse", "--dims", "-1"),
            ("traverse", "--steps", "nan"), ("reconstruct", "--refine-temperature", "nan")]


@pytest.mark.parametrize(("command", "flag", "value"), NUMBERS)
def test_numbers_out_of_their_range_are_told_before_anything_is_read(command, flag, value, reparam, tmp_path):
    """The run is not there, which would be told as exit code 1."""
    images = {"reconstruct": ["a.png"], "encode": ["a.png"]}.get(command, [])
    code, out, err = reparam(command, "nowhere", *images, f"{flag}={value}")
    assert (code, out) == (2, "") and err.startswith("error: ") and "Traceback" not in err
    assert flag in err or flag.lstrip("-") in err.lower()
    assert list(tmp_path.iterdir()) == []
