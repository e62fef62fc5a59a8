"""Judging by eye: what is shown, what answers come to, and that none is lost."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from pages import faults, until
from PIL import Image
from test_explorer_guard import live

from reparam.cli import main
from reparam.errors import DataError, UsageError
from reparam.explorer.judging.server import judging
from reparam.pretrained.pictures import half_blocks
from reparam.runs.judging import Judgement, Pools, Result, lots

N = 40
DARK, LIGHT = 20, 230


def pools(n=N, seed=0):
    """Two sources of which the first is dark and the second light, each image of a level of its own."""
    levels = [np.arange(n) % 20 + base for base in (DARK, LIGHT)]
    return Pools(("dark", "light"), tuple(
        np.broadcast_to(level[:, None, None, None], (n, 8, 8, 3)).astype(np.uint8) for level in levels), seed)


@pytest.fixture
def judgement(tmp_path):
    return Judgement.open(pools(), tmp_path / "answers.json")


def dark(image):
    return image.mean() < 128


def test_each_image_is_shown_once_and_sides_are_drawn_by_lot(judgement):
    shown = [judgement.shown(k) for k in range(N)]
    assert all(dark(left) != dark(right) for left, right in shown)
    assert 10 < sum(dark(left) for left, _ in shown) < 30  # 40 tosses; beyond in 0.1 % of seeds
    assert sorted({row for lot in judgement.lots for row in lot.rows[:1]}) == list(range(N))
    assert judgement.lots == lots(N, 0) != lots(N, 1)


@pytest.mark.parametrize("kind", ["pairs", "single"])
def test_who_knows_the_sources_is_right_each_time(tmp_path, kind):
    """Dark images are of the first source: preferred in pairs, and made where the second holds the real ones."""
    judgement = Judgement.open(pools(), tmp_path / "answers.json", kind)
    for k in range(N):
        left = dark(judgement.shown(k)[0])
        judgement.answer(k, ("left" if left else "right") if kind == "pairs" else ("right" if left else "left"))
    found = judgement.result()
    assert (found.times, found.against, found.unsure) == (N, 0, 0) and found.differs and judgement.ended
    assert ("dark is preferred." if kind == "pairs" else "They can be told apart.") in found.in_words


def test_always_left_says_nothing(judgement):
    for k in range(N):
        judgement.answer(k, "left")
    found = judgement.result()
    assert found.decided == N and not found.differs and "Neither is preferred for sure" in found.in_words


def test_intervals_are_wilson_s_of_what_was_decided():
    """Of 15 in 20, Wilson's interval is 0.5313 to 0.8881 (Newcombe, 1998, gives the formula)."""
    found = Result("pairs", ("a", "b"), 15, 5, 7, 0)
    assert found.interval == pytest.approx((0.5313, 0.8881), abs=2e-4) and found.differs
    assert found.to_dict()["n"] == 27 and "15 of 20, 75%" in found.in_words and "7 could not be told" in found.in_words
    assert "b is preferred" in replace(found, times=5, against=15).in_words
    assert not replace(found, times=12, against=8).differs
    assert "Nothing was decided" in Result("pairs", ("a", "b"), 0, 0, 3, 0).in_words


def test_answers_survive_and_other_images_are_refused(judgement):
    path = judgement.path
    judgement.answer(0, "left")
    judgement.answer(0, "right")  # the same key, pressed twice
    judgement.answer(1, "unsure")
    judgement.answer(2, "right")
    judgement.take_back()
    again = Judgement.open(pools(), path)
    assert again.answers == ["left", "unsure"] and again.done == 2
    for other in (lambda: Judgement.open(pools(seed=1), path), lambda: Judgement.open(pools(30), path),
                  lambda: Judgement.open(pools(), path, "single")):
        with pytest.raises(UsageError, match="2 answers about other images"):
            other()


def test_half_blocks_hold_two_pixels_each():
    red, blue = (np.full((2, 8, 3), color, np.uint8) for color in ((255, 0, 0), (0, 0, 255)))
    text = half_blocks([np.concatenate([red, blue])[:4], np.concatenate([blue, red])[:4]], 40)
    first = text.splitlines()[0]
    assert "\x1b[38;2;255;0;0;48;2;255;0;0m▀" in first and first.count("▀") <= 40 and "▀    \x1b" not in first
    assert all(line.count("\x1b[0m") == 2 for line in text.splitlines())


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders of images, one dark and one light."""
    monkeypatch.chdir(tmp_path)
    for name, level in (("dark", DARK), ("light", LIGHT)):
        (tmp_path / name).mkdir()
        for i in range(20):
            Image.fromarray(np.random.default_rng(i).integers(level - 15, level + 15, (16, 16, 3), np.uint8)).save(
                tmp_path / name / f"{i}.png")
    return tmp_path


def typed(monkeypatch, text):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_the_command_judges_in_a_terminal_and_goes_on(folders, monkeypatch, capsys):
    (folders / "dark-or-light.png").write_bytes(b"somebody's own")
    typed(monkeypatch, "l\nr\n\nb\nq\n")
    assert main(["judge", "dark", "light", "--terminal", "-n", "10"]) == 0
    assert "Judged 2 of 10, seed 0" in capsys.readouterr().out and (folders / "dark-or-light.json").exists()
    typed(monkeypatch, "l\n" * 20)
    assert main(["judge", "dark", "light", "--terminal", "-n", "10", "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["n"] == 10 and found["for"] + found["against"] == 10 and "2 of 10 answers already" in said.err
    assert (folders / "dark-or-light.png").read_bytes() == b"somebody's own"
    assert main(["judge", "dark", "light", "--terminal", "-n", "50"]) == 1
    assert "smaller -n" in capsys.readouterr().err
    for wrong in (["judge", "dark", "--terminal"], ["judge", "dark", "light", "--out", "x.txt"]):
        assert main(wrong) == 2
    with pytest.raises(DataError, match="dark has 20 images for 21"):
        Pools.of("dark", "light", n=21, seed=0)


def test_a_run_is_judged_against_its_own_real_images(folders, monkeypatch, capsys):
    import reparam

    reparam.train("light", preset="quick", steps=2, out="run")
    found = Pools.of("run", None, n=1, seed=3)
    assert found.names == ("run", "real images") and found.images[0].shape == found.images[1].shape == (1, 16, 16, 3)
    assert found.images[1].mean() > 200 and found.fingerprint == Pools.of("run", None, n=1, seed=3).fingerprint
    assert Pools.of("run", "dark", n=4, seed=0).images[1].mean() < 60


def test_the_page_judges_by_keys_and_buttons(browser, tmp_path):
    judgement = Judgement.open(pools(5), tmp_path / "answers.json")
    with live(judging(judgement)) as guard:
        for scheme in ("light", "dark"):
            page = browser.new_page(color_scheme=scheme, viewport={"width": 900, "height": 700})
            problems = []
            page.on("console", lambda m, told=problems: told.append(m.text) if m.type in ("error", "warning") else None)
            page.goto(guard.link)
            page.wait_for_selector("body.ready")
            assert not faults(page)
            if scheme == "light":
                page.close()
        page.wait_for_selector("#shown img")

        def at(k):
            until(page, lambda: page.locator("#count").inner_text() == f"{k + 1} of 5")

        for key, k in (("ArrowLeft", 1), ("ArrowRight", 2), (" ", 3), ("Backspace", 2)):
            page.keyboard.press(key)
            at(k)
        assert judgement.answers == ["left", "right"]
        page.locator("#shown img").nth(1).click()
        at(3)
        page.locator("#left").click()
        at(4)
        page.keyboard.press(" ")  # after a click a space is an answer, and no other press of the button
        until(page, lambda: judgement.ended)
        assert judgement.answers == ["left", "right", "right", "left", "unsure"]
        until(page, lambda: page.locator("#result").is_visible())
        assert page.locator("#result").inner_text() == judgement.result().in_words
        assert not faults(page) and not problems
        page.close()


def test_nothing_of_the_page_names_a_source_before_the_end(tmp_path):
    judgement = Judgement.open(pools(3), tmp_path / "answers.json")
    with live(judging(judgement)) as guard:
        def ask(where, body=None):
            headers = {"Cookie": f"{guard.cookie}={guard.token}", "Origin": f"http://127.0.0.1:{guard.port}"}
            asked = urllib.request.Request(f"http://127.0.0.1:{guard.port}{where}", body, headers)
            with urllib.request.urlopen(asked) as answer:
                return answer.read()

        for k in range(3):
            said = json.loads(ask("/state"))
            assert said == {"kind": "pairs", "k": k, "n": 3, "result": None}
            ask("/answer", json.dumps({"k": k, "answer": "left"}).encode())
        assert "dark" in json.loads(ask("/state"))["result"]
        for wrong in ("/image/3/0", "/image/0/2"):
            with pytest.raises(urllib.error.HTTPError):
                ask(wrong)
        with pytest.raises(urllib.error.HTTPError):
            ask("/answer", b"left")
