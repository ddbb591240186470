import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks import tuning
from benchmarks.interface import MethodEntry
from benchmarks.methods import METHODS
from benchmarks.registry import Registry
from benchmarks.reporting import standing
from benchmarks.reporting.notes import protocol
from benchmarks.results import key_of
from benchmarks.search import Choice, LogUniform
from benchmarks.specs import make_spec, plan, spec_of
from benchmarks.suite_files import about_suite, load_suite, load_suites, suite_names
from benchmarks.suites import narrow


@pytest.fixture
def quick():
    return load_suite("quick", with_tuned=False)


def test_shipped_suites_are_understood():
    assert {"quick", "kernels"} <= set(suite_names())
    for name in suite_names():
        for suite in load_suites(name):
            assert suite.name == name


def test_quick_is_tuned_for_all_it_runs():
    suite = load_suite("quick")
    assert suite.tuned is not None
    assert len(suite.seeds) >= 4
    specs = plan(suite)
    assert len(specs) == len(suite.entries) * len(suite.bits) * len(suite.seeds)
    assert len({key_of(spec) for spec in specs}) == len(specs)


def test_every_method_is_tuned_with_equal_effort(quick):
    for entry in quick.entries:
        tried = tuning.trials(quick, entry)
        assert len(tried) == quick.tuning.trials
        assert tried == tuning.trials(quick, entry)
        space = METHODS[entry.method].space
        assert len(set(space) - {"lr", "start"}) <= 2
        assert tried[0] == {
            name: METHODS[entry.method].defaults()[name] for name in tried[0]
        }
    assert not set(quick.seeds) & set(quick.tuning.seeds)


def test_all_methods_try_the_same_learning_rates(quick):
    rates = [
        [trial["lr"] for trial in tuning.trials(quick, entry)]
        for entry in quick.entries
        if "lr" in METHODS[entry.method].space
    ]
    assert len(rates) > 8
    assert all(rate == rates[0] for rate in rates)
    assert len(set(rates[0])) == quick.tuning.trials


def test_draws_are_spread_over_their_space():
    rng = np.random.default_rng(0)
    values = LogUniform(1e-3, 1e-1).draw(rng, 20)
    places = sorted(10 * (math.log10(value) + 3) for value in values)
    slack = 0.03  # three digits are kept
    assert all(i - slack < place < i + 1 + slack for i, place in enumerate(places))
    counts = Counter(Choice("a", "b", "c").draw(rng, 8))
    assert sorted(counts.values()) == [2, 3, 3]


def test_a_fixed_option_is_not_searched_and_wins(quick):
    entry = replace(quick.entry("supcon"), options={"lr": 0.5})
    assert "lr" not in tuning.trials(quick, entry)[1]
    spec = make_spec(quick, entry, 12, 0, {"temperature": 0.3})
    assert spec["settings"] == {"lr": 0.5, "temperature": 0.3, "start": "hidden"}


def test_narrow_keeps_the_order_of_the_suite(quick):
    suite = narrow(quick, methods=["dpsh", "itq"], bits=[24], seeds=[8])
    assert [entry.name for entry in suite.entries] == ["itq", "dpsh"]
    assert {(s["bits"], s["seed"]) for s in plan(suite)} == {(24, 8)}


GOOD = """kind: quality
dataset: digits
bits: [12]
seeds: [0]
epochs: 2
decay: 0.4
batch_size: 128
timeout_s: 60
methods: [itq]
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("kind: quality", "kind: qality"), "unknown kind of suite in s.yml"),
        (GOOD + "epoch: 3\n", "unknown key in s.yml 'epoch'; known: name, dataset"),
        (GOOD.replace("epochs: 2\n", ""), "s.yml lacks epochs"),
        (
            GOOD.replace("[itq]", "[itk]"),
            "unknown method 'itk'; known: contr",
        ),
        (
            GOOD.replace("digits", "digit"),
            "unknown dataset in s.yml 'digit'; known: features, cifar10",
        ),
        (GOOD.replace("[itq]", "[itq, itq]"), "names a method twice: itq, itq"),
        (
            GOOD.replace("[itq]", "[{name: itq, options: {iteration: 3}}]"),
            "unknown option of ITQ on raw features 'iteration'; known: iterations",
        ),
        (GOOD + "tuning: {trials: 2, seeds: [0]}\n", r"seeds \[0\] of s served to tune it"),
    ],
)
def test_a_suite_that_is_not_understood_is_refused(tmp_path, text, message):
    path = tmp_path / "s.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_suite(str(path))


def test_settings_tuned_for_another_recipe_are_refused(tmp_path):
    path = tmp_path / "s.yml"
    path.write_text(GOOD)
    recipe = "{dataset: digits, epochs: 3, decay: 0.4, batch_size: 128}"
    (tmp_path / "s_tuned.yml").write_text(f"recipe: {recipe}\nmethods: {{}}\n")
    with pytest.raises(ValueError, match="was tuned with"):
        load_suite(str(path))
    assert load_suite(str(path), with_tuned=False).tuned is None


def test_an_entry_may_have_epochs_of_its_own(tmp_path):
    path = tmp_path / "s.yml"
    entries = "{name: dpsh, epochs: 7}, {name: short, method: dpsh, label: S, epochs: 3}"
    path.write_text(GOOD.replace("methods: [", f"methods: [{entries}, "))
    suite = load_suite(str(path))
    given = {spec_of(suite, suite.entry(n), 12, 0)["epochs"] for n in ("dpsh", "short")}
    assert given == {7, 3}
    assert spec_of(suite, suite.entry("itq"), 12, 0)["epochs"] == suite.epochs
    assert "epochs (or as a row says)" in " ".join(protocol(suite, [], "command"))
    path.write_text(path.read_text().replace("epochs: 7", "epochs: 0"))
    with pytest.raises(ValueError, match=r"epochs of dpsh in s.yml must .* got 0"):
        load_suite(str(path))


@pytest.mark.parametrize("epochs", ["", ", epochs: 9"])
def test_settings_tuned_for_other_epochs_are_refused(tmp_path, epochs):
    path = tmp_path / "s.yml"
    path.write_text(GOOD.replace("methods: [", "methods: [{name: dpsh, epochs: 7}, "))
    recipe = load_suite(str(path)).recipe
    tuned = {"recipe": recipe, "methods": {"dpsh": {"chosen": {"settings": {"lr": 0.1}}}}}
    if epochs:
        tuned["methods"]["dpsh"]["epochs"] = 9
    (tmp_path / "s_tuned.yml").write_text(yaml.dump(tuned))
    with pytest.raises(ValueError, match=r"settings of dpsh for \d+ epochs, but s now"):
        load_suite(str(path))
    tuned["methods"]["dpsh"]["epochs"] = 7
    (tmp_path / "s_tuned.yml").write_text(yaml.dump(tuned))
    assert load_suite(str(path)).tuned.settings == {"dpsh": {"lr": 0.1}}


def test_a_registry_refuses_doubles_and_names_the_known():
    registry = Registry("thing")
    registry.add("one", 1)
    registry.add("two", 2)
    assert registry["two"] == 2
    with pytest.raises(ValueError, match="there is already a thing called 'one'"):
        registry.add("one", 3)
    with pytest.raises(ValueError, match="unknown thing 'three'; known: one, two"):
        registry["three"]


def test_unknown_options_of_a_method_name_the_known():
    entry = MethodEntry("x", lambda problem, a=1: None, {})
    assert entry.settings({}) == {"a": 1}
    with pytest.raises(ValueError, match="unknown option of x 'b'; known: a"):
        entry.settings({"b": 2})


SEVERAL = GOOD.replace("dataset: digits", "datasets: [digits, 'digits:unseen']")


def test_a_file_of_several_data_sets_is_as_many_suites(tmp_path):
    path = tmp_path / "s.yml"
    path.write_text(SEVERAL)
    first, second = load_suites(str(path))
    assert (first.dataset, second.dataset) == ("digits", "digits:unseen")
    assert first.name == second.name == "s"
    names = [suite.settings_file.name for suite in (first, second)]
    assert names == ["s_digits_tuned.yml", "s_digits_unseen_tuned.yml"]
    keys = {key_of(spec) for suite in (first, second) for spec in plan(suite)}
    assert len(keys) == 2
    (only,) = load_suites(str(path), datasets=["digits:unseen"])
    assert only.settings_file == second.settings_file  # narrowed or not
    with pytest.raises(ValueError, match=r"s\.yml has 2 data sets; name one"):
        load_suite(str(path))
    with pytest.raises(ValueError, match=r"unknown dataset 'mnist'; known: .*fashion"):
        load_suites(str(path), datasets=["mnist"])
    with pytest.raises(ValueError, match="must say which: features:PATH"):
        load_suites(str(path), datasets=["digits", "features"])


def test_a_suite_takes_other_data_sets_than_its_own():
    own, other = load_suites("quick", datasets=["features:mine.npz", "digits"])
    assert (own.dataset, other.dataset) == ("digits", "features:mine.npz")
    assert own.tuned is not None
    assert other.tuned is None  # each has settings of its own
    assert own.settings_file.name == "quick_tuned.yml"
    place = Path("results/quick/features_mine.npz/tuned.yml")
    assert other.settings_file == place  # a user's own, so not beside our suites
    assert other.entries == own.entries
    assert not {key_of(spec) for spec in plan(own)} & {key_of(spec) for spec in plan(other)}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("datasets: []", "must name data sets, each once"),
        ("datasets: [digits, digits]", "must name data sets, each once"),
        ("dataset: digits\ndatasets: [digits]", "say either dataset or datasets"),
        ("seed: 3", "say either dataset or datasets"),
        ("dataset: 'digits:C-X'", "unknown protocol of dataset in s.yml 'digits:C-X'"),
    ],
)
def test_data_sets_that_are_not_understood_are_refused(tmp_path, line, message):
    path = tmp_path / "s.yml"
    path.write_text(GOOD.replace("dataset: digits", line))
    with pytest.raises(ValueError, match=message):
        load_suites(str(path))


def test_a_variant_is_a_control_unless_the_file_says_otherwise(tmp_path):
    path = tmp_path / "s.yml"
    items = "dpsh_nm, {name: other, method: dpsh_nm, label: O}"
    named = "{name: mine, method: dpsh_nm, label: M, family: nm}, dpsh"
    path.write_text(GOOD.replace("[itq]", f"[{items}, {named}]"))
    rows = load_suite(str(path)).rows
    assert [row.entry.family for row in rows] == ["nm", "control", "nm", "direct"]
    assert {row.entry.loss for row in rows} == {"dpsh"}
    pairs = [(a.name, b.name) for a, b in standing.twins(rows)]
    assert pairs == [("dpsh_nm", "dpsh"), ("mine", "dpsh")]  # whatever their names
    path.write_text(path.read_text().replace("family: nm", "family: merged"))
    with pytest.raises(ValueError, match=r"unknown family of mine in s\.yml 'merged'"):
        load_suite(str(path))


def test_settings_may_be_those_of_another_suite_until_there_are_own_ones():
    for own, other in zip(load_suites("both"), load_suites("unseen"), strict=True):
        assert own.tuned.source == other.tuned.source
        assert own.tuned.settings == other.tuned.settings
        words = " ".join(protocol(own, [], "command"))
        assert "those of suite unseen on this set" in words
        assert "no test query took part" not in words
        assert "no test query took part" in " ".join(protocol(other, [], "command"))


def test_settings_of_an_unknown_suite_are_refused(tmp_path):
    path = tmp_path / "s.yml"
    path.write_text(f"{GOOD}settings_of: nowhere\n")
    with pytest.raises(ValueError, match=r"unknown settings_of in s\.yml 'nowhere'; known"):
        load_suite(str(path))


@pytest.mark.parametrize("name", suite_names())
def test_each_suite_says_what_it_is_for(name):
    assert about_suite(name).endswith(".")
