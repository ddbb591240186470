"""The runs of a suite: what is stored of each, and its metrics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..interface import ENCODINGS
from ..results import Record, Store
from ..specs import Selection, spec_of
from ..suites import QualitySuite, Row
from .judging import Metrics, judged_all
from .metrics import Metric, shown


@dataclass(frozen=True)
class Run:
    """One run of a suite as far as it got: the record may be missing or a failure."""

    row: Row
    bits: int
    seed: int
    record: Record | None
    metrics: dict[str, float]
    others: Metrics = field(default_factory=dict)  # of codes that are no row, by name

    @property
    def failure(self) -> str | None:
        """The last line of the error that ended it, if one did."""
        if self.record is None or "error" not in self.record:
            return None
        return self.record["error"].strip().splitlines()[-1]

    @property
    def refused(self) -> str | None:
        """Why the method does not suit the data set, if it does not."""
        return None if self.record is None else self.record.get("refused")


Value = Callable[[Run], float | None]


def collect(suite: QualitySuite, store: Store, processes: int = 0) -> list[Run]:
    """Load every run of a suite and compute its metrics, in this process or in others."""
    places = [(e, b, s) for e in suite.entries for b in suite.bits for s in suite.seeds]
    specs = [spec_of(suite, *place) for place in places]
    runs = []
    for (entry, bits, seed), spec, metrics in zip(
        places, specs, judged_all(store, specs, processes), strict=True
    ):
        record = store.load(spec)
        others = {name: v for name, v in metrics.items() if name not in ENCODINGS}
        runs += [
            Run(Row(entry, name), bits, seed, record, metrics.get(name, {}), others)
            for name in entry.encodings
        ]
    return runs


def metrics_of(runs: Sequence[Run]) -> list[Metric]:
    """Pick the metrics to show of runs."""
    return shown(run.metrics for run in runs)


def records_of(runs: Sequence[Run]) -> list[Record]:
    """Pick the records of runs that have a result."""
    return [run.record for run in runs if run.record is not None and run.metrics]


def metric_value(name: str) -> Value:
    return lambda run: run.metrics.get(name)


def train_seconds(run: Run) -> float:
    assert run.record is not None
    return run.record["train_s"]


def collect_all(selection: Selection, store: Store, processes: int) -> dict[str, list[Run]]:
    """Collect the runs of all data sets, by data set; kernels have none."""
    return {
        suite.dataset: collect(suite, store, processes)
        for suite, _ in selection
        if isinstance(suite, QualitySuite)
    }
