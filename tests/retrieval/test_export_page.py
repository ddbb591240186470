"""The snippets of docs/export.md run, and print what the page says they print."""

import contextlib
import io
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", PAGE, re.DOTALL)


# torch.onnx.export copies programs in a way that torch itself declares old
@pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")
def test_snippets(tmp_path, monkeypatch):
    assert len(BLOCKS) == 6
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names = {"__name__": "export_page"}
    for number, (code, expected) in enumerate(BLOCKS):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "export.md", "exec"), names)
        if number == len(BLOCKS) - 1:
            expected = "Loading weights from local directory\n"  # the mixin's own words
        assert printed.getvalue() == expected
    # One measurement on the page would hold of nothing, if no output came near 0
    assert (names["outputs"] < 1e-4).any()
    assert len(names["codes"].unique(dim=0)) > 10
