"""Transformers, attention in residual networks, and embeddings of labels, times and places."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from reparam.errors import UsageError
from reparam.nets.embeddings import LabelEmbedding, Modulate, TimeEmbedding, grid_positions, sinusoids
from reparam.nets.layers import Residual, WideLinear
from reparam.nets.r3gan import Bottleneck
from reparam.nets.vit import Attention, FeedForward, OnGrid, Positions
from reparam.objectives.objective import parse_objective
from reparam.parts.registry import ROLES
from reparam.tensors import fold

SMALL = "vit(width=16, depth=2, heads=2)"


def shaken(net, scale=0.3):
    """The net with its parameters moved off their start, where residual branches are silent."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(scale * torch.randn_like(p))
    return net


def test_attention_is_a_softmax_over_tokens():
    layer = shaken(Attention(12, 3)).double()
    x = torch.randn(2, 7, 12).double()
    n = F.layer_norm(x, (12,), layer.norm.weight, layer.norm.bias)
    heads = []
    for i in range(3):
        q, k, v = (n @ w[4 * i : 4 * i + 4].T for w in layer.qkv.weight.split(12))
        weights = (q @ k.transpose(1, 2) / math.sqrt(4)).exp()
        heads.append(weights / weights.sum(-1, keepdim=True) @ v)
    expected = x + torch.cat(heads, -1) @ layer.out.weight.T + layer.out.bias
    torch.testing.assert_close(layer(x), expected)


def test_attention_is_that_of_torch():
    layer, peer = shaken(Attention(12, 3)), nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        peer.in_proj_weight.copy_(layer.qkv.weight)
        peer.in_proj_bias.zero_()
        peer.out_proj.weight.copy_(layer.out.weight)
        peer.out_proj.bias.copy_(layer.out.bias)
    x = torch.randn(2, 7, 12)
    n = layer.norm(x)
    torch.testing.assert_close(layer(x), x + peer(n, n, n)[0])


def test_attention_on_a_processor_is_computed_in_float32_under_autocast(monkeypatch):
    """Where bfloat16 would take several times as long."""
    asked = []
    attend = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *qkv: asked.append(
        ({t.dtype for t in qkv}, torch.is_autocast_enabled("cpu"))) or attend(*qkv))
    layer, x = shaken(Attention(12, 3)), torch.randn(2, 7, 12)
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer(x)
    torch.testing.assert_close(rounded, exact, rtol=0.03, atol=0.03)
    assert asked == [({torch.float32}, False)] * 2


def test_a_block_is_that_of_torch():
    """nn.TransformerEncoderLayer is written independently and is pre-norm when asked."""
    attention, forward = shaken(Attention(12, 3)), shaken(FeedForward(12))
    peer = nn.TransformerEncoderLayer(12, 3, 48, 0.0, "gelu", batch_first=True, norm_first=True)
    with torch.no_grad():
        peer.self_attn.in_proj_weight.copy_(attention.qkv.weight)
        peer.self_attn.in_proj_bias.zero_()
        peer.self_attn.out_proj.load_state_dict(attention.out.state_dict())
        for mine, theirs in ((attention.norm, peer.norm1), (forward.norm, peer.norm2), (forward.first, peer.linear1),
                             (forward.second, peer.linear2)):
            theirs.load_state_dict(mine.state_dict())
    x = torch.randn(2, 7, 12)
    torch.testing.assert_close(forward(attention(x)), peer(x))


def test_only_positions_tell_tokens_apart():
    layers = shaken(OnGrid(Attention(8, 2), FeedForward(8)))
    x, order = torch.randn(2, 8, 3, 5), torch.randperm(15)

    def permuted(x):
        return x.flatten(2)[..., order].unflatten(2, (3, 5))

    torch.testing.assert_close(layers(permuted(x)), permuted(layers(x)))
    placed = OnGrid(Positions((3, 5), 8), *layers.net)
    assert (placed(permuted(x)) - permuted(placed(x))).abs().max() > 0.01


def test_layers_on_a_grid_read_its_positions_row_by_row():
    x = torch.randn(2, 4, 3, 5)
    expected = torch.stack([torch.stack([x[..., i, j] for j in range(5)], 1) for i in range(3)], 1).flatten(1, 2)
    seen = []
    net = OnGrid(nn.Identity())
    net.net[0].register_forward_pre_hook(lambda _, tokens: seen.append(tokens[0]))
    assert torch.equal(net(x), x)
    assert torch.equal(seen[0], expected)


def context(role, image=(1, 9, 15), latent=(2, 3, 4)):
    """What a network of this role is told of the model, and the shape of what it reads."""
    grid = tuple(latent[1:]) if len(latent) == 3 else None
    return ((image, grid), image) if role == "encoder" else ((latent, image), latent)


both = pytest.mark.parametrize("role", ["encoder", "decoder"])


@both
@pytest.mark.parametrize("text", [SMALL, "resnet(width=8, blocks=2, attention=2)"])
def test_residual_branches_start_as_the_identity(role, text):
    given, shape = context(role)
    net = ROLES[role].make(text, *given)
    same = []
    for module in net.modules():
        if isinstance(module, Residual | Attention | FeedForward):
            module.register_forward_hook(lambda _, x, y: same.append(torch.equal(x[0], y)))
    net(torch.randn(2, *shape))
    assert len(same) >= 4
    assert all(same)
    same.clear()
    shaken(net)(torch.randn(2, *shape))
    assert not any(same)


@pytest.mark.parametrize(("size", "tokens"), [
    ((8, 8), (8, 8)), ((28, 28), (7, 7)), ((32, 32), (8, 8)), ((64, 64), (8, 8)), ((128, 128), (16, 16)),
    ((256, 256), (16, 16)), ((9, 15), (5, 8)), ((17, 64), (4, 13)), ((1, 16), (1, 16)), ((256, 1), (64, 1))])
def test_an_image_becomes_few_tokens(size, tokens):
    assert ROLES["encoder"].make("vit(width=4, depth=0)", (1, *size), None).features == (4, *tokens)


@pytest.mark.parametrize("size", [(28, 28), (9, 15), (1, 16), (64, 3), (17, 64)], ids=str)
@pytest.mark.parametrize("factor", [1, 2, 3, 8, 64])
def test_tokens_lie_on_the_grid_of_the_latent(factor, size):
    plan = ROLES["latent"].make(f"spatial(2, {factor})", (3, *size))
    text = "vit(width=8, depth=1, heads=2)"
    encoder = ROLES["encoder"].make(text, (3, *size), plan.grid)
    decoder = ROLES["decoder"].make(text, plan.shape, (3, *size))
    assert encoder(torch.rand(2, 3, *size)).shape == (2, *encoder.features) == (2, 8, *plan.grid)
    assert decoder(torch.randn(2, *plan.shape)).shape == (2, 3, *size)


@pytest.mark.parametrize("size", [(10, 7), (1, 16)], ids=str)
def test_a_token_is_a_square_of_pixels(size):
    patch, (h, w) = 3, (-(-size[0] // 3), -(-size[1] // 3))
    square = torch.tensor([[i // patch * w + j // patch for j in range(size[1])] for i in range(size[0])])
    own = F.one_hot(square, h * w).bool()
    encoder = ROLES["encoder"].make("vit(width=4, depth=0, patch=3)", (1, *size), None)
    x = torch.rand(1, 1, *size, requires_grad=True)
    features = encoder(x)[0]
    assert features.shape == (4, h, w)
    for token, feature in enumerate(features[0].flatten()):
        (g,) = torch.autograd.grad(feature, x, retain_graph=True)
        assert torch.equal(g[0, 0] != 0, own[..., token])
    decoder = ROLES["decoder"].make("vit(width=4, depth=0, patch=3)", (6,), (1, *size))
    y = decoder(torch.randn(1, 6))[0, 0]
    table = next(m for m in decoder.modules() if isinstance(m, Positions)).table
    for i in range(size[0]):
        for j in range(size[1]):
            (g,) = torch.autograd.grad(y[i, j], table, retain_graph=True)
            assert torch.equal((g != 0).any(1), own[i, j])


@pytest.mark.parametrize(("text", "match"), [
    ("vit(patch=3)", "patch=3 cuts a 9×15 image into 3×5 squares, and the latent lies on 3×4"),
    ("vit(patch=-1)", "patch must be"), ("vit(width=6)", "divides its width"), ("vit(heads=0)", "heads must be at least 1"),
    ("vit(depth=-1)", "depth must be from 0 to 64"), ("vit(width=0)", "width must be at least 1"),
    ("resnet(attention=3)", "divides its width"), ("resnet(attention=-1)", "0 leaves attention out"),
    ("resnet(blocks=0, attention=1)", "blocks=0 leaves none")])
@both
def test_a_network_that_cannot_be_is_refused(role, text, match):
    with pytest.raises(UsageError, match=match):
        ROLES[role].make(text, *context(role)[0])


@both
@pytest.mark.parametrize("text", [SMALL, "resnet(width=8, attention=2)"])
@pytest.mark.parametrize("latent", [(6,), (2, 3, 4)])
def test_folded_samples_do_not_mix(role, text, latent):
    given, shape = context(role, latent=latent)
    net, x = shaken(ROLES[role].make(text, *given)), torch.rand(3, 2, *shape)
    torch.testing.assert_close(fold(net, x), torch.stack([net(one) for one in x]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("image", [(1, 28, 28), (3, 9, 15), (5, 1, 16)], ids=str)
@pytest.mark.parametrize("latent", ["flat(3)", "spatial(2, 4)"])
@pytest.mark.parametrize("part", [SMALL, "resnet(width=8, attention=2)"])
def test_training_reaches_every_parameter_in_bf16(part, latent, image, small, images):
    model = small(image, encoder=part, decoder=part, latent=latent)
    x = images(2, image)
    high = model(x).px.mean
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        trace = model(x, samples=2)
        loss = parse_objective("nll + kl")(trace)
    loss.backward()
    assert trace.px.mean.shape == (2, 2, *image)
    assert high.isfinite().all()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.any(), name


@both
@pytest.mark.parametrize("text", [SMALL, "resnet(width=8, attention=2)"])
def test_bf16_is_a_rounding_of_float32(role, text):
    given, shape = context(role)
    net, x = shaken(ROLES[role].make(text, *given), 0.1), torch.rand(2, *shape)
    high = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        low = net(x)
    assert (low.float() - high).abs().max() < 0.05 * high.abs().max()


@pytest.mark.usefixtures("unhooked")
@both
def test_attention_in_a_residual_network_compiles_as_one_graph(role):
    given, shape = context(role)
    net, x = shaken(ROLES[role].make("resnet(width=8, attention=2)", *given)), torch.rand(2, *shape)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(net, fullgraph=True, backend="eager")(x), net(x))


@both
def test_a_residual_network_without_attention_is_what_it_was(role):
    """Saved models name their weights by place."""
    net = ROLES[role].make("resnet(width=8)", *context(role, (1, 28, 28), (6,))[0])
    names = {"encoder": ["net.2", "net.3.first", "net.3.second"],
             "decoder": ["net.0.1", "net.1.first", "net.1.second", "net.3"]}[role]
    assert [n for n, _ in net.named_parameters()] == [f"{n}.{kind}" for n in names for kind in ("weight", "bias")]


@both
def test_attention_is_at_the_coarsest_level_after_each_residual_block(role):
    given, _ = context(role, (3, 32, 32), (2, 8, 8))
    net = ROLES[role].make("resnet(width=8, blocks=2, patch=1, attention=2)", *given).net
    kinds = [type(m).__name__ for m in net if isinstance(m, Residual | OnGrid)]
    fine, coarse = ["Residual"] * 4, ["Residual", "OnGrid"] * 2
    assert kinds == (fine + coarse if role == "encoder" else coarse + fine)
    plain = ROLES[role].make("resnet(width=8, blocks=2, patch=1)", *given)
    with_heads = sum(p.numel() for p in net.parameters())
    assert with_heads - sum(p.numel() for p in plain.parameters()) == 2 * (4 * 32 * 32 + 3 * 32)


def test_a_transformer_learns_digits(small):
    """Held-out reconstructions keep less than a third of the variance, which the mean image leaves whole."""
    x = torch.from_numpy(load_digits().images[:, None] / 16).float()
    x, held = x[:1500], x[1500:]
    text = "vit(width=32, depth=1, heads=2, patch=2)"
    model = small((1, 8, 8), encoder=text, decoder=text, latent="flat(16)", likelihood="gaussian(sigma='optimal')", moved=0)
    objective, optimizer = parse_objective("nll + kl"), torch.optim.AdamW(model.parameters(), 4e-3)
    start = objective(model(x[:500])).item()
    for _step in range(150):
        loss = objective(model(x[torch.randint(len(x), (64,))]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert 0 < start < 64  # σ fits an almost constant first image: below one nat per pixel
    with torch.no_grad():
        error = (model.eval().decode(model.encode(held)[None]).mean[0] - held).square().mean()
    assert error < (held - x.mean(0)).square().mean() / 3


def test_sinusoids_are_waves_from_fastest_to_slowest():
    x = torch.tensor([0.0, 0.3, 2.0])
    expected = [[f(w * t) for w in (8.0, 4.0, 2.0) for f in (math.sin, math.cos)] for t in x.tolist()]
    torch.testing.assert_close(sinusoids(x, 6, 2.0, 8.0), torch.tensor(expected))
    torch.testing.assert_close(sinusoids(x, 5, 2.0, 8.0), torch.tensor(expected)[:, :5])
    assert sinusoids(x[:, None], 1, 2.0, 8.0).shape == (3, 1, 1)
    x = torch.tensor([0.0, 0.25, 2.0])  # which every type holds
    for t in (torch.float64, torch.bfloat16):
        assert torch.equal(sinusoids(x.to(t), 6, 2.0, 8.0), sinusoids(x, 6, 2.0, 8.0))


@pytest.mark.parametrize("width", [8, 7, 1])
def test_places_of_a_grid(width):
    table = grid_positions((3, 5), width).unflatten(0, (3, 5))
    assert table.shape == (3, 5, width)
    row, column = table.split([width - width // 2, width // 2], -1)
    assert torch.equal(row, row[:, :1].expand_as(row))
    assert torch.equal(column, column[:1].expand_as(column))
    if width > 1:
        assert torch.pdist(table.flatten(0, 1)).min() > 0.1


def test_labels_are_dropped_at_their_rate_and_only_in_training():
    layer, y, p, n = LabelEmbedding(5, 3, dropout=0.2), torch.arange(5).repeat(4000), 0.2, 20_000
    none = layer(torch.tensor(-1))
    rows = torch.stack([layer.eval()(torch.tensor(i)) for i in range(5)])
    assert torch.pdist(torch.cat([rows, none[None]])).min() > 0
    assert torch.equal(layer(y), rows[y])
    dropped = (layer.train()(y) == none).all(-1)
    assert abs(dropped.float().mean() - p) < 4 * math.sqrt(p * (1 - p) / n)
    kept = layer(y)
    assert ((kept == rows[y]) | (kept == none)).all()
    unlabelled = torch.full((7,), -1)
    assert torch.equal(layer(unlabelled), none.expand(7, 3))


def test_the_gradient_reaches_each_class_and_no_class():
    layer = LabelEmbedding(3, 4)
    layer.eval()(torch.tensor([0, 2, -1])).sum().backward()
    assert layer.table.weight.grad.any(1).tolist() == [True, True, False, True]


@pytest.mark.parametrize(("classes", "dropout"), [(0, 0.1), (3, -0.1), (3, 1.5)])
def test_labels_that_cannot_be_are_refused(classes, dropout):
    with pytest.raises(UsageError, match="got"):
        LabelEmbedding(classes, 4, dropout)


def test_a_label_beyond_the_classes_is_an_error():
    with pytest.raises(IndexError):
        LabelEmbedding(3, 4).eval()(torch.tensor([3]))


def test_times_differ_and_nearby_times_are_near():
    embed = TimeEmbedding(32)
    t = torch.linspace(0, 1, 101)
    assert embed(t).shape == (101, 32)
    assert torch.pdist(embed(t)).min() > 0.01
    waves = sinusoids(t, 32, 1.0, 100.0)
    assert torch.pdist(waves).min() > 0.5
    for h in (5e-4, 5e-5):
        assert (sinusoids(t + h, 32, 1.0, 100.0) - waves).norm(dim=-1).max() <= 100 * h * math.sqrt(16)
        one, two = embed(t + h) - embed(t), embed(t + 2 * h) - embed(t)
        assert (two - 2 * one).abs().max() < 0.1 * two.abs().max()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sinusoids(t, 32, 1.0, 100.0), waves)


@pytest.mark.parametrize("grid", [(), (7,), (3, 5)], ids=str)
def test_modulation_scales_and_shifts_channels(grid):
    layer, x, c = Modulate(4, 6), torch.randn(2, 4, *grid), torch.randn(2, 6)
    assert torch.equal(layer(x, c), x)
    layer(x, c).square().sum().backward()
    assert layer.linear.weight.grad.any(1).all()
    shaken(layer)
    scale, shift = (F.silu(c) @ layer.linear.weight.T + layer.linear.bias).split(4, 1)
    expected = torch.stack([torch.stack([x[b, i] * (1 + scale[b, i]) + shift[b, i] for i in range(4)]) for b in range(2)])
    torch.testing.assert_close(layer(x, c), expected)


@pytest.mark.parametrize("inputs", [100, 4096, 16_384])
def test_a_wide_head_is_the_same_function_at_the_start(inputs):
    torch.manual_seed(0)
    head = WideLinear(inputs, 50)
    x = torch.randn(200, inputs)
    assert float((head(x) - head.bias).detach().std()) == pytest.approx(3**-0.5, rel=0.1)  # as nn.Linear begins


def test_steps_of_wide_heads_do_not_grow_with_their_inputs():
    """Adam moves every weight as far; the outputs of 16,384 inputs no farther than those of 4,096."""

    def moved(inputs):
        head, x = WideLinear(inputs, 1), torch.ones(1, inputs)
        before = head(x).item()
        optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
        head(x).sum().backward()
        optimizer.step()
        return before - head(x).item()

    assert moved(2048) == pytest.approx(2.05, rel=0.01)
    assert moved(4096) == pytest.approx(4.1, rel=0.01)
    assert moved(16_384) == pytest.approx(4.1, rel=0.01)


def narrower(kernel, dim):
    """The kernel of 3 places that was spread over two neighbours each, from that of 4."""
    k = kernel.unbind(dim)
    return torch.stack([k[0], k[1] - k[0], k[2] - k[1] + k[0]], dim)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 28, 30)])
def test_fastgan_starts_without_a_checkerboard(shape):
    """Each enlargement starts as nearest neighbours before a 3×3 convolution, and the pixels of a patch as one."""
    decoder = ROLES["decoder"].make("fastgan(8, patch=2)", (6,), shape)
    enlarging = [m for m in decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert enlarging
    for layer in enlarging:
        x = torch.randn(2, layer.in_channels, 5, 4)
        kernel = narrower(narrower(layer.weight, 2), 3).transpose(0, 1).flip(2, 3)
        wanted = F.conv2d(F.interpolate(x, scale_factor=2), kernel, padding=1)
        torch.testing.assert_close(layer(x), wanted, rtol=1e-4, atol=1e-5)
        assert kernel.std().item() == pytest.approx(0.02, rel=0.1)
    made = decoder(torch.randn(3, 6))
    torch.testing.assert_close(made[..., ::2, ::2], made[..., 1::2, 1::2])
    assert made.flatten(1).std(1).min() > 0


@pytest.mark.parametrize(("shape", "budget"), [
    ((1, 16, 16), 0), ((1, 28, 28), 0.8e6), ((3, 32, 32), 0.8e6), ((3, 64, 64), 1.2e6), ((5, 200, 121), 0),
    ((3, 512, 512), 0)], ids=str)
def test_fastgan_makes_and_reads_images_of_any_size(shape, budget):
    """At any width from 8 on, of which one meets each usual budget of parameters."""
    sizes = []
    with torch.device("meta"):
        for width in (8, 12, 16, 20, 24):
            decoder = ROLES["decoder"].make(f"fastgan({width})", (64,), shape)
            encoder = ROLES["encoder"].make(f"fastgan({width})", shape, None)
            assert decoder(torch.zeros(2, 64)).shape == (2, *shape)
            assert encoder(torch.zeros(2, *shape)).shape == (2, *encoder.features)
            sizes.append(sum(p.numel() for p in decoder.parameters()))
    assert not budget or min(abs(n - budget) for n in sizes) < 0.1 * budget


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 28, 28), (3, 32, 32), (3, 64, 64), (5, 200, 121), (3, 2, 2), (1, 1, 5)],
                         ids=str)
def test_r3gan_makes_and_reads_images_of_any_size(shape):
    with torch.device("meta"):
        for net in ("r3gan(1)", "r3gan(20)", "r3gan(12, 2, patch=2)"):
            decoder, encoder = ROLES["decoder"].make(net, (64,), shape), ROLES["encoder"].make(net, shape, None)
            assert decoder(torch.zeros(2, 64)).shape == (2, *shape)
            assert encoder(torch.zeros(2, *shape)).shape == (2, *encoder.features)


def test_r3gan_starts_as_a_plain_resizing():
    """Bottlenecks begin as the identity, so that a code's scales are all that tells images apart; none is normalised."""
    decoder = ROLES["decoder"].make("r3gan(8)", (6,), (3, 32, 32))
    encoder = ROLES["encoder"].make("r3gan(8)", (3, 32, 32), None)
    for net in (decoder, encoder):
        blocks = [m for m in net.modules() if isinstance(m, Bottleneck)]
        assert len(blocks) == 4
        for block in blocks:
            x = torch.randn(2, block.net[0].in_channels, 5, 4)
            assert torch.equal(block(x), x)
            assert block.net[2].in_channels // block.net[2].groups == 16
        assert not any("Norm" in type(m).__name__ for m in net.modules())
    a, b = torch.randn(2, 3, 6)
    torch.testing.assert_close(decoder((a + b) / 2), (decoder(a) + decoder(b)) / 2)
