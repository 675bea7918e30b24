"""The network of kernels: what it is shown, what becomes of kernel and image, its files, and how it is trained."""

import json
from statistics import mean

import pytest
import torch
from PIL import Image
from safetensors.torch import load, load_file, save_file
from skimage import data

import invdiff
from drawn_shapes import shapes
from invdiff.blur import blur
from invdiff.blur.deconvolution import centre_of_mass, shifted
from invdiff.errors import RecipeError, WeightsError
from invdiff.fit import MisfitError
from invdiff.guidance import Step
from invdiff.metrics.kernel import mnc
from invdiff.prior import PriorSpec
from invdiff.schedule import NoiseSchedule
from invdiff.testing import check_guidance
from invdiff_blindsr.operator import BlindSR
from invdiff_kernel_guidance import learning
from invdiff_kernel_guidance.evidence import KERNELS, least_squares_kernels
from invdiff_kernel_guidance.kernel_network import (
    KernelNet,
    KernelNetwork,
    KernelNetworkSettings,
    Shape,
    load_network,
    save_network,
)
from invdiff_motion.hand import Hand, hand_kernel
from invdiff_motion.operator import Motion, MotionSettings

SIDE = 15
SMALL = Shape(channels=8, dilations=(1, 2))
SCHEDULE = NoiseSchedule.linear(1000)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def shake(seed=1, side=SIDE):
    return hand_kernel(side, Hand(span=(5, 10)), gen(seed)).float()


def step(y, x0, theta, sigma=0.05, operator=None):
    times = torch.arange(len(SCHEDULE))
    t = int((SCHEDULE.noise_to_signal(times, torch.empty(len(times))) / 2 - sigma).abs().argmin())

    class Prior:
        spec = PriorSpec(SCHEDULE)

    operator = operator or Motion(MotionSettings(kernel_size=theta.shape[-1] if theta is not None else SIDE))
    return Step(0, 2, t, t - 1, x0, x0, theta, y, Prior(), operator)


@pytest.fixture
def planted(tmp_path):
    """A guidance with a small network, whose answer can be replaced by a function of kernel and evidence."""

    def make(answer=None, **settings):
        torch.manual_seed(0)
        save_network(KernelNet(SMALL), tmp_path / "small.safetensors")
        guide = KernelNetwork(KernelNetworkSettings(weights=str(tmp_path / "small.safetensors"), **settings))
        if answer is not None:
            guide.network.forward = answer
        return guide

    return make


# --- what it is shown


@pytest.mark.parametrize(("height", "width"), [(128, 128), (97, 140)])
def test_evidence_of_the_right_picture_is_the_kernel(height, width):
    """From noise, which has every frequency, each way of least squares finds it, and where it lies."""
    x = torch.rand(3, height, width, generator=gen())
    kernel = shake()
    found = least_squares_kernels(blur(x[None], kernel[None])[0], x, SIDE)
    assert found.shape == (KERNELS, SIDE, SIDE)
    likeness = [float(torch.cosine_similarity(k.flatten(), kernel.flatten(), dim=0)) for k in found]
    assert likeness[0] > 0.98
    assert min(likeness) > 0.6  # strong differences alone are a part of what noise says
    moved = least_squares_kernels(blur(x[None], kernel[None])[0], shifted(x, 2, -1, replicate=True), SIDE)
    torch.testing.assert_close(moved[0][:-2, 1:], shifted(found[0], -2, 1)[:-2, 1:], atol=0.01, rtol=0)


def test_evidence_says_less_the_more_timid():
    x = torch.rand(3, 96, 96, generator=gen())
    found = least_squares_kernels(blur(x[None], shake()[None])[0], x, SIDE)
    bold, middle, timid, strong, timid_strong = (float(k.norm()) for k in found)
    assert 1.02 * float(shake().norm()) > bold > middle > timid
    assert strong > timid_strong


@pytest.mark.parametrize("size", [(31, 31), (33, 47)])
def test_evidence_of_the_smallest_photos(size):
    x = torch.rand(3, *size, generator=gen())
    assert bool(least_squares_kernels(x, x, 31).isfinite().all())
    assert bool(least_squares_kernels(torch.zeros_like(x), torch.zeros_like(x), 31).isfinite().all())


# --- what becomes of kernel and image


def test_a_fresh_network_hardly_changes_a_kernel():
    kernel = torch.stack([shake(1), shake(2)])
    found = KernelNet(SMALL)(kernel, torch.rand(2, KERNELS, SIDE, SIDE, generator=gen()))
    torch.testing.assert_close(found.sum((-2, -1)), torch.ones(2))
    assert float(found.min()) >= 0
    assert min(float(mnc(a[None], b[None])) for a, b in zip(found, kernel, strict=True)) > 0.9


def test_it_acts_at_its_levels_alone(planted):
    better = shake(2)
    guide = planted(lambda kernel, evidence: better.expand_as(kernel), levels=(0.04, 0.1))
    x, theta = torch.rand(1, 3, 40, 40, generator=gen()), shake()[None]
    for sigma, acts in ((0.2, False), (0.11, False), (0.09, True), (0.05, True), (0.03, False)):
        found = guide.refine(step(x, x, theta, sigma))
        assert torch.equal(found.theta, theta) != acts
        if acts:
            assert float(mnc(found.theta, better[None])) > 0.98


def test_kernel_and_image_move_together(planted):
    """A better kernel that lies elsewhere: its mass goes to the middle, the image the other way, by whole pixels."""
    better = shake(2)
    away = shifted(better, 2, -1)
    guide = planted(lambda kernel, evidence: away.expand_as(kernel), floor=0)
    x = torch.rand(1, 3, 48, 48, generator=gen())
    found = guide.refine(step(x, x, shake()[None]))
    assert float(centre_of_mass(found.theta).abs().max()) < 0.05
    torch.testing.assert_close(found.x0, shifted(x, 2, -1, replicate=True))
    said = blur(x, away[None])[..., 16:-16, 16:-16]
    again = blur(found.x0, found.theta)[..., 16:-16, 16:-16]
    assert float((said - again).abs().max()) < 0.1


def test_faint_values_are_nothing(planted):
    haze = 0.9 * shake() + 0.1 / SIDE**2
    guide = planted(lambda kernel, evidence: haze.expand_as(kernel), floor=0.1)
    found = guide.refine(step(torch.rand(1, 3, 40, 40), torch.rand(1, 3, 40, 40), shake()[None]))
    assert float((found.theta == 0).float().mean()) > 0.3
    assert float(found.theta.sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("padding", ["reflect", "valid"])
@pytest.mark.parametrize("side", [9, 31])
def test_a_picture_does_not_depend_on_its_neighbours(planted, padding, side):
    guide, operator = planted(), Motion(MotionSettings(kernel_size=side, padding=padding))
    theta = torch.stack([shake(seed, side) for seed in range(3)])
    x = torch.rand(3, 3, 70, 64, generator=gen())
    y = operator.apply(x, theta)
    together = guide.refine(step(y, x, theta, operator=operator))
    for i in range(3):
        alone = guide.refine(step(y[i : i + 1], x[i : i + 1], theta[i : i + 1], operator=operator))
        assert torch.equal(alone.theta[0], together.theta[i])
        assert torch.equal(alone.x0[0], together.x0[i])


def test_the_contract():
    check_guidance(KernelNetwork(), operator=Motion(MotionSettings(kernel_size=9)))


def test_where_it_cannot_serve(planted):
    assert "full resolution" in planted().unfit(BlindSR())
    with pytest.raises(RecipeError, match="put kernel_search before it"):
        planted().refine(step(torch.rand(1, 3, 40, 40), torch.rand(1, 3, 40, 40), None))
    pipe = invdiff.load("deblur_ffhq")
    with pytest.raises(MisfitError, match="full resolution"):
        invdiff.Pipeline(BlindSR(), pipe.prior, [planted()], pipe.sampler)


def test_a_told_kernel_stays(planted):
    """Whoever tells the kernel knows it: the network is left out."""
    guide = planted(lambda kernel, evidence: shake(3, 31).expand_as(kernel), levels=(0, 1))
    pipe = invdiff.load("deblur_tv")
    with_it = invdiff.Pipeline(pipe.degradation, pipe.prior, [guide, pipe.guidance[-1]], pipe.sampler)
    y, kernel = torch.rand(3, 40, 40, generator=gen()), shake(1, 31)
    torch.testing.assert_close(with_it.restore(y, kernel=kernel).parameters, kernel, atol=1e-6, rtol=0)


def test_the_bundled_network_improves_what_is_found():
    """Photos that it has never seen, under shakes likewise: the recipe with it and without, in the mean."""
    pipe = invdiff.load("deblur_ffhq")
    without = [guide for guide in pipe.guidance if not isinstance(guide, KernelNetwork)]
    assert len(without) == len(pipe.guidance) - 1
    plain = invdiff.Pipeline(pipe.degradation, pipe.prior, without, pipe.sampler)
    before, after = [], []
    for photo in (data.cat(), data.coffee()):
        clean = torch.from_numpy(photo[40:232, 100:292].copy()).permute(2, 0, 1) / 255
        for seed in (5, 6):
            kernel = hand_kernel(31, Hand(span=(12, 16)), gen(seed)).float()
            y = blur(clean[None], kernel[None])[0]
            y = (y + 0.01 * torch.randn(y.shape, generator=gen(seed))).clamp(0, 1)
            for found, way in ((before, plain), (after, pipe)):
                found.append(float(mnc(way.restore(y).parameters[None], kernel[None])))
    assert mean(after) > mean(before) + 0.005


# --- its files


def test_a_file_is_the_network(tmp_path):
    torch.manual_seed(1)
    network = KernelNet(SMALL)
    torch.nn.init.normal_(network.last.weight)
    save_network(network, tmp_path / "a.safetensors", {"steps": 3})
    again = load_network(tmp_path / "a.safetensors")
    given = torch.stack([shake(1)]), torch.rand(1, KERNELS, SIDE, SIDE, generator=gen())
    torch.testing.assert_close(again(*given), network(*given), rtol=0.02, atol=1e-3)
    assert not any(p.requires_grad for p in again.parameters())
    assert {t.dtype for t in load_file(tmp_path / "a.safetensors").values()} == {torch.float16}
    torch.nn.init.constant_(network.last.weight, 1e9)
    with pytest.raises(WeightsError, match="not finite in float16"):
        save_network(network, tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()


def broken(path, header=None, **changes):
    save_network(KernelNet(SMALL), path)
    tensors = {name: tensor for name, tensor in {**load_file(path), **changes}.items() if tensor is not None}
    own = {"format": "invdiff-kernel-network/1", "shape": SMALL.model_dump_json()}
    save_file(tensors, path, {name: value for name, value in {**own, **(header or {})}.items() if value})


@pytest.mark.parametrize(
    ("header", "changes", "said"),
    [
        ({"format": "invdiff-prior/1"}, {}, "not a network of kernels"),
        ({"shape": ""}, {}, "its shape is not understood"),
        ({"shape": "[1"}, {}, "its shape is not understood"),
        ({"shape": json.dumps({"channels": 12})}, {}, "its shape is not understood"),
        ({"shape": json.dumps({"channels": 16, "dilations": [1, 2]})}, {}, "do not fit its shape"),
        ({}, {"last.bias": None}, "do not fit its shape"),
        ({}, {"last.bias": torch.tensor([torch.nan])}, "'last.bias' holds numbers that are not finite"),
    ],
)
def test_a_broken_file_is_one_line(header, changes, said, refused, tmp_path):
    broken(tmp_path / "a.safetensors", header, **changes)
    change = f"guidance.2.weights={tmp_path / 'a.safetensors'}"
    message = refused("run", "deblur_ffhq", "-o", tmp_path / "out", "--set", change)
    assert said in message
    assert message.startswith("--set guidance.2")


def test_missing_weights_say_what_there_is(refused, tmp_path):
    message = refused("run", "deblur_ffhq", "-o", tmp_path / "out", "--set", "guidance.2.weights=kernel_x")
    assert "no weights 'kernel_x': no such file, and bundled are kernel_s" in message


def test_results_follow_from_the_weights(planted, tmp_path):
    planted()
    change = f"guidance.2.weights={tmp_path / 'small.safetensors'}"
    one, other = (invdiff.load("deblur_ffhq", overrides=c).identity["guidance"][2] for c in ([], [change]))
    assert len(one["weights_sha256"]) == 64
    assert one["weights_sha256"] != other["weights_sha256"]


# --- how it is trained


def test_gathering_and_training(tmp_path, monkeypatch, capsys):
    """Two files of two small photos, one process each; what is there stays; what is learned is a network that runs."""
    monkeypatch.setattr(learning, "_PART", 2)
    monkeypatch.setattr(learning, "_SIDES", (64, 48))
    monkeypatch.setattr(learning, "_ASIDE", 1)
    monkeypatch.setattr(learning, "_EVERY", 2)
    photos, out = tmp_path / "photos", tmp_path / "gathered"
    photos.mkdir()
    for i in range(2):
        picture = (255 * shapes(80, i)).byte().permute(1, 2, 0).numpy()
        Image.fromarray(picture).save(photos / f"{i}.png")
    command = ["learning", "gather", "deblur_tv", "--data", str(photos), "-o", str(out), "--photos", "4"]
    for share in ("0/2", "1/2"):
        monkeypatch.setattr("sys.argv", [*command, "--share", share])
        learning.main()
    files = sorted(out.iterdir())
    assert [file.name for file in files] == ["0000.safetensors", "0001.safetensors"]
    found = load_file(files[0])
    assert found["true"].shape == (2, 31, 31)
    assert found["seen"].shape[0] == 2
    assert found["seen"].shape[2:] == (1 + KERNELS, 31, 31)
    before = files[0].read_bytes(), files[0].stat().st_mtime_ns
    monkeypatch.setattr("sys.argv", command)
    learning.main()
    assert (files[0].read_bytes(), files[0].stat().st_mtime_ns) == before
    monkeypatch.setattr("sys.argv", ["learning", "train", str(out), "-o", str(out), "--steps", "3"])
    learning.main()
    assert "step 3/3" in capsys.readouterr().out
    learned = out / "kernels.safetensors"
    assert load_network(learned).shape == Shape()
    before = learned.read_bytes()
    on = ["learning", "train", str(out), "-o", str(out), "--steps", "1", "--rate", "0", "--start", str(learned)]
    monkeypatch.setattr("sys.argv", on)
    learning.main()
    lines = [line.split(": ", 1)[1] for line in capsys.readouterr().out.splitlines()[1:]]
    assert lines[0].split(", ")[0] == lines[1].split("; ")[1].split(", ")[0]  # it went on from there, and not far
    assert load_file(learned).keys() == load(before).keys()
    assert all(torch.equal(value, load(before)[name]) for name, value in load_file(learned).items())
    for wrong, said in (
        (["gather", "deblur_tv", "--data", str(out), "-o", str(out / "a")], "no pictures in this folder"),
        (["train", str(photos), "-o", str(out / "a")], "error: too few files gathered"),
        ([*command[1:], "--share", "2/2"], "argument --share: invalid"),
    ):
        monkeypatch.setattr("sys.argv", ["learning", *wrong])
        with pytest.raises(SystemExit) as stopped:
            learning.main()
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err
