"""Entry x bad input -> error: no public entry takes in silence what it cannot mean."""

import inspect
import re

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses as pml_losses
from pytorch_metric_learning import miners as pml_miners
from pytorch_metric_learning.testers import GlobalEmbeddingSpaceTester
from torch.nn import functional as F

from pml_nmlayer import (
    distances,
    evaluation,
    hamming,
    labels,
    losses,
    miners,
    multilabel,
    ranking,
    regularizers,
    samplers,
)

NAN, INF = float("nan"), float("inf")
CPU = torch.device("cpu")
IDS = torch.arange(8) % 4
ROWS = F.one_hot(IDS, 4)
COLUMN, SOFT, LEVELS = IDS[:, None], ROWS * 0.9 + 0.025, torch.stack([IDS, IDS % 2], 1)
NAMES = ["owl", "cat", "bee", "ant"] * 2
U = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
CODES = torch.where(U >= 0, 1.0, -1.0)
PACKED = torch.full((8, 2), 255, dtype=torch.uint8)
ITEMS, HITS = torch.tensor([[1, 3]]), torch.tensor([[1, 1]])
COUNTS = torch.tensor([[[1, 0], [1, 2]]])
SIDES = CODES, IDS, CODES, IDS


def sides(query=CODES, query_labels=IDS, reference=CODES, reference_labels=IDS):
    return query, query_labels, reference, reference_labels


# What every function of two sides of codes refuses: (arguments, options, message).
BAD_SIDES = [
    (sides(query=CODES * 0.5), {}, "query codes must hold -1 and"),
    (sides(query=(CODES > 0).long()), {}, r"bits of 0 and 1 are 2 \* codes - 1"),
    (sides(query=CODES > 0), {}, r"torch.bool; .* 2 \* codes.float\(\) - 1"),
    (sides(query=CODES * NAN), {}, "query codes must hold"),
    (sides(reference=CODES[:, :9]), {}, "16 bits and database codes 9"),
    (sides(query=PACKED, reference=PACKED), {}, "pass bits="),
    (SIDES, {"bits": 9}, "bits=9, but query codes have 16"),
    (SIDES, {"bits": 16.0}, "bits must be >= 1, a whole number.* got 16.0"),
]
BAD_LABELS = [
    (sides(query_labels=COLUMN, reference_labels=COLUMN), {}, "are a column"),
    (sides(query_labels=SOFT, reference_labels=SOFT), {}, "soft or smoothed rows"),
    (sides(query_labels=LEVELS, reference_labels=LEVELS), {}, r"labels\[:, 0\]"),
    (sides(query_labels=NAMES, reference_labels=NAMES), {}, "LabelMap"),
    (sides(query_labels=IDS + 0.5), {}, "whole numbers"),
    (sides(reference_labels=ROWS), {}, "of one kind"),
    (sides(query_labels=IDS[:3]), {}, "8 items but 3 query labels"),
    (sides(reference_labels=IDS[:3]), {}, "8 items but 3 database labels"),
    (SIDES, {"max_bytes": 100}, "max_bytes must be at least"),
    (SIDES, {"max_bytes": 2.0**28}, "max_bytes must be >= 1, a whole number"),
    (SIDES, {"ref_includes_query": 1}, "must be True or False, got 1"),
    (SIDES, {"relevance": 3}, "must be a function"),
    (SIDES, {"exclude": torch.zeros(8, 8)}, "mask of bool"),
    (SIDES, {"exclude": torch.zeros(8, 7).bool()}, r"shape \(8, 8\)"),
    (sides(reference=-CODES), {"ref_includes_query": True}, "are not those of the queries"),
]
BAD_K = [
    (SIDES, {"k": 2.5}, "k must be >= 1, a whole number.* got 2.5"),
    (SIDES, {"k": True}, "got True"),
    (SIDES, {"k": 0}, "k must be >= 1"),
    (SIDES, {"k": NAN}, "got nan"),
]


def table_of_functions():
    two_sides = {
        hamming.hamming_distance: [],
        hamming.hamming_histograms: BAD_LABELS,
        hamming.grade_histograms: BAD_LABELS,
        ranking.mean_average_precision: BAD_LABELS + BAD_K,
        ranking.ndcg: BAD_LABELS + BAD_K,
        ranking.conventional_average_precision: BAD_LABELS + BAD_K,
        evaluation.sharded_mean_average_precision: BAD_LABELS + BAD_K,
    }
    for function, cells in two_sides.items():
        for arguments, options, message in BAD_SIDES + cells:
            codes_only = function is hamming.hamming_distance
            given = arguments[::2] if codes_only else arguments
            if "relevance" in options and function in (
                hamming.grade_histograms,
                ranking.ndcg,
            ):
                options = {**options, "grades": 3}
            yield (
                function.__name__,
                lambda f=function, a=given, o=options: f(*a, **o),
                message,
            )


def per_query_cells():
    at_k = (
        ranking.precision_at_k,
        ranking.recall_at_k,
        ranking.hit_rate_at_k,
        ranking.tie_aware_average_precision,
    )
    for f in at_k:
        for k, message in ((2.5, "got 2.5"), (True, "got True"), (0, ">= 1"), ("3", "'3'")):
            yield f.__name__, lambda f=f, k=k: f(ITEMS, HITS, k), message
    for f in (ranking.tie_aware_ndcg, ranking.tie_aware_acg, ranking.tie_aware_wap):
        for k, message in ((2.5, "got 2.5"), (True, "got True"), (0, ">= 1")):
            yield f.__name__, lambda f=f, k=k: f(COUNTS, k), message
        yield f.__name__, lambda f=f: f(ITEMS), r"shape \(Q, K \+ 1, G\)"
        yield f.__name__, lambda f=f: f(-COUNTS), "whole numbers >= 0"
        yield f.__name__, lambda f=f: f(COUNTS / 2), "whole numbers >= 0"
    within = (
        ranking.precision_within_radius,
        ranking.recall_within_radius,
        ranking.f1_within_radius,
    )
    for f in within:
        for radius, message in ((-1, ">= 0"), (1.5, "got 1.5"), (NAN, "got nan")):
            yield f.__name__, lambda f=f, r=radius: f(ITEMS, HITS, r), message
    both = (*at_k[:3], *within)
    whole = (ranking.tie_aware_reciprocal_rank, ranking.tie_aware_map_at_r)
    for f in (*both, *whole, ranking.precision_recall_curve):
        rest = (1,) if f in at_k else ()
        for pair, message in (
            ((HITS, ITEMS), "between 0 and items"),
            ((ITEMS, HITS[0]), r"shape \(Q, K \+ 1\)"),
            ((ITEMS * 0.5, HITS * 0.5), "an integer tensor"),
            (([[1, 3]], [[1, 1]]), "an integer tensor"),
        ):
            yield f.__name__, lambda f=f, p=pair, rest=rest: f(*p, *rest), message
    unknown = "must be one of"
    f = ranking.tie_aware_average_precision
    yield f.__name__, lambda: f(ITEMS, HITS, normalizer="all"), unknown
    yield f.__name__, lambda: f(ITEMS, HITS, tie_order="mean"), unknown
    yield "tie_aware_ndcg", lambda: ranking.tie_aware_ndcg(COUNTS, gain="log"), unknown
    yield (
        "tie_aware_reciprocal_rank",
        lambda: ranking.tie_aware_reciprocal_rank(ITEMS, HITS, tie_order=1),
        unknown,
    )
    yield "tied_at_k", lambda: ranking.tied_at_k(ITEMS, 1.5), "got 1.5"
    yield "tied_at_k", lambda: ranking.tied_at_k(ITEMS * 0.5, 1), "an integer tensor"
    yield "mean_over_queries", lambda: ranking.mean_over_queries(U[0], empty=0), unknown
    yield "mean_over_queries", lambda: ranking.mean_over_queries(U[:0, 0]), "no queries"
    for values in (COLUMN, NAMES, IDS[:3]):
        yield (
            "mean_by_class",
            lambda v=values: ranking.mean_by_class(U[:, 0], v),
            "column|LabelMap|8 items but 3",
        )
    yield (
        "precision_within_radius",
        lambda: ranking.precision_within_radius(ITEMS, HITS, 1, empty=2),
        "empty must be >= 0 and <= 1",
    )


PAIRWISE = {
    "DPSHLoss": ["quantization_weight"],
    "DHNLoss": ["quantization_weight"],
    "DSHLoss": ["quantization_weight", "margin"],
    "DFHLoss": ["quantization_weight", "margin", "center_weight", "separation_weight"],
    "DTSHLoss": ["quantization_weight", "margin"],
    "HashNetLoss": ["alpha", "beta_growth"],
    "MIHashLoss": ["sharpness"],
    "TieAwareAPLoss": ["sharpness"],
}
CLASSWISE = {
    "CSQLoss": ["quantization_weight"],
    "DPNLoss": ["margin"],
    "OrthoHashLoss": ["margin", "scale"],
    "GreedyHashLoss": ["quantization_weight"],
    "JMLHLoss": ["kl_weight"],
    "DSDHLoss": ["class_weight", "ridge_weight", "quantization_weight"],
}
FLAGS = {"DPSHLoss", "DHNLoss", "DSHLoss", "DFHLoss", "HashNetLoss", "DSDHLoss"}


def loss_cells():
    for name, weights in {**PAIRWISE, **CLASSWISE}.items():
        sizes = (4, 16) if name in CLASSWISE else ()
        make = getattr(losses, name)
        for weight in weights:
            for value in (NAN, INF, -1, "1", True):
                given = {weight: value}
                yield name, lambda m=make, s=sizes, g=given: m(*s, **g), weight
        if "preset" in inspect.signature(make).parameters:
            yield (
                name,
                lambda m=make, s=sizes: m(*s, preset="papers"),
                "preset must be None",
            )
        if name in FLAGS:
            yield (
                name,
                lambda m=make, s=sizes: m(*s, balanced="no"),
                "balanced must be True",
            )
        yield name, lambda m=make, s=sizes: m(*s)(U[0], IDS), r"shape \(B, K\)"
        yield name, lambda m=make, s=sizes: m(*s)(U.long(), IDS), "tensor of floats"
        yield name, lambda m=make, s=sizes: m(*s)(U, COLUMN), "column"
        yield name, lambda m=make, s=sizes: m(*s)(U, SOFT), "soft or smoothed"
        yield name, lambda m=make, s=sizes: m(*s)(U, LEVELS), r"labels\[:, 0\]"
        yield name, lambda m=make, s=sizes: m(*s)(U, NAMES), "LabelMap"
        yield name, lambda m=make, s=sizes: m(*s)(U), "labels"
    for name in CLASSWISE:
        make = getattr(losses, name)
        for sizes in ((0, 16), (4, 0), (2.5, 16), (4, True)):
            yield name, lambda m=make, s=sizes: m(*s), "num_classes|embedding_size"
        yield name, lambda m=make: m(4, 16)(U, IDS + 1), "namely 1, 2, 3, 4; map yours"
        yield name, lambda m=make: m(4, 16)(U, ROWS[:, 0]), "so whole rows are meant"
        yield name, lambda m=make: m(4, 9)(U, IDS), "embedding_size=9"
    for name in sorted(set(PAIRWISE) - {"MIHashLoss", "TieAwareAPLoss"}):
        make = getattr(losses, name)
        yield (
            name,
            lambda m=make: m()(U, IDS, ref_emb=U[:, :9], ref_labels=IDS),
            "16 columns and ref_emb 9",
        )
    for name in ("MIHashLoss", "TieAwareAPLoss"):
        make = getattr(losses, name)
        yield name, lambda m=make: m(bins=2.5), "bins must be >= 1, a whole number"
    yield "HashNetLoss", lambda: losses.HashNetLoss(beta_interval=1.5), "whole number"
    yield "DFHLoss", lambda: losses.DFHLoss(similarity="dice"), "similarity must be"
    yield "DSDHLoss", lambda: losses.DSDHLoss(4, 16, closed_form=1), "closed_form must be"
    yield "OrthoHashLoss", lambda: losses.OrthoHashLoss(4, 16, margin_type="x"), "or 'arc'"


def wrapper_cells():
    memory, inner = losses.HashCrossBatchMemory, losses.DPSHLoss()
    name = "HashCrossBatchMemory"
    yield name, lambda: memory(inner, 16.0), "embedding_size must be >= 1, a whole"
    yield name, lambda: memory(inner, 16, 0), "memory_size must be >= 1"
    yield name, lambda: memory(inner, 16, 2.5), "memory_size must be >= 1, a whole"
    yield name, lambda: memory(inner, 16, num_classes=1), "num_classes must be >= 2"
    yield name, lambda: memory(inner, 9)(U, IDS), "embedding_size=9 columns"
    yield name, lambda: memory(inner, 16)(U, COLUMN), "are a column"
    yield name, lambda: memory(inner, 16)(U, NAMES), "LabelMap"
    yield name, lambda: memory(inner, 16)(U, IDS + 0.5), "whole numbers"
    yield name, lambda: memory(inner, 16, num_classes=4)(U, SOFT), "soft or smoothed"
    yield name, lambda: memory(losses.CSQLoss(4, 16), 16), "does not support CSQLoss"
    rows = losses.MultiLabelLoss(pml_losses.ContrastiveLoss())
    for bad, message in (
        (COLUMN, "column"),
        (SOFT, "soft"),
        (LEVELS, "ids"),
        (NAMES, "LabelMap"),
        (IDS[:3], "8 items but 3"),
    ):
        yield "MultiLabelLoss", lambda b=bad: rows(U, b), message
        miner = miners.MultiLabelMiner(pml_miners.BatchHardMiner())
        yield "MultiLabelMiner", lambda b=bad, m=miner: m(U, b), message
    yield "MultiLabelLoss", lambda: losses.MultiLabelLoss(torch.nn.MSELoss()), "got MSELoss"
    yield "MultiLabelMiner", lambda: miners.MultiLabelMiner("hard"), "must be a miner"
    yield (
        "MultiLabelMiner",
        lambda: miners.MultiLabelMiner(pml_miners.DistanceWeightedMiner()),
        "class by class",
    )
    views = losses.HashSelfSupervisedLoss
    name = "HashSelfSupervisedLoss"
    yield name, lambda: views(losses.CSQLoss(4, 16)), "does not support CSQLoss"
    yield name, lambda: views(inner, symmetric=1), "symmetric must be True or False"
    yield name, lambda: views(inner)(U, U[:3]), "one row an item"


def other_cells():
    sampler, name = samplers.MultiLabelMPerClassSampler, "MultiLabelMPerClassSampler"
    for m in (0, 2.5, True, "2"):
        yield name, lambda m=m: sampler(IDS, m), "m must be >= 1, a whole number"
    for bad, message in (
        (COLUMN, "column"),
        (SOFT, "soft"),
        (LEVELS, "ids"),
        (IDS + 0.5, "whole"),
        (ROWS[None], r"\(N,\) or \(N, C\)"),
        (torch.zeros(8, 4), "no item has a label"),
    ):
        yield name, lambda b=bad: sampler(b, 2), message
    yield name, lambda: sampler(IDS, 2, 3), "multiple of m = 2"
    yield name, lambda: sampler(IDS, 2, 2.0), "batch_size must be >= 1, a whole"
    yield name, lambda: sampler(IDS, 2, None, 1.5), "length_before_new_iter must be"
    yield name, lambda: sampler(IDS, 2, seed=-1), "seed must be >= 0"
    similarity, name = distances.HammingSimilarity, "HammingSimilarity"
    yield name, lambda: similarity("bit"), "unit must be 'bits'"
    yield name, lambda: similarity(surrogate="sign"), "surrogate must be 'ste'"
    yield name, lambda: similarity()(U.long()), "floats; got torch.int64"
    yield name, lambda: similarity().eval()(U * NAN), "NaN"
    each = (
        regularizers.BitBalanceRegularizer(),
        regularizers.BitDecorrelationRegularizer(),
        regularizers.QuantizationRegularizer(),
        regularizers.WeightedSumRegularizer([regularizers.BitBalanceRegularizer()]),
    )
    for one in each:
        name = type(one).__name__
        yield name, lambda one=one: one(U[0]), r"shape \(B, K\)"
        yield name, lambda one=one: one(U.long()), "tensor of floats"
        yield name, lambda one=one: one([1.0]), "tensor of floats, got list"
    yield (
        "QuantizationRegularizer",
        lambda: regularizers.QuantizationRegularizer("l3"),
        "kind must be one of",
    )
    terms = [regularizers.BitBalanceRegularizer()]
    for weights in ([NAN], [-1], ["1"], [1, 1], [True]):
        yield (
            "WeightedSumRegularizer",
            lambda w=weights: regularizers.WeightedSumRegularizer(terms, w),
            "weights",
        )
    yield "WeightedSumRegularizer", lambda: regularizers.WeightedSumRegularizer([]), "none"
    yield "multilabel", lambda: multilabel.multilabel("trainer"), "trainer or tester class"
    yield "multilabel", lambda: multilabel.multilabel(torch.nn.Linear), "got Linear"
    yield (
        "multilabel",
        lambda: multilabel.multilabel(GlobalEmbeddingSpaceTester)(label_hierarchy_level=1),
        "must be 'all'",
    )


def evaluation_cells():
    make, name = evaluation.HammingAccuracyCalculator, "HammingAccuracyCalculator"
    for options, message in (
        ({"k": 2.5}, "got 2.5"),
        ({"k": (1, NAN)}, "got nan"),
        ({"normalizer": "all"}, "must be one of"),
        ({"empty": None}, "must be one of"),
        ({"max_bytes": 1}, "max_bytes must be >="),
        ({"return_per_class": "yes"}, "must be one of"),
        ({"avg_of_avgs": 1}, "must be True or False"),
        ({"include": ("hamming_map_at_0",)}, "one or more of"),
        ({"include": "hamming_map"}, "tuples of names"),
    ):
        yield name, lambda o=options: make(device=CPU, **o), message
    for outputs, message in (
        ((CODES > 0).long(), "bits of 0 and 1"),
        (CODES > 0, "are bool"),
        (PACKED, "uint8, as packed"),
        (U.sigmoid(), "never negative"),
        (U.relu(), "never negative"),
        (U * NAN, "NaN"),
    ):
        yield name, lambda u=outputs: make(device=CPU).get_accuracy(u, IDS), message
        yield (
            "HammingRetrieval",
            lambda u=outputs: judged_in_batches(u),
            message,
        )
        yield (
            "HammingKNN",
            lambda u=outputs: evaluation.HammingKNN()(u, 1, u),
            (f"{message}|signed dtype"),
        )
    for bad, message in ((COLUMN, "column"), (SOFT, "soft"), (NAMES, "LabelMap")):
        yield name, lambda b=bad: make(device=CPU).get_accuracy(U, b), message
        yield (
            "HammingRetrieval",
            lambda b=bad: evaluation.HammingRetrieval().update(U, b),
            message,
        )
    yield "HammingRetrieval", lambda: evaluation.HammingRetrieval(["map"]), "is no metric"
    for k in (0, 9, 1.5, True):
        yield "HammingKNN", lambda k=k: evaluation.HammingKNN()(U, k, U), "k must"
    yield "HammingKNN", lambda: evaluation.HammingKNN()(U, 1), "no reference codes"
    yield "hash_tester", lambda: evaluation.hash_tester("global"), "must be a class"
    yield "query_share", lambda: evaluation.query_share(-1), "count must be >= 0"
    yield "query_share", lambda: evaluation.query_share(1.5), "a whole number"
    yield (
        "mean_over_ranks",
        lambda: evaluation.mean_over_ranks(U[:, 0], empty="no"),
        "must be one of",
    )
    yield "mean_over_ranks", lambda: evaluation.mean_over_ranks(U[:0, 0]), "no queries"


def judged_in_batches(outputs):
    metric = evaluation.HammingRetrieval()
    for rows in (slice(0, 4), slice(4, 8)):
        metric.update(outputs[rows], IDS[rows])
    return metric.compute()


def label_cells():
    for f in (labels.shared_label, labels.shared_label_count, labels.jaccard):
        for bad, message in ((COLUMN, "column"), (SOFT, "soft"), (LEVELS, "ids")):
            yield f.__name__, lambda f=f, b=bad: f(b), message
        yield f.__name__, lambda f=f: f(IDS, ROWS), "of one kind"
    yield "class_rows", lambda: labels.class_rows(IDS, 3), "namely 0, 1, 2, 3; map yours"
    yield "class_rows", lambda: labels.class_rows(SOFT, 4), "soft or smoothed"
    yield "class_rows", lambda: labels.class_rows(ROWS, 5), "num_classes=5 columns"
    yield "check_labels", lambda: labels.check_labels(IDS, 9), "9 items but 8"
    yield "check_labels", lambda: labels.check_labels(COLUMN, 8), "column"
    yield "check_label_pair", lambda: labels.check_label_pair(IDS, ROWS), "of one kind"
    yield "as_labels", lambda: labels.as_labels(NAMES), "LabelMap"
    yield "as_labels", lambda: labels.as_labels(np.array(NAMES)), "LabelMap"
    yield "as_labels", lambda: labels.as_labels(None), "LabelMap"
    yield "as_label_sets", lambda: labels.as_label_sets(SOFT), "soft"
    yield "as_label_sets", lambda: labels.as_label_sets(COLUMN), "column"
    yield (
        "check_miner",
        lambda: labels.check_miner(pml_miners.DistanceWeightedMiner()),
        "class by class",
    )
    yield "LabelMap", lambda: labels.LabelMap([]), "no ids"
    yield "LabelMap", lambda: labels.LabelMap(NAMES)(["dog"]), "has not seen"
    yield "LabelSets", lambda: torch.unique(labels.LabelSets(ROWS)), "needs class ids"
    for value, message in (((IDS[:3] > 0), "shape"), (ROWS @ ROWS.T / 3, "integers")):
        yield (
            "relevance_grades",
            lambda v=value: labels.relevance_grades(lambda a, b: v, IDS, IDS),
            message,
        )
    yield (
        "check_not_a_column",
        lambda: labels.check_not_a_column(ROWS[:, 0], 4),
        "whole rows are meant",
    )
    yield "distinct_codes", lambda: hamming.distinct_codes(U), "codes must hold"
    yield "distinct_codes", lambda: hamming.distinct_codes(PACKED), "pass bits="
    for f in (hamming.as_exclusion,):
        yield f.__name__, lambda f=f: f((IDS, IDS), 8, 9), r"shapes \(8,\) and \(9,\)"
        yield f.__name__, lambda f=f: f((NAMES, NAMES), 8, 8), "LabelMap"


CELLS = [
    *table_of_functions(),
    *per_query_cells(),
    *loss_cells(),
    *wrapper_cells(),
    *other_cells(),
    *evaluation_cells(),
    *label_cells(),
]


@pytest.mark.parametrize("name", sorted({name for name, _, _ in CELLS}))
def test_is_refused(name):
    faults = []
    for i, (entry, call, message) in enumerate(CELLS):
        if entry == name:
            try:
                faults.append(f"{i}: took it, and returned {call()}")
            except (ValueError, TypeError, NotImplementedError) as error:
                if not re.search(message, str(error)):
                    faults.append(f"{i}: says {error}, not {message}")
    assert faults == []


# Rules, constants, parts that other rooms use after these checks, and NMLoss, which has
# tests of its own.
NOT_ENTRIES = {
    *("Relevance", "Exclude", "MAX_BYTES", "Normalizer", "Gain", "Empty", "TieOrder"),
    *("HAMMING_METRICS", "NMLoss", "width_of_rows", "exclude_rows", "pair_counter"),
    *("checked_codes", "is_readable"),
}


def test_the_table_is_whole():
    rooms = (labels, hamming, ranking, evaluation, losses, miners, samplers, distances)
    wanted = {
        name
        for room in (*rooms, regularizers)
        for name, thing in vars(room).items()
        if not name.startswith("_") and not inspect.ismodule(thing)
    }
    assert wanted - NOT_ENTRIES == {name for name, _, _ in CELLS} & wanted
    assert len(CELLS) >= 400
