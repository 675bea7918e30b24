"""The package's face: names are there when they are asked for, and nothing heavy before."""

import subprocess
import sys

import pytest

import invdiff

HEAVY = ("torch", "numpy", "PIL", "pydantic", "rich")


@pytest.mark.parametrize(
    "code",
    [
        "import invdiff",
        "import invdiff; invdiff.__version__; dir(invdiff); invdiff.InvdiffError",
        "from invdiff.cli.main import main; main(['--help'])",
        "from invdiff.cli import main; main(['--help'])",
        "from invdiff.cli import main; main(['run', '--help'])",
        "from invdiff.cli import main; main(['--version'])",
        "from invdiff.cli import main; main(['recipes'])",
        "from invdiff.cli import main; main(['run'])",
    ],
)
def test_nothing_heavy_is_loaded(code):
    """Held on modules, not on seconds: a help text does not wait for torch."""
    watched = f"""
import sys
try:
    {code}
except SystemExit:
    pass
print("loaded:", [name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", watched], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("loaded: []"), done.stdout


def test_every_public_name_is_there():
    assert set(invdiff.__all__) <= set(dir(invdiff))
    for name in invdiff.__all__:
        assert getattr(invdiff, name).__module__.startswith("invdiff."), name
    assert invdiff.load is getattr(invdiff, "load")  # noqa: B009 - fetched once, then kept


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'invdiff' has no attribute 'restore'"):
        invdiff.restore  # noqa: B018
