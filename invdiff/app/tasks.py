"""What can be asked for: a recipe in plain words, and a dial."""

from __future__ import annotations

from dataclasses import dataclass

from ..assembly import assemble, read
from ..pipeline import Pipeline

_SEVERAL = 4
"""Steps where a recipe has one and texture is asked for: the mean, which one step gives, has none."""


@dataclass(frozen=True)
class Task:
    """One thing that the page can do: by which recipe, a path or a bundled one's name, with which changes."""

    name: str
    title: str
    about: str
    recipe: str
    changes: tuple[str, ...] = ()

    def usual(self) -> float:
        """Where the dial stands in the recipe: its ``sampler.temperature``, in [0, 1]."""
        return read(self.recipe, self.changes).sampler.temperature

    def dialled(self, dial: float) -> tuple[str, ...]:
        """The changes to the recipe with the dial at ``dial`` in [0, 1], faithful to textured."""
        found = [*self.changes, f"sampler.temperature={dial:g}"]
        if dial > 0 and read(self.recipe, self.changes).sampler.steps < _SEVERAL:
            found.append(f"sampler.steps={_SEVERAL}")
        return tuple(found)

    def pipeline(self, dial: float, device: str = "auto") -> Pipeline:
        """Raises :class:`InvdiffError` for a recipe, plugin or weights that must be changed."""
        return assemble(read(self.recipe, self.dialled(dial)), device)


def tasks(enlarge: str = "blindsr_x4_photo", shake: str = "deblur_ffhq") -> dict[str, Task]:
    """The page's two, by name, each by the recipe that is given."""
    found = (
        Task(
            "enlarge",
            "Sharpen and enlarge",
            "For small, soft, noisy or compressed photos. The result has more pixels.",
            enlarge,
        ),
        Task(
            "shake",
            "Remove shake",
            "For photos that the moving camera blurred. The size stays.",
            shake,
            ("degradation.padding=valid",),  # the scene of a photo goes on beyond its frame
        ),
    )
    return {task.name: task for task in found}
