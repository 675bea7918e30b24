"""``report.html``: an evaluation to look at. One file, nothing from the network, no library."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from ..io.pictures import encode_png
from ..io.sheets import kernel_picture, read_kernel
from ..metrics.catalogue import number, title
from .results import Results, Row
from .tables import Table, columns_of
from .trace import kernel_panels

_QUALITY, _SIDE = 95, 1024
_TRUTH = " truth"  # labels have no space in front
_STYLE = """
:root { color-scheme: light dark; --line: #8885; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 70rem; }
h1 { font-size: 1.5rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: Canvas; }
.note { font-size: .85rem; opacity: .8; }
.plots, .pictures { display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
figure { margin: 0; min-width: 0; }
.stage { position: relative; --at: 50%; touch-action: pan-y; }
.stage img { display: block; width: 100%; image-rendering: auto; }
.stage .after { position: absolute; inset: 0; height: 100%; clip-path: inset(0 0 0 var(--at)); }
.stage::after { content: ""; position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 3px #000; pointer-events: none; }
.stage input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize; }
.stage:focus-within { outline: 3px solid Highlight; outline-offset: 2px; }
[hidden] { display: none !important; }
figcaption { font-size: .9rem; margin-top: .4rem; overflow-wrap: anywhere; }
select { font: inherit; max-width: 100%; padding: .35rem; }
.kernels { display: flex; flex-wrap: wrap; gap: .5rem; margin-top: .4rem; }
.kernels span { font-size: .75rem; max-width: 100%; }
.kernels img { display: block; image-rendering: pixelated; max-width: 100%; }
"""
_SCRIPT = """
for (const figure of document.querySelectorAll(".compare")) {
  const stage = figure.querySelector(".stage"), range = stage.querySelector("input");
  const select = figure.querySelector("select"), say = figure.querySelector(".numbers");
  const move = () => stage.style.setProperty("--at", range.value + "%");
  const show = () => {
    for (const image of stage.querySelectorAll(".after")) image.hidden = image.dataset.method !== select.value;
    say.textContent = select.selectedOptions[0].dataset.numbers;
  };
  range.addEventListener("input", move);
  select.addEventListener("change", show);
  move();
  show();
}
"""


def page(
    name: str,
    results: Results,
    rows: Sequence[Row],
    names: Sequence[str],
    tables: Sequence[tuple[str, Table]],
    facts: Sequence[str],
    conventions: Sequence[str],
    plots: Mapping[str, str],
    first: str,
    pictures: int,
) -> str:
    """The whole page. ``first`` is the method shown first, ``pictures`` how many of each dataset are shown."""
    body = [f"<h1>{escape(name)}</h1>", *(f"<p>{escape(fact)}</p>" for fact in facts)]
    for heading, table in tables:
        body += [f"<h2>{escape(heading)}</h2>" if heading else "", _table(table)]
    body += ['<ul class="note">', *(f"<li>{escape(line)}</li>" for line in conventions), "</ul>"]
    if plots:
        body += ["<h2>From step to step</h2>", '<div class="plots">', *plots.values(), "</div>"]
    shown, left_out = _chosen(rows, pictures)
    if shown:
        body += [
            "<h2>Pictures</h2>",
            "<p>Left of the line the measurement, right of it what you choose. "
            f"JPEG, at most {_SIDE} pixels wide or high; the folder has them as they are.</p>",
        ]
        body += ['<div class="pictures">', *(_figure(results, case, names, first) for case in shown), "</div>"]
    if left_out:
        body.append(f'<p class="note">{left_out} more pictures and kernels are in the folder, not on this page.</p>')
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        f"<title>{escape(name)}</title><style>{_STYLE}</style></head>\n<body>"
        + "\n".join(body)
        + f"\n<script>{_SCRIPT}</script></body></html>\n"
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.head)
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in line) for line in table.body]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _chosen(rows: Sequence[Row], pictures: int) -> tuple[list[list[Row]], int]:
    """Rows by case, of the first kernel of each dataset's first pictures; and how many cases are left out."""
    cases: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        p = row.place
        cases.setdefault((p.dataset, p.kernels, p.picture, p.kernel), []).append(row)
    shown, seen = [], dict[tuple[str, str], list[str]]()
    for (dataset, kernels, picture, _), case in cases.items():
        before = seen.setdefault((dataset, kernels), [])
        if picture not in before and len(before) < pictures:
            before.append(picture)
            shown.append(case)
    return shown, len(cases) - len(shown)


def _figure(results: Results, case: Sequence[Row], names: Sequence[str], first: str) -> str:
    place = case[0].place
    before = _picture(results.path(place, ".png", "_input"))
    choices = [(row.place.method, results.path(row.place, ".png"), _numbers(row, names)) for row in case]
    choices.append((_TRUTH, results.truth(place), ""))
    start = first if any(label == first for label, _, _ in choices) else choices[0][0]
    what = f"{place.dataset}, {place.picture}, {place.kernels} {place.kernel}"
    afters, options = [], []
    for label, path, numbers in choices:
        attribute = escape(label, quote=True)
        hidden = "" if label == start else " hidden"
        afters.append(f'<img class="after" data-method="{attribute}" alt="{attribute}" src="{_picture(path)}"{hidden}>')
        selected = " selected" if label == start else ""
        options.append(
            f'<option value="{attribute}" data-numbers="{escape(numbers, quote=True)}"{selected}>'
            f"{escape(label)}</option>"
        )
    return (
        f'<figure class="compare"><div class="stage"><img class="before" alt="measurement" src="{before}">'
        f'{"".join(afters)}<input type="range" min="0" max="100" value="50" aria-label="measurement or result"></div>'
        f"<figcaption>{escape(what)}<br><label>right: <select>{''.join(options)}</select></label> "
        f'<span class="numbers"></span>{_kernels(results, case)}</figcaption></figure>'
    )


def _numbers(row: Row, names: Sequence[str]) -> str:
    chosen = [n for n in columns_of([row], names) if n.startswith(("psnr_y", "psnr_rgb", "lpips", "kernel_l1"))]
    return ", ".join(f"{title(n)} {number(row.number(n), n)}" for n in chosen if n != "psnr_rgb_shifted")


def _kernels(results: Results, case: Sequence[Row]) -> str:
    """The true kernel and the estimates; where a trace was kept, the first step's as well."""
    truth = read_kernel(results.path(case[0].place, ".npy", "_kernels"))
    if truth is None:
        return ""
    parts = [f'<span>true kernel<img alt="true kernel" src="{_png(kernel_picture(truth, 84))}"></span>']
    for row in case:
        panels = kernel_panels(results, row, 84)
        estimate = read_kernel(results.path(row.place, ".kernel.npy"))
        label = escape(row.place.method)
        if panels is not None:
            text = f"{label}: true, first step, last"
            parts.append(f'<span>{text}<img alt="{text}" src="{_png(panels)}"></span>')
        elif estimate is not None:
            parts.append(
                f'<span>{label}<img alt="kernel of {label}" src="{_png(kernel_picture(estimate, 84))}"></span>'
            )
    return f'<div class="kernels">{"".join(parts)}</div>'


def _picture(path: Path) -> str:
    """A picture as a data URI, made to fit a page: JPEG, shrunk if large. Nothing where it is not on disk."""
    try:
        with Image.open(path) as picture:
            buffer, shown = io.BytesIO(), picture.convert("RGB")
            shown.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
            shown.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    except OSError:
        return "data:,"
    return _uri("jpeg", buffer.getvalue())


def _png(array: np.ndarray) -> str:
    return _uri("png", encode_png(array))


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
