"""Who may import whom in the benchmarks: a room imports from those above it alone."""

import ast
import shutil
import statistics

import pytest

from benchmarks.running import environment
from tests.benchmarks.conftest import ROOT

HOUSE = ROOT / "benchmarks"
# In the order of the docstring of the package.
ROOMS = [
    ["registry", "search", "results", "pool"],
    ["datasets"],
    ["interface"],
    ["training"],
    ["methods"],
    ["plugins"],
    ["suites"],
    ["suite_files"],
    ["running"],
    ["specs"],
    ["reporting"],
    ["tuned_files"],
    ["tuning"],
    ["validation"],
    ["outcomes"],
    ["commands", "pieces"],
    ["__main__"],
]
RANK = {name: rank for rank, names in enumerate(ROOMS) for name in names}
FILES = [path for path in sorted(HOUSE.rglob("*.py")) if path != HOUSE / "__init__.py"]


def room(parts):
    return parts[0].removesuffix(".py")


def imported_rooms(path):
    """Resolve relative imports, those within functions included."""
    folder = path.relative_to(HOUSE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = folder[: len(folder) + 1 - node.level]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (room([*above, *name.split(".")]) for name in names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.module.startswith("benchmarks"), "say it relatively"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_imports_point_upwards(path):
    own = room(path.relative_to(HOUSE).parts)
    assert own in RANK, f"{own} has no place yet: give it one in this test"
    for other in imported_rooms(path):
        assert other == own or RANK[other] < RANK[own], f"{path.name} imports {other}"
        assert (own, other) != ("reporting", "running"), "reports need results alone"


def imported_files(path):
    """Resolve relative imports to files; of a package to a file in it, or its __init__."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1]
            base = folder.joinpath(*(node.module or "").split("."))
            for name in [alias.name for alias in node.names]:
                places = (
                    base / f"{name}.py",
                    base.with_suffix(".py"),
                    base / "__init__.py",
                )
                yield next(place for place in places if place.is_file())


def circle(graph):
    """Return files that import each other in a circle; nothing if none do."""
    left = {path: set(others) for path, others in graph.items()}
    while ends := [path for path, others in left.items() if not others & left.keys()]:
        for path in ends:
            del left[path]
    return sorted(path.name for path in left)


def test_no_files_import_each_other_in_a_circle():
    files = sorted(HOUSE.rglob("*.py"))
    graph = {path: set(imported_files(path)) - {path} for path in files}
    assert circle(graph) == []
    a, b, c = (HOUSE / name for name in "abc")
    assert circle({a: {b}, b: {c}, c: {b}}) == ["a", "b", "c"]
    assert circle({a: {b}, b: {c}, c: set()}) == []


def test_files_are_short():
    lengths = [len(path.read_text().splitlines()) for path in HOUSE.rglob("*.py")]
    assert max(lengths) <= 350
    assert statistics.median(lengths) <= 120


def test_the_rule_can_fail():
    assert set(imported_rooms(HOUSE / "commands.py")) >= {"reporting", "running", "suites"}
    assert set(imported_rooms(HOUSE / "reporting" / "page.py")) == {"reporting", "results"}
    assert RANK["reporting"] > RANK["running"] > RANK["suites"] > RANK["methods"]


def test_the_sources_that_decide_about_results_are_there(tmp_path, monkeypatch):
    for pattern in environment._DECISIVE:
        assert list(HOUSE.glob(pattern)), pattern
    shutil.copytree(HOUSE, tmp_path / "benchmarks")
    monkeypatch.setattr(environment, "_ROOT", tmp_path)
    before = environment._fingerprint()
    for name, decides in (("training/learner.py", True), ("reporting/tables.py", False)):
        with (tmp_path / "benchmarks" / name).open("a") as file:
            file.write("# changed")
        after = environment._fingerprint()
        assert (after != before) is decides, name
        before = after
