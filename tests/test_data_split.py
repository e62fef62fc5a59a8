"""The split: two images at least held out, near copies together, copies of test images out of training."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reparam.data.arrays import from_arrays
from reparam.data.near_copies import groups_of
from reparam.data.open import open_images

SMALL = np.random.default_rng(3).integers(0, 256, (2000, 8, 8), np.uint8)


def test_two_images_at_least_are_held_out_of_any_small_set():
    held_out = [len(from_arrays(SMALL[16 * i:16 * i + n]).split()[1]) for n in (16, 20) for i in range(60)]
    assert min(held_out) == 2 and max(held_out) < 9


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=16, max_size=60).filter(lambda rows: len(set(rows)) > 3),
       st.floats(0.01, 0.99))
def test_two_are_trained_on_and_two_held_out_where_copies_allow_it(rows, fraction):
    train, validation, _ = from_arrays(SMALL[rows]).split(fraction)
    most = max(rows.count(row) for row in rows)
    if most <= len(rows) // 2 - 2:
        assert len(train) >= 2 and len(validation) >= 2
    assert len(train) and len(validation)


def photographs(n):
    """Smooth pictures, 48×40, all different."""
    coarse = np.random.default_rng(4).integers(0, 256, (n, 6, 5, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(each).resize((40, 48), Image.Resampling.BICUBIC)) for each in coarse])


def saved_anew(image, quality):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


@pytest.mark.parametrize("change", [
    lambda x: np.where(x < 255, x + 1, x), lambda x: saved_anew(x, 90), lambda x: saved_anew(x, 50),
    lambda x: np.asarray(Image.fromarray(x).resize((80, 96)).resize((40, 48)))])
def test_near_copies_fall_on_one_side(change):
    originals = photographs(120)
    found = from_arrays(np.concatenate([originals, np.stack([change(x) for x in originals])]))
    assert len(np.unique(found.groups)) == 120
    train, validation, _ = found.split(0.3)
    assert {i % 120 for i in train.tolist()}.isdisjoint(i % 120 for i in validation.tolist())
    assert any("120 images differ hardly from others" in note for note in found.notes)


def blots(n, side):
    """A bright disc somewhere on black."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:side, :side]
    centres = rng.integers(side // 4, side - side // 4, (n, 2))
    return np.stack([np.where((y - a)**2 + (x - b)**2 < (side / 6)**2, 255, 0) for a, b in centres]).astype(np.uint8)


@pytest.mark.parametrize("images", [
    np.arange(256, dtype=np.uint8)[:, None, None].repeat(16, 1).repeat(16, 2),               # plain, one level apart
    np.clip(100 + np.random.default_rng(6).normal(0, 2, (300, 16, 16)), 0, 255).astype(np.uint8),  # nearly plain
    SMALL[:500], photographs(300), np.unique(blots(200, 32), axis=0)])
def test_different_images_are_not_taken_for_copies(images):
    found = from_arrays(images)
    np.testing.assert_array_equal(found.groups, found.digests)


def test_the_digits_are_split_as_by_their_digests():
    found = open_images("digits")
    assert len(np.unique(found.groups)) > 0.99 * len(found.images)


def film(n):
    first, last = photographs(2).astype(float)
    return np.stack([first + (last - first) * t for t in np.linspace(0, 1, n)]).round().astype(np.uint8)


@pytest.mark.parametrize("n", [90, 1000])
def test_a_film_is_not_one_image(n):
    found = from_arrays(film(n))
    assert 10 < len(np.unique(found.groups)) < n
    train, validation, _ = found.split()
    assert len(train) > 0.7 * n and len(validation) >= 2


def test_a_set_of_one_group_is_still_split():
    found = from_arrays(film(4000)[:60])
    assert len(np.unique(found.groups)) == 1
    train, validation, _ = found.split()
    assert len(train) > 40 and len(validation) >= 2


@pytest.mark.parametrize("each", [2, 12])
def test_groups_are_held_out_as_often_as_single_images(each):
    """The smallest of many digests is small: a group that went by it would nearly always be held out."""
    rng = np.random.default_rng(1)
    x = photographs(400)
    shift = rng.integers(0, 2, (400, each, 1, 1, 1)) + (rng.random((400, each, *x.shape[1:])) < 0.05)
    bursts = np.clip(x[:, None].astype(int) + shift, 0, 255)
    found = from_arrays(bursts.reshape(-1, *x.shape[1:]).astype(np.uint8))
    assert len(np.unique(found.groups)) == 400
    assert 0.05 < len(found.split()[1]) / len(found.images) < 0.15


def test_copies_of_test_and_validation_images_are_left_out_of_training():
    x = np.concatenate([SMALL[:40], SMALL[:3], SMALL[10:12]])
    rows = np.arange(45)
    found = from_arrays(x, test=(rows >= 40) & (rows < 43), validation=rows >= 43)
    train, validation, test = found.split()
    assert (validation.tolist(), test.tolist()) == ([43, 44], [40, 41, 42])
    assert train.tolist() == [i for i in range(40) if i not in (0, 1, 2, 10, 11)]
    assert any("3 test images also occur" in n for n in found.notes)
    assert any("2 validation images also occur" in n for n in found.notes)
    by_digest = from_arrays(x[:43], test=rows[:43] >= 40).split()
    assert not {0, 1, 2} & set(np.concatenate(by_digest[:2]).tolist())


def test_near_copies_of_test_images_are_said():
    x = photographs(40)
    found = from_arrays(np.concatenate([x, x[:4] // 2 * 2]), test=np.arange(44) >= 40)
    assert any("4 test images differ hardly from training images" in note for note in found.notes)


def test_the_fingerprint_of_a_set_without_near_copies_is_that_of_earlier_versions():
    import hashlib

    labels = np.arange(100) % 7 + 3
    found = from_arrays(SMALL[:100], labels)
    whole = hashlib.blake2b(repr(((100, 8, 8, 1), ())).encode(), digest_size=16)
    for part in (found.digests, found.test, labels):
        whole.update(part.tobytes())
    assert found.fingerprint == whole.hexdigest()


def test_groups_go_by_their_images_and_ignore_order():
    x = photographs(30)
    both = np.concatenate([x, np.where(x < 255, x + 1, x)])
    digests = np.random.default_rng(0).permutation(60).astype(np.uint64)
    groups = groups_of(both, digests)
    np.testing.assert_array_equal(groups[:30], groups[30:])
    assert len(np.unique(groups)) == 30 and abs(np.mean(groups / 2**64) - 0.5) < 0.2
    order = np.random.default_rng(1).permutation(60)
    np.testing.assert_array_equal(groups_of(both[order], digests[order]), groups[order])
