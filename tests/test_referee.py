"""The referee of samples: neighbours against other implementations, and every metric under graded harm."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch import nn

from reparam.cli import app as cli
from reparam.errors import DataError, UsageError
from reparam.functional.neighbours import authentic, copied, duplicated, nearer_to_training, nearest, prdc
from reparam.functional.spectrum import as_smooth_as, high_frequencies
from reparam.metrics import STANDARD, measure, quick
from reparam.metrics import class_balance as balance
from reparam.metrics.evaluation import Evaluation, FactorTable
from reparam.metrics.factors import match, read_table
from reparam.models.sampler import Sampler
from reparam.models.vae import Generator
from reparam.runs.train import train


class Pixels:
    """Features that are the pixels."""

    name, resize, standard = "pixels", "as they are", False

    def embed(self, x):
        return x.flatten(1)


def draw(n, d=10, *, shift=0.0, seed=0):
    return torch.from_numpy(np.random.default_rng([seed, n]).normal(size=(n, d)) + shift)


# Neighbours


def test_neighbours_are_scikit_learns():
    a, b = draw(1300, 7), draw(400, 7, seed=1)
    distance, rows = NearestNeighbors(n_neighbors=3).fit(b).kneighbors(a)
    found = nearest(a, b, k=3)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-9)
    np.testing.assert_array_equal(found.rows, rows)
    distance, rows = NearestNeighbors(n_neighbors=3).fit(a).kneighbors()
    np.testing.assert_array_equal(nearest(a, k=3).rows, rows)
    np.testing.assert_allclose(nearest(a, k=3).distance, distance, rtol=1e-9)


@pytest.mark.parametrize(("n", "m", "k", "shift"), [(300, 300, 5, 0.3), (120, 1100, 3, 0.0), (1100, 90, 1, 0.6)])
def test_prdc_equals_its_authors_package(n, m, k, shift, capsys):
    real, samples = draw(n), draw(m, shift=shift, seed=1)
    expected = compute_prdc(real.numpy(), samples.numpy(), nearest_k=k)
    for name, values in prdc(real, samples, k=k)._asdict().items():
        assert values.mean().item() == pytest.approx(expected[name], abs=5e-5), name


def test_prdc_of_features_with_many_equal_distances(digits):
    """Of pixels with 17 levels, moved as a whole so that no sum is exact: an image at the radius itself is outside."""
    (real, _), _, (samples, _) = digits
    a, b = (x.flatten(1).double() for x in (real, samples))
    whole = [torch.cdist(16 * one, 16 * other, compute_mode="donot_use_mm_for_euclid_dist").square().round()
             for one, other in ((a, a), (b, b), (a, b))]
    radii = [d.fill_diagonal_(torch.inf).kthvalue(5, 1).values for d in whole[:2]]
    inside, reached = whole[2] < radii[0][:, None], whole[2] < radii[1]
    expected = inside.any(0), reached.any(1), inside.sum(0) / 5, inside.any(1)
    assert (whole[2] == radii[0][:, None]).sum() > 5
    for shift in (0.0, 0.1, 100 / 3):
        for found, right in zip(prdc(a + shift, b + shift), expected, strict=True):
            torch.testing.assert_close(found, right.double())


def test_density_and_coverage_of_equal_distributions_are_as_published():
    """1 and 1 − 2^−k (Naeem et al., 2020, section 3.3)."""
    runs = [prdc(draw(1000, 4, seed=i), draw(1000, 4, seed=i + 50), k=3) for i in range(8)]
    assert np.mean([r.density.mean() for r in runs]) == pytest.approx(1, abs=0.03)
    assert np.mean([r.coverage.mean() for r in runs]) == pytest.approx(1 - 2**-3, abs=0.01)


def test_memorisation_is_by_nearest_distances():
    t, h, s = draw(200, 4), draw(200, 4, seed=1), draw(150, 4, seed=2)
    near_t, near_h = (NearestNeighbors(n_neighbors=1).fit(x).kneighbors(s) for x in (t, h))
    own = NearestNeighbors(n_neighbors=1).fit(t).kneighbors()[0][:, 0]
    np.testing.assert_array_equal(authentic(s, t), near_t[0][:, 0] > own[near_t[1][:, 0]])
    np.testing.assert_array_equal(nearer_to_training(s, t, h).each, (near_t[0] < near_h[0])[:, 0])
    fair = NearestNeighbors(n_neighbors=1).fit(t).kneighbors(h)[0][:, 0]
    expected = roc_auc_score(np.repeat([1, 0], [150, 200]), -np.concatenate([near_t[0][:, 0], fair]))
    assert copied(s, t, h).value == pytest.approx(expected)
    assert authentic(t, t).sum() == 0 and nearer_to_training(t, t, h).each.mean() == 1 and copied(t, t, h).value == 1
    assert 0.4 < nearer_to_training(s, t, h).each.mean() < 0.6
    assert nearer_to_training(s, t, t).each.unique().tolist() == [0.5]
    with pytest.raises(UsageError, match="as many"):
        nearer_to_training(s, t, h[:100])


def test_an_extrapolation_of_too_few_images_is_refused():
    """64 features need 256 images: of fewer, two halves of one set are told apart."""
    evaluation = Evaluation(Sampler(None), torch.rand(255, 1, 8, 8), features=Pixels())
    vars(evaluation)["samples"] = torch.rand(255, 1, 8, 8)
    with pytest.raises(UsageError, match="fd_inf of 64 features needs 256 images"):
        measure(evaluation, "fd_inf")


def test_chance_makes_no_imbalance_and_no_class_missing():
    rng = np.random.default_rng(0)
    even, rare = np.full(10, 0.1), np.r_[0.01, np.full(9, 0.11)]
    for n in (64, 500, 2000):
        pairs = [(rng.multinomial(n, even), rng.multinomial(n, even)) for _ in range(20)]
        plain = np.mean([0.5 * np.abs(p - q).sum() / n for p, q in pairs])
        found = np.mean([balance.imbalance(p, q).value for p, q in pairs])
        assert found < plain / 2
        assert not any(balance.missing(rng.multinomial(n, rare), rng.multinomial(n, rare)) for _ in range(100))
    gone = np.r_[0, 0, np.full(8, 62)]
    assert balance.missing(gone, np.full(10, 50)) == 2
    assert balance.imbalance(gone, np.full(10, 50)).value == pytest.approx(0.2, abs=0.01)
    assert balance.imbalance(gone, gone).value == 0


def test_duplicates_are_counted():
    real = draw(500, 4)
    varied = draw(500, 4, seed=1)
    assert duplicated(varied, real).double().mean() < 0.04
    half = torch.cat([varied[:250], varied[:250] + 1e-6])
    assert duplicated(half, real).all()
    assert not duplicated(varied * 100, real).any()


def test_high_frequencies_split_the_mean_square():
    x = torch.rand(3, 2, 8, 10)
    u, v = np.meshgrid(np.fft.fftfreq(8), np.fft.fftfreq(10), indexing="ij")
    low = np.fft.ifft2(np.fft.fft2(x.numpy()) * (np.hypot(u, v) <= 0.25)).real
    expected = ((x.numpy() - low) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(high_frequencies(x), expected, rtol=1e-5)
    waves = torch.cos(torch.pi * torch.arange(16)).expand(1, 1, 16, 16)
    assert high_frequencies(waves).item() == pytest.approx(1) and high_frequencies(torch.ones(1, 1, 9, 9)).item() < 1e-20


def natural(n, seed):
    """Pictures whose spectrum falls with frequency, (n, 3, 32, 32), no two alike."""
    rng = np.random.default_rng(seed)
    f = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.fftfreq(32)) + 1 / 64
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, 3, 32, 32))) / f).real
    return torch.from_numpy(0.5 + 0.15 * noise / noise.std()).float().clamp(0, 1)


@pytest.mark.parametrize("factor", [4, 8])
def test_blur_is_no_repetition(factor):
    """Different pictures averaged over blocks: near one another in pixels, and yet none repeats another."""

    def soft(x):
        return torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(x, factor), scale_factor=factor,
                                               mode="bilinear")

    real, varied = natural(300, 0), natural(300, 1)
    repeated = torch.cat([varied[:200], varied[:5].repeat(20, 1, 1, 1)])
    values = []
    for samples in (soft(varied), soft(repeated)):
        evaluation = Evaluation(Sampler(None), real, features=Pixels())
        vars(evaluation)["samples"] = samples
        values.append(measure(evaluation, "duplicates")[0].value)
        assert duplicated(samples.flatten(1), real.flatten(1)).double().mean() > 0.4  # what sharp images would say
    assert values[0] < 0.06 and values[1] > 0.3


def test_images_take_the_blur_of_their_own_blurred_copies():
    x = natural(40, 2)
    soft = blurred(x, 1.5)
    torch.testing.assert_close(as_smooth_as(x, soft), soft, atol=0.03, rtol=0)
    torch.testing.assert_close(as_smooth_as(x, x), x, atol=1e-5, rtol=0)
    grainy = as_smooth_as(soft, x)
    torch.testing.assert_close(grainy, soft, atol=1e-5, rtol=0)  # nothing is added


# Graded harm


@pytest.fixture(scope="module")
def digits():
    """Training, held-out and sample digits (599, 1, 8, 8) with their classes; no image is in two of them."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(1797)
    x = torch.from_numpy(data.images[order] / 16).float()[:, None]
    y = torch.from_numpy(data.target[order])
    return [(x[i : i + 599], y[i : i + 599]) for i in (0, 599, 1198)]


@pytest.fixture(scope="module")
def one_classifier():
    """Trains the classifier of class_balance once for the same images, which gives the same one every time."""
    made, original = {}, balance.classifier

    def cached(x, y, classes):
        key = (len(x), float(x.double().sum()), classes)
        if key not in made:
            made[key] = original(x, y, classes)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(balance, "classifier", cached)
        yield


@pytest.fixture
def judged(digits, small, one_classifier):
    """Figures of given samples, as if a model had drawn them: `judged("fd, kd", samples)`."""
    (known, known_y), (x, y), _ = digits
    model = small((1, 8, 8))

    def figures(metrics, samples, *, rebuilt=None):
        evaluation = Evaluation(Sampler(model), x, y, train_images=known, train_labels=known_y, features=Pixels())
        vars(evaluation)["real"] = x[: len(samples)]
        vars(evaluation)["samples"] = vars(evaluation)["prior_samples"] = samples
        vars(evaluation)["reconstructions"] = x if rebuilt is None else rebuilt
        return {f.name: f for f in measure(evaluation, metrics)}

    return figures


def blurred(x, sigma):
    return torch.from_numpy(gaussian_filter(x.numpy(), (0, 0, sigma, sigma)))


def noisy(x, sigma):
    return (x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


SETS = "fd, fd_inf, kd, prdc, vendi, duplicates, sharpness, memorisation"
WAYS = {
    "blur": {"fd": 1, "fd_inf": 1, "kd": 1, "precision": -1, "recall": -1, "density": -1, "coverage": -1, "vendi": -1,
             "sharpness": -1},
    "noise": {"fd": 1, "fd_inf": 1, "kd": 1, "precision": -1, "density": -1, "coverage": -1, "vendi": 1, "sharpness": 1},
    "classes dropped": {"fd": 1, "kd": 1, "recall": -1, "coverage": -1, "vendi": -1, "class_balance": 1,
                        "classes missing": 1},
    "repeated": {"fd": 1, "kd": 1, "recall": -1, "coverage": -1, "vendi": -1, "duplicates": 1},
    "memorised": {"authenticity": -1, "memorisation": 1, "copying AUC": 1},
    "blurred reconstructions": {"psnr": -1, "ssim": -1, "fd of reconstructions": 1},
}
"""Which way a figure must go when samples become worse: +1 up, −1 down, at every step."""
BLIND = {("blur", "precision"), ("blur", "density"), ("blur", "coverage")}
"""Where a figure does not: slightly blurred samples lie nearer to the mean, where real images are dense, so that more lie in
their neighbourhoods, not fewer. These fall under strong blur only; the authors' own package gives the same numbers."""


def graded(harm, digits, judged):
    """Figures under growing harm, and what its grades are called."""
    (known, _), (x, _), (samples, classes) = digits
    if harm == "blur":
        return [0, 0.4, 0.6, 1], [judged(SETS, blurred(samples, s)) for s in (0, 0.4, 0.6, 1)]
    if harm == "noise":
        return [0, 0.1, 0.2, 0.4], [judged(SETS, noisy(samples, s)) for s in (0, 0.1, 0.2, 0.4)]
    if harm == "classes dropped":
        kept = [samples[classes >= k][:160] for k in (0, 3, 5, 7)]
        return [0, 3, 5, 7], [judged(f"{SETS.replace(' fd_inf,', '')}, class_balance", each) for each in kept]
    if harm == "repeated":
        distinct = [samples[:n] for n in (599, 450, 300, 150)]
        mixed = [torch.cat([d, d[:12].repeat(50, 1, 1, 1)])[:599] for d in distinct]
        return ["0 %", "25 %", "50 %", "75 %"], [judged(SETS, noisy(each, 0.01)) for each in mixed]
    if harm == "memorised":
        mixed = [torch.cat([noisy(known, 0.02)[:n], samples[n:]]) for n in (0, 150, 300, 599)]
        return ["0 %", "25 %", "50 %", "100 %"], [judged(SETS, each) for each in mixed]
    return [0.3, 0.5, 1], [judged("fd, psnr, ssim", samples, rebuilt=blurred(x, s)) for s in (0.3, 0.5, 1)]


@pytest.mark.parametrize("harm", list(WAYS))
def test_every_metric_moves_the_right_way(harm, digits, judged, capsys):
    grades, figures = graded(harm, digits, judged)
    lines = [f"{harm:24}" + "".join(f"{grade!s:>10}" for grade in grades)]
    wrong = []
    for name in figures[0]:
        values = [f[name].value for f in figures]
        way = WAYS[harm].get(name)
        lines.append(f"  {name:22}" + "".join(f"{v:10.4g}" for v in values) + {1: "  up", -1: "  down", None: ""}[way])
        if way and not all(way * (b - a) > 0 for a, b in pairwise(values)):
            wrong.append(name)
    print("\n".join(lines))
    assert {(harm, name) for name in wrong} == {pair for pair in BLIND if pair[0] == harm}
    assert WAYS[harm].keys() <= figures[0].keys()
    for name in wrong:  # even these see the strongest
        assert WAYS[harm][name] * (figures[-1][name].value - figures[0][name].value) > 0


def test_no_harm_shows_as_none(digits, judged):
    f = judged(SETS, digits[2][0])
    assert abs(f["sharpness"].value) < 0.5 and 0.9 < f["density"].value < 1.1
    assert f["memorisation"].interval[0] < 0.5 < f["memorisation"].interval[1]
    assert f["duplicates"].value < 0.03 and f["copying AUC"].interval[0] < 0.5 < f["copying AUC"].interval[1]
    assert abs(f["authenticity"].value - f["authenticity of real images"].value) < 0.08
    assert abs(f["fd_inf"].value) < f["fd"].value / 3
    assert f["vendi"].value == pytest.approx(f["vendi of real images"].value, rel=0.05)


# What a model is given, and what it is not


def test_figures_of_sets_name_their_network_and_warn_first(judged, digits):
    for figure in judged(SETS, digits[2][0]).values():
        assert figure.n == 599 and figure.warning.startswith("only 599 images and as many samples")
        assert str(figure).startswith("WARNING: only 599")
        assert figure.interval is not None and figure.interval[0] <= figure.value <= figure.interval[1]
        if figure.name != "sharpness":
            assert (figure.features, figure.resize) == ("pixels", "as they are")
            assert "pixels, as they are" in str(figure) and figure.to_dict()["features"] == "pixels"
    evaluation = Evaluation(Sampler(None), torch.rand(3000, 1, 2, 2), features=Pixels())
    vars(evaluation)["samples"] = torch.rand(3000, 1, 2, 2)
    assert measure(evaluation, "kd")[0].warning == ""


def test_only_the_standard_weights_are_called_fid_and_kid(judged, digits, monkeypatch):
    monkeypatch.setattr(Pixels, "standard", True)
    assert judged("fd, kd, fd_inf", digits[2][0]).keys() == {
        "FID", "FID of reconstructions", "FID of prior samples", "KID", "FID_inf"}


def test_distances_of_each_prior_stand_side_by_side(small, digits):
    class Far(nn.Module):
        """A fitted prior far off."""

        def __init__(self, normal):
            super().__init__()
            self.normal = normal

        def forward(self):
            return self

        def noise(self, n):
            return self.normal.noise(n)

        def from_noise(self, u, options):
            return 30 + self.normal.from_noise(u, options)

    model = small((1, 8, 8)).eval()
    evaluation = Evaluation(Sampler(model), digits[1][0], features=Pixels())
    f = {f.name: f.value for f in measure(evaluation, "fd")}
    assert list(f) == ["fd", "fd of reconstructions", "fd of prior samples"] and f["fd"] == f["fd of prior samples"]
    fitted = Sampler(model, {"fitted_prior": Far(model.latent.prior)})
    g = {f.name: f.value for f in measure(Evaluation(fitted, digits[1][0], features=Pixels()), "fd")}
    assert list(g) == ["fd", "fd of reconstructions", "fd of prior samples", "fd of fitted-prior samples"]
    assert g["fd of prior samples"] == f["fd"] and g["fd"] == g["fd of fitted-prior samples"] != f["fd"]
    assert g["fd of reconstructions"] == f["fd of reconstructions"]


def test_samples_are_as_saved_pictures_and_drawn_once(small, digits):
    model, x = small((1, 8, 8)).eval(), digits[1][0]
    evaluation = Evaluation(Sampler(model), x, features=Pixels(), n=300)
    assert evaluation.samples.shape == (300, 1, 8, 8) == evaluation.real.shape
    levels = evaluation.samples * 255
    assert levels.min() >= 0 and levels.max() <= 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    assert evaluation.samples is evaluation.samples and evaluation.embedded("real") is evaluation.embedded("real")
    assert torch.equal(evaluation.real, x[torch.arange(300) * 599 // 300])
    assert torch.equal(Evaluation(Sampler(model), x, n=300).samples, evaluation.samples)


def test_binarised_images_are_not_what_samples_are_compared_with(small, digits):
    x = digits[1][0]
    evaluation = Evaluation(Sampler(small((1, 8, 8))), x.round(), pictures=x, features=Pixels())
    assert torch.equal(evaluation.real, x)


ENCODED = ("elbo", "iw_nll", "psnr", "ssim", "perceptual", "active_units", "prior_auc", "modellable", "mutual_information",
           "accuracy", "codebook_usage", "factors")


@pytest.fixture
def gan(small):
    vae = small((1, 8, 8))
    return Generator(vae.latent, vae.decoder, vae.likelihood).eval()


def test_a_gan_is_measured_by_its_samples_only(gan, digits, one_classifier):
    (known, known_y), (x, y), _ = digits
    table = FactorTable(("digit",), y[:, None], (True,))
    evaluation = Evaluation(Sampler(gan), x, y, train_images=known, train_labels=known_y, features=Pixels(), factors=table,
                            facts={"training_seconds": 3.5, "rollbacks": 1})
    names = {f.name for f in measure(evaluation, STANDARD)}
    assert {"fd", "fd_inf", "kd", "precision", "vendi", "class_balance", "memorisation", "duplicates", "sharpness",
            "training wall time", "rollbacks"} <= names
    assert not names & {"-elbo", "psnr", "ssim", "fd of reconstructions", "mutual_information", "mig"}
    assert measure(evaluation, quick(x.shape), skip_unavailable=True) == []
    for name in ENCODED:
        with pytest.raises(UsageError, match=f"{name}.*: a GAN has no encoder"):
            measure(evaluation, name)


def test_no_likelihood_is_refused_by_name(small, images):
    model, x = small((1, 8, 8), likelihood="implicit"), images(30, (1, 8, 8))
    assert "psnr" in {f.name for f in measure(Evaluation(Sampler(model), x), quick(x.shape), skip_unavailable=True)}
    for name in ("elbo", "iw_nll(3)"):
        with pytest.raises(UsageError, match="no density"):
            measure(Evaluation(Sampler(model), x), name)


def test_a_missing_network_is_told_once_or_refused_by_name(small, digits, monkeypatch):
    import sys

    from reparam.features import load

    load._part.cache_clear()
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    told = []
    figures = measure(Evaluation(Sampler(small((1, 8, 8))), digits[1][0][:60]), STANDARD, told.append)
    assert [t for t in told if "pip install" in t] == [t for t in told if not t.startswith("measuring")] and len(
        [t for t in told if "pip install" in t]) == 1
    assert {"-elbo", "sharpness"} <= {f.name for f in figures} and not any(f.features for f in figures)
    with pytest.raises(UsageError, match=r"fd: .*pip install"):
        measure(Evaluation(Sampler(small((1, 8, 8))), digits[1][0][:60]), "fd")


@pytest.mark.parametrize("name", ["memorisation", "class_balance", "training", "factors"])
def test_what_lacks_its_data_is_refused_by_name(name, small, digits):
    with pytest.raises(UsageError, match=name):
        measure(Evaluation(Sampler(small((1, 8, 8))), digits[1][0], features=Pixels()), name)


# Tables of factors


def table_file(path, text):
    path.write_text(text, encoding="utf-8")
    return read_table(path)


def test_a_table_is_matched_by_name(tmp_path):
    table = table_file(tmp_path / "f.csv", "file,colour,size,fixed,angle\n"
                       + "".join(f"faces/{i}.png,{'red' if i % 2 else 'blue'},{i % 3},x,{i / 100}\n" for i in range(100)))
    found = match(table, [f"faces/{i}.png" for i in (7, 2, 50, 99)])
    assert found.names == ("colour", "size", "angle") and found.categorical == (True, False, False)
    assert found.levels[:, :2].tolist() == [[1, 1], [0, 2], [0, 2], [1, 0]]
    whole = match(table, [f"{i}.png" for i in range(100)])  # by the last part of the name
    assert torch.equal(whole.levels[:, 2], torch.arange(100) // 5)  # 20 ranges of 5
    with pytest.raises(DataError, match=r"'faces/100\.png'"):
        match(table, ["faces/1.png", "faces/100.png"])


@pytest.mark.parametrize("text", ["file\n1\n", "file,a\n", "file,a\nx,1\nx,2\n", "file,a,b\nx,1\n"])
def test_broken_tables_are_refused(tmp_path, text):
    with pytest.raises(DataError):
        table_file(tmp_path / "f.csv", text)
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "none.csv")


# The command


def test_the_command_takes_features_factors_and_a_number(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path / "cache"))
    run = train("digits", out=tmp_path / "run", steps=30, threads=1, precision="float32", encoder="mlp((32,))",
                decoder="mlp((32,))", latent="flat(4)", fitted_prior="mixture(3)")
    target = load_digits().target
    (tmp_path / "f.csv").write_text("image,digit,odd\n" + "".join(f"{i},d{t},{t % 2}\n" for i, t in enumerate(target)))
    np.save(tmp_path / "all.npy", (load_digits().images / 16 * 255).astype(np.uint8))
    command = ["evaluate", str(run.folder), "--features", "wavelets", "-n", "100", "--json"]
    assert cli.main([*command, "--metrics", "fd, memorisation, training"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["protocol"] == 3 and told["measured_on"] == "held-out"
    named = {f["name"]: f for f in told["metrics"]}
    assert {"fd", "fd of fitted-prior samples", "authenticity", "training wall time", "images seen"} <= named.keys()
    assert named["fd"]["n"] == 100 and named["fd"]["features"].startswith("wavelets") and named["fd"]["warning"]
    factors = ["evaluate", str(run.folder), str(tmp_path / "all.npy"), "--factors", str(tmp_path / "f.csv"), "--json",
               "--metrics", "factors"]
    assert cli.main(factors) == 0
    names = [f["name"] for f in json.loads(capsys.readouterr().out)["metrics"]]
    assert names == ["mig", "sap", "dci disentanglement", "dci completeness", "dci informativeness", "factor_vae_score"]
    for wrong, said in ((["--features", "wavelet"], "did you mean"), (["-n", "3"], "at least 20")):
        assert cli.main(["evaluate", str(run.folder), *wrong]) == 2
        assert said in capsys.readouterr().err
