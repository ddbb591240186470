"""Docstrings and prose say what the code does: arguments, sections, examples."""

import importlib
import inspect
import pkgutil
import re

import pytest

import pml_nmlayer

MODULES = [
    importlib.import_module(info.name)
    for info in pkgutil.walk_packages(pml_nmlayer.__path__, "pml_nmlayer.")
]
# What the public contract calls a metric, loss, layer or scorer owes its reader these.
SECTIONS = ("Source:", "Differs:")
DOCUMENTED = {
    f"{module.__name__}.{name}": thing
    for module in MODULES
    for name, thing in sorted(vars(module).items())
    if not name.startswith("_")
    and getattr(thing, "__module__", None) == module.__name__
    and (inspect.isfunction(thing) or inspect.isclass(thing))
}
ROOMS = sorted({name.split(".")[1] for name in DOCUMENTED})


def arguments(thing):
    call = thing.__init__ if inspect.isclass(thing) else thing
    return set(inspect.signature(call).parameters) - {"self", "args"}


def documented_arguments(doc):
    section = re.search(r"^Args:\n((?:[ ]{4,}.*\n|\n)+)", doc + "\n", re.MULTILINE)
    if section is None:
        return set()
    return set(re.findall(r"^    \*{0,2}(\w+):", section.group(1), re.MULTILINE))


def of_room(room):
    return {
        name: (thing, inspect.getdoc(thing) or "")
        for name, thing in DOCUMENTED.items()
        if name.split(".")[1] == room
    }


@pytest.mark.parametrize("room", ROOMS)
def test_args_equal_the_signature(room):
    faults = {}
    for name, (thing, doc) in of_room(room).items():
        wrong = documented_arguments(doc) ^ arguments(thing)
        protocol = getattr(thing, "_is_protocol", False)  # has an __init__ nobody calls
        if inspect.isclass(thing) and ("__init__" not in vars(thing) or protocol):
            wrong -= arguments(thing)  # inherited ones may be left to the base
        if wrong or not doc:
            faults[name] = wrong or "no docstring"
    assert faults == {}


@pytest.mark.parametrize("room", ROOMS)
def test_a_formula_names_its_source(room):
    assert {
        name: section
        for name, (_, doc) in of_room(room).items()
        for section in SECTIONS
        if "Formula:" in doc and section not in doc
    } == {}


def test_there_is_much_to_check():
    assert len(DOCUMENTED) > 300
    assert sum("Formula:" in inspect.getdoc(thing) for thing in DOCUMENTED.values()) > 30


def test_the_rule_can_fail():
    assert documented_arguments("Do it.\n\nArgs:\n    a: one.\n    *b: two.\n") == {
        "a",
        "b",
    }
    assert arguments(of_room) == {"room"}
