"""What methods promise beyond fitting and encoding: controls, diagnostics, budgets."""

import re
from dataclasses import replace

import faiss
import numpy as np
import pytest
import torch
import yaml
from torch.nn.functional import normalize

from benchmarks import tuned_files, tuning
from benchmarks.interface import ASYMMETRIC, FAMILIES, Pair, Problem, Unsuited, add_method
from benchmarks.methods import METHODS, few_anchors
from benchmarks.methods.classifier import codewords
from benchmarks.methods.few_anchors import FewAnchors
from benchmarks.methods.hash_learner import mean_abs_correlation
from benchmarks.methods.merging import Merging
from benchmarks.methods.own_losses import OWN
from benchmarks.methods.pml_losses import PML
from benchmarks.methods.scorers import scorer_of
from benchmarks.methods.square_batches import square_batches
from benchmarks.reporting.judge import judge
from benchmarks.reporting.notes import protocol
from benchmarks.running.quality import execute
from benchmarks.specs import make_spec
from benchmarks.suite_files import load_suite, load_suites, suite_names
from benchmarks.suites import QualitySuite, Tuned
from benchmarks.training.heads import has_constant_width
from benchmarks.training.seeding import seed_everything
from pml_nmlayer.classes.objectives import class_nll, label_residual
from pml_nmlayer.codes import binarize
from pml_nmlayer.merging.scorers import Codewords, Correlation
from tests import naive
from tests.benchmarks.conftest import ROOT

PROBLEM = Problem(in_features=8, num_classes=4, bits=6, epochs=3, decay=0.4, batch_size=16)
FEATURES = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 4
# These look at class ids, or keep a vector of their own for each class.
ONE_CLASS = {"nca", "fastap", "smoothap", "proxy_anchor", "proxy_nca"}
ONE_CLASS |= {"arcface", "cosface", "softtriple"}


@pytest.fixture(autouse=True)
def _deterministic(one_thread):
    seed_everything(0)


def codes_of(method):
    """All codes by name, without real queries."""
    found = method.encode(FEATURES)
    return {n: each for n, each in found.items() if not n.endswith(ASYMMETRIC)}


def trained(name, problem=PROBLEM, **options):
    seed_everything(0)
    method = METHODS[name].factory(problem, **METHODS[name].settings(options))
    method.fit(FEATURES, LABELS)
    return method


def test_every_loss_has_its_methods():
    for name in OWN:
        assert {name, f"{name}_nm"} <= set(METHODS)
    for name in PML:
        assert {name, f"{name}_reg", f"{name}_post", f"{name}_nm"} <= set(METHODS)
    for name in METHODS:
        assert len(set(METHODS[name].space) - {"lr", "start"}) <= 2, name


def test_family_and_loss_are_fields():
    losses = {**OWN, **PML}
    for name, entry in METHODS.items():
        assert entry.family in FAMILIES
        assert entry.loss is None or entry.loss in losses
        with_loss = entry.family in ("direct", "reg", "nm", "post", "control")
        assert with_loss is (entry.loss is not None), name
        assert entry.source is None
    found = {n: METHODS[n].family for n in ("dpsh", "supcon", "supcon_tanh", "supcon_wide")}
    assert list(found.values()) == ["direct", "direct", "direct", "control"]
    for end in ("reg", "nm", "post"):
        assert METHODS[f"supcon_{end}"].family == end
    with pytest.raises(ValueError, match="unknown family 'merged'; known: direct, reg, nm"):
        add_method("x", "X", lambda problem: None, space={}, family="merged")


def test_an_unknown_option_of_merging_names_the_known():
    for option in ("merge", "gradient", "scorers"):
        with pytest.raises(ValueError, match=f"unknown option of .* '{option}'; known: lr"):
            METHODS["supcon_nm"].settings({option: "tanh"})
    with pytest.raises(TypeError, match="merge"):
        Merging(merge="tanh")
    merging, rest = Merging.taken_from({"lr": 0.1, "longest": 96, "margin": 1})
    assert (merging.longest, rest) == (96, {"lr": 0.1, "margin": 1})
    assert merging.lengths(12) == (96, 48, 24, 12)
    assert replace(merging, merges=1).lengths(12) == (96, 12)


def test_heads_and_their_losses_are_made_in_one_place():
    made = {
        path.name: re.findall(r"\b(?:ProgressiveHead|NMLoss)\(", path.read_text())
        for path in (ROOT / "benchmarks").rglob("*.py")
    }
    assert {name: len(calls) for name, calls in made.items() if calls} == {"heads.py": 2}


@pytest.mark.parametrize("name", list(METHODS))
def test_several_labels_an_item_work_or_do_not_suit(name):
    problem = replace(PROBLEM, num_classes=5, epochs=1, multi_label=True)
    rows = (torch.rand(40, 5) < 0.4).long()
    entry = METHODS[name]
    short = {"longest": 12} if "longest" in entry.defaults() else {}
    if entry.loss in ONE_CLASS:
        with pytest.raises(Unsuited, match="class"):
            entry.factory(problem, **entry.settings(short))
        return
    method = entry.factory(problem, **entry.settings(short))
    more = {"database": FEATURES} if getattr(method, "uses_database", False) else {}
    if name == "class_codes" or "whitened" in name:
        with pytest.raises(Unsuited, match="one class an item"):
            method.fit(FEATURES, rows, **more)
        return
    method.fit(FEATURES, rows, **more)
    codes = method.encode(FEATURES)[entry.encodings[0]]
    codes = codes.stored if isinstance(codes, Pair) else codes
    assert len(codes) == 40
    assert len(codes.unique(dim=0)) > 1


def test_static_groups_are_there_from_the_start_and_stay():
    entry = METHODS["supcon_nm"]
    method = entry.factory(PROBLEM, **entry.settings({"scorer": "static", "longest": 24}))
    neighbours = torch.zeros(6, 24)
    for bit in range(24):
        neighbours[bit // 4, bit] = 1 / 4
    head = method.head
    assert head.finished
    assert torch.equal(head.merge_matrix(), neighbours)
    before = head.linear.weight.clone()
    method.fit(FEATURES, LABELS)
    assert torch.equal(head.merge_matrix(), neighbours)
    assert not torch.equal(head.linear.weight, before)
    learned = trained("supcon_nm", longest=24)
    assert method.head_parameters() == learned.head_parameters()
    assert not torch.equal(learned.head.merge_matrix() != 0, neighbours != 0)


@pytest.mark.parametrize("bits", [12, 24, 32, 48])
@pytest.mark.parametrize("longest", [48, 96])
def test_two_layers_have_as_many_numbers_as_the_longest_code(bits, longest):
    problem = replace(PROBLEM, bits=bits)
    wide, merged = (
        METHODS[name].factory(problem, **METHODS[name].settings({"longest": longest}))
        for name in ("supcon_wide", "supcon_nm")
    )
    mine, most = wide.head_parameters()[0], merged.head_parameters()[0]
    assert 0.9 * most < mine <= most


def test_scorers_by_name_and_weighting():
    assert scorer_of("correlation", None).weighting == "importance"
    assert scorer_of("correlation", "equal").weighting == "equal"
    assert scorer_of("random", "importance").weighting == "importance"
    for name in ("prune", "static"):
        with pytest.raises(ValueError, match=f"scorer {name} has weights of its own"):
            scorer_of(name, "equal")
    with pytest.raises(ValueError, match="unknown scorer 'dropone'; known: correlation"):
        scorer_of("dropone", None)
    for option in ({"trace": True}, {"max_group": 4}):
        with pytest.raises(ValueError, match="scorer static has groups of its own"):
            trained("supcon_nm", scorer="static", **option)


def weights_of(method):
    terms = method.loss.class_terms(LABELS)
    return terms.codeword_weight, terms.class_weight, terms.label_weight


def test_options_of_merging_reach_the_head():
    options = {"scorer": "drop_one", "weighting": "importance", "longest": 12}
    head = trained("dpsh_nm", **options, max_group=3).head
    (layer,) = head.layers
    assert head.all_bits == (12, 6)
    assert layer.max_group == 3
    assert repr(layer.scorer) == repr(scorer_of("drop_one", "importance"))
    assert head.classes is None
    told = trained("dpsh_nm", longest=12, classes=True, readout=0.3)
    assert weights_of(told) == (0, 1, 3)  # four classes can be read from six bits
    given = {"codeword_weight": 2.0, "label_weight": 0.5}
    assert weights_of(trained("csq_nm", longest=12, classes=True, **given)) == (2, 1, 0.5)
    for option in ({"codeword_weight": 2.0}, {"label_weight": 0.5}, {"readout": 0.3}):
        with pytest.raises(ValueError, match="without classes nothing is taught"):
            trained("dpsh_nm", longest=12, **option)
    towards = trained("dpsh_nm", longest=12, scorer="codewords")
    assert weights_of(towards) == (0, 0, 0)
    assert towards.head.num_classes == 4
    assert towards.head.classes.classifier is None
    assert told.head.classes.classifier.out_features == 4
    assert told.head.classes.scale(6) == pytest.approx(0.3 * (4 / 6) ** 0.5)
    assert has_constant_width(trained("csq_nm").head)
    assert has_constant_width(trained("greedyhash_nm", classes=True).head)
    for name in ("csq_nm", "orthohash_nm", "dpn_nm"):  # whose centres a merge finds anew
        centred = trained(name, longest=12, classes=True)
        assert not has_constant_width(centred.head)
        base, like = centred.loss.loss, torch.zeros(1, 6)
        assert torch.equal(base.centres(like), centred.head.codewords(6))
    assert not has_constant_width(trained("dpsh_nm").head)
    assert not has_constant_width(trained("dsdh_nm").head)


def test_a_merge_may_change_the_learning_rate():
    method = trained("supcon_nm_stage_lr", longest=24, stage_lr=0.5)
    assert method.head.all_bits == (24, 12, 6)
    assert method.lr_factor() == 0.25
    plain, other = (trained(m, longest=24) for m in ("supcon_nm_stage_lr", "supcon_nm"))
    assert torch.equal(plain.encode(FEATURES)["code"], other.encode(FEATURES)["code"])
    assert not torch.equal(plain.head.linear.weight, method.head.linear.weight)
    with pytest.raises(ValueError, match="stage_lr must be > 0, got 0"):
        trained("supcon_nm_stage_lr", stage_lr=0.0)
    with pytest.raises(ValueError, match=r"stage_lr=0\.5 and"):
        trained("supcon_nm_stage_lr", scorer="static", stage_lr=0.5)


def test_weights_of_groups_are_learned_only_if_asked_for():
    learned, kept = (
        trained("supcon_nm", longest=12, classes=True, learn_weights=learn)
        for learn in (True, False)
    )
    for method, changed in ((learned, True), (kept, False)):
        found = method.diagnostics()
        (layer,) = method.head.layers
        assert np.array_equal(found["groups_1"], layer.groups.numpy())
        now = layer.weights.detach().numpy()
        assert np.array_equal(found["weights_1"], now) is not changed
        codes = method.head.codes(method.trunk(FEATURES))
        assert torch.equal(method.encode(FEATURES)["code"], codes)
    with pytest.raises(ValueError, match="learn_weights=True out"):
        trained("supcon_nm", scorer="static", learn_weights=True)


def test_scorer_and_codewords_are_those_of_the_package_unless_named():
    for classes, kind in ((False, Correlation), (True, Codewords)):
        head = trained("dpsh_nm", longest=12, classes=classes).head
        (layer,) = head.layers
        assert type(layer.scorer) is kind
        assert head.classes is None or head.classes.spare_codewords == 0
    head = trained("dpsh_nm", longest=12, classes=True, spare_codewords=2).head
    assert head.classes.spare_codewords == 2
    with pytest.raises(ValueError, match="weighting='equal' needs a scorer that is named"):
        trained("dpsh_nm", weighting="equal")


def test_the_control_without_merging_has_codewords_and_a_classifier():
    method = trained("supcon_codewords")
    head, read_out = method.head, method.head.classes
    words = head.codewords()
    assert len(words.unique(dim=0)) == 4
    with torch.no_grad():
        x = method.trunk(FEATURES)
        scores = read_out.classifier(x)
        u = head.linear(x) + 0.6 * (4 / 6) ** 0.5 * scores.softmax(1) @ words
        torch.testing.assert_close(head(x), u.tanh())
        expected = {
            "loss": method.loss.loss(u.tanh(), LABELS),
            "labels": 3 * label_residual(binarize(u), LABELS, 4, 0.3),
            "classes": class_nll(scores, LABELS),
        }
        torch.testing.assert_close(method.loss.terms(head(x), LABELS, None), expected)


def test_a_class_is_its_codeword_and_several_labels_vote():
    codebook = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, -1, 1]])
    scores = torch.tensor([[0.0, 3, 1], [9, -9, -9]])
    found = codewords(scores, codebook, multi_label=False)["code"]
    assert found.tolist() == [[1, -1, -1], [1, 1, 1]]
    # Probabilities 1/2, 0.9526, 0.7311: sums 0.7215, -1.1837, 0.2785; then 1, 0, 0.
    votes = codewords(scores, codebook, multi_label=True)["code"]
    assert votes.tolist() == [[1, -1, 1], [1, 1, 1]]
    codes = trained("classifier_codes").encode(FEATURES)["code"]
    assert len(codes.unique(dim=0)) <= 4


def test_quantized_embeddings_are_what_faiss_makes_of_directions():
    method = trained("supcon_post")
    found = method.encode(FEATURES)
    with torch.no_grad():
        vectors = normalize(method.head(method.trunk(FEATURES)))
    (itq,), (rotation,) = method.ways["itq"].transforms, method.ways["lsh"].transforms[1:]
    again = faiss.ITQTransform(128, 6, True)
    again.itq.max_iter, again.itq.seed = 50, itq.itq.seed
    again.train(vectors.numpy())
    signs = np.where(again.apply(vectors.numpy()) >= 0, 1, -1)
    np.testing.assert_array_equal(found["itq"], signs)

    centred = (vectors - vectors.mean(0)).double()
    axes = torch.linalg.svd(centred)[2][:6]
    principal = (centred @ axes.T).sign()
    flips = (found["pca"] * principal)[0]  # the direction of an axis is anyone's choice
    assert torch.equal(found["pca"].double(), principal * flips)

    directions = faiss.vector_to_array(rotation.A).reshape(6, 128)
    expected = np.where(centred.numpy() @ directions.T >= 0, 1, -1)
    np.testing.assert_array_equal(found["lsh"], expected)


def test_regularizers_of_no_weight_change_nothing():
    codes = [
        trained(name, **options).encode(FEATURES)["sign"]
        for name, options in (
            ("contrastive", {}),
            ("contrastive_reg", {"regularizer_weight": 0.0}),
            ("contrastive_reg", {"regularizer_weight": 1.0}),
        )
    ]
    assert torch.equal(codes[0], codes[1])
    assert not torch.equal(codes[0], codes[2])
    outputs = [
        method.head(method.trunk(FEATURES)).abs().sub(1).square().mean()
        for method in (trained("contrastive_reg", regularizer_weight=w) for w in (0.0, 3.0))
    ]
    assert outputs[1] < outputs[0]


def test_diagnostics_of_a_merged_head():
    method = trained("supcon_nm", longest=24)
    found = method.diagnostics()
    shapes = {name: values.shape for name, values in found.items()}
    assert shapes == {
        "correlation_1": (24, 24),
        "importance_1": (24,),
        "groups_1": (24,),
        "weights_1": (24,),
        "correlation_2": (12, 12),
        "importance_2": (12,),
        "groups_2": (12,),
        "weights_2": (12,),
        "importance_start": (24,),
        "importance_end": (6,),
        "mean_abs_correlation": (),
    }
    assert found["correlation_1"].min() < 0  # signed
    for m, bits in ((1, 12), (2, 6)):
        sums = np.zeros(bits)
        np.add.at(sums, found[f"groups_{m}"], np.abs(found[f"weights_{m}"]))
        np.testing.assert_allclose(sums, 1, rtol=1e-5)
    assert np.abs(found["importance_1"]).sum() > 0

    codes = method.encode(FEATURES)["code"].tolist()
    expected = naive.drop_one_importance(codes, LABELS.tolist(), threshold=True)
    np.testing.assert_allclose(found["importance_end"], expected, atol=1e-5)

    equal = trained("supcon_nm", longest=12, scorer="correlation", weighting="equal")
    assert "importance_1" not in equal.diagnostics()  # nobody looked
    assert sorted(trained("dpsh").diagnostics()) == [
        "importance_end",
        "mean_abs_correlation",
    ]


def test_mean_correlation_of_a_code():
    codes = torch.randn(50, 6).sign()
    rho = np.abs(np.corrcoef(codes.numpy().T))
    expected = (rho.sum() - 6) / 30
    np.testing.assert_allclose(mean_abs_correlation(codes), expected, rtol=1e-5)
    found = trained("dpsh").diagnostics()["mean_abs_correlation"]
    np.testing.assert_array_equal(
        found, mean_abs_correlation(trained("dpsh").encode(FEATURES)["code"])
    )


def test_few_anchors_with_one_positive_and_all_negatives(monkeypatch):
    labels, nothing = torch.tensor([0, 0, 0, 1, 1, 2]), torch.rand(6, 3)
    anchors, positives, others, negatives = FewAnchors()(nothing, labels)
    assert sorted(anchors.tolist()) == [0, 1, 2, 3, 4]
    assert torch.equal(labels[anchors], labels[positives])
    assert not (anchors == positives).any()
    pairs = set(zip(others.tolist(), negatives.tolist(), strict=True))
    assert pairs == {(i, j) for i in range(5) for j in range(6) if labels[i] != labels[j]}

    monkeypatch.setattr(few_anchors, "MOST", 1)
    drawn = set()
    for _ in range(60):
        anchors, positives, others, _ = FewAnchors()(nothing, labels)
        assert set(others.tolist()) == set(anchors.tolist())
        drawn |= set(zip(anchors.tolist(), positives.tolist(), strict=True))
    assert len(drawn) == 3 * 2 + 2


def test_a_trace_shows_the_codes_around_merges_and_changes_nothing():
    plain = codes_of(trained("supcon_nm", longest=24))
    assert list(plain) == ["code"]
    method = trained("supcon_nm", longest=24, trace=True)
    found = codes_of(method)
    widths = {name: values.shape[1] for name, values in found.items()}
    assert widths == {
        "code": 6,
        "before_1": 24,
        "after_1": 12,
        "before_2": 12,
        "after_2": 6,
    }
    assert torch.equal(found["code"], plain["code"])
    assert not torch.equal(found["after_1"], found["before_2"])  # trained in between

    # Three merges in three epochs: the last one is the end of training.
    ends = trained("supcon_nm", longest=48, trace=True)
    found = ends.encode(FEATURES)
    assert torch.equal(found["after_3"], found["code"])
    # A merge averages bits, before tanh, so a group of one mind keeps its sign.
    groups, weights = (ends.diagnostics()[f"{name}_3"] for name in ("groups", "weights"))
    votes = found["before_3"] * torch.from_numpy(weights).sign()
    for group in range(6):
        members = votes[:, torch.from_numpy(groups == group)]
        agreed = (members == members[:, :1]).all(1)
        assert agreed.any()
        assert torch.equal(found["after_3"][agreed, group], members[agreed, 0])


def digits_spec(**changes):
    suite = load_suite("quick", with_tuned=False)
    entry = replace(suite.entry("supcon_nm"), options={"longest": 24, "trace": True})
    spec = make_spec(suite, entry, 12, 5, settings={})
    return {**spec, "epochs": 2, **changes}


def test_traces_are_judged_by_their_own_length_and_diagnostics_are_not():
    _, arrays = execute(digits_spec())
    values = judge(arrays, bits=12)
    assert set(values) == {"code", "before_1", "after_1"}
    assert arrays["diagnostic_correlation_1"].shape == (24, 24)
    assert arrays["query_before_1"].shape == (200, 3)
    names = ("query", "database")
    alone = {f"{name}_code": arrays[f"{name}_before_1"] for name in names}
    alone |= {f"{name}_labels": arrays[f"{name}_labels"] for name in names}
    assert values["before_1"] == judge(alone, bits=24)["code"]
    assert values["before_1"]["map"] > 0.2  # by chance 0.1


def test_a_head_beyond_the_budget_is_an_error():
    numbers = 24 * 257
    record, _ = execute(digits_spec(head_parameters=numbers))
    assert record["head_parameters"]["training"] == numbers
    message = "head of supcon_nm has 6,168 numbers while training.*: 6,167; choose smaller"
    with pytest.raises(ValueError, match=message):
        execute(digits_spec(head_parameters=numbers - 1))
    raw = {"method": "itq", "settings": {"iterations": 1}}  # no trunk, so no budget
    record, _ = execute(digits_spec(head_parameters=1, **raw))
    assert record["head_parameters"]["training"] == 12 * 65


def test_square_batches_hold_as_many_items_as_classes():
    labels = torch.tensor([0] * 5 + [1] * 2 + [2] * 7 + [3] * 4 + [4] * 3)[
        torch.randperm(21)
    ]
    drawn = square_batches(labels, 16)  # at most 4 x 4; only three classes have 4 items
    assert len(drawn) == 21 // 16
    (rows,) = drawn
    assert len(set(rows.tolist())) == 9
    found = labels[rows].tolist()
    assert all(found[i] == found[i - i % 3] for i in range(9))  # class by class
    assert len(set(found)) == 3
    assert 1 not in found


SUITE = """kind: quality
dataset: digits
bits: [12, 24, 48]
seeds: [0]
epochs: 2
decay: 0.4
batch_size: 128
timeout_s: 60
head_parameters: 9000
methods: [supcon, pca_sign]
tuning: {trials: 3, seeds: [7], bits: [24]}
"""


def test_a_search_covers_the_lengths_that_it_names(tmp_path):
    path = tmp_path / "s.yml"
    path.write_text(SUITE)
    suite = load_suite(str(path))
    specs = tuning.plan(suite)
    assert {spec["bits"] for spec in specs} == {24}
    assert {spec["head_parameters"] for spec in specs} == {9000}
    content = yaml.safe_load(tuned_files.text_of(suite, tuned_files.whole(suite, {})))
    assert content["bits"] == [24]
    assert content["recipe"]["head_parameters"] == 9000

    path.write_text(SUITE.replace(", bits: [24]", ""))
    assert load_suite(str(path)).tuning.bits == (12, 24, 48)
    path.write_text(SUITE.replace("bits: [24]", "bits: [16]"))
    with pytest.raises(
        ValueError, match=r"unknown bits of tuning in s\.yml 16; known: 12,"
    ):
        load_suite(str(path))


def test_a_report_says_the_budget(tmp_path):
    path = tmp_path / "s.yml"
    path.write_text(SUITE)
    suite = load_suite(str(path))
    text = " ".join(protocol(suite, [], "command"))
    assert "2 epochs, no trials of tuning, 1 seeds, a head of at most 9,000" in text
    searched = replace(suite, tuned=Tuned("s_tuned.yml", {}), head_parameters=None)
    text = " ".join(protocol(searched, [], "command"))
    assert "2 epochs, 3 trials of tuning, 1 seeds, a head of any size" in text
    assert "on validation queries at 24 bits with seeds 7" in text


def test_shipped_suites_keep_to_one_budget():
    for name in ("features", "ablation"):
        for suite in load_suites(name, with_tuned=False):
            assert len(suite.seeds) >= 5
            assert suite.head_parameters is not None
            assert suite.tuning is not None
    # Every registered method takes part somewhere: as it is, or as a variant.
    entries = [
        entry
        for name in suite_names()
        for suite in load_suites(name, with_tuned=False)
        if isinstance(suite, QualitySuite)
        for entry in suite.entries
    ]
    assert {entry.method for entry in entries} == set(METHODS)


def test_longer_codes_that_the_head_keeps_are_encodings():
    for longer in ("snapshot", "joint"):
        method = trained("supcon_nm", longest=24, longer=longer)
        found = codes_of(method)
        assert {n: v.shape[1] for n, v in found.items()} == {
            "code": 6,
            "at_24": 24,
            "at_12": 12,
        }
        with torch.no_grad():
            codes = method.head.codes(method.trunk(FEATURES), bits=12)
        assert torch.equal(found["at_12"], codes)
