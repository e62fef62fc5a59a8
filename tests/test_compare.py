"""Comparing: seeds pooled, no win without intervals apart, unlike protocols refused, and a page that says what stands."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reparam.errors import ModelFileError, TrainingDiverged, UsageError
from reparam.functional.intervals import student
from reparam.metrics.catalogue import find
from reparam.metrics.figures import PROTOCOL, Figure
from reparam.runs.comparison.compare import Request, compare
from reparam.runs.comparison.ranking import pooled, rank, with_target
from reparam.runs.folder import Run
from reparam.runs.reports.comparison_page import caution, write_comparison
from reparam.runs.train import train

SMALL = {"steps": 3, "threads": 1, "precision": "float32", "decoder": "mlp((16,))", "latent": "flat(4)",
         "fitted_prior": "none"}
ASKED = Request("elbo, psnr, fd, prdc, training", "wavelets", 60)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of two seeds of a VAE and one of a GAN, measured. Nobody writes to them."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPARAM_CACHE", str(folder / "cache"))
        for seed in (0, 1):
            train("digits", out=folder / f"vae-{seed}", seed=seed, encoder="mlp((16,))", **SMALL)
        train("digits", out=folder / "gan", preset="dcgan", **SMALL)
        paths = [folder / "vae-0", folder / "vae-1", folder / "gan"]
        compare(paths, ASKED)
    return paths


@pytest.fixture
def copies(runs, tmp_path):
    """The same, to be written to."""
    return [Path(shutil.copytree(path, tmp_path / path.name)) for path in runs]


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    """The comparison, what its JSON says and its page."""
    folder, comparison = tmp_path_factory.mktemp("page"), compare(runs)
    facts = write_comparison(comparison, folder)
    return comparison, facts, (folder / "index.html").read_text(encoding="utf-8"), folder


def change(folder, edit):
    path = folder / "evaluation.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    edit(facts)
    path.write_text(json.dumps(facts), encoding="utf-8")


def cells(**intervals):
    """Cells of a figure whose values are the middles of intervals."""
    return {name: pooled([Figure("fd", (low + high) / 2, "", 100, (low, high))]) for name, (low, high) in intervals.items()}


# Who is best


@pytest.mark.parametrize("name, intervals, best, behind", [
    ("fd", {"a": (1, 2), "b": (3, 4)}, ("a",), ("b",)),
    ("fd", {"a": (1, 3.001), "b": (3, 4)}, ("a", "b"), ()),
    ("fd", {"a": (1, 3), "b": (3, 4)}, ("a", "b"), ()),
    ("psnr", {"a": (1, 2), "b": (3, 4), "c": (3.5, 5)}, ("c", "b"), ("a",)),
    ("memorisation", {"a": (0.1, 0.2), "b": (0.55, 0.65)}, ("b",), ("a",)),
    ("memorisation", {"a": (0.3, 0.45), "b": (0.5, 0.7)}, ("b", "a"), ()),
    ("density", {"a": (1.5, 1.6), "b": (0.7, 0.8)}, ("b",), ("a",)),
])
def test_best_is_who_lies_apart(name, intervals, best, behind):
    standing = rank(find(name), cells(**intervals))
    assert (standing.best, standing.behind) == (best, behind)
    assert standing.alone == (best[0] if len(best) == 1 else None)
    assert all(standing.tag(n) == ("best" if len(best) == 1 else "tied") for n in best)
    assert all(standing.tag(n) == "behind" for n in behind)


def test_without_an_interval_nobody_wins():
    bare = {"a": pooled([Figure("fd", 1, "", 9)]), "b": pooled([Figure("fd", 2, "", 9, (1.9, 2.1))])}
    assert rank(find("fd"), bare).best == ()
    assert rank(find("kl"), cells(a=(1, 2), b=(3, 4))).best == ()  # neither way is better


def test_a_target_that_was_not_measured_ranks_nobody():
    assert with_target(find("vendi"), {"vendi of real images": 7.0}).target == 7.0
    unknown = with_target(find("vendi"), {})
    assert unknown.target is None and rank(unknown, cells(a=(1, 2), b=(3, 4))).why_not == \
        "not ranked: vendi of real images was not measured"


@pytest.mark.parametrize("freedom", [1, 2, 9, 10, 30])
def test_students_quantile(freedom):
    from scipy.special import stdtrit

    assert student(freedom) == pytest.approx(stdtrit(freedom, 0.975), rel=1e-3)


def test_seeds_are_pooled_with_the_wider_interval():
    far = pooled([Figure("fd", v, "", 9, (v - 1, v + 1)) for v in (10, 14)])
    assert far.value == 12
    assert far.interval == pytest.approx((0, 12 + 12.7062 * 2))  # cut at what the figure can be
    near = pooled([Figure("fd", v, "", 9, (v - 3, v + 3)) for v in (10, 10, 10)])
    assert near.interval == pytest.approx((7, 13))


# Measured alike or not at all


def test_seeds_of_a_recipe_are_one_model(page):
    comparison, facts, _, _ = page
    assert [(m["name"], m["kind"], len(m["runs"])) for m in facts["models"]] == [("vae", "VAE", 2), ("gan", "GAN", 1)]
    psnr = next(row for row in comparison.rows if row.name == "psnr")
    assert len(psnr.cells["vae"].figures) == 2 and "gan" not in psnr.cells


def test_what_was_measured_is_not_measured_again(runs, monkeypatch):
    monkeypatch.setattr("reparam.runs.comparison.compare.measure_on_own", lambda *_, **__: pytest.fail("measured again"))
    compare(runs)
    compare(runs, ASKED)
    with pytest.raises(pytest.fail.Exception):
        compare(runs, Request(ASKED.metrics, "wavelets", 61))


def test_a_gan_lacks_only_what_needs_an_encoder(page):
    _, facts, text, _ = page
    of = {f["name"]: f["models"]["gan"] for f in facts["figures"]}
    assert of["-elbo"] == of["psnr"] == {"missing": "a GAN has no encoder"}
    assert of["fd"]["n"] == 60
    assert "–<small>a GAN has no encoder</small>" in text


def unlike(key, value):
    def edit(facts):
        for figure in facts["metrics"]:
            if figure["name"].startswith("fd"):
                figure[key] = value
    return edit


@pytest.mark.parametrize("edit, said", [
    (lambda facts: facts.update(protocol=PROTOCOL - 1), f"by protocol {PROTOCOL - 1}"),
    (lambda facts: facts.update(measured_on="test"), "on test images"),
    (unlike("n", 59), "n = 59"), (unlike("features", "other"), "features = other"), (unlike("resize", "none"), "resize"),
])
def test_unlike_measurements_are_refused(copies, edit, said):
    change(copies[2], edit)
    with pytest.raises(UsageError, match=said) as e:
        compare(copies)
    assert f"reparam compare {' '.join(map(str, copies))} --again" in str(e.value)


def test_an_evaluation_cut_short_is_told_and_written_anew(copies):
    (copies[2] / "evaluation.json").write_text('{"metrics": [', encoding="utf-8")
    with pytest.raises(ModelFileError, match="--again"):
        compare(copies)
    measured = compare(copies, replace(ASKED, metrics="fd", again=True))
    assert "fd" in measured.contenders[1].cells
    assert json.loads((copies[2] / "evaluation.json").read_text(encoding="utf-8"))["protocol"] == PROTOCOL


def test_other_data_and_single_models_are_refused(copies):
    with pytest.raises(UsageError, match="at least two models"):
        compare(copies[:2])
    with pytest.raises(UsageError, match="named twice"):
        compare([copies[0], copies[0]])
    run = Run.read(copies[2])
    run.fingerprint = "another"
    run.save()
    with pytest.raises(UsageError, match="other images"):
        compare(copies)


# The page


def test_every_figure_stands_with_what_it_rests_on(page):
    comparison, facts, text, _ = page
    rows = dict(re.findall(r"<th scope='row'>(.*?)\**<small>(.*?)</tr>", text))
    assert list(rows) == [row.name for row in comparison.rows] == [f["name"] for f in facts["figures"]]
    row, cell = rows["fd"], next(f for f in facts["figures"] if f["name"] == "fd")["models"]["gan"]
    assert "n = 60" in row and cell["unit"] in row and cell["features"] in row and cell["resize"] in row
    assert f" … {cell['interval'][1]:,.4g}" in row
    assert f"protocol {PROTOCOL}" in text and "fd*" in text and "only 60 images" in text


def test_the_words_are_of_the_figures(page):
    comparison, facts, text, _ = page
    for model in facts["models"]:
        for name in model["best"]:
            row = next(r for r in comparison.rows if r.name == name)
            low = {c: cell.interval for c, cell in row.cells.items()}
            mine = low.pop(model["name"])
            assert all(mine[1] < i[0] or i[1] < mine[0] for i in low.values())
            assert any(said.startswith("Best at") and name in said for said in model["words"])
        for name in model["tied"]:
            assert name not in model["best"] + model["behind"]
    assert facts["headline"] in text
    assert any("cannot encode" in said for said in facts["models"][1]["words"])


def test_one_seed_is_called_one_seed(page):
    comparison, facts, text, _ = page
    assert facts["caution"].startswith("Of gan there is one trained run: its intervals") and facts["caution"] in text
    assert caution(replace(comparison, contenders=comparison.contenders[:1])) == ""


def test_the_page_stands_alone(page):
    comparison, facts, text, folder = page
    assert not re.search(r"(src|href)='(?!data:)", text) and "http" not in text
    assert text.count("data:image/png") == 4  # real images, two models, the curves
    assert {p.name for p in folder.iterdir()} == {"index.html", "comparison.json", "curves.png",
                                                  *(f"samples-{i}.png" for i in range(3))}
    written = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(facts, allow_nan=False))
    assert str(comparison.first.folder.parent) not in json.dumps(facts) + text  # folders of this machine
    assert all(len(run["course"]) > 1 for model in facts["models"] for run in model["runs"])


def test_names_are_text(copies, tmp_path):
    odd = copies[2].rename(copies[2].with_name("<b>&'x"))
    write_comparison(compare([*copies[:2], odd]), tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<b>&" not in text and "&lt;b&gt;&amp;&#x27;x" in text


# Training first


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder: its exit code, stdout and stderr."""
    from reparam.cli.app import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path / "cache"))

    def call(*arguments):
        code = main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return call


def test_seeds_that_diverge_are_counted(runs, command, monkeypatch):
    """Training is stood in for by copies of runs; of the second seed of a preset it diverges once."""
    calls = []

    def stand_in(data, *, out, seed, encoder, **recipe):
        calls.append(out.name)
        shutil.copytree(runs[2] if encoder == "none" else runs[seed], out)
        run = Run.read(out)
        run.recipe = run.recipe.but(seed=seed, encoder=encoder, **{k: v for k, v in recipe.items() if k in vars(run.recipe)})
        run.save()
        if out.name == "dcgan-1":
            (out / "evaluation.json").unlink()
            raise TrainingDiverged("not finite")
        return run

    monkeypatch.setattr("reparam.runs.seeds.train", stand_in)
    asked = ("compare", "--presets", "vae,dcgan", "--data", "digits", "--seeds", 2, "--minutes", 0.01, "--json")
    code, out, err = command(*asked)
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert calls == ["vae-0", "dcgan-0", "vae-1", "dcgan-1"]
    assert facts["page"] == "comparison/index.html" and Path(facts["page"]).exists()
    lost = next(f for f in facts["figures"] if f["name"] == "seeds that failed")["models"]
    assert (lost["vae"]["value"], lost["dcgan"]["value"], lost["dcgan"]["n"]) == (0, 1, 2)
    assert any("1 of 2 seeds failed" in said for said in facts["models"][1]["words"])
    assert command(*asked)[0] == 0 and len(calls) == 4  # nothing is trained twice, what failed neither
    code, _, err = command(*asked[:-2], 0.02)
    assert code == 2 and "minutes = 0.01, not 0.02" in err


@pytest.mark.parametrize("arguments, said", [
    (["--presets", "vae,dcgan"], "--data"), (["a", "b", "--minutes", 3], "--minutes say"), (["a", "--metrics", "fdd"], "fd"),
    (["--presets", "vae,dcgann", "--data", "digits"], "dcgan"), (["--presets", "vae,vae", "--data", "digits"], "twice"),
    (["--presets", "vae,dcgan", "--data", "digits", "--seeds", 0], "--seeds"), ([], "at least two models"),
])
def test_wrong_usage_leaves_nothing(command, tmp_path, arguments, said):
    code, out, err = command("compare", *arguments)
    assert (code, out) == (2, "") and said in err
    assert not list(tmp_path.iterdir())


def test_help_imports_no_torch():
    code = "import sys; from reparam.cli import main; main(['compare', '--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
