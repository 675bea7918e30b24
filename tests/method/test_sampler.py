"""The reverse loop: what it promises to priors, guidances and callbacks. The posterior is in theory/."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from invdiff.degradation import BoxSpace, Degradation
from invdiff.guidance import Estimate, Guidance, Problem
from invdiff.prior import Output, PriorNet, PriorSpec
from invdiff.sampler import SamplerSettings, sample
from invdiff.schedule import NoiseSchedule

SHORT = NoiseSchedule.linear(60, 1e-3, 0.2)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


class Same(Degradation):
    """y = theta x: one number an image; the lift is y itself, or y repeated for a scale."""

    parameters = BoxSpace(("gain",), (0.0,), (2.0,))

    def __init__(self, scale=1):
        super().__init__()
        self.scale = scale

    def sample_parameters(self, batch, generator):
        return torch.ones(batch, 1)

    def apply(self, x, theta):
        return x[..., :: self.scale, :: self.scale] * theta[:, :, None, None]

    def lift(self, y):
        return y.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)


class Toy(PriorNet):
    """Smooth and nonlinear with one weight, estimates a gain, and keeps what it was asked and in which mode."""

    def __init__(self, multiple=1, value_range=(-1.0, 1.0), prediction="v", fraction=None):
        super().__init__()
        self.spec = PriorSpec(SHORT, multiple=multiple, value_range=value_range, prediction=prediction)
        self.weight = torch.nn.Parameter(torch.tensor(0.8, dtype=torch.float64))
        self.fraction = fraction
        self.calls = []

    def forward(self, x_t, t, condition):
        self.calls.append((x_t.detach().clone(), t, condition.detach(), torch.is_grad_enabled(), x_t.requires_grad))
        raw = torch.sin(self.weight * x_t + condition) + 0.1 * x_t.flip(-1)
        return Output(raw, 1 + 0.1 * x_t.mean((1, 2, 3))[:, None], self.fraction)

    @property
    def states(self):
        return [call[0] for call in self.calls]


class Follow(Guidance):
    """A gradient guidance: a little down the slope of |y - A x_0|^2."""

    needs_gradient = True

    def correct(self, step, x_next):
        distance = (step.y - step.degradation.apply(step.x0, step.theta)).square().sum()
        return x_next - 0.05 * torch.autograd.grad(distance, step.x_t)[0]


class Tangled(Follow):
    """Its correction depends on x_t in the open: the graph hangs on x_next."""

    def correct(self, step, x_next):
        return super().correct(step, x_next) + 0.01 * step.x0


class Fixed(Guidance):
    """Refines to one image and one theta, whatever the prior says, and keeps the steps it saw."""

    def __init__(self, x0, theta=None):
        super().__init__()
        self.x0, self.theta, self.steps = x0, theta, []

    def refine(self, step):
        self.steps.append((step.x0.detach().clone(), step.theta.detach().clone()))
        return Estimate(self.x0, step.theta if self.theta is None else self.theta)


def run(y, prior, guides=(), seeds=None, callback=None, degradation=None, **settings):
    drawn = generators(*(seeds or range(len(y))))
    problem = Problem(y, degradation or Same(), prior, guides)
    return sample(problem, SamplerSettings(**settings), drawn, callback)


def abar(t):
    return float(np.prod(1 - np.linspace(1e-3, 0.2, 60)[: t + 1]))


# --- a generator an image ----------------------------------------------------------------------------


@pytest.mark.parametrize("guides", [[], [Follow()]], ids=["unguided", "guided"])
@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_alone_as_in_a_batch(eta, guides):
    """Each image's noise is its generator's: alone, in a batch, and in another order it comes out the same."""
    y, seeds = rand(3, 3, 5, 6), [11, 12, 13]
    together = run(y, Toy(multiple=4), guides, seeds, steps=8, eta=eta)
    turned = run(y.flip(0), Toy(multiple=4), guides, seeds[::-1], steps=8, eta=eta)
    torch.testing.assert_close(turned.x0.flip(0), together.x0, rtol=1e-10, atol=1e-12)
    for i in range(3):
        alone = run(y[i : i + 1], Toy(multiple=4), guides, seeds[i : i + 1], steps=8, eta=eta)
        torch.testing.assert_close(alone.x0[0], together.x0[i], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(alone.theta[0], together.theta[i], rtol=1e-10, atol=1e-12)


def test_the_seed_decides():
    """The same measurement: the same sample for the same seed, another for another seed."""
    y = rand(1, 3, 4, 4).expand(3, -1, -1, -1)
    x0 = run(y, Toy(), seeds=[1, 1, 2], steps=5).x0
    assert torch.equal(x0[0], x0[1])
    assert float((x0[0] - x0[2]).abs().max()) > 0.01


def test_start_is_standard_normal():
    """The loop starts at N(0, 1), whatever the range: mean and variance of 30000 numbers, five standard errors."""
    prior = Toy(value_range=(0.0, 1.0))
    run(rand(1, 3, 100, 100), prior, steps=1)
    x, n = prior.states[0], 30000
    assert abs(float(x.mean())) < 5 / n**0.5
    assert abs(float(x.var()) - 1) < 5 * (2 / n) ** 0.5


# --- steps and eta -----------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
@pytest.mark.parametrize("steps", [1, 2, 7, 60])
def test_one_evaluation_a_step(steps, spacing):
    """The prior is asked once a step, at the spaced times, with one integer time an image."""
    prior = Toy()
    result = run(rand(2, 3, 4, 4), prior, steps=steps, spacing=spacing)
    assert result.evaluations == steps
    assert [call[1].tolist() for call in prior.calls] == [[t, t] for t in SHORT.spaced(steps, spacing)]
    assert not any(call[1].is_floating_point() for call in prior.calls)


def test_eta_zero_draws_only_the_start():
    """DDIM: the generator has moved by the start's draw and no further; with eta it moves on."""
    drawn, reference, y = generators(5), torch.Generator().manual_seed(5), rand(1, 3, 4, 4)
    sample(Problem(y, Same(), Toy()), SamplerSettings(steps=6, eta=0), drawn)
    torch.randn(3, 4, 4, generator=reference)
    assert torch.equal(drawn[0].get_state(), reference.get_state())
    sample(Problem(y, Same(), Toy()), SamplerSettings(steps=6, eta=0.1), drawn)
    assert not torch.equal(drawn[0].get_state(), reference.get_state())


@pytest.mark.parametrize(("eta", "temperature"), [(0.0, 1.0), (0.6, 1.0), (1.0, 1.0), (1.0, 0.7), (0.6, 0.0)])
def test_states_follow_the_published_step(eta, temperature):
    """Song et al. 2021, Eqs. 12 and 16, written out, with the generator's own draws: start first, then one a step.

    The temperature multiplies every draw, the start's too.
    """
    prior, y = Toy(prediction="x0"), rand(1, 3, 4, 4)
    run(y, prior, seeds=[9], steps=6, eta=eta, temperature=temperature)
    generator = torch.Generator().manual_seed(9)
    x = temperature * torch.randn(1, 3, 4, 4, generator=generator).double()
    times = [int(call[1]) for call in prior.calls]
    for state, t, t_next in zip(list(prior.states), times, times[1:], strict=False):
        torch.testing.assert_close(state, x, rtol=1e-9, atol=1e-11)
        a, b = abar(t), abar(t_next)
        x0 = torch.sin(0.8 * x + (2 * y - 1)) + 0.1 * x.flip(-1)
        sigma = eta * ((1 - b) / (1 - a) * (1 - a / b)) ** 0.5
        noise = temperature * torch.randn(1, 3, 4, 4, generator=generator).double() if eta else 0
        x = b**0.5 * x0 + (1 - b - sigma**2) ** 0.5 * (x - a**0.5 * x0) / (1 - a) ** 0.5 + sigma * noise
    torch.testing.assert_close(prior.states[-1], x, rtol=1e-9, atol=1e-11)


def test_a_learned_variance_is_used():
    """Nichol and Dhariwal 2021: fraction 0 or none draws with beta-tilde, 1 with beta, 1/2 between in the log.

    The first transitions have the same mean and the same draw, the generator's second: their differences are that
    draw times the differences of standard deviations.
    """
    seconds = []
    for fraction in (None, 0.0, 0.5, 1.0):
        prior = Toy(fraction=None if fraction is None else torch.full((1, 3, 4, 4), fraction, dtype=torch.float64))
        run(rand(1, 3, 4, 4), prior, seeds=[3], steps=4)
        seconds.append(prior.states[1])
    a, b = abar(59), abar(SHORT.spaced(4)[1])
    large = 1 - a / b
    small = large * (1 - b) / (1 - a)
    noise_at = torch.Generator().manual_seed(3)
    torch.randn(3, 4, 4, generator=noise_at)
    noise = torch.randn(1, 3, 4, 4, generator=noise_at).double()
    torch.testing.assert_close(seconds[0], seconds[1])
    torch.testing.assert_close(seconds[3] - seconds[1], (large**0.5 - small**0.5) * noise)
    torch.testing.assert_close(seconds[2] - seconds[1], ((large * small) ** 0.25 - small**0.5) * noise)


# --- padding -----------------------------------------------------------------------------------------


class Condition(PriorNet):
    """Answers the condition as the clean image."""

    spec = PriorSpec(SHORT, prediction="x0", multiple=4)

    def __init__(self):
        super().__init__()
        self.shapes, self.conditions = [], []

    def forward(self, x_t, t, condition):
        self.shapes.append((tuple(x_t.shape), tuple(condition.shape)))
        self.conditions.append(condition)
        return Output(condition)


@pytest.mark.parametrize(
    ("size", "padded"), [((5, 7), (8, 8)), ((8, 12), (8, 12)), ((1, 1), (4, 4)), ((9, 4), (12, 4))]
)
def test_odd_sizes(size, padded):
    """The prior sees sides that divide by its multiple; the image comes back in its own size and place."""
    prior, y = Condition(), rand(2, 3, *size)
    result = run(y, prior, steps=3)
    assert set(prior.shapes) == {((2, 3, *padded), (2, 3, *padded))}
    torch.testing.assert_close(result.x0, y, rtol=0, atol=1e-12)
    # Bottom and right, the border repeated, in the prior's range [-1, 1].
    expected = np.pad(y.numpy(), [(0, 0), (0, 0), (0, padded[0] - size[0]), (0, padded[1] - size[1])], mode="edge")
    np.testing.assert_allclose(prior.conditions[0].numpy(), 2 * expected - 1, atol=1e-12)


def test_padding_follows_the_lift():
    """With a scale it is the clean image's size that is padded and cropped."""
    prior, y = Condition(), rand(1, 3, 3, 5)
    result = run(y, prior, degradation=Same(scale=2), steps=2)
    assert prior.shapes[0] == ((1, 3, 8, 12), (1, 3, 8, 12))
    torch.testing.assert_close(result.x0, Same(scale=2).lift(y), rtol=0, atol=1e-12)


def test_guidance_sees_the_image_and_moves_the_padded_one():
    """x_0 cropped and in [0, 1]; x_t and x_next padded, in the prior's range."""
    shapes, y = [], rand(1, 3, 5, 7)

    class Look(Guidance):
        def correct(self, step, x_next):
            shapes.append((tuple(step.x0.shape[-2:]), tuple(step.x_t.shape[-2:]), tuple(x_next.shape[-2:])))
            torch.testing.assert_close(step.x0, y)
            return x_next

    run(y, Condition(), [Look()], steps=2)
    assert shapes == [((5, 7), (8, 8), (8, 8))] * 2


# --- gradients and memory ----------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [True, False])
def test_weights_get_no_gradient(frozen):
    prior, y = Toy().requires_grad_(not frozen), rand(2, 3, 4, 4)
    result = run(y, prior, [Follow()], steps=4)
    assert prior.weight.grad is None
    assert prior.weight.requires_grad is not frozen  # nor is the prior changed
    assert not result.x0.requires_grad
    assert not result.theta.requires_grad
    assert not y.requires_grad


def test_gradients_only_where_they_are_needed():
    """Without a guidance that needs them the prior runs without a tape, even with trainable weights."""
    for guides, tracked in (([], False), ([Fixed(rand(1, 3, 4, 4))], False), ([Guidance(), Follow()], True)):
        prior = Toy()
        result = run(rand(1, 3, 4, 4), prior, guides, steps=3)
        assert [call[3:] for call in prior.calls] == [(tracked, tracked)] * 3
        assert not result.x0.requires_grad


def test_a_callers_no_grad_does_no_harm():
    """A guided run under ``no_grad`` is the same run, and the caller's mode is his again afterwards."""
    y = rand(1, 3, 4, 4)
    free = run(y, Toy(), [Follow()], steps=3)
    assert torch.is_grad_enabled()
    with torch.no_grad():
        bound = run(y, Toy(), [Follow()], steps=3)
        assert not torch.is_grad_enabled()
    assert torch.equal(free.x0, bound.x0)


class Token:
    """Something a weak reference can watch."""


class Watched(Toy):
    """A token in every step's graph, alive as long as the graph is, and a weak reference to every x_t."""

    def __init__(self):
        super().__init__()
        self.tokens, self.inputs, self.graphs_alive = [], [], []

    def forward(self, x_t, t, condition):
        self.graphs_alive.append(self.alive())
        self.inputs.append(weakref.ref(x_t))
        tokens = self.tokens

        class Mark(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.token = Token()
                tokens.append(weakref.ref(ctx.token))
                return x.clone()

            @staticmethod
            def backward(ctx, gradient):
                return gradient

        out = super().forward(Mark.apply(x_t), t, condition)
        self.calls.clear()  # Toy's copies would count as growth
        return out

    def alive(self):
        return sum(token() is not None for token in self.tokens)


@pytest.mark.parametrize("guide", [Follow, Tangled])
@pytest.mark.parametrize("steps", [5, 50])
def test_memory_does_not_grow(steps, guide):
    """At each callback no more than the step's own graph and x_t are alive, at the first step or the fiftieth."""
    prior, counts = Watched(), []

    def callback(record):
        counts.append((prior.alive(), sum(x() is not None for x in prior.inputs)))

    run(rand(1, 3, 4, 4), prior, [guide()], callback=callback, steps=steps)
    assert len(prior.tokens) == len(counts) == steps
    assert all(graphs <= 1 and inputs <= 1 for graphs, inputs in counts)


def test_one_graph_at_a_time():
    """A step's graph is gone when the prior is asked again: two at once would double the peak memory."""
    prior = Watched()
    run(rand(1, 3, 4, 4), prior, [Follow()], steps=5)
    assert len(prior.tokens) == 5
    assert prior.graphs_alive == [0] * 5


def test_nothing_is_left_behind():
    """After a run as many tensors live as before it, after 5 steps and after 50."""
    y, prior = rand(1, 3, 4, 4), Toy()
    left = []
    for steps in (5, 5, 50):
        result = run(y, prior, [Follow()], steps=steps)
        prior.calls.clear()
        del result
        gc.collect()
        left.append(sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()))
    assert left[0] == left[1] == left[2]


# --- callbacks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("guides", [[], [Follow()]], ids=["unguided", "guided"])
def test_callback_sees_each_step(guides):
    """In order, once a step: its place, its time, x_0 in [0, 1] units and image size, and theta, free of graphs."""
    prior, records = Toy(multiple=4), []
    result = run(rand(2, 3, 5, 6), prior, guides, callback=records.append, steps=7)
    assert [r.index for r in records] == list(range(7))
    assert [r.t for r in records] == SHORT.spaced(7)
    assert {r.steps for r in records} == {7}
    assert {tuple(r.x0.shape) for r in records} == {(2, 3, 5, 6)}
    assert not any(r.x0.requires_grad or r.theta.requires_grad for r in records)
    torch.testing.assert_close(records[-1].theta, result.theta)
    # v-prediction by definition, in [-1, 1], brought to [0, 1]; the first state is the start.
    x, t, condition = prior.calls[3][:3]
    v = torch.sin(0.8 * x + condition) + 0.1 * x.flip(-1)
    x0 = (abar(int(t[0])) ** 0.5 * x - (1 - abar(int(t[0]))) ** 0.5 * v + 1) / 2
    torch.testing.assert_close(records[3].x0, x0[..., :5, :6].detach())
    torch.testing.assert_close(records[3].theta, 1 + 0.1 * x.mean((1, 2, 3))[:, None])


def test_unguided_end_is_the_last_estimate():
    """The last step returns x_0 itself; a prior that estimates nothing gives theta None."""
    records = []
    result = run(rand(1, 3, 5, 5), Condition(), callback=records.append, steps=3)
    assert result.theta is None
    assert records[-1].theta is None
    torch.testing.assert_close(result.x0, records[-1].x0)


# --- guidance in the loop ----------------------------------------------------------------------------


def test_refine_enters_the_transition():
    """The refined clean image, brought to the prior's range, is what DDIM steps towards; the prior's is not."""
    target = rand(1, 3, 4, 4, seed=7)
    prior, guide = Toy(), Fixed(target)
    result = run(rand(1, 3, 4, 4), prior, [guide], steps=5, eta=0)
    times, states = SHORT.spaced(5), prior.states
    for i in range(4):
        a, b = abar(times[i]), abar(times[i + 1])
        clean = 2 * target - 1
        expected = b**0.5 * clean + (1 - b) ** 0.5 * (states[i] - a**0.5 * clean) / (1 - a) ** 0.5
        torch.testing.assert_close(states[i + 1], expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(result.x0, target)


def test_refined_parameters_are_passed_on():
    """Theta of a refinement is in the record, the next guidance's step, and the result."""
    theta = torch.full((2, 1), 1.5, dtype=torch.float64)
    records, seen, first = [], [], Fixed(rand(2, 3, 4, 4), theta)

    class Look(Guidance):
        def correct(self, step, x_next):
            seen.append(step.theta.clone())
            return x_next

    result = run(rand(2, 3, 4, 4), Toy(), [first, Look()], callback=records.append, steps=3)
    assert torch.equal(result.theta, theta)
    assert all(torch.equal(r.theta, theta) for r in records)
    assert len(seen) == 3
    assert all(torch.equal(found, theta) for found in seen)
    # Each step starts afresh from the prior's own estimate.
    assert not any(torch.equal(found, theta) for _, found in first.steps)


def test_refinements_follow_the_list():
    """Each guidance refines what the one before it left; the last one's word holds, also in the padding's presence."""
    one, two = rand(1, 3, 5, 5, seed=1), rand(1, 3, 5, 5, seed=2)
    first, second = Fixed(one), Fixed(two)
    result = run(rand(1, 3, 5, 5), Toy(multiple=4), [first, second], steps=3)
    assert all(torch.equal(x0, one) for x0, _ in second.steps)
    assert not any(torch.equal(x0, two) for x0, _ in first.steps)
    torch.testing.assert_close(result.x0, two)


def test_refine_leaves_the_padding_to_the_prior():
    """Beyond the image a refinement says nothing: there the transition takes the prior's x_0."""
    target = torch.full((1, 3, 5, 5), 0.3, dtype=torch.float64)
    plain, refined = Toy(multiple=4), Toy(multiple=4)
    y = rand(1, 3, 5, 5)
    run(y, plain, steps=2)
    run(y, refined, [Fixed(target)], steps=2)
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[:5, :5] = False
    torch.testing.assert_close(refined.states[1][..., outside], plain.states[1][..., outside], rtol=0, atol=0)
    assert float((refined.states[1] - plain.states[1])[..., ~outside].abs().min()) > 1e-6


def test_correct_moves_the_next_state():
    """What corrections add after the transition is in the next state to the digit, and at the end in the image."""

    class Shift(Guidance):
        def __init__(self, by):
            super().__init__()
            self.by = by

        def correct(self, step, x_next):
            return x_next + self.by

    y, plain, moved = rand(1, 3, 4, 4), Toy(), Toy()
    before = run(y, plain, steps=2)
    run(y, moved, [Shift(0.25), Shift(0.5)], steps=2)
    torch.testing.assert_close(moved.states[1], plain.states[1] + 0.75)
    # One step: the image itself, where 0.75 in [-1, 1] is 0.375 in [0, 1].
    before, after = run(y, Toy(), steps=1), run(y, Toy(), [Shift(0.75)], steps=1)
    torch.testing.assert_close(after.x0, before.x0 + 0.375)


@pytest.mark.parametrize(("steps", "spacing"), [(1, "uniform"), (7, "uniform"), (7, "quadratic"), (60, "uniform")])
def test_a_step_knows_its_place(steps, spacing):
    """A guidance sees which step of how many it is, from which time to which; the last leads to -1, the clean image."""
    seen = []

    class Look(Guidance):
        def refine(self, step):
            seen.append((step.index, step.steps, step.t, step.t_next))
            return super().refine(step)

    run(rand(1, 3, 2, 2), Toy(), [Look()], steps=steps, spacing=spacing)
    times = [*SHORT.spaced(steps, spacing), -1]
    assert seen == [(i, steps, times[i], times[i + 1]) for i in range(steps)]


# --- settings and types ------------------------------------------------------------------------------


def test_float32_stays_float32():
    """The measurement's type is the loop's; float64 differs from it by rounding only."""

    class Plain(Toy):
        def forward(self, x_t, t, condition):
            assert x_t.dtype == condition.dtype
            return Output(torch.sin(x_t + condition))

    y = rand(1, 3, 4, 4)
    single, double = run(y.float(), Plain(), steps=10), run(y, Plain(), steps=10)
    assert single.x0.dtype == torch.float32
    assert double.x0.dtype == torch.float64
    torch.testing.assert_close(single.x0.double(), double.x0, rtol=0, atol=1e-4)


def test_the_measurement_is_left_alone():
    y = rand(1, 3, 5, 5)
    kept = y.clone()
    run(y, Toy(multiple=4), [Follow(), Fixed(rand(1, 3, 5, 5, seed=3))], steps=3)
    assert torch.equal(y, kept)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", 2.5),
        ("eta", -0.1),
        ("eta", 1.1),
        ("eta", float("nan")),
        ("temperature", -0.1),
        ("temperature", 1.1),
        ("spacing", "cubic"),
        ("sigmas", []),
        ("sigmas", [1.0, -0.1]),
        ("sigmas", [1.0, 1.0]),
        ("sigmas", [0.1, 1.0]),
        ("solver", "heun"),
        ("renewal", 1.1),
        ("tile", 63),
        ("overlap", -1),
        ("stepz", 3),
    ],
)
def test_impossible_settings(name, value):
    with pytest.raises(ValidationError, match=name):
        SamplerSettings(**{name: value})


# --- levels, renewal, second order -------------------------------------------------------------------


def test_levels_of_noise_instead_of_steps():
    """On [0, 1] whatever the prior's range, each the prior's nearest; they are counted."""
    settings = SamplerSettings(sigmas=[10.0, 1.0, 0.1])
    assert settings.steps == 3
    for value_range in ((0.0, 1.0), (-1.0, 1.0)):
        prior, records = Toy(value_range=value_range), []
        sample(Problem(rand(1, 3, 4, 4), Same(), prior), settings, generators(0), records.append)
        times = [record.t for record in records]
        levels = (value_range[1] - value_range[0]) * np.array([10.0, 1.0, 0.1])
        assert times == SHORT.nearest(levels.tolist()) == settings.times(prior.spec)
    assert SamplerSettings.model_validate(settings.model_dump(mode="json")) == settings
    with pytest.raises(ValidationError, match="steps is 5 and there are 3 sigmas: say 3, or leave steps out"):
        SamplerSettings(steps=5, sigmas=[10.0, 1.0, 0.1])


def test_renewal_takes_the_place_of_eta():
    """All of the noise anew: what lies before the last estimate is forgotten. None of it: DDIM."""
    y, fixed = rand(1, 3, 4, 4), rand(1, 3, 4, 4, seed=5)
    none = run(y, Toy(), steps=6, renewal=0.0)
    assert torch.equal(none.x0, run(y, Toy(), steps=6, eta=0.0).x0)
    prior = Toy()
    run(y, prior, [Fixed(fixed)], seeds=[3], steps=3, renewal=1.0)
    draws = [torch.randn(3, 4, 4, generator=g) for g in generators(3) for _ in range(3)]
    for state, t, noise in zip(prior.states[1:], (30, 0), draws[1:], strict=True):
        want = abar(t) ** 0.5 * (2 * fixed - 1) + (1 - abar(t)) ** 0.5 * noise
        torch.testing.assert_close(state, want)


def test_second_order_runs_ahead_of_the_guided_estimate():
    """The image that the step uses is extrapolated from what guidances made of it; the record keeps the estimate."""

    class Counting(Guidance):
        def refine(self, step):
            return Estimate(torch.full_like(step.x0, 0.1 * (step.index + 1)), step.theta)

    prior, records = Toy(), []
    settings = SamplerSettings(steps=4, eta=0.0, solver="dpm_2m")
    found = sample(Problem(rand(1, 3, 4, 4), Same(), prior, [Counting()]), settings, generators(0), records.append)
    assert [round(float(record.x0.mean()), 6) for record in records] == [0.1, 0.2, 0.3, 0.4]
    times = [record.t for record in records]
    for i in (1, 2):
        ahead = 0.1 * (i + 1) + 0.1 * SHORT.lookahead(times[i - 1], times[i], times[i + 1])
        x0 = torch.full_like(prior.states[i], 2 * ahead - 1)
        want = SHORT.transition(prior.states[i], x0, times[i], times[i + 1], 0.0, x0)
        torch.testing.assert_close(prior.states[i + 1], want)
    torch.testing.assert_close(found.x0, torch.full_like(found.x0, 0.4))


# --- priors that know nothing of the operator --------------------------------------------------------


class Ignorant(Toy):
    """Estimates no parameters."""

    def forward(self, x_t, t, condition):
        return Output(super().forward(x_t, t, condition).raw)


class Adding(Guidance):
    """Takes what there is, one where there is nothing, and adds a tenth."""

    def __init__(self):
        super().__init__()
        self.found = []

    def refine(self, step):
        self.found.append(step.theta)
        theta = torch.ones(len(step.y), 1, dtype=step.y.dtype) if step.theta is None else step.theta
        return Estimate(step.x0, theta + 0.1)


def test_an_estimate_goes_on_from_step_to_step():
    """Where the prior makes none of its own; one that does has the word at each step."""
    guide = Adding()
    found = run(rand(2, 3, 4, 4), Ignorant(), [guide], steps=3)
    assert guide.found[0] is None
    torch.testing.assert_close(
        torch.stack(guide.found[1:]), torch.tensor([1.1, 1.2]).double().view(2, 1, 1).expand(2, 2, 1)
    )
    torch.testing.assert_close(found.theta, torch.full((2, 1), 1.3).double())
    prior = Toy()
    prior.spec = replace(prior.spec, parameter_shape=(1,))
    guide = Adding()
    run(rand(1, 3, 4, 4), prior, [guide], steps=3)
    for theta, state in zip(guide.found, prior.states, strict=True):
        torch.testing.assert_close(theta, 1 + 0.1 * state.mean((1, 2, 3))[:, None])


class Drawing(Guidance):
    """Adds a drawn image to its memory at each step, and shows what is there."""

    evaluations_each = 2

    def refine(self, step):
        step.memory["sum"] = step.memory.get("sum", 0) + step.draw(step.x0)
        return Estimate(step.memory["sum"].clone(), step.theta)


def test_a_guidance_draws_and_remembers():
    """Each image's noise is from its own generator, at the loop's temperature; nothing is left for the next picture."""
    y, guide = rand(3, 3, 8, 8), Drawing()
    whole, seen = run(y, Toy(), [guide], (0, 1, 2), steps=5, eta=0.0, temperature=0.5), []
    run(y[1:2], Toy(), [guide], (1,), callback=lambda r: seen.append(r.x0), steps=5, eta=0.0, temperature=0.5)
    gen = torch.Generator().manual_seed(1)
    torch.randn(3, 8, 8, generator=gen)  # what the loop starts from
    drawn = torch.stack([0.5 * torch.randn(3, 8, 8, generator=gen) for _ in range(5)])
    torch.testing.assert_close(torch.cat(seen), drawn.cumsum(0).to(seen[0]))
    torch.testing.assert_close(whole.x0[1], drawn.sum(0).to(whole.x0))
    assert whole.evaluations == 5 + 5 * 2
