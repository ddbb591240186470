"""What a page opens with: the winner, the best Hamming code, where NMLayer stands."""

from statistics import fmean, stdev

from benchmarks.methods import METHODS
from benchmarks.reporting import contenders, verdict
from benchmarks.reporting.contenders import contenders as all_of


def contender_row(family, values, encoding="code", stored=None, label=None, **more):
    """A row of a summary; values by length, a number or one a seed."""
    cells = {"map": values, **more, **({"stored_bits": stored} if stored else {})}
    return {
        "label": label or family,
        "entry": "e",
        "method": "itq",
        "encoding": encoding,
        "family": family,
        "settings": {},
        "values": {
            metric: {str(bits): _seeds(value) for bits, value in lengths.items()}
            for metric, lengths in cells.items()
        },
        "missing": {},
    }


def _seeds(value):
    many = value if isinstance(value, list) else [value]
    return {str(seed): each for seed, each in enumerate(many)}


def test_three_sentences_from_the_runs():
    pq, nm, raw = [0.5, 0.7], [0.4, 0.5], [0.8, 0.8]
    rows = {
        "pq": contender_row("quantizer", {12: pq}, "pq", label="PQ"),
        "nm": contender_row("nm", {12: nm, 24: [0.9, 0.7]}, label="merged"),
        "direct": contender_row("direct", {12: 0.1, 24: [0.6, 0.6]}, label="alone"),
        "raw": contender_row("floats", {12: raw}, "float", label="raw"),
    }
    rows["direct"]["values"]["map"]["12"] = {"0": 0.99}  # it lacks a seed
    first, second, third = verdict.sentences({"rows": rows})
    assert first == (
        f"Winner by mAP@all: 12 bits: PQ (0.600 ± {stdev(pq):.3f}); "
        "24 bits: merged (0.800 ± 0.141); for reference raw: 0.800 ± 0.000."
    )
    cost = [p - n for p, n in zip(pq, nm, strict=True)]
    difference = f"{fmean(cost):.3f} ± {stdev(cost):.3f}"
    behind = f"merged (0.450 ± {stdev(nm):.3f}), {difference} below the winner"
    assert second == (
        f"Best Hamming code: 12 bits: {behind}; "
        "24 bits: the winner, 0.200 ± 0.141 above the next, alone."
    )
    assert third == (
        f"This package: 12 bits: place 2 of 2, {behind}; 24 bits: place 1 of 2, merged, "
        "0.200 ± 0.141 above the best rival, alone."
    )


def test_a_row_counts_by_its_better_way_and_by_the_bits_that_it_stores():
    rows = {
        "nm": contender_row("nm", {12: 0.3}, label="N", asymmetric_map={12: 0.6}),
        "itq": contender_row("quantizer", {12: 0.4}, label="I"),
        "rabitq": contender_row("quantizer", {12: 0.9}, "rabitq", stored={12: 76}),
        "wide": contender_row("class", {12: 0.8}, stored={12: 13}),
    }
    found = all_of({"rows": rows})
    order = contenders.ranked(found, "map", 12)
    assert [each.label for each in order] == ["N, real query", "I"]
    first, second, third = verdict.sentences({"rows": rows})
    assert first == "Winner by mAP@all: 12 bits: N, real query (0.600)."
    assert second == "Best Hamming code: 12 bits: I (0.400), 0.200 below the winner."
    assert third.endswith("place 1 of 2, N, real query, 0.200 above the best rival, I.")


def test_merged_heads_are_told_from_those_that_saw_what_is_searched():
    rows = {
        "hasher": contender_row("adapted", {12: 0.9}, label="Hasher"),
        "itq": contender_row("quantizer", {12: 0.4}, label="I"),
    }
    own = (
        "This package: 12 bits: place 1 of {}, Hasher, 0.500 above the best rival, I ({})."
    )
    *_, third = verdict.sentences({"rows": rows})
    assert third == own.format(2, "no head that NMLayer merges")
    rows["nm"] = contender_row("nm", {12: 0.3}, label="N")
    *_, third = verdict.sentences({"rows": rows})
    assert third == own.format(3, "NMLayer alone: place 3, N, 0.300")


def test_nothing_is_said_of_what_is_not_there():
    rows = {"itq": contender_row("quantizer", {12: 0.4})}
    *_, third = verdict.sentences({"rows": rows})
    assert third == "This package: no such row has all of its runs."
    rows["itq"]["values"] = {}
    assert verdict.sentences({"rows": rows}) == [
        "No code has all of its runs yet, so there is no winner."
    ]
    assert verdict.finding({"kind": "kernels"}) == ""


def test_several_labels_are_judged_by_ndcg():
    rows = {
        "a": contender_row("nm", {12: 0.9}, label="A", ndcg={12: 0.1}),
        "b": contender_row("direct", {12: 0.1}, label="B", ndcg={12: 0.2}),
    }
    assert verdict.sentences({"rows": rows})[0].startswith(
        "Winner by NDCG@all: 12 bits: B (0.200)"
    )


def test_a_title_says_what_was_compared():
    part = {
        "rows": {"a": contender_row("nm", {24: 1, 12: 1}), "b": contender_row("nm", {})}
    }
    summary = {"kind": "quality", "suite": "s", "datasets": {"x:unseen": part, "y": part}}
    assert verdict.title(summary) == (
        "Suite s: 2 methods at 12 and 24 bits on x:unseen and y"
    )
    timed = {"kind": "kernels", "suite": "k", "kernels": {"a": {}, "b": {}}}
    assert verdict.title(timed) == "Suite k: times of 2 kernels"


def test_every_method_is_explained_in_a_line():
    for name, entry in METHODS.items():
        assert 10 < len(entry.about) < 120, name
        assert entry.about[0].isupper(), name
        assert entry.about.endswith("."), name
