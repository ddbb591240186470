"""Options are keyword-only everywhere: a call names what it sets."""

import importlib
import inspect
import pkgutil

import pytest

import pml_nmlayer

ROOMS = [
    importlib.import_module(f"pml_nmlayer.{info.name}")
    for info in pkgutil.iter_modules(pml_nmlayer.__path__)
    if info.name != "runtime"
]
PUBLIC = {
    id(thing): thing
    for room in [pml_nmlayer, *ROOMS]
    for name, thing in sorted(vars(room).items())
    if not name.startswith("_")
    and str(getattr(thing, "__module__", "")).startswith("pml_nmlayer")
    and (inspect.isfunction(thing) or inspect.isclass(thing))
}
# Where more than one argument with a default has a place
AS_IN_PML = {
    "HammingAccuracyCalculator": ["include", "exclude"],
    "HashCrossBatchMemory": ["memory_size", "miner"],
    "MultiLabelMPerClassSampler": ["batch_size", "length_before_new_iter"],
}
OURS = {  # checks that rooms share, and a named tuple
    "OutputRange": ["numbers", "low", "high", "only_bits"],
    "check_labels": ["name", "read"],
    "pair_counter": ["grades", "threads"],
}


@pytest.mark.parametrize(
    "thing", PUBLIC.values(), ids=lambda thing: f"{thing.__module__}.{thing.__name__}"
)
def test_options_are_keyword_only(thing):
    given = [
        parameter.name
        for parameter in inspect.signature(thing).parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        and parameter.default is not parameter.empty
    ]
    # One may be as natural as the k of precision at k
    assert len(given) <= 1 or given == (AS_IN_PML | OURS)[thing.__name__]
