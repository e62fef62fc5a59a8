"""What every registered part promises: shapes, dtypes, gradients, storage and compilation. Parts are found by role."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import COMPANIONS
from safetensors.torch import load_file, save_file

from reparam.data.augment import LEAVES_RANGE
from reparam.distributions.point import Point
from reparam.distributions.quantized import Quantized
from reparam.errors import UsageError
from reparam.models.build import build_model
from reparam.models.draw import Draw
from reparam.models.sampler import Sampler
from reparam.models.space import Space
from reparam.objectives.objective import parse_objective
from reparam.parts.recipe import Recipe
from reparam.parts.registry import ROLES
from reparam.pretrained.config import Config
from reparam.pretrained.files import load_model, save_model
from reparam.pretrained.image_model import ImageModel
from reparam.tensors import fold

IMAGE = (3, 6, 5)
SHAPES = [(1, 28, 28), (3, 32, 32), (5, 9, 15), (1, 8, 8), (3, 17, 64)]
LATENTS = ["flat(6)", "spatial(2, 4)"]
MODEL_ROLES = ["encoder", "decoder", "latent", "posterior", "prior", "likelihood"]
OPTIONS = [
    ("likelihood", "gaussian(sigma='learned')"), ("likelihood", "gaussian(sigma=0.2)"),
    ("likelihood", "laplace(scale='learned')"), ("likelihood", "laplace(scale=0.2)"),
    ("likelihood", "logistic(mixtures=1)"),
    ("likelihood", "gaussian(sigma='per_pixel')"), ("likelihood", "laplace(scale='per_pixel')"),
    ("likelihood", "student(scale='per_pixel')"), ("likelihood", "student(df=1, scale=0.2)"),
    ("encoder", "mlp(hidden=())"), ("decoder", "mlp(hidden=())"),
    ("encoder", "resnet(width=8, attention=2)"), ("decoder", "resnet(width=8, attention=2)"),
    ("encoder", "deep(width=8, blocks=2, attention=2)"), ("decoder", "deep(width=8, blocks=2, attention=2)"),
]
"""Options of a part that change its parameters, tested like parts of their own."""

WITHOUT_DENSITY = {("likelihood", "implicit")}
"""For GANs, which tests/test_adversary.py looks at; here every model is one that has a likelihood."""
FITTED = {("prior", name) for name, part in ROLES["prior"].parts.items() if not part.joint}
"""Not learned with a model but fitted to its codes, which tests/test_fit_prior.py looks at."""
UNNORMALISED = {"riemannian"}
"""Priors of which densities are known up to a constant, and draws."""
PARTS = [(role, name) for role in MODEL_ROLES for name in sorted(ROLES[role].parts)
         if (role, name) not in WITHOUT_DENSITY | FITTED]
CASES = PARTS + OPTIONS
every_part = pytest.mark.parametrize(("role", "part"), CASES, ids=[f"{r}-{p}" for r, p in CASES])
every_term = pytest.mark.parametrize("name", sorted(ROLES["term"].parts))


def companions(role, part):
    """Recipe fields that go with a part."""
    return COMPANIONS.get((role, part.partition("(")[0]), {})


def model_for(term):
    """Recipe fields of a model that the term can read."""
    return {k: v for k, v in companions("term", term).items() if k != "objective"}


def objective_with(role, part):
    """What a model with this part is trained on."""
    return parse_objective(companions(role, part).get("objective", "nll + kl"))


@pytest.fixture
def fields_of(written):
    """Recipe fields of a small model with one part exchanged for the one under test."""
    return lambda role, part: {**companions(role, part), role: part if "(" in part else written(ROLES[role], part)}


@pytest.fixture
def model_of(small, fields_of):
    """A small model with one part exchanged for the one under test."""
    return lambda role, part, image_shape=IMAGE: small(image_shape, **fields_of(role, part))


@pytest.fixture
def recipe_of(fields_of):
    """Its recipe."""
    base = Recipe(encoder="mlp(hidden=(16,))", decoder="mlp(hidden=(16,))", latent="flat(4)",
                  likelihood="gaussian(sigma=0.3)")
    return lambda role, part: base.but(**fields_of(role, part))


@pytest.fixture
def objective_of(written):
    """An objective with one term, beside the likelihood's unless it is that."""

    def parse(name):
        text = written(ROLES["term"], name)
        default = text if name == "nll" else f"nll + {text}"
        return parse_objective(companions("term", name).get("objective", default))

    return parse


@pytest.mark.parametrize("shape", [(1, 5, 4), IMAGE, (5, 7, 9)], ids=str)
@pytest.mark.parametrize("samples", [1, 5])
@every_part
def test_a_trace_has_one_number_per_sample_and_example(role, part, samples, shape, model_of, images):
    model, x = model_of(role, part, shape), images(2, shape)
    trace = model(x, samples=samples)
    assert trace.x is x
    assert trace.log_px.shape == (samples, 2)
    assert trace.log_px.dtype == torch.float32
    assert trace.log_px.isfinite().all()
    for layer in trace.layers:
        assert layer.z.shape[:2] == (samples, 2)
        assert layer.q.log_prob(layer.z).shape == (samples, 2)
        assert layer.p.log_prob(layer.z).shape == (samples, 2)
        assert layer.q.log_prob(layer.z).isfinite().all()
        assert layer.p.log_prob(layer.z).isfinite().all()
    assert trace.px.mean.shape == (samples, 2, *shape)
    for leading in [(), (4,)]:
        drawn = trace.px.sample(leading)
        assert drawn.shape == (*leading, samples, 2, *shape)
        assert not drawn.requires_grad
        if role == "likelihood":
            assert trace.px.log_prob(drawn).shape == (*leading, samples, 2)


@every_part
def test_a_part_makes_nothing_on_another_device(role, part, model_of, images):
    """With torch's default elsewhere, what is made without naming a device fails beside the model's, as beside a GPU."""
    model, x = model_of(role, part), images(2, IMAGE)
    with torch.device("meta"):
        trace = model(x, samples=2)
        parts = [layer.q.log_prob(layer.z) for layer in trace.layers]
        drawn = [trace.px.sample(), model.decode(model.latent.generate(3)).mean]
    assert all(made.device == x.device for made in (trace.log_px, *parts, *drawn))


@every_part
def test_importance_samples_differ(role, part, model_of, images):
    z, q, _ = model_of(role, part)(images(2, IMAGE), samples=2).layers[0]
    assert torch.equal(z[0], z[1]) == isinstance(q, Point | Quantized)


@every_part
def test_generated_latents_have_the_shape_of_inferred_ones(role, part, model_of, images):
    model = model_of(role, part).eval()
    x = images(3, IMAGE)
    generated = model.latent.generate(3)
    for code in (generated, model.encode(x)[None], model.encode(x, sample=True)[None]):
        assert code.shape == (1, 3, *model.latent.shape)
        assert code.dtype == torch.float32
        assert model.latent.read(code).shape == model(x).decoder_input.shape == (1, 3, *model.latent.decoder_input)
        assert model.decode(code).mean.shape == (1, 3, *IMAGE)
    assert not generated.requires_grad
    if model.latent.space.kind != "real" or model.latent.classes:
        return
    drawn = []
    for temperature in (1.0, 0.5, 0.0):
        torch.manual_seed(7)
        drawn.append(model.latent.generate(3, Draw(temperature)))
    torch.manual_seed(7)
    assert torch.equal(drawn[0], model.latent.generate(3))
    assert all(z.shape == generated.shape and z.isfinite().all() for z in drawn)
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])


@every_part
def test_no_density_changes_under_autocast(role, part, model_of, images):
    model, x = model_of(role, part), images(2, IMAGE)
    with torch.autocast("cpu", torch.bfloat16):
        trace = model(x, samples=3)
        low = [trace.log_px] + [d.log_prob(z) for z, *both in trace.layers for d in both]
    for layer in trace.layers:
        assert layer.z.dtype == (torch.int64 if model.latent.space.kind == "codes" else torch.float32)
    assert trace.px.mean.dtype == torch.float32
    high = [trace.px.log_prob(x)] + [d.log_prob(z) for z, *both in trace.layers for d in both]
    for a, b in zip(low, high, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


@every_part
def test_the_gradient_reaches_every_parameter(role, part, model_of, images):
    model = model_of(role, part)
    objective_with(role, part)(model(images(4, IMAGE), samples=2)).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.any(), name


@every_part
def test_a_loaded_model_is_bit_equal(role, part, model_of, images, tmp_path):
    model, x = model_of(role, part), images(2, IMAGE)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "model.safetensors")
    other = model_of(role, part)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    for train in (True, False):
        traces = []
        for m in (model, other):
            torch.manual_seed(1)
            traces.append(m.train(train)(x, samples=2))
        assert torch.equal(traces[0].log_px, traces[1].log_px)
        assert torch.equal(traces[0].layers[0].z, traces[1].layers[0].z)
        assert torch.equal(*(t.layers[0].p.log_prob(t.layers[0].z) for t in traces))


@every_part
def test_a_model_file_holds_all_of_a_model(role, part, recipe_of, images, tmp_path):
    """Also what no weight tells: a model is laid out without memory first, and only files fill it."""
    recipe, x = recipe_of(role, part), images(2, IMAGE)
    model = build_model(recipe, IMAGE).eval()
    save_model(tmp_path, Sampler(model), Config(recipe, IMAGE))
    loaded, _ = load_model(tmp_path)
    codes, pixels = [], []
    for m in (model, loaded.model):
        torch.manual_seed(1)
        codes.append(m.latent.generate(2))
        pixels.append(m.decode(codes[-1]).mean + m(x).log_px.mean())
    assert torch.equal(*codes)
    assert torch.equal(*pixels)
    scores = ImageModel(loaded, Config(recipe, IMAGE)).score(x.numpy(), samples=2)
    assert scores.shape == (2,)


def compiled_agrees(model, objective, x, backend):
    torch._dynamo.reset()

    def step(x):
        return objective.parts(model(x, samples=objective.samples))

    before = copy.deepcopy(model.state_dict())  # a codebook learns as it runs
    torch.manual_seed(1)
    expected = step(x)
    model.load_state_dict(before)
    torch.manual_seed(1)
    got = torch.compile(step, fullgraph=True, backend=backend)(x)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-3)
    got.sum().backward()


@pytest.mark.usefixtures("unhooked")
@every_part
def test_each_part_compiles_as_one_graph(role, part, model_of, images):
    compiled_agrees(model_of(role, part), objective_with(role, part), images(2, IMAGE), "eager")


@pytest.mark.usefixtures("unhooked")
@every_term
def test_each_term_compiles_as_one_graph(name, small, objective_of, images):
    compiled_agrees(small(IMAGE, **model_for(name)), objective_of(name), images(2, IMAGE), "eager")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, on the way to its compiler
@pytest.mark.usefixtures("unhooked")
def test_a_model_compiles_to_machine_code(small, images):
    with torch._inductor.config.patch(fallback_random=True):
        compiled_agrees(small(IMAGE), parse_objective("nll + kl"), images(2, IMAGE), "inductor")


@pytest.mark.parametrize("samples", [1, 5])
@every_term
def test_a_term_gives_one_number_per_example(name, samples, small, objective_of, images):
    model, objective = small(IMAGE, **model_for(name)), objective_of(name)
    trace = model(images(3, IMAGE), samples=max(samples, objective.samples))
    _, term = objective.terms[-1]
    assert term.name == parse_objective(str(objective)).terms[-1][1].name
    values = term(trace)
    assert values.shape == (3,)
    assert values.dtype == torch.float32
    assert values.isfinite().all()
    assert objective.parts(trace).shape == (len(objective.terms),)


@every_term
def test_the_gradient_of_an_objective_reaches_every_parameter(name, small, objective_of, images):
    model, objective = small(IMAGE, **model_for(name)), objective_of(name)
    objective(model(images(4, IMAGE), samples=objective.samples)).backward()
    for parameter, p in model.named_parameters():
        assert p.grad is not None, parameter
        assert p.grad.isfinite().all(), parameter
        assert p.grad.any(), parameter


@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", sorted(ROLES["encoder"].parts))
def test_encoders_take_images_of_any_shape(name, shape, latent, written, images):
    plan = ROLES["latent"].make(latent, shape)
    for text in dict.fromkeys([name, written(ROLES["encoder"], name)]):
        encoder = ROLES["encoder"].make(text, shape, plan.grid)
        h = encoder(images(2, shape))
        assert h.shape == (2, *encoder.features)
        if plan.grid and len(encoder.features) == 3:
            assert encoder.features[1:] == plan.grid


@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", sorted(ROLES["decoder"].parts))
def test_decoders_make_images_of_any_shape(name, shape, latent, written):
    plan = ROLES["latent"].make(latent, shape)
    out = (2 * shape[0], *shape[1:])
    for text in dict.fromkeys([name, written(ROLES["decoder"], name)]):
        decoder = ROLES["decoder"].make(text, plan.shape, out)
        assert fold(decoder, torch.randn(2, 3, *plan.shape)).shape == (2, 3, *out)


@pytest.mark.parametrize("factor", [1, 2, 8])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 4, 64), (1, 1, 16), (1, 64, 3)], ids=str)
def test_a_spatial_latent_fits_every_power_of_two(shape, factor, small, images):
    """Also where the shorter side is down to one long before the longer one is."""
    model = small(shape, encoder="conv(width=4)", decoder="conv(width=4)", latent=f"spatial(1, {factor})")
    h, w = -(-shape[1] // factor), -(-shape[2] // factor)
    assert model(images(1, shape)).layers[0].z.shape == (1, 1, 1, h, w)


def test_a_spatial_latent_off_the_pyramid_says_which_factor_fits(small):
    with pytest.raises(UsageError, match="power of two"):
        small((1, 28, 28), encoder="conv", latent="spatial(2, 3)")


@pytest.mark.parametrize("shape", [(1, 0, 5), (1, 5, 513)])
def test_images_out_of_range_are_refused(shape, small):
    with pytest.raises(UsageError, match="sides from 1 to 512"):
        small(shape)


@pytest.mark.parametrize("shape", [(1,), (2,), (5,), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("name", sorted(ROLES["prior"].parts))
def test_priors_take_latents_of_any_shape(name, shape, written, space_of):
    prior = ROLES["prior"].make(written(ROLES["prior"], name), space_of(name, shape))
    p = prior()
    assert p.mean.shape == shape
    for leading in [(), (1,), (2, 3)]:
        z = p.sample(leading)
        assert z.shape == (*leading, *shape)
        assert p.relative_log_prob(z).shape == leading
        if name in UNNORMALISED:
            with pytest.raises(UsageError, match="up to a constant"):
                p.log_prob(z)
        else:
            assert p.log_prob(z).shape == leading


@pytest.mark.parametrize("name", sorted(ROLES["prior"].parts))
def test_a_prior_draws_nothing_when_asked_for_nothing(name, written, space_of):
    prior = ROLES["prior"].make(written(ROLES["prior"], name), space_of(name, (2,)))
    assert prior().sample((1, 0)).shape == (1, 0, 2)


def test_a_fitted_prior_replaces_the_learned_one_for_sampling_only(small, images):
    model = small()
    mixture = ROLES["prior"].make("mixture(1)", Space((4,)))
    with torch.no_grad():
        mixture.locs.fill_(100.0)
    sampler = Sampler(model, {"fitted_prior": mixture})
    assert sampler.codes(8).mean() > 50
    assert sampler.codes(8, Draw(fitted=False)).mean() < 50
    z, _, p = model(images(2, (1, 4, 4))).layers[0]
    torch.testing.assert_close(p.log_prob(z), torch.distributions.Normal(0, 1).log_prob(z).sum(-1))


@pytest.mark.parametrize("name", sorted(ROLES["likelihood"].parts))
def test_a_likelihood_calibrates_and_says_what_it_is(name, written, images):
    likelihood = ROLES["likelihood"].make(written(ROLES["likelihood"], name), IMAGE)
    assert isinstance(likelihood.discrete, bool)
    x = images(4, IMAGE)
    with torch.no_grad():
        likelihood.calibrate(x * 0.9, x)
    px = likelihood.eval()(torch.randn(2, 4, likelihood.channels, *IMAGE[1:]))
    assert likelihood.has_density == (("likelihood", name) not in WITHOUT_DENSITY)
    if likelihood.has_density:
        assert px.log_prob(x).shape == (2, 4)
    else:
        with pytest.raises(UsageError, match="needs a density"):
            px.log_prob(x)


@pytest.mark.parametrize("name", sorted(ROLES["likelihood"].parts))
def test_a_likelihood_reads_every_channel(name, written, images):
    likelihood = ROLES["likelihood"].make(written(ROLES["likelihood"], name), IMAGE)
    params = torch.randn(1, 4, likelihood.channels, *IMAGE[1:], requires_grad=True)
    px = likelihood(params)
    (px.mean if ("likelihood", name) in WITHOUT_DENSITY else px.log_prob(images(4, IMAGE))).sum().backward()
    assert params.grad.transpose(0, 2).flatten(1).any(1).all()


@pytest.mark.parametrize("name", sorted(ROLES["optimizer"].parts))
def test_an_optimizer_goes_down(name, written):
    p = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = ROLES["optimizer"].make(written(ROLES["optimizer"], name), [p])
    before = p.detach().clone()
    for _step in range(20):
        optimizer.zero_grad()
        (p**2).sum().backward()
        optimizer.step()
    assert (p.abs() < before.abs()).all()


@pytest.mark.parametrize("name", sorted(ROLES["schedule"].parts))
def test_a_schedule_is_a_fraction_of_the_peak(name, written):
    factor = ROLES["schedule"].make(written(ROLES["schedule"], name))
    assert all(0 < factor(i / 200) <= 1 for i in range(201))
    assert max(factor(i / 200) for i in range(201)) == 1


@pytest.mark.parametrize("name", sorted(ROLES["weight"].parts))
def test_a_weight_is_a_number_that_prints_as_it_is_written(name, written):
    text = f"{written(ROLES['weight'], name)}*kl"
    objective = parse_objective(text)
    assert all(isinstance(w, int | float) for i in range(11) for w in objective.weights(i / 10))
    again = parse_objective(str(objective))
    assert all(again.weights(i / 10) == objective.weights(i / 10) for i in range(11))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 9)], ids=str)
@pytest.mark.parametrize("name", sorted(ROLES["augmentation"].parts))
def test_an_augmentation_keeps_shape_and_range(name, shape, written, images):
    apply = ROLES["augmentation"].make(written(ROLES["augmentation"], name))
    x = images(16, shape)
    kept = x.clone()
    y = apply(x)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert (y.min() >= 0 and y.max() <= 1) or name in LEAVES_RANGE
    assert not torch.equal(y, x)
    assert torch.equal(x, kept)


def test_one_name_holds_one_part():
    with pytest.raises(UsageError, match="registered already"):
        ROLES["prior"]("normal")(lambda shape: None)


EXPORTED = {"encoder": ("encoder",), "posterior": ("encoder", "decoder"), "latent": ("encoder", "decoder", "draws"),
            "prior": ("draws",), "decoder": ("decoder",), "likelihood": ("decoder",)}
"""What an exported model computes by the parts of a role."""


class Program(torch.nn.Module):
    """A function of a model as a module, which torch.export takes."""

    def __init__(self, model, compute):
        super().__init__()
        self.model, self.compute = model, compute

    def forward(self, x):
        return self.compute(self.model, x)


FOLLOWING = {("posterior", "hamiltonian")}
"""They take gradients as they infer, which no such program does; tests/test_hamiltonian.py looks at what is said then."""


@pytest.mark.parametrize(("role", "part"), [case for case in CASES if case[0] in EXPORTED and case not in FOLLOWING])
def test_models_are_exported_for_any_number_of_images(role, part, model_of, images):
    """Encoder, decoder and draws from noise as programs without Python in them, traced with two images and run with five."""
    model = model_of(role, part).eval()
    programs = {"encoder": (lambda m, x: m.encode(x), images(5, IMAGE)),
                "decoder": (lambda m, z: m.decode(z[None]).mean[0], model.latent.generate(5)[0]),
                "draws": (lambda m, u: m.latent.from_noise(u), model.latent.noise(5))}
    for name in EXPORTED[role]:
        compute, five = programs[name]
        with torch.no_grad():
            whole = torch.export.export(Program(model, compute), (five[:2],), dynamic_shapes=(
                {0: torch.export.Dim("images", min=1, max=4096)},), strict=False)
            torch.testing.assert_close(whole.module()(five), compute(model, five), rtol=1e-4, atol=1e-4)
