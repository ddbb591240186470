"""A file imports from lower rooms, none in a circle; the core needs torch alone."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

PACKAGE = Path(__file__).parent.parent / "pml_nmlayer"

# From the lowest to the highest
ROOMS = [
    ["codes", "runtime"],
    ["labels"],
    ["hamming"],
    ["ranking"],
    ["classes", "merging"],
    ["adaptation"],
    ["heads", "distances", "regularizers"],
    ["layers"],
    ["losses", "miners", "samplers"],
    ["hooks", "evaluation", "retrieval"],
    ["hasher"],
    ["multilabel"],
    ["plots"],
]
RANK = {name: rank for rank, names in enumerate(ROOMS) for name in names}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
WITH_MORE = ("adaptation", "distances", "regularizers")
TORCH_ALONE = {"torch", *sys.stdlib_module_names}
# Only where it is needed, so that the rest needs torch alone
IN_A_FUNCTION = {
    ("runtime", "scipy.optimize.linear_sum_assignment"),
    ("hamming", "threadpoolctl.threadpool_limits"),
}


def house(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Absolute names of what a file imports, relative ones resolved."""
    parents = ("pml_nmlayer", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(parents[: len(parents) + 1 - node.level]) if node.level else ""
            name = ".".join(filter(None, [base, node.module]))
            yield from (f"{name}.{alias.name}" for alias in node.names)


def files_imported(path):
    """Which files of the package a file imports; a room stands for all that it names."""
    for name in imports(path):
        parts = name.split(".")[1:]
        if name.startswith("pml_nmlayer.") and len(parts) > 1:
            for length in (len(parts), len(parts) - 1):
                file = PACKAGE.joinpath(*parts[:length]).with_suffix(".py")
                if file.exists():
                    yield file
                    break
            else:
                yield PACKAGE.joinpath(*parts[:-1], "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    own = house(path)
    assert own in RANK, f"{own} has no rank yet: give it one in this test"
    for name in imports(path):
        if name.startswith("pml_nmlayer."):
            other = name.split(".")[1]
            inside = other == own
            assert inside or RANK[other] < RANK[own], f"{path.name} imports {name}"
        elif RANK[own] <= RANK["heads"] and own not in WITH_MORE:
            assert name.split(".")[0] in TORCH_ALONE or (own, name) in IN_A_FUNCTION, (
                f"{path.name} imports {name}"
            )


def test_no_files_import_each_other():
    later = {path: set(files_imported(path)) for path in PACKAGE.rglob("*.py")}
    while free := [path for path, wanted in later.items() if not wanted & later.keys()]:
        for path in free:
            del later[path]
    assert not later, f"in circles: {sorted(str(path) for path in later)}"


def test_files_are_short():
    lengths = {path: len(path.read_text().splitlines()) for path in FILES}
    assert max(lengths.values()) <= 350, max(lengths, key=lengths.__getitem__)
    assert median(lengths.values()) <= 120


def test_the_rules_can_fail():
    path = PACKAGE / "hamming" / "distance.py"
    assert "pml_nmlayer.codes.convention.check_codes" in set(imports(path))
    assert PACKAGE / "codes" / "convention.py" in set(files_imported(path))
    assert RANK["hamming"] > RANK["codes"]


# In the order in which a fresh interpreter imports them, and what is absent after each
LIGHT = {
    "pml_nmlayer": ("torch", "faiss", "matplotlib", "torchvision"),
    "pml_nmlayer.codes": ("pytorch_metric_learning", "faiss", "matplotlib", "scipy"),
    "pml_nmlayer.layers": ("pytorch_metric_learning", "faiss", "matplotlib", "scipy"),
    "pml_nmlayer.heads": ("torch._dynamo", "pytorch_metric_learning"),
    "pml_nmlayer.hamming": ("pytorch_metric_learning", "faiss", "matplotlib"),
    "pml_nmlayer.ranking": ("pytorch_metric_learning", "faiss", "matplotlib"),
    "pml_nmlayer.losses": ("faiss", "matplotlib"),
    "pml_nmlayer.retrieval": ("faiss", "matplotlib"),
    "pml_nmlayer.evaluation": ("matplotlib",),
    "pml_nmlayer.hooks": ("lightning", "pytorch_lightning", "matplotlib"),
    "benchmarks.__main__": (
        "matplotlib",
        "statsmodels",
        "torch._dynamo",
    ),  # which worker processes import
}
IMPORT = """
import importlib, json, sys
print(json.dumps([
    (importlib.import_module(name), [m for m in absent if m in sys.modules])[1]
    for name, absent in json.loads(sys.argv[1])
]))
"""


@pytest.fixture(scope="module")
def found():
    """What is there after each import, in one process, where no old path is used."""
    warn = ["-W", "error:pml_nmlayer.:DeprecationWarning"]  # so the message begins
    done = subprocess.run(
        [sys.executable, *warn, "-c", IMPORT, json.dumps(list(LIGHT.items()))],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(LIGHT, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("module", LIGHT)
def test_importing_stays_light(found, module):
    assert found[module] == []
