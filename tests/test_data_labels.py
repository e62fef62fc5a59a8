"""Labels of any kind become classes 0 to k − 1; array files as data sets are published."""

import numpy as np
import pytest

from reparam.data.arrays import from_arrays
from reparam.data.open import open_images
from reparam.data.stream import keep_labels
from reparam.errors import DataError

X = np.random.default_rng(0).integers(0, 256, (240, 8, 8), np.uint8)


@pytest.mark.parametrize(("labels", "classes", "numbers"), [
    (np.arange(240) % 4 + 1, ("1", "2", "3", "4"), np.arange(240) % 4),
    (np.arange(240, dtype=np.uint64) % 3 * 10**9, ("0", "1000000000", "2000000000"), np.arange(240) % 3),
    (np.arange(240)[:, None] % 3 - 3, ("-3", "-2", "-1"), None),
    ((np.arange(240) % 2).astype(bool), ("0", "1"), np.arange(240) % 2),
    (np.arange(240) % 2 * 5.0, ("0", "5"), np.arange(240) % 2),
    (["b", "a"] * 120, ("a", "b"), [1, 0] * 120),
    (np.array([b"caf\xe9", b"b"] * 120), ("b", "caf\\xe9"), [1, 0] * 120),
    (np.eye(3, dtype=np.uint8)[np.arange(240) % 3], ("0", "1", "2"), np.arange(240) % 3),
])
def test_labels_become_classes_counted_from_0(labels, classes, numbers):
    found = from_arrays(X, labels)
    if numbers is None:  # -1 stands for no label
        classes, numbers = ("-3", "-2"), np.where(np.arange(240) % 3 == 2, -1, np.arange(240) % 3)
    assert found.classes == classes and found.labels.dtype == np.int64
    np.testing.assert_array_equal(found.labels, numbers)


def test_numbers_that_do_not_count_from_0_are_said():
    assert any("labels from 1 to 4 are of 4 classes" in n for n in from_arrays(X, np.arange(240) % 4 + 1).notes)
    assert not from_arrays(X, np.arange(240) % 4).notes


@pytest.mark.parametrize("labels", [np.arange(240) * 10**12, [f"IMG_{i}" for i in range(240)]])
def test_identifiers_are_no_classes(labels):
    found = from_arrays(X, labels)
    assert found.labels is None and found.classes == ()
    assert "240 different values for 240 images" in found.about_labels


def test_labels_with_names_count_in_them():
    found = from_arrays(X, np.arange(240) % 2 + 1, classes=("none", "cat", "dog"))
    assert found.classes == ("none", "cat", "dog") and found.labels.tolist() == [1, 2] * 120
    for wrong in (3, -2):
        with pytest.raises(DataError, match="for 3 classes"):
            from_arrays(X, np.full(240, wrong), classes=("none", "cat", "dog"))


MANY = np.random.default_rng(1).integers(0, 2, (240, 14))


def test_labels_of_several_columns_are_kept_as_factors():
    found = from_arrays(X, MANY)
    assert found.labels is None and found.classes == ()
    assert any("labels of 14 columns (factor 0" in note for note in found.notes)
    assert tuple(found.factors) == tuple(f"factor {i}" for i in range(14))
    np.testing.assert_array_equal(np.stack(list(found.factors.values()), 1), MANY)
    assert from_arrays(X).fingerprint == found.fingerprint  # training does not depend on them
    assert tuple(from_arrays(X, MANY[:, :2], factors=("size", "hue")).factors) == ("size", "hue")
    assert "factor 0" in from_arrays(X, MANY, factors=("size", "hue")).factors


def test_columns_with_names_of_their_own_keep_them():
    table = np.array([(i % 3, "ab"[i % 2], i / 240) for i in range(240)],
                     [("shape", np.int64), ("hue", "S1"), ("size", float)])
    found = from_arrays(X, table)
    assert tuple(found.factors) == ("shape", "hue", "size") and set(found.factors["hue"]) == {"a", "b"}
    assert from_arrays(X, table[["shape"]]).classes == ("0", "1", "2")


def test_columns_of_something_else_are_refused():
    with pytest.raises(DataError, match="labels of type complex128"):
        from_arrays(X, MANY.astype(complex))
    with pytest.raises(DataError, match=r"a column of labels has the shape \(240, 2\)"):
        from_arrays(X, np.zeros(240, [("a", int), ("b", float, (2,))]))
    with pytest.raises(DataError, match=r"of shape \(240, 0\)"):
        from_arrays(X, MANY[:, :0])


@pytest.mark.parametrize("keys", [("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"),
                                  ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test")])
def test_validation_parts_of_an_npz_are_what_is_held_out(tmp_path, keys):
    parts = [X[:150], np.arange(150)[:, None] % 3 + 5, X[150:180], np.arange(30)[:, None] % 3 + 5, X[180:],
             np.arange(60)[:, None] % 3 + 5]
    np.savez(tmp_path / "x.npz", **dict(zip(keys, parts, strict=True)))
    found = open_images(tmp_path / "x.npz")
    train, validation, test = found.split()
    assert (train.tolist(), validation.tolist(), test.tolist()) == (
        list(range(150)), list(range(150, 180)), list(range(180, 240)))
    assert found.classes == ("5", "6", "7") and any("30 images are given as validation data" in n for n in found.notes)
    assert "30 for validation; 60 for test" in repr(found)
    np.savez(tmp_path / "part.npz", **dict(zip(keys[:5], parts[:5], strict=True)))
    without = open_images(tmp_path / "part.npz")
    assert without.labels[180:].tolist() == [-1] * 60 and without.classes == ("5", "6", "7")
    assert any("60 images have no label" in note for note in without.notes)


def test_sprites_of_0_and_1_are_black_and_white(tmp_path):
    kinds = np.arange(1440).reshape(240, 6) % 5
    np.savez(tmp_path / "sprites.npz", imgs=X // 128, latents_classes=kinds,
             latents_values=np.zeros((240, 6)), metadata=np.array([{"a": 1}], object))
    found = open_images(tmp_path / "sprites.npz")
    np.testing.assert_array_equal(found.images[..., 0], X // 128 * 255)
    assert found.labels is None and any("labels of 6 columns (color, shape, scale," in note for note in found.notes)
    assert tuple(found.factors) == ("color", "shape", "scale", "orientation", "posX", "posY")
    np.testing.assert_array_equal(np.stack(list(found.factors.values()), 1), kinds)
    np.savez(tmp_path / "values.npz", imgs=X // 128, latents_values=kinds / 4)
    np.testing.assert_array_equal(open_images(tmp_path / "values.npz").factors["posY"], kinds[:, 5] / 4)


def test_an_npz_names_the_columns_of_its_labels(tmp_path):
    np.savez(tmp_path / "multi.npz", train_images=X[:180], train_labels=MANY[:180, :2], test_images=X[180:],
             test_labels=MANY[180:, :2], label_names=np.array(["atelectasis", "effusion"]))
    found = open_images(tmp_path / "multi.npz")
    assert tuple(found.factors) == ("atelectasis", "effusion")
    np.testing.assert_array_equal(np.stack(list(found.factors.values()), 1), MANY[:, :2])


def test_an_npz_that_memory_cannot_hold_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    import psutil

    np.savez_compressed(tmp_path / "x.npz", images=np.zeros((2000, 32, 32), np.uint8))
    assert (tmp_path / "x.npz").stat().st_size < 10_000

    class Little:
        total = 1_000_000

    monkeypatch.setattr(psutil, "virtual_memory", Little)
    with pytest.raises(DataError, match=r"unpacks to 0 GB.*save the images as \.npy"):
        open_images(tmp_path / "x.npz")


def test_many_labels_cost_no_more_than_few():
    labels = np.concatenate([np.arange(120), np.arange(120)]) * (2**62 // 120)
    found = from_arrays(X, labels)  # an array of the greatest label's size would not fit anywhere
    assert len(found.classes) == 120 and found.labels.max() == 119


def test_few_labels_are_kept_evenly_over_the_classes_that_are_there():
    labels = np.concatenate([np.arange(3000) % 1000, [-1] * 10])
    kept = keep_labels(labels, np.arange(1500, 3010), 1000, seed=0)
    assert (kept >= 0).sum() == 1000 and (kept[:1500] == -1).all()
    np.testing.assert_array_equal(np.unique(kept), np.arange(-1, 1000))
    few = keep_labels(np.where(labels == 7, -1, labels), np.arange(3010), 8, seed=0)
    assert (few >= 0).sum() == 8
    uneven = keep_labels(np.arange(3000) % 10, np.arange(3000), 25, seed=0)
    assert np.bincount(uneven[uneven >= 0]).tolist() == [3] * 5 + [2] * 5  # no class goes without
