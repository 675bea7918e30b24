"""Every word that the tool prints and that somebody may meet for the first time here. Metrics are in the catalogue.

docs/glossary.md is made of both; the page of ``invdiff app`` and ``report.html`` show what they have used of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .catalogue import FID, METRICS, RESIDUAL


@dataclass(frozen=True)
class Word:
    """One notion: the ``names`` that it has, and what it says. ``page`` of the documentation tells more."""

    names: tuple[str, ...]
    meaning: str
    page: str = ""

    @property
    def title(self) -> str:
        return ", ".join(self.names)

    def is_in(self, text: str) -> bool:
        """Whether one of its names stands in ``text``, as a word of its own or several of them."""
        return any(re.search(rf"(?<![\w-]){re.escape(name)}s?(?![\w-])", text, re.I) for name in self.names)


_CONSISTENT = "how near the written picture, degraded with the written kernel, is to the photo, in dB"

WORDS = (
    Word(
        ("baseline", "bicubic"),
        "what one would show without restoring: the photo enlarged (bicubic), or as it is (input)",
    ),
    Word(("blur",), "what makes a point of the scene a patch in the photo; the kernel says which"),
    Word(("certificate",), "what anybody can verify from the files: the picture's SHA-256, and its consistency"),
    Word(
        ("coarse to fine",), "a kernel looked for on small copies of the photo first, then on finer ones, by no network"
    ),
    Word(("compression", "JPEG quality"), "what a JPEG leaves out to be small; from 100, next to nothing, down to 1"),
    Word(("conformance",), "whether a component is what the loop takes it for; `invdiff check`"),
    Word(("consistency",), _CONSISTENT),
    Word(
        ("degradation", "operator"),
        "what a clean picture went through on the way to the photo: a blur and a shrinking, say",
    ),
    Word(("denoiser",), "whatever takes noise off a picture; any one is a prior"),
    Word(("detail",), "how fine a pattern is: its period in pixels"),
    Word(
        ("draw", "sample", "posterior"),
        "one of the many pictures that could have been the truth; all of them, with how likely each is",
    ),
    Word(("eta",), "how much of its noise a step draws anew: 1 as DDPM does, 0 none, as DDIM does", "concepts.md"),
    Word(("evaluation",), "of a network: one question to it; what restoring costs is their number"),
    Word(
        ("explained", "explain", "not explained"),
        "whether the result, degraded again, gives the photo: what is left is no more than 1.5 times what noise and "
        "compression leave. It agrees with the photo then; that it is true does not follow",
    ),
    Word(("former JPEG",), "a picture whose pixels tell that it was a JPEG before it was saved as something else"),
    Word(("grey level",), "one step of brightness of 8 bits: 1/255"),
    Word(("guidance",), "what pulls picture and kernel towards agreement with the photo, at every step"),
    Word(("instead",), "another recipe, which a noisy or compressed photo gets in place of the one that was named"),
    Word(("kernel",), "how a point of light was spread; a small picture of unit sum"),
    Word(("lambda", "strength"), "how hard a guidance pulls: the paper's weight of the gradient", "concepts.md"),
    Word(("loss",), "what training makes smaller: how far the prior's picture and kernel are from the true ones"),
    Word(("luma",), "brightness alone, without colour"),
    Word(("measurement", "`y`"), "the photo as it came, a clean picture after the operator"),
    Word(("multiply-adds",), "what a network computes: one multiplication and one addition each"),
    Word(("oracle",), "the recipe told the true kernel: what a perfect estimate would be worth"),
    Word(
        ("parameters", "`theta`"),
        "what is unknown of the operator: a kernel, or a few numbers; of a network, its weights",
    ),
    Word(("prior",), "what knows how clean pictures look: a network, or a denoiser"),
    Word(("recipe",), "a file that names operator, prior, guidances and settings"),
    Word(("seed",), "the number that all random numbers follow from: the same seed, the same result"),
    Word(("shake",), "how the camera moved while the photo was taken; a kernel too"),
    Word(("step",), "one of the reverse diffusion's: from a noisier picture to a less noisy one"),
    Word(("synthesize",), "degrade a clean picture first, so that the truth is known"),
    Word(
        ("temperature", "dial"),
        "the dial between faithful (0) and textured (1): how much noise the steps draw",
        "concepts.md#the-dial-samplertemperature",
    ),
    Word(("texture",), "fine detail; drawn where the photo does not tell, it may be invented"),
    Word(("tile",), "a part of a large picture that the network sees at once"),
    Word(("trace",), "what every step looked like, and how good it was"),
    Word(("truth",), "the clean picture, or the true kernel, where they are known"),
    Word(
        ("uncertainty",), "how far off the mean of several draws is, as a map, by how far off such were on other photos"
    ),
    Word(("variant",), "the recipe with a change, as a row of its own"),
    Word(("weights", "checkpoint"), "the numbers that a network has learned, and the file with them"),
)


def words_in(texts: Iterable[str]) -> dict[str, str]:
    """What the words mean that stand in ``texts``, in the order of the glossary, by name."""
    text = "\n".join(texts)
    return {word.title.replace("`", ""): word.meaning.replace("`", "") for word in _every() if word.is_in(text)}


def _every() -> Iterator[Word]:
    yield from WORDS
    for metric in (*METRICS.values(), FID, RESIDUAL):
        yield Word((metric.title,), metric.meaning)
