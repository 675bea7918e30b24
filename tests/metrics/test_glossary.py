"""Every word that a report prints has an entry, and is found where it stands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from invdiff.io.jpeg import Jpeg, filled
from invdiff.metrics.catalogue import FID, METRICS, RESIDUAL
from invdiff.metrics.glossary import WORDS, words_in
from invdiff.metrics.words import Findings

JPEG = Jpeg(filled(np.array([6, *[0] * 63])))
FORMER = replace(JPEG, former=True)
SAID = {
    "explained, and compressed": Findings("a soft blur", 0.02, JPEG, 0.01, 0.012, done="in 5 steps by the recipe x"),
    "explained, compressed before": Findings("a soft blur", 0.02, FORMER, 0.01, 0.012),
    "noise drawn as texture": Findings("", 0.05, None, 0.01, 0.05),
    "small": Findings("a shake", 0.002, None, 0.01, 0.002),
    "not explained": Findings("a soft blur", 0.002, None, 0.05, 0.002),
    "several draws": Findings("a soft blur", 0.02, None, 0.01, 0.012, draws=4, spread=0.02, detail=3.0),
}
TERMS = {
    "explained, and compressed": {"blur", "noise", "compression", "explained", "grey level", "step", "recipe"},
    "explained, compressed before": {"blur", "noise", "compression", "former JPEG", "explained", "grey level"},
    "noise drawn as texture": {"noise", "texture", "explained"},
    "small": {"shake", "explained", "grey level", "noise"},
    "not explained": {"not explained", "grey level", "noise"},
    "several draws": {"draw", "detail", "grey level"},
}


@pytest.mark.parametrize("case", SAID)
def test_the_words_of_a_report_are_explained(case):
    sentences = SAID[case].words.values()
    entries = {name for title in words_in(sentences) for name in title.split(", ")}
    assert TERMS[case] <= entries


def test_every_metric_and_setting_that_is_printed_has_an_entry():
    for metric in (*METRICS.values(), FID, RESIDUAL):
        assert words_in([f"{metric.title} 1.0"])[metric.title] == metric.meaning
    for name in ("temperature", "lambda", "eta", "residual", "seed", "certificate", "consistency", "oracle", "variant"):
        assert words_in([f"the {name} of it"]), name


def test_only_words_that_stand_there():
    assert words_in(["Kernels, twice"]) == words_in(["a kernel"]) != {}
    assert words_in(["kernelled steppe"]) == {}
    assert words_in([]) == {}


def test_a_name_has_one_meaning():
    names = [name for word in WORDS for name in word.names]
    assert len(names) == len(set(names))
    assert [word.names[0].lower() for word in WORDS] == sorted(word.names[0].lower() for word in WORDS)
