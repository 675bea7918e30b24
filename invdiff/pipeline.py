"""A pipeline: one degradation, one prior, some guidance, and pictures through them. No recipe, no registry."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .degradation import Degradation
from .device import choose_device
from .errors import ImageError, InvdiffError
from .fit import check_fit, check_guidance, check_orientations, check_sampler, checked_parameters, each_of
from .guidance import Guidance, Known, Problem
from .io.jpeg import Jpeg
from .io.notebook import Bar
from .io.pictures import Photo, photo_of
from .method import Restoration, TracedStep, joined
from .metrics.draws import Draws
from .metrics.limits import Limits
from .metrics.picture import rms
from .metrics.words import findings_of
from .prior import PriorNet
from .sampler import DrawsSettings, SamplerSettings, StepRecord, sample
from .seamless import SeamlessPrior
from .seeds import Stream, content_of, stream
from .tiling import channels_last, tiled

_BEYOND = 0.5
_STOPS = 4
"""A photo is brightened by two to the power of this at most: of a darker one 8 bits keep next to nothing."""
OnStep = Callable[[StepRecord], None]


@dataclass(frozen=True)
class _Known:
    """What is known of one measurement: parameters it is restored with, the truth for guidances that ask, how its file
    was compressed, and what is asked for: how many draws, and how much of its noise is to go."""

    told: Tensor | None = None
    truth: Tensor | None = None
    jpeg: Jpeg | None = None
    draws: int = 1
    denoise: float = 1.0

    def of(self, index: int) -> _Known:
        """The same of one image of a batch."""
        told, truth = (None if value is None else value[index] for value in (self.told, self.truth))
        return replace(self, told=told, truth=truth)


@dataclass(frozen=True)
class _Watch:
    """Who looks on: a callback, a bar, and a list that takes what each step arrives at; each may be None."""

    callback: OnStep | None = None
    bar: Bar | None = None
    traced: list[TracedStep] | None = None

    def __call__(self, record: StepRecord) -> None:
        if self.bar is not None:
            self.bar.step()
        if self.callback is not None:
            self.callback(record)


@dataclass(frozen=True)
class Instead:
    """Another pipeline, for photos beyond what a first one's prior can take; it is made when one comes."""

    limits: Limits
    make: Callable[[], Pipeline]

    @cached_property
    def pipeline(self) -> Pipeline:
        return self.make()


class Pipeline:
    """Restores what one degradation made, with one prior.

    ::

        pipe = Pipeline(Haze(), prior, [Proximal()], SamplerSettings(steps=10))
        pipe.restore(image).image

    ``prior`` moves to ``device`` (``auto`` is CUDA, then MPS, then the CPU), and is put in evaluation mode and
    frozen. ``seed`` is that of all random numbers. ``identity`` is plain data that says what results follow from,
    for reports: :func:`invdiff.load` puts the recipe's settings there. ``instead`` is another pipeline, with the same
    operator, for photos beyond some limits; ``draws`` how several pictures are drawn. Raises ``MisfitError`` for parts
    that do not go together.
    """

    def __init__(
        self,
        degradation: Degradation,
        prior: PriorNet,
        guidance: Sequence[Guidance] = (),
        sampler: SamplerSettings | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "auto",
        identity: Mapping[str, Any] | None = None,
        instead: Instead | None = None,
        draws: DrawsSettings | None = None,
    ) -> None:
        self.degradation, self.guidance, self.seed, self.instead = degradation, list(guidance), seed, instead
        self.sampler = SamplerSettings() if sampler is None else sampler
        self.draws = DrawsSettings() if draws is None else draws
        self.identity = dict(identity or {})
        check_fit(prior, degradation)
        check_sampler(prior, self.sampler)
        check_sampler(prior, self.draws.sampler(self.sampler), "draws")
        check_orientations(self.sampler, degradation)
        check_guidance(self.guidance, degradation.on_light)
        self.device = choose_device(device)
        with torch.inference_mode(False):  # its weights may move, and the loop takes gradients through them
            asked = as_asked(prior, self.sampler, degradation)
            self.prior = channels_last(asked.to(self.device).eval().requires_grad_(False))

    def synthesize(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Degrade a clean ``(3, H, W)`` image: measurement ``(3, h, w)`` and parameters, both seeded by its content."""
        generator = stream(self.seed, Stream.SYNTHESIS, *content_of(clean))
        y, theta = self.degradation.degrade(clean[None], generator)
        return y[0], theta[0]

    def restore(
        self,
        image: Any,
        *,
        kernel: Any = None,
        parameters: Tensor | None = None,
        truth: Tensor | None = None,
        callback: OnStep | None = None,
        trace: bool = False,
        progress: bool = False,
        samples: int = 1,
        denoise: float = 1.0,
    ) -> Restoration:
        """Restore a PIL image, an array, or a ``(3, h, w)`` or ``(B, 3, h, w)`` tensor in [0, 1].

        Blind unless it is told: ``kernel`` is a blur kernel, an array or tensor of any odd side up to the
        operator's, its middle the origin; it is scaled to unit sum and framed in zeros. ``parameters``
        ``(*shape)`` is the same for operators of any kind, and must lie in their space. Told parameters stand in
        every estimate's place, the prior restores with them if it takes any, and guidances that only improve an
        estimate are left out.

        ``truth`` are true parameters for guidances that are made for them (``known``); nothing else looks at them.
        All three are of one image, or with a batch also ``(B, ...)``. ``callback`` is called after each step.
        ``trace`` keeps what each step arrived at, to look at or to ``plot()``, of one image; ``progress`` shows a bar,
        in a notebook too.

        ``samples`` is how often to draw from the posterior, as ``draws`` says: of several draws the result is the mean,
        and ``uncertainty`` says how far off it is. The first is the one that is drawn alone, unless ``draws`` differ.

        ``denoise`` says how much of what the result leaves of the photo is noise to be rid of: of the rest, ``1 -
        denoise`` of it, the result gets back, enlarged as bicubic interpolation would. At 0 all grain stays.

        Images are restored one by one, each with noise seeded by the pipeline's seed and its own content: the
        result does not depend on batch, order or process. Where the pipeline has another one beside it (``instead``
        in a recipe), a picture beyond its limits goes there; tensors are measurements, and stay.
        """
        self.check_samples(samples)
        if not 0 <= denoise <= 1:
            raise InvdiffError(f"denoise: from 0 to 1, got {denoise:g}")
        asked: dict[str, Any] = {"kernel": kernel, "parameters": parameters, "truth": truth, "callback": callback}
        asked |= {"trace": trace, "progress": progress, "samples": samples, "denoise": denoise}
        if (drawing := self.drawing(samples)) is not self:
            return drawing.restore(image, **asked)
        if self.instead is not None and not isinstance(image, Tensor):
            fitting, why = self.choice(photo_of(image), samples)
            if fitting is not self:
                return _chosen(fitting.restore(image, **asked), why)
        own = checked_parameters(self.degradation.parameters, kernel, parameters)
        known = _Known(own, truth, draws=samples, denoise=denoise)
        images = len(image) if isinstance(image, Tensor) and image.ndim == 4 else 1
        if trace and images > 1:
            raise InvdiffError("trace: is of one image: restore those of a batch one by one")
        if trace and samples > 1:
            raise InvdiffError("trace: is of one draw: leave samples out")
        traced: list[TracedStep] | None = [] if trace else None
        with Bar(images * samples * self.sampler.steps_in_all) if progress else nullcontext() as bar:
            found = self._restore_any(image, known, _Watch(callback, bar, traced))
        found.before, found.trace = image, traced or ()
        return found

    def fitting(self, photo: Photo) -> Pipeline:
        """The pipeline that :meth:`restore` takes a photo through: this one, or the other that is there instead."""
        return self.choice(photo)[0]

    def choice(self, photo: Photo, samples: int = 1) -> tuple[Pipeline, str]:
        """The same, and in words what of the photo asks for the other one; nothing where it is this one.

        One that gives the same picture every time is not taken for several ``samples``.
        """
        if self.instead is None or not photo.pixels.numel():
            return self, ""
        light = self.degradation.to_light(photo.shown())  # as a prior would be shown it
        why = self.instead.limits.passed_by(self._gain(light) * light, photo.compressed)
        if not why or (samples > 1 and not self.instead.pipeline.draws_differ):
            return self, ""
        named = self.identity.get("name", "another")
        return self.instead.pipeline.drawing(samples), f"chosen rather than {named} for {why}"

    def check_samples(self, samples: int) -> None:
        """Refuse to draw several times what is the same each time; raises :class:`InvdiffError`."""
        if samples < 1:
            raise InvdiffError(f"samples: at least 1, got {samples}")
        if samples > 1 and not self.draws_differ:
            raise InvdiffError(
                f"{samples} samples: temperature 0, or one step, gives the mean and nothing to draw; set "
                "sampler.temperature=1 and sampler.steps=20, say"
            )

    @property
    def draws_differ(self) -> bool:
        """Whether several draws are any use: they differ by the noise of more than one step."""
        each = self.draws.sampler(self.sampler)
        return each.temperature > 0 and each.steps > 1

    @property
    def evaluations(self) -> int:
        """How often the network is asked in the steps of one picture, by guidances too."""
        return self.sampler.steps_in_all * (1 + sum(guide.evaluations_each for guide in self.guidance))

    def drawing(self, samples: int) -> Pipeline:
        """The pipeline that draws so often: this one, or a copy of it with the sampler that ``draws`` asks for."""
        each = self.draws.sampler(self.sampler)
        if samples == 1 or each == self.sampler:
            return self
        other = copy(self)
        other.sampler = each
        other.identity = {**self.identity, "sampler": each.model_dump(mode="json")}
        return other

    def _restore_any(self, image: Any, known: _Known, watch: _Watch) -> Restoration:
        if isinstance(image, Tensor):
            return self._restore_tensor(image, known, watch)
        photo = photo_of(image)
        found = self._restore(photo.shown(), replace(known, jpeg=photo.compressed), watch)
        restored = photo.restored(found.image)
        if isinstance(image, Image.Image):
            found.image = restored.to_pil()
        elif isinstance(image, np.ndarray):
            found.image = restored.to_array_like(image)
        else:
            found.image = restored
        return found

    def _restore_tensor(self, image: Tensor, known: _Known, watch: _Watch) -> Restoration:
        if image.ndim == 4:
            space, batch = self.degradation.parameters, len(image)
            told, truth = (each_of(space, value, batch) for value in (known.told, known.truth))
            each = replace(known, told=told, truth=truth)
            return joined([self._restore_tensor(one, each.of(i), watch) for i, one in enumerate(image)])
        if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
            raise ImageError(f"an image tensor is float (3, h, w) or (B, 3, h, w), got {tuple(image.shape)}")
        found = self._restore(image, known, watch)
        found.image = found.image.to(image)
        return found

    def _restore(self, pixels: Tensor, known: _Known, watch: _Watch) -> Restoration:
        """One image ``(3, h, w)``; the result is on the CPU, in [0, 1]."""
        with torch.inference_mode(False):  # the loop needs gradients, wherever it is called
            return self._walked(pixels.detach().clone().float().cpu(), known, watch)

    def _walked(self, y: Tensor, known: _Known, watch: _Watch) -> Restoration:
        _refuse_no_image(y)
        light = self.degradation.to_light(y)
        gain = self._gain(light)
        key = (self.seed, Stream.SAMPLING, *content_of(gain * y))
        measured = y[None].to(self.device)
        told, truth = (each_of(self.degradation.parameters, value, 1) for value in (known.told, known.truth))
        told, truth = (None if value is None else value.float().to(self.device) for value in (told, truth))
        guidance, sampler = self.guidance, self.sampler
        if told is not None:
            guidance = [Known(), *(guide for guide in self.guidance if not guide.estimates_parameters)]
            sampler = sampler.model_copy(update={"feedback": self.prior.spec.takes_parameters})
            truth = told
        seen = gain * light[None].to(self.device)
        compression = 0.0 if known.jpeg is None else gain * known.jpeg.error(y, self.degradation.to_light)
        problem = Problem(seen, self.degradation.on_light, self.prior, guidance, truth, gain, compression)
        self.degradation.output_shape((problem.height, problem.width))  # refuses a picture that is too small

        def as_brought(x0: Tensor) -> Tensor:
            return self.degradation.from_light(x0 if gain == 1 else x0 / gain)

        def on_step(record: StepRecord) -> None:
            if watch.traced is not None:
                arrived = as_brought(record.x0.clamp(0, 1))
                watch.traced.append(self._arrived(measured, arrived, record.theta, self._again(arrived, record.theta)))
            watch(replace(record, x0=as_brought(record.x0)))

        draws, thetas, evaluations = Draws(), [], 0
        for draw in range(known.draws):
            generator = stream(*key, draw) if draw else stream(*key)
            result = sample(problem, sampler, [generator], on_step, initial=told)
            if not bool(result.x0.isfinite().all()):
                raise ImageError("the result is not finite: settings or weights that do not go together")
            x, theta = as_brought(result.x0.clamp(0, 1)), result.theta
            evaluations += result.evaluations
            del result  # as large as the picture, as is much of the problem below
            if known.draws > 1:
                draws.add(x[0].cpu())
                thetas += [] if theta is None else [theta]
        if known.draws > 1:
            x, theta = draws.mean[None].to(x), torch.stack(thetas).mean(0) if thetas else None
        if known.denoise < 1:
            x = self._with_noise(x, measured, theta, 1 - known.denoise)
        remark = problem.remarks[0]
        del problem
        again = self._again(x, theta)
        found = self._arrived(measured, x, theta, again)
        restored = Restoration(found.image, found.parameters, found.residual, evaluations)
        own = found.parameters if told is None else None
        blur = "" if own is None else self.degradation.described(own)
        again = None if again is None else again[0].cpu()
        findings = findings_of(y, again, blur=blur, jpeg=known.jpeg, done=self._done(known.denoise), remark=remark)
        if draws.count:
            deviation = self.degradation.frame(draws.deviation)
            restored.uncertainty = self.draws.uncertainty(deviation, gain)
            off = rms(restored.uncertainty) if self.draws.calibrated else None
            findings = replace(findings, draws=draws.count, spread=rms(deviation), detail=draws.detail, off=off)
        restored.findings = findings
        return restored

    def _gain(self, y: Tensor) -> float:
        """By how much a dark photo is brightened before the loop, whose noise is made for [0, 1]: a power of two, by
        which nothing is rounded, so that of half the light half the picture comes; 1 above half the range.

        Blurs do not mind. Of another operator nobody knows whether its parameters mean the same in another light.
        """
        brightest = float(y.max())
        blurs = self.degradation.parameters.of_blur and self.degradation.on_light.linear
        if not (blurs and brightest > 0):
            return 1.0
        return 2.0 ** min(max(math.floor(-math.log2(brightest)), 0), _STOPS)

    def _with_noise(self, x: Tensor, y: Tensor, theta: Tensor | None, share: float) -> Tensor:
        """A result with a share of what it leaves of its photo."""
        if theta is None:
            raise InvdiffError("denoise: nothing says how the photo came about, and so what of it is noise")
        with torch.no_grad():
            left = self.degradation.lift(y - self.degradation.apply(x, theta))
        return (x + share * left).clamp(0, 1)

    def _done(self, denoise: float = 1.0) -> str:
        """What restoring does, for people."""
        scale, steps = self.degradation.scale, self.sampler.steps
        what = f"enlarged {scale} times" if scale > 1 else "restored at its own size"
        by = f" by {self.identity['name']}" if "name" in self.identity else ""
        by += "" if self.degradation.on_light is self.degradation else ", in linear light"
        noise = "" if denoise == 1 else f", {100 * (1 - denoise):.0f} % of what it left of the photo put back"
        ways = f", the mean of {ways} orientations" if (ways := self.sampler.orientations) > 1 else ""
        return f"{what}{by}, in {steps} step{'s' if steps > 1 else ''}{ways}{noise}"

    @torch.no_grad()
    def _again(self, x: Tensor, theta: Tensor | None) -> Tensor | None:
        """A result degraded anew; None where nobody knows how."""
        return None if theta is None else self.degradation.apply(x, theta)

    def _arrived(self, measured: Tensor, x: Tensor, theta: Tensor | None, again: Tensor | None) -> TracedStep:
        """An image ``x (1, 3, H, W)`` and its parameters as results show them, on the CPU, with the residual that it
        leaves where it is ``again`` degraded."""
        # On the CPU: MPS has no float64.
        residual = None if again is None else float((measured - again).cpu().double().square().mean().sqrt())
        return TracedStep(self.degradation.frame(x)[0].cpu(), None if theta is None else theta[0].cpu(), residual)


def _chosen(found: Restoration, why: str) -> Restoration:
    """A result, whose words also say why it was restored so."""
    if found.findings is not None:
        found.findings = replace(found.findings, done=f"{found.findings.done}; {why}")
    return found


def as_asked(prior: PriorNet, sampler: SamplerSettings, degradation: Degradation) -> PriorNet:
    """A prior as the loop asks it: large pictures by tiles, and round the borders where they meet."""
    asked = tiled(prior, sampler.tile, sampler.overlap)
    return SeamlessPrior(asked) if degradation.wraps else asked


def _refuse_no_image(y: Tensor) -> None:
    """Raise :class:`ImageError` for what is no image in [0, 1]; noise may lead a little beyond."""
    if not y.numel():
        raise ImageError(f"a picture of no pixels: {y.shape[-1]}x{y.shape[-2]}")
    if not bool(y.isfinite().all()):
        raise ImageError("an image must be finite")
    low, high = float(y.min()), float(y.max())
    if low < -_BEYOND or high > 1 + _BEYOND:
        raise ImageError(f"an image lies in [0, 1], got {low:.3g} to {high:.3g}")
