"""The kernel-aware gradient against finite differences and closed forms, in float64."""

import itertools

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from invdiff.blur.resize import downsample_bicubic
from invdiff.degradation import Degradation, KernelSpace
from invdiff.errors import InvdiffError
from invdiff.guidance import Guidance, Problem, Step
from invdiff.prior import Output, PriorNet, PriorSpec
from invdiff.sampler import SamplerSettings, sample
from invdiff.schedule import NoiseSchedule
from invdiff_blindsr.operator import BlindSR, BlindSRSettings
from invdiff_kernel_guidance.guidance import KernelAware, KernelAwareSettings

AUTHORS = NoiseSchedule.linear(500, 2e-4, 4e-2)  # as many times as the authors take steps


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generators(n, first=0):
    return [torch.Generator().manual_seed(first + i) for i in range(n)]


class SmallPrior(PriorNet):
    """Nonlinear and smooth, mixes pixels and channels, and reads its 3x3 kernel off x_t and the condition."""

    def __init__(self, kernel=True, multiple=4, value_range=(-1.0, 1.0), prediction="v"):
        super().__init__()
        self.spec = PriorSpec(AUTHORS, multiple=multiple, value_range=value_range, prediction=prediction)
        self.mix = torch.randn(3, 6, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 5
        self.read = 5 * torch.randn(9, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        self.kernel = kernel
        self.seen = []

    def forward(self, x_t, t, condition):
        self.seen.append((x_t.detach().clone(), t, condition))
        both = torch.cat([x_t, condition], 1)
        raw = torch.tanh(torch.nn.functional.conv2d(both, self.mix, padding=1)) + 0.1 * x_t**2
        logits = torch.sin(both).mean((2, 3)) @ self.read.T
        return Output(raw, logits.softmax(1).view(-1, 3, 3) if self.kernel else None)


class Spy(KernelAware):
    """The guidance as it is, with what it did kept."""

    def __init__(self, **settings):
        super().__init__(KernelAwareSettings(**settings))
        self.moves = []

    def correct(self, step, x_next):
        moved = super().correct(step, x_next)
        self.moves.append((moved - x_next).detach())
        return moved


def sr(**settings):
    return BlindSR(BlindSRSettings(scale=2, kernel_size=3, **settings))


def run(y, operator, prior, guides, steps=3, truth=None, first=0, eta=1.0, spacing="uniform"):
    settings = SamplerSettings(steps=steps, eta=eta, spacing=spacing)
    return sample(Problem(y, operator, prior, guides, truth), settings, generators(len(y), first))


def authors_moves(t, t_next, schedule=AUTHORS):
    """What is left at ``t_next`` of the authors' moves of one, made after each of their steps on the way from ``t``.

    Each of their steps turns a shift d of x_s, with x_0 as it is, into sqrt(alpha) (1 - b) / (1 - a) d
    (Ho et al. 2020, Eq. 7), and then adds its own move. Half a step makes half a move.
    """
    abar = schedule.alphas_cumprod.numpy()
    stride = len(schedule) // 500
    steps, rest = divmod(t - t_next, stride)
    shift, s = rest / stride, t - rest
    for _ in range(steps):
        a, b = abar[s], abar[s - stride]
        shift, s = np.sqrt(a / b) * (1 - b) / (1 - a) * shift + 1, s - stride
    return shift


def slope(f, x, h=1e-5):
    """Central differences of ``f: (n, 3, H, W) -> (n,)`` at one image, all its numbers in one batch."""
    steps = h * torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape)
    with torch.no_grad():
        return ((f(x + steps) - f(x - steps)) / (2 * h)).view(x.shape)


# --- the gradient ------------------------------------------------------------------------------------


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"detach_kernel": True}, {"kernel": "bicubic"}, {"kernel": "given"}],
    ids=["through_kernel", "detached", "bicubic", "given"],
)
def test_finite_differences(options, squared):
    """Each move is -length times the slope of the distance at x_t, for every number of the padded x_t.

    6x6 images padded to 8x8, a prior in [-1, 1]. The length is strength times the authors' moves in that time (one
    at the end), measured on [0, 1]: one factor 2 for the gradient in x_t, one for the move of x_next.
    Central differences with h = 1e-5 are good to 1e-9 of such smooth functions.
    """
    prior, operator, y, given = SmallPrior(), sr(), rand(2, 3, 3, 3), rand(2, 3, 3, seed=5)
    given = given / given.sum((1, 2), keepdim=True)
    guide = Spy(strength=0.003, squared=squared, **options)
    run(y, operator, prior, [guide], truth=given)
    seen = list(prior.seen)
    times = [499, 250, 0]  # 3 steps of 500: 249.5 is rounded to the even 250
    counts = [authors_moves(499, 250), authors_moves(250, 0), 1]
    assert len(seen) == len(guide.moves) == 3
    for (x_t, t, condition), move, time, count in zip(seen, guide.moves, times, counts, strict=True):
        assert t.tolist() == [time, time]
        assert move.shape == (2, 3, 8, 8)
        for i in range(2):

            def estimate(x, i=i, condition=condition, time=time):
                prediction = prior.predict(x, torch.full((len(x),), time), condition[i].expand(len(x), -1, -1, -1))
                return (prediction.x0[..., :6, :6] + 1) / 2, prediction.parameters

            _, fixed = estimate(x_t[i : i + 1])

            def distance(x, i=i, fixed=fixed, estimate=estimate):
                x0, kernel = estimate(x)
                if options.get("detach_kernel"):
                    kernel = fixed.expand(len(x), -1, -1)
                if options.get("kernel") == "given":
                    kernel = given[i].expand(len(x), -1, -1)
                blurless = options.get("kernel") == "bicubic"
                measured = downsample_bicubic(x0, 2) if blurless else operator.apply(x0, kernel)
                square = (y[i] - measured).square().sum((1, 2, 3))
                return square if squared else square.sqrt()

            expected = -0.003 * count * 2**2 * slope(distance, x_t[i])
            assert float(expected.abs().max()) > 1e-4
            torch.testing.assert_close(move[i], expected, rtol=1e-6, atol=1e-8)


def test_the_kernel_estimate_counts():
    """The two settings above differ by much more than their tolerance: the kernel's own slope is no trifle."""
    moves = []
    for detach in (False, True):
        guide = Spy(strength=0.003, detach_kernel=detach)
        run(rand(2, 3, 3, 3), sr(), SmallPrior(), [guide], steps=1)
        moves.append(guide.moves[0])
    assert float((moves[0] - moves[1]).abs().max()) > 1e-3 * float(moves[0].abs().max())


class Affine(PriorNet):
    """x_0 = J x_t + c on the flattened image, at every time."""

    def __init__(self, jacobian, offset=0.0, value_range=(0.0, 1.0), schedule=AUTHORS):
        super().__init__()
        self.spec = PriorSpec(schedule, value_range=value_range, prediction="x0")
        self.jacobian, self.offset = jacobian, offset

    def forward(self, x_t, t, condition):
        return Output((x_t.flatten(1) @ self.jacobian.T + self.offset).view_as(x_t))


class Matrix(Degradation):
    """``y = theta M x`` with one number theta: flat image to flat measurement of three numbers."""

    parameters = KernelSpace(1)

    def __init__(self, matrix, size=(2, 2)):
        super().__init__()
        self.matrix, self.size = matrix, size

    def sample_parameters(self, batch, generator):
        return torch.ones(batch, 1, 1)

    def apply(self, x, theta):
        return (x.flatten(1) @ self.matrix.T * theta.flatten(1)).view(-1, 3, 1, 1)

    def lift(self, y):
        return y.expand(-1, -1, *self.size)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("kernel", ["given", "bicubic"])
def test_linear_gaussian(kernel, squared):
    """For x_0 = J x + c and y = theta M x_0 the gradient is -theta J^T M^T r / |r|, or -2 theta J^T M^T r squared.

    ``bicubic`` is the kernel with a one in its middle, theta = 1. The last step, here the only one, is one gradient.
    """
    rng = np.random.default_rng(0)
    jacobian, matrix, c = rng.normal(size=(12, 12)) / 4, rng.normal(size=(3, 12)) / 12, rng.normal(size=12)
    y, theta = rand(4, 3, 1, 1), torch.tensor([0.5, 1.0, 2.0, -3.0], dtype=torch.float64).view(4, 1, 1)
    guide = Spy(strength=0.05, kernel=kernel, squared=squared)
    prior = Affine(torch.from_numpy(jacobian), torch.from_numpy(c))
    run(y, Matrix(torch.from_numpy(matrix)), prior, [guide], steps=1, truth=theta)
    # The start is each generator's first draw.
    x = torch.stack([torch.randn(3, 2, 2, generator=g) for g in generators(4)]).double().flatten(1).numpy()
    for i in range(4):
        k = float(theta[i]) if kernel == "given" else 1.0
        r = y[i].flatten().numpy() - k * matrix @ (jacobian @ x[i] + c)
        gradient = -k * jacobian.T @ matrix.T @ r * (2 if squared else 1 / np.linalg.norm(r))
        np.testing.assert_allclose(guide.moves[0][i].flatten().numpy(), -0.05 * gradient, rtol=1e-9)


def test_a_move_goes_towards_the_measurement():
    """A small move at x_T lowers |y - A_k(x_0)| of each image; a large lambda's sign error would raise it."""
    prior, operator, y = SmallPrior(multiple=2), sr(), rand(2, 3, 4, 4)
    guide = Spy(strength=1e-5)
    run(y, operator, prior, [guide], steps=1)
    x_t, t, condition = prior.seen[0]

    def distance(x):
        prediction = prior.predict(x, t, condition)
        return (y - operator.apply(prior.to_unit(prediction.x0), prediction.parameters)).flatten(1).norm(dim=1)

    assert bool((distance(x_t + guide.moves[0]) < distance(x_t)).all())


def test_an_exact_fit_stays():
    """Where the residual is zero the norm has no slope: no move and no NaN."""
    matrix = torch.eye(3, 12, dtype=torch.float64)
    prior = Affine(torch.zeros(12, 12, dtype=torch.float64), torch.full((12,), 0.25, dtype=torch.float64))
    guide = Spy(kernel="bicubic")
    result = run(torch.full((1, 3, 1, 1), 0.25, dtype=torch.float64), Matrix(matrix), prior, [guide])
    assert all(bool((move == 0).all()) for move in guide.moves)
    torch.testing.assert_close(result.x0, torch.full_like(result.x0, 0.25))


# --- each image by itself ----------------------------------------------------------------------------


@pytest.mark.parametrize("squared", [False, True])
def test_alone_as_in_a_batch(squared):
    """The norm is each image's own, also where residuals differ a thousandfold (a norm over all would show)."""
    y = rand(3, 3, 4, 4) * torch.tensor([1.0, 1000.0, 30.0], dtype=torch.float64).view(-1, 1, 1, 1)
    options = {"strength": 1e-4, "squared": squared}
    together = Spy(**options)
    run(y, sr(), SmallPrior(), [together], first=10)
    for i in range(3):
        alone = Spy(**options)
        run(y[i : i + 1], sr(), SmallPrior(), [alone], first=10 + i)
        for a, b in zip(alone.moves, together.moves, strict=True):
            torch.testing.assert_close(a, b[i : i + 1], rtol=1e-9, atol=1e-12)


# --- how far -----------------------------------------------------------------------------------------


def constant_slope(steps, strength=1.0, value_range=(0.0, 1.0), spacing="uniform", timesteps=1000):
    """Moves of a run whose distance has the same slope everywhere: y far above <w, x>, so |r| = y - <w, x>.

    In [0, 1] units the slope is -w; a gradient step of length L moves by L w.
    """
    matrix = torch.zeros(3, 12, dtype=torch.float64)
    matrix[0] = torch.linspace(-1, 2, 12)
    y = torch.zeros(1, 3, 1, 1, dtype=torch.float64)
    y[0, 0] = 1e9
    guide = Spy(strength=strength, kernel="bicubic")
    schedule = NoiseSchedule.linear(timesteps)
    prior = Affine(torch.eye(12, dtype=torch.float64), value_range=value_range, schedule=schedule)
    run(y, Matrix(matrix), prior, [guide], steps=steps, spacing=spacing)
    low, high = value_range
    # Moves in [0, 1] units, as multiples of w: the number of gradients.
    counts = torch.stack(guide.moves).flatten(1) / (high - low) / matrix[0]
    torch.testing.assert_close(counts, counts[:, :1].expand_as(counts), rtol=1e-6, atol=1e-6)
    return counts[:, 0].numpy()


def test_one_gradient_a_step_at_the_authors_steps():
    """500 steps, strength 1: one gradient a step, as in their code.

    Of 1000 times the authors keep 500, which are 2 apart but for one gap of 3 (999 is odd): there one and a half,
    of which the half is shrunk on its way.
    """
    np.testing.assert_allclose(constant_slope(500, timesteps=500), np.ones(500), rtol=1e-6)
    counts = constant_slope(500)
    odd = np.abs(counts - 1) > 1e-6
    assert odd.sum() == 1
    assert 1.4 < float(counts[odd][0]) < 1.5


def test_half_a_gradient_at_twice_the_steps():
    """1000 steps: each stands for half of one of the authors'; the last is at least that."""
    np.testing.assert_allclose(constant_slope(1000)[:-1], np.full(999, 0.5), rtol=1e-6)


@pytest.mark.parametrize("timesteps", [500, 1000])
@pytest.mark.parametrize(("steps", "spacing"), [(1, "uniform"), (3, "uniform"), (20, "uniform"), (20, "quadratic")])
def test_a_long_step_stands_for_the_authors_short_ones(steps, spacing, timesteps):
    """As many gradients as theirs, each shrunk by their transitions after it, would have left at its end."""
    schedule = NoiseSchedule.linear(timesteps)
    times = schedule.spaced(steps, spacing)
    expected = [authors_moves(t, t_next, schedule) for t, t_next in itertools.pairwise(times)]
    counts = constant_slope(steps, spacing=spacing, timesteps=timesteps)
    np.testing.assert_allclose(counts, [*expected, 1], rtol=1e-6)
    # Shrinking only: never more than in proportion to time, and far less where the noise falls steeply.
    assert (counts[:-1] <= -np.diff(times) * 500 / timesteps).all()


class Certain(PriorNet):
    """Says the same clean image whatever it sees, but with the slope of the identity: d x_0 / d x_t = 1."""

    spec = PriorSpec(AUTHORS, prediction="x0", value_range=(0.0, 1.0))

    def __init__(self):
        super().__init__()
        self.states = {}

    def forward(self, x_t, t, condition):
        self.states[int(t[0])] = x_t.detach().clone()
        return Output(0.4 + x_t - x_t.detach())


@pytest.mark.parametrize(("steps", "spacing"), [(5, "uniform"), (20, "uniform"), (20, "quadratic")])
def test_few_steps_arrive_where_500_do(steps, spacing):
    """Where neither x_0 nor the gradient changes, guidance has moved x_t as far as in the authors' 500 steps.

    Guided minus unguided, the same seeds: at each time that both runs visit the shift is the same.
    """
    matrix, y = torch.zeros(3, 12, dtype=torch.float64), torch.full((1, 3, 1, 1), 9.0, dtype=torch.float64)
    matrix[0] = torch.linspace(-1, 2, 12)  # one number measured, far above what is there: a slope without a turn
    y[0, 1:] = 0

    def shifts(count):
        found = []
        for strength in (0.01, 0):
            prior = Certain()
            guide = KernelAware(KernelAwareSettings(kernel="bicubic", strength=strength))
            run(y, Matrix(matrix), prior, [guide], steps=count, spacing=spacing if count < 500 else "uniform")
            found.append(prior.states)
        return {t: found[0][t] - found[1][t] for t in found[0]}

    few, many = shifts(steps), shifts(500)
    assert len(few) == steps
    for t, shift in few.items():
        torch.testing.assert_close(shift, many[t], rtol=1e-5, atol=1e-7)
    assert max(float(shift.abs().max()) for shift in few.values()) > 0.5


@pytest.mark.parametrize("strength", [0.1, 5.0])
def test_strength_is_a_factor(strength):
    np.testing.assert_allclose(constant_slope(10, strength), strength * constant_slope(10), rtol=1e-6)


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (-3.0, 5.0)])
def test_lengths_are_in_unit_images(value_range):
    """The same number of [0, 1] gradients, moved in [0, 1] images, whatever the prior's range."""
    np.testing.assert_allclose(constant_slope(4, value_range=value_range), constant_slope(4), rtol=1e-6)


class Curved(PriorNet):
    """x_0 = sin(2 x) in [0, 1] units, said and heard in ``value_range``: x_t too is only written differently."""

    def __init__(self, value_range):
        super().__init__()
        self.spec = PriorSpec(AUTHORS, prediction="x0", value_range=value_range)

    def forward(self, x_t, t, condition):
        return Output(self.from_unit(torch.sin(2 * self.to_unit(x_t))))


@pytest.mark.parametrize("squared", [False, True])
def test_the_range_is_only_a_way_to_write(squared):
    """A prior in [0, 1], and the same one with X = 2 x - 1 written for everything it sees and says: the same move.

    In x the gradient g moves by L g. In X the gradient is g / 2, and the same move is 2 L g: a factor of 4.
    """
    x, y, matrix = rand(2, 3, 2, 2, seed=3), rand(2, 3, 1, 1, seed=4), rand(3, 12, seed=5)
    moves = []
    for value_range in ((0.0, 1.0), (-1.0, 1.0)):
        prior, guide = Curved(value_range), Spy(strength=0.001, kernel="bicubic", squared=squared)
        x_t = prior.from_unit(x).requires_grad_()
        x0 = prior.to_unit(prior.predict(x_t, torch.tensor([300, 300]), x_t).x0)
        guide.correct(Step(0, 2, 300, 100, x_t, x0, None, y, prior, Matrix(matrix)), torch.zeros_like(x))
        moves.append(guide.moves[0])
    assert float(moves[0].abs().max()) > 1e-3
    torch.testing.assert_close(moves[1], 2 * moves[0], rtol=1e-9, atol=1e-12)


# --- settings ----------------------------------------------------------------------------------------


def test_paper_defaults():
    """Lambda 1 (Table 4), the norm as in the authors' code, the estimated kernel with its gradient."""
    settings = KernelAware().settings
    assert settings.strength == 1.0
    assert settings.kernel == "estimated"
    assert not settings.squared
    assert not settings.detach_kernel
    assert KernelAware().needs_gradient


def test_strength_zero_is_no_guidance():
    """No gradient is asked for, none tracked, and the result is the unguided one."""
    y, prior = rand(2, 3, 4, 4), SmallPrior()
    guide = KernelAware(KernelAwareSettings(strength=0))
    assert not guide.needs_gradient
    torch.testing.assert_close(run(y, sr(), prior, [guide]).x0, run(y, sr(), prior, []).x0, rtol=0, atol=0)
    guided = run(y, sr(), prior, [KernelAware(KernelAwareSettings(strength=0.1))]).x0
    assert float((guided - run(y, sr(), prior, []).x0).abs().max()) > 0.01  # a strength that is not zero shows


def test_given_kernel_missing():
    with pytest.raises(InvdiffError, match="known kernel"):
        run(rand(1, 3, 4, 4), sr(), SmallPrior(), [KernelAware(KernelAwareSettings(kernel="given"))])


def test_estimated_kernel_missing():
    with pytest.raises(InvdiffError, match="estimates no kernel"):
        run(rand(1, 3, 4, 4), sr(), SmallPrior(kernel=False), [KernelAware()])


@pytest.mark.parametrize("kernel", ["bicubic", "given"])
def test_a_prior_without_kernel_can_be_guided(kernel):
    """Where the kernel comes from elsewhere the prior need not estimate one."""
    given = torch.full((1, 3, 3), 1 / 9, dtype=torch.float64)
    guide = Spy(kernel=kernel, strength=0.01)
    assert run(rand(1, 3, 4, 4), sr(), SmallPrior(kernel=False), [guide], truth=given).theta is None
    assert all(float(move.abs().max()) > 0 for move in guide.moves)


@pytest.mark.parametrize("bad", [{"strength": -1}, {"strength": float("inf")}, {"kernel": "true"}, {"stength": 1}])
def test_impossible_settings(bad):
    with pytest.raises(ValidationError):
        KernelAwareSettings(**bad)


def test_the_base_does_nothing():
    """A guidance that overrides nothing changes nothing and asks for no gradient."""
    y, prior = rand(2, 3, 4, 4), SmallPrior()

    class Idle(Guidance):
        pass

    assert not Idle().needs_gradient
    torch.testing.assert_close(run(y, sr(), prior, [Idle()]).x0, run(y, sr(), prior, []).x0, rtol=0, atol=0)
