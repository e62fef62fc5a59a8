"""Watching a run that is trained: what is told of its files, its pictures, and that it is trained as if nobody looked."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from pages import faults, shows, until
from test_explorer_guard import live
from test_explorer_server import ask, told

from reparam.errors import ModelFileError, UsageError
from reparam.explorer.questions import Question
from reparam.explorer.snapshots import SHARE, Snapshots
from reparam.explorer.training import AS_READ, Training
from reparam.explorer.watch import Watch
from reparam.files.writing import write_text
from reparam.trainer.state_file import load_state, save_state

SMALL = {"threads": 1, "precision": "float32", "encoder": "mlp((32,))", "decoder": "mlp((32,))", "latent": "flat(4)",
         "fitted_prior": "mixture(3)", "steps": 40}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a short run of the digits."""
    from reparam.runs.train import train

    folder = tmp_path_factory.mktemp("runs") / "digits"
    train("digits", out=folder, **SMALL)
    return folder


@pytest.fixture
def unfinished(trained, tmp_path):
    """What stands in a run's folder while it is trained, three quarters of the way."""
    folder = tmp_path / "digits"
    (folder / "state").mkdir(parents=True)
    run = json.loads((trained / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"status": "training"}))
    lines = (trained / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:30]))
    for name in ("training.safetensors", "held_out.npy"):
        (folder / "state" / name).write_bytes((trained / "state" / name).read_bytes())
    return folder


def asked(answers, op, **said):
    return next(each for each in answers.steps(Question({"op": op} | said)) if each is not None)


def test_curves_are_those_of_the_record_and_are_sent_once(unfinished):
    records = [json.loads(line) for line in (unfinished / "metrics.jsonl").read_text().splitlines()]
    training = Training(unfinished)
    found = training.answer(Question({}))
    names = [each["name"] for each in found.fields["series"]]
    values = dict(zip(names, found.arrays["values"], strict=True))
    np.testing.assert_array_equal(found.arrays["steps"], [r["step"] for r in records])
    np.testing.assert_allclose(values["training loss"], [r["loss"] for r in records], rtol=1e-6)
    np.testing.assert_allclose(values["kl"], [r["terms"]["kl"] for r in records], rtol=1e-6)
    bound = [r["held_out"]["-elbo"] if "held_out" in r else np.nan for r in records]
    np.testing.assert_allclose(values["held-out −ELBO"], bound, rtol=1e-6)
    assert "critic" not in names and {"learning rate", "gradient norm"} < set(names)
    last = records[-1]
    assert (found.fields["step"], found.fields["progress"]) == (last["step"], last["progress"]) == (30, 0.75)
    assert found.fields["left"] == pytest.approx(last["seconds"] / 3)
    assert found.fields["status"] == "training" and found.fields["quiet"] < 60
    again = training.answer(Question({"known": found.fields["stamp"]}))
    assert not again.arrays and again.fields["step"] == 30
    with (unfinished / "metrics.jsonl").open("a") as f:
        f.write(json.dumps(last | {"step": 31, "event": "step skipped: nll is not finite", "loss": None}) + '\n{"step": 3')
    later = training.answer(Question({"known": found.fields["stamp"]}))
    assert later.arrays["steps"][-1] == 31 and np.isnan(later.arrays["values"][0, -1])
    assert {"step": 31, "text": "step skipped: nll is not finite"} in later.fields["remarks"]


def test_a_record_is_read_once_as_it_grows_and_anew_when_it_was_cut_short(unfinished, monkeypatch):
    import reparam.explorer.training as followed

    read, conform = [], followed.conform
    monkeypatch.setattr(followed, "conform", lambda value, hint: read.append(value["step"]) or conform(value, hint))
    path = unfinished / "metrics.jsonl"
    text = path.read_text()
    growing = followed.Growing(path)
    growing.read()
    with path.open("a") as f:
        f.write(text.splitlines(keepends=True)[-1].replace('"step": 30', '"step": 31') + '{"step": 32')
    growing.read()
    assert read == [*range(1, 32)] == [r["step"] for r in growing.records]
    write_text(path, "".join(text.splitlines(keepends=True)[:5]))
    growing.read()
    assert [r["step"] for r in growing.records] == [1, 2, 3, 4, 5]
    with path.open("a") as f:
        f.write('{"step": "no number"}\n')
    growing.read()
    assert len(growing.records) == 5


def test_the_command_makes_the_same_recipe_again(trained, tmp_path):
    from reparam.cli.app import app
    from reparam.data.options import DataOptions
    from reparam.parts.presets import find
    from reparam.runs.folder import Run

    run = Run.read(trained)
    assert vars(DataOptions()) == AS_READ
    for options in (run.options, DataOptions(16, "keep", (0.0, 4095.0), "error")):
        folder = tmp_path / f"{options.image_size}"
        Run(folder, "my photos", options, run.recipe).save()
        command = Training(folder).answer(Question({})).fields["command"]
        _, bound, _ = app.parse_args(command.removeprefix("reparam "))
        given = {k: v for k, v in vars(bound.arguments["changes"]).items() if v is not None}
        assert find(bound.arguments["preset"]).recipe.but(**given) == run.recipe
        assert bound.arguments["data"] == "my photos"
        if options.image_size:
            low_high = ",".join(f"{v:g}" for v in options.value_range)
            assert vars(bound.arguments["reading"]) == vars(options) | {"value_range": low_high}
        else:
            assert "reading" not in bound.arguments


def test_curves_are_told_without_pytorch():
    code = "import sys, reparam.explorer.watch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pictures_are_those_of_the_averaged_weights(unfinished, trained):
    import reparam

    found = asked(Watch(unfinished), "snapshot")
    model = reparam.load(trained)  # what training ended in, which its last state holds
    samples = model.sample(16, seed=0, prior="normal")
    np.testing.assert_array_equal(found.arrays["samples"][..., 0], samples)
    held_out = np.load(trained / "state" / "held_out.npy")
    np.testing.assert_array_equal(found.arrays["originals"], held_out[:8])
    np.testing.assert_array_equal(found.arrays["rebuilt"][..., 0], model.reconstruct(held_out[:8, ..., 0]))
    assert found.fields["step"] == 40 and found.fields["latents"] == 4 and 0 <= found.fields["active"] <= 4
    assert sorted(found.arrays["latents"]) == [0, 1, 2, 3] and (np.diff(found.arrays["nats"]) <= 0).all()


def test_pictures_are_drawn_anew_only_of_later_weights_and_for_a_share_of_the_time(unfinished, monkeypatch):
    snapshots, clock = Snapshots(unfinished), [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    spent = iter([0.0, 0.5] * 9)
    monkeypatch.setattr(time, "process_time", lambda: next(spent))
    first = snapshots.latest()
    assert snapshots.answer(Question({"known": first.fields["stamp"]})).arrays == {}
    state = unfinished / "state" / "training.safetensors"
    tensors, numbers = load_state(state)
    save_state(state, ({k: v.clone() for k, v in tensors.items()}, numbers | {"step": 41}))
    clock[0] += 0.5 / SHARE - 1
    assert snapshots.latest() is first
    clock[0] += 2
    assert snapshots.latest().fields["step"] == 41


def test_what_is_missing_or_strange_in_the_folder_costs_pictures_alone(unfinished):
    np.save(unfinished / "state" / "held_out.npy", np.zeros((3, 9, 9, 1), np.uint8))
    found = Snapshots(unfinished).latest()
    assert set(found.arrays) == {"samples"}
    (unfinished / "state" / "training.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelFileError):
        Snapshots(unfinished).latest()
    (unfinished / "state" / "training.safetensors").unlink()
    with pytest.raises(ModelFileError, match="no weights have been saved yet"):
        Snapshots(unfinished).latest()
    assert asked(Watch(unfinished), "training").fields["step"] == 30


def test_the_doctor_speaks_while_training_lasts(unfinished):
    lines = [json.loads(line) for line in (unfinished / "metrics.jsonl").read_text().splitlines()]
    for step, record in enumerate(lines):
        record["held_out"] = {"-elbo": 50.0 + abs(step - 10)}
    (unfinished / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    assert [each["title"] for each in Snapshots(unfinished).latest().fields["findings"]] == ["overfitted"]


def test_before_there_is_a_folder_and_when_training_has_ended(trained, tmp_path):
    folder = tmp_path / "later"
    watch = Watch(folder)
    assert asked(watch, "hello").fields["runs"] == [] and asked(watch, "hello").fields["name"] == "later"
    assert asked(watch, "training").fields["status"] == "reading images"
    with pytest.raises(UsageError, match="still being trained"):
        asked(watch, "sample")
    folder.mkdir()
    for path in trained.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    hello = asked(watch, "hello")
    assert hello.fields["runs"][0]["name"] == "later" and hello.fields["runs"][0]["has_curves"] is True
    assert asked(watch, "training").fields["status"] == "finished"
    assert asked(watch, "training").fields["remarks"][-1]["text"].count(": ") >= 1
    assert asked(watch, "decode", codes=[[0.0] * 4]).arrays["images"].shape == (1, 8, 8, 1)


def test_a_run_that_goes_on_had_ended_before(trained):
    assert asked(Watch(trained), "hello").fields["runs"] == []


class Looking(threading.Thread):
    """Somebody who looks at a page all the time until it is gone."""

    def __init__(self, link):
        super().__init__(daemon=True)
        self.port, self.token = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", link).groups()
        self.seen = []
        self.start()

    def run(self):
        from websockets.sync.client import connect

        with contextlib.suppress(Exception), connect(  # which ends with training
                f"ws://127.0.0.1:{self.port}/ws", origin=f"http://127.0.0.1:{self.port}", max_size=None,
                additional_headers={"Cookie": f"reparam-{self.port}={self.token}"}, open_timeout=60) as socket:
            while True:
                ask(socket, id=1, op="training")
                self.seen.append(told(socket)[0])
                time.sleep(0.02)


def test_training_is_the_same_bit_for_bit_while_somebody_looks(trained, tmp_path, monkeypatch, capsys):
    import reparam.cli.watch as watching
    from reparam.cli.app import main

    looking, tell = [], watching.tell

    def look(*lines, **how):
        tell(*lines, **how)
        looking.extend(Looking(line.split()[-1]) for line in lines if "token=" in line)

    def at_a_terminal():  # which is asked for after training
        until_seen(looking[0])
        return False

    monkeypatch.setattr(watching, "tell", look)
    monkeypatch.setattr(watching, "at_a_terminal", at_a_terminal)
    flags = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    out = tmp_path / "watched"
    assert main(["train", "digits", "--out", str(out), *flags, "--watch", "--no-open"]) == 0
    assert "Watch it at http://127.0.0.1:" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
    looking[0].join(20)
    assert not looking[0].is_alive()  # the page has ended with the command


def until_seen(looking):
    for _ in range(1200):
        if looking.seen and looking.seen[-1].get("status") == "finished":
            return
        time.sleep(0.05)
    raise AssertionError(f"the page did not come: {looking.seen[-1:]}")


def test_a_refused_run_shows_no_page(tmp_path, capsys):
    from reparam.cli.app import main

    assert main(["train", "digits", "--out", str(tmp_path), "--latent", "unheard", "--watch"]) == 2
    assert "token=" not in capsys.readouterr().err


# the page


@pytest.fixture
def served(browser):
    """Serves answers, and opens the page; afterwards nothing may have complained."""
    with contextlib.ExitStack() as until_the_end:
        problems = []

        def open_at(answers, **options):
            from reparam.explorer.server import application

            guard = until_the_end.enter_context(live(application(answers)))
            opened = browser.new_page(viewport={"width": 1200, "height": 900}, reduced_motion="reduce", **options)
            until_the_end.callback(opened.close)
            opened.set_default_timeout(60_000)
            opened.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
            opened.on("pageerror", lambda e: problems.append(str(e)))
            opened.goto(guard.link)
            opened.wait_for_selector("body.ready")
            return opened

        yield open_at
    assert not problems


def test_the_page_follows_a_run_until_it_can_be_explored(served, unfinished, trained):
    opened = served(Watch(unfinished))
    until(opened, lambda: "step 30 of 40 · 75 %" in opened.inner_text("#standing"))
    charts = opened.locator("#curves .chart")
    assert charts.count() == 5 and opened.locator("#curves canvas").count() == 5
    assert charts.first.get_attribute("aria-label").startswith("Loss, nats per image: training loss from ")
    row = opened.locator("#latestrows tr", has_text="training loss").inner_text()
    loss = [json.loads(line)["loss"] for line in (unfinished / "metrics.jsonl").read_text().splitlines()]
    assert float(row.split("\t")[1]) == pytest.approx(loss[0], rel=0.01)
    assert float(row.split("\t")[3]) == pytest.approx(loss[-1], rel=0.01)
    until(opened, lambda: opened.locator("#trainsamples canvas").count() == 16)
    held_out = np.load(unfinished / "state" / "held_out.npy")
    shows(opened, "#originalsrow canvas:nth-child(3)", np.repeat(held_out[2], 3, 2), within=0)
    assert " latents are active" in opened.inner_text("#natstitle")
    ink = """c => { const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        return p.reduce((n, v, i) => n + (i % 4 === 3 && v > 0), 0) }"""
    assert opened.locator("#curves canvas").first.evaluate(ink) > 500
    assert not [fault for fault in faults(opened) if fault.startswith(("serious", "critical"))]
    opened.click("#copyas")
    command = opened.inner_text("#ascommand")
    assert command.startswith("reparam train digits --preset ") and command.endswith(f"reparam explore {unfinished}")
    opened.click("#copybox .close")
    for path in trained.iterdir():
        if path.is_file():
            (unfinished / path.name).write_bytes(path.read_bytes())
    until(opened, lambda: opened.is_visible("#explorenow"))
    assert "Verdict: " in opened.inner_text("#remarks")
    opened.click("#explorenow")
    opened.wait_for_selector("#tab-train:visible")
    opened.wait_for_selector("body.ready")
    assert opened.is_visible("#points")
    opened.click("#tab-train")
    until(opened, lambda: opened.locator("#curves canvas").count() == 5)
    assert "Trained · step 40 of 40" in opened.inner_text("#standing")
    until(opened, lambda: "tab=train" in opened.url)
    assert opened.is_hidden("#afterwards") and opened.is_hidden("#progress")


def test_curves_of_either_of_two_runs(served, trained, tmp_path):
    from reparam.explorer.session import Session

    other = tmp_path / "other"
    shutil.copytree(trained, other)
    lines = (other / "metrics.jsonl").read_text().splitlines(keepends=True)
    (other / "metrics.jsonl").write_text("".join(lines[:20]))
    opened = served(Session.open([trained, other], most=100))
    opened.click("#tab-train")
    until(opened, lambda: "step 40" in opened.inner_text("#standing"))
    until(opened, lambda: opened.locator("#trainsamples canvas").count() == 16)
    opened.select_option("#trained", "other")
    until(opened, lambda: "step 20" in opened.inner_text("#standing") and opened.locator("#curves canvas").count() == 5)
    assert not [fault for fault in faults(opened) if fault.startswith(("serious", "critical"))]


def test_an_unfinished_run_is_explored_by_its_training(unfinished, monkeypatch, capsys):
    import reparam.explorer.launch as launch
    import reparam.explorer.watch as watch
    from reparam.cli.app import main

    served = []
    monkeypatch.setattr(watch, "step_back", lambda: served.append("stepped back"))
    monkeypatch.setattr(launch, "serve", lambda answers, *_, **__: served.append(answers))
    assert main(["explore", str(unfinished), "--no-open"]) == 0
    assert served[0] == "stepped back" and isinstance(served[1], Watch) and served[1].folder == unfinished
    assert "still being trained" in capsys.readouterr().out


@pytest.mark.parametrize(("terminal", "rank", "fails", "happens"), [
    (True, "0", False, ["begun", "waited", "ended"]), (False, "0", False, ["begun", "ended"]),
    (True, "0", True, ["begun", "ended"]), (False, "1", False, [])])
def test_how_long_the_page_lasts(monkeypatch, tmp_path, capsys, terminal, rank, fails, happens):
    import reparam.cli.watch as watching
    import reparam.explorer.watch as watch

    happened = []

    class Page:
        def __init__(self, *_):
            happened.append("begun")

        def terminate(self):
            happened.append("ended")

    def interrupted():
        happened.append("waited")
        raise KeyboardInterrupt

    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(watch, "start", Page)
    monkeypatch.setattr(watching, "at_a_terminal", lambda: terminal)
    monkeypatch.setattr(watching, "_until_interrupted", interrupted)
    with pytest.raises(UsageError) if fails else contextlib.nullcontext(), watching.watched(open_page=False) as begin:
        begin(tmp_path)
        if fails:
            raise UsageError("refused")
    assert happened == happens
