import resource

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pml_nmlayer.hamming.class_counter as by_class
import pml_nmlayer.hamming.histograms as hamming_module
from pml_nmlayer.codes import pack_codes
from pml_nmlayer.hamming import (
    grade_histograms,
    hamming_distance,
    hamming_histograms,
    products,
)
from pml_nmlayer.hamming.products import (
    numpy_product,
    products_are_exact,
    rounded_product,
    torch_product,
)
from pml_nmlayer.labels import jaccard
from pml_nmlayer.ranking import mean_average_precision
from tests import naive
from tests.processes import exit_codes, start


def random_codes(n, bits, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (n, bits), generator=generator).float() * 2 - 1


def random_labels(n, kind, seed=0):
    generator = torch.Generator().manual_seed(seed + 1)
    shape = (n,) if kind == "class ids" else (n, 3)
    return torch.randint(0, 2, shape, generator=generator)


@given(st.integers(1, 130), st.integers(0, 4), st.integers(0, 4), st.integers(0, 999))
def test_distance_equals_loop_packed_or_not(bits, n_query, n_database, seed):
    q, r = random_codes(n_query, bits, seed), random_codes(n_database, bits, seed + 1)
    expected = [[naive.hamming(a, b) for b in r.tolist()] for a in q.tolist()]
    distance = hamming_distance(q, r)
    assert distance.dtype == torch.int32
    assert distance.shape == (n_query, n_database)
    assert distance.tolist() == expected
    assert torch.equal(hamming_distance(pack_codes(q), pack_codes(r), bits=bits), distance)


@given(st.integers(1, 64), st.integers(0, 999))
def test_distance_is_a_metric(bits, seed):
    x = random_codes(6, bits, seed)
    d = hamming_distance(x, x)
    assert torch.equal(d, d.T)
    assert not d.diag().any()
    assert (d[:, :, None] + d[None, :, :] >= d[:, None, :]).all()
    assert (hamming_distance(x, -x).diag() == bits).all()


@pytest.mark.parametrize("kind", ["class ids", "multi-hot"])
@pytest.mark.parametrize("include_query", [False, True])
@pytest.mark.parametrize("bits", [12, 13])
def test_histograms_equal_loop(kind, include_query, bits, monkeypatch):
    # Small blocks, so that every edge between blocks is crossed.
    monkeypatch.setattr(hamming_module, "_BLOCK_PAIRS", 20)
    monkeypatch.setattr(hamming_module, "_BLOCK_REFERENCES", 7)
    r, r_labels = random_codes(24, bits, 1), random_labels(24, kind, 1)
    if include_query:
        q, q_labels = r[:9], r_labels[:9]
    else:
        q, q_labels = random_codes(9, bits, 2), random_labels(9, kind, 2)
    args = q.tolist(), q_labels.tolist(), r.tolist(), r_labels.tolist()
    expected = naive.histograms(*args, include_query)
    items, hits = hamming_histograms(q, q_labels, r, r_labels, include_query)
    counts = grade_histograms(q, q_labels, r, r_labels, include_query)
    assert items.dtype == hits.dtype == torch.int64
    for i in range(9):
        for d in range(bits + 1):
            grades = expected[i][d]
            assert items[i, d] == len(grades)
            assert hits[i, d] == sum(1 for g in grades if g)
            for g in range(counts.shape[2]):
                assert counts[i, d, g] == grades.count(g)
    packed = pack_codes(q), q_labels, pack_codes(r), r_labels, include_query
    assert torch.equal(hamming_histograms(*packed, bits=bits)[1], hits)


@given(
    st.sampled_from(["class ids", "many classes", "multi-hot"]),
    st.integers(1, 8),
    st.booleans(),
    st.sampled_from([2**20, 2**28]),
    st.integers(0, 999),
)
def test_two_queries_in_one_number_equal_loop(kind, bits, fused, budget, seed):
    # 300 items are enough for joint histograms of codes this short.
    r = random_codes(300, bits, seed)
    q = random_codes(5, bits, seed + 1)
    if kind == "many classes":
        q_labels, r_labels = torch.arange(5) * 7, torch.arange(300) % 40
    else:
        q_labels, r_labels = (
            random_labels(5, kind, seed),
            random_labels(300, kind, seed + 1),
        )
    args = q.tolist(), q_labels.tolist(), r.tolist(), r_labels.tolist()
    expected = naive.histograms(*args, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            hamming_module,
            "product_of",
            lambda *_: torch_product if fused else rounded_product,
        )
        counts = grade_histograms(q, q_labels, r, r_labels, max_bytes=budget)
        items, hits = hamming_histograms(q, q_labels, r, r_labels, max_bytes=budget)
    for i in range(5):
        for d in range(bits + 1):
            grades = expected[i][d]
            assert [grades.count(g) for g in range(counts.shape[2])] == counts[
                i, d
            ].tolist()
            assert (items[i, d], hits[i, d]) == (len(grades), sum(map(bool, grades)))


def counted_by_loop(q, y, r, z):
    """Items and hits at each distance."""
    counted = naive.histograms(q.tolist(), y.tolist(), r.tolist(), z.tolist(), False)
    items = torch.tensor([[len(grades) for grades in row] for row in counted])
    hits = torch.tensor([[sum(map(bool, grades)) for grades in row] for row in counted])
    return items, hits


@given(
    st.integers(1, 20),
    st.sampled_from([2, 3, 90]),
    st.sampled_from([torch_product, rounded_product, numpy_product]),
    st.booleans(),
    st.integers(0, 999),
)
def test_divided_and_joined_items_equal_loop(bits, classes, product, packed, seed):
    # Small limits, so that a few items are divided by parity and equal ones are joined.
    # The shorter the codes, the more are equal; 200 items come in several spans and blocks.
    generator = torch.Generator().manual_seed(seed)
    r = random_codes(200, bits, seed)
    z = torch.randint(classes, (200,), generator=generator)
    q, y = (
        random_codes(7, bits, seed + 1),
        torch.randint(classes, (7,), generator=generator),
    )
    q[3], y[3] = q[0], y[0]
    expected = counted_by_loop(q, y, r, z)
    sides = (pack_codes(q), y, pack_codes(r), z) if packed else (q, y, r, z)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("ITEMS", 1), ("OF_CLASS", 0), ("QUERIES", 1)):
            patch.setattr(by_class, f"_LEAST_{name}", value)
        patch.setattr(hamming_module, "product_of", lambda *_: product)
        patch.setattr(hamming_module, "_BLOCK_WIDE", 150)
        found = hamming_histograms(*sides, bits=bits)
        assert all(map(torch.equal, found, expected))
        patch.setattr(by_class, "_FEW", 0)  # none are joined
        patch.setattr(hamming_module, "_WIDE_PAIRS", 40)
        found = hamming_histograms(*sides, bits=bits)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("distinct", [2, 3000])
@pytest.mark.parametrize("bits", [16, 64, 70, 130])
def test_many_items_equal_all_distances(distinct, bits, monkeypatch):
    # 20 queries of two codes, and enough items for three of them in a number
    monkeypatch.setattr(by_class, "_SAMPLE", 500)
    generator = torch.Generator().manual_seed(bits)
    few = random_codes(distinct, bits, 1)
    r = few[torch.randint(distinct, (60_000,), generator=generator)]
    q = few[torch.arange(20) % 2]
    z, y = torch.arange(60_000) % 3, torch.arange(20) % 3
    items, hits = hamming_histograms(pack_codes(q), y, pack_codes(r), z, bits=bits)
    distances = hamming_distance(q, r)
    for i, (row, label) in enumerate(zip(distances, y, strict=True)):
        assert torch.equal(items[i], torch.bincount(row, minlength=bits + 1))
        assert torch.equal(hits[i], torch.bincount(row[z == label], minlength=bits + 1))


def test_items_that_occur_often_are_counted_by_powers_of_two(monkeypatch):
    monkeypatch.setattr(by_class, "_LEAST_ITEMS", 1)
    monkeypatch.setattr(by_class, "_LEAST_OF_CLASS", 0)
    one, other = random_codes(2, 9, 4)
    r, z = torch.stack([one] * 13 + [other] * 4), torch.zeros(17).long()
    counter = hamming_module.pair_counter(r[:2], z[:2], r, z, False, None, 2**20, 0, None)
    parts = [*by_class._divided(counter, slice(0, 17), 99, 1)]
    assert sorted((part.weight, len(part.order)) for part in parts) in (
        [(1, 1), (4, 2), (8, 1)],
        [(1, 1), (4, 1), (4, 1), (8, 1)],  # one with an odd number of ones, one even
    )
    assert sum(part.weight * len(part.order) for part in parts) == 17


def test_numpy_stays_on_one_thread_and_gets_its_threads_back(monkeypatch):
    from threadpoolctl import threadpool_info

    def blas_threads():
        return [
            lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"
        ]

    q, r = random_codes(40, 12, 1), random_codes(500, 12, 2)
    y, z = random_labels(40, "class ids", 1), random_labels(500, "class ids", 2)
    expected = hamming_histograms(q, y, r, z)
    seen, before = [], blas_threads()

    def watched(a, b, out):
        seen.extend(blas_threads())
        numpy_product(a, b, out)

    monkeypatch.setattr(products, "_MANY_PAIRS", 1)
    monkeypatch.setattr(products, "numpy_product", watched)
    found = hamming_histograms(q, y, r, z)
    assert seen
    assert set(seen) == {1}
    assert blas_threads() == before
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("kind", ["class ids", "multi-hot"])
def test_order_of_the_database_is_not_seen(kind):
    q, r = random_codes(7, 10, 1), random_codes(900, 10, 2)
    y, z = random_labels(7, kind, 1), random_labels(900, kind, 2)
    expected = hamming_histograms(q, y, r, z)
    by_class = z.argsort() if z.ndim == 1 else z[:, 0].argsort()
    for order in (torch.randperm(900), by_class, by_class.flip(0)):
        found = hamming_histograms(q, y, r[order], z[order])
        assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("r", [random_codes(1, 6).repeat(500, 1), -random_codes(1, 6)])
def test_equal_codes(r):
    items, hits = hamming_histograms(random_codes(1, 6), [1], r, torch.ones(len(r)).long())
    assert items.tolist() == hits.tolist()
    assert items[0, 0] + items[0, 6] == len(r)


def test_queries_anywhere_in_the_database():
    r, z = random_codes(30, 9), random_labels(30, "multi-hot")
    whole = hamming_histograms(r, z, r, z, ref_includes_query=True)
    graded = grade_histograms(r, z, r, z, ref_includes_query=True)
    for rows in (slice(0, 11), slice(11, 30)):
        part = hamming_histograms(r[rows], z[rows], r, z, True, query_start=rows.start)
        assert torch.equal(part[0], whole[0][rows])
        assert torch.equal(part[1], whole[1][rows])
        part = grade_histograms(r[rows], z[rows], r, z, True, query_start=rows.start)
        assert torch.equal(part, graded[rows][:, :, : part.shape[2]])
    with pytest.raises(ValueError, match="the 1:12 codes of the database"):
        hamming_histograms(r[:11], z[:11], r, z, True, query_start=1)


@pytest.mark.parametrize("include_query", [False, True])
def test_grades_of_ones_own(include_query, monkeypatch):
    monkeypatch.setattr(hamming_module, "_BLOCK_PAIRS", 20)
    monkeypatch.setattr(hamming_module, "_BLOCK_REFERENCES", 7)
    r, z = random_codes(40, 5), random_labels(40, "multi-hot")
    q, y = r[:6], z[:6]

    def quarters(a, b):
        return (jaccard(a, b) * 4).round()

    args = q, y, r, z, include_query
    counts = grade_histograms(*args, relevance=quarters, grades=5)
    assert counts.shape == (6, 6, 5)
    distances, graded = hamming_distance(q, r), quarters(y, z)
    for i in range(6):
        for d in range(6):
            for g in range(5):
                pairs = [
                    j
                    for j in range(40)
                    if distances[i, j] == d and graded[i, j] == g
                    if not (include_query and i == j)
                ]
                assert counts[i, d, g] == len(pairs)
    items, hits = hamming_histograms(*args, relevance=quarters)
    assert torch.equal(items, counts.sum(2))
    assert torch.equal(hits, counts[:, :, 1:].sum(2))
    binary = grade_histograms(*args, relevance=quarters, binary=True)
    assert torch.equal(binary[:, :, 1], hits)


def test_graded_labels_of_any_shape():
    codes = random_codes(3, 4)
    weights = torch.tensor([[2, 0], [1, 1], [0, 0]])  # how much of each topic
    counts = grade_histograms(
        codes, weights, codes, weights, relevance=lambda a, b: a @ b.T, grades=5
    )
    grades = sorted(counts.sum(1).tolist())
    assert grades == [[1, 0, 1, 0, 1], [1, 0, 2, 0, 0], [3, 0, 0, 0, 0]]


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_settings_of_matrix_products_change_nothing(precision):
    q, r = random_codes(40, 64, 1), random_codes(20_000, 64, 2)
    y, z = random_labels(40, "class ids", 1), random_labels(20_000, "class ids", 2)
    expected = [torch.bincount(d, minlength=65) for d in (64 - q @ r.T).div(2).long()]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            items, _ = hamming_histograms(q, y, r, z)
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(items, torch.stack(expected))


def test_rounded_products_are_noticed(monkeypatch):
    assert products_are_exact()
    rounded = torch.eye(64) * (1 + 2**-20)
    monkeypatch.setattr(torch, "eye", lambda n: rounded)
    assert not products_are_exact()


@pytest.mark.parametrize("kind", ["class ids", "multi-hot"])
def test_several_threads_count_the_same(kind):
    q, r = random_codes(31, 20, 1), random_codes(3000, 20, 2)
    y, z = random_labels(31, kind, 1), random_labels(3000, kind, 2)
    before = torch.get_num_threads()
    try:
        found = []
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(hamming_histograms(q, y, r, z))
            assert torch.get_num_threads() == count
        with pytest.raises(ValueError, match="query codes must hold"):
            hamming_histograms(q * 2, y, r, z)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *found))


def test_very_long_codes():
    q, r = random_codes(3, 5000, 1), random_codes(4, 5000, 2)
    items, _ = hamming_histograms(q, [0] * 3, r, [0] * 4)
    for row, distances in zip(items, hamming_distance(q, r), strict=True):
        assert torch.equal(row, torch.bincount(distances, minlength=5001))
    y, z = torch.ones(3, 900), torch.ones(4, 900)  # 5,001 x 901 counters a query
    counts = grade_histograms(q, y, r, z)
    assert torch.equal(counts[:, :, 900], items)


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def draw(n):
    return torch.randint(0, 256, (n, 8), dtype=torch.uint8), torch.randint(10, (n,))


def judge_many(path, queries, items):
    torch.set_num_threads(1)
    (q, y), (r, z) = draw(queries), draw(items)
    mean_average_precision(q[:9], y[:9], r[:9], z[:9], bits=64)
    before = peak_mb()
    mean_average_precision(q, y, r, z, bits=64)
    path.write_text(str(peak_mb() - before))


@pytest.mark.parametrize(("queries", "items"), [(60, 3_000_000), (60_000, 3_000)])
def test_memory_is_bounded(tmp_path, queries, items):
    # Unpacked, 3 million codes are 768 MB; all distances of either case are 720 MB.
    path = tmp_path / "more"
    assert exit_codes(start(judge_many, path, queries, items)) == [0]
    assert int(path.read_text()) < 256


def test_empty_sides():
    q, y = random_codes(3, 8), torch.tensor([0, 1, 0])
    items, hits = hamming_histograms(q[:0], y[:0], q, y)
    assert items.shape == hits.shape == (0, 9)
    items, hits = hamming_histograms(q, y, q[:0], y[:0])
    assert not items.any()
    assert not hits.any()


def test_autocast_does_not_reach_the_distances():
    # 4 bits in 4,096 differ: bfloat16 would round the inner product.
    q = torch.ones(1, 4096)
    r = q.clone()
    r[0, :3] = -1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert hamming_distance(q, r).item() == 3


CODES, LABELS = random_codes(4, 8), torch.tensor([0, 1, 0, 1])
STRAY = torch.full((4, 1), 255, dtype=torch.uint8)


def graded(relevance, grades):
    return grade_histograms(
        CODES, LABELS, CODES, LABELS, relevance=relevance, grades=grades
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hamming_distance(CODES, CODES[:, :5]), "8 bits and database codes 5"),
        (lambda: hamming_distance(CODES * 0.5, CODES), "query codes must hold"),
        (lambda: hamming_distance(CODES * torch.nan, CODES), "query codes must hold"),
        (lambda: hamming_distance(pack_codes(CODES), pack_codes(CODES)), "pass bits="),
        (lambda: hamming_distance(CODES, CODES, bits=9), "bits=9"),
        (lambda: hamming_histograms(CODES, LABELS[:3], CODES, LABELS), "3 query labels"),
        (lambda: hamming_histograms(CODES, LABELS, CODES, LABELS[:3]), "3 database labels"),
        (lambda: hamming_histograms(CODES, LABELS, CODES, LABELS[:, None]), "are a column"),
        (
            lambda: hamming_histograms(CODES, LABELS, -CODES, LABELS, True),
            "codes of the database are not",
        ),
        (
            lambda: hamming_histograms(CODES, LABELS, CODES, 1 - LABELS, True),
            "labels of the database are not",
        ),
        (
            lambda: hamming_histograms(CODES, LABELS, CODES[:2], LABELS[:2], True),
            "codes of the database are not",
        ),
        (
            lambda: hamming_histograms(CODES, LABELS, CODES, LABELS, max_bytes=10**6),
            "max_bytes must be at least",
        ),
        (
            lambda: hamming_histograms(CODES, LABELS, CODES, LABELS, True, query_start=-1),
            "query_start must be >= 0",
        ),
        (
            lambda: hamming_histograms(CODES, LABELS, STRAY, LABELS, bits=3),
            "bits=3, but query",
        ),
        (
            lambda: hamming_histograms(STRAY, LABELS, STRAY, LABELS, bits=3),
            "bits set beyond",
        ),
        (lambda: graded(lambda a, b: a @ b.T, None), "needs grades="),
        (lambda: graded(None, 3), "goes with relevance="),
        (lambda: graded(lambda a, b: jaccard(a, b)[:1], 3), r"shape \(4, 4\)"),
        (lambda: graded(lambda a, b: jaccard(a, b) / 2, 3), "integers in 0..2"),
        (lambda: graded(lambda a, b: jaccard(a, b) * -1, 3), "integers in 0..2"),
        (lambda: graded(lambda a, b: jaccard(a, b) * 3, 3), "integers in 0..2"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
