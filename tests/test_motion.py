"""Camera shake: trajectories against their description, the operator against SciPy, kernels from files."""

import itertools
import math
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.signal
import torch
from PIL import Image

from invdiff.deconvolution import centre_of_mass
from invdiff.errors import ImageError
from invdiff_motion.files import read_kernels
from invdiff_motion.operator import Motion, MotionSettings
from invdiff_motion.trajectory import draw_line, motion_kernel, path

PADDINGS = ["reflect", "replicate", "circular", "valid"]
NUMPY = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=gen(seed), dtype=torch.float64)


def operator(**settings):
    return Motion(MotionSettings(**settings))


# --- trajectories


@pytest.mark.parametrize("seed", range(20))
def test_without_intensity_the_path_is_straight(seed):
    vertices = path(31, 0.0, gen(seed))
    moves = vertices.diff(dim=0)
    cross = moves[:-1, 0] * moves[1:, 1] - moves[:-1, 1] * moves[1:, 0]
    assert cross.abs().max() < 1e-12 * moves.norm(dim=1).max() ** 2 + 1e-15
    assert ((moves[:-1] * moves[1:]).sum(1) >= 0).all()  # and never turns back


def statistics(intensity, count=300):
    """Means over many paths: length, steps, and absolute turning at each step, in radians."""
    length, steps, turning = [], [], []
    for seed in range(count):
        moves = path(31, intensity, gen(seed)).diff(dim=0)
        angle = torch.atan2(moves[:, 0], moves[:, 1]).diff()
        angle = torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
        length.append(float(moves.norm(dim=1).sum()))
        steps.append(len(moves))
        turning.append(float(angle.abs().mean()) if len(angle) else 0.0)
    return [sum(values) / count for values in (length, steps, turning)]


def test_length_steps_and_turning_grow_with_intensity():
    found = [statistics(i) for i in (0.0, 0.5, 1.0)]
    for before, after in itertools.pairwise(found):
        assert all(a > b for a, b in zip(after, before, strict=True))
    assert found[0][2] < 1e-6


@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
def test_the_mean_length_is_that_of_the_description(intensity):
    """0.75 D (u1 + u2), u1 ~ U(0, 1), u2 ~ U(0, I^2), on a canvas twice as large; the last step may overshoot."""
    canvas = 2 * math.sqrt(2) * 31
    want = 0.5 * 0.75 * canvas * (0.5 + intensity**2 / 2)
    step = 0.5 * canvas * (1.1 - intensity) / 31
    length = statistics(intensity, 600)[0]
    assert 0.93 * want < length < 1.07 * want + 2 * step


def test_directions_are_spread_over_the_half_circle():
    angles = []
    for seed in range(400):
        row, col = path(31, 0.0, gen(seed))[-1].tolist()
        angles.append(math.atan2(row, col) % math.pi)
    counts = np.histogram(angles, bins=8, range=(0, math.pi))[0]
    assert counts.min() > 25  # 50 expected, standard deviation 7
    assert counts.max() < 80


@pytest.mark.parametrize("intensity", [-0.1, 1.1, math.nan])
def test_an_intensity_out_of_range_is_refused(intensity):
    with pytest.raises(ValueError, match="intensity"):
        path(31, intensity, gen())


@pytest.mark.parametrize("size", [3, 5, 15, 31, 61])
@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
def test_a_kernel_is_whole_and_centred(size, intensity):
    for seed in range(5):
        kernel, _ = motion_kernel(size, intensity, gen(seed))
        assert kernel.shape == (size, size)
        assert (kernel >= 0).all()
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-9)
        assert centre_of_mass(kernel[None]).abs().max() < 1e-6
        assert torch.equal(kernel, motion_kernel(size, intensity, gen(seed))[0])


def test_a_path_that_does_not_fit_is_not_drawn():
    assert draw_line(torch.tensor([[0.0, 0.0], [0.0, 40.0]], dtype=torch.float64), 31) is None


def test_a_straight_line_is_a_box_seen_through_a_triangle():
    """Light spread evenly over the line, shared out linearly between pixels: an integral that can be done by hand."""
    length, size = 7.3, 15
    kernel, shift = draw_line(torch.tensor([[2.0, 1.0], [2.0, 1.0 + length]], dtype=torch.float64), size)
    places = np.linspace(7 - length / 2, 7 + length / 2, 100_001)
    want = np.array([np.maximum(0, 1 - np.abs(places - i)).mean() for i in range(size)])
    assert np.allclose(kernel[7].numpy(), want, atol=1e-3)
    assert float(kernel[7].sum()) == pytest.approx(1)
    assert shift.tolist() == pytest.approx([5.0, 7 - 1 - length / 2])


# --- the operator


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("size", [(21, 17), (16, 33)])
@pytest.mark.parametrize("batch", [1, 3])
def test_it_is_scipys_true_convolution(padding, size, batch):
    motion = operator(kernel_size=7, padding=padding)
    x, theta = rand(batch, 3, *size), motion.sample_parameters(batch, gen(1)).double()
    y = motion.apply(x, theta)
    assert y.shape[-2:] == motion.output_shape(size)
    for i in range(batch):
        for c in range(3):
            plane = x[i, c].numpy()
            padded = plane if padding == "valid" else np.pad(plane, 3, mode=NUMPY[padding])
            want = scipy.signal.convolve2d(padded, theta[i].numpy(), mode="valid")
            np.testing.assert_allclose(y[i, c].numpy(), want, atol=1e-12)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("size", [(21, 17), (16, 33), (9, 9)])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_adjoint_is_exact(padding, size, batch):
    motion = operator(kernel_size=9, intensity=1.0, padding=padding)
    theta = motion.sample_parameters(batch, gen(1)).double()
    x, y = rand(batch, 3, *size), rand(batch, 3, *motion.output_shape(size), seed=2)
    forward = (motion.apply(x, theta) * y).sum()
    back = (x * motion.adjoint(y, theta)).sum()
    assert float(forward) == pytest.approx(float(back), rel=1e-11)


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_point_shows_the_kernel_as_it_is(padding):
    motion = operator(kernel_size=7, padding=padding)
    x = torch.zeros(1, 3, 21, 21, dtype=torch.float64)
    x[..., 10, 10] = 1
    theta = torch.zeros(1, 7, 7, dtype=torch.float64)
    theta[0, 1, 2:6] = torch.tensor([0.4, 0.3, 0.2, 0.05])
    theta[0, 5, 1] = 0.05
    y = motion.apply(x, theta)
    start = 4 if padding == "valid" else 7
    assert torch.allclose(y[0, 0, start : start + 7, start : start + 7], theta[0])


@pytest.mark.parametrize("padding", PADDINGS)
def test_the_lift_has_the_clean_size_and_frames_the_photo(padding):
    motion = operator(kernel_size=7, padding=padding)
    y = rand(2, 3, *motion.output_shape((21, 30)))
    lifted = motion.lift(y)
    assert lifted.shape[-2:] == (21, 30)
    assert torch.equal(motion.frame(lifted), y)
    assert motion.scale == 1
    if padding != "valid":
        assert torch.equal(lifted, y)


def test_noise_is_on_unit_images():
    motion = operator(kernel_size=5, noise_sigma=0.03)
    y, theta = motion.degrade(torch.full((1, 3, 128, 128), 0.5), gen())
    assert motion.parameters.contains(theta)
    assert float((y - 0.5).std()) == pytest.approx(0.03, rel=0.02)


def test_a_range_of_intensities_is_drawn_from():
    """Across their longest direction straight kernels are thin, and others are not."""

    def thickness(**settings):
        drawn = operator(kernel_size=31, **settings).sample_parameters(200, gen()).double()
        i, j = torch.meshgrid(*[torch.arange(31).double() - 15] * 2, indexing="ij")
        moments = [(drawn * m).sum((1, 2)) for m in (i * i, i * j, i * j, j * j)]
        return float(torch.linalg.eigvalsh(torch.stack(moments, -1).view(-1, 2, 2))[:, 0].mean())

    assert thickness(intensity=0.0) < thickness(intensity=(0.0, 1.0)) < thickness(intensity=1.0)


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_picture_smaller_than_the_kernel_is_refused(padding):
    with pytest.raises(ImageError, match=r"^20x8 pixels are too small for a kernel of 9x9$"):
        operator(kernel_size=9, padding=padding).output_shape((8, 20))


# --- measured kernels


def lopsided():
    kernel = np.zeros((5, 5))
    kernel[1, 1:4] = [4, 2, 1]
    kernel[3, 1] = 1
    return kernel


@pytest.mark.parametrize("suffix", [".npy", ".png", ".mat"])
def test_a_kernel_from_a_file_is_neither_flipped_nor_turned(tmp_path, suffix):
    kernel, file = lopsided(), tmp_path / f"k{suffix}"
    if suffix == ".npy":
        np.save(file, kernel.astype(np.float32))
    elif suffix == ".png":
        Image.fromarray((kernel * 60).astype(np.uint8)).save(file)
    else:
        cells = np.empty((1, 1), dtype=object)
        cells[0, 0] = kernel
        scipy.io.savemat(file, {"kernels": cells})
    (found,) = read_kernels(file, 9)
    rows, cols = found.shift
    assert (rows, cols) == (1, 0)  # the mass lies 0.75 above and 0.5 left of the middle; 0.5 rounds to even
    want = np.zeros((9, 9))
    want[2 + rows : 7 + rows, 2 + cols : 7 + cols] = kernel / kernel.sum()
    assert np.allclose(found.kernel.numpy(), want, atol=1e-7)
    assert found.name == str(file)


def test_a_folder_holds_several(tmp_path):
    np.save(tmp_path / "b.npy", lopsided())
    cells = np.empty((1, 2), dtype=object)
    cells[0, 0], cells[0, 1] = np.ones((3, 3)), np.eye(5)
    scipy.io.savemat(tmp_path / "a.mat", {"kernels": cells})
    (tmp_path / "notes.txt").write_text("not a kernel")
    found = read_kernels(tmp_path, 7)
    assert len(found) == 3
    assert all(float(m.kernel.sum()) == pytest.approx(1) for m in found)
    drawn = operator(kernel_size=7, kernels=str(tmp_path)).sample_parameters(50, gen())
    assert len({tuple(k.flatten().tolist()) for k in drawn}) == 3


def test_a_point_off_the_middle_is_moved_there_and_reported(tmp_path):
    kernel = np.zeros((7, 7))
    kernel[1, 5] = 2.0
    np.save(tmp_path / "k.npy", kernel)
    (found,) = read_kernels(tmp_path / "k.npy", 7)
    assert found.shift == (2, -2)
    assert float(found.kernel[3, 3]) == 1


NAN = np.ones((3, 3))
NAN[0, 0] = np.nan
CORNER = np.zeros((5, 5))
CORNER[4, :] = CORNER[:, 4] = 1


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.ones((4, 4)), "odd side, got 4"),
        (np.zeros((5, 5)), "all zero"),
        (np.ones((5, 7)), "square, got 5x7"),
        (np.ones((3, 3, 3)), "square, got 3x3x3"),
        (np.ones((11, 11)), "11x11 does not fit kernel_size 9"),
        (-np.ones((3, 3)), "finite and not negative"),
        (NAN, "finite and not negative"),
        (np.ones((3, 3)) * 1j, "real numbers"),
        (np.array([["a"]]), "real numbers"),
        (np.array([[{}]], dtype=object), "cannot be read as a kernel"),
    ],
)
def test_what_is_no_kernel_is_refused_by_name(tmp_path, array, expected):
    file = tmp_path / "k.npy"
    np.save(file, array, allow_pickle=True)
    with pytest.raises(ImageError) as caught:
        read_kernels(file, 9)
    assert str(caught.value).startswith(f"{file}: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_centring_never_cuts_a_kernel(tmp_path):
    np.save(tmp_path / "k.npy", CORNER)
    with pytest.raises(ImageError, match="pushes part of it out of kernel_size 5"):
        read_kernels(tmp_path / "k.npy", 5)
    assert float(read_kernels(tmp_path / "k.npy", 7)[0].kernel.sum()) == pytest.approx(1)


@pytest.mark.parametrize("suffix", [".npy", ".png", ".mat"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"\x93NUMPY\x01\x00"])
def test_damaged_files_are_refused_by_name(tmp_path, suffix, content):
    file = tmp_path / f"k{suffix}"
    file.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        read_kernels(file, 9)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_empty_places_are_named(tmp_path):
    with pytest.raises(ImageError, match="no such file or folder"):
        read_kernels(tmp_path / "nowhere", 9)
    with pytest.raises(ImageError, match="no kernels here"):
        read_kernels(tmp_path, 9)
    (tmp_path / "k.txt").write_text("1")
    with pytest.raises(ImageError, match="a kernel is one of"):
        read_kernels(tmp_path / "k.txt", 9)
    scipy.io.savemat(tmp_path / "k.mat", {"other": np.ones((3, 3))})
    with pytest.raises(ImageError, match="no variable 'kernels'"):
        read_kernels(tmp_path / "k.mat", 9)


@pytest.mark.skipif("INVDIFF_DATA" not in os.environ, reason="INVDIFF_DATA names no folder with kernels/Levin09.mat")
def test_levins_kernels_fit():
    found = read_kernels(Path(os.environ["INVDIFF_DATA"]) / "kernels" / "Levin09.mat", 31)
    assert len(found) == 8
    assert all(centre_of_mass(m.kernel[None]).abs().max() <= 0.5 for m in found)
