"""Writes networks as ncnn's files, by hand: what a test gives to the reader."""

import struct

import numpy as np

MAGIC, HALF, FULL = 7767517, 0x01306B47, 0

_DENSE = [(32, 64, 3, 3), (32, 96, 3, 3), (32, 128, 3, 3), (32, 160, 3, 3), (64, 192, 3, 3)]
RRDB = [(64, 3, 3, 3), *(23 * 3 * _DENSE), *(4 * [(64, 64, 3, 3)]), (3, 64, 3, 3)]
"""The shapes of the weights of ESRGAN's network, in order."""


def write_ncnn(param, layers, tag=HALF, after=()):
    """``layers`` are pairs of arrays, weight ``(out, in, k, k)`` and bias or None; ``after`` further lines."""
    lines, content = [], bytearray()
    for number, (weight, bias) in enumerate(layers):
        values = f"0={len(weight)} 1={weight.shape[-1]} 4=1 5={int(bias is not None)} 6={weight.size} -23310=1,0.5"
        if weight.shape[-2] != weight.shape[-1]:
            values += f" 11={weight.shape[-2]}"
        lines.append(f"Convolution  conv_{number}  1 1 {number} {number + 1} {values}")
        numbers = weight.astype("<f2" if tag == HALF else "<f4").tobytes()
        content += struct.pack("<I", tag) + numbers + b"\0" * (-len(numbers) % 4)
        content += b"" if bias is None else bias.astype("<f4").tobytes()
    lines = ["Input  input  0 1 0", *lines, *after]
    param.write_text("\n".join([str(MAGIC), f"{len(lines)} {len(lines)}", *lines]) + "\n")
    param.with_suffix(".bin").write_bytes(content)


def random_layers(*shapes, seed=0):
    """Weights that float16 holds as they are, and biases."""
    rng = np.random.default_rng(seed)
    return [
        (
            (rng.normal(size=shape) / np.prod(shape[1:]) ** 0.5).astype(np.float16).astype(np.float32),
            (rng.normal(size=shape[0]) / 10).astype(np.float32),
        )
        for shape in shapes
    ]


def place(site, method):
    """Where a method's package would keep its network; whoever imports it fails."""
    package = site / method.package.replace("-", "_")
    param = package / method.file
    param.parent.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    return param


def constant(shapes, weight=0.0, bias=0.0):
    return [(np.full(s, weight, np.float32), np.full(s[0], bias, np.float32)) for s in shapes]
