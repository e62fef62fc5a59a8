"""The commands: what they write, what they print, and that every bad input is told in one line and leaves nothing behind."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SMALL = ["--threads", "1", "--precision", "float32", "--encoder", "mlp((32,))", "--decoder", "mlp((32,))",
         "--latent", "flat(4)"]
QUICK = [*SMALL, "--steps", "2", "--fitted-prior", "none"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, tmp_path_factory, monkeypatch):
    """Commands run in an empty folder, and keep what they decode in another."""
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of 40 steps on the digits. Nobody writes to it."""
    from reparam.runs import train as run

    return str(run.train("digits", out=tmp_path_factory.mktemp("trained") / "digits", steps=40, threads=1,
                         precision="float32", encoder="mlp((32,))", decoder="mlp((32,))", latent="flat(4)",
                         fitted_prior="mixture(3)").folder)


@pytest.fixture
def reparam(capsys):
    """Runs a command: its exit code, stdout and stderr."""
    from reparam.cli.app import main

    def call(*arguments):
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def done(reparam):
    """Runs a command that succeeds and says so in one JSON object on stdout; returns the object."""

    def call(*arguments):
        code, out, err = reparam(*arguments, "--json")
        assert (code, err) == (0, "")
        assert out.startswith("{") and out.endswith("}\n") and out.count("\n") == 1
        return json.loads(out)

    return call


@pytest.fixture
def refused(reparam, tmp_path):
    """Runs a command that fails: nothing on stdout, no traceback, no file made or changed; returns what was said, which
    ends in an error."""

    def call(expected, *arguments):
        before = everything(tmp_path)
        code, out, err = reparam(*arguments)
        assert code == expected, err
        assert out == ""
        assert re.sub(r"^(reading images: .*\n|[\d,]+ \w+ images of .*: \w+.*\n)+", "", err).startswith("error: ")
        assert "Traceback" not in err
        assert everything(tmp_path) == before
        return err

    return call


def everything(folder):
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def pictures(folder, n, seed=0):
    """n grey PNG files, 8×8, and their pixels."""
    folder.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 8, 8), np.uint8)
    files = [folder / f"{i:02}.png" for i in range(n)]
    for file, image in zip(files, pixels, strict=True):
        Image.fromarray(image).save(file)
    return files, pixels


def full_disk(*_):
    raise OSError(28, os.strerror(28))


# No torch before it is needed


def in_a_program(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("code", [
    "import reparam", "import reparam; dir(reparam)", "from reparam.cli import main; main(['--help'])",
    "from reparam.cli import main; main(['train', '--help'])", "from reparam.cli import main; main(['presets'])",
    "from reparam.cli import main; main(['train', 'digits', '--priro', 'normal'])",
])
def test_no_torch_is_imported(code):
    ended = in_a_program(f"import sys\n{code}\nsys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'sklearn')))")
    assert ended.returncode == 0, ended.stderr


def test_help_is_there_at_once():
    """0.3 s in processor time, which other programs lengthen too, though less than wall time: hence the best of twenty."""
    best = math.inf
    for _ in range(20):
        began = os.times()
        ended = subprocess.run([sys.executable, "-m", "reparam", "--help"], capture_output=True, text=True, check=False)
        now = os.times()
        best = min(best, now.children_user - began.children_user + now.children_system - began.children_system)
        assert ended.returncode == 0
        if best <= 0.3:
            break
    assert all(command in ended.stdout for command in ("train", "demo", "sample", "evaluate", "parts", "presets"))
    assert best <= 0.3


def test_the_program_passes_its_exit_code_on(tmp_path):
    ended = subprocess.run([sys.executable, "-m", "reparam", "train", "nowhere"], capture_output=True, text=True,
                           check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: no such folder or file: 'nowhere'")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_without_greek_letters_is_enough(encoding):
    """The descriptions of presets hold some."""
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    for flags in ([], ["--json"]):
        ended = subprocess.run([sys.executable, "-m", "reparam", "presets", *flags], capture_output=True, env=env,
                               check=False)
        assert (ended.returncode, ended.stderr) == (0, b"")
    assert json.loads(ended.stdout.decode(encoding))["presets"][0]["name"] == "default"


def test_a_pipe_that_closes_early_is_no_error_worth_a_traceback():
    process = subprocess.Popen([sys.executable, "-m", "reparam", "presets"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    process.stdout.close()
    with process.stderr as stderr:
        said = stderr.read().decode()
    process.wait()
    assert "Traceback" not in said and "BrokenPipeError" not in said


@pytest.mark.parametrize("command", ["train", "demo", "sample", "reconstruct", "interpolate", "traverse", "encode",
                                     "evaluate", "parts", "presets"])
def test_every_command_has_help_for_every_option(command, reparam):
    code, out, err = reparam(command, "--help")
    assert (code, err) == (0, "")
    assert command in out and "--json" in out


# Wrong usage


@pytest.mark.parametrize(("arguments", "message"), [
    (["train", "digits", "--prior", "normall"], "unknown prior 'normall' (did you mean 'normal'?)"),
    (["train", "digits", "--prior", "vampp"], "unknown prior 'vampp' (did you mean 'vamp'?)"),
    (["train", "digits", "--posterior", "vq", "--prior", "vamp"], "the posterior 'vq' lives in integer codes"),
    (["train", "digits", "--posterior", "vq"], "Priors over these: uniform, autoregressive("),
    (["train", "digits", "--posterior", "vmf", "--prior", "flow"], "points of a sphere"),
    (["train", "digits", "--objective", "nll + kl + commitment"], "--posterior vq, rvq, fsq or lfq"),
    (["train", "digits", "--objective", "nll + classify"], "semi_supervised"),
    (["train", "digits", "--objective", "nll + kl + equivariance"], "spatial"),
    (["train", "digits", "--latent", "top_down", "--encoder", "mlp"], "on a grid"),
    (["train", "digits", "--latent", "top_down", "--objective", "nll + mi + tc + dwkl"], "layer"),
    (["train", "digits", "--objective", "nll + lk"], "'lk'"),
    (["train", "digits", "--preset", "defalt"], "unknown preset 'defalt' (did you mean 'default'?)"),
    (["train", "digits", "--priro", "normal"], "Unknown option: --priro. Did you mean --prior?"),
    (["train", "digits", "--steps", "many"], "--steps"),
    (["train", "digits", "--steps", "0"], "steps must be above 0; got 0"),
    (["train", "digits", "--latent", "flat"], "flat"),
    (["train", "digits", "--background", "pink"], "pink"),
    (["train", "digits", "--value-range", "low,high"], "--value-range takes two numbers"),
    (["train", "digits", "--on-bad", "shrug"], "shrug"),
    (["train"], "name the DATA to train on"),
    (["train", "digits", "--resume", "runs/digits"], "one of the two"),
    (["train", "--resume", "runs/digits", "--preset", "mlp"], "leave out --preset and --out"),
    (["train", "digits", "more"], "more"),
    (["sampel", "runs/digits"], "Did you mean \"sample\"?"),
    (["parts", "prio"], "unknown role 'prio' (did you mean 'prior'?)"),
])
def test_wrong_usage(arguments, message, refused):
    told = refused(2, *arguments)
    assert message in told
    assert told.count("\n") <= 2


def test_a_run_that_exists_is_not_trained_over(trained, refused):
    assert f"{trained} exists already. Continue it with: reparam train --resume {trained}" in refused(
        2, "train", "digits", "--out", trained)


def test_a_finished_run_and_a_recipe_stay_as_they_are(trained, refused):
    assert "is finished. To train it further" in refused(2, "train", "--resume", trained)
    assert "only steps, epochs and minutes may change, not prior" in refused(
        2, "train", "--resume", trained, "--prior", "flow")


# Data that cannot be used


def test_no_such_folder(refused, tmp_path):
    pictures(tmp_path / "photos", 1)
    assert "no such folder or file: 'photo' (did you mean 'photos'?)" in refused(1, "train", "photo", *QUICK)


def test_an_empty_folder(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    told = refused(1, "train", "empty", *QUICK)
    assert "no images in " in told and "/empty. Accepted are PNG" in told


def test_one_image(refused, tmp_path):
    pictures(tmp_path / "one", 1)
    assert "one has 1 readable image; at least 16 are needed" in refused(1, "train", "one", *QUICK)


def test_only_broken_images(refused, tmp_path):
    (tmp_path / "broken").mkdir()
    for i in range(20):
        (tmp_path / "broken" / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(i))
    told = refused(1, "train", "broken", *QUICK)
    assert "broken has 0 readable images, 20 not" in told
    assert "0.png: " in told


def test_a_broken_image_ends_the_work_on_demand(refused, tmp_path):
    pictures(tmp_path / "data", 20)
    (tmp_path / "data" / "bad.png").write_bytes(b"")
    assert "bad.png: it is empty. Repair or remove it" in refused(1, "train", "data", "--on-bad", "error", *QUICK)


def test_nan(refused, tmp_path):
    images = np.full((20, 8, 8), 0.5, np.float32)
    images[3, 2, 1] = np.nan
    np.save(tmp_path / "images.npy", images)
    assert "NaN" in refused(1, "train", "images.npy", *QUICK)


def test_labels_of_another_length(refused, tmp_path):
    np.savez(tmp_path / "images.npz", images=np.zeros((20, 8, 8), np.uint8), labels=np.arange(19))
    assert "images.npz: 19 training labels for 20 images" in refused(1, "train", "images.npz", *QUICK)


def test_only_copies_of_one_image(refused, tmp_path):
    np.save(tmp_path / "same.npy", np.full((20, 8, 8), 200, np.uint8))
    assert "1 different images" in refused(1, "train", "same.npy", *QUICK)


def test_a_small_file_of_a_huge_image_is_left_out(done, tmp_path):
    """A PNG of 10 kB whose pixels would take 240 MB as RGB."""
    def chunk(kind, content):
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    width, height = 10_000, 8_000
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    packed = zlib.compress(bytes(height * (width // 8 + 1)), 9)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    assert len(bomb) < 11_000
    pictures(tmp_path / "data", 20)
    (tmp_path / "data" / "bomb.png").write_bytes(bomb)
    done("train", "data", "--out", "run", *QUICK)
    (skipped,) = json.loads((tmp_path / "run" / "skipped.json").read_text())
    assert skipped["name"] == "bomb.png"
    assert "10000×8000 is 80.0 million pixels, more than --max-pixels 50000000" in skipped["reason"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["facts"]["images"] == 20


def test_the_fewest_images_suffice(done, tmp_path):
    pictures(tmp_path / "data", 16)
    told = done("train", "data", *SMALL, "--steps", "2")
    assert told["run"] == "runs/data"
    assert done("evaluate", "runs/data")["measured_on"] == "held-out"


# Nowhere to read from, nowhere to write to


@pytest.mark.parametrize("command", ["train --resume", "sample", "traverse", "evaluate"])
def test_no_run(command, refused, tmp_path):
    told = refused(1, *command.split(), tmp_path / "nothing")
    assert "no run in" in told or "no model in" in told
    assert str(tmp_path / "nothing") in told


@pytest.mark.parametrize("out", ["file/run", "file/deep/run"])
def test_a_run_below_a_file(out, refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert f"cannot write {out}" in refused(1, "train", "digits", "--out", out, *QUICK)


@pytest.mark.parametrize("out", ["file/samples.png", "file/samples.npy", "file/samples"])
def test_samples_below_a_file(out, trained, refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert f"cannot write {out}" in refused(1, "sample", trained, "-n", 2, "--out", out)


@pytest.mark.parametrize("out", ["old.png", "old.npy", "new.png"])
def test_a_full_disk_loses_nothing(out, trained, refused, tmp_path, monkeypatch):
    from reparam.files import writing as files

    (tmp_path / "old.png").write_text("mine")
    (tmp_path / "old.npy").write_text("mine")
    monkeypatch.setattr(files.os, "fsync", full_disk)
    told = refused(1, "sample", trained, "-n", 2, "--out", out)
    assert f"cannot write {out}: No space left on device. Nothing was lost" in told


def test_a_run_on_a_full_disk(reparam, tmp_path, monkeypatch):
    from reparam.files import writing as files

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full_disk)
        code, out, err = reparam("train", "digits", "--out", "run", *QUICK, "--json")
    assert (code, out) == (1, "")
    assert "cannot write run/run.json: No space left on device. Nothing was lost" in err
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    assert reparam("train", "digits", "--out", "run", *QUICK, "--json")[0] == 0


def test_a_disk_that_fills_while_metrics_are_written(reparam, tmp_path, monkeypatch):
    whole = Path.open

    def opened(self, mode="r", *args, **kwargs):
        if self.name == "metrics.jsonl" and mode == "a":
            raise OSError(28, os.strerror(28), str(self))
        return whole(self, mode, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        code, out, err = reparam("train", "digits", "--out", "run", *QUICK, "--json")
    assert (code, out) == (1, "")
    assert "No space left on device" in err
    assert reparam("train", "--resume", "run", "--json")[0] == 0


# One JSON object


def test_train_as_json(done, tmp_path):
    told = done("train", "digits", "--out", "run", *QUICK)
    assert told.keys() == {"run", "status", "evaluation"}
    assert (told["run"], told["status"]) == ("run", "finished")
    assert told["evaluation"] == json.loads((tmp_path / "run" / "evaluation.json").read_text())


def test_train_in_words(reparam, tmp_path):
    code, out, err = reparam("train", "digits", *QUICK)
    assert code == 0
    assert "runs/digits/report.html" in out
    assert "1,637 images to train on, 160 held out: 8×8, 1 channel" in err
    assert "runs/digits-2/report.html" in reparam("train", "digits", *QUICK)[1]


def test_evaluate(trained, done, reparam):
    told = done("evaluate", trained, "--metrics", "elbo, psnr")
    assert told["measured_on"] == "held-out"
    figures = {f["name"]: f for f in told["metrics"]}
    assert {"-elbo", "psnr"} <= figures.keys()
    assert all(f["n"] == 160 for f in figures.values())
    code, out, _ = reparam("evaluate", trained, "--metrics", "elbo, psnr")
    assert code == 0
    assert "measured on held-out images" in out and "-elbo" in out


def test_evaluate_by_default_measures_the_standard_ones(trained, done):
    names = [f["name"] for f in done("evaluate", trained)["metrics"]]
    assert {"-elbo", "psnr", "active_units", "prior_auc", "fitted_prior_auc"} <= {*names}


def test_evaluate_on_other_images(trained, done, refused, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "other.npy", rng.integers(0, 256, (30, 8, 8), np.uint8))
    told = done("evaluate", trained, "other.npy", "--metrics", "psnr")
    assert told["measured_on"] == "other.npy's"
    assert told["metrics"][0]["n"] == 30
    np.save(tmp_path / "colour.npy", rng.integers(0, 256, (30, 8, 8, 3), np.uint8))
    np.save(tmp_path / "luma.npy", [np.asarray(Image.fromarray(image).convert("L")) for image in np.load("colour.npy")])
    color, luma = (done("evaluate", trained, name, "--metrics", "psnr")["metrics"][0]["value"]
                    for name in ("colour.npy", "luma.npy"))
    assert color == pytest.approx(luma)  # colour is read as its brightness, as by every command
    np.save(tmp_path / "bands.npy", rng.integers(0, 256, (30, 8, 8, 5), np.uint8))
    assert "bands.npy: 5 channels, where the model's images have 1" in refused(1, "evaluate", trained, "bands.npy")
    assert "(did you mean 'psnr'?)" in refused(2, "evaluate", trained, "--metrics", "psrn")


def test_presets(done, reparam):
    from reparam.parts.presets import PRESETS

    assert [p["name"] for p in done("presets")["presets"]] == list(PRESETS)
    code, out, _ = reparam("presets")
    assert code == 0
    assert all(f"{name}: " in out for name in PRESETS)


def test_parts(done, reparam):
    from reparam.parts.registry import ROLES

    assert {role: len(p) for role, p in done("parts")["parts"].items()} == {r: len(ROLES[r].parts) for r in ROLES}
    assert list(done("parts", "prior")["parts"]) == ["prior"]
    code, out, _ = reparam("parts", "prior")
    assert code == 0
    assert "normal" in out and "mixture(n=50)" in out


# What a trained model is for


def test_samples_around_an_image(trained, done, refused, tmp_path):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save("a.png")
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save("b.png")
    done("reconstruct", trained, "a.png", "--out", "r.npy")
    done("sample", trained, "-n", 3, "--like", "a.png", "--variation", 0, "--out", "s.npy")
    assert (np.load("s.npy") == np.load("r.npy")[..., 0]).all()
    done("sample", trained, "-n", 5, "--between", "a.png", "b.png", "--typical", 0.5, "--diverse", 2, "--out", "s.npy")
    assert np.load("s.npy").shape == (5, 8, 8)
    assert "name one" in refused(2, "sample", trained, "--variation", 0.5)
    assert "one of them" in refused(2, "sample", trained, "--like", "a.png", "--between", "a.png", "b.png")
    assert "--typical must be" in refused(2, "sample", trained, "--typical", 0)


def test_sample(trained, done, tmp_path):
    assert done("sample", trained, "-n", 5, "--out", "a.npy") == {"out": "a.npy", "n": 5}
    samples = np.load(tmp_path / "a.npy")
    assert (samples.shape, samples.dtype) == ((5, 8, 8), np.uint8)
    done("sample", trained, "--number", 5, "--out", "again.npy")
    assert (np.load(tmp_path / "again.npy") == samples).all()
    done("sample", trained, "-n", 5, "--seed", 1, "--out", "b.npy")
    assert (np.load(tmp_path / "b.npy") != samples).any()


def test_sample_into_a_picture_or_a_folder(trained, done, refused, tmp_path):
    done("sample", trained, "-n", 5, "--out", "s.npy")
    samples = np.load(tmp_path / "s.npy")
    done("sample", trained, "-n", 5, "--out", "deep/down/s.png")
    with Image.open(tmp_path / "deep" / "down" / "s.png") as picture:
        assert picture.size == (2 + 3 * 66, 2 + 2 * 66)  # rows of three, each enlarged to 64 pixels, with gaps of two
    done("sample", trained, "-n", 5, "--out", "single")
    files = sorted((tmp_path / "single").iterdir())
    assert [f.name for f in files] == [f"{i:05}.png" for i in range(5)]
    for file, image in zip(files, samples, strict=True):
        with Image.open(file) as picture:
            assert picture.mode == "L"
            assert (np.asarray(picture) == image).all()
    told = refused(2, "sample", trained, "--out", "s.jpeg")
    assert "--out must be a .png, a .gif, a .webp, an .mp4, an .npy or a folder; got 's.jpeg'; for a folder" in told
    assert "-n must be a whole number from 1 to 1000000; got 0" in refused(2, "sample", trained, "-n", 0)


def test_sample_from_the_models_own_prior(trained, done, refused, tmp_path):
    drawn = {}
    for name in (None, "mixture", "normal"):
        done("sample", trained, "-n", 4, "--out", "s.npy", *(["--prior", name] if name else []))
        drawn[name] = np.load(tmp_path / "s.npy")
    assert (drawn[None] == drawn["mixture"]).all()
    assert (drawn[None] != drawn["normal"]).any()
    told = refused(2, "sample", trained, "--prior", "flow")
    assert "'normal' and 'mixture'; got 'flow'" in told


def test_temperature_lessens_variety(trained, done, tmp_path):
    for t in (0.01, 1.0):
        done("sample", trained, "-n", 64, "--prior", "normal", "--temperature", t, "--out", f"{t}.npy")
    assert np.load(tmp_path / "0.01.npy").std(0).mean() < 0.2 * np.load(tmp_path / "1.0.npy").std(0).mean()


def test_reconstruct(trained, done, refused, tmp_path):
    files, pixels = pictures(tmp_path / "data", 3)
    assert done("reconstruct", trained, *files, "--out", "r.npy") == {"out": "r.npy", "n": 3, "skipped": []}
    rebuilt = np.load(tmp_path / "r.npy")
    assert (rebuilt.size, rebuilt.dtype) == (pixels.size, np.uint8)
    assert rebuilt.shape[:3] == pixels.shape
    done("reconstruct", trained, *files)
    with Image.open(tmp_path / "reconstructions.png") as picture:
        assert picture.size == (2 + 3 * 66, 2 + 2 * 66)
        upper = np.asarray(picture.convert("L"))[2:66, 2:66]
    assert (upper[::8, ::8] == pixels[0]).all()
    assert "name at least 1 image file" in refused(2, "reconstruct", trained)
    assert "no such file" in refused(1, "reconstruct", trained, "data/000.png")


def test_a_picture_of_many_reconstructions_holds_all_of_them(trained, done, tmp_path):
    files, pixels = pictures(tmp_path / "data", 11)
    done("reconstruct", trained, *files, "--out", "r.png")
    with Image.open(tmp_path / "r.png") as picture:
        whole = np.asarray(picture.convert("L"))
    shown = {whole[top:top + 64:8, left:left + 64:8].tobytes()
             for top in range(2, whole.shape[0] - 63, 66) for left in range(2, whole.shape[1] - 63, 66)}
    assert all(image.tobytes() in shown for image in pixels)


def test_interpolate(trained, done, refused, tmp_path):
    (a, b), _ = pictures(tmp_path / "data", 2)
    done("interpolate", trained, a, b, "--steps", 6, "--out", "i.npy")
    done("reconstruct", trained, a, b, "--out", "r.npy")
    walk, ends = np.load(tmp_path / "i.npy"), np.load(tmp_path / "r.npy").reshape(-1, 8, 8)
    assert walk.shape == (6, 8, 8)
    assert np.abs(walk[[0, -1]].astype(int) - ends).max() <= 1
    done("interpolate", trained, a, b)
    with Image.open(tmp_path / "interpolation.png") as picture:
        assert picture.size == (2 + 10 * 66, 2 + 66)
    assert "--steps must be a whole number from 2 to 10000; got 1" in refused(2, "interpolate", trained, a, b, "--steps", 1)


def test_traverse(trained, done, tmp_path):
    (image,), _ = pictures(tmp_path / "data", 1)
    done("traverse", trained, "--dims", 3, "--steps", 5, "--out", "t.npy")
    assert np.load(tmp_path / "t.npy").shape == (15, 8, 8)
    done("traverse", trained, image, "--dims", 3, "--steps", 5, "--out", "u.npy")
    assert (np.load(tmp_path / "t.npy") != np.load(tmp_path / "u.npy")).any()
    done("traverse", trained)
    with Image.open(tmp_path / "traversals.png") as picture:
        assert picture.size == (2 + 9 * 66, 2 + 4 * 66)  # of eight rows asked for, as many as there are latents


@pytest.mark.parametrize("option", [["--dims", "0"], ["--dims", "-1"], ["--steps", "0"]])
def test_a_traversal_of_nothing_is_refused(option, trained, refused):
    refused(2, "traverse", trained, *option)


def test_encode(trained, done, refused, tmp_path):
    files, pixels = pictures(tmp_path / "data", 20)
    assert done("encode", trained, *files) == {"out": "codes.npz", "n": 20, "latent": [4], "skipped": []}
    with np.load(tmp_path / "codes.npz") as codes:
        z, names = codes["z"], codes["names"].tolist()
    assert (z.shape, z.dtype) == ((20, 4), np.float32)
    assert names == [str(f) for f in files]
    np.save(tmp_path / "all.npy", pixels)
    for source in ("data", "all.npy"):
        done("encode", trained, source, "--out", "c.npz")
        with np.load(tmp_path / "c.npz") as codes:
            assert codes["names"].shape == (20,)
            np.testing.assert_allclose(codes["z"], z, atol=1e-5)
    done("encode", trained, "data", "--draw", "--out", "d.npz")
    with np.load(tmp_path / "d.npz") as codes:
        assert np.abs(codes["z"] - z).max() > 1e-3
    told = refused(2, "encode", trained, "data", "--out", "c.npy")
    assert "--out must be an .npz, a .csv or a .parquet; got 'c.npy'" in told


def test_a_demo_replaces_the_last_one(trained, reparam, tmp_path, monkeypatch):
    from reparam.cli import app as cli

    last = tmp_path / "runs" / "demo"
    shutil.copytree(trained, last)
    written = json.loads((last / "run.json").read_text(encoding="utf-8"))
    (last / "run.json").write_text(json.dumps(written | {"data": "shapes"}), encoding="utf-8")
    asked = []
    monkeypatch.setattr(cli, "_train", lambda *given: asked.append(given))
    assert reparam("demo") == (0, "", "")
    assert not last.exists()
    ((data, preset, out, resumed, *_),) = asked
    assert (data, preset, out, resumed) == ("shapes", "quick", "runs/demo", None)


def test_a_demo_replaces_nothing_else(refused, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert "exists already" in refused(2, "demo", "--out", "mine")
