"""Images in memory: what is decoded, how it is cut, and what a small part of a set is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.datasets import Collection, ImageFiles, load_collection, load_split
from benchmarks.datasets.thinning import thinned
from benchmarks.training.decoded import SHIFT, Decoded, decode
from benchmarks.training.pictures import Transform
from benchmarks.training.resnet9 import resnet9
from tests.benchmarks.picture_set import COLOURS, write_pictures

PLAIN = Transform(16, 16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def numbered(side=8, count=3):
    """Images whose every pixel is another number."""
    values = torch.arange(count * side * side * 3) % 251
    images = values.reshape(count, side, side, 3).to(torch.uint8)
    return Decoded(images, torch.arange(count), PLAIN)


def test_bytes_are_those_of_the_file_and_normalised(tmp_path):
    folder = write_pictures(tmp_path / "set")
    files = load_collection("images:set", tmp_path).items
    transform = Transform(16, 16)
    decoded = decode(files, transform, False, "cpu")
    batch = next(iter(decoded[torch.tensor([7, 2])].in_order(4)))
    assert batch.shape == (2, 3, 16, 16)
    with Image.open(folder / files.names[7]) as image:
        pixels = np.array(image.convert("RGB")) / 255
    expected = (pixels - transform.mean) / transform.std
    np.testing.assert_allclose(batch[0].numpy(), expected.transpose(2, 0, 1), atol=1e-5)
    assert batch.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(20, 30), (64, 16), (7, 9)], ids=str)
def test_other_sizes_are_scaled_and_cut_out_of_the_centre(tmp_path, size):
    Image.new("RGB", size, (10, 20, 30)).save(tmp_path / "a.png")
    found = decode(ImageFiles(tmp_path, ("a.png",)), PLAIN, False, "cpu")
    assert found.images.shape == (1, 16, 16, 3)
    assert (found.images == torch.tensor([10, 20, 30])).all()


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(ValueError, match=r"a.png cannot be read as an image"):
        decode(ImageFiles(tmp_path, ("a.png",)), PLAIN, False, "cpu")


def naive_cut(image, down, across, mirrored):
    """Shift an image with loops; what lies outside is mirrored at the border."""
    side = len(image)
    found = np.zeros_like(image)
    for y in range(side):
        for x in range(side):
            places = []
            for place, shift in ((y, down), (side - 1 - x if mirrored else x, across)):
                at = abs(place + shift)
                places.append(2 * (side - 1) - at if at >= side else at)
            found[y, x] = image[places[0], places[1]]
    return found


def test_each_cut_is_a_shift_and_a_mirror_image_of_its_own():
    items = Decoded(numbered(count=40).images, torch.arange(40), PLAIN, augment=True)
    torch.manual_seed(0)
    (batch,) = items.epoch([torch.arange(40)])
    most = 8 // SHIFT
    shifts = range(-most, most + 1)
    seen = set()
    for image, cut in zip(items.images.numpy(), batch, strict=True):
        found = (cut.permute(1, 2, 0) * 255).round().byte().numpy()
        ways = [
            (down, across, mirrored)
            for down in shifts
            for across in shifts
            for mirrored in (False, True)
            if np.array_equal(naive_cut(image, down, across, mirrored), found)
        ]
        assert len(ways) == 1
        seen.add(ways[0])
    assert len(seen) > 10


def test_batches_without_cuts_are_the_images_in_the_order_that_is_asked_for():
    items = numbered()[torch.tensor([2, 0, 1])]
    first, second = items.epoch([torch.tensor([1]), torch.tensor([0, 2])])
    whole = next(iter(items.in_order(8)))
    assert torch.equal(first, whole[[1]])
    assert torch.equal(second, whole[[0, 2]])


def test_the_trunk_takes_any_size_and_shows_its_gradient():
    torch.manual_seed(0)
    trunk = resnet9(2)
    assert trunk(torch.rand(2, 3, 16, 16)).shape == (2, 16)
    trunk(torch.rand(2, 3, 24, 32)).sum().backward()
    assert all(p.grad is not None for p in trunk.parameters())


def test_folders_by_class_need_no_parts(tmp_path):
    write_pictures(tmp_path / "set")
    found = load_collection("images:set", tmp_path)
    assert len(found.items) == 30
    assert not found.parts
    assert found.labels.bincount().tolist() == [10, 10, 10]
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"none has no images CLASS"):
        load_collection("images:none", tmp_path)


@pytest.mark.parametrize("most", [3, 24, 36, 100])
def test_a_small_part_keeps_shares_of_classes_and_parts(tmp_path, most):
    write_pictures(tmp_path / "set", {"train": 10, "test": 5})
    whole = load_collection("images:set", tmp_path)
    if most == 3:
        with pytest.raises(ValueError, match="too few: 3 classes vanish"):
            thinned(whole, most)
        return
    found = thinned(whole, most)
    share = min(most, 45) / 45
    assert len(found.items) == len(found.labels)
    for part, count in {"train": 10, "test": 5}.items():
        kept = found.labels[found.parts[part]].bincount().tolist()
        assert kept == [int(count * share)] * len(COLOURS)
        for place in found.parts[part].tolist():
            name = Path(found.items.names[place])
            assert name.parts[0] == part
            assert sorted(COLOURS)[found.labels[place]] == name.parts[1]
    assert thinned(whole, most).items == found.items


def test_a_small_part_of_features_keeps_rows_together():
    rows = torch.arange(20.0)[:, None]
    whole = Collection(rows, torch.arange(20) % 2, coarse_labels=torch.arange(20) % 4)
    found = thinned(whole, 8)
    assert len(found.items) == 8
    assert torch.equal(found.labels, found.items[:, 0].long() % 2)
    assert torch.equal(found.coarse_labels, found.items[:, 0].long() % 4)


def test_a_split_of_a_part_is_smaller(tmp_path):
    write_pictures(tmp_path / "set")
    split = load_split("images:set:random", 0, "report", tmp_path, most_items=15)
    assert len(split.features) == 15
