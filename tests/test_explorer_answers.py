"""What the explorer answers about draws, two runs, and files of what was found."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from reparam.errors import UsageError
from reparam.explorer import beside, draws
from reparam.explorer.questions import Question
from reparam.explorer.session import Session

N = 120


@pytest.fixture(scope="module")
def two(explorable):
    """Digits, explored by a run of four latents and one of three."""
    runs = [explorable(stages={"fitted_prior": "mixture(3)"}), explorable(latent="flat(3)")]
    return Session.open(runs, most=N, device="cpu")


def answer(session, op, **said):
    return session.answer(Question({"op": op, **said}))


# draws


def ways(session):
    return [(way["prior"], way["resample"], way["labels"], way["guides"]) for way in draws.ways_of(session.runs[0])]


def test_every_way_of_drawing_is_named_the_usual_one_first(explorable):
    plain = Session.open([explorable()], most=10, device="cpu")
    assert ways(plain) == [("normal", False, False, False)]
    resampled = Session.open([explorable(stages={"fitted_prior": "mixture(3)", "resampler": "mlp"})], most=10, device="cpu")
    assert ways(resampled) == [(prior, resample, False, False)
                               for prior, resample in (("mixture", True), ("mixture", False), ("normal", False))]
    pictures = [answer(resampled, "sample", prior=way["prior"], resample=way["resample"], n=8, seed=2).arrays["images"]
                for way in draws.ways_of(resampled.runs[0])]
    model = resampled.runs[0].model
    for found, how in zip(pictures, ({}, {"resample": False}, {"prior": "normal"}), strict=True):
        np.testing.assert_array_equal(found[..., 0], model.sample(8, seed=2, **how))
    assert not np.array_equal(pictures[0], pictures[1])


def test_labels_and_guidance_are_offered_where_a_prior_knows_classes(explorable):
    flow = "flow_matching('mlp(8, 1)', steps=2, classes=10)"
    session = Session.open([explorable(stages={"fitted_prior": flow})], most=10, device="cpu")
    assert ways(session) == [("flow_matching", False, True, True), ("normal", False, False, False)]
    asked = {"prior": "flow_matching", "label": "3", "guidance": 2.0, "n": 4, "seed": 1}
    np.testing.assert_array_equal(answer(session, "sample", **asked).arrays["images"][..., 0],
                                  session.runs[0].model.sample(4, prior="flow_matching", label="3", guidance=2.0, seed=1))
    conditional = Session.open([explorable(latent="conditional(4, 10)")], most=10, device="cpu")
    names = conditional.answer(Question({"op": "hello"})).fields["runs"][0]["classes"]
    assert names == [str(i) for i in range(10)] and draws.classes_of(session.runs[0]) == names
    assert ways(conditional) == [("normal", False, True, False)]


def test_variations_are_led_to_their_image(two):
    code = two.runs[0].codes[[3]]
    near, far = (answer(two, "variations", code=code[0].tolist(), n=16, variation=v).arrays["codes"] for v in (0.01, 1.0))
    assert np.abs(near - code).max() < 0.2 < np.abs(far - code).mean()
    found = answer(two, "variations", code=code[0].tolist(), n=3, seed=5).arrays
    np.testing.assert_array_equal(found["images"], answer(two, "decode", codes=found["codes"].tolist()).arrays["images"])
    with pytest.raises(UsageError, match="variation"):
        answer(two, "variations", code=code[0].tolist(), variation=2)


def test_detail_is_added_or_left_out_in_all_that_is_made(explorable):
    session = Session.open([explorable(stages={"refiner": "flow_matching('unet(8)', steps=1)"})], most=5, device="cpu")
    codes = session.runs[0].codes[:2].tolist()
    smooth, detailed = (answer(session, "decode", codes=codes, detail=detail).arrays["images"] for detail in (False, True))
    assert np.abs(smooth.astype(int) - detailed).max() > 5
    for detail, expected in ((False, smooth), (True, detailed)):
        varied = answer(session, "variations", code=codes[0], n=2, variation=0, detail=detail).arrays["images"]
        np.testing.assert_array_equal(varied, expected[[0, 0]])
        saved = Image.open(file_of(session, kind="png", codes=codes[:1], detail=detail)[1])
        np.testing.assert_array_equal(np.asarray(saved), expected[0, ..., 0])
        drawn = answer(session, "sample", n=2, seed=1, detail=detail).arrays["images"][..., 0]
        np.testing.assert_array_equal(drawn, session.runs[0].model.sample(2, seed=1, refine=detail))


# two runs


def test_a_code_lies_in_the_other_run_where_images_like_it_lie():
    draw = np.random.default_rng(0)
    codes = draw.normal(size=(500, 4)).astype(np.float32)
    turn, shift = draw.normal(size=(4, 3)), np.array([1.0, -2, 3])
    ridge, explained = beside._overlay(codes, (codes @ turn + shift).astype(np.float32))
    np.testing.assert_allclose(ridge.predict(codes[:5]), codes[:5] @ turn + shift, atol=0.05)
    assert explained > 0.999
    unlike = beside._overlay(codes, draw.normal(size=(500, 3)).astype(np.float32))[1]
    assert unlike < 0.1


def test_the_same_place_in_two_runs(two):
    codes = two.runs[0].codes[:4]
    found = answer(two, "counterpart", codes=codes.tolist())
    assert found.arrays["codes"].shape == (4, 3) and found.fields["explained"] <= 1
    images = answer(two, "decode", run=1, codes=found.arrays["codes"].tolist()).arrays["images"]
    np.testing.assert_array_equal(found.arrays["images"], images)
    back = answer(two, "counterpart", run=1, codes=found.arrays["codes"].tolist()).arrays["codes"]
    assert back.shape == (4, 4)


def test_the_difference_of_errors_is_a_column(two):
    columns = {each["name"]: each for each in answer(two, "hello").fields["points"]["columns"]}
    assert two.runs[1].name in columns["worse"]["title"]
    first, second = (answer(two, "column", run=run, name="error").arrays["values"] for run in (0, 1))
    np.testing.assert_array_equal(answer(two, "column", name="worse").arrays["values"], second - first)
    np.testing.assert_array_equal(answer(two, "column", run=1, name="worse").arrays["values"], first - second)


def test_one_run_alone_has_nothing_beside_it(explorable):
    session = Session.open([explorable()], most=30, device="cpu")
    assert "worse" not in [each["name"] for each in answer(session, "hello").fields["points"]["columns"]]
    for op, said in (("counterpart", {"codes": [[0, 0, 0, 0]]}), ("column", {"name": "worse"})):
        with pytest.raises(UsageError):
            answer(session, op, **said)


def test_rows_are_rebuilt_and_named(two):
    rows = [5, 2]
    found = answer(two, "decode", run=1, rows=rows).arrays["images"]
    np.testing.assert_array_equal(found[..., 0], two.runs[1].model.reconstruct(two.points.pixels(np.array(rows)))[..., 0])
    assert answer(two, "thumbs", rows=rows).fields["names"] == two.points.names(np.array(rows))


# files


def file_of(session, **said):
    found = answer(session, "save", **said)
    return found.fields["name"], io.BytesIO(found.arrays["file"].tobytes())


def test_a_folder_holds_each_image_as_it_is(two):
    codes = two.runs[0].codes[:3].tolist()
    images = answer(two, "decode", codes=codes).arrays["images"]
    name, file = file_of(two, kind="zip", codes=codes)
    with zipfile.ZipFile(file) as packed:
        assert name == "reparam.zip" and packed.namelist() == ["00000.png", "00001.png", "00002.png"]
        read = [np.asarray(Image.open(io.BytesIO(packed.read(each)))) for each in packed.namelist()]
    np.testing.assert_array_equal(np.stack(read), images[..., 0])


def test_one_image_is_saved_at_its_own_size_and_a_strip_in_one_row(two):
    codes = two.runs[0].codes[:5].tolist()
    name, file = file_of(two, kind="png", codes=codes[:1])
    image = answer(two, "decode", codes=codes[:1]).arrays["images"][0, ..., 0]
    np.testing.assert_array_equal(np.asarray(Image.open(file)), image)
    strip, sheet = (Image.open(file_of(two, kind=kind, codes=codes)[1]) for kind in ("strip", "png"))
    assert name == "reparam.png" and strip.width > 4 * strip.height and sheet.width < 2 * sheet.height


def test_codes_of_a_map_keep_its_shape(explorable):
    session = Session.open([explorable(latent="spatial(2, 4)", encoder="conv(width=4)", decoder="conv(width=4)")], most=10,
                           device="cpu")
    model = session.runs[0].model
    codes = np.load(file_of(session, kind="npy", rows=[1, 4])[1])
    assert codes.shape == (2, *model.latent_shape)
    np.testing.assert_array_equal(torch.from_numpy(codes).flatten(1), session.runs[0].codes[[1, 4]])
