"""What a search leaves: all trials in results, the chosen settings beside the suite."""

import pytest
import yaml

from benchmarks import tuned_files
from benchmarks.results import Store
from benchmarks.suite_files import load_suite

SUITE = """kind: quality
dataset: digits
bits: [12, 24]
seeds: [0]
epochs: 2
decay: 0.4
batch_size: 128
timeout_s: 60
methods: [supcon, itq, {name: short, method: dpsh, label: S, epochs: 3}]
tuning: {trials: 5, seeds: [7]}
"""
ORIGIN = {"git": {"commit": "c", "dirty": False}, "sources": "s", "torch": "2"}
RATES = (0.001, 0.002, 0.004, 0.008, 0.016)


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "s.yml").write_text(SUITE)
    return load_suite(str(tmp_path / "s.yml"))


def outcome(chosen, count=5, origin=ORIGIN, **more):
    """Make an outcome of trials with different rates, each with a temperature of 0.2."""
    tried = [{"lr": rate, "temperature": 0.2} for rate in RATES[:count]]
    return {
        "chosen": {"settings": {**tried[chosen], **more}, "score": 0.5},
        "trials": [{"settings": {**t, **more}, "scores": {12: 0.5}} for t in tried],
        "made_with": origin,
    }


def written(suite, outcomes):
    content = tuned_files.whole(suite, outcomes)
    small = tuned_files.small(suite, content)
    return tuple(
        yaml.safe_load(tuned_files.text_of(suite, each)) for each in (content, small)
    )


def test_the_small_file_has_what_the_suite_needs_and_the_record_the_rest(suite, tmp_path):
    other = {**ORIGIN, "sources": "t"}
    outcomes = {
        "supcon": outcome(2),
        "itq": {"refused": "why", "made_with": other},
        "short": {
            "epochs": 3,
            "chosen": {"settings": {"lr": 0.002}, "score": 0.4},
            "trials": [],
            "made_with": other,
        },
    }
    whole, small = written(suite, outcomes)
    assert whole["methods"] == outcomes
    assert small["made_with"] == [ORIGIN, other]
    assert small["methods"] == {
        "supcon": {"settings": {"lr": 0.004, "temperature": 0.2}, "score": 0.5},
        "itq": {"refused": "why", "made_with": 1},
        "short": {"epochs": 3, "settings": {"lr": 0.002}, "score": 0.4, "made_with": 1},
    }
    assert {key: small[key] for key in ("trials", "seeds", "bits")} == {
        "trials": 5,
        "seeds": [7],
        "bits": [12, 24],
    }
    for content in (whole, small):  # a suite reads either
        suite.settings_file.write_text(yaml.dump(content))
        tuned = load_suite(str(tmp_path / "s.yml")).tuned
        assert tuned.settings == {
            "supcon": {"lr": 0.004, "temperature": 0.2},
            "itq": {},
            "short": {"lr": 0.002},
        }


@pytest.mark.parametrize(("chosen", "edge"), [(0, "lowest"), (1, None), (4, "highest")])
def test_a_number_at_the_end_of_its_range_is_pointed_out(suite, chosen, edge):
    _, small = written(suite, {"supcon": outcome(chosen)})
    assert small["methods"]["supcon"].get("edge", {}).get("lr") == edge


def test_the_ends_of_a_choice_are_those_of_its_values(suite):
    for temperature, edge in ((0.1, "lowest"), (0.2, None), (1.0, "highest")):
        _, small = written(suite, {"supcon": outcome(1, temperature=temperature)})
        found = small["methods"]["supcon"].get("edge", {})
        assert found.get("temperature") == edge
    _, small = written(suite, {"supcon": outcome(0, count=4)})
    assert "edge" not in small["methods"]["supcon"]  # too few trials to say


def test_what_was_chosen_before_for_other_methods_stays(suite):
    other = {**ORIGIN, "sources": "t"}
    refused = {"refused": "why", "made_with": other}
    _, small = written(suite, {"supcon": outcome(0), "itq": refused})
    suite.settings_file.write_text(yaml.dump(small))
    before = tuned_files.outcomes_before(suite, suite.settings_file)
    assert before["itq"]["made_with"] == other
    now = {"short": {**outcome(1, origin=other), "epochs": 3}}
    again = tuned_files.small(suite, tuned_files.whole(suite, {**before, **now}))
    assert again["methods"]["supcon"] == small["methods"]["supcon"]  # its edge, too
    assert list(again["methods"]) == ["supcon", "itq", "short"]
    assert again["made_with"] == [ORIGIN, other]
    suite.settings_file.write_text(yaml.dump({**small, "trials": 9}))
    assert tuned_files.outcomes_before(suite, suite.settings_file) == {}


def test_the_record_lies_among_the_results(suite, tmp_path):
    path = tuned_files.record_file(suite, Store(tmp_path / "out"))
    assert path == tmp_path / "out" / "s-tune" / "digits_trials.yml"
