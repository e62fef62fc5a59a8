"""The command `map`: the picture, the page, the table that Embedding Atlas opens, and files of the embedding projector."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness

import reparam
from reparam.cli.app import main
from reparam.downstream import neighbourhoods
from reparam.downstream.maps import OTHERS, as_known, landmarks, principal_map
from reparam.errors import UsageError
from reparam.pretrained.image_model import load

FILES = ("map.png", "map.html", "map.parquet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as files in two folders and beside them, a table, and a model of one folder, whose images have another size."""
    at = tmp_path_factory.mktemp("map")
    rows = ["file,shade,size"]
    for i, image in enumerate(load_digits().images[:90]):
        name = f"{('even/' if i % 2 == 0 else '<i>odd/') if i < 60 else ''}{i}.png"
        (at / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        size = (8, 8) if name.startswith("even") else (12, 9)
        Image.fromarray((image * 15).astype(np.uint8)).resize(size).save(at / "data" / name)
        rows.append(f"{name},{i % 3},{image.mean():.4f}")
    (at / "table.csv").write_text("\n".join(rows))
    (at / "other.csv").write_text("file,shade\nsomething.png,1\n")
    reparam.train(at / "data" / "even", out=at / "run", steps=60, threads=1, precision="float32", encoder="mlp((16,))",
                  decoder="mlp((16,))", latent="flat(4)", fitted_prior="none", batch_size=8)
    return at


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def test_the_files_of_a_map(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "run", "data", "--json", "--projector", "proj"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [said[k] for k in ("picture", "page", "table")] == [str(Path("run") / name) for name in FILES]
    assert said["images"] == 90 and said["colour"] == "label"
    assert said["notes"] == ["30 images of 90 without a label are grey"]
    assert np.asarray(Image.open("run/map.png")).std() > 5
    page = Path("run/map.html").read_text(encoding="utf-8")
    assert page.count("<button") == 3 and "&lt;i&gt;odd" in page and "<i>odd" not in page and "src='http" not in page
    table = parquet.read_table("run/map.parquet")
    assert table.column_names == ["name", "label", "x", "y", "code", "thumbnail"]
    names = table["name"].to_pylist()
    assert table["label"].to_pylist().count(None) == 30
    model, codes = load("run", device="cpu"), np.stack(table["code"].to_pylist())
    found = reparam.map_codes(model, "data")
    assert found.names == names and np.allclose(codes, model.encode(found.pixels).reshape(90, -1), atol=1e-5)
    thumbnail = np.asarray(Image.open(io.BytesIO(table["thumbnail"][7].as_py())))
    assert (thumbnail == found.pixels[7]).all()  # grey, in colour
    assert said["trustworthiness"] == pytest.approx(found.map.trustworthiness, abs=1e-6)


def test_the_projector_gets_its_documented_form(here: Path) -> None:
    """Tensors without a heading, metadata with one where they have two columns, a sprite row by row, and both
    configurations: TensorBoard's projector_config.proto, and the JSON of the page of its own."""
    assert main(["map", "run", "data", "--out", "p.png", "--projector", "projector"]) == 0
    at = here / "projector"
    vectors = np.loadtxt(at / "vectors.tsv", delimiter="\t", ndmin=2)
    heads, *rows = [line.split("\t") for line in (at / "metadata.tsv").read_text(encoding="utf-8").splitlines()]
    found = reparam.map_codes("run", "data")
    assert np.allclose(vectors, found.codes, atol=1e-6) and heads == ["name", "label"]
    assert [row[0] for row in rows] == found.names
    sprite = np.asarray(Image.open(at / "sprite.png"))
    assert sprite.shape == (80, 80, 3)  # ten by ten, of which the last ten are empty
    assert (sprite[24:32, 16:24] == found.pixels[32]).all() and not sprite[72:].any()
    config = json.loads((at / "projector_config.json").read_text())["embeddings"][0]
    assert config["tensorShape"] == [90, 4] and config["sprite"] == {"imagePath": "sprite.png", "singleImageDim": [8, 8]}
    text = (at / "projector_config.pbtxt").read_text()
    fields = dict(re.findall(r'^\s*(\w+): "?([^"\n]*)"?$', text, re.M))
    assert fields == {"tensor_name": "codes", "tensor_path": "vectors.tsv", "metadata_path": "metadata.tsv",
                      "image_path": "sprite.png", "single_image_dim": "8"}
    assert text.count("single_image_dim") == 2 and text.count("{") == text.count("}") == 2
    assert all((at / config[key]).exists() for key in ("tensorPath", "metadataPath"))
    assert main(["map", "run", "data/even", "--out", "p.png", "--projector", "projector"]) == 0
    assert len((at / "metadata.tsv").read_text().splitlines()) == 30  # names alone: no heading


def test_colours_by_a_table_and_without_anything(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "run", "data", "--table", "table.csv", "--column", "size", "--out", "s.png", "--table-out",
                 "s.csv"]) == 0
    assert "class='shades'" in (here / "s.html").read_text(encoding="utf-8")
    assert (here / "s.csv").read_text().splitlines()[0] == "name,size,x,y,code0,code1,code2,code3"
    capsys.readouterr()
    assert main(["map", "run", "--out", "own.png"]) == 0  # of the run's own held-out images
    assert "nothing is known of these images" in capsys.readouterr().out


@pytest.mark.parametrize(("given", "code", "words"), [
    (["run", "data/even/0.png"], 2, "at least 3 images; got 1"),
    (["run", "data/even/0.png", "data/even/2.png"], 2, "at least 3 images; got 2"),
    (["run", "data", "--table", "other.csv", "--column", "shade"], 1, "does not name"),
    (["run", "data", "--table", "table.csv", "--column", "shde"], 1, "did you mean 'shade'"),
    (["run", "data", "--table", "table.csv"], 2, "which one colours"),
    (["run", "data", "--column", "shade"], 2, "name the --table"),
    (["run", "data", "--out", "m.gif"], 2, "must be a .png"),
    (["run", "data", "--table", "table.csv", "--column", "shade", "--table-out", "table.csv"], 2, "written over"),
    (["run", "data", "--projector", "table.csv"], 2, "is a file"),
    (["run", "nowhere"], 1, "nowhere"),
    (["run", "data", "-n", "0"], 2, "-n")])
def test_what_a_stranger_does_wrong_is_said(here: Path, capsys: pytest.CaptureFixture[str], given: list[str], code: int,
                                            words: str) -> None:
    before = sorted(path.name for path in here.iterdir())
    assert main(["map", *given]) == code
    assert words in capsys.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == before


def test_three_images_are_enough(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "run", *(f"data/even/{i}.png" for i in (0, 2, 4)), "--out", "few.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trustworthiness"] is None


def test_a_map_of_neighbourhoods_asks_for_its_package(here: Path, capsys: pytest.CaptureFixture[str],
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbourhoods, "has_package", lambda: False)
    assert main(["map", "run", "data", "--method", "pacmap", "--out", "u.png"]) == 2
    assert 'pip install "reparam[map]"' in capsys.readouterr().err


def test_what_is_known_as_colours() -> None:
    classes = as_known("label", ["b", "", "a", "c"], ("c", "b", "a", "unused"))
    assert classes.classes == ("c", "b", "a") and classes.values.tolist() == [1, -1, 2, 0] and classes.unknown == 1
    assert as_known("n", ["10", "9", "9", "2"]).classes == ("2", "9", "10")
    numbers = as_known("size", [*(str(i / 2) for i in range(30)), ""])
    assert numbers.classes == () and numbers.span == (0, 14.5) and np.isnan(numbers.values[-1])
    many = as_known("word", [*(f"w{i:02}" for i in range(40)), *["w07"] * 3])
    assert len(many.classes) == 20 and many.classes[-1] == OTHERS and (many.values[40:] == many.values[7]).all()
    assert (many.values[[20, 39]] == 19).all()


def test_landmarks_lie_apart_and_cover_the_plane() -> None:
    xy = np.random.default_rng(0).normal(size=(500, 2)) * 3
    rows = landmarks(xy, 2.0)
    apart = np.abs(xy[rows][:, None] - xy[rows]).max(2)
    np.fill_diagonal(apart, np.inf)
    assert apart.min() >= 2 and len(rows) == len(set(rows.tolist())) > 10
    assert np.abs(xy[:, None] - xy[rows]).max(2).min(1).max() < 2 * 2.0  # nothing is far from all of them


def test_trust_is_by_its_definition_and_equal_codes_make_no_map() -> None:
    z = np.random.default_rng(0).normal(size=(60, 4))
    found = principal_map(z)
    away, flat = (np.linalg.norm(v[:, None] - v, axis=2) for v in (z, found.xy))
    rank = away.argsort(1).argsort(1)
    k, n, penalty = 5, 60, 0
    for i in range(n):
        for j in flat[i].argsort()[1 : k + 1]:
            penalty += max(int(rank[i, j]) - k, 0)
    by_hand = 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * penalty  # (Venna & Kaski, 2001)
    assert found.trustworthiness == pytest.approx(by_hand) == pytest.approx(trustworthiness(z, found.xy, n_neighbors=k))
    with pytest.raises(UsageError, match="the same code"):
        principal_map(np.ones((9, 3)))
