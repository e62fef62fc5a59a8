"""Models as one page: in a browser, from a file and without a network, it gives PyTorch's images."""

from __future__ import annotations

import base64
import io
import json
import math
import re

import numpy as np
import pytest
import torch
from pages import faults, shows
from PIL import Image

import reparam
from reparam.cli.app import main
from reparam.downstream.directions import moved
from reparam.downstream.maps import principal_map
from reparam.errors import UsageError
from reparam.exporters import html as exporter
from reparam.exporters import points as points_of
from reparam.exporters.bundle import bundled
from reparam.exporters.half import FEWEST, with_half_weights
from reparam.exporters.html import WEB, export_html, page_description, policy
from reparam.exporters.onnx import difference, onnx_bytes
from reparam.exporters.points import most_points, sheet_of
from reparam.exporters.programs import Decode, Encode, Program
from reparam.models.codes import Axis
from reparam.models.draw import Draw
from reparam.models.priors import FlowMatching
from reparam.models.resampler import Resampler
from reparam.models.sampler import Sampler
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.image_model import ImageModel

pytest.importorskip("onnxruntime")
ROWS, CLASSES = 6, 3


def made(small, shape, stages=None, **recipe):
    """An untrained model in hand, as `load` would give it; its axes are the first of its latents."""
    torch.manual_seed(3)
    vae = small(shape, **recipe).eval()
    axes = tuple(Axis(k, 1 / (k + 1), 0.1 * k, 1.0) for k in range(min(vae.latent.shape[0], 4)))
    return ImageModel(Sampler(vae, stages and stages(vae)), Config(
        Recipe(**{name: str(value) for name, value in recipe.items()}), shape, axes if len(vae.latent.shape) == 1 else ()))


def flow(vae):
    prior = FlowMatching(vae.latent.fit_space, "mlp(16, 1)", steps=3, classes=CLASSES)
    with torch.no_grad():
        for p in prior.parameters():
            p.add_(0.3 * torch.randn_like(p))
    prior.prepare(3 + 2 * torch.randn(50, *vae.latent.fit_space.shape), torch.randint(-1, CLASSES, (50,)))
    return {"fitted_prior": prior}


def choosy(vae):
    """A resampler that keeps few."""
    resampler = Resampler("mlp((8,))", (1, 8, 8))
    with torch.no_grad():
        resampler.settle(30 * resampler(torch.rand(200, 1, 8, 8)))
        for p in resampler.parameters():
            p.mul_(2)
    return {"resampler": resampler}


MODELS = {
    "mixture": {"shape": (1, 8, 8), "latent": "flat(20)", "prior": "mixture(3)", "stages": choosy},
    "flow_matching": {"shape": (3, 8, 8), "latent": "spatial(2, 4)", "encoder": "conv(width=8)", "decoder": "conv(width=8)",
                      "stages": flow},
    "vq": {"shape": (3, 8, 8), "latent": "spatial(4, 4)", "posterior": "vq(8)", "prior": "autoregressive(8, 1, 2)"},
    "cvae": {"shape": (1, 8, 8), "latent": "conditional(4, 3)"},
    "gan": {"shape": (3, 8, 8), "encoder": "none", "decoder": "dcgan(8)", "likelihood": "implicit",
            "objective": "adversarial", "adversary": "images"},
}


@pytest.fixture(scope="module", params=MODELS)
def exported(request, small, tmp_path_factory):
    """A model, and its page."""
    model = made(small, **MODELS[request.param])
    path = tmp_path_factory.mktemp("page") / "model.html"
    return model, export_html(model, path, title=f"a {request.param} <model>")


@pytest.fixture
def opened(browser):
    """Opens a page; afterwards nothing was asked for but the file itself, and nothing complained."""
    requests, problems = [], []
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))

    def open_page(path):
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready]", timeout=120_000)
        page.wait_for_selector("#samples button:nth-child(12)")
        return page

    yield open_page
    complained = "bad" in (page.get_attribute("#said", "class") or "") and page.inner_text("#said")
    page.close()
    assert not complained
    assert not problems
    assert [url for url in requests if not url.startswith("blob:")] == requests[:1] and requests[0].startswith("file:")


def levels(values):
    return np.round(np.clip(np.asarray(values), 0, 1) * 255)


def asked(page, call, *arrays):
    """What the page's model answers, flat."""
    flat = [np.asarray(a, np.float32).ravel().tolist() for a in arrays]
    return np.array(page.evaluate(f"async (a) => Array.from(await model.{call})", [*flat]), np.float32)


def compare(page, model, within):
    """The page's images, codes and draws with PyTorch's, of the same numbers."""
    torch.manual_seed(4)
    latent, prior = model.network.latent, model.sampler.fitted_prior
    noise = latent.noise(ROWS, prior)
    with torch.inference_mode():
        codes = latent.from_noise(noise, prior=prior)
        images = model.decode_pixels(codes)
    got = asked(page, f"fromNoise(new Float32Array(a[0]), {ROWS})", noise)
    np.testing.assert_allclose(got.reshape(codes.shape), codes, atol=0.02 if within > 1 else 1e-4)
    if latent.classes or isinstance(prior, FlowMatching):
        options = Draw(label=1, guidance=1.0 if latent.classes else 2.0)
        got = asked(page, f"fromNoise(new Float32Array(a[0]), {ROWS}, {{label: 1, guidance: {options.guidance}}})", noise)
        want = latent.from_noise(noise, options, prior).detach()
        np.testing.assert_allclose(got.reshape(codes.shape), want, atol=0.03 if within > 1 else 1e-4)
    got = asked(page, "decode(new Float32Array(a[0]))", codes)
    assert np.abs(levels(got.reshape(images.shape)) - levels(images)).max() <= within
    if model.network.has_encoder:
        x = torch.randint(0, 256, images.shape) / 255
        got = asked(page, "encode(new Float32Array(a[0]))", x)
        np.testing.assert_allclose(got.reshape(codes.shape), model.encode_pixels(x), atol=0.02 if within > 1 else 1e-4)


def test_the_page_gives_pytorchs_images(exported, opened):
    model, written = exported
    page = opened(written.path)
    compare(page, model, within=2)
    sliders = page.eval_on_selector_all(".slider", "all => all.length")
    assert sliders == {"vq": 0, "flow_matching": 8}.get(page.title().split()[1], 4)
    assert page.is_visible("#open") == model.network.has_encoder
    assert page.eval_on_selector_all("#samples canvas", "all => all.map(c => c.width)") == [8] * 12


WITHOUT_SAMPLES = """Object.defineProperty(globalThis, "model", {
    get() { return this.kept; }, set(model) { this.kept = Object.assign(model, {sample: () => new Promise(() => {})}); }})"""
"""A page that never has a sample."""


@pytest.mark.parametrize("exported", ["flow_matching"], indirect=True)
def test_a_page_whose_samples_take_long_begins_with_every_slider_in_its_middle(exported, browser):
    model, written = exported
    page = browser.new_page()
    page.add_init_script(WITHOUT_SAMPLES)
    page.goto(written.path.as_uri())
    page.wait_for_selector("body[data-ready]", timeout=120_000)
    values = page.eval_on_selector_all(".slider input[type=range]", "all => all.map(each => Number(each.value))")
    assert values and np.abs(values).max() < 1e-3
    means, directions = zip(*page.evaluate("model.told.sliders.map(s => [s.mean, Array.from(s.vector)])"), strict=True)
    code = (np.array(means) @ np.array(directions)).astype(np.float32).reshape(1, *model.latent_shape)
    shows(page, "#image", model.decode(code)[0], within=2)
    page.close()


def test_a_class_and_its_guidance_are_asked_of_the_prior(exported, opened):
    """A prior that knows classes draws anew; codes that hold a class keep the rest of what they are."""
    model, written = exported
    page = opened(written.path)
    prior = model.sampler.fitted_prior
    guided = isinstance(prior, FlowMatching)
    assert page.is_visible("#guided") == guided
    assert page.is_visible("#label") == (guided or bool(model.network.latent.classes))
    if not guided:
        return
    page.evaluate("() => { model.asked = []; const own = model.sample; model.sample = (...given) => {"
                  "model.asked.push(given[2]); return own.apply(model, given); }; }")
    page.fill("#guidance", "2.5")
    page.select_option("#label", "1")
    page.wait_for_function("() => model.asked.some((each) => each.label === 1 && each.guidance === 2.5)")


CHOSEN = """async ([batches, numbers]) => Array.from(await model.chosen(
    7, async (n) => new Float32Array(batches.shift().slice(0, n * model.codeSize)), () => numbers.shift()))"""
CHOICES = """async () => {
    const [chosen, counts] = [model.chosen, []];
    for (const asked of [{}, { label: 0 }, { guidance: 2 }]) {
        model.chosen = (...given) => { counts.push(asked); return chosen.apply(model, given); };
        await model.sample(2, 1, asked);
    }
    return counts;
}"""


def test_weights_in_float32_give_the_same_levels_and_choices(small, opened, tmp_path, monkeypatch):
    """The resampler takes the same of the same draws, and judges only those that it has learned to judge."""
    model = made(small, **MODELS["mixture"])
    page = opened(export_html(model, tmp_path / "model.html", half=False).path)
    compare(page, model, within=1)
    batches, numbers, rand = [], [], torch.rand

    def draw(n):
        batches.append(model.sampler.codes(n, Draw(resample=False)))
        return batches[-1]

    monkeypatch.setattr(torch, "rand", lambda *size, **how: numbers.append(rand(*size, **how)) or numbers[-1])
    want = model.sampler.resampler.chosen(7, draw, model.sampler.means)
    assert len(batches) > 1
    got = page.evaluate(CHOSEN, [[z.ravel().tolist() for z in batches], torch.cat(numbers).tolist()])
    np.testing.assert_allclose(np.reshape(got, want.shape), want, atol=1e-6)
    assert page.evaluate(CHOICES) == [{}]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Black and white digits, of a run."""
    folder = tmp_path_factory.mktemp("export") / "digits"
    reparam.train("digits", steps=30, encoder="mlp((32,))", decoder="mlp((32,))", latent="flat(4)", likelihood="bernoulli",
                  binarize=True, threads=1, out=folder)
    assert main(["export", str(folder), "--format", "html", "--data", "digits"]) == 0
    return reparam.load(folder, device="cpu"), folder


def red(png):
    return np.asarray(png)[..., 0].ravel().astype(int)


def shown(page, canvas):
    """The levels of a grey canvas; reading them in the page would change how it draws."""
    address = page.eval_on_selector(canvas, "c => c.toDataURL()")
    return red(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


SETTLED = """async () => {
    for (let last; last !== model.last; await new Promise((done) => setTimeout(done, 20))) await (last = model.last);
}"""
"""Waits until nothing more is computed."""


def test_a_person_edits_an_own_photo(digits, opened, tmp_path):
    model, folder = digits
    page = opened(folder / "model.html")
    assert page.inner_text("h1") == "digits"
    image = reparam.open_images("digits").images[3]
    Image.fromarray(image[:, :, 0]).save(tmp_path / "photo.png")
    page.set_input_files("#file", str(tmp_path / "photo.png"))
    page.wait_for_selector("#photo canvas")
    np.testing.assert_array_equal(shown(page, "#photo canvas"), image.ravel())
    before = shown(page, "#image")
    assert np.abs(before - model.reconstruct(image[None])[0].ravel()).max() <= 2

    page.focus("#sliders input[type=range]")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("c => c != document.querySelector('#image').toDataURL()", arg=page.eval_on_selector(
        "#photo figure:nth-child(2) canvas", "c => c.toDataURL()"))
    first, said = model.config.axes[0], page.get_attribute("#sliders input[type=range]", "aria-valuetext")
    assert re.fullmatch(rf"z{first.index}: -?\d+\.\d\d, {first.nats:.2f} nats", said)
    page.fill("#sliders input[type=number]", "4.5")
    code = model.encode(image[None])
    code[0, first.index] = 4.5
    page.evaluate(SETTLED)
    edited = shown(page, "#image")
    assert np.abs(edited - model.decode(code)[0].ravel()).max() <= 2 and (edited != before).any()
    with page.expect_download() as saved:
        page.click("#save")
    png = Image.open(io.BytesIO(saved.value.path().read_bytes()))
    assert saved.value.suggested_filename == "digits.png" and (red(png) == edited).all()
    page.click(".slider button")
    page.evaluate(SETTLED)
    np.testing.assert_array_equal(shown(page, "#image"), before)
    page.click("footer summary")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert faults(page) == []


def places(page, xy):
    """Where points (n, 2) of the whole map lie on the screen."""
    box = page.locator("#over").bounding_box()
    low, high, size = xy.min(0), xy.max(0), np.array([box["width"], box["height"]])
    scale = 0.92 * (size / (high - low)).min()
    return np.array([box["x"], box["y"]]) + size / 2 + (xy - (low + high) / 2) * scale * [1, -1]


def test_the_map_shows_images_and_what_is_between_them(digits, opened):
    model, folder = digits
    images = reparam.open_images("digits").images
    page = opened(folder / "model.html")
    codes = model.encode(images)
    plane = principal_map(codes)
    at = places(page, plane.xy)
    assert page.locator("#legend button").count() == 10 and "exact plane" in page.inner_text("#trust")

    alone = np.argmax(np.sort(np.linalg.norm(at[:, None] - at, axis=2), 1)[:, 1])
    page.mouse.move(*at[alone])
    page.wait_for_selector("#card:not(.made):visible")
    assert page.inner_text("#cardtext").startswith(f"image {alone} · ")
    assert np.abs(shown(page, "#cardimage") - images[alone].ravel().astype(int)).mean() < 8  # it is compressed
    page.mouse.down()
    page.mouse.up()
    page.wait_for_selector("#photo canvas")
    page.evaluate(SETTLED)
    first = model.config.axes[0].index
    assert float(page.input_value("#sliders input[type=number]")) == pytest.approx(codes[alone, first], abs=0.006)
    assert np.abs(shown(page, "#image") - model.decode(codes[[alone]])[0].ravel()).max() <= 2

    grid = np.stack(np.meshgrid(*np.linspace(at.min(0), at.max(0), 40).T), -1).reshape(-1, 2)
    gap = np.round(grid[np.argmax(np.linalg.norm(grid[:, None] - at, axis=2).min(1))])
    page.mouse.move(*gap)
    page.wait_for_selector("#card.made:visible")
    a, b = [np.polyfit(at[:, k], plane.xy[:, k], 1) for k in (0, 1)]
    code = plane.centre + np.polyval(a, gap[0]) * plane.axes[0] + np.polyval(b, gap[1]) * plane.axes[1]
    made = model.decode(code[None].astype(np.float32))[0].ravel().astype(int)
    assert np.abs(shown(page, "#cardimage") - made).max() <= 2


def test_the_map_by_keyboard_alone(digits, opened):
    model, folder = digits
    page = opened(folder / "model.html")
    codes = model.encode(reparam.open_images("digits").images)
    page.focus("#over")
    page.keyboard.press("l")
    for way in ("Left", "Up", "Right", "Right", "Down", "Down", "Left", "Left"):  # a square around the middle
        for _ in range(20):
            page.keyboard.press(f"Shift+Arrow{way}")
        page.keyboard.press(" ")
    page.keyboard.press("Enter")
    page.evaluate(SETTLED)
    assert page.inner_text("#state") == f"The average of {len(codes):,} images."
    assert float(page.input_value("#sliders input[type=number]")) == pytest.approx(
        codes[:, model.config.axes[0].index].mean(), abs=0.006)


@pytest.fixture
def exported_with(monkeypatch, digits, tmp_path):
    """Runs the command without a model's programs, and gives its exit status and the points."""
    found = []
    monkeypatch.setattr(exporter, "export_html", lambda *_, points=None, **__: found.append(points) or exporter.Page(
        tmp_path / "it.html", 1, {}, ()))

    def export(*options, typed=None):
        found.clear()
        keys = io.StringIO("" if typed is None else typed + "\n")
        keys.isatty = lambda: typed is not None
        monkeypatch.setattr("sys.stdin", keys)
        monkeypatch.setattr("sys.stderr.isatty", lambda: typed is not None, raising=False)
        return main(["export", str(digits[1]), "--format", "html", *options]), found[0] if found else None

    return export


def test_images_are_in_a_page_only_where_that_is_wanted(exported_with, capsys):
    assert exported_with() == (0, None)
    assert "there is nobody to ask" in capsys.readouterr().out
    assert exported_with(typed="") == (0, None)
    told = capsys.readouterr()
    assert "Put a map of 160 test or held-out images" in told.err and "as you wished" in told.out
    status, points = exported_with(typed="y")
    assert status == 0 and len(points.codes) == len(points.images) == 160 and points.known.name == "label"
    assert "It holds 160 images of the data, for whoever has it to see" in capsys.readouterr().out
    assert exported_with("--no-data", typed="y") == (0, None)
    assert "Put a map" not in capsys.readouterr().err
    assert exported_with("--no-data", "--data", "digits") == (2, None)
    assert exported_with("--data", "digits", "--format", "onnx") == (2, None)


def test_codes_of_many_numbers_leave_room_for_fewer_points(small):
    assert most_points(made(small, (1, 8, 8))) == 5000
    assert most_points(made(small, (1, 8, 8), latent="flat(1000)")) == 2000


def test_small_pictures_take_no_more_than_their_share(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (50, 100, 80, 3), np.uint8)
    assert sheet_of(images)["side"] == [64, 51]
    monkeypatch.setattr(points_of, "SHEET_BYTES", 1)
    assert sheet_of(images)["side"] == [32, 26] and sheet_of(images)["columns"] == 8


def test_the_command_says_what_it_wrote(digits, capsys, tmp_path):
    _, folder = digits
    assert main(["export", str(folder), "--format", "html", "--out", str(tmp_path / "it.html"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == (tmp_path / "it.html").stat().st_size < 6e6 and set(told["largest_difference"]) == {
        "encoder", "decoder", "prior"}
    assert all(apart <= 2 / 255 for apart in told["largest_difference"].values())


def test_the_policy_lets_nothing_in_and_the_page_names_nothing_outside():
    text = exporter.page({"title": "<b>", "sliders": []}, {"decoder": b"weights"})
    script = re.search(r'<script type="module">(.*)</script>', text, re.S)[1]
    style = re.search(r"<style>(.*)</style>", text, re.S)[1]
    allowed = policy(style, script)
    assert f'content="{allowed}"' in text and allowed.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in allowed and "*" not in allowed
    assert "unsafe-eval" not in allowed.replace("wasm-unsafe-eval", "")
    assert "&lt;b&gt;" in text and not re.search(r"\{\{\w+\}\}", text) and not re.search(r"https?://", style + script)
    assert not re.search(r"^(import|export) ", script, re.M)
    assert all(re.search(rf"^const {path.stem}\d+ = ", script, re.M) for path in WEB.glob("*.js"))


LOW = """const own = 2;
export function twice(x) {
  return own * x;
}
export const unused = 0;
"""
MID = """import { twice as by, unused } from "./low.js";

const own = by(3) + unused;
export class Held {
  value = own;
}
"""
TOP = """import { Held } from "./mid.js";
import {
  twice,
} from "./low.js";
globalThis.told = twice(new Held().value);
"""


def test_modules_keep_their_own_names_in_one_script(browser, tmp_path):
    for name, text in {"low": LOW, "mid": MID, "top": TOP}.items():
        (tmp_path / f"{name}.js").write_text(text)
    page = browser.new_page()
    page.evaluate(bundled(tmp_path / "top.js"))
    assert page.evaluate("told") == 12
    page.close()
    (tmp_path / "top.js").write_text('import Held from "./mid.js";\n')
    with pytest.raises(ValueError, match=r"top\.js says 'import Held"):
        bundled(tmp_path / "top.js")


@pytest.mark.parametrize(("latent", "posterior", "prior"), [
    ("flat(4)", "gaussian", "normal"), ("flat(4)", "vmf", "sphere"), ("spatial(3, 4)", "vmf", "sphere"),
    ("flat(4)", "relaxed_bernoulli", "relaxed"), ("flat(4)", "relaxed_categorical(2)", "relaxed")])
def test_codes_are_brought_to_where_they_can_be(browser, small, tmp_path, latent, posterior, prior):
    nets = {"encoder": "conv(width=8)", "decoder": "conv(width=8)"} if latent.startswith("spatial") else {}
    model = made(small, (1, 8, 8), latent=latent, posterior=posterior, prior=prior, **nets)
    told = page_description(model, "")
    (tmp_path / "top.js").write_text(f'import {{ placed }} from "{WEB / "places.js"}";\nglobalThis.placed = placed;\n')
    z = (3 * torch.randn(1, *model.latent_shape)).numpy()
    page = browser.new_page()
    page.evaluate(bundled(tmp_path / "top.js"))
    got = page.evaluate("([z, told]) => Array.from(placed(new Float32Array(z), told))",
                        [z.flatten().tolist(), {name: told[name] for name in ("latent", "space")}])
    page.close()
    np.testing.assert_allclose(np.reshape(got, z.shape), moved(model, z, np.zeros(z.size)), atol=1e-6)


def weights_of(data):
    import onnx

    return [(t.data_type, math.prod(t.dims)) for t in onnx.load_from_string(data).graph.initializer]


def test_half_precision_is_of_storage_alone(small):
    from onnx import TensorProto

    vae = small((1, 12, 12), latent="flat(8)", decoder="mlp((64,))", moved=0.05).eval()
    program = Program(Decode(Sampler(vae)).eval(), {"codes": torch.rand(5, 8)}, "images")
    whole = onnx_bytes("decoder", program)
    halved = with_half_weights(whole)
    assert len(halved) < 0.6 * len(whole) and TensorProto.FLOAT16 in dict(weights_of(halved))
    apart = difference(halved, program)
    assert 1e-6 < apart < 2 / 255
    with torch.no_grad():  # PyTorch with rounded weights computes the same in float32
        for p in vae.parameters():
            if p.numel() >= FEWEST:
                p.copy_(p.half().float())
    assert difference(halved, program) < 1e-5 < apart


def test_what_is_compared_with_or_too_large_keeps_its_precision(small):
    from onnx import TensorProto

    vae = small((1, 24, 24)).eval()
    model = ImageModel(Sampler(vae), Config(Recipe(latent="flat(4)", binarize=True), (1, 24, 24)))
    program = Program(Encode(model).eval(), {"images": torch.rand(5, 1, 24, 24)}, "codes")
    with torch.no_grad():
        next(vae.encoder.parameters())[0, 0] = 1e6
    halved = weights_of(with_half_weights(onnx_bytes("encoder", program)))
    assert sorted(size for kind, size in halved if kind == TensorProto.FLOAT and size >= FEWEST) == [576, 9216]


def test_what_cannot_go_is_refused_before_anything_is_written(small, tmp_path):
    with pytest.raises(UsageError, match=r"are found by gradients of the decoder, which these programs cannot take"):
        export_html(made(small, (1, 8, 8), posterior="hamiltonian(1)", likelihood="bernoulli"), tmp_path / "model.html")
    assert not list(tmp_path.iterdir())


def test_a_program_that_rounding_would_show_in_keeps_float32(small, monkeypatch, tmp_path):
    monkeypatch.setattr(exporter, "programs", lambda model: {"decoder": Program(
        Decode(model.sampler).eval(), {"codes": torch.rand(5, 4)}, "images")})
    monkeypatch.setattr(exporter, "MOST_APART_IN_HALF", 0.0)
    written = export_html(made(small, (1, 8, 8)), tmp_path / "model.html")
    assert written.single == ("decoder",) and written.apart["decoder"] < 1e-5
