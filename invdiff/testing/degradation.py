"""What every operator must be, whatever it does to a picture."""

from __future__ import annotations

import torch
from torch import Tensor

from ..degradation import Degradation, KernelSpace
from .checks import Suite, fail, same, skip, survives_json, unchanged
from .subjects import (
    Follow,
    ToyPrior,
    generator,
    global_seed,
    loop_holds_no_more,
    picture,
    same_state,
    sizes,
    smallest,
    state,
)

degradation_checks = check = Suite()

DOUBLE = torch.float64
OVERSHOOT = 0.25
"""How far a measurement may leave [0, 1]: antialiased downsampling overshoots at edges."""


def draw(operator: Degradation, batch: int, dtype: torch.dtype = DOUBLE, seed: int = 1) -> Tensor:
    return operator.sample_parameters(batch, generator(seed)).to(dtype)


def delta(space: KernelSpace, row: int = 0, col: int = 0) -> Tensor:
    """A kernel that is one pixel, so far down and right of the middle."""
    kernel = torch.zeros(1, *space.shape, dtype=DOUBLE)
    kernel[0, space.size // 2 + row, space.size // 2 + col] = 1
    return kernel


def noisy(operator: Degradation) -> Degradation:
    """The operator as it is with noise and without rounding, whatever its settings say."""
    wanted = {"noise_sigma": 0.05, "quantize": False, "camera": None}
    known = type(operator.settings).model_fields
    return type(operator)(operator.settings.model_copy(update={k: v for k, v in wanted.items() if k in known}))


def kernel_space(operator: Degradation) -> KernelSpace:
    if not isinstance(operator.parameters, KernelSpace):
        skip("its parameters are no kernel")
    return operator.parameters


def needs_linear(operator: Degradation) -> None:
    if not operator.linear:
        skip("it does not call itself linear")


@check("a size computed from another rule than the one that apply follows, or a fixed dtype or batch inside")
def shapes(operator: Degradation) -> None:
    """``apply`` gives ``(B, 3, *output_shape)`` in the image's dtype, for odd and even sizes and any batch."""
    for size in sizes(operator):
        for batch, dtype in ((1, DOUBLE), (3, torch.float32)):
            y = operator.apply(picture(batch, size, dtype), draw(operator, batch, dtype))
            want = (batch, 3, *operator.output_shape(size))
            if tuple(y.shape) != want or y.dtype != dtype:
                fail(f"a measurement {want} in {dtype} of an image {size}", f"{tuple(y.shape)} in {y.dtype}")


@check("upsampling by a factor instead of to a size, or a border that apply cuts off and lift does not put back")
def lift_on_the_clean_grid(operator: Degradation) -> None:
    """``lift`` and ``baseline`` bring a measurement to the clean image's size."""
    for size in sizes(operator):
        y = operator.apply(picture(2, size), draw(operator, 2))
        for name in ("lift", "baseline"):
            lifted = getattr(operator, name)(y)
            if tuple(lifted.shape) != (2, 3, *size) or lifted.dtype != y.dtype:
                fail(f"{name}: {(2, 3, *size)} in {y.dtype}", f"{tuple(lifted.shape)} in {lifted.dtype}")


@check("images taken to be in [-1, 1] or [0, 255] inside; the doors are [0, 1]")
def value_range(operator: Degradation) -> None:
    """Images in [0, 1] give measurements, and these lifted images, in [0, 1] but for overshoot."""
    size = smallest(operator)
    for x in (picture(3, size), torch.zeros(3, 3, *size, dtype=DOUBLE), torch.ones(3, 3, *size, dtype=DOUBLE)):
        y = operator.apply(x, draw(operator, 3))
        for name, image in (("apply", y), ("lift", operator.lift(y))):
            low, high = float(image.min()), float(image.max())
            if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):  # NaN is outside
                fail(f"{name} of an image in [0, 1] in [0, 1], give or take {OVERSHOOT}", f"[{low:.3g}, {high:.3g}]")


@check("parameters scaled or clipped differently from the space that is declared, or a kernel that is not normalised")
def parameters_in_their_space(operator: Degradation) -> None:
    """Drawn parameters have the declared shape and lie in the declared space, which is closed under ``project``."""
    space = operator.parameters
    theta = operator.sample_parameters(16, generator())
    if tuple(theta.shape) != (16, *space.shape):
        fail(f"sample_parameters: {(16, *space.shape)}", f"{tuple(theta.shape)}")
    if not bool(theta.isfinite().all()):
        fail("finite parameters", "NaN or infinity")
    if not space.contains(theta):
        gap = float((space.project(theta) - theta).abs().max())
        fail("drawn parameters inside parameters' space", f"some that are off it by {gap:.3g}")
    far = torch.randn(16, *space.shape, generator=generator(), dtype=DOUBLE)
    if not space.contains(space.project(far)):
        fail("project to land in the space", "something outside")


@check("random numbers from torch's global generator, or a seed fixed inside")
def generator_is_used(operator: Degradation) -> None:
    """``degrade`` draws from the generator it is given and from no other: same seed, same draw; other seed, another."""
    x, operator = picture(4, smallest(operator), torch.float32), noisy(operator)
    results = []
    for seed, process_seed in ((1, 10), (1, 11), (2, 11)):
        with global_seed(process_seed):
            results.append(operator.degrade(x, generator(seed)))
    (y, theta), (y_again, theta_again), (_, theta_other) = results
    same(theta_again, theta, 0, "the same parameters from the same seed")
    same(y_again, y, 0, "the same measurement from the same seed")
    if torch.equal(theta, theta_other):
        fail("other parameters from another seed", "the same ones")
    if bool((theta == theta[:1]).all()):
        fail("parameters that differ within a batch", "one draw for all")


@check("noise_sigma applied on another range than [0, 1], or noise added inside apply")
def noise_on_unit_range(operator: Degradation) -> None:
    """``degrade`` is ``apply`` plus noise of ``noise_sigma`` on [0, 1] images, and rounding where configured."""
    size = (4 * smallest(operator)[0],) * 2
    x = picture(4, size, torch.float32)
    for one in (operator, noisy(operator)):
        settings, sigma = one.settings, one.settings.noise_sigma
        if one.noise_level is None:  # drawn for each measurement
            continue
        y, theta = one.degrade(x, generator())
        clean = one.apply(x, theta)
        noise, inside, want = y - clean, torch.ones_like(clean, dtype=torch.bool), sigma
        if settings.quantize:  # rounding is noise too; where values are clipped nothing can be said of it
            same(y, (y * 255).round() / 255, 1e-6, "8-bit values")
            inside = (clean - 0.5).abs() <= 0.5 - 4 * sigma
            want = (sigma**2 + 1 / (12 * 255**2)) ** 0.5
        found = noise[inside]
        if len(found) < 2000:  # too few for a tenth
            continue
        spread, mean = float(found.std()), float(found.mean())
        if not abs(spread - want) <= 0.1 * want + 1e-6:
            fail(f"noise with a standard deviation of {want:.4g}", f"{spread:.4g}")
        if not abs(mean) <= 0.1 * want + 1e-6:
            fail("noise with a mean of zero", f"{mean:.4g}")
        if sigma and not float((noise[0] - noise[1]).std()) >= 0.5 * sigma:
            fail("noise that differs within a batch", "the same for two images")


@check("a term that does not scale with the image, such as an offset or a clamp: declare linear = False")
def linearity(operator: Degradation) -> None:
    """Where ``linear`` is declared, ``A(2 x - 3 x') = 2 A(x) - 3 A(x')``."""
    needs_linear(operator)
    size, theta = smallest(operator), draw(operator, 2)
    a, b = picture(2, size), picture(2, size, seed=5)
    combined = operator.apply(2 * a - 3 * b, theta)
    same(combined, 2 * operator.apply(a, theta) - 3 * operator.apply(b, theta), 1e-9, "apply to be linear in the image")


@check("a kernel that the adjoint does not flip back, or a border that it treats otherwise than apply does")
def adjoint(operator: Degradation) -> None:
    """``<A x, y> = <x, A* y>`` for every size, borders included."""
    needs_linear(operator)
    for size in sizes(operator):
        x, theta = picture(2, size) - 0.5, draw(operator, 2)
        forward = operator.apply(x, theta)
        y = torch.randn(forward.shape, generator=generator(7), dtype=DOUBLE)
        back = operator.adjoint(y, theta)
        if back.shape != x.shape:
            fail(f"an adjoint on the clean grid, {tuple(x.shape)}", f"{tuple(back.shape)}")
        left, right = (forward * y).sum(), (x * back).sum()
        scale = float(forward.norm() * y.norm())
        if not abs(float(left - right)) <= 1e-9 * scale:
            fail(f"<A x, y> = <x, A* y> at size {size}", f"{float(left):.6g} and {float(right):.6g}")


@check("an adjoint written for another version of apply: the two must be one linear map")
def adjoint_is_the_gradient(operator: Degradation) -> None:
    """The adjoint is what autograd finds for ``apply``."""
    needs_linear(operator)
    x, theta = picture(2, smallest(operator)).requires_grad_(), draw(operator, 2)
    forward = operator.apply(x, theta)
    y = torch.randn(forward.shape, generator=generator(7), dtype=DOUBLE)
    (gradient,) = torch.autograd.grad((forward * y).sum(), x)
    same(operator.adjoint(y, theta), gradient, 1e-9, "the adjoint to be autograd's")


def _slope(operator: Degradation, x: Tensor, theta: Tensor, along: str) -> None:
    """Compare autograd's derivative along one direction with a central difference."""
    leaf = {"x": x, "theta": theta}[along].clone().requires_grad_()

    def value(at: Tensor) -> Tensor:
        y = operator.apply(at, theta) if along == "x" else operator.apply(x, at)
        weight = torch.randn(y.shape, generator=generator(9), dtype=DOUBLE)
        return (weight * y).sum((1, 2, 3))

    total = value(leaf).sum()
    if not total.requires_grad:
        fail(f"apply to be differentiable in {along}", "a result that is cut off from it")
    (gradient,) = torch.autograd.grad(total, leaf, allow_unused=True)
    if gradient is None:
        fail(f"apply to be differentiable in {along}", "a result that does not depend on it")
    direction = torch.randn(leaf.shape, generator=generator(11), dtype=DOUBLE)
    step = 1e-5
    with torch.no_grad():
        numeric = (value(leaf + step * direction) - value(leaf - step * direction)) / (2 * step)
    analytic = (gradient * direction).flatten(1).sum(1)
    size = float(gradient.norm() * direction.norm())
    if not float((numeric - analytic).abs().max()) <= 1e-5 * max(size, 1e-3):
        fail(f"the derivative in {along} that differences show, {numeric[0]:.6g}", f"{analytic[0]:.6g} from autograd")


@check("an override of at or of that treats borders otherwise than apply does, or keeps what it should not")
def bound_is_the_same(operator: Degradation) -> None:
    """``at(theta)`` and ``of(x)`` are ``apply`` with one argument held, each time, and their adjoints fit."""
    for size in (smallest(operator), (2 * smallest(operator)[0], smallest(operator)[1])):
        x, theta = picture(2, size), draw(operator, 2)
        y = operator.apply(x, theta)
        other = torch.randn(y.shape, generator=generator(7), dtype=DOUBLE)
        at, of = operator.at(theta), operator.of(x)
        for _ in range(2):
            same(at.apply(x), y, 1e-9, "at(theta).apply(x) to be apply(x, theta)")
            same(of.apply(theta), y, 1e-9, "of(x).apply(theta) to be apply(x, theta)")
            if operator.linear:
                same(at.adjoint(other), operator.adjoint(other, theta), 1e-9, "at(theta).adjoint to be adjoint")
            double = operator.apply(x, 2 * theta)
            if bool(((double - 2 * y).abs() <= 1e-9).all()):  # linear in its parameters
                left, right = (y * other).sum(), (theta * of.adjoint(other)).sum()
                if not abs(float(left - right)) <= 1e-9 * float(y.norm() * other.norm()):
                    fail("of(x).adjoint to be its adjoint", f"products {float(left):.6g} and {float(right):.6g}")
        inner = operator.of(x, 1).apply(theta)
        same(inner, y[..., 1:-1, 1:-1], 1e-9, "of(x, margin) to leave out the margin, and nothing else")


@check("a round, a detach, a NumPy call or an in-place write on the way from the image")
def gradient_in_the_image(operator: Degradation) -> None:
    """Autograd's derivative of ``apply`` in the image is that of finite differences."""
    _slope(operator, 0.1 + 0.8 * picture(2, smallest(operator)), draw(operator, 2), "x")


@check("a detach, an .item() or a NumPy call on the way from the parameters")
def gradient_in_the_parameters(operator: Degradation) -> None:
    """Autograd's derivative of ``apply`` in the parameters is that of finite differences."""
    _slope(operator, picture(2, smallest(operator)), draw(operator, 2), "theta")


@check("an in-place operation, or something remembered from one call to the next: theta is always passed, never stored")
def immutability(operator: Degradation) -> None:
    """No method writes to its arguments or to the operator."""
    operator.apply(picture(2, smallest(operator), seed=3), draw(operator, 2, seed=3))  # leaves another trace, if any
    x, theta, before = picture(2, smallest(operator)), draw(operator, 2), state(operator)
    given = {"the image": x, "the parameters": theta}
    copies = {name: value.clone() for name, value in given.items()}
    y = operator.apply(x, theta)
    unchanged(copies, given, "apply's arguments")
    given["the measurement"], copies["the measurement"] = y, y.clone()
    operator.apply(x, theta)
    unchanged(copies, given, "apply's arguments")
    operator.lift(y)
    operator.corrupt(y, generator())
    if operator.linear:
        operator.adjoint(y, theta)
    operator.parameters.project(theta)
    operator.degrade(x, generator())
    unchanged(copies, given, "arguments")
    same_state(before, operator)
    same(operator.apply(x, theta), copies["the measurement"], 0, "the same measurement the second time")


@check("a mean, a norm or a kernel shared by the whole batch")
def alone_as_in_a_batch(operator: Degradation) -> None:
    """An image's measurement does not depend on its neighbours."""
    x, theta = picture(3, smallest(operator)), draw(operator, 3)
    methods = {"apply": lambda i: operator.apply(x[i], theta[i])}
    y = operator.apply(x, theta)
    methods["lift"] = lambda i: operator.lift(y[i])
    if operator.linear:
        methods["adjoint"] = lambda i: operator.adjoint(y[i], theta[i])
    methods["project"] = lambda i: operator.parameters.project(3 * theta[i])
    for name, method in methods.items():
        whole = method(slice(0, 3))
        for i in range(3):
            same(method(slice(i, i + 1)), whole[i : i + 1], 1e-9, f"{name} of an image alone as in a batch")


@check("a kernel that does not sum to one, or zero padding that darkens the border")
def flat_stays_flat(operator: Degradation) -> None:
    """A blur leaves an image of one colour as it is, up to the border."""
    kernel_space(operator)
    x = torch.full((2, 3, *smallest(operator)), 0.7, dtype=DOUBLE)
    y = operator.apply(x, draw(operator, 2))
    same(y, torch.full_like(y, 0.7), 1e-5, "a flat image left flat")


def _slow_wave(operator: Degradation) -> Tensor:
    side = max(smallest(operator)[0], 64 * operator.scale)
    line = (2 * torch.pi * torch.arange(side, dtype=DOUBLE) / side).cos()
    wave = 0.5 + 0.2 * line[:, None] + 0.2 * line
    return wave.expand(1, 3, side, side)


@check("a shift of half a pixel or more between the grids of apply and lift, or a kernel centred elsewhere")
def no_blur_changes_nothing(operator: Degradation) -> None:
    """With the kernel that is one pixel in the middle, a smooth image comes back from ``lift`` where it was."""
    space = kernel_space(operator)
    x = _slow_wave(operator)
    back = operator.lift(operator.apply(x, delta(space)))
    same(operator.frame(back), operator.frame(x), 0.005, "a smooth image that is not blurred to stay where it is")


@check("cross-correlation, which conv2d computes, where convolution is meant: flip the kernel")
def kernel_is_not_flipped(operator: Degradation) -> None:
    """A kernel with its one pixel down and right of the middle moves the image down and right (convolution)."""
    space = kernel_space(operator)
    reach = min(space.size // 2, 2 * operator.scale)
    if reach < 1:
        skip("its kernel is a single pixel")
    side = max(smallest(operator)[0], 2 * space.size + 8 * operator.scale)
    side -= side % operator.scale
    place = torch.arange(side, dtype=DOUBLE) - side / 2
    spot = (-(place[:, None] ** 2 + place**2) / (2 * (1.5 * operator.scale) ** 2)).exp().expand(1, 3, side, side)

    def centre(kernel: Tensor) -> Tensor:
        y = operator.apply(spot, kernel)[0, 0]
        rows, cols = (torch.arange(n, dtype=DOUBLE) for n in y.shape)
        return torch.stack([(y.sum(1) * rows).sum(), (y.sum(0) * cols).sum()]) / y.sum()

    moved = (centre(delta(space, reach, -reach)) - centre(delta(space))) * operator.scale
    if not float((moved - torch.tensor([reach, -reach])).abs().max()) <= 0.1:
        got = ", ".join(f"{v:.2f}" for v in moved.tolist())
        fail(f"the image to move by ({reach}, {-reach}) pixels, rows and columns", f"({got})")


@check("a tensor kept on the operator while gradients are tracked, which holds on to every step's graph")
def memory_does_not_grow(operator: Degradation) -> None:
    """Fifty steps of the loop hold as many tensors for gradients as forty."""
    loop_holds_no_more(operator, ToyPrior(operator), [Follow()])


@check("settings that are read from elsewhere than the settings class, or of a type that JSON does not know")
def settings_survive_json(operator: Degradation) -> None:
    """Settings written to JSON and read again are the same: recipes, reports and weights rest on it."""
    survives_json(operator.settings)


@check("a table or a generator left on the CPU, or a formula that loses its digits in float32")
def devices_and_dtypes_agree(operator: Degradation) -> None:
    """float32 agrees with float64, and a CUDA device, where there is one, with the CPU."""
    x, theta = picture(2, smallest(operator)), draw(operator, 2)
    want = operator.apply(x, theta)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        y = operator.apply(x.float().to(device), theta.float().to(device))
        if y.device.type != device:
            fail(f"a measurement on {device}", f"one on {y.device.type}")
        same(y.cpu(), want, 1e-4, f"apply in float32 on {device} as in float64")
        lifted = operator.lift(want.float().to(device)).cpu()
        same(lifted, operator.lift(want), 1e-4, f"lift in float32 on {device} as in float64")
