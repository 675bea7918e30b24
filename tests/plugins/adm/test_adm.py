"""Guided diffusion's network, against the published counts and a forward pass written here from its layout alone.

``forward`` below is the network as one function of a state dict in its names: an independent reading of the layout.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

import invdiff
from invdiff.errors import WeightsError
from invdiff.testing import check_prior
from invdiff_adm.checkpoint import layout as read_layout
from invdiff_adm.network import ADM
from invdiff_adm.prior import ADMPrior
from invdiff_adm.settings import ADMSettings

FFHQ = {"width": 128, "channels": (128, 128, 256, 256, 512, 512), "blocks": 1, "attention": (4,)}
IMAGENET = {"width": 256, "channels": (256, 256, 512, 512, 1024, 1024), "blocks": 2, "attention": (3, 4, 5)}
IMAGENET_512 = {**IMAGENET, "channels": (128, 256, 256, 512, 512, 1024, 1024), "attention": (4, 5, 6)}
SMALL = {"width": 32, "channels": (64, 64, 128), "blocks": 1, "attention": (1, 2)}
HEADS = {"head_channels": 16}

# --- the layout, by name and shape


def shapes(width, channels, blocks, attention, outputs=6):
    """Every name and shape of such a checkpoint."""
    code, found = 4 * width, {}

    def layer(name, *shape):
        found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]

    def block(name, inputs, wide):
        layer(f"{name}.in_layers.0", inputs)
        layer(f"{name}.in_layers.2", wide, inputs, 3, 3)
        layer(f"{name}.emb_layers.1", 2 * wide, code)
        layer(f"{name}.out_layers.0", wide)
        layer(f"{name}.out_layers.3", wide, wide, 3, 3)
        if inputs != wide:
            layer(f"{name}.skip_connection", wide, inputs, 1, 1)

    def attend(name, wide):
        layer(f"{name}.norm", wide)
        layer(f"{name}.qkv", 3 * wide, wide, 1)
        layer(f"{name}.proj_out", wide, wide, 1)

    layer("time_embed.0", code, width)
    layer("time_embed.2", code, code)
    layer("input_blocks.0.0", channels[0], 3, 3, 3)
    now, place, kept = channels[0], 1, [channels[0]]
    for level, wide in enumerate(channels):
        for _ in range(blocks):
            block(f"input_blocks.{place}.0", now, wide)
            if level in attention:
                attend(f"input_blocks.{place}.1", wide)
            now, place = wide, place + 1
            kept.append(now)
        if level + 1 < len(channels):
            block(f"input_blocks.{place}.0", now, now)
            place += 1
            kept.append(now)
    block("middle_block.0", now, now)
    attend("middle_block.1", now)
    block("middle_block.2", now, now)
    place = 0
    for level in reversed(range(len(channels))):
        for turn in range(blocks + 1):
            block(f"output_blocks.{place}.0", now + kept.pop(), channels[level])
            now, part = channels[level], 1
            if level in attention:
                attend(f"output_blocks.{place}.1", now)
                part = 2
            if level and turn == blocks:
                block(f"output_blocks.{place}.{part}", now, now)
            place += 1
    layer("out.0", now)
    layer("out.2", outputs, now, 3, 3)
    return found


def random_state(seed=0, outputs=6, **layout):
    """Random numbers of a size at which every part matters and nothing blows up."""
    gen, state = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes(**{**SMALL, **layout}, outputs=outputs).items():
        value = torch.randn(shape, generator=gen)
        if len(shape) == 1:
            value = 0.2 * value
            norm = name.endswith("weight")
            state[name] = 1 + value if norm else value
        else:
            state[name] = value / math.sqrt(math.prod(shape[1:]))
    return state


# --- the network, by function


def block(x, code, state, name, resize=None):
    def layer(part):
        return state[f"{name}.{part}.weight"], state[f"{name}.{part}.bias"]

    def size(image):
        if resize == "down":
            rows = (image[..., ::2, :] + image[..., 1::2, :]) / 2
            return (rows[..., ::2] + rows[..., 1::2]) / 2
        return image.repeat_interleave(2, -1).repeat_interleave(2, -2) if resize == "up" else image

    def silu(value):
        return value * torch.sigmoid(value)

    h = F.conv2d(size(silu(F.group_norm(x, 32, *layer("in_layers.0")))), *layer("in_layers.2"), padding=1)
    table = F.linear(silu(code), *layer("emb_layers.1"))
    scale, shift = table[:, : h.shape[1], None, None], table[:, h.shape[1] :, None, None]
    h = silu(F.group_norm(h, 32, *layer("out_layers.0")) * (1 + scale) + shift)
    h = F.conv2d(h, *layer("out_layers.3"), padding=1)
    x = size(x)
    return h + (F.conv2d(x, *layer("skip_connection")) if f"{name}.skip_connection.weight" in state else x)


def attend(x, state, name, head):
    batch, wide, height, width = x.shape
    flat = F.group_norm(x, 32, state[f"{name}.norm.weight"], state[f"{name}.norm.bias"]).flatten(2)
    mixed = torch.einsum("oc,bcn->bon", state[f"{name}.qkv.weight"][:, :, 0], flat)
    mixed = mixed + state[f"{name}.qkv.bias"][:, None]
    parts = []
    for first in range(0, 3 * wide, 3 * head):  # each head's queries, keys and values lie together
        q, k, v = (mixed[:, first + i * head : first + (i + 1) * head] for i in range(3))
        weights = torch.softmax(torch.einsum("bcn,bcm->bnm", q, k) / math.sqrt(head), dim=-1)
        parts.append(torch.einsum("bnm,bcm->bcn", weights, v))
    out = torch.einsum("oc,bcn->bon", state[f"{name}.proj_out.weight"][:, :, 0], torch.cat(parts, 1))
    return x + (out + state[f"{name}.proj_out.bias"][:, None]).view(batch, wide, height, width)


def forward(x, t, state, head, blocks, levels):
    width = state["time_embed.0.weight"].shape[1]
    angles = [[time * math.exp(-math.log(1e4) * i / (width // 2)) for i in range(width // 2)] for time in t.tolist()]
    code = torch.tensor([[*map(math.cos, line), *map(math.sin, line)] for line in angles])
    code = F.linear(code, state["time_embed.0.weight"], state["time_embed.0.bias"])
    code = F.linear(code * torch.sigmoid(code), state["time_embed.2.weight"], state["time_embed.2.bias"])

    def stack(x, name, resize):
        """A block, or one that resizes; attention; a block that enlarges."""
        x = block(x, code, state, f"{name}.0", resize)
        part = 1
        if f"{name}.1.qkv.weight" in state:
            x, part = attend(x, state, f"{name}.1", head), 2
        return block(x, code, state, f"{name}.{part}", "up") if f"{name}.{part}.in_layers.2.weight" in state else x

    x = F.conv2d(x, state["input_blocks.0.0.weight"], state["input_blocks.0.0.bias"], padding=1)
    kept = [x]
    for place in range(1, levels * (blocks + 1)):
        x = stack(x, f"input_blocks.{place}", "down" if place % (blocks + 1) == 0 else None)
        kept.append(x)
    x = block(x, code, state, "middle_block.0")
    x = attend(x, state, "middle_block.1", head)
    x = block(x, code, state, "middle_block.2")
    for place in range(levels * (blocks + 1)):
        x = stack(torch.cat([x, kept.pop()], 1), f"output_blocks.{place}", None)
    x = F.group_norm(x, 32, state["out.0.weight"], state["out.0.bias"])
    return F.conv2d(x * torch.sigmoid(x), state["out.2.weight"], state["out.2.bias"], padding=1)


# --- agreement


@pytest.mark.parametrize(
    ("layout", "numbers", "tensors"),
    [(FFHQ, 93_563_910, 362), (IMAGENET, 552_814_086, 566), (IMAGENET_512, 557_973_638, 644)],
    ids=["FFHQ 256", "ImageNet 256", "ImageNet 512"],
)
def test_the_published_checkpoints(layout, numbers, tensors):
    """Their counts, of the layout above and of the network; the latter has the former's names and shapes."""
    wanted = shapes(**layout)
    assert (sum(math.prod(shape) for shape in wanted.values()), len(wanted)) == (numbers, tensors)
    with torch.device("meta"):
        network = ADM(ADMSettings(**layout))
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == wanted


def test_where_ffhq_has_attention():
    """At 16 pixels alone, and in the middle; the key table's anchors."""
    names = shapes(**FFHQ)
    places = {name.removesuffix(".qkv.weight") for name in names if name.endswith("qkv.weight")}
    assert places == {"input_blocks.9.1", "middle_block.1", "output_blocks.2.1", "output_blocks.3.1"}
    assert names["output_blocks.0.0.in_layers.2.weight"] == (512, 1024, 3, 3)
    assert names["output_blocks.11.0.in_layers.2.weight"] == (128, 256, 3, 3)
    assert "output_blocks.1.1.in_layers.2.weight" in names
    assert "output_blocks.3.2.in_layers.2.weight" in names
    assert names["out.2.weight"] == (6, 128, 3, 3)


@pytest.mark.parametrize("layout", [FFHQ, IMAGENET, IMAGENET_512], ids=["FFHQ 256", "ImageNet 256", "ImageNet 512"])
def test_settings_of_a_published_file(layout):
    """From names and shapes alone, nothing said by the user."""
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes(**layout).items()}
    found = ADMSettings(**read_layout(tensors, {}))
    assert found == ADMSettings(**layout)
    assert found.multiple == 2 ** (len(layout["channels"]) - 1)


LAYOUTS = {
    "small": {},
    "two blocks": {"blocks": 2, "channels": (32, 32, 64, 64), "attention": (3,)},
    "no attention but in the middle": {"attention": ()},
    "one size": {"channels": (32,), "attention": (0,)},
}


@pytest.mark.parametrize("outputs", [6, 3])
@pytest.mark.parametrize("name", LAYOUTS)
@torch.no_grad()
def test_the_imported_network_is_theirs(name, outputs):
    layout = {**SMALL, **LAYOUTS[name]}
    state = random_state(outputs=outputs, **layout)
    prior = ADMPrior.from_foreign(state, HEADS)
    gen, side = torch.Generator().manual_seed(7), prior.spec.multiple
    x_t = torch.randn(3, 3, 4 * side, 2 * side, generator=gen)
    t = torch.tensor([999, 417, 0])
    want = forward(x_t, t, state, 16, layout["blocks"], len(layout["channels"]))
    found = prior(x_t, t, x_t)
    torch.testing.assert_close(found.raw, want[:, :3], rtol=1e-4, atol=1e-4)
    assert float(want[:, :3].std()) > 0.1
    if outputs == 6:
        torch.testing.assert_close(found.variance_fraction, (want[:, 3:] + 1) / 2, rtol=1e-4, atol=1e-4)
    else:
        assert found.variance_fraction is None


@torch.no_grad()
def test_the_comparison_would_notice_any_tensor():
    state = random_state(channels=(64, 128), attention=(1,))
    x, t = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([300])
    image = forward(x, t, state, 16, 1, 2)
    for name, value in state.items():
        other = forward(x, t, {**state, name: value * 1.5 + 0.1}, 16, 1, 2)
        assert float((other - image).abs().max()) > 1e-3, name


def test_a_clean_image_is_clipped():
    prior = ADMPrior.from_foreign(random_state(), HEADS)
    x_t, t = 5 * torch.ones(1, 3, 8, 8), torch.tensor([900])
    with torch.no_grad():
        found = prior.predict(x_t, t, x_t)
    assert float(found.x0.abs().max()) == 1
    torch.testing.assert_close(prior.spec.schedule.add_noise(found.x0, found.eps, t), x_t)


def test_conformance():
    layout = {"channels": (32, 32), "blocks": 1, "attention": (1,)}
    check_prior(ADMPrior.from_foreign(random_state(**layout), HEADS).eval().requires_grad_(False))


# --- through the command


RECIPE = """\
name: theirs
degradation: {{kind: motion, kernel_size: 15, noise_sigma: 0.01}}
prior: {{kind: adm, weights: {weights}}}
guidance:
  - {{kind: diffpir, kernel: given}}
sampler: {{steps: 2}}
input: {{sample: coffee, crop: 32, synthesize: true}}
"""


def test_imported_and_run(cli, tmp_path):
    """A pickle of tensors to a file of ours, and from that a picture."""
    state = random_state(channels=(32, 32), blocks=1, attention=(1,))
    torch.save(state, tmp_path / "theirs.pt")
    refused = cli("weights", "import", tmp_path / "theirs.pt", "-o", tmp_path / "ours.safetensors")
    assert refused.code == 2
    assert "none of the published" in refused.err
    assert "--set head_channels=64" in refused.err
    done = cli(
        "weights", "import", tmp_path / "theirs.pt", "-o", tmp_path / "ours.safetensors", "--set", "head_channels=16"
    )
    assert (done.code, done.err) == (0, "")
    prior = invdiff.load_prior(tmp_path / "ours.safetensors")
    x_t, t = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([300])
    with torch.no_grad():
        torch.testing.assert_close(
            prior(x_t, t, x_t).raw, forward(x_t, t, state, 16, 1, 2)[:, :3], rtol=1e-4, atol=1e-4
        )
    recipe = tmp_path / "theirs.yaml"
    recipe.write_text(RECIPE.format(weights=tmp_path / "ours.safetensors"))
    run = cli("run", recipe, "-o", tmp_path / "out", "--quiet")
    assert (run.code, run.err) == (0, "")


# --- what is refused


def refused(state, overrides=HEADS):
    with pytest.raises(WeightsError) as caught:
        ADMPrior.from_foreign(state, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_network_that_is_told_a_class():
    assert "a class-conditional network" in refused({**random_state(), "label_emb.weight": torch.zeros(10, 128)})


def test_other_pictures_than_colour():
    """BlindDPS's own network for kernels has one channel in and two out."""
    state = random_state()
    state["input_blocks.0.0.weight"] = state["input_blocks.0.0.weight"][:, :1]
    state["out.2.weight"] = state["out.2.weight"][:2]
    assert "1 channels in and 2 out" in refused(state)


@pytest.mark.parametrize("name", ["middle_block.1.qkv.bias", "output_blocks.4.0.skip_connection.weight"])
def test_a_tensor_too_few(name):
    state = random_state()
    del state[name]
    assert f"without '{name}'" in refused(state)


def test_a_tensor_too_many_or_of_another_shape():
    assert "with 'extra.weight', which has no place" in refused({**random_state(), "extra.weight": torch.zeros(1)})
    state = random_state()
    state["out.0.bias"] = state["out.0.bias"][:-1]
    assert "'out.0.bias' is 63 and not 64" in refused(state)


def test_another_layout_is_not_this_one():
    assert ADMPrior.from_foreign({"conv_in.weight": torch.zeros(3)}, {}) is None


def test_settings_that_do_not_fit():
    with pytest.raises(ValueError, match="there are 2 sizes"):
        ADMSettings(channels=(32, 32), attention=(2,), head_channels=16)
    with pytest.raises(ValueError, match="48 does not divide"):
        ADMSettings(channels=(32, 64), attention=(), head_channels=48)
