import pytest
import torch
from torch import nn

from benchmarks.interface import ASYMMETRIC, MethodEntry, Pair, Problem
from benchmarks.methods import METHODS
from benchmarks.methods.hashing import chain, merge_epochs
from benchmarks.running.quality import execute
from benchmarks.specs import make_spec
from benchmarks.suite_files import load_suite
from benchmarks.training.learner import HIDDEN, Learner, batches, decayed
from benchmarks.training.seeding import seed_everything

PROBLEM = Problem(in_features=8, num_classes=4, bits=6, epochs=5, decay=0.4, batch_size=16)


@pytest.fixture(autouse=True)
def _deterministic(one_thread):
    seed_everything(0)


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_fits_and_encodes(name):
    entry = METHODS[name]
    method = entry.factory(PROBLEM, **entry.defaults())
    features, labels = torch.rand(40, 8), torch.arange(40) % 4
    more = {"database": features} if getattr(method, "uses_database", False) else {}
    if name == "label_codes":
        labels = torch.nn.functional.one_hot(labels)
    method.fit(features, labels, **more)
    found = method.encode(features)
    names = {each for each in found if not each.endswith(ASYMMETRIC)}
    assert names == set(entry.encodings)
    for encoding, values in found.items():
        if isinstance(values, Pair):
            assert len(values.queries) == 40
            stored = values.stored
            if stored is None and not encoding.endswith(ASYMMETRIC):
                raise AssertionError("only real queries may do without what is stored")
            assert stored is None or stored.shape == values.queries.shape
            continue
        assert len(values) == 40
        if encoding != "float":
            assert values.shape == (40, 6)
            assert bool((values.abs() == 1).all())
    training, serving = method.head_parameters()
    assert min(training, serving) >= 0


def test_codes_of_another_length_are_refused(monkeypatch):
    suite = load_suite("quick", with_tuned=False)
    spec = make_spec(suite, suite.entry("itq"), 12, 0, {"iterations": 1})
    entry = MethodEntry("x", lambda problem: EightBits(), {}, ("code",))
    monkeypatch.setitem(METHODS._items, "eight bits", entry)
    with pytest.raises(ValueError, match=r"asked for 12 bits, got codes \(1797, 8\)"):
        execute({**spec, "method": "eight bits", "settings": {}})


class EightBits:
    def fit(self, features, labels):
        assert len(features) == len(labels) == 700

    def encode(self, features):
        return {"code": torch.ones(len(features), 8)}


def test_every_item_is_seen_once_an_epoch_but_for_the_rest():
    rows = batches(50, 16)
    assert [len(r) for r in rows] == [16, 16, 16]
    assert len(set(torch.cat(rows).tolist())) == 48


def test_the_learning_rate_is_held_then_falls_to_zero():
    assert decayed(0, 0.4) == decayed(0.6, 0.4) == 1
    assert decayed(0.8, 0.4) == pytest.approx(0.5)
    assert decayed(1, 0.4) == pytest.approx(0)
    assert decayed(0.5, 1) == pytest.approx(0.5)


class Sum(nn.Module):
    """The mean output, times a parameter of the loss' own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, embeddings, labels, tuples):
        assert tuples is None
        return self.scale * embeddings.mean()


def test_the_loop_calls_back_and_trains_what_it_should():
    seen = []
    loss = Sum()
    learner = Learner(PROBLEM, nn.Linear(HIDDEN, 6), loss, 0.1, after_epoch=seen.append)
    before = [p.clone() for p in (*learner.trunk.parameters(), *learner.head.parameters())]
    learner.fit(torch.rand(40, 8), torch.arange(40) % 4)
    assert seen == [1, 2, 3, 4, 5]
    after = [*learner.trunk.parameters(), *learner.head.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert loss.scale.item() == 1  # no learning rate of its own, no training

    learner = Learner(PROBLEM, nn.Linear(HIDDEN, 6), loss, 0.1, loss_lr=0.1)
    learner.fit(torch.rand(40, 8), torch.arange(40) % 4)
    assert loss.scale.item() != 1


def test_learning_rates_follow_a_factor():
    factor = 1.0
    learner = Learner(PROBLEM, nn.Linear(HIDDEN, 6), nn.Module(), 0.1)
    learner.lr_factor = lambda: factor
    seen = []

    def step(inputs, labels, optimizers):
        seen.append(optimizers[0].param_groups[0]["lr"])
        optimizers[0].step()  # the scheduler asks for it

    learner.step = step

    def halve(epoch):
        nonlocal factor
        factor = 0.5

    learner.after_epoch = halve
    learner.fit(torch.rand(40, 8), torch.arange(40) % 4)
    each = len(seen) // PROBLEM.epochs
    assert seen[: each + 1] == [0.1] * (each + 1)  # the rate is set a step ahead
    assert seen[each + 1] == pytest.approx(0.05)


def test_a_head_is_merged_to_its_end_within_the_epochs():
    problem = Problem(8, 4, bits=12, epochs=10, decay=0.4, batch_size=16)
    entry = METHODS["dpsh_nm"]
    method = entry.factory(problem, **entry.defaults())
    assert method.head.all_bits == (48, 24, 12)
    method.fit(torch.rand(40, 8), torch.arange(40) % 4)
    assert method.head.finished
    assert merge_epochs(problem, 3, 0.3) == [1, 2, 3]
    assert merge_epochs(problem, 3, 0.9) == [3, 6, 9]
    assert merge_epochs(problem, 3, 0.1) == [1, 2, 3]  # one epoch each, at least
    assert merge_epochs(problem, 0, 0.3) == []
    with pytest.raises(ValueError, match="2 epochs are too few for 3 merges"):
        merge_epochs(Problem(8, 4, 2, 2, 0.4, 16), 3, 0.3)


@pytest.mark.parametrize(
    ("bits", "expected"),
    [(12, (48, 24, 12)), (24, (48, 24)), (32, (64, 32)), (48, (96, 48))],
)
def test_chains_keep_to_the_longest_but_merge_at_least_once(bits, expected):
    assert chain(bits, longest=48) == expected
