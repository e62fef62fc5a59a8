"""The page's views in a browser, before the explorer's own server and two small models: what is seen is what they make."""

from __future__ import annotations

import io
import re
import shlex
import zipfile

import numpy as np
import pytest
import torch
from pages import pixels, rests, shows, until
from PIL import Image
from test_explorer_guard import live

from reparam.cli import main
from reparam.explorer.questions import Question
from reparam.explorer.server import application
from reparam.explorer.session import Session

N = 120


@pytest.fixture(scope="module")
def session(explorable):
    runs = [explorable(stages={"fitted_prior": "mixture(3)", "resampler": "mlp"}), explorable(latent="flat(3)")]
    return Session.open(runs, most=N, device="cpu")


@pytest.fixture(scope="module")
def page(browser, session):
    """The page of one session, for all tests, since it takes a while to come up; nothing of it may complain."""
    with live(application(session)) as guard:
        opened, problems = browser.new_page(viewport={"width": 1200, "height": 900}, reduced_motion="reduce"), []
        opened.set_default_timeout(60_000)
        opened.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
        opened.on("pageerror", lambda e: problems.append(str(e)))
        opened.goto(guard.link)
        opened.wait_for_selector("body.ready")
        yield opened
        opened.close()
        assert not problems


@pytest.fixture(autouse=True)
def anew(page):
    """Each test begins with the view of an address that says nothing, with the first image in the workbench."""
    home = page.url.split("#")[0]
    page.goto("about:blank")
    page.goto(home)
    page.wait_for_selector("body.ready")


def again(page):
    """Loads the address that the view has come to, once it rests."""
    rests(page)
    page.reload()
    page.wait_for_selector("body.ready")


def answer(session, op, **said):
    return session.answer(Question({"op": op, **said}))


def saved(page, button):
    with page.expect_download() as download:
        page.click(button)
    return io.BytesIO(download.value.path().read_bytes())


def test_each_prior_is_drawn_side_by_side_and_what_is_kept_is_saved(page, session):
    model = session.runs[0].model
    page.click("#tab-draw")
    ways = ["mixture, fitted, resampled", "mixture, fitted", "normal, the model's own"]
    until(page, lambda: page.locator("#drawn h2").all_inner_texts() == ways)
    for k, how in enumerate(({}, {"resample": False}, {"prior": "normal"})):
        images = model.sample(12, seed=0, **how)
        for i in (0, 11):
            shows(page, f"#drawn section:nth-child({k + 1}) .tile:nth-child({i + 1}) canvas", images[i][..., None], within=0)
    page.click("#drawn section:nth-child(3) .tile:nth-child(3) .keep")
    page.click("#drawn section:nth-child(1) .tile:nth-child(5) .keep")
    until(page, lambda: page.locator("#keptimages .tile").count() == 2)
    codes = np.stack([answer(session, "sample", prior=prior, n=12, seed=0).arrays["codes"][i]
                      for prior, i in (("normal", 2), ("mixture", 4))])
    np.testing.assert_allclose(np.load(saved(page, "#keptnpy")), codes, rtol=1e-6)
    with zipfile.ZipFile(saved(page, "#keptzip")) as packed:
        read = [np.asarray(Image.open(io.BytesIO(packed.read(name)))) for name in packed.namelist()]
    np.testing.assert_array_equal(np.stack(read), model.decode(codes))
    assert Image.open(saved(page, "#keptpng")).format == "PNG"
    again(page)
    assert page.locator("#drawn .keep[aria-pressed=true]").count() == 2 == page.locator("#keptimages .tile").count()
    page.click("#walkkept")
    until(page, lambda: page.locator("#stops li").count() == 2)
    page.click("#keptimages .tile:first-child .drop")
    until(page, lambda: page.locator("#keptimages .tile").count() == 1)


def test_a_temperature_draws_less_varied_images_and_a_class_is_asked_only_where_one_is_known(page, session):
    page.click("#tab-draw")
    assert not page.locator("#classbox").is_visible() and not page.locator("#guidancebox").is_visible()
    page.locator("#temperature").fill("0.3")
    page.locator("#temperature").dispatch_event("change")
    image = session.runs[0].model.sample(12, prior="normal", seed=0, temperature=0.3)[7]
    shows(page, "#drawn section:nth-child(3) .tile:nth-child(8) canvas", image[..., None], within=0)
    assert "plain draws" in page.inner_text("#drawn section:nth-child(1) .note")


def test_strips_show_what_sliders_would_do_and_are_clicked(page, session):
    run = session.runs[0]
    first = page.locator("#sliders .slider").first
    index = int(re.search(r"\d+", first.locator(".range").get_attribute("aria-label"))[0])
    axis = next(axis for axis in run.summary()["axes"] if axis["index"] == index)
    wide = 0.08 * (axis["high"] - axis["low"])
    low, high = axis["low"] - wide, axis["high"] + wide
    codes = np.repeat(run.codes[[0]], 9, 0)
    codes[:, index] = low + (np.arange(9) + 0.5) / 9 * (high - low)
    until(page, lambda: pixels(page, "#sliders .preview").shape[1] == 9 * 8)
    shows(page, "#sliders .preview", np.concatenate(list(run.decoded(codes)), 1))
    box = page.locator("#sliders .preview").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 6.5 / 9, box["y"] + 4)
    shows(page, "#image", run.decoded(codes[[6]])[0], within=2)
    page.click("#previews")
    assert not page.locator("#sliders .preview").first.is_visible()
    again(page)
    assert not page.locator("#sliders .preview").first.is_visible() and not page.locator("#previews").is_checked()
    shows(page, "#image", run.decoded(codes[[6]])[0], within=2)


def test_temperature_leads_to_the_mean_and_back(page, session):
    run = session.runs[0]
    middle = np.zeros((1, 4), np.float32)
    for axis in run.model.config.axes:
        middle[0, axis.index] = axis.mean
    box = page.locator("[aria-label='temperature, value']")
    for t in ("0", "0.5"):
        box.fill(t)
        box.press("Enter")
        shows(page, "#image", run.decoded(middle + float(t) * (run.codes[[0]] - middle))[0])
    again(page)
    shows(page, "#image", run.decoded(middle + 0.5 * (run.codes[[0]] - middle))[0])
    page.click("#reset")
    shows(page, "#image", run.decoded(run.codes[[0]])[0])


def test_an_edit_gets_back_what_rebuilding_lost_and_is_saved_as_it_is_seen(page, session):
    run, original = session.runs[0], session.points.pixels(np.array([0]))
    page.check("#rest")
    shows(page, "#image", original[0], within=0)
    page.locator("#sliders .range").first.press("PageUp")
    code = run.codes[[0]].copy()
    slider = page.locator("#sliders .range").first
    code[0, run.model.config.axes[0].index] = float(slider.input_value())
    lost = original.astype(int) - run.decoded(run.codes[[0]])
    edited = np.clip(run.decoded(code) + lost, 0, 255)[0]
    shows(page, "#image", edited)
    picture = np.asarray(Image.open(saved(page, "#save")).convert("L"))
    assert picture.shape == (8, 8) and np.abs(picture - edited[..., 0]).max() <= 1
    again(page)
    shows(page, "#image", edited)


def test_variations_and_similar_images_are_opened(page, session):
    page.click("#vary")
    until(page, lambda: page.locator("#aroundimages .tile").count() == 12)
    code = session.runs[0].codes[0].tolist()
    found = answer(session, "variations", code=code, n=12, variation=0.4, seed=1).arrays
    varied, code = found["images"], found["codes"][3].tolist()
    again(page)
    shows(page, "#aroundimages .tile:nth-child(4) canvas", varied[3])
    page.click("#aroundimages .tile:nth-child(4) .thumb")
    shows(page, "#image", varied[3])
    until(page, lambda: "code=" in page.url and "around=" not in page.url)
    assert page.locator("#aroundimages .tile:visible").count() == 12
    page.click("#alike")
    until(page, lambda: page.locator("#aroundtitle").inner_text() == "Nearest images of the data")
    nearest = answer(session, "neighbours", code=code, n=2).arrays["rows"]
    shows(page, "#aroundimages .thumb:nth-child(1) canvas", session.points.pixels(nearest)[0], within=0)
    page.click("#aroundimages .thumb:nth-child(2)")
    until(page, lambda: page.locator("#title").inner_text().startswith(session.points.names(nearest)[1]))


def test_codes_add_up(page, session):
    run = session.runs[0]
    page.click("#tab-path")
    page.check("#pickssum")
    page.focus("#over")
    for n in range(3):
        for key in ("ArrowRight", "ArrowUp", "Enter"):
            page.keyboard.press(key)
        until(page, lambda: page.locator("#parts li").count() == n + 1)  # noqa: B023
    weights = page.locator("#parts input")
    assert [float(weights.nth(k).input_value()) for k in range(3)] == [1, -1, 1]
    weights.nth(1).fill("-0.5")
    weights.nth(1).press("Enter")
    again(page)
    parts = dict(part.split("=", 1) for part in page.url.split("#")[1].split("&"))["sum"].split(",")
    sum_ = sum(float(weight) * unpacked(code) for weight, code in (part.split(":") for part in parts))
    shows(page, "#sum", run.decoded(sum_[None])[0])
    assert page.locator("#pickssum").is_checked()
    page.click("#opensum")
    shows(page, "#image", run.decoded(sum_[None])[0])


def unpacked(text):
    import base64

    return np.frombuffer(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), np.float32)


def test_two_runs_at_the_same_place_and_where_they_differ_most(page, session):
    first, second = session.runs
    there = answer(session, "counterpart", codes=[first.codes[0].tolist()]).arrays["images"][0]
    shows(page, "#twin", there)
    page.click("#tab-both")
    shows(page, "#here", first.decoded(first.codes[[0]])[0])
    shows(page, "#there", there)
    page.click("#findworst")
    until(page, lambda: page.locator("#worstrows tr").count() == 10)
    a, b = (answer(session, "column", run=run, name="error").arrays["values"] for run in (0, 1))
    order = np.argsort(-np.abs(b - a), kind="stable")
    shows(page, "#worstrows tr:nth-child(1) td:nth-child(1) canvas", session.points.pixels(order[:1])[0], within=0)
    for run, column in ((first, 2), (second, 3)):
        rebuilt = run.decoded(run.codes[order[[1]]])[0]
        shows(page, f"#worstrows tr:nth-child(2) td:nth-child({column}) canvas", rebuilt, within=0)
    page.click(f"#worsthead button >> text=error, {second.name}")
    page.click(f"#worsthead button >> text=error, {second.name}")
    until(page, lambda: page.locator("#worsthead th[aria-sort=ascending]").count() == 1)
    low = np.sort(b)[:2]
    again(page)
    until(page, lambda: page.locator("#worstrows tr").count() == 10)
    told = [float(page.locator(f"#worstrows tr:nth-child({k}) td:nth-child(5)").inner_text()) for k in (1, 2)]
    np.testing.assert_allclose(told, low, atol=0.5)  # as they are written
    page.locator("#worstrows tr:nth-child(3) .thumb").click()
    row = np.argsort(b, kind="stable")[2]
    until(page, lambda: page.locator("#bothimages canvas").count() == 6)
    rebuilt = second.decoded(second.codes[[row]])[0]
    shows(page, "#bothimages section:nth-child(2) figure:nth-child(2) canvas", rebuilt, within=0)


def test_all_that_is_copied_runs_as_it_stands(page, session, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = session.runs[0]
    page.click("#keep")
    page.click("#vary")
    page.click("#aroundimages .tile:nth-child(2) .keep")
    until(page, lambda: page.locator("#keptimages .tile").count() == 2)
    page.click("#walkkept")
    page.check("#pickssum")
    page.click("#addpart")
    page.click("#keptimages .tile:nth-child(2) .thumb")
    until(page, lambda: page.locator("#parts li").count() == 2)
    page.fill("#frames", "5")
    page.locator("#frames").dispatch_event("change")
    page.click("#tab-draw")
    page.wait_for_selector("#drawn .tile")
    page.click("#copyas")
    assert page.locator("#copyof").input_value() == "Samples"
    copied = {}
    for view in page.locator("#copyof option").all_inner_texts():
        page.select_option("#copyof", view)
        copied[view] = page.inner_text("#ascommand"), page.inner_text("#aspython")
    page.keyboard.press("Escape")
    assert list(copied) == ["Workbench", "Path", "Sum", "Samples", "Kept", "Compare", "Map"]
    assert [command.count("--no-resample") for command in copied["Samples"][0].splitlines()] == [0, 1, 0]
    made = {view: executed(*both) for view, both in copied.items()}
    codes = np.load(saved(page, "#keptnpy"))
    for view, expected in (("Workbench", run.decoded(run.codes[[0]])), ("Kept", run.decoded(codes)),
                           ("Sum", run.decoded(codes[:1] - codes[1:])), ("Path", run.decoded(run.model.along(codes, 5))),
                           ("Samples", run.as_images(run.model.sample(12, seed=0, prior="normal"))),
                           ("Compare", session.runs[1].as_images(session.runs[1].model.sample(16, seed=0)))):
        assert np.abs(run.as_images(made[view]["images"]).astype(int) - expected).max() <= 1, view
    assert made["Map"]["xy"].shape == (len(made["Map"]["names"]), 2)
    written = {path.name for path in tmp_path.iterdir()}
    assert written >= {"image.png", "path.gif", "sum.png", "samples-mixture-resampled.png", "samples-mixture.png",
                       "samples-normal.png", "kept.png", "samples-a.png", "samples-b.png", "place-a.png", "place-b.png",
                       "map.png"}
    there = answer(session, "counterpart", codes=[run.codes[0].tolist()]).arrays["images"]
    assert np.abs(run.as_images(made["Compare"]["place"]).astype(int) - there).max() <= 1
    with Image.open("path.gif") as film:
        assert film.n_frames == 8


def executed(command, python):
    """Runs commands as a shell splits them, and a program; the program's names."""
    for line in command.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "reparam" and main(arguments) == 0, line
    names = {}
    with torch.random.fork_rng():
        exec(python, names)  # the page's own text, which is what is tested
    return names
