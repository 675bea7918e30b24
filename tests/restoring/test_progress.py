"""How far a large picture is: tiles count within a step, and what is told never goes back."""

from __future__ import annotations

import pytest

import invdiff
from invdiff.restoring.jobs import Job
from invdiff.restoring.run import Run, RunOptions


@pytest.mark.parametrize("change", [[], ["degradation.padding=circular"], ["guidance=[]"]])
def test_tiles_within_steps(recipe, picture, tmp_path, change):
    """Two pictures of several tiles and two steps each: from 0 to 4 in steps of a tile."""
    pipe = invdiff.load(recipe(), overrides=["sampler.tile=64", "sampler.overlap=16", *change])
    jobs = [Job(stem, stem, picture(f"{stem}.png", 30, 24)) for stem in ("a", "b")]
    events = []
    Run(pipe, jobs, tmp_path / "out", RunOptions()).run(events.append)
    done = [event.done for event in events]
    assert done == sorted(done)
    assert {event.total for event in events} == {4}
    notes = [event.note for event in events if event.note]
    count = int(notes[0].rpartition(" ")[2])
    assert count > 3
    assert notes[:count] == [f"tile {i + 1} of {count}" for i in range(count)]
    assert len({event.done for event in events if event.note}) == 4 * count
    assert done[-1] == 4


def test_small_pictures_have_steps_alone(recipe, picture, tmp_path):
    events = []
    pipe = invdiff.load(recipe())
    Run(pipe, [Job("a", "a", picture("a.png"))], tmp_path / "out", RunOptions()).run(events.append)
    assert [event.done for event in events] == [1, 2, 2]
    assert not any(event.note for event in events)
