"""The conformance suite is tried on components that are broken on purpose: each check must catch what it is for.

``python tests/testing/test_mutations.py`` prints the tables of docs/conformance.md.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import Field

from invdiff.blur.convolution import Blur, BlurOf, blur, blur_adjoint
from invdiff.blur.resize import upsample_bicubic
from invdiff.degradation import BoxSpace, Degradation, DegradationSettings
from invdiff.guidance import Estimate, Guidance
from invdiff.prior import Output, Prediction, PriorNet, PriorSettings
from invdiff.schedule import NoiseSchedule
from invdiff.settings import Settings
from invdiff.testing import check_component
from invdiff.testing.degradation import degradation_checks
from invdiff.testing.guidance import guidance_checks
from invdiff.testing.prior import prior_checks
from invdiff.testing.subjects import ToyBlur, ToyPrior

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "conformance.md"

SUITES = {"degradation": degradation_checks, "prior": prior_checks, "guidance": guidance_checks}
TITLES = {"degradation": "Broken operators", "prior": "Broken priors", "guidance": "Broken guidances"}

UNMUTATED = {("prior", "devices_agree"): "it needs a CUDA device"}
"""Checks that no broken component is there for, and why."""


@dataclass(frozen=True)
class Mutant:
    """A broken component: its class, the check that must catch it, and what is wrong with it in a phrase."""

    cls: type
    caught_by: str
    wrong: str

    @property
    def name(self):
        return " ".join(re.findall("[A-Z][a-z]*", self.cls.__name__)).lower()

    @property
    def role(self):
        bases = {Degradation: "degradation", PriorNet: "prior", Guidance: "guidance"}
        return next(role for base, role in bases.items() if issubclass(self.cls, base))

    def make(self):
        return self.cls(ToyBlur()) if self.role == "prior" else self.cls()

    def __str__(self):
        return f"{self.role}: {self.name}"


MUTANTS = []


def mutant(caught_by, wrong):
    """Takes a class into the table."""

    def add(cls):
        MUTANTS.append(Mutant(cls, caught_by, wrong))
        return cls

    return add


# Sound components, to be broken.


class Halving(ToyBlur):
    """A blur, then the means of 2x2 blocks."""

    scale = 2

    def output_shape(self, size):
        height, width = super().output_shape(size)
        return height // 2, width // 2

    def apply(self, x, theta):
        return F.avg_pool2d(blur(x, theta), 2)

    def adjoint(self, y, theta):
        return blur_adjoint(y.repeat_interleave(2, -1).repeat_interleave(2, -2) / 4, theta)

    def lift(self, y):
        return upsample_bicubic(y, 2)


class Noisy(ToyBlur):
    """A blur, then noise."""

    def __init__(self, settings=None):
        super().__init__(settings or DegradationSettings(noise_sigma=0.05))


class Quantized(Noisy):
    """A blur, then noise and rounding."""

    def __init__(self, settings=None):
        super().__init__(settings or DegradationSettings(noise_sigma=0.05, quantize=True))


class Gamma(Degradation):
    """An unknown gamma: not linear, and no kernel."""

    linear = False
    parameters = BoxSpace(("gamma",), (0.5,), (2.0,))

    def sample_parameters(self, batch, generator):
        return 0.5 + 1.5 * torch.rand(batch, 1, generator=generator)

    def apply(self, x, theta):
        return x.clamp_min(1e-6) ** theta[:, :, None, None]

    def lift(self, y):
        return y


class Unit(ToyPrior):
    """The toy prior on [0, 1]."""

    def __init__(self, operator):
        super().__init__(operator, (0.0, 1.0))


class Told(ToyPrior):
    """The toy prior with a brightness that its parameters set, its own or those that it is told."""

    def __init__(self, operator):
        super().__init__(operator)
        self.spec = replace(self.spec, takes_parameters=True)

    def forward(self, x_t, t, condition, told=None):
        out = super().forward(x_t, t, condition)
        return self.answer(out, out.parameters if told is None else told)

    def answer(self, out, theta):
        return Output(out.raw * (1 + theta.amax((1, 2))).view(-1, 1, 1, 1), out.parameters)


class Descent(Guidance):
    """Moves against the gradient of each image's distance to its measurement, through the prior."""

    needs_gradient = True

    def distance(self, step):
        return (step.y - step.degradation.apply(step.x0, step.theta)).flatten(1).norm(dim=1)

    def correct(self, step, x_next):
        low, high = step.prior.spec.value_range
        (gradient,) = torch.autograd.grad(self.distance(step).sum(), step.x_t, retain_graph=True)
        return x_next - 0.3 * (high - low) ** 2 * gradient


class Pull(Guidance):
    """One step of least squares from the estimate on: a proximal step cut short, in no need of the prior's gradient."""

    def move(self, step, x0):
        operator, theta = step.degradation, step.theta.detach()
        return 0.5 * operator.adjoint(step.y - operator.apply(x0, theta), theta)

    def refine(self, step):
        with torch.no_grad():
            move = self.move(step, step.x0)
        return Estimate(step.x0 + move, step.theta)


def shaken(space, theta):
    """Other parameters each time, from a generator of their own."""
    generator = torch.Generator()
    generator.seed()
    return space.project(theta + 0.01 * torch.randn(theta.shape, generator=generator))


SOUND = {
    "blur": ToyBlur(),
    "halving": Halving(),
    "noisy": Noisy(),
    "quantized": Quantized(),
    "gamma": Gamma(),
    "prior": ToyPrior(ToyBlur()),
    "prior on [0, 1]": Unit(ToyBlur()),
    "prior at scale 2": ToyPrior(Halving()),
    "prior of a gamma": ToyPrior(Gamma()),
    "prior that is told": Told(ToyBlur()),
    "descent": Descent(),
    "pull": Pull(),
    "nothing": Guidance(),
}


# Operators.


@mutant("adjoint", "the adjoint convolves where it must correlate")
class AdjointWithoutFlip(ToyBlur):
    def adjoint(self, y, theta):
        return blur(y, theta)


@mutant("adjoint", "apply mirrors the image at its border, the adjoint repeats its last pixel")
class AdjointWithOtherPadding(ToyBlur):
    def adjoint(self, y, theta):
        return blur_adjoint(y, theta, "replicate")


@mutant("adjoint_is_the_gradient", "values of the blur, but the gradient of the identity")
class StraightThrough(ToyBlur):
    def apply(self, x, theta):
        return x + (blur(x, theta) - x).detach()


@mutant("bound_is_the_same", "with parameters held, the border is another")
class HeldWithOtherPadding(ToyBlur):
    def at(self, theta):
        return Blur(theta, "replicate")


@mutant("bound_is_the_same", "with the image held, the adjoint is that of another image")
class HeldImageMirrored(ToyBlur):
    def of(self, x, margin=0):
        found = BlurOf(x, 5, "reflect", margin)
        found.adjoint = BlurOf(x.flip(-1), 5, "reflect", margin).adjoint
        return found


@mutant("bound_is_the_same", "the first parameters are kept for all that follow")
class HeldForever(ToyBlur):
    kept = None

    def at(self, theta):
        if HeldForever.kept is None:
            HeldForever.kept = Blur(theta.flip(0))
        return HeldForever.kept


@mutant("kernel_is_not_flipped", "cross-correlation, with an adjoint that fits it")
class CorrelationForConvolution(ToyBlur):
    def apply(self, x, theta):
        return blur(x, theta.flip(1, 2))

    def adjoint(self, y, theta):
        return blur_adjoint(y, theta.flip(1, 2))


@mutant("value_range", "the image is taken to [-1, 1] before the blur")
class MeasurementOnTheSymmetricRange(ToyBlur):
    def apply(self, x, theta):
        return blur(2 * x - 1, theta)


@mutant("flat_stays_flat", "the image is taken to come in [-1, 1]")
class ImageTakenToBeSymmetric(ToyBlur):
    def apply(self, x, theta):
        return blur((x + 1) / 2, theta)


@mutant("flat_stays_flat", "zeros beyond the border, which darken it")
class ZeroPadding(ToyBlur):
    def apply(self, x, theta):
        return blur(F.pad(x, (2, 2, 2, 2)), theta, "valid")

    def adjoint(self, y, theta):
        return blur_adjoint(y, theta, "valid")[..., 2:-2, 2:-2]


@mutant("shapes", "the result is cast to float32")
class ForcedToSinglePrecision(ToyBlur):
    def apply(self, x, theta):
        return blur(x, theta).float()


@mutant("devices_and_dtypes_agree", "a large constant added and taken off again, which costs float32 its digits")
class DigitsLost(ToyBlur):
    def apply(self, x, theta):
        return blur(x, theta) + 1e4 - 1e4


@mutant("lift_on_the_clean_grid", "a row and a column short of the clean image")
class LiftAtTheWrongSize(Halving):
    def lift(self, y):
        return super().lift(y)[..., :-1, :-1]


@mutant("no_blur_changes_nothing", "apply keeps the first pixel of each block, lift puts it in the block's middle")
class HalfAPixelOff(Halving):
    def apply(self, x, theta):
        return blur(x, theta)[..., ::2, ::2]

    def adjoint(self, y, theta):
        spread = y.new_zeros(*y.shape[:-2], 2 * y.shape[-2], 2 * y.shape[-1])
        spread[..., ::2, ::2] = y
        return blur_adjoint(spread, theta)


@mutant("no_blur_changes_nothing", "lift puts the measurement between two pixels")
class BetweenPixels(ToyBlur):
    def lift(self, y):
        return (y + torch.cat([y[..., :1], y[..., :-1]], -1)) / 2


@mutant("parameters_in_their_space", "drawn kernels do not sum to one")
class KernelNotNormalised(ToyBlur):
    def sample_parameters(self, batch, generator):
        return torch.rand(batch, 5, 5, generator=generator) / 5


@mutant("parameters_in_their_space", "numbers drawn beyond the declared box")
class ParametersOutsideTheirBox(Gamma):
    def sample_parameters(self, batch, generator):
        return 3 * torch.rand(batch, 1, generator=generator)


@mutant("generator_is_used", "a seed fixed inside")
class FixedSeed(ToyBlur):
    def sample_parameters(self, batch, generator):
        return super().sample_parameters(batch, torch.Generator().manual_seed(0))


@mutant("generator_is_used", "parameters from torch's global generator")
class GlobalParameters(Gamma):
    def sample_parameters(self, batch, generator):
        return 0.5 + 1.5 * torch.rand(batch, 1)


@mutant("generator_is_used", "noise from torch's global generator")
class GlobalNoise(Noisy):
    def corrupt(self, y, generator):
        return y + self.settings.noise_sigma * torch.randn_like(y)


@mutant("generator_is_used", "one kernel drawn for the whole batch")
class OneDrawForAll(ToyBlur):
    def sample_parameters(self, batch, generator):
        return super().sample_parameters(1, generator).expand(batch, 5, 5)


@mutant("noise_on_unit_range", "noise_sigma is added on [-1, 1]: half as much noise on [0, 1]")
class NoiseOnTheSymmetricRange(Noisy):
    def corrupt(self, y, generator):
        noise = self.settings.noise_sigma * torch.randn(y.shape, generator=generator, dtype=y.dtype)
        return ((2 * y - 1) + noise + 1) / 2


@mutant("noise_on_unit_range", "noise_sigma is added on [-1, 1], then values are rounded")
class RoundedNoiseOnTheSymmetricRange(Quantized):
    def corrupt(self, y, generator):
        noise = self.settings.noise_sigma * torch.randn(y.shape, generator=generator, dtype=y.dtype)
        return ((y + noise / 2).clamp(0, 1) * 255).round() / 255


@mutant("noise_on_unit_range", "values rounded on [-1, 1], so that all that is darker than grey is lost")
class RoundedOnTheSymmetricRange(Quantized):
    def corrupt(self, y, generator):
        return super().corrupt(2 * y - 1, generator)


@mutant("noise_on_unit_range", "noise that brightens: its mean is not zero")
class NoiseWithAMean(Noisy):
    def corrupt(self, y, generator):
        noise = torch.rand(y.shape, generator=generator, dtype=y.dtype)
        return y + 12**0.5 * self.settings.noise_sigma * noise


@mutant("noise_on_unit_range", "one noise for the whole batch")
class OneNoiseForAll(Noisy):
    def corrupt(self, y, generator):
        return y + self.settings.noise_sigma * torch.randn(y.shape[1:], generator=generator, dtype=y.dtype)


@mutant("generator_is_used", "noise from torch's global generator, in an operator that has none by default")
class GlobalNoiseWhereThereIsAny(ToyBlur):
    def corrupt(self, y, generator):
        return y + self.settings.noise_sigma * torch.randn_like(y) if self.settings.noise_sigma else y


@mutant("linearity", "values clipped to [0, 1] while linear is declared")
class ClippedButCalledLinear(ToyBlur):
    def apply(self, x, theta):
        return blur(x, theta).clamp(0, 1)


@mutant("gradient_in_the_image", "8-bit values on the way from the image")
class RoundedImage(ToyBlur):
    def apply(self, x, theta):
        return blur((255 * x).round() / 255, theta)


@mutant("gradient_in_the_parameters", "the kernel is detached")
class DetachedKernel(ToyBlur):
    def apply(self, x, theta):
        return blur(x, theta.detach())


@mutant("immutability", "the image is scaled in place")
class ImageScaledInPlace(Gamma):
    def apply(self, x, theta):
        return super().apply(x.mul_(0.9), theta)


@mutant("immutability", "the image is clipped in place, which shows the first time only")
class ImageClippedInPlace(Gamma):
    def apply(self, x, theta):
        with torch.no_grad():
            x.clamp_(0.3, 0.7)
        return super().apply(x, theta)


@mutant("immutability", "the last parameters are kept on the operator")
class RemembersParameters(ToyBlur):
    def apply(self, x, theta):
        self.theta = theta.detach()
        return blur(x, theta)


@mutant("immutability", "the last measurement is kept on the operator")
class RemembersTheMeasurement(Gamma):
    def lift(self, y):
        self.y = y.detach()
        return y


@mutant("alone_as_in_a_batch", "each image blurred with the batch's mean kernel")
class MeanKernel(ToyBlur):
    def apply(self, x, theta):
        return blur(x, theta.mean(0, keepdim=True).expand_as(theta))

    def adjoint(self, y, theta):
        return blur_adjoint(y, theta.mean(0, keepdim=True).expand_as(theta))


@mutant("memory_does_not_grow", "results kept for later together with their graphs")
class GraphKeptOnTheOperator(ToyBlur):
    def __init__(self, settings=None):
        super().__init__(settings)
        self.kept = []

    def apply(self, x, theta):
        y = blur(x, theta)
        if y.requires_grad:
            self.kept.append(y)
        return y


class Unwritten(DegradationSettings):
    strength: float = Field(1.0, exclude=True)


@mutant("settings_survive_json", "a setting that is not written")
class SettingLeftOut(ToyBlur):
    def __init__(self, settings=None):
        super().__init__(Unwritten(strength=2.0))


# Priors.


@mutant("alone_as_in_a_batch", "the noisy image centred by the batch's mean, as batch norm does while training")
class BatchNorm(ToyPrior):
    def forward(self, x_t, t, condition):
        return super().forward(x_t - x_t.mean((0, 2, 3), keepdim=True), t, condition)


@mutant("alone_as_in_a_batch", "the first image's noise level used for all")
class OneTimeForAll(ToyPrior):
    def forward(self, x_t, t, condition):
        return super().forward(x_t, t[:1].expand_as(t), condition)


@mutant("deterministic", "dropout while sampling")
class DropoutLeftOn(ToyPrior):
    def forward(self, x_t, t, condition):
        return super().forward(x_t, t, F.dropout(condition, 0.1))


@mutant("x0_and_eps_agree", "the noise computed with another schedule than the image")
class NoiseOfAnotherSchedule(ToyPrior):
    def predict(self, x_t, t, condition):
        found = super().predict(x_t, t, condition)
        return Prediction(found.x0, NoiseSchedule.linear(end=0.03).to_eps(found.x0, x_t, t), found.parameters)


@mutant("gradient_in_the_noisy_image", "the noisy image is detached")
class DetachedImage(ToyPrior):
    def forward(self, x_t, t, condition):
        return super().forward(x_t.detach(), t, condition)


@mutant("gradient_in_the_noisy_image", "one of two ways that the noisy image takes is detached")
class HalfDetached(ToyPrior):
    def forward(self, x_t, t, condition):
        return super().forward((x_t + x_t.detach()) / 2, t, condition)


@mutant("immutability", "the noisy image is clipped in place")
class NoisyImageClippedInPlace(ToyPrior):
    def forward(self, x_t, t, condition):
        with torch.no_grad():
            x_t.clamp_(-1, 1)
        return super().forward(x_t, t, condition)


@mutant("gradient_in_the_noisy_image", "one colour of the noisy image is detached")
class OneColourDetached(ToyPrior):
    def forward(self, x_t, t, condition):
        return super().forward(torch.cat([x_t[:, :1].detach(), x_t[:, 1:]], 1), t, condition)


@mutant("gradient_in_the_noisy_image", "the parameters are detached")
class ParametersDetached(ToyPrior):
    def forward(self, x_t, t, condition):
        out = super().forward(x_t, t, condition)
        return Output(out.raw, out.parameters.detach())


@mutant("deterministic", "parameters with random numbers of its own")
class RandomParameters(ToyPrior):
    def forward(self, x_t, t, condition):
        out = super().forward(x_t, t, condition)
        return Output(out.raw, shaken(self.space, out.parameters))


@mutant("immutability", "a running mean replaced while sampling")
class RunningMeanReplaced(ToyPrior):
    def __init__(self, operator):
        super().__init__(operator)
        self.register_buffer("running", torch.zeros(3))

    def forward(self, x_t, t, condition):
        self.running = self.running.lerp(x_t.detach().mean((0, 2, 3)), 0.1)
        return super().forward(x_t, t, condition)


@mutant("immutability", "a running mean updated while sampling")
class RunningMean(ToyPrior):
    def __init__(self, operator):
        super().__init__(operator)
        self.register_buffer("running", torch.zeros(3))

    def forward(self, x_t, t, condition):
        self.running.lerp_(x_t.detach().mean((0, 2, 3)), 0.1)
        return super().forward(x_t, t, condition)


@mutant("shapes", "16 pixels at a time, with a multiple of 4 declared")
class MultipleTooSmall(ToyPrior):
    def forward(self, x_t, t, condition):
        return super().forward(F.pixel_shuffle(F.pixel_unshuffle(x_t, 16), 16), t, condition)


@mutant("shapes", "8 pixels at a time, with a multiple of 4 declared")
class MultipleHalfOfWhatIsNeeded(ToyPrior):
    def forward(self, x_t, t, condition):
        return super().forward(F.pixel_shuffle(F.pixel_unshuffle(x_t, 8), 8), t, condition)


@mutant("shapes", "no parameter_shape declared for the kernel that it gives")
class KernelNotDeclared(ToyPrior):
    def __init__(self, operator):
        super().__init__(operator)
        self.spec = replace(self.spec, parameter_shape=None)


@mutant("attributes", "the ends of the range are mixed up")
class RangeUpsideDown(ToyPrior):
    def __init__(self, operator):
        super().__init__(operator)
        self.spec = replace(self.spec, value_range=(1.0, -1.0))


@mutant("memory_does_not_grow", "results kept for later together with their graphs")
class GraphKeptOnThePrior(ToyPrior):
    def __init__(self, operator):
        super().__init__(operator)
        self.kept = []

    def forward(self, x_t, t, condition):
        out = super().forward(x_t, t, condition)
        self.kept.append(out.raw)
        return out


@mutant("predicts_with_parameters_it_is_told", "parameters that it is told taken for others than its own")
class ToldInOtherUnits(Told):
    def forward(self, x_t, t, condition, told=None):
        return super().forward(x_t, t, condition, None if told is None else 2 * told)


@mutant("predicts_with_parameters_it_is_told", "what it is told handed back as its estimate")
class ToldHandedBack(Told):
    def answer(self, out, theta):
        return Output(super().answer(out, theta).raw, theta)


@mutant("estimates_from_the_measurement", "an estimate that the loop is not told")
class ReadsAnother(Told):
    def estimate(self, condition):
        return super().estimate(condition) + 1


@mutant("no_gradient_on_weights", "weights asked for gradients in forward")
class WeightsThawed(ToyPrior):
    def forward(self, x_t, t, condition):
        self.spread.requires_grad_()
        return super().forward(x_t, t, condition)


class UnwrittenPrior(PriorSettings):
    width: int = Field(1, exclude=True)


@mutant("settings_survive_json", "a setting that is not written")
class WidthLeftOut(ToyPrior):
    def __init__(self, operator):
        super().__init__(operator)
        self.settings = UnwrittenPrior(width=2)


# Guidances.


@mutant("alone_as_in_a_batch", "one norm for the whole batch")
class NormOfTheBatch(Descent):
    def distance(self, step):
        return super().distance(step).norm()


@mutant("agreement_with_the_measurement", "a step up the gradient")
class WrongSign(Descent):
    def correct(self, step, x_next):
        return 2 * x_next - super().correct(step, x_next)


@mutant("agreement_with_the_measurement", "a step away from the measurement")
class ResidualTheWrongWay(Pull):
    def move(self, step, x0):
        return -super().move(step, x0)


@mutant("agreement_with_the_measurement", "the clean image is taken to be in [-1, 1]")
class CleanImageTakenToBeSymmetric(Pull):
    def move(self, step, x0):
        return super().move(step, (x0 + 1) / 2)


@mutant("any_prior_range", "the clean image is returned in the prior's range")
class CleanImageInThePriorsRange(Pull):
    def refine(self, step):
        found = super().refine(step)
        return Estimate(step.prior.from_unit(found.x0), found.theta)


@mutant("immutability", "x_next is written to")
class NextImageInPlace(Descent):
    def correct(self, step, x_next):
        x_next += super().correct(step, x_next) - x_next
        return x_next


@mutant("immutability", "the last image is kept on the guidance")
class RemembersTheImage(Pull):
    def refine(self, step):
        found = super().refine(step)
        self.last = found.x0.detach()
        return found


@mutant("immutability", "the known parameters are written to")
class KnownParametersInPlace(Pull):
    def refine(self, step):
        step.truth.mul_(0.5)
        return super().refine(step)


@mutant("immutability", "another image is put into the step")
class StepOverwritten(Pull):
    def correct(self, step, x_next):
        step.x0 = step.x0.clamp(0, 1)
        return x_next


@mutant("needs_gradient_is_honest", "autograd without needs_gradient")
class GradientNotAskedFor(Descent):
    needs_gradient = False


@mutant("needs_gradient_is_honest", "autograd where another guidance has asked for it, and nothing elsewhere")
class GradientIfThereIsOne(Descent):
    needs_gradient = False

    def correct(self, step, x_next):
        return super().correct(step, x_next) if step.x_t.requires_grad else x_next


@mutant("deterministic", "noise from torch's global generator")
class NoiseOfItsOwn(Pull):
    def correct(self, step, x_next):
        return x_next + 0.01 * torch.randn_like(x_next)


@mutant("needs_gradient_is_honest", "another kernel where another guidance has gradients tracked")
class KernelIfThereIsAGradient(Pull):
    def refine(self, step):
        found = super().refine(step)
        return Estimate(found.x0, found.theta.roll(1, -1)) if step.x_t.requires_grad else found


@mutant("deterministic", "a kernel with random numbers of its own")
class RandomKernel(Pull):
    def refine(self, step):
        found = super().refine(step)
        return Estimate(found.x0, shaken(step.degradation.parameters, found.theta))


@mutant("alone_as_in_a_batch", "the mean kernel of the batch")
class KernelOfTheBatch(Pull):
    def refine(self, step):
        found = super().refine(step)
        return Estimate(found.x0, found.theta.mean(0, keepdim=True).expand_as(found.theta))


@mutant("memory_does_not_grow", "images kept together with the graphs that another guidance asked for")
class GraphOfAnotherKept(Pull):
    def __init__(self, settings=None):
        super().__init__(settings)
        self.kept = []

    def refine(self, step):
        self.kept.append(step.x0)
        return super().refine(step)


@mutant("no_gradient_on_weights", "backward() in place of autograd.grad")
class BackwardForGrad(Descent):
    def correct(self, step, x_next):
        self.distance(step).sum().backward(retain_graph=True)
        return x_next - step.x_t.grad


@mutant("memory_does_not_grow", "images kept for later together with their graphs")
class GraphKeptOnTheGuidance(Descent):
    def __init__(self, settings=None):
        super().__init__(settings)
        self.kept = []

    def correct(self, step, x_next):
        self.kept.append(step.x0)
        return super().correct(step, x_next)


@mutant("parameters_stay_in_their_space", "a kernel changed and not normalised again")
class ThetaOffTheSimplex(Pull):
    def refine(self, step):
        found = super().refine(step)
        return Estimate(found.x0, 1.05 * found.theta)


@mutant("no_gradient_on_weights", "the prior's weights asked for gradients")
class WeightsGivenGradients(Descent):
    def correct(self, step, x_next):
        step.prior.requires_grad_(True)
        return super().correct(step, x_next)


@mutant("shapes", "the clean image is returned padded, as x_t is")
class PaddedImage(Pull):
    def refine(self, step):
        found = super().refine(step)
        bottom, right = (n - m for n, m in zip(step.x_t.shape[-2:], found.x0.shape[-2:], strict=True))
        return Estimate(F.pad(found.x0, (0, right, 0, bottom)), found.theta)


@mutant("shapes", "the parameters are dropped")
class ParametersDropped(Pull):
    def refine(self, step):
        return Estimate(super().refine(step).x0, None)


class UnwrittenGuidance(Settings):
    strength: float = Field(1.0, exclude=True)


@mutant("settings_survive_json", "a setting that is not written")
class StrengthLeftOut(Pull):
    def __init__(self, settings=None):
        super().__init__(UnwrittenGuidance(strength=2.0))


# Tests.


@pytest.mark.parametrize("name", SOUND)
def test_sound_components_pass(name):
    assert [o.message for o in check_component(SOUND[name]) if o.status not in ("passed", "skipped")] == []


@pytest.mark.parametrize("broken", MUTANTS, ids=str)
def test_every_mutant_is_caught(broken):
    failed = {o.check: o.message for o in check_component(broken.make()) if o.status == "failed"}
    assert broken.caught_by in failed
    for check, message in failed.items():
        assert message.startswith(f"{check}: expected ")
        assert "; got " in message
        assert "; usual cause: " in message
        assert "\n" not in message


def test_every_check_catches_something():
    checks = {(role, check.name) for role, suite in SUITES.items() for check in suite.checks}
    caught = {(broken.role, broken.caught_by) for broken in MUTANTS}
    assert caught <= checks
    assert checks - caught == UNMUTATED.keys()


def test_names_tell_mutants_apart():
    assert len({broken.name for broken in MUTANTS}) == len(MUTANTS)


# The page.

CHECKS_HEADER = ["role", "check", "about"]
MUTANTS_HEADER = ["broken component", "what is wrong", "caught by"]


def check_rows():
    return [
        [role, f"`{check.name}`", check.about.replace("``", "`")]
        for role, suite in SUITES.items()
        for check in suite.checks
    ]


def mutant_rows(role):
    return [[m.name, m.wrong, f"`{m.caught_by}`"] for m in MUTANTS if m.role == role]


def table(header, rows):
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, *rows)).replace("\n", "\n|---|---|---|\n", 1)


def tables_of(page):
    """``(heading, header, rows)`` of every table of a page, in order."""
    found, heading = [], ""
    for block in page.read_text(encoding="utf-8").split("\n\n"):
        lines = block.strip().splitlines()
        if lines and lines[0].startswith("#"):
            heading = lines[0].lstrip("# ")
        if lines and lines[0].startswith("|"):
            header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
            found.append((heading, header, rows))
    return found


@pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="not in a checkout")
@pytest.mark.skipif(not PAGE.exists(), reason="not in a checkout")
def test_the_page_has_these_tables():
    found = tables_of(PAGE)
    assert found[0][1:] == (CHECKS_HEADER, check_rows())
    assert found[1:] == [(title, MUTANTS_HEADER, mutant_rows(role)) for role, title in TITLES.items()]


if __name__ == "__main__":
    print(table(CHECKS_HEADER, check_rows()))
    for role, title in TITLES.items():
        print(f"### {title}\n\n{table(MUTANTS_HEADER, mutant_rows(role))}")
