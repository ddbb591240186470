"""The image path on real JPEG files: load, transform, trunk, features, retrieval."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.__main__ import main
from benchmarks.datasets import DATA_ROOT, ImageFiles, load_collection, load_split
from benchmarks.running import quality, runner
from benchmarks.running.extract import extract
from benchmarks.specs import plan
from benchmarks.suite_files import load_suites
from benchmarks.training import trunks
from benchmarks.training.pictures import Transform
from benchmarks.training.trunks import TRUNKS, load_trunk
from benchmarks.training.vision import FilePictures, Images
from tests.benchmarks.conftest import ROOT, in_this_process

needs_vision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None,
    reason="needs torchvision: pip install 'pml-nmlayer[vision]'",
)
Image = pytest.importorskip("PIL.Image", reason="needs pillow, which torchvision brings")
MINI = Path(os.environ.get(DATA_ROOT, "")) / "cifar10_images_mini"
SUITE = """
kind: quality
dataset: features:pixels.npz
bits: [8]
seeds: [0]
epochs: 10
decay: 0.4
batch_size: 16
timeout_s: 60
methods: [supcon]
"""


@needs_vision
def test_from_a_list_of_images_to_retrieval(
    colors, tmp_path, monkeypatch, one_thread, capsys
):
    monkeypatch.setattr(runner, "run_jobs", in_this_process)
    root = ["--data-root", str(tmp_path)]
    out = tmp_path / "pixels.npz"
    names = ["--dataset", "lists:colors", "--trunk", "pixels", "--out", str(out)]
    assert main(["extract", *names, "--batch-size", "7", *root]) == 0
    assert "wrote 40 x 3072 features" in capsys.readouterr().out
    assert [path.name for path in tmp_path.glob("*pixels*")] == ["pixels.npz"]

    images, features = (
        load_split(name, 0, "report", tmp_path)
        for name in ("lists:colors", "features:pixels.npz")
    )
    for part, ids in images.parts().items():  # the file remembers who is what
        assert torch.equal(ids, features.parts()[part]), part
    assert torch.equal(images.labels, features.labels)

    (tmp_path / "s.yml").write_text(SUITE)
    where = ["--suite", str(tmp_path / "s.yml"), "--out", str(tmp_path / "results")]
    assert main(["run", *where, *root, "--jobs", "1"]) == 0
    assert "| **1.000** (1)" in capsys.readouterr().out  # red is not blue


@needs_vision
def test_features_are_those_of_the_image_alone(colors, tmp_path):
    for batch_size, out in ((3, "a"), (40, "b")):
        path = tmp_path / f"{out}.npz"
        extract(
            "lists:colors", "small_cnn", path, "random", tmp_path, batch_size=batch_size
        )
    first, second = (np.load(tmp_path / f"{out}.npz")["features"] for out in "ab")
    assert first.shape == (40, 128)
    assert first.dtype == np.float32
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)
    assert np.abs(first[0] - first[1]).max() > 0.01


@needs_vision
@pytest.mark.skipif(not MINI.is_dir(), reason=f"needs cifar10_images_mini in {DATA_ROOT}")
def test_real_images(tmp_path):
    out = tmp_path / "cnn.npz"
    assert extract("images:cifar10_images_mini", "small_cnn", out, "random") == (700, 128)
    split = load_split(f"features:{out}", 0, "report")
    sizes = {name: len(ids) for name, ids in split.parts().items()}
    assert sizes == {"train": 450, "validation": 50, "test": 200, "database": 500}
    # Even untrained convolutions tell pictures apart better than chance (0.1).
    labels, centred = split.labels, split.features - split.features.mean(0)
    features = nn.functional.normalize(centred)
    nearest = (features[split.test] @ features[split.database].T).argmax(1)
    hits = labels[split.database][nearest] == labels[split.test]
    assert hits.float().mean() > 0.15


@needs_vision
def test_processes_that_load_keep_the_order(colors, tmp_path):
    files = load_collection("lists:colors", tmp_path).items
    one, two = (
        torch.cat(list(FilePictures(files, Transform(8, 8), loaders=n).in_order(6)))
        for n in (0, 2)
    )
    assert torch.equal(one, two)


@needs_vision
def test_scaled_cut_and_normalised(tmp_path):
    # 60 x 30: white in the middle third, black beside it. The cut sees the middle only.
    pixels = np.zeros((30, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    files = ImageFiles(tmp_path, ("x.png", "grey.png"))
    transform = Transform(resize=15, crop=6)
    image, grey = Images(files, transform)
    white = [(1 - m) / s for m, s in zip(transform.mean, transform.std, strict=True)]
    assert image.shape == (3, 6, 6)
    for channel, value in enumerate(white):
        torch.testing.assert_close(image[channel], torch.full((6, 6), value))
    assert torch.equal(image, grey)
    wide, *_ = Images(files, Transform(resize=15, crop=15))
    assert wide[0, :, 0].max() < 0 < wide[0, :, 7].min()


@needs_vision
def test_a_damaged_image_is_named(colors, tmp_path):
    (colors / "images/3.jpg").write_bytes(b"\xff\xd8 cut short")
    with pytest.raises(ValueError, match=r"images/3\.jpg cannot be read as an image"):
        extract("lists:colors", "pixels", tmp_path / "f.npz", root=tmp_path)
    assert not (tmp_path / "f.npz").exists()


@needs_vision
@pytest.mark.parametrize(
    ("name", "width"), [("alexnet", 4096), ("resnet50", 2048), ("vit_b_16", 768)]
)
def test_torchvision_trunks_end_before_their_classifier(name, width):
    trunk = load_trunk(name, "random")
    assert (trunk.weights, trunk.checksum) == ("random", None)
    assert not trunk.network.training
    crop = trunk.transform.crop
    with torch.inference_mode():
        assert trunk.network(torch.zeros(1, 3, crop, crop)).shape == (1, width)


@needs_vision
def test_weights_from_a_file_and_what_is_noted_of_them(colors, tmp_path):
    torch.manual_seed(1)
    network, path = trunks.small_cnn(), tmp_path / "w.pth"
    torch.save(network.state_dict(), path)
    loaded = load_trunk("small_cnn", str(path)).network
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    out = tmp_path / "f.npz"
    extract("lists:colors:unseen", "small_cnn", out, str(path), tmp_path)
    note = json.loads(str(np.load(out)["note"]))
    assert note["trunk"] == "small_cnn"
    assert note["weights"] == "w.pth"
    assert note["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert note["transform"]["crop"] == 32
    assert str(tmp_path) not in json.dumps(note)


@needs_vision
def test_weights_from_the_cache_of_torchvision(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match="nothing is downloaded: put https://") as caught:
        load_trunk("alexnet")
    (place,) = [w for w in str(caught.value).split() if w.startswith(str(tmp_path))]
    network = trunks.torchvision().models.alexnet(weights=None)
    path = Path(place.rstrip(","))
    path.parent.mkdir()
    torch.save(network.state_dict(), path)
    trunk = load_trunk("alexnet")
    assert trunk.weights == path.name
    assert torch.equal(trunk.network.features[0].bias, network.features[0].bias)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet", None, "unknown trunk 'resnet'; known: pixels, small_cnn, resnet9"),
        ("pixels", "random", "trunk pixels has no weights; leave --weights"),
        ("small_cnn", None, "no published weights of trunk small_cnn; name a file"),
        ("small_cnn", "no.pth", r"there is no file no\.pth with weights"),
        ("small_cnn", "text", "does not hold a state dictionary of the whole trunk"),
        (
            "small_cnn",
            "other",
            r"does not hold .* small_cnn: Error.* in loading state_dict",
        ),
        ("small_cnn", "number", "does not hold a state dictionary of the whole trunk"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, name, weights, message):
    if weights in ("text", "other", "number"):
        path = tmp_path / weights
        path.write_text("no weights")
        if weights != "text":
            torch.save({"other": nn.Linear(2, 2).state_dict(), "number": 3}[weights], path)
        weights = str(path)
    with pytest.raises(ValueError, match=message):
        load_trunk(name, weights)


@needs_vision
def test_random_weights_are_the_same_every_time():
    first, second = (load_trunk("small_cnn", "random").network for _ in range(2))
    assert torch.equal(first[0].weight, second[0].weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "digits"], "digits holds feature vectors already"),
        (["--dataset", "coco"], "there is no coco data set"),
        (["--dataset", "digits", "--out", "x.pt"], r"features go to a .npz file"),
    ],
)
def test_what_cannot_be_extracted_is_said(tmp_path, arguments, message, capsys):
    out = ["--trunk", "pixels", "--out", str(tmp_path / "f.npz")]
    assert main(["extract", *out, "--data-root", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_without_torchvision_the_extra_is_named(colors, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "torchvision" else find(name),
    )
    with pytest.raises(ValueError, match=r"pip install 'pml-nmlayer\[vision\]'"):
        extract("lists:colors", "pixels", tmp_path / "f.npz", root=tmp_path)


def test_a_run_on_images_says_what_to_do_first(colors, tmp_path):
    path = tmp_path / "s.yml"
    path.write_text(SUITE.replace("features:pixels.npz", "lists:colors"))
    (suite,) = load_suites(str(path))
    with pytest.raises(ValueError, match="benchmarks extract --dataset lists:colors"):
        quality.execute(plan(suite)[0], tmp_path)


def test_listing_trunks_needs_no_torchvision(capsys):
    assert main(["list"]) == 0
    assert ", ".join(TRUNKS) in capsys.readouterr().out
    script = "import sys, benchmarks.commands; print('torchvision' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
