"""Items that cannot be read: named, or skipped, recorded and left behind."""

import json

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset

from pml_nmlayer.retrieval import HashEncoder, code_file, read_codes

BITS = 11


@pytest.fixture
def photos(tmp_path):
    """Twelve files, of which three cannot be read."""
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(12):
        pixels = generator.integers(0, 256, (2, 3, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{i:02}.png")
    (folder / "00.png").write_bytes(b"no image")
    content = (folder / "05.png").read_bytes()
    (folder / "05.png").write_bytes(content[: len(content) // 2])
    (folder / "11.png").unlink()
    return [folder / f"{i:02}.png" for i in range(12)]


def read_photo(path):
    with PIL.Image.open(path) as image:
        return torch.from_numpy(np.array(image)).float().flatten()


def encoder(**options):
    torch.manual_seed(0)
    head = options.pop("head", None) or nn.Linear(18, BITS)
    norm = nn.BatchNorm1d(18, affine=False, track_running_stats=True)
    norm.running_mean.fill_(128)
    return HashEncoder(norm, head, read_photo, batch_size=4, **options)


class Files:
    """A dataset in the manner of torchvision's ImageFolder."""

    def __init__(self, paths):
        self.samples = [(str(path), 0) for path in paths]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return read_photo(self.samples[i][0]), self.samples[i][1]


BAD = {0, 5, 11}


@pytest.mark.parametrize("workers", [0, 2])
def test_the_error_names_item_and_file(photos, workers):
    for rows, name in (((1, 2, 5), "item 2 .*05.png"), ((1, 11), "item 1 .*11.png")):
        with pytest.raises(OSError, match=name):
            encoder(num_workers=workers).encode([photos[i] for i in rows])
    plain = encoder(num_workers=workers)
    plain.transform = None
    with pytest.raises(
        OSError, match=r"item 0 \(.*00.png\) could not be read: Unidentified"
    ):
        plain.encode(Files(photos))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:3 items could not be read")
def test_skipped_items_keep_their_rows(photos, workers):
    coder = encoder(unreadable="skip", num_workers=workers)
    codes, skipped = coder.encode(photos, return_skipped=True)
    assert skipped.keys() == BAD
    assert all(f"item {i} " in why and photos[i].name in why for i, why in skipped.items())
    good = [i for i in range(12) if i not in BAD]
    assert torch.equal(codes[good], encoder().encode([photos[i] for i in good]))
    assert not codes[sorted(BAD)].any()


def test_a_warning_names_what_was_skipped(photos):
    with pytest.warns(UserWarning, match=r"3 items .* zeros: item 0 \(.*00.png\)"):
        encoder(unreadable="skip").encode(photos)


@pytest.mark.filterwarnings("ignore:[0-9]+ items could not be read")
def test_a_batch_of_which_nothing_can_be_read(photos):
    bad = [photos[0]] * 4
    coder = encoder(unreadable="skip")
    assert not coder.encode(bad).any()
    free = encoder(unreadable="skip", head=Free())
    with pytest.raises(ValueError, match="no item of rows 0 to 3 can be read"):
        free.encode(bad)
    assert free.encode(bad[:3] + photos[1:3])[3:].any()
    assert not free.encode(bad).any()


class Free(nn.Module):
    """A head whose width only a forward pass tells."""

    def forward(self, x):
        return torch.cat([x, -x], 1)


@pytest.mark.filterwarnings("ignore:3 items could not be read")
def test_a_file_records_them_and_resume_does_not_stop_there(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(code_file, "_RECORD_EVERY_S", 0)
    path = tmp_path / "codes.npy"
    with pytest.raises(OSError, match=r"item 0 \(.*00.png\)"):
        encoder().encode_to_file(photos, path)
    coder = encoder(unreadable="skip")
    reads = []

    def read(photo, stop=8):
        reads.append(photo)
        if len(reads) == stop:
            raise KeyboardInterrupt
        return read_photo(photo)

    coder.transform = read
    with pytest.raises(KeyboardInterrupt):
        coder.encode_to_file(photos, path)
    reads.clear()
    coder.transform = lambda photo: read(photo, None)
    coder.encode_to_file(photos, path)
    assert reads == photos[4:]
    found = read_codes(path, verify=True)
    assert found.skipped.keys() == BAD
    assert (found.bits, found.codes.shape) == (BITS, (12, 2))
    assert np.array_equal(found.codes, coder.encode(photos))
    reads.clear()
    coder.encode_to_file(photos, path)
    assert not reads
    assert set(json.loads((tmp_path / "codes.npy.json").read_text())["skipped"]) == {
        "0",
        "5",
        "11",
    }
    with pytest.raises(ValueError, match=r"3 rows of zeros .*00.png.* unreadable='skip'"):
        encoder().encode_to_file(photos, path)


class Stream(IterableDataset):
    def __iter__(self):
        yield from [torch.zeros(18)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Stream(), "needs items by number.*map-style dataset in the place of this Stream"),
        (iter([torch.zeros(2, 18)]), "works on items, but batches were passed"),
    ],
)
def test_skipping_needs_items_by_number(data, message):
    coder = HashEncoder(nn.Identity(), nn.Linear(18, 8), unreadable="skip")
    with pytest.raises(ValueError, match=message):
        coder.encode(data)
