"""The state of a run as tensors and a header, and whether what a file holds is one: anybody may have edited it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..errors import TrainingError
from ..io.tensors import non_finite
from .log import Losses
from .settings import TrainSettings

_ADAM = ("step", "exp_avg", "exp_avg_sq")  # what Adam keeps of a parameter
_COUNTED = 2**24  # Adam counts steps in float32, and no further


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def refuse_non_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise :class:`TrainingError` with the first name that holds NaN or infinity."""
    if (name := non_finite(tensors)) is not None:
        raise TrainingError(f"'{name}' holds numbers that are not finite")


def adam_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """What Adam remembers, as ``adam.<parameter's place>.<what>``."""
    state = optimizer.state_dict()["state"]
    return {f"adam.{i}.{name}": value for i, kept in state.items() for name, value in kept.items()}


def alike(prefix: str, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What lies below a prefix: a tensor for each of one's own, of its shape and type, and no other."""
    found = below(prefix, tensors)
    if odd := sorted(found.keys() ^ own.keys()):
        raise TrainingError(f"'{prefix}{odd[0]}' is {'missing' if odd[0] in own else 'none of this run'}")
    for name, value in own.items():
        _refuse_other(f"{prefix}{name}", found[name], value)
    return found


def adam_state(
    tensors: Mapping[str, Tensor], parameters: Sequence[Tensor], step: int, count: int | None
) -> dict[int, dict[str, Tensor]]:
    """What Adam remembers of each parameter after so many steps of a run, by the parameter's place.

    ``count`` is of how many parameters it should remember something; those that took no part have nothing.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in below("adam.", tensors).items():
        number_of, _, part = name.partition(".")
        state.setdefault(int(number_of), {})[part] = value
    if count is not None and count != len(state):
        raise TrainingError(f"Adam's state of {len(state)} parameters where {count} had one")
    for place, kept in state.items():
        if not 0 <= place < len(parameters) or kept.keys() != set(_ADAM):
            raise TrainingError(f"'adam.{place}' is not as Adam keeps it: {', '.join(sorted(kept))}")
        for part, value in kept.items():
            own = torch.zeros(()) if part == "step" else parameters[place]
            _refuse_other(f"adam.{place}.{part}", value, own)
        if bool((kept["exp_avg_sq"] < 0).any()) or not 1 <= float(kept["step"]) <= step:
            raise TrainingError(f"'adam.{place}' holds numbers that Adam never has after {step} steps")
    if state and max(float(kept["step"]) for kept in state.values()) != min(step, _COUNTED):
        raise TrainingError(f"Adam has not made the {step} steps that the header tells of")
    return state


def losses_so_far(tensors: Mapping[str, Tensor], header: Mapping[str, str], step: int) -> Losses:
    """Those since the log's last line; none in checkpoints of before."""
    if "losses.sums" not in tensors:
        return Losses()
    losses = Losses(tensors["losses.sums"], int(header["losses"]))
    _refuse_other("losses.sums", losses.sums, torch.zeros(3))
    if not 0 <= losses.steps <= step:
        raise TrainingError(f"losses of {losses.steps} steps, of {step}")
    return losses


def number(header: Mapping[str, str], name: str, least: float) -> float:
    """A number of the header from ``least`` on, and below infinity."""
    value = float(header[name])
    if not least <= value < math.inf:
        raise TrainingError(f"'{name}' is {value}")
    return value


def same_run(one: str | None, other: str) -> bool:
    """Whether two identities say the same, in whatever order; what one does not say of the training is as by default:
    a release may sort settings anew, and have more of them."""
    plain = TrainSettings().model_dump(mode="json")
    try:
        both = [json.loads(identity or "") for identity in (one, other)]
        for found in both:
            found["train"] = {name: value for name, value in found["train"].items() if value != plain.get(name)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False
    return bool(both[0] == both[1])


def _refuse_other(name: str, value: Tensor, own: Tensor) -> None:
    if value.shape != own.shape or value.dtype != own.dtype:
        found, needed = (f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in (value, own))
        raise TrainingError(f"'{name}' is {found}, and {needed} is needed")
