"""Methods behind an embedding: one training serves all lengths, entries and calls."""

import json

import numpy as np
import pytest
import torch
import yaml

from benchmarks import tuning
from benchmarks.__main__ import parser
from benchmarks.commands import _command
from benchmarks.datasets import load_split
from benchmarks.reporting import tables
from benchmarks.reporting.runs import collect
from benchmarks.results import Store
from benchmarks.running import quality, runner
from benchmarks.running.usage import peak_mib, reset_peak
from benchmarks.specs import plan
from benchmarks.suite_files import load_suite, load_suites
from benchmarks.suites import narrow
from tests.benchmarks.conftest import in_this_process
from tests.benchmarks.picture_set import SUITE, write_pictures


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """As in a worker process: sums depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Run the suite once in this process: (folder, store, suite, its specs, summary)."""
    place = tmp_path_factory.mktemp("behind")
    write_pictures(place / "set")
    (place / "s.yml").write_text(SUITE)
    suite, store = load_suite(str(place / "s.yml")), Store(place / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "run_jobs", in_this_process)
        done = again(store, suite, place)
    return place, store, suite, plan(suite), done


def again(store, suite, place):
    return runner.run(plan(suite), store, processes=1, timeout_s=60, root=place)


def test_a_network_is_trained_once_and_its_vectors_are_what_is_learned_from(ran):
    place, store, _, specs, done = ran
    networks = {json.dumps(s["behind"], sort_keys=True) for s in specs if "behind" in s}
    assert len(networks) == 2
    assert (done.done, done.skipped, done.failed) == (6 + 2, 0, 0)
    spec = next(s for s in specs if s["method"] == "signs_raw_database")
    split = load_split(spec["dataset"], 0, "report", place)
    vectors = store.load_arrays(spec["behind"])["embeddings"]
    assert vectors.shape == (30, 128)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
    repeated = quality.execute_embedding(spec["behind"], place)[1]["embeddings"]
    np.testing.assert_array_equal(vectors, repeated)

    record, network = store.load(spec), store.load(spec["behind"])
    assert record["train_s"] > network["train_s"] > 0
    steps = 2 * (len(split.train) // 10)
    assert network["images_per_s"] == pytest.approx(10 * steps / network["train_s"])
    assert record["images_per_s"] == network["images_per_s"]
    assert record["peak_mib"] == network["peak_mib"] > 50


def test_what_is_done_is_skipped_with_its_network(ran, monkeypatch):
    place, store, suite, *_ = ran
    monkeypatch.setattr(runner, "run_jobs", in_this_process)
    done = again(store, suite, place)
    assert (done.done, done.skipped) == (0, 6)


def test_tables_tell_speed_memory_and_accuracy(ran):
    _, store, suite, specs, _ = ran
    text = tables.table_text(suite, collect(suite, store), "the command")
    assert "| images/s" in text
    assert "| peak memory, MiB |" in text
    record = store.load(next(s for s in specs if s["method"] == "class_codes"))
    assert f"names the class of {record['accuracy']:.3f} of the queries" in text
    assert "One training of SupCon (128-d) for all lengths" in text


def test_accuracy_counts_queries_of_trained_classes_alone(tmp_path):
    class Guess:
        def predicted(self, items):
            return items[:, 0].long()

    write_pictures(tmp_path / "set")
    split = load_split("images:set:random", 0, "report", tmp_path)
    known = split.labels[split.train] != 1  # class 1 is not trained on: 2 is number 1
    split = type(split)(**{**vars(split), "train": split.train[known]})
    asked = split.queries[split.labels[split.queries] != 1]
    guesses = torch.zeros(30, 1)
    found = quality._accuracy(Guess(), guesses, split)
    right = (split.labels[asked] == 0).float().mean().item()
    assert found == {"accuracy": pytest.approx(right)}
    assert 0 < right < 1
    guesses[split.labels == 2] = 1
    assert quality._accuracy(Guess(), guesses, split) == {"accuracy": 1.0}
    assert quality._accuracy(object(), guesses, split) == {}


def test_without_its_network_a_method_says_what_to_do(ran, tmp_path):
    place, _, _, specs, _ = ran
    with pytest.raises(ValueError, match="embedding of supcon_post, which has no result"):
        quality.execute(specs[0], place, store=Store(tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("behind: supcon_post", "behind: supcon", "unknown behind of supcon_itq"),
        (
            "method: supcon_nm, family: nm",
            "method: supcon_nm, behind: supcon_post",
            "only methods on vectors stand behind supcon_post",
        ),
        ("loader: memory", "loader: disk", "unknown loader in s.yml 'disk'"),
        ("loader: memory", "loader: files", "image_size in s.yml is for"),
        ("image_size: 16", "image_size: 4", "at least 8, got 4"),
        ("augment: true", "augment: true\nmost_items: 0", "at least 1, got 0"),
        ("trunk: resnet9_narrow", "", "says weights, augment, loader"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, old, new, message):
    (tmp_path / "s.yml").write_text(SUITE.replace(old, new))
    with pytest.raises(ValueError, match=message):
        load_suites(str(tmp_path / "s.yml"))


def test_a_scale_is_laid_over_the_suite(tmp_path):
    (tmp_path / "s.yml").write_text(SUITE)
    (small,) = load_suites(str(tmp_path / "s.yml"), scale="small")
    whole = load_suite(str(tmp_path / "s.yml"))
    assert (small.name, small.bits, small.most_items) == ("s-small", (8,), 24)
    assert [entry.name for entry in small.entries] == ["supcon_itq", "class_codes"]
    assert small.entries == whole.entries[:2]
    assert whole.most_items is None
    assert "most_items" not in whole.recipe
    with pytest.raises(ValueError, match=r"unknown scale of s\.yml 'tiny'; known: small"):
        load_suites(str(tmp_path / "s.yml"), scale="tiny")


def test_a_search_covers_the_networks_behind_methods(tmp_path, monkeypatch):
    write_pictures(tmp_path / "set")
    (tmp_path / "s.yml").write_text(
        SUITE.replace("most_items: 24", "most_items: 60")
        + "tuning: {trials: 2, seeds: [7], bits: [8]}\n"
    )
    monkeypatch.setattr(runner, "run_jobs", in_this_process)
    monkeypatch.setattr(  # the second trial of a network wins, whatever it finds
        tuning, "_criterion", lambda spec, _: spec["settings"].get("lr", 0.5) != 0.001
    )
    words = ["tune", "--suite", str(tmp_path / "s.yml"), "--scale", "small"]
    words += ["--methods", "class_codes"]
    words += ["--data-root", str(tmp_path), "--out", str(tmp_path / "out")]
    options = parser().parse_args(words)
    options.command(options)
    text = (tmp_path / "s-small_tuned.yml").read_text()
    assert "`python -m benchmarks tune --suite s --scale small`" in text
    content = yaml.safe_load(text)["methods"]
    assert content.keys() == {"classifier_codes", "class_codes"}
    chosen = content["classifier_codes"]["settings"]["lr"]
    assert chosen != 0.001  # of the first trial
    (small,) = load_suites(str(tmp_path / "s.yml"), scale="small")
    (spec,) = plan(narrow(small, ["class_codes"]))
    tried = [json.loads(p.read_text()) for p in (tmp_path / "out").rglob("*.json")]
    tried = [record["spec"] for record in tried]
    behind = [each["behind"] for each in [spec, *tried] if "behind" in each]
    assert len(behind) == 3
    assert all(each["settings"]["lr"] == chosen for each in behind)


def test_the_scale_is_part_of_the_command_that_a_report_names():
    words = ["run", "--suite", "images", "--scale", "small", "--seeds", "0"]
    options = parser().parse_args(words)
    assert _command(options) == f"python -m benchmarks {' '.join(words)}"


def test_suite_images_and_suite_paper_share_what_they_can_say():
    (paper, *_), (images, *_) = load_suites("paper"), load_suites("images")
    assert type(paper) is type(images)
    assert (paper.loader, images.loader) == ("files", "memory")
    assert "loader" not in paper.recipe  # results of before keep their names
    losses = {entry.loss for entry in images.entries if entry.family == "nm"}
    assert losses == {entry.loss for entry in images.entries if entry.family == "direct"}


def test_peak_memory_sees_what_was_allocated():
    reset_peak("cpu")
    before = peak_mib("cpu")
    torch.ones(64 * 2**20, dtype=torch.uint8)
    assert peak_mib("cpu") >= before + 32
