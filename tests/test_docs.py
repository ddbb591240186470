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
DOCUMENTED = [
    pytest.param(thing, id=f"{module.__name__}.{name}")
    for module in MODULES
    for name, thing in sorted(vars(module).items())
    if not name.startswith("_")
    and getattr(thing, "__module__", None) == module.__name__
    and (inspect.isfunction(thing) or inspect.isclass(thing))
]


def arguments(thing):
    call = thing.__init__ if inspect.isclass(thing) else thing
    return set(inspect.signature(call).parameters) - {"self", "args"}


def documented_arguments(doc):
    section = re.search(r"^Args:\n((?:[ ]{4,}.*\n|\n)+)", doc + "\n", re.MULTILINE)
    if section is None:
        return set()
    return set(re.findall(r"^    \*{0,2}(\w+):", section.group(1), re.MULTILINE))


@pytest.mark.parametrize("thing", DOCUMENTED)
def test_args_equal_the_signature(thing):
    doc = inspect.getdoc(thing)
    assert doc, "no docstring"
    documented = documented_arguments(doc)
    protocol = getattr(thing, "_is_protocol", False)  # has an __init__ that nobody calls
    if inspect.isclass(thing) and ("__init__" not in vars(thing) or protocol):
        assert documented <= arguments(thing)  # inherited ones may be left to the base
    else:
        assert documented == arguments(thing)


@pytest.mark.parametrize("thing", DOCUMENTED)
def test_a_formula_names_its_source(thing):
    doc = inspect.getdoc(thing)
    if "Formula:" in doc:
        for section in SECTIONS:
            assert section in doc
