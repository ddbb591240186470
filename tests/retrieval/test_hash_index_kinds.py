"""What the approximate kinds promise, measured against the exact one."""

import pytest
import torch

from pml_nmlayer.hamming import hamming_distance
from pml_nmlayer.retrieval import HashIndex

from .hash_index_cases import clustered_codes, filled, pairs, random_codes, shuffled_ids

APPROXIMATE = ["ivf", "hnsw", "multihash"]


def recall(index, exact, queries, k):
    """Part of the results that are no farther than the true k-th neighbour."""
    farthest = exact.search(queries, k)[0][:, -1:]
    return (index.search(queries, k)[0] <= farthest).double().mean().item()


# docs/retrieval.md quotes these expectations: 10,000 codes of 64 bits around 50 centres,
# each bit negated with probability `flip`.
EXPECTED = [
    ("ivf", {}, 0.1, 0.99),
    ("ivf", {}, 0.2, 0.97),
    ("hnsw", {}, 0.1, 0.99),
    ("hnsw", {}, 0.2, 0.97),
    ("multihash", {}, 0.1, 0.95),
    ("multihash", {}, 0.2, 0.35),
    ("multihash", {"nflip": 3}, 0.2, 0.97),
]


@pytest.mark.parametrize(("kind", "options", "flip", "expected"), EXPECTED)
def test_recall_on_clustered_codes(kind, options, flip, expected):
    codes = clustered_codes(10_000, 64, flip=flip)
    queries = clustered_codes(200, 64, flip=flip, seed=1)
    exact, index = filled("flat", codes), filled(kind, codes, **options)
    assert recall(index, exact, queries, 10) >= expected


@pytest.mark.parametrize(
    ("kind", "options", "low", "high"),
    [
        ("ivf", {"nlist": 64, "nprobe": 1}, 1, 64),
        ("hnsw", {"links": 4, "ef_construction": 8, "ef_search": 1}, 10, 500),
        ("multihash", {"nflip": 0}, 0, 3),
    ],
)
def test_tuning_buys_recall(kind, options, low, high):
    codes = random_codes(3000, 32)  # without clusters, the hard case
    queries = random_codes(100, 32, seed=1)
    exact, index = filled("flat", codes), filled(kind, codes, **options)
    index.tune(low)
    before = recall(index, exact, queries, 10)
    index.tune(high)
    after = recall(index, exact, queries, 10)
    assert after > before
    assert high in index.options.values()


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_results_are_true_sorted_and_distinct(kind):
    codes, ids = clustered_codes(500, 20), shuffled_ids(500)
    options = {"nlist": 8, "nprobe": 2} if kind == "ivf" else {}
    index = filled(kind, codes, ids, **options)
    truth = {i: row for row, i in enumerate(ids.tolist())}
    queries = clustered_codes(20, 20, seed=2)
    matrix = hamming_distance(queries, codes)
    ranges = index.range_search(queries, 6)
    results = [
        *enumerate(pairs(*index.search(queries, 30))),
        *enumerate(list(zip(*map(torch.Tensor.tolist, r))) for r in zip(*ranges)),  # noqa: B905
    ]
    assert any(found for _, found in results)
    for query, found in results:
        assert found == sorted(found)
        assert len({i for _, i in found}) == len(found)
        assert all(matrix[query, truth[i]] == d for d, i in found)


def test_ivf_with_all_cells_is_exact():
    codes, queries = random_codes(2000, 24), random_codes(50, 24, seed=1)
    exact, index = filled("flat", codes), filled("ivf", codes, nlist=16, nprobe=16)
    assert torch.equal(index.search(queries, 20)[0], exact.search(queries, 20)[0])
    same_ranges(index, exact, queries, 6)


@pytest.mark.parametrize(
    ("bits", "options"),
    [(32, {}), (12, {}), (12, {"nhash": 2, "nflip": 0}), (20, {"nhash": 3, "nflip": 2})],
)
def test_multihash_finds_all_within_its_radius(bits, options):
    codes, queries = random_codes(3000, bits), random_codes(100, bits, seed=1)
    exact, index = filled("flat", codes), filled("multihash", codes, **options)
    radius = index.options["nhash"] * (index.options["nflip"] + 1) - 1
    same_ranges(index, exact, queries, radius)


def test_multihash_does_not_hash_the_padding():
    """12 bits lie in 4 bytes; a table over padding alone would return every code."""
    codes = torch.ones(64, 12)
    codes[1:] = -1
    index = filled("multihash", codes, nhash=4, hash_bits=3, nflip=0)
    assert index.search(codes[:1], 64)[1][0, :2].tolist() == [0, -1]


def test_hnsw_ranges_are_exact():
    codes, queries = random_codes(500, 16), random_codes(9, 16, seed=1)
    same_ranges(filled("hnsw", codes), filled("flat", codes), queries, 5)


def test_hnsw_survives_equal_codes():
    index = filled("hnsw", torch.ones(200, 16))
    assert (index.search(torch.ones(1, 16), 10)[0] == 0).all()


def same_ranges(index, exact, queries, radius):
    for ours, theirs in zip(
        index.range_search(queries, radius),
        exact.range_search(queries, radius),
        strict=True,
    ):
        assert any(len(row) for row in theirs)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_asymmetric_search_reranks_what_the_kind_finds(kind):
    codes, ids = clustered_codes(2000, 32), shuffled_ids(2000)
    options = {"nlist": 16, "nprobe": 8} if kind == "ivf" else {}
    u = clustered_codes(50, 32, seed=3) * torch.rand(50, 32)
    exact = filled("flat", codes, ids)
    a, _ = filled(kind, codes, ids, **options).search_asymmetric(u, 5, candidates=200)
    truth, _ = exact.search_asymmetric(u, 5, candidates=2000)
    assert (a >= truth - 1e-9).all()
    assert (a <= truth[:, -1:] + 1e-9).double().mean() > 0.8


def test_training_is_repeatable():
    codes = clustered_codes(1000, 32)
    one, two = (filled("ivf", codes, nlist=16, nprobe=1) for _ in range(2))
    for a, b in zip(one.search(codes, 5), two.search(codes, 5), strict=True):
        assert torch.equal(a, b)


def test_an_ivf_can_be_trained_on_a_sample():
    codes = clustered_codes(1000, 32)
    index = HashIndex(32, "ivf", nlist=16, nprobe=16)
    assert not index.is_trained
    index.train(codes[:100])
    assert index.is_trained
    index.add(codes)
    assert not index.search(codes, 1)[0].any()
