"""Import of the authors' checkpoint, against a forward pass written here from their layout alone.

``released`` below is their network as one function of a state dict in their names, in plain functional
calls: an independent reading of the layout that the plugin's converter must agree with.
"""

import math
import pickle
import re

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

import invdiff
from authors_layout import PAPER, SMALL, random_state, shapes
from invdiff.components.discovery import registry
from invdiff.components.weights import import_checkpoint
from invdiff.errors import WeightsError
from invdiff.io.tensors import read_tensors

# --- the released network


def attention(x, state, prefix):
    batch, dim, height, width = x.shape
    temperature = state[prefix + "temperature"]
    mixed = F.conv2d(x, state[prefix + "qkv.weight"])
    mixed = F.conv2d(mixed, state[prefix + "qkv_dwconv.weight"], padding=1, groups=3 * dim)
    heads = len(temperature)
    q, k, v = (part.reshape(batch, heads, dim // heads, height * width) for part in mixed.split(dim, dim=1))
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    scores = torch.softmax(torch.einsum("bhcn,bhdn->bhcd", q, k) * temperature, dim=-1)
    out = torch.einsum("bhcd,bhdn->bhcn", scores, v).reshape(batch, dim, height, width)
    return F.conv2d(out, state[prefix + "project_out.weight"])


def feed_forward(x, state, prefix):
    x = F.conv2d(x, state[prefix + "project_in.weight"])
    x = F.conv2d(x, state[prefix + "dwconv.weight"], padding=1, groups=x.shape[1])
    first, second = x.split(x.shape[1] // 2, dim=1)
    return F.conv2d(F.gelu(first) * second, state[prefix + "project_out.weight"])


def channel_norm(x, state, prefix):
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).square().mean(1, keepdim=True)
    weight, bias = (state[prefix + f"body.{name}"][:, None, None] for name in ("weight", "bias"))
    return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias


def stage(x, code, state, name):
    count = len({key.split(".")[1] for key in state if key.startswith(name + ".")})
    for i in range(count):
        prefix = f"{name}.{i}."
        table = F.linear(F.mish(code), state[prefix + "modulation.1.weight"], state[prefix + "modulation.1.bias"])
        dim = x.shape[1]
        shift_attn, scale_attn, shift_ffn, scale_ffn = table[..., None, None].split(dim, dim=1)
        inner = channel_norm(x, state, prefix + "norm1.") * (1 + scale_attn) + shift_attn
        x = x + attention(inner, state, prefix + "attn.")
        inner = channel_norm(x, state, prefix + "norm2.") * (1 + scale_ffn) + shift_ffn
        x = x + feed_forward(inner, state, prefix + "ffn.")
    return x


def estimated_kernel(pair, state):
    x = pair
    for i in range(6):
        name = f"predictor.{2 * i}."
        x = F.conv2d(x, state[name + "weight"], state[name + "bias"], stride=2 if i == 3 else 1, padding=2)
        x = F.leaky_relu(x, 0.2)
    x = F.adaptive_avg_pool2d(x, 1)
    x = F.conv2d(x, state["predictor.13.weight"], state["predictor.13.bias"])
    return torch.softmax(x[:, :, 0, 0], dim=1)


def embedded_time(t, state):
    half = state["t_embedder.1.weight"].shape[1] // 2
    angles = [[time * math.exp(-math.log(1e4) * i / half) for i in range(half)] for time in t.tolist()]
    code = torch.tensor([[*map(math.sin, line), *map(math.cos, line)] for line in angles])
    code = F.linear(code, state["t_embedder.1.weight"], state["t_embedder.1.bias"])
    return F.linear(F.mish(code), state["t_embedder.3.weight"], state["t_embedder.3.bias"])


def released(x_t, t, y_up, state):
    """The authors' output, ``(B, 3 or 6, H, W)``, and their kernel."""

    def down(x, name):
        return F.pixel_unshuffle(F.conv2d(x, state[name + ".body.0.weight"], padding=1), 2)

    def up(x, name):
        return F.pixel_shuffle(F.conv2d(x, state[name + ".body.0.weight"], padding=1), 2)

    pair = torch.cat([x_t, y_up], dim=1)
    kernel = estimated_kernel(pair, state)
    k = F.linear(kernel, state["k_mlp.0.weight"], state["k_mlp.0.bias"])
    k = F.linear(F.mish(k), state["k_mlp.2.weight"], state["k_mlp.2.bias"])
    code = embedded_time(t, state) + k

    x1 = stage(F.conv2d(pair, state["patch_embed.proj.weight"], padding=1), code, state, "encoder_level1")
    x2 = stage(down(x1, "down1_2"), code, state, "encoder_level2")
    x3 = stage(down(x2, "down2_3"), code, state, "encoder_level3")
    x = stage(down(x3, "down3_4"), code, state, "latent")
    x = F.conv2d(torch.cat([up(x, "up4_3"), x3], 1), state["reduce_chan_level3.weight"])
    x = stage(x, code, state, "decoder_level3")
    x = F.conv2d(torch.cat([up(x, "up3_2"), x2], 1), state["reduce_chan_level2.weight"])
    x = stage(x, code, state, "decoder_level2")
    x = stage(torch.cat([up(x, "up2_1"), x1], 1), code, state, "decoder_level1")
    x = stage(x, code, state, "refinement")
    x = F.conv2d(x, state["output.weight"], padding=1)
    return x + torch.cat([x_t] * (x.shape[1] // 3), dim=1), kernel


# --- agreement


def imported(folder, state, wrap="params_ema", overrides=None):
    source, output = folder / "net_g.pth", folder / "net_g.safetensors"
    torch.save({wrap: state} if wrap else state, source)
    import_checkpoint(source, output, registry(), overrides or {})
    return invdiff.load_prior(output)


def inputs(batch=3, height=24, width=16):
    gen = torch.Generator().manual_seed(7)
    x_t = torch.randn(batch, 3, height, width, generator=gen)
    return x_t, torch.tensor([999, 417, 0])[:batch], torch.rand(batch, 3, height, width, generator=gen)


def agree(found, want, what=""):
    """Within rounding: float32 through some twenty layers, outputs of size one to three."""
    error = found - want
    assert error.square().mean().sqrt() < 1e-5, what
    assert error.abs().max() < 1e-4, what


def test_the_layout_above_is_the_papers():
    # Counted from the shapes alone: if a layer were missing here, this would not be the published number.
    assert sum(math.prod(shape) for shape in shapes(**PAPER).values()) == 26_509_267


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"blocks": (2, 1, 3, 2), "refine": 2, "heads": (2, 4, 8, 8), "side": 21},
        {"expansion": 2.0},
        {"dims": (16, 24, 40, 64), "heads": (1, 2, 4, 8), "width": 8},
    ],
    ids=["small", "deeper", "expansion 2", "other widths"],
)
@torch.no_grad()
def test_the_imported_network_is_the_authors(tmp_path, layout):
    state = random_state(**layout)
    prior = imported(tmp_path, state)
    x_t, t, y_up = inputs()
    want, kernel = released(x_t, t, y_up, state)
    out = prior(x_t, t, y_up)
    assert prior.spec.prediction == "eps"
    agree(out.raw, want[:, :3])
    agree(out.variance_fraction, (want[:, 3:] + 1) / 2)
    torch.testing.assert_close(out.parameters.flatten(1), kernel, rtol=1e-4, atol=1e-7)
    assert kernel.max() > 2 / kernel.shape[1]  # else a flat kernel would pass
    assert (want[:, :3] - x_t).std() > 0.1  # else the skip alone would


@torch.no_grad()
def test_a_network_without_learned_variance(tmp_path):
    state = random_state(outputs=3)
    out = imported(tmp_path, state)(*inputs())
    want, _ = released(*inputs(), state)
    agree(out.raw, want)
    assert out.variance_fraction is None


@torch.no_grad()
def test_the_comparison_would_notice_any_tensor():
    """A tensor that the converter mixed up moves image or kernel ten times what may differ."""
    state = random_state()
    inside = inputs(1, 16, 16)
    image, kernel = released(*inside, state)
    for name, value in state.items():
        other_image, other_kernel = released(*inside, {**state, name: value * 1.5 + 0.1})
        assert (other_image - image).abs().max() > 1e-3 or (other_kernel / kernel - 1).abs().max() > 1e-3, name


@torch.no_grad()
def test_settings_follow_from_the_shapes(tmp_path):
    prior = imported(tmp_path, random_state(blocks=(2, 1, 3, 2), refine=2, heads=(2, 4, 8, 8)), overrides={"scale": 2})
    network = prior.settings.network
    assert network.channels == SMALL["dims"]
    assert network.blocks == (2, 1, 3, 2)
    assert network.heads == (2, 4, 8, 8)
    assert (network.refinement, network.kernel_size, network.estimator.channels) == (2, 11, 12)
    assert prior.spec.value_range == (0.0, 1.0)  # the checkpoint's diffusion runs on [0, 1]
    assert prior.spec.scale == 2
    assert not prior.training
    assert not any(p.requires_grad for p in prior.parameters())


# --- wrappings


@pytest.mark.parametrize("wrap", ["params_ema", "params", "state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module."])
@torch.no_grad()
def test_wrappings_and_prefixes(tmp_path, wrap, prefix):
    state = random_state()
    out = imported(tmp_path, {prefix + name: value for name, value in state.items()}, wrap)(*inputs())
    agree(out.raw, released(*inputs(), state)[0][:, :3])


@torch.no_grad()
def test_averaged_weights_come_first(tmp_path):
    state, last = random_state(), random_state(seed=1)
    source, output = tmp_path / "net_g.pth", tmp_path / "net_g.safetensors"
    torch.save({"params": last, "params_ema": state}, source)
    import_checkpoint(source, output, registry(), {})
    out = invdiff.load_prior(output)(*inputs())
    agree(out.raw, released(*inputs(), state)[0][:, :3])


# --- refusals


def refused(folder, content, save=torch.save):
    source, output = folder / "net_g.pth", folder / "out.safetensors"
    save(content, source)
    with pytest.raises(WeightsError) as caught:
        import_checkpoint(source, output, registry(), {})
    assert not output.exists()
    message = str(caught.value)
    assert str(source) in message
    assert "\n" not in message
    return message


def test_an_unknown_tensor_is_named(tmp_path):
    for name in ("encoder_level1.0.attn.extra", "head.weight", "encoder_level4.0.attn.qkv.weight"):
        assert name in refused(tmp_path, {"params_ema": {**random_state(), name: torch.zeros(3)}})


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("encoder_level2.0.ffn.dwconv.weight", "encoders.1.0.feed.spread.weight"),
        ("t_embedder.3.bias", "time.2.bias"),
        ("reduce_chan_level2.weight", "merges.0.weight"),
    ],
)
def test_a_wrong_shape_is_named(tmp_path, name, ours):
    state = random_state()
    message = refused(tmp_path, {"params_ema": {**state, name: state[name][:-1].clone()}})
    assert name in message or ours in message


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("decoder_level1.0.attn.temperature", "decoders.0.0.attention.temperature"),
        ("latent.0.attn.qkv.weight", "latent.0.attention.qkv.weight"),
        ("output.weight", "head.weight"),
    ],
)
def test_a_missing_tensor_is_named(tmp_path, name, ours):
    state = random_state()
    del state[name]
    message = refused(tmp_path, {"params_ema": state})
    assert name in message or ours in message


def test_kernels_that_are_not_square_and_odd(tmp_path):
    for pixels in (100, 120):
        state = random_state()
        state["predictor.13.weight"] = torch.zeros(pixels, 12, 1, 1)
        assert f"{pixels} kernel pixels" in refused(tmp_path, {"params_ema": state})


def test_a_foreign_layout_is_named(tmp_path):
    message = refused(tmp_path, {"params_ema": {"conv_first.weight": torch.zeros(4, 3, 3, 3), "a.b": torch.zeros(1)}})
    assert "layout that no prior knows" in message
    assert "conv_first.weight" in message


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.zeros(3)], torch.zeros(3), {"params": {}}])
def test_a_checkpoint_without_named_tensors(tmp_path, content):
    assert "no tensors by name" in refused(tmp_path, content)


class Trap:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("save", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))], ids=["torch", "pickle"])
def test_a_pickle_of_anything_else_is_refused_and_not_run(tmp_path, save):
    sprung = tmp_path / "sprung"
    trap = {"params_ema": random_state(), "extra": Trap(str(sprung))}
    assert "not a checkpoint of tensors" in refused(tmp_path, trap, save)
    assert not sprung.exists()


def test_files_that_are_no_checkpoint(tmp_path):
    assert "not a checkpoint" in refused(tmp_path, b"", lambda o, p: p.write_bytes(o))
    assert "not a checkpoint" in refused(tmp_path, b"hello there", lambda o, p: p.write_bytes(o))
    with pytest.raises(WeightsError, match=r"none\.pth: no such file"):
        import_checkpoint(tmp_path / "none.pth", tmp_path / "out.safetensors", registry(), {})


def test_wrong_overrides_are_refused(tmp_path):
    source = tmp_path / "net_g.pth"
    torch.save({"params_ema": random_state()}, source)
    with pytest.raises(WeightsError, match="scale"):
        import_checkpoint(source, tmp_path / "out.safetensors", registry(), {"scale": 0})
    with pytest.raises(WeightsError, match="scal"):
        import_checkpoint(source, tmp_path / "out.safetensors", registry(), {"scal": 2})


@pytest.mark.parametrize("start", [b"\x80", b"PK"], ids=["pickle", "zip"])
def test_a_header_that_begins_like_a_pickle_is_not_one(tmp_path, start):
    # A safetensors file begins with the length of its header, a multiple of 8: one in 32 begins with 0x80.
    wanted, bit = int.from_bytes(start, "little"), 8 * len(start)
    path = tmp_path / "a.safetensors"
    for padding in range(0, 2 << bit, 8):
        data = safetensors.torch.save({"a": torch.ones(2)}, {"note": "x" * padding})
        if int.from_bytes(data[:8], "little") % (1 << bit) == wanted:
            break
    path.write_bytes(data)
    assert data.startswith(start)
    assert torch.equal(read_tensors(path)[0]["a"], torch.ones(2))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_is_never_loaded_as_weights(tmp_path, legacy):
    path = tmp_path / "net_g.pth"
    torch.save({"params_ema": random_state()}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match=re.escape(str(path)) + ".*pickle.*invdiff weights import"):
        invdiff.load_prior(path)
