"""A file imports only from lower layers, and the core needs torch alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pml_nmlayer"

# From the lowest to the highest; L0 and L1 of the architecture are split up further.
LAYERS = [
    ["codes", "atomic", "process_group"],
    ["similarity"],
    ["label_sets"],
    ["pair_counts"],
    ["hamming"],
    ["ranking"],
    ["codebooks"],
    ["codewords"],
    ["pair_likelihood"],
    ["redundancy"],
    ["scorers"],
    ["bit_statistics"],
    ["layers", "distances", "regularizers"],
    ["losses", "miners", "samplers"],
    ["hooks", "evaluation", "retrieval"],
    ["adaptation"],
    ["hasher"],
    ["multilabel"],
    ["plots"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
TORCH_ALONE = {"torch", *sys.stdlib_module_names}
# Only where it is needed, so that the rest needs torch alone
IN_A_FUNCTION = {("codewords", "scipy.optimize.linear_sum_assignment")}


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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    own = house(path)
    assert own in RANK, f"{own} has no layer yet: give it one in this test"
    for name in imports(path):
        if name.startswith("pml_nmlayer."):
            other = name.split(".")[1]
            inside = other == own
            assert inside or RANK[other] < RANK[own], f"{path.name} imports {name}"
        elif RANK[own] <= RANK["scorers"] or own == "layers":
            assert name.split(".")[0] in TORCH_ALONE or (own, name) in IN_A_FUNCTION, (
                f"{path.name} imports {name}"
            )


def test_the_rule_can_fail():
    assert "pml_nmlayer.codes.check_codes" in set(imports(PACKAGE / "hamming.py"))
    assert RANK["hamming"] > RANK["codes"]


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("pml_nmlayer", ["faiss", "matplotlib", "torchvision"]),
        ("pml_nmlayer.layers", ["pytorch_metric_learning", "faiss", "matplotlib", "scipy"]),
        ("pml_nmlayer.hooks", ["lightning", "pytorch_lightning"]),
        ("pml_nmlayer.ranking", ["pytorch_metric_learning", "faiss", "matplotlib"]),
    ],
)
def test_importing_stays_light(module, absent):
    script = f"import sys, {module}; print([m for m in {absent} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
