"""Help texts as people read them: examples first, then options by what they are about."""

from __future__ import annotations

from typing import Any

import click

Example = tuple[str, str]
"""A command, and what it does."""

SECTIONS = {
    "What is restored": (
        "inputs",
        "recursive",
        "output",
        "kind",
        "quality",
        "reference",
        "synthesize",
        "halve",
        "kernel",
        "data",
        "validate",
    ),
    "What is measured": (
        "kernels",
        "limit",
        "repeat",
        "methods",
        "variants",
        "lpips",
        "niqe",
        "fid",
        "trace",
        "pictures",
    ),
    "How": (
        "overrides",
        "seed",
        "fast",
        "best",
        "samples",
        "denoise",
        "scale",
        "device",
        "engine",
        "scheduler",
        "force",
        "resume",
        "cooldown",
        "operator",
        "expected",
        "size",
        "role",
    ),
    "What is said": ("dry_run", "preview", "quiet", "as_json", "tensorboard", "debug"),
}
"""Options by what they are about, under the names that commands get them by."""


class Command(click.Command):
    """A command whose help has examples, and its options in sections if there are many."""

    def __init__(self, *args: Any, examples: tuple[Example, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help_text(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for command, what in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{command}\n")
                    formatter.indent()
                    formatter.write_text(what)
                    formatter.dedent()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = {p.name: p.get_help_record(ctx) for p in self.get_params(ctx)}
        records = {name: record for name, record in found.items() if record is not None}
        sections = {title: [records.pop(n) for n in names if n in records] for title, names in SECTIONS.items()}
        *others, last = sections.values()
        last += records.values()
        if sum(map(bool, others)) < 2:  # few options need no order
            sections = {"Options": [line for lines in sections.values() for line in lines]}
        for title, lines in sections.items():
            if lines:
                with formatter.section(title):
                    formatter.write_dl(lines)
