"""Trunks trained end to end on real JPEG files, through the real command line."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.__main__ import main
from benchmarks.datasets import DATA_ROOT, ImageFiles, load_collection
from benchmarks.interface import Problem
from benchmarks.reporting import notes
from benchmarks.results import Store
from benchmarks.running import inputs, quality
from benchmarks.running.devices import Machine
from benchmarks.specs import plan
from benchmarks.suite_files import load_suites
from benchmarks.suites import narrow
from benchmarks.training import trunks
from benchmarks.training.learner import Learner
from benchmarks.training.pictures import Transform
from benchmarks.training.seeding import seed_everything
from benchmarks.training.vision import Feed, FilePictures
from tests.benchmarks.conftest import command
from tests.benchmarks.test_trunks import MINI, needs_vision

SUITE = """
kind: quality
dataset: lists:colors
trunk: small_cnn
weights: random
augment: true
bits: [8]
seeds: [0]
epochs: 2
decay: 0.4
batch_size: 16
timeout_s: 60
methods: [itq, supcon, supcon_nm]
"""
MINI_SUITE = SUITE.replace("lists:colors", "images:few").replace(
    "batch_size: 16", "batch_size: 32"
)


def write(path, text):
    path.write_text(text)
    return path


def few_of(folder, target, counts):
    """Link the first images of each class."""
    for part, count in counts.items():
        for images in sorted((folder / part).iterdir()):
            place = target / part / images.name
            place.mkdir(parents=True)
            for image in sorted(images.iterdir())[:count]:
                (place / image.name).symlink_to(image)


def load(path):
    return load_suites(str(path))[0]


@needs_vision
@pytest.mark.skipif(not MINI.is_dir(), reason=f"needs cifar10_images_mini in {DATA_ROOT}")
def test_real_images_are_trained_on_and_a_second_run_gives_the_same(tmp_path, one_thread):
    path, out = write(tmp_path / "mini.yml", MINI_SUITE), tmp_path / "results"
    few_of(MINI, tmp_path / "few", {"train": 16, "test": 4})
    arguments = ["--suite", path, "--out", out, "--data-root", tmp_path, "--jobs", 1]
    process = command("run", *arguments, "--loaders", 1)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "3 runs done, 0 skipped, 0 failed" in output

    store = Store(out)
    for spec in plan(load(path)):
        record, stored = store.load(spec), store.load_arrays(spec)
        again = quality.execute(spec, tmp_path)[1]  # which loads for itself
        assert set(stored) == set(again)
        for name, values in stored.items():
            np.testing.assert_array_equal(values, again[name], strict=True)
        assert record["device"] == "cpu"
        assert record["inputs"]["trunk"] == "small_cnn"
        assert record["inputs"]["weights"] == "random"
        assert record["split"]["sizes"]["train"] == 150
    table = (out / "mini" / "table.md").read_text()
    assert "Trunk: small_cnn, trained end to end on random cuts" in table
    line = next(line for line in table.splitlines() if line.startswith("| SupCon + NM"))
    assert 0.1 < float(line.split("|")[2].strip(" *").split()[0].strip("*")) < 1


@needs_vision
def test_a_list_of_images_is_learned(colors, tmp_path, one_thread):
    suite = load(write(tmp_path / "s.yml", SUITE.replace("epochs: 2", "epochs: 8")))
    found = {}
    for spec in plan(narrow(suite, methods=["supcon", "itq"])):
        record, arrays = quality.execute(spec, tmp_path)
        bits = {k: v for k, v in arrays.items() if k in ("query_sign", "query_code")}
        found[spec["method"]] = record, *bits.values()
    _, codes = found["supcon"]
    red = arrays["query_labels"] == 0
    assert len(np.unique(codes[red])) == len(np.unique(codes[~red])) == 1
    assert codes[red][0] != codes[~red][0]
    assert found["itq"][0]["head_parameters"]["serving"] == 128 * 8 + 8


class Noted(nn.Module):
    """The spread of embeddings of one class, noted at every step."""

    def __init__(self):
        super().__init__()
        self.values = []

    def forward(self, embeddings, labels, tuples):
        hits = embeddings[:, 0] * (2 * labels - 1)
        loss = nn.functional.softplus(-hits).mean()
        self.values.append(loss.item())
        return loss


def pictures(root, **options):
    collection = load_collection("lists:colors", root)
    items = FilePictures(collection.items, Transform(8, 8), **options)
    return items, collection.labels


def learner(loss, **options):
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    problem = Problem(4, 2, 1, epochs=12, decay=0.4, batch_size=16, width=4, trunk=network)
    problem = problem if not options else Problem(**{**vars(problem), **options})
    return Learner(problem, nn.Linear(4, 1), loss, lr=0.02)


@needs_vision
def test_the_loss_falls_and_the_trunk_learns_in_training_mode(
    colors,
    tmp_path,
    one_thread,
):
    items, labels = pictures(tmp_path)
    seed_everything(0)
    loss = Noted()
    trained = learner(loss)
    given = trained.problem.trunk
    before = {name: value.clone() for name, value in trained.trunk.state_dict().items()}
    trained.fit(items, labels)
    assert np.mean(loss.values[-4:]) < 0.8 * np.mean(loss.values[:4])
    after = trained.trunk.state_dict()
    assert not torch.equal(before["0.weight"], after["0.weight"])
    assert after["1.num_batches_tracked"] == 12 * 2  # two whole batches of 40 items
    assert torch.equal(given.state_dict()["0.weight"], before["0.weight"])  # a copy learned

    whole = torch.cat([trained.encode(items[i : i + 1])["code"] for i in range(len(items))])
    assert torch.equal(trained.encode(items)["code"], whole)  # no statistics of a batch
    assert trained.trunk.training


@needs_vision
def test_the_learning_rate_of_the_trunk_is_a_share_of_the_heads(
    colors,
    tmp_path,
    one_thread,
):
    items, labels = pictures(tmp_path)
    slow = learner(Noted(), trunk_lr_factor=0.0)
    before = slow.trunk[0].weight.clone()
    slow.fit(items, labels)
    assert torch.equal(slow.trunk[0].weight, before)
    (optimizer,) = learner(Noted(), trunk_lr_factor=0.1).optimizers()
    assert [group["lr"] for group in optimizer.param_groups] == [
        pytest.approx(0.002),
        0.02,
    ]


@needs_vision
def test_augmented_images_differ_each_time_but_not_with_the_processes(
    colors,
    tmp_path,
):
    rows = [torch.tensor([3, 1]), torch.tensor([2, 0])]
    drawn = []
    for loaders in (0, 2):
        feed = Feed(pictures(tmp_path, augment=True, loaders=loaders)[0])
        torch.manual_seed(7)
        drawn.append(torch.stack(list(feed.epoch(rows))))
        again = torch.stack(list(feed.epoch(rows)))
        assert not torch.equal(drawn[-1], again)
    assert torch.equal(*drawn)
    plain, _ = pictures(tmp_path)
    ordered = torch.cat(list(plain.in_order(16)))
    for some, batch in zip(rows, Feed(plain).epoch(rows), strict=True):
        assert torch.equal(batch, ordered[some])
    part = plain[torch.tensor([5, 2])]
    assert torch.equal(torch.cat(list(part.in_order(1))), ordered[[5, 2]])


@needs_vision
def test_raw_features_are_made_once_and_leave_the_generator_alone(
    colors,
    tmp_path,
    monkeypatch,
    one_thread,
):
    suite = load(write(tmp_path / "s.yml", SUITE.replace("[0]", "[0, 1]")))
    calls = []
    monkeypatch.setattr(
        inputs, "features_of", lambda *a: calls.append(a) or trunks.features_of(*a)
    )
    inputs._frozen_features.cache_clear()
    specs = plan(narrow(suite, methods=["itq"]))
    first, second, again = (
        quality.execute(spec, tmp_path)[1] for spec in (*specs, specs[0])
    )
    assert len(calls) == 1
    assert not np.array_equal(first["query_code"], second["query_code"])
    np.testing.assert_array_equal(first["query_code"], again["query_code"])


@needs_vision
def test_trunks_that_are_not_pretrained_start_from_the_seed(tmp_path):
    suite = load(write(tmp_path / "s.yml", SUITE.replace("[0]", "[0, 1]")))
    files = ImageFiles(tmp_path, ())
    specs = plan(narrow(suite, methods=["itq"]))
    first, second, again = (
        inputs.open_inputs(spec, files, Machine()).problem["trunk"][0].weight
        for spec in (*specs, specs[0])
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("trunk: small_cnn", "trunk: vgg", "unknown trunk in s.yml 'vgg'; known: mlp, pix"),
        ("trunk: small_cnn", "", r"s\.yml says weights, augment, which is for a trunk"),
        ("augment: true", "trunk_lr_factor: -1", "must be at least 0, got -1"),
    ],
)
def test_a_recipe_that_is_not_understood_is_refused(tmp_path, old, new, message):
    with pytest.raises(ValueError, match=message):
        load(write(tmp_path / "s.yml", SUITE.replace(old, new)))


def test_a_trunk_that_has_learned_is_trained_slowly_unless_the_suite_says(tmp_path):
    for old, new, expected in (
        ("", "", 1.0),
        ("weights: random", "weights: file.pth", 0.1),
        ("weights: random", "trunk_lr_factor: 0.5", 0.5),
    ):
        suite = load(write(tmp_path / "s.yml", SUITE.replace(old, new)))
        assert suite.recipe["trunk_lr_factor"] == expected
    assert "trunk" not in load_suites("quick")[0].recipe


FEATURES = SUITE.replace("lists:colors", "digits")
NO_TRUNK = "\n".join(
    line for line in FEATURES.splitlines() if line[:6] not in ("trunk:", "weight", "augmen")
)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (NO_TRUNK, ["--device", "cuda:99"], r"no device 'cuda:99', only cpu"),
        (NO_TRUNK, ["--device", "gpu"], r"no device 'gpu', only cpu"),
        (NO_TRUNK, ["--loaders", "2"], "--loaders is for suites that load images"),
    ],
)
def test_what_no_run_could_do_is_refused_at_once(tmp_path, capsys, text, options, message):
    path, out = write(tmp_path / "s.yml", text), tmp_path / "results"
    assert main(["run", "--suite", str(path), "--out", str(out), *options]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()
    for more in (["--device", "cuda:99"], ["--loaders", "1"]):
        assert main(["run", "--suite", "kernels", "--out", str(out), *more]) == 2
        assert main(["tune", "--suite", "quick", "--out", str(out), *more]) == 2
    assert not out.exists()


@needs_vision
def test_missing_weights_are_refused_at_once(tmp_path, capsys):
    text = SUITE.replace("weights: random", "weights: nowhere.pth")
    path, out = write(tmp_path / "s.yml", text), tmp_path / "results"
    assert main(["run", "--suite", str(path), "--out", str(out)]) == 2
    assert "there is no file nowhere.pth" in capsys.readouterr().err


@needs_vision
def test_features_need_no_trunk_for_images(tmp_path):
    (suite,) = load_suites(str(write(tmp_path / "s.yml", FEATURES)))
    with pytest.raises(ValueError, match="digits holds feature vectors, but trunk small_c"):
        quality.execute(plan(suite)[0], tmp_path)


def test_without_torchvision_a_run_names_the_extra(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "benchmarks.training.vision.importlib.util.find_spec", lambda name: None
    )
    path, out = write(tmp_path / "s.yml", SUITE), tmp_path / "results"
    assert main(["run", "--suite", str(path), "--out", str(out)]) == 2
    assert "pip install 'pml-nmlayer[vision]'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["paper", "paper_resnet50"])
def test_the_suites_of_papers_are_planned(name):
    whole = load_suites(name)
    assert [suite.dataset for suite in whole][2:] == ["nuswide-21", "coco", "imagenet-100"]
    for suite in whole:
        small = narrow(suite, methods=["supcon"], bits=[16], seeds=[0])
        (spec,) = plan(small)
        assert spec["trunk"] == {"paper": "alexnet"}.get(name, "resnet50")
        assert (spec["weights"], spec["trunk_lr_factor"]) == (None, 0.1)
        assert len(suite.seeds) == 5


@needs_vision
def test_a_suite_of_papers_in_miniature(colors, tmp_path, one_thread):
    suite = narrow(load_suites("paper")[0], methods=["supcon"], bits=[16], seeds=[0])
    (spec,) = plan(suite)
    small = {"dataset": "lists:colors", "weights": "random", "epochs": 1, "batch_size": 24}
    record, arrays = quality.execute({**spec, **small}, tmp_path)
    assert record["inputs"]["transform"]["crop"] == 224
    assert record["head_parameters"]["training"] == 4096 * 16 + 16
    assert arrays["query_sign"].shape == (8, 2)


def test_a_table_names_the_device():
    record = {"versions": {"torch": "2"}, "cpu": "A CPU", "git": None, "code": "abc"}
    for given, expected in (
        ({}, "A CPU"),
        ({"device": "cpu"}, "A CPU"),
        ({"device": "cuda:0 (H100)"}, "cuda:0 (H100) beside A CPU"),
    ):
        made, code = notes.origins([{**record, **given}])
        assert made == f"Made with torch 2 on {expected}."
        assert code == "Code: sources abc."


@pytest.mark.gpu
@needs_vision
def test_a_gpu_learns_as_well_and_codes_come_back(colors, tmp_path):
    suite = load(write(tmp_path / "s.yml", SUITE.replace("epochs: 2", "epochs: 8")))
    for spec in plan(suite):
        record, arrays = quality.execute(spec, tmp_path, Machine("cuda"))
        assert record["device"].startswith("cuda (")
        codes = arrays["query_sign" if spec["method"] == "supcon" else "query_code"]
        assert codes.shape == (8, 1)


@pytest.mark.gpu
def test_features_learn_on_a_gpu_without_waiting_for_it():
    seed_everything(0, "cuda")
    problem = Problem(8, 2, 4, epochs=1, decay=0.4, batch_size=16, device="cuda")
    trained = Learner(problem, nn.Linear(problem.width, 4), nn.Identity(), lr=0.01)
    (optimizer,) = trained.optimizers()
    x, y = torch.rand(16, 8, device="cuda"), torch.zeros(16, device="cuda")
    trained.loss = Quiet()
    trained.step(x, y, [optimizer])
    torch.cuda.set_sync_debug_mode("error")
    try:
        trained.step(x, y, [optimizer])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    trained.fit(torch.rand(40, 8), torch.zeros(40))
    assert trained.encode(torch.rand(5, 8))["code"].device.type == "cpu"


class Quiet(nn.Module):
    def forward(self, embeddings, labels, tuples):
        return embeddings.square().mean()
