"""How the program behaves: with names that nobody would choose, with nobody listening, when asked what there is."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pty
import re
import subprocess
import sys
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import reparam
from reparam.cli.app import main
from reparam.errors import UsageError
from reparam.parts import registry

SMALL = ["--threads", "1", "--precision", "float32", "--encoder", "mlp((8,))", "--decoder", "mlp((8,))", "--latent",
         "flat(2)", "--steps", "3", "--fitted-prior", "none"]
PROGRAM = [sys.executable, "-m", "reparam"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path)


def pictures(folder, n):
    folder.mkdir(parents=True)
    for i, pixels in enumerate(np.random.default_rng(len(folder.name)).integers(0, 256, (n, 8, 8), np.uint8)):
        Image.fromarray(pixels).save(folder / f"{i}.png")


# Names


def test_the_worst_names_are_harmless_everywhere(tmp_path, capfd):
    worst = "<img src=x onerror=alert(1)>\x1b]0;x\x07`$a$`|caf\udce9\u202e"
    data = tmp_path / ("data " + worst)
    for label in ("=1+1" + worst, "b\n# h"):
        pictures(data / label, 12)
    (data / "b\n# h" / ("br\x1b[2J" + "k" * 200 + ".png")).write_bytes(b"junk")
    run = tmp_path / ("run " + worst)
    assert main(["train", str(data), *SMALL, "--out", str(run)]) == 0
    out, err = capfd.readouterr()
    for printed in (out, err):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", printed)
    assert r"caf\xe9\u202e" in out
    for name in ("report.html", "README.md", "run.json", "config.json", "skipped.json", "evaluation.json"):
        raw = (run / name).read_bytes()
        assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]|\xe2\x80\xae", raw), name
        text = raw.decode("utf-8")
        assert name.endswith(".json") or "<img src=x" not in re.sub(r"(`+).*?\1", "", text), name
    assert json.loads((run / "run.json").read_text())["data"] == str(data)
    assert main(["train", "--resume", str(run), "--steps", "5"]) == 0  # both folders are found again
    assert main(["sample", str(run), "--out", str(tmp_path / "s.png")]) == 0


# Nobody listens


def ended(arguments, **streams):
    return subprocess.run([*PROGRAM, *arguments], check=False, timeout=100, **streams)


@pytest.mark.parametrize("how", ["closed", "terminal"])
def test_work_is_done_with_nobody_to_tell(how, tmp_path):
    pictures(tmp_path / "data", 16)
    command = ["train", "data", *SMALL, "--out", "run"]
    if how == "closed":
        shell = " ".join(f"'{a}'" for a in (*PROGRAM, *command))
        done = subprocess.run(["bash", "-c", f"{shell} >&- 2>&- <&-"], check=False, timeout=100)
    else:
        reader, writer = pty.openpty()
        os.close(reader)
        done = ended(command, stdout=writer, stderr=writer, start_new_session=True)
        os.close(writer)
    assert done.returncode == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
    assert (tmp_path / "run" / "report.html").read_bytes().endswith(b"</html>\n")


def test_a_pipe_that_is_closed_early_is_no_failure():
    reader, writer = os.pipe()
    os.close(reader)
    done = ended(["presets"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_at_the_other_end_is_an_error():
    with Path("/dev/full").open("w") as full:
        done = ended(["presets", "--json"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "error: stdout: No space left on device\n")


# What can be asked


def test_training_names_its_folder_first_and_commands_that_work_last(tmp_path, capsys):
    pictures(tmp_path / "data", 16)
    assert main(["train", "data", *SMALL, "--out", "my run"]) == 0
    out, err = capsys.readouterr()
    assert "16×16" not in err and "8×8, 1 channel; what is made goes to my run" in err.splitlines()[0] + err
    assert "1 thread, float32" in err and "1 threads" not in err
    commands = re.findall(r"^  reparam (\w+) 'my run'", out, re.M)
    assert commands == ["sample", "traverse", "evaluate", "explore"] and "'my run/report.html'" in out
    for command in commands[:2]:
        assert main([command, "my run"]) == 0


def test_figures_are_printed_as_a_table_with_each_warning_once():
    from reparam.cli.app import figure_table
    from reparam.metrics.figures import Figure

    few = "only 16 images"
    lines = figure_table([Figure("fd", 1235.0, "of features", 16, (1000.0, 1500.0), warning=few, better="lower"),
                          Figure("coverage", 0.25, "of images", 16, note="k = 5", warning=few)])
    head, fd, coverage, *notes = lines
    assert notes == ["  [1] WARNING: only 16 images"]
    assert fd.split() == ["fd", "↓", "1,235", "1,000", "…", "1,500", "of", "features", "16", "[1]"]
    assert coverage.endswith("[1] k = 5")
    assert head.index("value") + len("value") == fd.index("1,23") + 5 == coverage.index("0.25") + 4


def test_help_to_train_comes_in_groups(capsys):
    assert main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    headings = re.findall(r"─ ([A-Z][\w ]*) ─", out)
    assert headings == ["Arguments", "Common", "Model", "Objective", "After the model", "Critic", "Optimisation",
                        "Images in training", "Reading images", "Machine", "Other"]
    other = out[out.index("─ Other ─"):]
    # every field of a recipe has a place of its own; the page of --watch is opened or not
    assert re.findall(r"--[\w-]+", other) == ["--open", "--no-open", "--watch", "--json"]


@pytest.mark.parametrize(("arguments", "see"), [
    (["train", "digits", "--priro", "x"], "reparam train --help"), (["sample"], "reparam sample --help"),
    (["fit-prior"], "reparam fit-prior --help"), (["sampel"], "reparam --help")])
def test_wrong_usage_names_the_commands_own_help(arguments, see, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"See: {see}"


def test_one_preset_or_part_is_shown(capsys):
    assert main(["presets", "cvae"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("cvae: ") and "--latent 'conditional(32, classes=10)'" in out and "iwae" not in out
    assert main(["parts", "prior", "mixture"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("prior\n  mixture(") and out.count("(") < 20 and "vamp" not in out
    for arguments, message in ((["presets", "cvea"], "did you mean 'cvae'?"), (["parts", "prior", "mixtur"], "'mixture'?")):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


def test_the_environment_is_told(capsys):
    import torch

    import reparam

    assert main(["env", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["reparam"] == reparam.__version__ and facts["packages"]["torch"] == torch.__version__
    assert facts["cache"] == os.environ["REPARAM_CACHE"] and facts["devices"][0] == "cpu" and facts["threads"] >= 1
    assert main(["env"]) == 0
    assert torch.__version__ in capsys.readouterr().out


# Parts of installed packages


def installed(folder, monkeypatch, name, code):
    """A distribution on the path whose entry point names one module."""
    (folder / f"{name}_parts.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[reparam.parts]\n{name} = {name}_parts\n")
    monkeypatch.syspath_prepend(str(folder))
    registry.load_outside.cache_clear()


@pytest.fixture
def forgetting():
    yield
    registry.prior.registered.pop("outside", None)
    registry.load_outside.cache_clear()


CODE = """
from reparam.models.priors.normal import Normal
from reparam.parts.registry import prior

@prior("outside")
class Outside(Normal):
    "A prior from an installed package."
"""


def test_parts_of_an_installed_package_need_no_import(tmp_path, monkeypatch, forgetting, capsys):
    installed(tmp_path, monkeypatch, "kindly", CODE)
    assert registry.prior.check(registry.parse_call("outside")) is not None
    assert main(["parts", "prior", "outside"]) == 0
    assert "A prior from an installed package." in capsys.readouterr().out
    assert registry.outside_packages() == ["kindly"]


def test_a_broken_package_of_parts_is_warned_of_by_name(tmp_path, monkeypatch, forgetting):
    installed(tmp_path, monkeypatch, "broken", "raise RuntimeError('no')")
    with pytest.warns(UserWarning, match="parts of the package broken cannot be used: broken_parts fails with RuntimeError"):
        registry.load_outside()
    with pytest.raises(UsageError, match="unknown prior 'outside'"):
        registry.prior.check(registry.parse_call("outside"))


def test_known_parts_and_configs_import_nothing_from_outside(monkeypatch, forgetting):
    def refuse(self):
        raise AssertionError(self.value)

    monkeypatch.setattr(EntryPoint, "load", refuse)
    registry.load_outside.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.prior.check(registry.parse_call("normal"))
    with pytest.raises(UsageError, match="unknown prior"):
        registry.prior.check(registry.parse_call("antigravity"))
    assert "antigravity" not in sys.modules


SCRIPTS = [path for path in sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))
           if "if __name__ ==" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_benchmarks_read_their_arguments_before_they_compute(path):
    """The first call of what runs as a script makes or fills the parser, so that --help answers at once."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    guarded = next(node.body for node in tree.body if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test))
    first = guarded[0] if not ast.unparse(guarded[0]).startswith("main(") else functions["main"].body[0]
    assert "ArgumentParser(" in ast.unparse(first)


def test_the_page_of_the_public_surface_names_what_is_public():
    page = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \|", page, re.M)) == sorted(reparam.__all__)
    for module in re.findall(r"`(reparam\.[\w.]+)`", page):
        importlib.import_module(module)
