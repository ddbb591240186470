"""States that version 0.1.0 saved give today what they gave then, or are refused."""

from pathlib import Path

import pytest
import torch
from torch import nn

from pml_nmlayer.layers import ProgressiveHead

FOLDER = Path(__file__).parents[1] / "states_0_1_0"
LOADABLE = ("plain", "lifted", "classes", "classes_two_merges_joint", "unmerged")
GONE = {
    "after_tanh": ("merge", "merge='tanh'"),
    "full_gradient": ("gradient", "gradient='full'"),
    "merge_cost": ("scorer", "scorer=.MergeCost"),
}


def saved(name):
    """What 0.1.0 saved: options, state, inputs x, outputs in eval mode, and codes."""
    return torch.load(FOLDER / f"{name}.pt", weights_only=True)


def head_of(options):
    """A head of today's with the options of 0.1.0, as far as these still exist."""
    options = {**options, "constant_width": options.get("lift", False)}
    for name in ("lift", "merge", "gradient"):
        options.pop(name, None)
    if options.get("scorer") == "merge_cost":
        options.pop("scorer")
    options.setdefault("spare_codewords", 0)  # the default of then
    torch.manual_seed(99)  # nothing comes from it
    return ProgressiveHead(6, **options)


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_equal_states(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_all_saved_states_are_tested():
    assert {path.stem for path in FOLDER.glob("*.pt")} == {*LOADABLE, *GONE}


@pytest.mark.parametrize("part_of_a_model", [False, True])
@pytest.mark.parametrize("name", LOADABLE)
def test_outputs_and_codes_are_those_of_then(name, part_of_a_model):
    old = saved(name)
    head, state = head_of(old["options"]), old["state"]
    model = head
    if part_of_a_model:
        trunk = nn.Linear(6, 6)
        model = nn.Sequential(trunk, nn.ModuleDict({"head": head}))
        state = {f"1.head.{key}": value for key, value in state.items()}
        state |= {f"0.{key}": value for key, value in trunk.state_dict().items()}
    given = dict(state)
    assert (
        str(model.load_state_dict(state, strict=True)) == "<All keys matched successfully>"
    )
    assert state.keys() == given.keys()  # the dict of the caller is left alone
    head.eval()
    torch.testing.assert_close(head(old["x"]), old["outputs"], rtol=0, atol=1e-6)
    assert head.bits == old["outputs"].shape[1]
    for bits, codes in old["codes"].items():
        assert torch.equal(head.codes(old["x"], bits), codes.to(torch.float32))
    torch.testing.assert_close(head.fold()(old["x"]), old["outputs"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", LOADABLE)
def test_what_was_learned_beside_the_outputs_is_there(name):
    old = saved(name)
    state, head = old["state"], head_of(old["options"])
    head.load_state_dict(dict(state))
    lengths = old["options"]["bits"]
    for stage, (layer, long) in enumerate(zip(head.layers, lengths, strict=False)):
        for each in ("groups", "weights", "graph.pairs", "graph.items"):
            assert torch.equal(layer.state_dict()[each], state[f"layers.{stage}.{each}"])
        if head.classes is None:
            continue
        means = head.class_means.of(long)
        assert torch.equal(means.sums, state[f"layers.{stage}.class_means.sums"])
        assert torch.equal(means.items, state[f"layers.{stage}.class_means.items"])
        words = head.classes.codewords(lengths[stage + 1])
        assert torch.equal(words, state[f"layers.{stage}.codewords"])


@pytest.mark.parametrize("name", LOADABLE)
def test_training_goes_on_from_it(name):
    old = saved(name)
    head = head_of(old["options"])
    head.load_state_dict(old["state"])
    x, labels = torch.randn(30, 6), torch.arange(30) % 3
    while not head.finished:
        stage = head.stage
        head.observe(head(x), labels)
        head.merge_next()
        assert head.stage == stage + 1
    assert head.codes(x).shape == (30, old["options"]["bits"][-1])


@pytest.mark.parametrize("name", LOADABLE)
def test_saved_again_it_is_a_state_of_today(name):
    old = saved(name)
    head, other = head_of(old["options"]), head_of(old["options"])
    head.load_state_dict(old["state"])
    assert "merges.stage_count" in head.state_dict()
    other.load_state_dict(head.state_dict(), strict=True)
    assert_equal_states(head.state_dict(), other.state_dict())
    assert torch.equal(other.eval()(old["x"]), head.eval()(old["x"]))


@pytest.mark.parametrize("part_of_a_model", [False, True])
@pytest.mark.parametrize("name", GONE)
def test_what_is_gone_is_refused_before_anything_is_loaded(name, part_of_a_model):
    old = saved(name)
    assert GONE[name][0] in old["options"]
    model, state = head_of(old["options"]), old["state"]
    if part_of_a_model:
        model = nn.Sequential(model)
        state = {f"0.{key}": value for key, value in state.items()}
    before = state_of(model)
    with pytest.raises(ValueError, match=rf"saved with {GONE[name][1]}.*fold\(\)"):
        model.load_state_dict(state)
    assert_equal_states(model.state_dict(), before)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("plain", {"bits": (8, 4)}, r"bits: \[8, 4, 2\], here \[8, 4\]"),
        ("plain", {"activation": None}, "activation: 'tanh', here None"),
        ("plain", {"scorer": "drop_one"}, "scorer: 'Correlation.*here 'DropOne"),
        ("plain", {"max_group": 4}, "max_group: 2, here 4"),
        ("plain", {"longer": "joint"}, "longer: 'snapshot', here 'joint'"),
        ("plain", {"batch_norm": True}, "batch_norm: False, here True"),
        ("classes", {"num_classes": 4}, "num_classes: 3, here 4"),
        ("classes", {"readout": 0.3}, r"readout: 0\.6, here 0\.3"),
        ("unmerged", {"spare_codewords": 0}, "spare_codewords: 1, here 0"),
    ],
)
def test_another_configuration_is_refused(name, options, message):
    old = saved(name)
    head = head_of({**old["options"], **options})
    before = state_of(head)
    message = message.replace("'", "['\"]")  # either kind of quotes
    with pytest.raises(ValueError, match=message):
        head.load_state_dict(old["state"])
    assert_equal_states(head.state_dict(), before)


def test_another_default_is_named():
    old = saved("classes")
    head = ProgressiveHead(6, old["options"]["bits"], num_classes=3)
    with pytest.raises(ValueError, match=r"spare_codewords: 0, here 7\. Use the saved"):
        head.load_state_dict(old["state"])


def test_width_in_training_is_no_part_of_the_state():
    old = saved("lifted")
    for constant_width in (False, True):
        head = head_of({**old["options"], "lift": constant_width})
        head.load_state_dict(dict(old["state"]))
        assert head(old["x"]).shape == (5, 8 if constant_width else 4)


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("options", [{}, {"num_classes": 3}, {"longer": "joint"}], ids=str)
def test_a_state_of_today_is_loaded_as_it_is(stage, options):
    head, other = (head_of({"bits": (8, 4, 2), **options}) for _ in range(2))
    for _ in range(stage):
        head.observe(head(torch.randn(20, 6)), torch.arange(20) % 3)
        head.merge_next()
    other.load_state_dict(head.state_dict(), strict=True)
    assert_equal_states(other.state_dict(), head.state_dict())
    assert (other.stage, other.bits) == (stage, (8, 4, 2)[stage])
