"""Fixtures that several test files share: small models, images, and how to write each registered part.

Nothing of the package is imported at the top, so that `--jaxtyping-packages=reparam,beartype.beartype` can hook it.
"""

from __future__ import annotations

import inspect
import itertools
import os
import shutil
from collections import Counter

import pytest
import torch

ARGUMENTS = {
    ("posterior", "relaxed_categorical"): "relaxed_categorical(2)",
    ("latent", "conditional"): "conditional(4, 3)",
    ("latent", "semi_supervised"): "semi_supervised(4, 3)",
    ("latent", "flat"): "flat(4)",
    ("latent", "spatial"): "spatial(2, 4)",
    ("term", "free_bits"): "free_bits(0.1)",
    ("term", "capacity"): "capacity(25)",
    ("term", "iw_bound"): "iw_bound(3)",
    ("term", "dreg"): "dreg(3)",
    ("term", "miwae"): "miwae(2, 3)",
    ("term", "ciwae"): "ciwae(0.3, 3)",
    ("term", "piwae"): "piwae(2, 3)",
    ("weight", "constant"): "constant(0.5)",
    ("weight", "linear"): "linear(0, 1, 0.1)",
    ("weight", "cosine"): "cosine(1, 0)",
    ("weight", "cyclic"): "cyclic(0, 1)",
    ("weight", "late"): "late(1, 0.4, 0.1)",
    ("weight", "target_rate"): "target_rate(30)",
    ("term", "perceptual"): "perceptual('wavelets')",
    ("augmentation", "crop"): "crop(2)",
}
"""How tests write the parts that cannot be written by their name alone: a row for each."""

SMALL = {
    ("latent", "top_down"): "top_down(3, (1, 2), 2, 8, 2)",
    ("encoder", "mlp"): "mlp(hidden=(16,))",
    ("encoder", "conv"): "conv(width=8)",
    ("encoder", "resnet"): "resnet(width=8)",
    ("encoder", "deep"): "deep(width=8)",
    ("decoder", "deep"): "deep(width=8)",
    ("encoder", "dcgan"): "dcgan(8)",
    ("decoder", "dcgan"): "dcgan(8)",
    ("encoder", "fastgan"): "fastgan(8)",
    ("decoder", "fastgan"): "fastgan(8)",
    ("encoder", "r3gan"): "r3gan(8)",
    ("decoder", "r3gan"): "r3gan(8)",
    ("encoder", "vit"): "vit(width=16, depth=1, heads=2)",
    ("decoder", "mlp"): "mlp(hidden=(16,))",
    ("decoder", "conv"): "conv(width=8)",
    ("decoder", "resnet"): "resnet(width=8)",
    ("decoder", "vit"): "vit(width=16, depth=1, heads=2)",
    ("prior", "flow"): "flow(4, hidden=16)",
    ("prior", "mixture"): "mixture(3)",
    ("prior", "autoregressive_flow"): "autoregressive_flow(2, hidden=16)",
    ("prior", "spline_flow"): "spline_flow(2, bins=4, hidden=16)",
    ("prior", "vamp"): "vamp(3)",
    ("prior", "flow_matching"): "flow_matching('mlp(16, 1)', steps=2)",
    ("velocity", "mlp"): "mlp(16, 2)", ("velocity", "dit"): "dit(16, 2, 2)", ("velocity", "unet"): "unet(8)",
    ("posterior", "iaf"): "iaf(2, hidden=16)",
    ("posterior", "vq"): "vq(8, dim=2)",
    ("posterior", "rvq"): "rvq(8, 2, dim=2)",
    ("prior", "autoregressive"): "autoregressive(8, 1, 2)",
}
"""Smaller than by default, to be quick; a part without a row is tested as it comes."""

COMPANIONS: dict[tuple[str, str], dict[str, str]] = {
    ("posterior", "vmf"): {"prior": "sphere"},
    ("posterior", "relaxed_bernoulli"): {"prior": "relaxed"},
    ("posterior", "relaxed_categorical"): {"prior": "relaxed"},
    ("prior", "sphere"): {"posterior": "vmf"},
    ("prior", "relaxed"): {"posterior": "relaxed_bernoulli"},
    ("term", "equivariance"): {"latent": "spatial(2, 1)"},
    ("term", "classify"): {"latent": "semi_supervised(4, 3)"},
    ("latent", "top_down"): {"encoder": "resnet(width=8, patch=2)", "decoder": "resnet(width=8, patch=1)"},
    ("posterior", "vq"): {"prior": "uniform"},
    ("posterior", "rvq"): {"prior": "uniform"},
    ("posterior", "fsq"): {"prior": "uniform"},
    ("posterior", "lfq"): {"prior": "uniform"},
    ("prior", "uniform"): {"posterior": "lfq(2)"},
    ("prior", "autoregressive"): {"posterior": "lfq(2)"},
    ("term", "commitment"): {"posterior": "lfq(2)", "prior": "uniform"},
    ("term", "codebook"): {"posterior": "vq(8, decay=0.0)", "prior": "uniform"},
    ("term", "entropy"): {"posterior": "lfq(2)", "prior": "uniform"},
}
"""Recipe fields that a part cannot do without, such as a prior over codes for a posterior that gives codes."""


EVERYTHING = "REPARAM_TEST_EVERYTHING"
"""Set where no test may be left out, as `.ci/run` does: each that is skipped then fails the run."""


def program(name):
    """The path of a program that tests need; where it is missing they are skipped, and the end of the run says so."""
    return shutil.which(name) or pytest.skip(f"{name} is not installed. On Debian: apt-get install {name}")


def left_out_of(reporter):
    """What was skipped, but for checks that scikit-learn's own suite of estimators leaves out."""
    return [report for report in reporter.stats.get("skipped", ()) if not report.longrepr[0].endswith("_pytest/unittest.py")]


def pytest_terminal_summary(terminalreporter):
    left_out = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in left_out_of(terminalreporter))
    if left_out:
        failing = EVERYTHING in os.environ
        terminalreporter.section(f"not tested{f', though {EVERYTHING} is set' if failing else ''}", red=failing, yellow=True)
        for reason, times in left_out.items():
            terminalreporter.line(f"{times}: {reason}")


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if EVERYTHING in os.environ and reporter and left_out_of(reporter) and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def training(model, objective, batches, *, adversary=None, dataset_size=0, accelerator=None, resume=None, phase=None,
             **how):
    """`reparam.training` of a model, with the fields of its budget and its optimization by keyword."""
    from reparam.trainer.budget import Budget, Optimization
    from reparam.trainer.loop import training
    from reparam.trainer.tasks import ModelTask

    budget = Budget(**{name: how.pop(name) for name in ("steps", "minutes", "clock", "precision", "compile") if name in how})
    return training(ModelTask(model, objective, adversary, dataset_size=dataset_size), batches, budget, Optimization(**how),
                    accelerator=accelerator, resume=resume, **({"phase": phase} if phase is not None else {}))


def forever(x):
    """The same batch without end."""
    return itertools.repeat(x)


def last(states):
    """The state that training ends in."""
    state = None
    for state in states:
        pass
    return state


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def nothing_fails_unseen():
    """What fails after training is listed by a run and costs a picture or a figure; in tests it is an error."""
    from reparam.progress import Attempts

    def failed(self, what, error):
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Attempts, "listed", Attempts.failed, raising=False)
        patch.setattr(Attempts, "failed", failed)
        yield


@pytest.fixture
def failures_are_listed(monkeypatch):
    """Attempts as users have them, for tests of what follows a failure."""
    from reparam.progress import Attempts

    monkeypatch.setattr(Attempts, "failed", Attempts.listed)


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random numbers."""
    torch.manual_seed(0)


@pytest.fixture
def unhooked(pytestconfig):
    """Skips under jaxtyping's import hook, whose wrappers torch.compile cannot trace."""
    if pytestconfig.getoption("jaxtyping_packages", None):
        pytest.skip("compiled code is tested without run-time type checks")


@pytest.fixture(scope="session")
def written():
    """How to write a registered part in a recipe: `written(role, name)`."""

    def write(role, name):
        key = (role.name, name)
        if key in SMALL:
            return SMALL[key]
        if key in ARGUMENTS:
            return ARGUMENTS[key]
        own = list(inspect.signature(role.parts[name]).parameters.values())[len(role.context):]
        needed = [p.name for p in own if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        if needed:
            pytest.fail(f"the {role.name} {name!r} needs {', '.join(needed)}: add a row for it to ARGUMENTS in "
                        f"tests/conftest.py, such as ({role.name!r}, {name!r}): '{role.signature(name)}'")
        return name

    return write


@pytest.fixture(scope="session")
def space_of():
    """A space of a given shape that the named prior covers: `space_of("normal", (4,))`."""
    from reparam.models.space import Space
    from reparam.parts.registry import ROLES

    def make(name, shape):
        kind = ROLES["prior"].parts[name].covers[0]
        with torch.random.fork_rng():
            encoder = ROLES["encoder"].make("mlp(hidden=(8,))", (1, 4, 4), None)
            posterior = ROLES["posterior"].make("gaussian", encoder.features, shape)
        return Space(shape, kind, levels=5 if kind == "codes" else 0, image_shape=(1, 4, 4), inference=(encoder, posterior))

    return make


@pytest.fixture(scope="session")
def small():
    """A small model: `small((3, 6, 5), prior='flow')`.

    Its parameters are moved off their start, since a network that starts at zero passes on no gradient there.
    """
    from reparam.models.build import build_model
    from reparam.parts.recipe import Recipe

    base = Recipe(encoder="mlp(hidden=(16,))", decoder="mlp(hidden=(16,))", latent="flat(4)", prior="normal",
                  likelihood="gaussian(sigma=0.3)")

    def build(image_shape=(1, 4, 4), *, moved=0.1, **changes):
        model = build_model(base.but(**changes), image_shape)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(moved * torch.randn_like(p))
        return model

    return build


@pytest.fixture(scope="session")
def images():
    """Grey or colour images with 256 levels: `images(5, (3, 6, 5))`."""

    def draw(n, shape, seed=0):
        levels = torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(seed))
        return levels.float() / 255

    return draw


@pytest.fixture(scope="module")
def browser():
    """Debian's chromium, by playwright."""
    chromium = program("chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        opened = p.chromium.launch(executable_path=chromium, args=[
            "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--no-first-run"])
        yield opened
        opened.close()


@pytest.fixture
def adds_only():
    """Trains a stage after a model, and asserts that weights and the random state stay and that one module is added."""
    def check(sampler, module, fit):
        before, state = {k: v.clone() for k, v in sampler.tensors().items()}, torch.get_rng_state()
        fit(sampler)
        assert torch.equal(torch.get_rng_state(), state)
        after = sampler.tensors()
        assert all(torch.equal(v, after[k]) for k, v in before.items())
        assert len(after) > len(before) and all(k.startswith(f"{module}.") for k in after.keys() - before.keys())

    return check


def trained_stage(name, sampler, recipe, x, y=None, **budget):
    """Trains one stage as the recipe says and puts it into the sampler; returns its part call, None for 'none'."""
    from reparam.trainer.stages.base import Data, StageBudget
    from reparam.trainer.stages.sequence import STAGES, fit_stages

    stages = [stage for stage in STAGES if stage.name == name]
    return fit_stages(sampler, recipe, Data(x, y), lambda _: StageBudget(**budget), stages=stages).get(name)


@pytest.fixture(scope="session")
def explorable(tmp_path_factory):
    """The folder of a run of the digits, as training leaves it, but of a model that has learned nothing:
    `explorable(prior="vamp", stages={"fitted_prior": "mixture(3)"})`."""

    def make(*, data="digits", stages=None, **changes):
        from reparam.data.open import open_images
        from reparam.data.stream import to_batch
        from reparam.models.codes import latent_axes
        from reparam.models.sampler import build_sampler
        from reparam.parts.recipe import Recipe
        from reparam.pretrained.config import Config
        from reparam.pretrained.files import save_model
        from reparam.runs.folder import DataOptions, Run

        images, folder = open_images(data), tmp_path_factory.mktemp("explorable")
        recipe = Recipe(encoder="mlp(hidden=(16,))", decoder="mlp(hidden=(16,))", latent="flat(4)", prior="normal",
                        fitted_prior="none").but(**changes)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            sampler = build_sampler(recipe, (1, 8, 8), stages or {}).eval()
            for p in sampler.parameters():
                p.add_(0.3 * torch.randn_like(p))
            axes = latent_axes(sampler.model, to_batch(images.images[:100]))
        save_model(folder, sampler, Config(recipe, (1, 8, 8), axes, images.classes, stages=stages or {}))
        Run(folder, data, DataOptions(), recipe, "finished", images.fingerprint).save()
        return folder

    return make
