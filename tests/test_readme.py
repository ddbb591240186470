"""The README's examples run, and print what it says they print."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", README, re.DOTALL)


@pytest.mark.filterwarnings("ignore::UserWarning")  # PML asks for a miner and a sampler
def test_examples():
    assert len(BLOCKS) == 3
    torch.manual_seed(0)
    names = {}
    for code, expected in BLOCKS:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), names)
        if expected:
            assert printed.getvalue() == expected
    assert names["embedder"].bits == 12
    assert names["result"]["test"]["hamming_map_level0"] > 0.85
    x = torch.randn(5, 64)
    unfolded = names["embedder"].eval()(names["trunk"](x))
    torch.testing.assert_close(names["serving"](x), unfolded, rtol=0, atol=1e-5)


def test_the_diff_is_part_of_the_script():
    diff = re.search(r"```diff\n(.*?)```", README, re.DOTALL).group(1)
    script = re.sub(r"\s+", "", BLOCKS[0][0]).replace(
        "merging.end_of_epoch_hook",
        "ProgressiveMerging(embedder,epochs_per_stage=5).end_of_epoch_hook",
    )
    added = [line[1:] for line in diff.splitlines() if line.startswith("+")]
    assert len(added) == 3
    for line in added:
        assert re.sub(r"\s+", "", line) in script
