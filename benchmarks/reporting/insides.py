"""What merging did to bits: numbers of all runs, figures of one."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure

from pml_nmlayer.merging.gini import gini

from ..results import Arrays, Store
from ..specs import spec_of
from ..suites import QualitySuite, Row
from . import figures
from .captions import Picture, basis
from .runs import Run
from .standing import ADAPTED, MERGED
from .tables import markdown, mean_and_sd

_NEEDED = ("importance_start", "importance_end", "correlation_1", "groups_1")


_NUMBERS = ("importance_start", "importance_end", "mean_abs_correlation")


def bits_table(suite: QualitySuite, runs: Sequence[Run], store: Store) -> str:
    """Write how even and how redundant bits are, where runs stored it; else ""."""
    rows = []
    for row in suite.rows:
        for bits in suite.bits:
            own = [run for run in runs if (run.row, run.bits) == (row, bits)]
            numbers = [_numbers(suite, run, store) for run in own if run.metrics]
            columns = [[each.get(name) for each in numbers] for name in _NUMBERS]
            if any(value is not None for column in columns for value in column):
                rows.append([row.label, str(bits), *map(mean_and_sd, columns)])
    if not rows:
        return ""
    header = [
        "method",
        "bits",
        "Gini, before merging",
        "Gini, end",
        "mean abs. correlation",
    ]
    note = (
        "- Gini: of the drop-one importance of bits (0: all are worth the same; of the "
        "pair likelihood with a threshold), right before the first merge and of the final "
        "ones; correlation: of two final bits. "
        "Both on at most 1,000 training items.\n"
    )
    return "\n\n".join(["### Balance and redundancy of bits", markdown(header, rows), note])


def _numbers(suite: QualitySuite, run: Run, store: Store) -> dict[str, float]:
    stored = {f"diagnostic_{name}": name for name in _NUMBERS}
    spec = spec_of(suite, run.row.entry, run.bits, run.seed)
    arrays = store.load_arrays(spec, tuple(stored))
    return {
        stored[name]: gini(torch.from_numpy(values)) if values.ndim else float(values)
        for name, values in arrays.items()
    }


def merging(
    suite: QualitySuite, done: Sequence[Run], store: Store, rows: Sequence[Row]
) -> list[Picture]:
    """Draw what merging did to the bits of one run: of the best row that stored it.

    A row with NMLayer comes before a control, however good that is.
    """
    titles = {
        "bit-importance": "Importance of bits before and after merging",
        "redundancy": "Redundancy of bits before the first merge",
    }
    own = [row for row in rows if row.entry.family in (MERGED, ADAPTED)]
    others = [row for row in rows if row not in own]
    found = _find(suite, done, store, [*own, *others])
    if found is None:
        missing = "No stored run of a merged head holds diagnostics."
        return [Picture(name, title, missing, None) for name, title in titles.items()]
    run, arrays = found
    about = f"{run.row.label}, {run.bits} bits at the end, seed {run.seed}. "
    parts = zip(titles.items(), (_importance(arrays), _redundancy(arrays)), strict=True)
    return [
        Picture(name, title, text + about + basis(suite, done), figure)
        for (name, title), (figure, text) in parts
    ]


def _find(
    suite: QualitySuite, done: Sequence[Run], store: Store, rows: Sequence[Row]
) -> tuple[Run, Arrays] | None:
    """Look for the first run of the shortest codes, which saw the most merges."""
    names = [f"diagnostic_{name}" for name in _NEEDED]
    for row in rows:
        for run in (run for run in done if (run.row, run.bits) == (row, min(suite.bits))):
            spec = spec_of(suite, row.entry, run.bits, run.seed)
            arrays = store.load_arrays(spec, names)
            if len(arrays) == len(names):
                return run, dict(zip(_NEEDED, arrays.values(), strict=True))
    return None


def _importance(arrays: Arrays) -> tuple[Figure, str]:
    figure, all_axes = figures.panels(2)
    start, end = arrays["importance_start"], arrays["importance_end"]
    figures.bars(all_axes[0], start, f"before the first merge: {len(start)} bits")
    figures.bars(all_axes[1], end, f"after training: {len(end)} bits")
    all_axes[0].set_ylabel("importance")
    text = (
        "Drop-one importance of a bit: the mean loss of pairs of training items (a log "
        "likelihood of Hamming distances) without it, less that with it. Near 0 the other "
        "bits do its work. "
    )
    return figure, text


def _redundancy(arrays: Arrays) -> tuple[Figure, str]:
    figure, (axes,) = figures.panels(1, width=4.5)
    figures.heat_map(figure, axes, arrays["correlation_1"], arrays["groups_1"])
    text = (
        "Absolute correlation of the bits that the first merge saw; a white frame holds "
        "the bits that it made one. "
    )
    return figure, text
