"""``invdiff doctor``: whether all is in order on this machine, and if not, what to do."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import click

from ..errors import InvdiffError, explained, printable
from .crash import installed_versions
from .machine import allowed_cpus, use_allowed_cpus
from .main import EXIT_SOME_FAILED, debug_option, deterministic, json_option, main, say_json


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and, where something is wrong, what to do."""

    about: str
    found: str
    remedy: str = ""


@main.command(
    examples=(
        ("invdiff doctor", "versions, device, threads, weights, plugins, and a self-test of a few seconds"),
        ("invdiff doctor --json", "the same for a report"),
    )
)
@json_option
@debug_option
def doctor(as_json: bool) -> None:
    """Look whether everything is in order here: versions, device, threads, weights, plugins, and a short self-test.

    Every line that is not in order ends with what to do; the exit code is then 1.
    """
    deterministic()
    use_allowed_cpus()  # as every command that computes
    findings: list[Finding] = []
    for examine in (_versions, _extras, _device, _threads, _plugins, _weights, _places, _self_test):
        for finding in examine():
            findings.append(finding)
            if not as_json:
                remedy = f"  WRONG: {finding.remedy}" if finding.remedy else ""
                click.echo(f"{finding.about:<11} {printable(finding.found)}{printable(remedy)}")
    wrong = sum(bool(finding.remedy) for finding in findings)
    if as_json:
        say_json([asdict(finding) for finding in findings])
    else:
        click.echo(f"{wrong} not in order" if wrong else "everything is in order")
    if wrong:
        sys.exit(EXIT_SOME_FAILED)


def _versions() -> Iterator[Finding]:
    import invdiff

    system, ours, *others = installed_versions()
    yield Finding("system", system)
    yield Finding("invdiff", f"{ours}, in {Path(invdiff.__file__).parent}")
    yield Finding("packages", ", ".join(others))


def _extras() -> Iterator[Finding]:
    """What can be added; nothing of it is needed."""
    wanted: dict[str, list[str]] = {}
    for line in requires("invdiff") or []:
        name, _, extra = line.partition("extra ==")
        if extra and "test" not in extra:
            wanted.setdefault(extra.strip(" '\""), []).append(re.split(r"[\s<>=!~;\[(]", name)[0])
    for extra, packages in wanted.items():
        missing = [package for package in packages if not _is_installed(package)]
        how = f"without {', '.join(missing)}: pip install 'invdiff[{extra}]'"
        yield Finding("extra", f"{extra}: {how if missing else 'installed'}")


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _device() -> Iterator[Finding]:
    import torch

    from ..device import choose_device

    device = choose_device("auto")
    names = {"cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "", "cpu": platform.processor()}
    name = names.get(device.type, "")
    none = "no GPU that torch can use" if device.type == "cpu" else ""
    yield Finding("device", ", ".join(filter(None, [f"--device auto is {device.type}", name, none])))
    if device.type != "cpu":
        try:
            torch.ones(8, device=device).square().sum().item()
        except RuntimeError as error:
            yield Finding("device", explained(error), "--device cpu works without it; a driver may be missing")


def _threads() -> Iterator[Finding]:
    import torch

    threads, allowed = torch.get_num_threads(), allowed_cpus()
    said = os.environ.get("OMP_NUM_THREADS")
    why = f" (OMP_NUM_THREADS is {said})" if said is not None else ""
    too_many = f"they wait for one another: set OMP_NUM_THREADS to {allowed}" if threads > allowed else ""
    yield Finding("threads", f"{threads}{why}, for {allowed} processors", too_many)


def _plugins() -> Iterator[Finding]:
    from ..components.discovery import registry

    found = registry()
    rows = found.rows()
    limited = os.environ.get("INVDIFF_PLUGINS")
    only = f" (INVDIFF_PLUGINS is {limited})" if limited else ""
    yield Finding("plugins", f"{len({c.plugin for c in rows})} with {len(rows)} components{only}")
    for failure in found.failures:
        remedy = f"pip install --upgrade {failure.owner.split()[0]}, or uninstall it"
        yield Finding("plugin", f"{failure.plugin} ({failure.owner}) FAILED: {failure.reason}", remedy)
    for component in rows:
        if found.contested(component.role, component.kind):
            what = f"{component.role} '{component.kind}' of {component.owner} is registered twice"
            yield Finding("plugin", what, "uninstall one, or limit INVDIFF_PLUGINS")


def _weights() -> Iterator[Finding]:
    from ..components.discovery import registry
    from ..components.weights import bundled, load_prior, refuse_non_finite
    from ..io.tensors import read_tensors

    def parameters_in(path: Path, prior: bool) -> int:
        if prior:
            return sum(p.numel() for p in load_prior(path, registry()).parameters())
        tensors, _ = read_tensors(path)
        refuse_non_finite(path, tensors)
        return sum(t.numel() for t in tensors.values())

    priors, guidances = bundled(registry()), bundled(registry(), "guidance")
    for name, path in (guidances | priors).items():
        try:
            parameters = parameters_in(path, name in priors)
        except (InvdiffError, OSError) as error:
            yield Finding("weights", explained(error), "install invdiff again: the file is damaged")
        else:
            yield Finding("weights", f"{name}: {parameters / 1e6:.2f} M parameters, whole")


def _places() -> Iterator[Finding]:
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"x")
    except OSError as error:
        yield Finding("temporary", f"cannot be written ({error.strerror})", "point TMPDIR to a folder that can be")


def _self_test() -> Iterator[Finding]:
    """The first bundled recipe with a sample, on a corner of it, twice: better than nothing done, and the same."""
    import torch

    from ..assembly import assemble, read
    from ..io.pictures import sample_photo
    from ..metrics.picture import psnr_rgb
    from ..recipe.bundled import bundled

    started, name = time.monotonic(), "no recipe"
    try:
        recipe = next(r for r in map(read, bundled()) if r.input.synthesize and r.train is None)
        name = recipe.name
        pipeline = assemble(recipe)
        clean = sample_photo(str(recipe.input.sample)).to_degrade(pipeline.degradation.scale, 96).pixels
        y, _ = pipeline.synthesize(clean)
        first, again = (pipeline.restore(y).image for _ in range(2))
    except (InvdiffError, RuntimeError, MemoryError) as error:
        yield Finding("self-test", f"{name}: {explained(error)}", "report it with 'invdiff doctor --json'")
        return
    seconds = (time.monotonic() - started) / 2
    operator = pipeline.degradation
    truth, baseline = operator.frame(clean), operator.frame(operator.baseline(y[None])[0])
    gain = psnr_rgb(first, truth) - psnr_rgb(baseline, truth)
    side = "x".join(map(str, first.shape[:0:-1]))
    found = f"{name}: {side} pixels in {seconds:.1f} s, {gain:+.1f} dB on not restoring"
    if gain <= 0:
        yield Finding("self-test", found, "no gain: report it with 'invdiff doctor --json'")
    elif not torch.equal(first, again):
        yield Finding("self-test", f"{found}; twice, and not the same", "report it with 'invdiff doctor --json'")
    else:
        yield Finding("self-test", f"{found}; twice the same")
