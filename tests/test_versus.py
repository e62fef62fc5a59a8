"""The rules by which VAEs and GANs are compared: search by halving, who is ahead, orders, settings that can be trained."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def part(monkeypatch):
    """Imports a module of the benchmark."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return lambda name: importlib.import_module(f"versus_parts.{name}")


def test_halving_tries_all_then_the_best_for_longer(part):
    searching = part("searching")
    asked: list[tuple[int, float]] = []
    early = {0: 5.0, 1: 1.0, 2: math.nan, 3: 2.0, 4: 3.0}
    late = {1: 9.0, 3: 8.0}

    def judge(number, rung):
        asked.append((number, rung.seconds))
        return (early if rung.seconds == 25 else late)[number]

    assert searching.halving([searching.Rung(5, 25), searching.Rung(2, 75)], judge) == 3
    assert asked == [(0, 25), (1, 25), (2, 25), (3, 25), (4, 25), (1, 75), (3, 75)]


def test_what_could_not_be_judged_is_never_best(part):
    searching = part("searching")
    assert searching.best([(0, math.nan), (1, 7.0), (2, 3.0), (3, math.nan)], 3) == [2, 1, 0]


@pytest.mark.parametrize(("a", "b", "expected"), [
    ([1, 2, 3], [4, 5, 6], "FIRST"),
    ([4, 5, 6], [1, 2, 3], "SECOND"), ([1, 2, 4], [4, 5, 6], "LEVEL"), ([1, 2], [4, 5, 6], "FEW")])
def test_ahead_is_all_seeds_below_all_others(part, a, b, expected):
    claims = part("claims")
    assert claims.ahead({"a": {"x": a, "y": a}}, {"b": {"x": b, "y": b}}).name == expected


def test_both_networks_must_agree(part):
    claims = part("claims")
    low, high, between = [1, 2, 3], [4, 5, 6], [2, 4, 5]
    assert claims.ahead({"a": {"x": low, "y": high}}, {"b": {"x": high, "y": low}}) is claims.Verdict.DISAGREE
    assert claims.ahead({"a": {"x": low, "y": between}}, {"b": {"x": high, "y": between}}) is claims.Verdict.LEVEL


def test_one_player_must_beat_each_of_the_others(part):
    claims = part("claims")

    def same(values):
        return {"x": values, "y": values}

    ours = {"good": same([1, 2, 3]), "poor": same([90, 91, 92])}
    assert claims.ahead(ours, {"b": same([4, 5, 6]), "c": same([7, 8, 9])}) is claims.Verdict.FIRST
    assert claims.ahead(ours, {"b": same([3, 5, 6]), "c": same([7, 8, 9])}) is claims.Verdict.LEVEL
    assert claims.ahead({}, ours) is claims.Verdict.MISSING
    shared = {"good": {"x": [1, 2, 3], "y": [7, 8, 9]}, "other": {"x": [7, 8, 9], "y": [1, 2, 3]}}
    assert claims.ahead(shared, {"b": same([4, 5, 6])}) is not claims.Verdict.FIRST


def test_players_with_too_few_seeds_neither_win_nor_are_beaten(part):
    claims = part("claims")

    def same(values):
        return {"x": values, "y": values}

    ours, young = {"good": same([1, 2, 3])}, {"young": same([0.5])}
    assert claims.ahead(ours | young, {"b": same([4, 5, 6])}) is claims.Verdict.FIRST
    assert claims.ahead(young, {"b": same([4, 5, 6])}) is claims.Verdict.FEW
    assert claims.ahead(ours, {"b": same([4, 5, 6]), "late": same([9])}) is claims.Verdict.FEW


@pytest.mark.parametrize(("duplicates", "vendi", "expected"), [
    ([0.0, 0.0, 0.9], [20, 20, 20], False), ([0.2, 0.3, 0.0], [20, 20, 20], True),
    ([0.19, 0.19, 0.19], [20, 20, 20], False), ([0.0, 0.0, 0.0], [3, 2, 20], True)])
def test_a_player_is_unable_when_most_seeds_collapsed(part, duplicates, vendi, expected):
    assert part("claims").unable(duplicates, vendi) is expected


def test_agreement_of_orders(part):
    agreement = part("claims").agreement
    order = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    assert agreement(order, {k: v**3 for k, v in order.items()}) == 1
    assert agreement(order, {k: -v for k, v in order.items()}) == -1
    assert agreement(order, {"a": 1.0, "b": 3.0, "c": 2.0, "d": 4.0}) == pytest.approx(2 / 3)  # one pair of six reversed
    assert math.isnan(agreement(order, {"a": 1.0}))


def test_held_out_images_are_of_all_classes_and_no_model_sees_them(part):
    scales = part("scales")
    rows = np.arange(5000, 60_000)
    known, held = scales.parted(rows, scales.FULL)
    assert len(held) == 4000
    assert sorted([*known, *held]) == list(rows)
    assert np.bincount((held - 5000) // 5500).tolist() == [400] * 10
    assert len(scales.parted(np.arange(7500), scales.FULL)[1]) == 1000


def test_a_search_begins_with_the_papers_setting_and_is_the_same_again(part):
    players = part("players")
    for name, player in players.PLAYERS.items():
        found = players.settings_of(name, "faces", 9)
        assert len(found) == 9
        assert found[0] == player.paper
        assert found == players.settings_of(name, "faces", 9)
        assert found[:4] == players.settings_of(name, "faces", 4)


@pytest.mark.parametrize("name", ["default", "terse", "refined", "dcgan", "fastgan", "r3gan", "vae_gan"])
def test_every_setting_can_be_trained_and_meets_the_parameters(part, name):
    players, training = part("players"), part("training")
    from reparam.parts.presets import PRESETS
    from reparam.trainer.assembly import Assembly

    assert name in PRESETS
    for data, shape, tried in (("fashion", (1, 28, 28), 2), ("faces", (3, 64, 64), 1)):
        for number, settings in enumerate(players.settings_of(name, data, tried)):
            recipe = players.recipe_of(name, settings, data, shape, 0, chooses=False)
            count = training.parameters(recipe, shape) + players.resampler_parameters(shape)
            assert count == pytest.approx(training.TARGET[data], rel=0.1)
            if number and data == "fashion":
                Assembly(recipe, shape)


def search(data, name, fd):
    """A search whose longest trial of the chosen setting came to this figure, and a shorter one to less."""
    return {"data": data, "player": name, "chosen": 4, "settings": {},
            "trials": [{"number": number, "seconds": seconds, "settings": {}, "fd": reached}
                       for number, seconds, reached in ((4, 25, 1.0), (4, 75, fd), (2, 75, fd + 1))]}


def test_the_best_of_each_side_enter_once_all_of_it_are_searched(part, tmp_path):
    figures, scales, players = part("figures"), part("scales"), part("players")
    fds = {"default": 30, "terse": 10, "refined": 20, "dcgan": 40, "fastgan": 60, "vae_gan": 50}

    def found():
        return figures.Measured({}, {}, {("fashion", n): search("fashion", n, fd) for n, fd in fds.items()})

    assert found().entrants() == {"fashion": {players.VAE: ["terse", "refined"], players.HYBRID: ["vae_gan"]}}
    fds["r3gan"] = math.inf
    assert found().entrants()["fashion"][players.GAN] == ["dcgan", "fastgan"]
    cells = scales.FULL.trainings(found().entrants())
    assert len(set(cells)) == len(cells) == 5 * 4
    assert cells[:3] == ("fashion-terse-4-0", "fashion-vae_gan-4-0", "fashion-dcgan-4-0")
    assert cells[9:12] == ("fashion-terse-10-0", "fashion-vae_gan-10-0", "fashion-dcgan-10-0")
    assert scales.FULL.number_of_trainings() == 4 * len(cells)


def cell(fd, duplicates=0.0, **more):
    of = {"fd": fd, "kd": 0.1, "precision": 0.5, "recall": 0.5, "density": 0.5, "coverage": 0.5}
    return {"plain": {"efficientnet": of, "inception": of, "wavelets": {"fd": fd},
                      "all": {"duplicates": duplicates, "vendi": 20.0, "sharpness": 0.0}},
            "parameters": 800_000, "steps": 100, "images_seen": 6400, "training_seconds": 200.0, "fit_seconds": 40.0,
            "images_per_second": 100, "choosing_seconds": 9.0, "curve": [{"seconds": 1.0, "fd (wavelets)": 2.0}],
            "sampling": {"temperature": 1.0, "keep": 1.0, "refine_temperature": None}, "machine": {"processor": "one"},
            **more}


def enter(part, folder):
    """Searches of all players but hybrids on three sets; `default` and `dcgan` end best."""
    import json

    for data in ("fashion", "mnist", "faces"):
        for i, name in enumerate(("default", "dcgan", "refined", "terse", "fastgan", "r3gan")):
            (folder / f"tune-{data}-{name}.json").write_text(json.dumps(search(data, name, i)))


def test_the_page_tells_losses_first_and_what_is_missing(part, tmp_path):
    import json

    def keep(data, name, seed, found):
        (tmp_path / f"grid-{data}-{name}-4-{seed}.json").write_text(json.dumps(
            {"data": data, "player": name, "minutes": 4.0, "seed": seed, **found}))

    for seed in range(3):
        keep("fashion", "default", seed, cell(10 + seed))
        keep("fashion", "dcgan", seed, cell(100 + seed))
        keep("mnist", "default", seed, cell(100 + seed))
        keep("mnist", "refined", seed, cell(150 + seed))
        keep("mnist", "dcgan", seed, cell(10 + seed))
        for data in ("fashion", "mnist", "faces"):
            keep(data, "fastgan", seed, cell(1000 + seed, duplicates=0.3))
        keep("faces", "default", seed, cell(100 + seed))
        failed = {"failed": "training ended", "machine": {"processor": "one"}}
        keep("faces", "dcgan", seed, cell(10 + seed, duplicates=0.5) if seed else failed)
    enter(part, tmp_path)
    part("page").write(tmp_path, part("scales").FULL, tmp_path)
    text = (tmp_path / "vae-versus-gan.md").read_text(encoding="utf-8")
    rows = [line for line in text.partition("## Who wins where")[2].splitlines() if "| plain draws |" in line][:3]
    assert [row.split("|")[1].strip() for row in rows] == ["MNIST", "Fashion-MNIST", "faces64"]
    assert [row.split("|")[4].strip() for row in rows] == ["**GAN**", "**VAE**", "no GAN is able"]
    assert "`dcgan`, `fastgan` |" in rows[2]
    assert "`fashion-refined-4-0`" in text
    assert "50 of 80 trainings" in text
    assert "10 of 28 searches for settings" in text


def test_nothing_is_claimed_of_unlike_processors(part):
    figures, players = part("figures"), part("players")
    tunings = {("fashion", n): search("fashion", n, i) for i, n in enumerate(players.PLAYERS)}
    grid = {("fashion", 4.0, n): [cell(fd + i, seed=i) for i in range(3)]
            for n, fd in (("default", 10), ("dcgan", 100), ("fastgan", 200))}

    def verdict():
        return figures.Measured(grid, {}, tunings).verdict("fashion", 4.0, "plain", "fd", players.VAE, players.GAN)

    assert verdict().value == "ahead"  # of all GANs that enter, though a VAE that enters is not measured
    grid["fashion", 4.0, "dcgan"][1]["machine"] = {"processor": "another"}
    assert verdict().value == "unlike processors"
    del grid["fashion", 4.0, "dcgan"]
    assert verdict().value == "too few seeds"
    del tunings["fashion", "r3gan"]
    assert verdict().value == "searches missing"
    assert figures.Measured(grid, {}, tunings).best("fashion", 4.0, "plain", players.GAN) == "fastgan"
