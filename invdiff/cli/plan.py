"""What ``invdiff run --dry-run`` shows."""

from __future__ import annotations

from dataclasses import asdict

import click

from ..errors import printable
from ..restoring.plan import Plan, plans
from ..restoring.run import Run
from .main import say_json


def show_plan(work: Run, *, as_json: bool) -> bool:
    """Say what would become of each picture as soon as it is known; whether all of them can be restored."""
    found = []
    for plan in plans(work):
        found.append(plan)
        if plan.error is not None:
            failure = plan.error if plan.input in plan.error else f"{plan.input}: {plan.error}"
            click.echo(f"would fail: {printable(failure)}", err=True)
        elif not as_json:
            head, *more = [f"{plan.input}: already done"] if plan.done else _told(plan)
            click.echo(printable(head))
            for line in more:
                click.echo(f"  {printable(line)}")
    failed, done = sum(plan.error is not None for plan in found), sum(plan.done for plan in found)
    if as_json:
        say_json({"folder": str(work.folder), "images": [asdict(plan) for plan in found]})
    else:
        counts = f"{len(found) - failed - done} would be restored"
        counts += f", {done} already done" if done else ""
        counts += f", {failed} would fail" if failed else ""
        click.echo(printable(f"{counts}; results and report.json in {work.folder}; nothing was written"))
    return not failed


def _told(plan: Plan) -> list[str]:
    sizes = " to ".join("{}x{}".format(*size) for size in (plan.size, plan.result) if size)
    sizes = f"halved, then {sizes}" if plan.halved else sizes
    by = f", by {plan.recipe}" if plan.recipe else ""
    why = f", {plan.why}" if plan.why else ""
    counts = ((plan.steps, "step"), (plan.evaluations, "evaluation"))
    steps, evaluations = (f"{count} {what}{'s' if count > 1 else ''}" for count, what in counts)
    work = f"{steps}, {evaluations} of the network, {plan.multiply_adds / 1e9:.1f} G multiply-adds"
    return [f"{plan.input}: {sizes}{by}{why}", f"{work}, {plan.takes}", f"to be written: {', '.join(plan.files)}"]
