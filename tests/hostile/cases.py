"""The hostile cases as data: what each is called, how it is made, and what must be said of it in one line.

Of a recipe, a picture and a kernel it is the file's bytes, of a change what ``--set`` is told, of a call its
arguments. Places stand in braces; ``{path}`` is the case's own file.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image
from scipy.io import savemat

GOOD = """\
name: tiny
degradation: {kind: blindsr, scale: 4, kernel_size: 21}
prior: {kind: mcformer, network: {preset: small}}
"""

# --- recipes: whole files, read by ``info``

RECIPES = {
    "nothing": (b"", "{path}:1: a recipe is a mapping"),
    "spaces": (b"   \n\n", "{path}:1: a recipe is a mapping"),
    "a word": (b"hello", "{path}:1: a recipe is a mapping"),
    "a list": (b"- name: x\n", "{path}:1: a recipe is a mapping"),
    "a number": (b"3", "{path}:1: a recipe is a mapping"),
    "null": (b"null", "{path}:1: a recipe is a mapping"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "{path}: cannot be read as a recipe"),
    "latin-1": ("name: caf\xe9".encode("latin-1"), "{path}: cannot be read as a recipe"),
    "utf-16": ("name: x".encode("utf-16"), "{path}: cannot be read as a recipe"),
    "a zero": (b"name: a\0b", "{path}: not valid YAML"),
    "an escape": (b"name: \x1b[2J", "{path}: not valid YAML"),
    "a tab": (b"name: x\n\tseed: 3", "not valid YAML"),
    "a quote left open": (b'name: "x', "not valid YAML"),
    "a bracket left open": (b"name: [x", "not valid YAML"),
    "an alias of nothing": (b"name: *x", "not valid YAML"),
    "two documents": (b"name: x\n---\nname: y\n", "not valid YAML"),
    "a Python object": (b"name: !!python/object/apply:os.system ['true']", "not valid YAML"),
    "a Python name": (b"name: !!python/name:os.system", "not valid YAML"),
    "a tag of its own": (b"name: !mine x", "not valid YAML"),
    "a date that is none": (b"name: 2024-99-99", "not valid YAML"),
    "binary": (GOOD.replace("tiny", "!!binary 'Lw=='").encode(), "{path}:1: name: "),
    "a key that is a list": (b"[1, 2]: x", "not valid YAML"),
    "a key that is a mapping": (b"{a: 1}: x", "not valid YAML"),
    "a number as a key": (GOOD.encode() + b"3: x\n", "keys should be strings, got 3"),
    "null as a key": (GOOD.encode() + b"null: x\n", "keys should be strings, got None"),
    "a key given twice": (b"name: x\nname: y\n", "{path}:2: name: given twice"),
    "no operator": (b"name: x\n", "degradation: missing"),
    "no name": (GOOD.partition("\n")[2].encode(), "name: missing"),
    "a name that climbs": (GOOD.replace("tiny", "../../x").encode(), "{path}:1: name: "),
    "a name of a device": (GOOD.replace("tiny", "'a/b'").encode(), "{path}:1: name: "),
    "an empty name": (GOOD.replace("tiny", "''").encode(), "{path}:1: name: "),
    "a name that is a number": (GOOD.replace("tiny", "7").encode(), "{path}:1: name: "),
    "an operator that is a word": (
        b"name: x\ndegradation: blindsr\nprior: {kind: mcformer}\n",
        "{path}:2: degradation",
    ),
    "an operator without a kind": (b"name: x\ndegradation: {}\nprior: {}\n", "degradation.kind: missing"),
    "a kind that is a list": (b"name: x\ndegradation: {kind: [a]}\nprior: {}\n", "degradation.kind"),
    "a kind of another role": (GOOD.replace("kind: blindsr", "kind: mcformer").encode(), "'mcformer'"),
    "extends nothing": (b"extends: nothing.yaml\n", "{path}:1: extends: no such recipe"),
    "extends itself": (b"extends: case.yaml\n", "extends itself in a circle"),
    "extends a number": (b"extends: 3\n", "{path}:1: extends: is the path of another recipe"),
    "extends a folder": (b"extends: .\n", "{path}:1: extends: no such recipe"),
    "extends a long name": (b"extends: " + b"x" * 5000 + b"\n", "{path}:1: extends: no such recipe"),
    "extends a device": (b"extends: /dev/zero\n", "{path}:1: extends: no such recipe"),
    "extends another user's": (b"extends: ~nobody-of-that-name/x.yaml\n", "extends: no such recipe"),
}

# --- changes, on a good recipe

CHANGES = {
    "nothing": ("", "write it as key=value"),
    "no value": ("seed", "write it as key=value"),
    "no key": ("=3", "write it as key=value"),
    "dots alone": ("...=3", "unknown key"),
    "a key in nowhere": ("nowhere=3", "nowhere: unknown key"),
    "a key below a number": ("seed.x=3", "seed"),
    "beyond a list": ("guidance.9.kind=known", "the recipe has no 'guidance.9'"),
    "before a list": ("guidance.-1=3", "the recipe has no 'guidance.-1'"),
    "a place that is a word": ("guidance.first=3", "the recipe has no 'guidance.first'"),
    "a negative seed": ("seed=-1", "seed: "),
    "a seed with a point": ("seed=1.5", "seed: "),
    "a seed that is a word": ("seed=abc", "seed: "),
    "no steps": ("sampler.steps=0", "sampler.steps: "),
    "a truth for steps": ("sampler.steps=true", "sampler.steps: "),
    "endless steps": ("sampler.steps=.inf", "sampler.steps: "),
    "more steps than there are": ("sampler.steps=1000000000", "sampler.steps: "),
    "no number": ("sampler.eta=.nan", "sampler.eta: "),
    "a text for a number": ("sampler.eta='1'", "sampler.eta: "),
    "below zero": ("sampler.temperature=-1", "sampler.temperature: "),
    "a mapping for a number": ("sampler.temperature={a: 1}", "sampler.temperature: "),
    "a small tile": ("sampler.tile=1", "sampler.tile: "),
    "no scale": ("degradation.scale=0", "degradation.scale: "),
    "a giant scale": ("degradation.scale=1000000", "degradation.scale: "),
    "an even kernel": ("degradation.kernel_size=20", "kernel_size"),
    "a kernel of nothing": ("degradation.kernel_size=-1", "kernel_size"),
    "a giant kernel": ("degradation.kernel_size=100001", "has 100001x100001"),
    "an unknown family": ("degradation.kernels={family: round}", "degradation.kernels"),
    "a range upside down": ("degradation.kernels={family: isotropic, sigma: [4, 1]}", "sigma"),
    "a range of one": ("degradation.kernels={family: isotropic, sigma: [4]}", "sigma"),
    "a width without end": ("degradation.kernels={family: isotropic, sigma: [1, .inf]}", "sigma"),
    "noise below zero": ("degradation.noise_sigma=-1", "noise_sigma"),
    "a script": ("prior.kind=__import__('os')", "no prior is called"),
    "weights in a device": ("prior.weights=/dev/zero", "no weights '/dev/zero'"),
    "weights of another user": ("prior.weights=~nobody-of-that-name/x", "weights '~nobody-of-that-name/x'"),
    "weights with a long name": ("prior.weights=" + "x" * 5000, "File name too long"),
    "weights with a zero": ('prior.weights="a\\0b"', "no weights 'a\\x00b'"),
    "a crop of nothing": ("input.crop=0", "input.crop: "),
    "a sample that is none": ("input.sample=../../etc/passwd", "input.sample: "),
    "a tag": ("seed=!!python/name:os.system", "the value is not valid YAML"),
    "an alias of nothing": ("seed=*a", "the value is not valid YAML"),
    "two documents": ("seed=1\n---\n2", "the value is not valid YAML"),
    "an escape": ("sampler.\x1b[2J=1", "unknown key"),
    "a word that turns": ("sampler.\u202e=1", "unknown key"),
    "a list for guidance": ("guidance=[[]]", "guidance"),
    "a text for guidance": ("guidance=known", "guidance"),
}

# --- calls: arguments, with places by name

CALLS = {
    "size zero": ("info {recipe} --size 0", "--size"),
    "size below zero": ("info {recipe} --size -5", "--size"),
    "size of 30 digits": ("info {recipe} --size " + "9" * 30, "--size"),
    "size of 5000 digits": ("info {recipe} --size " + "9" * 5000, "--size"),
    "seed of 5000 digits": ("run {recipe} -o {out} --seed " + "9" * 5000, "--seed"),
    "a device of 5000 letters": ("run {recipe} -o {out} --device " + "x" * 5000, "--device"),
    "an option of 5000 letters": ("run {recipe} --" + "x" * 5000, "No such option"),
    "a command of 5000 letters": ("x" * 5000, "No such command"),
    "a recipe of 5000 letters": ("run " + "x" * 5000, "no such recipe (File name too long)"),
    "a picture of 5000 letters": ("run {recipe} " + "x" * 5000 + " -o {out}", "File name too long"),
    "an output of 5000 letters": ("run {recipe} -o {out}/" + "x" * 5000, "File name too long"),
    "a kernel of 5000 letters": ("run {recipe} -o {out} {photo} --kernel " + "x" * 5000, "File name too long"),
    "a folder for a recipe": ("run {empty}", "{empty}: "),
    "a folder for a kernel": ("run {recipe} -o {out} {photo} --kernel {empty}", "no kernels here"),
    "a picture for a recipe": ("run {photo}", "{photo}: cannot be read as a recipe"),
    "a picture for weights": ("run {recipe} -o {out} --set prior.weights={photo}", "not a readable safetensors file"),
    "a picture for LPIPS": ("run {recipe} -o {out} --lpips {photo}", "{photo}"),
    "a picture for a checkpoint": ("weights import {photo} -o {out}", "{photo}: not a checkpoint"),
    "a folder for a checkpoint": ("weights import {empty} -o {out}", "{empty}: not a file"),
    "a device for a picture": ("run {recipe} /dev/zero -o {out}", "neither a file nor a folder"),
    "a device for an output": ("run {recipe} -o /dev/null", "/dev/null: cannot write"),
    "no name for an output": ("run {recipe} {photo} -o ''", "'--output': an empty name"),
    "no name for an evaluation": ("eval {recipe} {photos} -o ''", "'--output': an empty name"),
    "no name for a training": ("train {training} -o '' --data {photos}", "'--output': an empty name"),
    "no name for weights": ("weights import {photo} -o ''", "'--output': an empty name"),
    "no name for a plugin's folder": ("new-plugin haze -o ''", "'--output': an empty name"),
    "no name for a recipe": ("info ''", "'RECIPE': an empty name"),
    "no name for a recipe to show": ("recipes show ''", "'NAME': an empty name"),
    "no name for a picture": ("run {recipe} '' -o {out}", "an empty name"),
    "no name for an input": ("run {recipe} -i '' -o {out}", "'--input': an empty name"),
    "no name for a kernel": ("run {recipe} {photo} -o {out} --kernel ''", "'--kernel': an empty name"),
    "no name for references": ("run {recipe} {photo} -o {out} --reference ''", "'--reference': an empty name"),
    "no name for data": ("eval {recipe} '' -o {out}", "an empty name"),
    "no name for a set of kernels": ("eval {recipe} {photos} -o {out} --kernels ''", "'--kernels': an empty name"),
    "no name for photos": ("train {training} -o {out} --data ''", "'--data': an empty name"),
    "no name for photos of a recipe": ("train {training} -o {out} --set \"train.data=['']\"", "an empty name"),
    "no name to validate on": ("train {training} -o {out} --data {photos} --validate ''", "an empty name"),
    "no name for a checkpoint": ("weights import '' -o {out}", "an empty name"),
    "an output below a device": ("run {recipe} -o /dev/null/x", "/dev/null/x: cannot write"),
    "a kernel for no picture": ("run {recipe} -o {out} --kernel {empty}", "--kernel"),
    "no data": ("eval {recipe} -o {out}", "DATA"),
    "no output": ("eval {recipe} {photo}", "-o"),
    "data that is nothing": ("eval {recipe} {none} -o {out}", "{none}: no such file or folder"),
    "an unknown method": ("eval {recipe} {photos} -o {out} --method nothing", "nothing"),
    "an unknown set": ("eval {recipe} {photos} -o {out} --kernels nothing", "nothing"),
    "a variant without a label": ("eval {recipe} {photos} -o {out} --variant sampler.steps=1", "--variant"),
    "no pictures at all": ("eval {recipe} {photos} -o {out} --limit 0", "--limit"),
    "less than no repeat": ("eval {recipe} {photos} -o {out} --repeat -1", "--repeat"),
    "training on nothing": ("train {training} -o {out}", "--data"),
    "training on a device": ("train {training} -o {out} --data /dev/zero", "/dev/zero: no such folder"),
    "resuming nothing": ("train {training} -o {out} --data {photos} --resume", "no checkpoint to resume from"),
    "cooling down for no steps": ("train {training} -o {out} --data {photos} --resume --cooldown 0", "--cooldown"),
    "starting from nothing": ("train {training} -o {out} --data {photos} --set train.start={none}", "no weights"),
    "validating on nothing": ("train {training} -o {out} --data {photos} --validate {none}", "--validate"),
    "a batch of nothing": ("train {training} -o {out} --data {photos} --set train.batch=0", "train.batch"),
    "a rate without end": ("train {training} -o {out} --data {photos} --set train.learning_rate=.inf", "learning_rate"),
    "a plugin that climbs": ("new-plugin ../x -o {out}", "a Python word"),
    "a plugin with a keyword's name": ("new-plugin class -o {out}", "class"),
    "a plugin over a file": ("new-plugin haze -o {photo}", "{photo}"),
    "a check of nothing": ("check nothing", "no component is called 'nothing'"),
    "a check on another's operator": ("check motion --operator blindsr", "--operator"),
    "a failure expected of nothing": ("check blindsr --expected-failure nothing=never", "--expected-failure"),
    "a recipe that is not there to show": ("recipes show nothing", "no such recipe"),
    "a word after recipes": ("recipes nothing", "nothing"),
}

# --- pictures: bytes and a suffix; each is one failed line, and the good one beside it is done


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (16, 16), **options: object) -> bytes:
    """A grey picture in one of Pillow's formats."""
    buffer = io.BytesIO()
    Image.new(mode, size, 100 if mode in ("L", "I", "I;16") else None).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int = 8, colour: int = 2, data: bytes = b"", more: bytes = b"") -> bytes:
    """A PNG whose header may say what its data do not."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + body + chunk(b"IEND", b"")


def several(kind: str) -> bytes:
    frames = [Image.new("L", (16, 16), value) for value in (0, 200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def deep(value: np.generic) -> bytes:
    """A TIFF of that value and its type."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16), value)).save(buffer, "TIFF")
    return buffer.getvalue()


UNREADABLE = "not a picture that can be read"
PICTURES = {
    "nothing": (b"", ".png", UNREADABLE),
    "a zero": (b"\0", ".png", UNREADABLE),
    "zeros": (bytes(5000), ".jpg", UNREADABLE),
    "ones": (b"\xff" * 5000, ".jpg", UNREADABLE),
    "text": (b"hello", ".png", UNREADABLE),
    "a page": (b"<!DOCTYPE html><html></html>", ".jpg", UNREADABLE),
    "a drawing": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ".png", UNREADABLE),
    "XML with an entity": (b"<?xml version='1.0'?><!DOCTYPE s [<!ENTITY x SYSTEM 'file:///'>]>", ".png", UNREADABLE),
    "a program": (b"\x7fELF" + bytes(200), ".png", UNREADABLE),
    "a pickle": (b"\x80\x04\x95\x05\0\0\0\0\0\0\0\x8c\x01a\x94.", ".png", UNREADABLE),
    "a zip": (b"PK\x03\x04" + bytes(100), ".png", UNREADABLE),
    "a PDF": (b"%PDF-1.7\n", ".jpg", UNREADABLE),
    "FITS": (b"SIMPLE  =                    T" + b" " * 2850, ".png", UNREADABLE),
    "PNG: its signature alone": (b"\x89PNG\r\n\x1a\n", ".png", ""),
    "PNG: no pixels wide": (png(0, 16), ".png", ""),
    "PNG: no pixels at all": (png(0, 0), ".png", ""),
    "PNG: no data": (png(16, 16), ".png", ""),
    "PNG: half the data": (png(16, 16, data=bytes(200)), ".png", ""),
    "PNG: cut": (encoded("PNG", size=(64, 64))[:-40], ".png", ""),
    "PNG: of no depth": (png(16, 16, depth=7, data=bytes(800)), ".png", ""),
    "PNG: of no colour": (png(16, 16, colour=9, data=bytes(800)), ".png", ""),
    "PNG: a giant": (png(2**31 - 1, 2**31 - 1), ".png", "pixels; INVDIFF_MAX_PIXELS"),
    "PNG: a giant's line": (png(10**9, 1), ".png", "1000000000x1 are more than"),
    "PNG: a broken checksum": (png(16, 16, data=bytes(800)).replace(b"IDAT", b"IDAU"), ".png", ""),
    "PNG: a text that unfolds": (
        png(16, 16, data=bytes(784), more=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(70_000_000)))),
        ".png",
        "",
    ),
    "PNG: two frames": (several("PNG"), ".png", "holds 2 pictures"),
    "GIF: two frames": (several("GIF"), ".png", "holds 2 pictures"),
    "TIFF: two pages": (several("TIFF"), ".tif", "holds 2 pictures"),
    "WebP: two frames": (several("WEBP"), ".webp", "holds 2 pictures"),
    "GIF: cut": (encoded("GIF", "L", (64, 64))[:30], ".gif.png", ""),
    "JPEG: its first bytes": (b"\xff\xd8\xff\xe0", ".jpg", ""),
    "JPEG: cut": (encoded("JPEG", size=(64, 64))[:300], ".jpg", ""),
    "JPEG: no size": (encoded("JPEG").replace(struct.pack(">HH", 16, 16), bytes(4)), ".jpg", ""),
    "WebP: cut": (encoded("WEBP", size=(64, 64))[:40], ".webp", ""),
    "BMP: cut": (encoded("BMP", size=(64, 64))[:100], ".bmp", ""),
    "BMP: a giant": (
        encoded("BMP").replace(struct.pack("<ii", 16, 16), struct.pack("<ii", 10**6, 10**6)),
        ".bmp",
        "more than",
    ),
    "TIFF: cut": (encoded("TIFF", size=(64, 64))[:60], ".tif", ""),
    "TIFF: its first bytes": (b"II*\0", ".tif", ""),
    "TIFF: a circle of pages": (b"II*\0\x08\0\0\0\0\0\x08\0\0\0", ".tif", ""),
    "TIFF: far beyond": (b"II*\0\xff\xff\xff\x7f", ".tif", ""),
    "TIFF: floats beyond 1": (deep(np.float32(7)), ".tif", "a float image must be finite and in [0, 1]"),
    "TIFF: no numbers": (deep(np.float32("nan")), ".tif", "a float image must be finite"),
    "TIFF: without end": (deep(np.float32("inf")), ".tif", "a float image must be finite"),
    "PPM: no numbers": (b"P6\nx y\n255\n", ".ppm", ""),
    "PPM: too many digits": (b"P6\n" + b"9" * 5000 + b" 1\n255\n", ".ppm", ""),
    "PPM: no pixels": (b"P6\n0 0\n255\n", ".ppm", ""),
    "PPM: cut": (b"P6\n16 16\n255\n" + bytes(50), ".ppm", ""),
    "PPM: a giant": (b"P6\n100000 100000\n255\n", ".ppm", "are more than 100,000,000 pixels"),
    "TGA: cut": (encoded("TGA", size=(64, 64))[:30], ".tga", ""),
    "JPEG 2000: cut": (encoded("JPEG2000", size=(64, 64))[:60], ".jp2", ""),
    "AVIF: its first bytes": (b"\0\0\0\x1cftypavif" + bytes(16), ".avif", ""),
    "TIFF: beyond 16 bit": (deep(np.int32(70_000)), ".tif", "integer pixels beyond 16 bit"),
}

# --- kernels: bytes and a suffix


def array(values: object, dtype: object = None) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values, dtype), allow_pickle=False)
    return buffer.getvalue()


def matlab(**variables: object) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, variables)
    return buffer.getvalue()


def two_kernels() -> np.ndarray:
    cells = np.empty((1, 2), object)
    cells[0] = [np.eye(3), np.eye(5)]
    return cells


def npy(header: str) -> bytes:
    """A NumPy file with that header and no data."""
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text


KERNELS = {
    "nothing": (b"", ".npy", "cannot be read as a kernel"),
    "text": (b"hello", ".npy", "cannot be read as a kernel"),
    "a header alone": (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (5, 5), }"), ".npy", "cannot be read"),
    "a giant's header": (
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (10**9,), }"),
        ".npy",
        "cannot be read",
    ),
    "a giant": (
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999, 99999999), }"),
        ".npy",
        "cannot be read",
    ),
    "a header that is code": (npy("__import__('os').system('true')"), ".npy", "cannot be read as a kernel"),
    "a header of objects": (
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (5, 5), }"),
        ".npy",
        "cannot be read",
    ),
    "cut": (array(np.ones((5, 5)))[:-9], ".npy", "cannot be read as a kernel"),
    "an even side": (array(np.ones((4, 4))), ".npy", "a kernel has an odd side, got 4"),
    "no side": (array(np.ones((0, 0))), ".npy", "a kernel has an odd side, got 0"),
    "no square": (array(np.ones((3, 5))), ".npy", "a kernel is square, got 3x5"),
    "a number": (array(1.0), ".npy", "a kernel is square, got a number"),
    "a volume": (array(np.ones((3, 3, 3))), ".npy", "a kernel is square, got 3x3x3"),
    "too large": (array(np.ones((101, 101))), ".npy", "does not fit kernel_size 21"),
    "all zero": (array(np.zeros((5, 5))), ".npy", "the kernel is all zero"),
    "below zero": (array(-np.ones((5, 5))), ".npy", "finite and not negative"),
    "no numbers": (array(np.full((5, 5), np.nan)), ".npy", "finite and not negative"),
    "without end": (array(np.full((5, 5), np.inf)), ".npy", "finite and not negative"),
    "complex": (array(np.ones((5, 5), complex)), ".npy", "an array of real numbers, got complex128"),
    "letters": (array(np.full((5, 5), "a")), ".npy", "an array of real numbers, got <U1"),
    "dates": (array(np.zeros((5, 5), "datetime64[s]")), ".npy", "an array of real numbers, got datetime64"),
    "a sum without end": (array(np.full((5, 5), 1e308)), ".npy", "finite and not negative"),
    "a picture that is none": (b"hello", ".png", UNREADABLE),
    "a black picture": (png(5, 5, data=bytes(5 * 16)), ".png", "the kernel is all zero"),
    "an unknown kind": (array(np.ones((5, 5))), ".txt", "a kernel is one of .npy, .png, .mat"),
    "MATLAB: nothing": (b"", ".mat", "cannot be read as a kernel"),
    "MATLAB: text": (b"hello" * 100, ".mat", "cannot be read as a kernel"),
    "MATLAB: of version 7.3": (b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\x02IM" + bytes(400), ".mat", ""),
    "MATLAB: no kernels": (matlab(other=np.ones((5, 5))), ".mat", "has no variable 'kernels'"),
    "MATLAB: words": (matlab(kernels="hello"), ".mat", "a kernel"),
    "MATLAB: a structure": (matlab(kernels={"a": 1}), ".mat", "a kernel"),
    "MATLAB: several": (matlab(kernels=two_kernels()), ".mat", "holds 2 kernels, and one is needed"),
    "MATLAB: an even side": (matlab(kernels=np.ones((4, 4))), ".mat", "a kernel has an odd side, got 4"),
}
