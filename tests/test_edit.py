"""Editing by attributes: the arithmetic against plain numpy, and the commands from labelled images to pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from reparam.cli.app import main
from reparam.downstream.attributes import all_attributes, attribute, held
from reparam.downstream.directions import direction_of, mix, moved, read_directions
from reparam.downstream.sampling import Around, Keep, draw_codes
from reparam.downstream.saved import save_fitted
from reparam.errors import ModelFileError, UsageError
from reparam.files.tables import read_cells
from reparam.models.sampler import Sampler
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.image_model import ImageModel, load

# arithmetic of codes


@pytest.fixture
def made(small):
    def make(**fields):
        vae = small((1, 4, 4), moved=0.3, **fields).eval()
        return ImageModel(Sampler(vae), Config(Recipe(**{"latent": "flat(4)", **fields}), (1, 4, 4)))
    return make


def test_codes_of_real_numbers_are_added_to(made):
    z, step = np.random.default_rng(0).normal(size=(3, 4)), np.array([1.0, -2.0, 0.5, 0.0])
    after = moved(made(), z, step)
    assert after.dtype == np.float32 and np.array_equal(after, (z + step).astype(np.float32))
    assert np.array_equal(moved(made(), z, z), (2 * z).astype(np.float32))  # a step for each


@pytest.mark.parametrize(("latent", "shape"), [("flat(4)", (4,)), ("spatial(2, 3)", (2, 2, 2))])
def test_moved_codes_stay_on_their_spheres(made, latent, shape):
    model = made(latent=latent, posterior="vmf", prior="sphere")
    assert model.latent_shape == shape
    z = model.encode(np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), np.uint8))
    step = np.random.default_rng(1).normal(size=shape)
    after = moved(model, z, step.ravel())
    wanted = (z + step) / np.sqrt(((z + step) ** 2).sum(1, keepdims=True))  # over channels, at each place
    assert np.allclose(after, wanted, atol=1e-6) and np.allclose(moved(model, z, 0 * step), z, atol=1e-6)


@pytest.mark.parametrize(("latent", "shape"), [("flat(4)", (4,)), ("spatial(4, 2)", (4, 2, 2))])
def test_moved_bits_and_classes_stay_probabilities(made, latent, shape):
    z = np.random.default_rng(0).uniform(0.2, 0.8, (5, *shape))
    step = np.random.default_rng(1).normal(size=shape)
    bits = moved(made(latent=latent, posterior="relaxed_bernoulli", prior="relaxed"), z, step)
    assert np.array_equal(bits, np.clip(z + step, 0, 1).astype(np.float32))
    classes = made(latent=latent, posterior="relaxed_categorical(2)", prior="relaxed")
    after = moved(classes, z, step)
    for first in (0, 2):
        pair = np.maximum((z + step)[:, first:first + 2], 1e-6)
        assert np.allclose(after[:, first:first + 2], pair / pair.sum(1, keepdims=True), atol=1e-6)
    assert np.allclose(moved(classes, after, 0 * step), after, atol=1e-5)


def test_whole_numbers_are_not_added_to(made):
    with pytest.raises(UsageError, match="whole numbers"):
        moved(made(posterior="lfq(2)", prior="uniform"), np.zeros((1, 4)), np.ones(4))


def test_a_mix_decodes_the_weighted_sum_of_codes(made):
    model = made()
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), np.uint8)
    a, b, c = model.encode(images)
    assert np.array_equal(mix(model, images, [1, -1, 0.5]).ravel(), model.decode((a - b + 0.5 * c)[None]).ravel())
    assert np.array_equal(mix(model, images[:1], [1]).ravel(), model.reconstruct(images[:1]).ravel())


# attributes


COLUMNS = {"label": ["a"] * 10 + ["b"] * 10 + ["c"] * 10, "hat": [*(["yes", "no"] * 15)[:-1], None],
           "size": [str(i) for i in range(30)], "name": [f"n{i}" for i in range(20)] + ["n0"] * 10}


def test_a_direction_is_of_the_images_that_are_known():
    z = np.random.default_rng(0).normal(size=(30, 3))
    for wanted, with_it, without in ((attribute(COLUMNS, "label", "a"), slice(10), slice(10, 30)),
                                     (attribute(COLUMNS, "label", "a", "c"), slice(10), slice(20, 30)),
                                     (attribute(COLUMNS, "hat"), slice(0, 30, 2), slice(1, 29, 2)),
                                     (attribute(COLUMNS, "size"), slice(15, 30), slice(15))):
        assert np.allclose(direction_of(z, wanted).vector, z[with_it].mean(0) - z[without].mean(0)), wanted.name


def test_what_an_image_is_instead_is_known_of_one_value_of_several():
    assert len(set(attribute(COLUMNS, "label", "a").kinds)) == 3
    assert len(set(attribute(COLUMNS, "name", "n0").kinds)) == 20
    against = attribute(COLUMNS, "label", "a", "c")
    assert len(set(against.kinds[against.known])) == 2
    for of_two in (attribute(COLUMNS, "hat"), attribute(COLUMNS, "size")):
        assert np.array_equal(of_two.kinds == 1, of_two.has)


def test_attributes_have_names_and_all_are_found():
    assert [a.name for a in all_attributes(COLUMNS)] == ["a", "b", "c", "hat", "size", *(
        f"name:{v}" for v in sorted({f"n{i}" for i in range(20)}))]
    assert set(held(COLUMNS, ["label", "hat"], attribute(COLUMNS, "size"))) == {"b", "c", "hat"}
    with pytest.raises(UsageError, match="cannot leave alone"):
        held(COLUMNS, ["hat"], attribute(COLUMNS, "hat"))
    with pytest.raises(UsageError, match="did you mean 'hat'"):
        attribute(COLUMNS, "hut")


def test_what_is_no_number_is_not_known():
    sizes = {"size": [*map(str, range(20)), "nan", "nan"]}
    assert attribute(sizes, "size").known.tolist() == [True] * 20 + [False] * 2


# the commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Digits in sub-folders a and b, a table of them, and a run."""
    at = tmp_path_factory.mktemp("edit")
    images, target = load_digits(return_X_y=True)
    rows, rng = ["file,round,shade,paper"], np.random.default_rng(0)
    for i in np.flatnonzero(target < 2)[:120]:
        name = f"{'ab'[target[i]]}/{i:03}.png"
        (at / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        shade = 5 + 10 * rng.random()
        Image.fromarray((images[i].reshape(8, 8) * shade).astype(np.uint8)).save(at / "data" / name)
        rows.append(f"{name},{'no' if target[i] else 'yes'},{shade:.3f},white")
    (at / "table.csv").write_text("\n".join(rows))
    assert main(["train", str(at / "data"), "--steps", "60", "--preset", "mlp", "--latent", "flat(6)", "--out",
                 str(at / "run"), "--fitted-prior", "none", "--device", "cpu", "--json"]) == 0
    return at


@pytest.fixture
def at(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    (folder / "run/directions.safetensors").unlink(missing_ok=True)
    capsys.readouterr()
    return folder


def picture(path):
    with Image.open(path) as opened:
        return np.asarray(opened)


def kept(folder):
    model = load(folder / "run", device="cpu")
    return read_directions(folder / "run", model)


def codes(folder, name):
    model = load(folder / "run", device="cpu")
    files = sorted((folder / "data" / name).glob("*.png"))
    return model.encode(np.stack([picture(f) for f in files])[..., None]).astype(np.float64)


def test_a_label_two_folders_and_a_column_give_the_same_direction(at, capsys):
    assert main(["direction", "run", "data", "--label", "a"]) == 0
    said = capsys.readouterr().out
    assert "reparam edit run PHOTO --add a=1.5" in said and "1 direction kept" in said
    assert main(["direction", "run", "data", "--label", "a", "--against", "b", "--name", "not b"]) == 0
    assert main(["direction", "run", "data/a", "data/b", "--name", "folders"]) == 0
    assert main(["direction", "run", "data", "--table", "table.csv", "--column", "round"]) == 0
    assert main(["direction", "run", "data", "--table", "table.csv", "--column", "shade", "--json", "--table-out",
                 "found.parquet"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["directions"][0]["shown"]
    (heads, row), found = read_cells("found.parquet"), kept(at)
    assert heads == ["direction", "accuracy", "low", "high", "n", "shown", "keeps"] and row[0] == "shade"
    assert list(found) == ["a", "not b", "folders", "round", "shade"]
    assert told == found["shade"].shown == pytest.approx(float(row[5])) != 1
    difference = codes(at, "a").mean(0) - codes(at, "b").mean(0)
    for name in ("a", "not b", "folders", "round"):
        assert np.allclose(found[name].vector, difference, atol=1e-4), name
    assert picture("run/directions.png").std() > 0
    capsys.readouterr()
    assert main(["direction", "run"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["a", "not", "folders", "round", "shade"]


def test_all_of_a_table(at, capsys):
    assert main(["direction", "run", "data", "--table", "table.csv", "--all", "--out", "strip.png", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [d["name"] for d in facts["directions"]] == ["shade"] and facts["picture"] == "strip.png"
    assert set(facts["left_out"]) == {"b", "round"}  # which are one thing
    height, width = picture("strip.png").shape[:2]
    assert width > 8 * height  # nine pictures in one row


def test_edits_are_written_in_each_form(at, capsys):
    for name, where in (("a", []), ("shade", ["--table", "table.csv"])):
        assert main(["direction", "run", "data", *(["--label", "a"] if name == "a" else [*where, "--column", name])]) == 0
    files = sorted(str(f) for f in (at / "data/b").iterdir())[:2]
    adds = ["--add", "a=1.5", "--add", "shade=-0.5"]
    assert main(["edit", "run", *files, *adds, "--out", "edits/"]) == 0
    assert main(["edit", "run", *files, *adds, "--out", "edits.npy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["changes"] == {"a": 1.5, "shade": -0.5}
    array, found = np.load("edits.npy"), kept(at)
    assert all(np.array_equal(picture(f), x.squeeze()) for f, x in zip(
        sorted((at / "edits").rglob("*.png")), array, strict=True))
    model = load(at / "run", device="cpu")
    images = np.stack([picture(f) for f in files]).reshape(array.shape)
    z = model.encode(images)
    there = model.decode(z + (found["a"].step(z, 1.5) + found["shade"].step(z, -0.5)).astype(np.float32)).astype(float)
    wanted = np.clip(there.reshape(array.shape) + images - model.decode(z).reshape(array.shape), 0, 255)
    assert np.abs(array - wanted).max() <= 1
    for out, steps in (("edit.png", "5"), ("one.png", "1"), ("edit.gif", "5")):
        assert main(["edit", "run", *files, "--add", "a", "--steps", steps, "--out", out]) == 0
    with Image.open("edit.gif") as moving:
        assert moving.n_frames == 8  # there and back
    assert main(["edit", "run", *files, "--add", "a", "--out", "a.npy"]) == 0
    alone = picture("one.png")
    for edited in np.load("a.npy"):  # the edit, not the original
        assert edited.max() in alone and edited.mean() > 0


def test_a_mix_has_signs_and_weights(at, capsys):
    a, b, c = (str(sorted((at / "data" / k).iterdir())[i]) for k, i in (("a", 0), ("b", 0), ("a", 1)))
    assert main(["mix", "run", a, "-", b, "+", f"0.5*{c}", "--out", "mix.npy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["weights"] == [1, -1, 0.5]
    model = load(at / "run", device="cpu")
    z = model.encode(np.stack([picture(f) for f in (a, b, c)])[..., None])
    assert np.array_equal(np.load("mix.npy").ravel(), model.decode((z[0] - z[1] + 0.5 * z[2])[None]).ravel())
    assert main(["mix", "run", "-", a, "+", f"-2*{b}"]) == 0
    assert picture("mix.png").shape[1] > 3 * 128


REFUSED = [
    (["direction", "run", "data"], "say which attribute"),
    (["direction", "run", "data", "--label", "aa"], "has no value 'aa'"),
    (["direction", "run", "data", "--label", "a", "--against", "q"], "has no value 'q'"),
    (["direction", "run", "data", "--label", "a", "--keep", "z"], "--keep z: unknown"),
    (["direction", "run", "data/a", "data/b"], "--name smiling"),
    (["direction", "run", "data/a", "data/b", "data"], "one source of data, or two"),
    (["direction", "run", "data/a", "data/b", "--name", "x", "--all"], "two sources say themselves"),
    (["direction", "run", "data/a", "--label", "a"], "no labels"),
    (["direction", "run", "data", "--table", "table.csv", "--column", "rond"], "did you mean 'round'"),
    (["direction", "run", "data", "--table", "table.csv", "--column", "paper"], "paper is the same of all images"),
    (["direction", "run", "data", "--table", "table.csv", "--column", "shade", "--keep", "shade"], "cannot leave alone"),
    (["direction", "run", "data", "--label", "a", "--out", "x.gif"], "--out must be a .png"),
    (["direction", "run", "data", "--all", "--label", "a"], "leave out the other flags"),
    (["edit", "run", "data/b", "--add", "rund=1"], "did you mean 'round'"),
    (["edit", "run", "data/b", "--add", "round=much"], "takes a direction and a number"),
    (["edit", "run", "data/b", "--add", "round=nan"], "takes a direction and a number"),
    (["edit", "run", "data/b"], "say what to change"),
    (["edit", "run", "--add", "round"], "name at least 1 image"),
    (["edit", "run", "data/b", "--add", "round", "--detail", "2"], "--detail"),
    (["edit", "run", "data/b", "--add", "round", "--out", "x.txt"], "--out must be"),
    (["mix", "run"], "name images with"),
    (["mix", "run", "a.jpg", "b.jpg"], "no sign stands before"),
    (["mix", "run", "a.jpg", "+", "-", "b.jpg"], "two signs"),
    (["mix", "run", "a.jpg", "+"], "name images with"),
    (["mix", "run", "x*a.jpg"], "is no number"),
    (["mix", "run", "inf*a.jpg"], "is no number"),
    (["mix", "run", "data"], "name one image"),
]


def test_refusals_are_in_words(at, capsys):
    assert main(["edit", "run", "data/b", "--add", "round=1"]) == 2
    assert "None is kept yet" in capsys.readouterr().err
    assert main(["direction", "run"]) == 0
    assert "no directions are kept" in capsys.readouterr().out
    assert main(["direction", "run", "data", "--table", "table.csv", "--column", "round"]) == 0
    for words, wanted in REFUSED:
        capsys.readouterr()
        code, said = main(words), capsys.readouterr().err
        assert (code, wanted in said, "Traceback" in said) == (2, True, False), (words, code, said)


def test_directions_of_other_weights_are_refused(at, capsys):
    assert main(["direction", "run", "data", "--label", "a"]) == 0
    model = load(at / "run", device="cpu")
    with torch.no_grad():
        next(iter(model.network.parameters())).add_(1)
    with pytest.raises(ModelFileError, match="as it was before"):
        read_directions(at / "run", model)
    (at / "run/directions.safetensors").write_bytes(b"nonsense")
    capsys.readouterr()
    assert main(["edit", "run", "data/b", "--add", "a"]) == 1
    said = capsys.readouterr().err
    assert "directions.safetensors" in said and "Write it again with: reparam direction" in said and "Traceback" not in said
    assert main(["direction", "run", "data", "--label", "b"]) == 0  # as the message advises
    assert list(kept(at)) == ["b"]
    facts = [{"name": "b", "accuracy": 1.0, "interval": [0.9, 1.0], "n": 20, "kept": [], "shown": 1.0}]
    save_fitted(at / "run/directions.safetensors", "directions", load(at / "run", device="cpu"), {"0": np.ones(6)}, facts)
    assert main(["sample", "run", "--add", "b"]) == 1  # written before directions knew of kinds
    assert "this version of reparam" in capsys.readouterr().err


def test_samples_are_moved_before_they_are_decoded(at, capsys):
    assert main(["direction", "run", "data", "--label", "a"]) == 0
    photo, model = str(next((at / "data/b").iterdir())), load(at / "run", device="cpu")
    for how in ([], ["--like", photo, "--variation", "0.3"], ["--diverse", "2", "--typical", "0.5", "--temperature", "0.8"]):
        assert main(["sample", "run", "-n", "5", *how, "--add", "a=1.5", "--out", "moved.npy"]) == 0
        keep = Keep(0.5, 2) if "--diverse" in how else Keep()
        around = Around(torch.from_numpy(model.encode(picture(photo)[None])), 0.3) if "--like" in how else None
        z = draw_codes(model, 5, model.options(temperature=(0.8 if "--typical" in how else 1.0,)), around=around, keep=keep,
                       seed=0).numpy()
        wanted = model.decode(z + kept(at)["a"].step(z, 1.5).astype(np.float32))
        assert np.abs(np.load("moved.npy").astype(float).ravel() - wanted.ravel()).max() <= 1, how
    capsys.readouterr()
    assert main(["sample", "run", "--add", "hat"]) == 2
    assert "unknown direction 'hat'. Known: a" in capsys.readouterr().err
    assert main(["sample", "run", "--add", "a=x"]) == 2
    assert "a direction and a number" in capsys.readouterr().err
