"""A pipeline from objects: no recipe, no registry, no YAML; blind, or told a kernel."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

import invdiff
from invdiff import Degradation, Guidance, Pipeline, SamplerSettings
from invdiff.degradation import BoxSpace
from invdiff.errors import ImageError, InvdiffError
from invdiff.fit import MisfitError
from invdiff.guidance import Estimate
from invdiff.io.jpeg import Jpeg
from invdiff.testing.subjects import ToyBlur, ToyPrior, picture
from invdiff_kernel_guidance.proximal import Proximal


def kernel(seed=0):
    return ToyBlur().sample_parameters(1, torch.Generator().manual_seed(seed))[0]


def measured(theta, size=(24, 28), seed=3):
    clean = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))
    return ToyBlur().apply(clean, theta[None])[0], clean[0]


def toy(*guidance, **sampler):
    return Pipeline(ToyBlur(), ToyPrior(ToyBlur()), guidance, SamplerSettings(steps=2, **sampler), seed=5, device="cpu")


class Heard(Guidance):
    """Keeps the parameters that it finds, and the truth that it is told."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def refine(self, step):
        self.steps.append((step.theta, step.truth))
        return Estimate(step.x0, step.theta)


class Estimating(Heard):
    estimates_parameters = True


def test_what_restore_gives():
    y, _ = measured(kernel(1))
    found = toy().restore(y)
    assert found.image.shape == y.shape
    assert found.parameters.shape == (5, 5)
    assert found.evaluations == 2
    again = ToyBlur().apply(found.image[None], found.parameters[None])[0]
    assert found.residual == pytest.approx(float((y - again).square().mean().sqrt()), rel=1e-4)


def test_seed_and_settings_are_the_pipelines():
    y, _ = measured(kernel(1))
    one = toy().restore(y).image
    assert torch.equal(toy().restore(y).image, one)
    other = Pipeline(ToyBlur(), ToyPrior(ToyBlur()), (), SamplerSettings(steps=2), seed=6, device="cpu")
    assert not torch.equal(other.restore(y).image, one)
    assert not torch.equal(toy(eta=0.0).restore(y).image, one)


def test_a_pipeline_of_a_recipe_is_the_pipeline_of_its_parts(recipe, weights):
    from invdiff_blindsr.operator import BlindSR, BlindSRSettings
    from invdiff_kernel_guidance.guidance import KernelAware

    y = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    of_recipe = invdiff.load(recipe(), device="cpu")
    settings = BlindSRSettings(scale=4, kernel_size=21)
    sampler = SamplerSettings(steps=2, eta=1.0)
    prior = invdiff.load_prior(weights)
    of_parts = Pipeline(BlindSR(settings), prior, [KernelAware()], sampler, seed=3, device="cpu")
    assert torch.equal(of_parts.restore(y).image, of_recipe.restore(y).image)
    assert of_parts.identity == {}
    assert of_recipe.identity["sampler"] == of_recipe.sampler.model_dump(mode="json")


# --- told the kernel


def test_a_told_kernel_stands_in_every_steps_place():
    heard, estimating, k = Heard(), Estimating(), kernel(7)
    found = toy(estimating, heard).restore(measured(k)[0], kernel=k)
    assert estimating.steps == []  # nothing is left to estimate
    assert len(heard.steps) == 2
    for theta, truth in heard.steps:
        torch.testing.assert_close(theta[0], k)
        torch.testing.assert_close(truth[0], k)
    torch.testing.assert_close(found.parameters, k)


def test_a_told_kernel_helps():
    """Where a guidance uses the kernel, the picture is nearer to the truth than blind, and than the measurement."""
    k = torch.zeros(5, 5)
    k[2] = 0.2
    clean = picture(1, (48, 48), torch.float32)[0]
    y = ToyBlur().apply(clean[None], k[None])[0]
    pipe = toy(Proximal(), temperature=0.0)
    blind, told, before = (
        float((image - clean).square().mean()) for image in (pipe.restore(y).image, pipe.restore(y, kernel=k).image, y)
    )
    assert told < 0.7 * blind
    assert told < 0.85 * before


@pytest.mark.parametrize(
    "same",
    [
        lambda k: k.numpy(),
        lambda k: k.tolist(),
        lambda k: 255 * k.double(),
        lambda k: torch.nn.functional.pad(k, (-1,) * 4).clone(),
    ],
    ids=["array", "list", "other units", "smaller frame"],
)
def test_ways_to_write_a_kernel(same):
    k = torch.zeros(5, 5)
    k[1:4, 1:4] = torch.tensor([[0.1, 0.2, 0.0], [0.0, 0.3, 0.1], [0.0, 0.1, 0.2]])
    y, _ = measured(k)
    want = toy().restore(y, kernel=k)
    torch.testing.assert_close(toy().restore(y, kernel=same(k)).image, want.image)


def test_pictures_and_arrays_can_be_told_too():
    k = kernel(2)
    y = (measured(k)[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    pipe = toy(Proximal())
    of_array, of_picture = (pipe.restore(image, kernel=k).image for image in (y, Image.fromarray(y)))
    assert np.array_equal(of_array, np.asarray(of_picture))
    assert not np.array_equal(of_array, pipe.restore(y, kernel=kernel(3)).image)


def test_a_batch_with_one_kernel_or_one_each():
    one, two = kernel(1), kernel(2)
    y = torch.stack([measured(one)[0], measured(two, seed=4)[0]])
    each = toy().restore(y, kernel=torch.stack([one, two]))
    for i, k in enumerate((one, two)):
        alone = toy().restore(y[i], kernel=k)
        assert torch.equal(each.image[i], alone.image)
        assert torch.equal(each.parameters[i], alone.parameters)
    same = toy().restore(y, kernel=one)
    assert torch.equal(same.parameters[0], same.parameters[1])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.ones((7, 7)), "a kernel of 7x7 does not fit kernel_size 5"),
        (np.ones((3, 5)), "a kernel is square, got 3x5"),
        (np.ones((4, 4)), "a kernel has an odd side, got 4"),
        (np.ones(25), "a kernel is square, got 25"),
        (np.zeros((3, 3)), "the kernel is all zero"),
        (-np.ones((3, 3)), "finite and not negative"),
        (np.full((3, 3), np.nan), "finite and not negative"),
        (np.ones((3, 3), complex), "real numbers"),
        ("kernel.npy", "a kernel is square"),
    ],
)
def test_a_wrong_kernel_is_one_clear_line(wrong, words):
    with pytest.raises(ImageError, match=words) as caught:
        toy().restore(measured(kernel())[0], kernel=wrong)
    assert str(caught.value).startswith("kernel: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [2, 4])
def test_kernels_of_another_number_of_images(count):
    kernels = ToyBlur().sample_parameters(count, torch.Generator().manual_seed(0))
    y = measured(kernel())[0]
    for image in (y, y.expand(3, -1, -1, -1)):
        with pytest.raises(InvdiffError, match="for these images, got"):
            toy().restore(image, kernel=kernels)
        with pytest.raises(InvdiffError, match="for these images, got"):
            toy().restore(image, truth=kernels)


class Gain(Degradation):
    """An unknown brightness."""

    def __init__(self):
        super().__init__()
        self.parameters = BoxSpace(("gain",), (0.5,), (2.0,))

    def sample_parameters(self, batch, generator):
        return 0.5 + 1.5 * torch.rand(batch, 1, generator=generator)

    def apply(self, x, theta):
        return theta[:, :, None, None] * x

    def lift(self, y):
        return y


def test_parameters_of_any_operator_can_be_told():
    pipe = Pipeline(Gain(), ToyPrior(Gain()), (), SamplerSettings(steps=1), device="cpu")
    y = torch.rand(3, 8, 8)
    assert pipe.restore(y, parameters=torch.tensor([1.5])).parameters.tolist() == [1.5]
    for wrong in (torch.tensor([3.0]), torch.tensor([1.0, 1.0]), torch.tensor(1.0)):
        with pytest.raises(InvdiffError, match="do not lie in the operator's"):
            pipe.restore(y, parameters=wrong)
    with pytest.raises(InvdiffError, match="kernel: this operator has none"):
        pipe.restore(y, kernel=np.ones((3, 3)))
    with pytest.raises(InvdiffError, match="give one of them"):
        toy().restore(measured(kernel())[0], kernel=kernel(), parameters=kernel())


def test_the_truth_is_for_guidances_that_ask():
    """Without one that does, the result is the blind one, to the last bit."""
    y, _ = measured(kernel(1))
    assert torch.equal(toy().restore(y, truth=kernel(1)).image, toy().restore(y).image)
    heard = Heard()
    found = toy(invdiff.Known(), heard).restore(y, truth=kernel(1))
    torch.testing.assert_close(found.parameters, kernel(1))
    assert torch.equal(heard.steps[0][1][0], kernel(1))


# --- parts that do not fit


@pytest.mark.parametrize(
    ("sampler", "key"),
    [
        ({"steps": 1001}, "sampler.steps"),
        ({"steps": 1, "feedback": True}, "sampler.feedback"),
        ({"sigmas": [79, 1.0, 0.9999]}, "sampler.sigmas"),  # two of one time
        ({"sigmas": [1.0, 0.1]}, "sampler.sigmas"),  # pure noise is no such image
    ],
)
def test_settings_that_the_prior_cannot_follow(sampler, key):
    with pytest.raises(MisfitError) as caught:
        Pipeline(ToyBlur(), ToyPrior(ToyBlur()), (), SamplerSettings(**sampler), device="cpu")
    assert caught.value.key == key


def test_a_prior_for_another_operator():
    with pytest.raises(MisfitError, match="estimates 5x5 parameters, the recipe's degradation has 1"):
        Pipeline(Gain(), ToyPrior(ToyBlur()), device="cpu")


def test_guidances_know_what_a_jpegs_tables_tell():
    """Of a dark photo, which is brightened for the loop, as many times as much; of tensors and others, nothing."""

    class Asked(Guidance):
        told = ()

        def refine(self, step):
            self.told = (*self.told, step.compression)
            return Estimate(step.x0, step.theta)

    def file(brightness, kind):
        levels = brightness * (0.5 + 0.4 * np.sin(np.arange(40 * 48 * 3).reshape(40, 48, 3) / 7))
        buffer = io.BytesIO()
        Image.fromarray((255 * levels).astype(np.uint8)).save(buffer, kind, quality=40)
        return Image.open(buffer)

    for brightness, gain in ((1.0, 1), (0.2, 4)):
        asked, photo = Asked(), file(brightness, "JPEG")
        toy(asked).restore(photo)
        pixels = torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1) / 255
        assert asked.told == (pytest.approx(gain * Jpeg.of(photo).error(pixels)),) * 2
        assert asked.told[0] > 0
        toy(asked).restore(pixels)
        toy(asked).restore(file(brightness, "BMP"))
        assert asked.told[2:] == (0.0,) * 4


def test_a_picture_is_not_turned_where_nobody_knows_what_turns_with_it():
    with pytest.raises(MisfitError, match="a kernel turns with its picture; this operator has none") as caught:
        Pipeline(Gain(), ToyPrior(Gain()), (), SamplerSettings(steps=1, orientations=2), device="cpu")
    assert caught.value.key == "sampler.orientations"
