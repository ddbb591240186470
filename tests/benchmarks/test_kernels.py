from functools import partial

import faiss
import pytest
import torch

from benchmarks.reporting import kernel_tables
from benchmarks.results import Store
from benchmarks.running import contests, growth_contests, kernels, large_contests
from benchmarks.running.devices import Machine
from benchmarks.running.environment import environment
from benchmarks.specs import plan_kernels
from benchmarks.suite_files import load_suite
from benchmarks.suites import KernelSuite

TINY = KernelSuite(
    name="tiny",
    repeats=2,
    batch_size=16,
    bits=16,
    queries=5,
    database=50,
    classes=4,
    timeout_s=1,
)


@pytest.fixture(autouse=True)
def _short_samples(monkeypatch):
    monkeypatch.setattr(kernels, "_SAMPLE_S", 1e-4)


# Dynamo itself instantiates autograd functions, which torch warns about.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_every_kernel_runs_and_is_in_the_table(tmp_path, monkeypatch):
    torch.compiler.reset()
    # 4,000 classes and what follows the tracing of a graph take half a minute
    few = partial(growth_contests.merge_of_many_classes, classes=40)
    monkeypatch.setitem(contests.KERNELS._items, "merge/many_classes", few)
    monkeypatch.setattr(large_contests, "_how", lambda device: {"backend": "eager"})
    store, specs = Store(tmp_path), plan_kernels(TINY)
    for spec in specs[:-1]:
        record, arrays = kernels.execute(spec)
        assert record["device"] == "cpu"
        assert all(len(seconds) == 2 and seconds.min() > 0 for seconds in arrays.values())
        store.save(spec, {**record, **environment()}, arrays)
    store.save(specs[-1], {"error": "boom"}, {})
    lines = kernel_tables.table_text(TINY, specs, store, "a command").splitlines()
    rows = [line for line in lines if line.startswith("| ")][2:]
    assert len(rows) == len(specs)
    peers = ("PML", "argsort", "faiss", "nn.Linear", "scipy")
    assert all(any(peer in row for peer in peers) for row in rows[:-1])
    assert "failed" in rows[-1]


def test_the_losses_are_those_of_the_package():
    names = {spec["kernel"] for spec in plan_kernels(load_suite("kernels"))}
    assert {"loss/DPSHLoss", "map/argsort", "map/pml", "step/active_nmlayer"} <= names
    assert "loss/BaseHashingLoss" not in names


def test_evaluation_has_sizes_of_its_own():
    suite = load_suite("kernels")
    names = ["evaluation/faiss", "map/argsort"]
    large, small = plan_kernels(suite, names)
    assert {name: large[name] for name in suite.evaluation} == suite.evaluation
    assert (large["database"], large["threads"]) == (59_000, 2)
    assert (small["database"], small["repeats"]) == (suite.database, suite.repeats)
    assert "threads" not in small
    (million,) = plan_kernels(suite, ["million/random"])
    assert (million["queries"], million["database"]) == (10_000, 1_000_000)
    assert "database 59,000" in kernel_tables.table_text(suite, [], None, "c")
    assert "threads" not in kernel_tables.table_text(TINY, [], None, "c")


def test_threads_are_those_of_the_spec():
    (spec,) = plan_kernels(TINY, ["evaluation/faiss"])
    torch_before, faiss_before = torch.get_num_threads(), faiss.omp_get_max_threads()
    try:
        kernels.execute({**spec, "threads": 2})
        assert (torch.get_num_threads(), faiss.omp_get_max_threads()) == (2, 2)
    finally:
        torch.set_num_threads(torch_before)
        faiss.omp_set_num_threads(faiss_before)


def test_peers_compute_nearly_the_same():
    for name in ("map/argsort", "map/pml"):
        (spec,) = plan_kernels(load_suite("kernels"), [name])
        contest = contests.KERNELS[name]({**spec, "queries": 20, "database": 2000}, "cpu")
        peer = contest.peer()
        if isinstance(peer, dict):
            peer = peer["mean_average_precision"]
        assert contest.ours() == pytest.approx(peer, abs=0.01)


def test_a_median_ratio_is_that_of_the_repeats(tmp_path):
    import numpy as np

    store = Store(tmp_path)
    (spec,) = plan_kernels(TINY, ["map/argsort"])
    arrays = {"ours_s": np.array([1.0, 2.0, 9.0]), "peer_s": np.array([2.0, 2.0, 3.0])}
    store.save(spec, {"peer": "p", **environment(), "device": "cuda (A card)"}, arrays)
    text = kernel_tables.table_text(TINY, [spec], store, "c")
    row = text.splitlines()[4]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["map/argsort", "p", "2000.00", "2000.00", "1.00", "0.75 to 2.00"]
    assert f"torch {torch.__version__}" in text
    assert "on cuda (A card) beside" in text


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_every_kernel_runs_on_a_device():
    for spec in plan_kernels(TINY):
        record, _ = kernels.execute(spec, Machine("cuda"))
        assert record["device"] == f"cuda ({torch.cuda.get_device_name()})"
        on_cpu = "numpy" in record["peer"] or "faiss" in record["peer"]
        assert record["peer"].endswith(", CPU") is on_cpu
