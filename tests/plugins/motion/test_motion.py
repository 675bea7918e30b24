"""The motion operator: trajectories against their law, drawing against integrals, kernel files, convolution."""

import io
import math
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.signal
import scipy.stats
import torch
from PIL import Image
from pydantic import ValidationError

from invdiff.blur.kernel_files import read_kernels
from invdiff.errors import ImageError
from invdiff_motion.hand import Hand, hand_kernel
from invdiff_motion.operator import Motion, MotionSettings
from invdiff_motion.trajectory import draw_line, motion_kernel, path


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def operator(**settings):
    return Motion(MotionSettings.model_validate(settings))


def centre(kernel):
    """Rows and columns from the middle to the centre of mass."""
    kernel = np.asarray(kernel, np.float64)
    line = np.arange(len(kernel)) - len(kernel) // 2
    return np.array([kernel.sum(1) @ line, kernel.sum(0) @ line]) / kernel.sum()


# --- paths


def paths(intensity, count=600, size=31):
    g = gen(7)
    return [path(size, intensity, g).numpy() for _ in range(count)]


def lengths(found):
    return np.array([np.linalg.norm(np.diff(p, axis=0), axis=1).sum() for p in found])


def turning(vertices):
    moves = np.diff(vertices, axis=0)
    change = np.diff(np.arctan2(moves[:, 0], moves[:, 1]))
    return np.abs((change + math.pi) % (2 * math.pi) - math.pi).sum()


def test_a_path_of_intensity_0_is_straight():
    for vertices in paths(0.0, 300):
        first, last = vertices[1], vertices[-1]
        assert np.abs(np.outer(vertices[:, 0], last[1]) - np.outer(vertices[:, 1], last[0])).max() < 1e-9
        assert (vertices[1:] @ first > 0).all()  # and never turns back


@pytest.mark.parametrize("intensity", [0.0, 0.3, 1.0])
def test_a_path_starts_at_the_origin_and_goes_on(intensity):
    for vertices in paths(intensity, 50):
        assert vertices.dtype == np.float64
        assert len(vertices) >= 2
        assert np.isfinite(vertices).all()
        assert (vertices[0] == 0).all()
        assert (np.linalg.norm(np.diff(vertices, axis=0), axis=1) > 0).all()


@pytest.mark.parametrize("size", [15, 61])
@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
def test_the_mean_length_is_that_of_its_law(size, intensity):
    # Half of 0.75 D (1/2 + I^2 / 2), and at most one mean step more, as the last overshoots.
    half = math.sqrt(2) * size
    expected = 0.75 * half * (1 + intensity**2) / 2
    found = lengths(paths(intensity, 2000, size))
    error = 4 * found.std() / math.sqrt(2000)
    assert expected - error < found.mean() < expected + (1.1 - intensity) * half / 31 + error


def test_intensity_makes_paths_longer_of_more_steps_and_turns():
    found = [paths(i) for i in (0.0, 0.25, 0.5, 0.75, 1.0)]
    for measure in (lengths, lambda p: np.array([len(v) for v in p]), lambda p: np.array([turning(v) for v in p])):
        means = [measure(p).mean() for p in found]
        assert means == sorted(means)
        assert means[-1] > 1.5 * means[0]


@pytest.mark.parametrize("intensity", [0.0, 0.5])
def test_paths_point_anywhere(intensity):
    angles = np.array([math.atan2(*p[1]) for p in paths(intensity)]) % math.pi
    assert scipy.stats.kstest(angles, scipy.stats.uniform(0, math.pi).cdf).pvalue > 0.01


@pytest.mark.parametrize("intensity", [-0.01, 1.01, math.nan, math.inf])
def test_an_intensity_beyond_0_to_1_is_refused(intensity):
    with pytest.raises(ValueError, match="intensity must be in"):
        path(31, intensity, gen())


# --- drawing


@pytest.mark.parametrize("size", [3, 5, 15, 31, 61])
@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
def test_a_drawn_kernel_is_a_centred_kernel(size, intensity):
    g = gen(1)
    for _ in range(20):
        kernel, shift = motion_kernel(size, intensity, g)
        assert kernel.shape == (size, size)
        assert kernel.dtype == torch.float64
        assert shift.shape == (2,)
        assert (kernel >= 0).all()
        assert abs(float(kernel.sum()) - 1) < 1e-9
        assert np.abs(centre(kernel)).max() < 1e-6


def test_kernels_follow_the_generator_alone():
    before = torch.get_rng_state()
    assert torch.equal(motion_kernel(31, 0.5, gen(3))[0], motion_kernel(31, 0.5, gen(3))[0])
    assert not torch.equal(motion_kernel(31, 0.5, gen(3))[0], motion_kernel(31, 0.5, gen(4))[0])
    assert torch.equal(torch.get_rng_state(), before)


def line(*vertices):
    return torch.tensor(vertices, dtype=torch.float64)


def tent(vertices, size, count=20000):
    """Fine points along the line, each spread by a triangle of one pixel: the integral, segment by segment."""
    points, weights = [], []
    for a, b in zip(vertices[:-1].numpy(), vertices[1:].numpy(), strict=True):
        points.append(a + (np.arange(count)[:, None] + 0.5) / count * (b - a))
        weights.append(np.full(count, np.linalg.norm(b - a) / count))
    points, weights = np.concatenate(points), np.concatenate(weights)
    weights /= weights.sum()
    places = points - weights @ points + size // 2
    rows, cols = (np.clip(1 - np.abs(np.arange(size)[:, None] - places[:, i]), 0, None) for i in (0, 1))
    return (rows * weights) @ cols.T


@pytest.mark.parametrize("length", [0.4, 1.0, 3.0, 6.7, 11.5])
def test_a_horizontal_line_is_a_box_under_a_triangle(length):
    def area(t):  # of the triangle, left of t
        t = np.clip(t, -1, 1)
        return np.where(t < 0, (1 + t) ** 2 / 2, 1 - (1 - t) ** 2 / 2)

    kernel, _ = draw_line(line((0, 0), (0, length)), 15)
    place = np.arange(15) - 7
    want = (area(place + length / 2) - area(place - length / 2)) / length
    np.testing.assert_allclose(kernel[7], want, atol=2e-3)
    assert float(kernel[:7].sum() + kernel[8:].sum()) < 1e-12


@pytest.mark.parametrize("vertices", [((0, 0), (6, 4)), ((3, 3), (3, 9), (-1, 9)), ((0, 0), (5, 0), (0.5, 0.5))])
def test_a_line_of_light_is_its_integral(vertices):
    kernel, shift = draw_line(line(*vertices), 15)
    np.testing.assert_allclose(kernel, tent(line(*vertices), 15), atol=2e-3)
    moved, less = draw_line(line(*vertices) + 2.25, 15)  # where it lies does not matter
    torch.testing.assert_close(moved, kernel, rtol=0, atol=1e-12)
    torch.testing.assert_close(less, shift - 2.25, rtol=0, atol=1e-12)


def test_rows_come_first():
    down, _ = draw_line(line((0, 0), (6, 0)), 9)
    assert float(down[:, 4].sum()) == pytest.approx(1)
    assert float(down[2, 4]) > 0.1


def test_a_path_that_does_not_fit_is_not_drawn():
    assert draw_line(line((0, 0), (0, 14)), 15) is not None
    assert draw_line(line((0, 0), (0, 14.5)), 15) is None
    assert draw_line(line((0, 0), (14.5, 0)), 15) is None


# --- the operator

NUMPY = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}  # NumPy's names for the same borders
PADDINGS = pytest.mark.parametrize("padding", [*NUMPY, "valid"])


def picture(*size, batch=2, seed=0):
    return torch.rand(batch, 3, *size, generator=gen(seed), dtype=torch.float64)


def kernels(batch, side=7, seed=5):
    theta = torch.rand(batch, side, side, generator=gen(seed), dtype=torch.float64)
    return theta / theta.sum((1, 2), keepdim=True)


@PADDINGS
@pytest.mark.parametrize("size", [(20, 24), (21, 17)])
def test_shapes(padding, size):
    op = operator(kernel_size=7, padding=padding)
    x = picture(*size)
    y, theta = op.degrade(x, gen())
    lost = 6 if padding == "valid" else 0
    assert (op.scale, op.linear) == (1, True)
    assert op.output_shape(size) == y.shape[2:] == (size[0] - lost, size[1] - lost)
    assert theta.shape == (2, 7, 7) == (2, *op.parameters.shape)
    assert op.lift(y).shape == op.baseline(y).shape == op.adjoint(y, theta).shape == x.shape
    assert op.frame(x).shape == y.shape
    assert torch.equal(op.frame(op.lift(y)), y)
    if padding != "valid":
        assert torch.equal(op.lift(y), y)


@PADDINGS
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", [(15, 21), (9, 9), (7, 10)])
def test_adjoint(padding, batch, size):
    op, theta = operator(kernel_size=7, padding=padding), kernels(batch)
    x = torch.randn(batch, 3, *size, generator=gen(1), dtype=torch.float64)
    y = torch.randn(batch, 3, *op.output_shape(size), generator=gen(2), dtype=torch.float64)
    left, right = (op.apply(x, theta) * y).sum(), (x * op.adjoint(y, theta)).sum()
    assert abs(float(left - right)) < 1e-12 * float(x.norm() * y.norm())


@PADDINGS
def test_apply_is_scipys_true_convolution(padding):
    x, theta = picture(13, 18), kernels(2)
    y = operator(kernel_size=7, padding=padding).apply(x, theta)
    for i in range(2):
        for c in range(3):
            plane = x[i, c].numpy()
            padded = plane if padding == "valid" else np.pad(plane, 3, mode=NUMPY[padding])
            want = scipy.signal.convolve2d(padded, theta[i].numpy(), mode="valid")
            np.testing.assert_allclose(y[i, c].numpy(), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", ["circular", "valid"])
def test_a_point_shows_the_kernel_unflipped(padding):
    theta, x = kernels(1), torch.zeros(1, 3, 17, 21, dtype=torch.float64)
    x[..., 8, 10] = 1
    y = operator(kernel_size=7, padding=padding).apply(x, theta)
    row, col = (5, 7) if padding == "circular" else (2, 4)
    torch.testing.assert_close(y[0, 1, row : row + 7, col : col + 7], theta[0], rtol=0, atol=1e-14)
    assert abs(float(y[0, 1].sum()) - 1) < 1e-12


def test_valid_is_the_inside_of_a_scene_that_goes_on():
    x, theta = picture(20, 22), kernels(2)
    whole, inside = operator(kernel_size=7), operator(kernel_size=7, padding="valid")
    torch.testing.assert_close(inside.apply(x, theta), inside.frame(whole.apply(x, theta)), rtol=0, atol=1e-14)


def test_valid_lifts_by_repeating_the_border():
    y = picture(6, 9)
    lifted = operator(kernel_size=7, padding="valid").lift(y)
    np.testing.assert_array_equal(lifted[1, 2], np.pad(y[1, 2], 3, mode="edge"))


@PADDINGS
@pytest.mark.parametrize("sigma", [0.01, 0.1])
def test_the_noise_is_that_asked_for(padding, sigma):
    x = torch.full((2, 3, 120, 120), 0.5, dtype=torch.float64)
    y, theta = operator(kernel_size=7, padding=padding, noise_sigma=sigma).degrade(x, gen())
    noise = y - operator(kernel_size=7, padding=padding).apply(x, theta)
    count = noise.numel()
    assert float(noise.std()) == pytest.approx(sigma, rel=4 / math.sqrt(2 * count))
    assert abs(float(noise.mean())) < 4 * sigma / math.sqrt(count)


@PADDINGS
@pytest.mark.parametrize("size", [(14, 20), (20, 14)])
def test_a_picture_smaller_than_the_kernel_is_refused(padding, size):
    op = operator(kernel_size=15, padding=padding)
    with pytest.raises(ImageError, match=rf"{size[1]}x{size[0]} pixels are too small for a kernel of 15x15"):
        op.output_shape(size)
    assert op.output_shape((15, 15)) == ((1, 1) if padding == "valid" else (15, 15))


@pytest.mark.parametrize("intensity", [0, 0.5, 1, [0.2, 0.2], [0, 1]])
def test_parameters_are_kernels(intensity):
    op = operator(kernel_size=15, intensity=intensity)
    theta = op.sample_parameters(12, gen())
    assert theta.dtype == torch.float32
    assert op.parameters.contains(theta)
    assert not op.parameters.contains(theta * 1.1)
    assert len({k.numpy().tobytes() for k in theta}) == 12
    assert torch.equal(theta, op.sample_parameters(12, gen()))
    assert max(np.abs(centre(k)).max() for k in theta) < 1e-5


def spread(theta):
    """Each kernel's variance along its shorter axis: little for a line."""
    place = np.indices(theta.shape[1:]).reshape(2, -1) - theta.shape[-1] // 2
    values = [np.linalg.eigvalsh((place * k.double().numpy().ravel()) @ place.T) for k in theta]
    return np.array([v[0] for v in values])


def test_an_interval_of_intensities_is_drawn_from():
    straight, between, shaken = (
        spread(operator(intensity=i).sample_parameters(200, gen())) for i in (0, [0.0, 1.0], [0.9, 1.0])
    )
    assert straight.max() < 0.5  # what the triangle of one pixel adds is at most a quarter each way
    assert 1.3 * np.median(straight) < np.median(between) < np.median(shaken) / 1.3
    assert between.min() < 0.25  # some are as good as straight


def test_defaults_draw_31x31_at_half_intensity():
    settings = operator().settings
    assert (settings.kernel_size, settings.intensity, settings.kernels) == (31, 0.5, None)
    assert (settings.padding, settings.noise_sigma, settings.quantize) == ("reflect", 0, False)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"kernel_size": 20}, "kernel_size must be odd, got 20"),
        ({"kernel_size": 1}, "kernel_size"),
        ({"intensity": -0.1}, "intensity"),
        ({"intensity": [0.2, 1.5]}, "intensity"),
        ({"intensity": [0.8, 0.2]}, r"\[low, high\], got \[0.8, 0.2\]"),
        ({"intensity": [0.1, 0.2, 0.3]}, "intensity"),
        ({"padding": "zeros"}, "padding"),
        ({"kernels": "no/such.npy"}, "no/such.npy: no such file or folder"),
        ({"scale": 2}, "scale"),
    ],
)
def test_wrong_settings_are_refused(settings, where):
    with pytest.raises(ValidationError, match=where):
        operator(**settings)


# --- measured kernels


def levels(side=5):
    """A kernel of whole 8-bit levels without symmetry, its centre of mass less than half a pixel off the middle."""
    array = np.random.default_rng(0).integers(1, 60, (side, side)).astype(np.uint8)
    array[side // 2, side // 2] = 255
    assert np.abs(centre(array)).max() < 0.5
    assert not np.allclose(array, array.T)
    return array


def save(file, *arrays):
    """Saves arrays in the format that the file's name says."""
    if file.suffix == ".npy":
        np.save(file, arrays[0])
    elif file.suffix == ".png":
        Image.fromarray(arrays[0]).save(file)
    else:
        cell = np.empty((1, len(arrays)), dtype=object)
        cell[0, :] = [*arrays]
        scipy.io.savemat(file, {"kernels": cell})
    return file


FORMATS = pytest.mark.parametrize("name", ["k.npy", "k.png", "k.mat"])


@FORMATS
@pytest.mark.parametrize("size", [5, 9])
def test_a_measured_kernel_is_framed_and_stays_as_it_lies(tmp_path, name, size):
    array = levels()
    (found,) = read_kernels(save(tmp_path / name, array), size)
    assert found.kernel.shape == (size, size)
    assert found.kernel.dtype == torch.float64
    assert found.shift == (0, 0)
    assert found.name == str(tmp_path / name)
    assert abs(float(found.kernel.sum()) - 1) < 1e-12
    margin = (size - 5) // 2
    want = np.pad(array / array.sum(dtype=float), margin)  # neither flipped nor transposed
    np.testing.assert_allclose(found.kernel, want, atol=1e-7)  # a picture's levels pass through float32


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64, ">f8"])
def test_a_measured_kernel_of_any_real_type(tmp_path, dtype):
    array = levels().astype(dtype)
    (found,) = read_kernels(save(tmp_path / "k.npy", np.asfortranarray(array)), 5)
    np.testing.assert_allclose(found.kernel, array.astype(float) / array.astype(float).sum(), atol=1e-12)


def test_a_numeric_variable_of_a_matlab_file_is_one_kernel(tmp_path):
    scipy.io.savemat(tmp_path / "k.mat", {"kernels": levels()})
    (found,) = read_kernels(tmp_path / "k.mat", 5)
    np.testing.assert_allclose(found.kernel, levels() / levels().sum(dtype=float), atol=1e-12)


def test_a_matlab_file_holds_several(tmp_path):
    file = save(tmp_path / "k.mat", levels(5), levels(7), levels(5).T)
    found = read_kernels(file, 9)
    assert [k.name for k in found] == [f"{file}, kernel {i}" for i in (1, 2, 3)]
    torch.testing.assert_close(found[2].kernel, found[0].kernel.T, rtol=0, atol=0)
    assert np.count_nonzero(found[1].kernel) == 49


def test_a_folder_is_read_by_name(tmp_path):
    (tmp_path / "notes.txt").write_text("not a kernel")
    save(tmp_path / "c.npy", levels())
    save(tmp_path / "a.png", levels().T)
    save(tmp_path / "b.mat", levels(), levels(7))
    save(tmp_path / "d.npy", levels()).rename(tmp_path / "D.NPY")
    found = read_kernels(tmp_path, 7)
    assert [Path(k.name.partition(",")[0]).name for k in found] == ["D.NPY", "a.png", "b.mat", "b.mat", "c.npy"]
    torch.testing.assert_close(found[1].kernel, found[4].kernel.T, rtol=0, atol=1e-7)


@FORMATS
def test_a_kernel_off_centre_is_moved_by_whole_pixels(tmp_path, name):
    array = np.zeros((7, 7), np.uint8)
    array[1, 5] = 255
    (found,) = read_kernels(save(tmp_path / name, array), 9)
    assert found.shift == (2, -2)
    want = torch.zeros(9, 9, dtype=torch.float64)
    want[4, 4] = 1
    torch.testing.assert_close(found.kernel, want, rtol=0, atol=1e-12)


def test_centring_resamples_nothing(tmp_path):
    array = np.zeros((11, 11))
    array[4:9, 2:7] = levels()
    (found,) = read_kernels(save(tmp_path / "k.npy", array), 11)
    assert found.shift == (-1, 1)
    np.testing.assert_allclose(found.kernel[3:8, 3:8], levels() / levels().sum(dtype=float), atol=1e-15)
    assert np.abs(centre(found.kernel)).max() < 0.5


def test_measured_kernels_are_drawn(tmp_path):
    save(tmp_path / "k.mat", levels(), levels().T, levels(7))
    op = operator(kernel_size=7, kernels=str(tmp_path))
    theta = op.sample_parameters(60, gen())
    known = {k.kernel.float().numpy().tobytes() for k in read_kernels(tmp_path, 7)}
    assert len(known) == 3
    assert {k.numpy().tobytes() for k in theta} == known
    assert op.parameters.contains(theta)
    assert torch.equal(theta, op.sample_parameters(60, gen()))


def with_(value, side=5):
    array = np.ones((side, side))
    array[1, 1] = value
    return array


def pushed():
    """A heavy corner and a light one opposite: centring the first pushes the second out."""
    array = np.zeros((9, 9))
    array[0, 0], array[8, 8] = 9, 1
    return array


WRONG = {
    "even": (np.ones((4, 4)), "odd side, got 4"),
    "zero": (np.zeros((5, 5)), "all zero"),
    "negative": (with_(-0.1), "finite and not negative"),
    "nan": (with_(np.nan), "finite and not negative"),
    "infinite": (with_(np.inf), "finite and not negative"),
    "not square": (np.ones((5, 3)), "square, got 5x3"),
    "cube": (np.ones((5, 5, 5)), "square, got 5x5x5"),
    "large": (np.ones((11, 11)), "11x11 does not fit kernel_size 9"),
    "complex": (np.ones((5, 5), complex), "real numbers"),
    "pushed out": (pushed(), "pushes part of it out of kernel_size 9"),
}


def refusal(file, size=9):
    with pytest.raises(ImageError) as caught:
        read_kernels(file, size)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["k.npy", "k.mat"])
@pytest.mark.parametrize(("array", "expected"), WRONG.values(), ids=WRONG.keys())
def test_what_is_no_kernel_is_refused(tmp_path, name, array, expected):
    assert expected in refusal(save(tmp_path / name, array))


def test_pictures_that_are_no_kernels_are_refused(tmp_path):
    assert "odd side" in refusal(save(tmp_path / "even.png", np.full((4, 4), 9, np.uint8)))
    assert "square, got 3x5" in refusal(save(tmp_path / "wide.png", np.full((3, 5), 9, np.uint8)))
    assert "all zero" in refusal(save(tmp_path / "black.png", np.zeros((5, 5), np.uint8)))


def test_the_wrong_one_of_several_is_named(tmp_path):
    file = save(tmp_path / "k.mat", levels(), np.zeros((5, 5)))
    assert refusal(file) == f"{file}, kernel 2: the kernel is all zero"
    with pytest.raises(ImageError, match="kernel 2: the kernel is all zero"):  # in its folder as well
        read_kernels(tmp_path, 9)


def test_paths_without_kernels_are_refused(tmp_path):
    assert refusal(tmp_path / "none.npy") == f"{tmp_path / 'none.npy'}: no such file or folder"
    (tmp_path / "notes.txt").write_text("hello")
    assert "no kernels here (.npy, .png, .mat)" in refusal(tmp_path)
    assert "a kernel is one of .npy, .png, .mat" in refusal(tmp_path / "notes.txt")


def test_pickles_are_never_loaded(tmp_path):
    array = np.empty(2, dtype=object)
    array[:] = [levels(), levels()]
    np.save(tmp_path / "k.npy", array, allow_pickle=True)
    assert "pickle" in refusal(tmp_path / "k.npy")


def test_a_matlab_file_without_kernels_is_refused(tmp_path):
    scipy.io.savemat(tmp_path / "k.mat", {"psf": levels()})
    assert "no variable 'kernels'" in refusal(tmp_path / "k.mat")
    scipy.io.savemat(tmp_path / "k.mat", {"kernels": np.empty((1, 0), dtype=object)})
    refusal(tmp_path / "k.mat")
    scipy.io.savemat(tmp_path / "k.mat", {"kernels": "five"})
    refusal(tmp_path / "k.mat")


def npy(header):
    text = header.encode("latin1")
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def archive():
    buffer = io.BytesIO()
    np.savez(buffer, kernel=levels())
    return buffer.getvalue()


GARBAGE = {
    "empty": b"",
    "text": b"not a kernel at all, and long enough to look at twice" * 9,
    "random": np.random.default_rng(0).bytes(600),
    "npy of nothing": npy(""),
    "npy of nonsense": npy("{'descr': '<f8', 'fortran_order': ("),
    "npy cut off": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (5, 5), }\n") + bytes(16),
    "npy too large": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (10000001, 10000001), }\n"),
    "npy of a number": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (), }\n") + bytes(8),
    "zip": b"PK\x03\x04 and no more",
    "archive": archive(),
    "hdf5": b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(400),
}


@FORMATS
@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refusal(tmp_path / name)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_matlab_file_cut_off_is_refused(tmp_path, compressed):
    scipy.io.savemat(tmp_path / "k.mat", {"kernels": levels()}, do_compression=compressed)
    whole = (tmp_path / "k.mat").read_bytes()
    for length in range(0, len(whole) - 8, 3):
        (tmp_path / "k.mat").write_bytes(whole[:length])
        refusal(tmp_path / "k.mat")


def test_a_damaged_matlab_file_is_refused(tmp_path):
    # A compressed one: it has a checksum. SciPy takes the lengths in others on trust, to the point of crashing.
    scipy.io.savemat(tmp_path / "k.mat", {"kernels": levels()}, do_compression=True)
    whole = (tmp_path / "k.mat").read_bytes()
    for place in range(138, len(whole), 3):
        (tmp_path / "k.mat").write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        refusal(tmp_path / "k.mat")


def test_levins_kernels():
    if "INVDIFF_DATA" not in os.environ:
        pytest.skip("INVDIFF_DATA (kernels) is not set")
    files = sorted(Path(os.environ["INVDIFF_DATA"]).rglob("kernels/Levin09.mat"))
    if not files:
        pytest.skip("INVDIFF_DATA has no kernels/Levin09.mat")
    found = read_kernels(files[0], 31)
    assert len(found) == 8
    cells = scipy.io.loadmat(files[0])["kernels"].ravel()
    for measured, cell in zip(found, cells, strict=True):
        assert abs(float(measured.kernel.sum()) - 1) < 1e-6
        assert np.abs(centre(measured.kernel)).max() <= 0.5 + 1e-6
        want = np.pad(cell / cell.sum(), (31 - len(cell)) // 2)
        np.testing.assert_allclose(measured.kernel, np.roll(want, measured.shift, (0, 1)), atol=1e-12)


# --- recipes

MOTION = """\
name: shaken
degradation:
  kind: motion
  kernel_size: 21
  intensity: 0.5
  kernels: null
prior: {kind: mcformer, weights: WEIGHTS}
guidance:
  - {kind: kernel_aware, strength: 1.0}
sampler: {steps: 2, eta: 1.0}
input: {sample: astronaut, crop: 64, synthesize: true}
"""


@pytest.mark.parametrize(
    ("change", "line_number", "expected"),
    [
        (("kernel_size: 21", "kernel_size: 20"), 4, "kernel_size must be odd, got 20"),
        (("intensity: 0.5", "intensity: 1.5"), 5, "intensity"),
        (("intensity: 0.5", "intensity: [0.8, 0.2]"), 5, "intensity must be one number or [low, high]"),
        (("intensity: 0.5", "intensity: [0.8, 1.2]"), 5, "intensity"),
        (("intensity: 0.5", "intensity: strong"), 5, "intensity"),
        (("kernels: null", "kernels: ZERO"), (2, 6), "zero.npy: the kernel is all zero"),
        (("kernels: null", "kernels: no/such.mat"), (2, 6), "no/such.mat: no such file or folder"),
        (("kernels: null", "kernels: ~nobody-of-this-name/k.npy"), (2, 6), "kernels"),
        (("kernels: null", f"kernels: {'k' * 300}.npy"), (2, 6), "kernels"),
    ],
)
def test_bad_recipes_are_refused(refused, recipe, tmp_path, change, line_number, expected):
    file = save(tmp_path / "zero.npy", np.zeros((5, 5)))
    path = recipe(change, ("ZERO", str(file)), text=MOTION + "# ZERO\n")
    message = refused("run", path, "-o", tmp_path / "out")
    lines = line_number if isinstance(line_number, tuple) else (line_number,)
    assert message.startswith(tuple(f"{path}:{n}: " for n in lines)), message
    assert expected in message


# --- shakes of a hand


@pytest.mark.parametrize("size", [3, 9, 31])
def test_a_hands_kernel_is_a_centred_kernel(size):
    g = gen(2)
    for _ in range(30):
        kernel = hand_kernel(size, Hand(), g)
        assert kernel.shape == (size, size)
        assert kernel.dtype == torch.float64
        assert (kernel >= 0).all()
        assert abs(float(kernel.sum()) - 1) < 1e-9
        assert np.abs(centre(kernel)).max() < 1e-6


@pytest.mark.parametrize("span", [4.0, 8.0, 14.0])
def test_a_hands_path_spans_what_was_asked_for(span):
    g = gen(3)
    for _ in range(20):
        kernel = hand_kernel(31, Hand(span=(span, span), spread=(0, 0)), g) > 0
        extent = max(int(kernel.any(1).sum()), int(kernel.any(0).sum()))
        assert abs(extent - (span + 1)) <= 1  # from the pixel it begins in to the one it ends in


def test_a_hands_light_is_uneven_where_a_drawn_lines_is_not():
    def peak_over_mean(kernels):
        return float(np.median([float(k.max() / k[k > 0].mean()) for k in kernels]))

    g = gen(4)
    uneven = peak_over_mean([hand_kernel(31, Hand(span=(12, 20), spread=(0, 0)), g) for _ in range(100)])
    even = peak_over_mean([motion_kernel(31, 0.5, g)[0] for _ in range(100)])
    assert uneven > 1.5 * even


def test_spread_adds_its_variance():
    def variance(spread):
        kernel = hand_kernel(31, Hand(span=(8, 8), spread=(spread, spread)), gen(5)).numpy()
        line = np.arange(31) - 15
        return np.array([kernel.sum(1) @ line**2, kernel.sum(0) @ line**2])

    assert variance(0.7) - variance(0.0) == pytest.approx([0.49, 0.49], abs=0.01)


def test_the_share_of_hands():
    def kernels(**settings):
        return operator(kernel_size=15, intensity=0.0, **settings).sample_parameters(40, gen(6))

    def straight(kernel):
        rows, cols = torch.meshgrid(*[torch.arange(15.0) - 7] * 2, indexing="ij")
        moments = torch.stack([(kernel * a * b).sum() for a, b in ((rows, rows), (rows, cols), (cols, cols))])
        least = torch.linalg.eigvalsh(moments[[0, 1, 1, 2]].view(2, 2))[0]
        return float(least) < 0.35  # across a drawn line: the triangle of one pixel

    assert all(straight(k) for k in kernels())
    assert all(straight(k) for k in kernels(hand={"share": 0.0}))
    bent = sum(not straight(k) for k in kernels(hand={"share": 1.0}))
    assert bent > 30
    assert 8 < sum(not straight(k) for k in kernels(hand={"share": 0.5})) < bent


@pytest.mark.parametrize("hand", [{"span": [8, 4]}, {"spread": [0.5, 0.1]}, {"share": 1.1}, {"span": [0, 4]}])
def test_a_hand_that_cannot_be_is_refused(hand):
    with pytest.raises(ValidationError):
        operator(hand=hand)
