"""docs/compatibility.md is what a run of every combination says, to the letter.

Set WRITE_DOCS=1 to write the page anew from such a run.
"""

import os
from pathlib import Path

import pytest

from tests import compatibility, label_kinds

PAGE = Path(__file__).parent.parent / "docs" / "compatibility.md"

HEAD = """# What works with what

Written by `WRITE_DOCS=1 .venv/bin/python -m pytest tests/test_compatibility.py`.

- Every cell is a forward and backward run on 24 items, 16 dimensions and 4 classes.
- "yes": it ran with a finite, non-zero gradient. A known value was met.
- "no": it is refused. The number leads to the message below the tables.

## Losses of this package and features of PML

{ours}

## Wrappers of this package and losses of PML

"Alone" is PML's loss without a wrapper. The miner is MultiSimilarityMiner. The lifted head
is `ProgressiveHead(constant_width=True)`: one loss object trains before and after a merge.

{theirs}

## Kinds of labels

One check of labels, wherever they enter. "yes" means that the labels mean what they say.

- Class ids that do not run from 0 go through `pml_nmlayer.labels.LabelMap`.
- A sampler may draw by strings, since it compares them only.

{kinds}

Outputs are refused of which none is negative: all items would have one code. So are bits of
0 and 1, bool, and packed bytes. One column of multi-hot rows warns once. Losses whose
`num_classes` is the width of the rows refuse it.
"""


@pytest.mark.filterwarnings("ignore")  # PML's own losses warn about torch and numpy
def test_the_page_is_what_a_run_says():
    page = HEAD.format(
        ours=compatibility.matrix(compatibility.our_classes(), compatibility.FEATURES),
        kinds=label_kinds.matrix(),
        theirs=compatibility.matrix(compatibility.pml_classes(), compatibility.WRAPPERS),
    )
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page
