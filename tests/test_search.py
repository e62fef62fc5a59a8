"""Indices of images: against scikit-learn and brute force, calibrations by simulation, and the commands as a stranger."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

import reparam
from reparam.cli import main
from reparam.downstream import duplicates as duplicating
from reparam.downstream import image_index
from reparam.downstream.approximate import Graph
from reparam.downstream.duplicates import Threshold, duplicates, threshold_of
from reparam.downstream.image_index import FILE, ImageIndex, Pieces, Space, read_index
from reparam.downstream.recognition import Recogniser, calibrate, vote
from reparam.downstream.search import Found, Index
from reparam.errors import ModelFileError, UsageError

# mathematics


def test_images_are_compared_by_direction_from_the_mean():
    rng = np.random.default_rng(0)
    a, b = rng.normal(2, 1, (60, 5)).astype(np.float32), rng.normal(-1, 3, (60, 7)).astype(np.float32)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b - b.mean(0))]
    space = Space.of({"codes": torch.from_numpy(a), "features": torch.from_numpy(b)})
    found = space.search(space.place({"codes": torch.from_numpy(a[:9]), "features": torch.from_numpy(b[:9])}), 4)
    theirs = NearestNeighbors(n_neighbors=4).fit(np.concatenate(unit, 1))
    distance, rows = theirs.kneighbors(np.concatenate(unit, 1)[:9])
    assert (found.rows == rows).all() and np.allclose(found.distance, distance / 2**0.5, atol=1e-6)
    assert (found.distance[:, 0] == 0).all()  # to itself, to the last digit


def test_the_vote_is_scikit_learns():
    rng = np.random.default_rng(0)
    x, q, y = rng.normal(size=(200, 4)), rng.normal(size=(50, 4)), rng.integers(3, 6, 200)
    theirs = KNeighborsClassifier(7, weights="distance").fit(x, y)
    answer, share, distance = vote(Index.of(x).search(q, 7), y)
    assert (answer == theirs.predict(q)).all() and np.allclose(share, theirs.predict_proba(q).max(1), atol=1e-4)
    assert np.allclose(distance, theirs.kneighbors(q)[0].mean(1), atol=1e-5)


def clusters(n, classes, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    x = np.random.default_rng(7).normal(0, 2, (classes, 6))[y] + rng.normal(size=(n, 6))
    return torch.from_numpy(x).float(), y


def test_the_threshold_refuses_classes_that_nobody_has_seen():
    x, y = clusters(1500, 12, 0)
    seen, new = y < 8, y >= 8
    vectors, none = x[torch.from_numpy(seen)], np.zeros(int(seen.sum()), bool)
    made = calibrate(vectors, y[seen], np.arange(seen.sum()), none, 5, 0.9)
    distance = vote(Index.of(vectors).search(x[torch.from_numpy(new)], 5), y[seen])[2]
    assert (made.unknown > made.threshold).mean() == pytest.approx(0.9, abs=0.01)
    assert 0.75 < (distance > made.threshold).mean() <= 1  # of four classes that had no part in it
    assert np.mean(list(made.refused_of_class().values())) == pytest.approx(0.9, abs=0.07)
    fresh, of = clusters(400, 8, 1)
    answer, share, d = vote(Index.of(vectors).search(fresh, 5), y[seen])
    assert (d <= made.threshold).mean() == pytest.approx(made.kept, abs=0.08)
    assert made.confidence(share).mean() == pytest.approx((answer == of).mean(), abs=0.06)


def test_a_calibration_asks_with_each_class_left_out_as_an_index_without_it_would_answer():
    x, y = clusters(300, 5, 0)
    made = calibrate(x, y, np.arange(300), np.zeros(300, bool), 5, 0.9)
    for c in range(5):
        others = NearestNeighbors(n_neighbors=5).fit(x[y != c])
        assert np.allclose(made.unknown[made.left_out == c], others.kneighbors(x[y == c])[0].mean(1), atol=1e-4)
    assert np.allclose(made.known, NearestNeighbors(n_neighbors=6).fit(x).kneighbors(x)[0][:, 1:].mean(1), atol=1e-4)


def cone(n, axes, seed, lean=3.0):
    """n codes around directions that lean to one side, each as far from any other: classes that can change places."""
    rng = np.random.default_rng(seed)
    y = rng.choice(axes, n)
    x = rng.normal(0, 0.1, (n, 36))
    x[:, 0] += lean
    x[np.arange(n), y + 1] += 1
    return torch.from_numpy(x).float(), y.astype(np.int64)


@pytest.mark.parametrize("refused", [0.5, 0.9])
def test_of_classes_like_those_that_set_the_threshold_the_stated_share_is_refused(refused):
    x, y = cone(1600, range(30), 0)
    index = ImageIndex(None, tuple(map(str, range(1600))), y, tuple(map(str, range(30))),  # type: ignore
                       np.arange(1600), np.arange(1600), np.zeros(1600, bool), {"codes": x},
                       Pieces.of([b""] * 1600), "made")
    who = Recogniser.of(index, refused=refused)
    assert (who.calibration.unknown > who.calibration.threshold).mean() == pytest.approx(refused, abs=0.003)
    (fresh, of), (new, _), (apart, _) = cone(800, range(30), 1), cone(800, range(30, 35), 2), cone(800, range(30), 3, -3.0)
    known, new, apart = (who(index.space().place({"codes": codes})) for codes in (fresh, new, apart))
    assert (~new.known).mean() == pytest.approx(refused, abs=0.06)
    assert known.known.mean() > 0.99 and (known.answer == of).mean() > 0.99
    assert not apart.known.any()


def test_an_image_does_not_vouch_for_itself_or_its_copies():
    x, y = clusters(100, 4, 0)
    twice, groups = torch.cat([x, x]), np.tile(np.arange(100), 2)
    made = calibrate(twice, np.tile(y, 2), groups, np.zeros(200, bool), 3, 0.9)
    assert made.known.min() > 0.05


def test_one_image_of_each_class_tells_no_one_known():
    x, _ = clusters(30, 4, 0)
    made = calibrate(x, np.arange(30), np.arange(30), np.zeros(30, bool), 1, 0.9)
    assert np.isnan(made.kept) and np.isfinite(made.threshold) and len(made.unknown) == 30


def test_duplicates_are_groups_of_the_same_pixels_and_of_near_codes():
    x, _ = clusters(50, 4, 0)
    near = x[:3] + 1e-3
    digests = np.concatenate([np.arange(50), [100, 101, 102], [9, 9]])
    found = duplicates(torch.cat([x, near, x[9:10], x[9:10]]), digests, Threshold(0.01, 0.01, 100))
    assert [sorted(g.rows.tolist()) for g in found.groups] == [[9, 53, 54], [0, 50], [1, 51], [2, 52]]
    assert found.groups[0].exact.all() and not found.groups[1].exact.all()
    assert not duplicates(x, np.arange(50), Threshold(-1, 0, 0)).groups


@pytest.mark.parametrize("n", [300, 1200])
def test_near_duplicates_by_mistake_are_as_rare_as_said(n, monkeypatch):
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(20):
        x = torch.from_numpy(rng.normal(size=(1600, 4))).float()
        held_out = np.arange(1600) >= 1200
        index = ImageIndex(None, tuple(map(str, range(1600))), np.full(1600, -1), (), np.arange(1600), np.arange(1600),  # type: ignore
                           held_out, {"codes": x}, Pieces.of([b""] * 1600), "made")
        threshold = threshold_of(index, "codes", n, 0.05)
        fresh = index.space().place({"codes": torch.from_numpy(rng.normal(size=(n, 4))).float()})
        nearest = Index.of(fresh).search(fresh, 2).distance[:, 1]
        rates.append((nearest <= threshold.distance).mean())
    assert 0.035 < np.mean(rates) < 0.065


def test_without_held_out_images_no_near_duplicate_is_called(monkeypatch):
    index = ImageIndex(None, ("a", "b"), np.full(2, -1), (), np.arange(2), np.arange(2), np.zeros(2, bool),  # type: ignore
                       {"codes": torch.eye(2)}, Pieces.of([b"", b""]), "made")
    assert threshold_of(index, "codes", 2).distance == -1


def test_a_graph_finds_what_comparing_all_finds_and_is_kept(tmp_path):
    v, q = torch.randn(4000, 8), torch.randn(60, 8)
    digest = Graph.of(v).save(tmp_path / "g")
    graph = Graph.load(tmp_path / "g", (4000, 8), digest, again="x")
    theirs, mine = Index.of(v).search(q, 10), graph.search(v, q, 10)
    same = theirs.rows == mine.rows
    assert same.mean() > 0.95 and (mine.distance[same] == theirs.distance[same]).all()
    (tmp_path / "g").write_bytes(b"else")
    with pytest.raises(ModelFileError, match="not the file"):
        Graph.load(tmp_path / "g", (4000, 8), digest, again="x")


def test_pieces_are_read_as_they_were():
    pieces = Pieces.of([b"ab", b"", b"c"])
    assert [pieces[i] for i in range(3)] == [b"ab", b"", b"c"] and pieces.fits
    assert not Pieces(pieces.data, pieces.ends[::-1]).fits


# commands


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of digits in sub-folders, a run, and its index."""
    folder = tmp_path_factory.mktemp("search")
    images, target = load_digits(return_X_y=True)
    for i, (image, k) in enumerate(zip(images[:400], target[:400], strict=True)):
        if k < 4:
            path = folder / "digits" / "abcd"[k] / f"{i:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image.reshape(8, 8) * 15).astype(np.uint8)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPARAM_CACHE", str(folder / "cache"))
        assert main(["train", str(folder / "digits"), "--steps", "60", "--preset", "mlp", "--latent", "flat(8)", "--out",
                     str(folder / "run"), "--fitted-prior", "none", "--device", "cpu", "--json"]) == 0
        assert main(["index", str(folder / "run")]) == 0
    return folder


@pytest.fixture
def here(place, monkeypatch, tmp_path):
    monkeypatch.setenv("REPARAM_CACHE", str(place / "cache"))
    monkeypatch.chdir(tmp_path)
    return place


def first_of(folder):
    return next(iter(sorted(folder.iterdir())))


def test_an_image_of_the_index_is_found_and_the_page_shows_it(here, tmp_path, capsys):
    query = first_of(here / "digits" / "b")
    assert main(["search", str(here / "run"), str(query), "-n", "5", "--json", "--table-out", "found.parquet"]) == 0
    said = json.loads(capsys.readouterr().out)
    found = said["queries"][0]["found"]
    assert found[0]["name"] == f"b/{query.name}" and found[0]["distance"] == pytest.approx(0, abs=1e-5)
    assert found[0]["label"] == "b" and len(found) == 5 and (tmp_path / "found.parquet").exists()
    html = (tmp_path / "search.html").read_text(encoding="utf-8")
    assert html.count("<figure>") == 6 and html.count("data:image/webp") == 6 and f"b/{query.name}" in html


def test_who_is_told_with_a_confidence_and_who_is_unknown_by_the_threshold_alone(here, tmp_path, capsys):
    known = {}
    for refuse in ("0.5", "0.9"):
        out = f"who-{refuse}.html"
        asked = ["search", str(here / "run"), str(here / "digits"), "--who", "--refuse", refuse, "--out", out, "--json"]
        assert main(asked) == 0
        said = json.loads(capsys.readouterr().out)
        rows = list(csv.DictReader((tmp_path / out).with_suffix(".csv").read_text().splitlines()))
        assert all((row["known"] == "1") == (float(row["distance"]) <= said["unknown"]["threshold"]) for row in rows)
        assert all(0 < float(row["confidence"]) < 1 for row in rows)
        known[refuse] = {row["query"] for row in rows if row["known"] == "1"}
    assert known["0.9"] < known["0.5"]  # who refuses more strangers refuses more of whom it knows
    assert np.mean([row["query"][0] == row["class"] for row in rows]) > 0.9
    assert main(["search", str(here / "run"), str(here / "digits"), "--who"]) == 0
    assert "of known classes" in capsys.readouterr().out


def test_queries_of_other_sizes_and_colours_are_read_and_others_told(here, capsys):
    query = first_of(here / "digits" / "c")
    Image.open(query).resize((40, 40)).convert("RGBA").save("large.png")
    (here / "broken.png").write_text("no image")
    assert main(["search", str(here / "run"), "large.png", str(here / "broken.png"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["queries"][0]["found"][0]["label"] == "c" and len(said["queries"]) == len(said["skipped"]) == 1
    assert main(["search", str(here / "run"), str(here / "broken.png")]) == 1
    assert "broken.png" in capsys.readouterr().err


def test_duplicates_of_a_folder_and_of_the_index(here, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    some = sorted((here / "digits").rglob("*.png"))[:12]
    for i, path in enumerate(some):
        shutil.copy(path, folder / f"{i}.png")
    shutil.copy(some[0], folder / "copy.png")
    assert main(["search", str(here / "run"), str(folder), "--duplicates", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {"names": ["0.png", "copy.png"], "same_pixels": True} in said["groups"]
    assert {r["kind"] for r in csv.DictReader((tmp_path / "duplicates.csv").read_text().splitlines())} >= {"first"}
    assert main(["search", str(here / "run"), "--duplicates", "--rate", "0.1"]) == 0
    assert "group" in capsys.readouterr().out


@pytest.mark.parametrize(("given", "words"), [
    ((), "name at least 1 image"), (("q.png", "-n", "0"), "-n must be"), (("q.png", "--out", "a.png"), "an .html file"),
    (("q.png", "--who", "--duplicates"), "two questions"), (("q.png", "--who", "--refuse", "1"), "above 0 and below 1"),
    (("q.png", "--refuse", "0.5"), "for --who"), (("q.png", "--rate", "0.5"), "for --duplicates"),
    (("q.png", "--by", "features"), "no image features"), (("--duplicates", "--rate", "0"), "above 0 and below 1")])
def test_what_makes_no_sense_is_refused(here, capsys, given, words):
    shutil.copy(first_of(here / "digits" / "a"), "q.png")
    assert main(["search", str(here / "run"), *given]) == 2
    assert words in capsys.readouterr().err


def test_an_empty_folder_and_a_run_without_an_index_are_told(here, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for command in (["search", str(here / "run"), "empty"], ["index", str(here / "run"), "empty"]):
        assert main(command) == 1
        assert "no images in" in capsys.readouterr().err
    bare = shutil.copytree(here / "run", tmp_path / "bare")
    (bare / FILE).unlink()
    assert main(["search", str(bare), str(first_of(here / "digits" / "a"))]) == 2
    assert "has no index yet" in capsys.readouterr().err


def test_an_index_of_another_model_is_refused(here, tmp_path, capsys):
    other = shutil.copytree(here / "run", tmp_path / "other")
    state = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(state[:-4] + b"\0\0\0\0")
    assert main(["search", str(other), str(first_of(here / "digits" / "a"))]) == 1
    assert "fitted to this model as it was before" in capsys.readouterr().err


def test_images_without_labels_and_one_of_each_class(here, tmp_path, capsys):
    run = shutil.copytree(here / "run", tmp_path / "run")
    query = str(first_of(here / "digits" / "a"))
    assert main(["index", str(run), str(here / "digits" / "a")]) == 0
    assert main(["search", str(run), query, "--who"]) == 2
    assert "this index has no labels" in capsys.readouterr().err
    for k in "abcd":
        (tmp_path / "one" / k).mkdir(parents=True)
        shutil.copy(first_of(here / "digits" / k), tmp_path / "one" / k)
    assert main(["index", str(run), "one"]) == 0
    assert main(["search", str(run), query, "--who", "-n", "500"]) == 0
    assert "no class has two images" in capsys.readouterr().out


def test_a_notebook_searches_arrays_and_the_graph_takes_over_for_many(here, tmp_path, monkeypatch):
    model = reparam.load(here / "run", device="cpu")
    images = (load_digits().images[:300] * 15).astype(np.uint8)
    exact = reparam.build_index(model, images, labels=load_digits().target[:300])
    monkeypatch.setattr(image_index, "EXACT", 100)
    monkeypatch.setattr(duplicating, "EXACT", 100)
    many = reparam.build_index(model, images)
    assert set(many.graphs) == {"codes"} and not exact.graphs
    many.save(tmp_path)
    read = read_index(tmp_path, model, again="x")
    a, b = exact.search(images[:20], 5), read.search(images[:20], 5)
    assert (a.rows == b.rows).mean() > 0.98 and (a.rows[:, 0] == np.arange(20)).mean() > 0.9
    assert read.names[:2] == ("0", "1") and read.label(0) == "" and exact.label(3) == str(load_digits().target[3])
    with pytest.raises(UsageError, match="no image features"):
        read.search(images[:1], by="both")


def test_a_file_of_other_numbers_is_refused(here, tmp_path):
    model = reparam.load(here / "run", device="cpu")
    index = read_index(here / "run", model, again="x")
    ImageIndex(**{**vars(index), "vectors": {"codes": index.vectors["codes"][:, :2]}}).save(tmp_path)
    with pytest.raises(ModelFileError, match="does not hold an index"):
        read_index(tmp_path, model, again="x")
    assert isinstance(index.search(np.zeros((1, 8, 8), np.uint8), 1), Found)
