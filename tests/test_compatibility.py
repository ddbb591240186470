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
Every cell is a forward and backward run on 24 items, 16 dimensions and 4 classes. "yes"
means that it ran with a finite, non-zero gradient and, where the combination has a known
value, gave it. "no" means that it is refused, with the error quoted below the table.

## Losses of this package and features of PML

{ours}

## Wrappers of this package and losses of PML

"alone" is PML's loss without a wrapper; the miner is MultiSimilarityMiner. The lifted head
is `ProgressiveHead(constant_width=True)`: the same loss object trains before and after a
merge.

{theirs}

## Kinds of labels

One check of labels, wherever they enter. "yes" means that the labels mean what they say.
Class ids that do not run from 0 to C - 1 go through `pml_nmlayer.labels.LabelMap` for the
parts that know classes. A sampler may draw by strings, since it compares them only.

{kinds}

Outputs are refused that are bits of 0 and 1, bool or packed bytes, and outputs of which
none is negative: all of their signs are equal, so that all items would have one code. One
column of multi-hot rows, as PML's trainers and testers take it, warns once, and is refused
by losses whose `num_classes` is the width of the rows.
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
