"""The explorer's map of neighbourhoods: computed beside other questions, kept, and decoded, with a stand-in for pacmap."""

from __future__ import annotations

import time

import numpy as np
import pytest

from reparam.downstream import neighbourhoods
from reparam.downstream.anomaly import Detector
from reparam.errors import ReparamError, UsageError
from reparam.explorer import points
from reparam.explorer.figures import figures_of
from reparam.explorer.questions import Question
from reparam.explorer.session import Session
from reparam.runs.anomalies import FILE

WAITING = """
import pathlib, time
class PaCMAP:
    def __init__(self, **_): pass

    def fit_transform(self, z):
        while not pathlib.Path({gate!r}).exists(): time.sleep(0.02)
        return z[:, :2]
"""


@pytest.fixture
def gate(monkeypatch, tmp_path):
    """A file whose making lets a stand-in for pacmap go on."""
    (tmp_path / "pacmap.py").write_text(WAITING.format(gate=str(tmp_path / "open")))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "open"


def when_ready(session):
    for _ in range(1500):
        answer = session.answer(Question({"op": "plane", "plane": "pacmap"}))
        if "computing" not in answer.fields:
            return answer
        assert not answer.arrays
        time.sleep(0.02)
    raise AssertionError("it is not ready after half a minute")


def test_neighbourhoods_are_computed_beside_other_questions_and_kept(explorable, gate, monkeypatch):
    folder = explorable()
    session = Session.open([folder], most=100, device="cpu")
    asked = Question({"op": "plane", "plane": "pacmap"})
    assert session.answer(asked).fields == {"computing": True}
    for op, more in (("at", {"x": 0, "y": 0}), ("places", {"codes": [[0, 0, 0, 0]]})):
        with pytest.raises(UsageError, match="still being computed"):
            session.answer(Question({"op": op, "plane": "pacmap", **more}))
    assert len(session.answer(Question({"op": "thumbs", "rows": [0]})).arrays["images"]) == 1
    gate.touch()
    found, codes = when_ready(session), session.runs[0].codes
    np.testing.assert_array_equal(found.arrays["xy"], codes[:, :2])
    assert found.fields["by_neighbours"] and not found.fields["exact"] and found.fields["titles"] == []
    assert 0.5 < found.fields["trustworthiness"] < 1

    monkeypatch.setattr("reparam.explorer.explored.Computation", None)  # it is not computed a second time
    later = Session.open([folder], most=100, device="cpu")
    np.testing.assert_array_equal(later.answer(asked).arrays["xy"], codes[:, :2])
    other = Session.open([folder], most=90, device="cpu")
    with pytest.raises(AttributeError):  # of other images it is
        other.answer(asked)


def test_a_computation_that_was_interrupted_leaves_nothing_broken(explorable, gate):
    folder = explorable()
    session = Session.open([folder], most=60, device="cpu")
    session.answer(Question({"op": "plane", "plane": "pacmap"}))
    process = session.runs[0].computation.process
    before = (folder / points.FILE).read_bytes()
    session.close()
    assert process.returncode is not None and (folder / points.FILE).read_bytes() == before
    with pytest.raises(ReparamError, match="could not be computed"):
        when_ready(session)
    gate.touch()
    assert len(when_ready(Session.open([folder], most=60, device="cpu")).arrays["xy"]) == 60
    assert len(when_ready(session).arrays["xy"]) == 60, "one that failed is begun anew when it is asked for again"


def test_places_of_a_map_of_neighbourhoods_are_decoded_by_the_points_around_them(explorable, gate):
    gate.touch()
    session = Session.open([explorable()], most=200, device="cpu")
    xy, codes = when_ready(session).arrays["xy"], session.runs[0].codes
    asked = {"op": "at", "plane": "pacmap", "x": float(xy[3, 0]), "y": float(xy[3, 1])}
    there = session.answer(Question(asked)).arrays
    away = np.linalg.norm(xy - xy[3], axis=1)
    near = away.argsort()[:8]
    weights = np.exp(-((away[near] / away[near[-1]]) ** 2) / 2)
    np.testing.assert_allclose(there["code"][0], np.average(codes[near], 0, weights), rtol=1e-4)
    assert there["image"].shape == (1, 8, 8, 1)
    nothing = session.answer(Question(asked | {"x": 900.0}))
    assert not nothing.arrays and not nothing.fields
    place = session.answer(Question({"op": "places", "plane": "pacmap", "codes": codes[[3]].tolist()})).arrays["xy"]
    assert np.linalg.norm(place[0] - xy[3]) < np.linalg.norm(xy - xy[3], axis=1).mean() / 2
    exact = session.answer(Question({"op": "places", "plane": "latents:1,2", "codes": codes[:5].tolist()})).arrays["xy"]
    np.testing.assert_allclose(exact, codes[:5, 1:3], atol=1e-5)


def test_a_missing_package_is_told_where_maps_are_chosen(explorable, monkeypatch):
    session = Session.open([explorable()], most=60, device="cpu")
    monkeypatch.setattr(neighbourhoods, "has_package", lambda: False)
    monkeypatch.setattr("reparam.explorer.session.has_package", lambda: False)
    planes = session.answer(Question({"op": "hello"})).fields["planes"]
    (plane,) = [plane for plane in planes if plane["name"] == "pacmap"]
    assert plane["missing"] == 'pip install "reparam[map]"'
    with pytest.raises(UsageError, match=r"pip install \"reparam\[map\]\""):
        session.answer(Question({"op": "plane", "plane": "pacmap"}))


def test_few_images_have_no_neighbourhoods(explorable):
    session = Session.open([explorable()], most=19, device="cpu")
    assert "pacmap" not in [plane["name"] for plane in session.answer(Question({"op": "hello"})).fields["planes"]]


def test_the_anomaly_percentile_is_the_share_of_held_out_images_that_are_less_odd(explorable):
    folder = explorable()
    session = Session.open([folder], most=80, device="cpu")
    assert "anomaly" not in figures_of(session.runs[0])
    model, images = session.runs[0].model, session.points.images.images
    detector = Detector.fit(model, images[:100], images[100:200])
    detector.save(folder / FILE)
    found = session.answer(Question({"op": "column", "name": "anomaly"})).arrays["values"]
    held_out, own = (detector.judge(x).score for x in (images[100:200][1::2], session.points.pixels(np.arange(80))))
    np.testing.assert_allclose(found, 100 * (held_out[:, None] < own).mean(0), atol=1e-3)
    assert 0 <= found.min() < 30 and 70 < found.max() <= 100
