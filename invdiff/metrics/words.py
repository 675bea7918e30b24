"""What restoring found in a photo, what it did, and how well the result explains the photo: numbers, and words."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..io.jpeg import Jpeg
from .noise import noise_level
from .picture import rms

FITS = 1.5
"""A residual of so many times what noise and compression leave is still theirs."""
_SMALL = 3 / 255
_ABSORBED = 0.5
_ROUNDING = 1 / 255 / 12**0.5


@dataclass(frozen=True)
class Findings:
    """Of one photo. ``blur`` is the operator's word for its parameters, empty where it has none or was told them.

    ``noise`` is the photo's, a standard deviation on [0, 1]; ``jpeg`` how it is compressed, or was. ``residual`` is the
    root mean square of what the result leaves of the photo, None where no parameters are known, and ``floor`` what it
    would be for a perfect result: the photo's noise and rounding, and what compressing the degraded result with the
    photo's own tables changes. ``done`` says what was done, ``remark`` what a guidance had to say. Of several
    ``draws``, ``spread`` is the root mean square of their standard deviations, ``detail`` the finest period, in pixels,
    that they agree on, and ``off`` how far from the truth such means were on other photos, None where nobody measured.
    """

    blur: str
    noise: float
    jpeg: Jpeg | None
    residual: float | None
    floor: float
    done: str = ""
    remark: str = ""
    draws: int = 1
    spread: float = 0.0
    detail: float | None = None
    off: float | None = None

    @property
    def times(self) -> float | None:
        """The residual in multiples of its floor."""
        return None if self.residual is None else self.residual / self.floor

    @property
    def explained(self) -> bool | None:
        """Whether the residual is no more than noise and compression leave; None where nothing is known."""
        return None if self.times is None else self.times <= FITS

    @property
    def found(self) -> str:
        """The photo: its blur, its noise, its compression."""
        noise = "no noise to speak of" if self.noise < 2 * _ROUNDING else f"noise {100 * self.noise:.1f} %"
        jpeg = "" if self.jpeg is None else f"{self.jpeg.kind} quality about {self.jpeg.quality}"
        return "; ".join(part for part in (self.blur, noise, jpeg) if part)

    @property
    def fit(self) -> str:
        """How well the result, degraded again, explains the photo."""
        if self.residual is None or self.times is None:
            return "not known: nothing says how the photo came about"
        causes = "its noise" if self.jpeg is None else "its noise and compression"
        levels = f"{255 * self.residual:.1f} of 255 grey levels"
        if self.times < _ABSORBED and self.floor > _SMALL:
            return f"explained, {causes} in part as well: some of what looks like texture may be that"
        if self.explained:
            return f"explained: what is left of it, {levels}, is what {causes} would leave"
        if self.residual <= _SMALL:
            return f"explained but for {levels}, {self.times:.1f} times what {causes} would leave"
        before = "sharpened" if self.jpeg is not None else "sharpened or compressed before"
        why = f"the blur may be of another kind or differ across the picture, or the photo was {before}"
        return f"not explained: {levels} are left, {self.times:.1f} times what {causes} would leave; {why}"

    @property
    def sure(self) -> str:
        """How far several draws agree; nothing of one."""
        if self.draws == 1:
            return ""
        agreed = "on no detail" if self.detail is None else f"on details of {self.detail:.1f} pixels and more"
        off = "" if self.off is None else f"; their mean is off by about {255 * self.off:.1f}, as on other photos"
        return f"{self.draws} draws agree {agreed}, and differ by {255 * self.spread:.1f} of 255 grey levels{off}"

    @property
    def words(self) -> dict[str, str]:
        """Sentences for people, by what they are about."""
        done = "; ".join(part for part in (self.done, self.remark) if part)
        said = {"found": self.found, "done": done, "fit": self.fit, "sure": self.sure}
        return {name: text for name, text in said.items() if text}

    @property
    def numbers(self) -> dict[str, float | int | bool | None]:
        """The same for programs."""
        several = {"draws": self.draws, "draws_spread": self.spread, "draws_detail": self.detail, "draws_off": self.off}
        return {
            "noise": self.noise,
            "jpeg_quality": None if self.jpeg is None else self.jpeg.quality,
            "jpeg_former": None if self.jpeg is None else self.jpeg.former,
            "residual_floor": self.floor,
            "residual_times_floor": self.times,
            "explained": self.explained,
            **(several if self.draws > 1 else {}),
        }


def findings_of(
    y: Tensor,
    again: Tensor | None,
    *,
    blur: str = "",
    jpeg: Jpeg | None = None,
    done: str = "",
    remark: str = "",
) -> Findings:
    """Of a photo ``(3, h, w)`` in [0, 1] and its result degraded ``again``, which is None where nobody knows how."""
    noise = float(noise_level(y[None]))
    squares = max(noise, _ROUNDING) ** 2
    if jpeg is not None and again is not None:
        squares += rms(jpeg.again(again) - again.clamp(0, 1)) ** 2
    residual = None if again is None else rms(y - again)
    return Findings(blur, noise, jpeg, residual, squares**0.5, done, remark)
