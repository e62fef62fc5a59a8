"""The bundled set `shapes`: drawn the same every time, and each factor found again in the pixels."""

from __future__ import annotations

import colorsys
import time

import numpy as np
import pytest

from reparam.data import shapes
from reparam.data.open import open_images, read_like
from reparam.metrics.factors import of_columns


@pytest.fixture(scope="module")
def drawn():
    """Ten thousand pictures with their factors, and the processor time that drawing them took."""
    began = time.process_time()
    factors = shapes.draw_factors()
    images = shapes.draw(factors)
    return factors, images, time.process_time() - began


def one(**changed):
    """Factors of one fish in the middle, but for what is changed; a value or a list of them."""
    plain = {"kind": "round", "hue": 0.5, "size": 1.0, "x": 0.0, "y": 0.0, "rotation": 0.0, "background": 0.5}
    n = max(np.size(v) for v in changed.values()) if changed else 1
    return {k: np.broadcast_to(np.asarray(v), n).copy() for k, v in {**plain, **changed}.items()}


def masks(factors, images):
    """(n, side, side): where a fish covers its water."""
    far = {**factors, "size": np.full(len(images), 1e-3), "x": np.full(len(images), 50.0)}
    return np.abs(images.astype(int) - shapes.draw(far)).max(-1) > 24


def test_a_seed_says_which_pictures(drawn):
    factors, images, _ = drawn
    again = shapes.draw_factors(600)
    assert not np.array_equal(shapes.draw(shapes.draw_factors(600, seed=1)), shapes.draw(again))
    for name, column in shapes.draw_factors().items():
        np.testing.assert_array_equal(column, factors[name])
    some = np.array([0, 499, 500, 9_999])
    np.testing.assert_array_equal(shapes.draw({k: v[some] for k, v in factors.items()}), images[some])


def test_ten_thousand_are_drawn_in_seconds(drawn):
    _, images, seconds = drawn
    assert images.shape == (10_000, 32, 32, 3) and images.dtype == np.uint8
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
    assert seconds < 10


def test_factors_are_independent_and_fill_their_ranges(drawn):
    factors, _, _ = drawn
    assert tuple(factors) == shapes.FACTORS
    columns = np.stack([np.unique(v, return_inverse=True)[1] for v in factors.values()], 1)
    assert np.abs(np.corrcoef(columns.T) - np.eye(len(factors))).max() < 0.04
    for name, (low, high) in {"hue": (0, 1), "size": shapes.SIZES, "x": (-1, 1), "y": (-1, 1), "background": (0, 1),
                              "rotation": (-shapes.TURN, shapes.TURN)}.items():
        assert low <= factors[name].min() < low + 0.01 * (high - low), name
        assert high - 0.01 * (high - low) < factors[name].max() <= high, name
    assert np.unique(factors["kind"], return_counts=True)[1].min() > 3_000


def test_place_is_the_centre_of_the_fish(drawn):
    factors, images, _ = drawn
    rows = np.arange(1_000)
    covered = masks({k: v[rows] for k, v in factors.items()}, images[rows])
    at = (np.arange(32) + 0.5) / 16 - 1
    area = covered.sum((1, 2))
    for name, axis in (("x", 1), ("y", 2)):
        centre = (covered.sum(axis) * at).sum(1) / area
        assert np.corrcoef(centre, factors[name][rows])[0, 1] > 0.9, name
        slope = np.polyfit(factors[name][rows], centre, 1)[0]
        assert slope == pytest.approx({"x": shapes.REACH_X, "y": shapes.REACH_Y}[name], rel=0.12)


def test_every_fish_keeps_its_eye_in_the_picture(drawn):
    _, images, _ = drawn
    assert (images.max(-1) < 60).any((1, 2)).mean() > 0.999  # its pupil
    assert (images.min(-1) > 235).any((1, 2)).mean() > 0.99  # and the white around it


def test_hue_is_the_body_s_colour():
    hues = np.linspace(0, 1, 9)
    colours = shapes.draw(one(hue=hues))[:, 15, 13] / 255
    expected = ((2.9 * hues + 5.2) % 6) / 6
    found = np.array([colorsys.rgb_to_hsv(*colour)[0] for colour in colours])
    assert np.abs((found - expected + 0.5) % 1 - 0.5).max() < 0.02


def test_size_scales_the_area_by_its_square():
    factors = one(size=[0.6, 1.0])
    small, large = masks(factors, shapes.draw(factors)).sum((1, 2))
    assert large / small == pytest.approx(1 / 0.6**2, rel=0.12)


def test_rotation_turns_a_long_fish():
    factors = one(kind="long", rotation=[-20.0, 0.0, 20.0])
    at = np.arange(32) - 15.5
    angles = []
    for covered in masks(factors, shapes.draw(factors)):
        y, x = at[np.nonzero(covered)[0]], at[np.nonzero(covered)[1]]
        axes = np.linalg.eigh(np.cov(x, y))[1]
        angles.append(np.rad2deg(np.arctan(axes[1, 1] / axes[0, 1])))
    assert np.diff(angles) == pytest.approx([20, 20], abs=3)  # clockwise: rows of a picture run downwards


def test_kinds_differ_in_form():
    factors = one(kind=list(shapes.KINDS))
    long, round_, tall = masks(factors, shapes.draw(factors))

    def ratio(covered):
        return np.ptp(np.nonzero(covered)[1]) / np.ptp(np.nonzero(covered)[0])

    assert ratio(long) > ratio(round_) > ratio(tall)


def test_background_is_seen_at_the_edge_and_not_in_the_fish():
    images = shapes.draw(one(background=[0.0, 0.5, 1.0])).astype(int)
    assert np.abs(np.diff(images[:, 0, 0], axis=0)).max(-1).min() > 40
    assert np.ptp(images[:, 15, 13], axis=0).max() == 0


@pytest.fixture(scope="module")
def opened():
    return open_images("shapes")


def test_the_name_opens_the_set_with_kinds_as_labels(drawn, opened):
    factors, images, _ = drawn
    np.testing.assert_array_equal(opened.images, images)
    assert [opened.classes[i] for i in opened.labels[:50]] == factors["kind"][:50].tolist()
    assert opened.source == "shapes" and opened.names[7] == "7"
    assert 900 < len(opened.split()[1]) < 1_100


def test_its_factors_come_along_in_the_order_of_the_images(drawn, opened):
    factors, _, _ = drawn
    assert opened.factors.keys() == factors.keys()
    for name in factors:
        np.testing.assert_array_equal(opened.factors[name], factors[name])
    table = of_columns({k: v[:2000] for k, v in opened.factors.items()})
    assert table.names == shapes.FACTORS and table.categorical == (True, *[False] * 6)
    assert table.levels.shape == (2000, 7) and table.levels.max(0).values.tolist() == [2, *[19] * 6]


def test_it_joins_a_model_of_another_size():
    found = read_like(["shapes"], (1, 16, 16))
    assert found.images.shape == (10_000, 16, 16, 1) and found.factors is not None
