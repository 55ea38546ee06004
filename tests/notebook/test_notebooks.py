"""Every notebook runs as it is, without a display, and is committed without outputs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
EXECUTION_TIMEOUT_S = 60


def by_name(path: Path) -> str:
    return path.name


def test_there_are_notebooks() -> None:
    assert "01_first_tailnet.ipynb" in [path.name for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_notebooks_are_committed_without_outputs(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Jupyter's own packages: not ours to mend
@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_notebooks_run_headless(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the notebook extra is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    for module in ("ipykernel", "ipywidgets"):
        pytest.importorskip(module, reason="the notebook extra is not installed")
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=EXECUTION_TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises for a cell that fails
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()) if output)
    assert "carried by derp-" in printed
    assert "pong straight from" in printed
    assert [name for name in os.listdir(scratch) if name.startswith("tailbox")] == []
