"""Checkpoints in the layout of BlindDiff's authors, of random numbers: names and shapes, small or as published."""

import math

import torch

SMALL = {"dims": (8, 16, 32, 64), "blocks": (1, 1, 1, 1), "heads": (1, 2, 4, 8), "refine": 1, "side": 11, "width": 12}
PAPER = {**SMALL, "dims": (48, 96, 192, 384), "blocks": (2, 3, 6, 8), "refine": 2, "side": 21, "width": 48}


def shapes(dims, blocks, heads, refine, side, width, outputs=6, expansion=2.66):
    """Every name and shape of a checkpoint in the authors' layout."""
    embed = dims[0]
    found = {
        "patch_embed.proj.weight": (embed, 6, 3, 3),
        "t_embedder.1.weight": (4 * embed, embed),
        "t_embedder.1.bias": (4 * embed,),
        "t_embedder.3.weight": (embed, 4 * embed),
        "t_embedder.3.bias": (embed,),
        "k_mlp.0.weight": (embed, side**2),
        "k_mlp.0.bias": (embed,),
        "k_mlp.2.weight": (embed, embed),
        "k_mlp.2.bias": (embed,),
        "predictor.13.weight": (side**2, width, 1, 1),
        "predictor.13.bias": (side**2,),
        "down1_2.body.0.weight": (dims[1] // 4, dims[0], 3, 3),
        "down2_3.body.0.weight": (dims[2] // 4, dims[1], 3, 3),
        "down3_4.body.0.weight": (dims[3] // 4, dims[2], 3, 3),
        "up4_3.body.0.weight": (4 * dims[2], dims[3], 3, 3),
        "up3_2.body.0.weight": (4 * dims[1], dims[2], 3, 3),
        "up2_1.body.0.weight": (4 * dims[0], dims[1], 3, 3),
        "reduce_chan_level3.weight": (dims[2], 2 * dims[2], 1, 1),
        "reduce_chan_level2.weight": (dims[1], 2 * dims[1], 1, 1),
        "output.weight": (outputs, 2 * dims[0], 3, 3),
    }
    for i in range(6):
        found[f"predictor.{2 * i}.weight"] = (width, width if i else 6, 5, 5)
        found[f"predictor.{2 * i}.bias"] = (width,)
    stages = [(f"encoder_level{i + 1}", dims[i], heads[i], blocks[i]) for i in range(3)]
    stages += [(f"decoder_level{i + 1}", dims[i], heads[i], blocks[i]) for i in (1, 2)]
    stages += [("latent", dims[3], heads[3], blocks[3])]
    # Level 1 has no 1x1 reduction: it decodes, and refines, twice the channels.
    stages += [("decoder_level1", 2 * dims[0], heads[0], blocks[0]), ("refinement", 2 * dims[0], heads[0], refine)]
    for stage, dim, head, count in stages:
        hidden = int(dim * expansion)
        for i in range(count):
            block = {
                "norm1.body.weight": (dim,),
                "norm1.body.bias": (dim,),
                "norm2.body.weight": (dim,),
                "norm2.body.bias": (dim,),
                "attn.temperature": (head, 1, 1),
                "attn.qkv.weight": (3 * dim, dim, 1, 1),
                "attn.qkv_dwconv.weight": (3 * dim, 1, 3, 3),
                "attn.project_out.weight": (dim, dim, 1, 1),
                "ffn.project_in.weight": (2 * hidden, dim, 1, 1),
                "ffn.dwconv.weight": (2 * hidden, 1, 3, 3),
                "ffn.project_out.weight": (dim, hidden, 1, 1),
                "modulation.1.weight": (4 * dim, embed),
                "modulation.1.bias": (4 * dim,),
            }
            found.update({f"{stage}.{i}.{name}": shape for name, shape in block.items()})
    return found


def random_state(seed=0, **layout):
    """Random numbers of a size at which every part matters and nothing blows up."""
    gen = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes(**{**SMALL, **layout}).items():
        value = torch.randn(shape, generator=gen)
        if "temperature" in name:
            value = 1 + value.abs()
        elif "norm" in name:
            value = 0.2 * value + (1 if name.endswith("weight") else 0)
        elif name.endswith("bias"):
            value = 0.2 * value
        else:
            value = value / math.sqrt(math.prod(shape[1:]))
        state[name] = value
    state["predictor.13.weight"] *= 5  # a kernel that is not nearly flat
    return state
