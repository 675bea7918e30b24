"""The processes that train together, on one machine or many. Alone, all of this is nothing.

``accelerate launch -m invdiff train RECIPE ...`` starts them; the library starts the processes, finds the devices and
joins the gradients. Every process reads its own photos of each batch, and the leader alone writes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import TrainingError


class Team:
    """``size`` processes, of which this is number ``rank``; the first ``leads``."""

    def __init__(self) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self._accelerator: Any = None
        if self.size > 1:
            try:
                from accelerate import Accelerator, DistributedDataParallelKwargs
            except ImportError:
                raise TrainingError("several processes need accelerate: pip install 'invdiff[train]'") from None
            # A prior may have parameters that a batch does not reach.
            handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)]
            # Unless it is told that it is for processors, each process of several takes itself for the only one there.
            self._accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=handlers)
        self.rank = int(self._accelerator.process_index) if self._accelerator else 0

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def device(self, chosen: torch.device) -> torch.device:
        """This process's own device, where there are several."""
        return chosen if self._accelerator is None else torch.device(self._accelerator.device)

    def joined(self, prior: nn.Module) -> Callable[..., Any]:
        """The prior, called so that the gradients of all processes are their mean."""
        found: Callable[..., Any] = prior if self._accelerator is None else self._accelerator.prepare_model(prior)
        return found

    def apart(self, model: Any) -> contextlib.AbstractContextManager[Any]:
        """Within it, gradients stay with each process: for all but the last part of a batch."""
        return contextlib.nullcontext() if self._accelerator is None else self._accelerator.no_sync(model)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes, on all of them."""
        return values if self._accelerator is None else self._accelerator.reduce(values, reduction="mean")

    def any(self, flag: bool) -> bool:
        """Whether it holds in some process."""
        if self._accelerator is None:
            return flag
        asked = torch.tensor([float(flag)], device=self._accelerator.device)
        return bool(self._accelerator.reduce(asked, reduction="sum") > 0)

    def wait(self) -> None:
        """Until all are here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()
