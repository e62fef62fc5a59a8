"""The verdict, the report and the model card: what they say, that they stand alone, and that nothing gets into them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from reparam.doctor.diagnosis import Diagnosis, Finding
from reparam.metrics.figures import Figure
from reparam.pretrained.files import load_model
from reparam.pretrained.image_model import load
from reparam.runs.folder import Run
from reparam.runs.reports.copies import copies, nearest
from reparam.runs.reports.model_card import model_card
from reparam.runs.reports.run_page import report_html
from reparam.runs.train import train

VOID = {"meta", "br", "img", "link", "hr", "input"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on the digits."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPARAM_CACHE", str(folder / "cache"))
        return train("digits", out=folder / "run", steps=40, threads=1, precision="float32", encoder="mlp((32,))",
                     decoder="mlp((32,))", latent="flat(4)", fitted_prior="mixture(3)")


@pytest.fixture(scope="module")
def evaluation(run):
    return json.loads((run.folder / "evaluation.json").read_text(encoding="utf-8"))


class Page(HTMLParser):
    """A page's elements and text; fails on one that is not well nested."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self):
        return "\n".join(self.texts)

    def tags(self, name):
        return [attrs for tag, attrs in self.elements if tag == name]


@pytest.fixture(scope="module")
def page(run):
    return Page((run.folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def wrote(run):
    """Report and card of the run with some of it changed: `wrote(source="…")`."""

    def write(figures=(), verdict=None, **changes):
        _, config = load_model(run.folder)
        changed = replace(run, **changes)
        data = config.data | {"name": changed.source}
        verdict = verdict or Diagnosis((), ())
        args = (changed, replace(config, data=data), list(figures), verdict)
        return report_html(*args), model_card(*args)

    return write


# The report


def test_the_report_stands_alone(run, page):
    text = (run.folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", text)
    assert not page.tags("script") and not page.tags("link") and not page.tags("iframe")
    for _, attrs in page.elements:
        assert not [k for k in attrs if k.startswith("on")]
        assert all(attrs[k].startswith("data:") for k in ("src", "href", "srcset", "data") if k in attrs)
    pictures = page.tags("img")
    assert len(pictures) == 4 and all(p["src"].startswith("data:image/png;base64,iVBOR") and p["alt"] for p in pictures)
    assert text.startswith("<!doctype html>") and page.tags("meta")[0] == {"charset": "utf-8"}
    assert page.tags("html")[0]["lang"] == "en"


def test_the_report_says_what_was_found(page, evaluation):
    assert evaluation["verdict"] in page.texts
    for finding in (*evaluation["problems"], *evaluation["remarks"]):
        assert finding["evidence"] in page.text and finding["advice"] in page.text


def test_a_prior_is_praised_only_where_it_was_compared(wrote):
    compared = Figure("prior_auc", 0.5, "AUC", 160)
    assert "the prior matches the codes" in wrote([compared])[0]
    assert "the latents are in use" in wrote()[0] and "prior matches" not in wrote()[0]


def test_every_figure_stands_in_the_report_with_unit_and_number(page, evaluation):
    assert len(evaluation["metrics"]) >= 11
    at = page.texts.index("figure")
    assert page.texts[at : at + 5] == ["figure", "value", "95 % interval", "unit", "images"]
    for f in evaluation["metrics"]:
        at = next(i for i, text in enumerate(page.texts) if text == f["name"])
        row = page.texts[at : at + 8]
        assert (row[1] in (" ↑", " ↓")) == ("better" in f)
        assert f"{f['value']:,.4g}" in row and f["unit"] in row and f"{f['n']:,}" in row
        if "interval" in f:
            assert f"{f['interval'][0]:,.4g} … {f['interval'][1]:,.4g}" in row
    assert f"Measured on {evaluation['measured_on']} images, protocol {evaluation['protocol']}" in page.text
    assert evaluation["measured_on"] == "held-out"


def test_the_report_names_data_and_recipe(run, page):
    assert "1,637 training images from" in page.text and "digits" in page.texts and "8×8, 1 channel" in page.text
    for name in ("encoder", "latent", "posterior", "prior", "likelihood", "objective", "optimizer", "steps", "seed"):
        assert page.texts[page.texts.index(name) + 1] == str(getattr(run.recipe, name))
    assert page.texts[page.texts.index("fitted prior") + 1] == "mixture(3)" and "1 thread, float32" in page.texts


def test_the_report_leaves_out_what_a_model_has_no_use_for(run, page, wrote):
    """A critic's settings without a critic, limits that were not set, and what is switched off."""
    idle = {"critic", "game", "penalty", "critic_optimizer", "critic_augment", "adversary", "resampler", "resampler_share",
            "refiner", "refiner_share", "minutes", "epochs", "binarize", "compile", "compress_gradients",
            "labelled", "accumulate", "threads"}
    assert not idle & set(page.texts)
    with_critic, _ = wrote(recipe=run.recipe.but(adversary="images", penalty="10*r1"))
    assert {"adversary", "critic", "game", "penalty", "critic_optimizer"} <= set(Page(with_critic).texts)


def test_the_report_says_where_samples_come_from_and_whether_they_are_training_images(run, page, wrote):
    (told,) = [text for text in page.texts if "not selected" in text]
    assert "the prior that was fitted to its codes, mixture(3)" in told
    assert "None of the 64 is a copy of one of 1,637 training images" in told
    assert "is in the data" not in page.text
    found = {"samples": 64, "exact": 3, "near": 13, "held_out": 64, "near_held_out": 1, "training_images": 90}
    text, card = wrote(facts=run.facts | {"outcome": run.facts["outcome"] | {"copies": found}})
    for said in (Page(text).text, card):
        assert "13 of the 64 are copies of 90 training images" in said and "3 pixel for pixel" in said
        assert "of 64 held-out images 1 is" in said
    text, _ = wrote(facts=run.facts | {"outcome": {k: v for k, v in run.facts["outcome"].items() if k != "copies"}})
    assert "was not measured" in Page(text).text


def test_copies_among_samples_are_counted():
    rng = np.random.default_rng(0)
    known, fresh = rng.integers(0, 256, (200, 8, 8), np.uint8), rng.integers(0, 256, (30, 8, 8), np.uint8)
    samples = np.concatenate([fresh[:10], known[:5], known[5:8] // 32 * 32])  # levels rounded: 18 apart or so
    found = copies(samples, fresh, known, np.arange(4, 200))
    assert found == {"samples": 18, "exact": 1, "near": 1, "held_out": 30, "near_held_out": 0, "training_images": 196}
    samples[-3:] = np.clip(known[5:8].astype(int) + rng.integers(-3, 4, (3, 8, 8)), 0, 255)
    assert copies(samples, fresh, known, np.arange(4, 200))["near"] == 4
    whole = np.sqrt(((samples[:, None].astype(float) - known[None]) ** 2).mean((2, 3)))
    np.testing.assert_allclose(nearest(samples, known, np.arange(200)), whole.min(1), rtol=1e-5)


def test_information_is_drawn_for_each_latent(page, evaluation):
    detail = next(f for f in evaluation["metrics"] if f["name"] == "information")["detail"]
    bars = [a for a in page.tags("div") if a.get("title", "").endswith(" nats")]
    assert [b["title"] for b in bars] == [f"{v:.2f} nats" for v in sorted(detail, reverse=True)]
    assert bars[0]["style"] == "height:100.0%" and len(bars) == 4


HOSTILE = "<script>alert(1)</script><img src=x onerror='alert(2)'>&\"`"


@pytest.mark.parametrize("place", ["source", "folder", "notes", "figure", "verdict"])
def test_hostile_names_are_escaped(run, wrote, place, tmp_path):
    changes = {}
    if place == "source":
        changes["source"] = HOSTILE
    elif place == "folder":
        changes["folder"] = tmp_path / HOSTILE.replace("/", "")
    elif place == "notes":
        changes["facts"] = run.facts | {"notes": [HOSTILE]}
    elif place == "figure":
        changes["figures"] = [Figure(HOSTILE, 1.0, HOSTILE, 3, note=HOSTILE)]
    else:
        changes["verdict"] = Diagnosis((Finding(HOSTILE, HOSTILE, HOSTILE),), (Finding(HOSTILE, HOSTILE, HOSTILE),))
    text, _ = wrote(**changes)
    page = Page(text)
    assert not page.tags("script") and all(p["src"].startswith("data:") for p in page.tags("img"))
    assert (HOSTILE.replace("/", "") if place == "folder" else HOSTILE) in page.text


def test_a_report_without_pictures_or_problems(wrote, tmp_path):
    text, _ = wrote(folder=tmp_path)
    page = Page(text)
    assert not page.tags("img") and "healthy" in page.texts and "Training was stable" in page.text
    assert {"class": "verdict"} in page.tags("div")
    text, _ = wrote(verdict=Diagnosis((Finding("unstable", "e", "a"),), ()))
    assert {"class": "verdict problem"} in Page(text).tags("div") and "healthy" not in Page(text).texts


# The model card


def rows(card):
    """The rows of a card's tables, as they are shown."""
    tokens = MarkdownIt("commonmark").enable("table").parse(card)
    at = [i for i, token in enumerate(tokens) if token.type == "tr_open"]
    ends = [i for i, token in enumerate(tokens) if token.type == "tr_close"]
    return [["".join(child.content for child in token.children) for token in tokens[a:b] if token.type == "inline"]
            for a, b in zip(at, ends, strict=True)]


def test_the_card_has_the_figures(run, evaluation):
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    for f in evaluation["metrics"]:
        interval = f"{f['interval'][0]:,.4g} … {f['interval'][1]:,.4g}" if "interval" in f else "–"
        by = [f"features: {f['features']}, resize: {f['resize']}"] if "features" in f else []
        beside = [*([f["warning"]] if "warning" in f else []), *by, *([f["note"]] if "note" in f else [])]
        arrow = {"higher": " ↑", "lower": " ↓"}.get(f.get("better"), "")
        name = "; ".join([f["name"] + arrow, *beside])
        assert [name, f"{f['value']:,.4g}", interval, f["unit"], f"{f['n']:,}"] in rows(card)
    assert f"**Verdict: {evaluation['verdict']}.**" in card
    assert card.startswith("---\nlibrary_name: reparam\n") and "1,637 images from `digits`" in card
    assert run.fingerprint in card and "`mixture(3)` fitted to the codes" in card


def test_the_paths_and_the_code_of_the_card_are_valid(run):
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]*)\)", card):
        assert (run.folder / target).exists(), target
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    scope = {}
    exec(compile(code.replace("<this folder>", str(run.folder)), "README.md", "exec"), scope)
    assert scope["images"].shape == (16, 8, 8) and scope["images"].dtype == np.uint8 and "uint8 (16, H, W)" in code
    assert scope["codes"].shape == (16, 4) and "(16, D)" in code


def test_the_code_of_the_card_names_no_place_of_this_machine(wrote, tmp_path):
    _, card = wrote(folder=tmp_path / "a folder")
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    assert "reparam.load('<this folder>')" in code and str(tmp_path) not in card


def test_hostile_names_are_escaped_in_the_card(wrote, tmp_path):
    """Markdown passes HTML on, except in code."""
    for changes in ({"folder": tmp_path / HOSTILE.replace("/", "").replace("`", "")}, {"source": HOSTILE}):
        _, card = wrote(**changes)
        tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(card)
        inline = [child for token in tokens for child in token.children or ()]
        assert not [t for t in (*tokens, *inline) if t.type.startswith("html")]
        assert [t.attrs["src"] for t in inline if t.type == "image"] == ["samples.png"]
        assert sum(t.type == "heading_open" for t in tokens) == 2  # the front matter is one to plain Markdown


# A run's folder


def test_a_runs_folder_is_complete(run):
    names = {p.name for p in run.folder.iterdir()}
    assert names == {"run.json", "state", "metrics.jsonl", "model.safetensors", "config.json", "evaluation.json",
                     "README.md", "report.html", "samples.png", "reconstructions.png",
                     "traversals.png", "curves.png", "skipped.json"}
    assert Run.read(run.folder) == run and run.status == "finished"
    for path in run.folder.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) > 100 and len(set(picture.convert("L").tobytes())) > 5
    assert load(run.folder, device="cpu").sample(2).shape == (2, 8, 8)


def test_sixteen_images_are_enough_for_a_report(tmp_path, monkeypatch):
    """The fewest that are accepted; one or two of them are held out."""
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path / "cache"))
    images = np.random.default_rng(0).integers(0, 256, (16, 6, 5, 3)).astype(np.uint8)
    np.save(tmp_path / "few.npy", images)
    done = train(tmp_path / "few.npy", out=tmp_path / "run", steps=3, threads=1, precision="float32", latent="flat(2)",
                 encoder="mlp((8,))", decoder="mlp((8,))")
    assert done.status == "finished"
    Page((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))


# In a browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_opens_in_a_browser(run, evaluation, scheme, browser):
    requests, problems = [], []
    page = browser.new_page(color_scheme=scheme, viewport={"width": 400, "height": 800})
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((run.folder / "report.html").as_uri())
    widths = page.eval_on_selector_all("img", "all => all.map(i => i.complete ? i.naturalWidth : 0)")
    title, verdict = page.title(), page.inner_text(".verdict strong")
    colors = page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    boxes = page.eval_on_selector_all("img", "all => all.map(i => i.getBoundingClientRect().right)")
    page.close()
    assert not problems
    assert requests[0].startswith("file:") and all(url.startswith(("file:", "data:")) for url in requests)
    assert sum(url.startswith("file:") for url in requests) == 1
    assert len(widths) == 4 and min(widths) > 0
    assert title == f"{run.folder.name} · reparam" and verdict == evaluation["verdict"]
    assert max(boxes) <= 400  # pictures fit a telephone's width
    ink, paper = (sum(map(float, re.findall(r"[\d.]+", c)[:3])) for c in colors)
    assert (ink > paper) == (scheme == "dark")


def test_the_verdict_stands_before_every_picture_and_figure(run, page):
    text = (run.folder / "report.html").read_text(encoding="utf-8")
    places = [text.index(mark) for mark in ("<div class='verdict", "<img", "<table", "<details>")]
    assert places == sorted(places)


def test_the_recipe_shows_what_was_changed_and_folds_the_rest(run, page):
    text = (run.folder / "report.html").read_text(encoding="utf-8")
    shown, folded = text[text.index("<h2>Recipe"):].split("<details>")
    assert all(f"<td>{name}</td>" in shown and f"<td>{name}</td>" not in folded for name in ("encoder", "latent", "steps"))
    assert all(f"<td>{name}</td>" in folded and f"<td>{name}</td>" not in shown for name in ("objective", "optimizer"))


def test_small_pictures_are_enlarged_as_squares_and_curves_are_not(page):
    assert [p.get("class") for p in page.tags("img")] == ["pixels", "pixels", "pixels", None]


def test_rows_of_traversals_name_the_factor_that_a_latent_follows(wrote, run):
    rows = [{"nats": 3.25, "factor": "hue", "explained": 0.664}, {"nats": 1.5, "factor": "", "explained": 0.0}]
    facts = run.facts | {"outcome": run.facts["outcome"] | {"traversals": rows}}
    text = wrote(facts=facts)[0]
    assert "<li>hue 66%<span>3.25 nats</span></li><li><span>1.50 nats</span></li>" in text
    assert "where a known factor explains" in text


def test_figures_stand_under_the_catalogue_s_headings(wrote):
    text = Page(wrote([Figure(name, 1.5, "", 100) for name in ("ssim", "my own", "prior_auc", "-elbo")])[0]).texts
    expected = ["Reconstructions", "ssim", "Likelihood", "-elbo", "Latent space", "prior_auc", "Other", "my own"]
    assert [t for t in text[text.index("Figures"):] if t in expected] == expected
    assert "Samples" not in text[text.index("Figures"):]
