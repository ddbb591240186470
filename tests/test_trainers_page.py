"""The snippets of docs/trainers.md run, and print what the page says they print."""

import contextlib
import io
import logging
import re
from pathlib import Path

import pytest
from pytorch_metric_learning import trainers

PAGE = (Path(__file__).parent.parent / "docs" / "trainers.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", PAGE, re.DOTALL)


@pytest.mark.filterwarnings("ignore:.*is missing")  # PML's advice to have a miner
@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # Lightning's, for speed
# Lightning 2.6 calls what torch 2.13 deprecates
@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning")
def test_snippets(tmp_path, monkeypatch):
    assert len(BLOCKS) == 6
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "trainers_page"}
    for code, expected in BLOCKS:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "trainers.md", "exec"), names)
        assert printed.getvalue() == expected
    assert names["lightning_trainer"].current_epoch == 12
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_the_table_names_every_trainer():
    own = {name for name in vars(trainers) if name[0].isupper()} - {"BaseTrainer"}
    assert len(own) == 5
    for name in own:
        assert f"\n| {name} |" in PAGE
