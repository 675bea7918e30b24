"""Draw docs/images/house.svg and print the table of docs/architecture.md, from the imports themselves.

    python docs/make/house.py

``tests/house`` holds both to what this makes.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PICTURE, PAGE = ROOT / "docs" / "images" / "house.svg", ROOT / "docs" / "architecture.md"
METHOD = {"schedule", "degradation", "prior", "guidance", "sampler", "tiling", "method", "kernel_set", "pipeline"}
GROUND = {"errors", "settings", "seeds", "hookspecs"}
LEFT_OUT = {"__init__", "__main__"}
WIDTH, HEIGHT, GAP, FLOOR, MARGIN = 112, 34, 18, 84, 24


def table() -> dict[str, tuple[str, set[str]]]:
    """The rooms, as the layer test has them."""
    spec = importlib.util.spec_from_file_location("rooms", ROOT / "tests" / "house" / "rooms.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rooms: dict[str, tuple[str, set[str]]] = module.ROOMS
    return rooms


def arrows() -> dict[str, set[str]]:
    """By room, the rooms that it imports, in functions too."""
    core = ROOT / "invdiff"
    found: dict[str, set[str]] = {}
    for path in sorted(core.rglob("*.py")):
        parts = path.relative_to(core).with_suffix("").parts
        room = parts[0]
        used = found.setdefault(room, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                above = list(parts[: len(parts) - node.level])
                module = node.module.split(".") if node.module else []
                for name in node.names:
                    used.add([*above, *module, name.name][0])
    rooms = set(found) - LEFT_OUT
    return {room: (used & rooms) - {room} for room, used in found.items() if room in rooms}


def floors(used: dict[str, set[str]]) -> dict[str, int]:
    """How many rooms stand below each one, on the longest way down."""
    found: dict[str, int] = {}

    def floor(room: str) -> int:
        if room not in found:
            found[room] = 1 + max((floor(below) for below in used[room]), default=-1)
        return found[room]

    for room in used:
        floor(room)
    return found


def needed(used: dict[str, set[str]]) -> dict[str, set[str]]:
    """The arrows that no longer way replaces."""

    def below(room: str) -> set[str]:
        return set().union(*({lower} | below(lower) for lower in used[room]))

    return {room: {x for x in lower if not any(x in below(y) for y in lower - {x})} for room, lower in used.items()}


def drawn() -> str:
    """The house as SVG: a floor a row, the ground at the bottom; arrows that others imply are left out."""
    used = arrows()
    level, lines = floors(used), needed(used)
    rows: list[list[str]] = [sorted(r for r in used if level[r] == n) for n in range(max(level.values()) + 1)]
    width = max(len(row) for row in rows) * (WIDTH + GAP) - GAP + 2 * MARGIN
    height = len(rows) * FLOOR - (FLOOR - HEIGHT) + 2 * MARGIN
    place: dict[str, tuple[float, float]] = {}
    for n, row in enumerate(rows):
        # Beside what they stand on, so that arrows are short.
        def pull(room: str) -> float:
            lower = [place[x][0] for x in lines[room]]
            return sum(lower) / len(lower) if lower else 0.0

        row.sort(key=lambda room: (pull(room), room))
        left = (width - len(row) * (WIDTH + GAP) + GAP) / 2
        for i, room in enumerate(row):
            place[room] = (left + i * (WIDTH + GAP), height - MARGIN - HEIGHT - n * FLOOR)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        'font-family="sans-serif" font-size="14"><title>The rooms of invdiff and what they stand on</title>',
        f'<rect width="{width:g}" height="{height:g}" fill="#fff"/>',
    ]
    for room, lower in sorted(lines.items()):
        for other in sorted(lower):
            (x, y), (u, v) = place[room], place[other]
            parts.append(
                f'<path d="M{x + WIDTH / 2:g} {y + HEIGHT:g}C{x + WIDTH / 2:g} {y + HEIGHT + 24:g} '
                f'{u + WIDTH / 2:g} {v - 24:g} {u + WIDTH / 2:g} {v:g}" fill="none" stroke="#999"/>'
            )
    for room, (x, y) in sorted(place.items()):
        fill = "#fde9c8" if room in METHOD else "#eee" if room in GROUND else "#d8e8f5"
        parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="{fill}" stroke="#555"/>'
            f'<text x="{x + WIDTH / 2:g}" y="{y + 22:g}" text-anchor="middle" fill="#111">{escape(room)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def printed() -> str:
    """The table of rooms in Markdown."""
    rooms = table()
    lines = ["| room | what it is for | may import |", "|---|---|---|"]
    for room, (what, allowed) in rooms.items():
        names = "everything" if len(allowed) >= len(rooms) - 3 else ", ".join(sorted(allowed)) or "nothing"
        lines.append(f"| `{room}` | {what} | {names} |")
    return "\n".join(lines) + "\n"


def filled(page: str) -> str:
    """The page with the table between its two marks."""
    return re.sub(r"(<!-- rooms -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{printed()}{m[2]}", page, flags=re.S)


if __name__ == "__main__":
    PICTURE.write_text(drawn(), encoding="utf-8")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
