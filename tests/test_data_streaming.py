"""Images streamed from shards: their order is a function of the step, and what is broken is replaced and listed."""

import itertools

import numpy as np
import pytest
from test_data_shards import cache_folder, png, shard  # noqa: F401 (the fixture)

import reparam
from reparam.data import open_images, sharded, streaming
from reparam.data.decode import Named
from reparam.data.order import Order
from reparam.data.pixels import UnreadableImage
from reparam.errors import DataError, UsageError
from reparam.runs.train import resume, train


def numbers(order, position, count):
    """The groups' own numbers of images, in the order in which they come."""
    found, starts = [], np.cumsum([0, *order.sizes])
    for block in order.blocks(position):
        all_of = np.concatenate([starts[g] + np.arange(order.sizes[g]) for g in block.groups])
        found += all_of[block.rows][block.first:].tolist()
        if len(found) >= count:
            return found[:count]
    return found


SIZES = [7, 3, 8, 8, 1, 5, 8, 6, 2]


@pytest.mark.parametrize("position", [0, 1, 47, 48, 49, 130])
def test_the_order_from_a_position_is_that_of_the_whole(position):
    order = Order(SIZES, [1] * 9, seed=3)
    whole = numbers(order, 0, 200)
    assert numbers(order, position, 200 - position) == whole[position:]
    assert sorted(whole[:48]) == sorted(whole[48:96]) == [*range(48)] and whole[:48] != whole[48:96]
    assert numbers(Order(SIZES, [1] * 9, seed=4), 0, 48) != whole[:48]


def test_processes_share_the_groups_and_their_passes_are_equally_long():
    orders = [Order(SIZES, [1] * 9, 3, i, 3) for i in range(3)]
    assert sorted(np.concatenate([order.own for order in orders])) == [*range(9)]
    (length,) = {order.length for order in orders}
    seen = [set(numbers(order, 0, length)) for order in orders]
    assert all(len(each) == length for each in seen) and not seen[0] & seen[1] and not seen[1] & seen[2]
    assert numbers(orders[1], length + 2, 5) == numbers(orders[1], 0, length + 7)[length + 2:]
    with pytest.raises(UsageError, match="10 processes share 9 groups"):
        Order(SIZES, [1] * 9, 3, 0, 10)


def test_large_groups_are_mixed_with_fewer_others():
    assert [Order(SIZES, [weight] * 9, 0).mixed for weight in (1, 100 << 20, 1 << 40)] == [4, 2, 1]


@pytest.fixture
def shards(tmp_path):
    for i in range(3):
        shard(tmp_path / "d" / f"train-{i}.parquet", range(40 * i, 40 * i + 40), labels=[k % 3 for k in range(40)])
    return tmp_path / "d"


def drawn(streamed, size, start, count):
    """Sums of pixels and labels of some batches."""
    batches = itertools.islice(streamed.batches(size, 5, start, 0, 1), count)
    return [(x.sum((1, 2, 3)).tolist(), y.tolist()) for x, y in batches]


def test_streamed_images_are_those_that_are_not_held_out_and_resume_exactly(shards):
    plain, found = open_images(shards), open_images(shards, stream=True)
    streamed = found.streamed
    assert found.total == 120 and plain.streamed is None and found.classes == ("0", "1", "2")
    assert streamed.count == found.trained_on == 120 - len(found.split()[1])
    whole = drawn(streamed, 7, 0, 40)
    assert drawn(streamed, 7, 23, 17) == whole[23:]
    one_pass = [each for pixels, labels in whole for each in zip(pixels, labels, strict=True)][: streamed.count]
    kept = np.setdiff1d(np.arange(120), found.split()[1])
    expected = zip(found.images.sum((1, 2, 3)).tolist(), found.labels.tolist(), strict=True)
    assert sorted(one_pass) == sorted(each for i, each in enumerate(expected) if i in set(kept))


def test_in_place_of_what_cannot_be_read_comes_the_next_image(shards, monkeypatch):
    plan = open_images(shards, stream=True).streamed.plan
    files = [Named("0", png(0)), UnreadableImage("gone"), Named("2", png(2)), Named("3", b"")]
    images, source, bad = streaming.decode_all(plan, files)
    assert source.tolist() == [0, 2, 2, 0] and set(bad) == {1, 3} and bad[1] == "gone"
    assert np.array_equal(images[1], images[2]) and np.array_equal(images[3], images[0])


@pytest.mark.parametrize("on_bad", ["skip", "error"])
def test_a_shard_that_is_gone_is_listed_once_or_ends_the_work(shards, on_bad):
    found = open_images(shards, stream=True, on_bad=on_bad)
    (shards / "train-1.parquet").unlink()
    if on_bad == "error":
        with pytest.raises(DataError, match=r"train-1\.parquet, images .*: its shard cannot be read"):
            drawn(found.streamed, 8, 0, 15)
        return
    assert drawn(found.streamed, 8, 0, 30)[3:] == drawn(found.streamed, 8, 3, 27)
    assert sorted(each.name for each in found.streamed.skips) == [
        f"train-1.parquet, images {i} to {i + 7}" for i in (0, 16, 24, 32, 8)]


def test_a_part_is_at_hand_and_the_whole_is_streamed(shards, monkeypatch):
    shard(shards / "test-0.parquet", range(200, 240), labels=[2] * 40)
    monkeypatch.setattr(sharded, "MOST_DECODED", 1000)
    monkeypatch.setattr(sharded, "AT_HAND", 45)
    monkeypatch.setattr(sharded, "HELD_OUT_AT_HAND", 10)
    found = open_images(shards)
    assert found.total == 160 and found.test.sum() == 10 and 30 < (~found.test).sum() <= 45
    assert found.streamed.count == 120 - len(found.split()[1])
    assert found.fingerprint == open_images(shards).fingerprint != open_images(shards, stream=False).fingerprint


TINY = {"encoder": "mlp(hidden=(16,))", "decoder": "mlp(hidden=(16,))", "latent": "flat(2)", "batch_size": 16, "threads": 1}


def test_a_run_on_a_stream_stops_and_goes_on_as_if_it_had_not(shards, tmp_path):
    options = reparam.runs.train.DataOptions(stream=True)
    whole = train(shards, out=tmp_path / "whole", options=options, steps=12, **TINY)
    assert whole.facts["images"] == 120 and whole.facts["training"] == 120 - whole.facts["validation"]
    seen = []

    class Stop(reparam.progress.Silent):
        def step(self, fraction, line):
            seen.append(fraction)
            if len(seen) == 5:
                raise KeyboardInterrupt

    from reparam.runs import train as module

    module.SAVE_EVERY, before = 0, module.SAVE_EVERY
    try:
        with pytest.raises(KeyboardInterrupt):
            train(shards, out=tmp_path / "cut", options=options, steps=12, report=Stop(), **TINY)
    finally:
        module.SAVE_EVERY = before
    resume(tmp_path / "cut")
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert a == b
    with pytest.raises(UsageError, match="no-stream"):
        train(shards, out=tmp_path / "few", options=options, steps=2, labelled=10,
              **TINY | {"latent": "conditional(2, 3)"})
