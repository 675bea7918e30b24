"""``report.html``: an evaluation to look at. One file, nothing from the network, no library."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from ..components.discovery import registry
from ..io.decoding import open_picture
from ..io.pictures import encode_png
from ..io.sheets import kernel_picture, read_kernel
from ..metrics.catalogue import METRICS, number, title
from ..metrics.glossary import words_in
from .results import Results, Row
from .summary import Summary
from .tables import Table
from .trace import kernel_panels

_QUALITY, _SIDE, _WORD = 95, 1024, 20
_TRUTH = " truth"  # labels have no space in front
_METRICS = {metric.heading: metric for metric in METRICS.values()}


def page(results: Results, rows: Sequence[Row], what: Summary, plots: Mapping[str, str]) -> str:
    """The whole page; ``plots`` are SVG."""
    border = results.luma_border
    body = [f"<h1>{escape(what.name)}</h1>"]
    if what.failed:
        body.append(f'<p>Not all could be measured: <a href="#left-out">{what.failed} failed</a>.</p>')
    for heading, table in what.tables(rows, border).items():
        body += [f"<h2>{escape(heading)}</h2>"] if heading else []
        body.append(_table(table))
    body += [f'<p class="note">{escape(fact)}</p>' for fact in [*what.facts, "Numbers are means over all rows."]]
    words = what.words(rows, border)
    words |= _methods(what.labels)
    said = [*what.labels, *what.facts, "measurement, truth, kernel"]  # the last ones stand beside the pictures
    words |= {word: meaning for word, meaning in words_in(said).items() if word not in words}
    body += ["<h2>What the words say</h2>", '<dl class="words">', *_words(words), "</dl>"]
    if plots:
        body += ["<h2>From step to step</h2>", '<div class="plots">', *plots.values(), "</div>"]
    shown, left_out = _chosen(rows, what.pictures)
    if shown:
        body += [
            "<h2>Pictures</h2>",
            "<p>Left of the line the measurement, right of it what you choose. "
            f"JPEG, at most {_SIDE} pixels wide or high; the folder has them as they are.</p>",
        ]
        body += ['<div class="pictures">', *(_figure(results, case, what.first) for case in shown), "</div>"]
    if left_out:
        body.append(f'<p class="note">{left_out} more pictures and kernels are in the folder, not on this page.</p>')
    if what.left_out:
        lines = (f"<li>{escape(line)}</li>" for line in what.left_out)
        body += ['<h2 id="left-out">Left out</h2>', '<ul class="note">', *lines, "</ul>"]
    frame, style, script = (_part(part) for part in ("page.html", "style.css", "script.js"))
    return Template(frame).substitute(title=escape(what.name), style=style, body="\n".join(body), script=script)


def _part(name: str) -> str:
    """What the page is made of, as it lies beside this room."""
    return (files(__package__) / "page_parts" / name).read_text(encoding="utf-8")


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_heading(cell)}</th>' for cell in table.head)
    # On a phone a line becomes a card, where each number needs its heading beside it.
    labels = [escape(name, quote=True) for name in table.head]
    lines = [
        "".join(f'<td data-label="{label}">{_linked(cell)}</td>' for label, cell in zip(labels, line, strict=True))
        for line in table.body
    ]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _heading(text: str) -> str:
    """A heading that breaks between words, neither at a hyphen nor before an arrow; a long word breaks anywhere."""
    words = re.split(r" (?![↑↓])", text)
    return " ".join(escape(word) if len(word) > _WORD else f"<span>{_linked(word)}</span>" for word in words)


def _linked(text: str) -> str:
    """The heading of a metric as a link to what it says, further down, which it also tells by itself; or just text."""
    metric = _METRICS.get(text)
    if metric is None:
        return escape(text)
    meaning = escape(metric.meaning, quote=True)
    return f'<a class="word" href="#{_anchor(metric.title)}" title="{meaning}">{escape(text)}</a>'


def _anchor(word: str) -> str:
    return "word-" + re.sub(r"\W+", "-", word.lower())


def _methods(labels: Sequence[str]) -> dict[str, str]:
    """What the registered methods among the labels are, in the words of whoever registered them."""
    found = registry().components
    return {label: found["method", label][0].summary for label in labels if ("method", label) in found}


def _words(words: Mapping[str, str]) -> Iterator[str]:
    for word, meaning in words.items():
        yield f'<dt id="{_anchor(word)}">{escape(word)}</dt><dd>{escape(meaning)}</dd>'


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


def _figure(results: Results, case: Sequence[Row], first: str) -> str:
    place = case[0].place
    before = _picture(results.path(place, ".png", "_input"))
    choices = [(row.place.method, results.path(row.place, ".png"), _numbers(row)) for row in case]
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


def _numbers(row: Row) -> str:
    chosen = ("psnr_y", "psnr_rgb", "lpips_vgg", "lpips_alex", "niqe", "kernel_l1", "kernel_l1_shifted")
    return ", ".join(f"{title(n)} {number(row.number(n), n)}" for n in chosen if n in row.values)


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
        with open_picture(path) as picture:
            buffer, shown = io.BytesIO(), picture.convert("RGB")
            shown.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
            shown.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    except Exception:  # damaged since: the page is of what is there
        return "data:,"
    return _uri("jpeg", buffer.getvalue())


def _png(array: np.ndarray) -> str:
    return _uri("png", encode_png(array))


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
