"""What the explorer answers, without a server: planes by their mathematics, figures by NumPy, files by their readers."""

from __future__ import annotations

import csv
import io
import json
import shutil
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import program
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

import reparam
from reparam.downstream.directions import Direction, save_directions
from reparam.errors import DataError, ReparamError, UsageError
from reparam.explorer import figures, points
from reparam.explorer.questions import Question
from reparam.explorer.session import Session
from reparam.models.sampling import Sampling

N = 300
FITTED = {"fitted_prior": "mixture(3)"}


@pytest.fixture(scope="module")
def folder(explorable, tmp_path_factory):
    """Digits with a table of two columns, and a direction that is kept."""
    at = explorable(stages=FITTED)
    rows = [f"{i},{('thin', 'thick')[i % 2]},{i / 7:.3f}" for i in range(1797) if i % 5]
    (at / "table.csv").write_text("\n".join(["name,stroke,size", *rows]))
    vector = np.array([1.0, 0, -2, 0.5])
    kept = Direction("bold", vector, vector, np.zeros((2, 4)), np.zeros((2, 4)), np.zeros(2), 0.9, (0.8, 0.95), 50)
    save_directions(at, reparam.load(at, device="cpu"), {"bold": kept})
    return at


@pytest.fixture(scope="module")
def session(folder):
    return Session.open([folder], table=folder / "table.csv", most=N, device="cpu")


@pytest.fixture
def ask(session):
    def answer(op, file=b"", *, of=session, **said):
        return of.answer(Question({"op": op, **said}, file))

    return answer


def picture_of(image, form="PNG", **how):
    held = io.BytesIO()
    Image.fromarray(image[..., 0]).save(held, form, **how)
    return held.getvalue()


# what there is


def test_hello_says_all(ask, session):
    said = json.loads(json.dumps(ask("hello").fields, allow_nan=False))
    (run,) = said["runs"]
    assert run["image"] == [8, 8, 1] and run["latent"] == [4] and run["folder"] == str(session.runs[0].folder)
    assert run["ways"] == [
        {"prior": "mixture", "title": "mixture, fitted", "resample": False, "labels": False, "guides": False},
        {"prior": "normal", "title": "normal, the model's own", "resample": False, "labels": False, "guides": False}]
    assert run["plain"]
    assert run["has_encoder"] and not run["refines"] and run["classes"] == [str(i) for i in range(10)]
    assert run["directions"] == [{"name": "bold", "accuracy": 0.9}]
    assert sorted(axis["index"] for axis in run["axes"]) == [0, 1, 2, 3]
    for axis in run["axes"]:
        code = session.runs[0].codes[:, axis["index"]]
        assert code.min() <= axis["low"] < axis["high"] <= code.max()
    assert said["points"]["n"] == N and not said["training"] and said["notes"] == []
    columns = {each["name"]: each for each in said["points"]["columns"]}
    assert list(columns) == ["label", "part", "stroke", "size", "error", "elbo"]
    assert columns["stroke"]["values"] == ["thick", "thin"] and columns["size"]["kind"] == "number"
    planes = [(plane["name"].partition(":")[0], plane["exact"]) for plane in said["planes"]]
    assert planes == [("pca", True), ("latents", True), ("pacmap", False)]
    assert run["folder"] == str(session.runs[0].folder)


def test_a_column_names_the_latent_that_goes_along_with_it(session):
    run = session.runs[0]
    codes = run.codes.copy()
    codes[:, 2] = session.points.known["label"].values + 0.1 * np.random.default_rng(0).normal(size=N)
    there = type(run)(run.folder, run.model, run.points, run.kept, codes)
    assert there.axis_names.get(2) == "label" and list(there.axis_names.values()).count("label") == 1


# planes


def test_the_plane_of_principal_components_is_scikit_learns(ask, session):
    codes = session.runs[0].codes.astype(np.float64)
    theirs = PCA(2, svd_solver="full").fit(codes)
    answer = ask("plane", plane="pca")
    xy, scores = answer.arrays["xy"], theirs.transform(codes)
    scale = np.array([np.vdot(xy[:, k], scores[:, k]) / np.vdot(xy[:, k], xy[:, k]) for k in (0, 1)])
    np.testing.assert_allclose(xy * scale, scores, atol=1e-4)
    assert np.isclose(abs(scale[0]), abs(scale[1])), "distances on the plane are the codes', up to one factor"
    shares = [float(title.split(", ")[1].split("%")[0]) / 100 for title in answer.fields["titles"]]
    np.testing.assert_allclose(shares, theirs.explained_variance_ratio_, atol=0.006)
    for x, y in ((0.0, 0.0), (1.5, -0.7), (-3.0, 2.0)):
        code = ask("at", plane="pca", x=x, y=y).arrays["code"]
        np.testing.assert_allclose(code, theirs.inverse_transform(np.array([[x, y]]) * scale), atol=1e-4)


def test_two_latents_leave_the_others_at_their_means(ask, session):
    codes = session.runs[0].codes
    answer = ask("plane", plane="latents:3,1")
    assert answer.fields["titles"] == ["latent 3", "latent 1"] and answer.fields["exact"]
    np.testing.assert_array_equal(answer.arrays["xy"], codes[:, [3, 1]])
    code = ask("at", plane="latents:3,1", x=0.25, y=-2).arrays["code"][0]
    np.testing.assert_allclose(code, [codes[:, 0].mean(), -2, codes[:, 2].mean(), 0.25], atol=1e-5)


def test_a_point_of_a_plane_is_what_the_model_makes_of_its_code(ask, session):
    there = ask("at", plane="pca", x=0.4, y=0.2).arrays
    np.testing.assert_array_equal(there["image"][..., 0], session.runs[0].model.decode(there["code"]))
    assert there["image"].shape == (1, 8, 8, 1) and there["image"].dtype == np.uint8


# images and codes


def test_many_codes_are_decoded_in_steps(session):
    codes = np.random.default_rng(0).normal(size=(100, 4))
    *steps, last = session.steps(Question({"op": "decode", "codes": codes.tolist()}))
    assert len(steps) == 3 and not any(steps)
    np.testing.assert_array_equal(last.arrays["images"][..., 0], session.runs[0].model.decode(codes))


def test_columns_are_numbers_of_classes_and_values(ask, session):
    at = session.points
    np.testing.assert_array_equal(ask("column", name="label").arrays["values"], at.images.labels[at.rows])
    stroke, size = ask("column", name="stroke").arrays["values"], ask("column", name="size").arrays["values"]
    known = at.rows % 5 > 0
    np.testing.assert_array_equal(np.isnan(stroke), ~known)
    np.testing.assert_array_equal(stroke[known], 1 - at.rows[known] % 2)
    np.testing.assert_allclose(size[known], at.rows[known] / 7, atol=1e-3)
    parts, split = ask("column", name="part").arrays["values"], at.images.split()
    for k, part in enumerate(split):
        np.testing.assert_array_equal(parts == k, np.isin(at.rows, part))


def test_figures_are_measured_in_steps_and_kept(folder, session, monkeypatch):
    *steps, last = session.steps(Question({"op": "column", "name": "error"}))
    model, x = session.runs[0].model, session.points.images.images[session.points.rows]
    apart = x[..., 0].astype(float) - model.decode(model.encode(x))
    np.testing.assert_allclose(last.arrays["values"], np.sqrt((apart**2).mean((1, 2))), rtol=1e-5)
    assert len(steps) == -(-N // 32) and not any(steps)
    elbo = session.answer(Question({"op": "column", "name": "elbo"})).arrays["values"]
    np.testing.assert_allclose(elbo[:5], model.score(x[:5]), rtol=1e-4)

    def again(*_):
        raise AssertionError("measured a second time")

    monkeypatch.setattr(figures, "errors", again)
    monkeypatch.setattr(type(model), "encode_pixels", again)
    later = Session.open([folder], most=N, device="cpu")
    np.testing.assert_array_equal(later.answer(Question({"op": "column", "name": "error"})).arrays["values"],
                                  last.arrays["values"])


def test_what_is_kept_of_other_images_or_weights_is_not_believed(explorable):
    folder = explorable()
    first = Session.open([folder], most=50, device="cpu").runs[0]
    assert Session.open([folder], most=40, device="cpu").runs[0].codes.shape == (40, 4)
    other = explorable(latent="flat(3)")
    shutil.copy(folder / points.FILE, other / points.FILE)
    assert Session.open([other], most=40, device="cpu").runs[0].codes.shape == (40, 3)
    of_others = replace(first.points, images=replace(first.points.images, fingerprint="others"))
    points.Kept(folder / points.FILE, first.model, of_others).keep("codes", np.zeros((50, 4), np.float32))
    np.testing.assert_array_equal(Session.open([folder], most=50, device="cpu").runs[0].codes, first.codes)
    (folder / points.FILE).write_bytes(b"nonsense")
    np.testing.assert_array_equal(Session.open([folder], most=50, device="cpu").runs[0].codes, first.codes)


def test_a_row_is_its_image_and_what_becomes_of_it(ask, session):
    found, at, run = ask("of_row", row=7), session.points, session.runs[0]
    image = at.images.images[at.rows[[7]]]
    np.testing.assert_array_equal(found.arrays["image"], image)
    np.testing.assert_allclose(found.arrays["code"], run.model.encode(image), atol=1e-5)
    np.testing.assert_array_equal(found.arrays["reconstruction"][..., 0], run.model.reconstruct(image)[..., 0])
    assert found.fields["name"] == at.images.names[at.rows[7]] and found.fields["known"]["stroke"] in ("thin", "thick", "")
    assert found.fields["label"] == str(at.images.labels[at.rows[7]])
    assert found.arrays["nats"].shape == (4,) and (found.arrays["nats"] > 0).all()
    np.testing.assert_array_equal(ask("thumbs", rows=[7, 7, 1]).arrays["images"][:2], np.concatenate([image, image]))


def test_nats_of_an_image_are_those_of_its_posterior(ask, session):
    at, run = session.points, session.runs[0]
    x = torch.from_numpy(at.images.images[at.rows[[3]]]).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        q = run.model.vae(x, samples=1).layers[0].q
    mean, log_var = (t.reshape(4).double().numpy() for t in (q.loc, q.log_var))
    np.testing.assert_allclose(ask("of_row", row=3).arrays["nats"], (mean**2 + np.exp(log_var) - 1 - log_var) / 2, rtol=1e-4)


def test_ones_own_picture_is_read_as_the_data_are(ask, session):
    image = session.points.pixels(np.array([5]))[0]
    found = ask("encode", picture_of(image))
    np.testing.assert_array_equal(found.arrays["image"][0], image)
    np.testing.assert_allclose(found.arrays["code"], session.runs[0].codes[[5]], atol=1e-5)
    apart = image.astype(float) - found.arrays["reconstruction"][0]
    assert np.isclose(found.fields["difference"], np.sqrt((apart**2).mean()))
    exif = Image.Exif()
    exif[0x0112] = 3  # taken upside down
    turned = ask("encode", picture_of(image, exif=exif)).arrays["image"][0]
    np.testing.assert_array_equal(turned, image[::-1, ::-1])


PARTS = {b"IHDR": struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(bytes(10**6)), b"IEND": b""}
BOMB = b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)) for name, part in PARTS.items())
"""A PNG of 900 million pixels in a kilobyte."""


@pytest.mark.parametrize("file", [b"", b"GIF89a", b"%PDF-1.4 something", b"\x93NUMPY\x01\x00", b"PK\x03\x04" + bytes(40),
                                  b"\x93NUMPY\x01\x00" + b"\xff" * 100, BOMB], ids=range(7))
def test_what_is_no_picture_is_told_without_a_path(ask, file):
    with pytest.raises(DataError) as told:
        ask("encode", file)
    assert "/" not in str(told.value)


# what is made


def test_neighbours_are_scikit_learns(ask, session):
    codes = session.runs[0].codes
    theirs = NearestNeighbors(n_neighbors=6).fit(codes)
    for said, query in (({"row": 11}, codes[[11]]), ({"code": [0.1, 0.2, -0.3, 0]}, [[0.1, 0.2, -0.3, 0]])):
        found, (distances, rows) = ask("neighbours", n=6, **said).arrays, theirs.kneighbors(query)
        np.testing.assert_array_equal(found["rows"], rows[0])
        np.testing.assert_allclose(found["distances"], distances[0], atol=1e-5)
    assert len(ask("neighbours", n=200, row=0).arrays["rows"]) == 200


def test_the_mean_of_rows(ask, session):
    rows = [1, 4, 9]
    np.testing.assert_allclose(ask("mean", rows=rows).arrays["code"][0], session.runs[0].codes[rows].mean(0), atol=1e-6)


def test_a_path_leads_through_its_codes_on_great_circles(ask):
    stops = np.array([[1.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, -1]])
    found = ask("path", codes=stops.tolist(), frames=9).arrays
    assert found["images"].shape == (9, 8, 8, 1)
    np.testing.assert_allclose(found["codes"][[0, 4, 8]], stops, atol=1e-6)
    half = np.sin(np.pi / 4)
    np.testing.assert_allclose(found["codes"][2], half * (stops[0] + stops[1]), atol=1e-6)


def test_a_geodesic_path_ends_where_it_should(ask):
    stops = [[0.5, 0, 0, 0.2], [0, 0.5, 0.3, 0]]
    found = ask("path", codes=stops, frames=5, geodesic=True).arrays
    np.testing.assert_allclose(found["codes"][[0, -1]], stops, atol=1e-5)
    assert not np.allclose(found["codes"], ask("path", codes=stops, frames=5).arrays["codes"], atol=1e-3)


def test_directions_between_groups_and_kept_ones(ask, session):
    codes, a, b = session.runs[0].codes, list(range(0, 40)), list(range(40, 90))
    found = ask("direction", a=a, b=b)
    np.testing.assert_allclose(found.arrays["vector"][0], codes[b].mean(0) - codes[a].mean(0), atol=1e-5)
    assert 0 <= found.fields["accuracy"] <= 1 and found.fields["n"] == 90
    kept = ask("direction", name="bold")
    np.testing.assert_array_equal(kept.arrays["vector"], [[1, 0, -2, 0.5]])
    assert kept.fields["accuracy"] == 0.9


@pytest.mark.parametrize("prior", ["mixture", "normal"])
def test_samples_are_those_of_the_command(ask, session, prior):
    model = session.runs[0].model
    found = ask("sample", prior=prior, n=5, seed=3, temperature=0.7).arrays
    np.testing.assert_array_equal(found["images"][..., 0], model.sample(5, prior=prior, seed=3, temperature=0.7))
    np.testing.assert_array_equal(found["images"], ask("decode", codes=found["codes"].tolist()).arrays["images"])


def test_samples_begin_as_training_chose(ask, session, monkeypatch):
    model = session.runs[0].model
    assert ask("hello").fields["runs"][0]["temperature"] == 1
    plain = ask("sample", n=5, seed=3).arrays["codes"]
    monkeypatch.setattr(model, "config", replace(model.config, sampling=Sampling(temperature=0.6)))
    assert ask("hello").fields["runs"][0]["temperature"] == 0.6
    chosen = ask("sample", n=5, seed=3).arrays
    np.testing.assert_array_equal(chosen["images"][..., 0], model.sample(5, seed=3))
    assert not np.allclose(chosen["codes"], plain)
    np.testing.assert_array_equal(ask("sample", n=5, seed=3, temperature=1).arrays["codes"], plain)


def test_samples_without_a_prior_named_are_of_the_first(ask):
    first, default = ask("sample", prior="mixture", n=3).arrays, ask("sample", prior="", n=3).arrays
    np.testing.assert_array_equal(first["codes"], default["codes"])


# files


@pytest.mark.parametrize("kind", ["png", "gif", "webp"])
def test_pictures_and_animations_hold_no_metadata(ask, kind):
    codes = np.eye(4)[:3].tolist()
    found = ask("save", kind=kind, codes=codes)
    opened = Image.open(io.BytesIO(found.arrays["file"].tobytes()))
    opened.load()
    assert opened.format == kind.upper() and found.fields == {"name": f"reparam.{kind}", "type": f"image/{kind}"}
    assert getattr(opened, "n_frames", 1) == (1 if kind == "png" else 4), "there and back"
    assert not opened.getexif() and "exif" not in opened.info and "xmp" not in opened.info


def test_arrays_and_tables(ask, session):
    rows = [8, 2, 5]
    for said in ({"rows": rows}, {"codes": session.runs[0].codes[rows].tolist()}):
        codes = np.load(io.BytesIO(ask("save", kind="npy", **said).arrays["file"].tobytes()))
        np.testing.assert_allclose(codes, session.runs[0].codes[rows], rtol=1e-6)
    table = list(csv.reader(io.StringIO(ask("save", kind="csv", rows=rows).arrays["file"].tobytes().decode())))
    assert table[0] == ["name", "label", "z0", "z1", "z2", "z3"]
    assert [line[0] for line in table[1:]] == session.points.names(np.array(rows))
    np.testing.assert_allclose(np.array([line[2:] for line in table[1:]], float), session.runs[0].codes[rows], rtol=1e-5)
    table = list(csv.reader(io.StringIO(ask("save", kind="csv", codes=[[1, 2, 3, 4.5]]).arrays["file"].tobytes().decode())))
    assert table[1] == ["1", "2", "3", "4.5"]


def test_a_film_is_saved_by_ffmpeg(ask):
    program("ffmpeg")
    assert ask("save", kind="mp4", codes=np.eye(4).tolist()).arrays["file"].tobytes()[4:8] == b"ftyp"


def test_without_ffmpeg_a_film_is_refused(ask, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="ffmpeg"):
        ask("save", kind="mp4", codes=np.eye(4).tolist())


# what cannot be


ZERO = [0, 0, 0, 0]
REFUSED = {
    "exec": [{}], "plane": [{}, {"plane": "../../etc"}, {"plane": "latents:4,0"}, {"plane": "latents:1,1"},
                            {"plane": "latents:1,0", "run": 1}, {"plane": ["pca"]}],
    "at": [{"plane": "pca", "x": x, "y": 0} for x in (float("nan"), 1e9, "1", True, None)],
    "decode": [{"codes": codes} for codes in (
        [], 3, [[1, 2, 3]], [[1, 2, 3, "x"]], [[1, 2, 3, [4]]], [[1, 2, 3, 10**400]], [[[1], [1], [1], [1]]],
        [[0, 0, 0, None]], [ZERO] * 513, [[0, 0, 0, 2e6]])] + [{"codes": [ZERO], "detail": 1}],
    "thumbs": [{"rows": rows} for rows in ([N], [-1], ["0"], [], [0] * 513, [0.5], [10**30])],
    "of_row": [{"row": N}, {"row": 0.5}, {}], "column": [{"name": "__class__"}, {"name": 3}],
    "neighbours": [{"n": 0, "row": 0}, {"code": 3}, {"row": N}], "mean": [{}],
    "path": [{"codes": [ZERO], "frames": 5}, {"codes": [ZERO] * 2, "frames": 10**9}],
    "direction": [{"name": "../bold"}, {"a": [0], "b": [1]}, {"a": list(range(20)), "b": list(range(10, 40))}],
    "sample": [{"n": 10**6}, {"prior": "os"}, {"label": {"a": 1}}, {"seed": -1}, {"label": "cat"}],
    "save": [{"kind": "exe", "codes": [ZERO]}, {"kind": "gif", "codes": [ZERO]}, {"kind": "png"},
             {"kind": "../png", "rows": [0]}]}


@pytest.mark.parametrize("said", [{"op": op, **said} for op, all_of in REFUSED.items() for said in all_of]
                         + [{"op": ["hello"]}, {"op": None}], ids=lambda said: repr(said)[:50])
def test_what_cannot_be_answered_is_refused_in_words(session, said):
    with pytest.raises(UsageError) as told:
        session.answer(Question(said))
    assert len(str(told.value)) >= 20


def test_a_gan_is_explored_by_its_latents(explorable):
    folder = explorable(encoder="none", likelihood="gaussian(sigma=0.3)", objective="none", adversary="images")
    session = Session.open([folder], device="cpu")
    said = session.answer(Question({"op": "hello"})).fields
    assert said["points"]["n"] == 0 and not said["runs"][0]["has_encoder"] and "GAN" in said["notes"][0]
    (plane,) = said["planes"]
    there = session.answer(Question({"op": "plane", "plane": plane["name"]}))
    assert there.arrays["xy"].shape == (0, 2) and there.fields["exact"]
    at = session.answer(Question({"op": "at", "plane": plane["name"], "x": 1, "y": 2}))
    assert at.arrays["image"].shape == (1, 8, 8, 1)
    assert len(session.answer(Question({"op": "sample", "n": 4})).arrays["images"]) == 4
    for op, more in (("plane", {"plane": "pca"}), ("thumbs", {"rows": [0]}), ("encode", {}), ("of_row", {"row": 0}),
                     ("plane", {"plane": "pacmap"}), ("neighbours", {"row": 0}), ("mean", {"rows": [0]}),
                     ("column", {"name": "error"})):
        with pytest.raises(ReparamError):
            session.answer(Question({"op": op, **more}))


def test_a_model_whose_images_are_gone(explorable):
    folder = explorable()
    (folder / "run.json").unlink()
    (folder / "table.csv").write_text("name,stroke\n0,thick\n")
    assert not any("table" in note for note in Session.open([folder], device="cpu").notes)
    session = Session.open([folder], table=folder / "table.csv", device="cpu")
    assert "images" in session.notes[0] and "table is not used" in session.notes[1]
    image = picture_of(np.arange(64, dtype=np.uint8).reshape(8, 8, 1))
    assert session.answer(Question({"op": "encode"}, image)).arrays["code"].shape == (1, 4)


def test_two_runs_look_at_the_same_images(folder, explorable):
    other = explorable(latent="flat(3)")
    session = Session.open([folder, other], most=40, device="cpu")
    one, two = (session.answer(Question({"op": "of_row", "run": run, "row": 9})).arrays for run in (0, 1))
    np.testing.assert_array_equal(one["image"], two["image"])
    assert one["code"].shape == (1, 4) and two["code"].shape == (1, 3)
    with pytest.raises(UsageError, match="one run, or two"):
        Session.open([folder] * 3)


def test_planes_of_a_codebook_are_not_exact(explorable):
    session = Session.open([explorable(posterior="lfq(3)", prior="uniform", latent="flat(6)")], most=40, device="cpu")
    assert not session.answer(Question({"op": "plane", "plane": "pca"})).fields["exact"]
    assert not any(plane["exact"] for plane in session.answer(Question({"op": "hello"})).fields["planes"])
    codes = session.runs[0].codes[:2].tolist()
    ends, decoded = (session.answer(Question({"op": op, "codes": codes, "frames": 2})).arrays["images"]
                     for op in ("path", "decode"))
    np.testing.assert_array_equal(ends, decoded)


def test_codes_on_a_sphere_are_brought_back_to_it(explorable):
    session = Session.open([explorable(posterior="vmf", prior="sphere")], most=40, device="cpu")
    found = session.answer(Question({"op": "at", "plane": "latents:0,1", "x": 3, "y": 4})).arrays["code"]
    assert np.isclose(np.linalg.norm(found), 1) and not session.runs[0].is_plain
    assert np.isclose(found[0, 1] / found[0, 0], 4 / 3, atol=1e-5)
