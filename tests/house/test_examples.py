"""The notebooks of ``examples/`` run from top to bottom, and are kept without outputs."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="not in a checkout")


def code(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_kept_without_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert cells[0]["cell_type"] == "markdown"
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells if "outputs" in cell)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_cell_runs(path, monkeypatch, tmp_path):
    """In this process, which is quicker; what a cell ends with is shown as a notebook would show it."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for text in code(path):
        if ".plot()" in text and not _has("matplotlib"):
            continue
        *body, last = ast.parse(text).body
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(body, []), path.name, "exec"), names)
            value = eval(compile(ast.Expression(last.value), path.name, "eval"), names)
            for way in ("_repr_html_", "_repr_png_"):
                if hasattr(value, way):
                    assert getattr(value, way)() is not None or way == "_repr_html_"
        else:
            exec(compile(text, path.name, "exec"), names)
    if path.stem == "own_parts":
        table = names["table"]
        assert all(value > table["not restored"] + 3 for name, value in table.items() if name != "not restored")
    if path.stem == "microscope":
        assert names["table"]["restored"] > names["table"]["not restored"] + 2
        assert np.abs(names["kernel"] - names["spread"][3:-3, 3:-3]).sum() < 0.2  # 2 is nothing in common
    if path.stem == "own_photos":
        assert names["trainer"].step == 12
        told, tuned = names["table"].values()
        assert told != tuned  # it is the new weights that were asked
        assert abs(told - tuned) < 1  # and they have forgotten nothing


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs_in_a_kernel(path, tmp_path):
    """As a person runs it: the pictures and the figure are among its outputs."""
    for package in ("nbclient", "nbformat", "ipykernel", "matplotlib"):
        pytest.importorskip(package)
    import nbformat
    from jupyter_client.kernelspec import KernelSpecManager
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    specs = KernelSpecManager(ensure_native_kernel=True)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.create_kernel_manager().kernel_spec_manager = specs
    client.km.kernel_cmd = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    client.execute()
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    kinds = {kind for out in outputs for kind in out.get("data", {})}
    assert {"text/html", "image/png"} <= kinds
    assert not [out for out in outputs if out.output_type == "error"]


def _has(module):
    try:
        __import__(module)
    except ImportError:
        return False
    return True
