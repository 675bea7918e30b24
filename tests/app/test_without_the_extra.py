"""``invdiff app`` where its two packages are not installed."""

import sys


def test_a_line_says_what_to_install(refused, monkeypatch):
    for name in list(sys.modules):
        if name.startswith("invdiff.app."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    for name in ("starlette.datastructures", "starlette.responses", "starlette.types", "uvicorn"):
        monkeypatch.setitem(sys.modules, name, None)
    assert refused("app") == "invdiff app needs starlette and uvicorn: pip install 'invdiff[app]'"
