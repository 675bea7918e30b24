"""Draws pages of text, for trying what fine-tuning brings: photos of one kind, which no bundled prior has seen.

    python benchmarks/pages_of_text.py pages/ --pages 20
    python benchmarks/pages_of_text.py other_pages/ --pages 6 --seed 1

Random words of the glossary in Pillow's own font, of several sizes, on paper of several tints; 256x256, seeded.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from invdiff.metrics.glossary import WORDS

SIDE = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    words = sorted({part for word in WORDS for part in word.meaning.split()})
    draws = random.Random(given.seed)
    for number in range(given.pages):
        page(words, draws).save(given.folder / f"page{number:02}.png")


def page(words: list[str], draws: random.Random) -> Image.Image:
    paper = tuple(draws.randint(225, 255) for _ in range(3))
    ink = tuple(draws.randint(0, 60) for _ in range(3))
    picture = Image.new("RGB", (SIDE, SIDE), paper)
    pen, size = ImageDraw.Draw(picture), draws.randint(16, 28)
    font = ImageFont.load_default(size)
    for line in range(int(SIDE / (1.3 * size)) + 1):
        text = " ".join(draws.choice(words) for _ in range(12))
        pen.text((8, 8 + 1.3 * size * line), text, fill=ink, font=font)
    return picture


if __name__ == "__main__":
    main()
