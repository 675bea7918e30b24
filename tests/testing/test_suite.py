"""How the conformance suite runs and reports, and that our own operators, priors and guidances pass it."""

import os
import subprocess
import sys

import pytest
import torch

from invdiff.blur.convolution import blur
from invdiff.camera import Camera
from invdiff.degradation import BoxSpace, Degradation
from invdiff.guidance import Guidance
from invdiff.testing import (
    Outcome,
    check_component,
    check_degradation,
    check_guidance,
    check_prior,
    checks_of,
    parametrize_with_checks,
)
from invdiff.testing.checks import Check, ConformanceError, Suite, fail, run_checks, same, skip, unchanged
from invdiff.testing.subjects import ToyBlur, ToyPrior
from invdiff_blindsr.operator import BlindSR, BlindSRSettings
from invdiff_kernel_guidance.guidance import KernelAware, KernelAwareSettings
from invdiff_kernel_guidance.kernel_update import KernelUpdate, KernelUpdateSettings
from invdiff_kernel_guidance.proximal import Proximal
from invdiff_mcformer.prior import MCFormerPrior
from invdiff_mcformer.settings import MCFormerSettings
from invdiff_motion.operator import Motion, MotionSettings


class Unflipped(ToyBlur):
    """Fails two checks."""

    def adjoint(self, y, theta):
        return blur(y, theta)


class Fade(Degradation):
    """A linear operator without a kernel: three checks have nothing to say."""

    parameters = BoxSpace(("gain",), (0.5,), (1.0,))

    def sample_parameters(self, batch, generator):
        return 0.5 + 0.5 * torch.rand(batch, 1, generator=generator)

    def apply(self, x, theta):
        return theta[:, :, None, None] * x

    def adjoint(self, y, theta):
        return self.apply(y, theta)

    def lift(self, y):
        return y


class Raising(Guidance):
    def refine(self, step):
        raise KeyError("nobody\nexpects this")


class Empty(Guidance):
    def correct(self, step, x_next):
        raise NotImplementedError


BROKEN_ADJOINT = {"adjoint": "it was never written", "adjoint_is_the_gradient": "nor was this"}


def statuses(outcomes):
    return {o.check: o.status for o in outcomes}


def unhappy(outcomes):
    return [o.message for o in outcomes if o.status not in ("passed", "skipped")]


# How checks run.


def passing(component):
    """It passes."""


def failing(component):
    """It fails."""
    fail("a good component", f"{component}")


def skipping(component):
    """It says nothing."""
    skip("it does not apply")


def broken(component):
    """It breaks."""
    raise RuntimeError("two\nlines")


def asserting(component):
    """A bare assert inside the component."""
    raise AssertionError


def checks(*functions):
    suite = Suite()
    for function in functions:
        suite(f"{function.__name__} components")(function)
    return suite.checks


def test_every_check_runs_whatever_fails():
    outcomes = run_checks("this", checks(failing, passing, skipping, broken, asserting))
    assert outcomes == [
        Outcome(
            "failing",
            "failed",
            "failing: expected a good component; got this; usual cause: failing components",
        ),
        Outcome("passing", "passed"),
        Outcome("skipping", "skipped", "it does not apply"),
        Outcome(
            "broken",
            "failed",
            "broken: expected no error; got RuntimeError: two lines; usual cause: broken components",
        ),
        Outcome(
            "asserting",
            "failed",
            "asserting: expected no error; got AssertionError: AssertionError; usual cause: asserting components",
        ),
    ]


def test_expected_failures():
    expected = {"failing": "it is bad", "broken": "it is worse", "skipping": "whatever"}
    assert run_checks("this", checks(failing, passing, skipping, broken), expected) == [
        Outcome("failing", "expected", "it is bad"),
        Outcome("passing", "passed"),
        Outcome("skipping", "skipped", "it does not apply"),
        Outcome("broken", "expected", "it is worse"),
    ]


def test_an_expected_failure_that_passes_is_a_failure():
    (outcome,) = run_checks("this", checks(passing), {"passing": "it was bad"})
    assert outcome.status == "failed"
    assert outcome.message == ("passing: expected to fail (it was bad); got a pass: take it off the expected failures")


@pytest.mark.parametrize(
    "call",
    [
        lambda names: run_checks("this", checks(passing, failing), names),
        lambda names: check_component(ToyBlur(), expected_failures=names),
        lambda names: check_degradation(ToyBlur(), expected_failures=names),
        lambda names: check_prior(ToyPrior(ToyBlur()), expected_failures=names),
        lambda names: check_guidance(Guidance(), expected_failures=names),
        lambda names: parametrize_with_checks([ToyBlur()], expected_failures=names),
        lambda names: parametrize_with_checks([ToyBlur()], expected_failures=lambda component: names),
    ],
)
def test_an_unknown_check_is_an_error_before_anything_runs(call):
    with pytest.raises(ValueError, match="no check is called 'nothing_such'"):
        call({"nothing_such": "?"})


def test_an_unknown_check_comes_with_a_suggestion():
    with pytest.raises(ValueError, match=r"'adjont' \(did you mean 'adjoint'\?\)$"):
        check_degradation(ToyBlur(), expected_failures={"adjont": "?"})


def test_a_check_keeps_the_components_error_as_its_cause():
    (check,) = checks(broken)
    with pytest.raises(AssertionError) as caught:
        check("this")
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert (check.about, check.cause, str(check)) == ("It breaks.", "broken components", "broken")


@pytest.mark.parametrize("component", [ToyBlur(), ToyPrior(ToyBlur()), Guidance()], ids=lambda c: type(c).__name__)
def test_every_check_says_what_it_is_about_and_what_is_usually_wrong(component):
    found = checks_of(component)
    assert len({check.name for check in found}) == len(found)
    for check in found:
        assert isinstance(check, Check)
        assert check.about.endswith(".")
        assert check.cause
        assert not check.cause.endswith(".")


# What checks say with.


def test_same():
    a = torch.tensor([1.0, 200.0])
    same(a, a + torch.tensor([0.0, 0.1]), 1e-3, "equal tensors")  # relative to the larger
    same(a[:0], a[:0], 0, "equal tensors")
    with pytest.raises(ConformanceError, match=r"^expected equal tensors, to 0\.001; got a difference of 0\.5$"):
        same(a, a + torch.tensor([0.0, 0.5]), 1e-3, "equal tensors")
    with pytest.raises(ConformanceError, match=r"shape \(1,\); got shape \(2,\)"):
        same(a, a[:1], 1, "equal tensors")
    with pytest.raises(ConformanceError, match="nan"):
        same(a / 0 * 0, a, 1, "equal tensors")


def test_unchanged():
    x = torch.zeros(2)
    unchanged({"x": x.clone()}, {"x": x}, "arguments")
    with pytest.raises(ConformanceError, match="expected arguments left as they were; got a change of x"):
        unchanged({"x": x + 1}, {"x": x}, "arguments")


# The doors.


def test_check_degradation_lists_all_that_fails():
    with pytest.raises(AssertionError) as caught:
        check_degradation(Unflipped())
    first, *lines = str(caught.value).splitlines()
    assert first == f"Unflipped fails 2 of {len(checks_of(Unflipped()))} checks:"
    assert [line.split(":")[0] for line in lines] == ["- adjoint", "- adjoint_is_the_gradient"]


def test_check_degradation_with_expected_failures():
    found = statuses(check_degradation(Unflipped(), expected_failures=BROKEN_ADJOINT))
    assert {check for check, status in found.items() if status == "expected"} == BROKEN_ADJOINT.keys()
    assert set(found.values()) == {"expected", "passed"}
    with pytest.raises(AssertionError, match="Unflipped fails 1 of"):
        check_degradation(Unflipped(), expected_failures={"adjoint": "it was never written"})
    with pytest.raises(AssertionError, match=r"ToyBlur fails 1 of .*\n- linearity: expected to fail"):
        check_degradation(ToyBlur(), expected_failures={"linearity": "a guess"})


def test_what_says_nothing_about_a_component_is_skipped():
    outcomes = check_degradation(Fade())
    found = {o.check: o.message for o in outcomes if o.status == "skipped"}
    assert found.keys() == {"flat_stays_flat", "no_blur_changes_nothing", "kernel_is_not_flipped"}
    assert set(found.values()) == {"its parameters are no kernel"}


def test_an_exception_in_a_component_is_a_worded_failure():
    outcomes = check_component(Raising())
    messages = {o.check: o.message for o in outcomes if o.status == "failed"}
    assert "settings_survive_json" not in messages
    assert messages["shapes"].startswith("shapes: expected no error; got KeyError: 'nobody")
    assert "; usual cause: " in messages["shapes"]
    assert all("\n" not in message for message in messages.values())
    with pytest.raises(AssertionError, match=f"Raising fails {len(messages)} of"):
        check_guidance(Raising())
    assert "got NotImplementedError: NotImplementedError" in check_component(Empty())[0].message


def test_a_linear_operator_without_an_adjoint():
    class Bare(ToyBlur):
        adjoint = Degradation.adjoint

    messages = {o.check: o.message for o in check_component(Bare()) if o.status == "failed"}
    assert "NotImplementedError: Bare has no adjoint" in messages["adjoint"]


@pytest.mark.parametrize("thing", [None, ToyBlur, "blindsr", torch.nn.Identity()])
def test_what_is_no_component(thing):
    for call in (checks_of, check_component, lambda t: parametrize_with_checks([t])):
        with pytest.raises(TypeError, match=r"a component is a Degradation, a PriorNet or a Guidance, got \w+$"):
            call(thing)


def test_guidances_are_tried_on_the_operator_that_is_given():
    seen = []

    class Watching(Guidance):
        def refine(self, step):
            seen.append(step.degradation)
            return super().refine(step)

    operator = Motion(MotionSettings(kernel_size=5))
    check_guidance(Watching(), operator=operator)
    assert set(seen) == {operator}
    seen.clear()
    check_guidance(Watching())
    assert {type(d) for d in seen} == {ToyBlur}


def test_parameters_of_a_pytest_function():
    mark = parametrize_with_checks([Unflipped(), Guidance()], expected_failures=lambda c: expected_of(c)).mark
    names, parameters = mark.args
    assert names == ("component", "check")
    operators, guidances = checks_of(Unflipped()), checks_of(Guidance())
    assert [p.id for p in parameters] == [
        *(f"Unflipped-{check}" for check in operators),
        *(f"Guidance-{check}" for check in guidances),
    ]
    marked = {p.id: p.marks[0] for p in parameters if p.marks}
    assert marked.keys() == {"Unflipped-adjoint", "Unflipped-adjoint_is_the_gradient"}
    assert marked["Unflipped-adjoint"].kwargs == {"reason": "it was never written", "strict": True}


def expected_of(component):
    return BROKEN_ADJOINT if isinstance(component, Unflipped) else {}


INNER = """\
import pytest

from invdiff.blur.convolution import blur
from invdiff.testing import parametrize_with_checks
from invdiff.testing.subjects import ToyBlur, ToyPrior


class Unflipped(ToyBlur):
    def adjoint(self, y, theta):
        return blur(y, theta)


@parametrize_with_checks([Unflipped()], expected_failures={"adjoint": "never written", "linearity": "a guess"})
def test_operator(component, check):
    check(component)


@parametrize_with_checks([ToyPrior(ToyBlur())])
def test_prior(component, check):
    if check.name == "devices_agree":
        from invdiff.testing.checks import skip

        skip("there is no CUDA device")
    check(component)
"""


def test_pytest_reports(tmp_path):
    """Each check is a test of its own: passes, failures, strict xfails and skips."""
    (tmp_path / "test_inner.py").write_text(INNER, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "500"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    operators, priors = len(checks_of(Unflipped())), len(checks_of(ToyPrior(ToyBlur())))
    passed = operators - 3 + priors - 2
    assert f"2 failed, {passed} passed, 2 skipped, 1 xfailed" in done.stdout
    lines = {line.split(" - ")[0]: line for line in done.stdout.splitlines() if " - " in line or "SKIPPED [1]" in line}
    assert lines["XFAIL test_inner.py::test_operator[Unflipped-adjoint]"].endswith("never written")
    assert "FAILED test_inner.py::test_operator[Unflipped-linearity]" in done.stdout
    assert "XPASS(strict)" in done.stdout
    message = lines["FAILED test_inner.py::test_operator[Unflipped-adjoint_is_the_gradient]"]
    assert "expected the adjoint to be autograd's" in message
    assert any("there is no CUDA device" in line for line in lines if line.startswith("SKIPPED"))


# Our own components.


OPERATORS = {
    "blindsr": lambda: BlindSR(),
    "blindsr x2": lambda: BlindSR(BlindSRSettings(scale=2)),
    "blindsr x3": lambda: BlindSR(BlindSRSettings(scale=3, padding="circular")),
    "blindsr with noise": lambda: BlindSR(BlindSRSettings(noise_sigma=0.03, quantize=False)),
    "motion reflect": lambda: Motion(),
    "motion replicate": lambda: Motion(MotionSettings(padding="replicate")),
    "motion circular": lambda: Motion(MotionSettings(padding="circular")),
    "motion valid": lambda: Motion(MotionSettings(padding="valid")),
    "motion with noise": lambda: Motion(MotionSettings(noise_sigma=0.02, intensity=(0.1, 0.9))),
    "motion with noise, rounded": lambda: Motion(MotionSettings(noise_sigma=0.02, quantize=True)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_our_operators(name):
    assert set(statuses(check_degradation(OPERATORS[name]())).values()) == {"passed"}


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_blindsr_with_strides(scale):
    """Strides keep the first pixel of a block, lift puts it in the middle: drawn kernels make up for it."""
    operator = BlindSR(BlindSRSettings(scale=scale, downsample="stride"))
    why = "without a kernel that is off the middle, the two sit half a pixel or more apart"
    found = statuses(check_degradation(operator, expected_failures={"no_blur_changes_nothing": why}))
    assert found.pop("no_blur_changes_nothing") == "expected"
    assert set(found.values()) == {"passed"}


GUIDANCES = {
    "kernel_aware": lambda: KernelAware(),
    "kernel_aware, squared": lambda: KernelAware(KernelAwareSettings(squared=True, strength=0.1)),
    "kernel_aware, detached": lambda: KernelAware(KernelAwareSettings(detach_kernel=True)),
    "kernel_aware, off": lambda: KernelAware(KernelAwareSettings(strength=0)),
    "kernel_update": lambda: KernelUpdate(),
    "kernel_update, not centred": lambda: KernelUpdate(KernelUpdateSettings(centre=False)),
    "proximal": lambda: Proximal(),
}


@pytest.mark.parametrize("name", GUIDANCES)
def test_our_guidances(name):
    found = statuses(check_guidance(GUIDANCES[name]()))
    skipped = [check for check, status in found.items() if status == "skipped"]
    assert skipped == (["needs_gradient_is_honest"] if GUIDANCES[name]().needs_gradient else [])
    assert set(found.values()) <= {"passed", "skipped"}


OTHERS = {
    "blindsr": lambda: BlindSR(BlindSRSettings(scale=2)),
    "motion": lambda: Motion(MotionSettings(kernel_size=9, padding="valid")),
    "fade": lambda: Fade(),
}


@pytest.mark.parametrize("operator", OTHERS)
@pytest.mark.parametrize("guidance", ["kernel_aware", "proximal"])
def test_our_guidances_on_other_operators(guidance, operator):
    check_guidance(GUIDANCES[guidance](), operator=OTHERS[operator]())


def settles(prior):
    outcomes = check_prior(prior.eval())
    assert unhappy(outcomes) == []
    assert {o.check for o in outcomes if o.status == "skipped"} <= {"devices_agree"}


@pytest.mark.parametrize("changes", [{}, {"preconditioning": "none", "value_range": (0, 1)}], ids=["residual", "none"])
def test_our_network(tiny_prior, changes):
    settles(tiny_prior(**changes))


def test_our_network_with_numbers(tiny_prior):
    """For operators that are no blur: the same network with two bounded numbers in the kernel's place."""
    settings = tiny_prior().settings
    network = {**settings.network.model_dump(), "head": "box", "numbers": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        prior = MCFormerPrior(MCFormerSettings(network=network, preconditioning="residual", value_range=(-1, 1)))
        torch.nn.init.normal_(prior.network.head.weight, std=0.02)
    assert prior.spec.parameter_shape == (2,)
    settles(prior)


@pytest.mark.parametrize("settings", [{"noise_sigma": (0.0, 0.05)}, {"camera": Camera(share=1.0)}])
def test_noise_that_is_drawn_for_each_measurement_is_no_mistake(settings):
    outcomes = check_degradation(Motion(MotionSettings(kernel_size=5, **settings)))
    assert {o.status for o in outcomes} <= {"passed", "skipped"}
