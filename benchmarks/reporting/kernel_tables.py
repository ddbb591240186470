"""Tables of the kernels suite: what was timed, and its ratios."""

import statistics
from collections.abc import Sequence

import numpy as np

from ..results import Arrays, Spec, Store
from ..suites import EVALUATION, MILLION, KernelSuite
from .notes import origins
from .tables import markdown


def table_text(
    suite: KernelSuite, specs: Sequence[Spec], store: Store, command: str
) -> str:
    """Write the whole of table.md."""
    header = ["kernel", "instead of", "ours, ms", "peer, ms", "ratio", "quartiles"]
    table = markdown(header, [_row(spec, store) for spec in specs])
    records = [store.load(spec) for spec in specs]
    done = [record for record in records if record is not None and "peer" in record]
    made = "".join(f"- {line}\n" for line in origins(done))
    notes = (
        f"- One thread; {suite.repeats} repeats, both sides in turn. Milliseconds are "
        "medians; ratio is the median over repeats of ours / peer (below 1 is faster).\n"
        f"- Losses: forward and backward, B = {suite.batch_size}, K = {suite.bits}, "
        f"{suite.classes} classes. mAP@all: {suite.queries} queries, "
        f"{suite.database:,} items, {suite.bits} bits.\n"
        f"{_about_evaluation(suite)}"
        f"{made}"
        f"- Command: `{command}`."
    )
    return f"## Suite `{suite.name}`: seconds\n\n{table}\n\n{notes}\n"


def _about_evaluation(suite: KernelSuite) -> str:
    notes = []
    for name, sizes in ((EVALUATION, suite.evaluation), (MILLION, suite.million)):
        if sizes:
            each = ", ".join(f"{name} {value:,}" for name, value in sizes.items())
            notes.append(f"- `{name}*`: mAP@all as above, but {each}.\n")
    return "".join(notes)


def quartiles(arrays: Arrays) -> np.ndarray:
    """Return the quartiles of the ratio ours / peer: (3,), the median in the middle."""
    return np.quantile(arrays["ours_s"] / arrays["peer_s"], [0.25, 0.5, 0.75])


def _row(spec: Spec, store: Store) -> list[str]:
    record = store.load(spec)
    if record is None or not store.has_result(spec):
        return [spec["kernel"], "–", *["–" if record is None else "failed"] * 4]
    arrays = store.load_arrays(spec)
    ours, peer = arrays["ours_s"], arrays["peer_s"]
    low, median, high = quartiles(arrays)
    medians = [f"{statistics.median(s) * 1e3:.2f}" for s in (ours, peer)]
    return [
        spec["kernel"],
        record["peer"],
        *medians,
        f"{median:.2f}",
        f"{low:.2f} to {high:.2f}",
    ]
