"""Values held in memory are read by their type or by a stated range: never clipped, never guessed."""

import numpy as np
import pytest
import torch

from reparam.data.arrays import from_arrays
from reparam.data.pixels import pixels_of
from reparam.errors import DataError, UsageError

LEVELS = np.array([[0, 51], [128, 255]], np.uint8)
SHARES = LEVELS / 255


@pytest.mark.parametrize(("values", "range_found"), [
    (LEVELS, (0, 255)),
    (torch.from_numpy(LEVELS.copy()), (0, 255)),
    (LEVELS.astype(np.uint16) * 257, (0, 65535)),
    ((LEVELS.astype(">u2") * 257), (0, 65535)),
])
def test_whole_numbers_become_levels_by_their_types_range(values, range_found):
    pixels, found = pixels_of(values)
    assert pixels.dtype == np.uint8 and found == range_found
    np.testing.assert_array_equal(pixels, LEVELS)


@pytest.mark.parametrize("values", [
    [[False, True]], np.array([[False, True]]), torch.tensor([[False, True]])])
def test_bool_is_black_and_white(values):
    pixels, found = pixels_of(values)
    assert pixels.dtype == np.uint8 and pixels.tolist() == [[0, 255]] and found == (0, 1)


@pytest.mark.parametrize("values", [
    SHARES.astype(np.float16), SHARES.astype(np.float32), SHARES, SHARES.astype(">f4"), SHARES.tolist(),
    torch.tensor(SHARES, requires_grad=True), torch.tensor(SHARES, dtype=torch.bfloat16)])
def test_floats_from_0_to_1_are_taken_as_they_are(values):
    pixels, found = pixels_of(values)
    assert pixels.dtype.kind == "f" and found == (0, 1)
    np.testing.assert_allclose(pixels, SHARES, atol=2e-3)


def test_what_needs_no_change_is_not_copied():
    for values in (LEVELS, SHARES):
        assert pixels_of(values)[0] is values


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint32, np.uint64])
def test_types_without_a_range_are_refused_by_what_was_found(dtype):
    with pytest.raises(DataError, match=r"from 3 to 90.*no range of their own.*value_range="):
        pixels_of(np.array([3, 90], dtype))


@pytest.mark.parametrize(("values", "found"), [
    ([[0, 255], [1000, -3]], "from -3 to 1000"), (np.array([0.0, 255.0]), "from 0 to 255"),
    (torch.tensor([-1.0, 1.0]), "from -1 to 1"), (np.array([0, 1.01], np.float16), "from 0 to 1.0")])
def test_values_outside_the_types_range_are_refused(values, found):
    with pytest.raises(DataError, match=rf"{found}.*value_range="):
        pixels_of(values)


@pytest.mark.parametrize(("values", "bounds"), [
    (np.array([-1000, 0, 1000]), (-1000, 1000)), (np.array([0, 2048, 4096], np.int16), (0, 4096)),
    (np.array([-1.0, 0, 1.0], np.float32), (-1, 1)), (np.array([0.0, 8, 16]), (0, 16)), ([0, 5, 10], (0, 10)),
    (np.array([0, 8, 16], np.uint8), (0, 16))])
def test_a_stated_range_maps_every_type_and_clips_none(values, bounds):
    pixels, found = pixels_of(values, bounds)
    assert found == bounds
    np.testing.assert_allclose(pixels / (255 if pixels.dtype == np.uint8 else 1), [0, 0.5, 1], atol=0.5 / 255)
    with pytest.raises(DataError, match=r"outside the stated range.*value_range="):
        pixels_of(values, (bounds[0], bounds[1] - 0.5))
    with pytest.raises(UsageError, match="empty"):
        pixels_of(values, (1, 1))


def test_one_range_maps_many_values_block_by_block(monkeypatch):
    monkeypatch.setattr("reparam.data.pixels._BLOCK", 8)
    values = np.random.default_rng(0).uniform(-3, 5, (17, 4))
    pixels, (low, high) = pixels_of(values, (-3, 5))
    np.testing.assert_allclose(low + (high - low) * pixels, values, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bounds", [None, (0, 9)])
def test_nan_and_infinity_are_placed(bad, bounds):
    values = np.zeros((3, 4, 5))
    values[1, 2, 3] = bad
    with pytest.raises(DataError, match="1 value is NaN or infinite, the first at row 1, column 2, channel 3"):
        pixels_of(values, bounds)


@pytest.mark.parametrize("values", [np.array([1 + 2j]), np.array(["a"]), np.array([None]), [[0.0, 1.0], [0.5]]])
def test_what_is_no_array_of_numbers_is_refused(values):
    with pytest.raises(DataError, match=r"not samples of an image|differ in shape"):
        pixels_of(values)


@pytest.mark.parametrize("kind", [list, torch.tensor, lambda x: torch.tensor(x, requires_grad=True)])
def test_sets_are_made_of_lists_and_tensors_like_of_arrays(kind):
    shares = np.random.default_rng(0).integers(0, 256, (16, 8, 8)) / 255
    given = shares.tolist() if kind is list else kind(shares)
    np.testing.assert_array_equal(from_arrays(given).images, from_arrays(shares).images)
