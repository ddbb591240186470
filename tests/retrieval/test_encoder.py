import os
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from pml_nmlayer.codes import binarize, pack_codes, unpack_codes
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.retrieval import HashEncoder
from pml_nmlayer.retrieval.inputs import batches
from tests import naive
from tests.processes import run_as_torchrun

PAGE = Path(__file__).parents[2] / "docs" / "encoding.md"


def whole_numbers(*shape):
    """Small integers: sums of their products are exact, in any order."""
    return torch.randint(-4, 5, shape).float()


def linear(in_features=6, bits=11):
    """A Linear whose outputs are exact for whole numbers, many of them 0."""
    layer = nn.Linear(in_features, bits)
    with torch.no_grad():
        layer.weight.copy_(whole_numbers(bits, in_features))
        layer.bias.copy_(whole_numbers(bits))
    return layer


def image(row):
    return PIL.Image.fromarray((np.asarray(row).reshape(2, 3) + 4).astype(np.uint8))


def to_row(picture):
    return torch.from_numpy(np.array(picture)).float().flatten() - 4


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class Stream(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        yield from self.items


@pytest.mark.parametrize("bits", [1, 8, 11, 64])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_equals_loop(bits, batch_size, dtype, device):
    x, head = whole_numbers(9, 6).to(dtype), linear(bits=bits).to(dtype)
    encoder = HashEncoder(nn.Identity(), head, batch_size=batch_size, device=device)
    expected = naive.encoded_linear(x.tolist(), head.weight.tolist(), head.bias.tolist())
    assert encoder.bits == bits
    codes = encoder.encode(x)
    assert (codes.dtype, codes.device.type) == (torch.uint8, "cpu")
    assert codes.tolist() == expected


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_only_outputs_near_0_depend_on_the_batch_size(batch_size):
    trunk, head = nn.Sequential(nn.Linear(200, 150), nn.ReLU()), nn.Linear(150, 64)
    x = torch.randn(1000, 200)
    expected = HashEncoder(trunk, head, batch_size=1000).encode(x)
    codes = HashEncoder(trunk, head, batch_size=batch_size).encode(x)
    flipped = unpack_codes(codes, 64) != unpack_codes(expected, 64)
    assert not flipped[head(trunk(x)).abs() > 1e-5].any()


@pytest.mark.gpu
@pytest.mark.parametrize("amp", [None, torch.float16, torch.bfloat16])
def test_a_cuda_device_gives_the_same_codes(amp, tmp_path):
    trunk, head, x = linear(6, 8), linear(8, 24), whole_numbers(100, 6)
    expected = HashEncoder(trunk, head).encode(x)
    encoder = HashEncoder(trunk, head, device="cuda", amp=amp, batch_size=7, num_workers=1)
    for data in (x, list(x), x.cuda()):
        codes = encoder.encode(data)
        assert codes.device.type == "cpu"
        assert torch.equal(codes, expected)
    path = encoder.encode_to_file(list(x), tmp_path / "codes.npy")
    assert np.array_equal(np.load(path), expected)


ROWS = torch.arange(7 * 6).reshape(7, 6).remainder(9).float() - 4
PICTURES = [image(row) for row in ROWS]
LABELS = [f"label {i}" for i in range(7)]  # labels may be anything
SOURCES = {
    "tensor": (ROWS, None),
    "array": (ROWS.numpy(), None),
    "list of tensors": (list(ROWS), None),
    "list of arrays": (list(ROWS.numpy()), None),
    "TensorDataset": (TensorDataset(ROWS, torch.arange(7)), None),
    "dataset of pairs": (Items(list(zip(ROWS, LABELS, strict=True))), None),
    "stream": (Stream(list(zip(ROWS, LABELS, strict=True))), None),
    "loader": (DataLoader(TensorDataset(ROWS, torch.arange(7)), 3), None),
    "images": (PICTURES, to_row),
    "dataset of images": (Items(list(zip(PICTURES, LABELS, strict=True))), to_row),
    "stream of images": (Stream(PICTURES), to_row),
    "tensor and transform": (ROWS + 1, lambda row: row - 1),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("workers", [0, 2])
def test_every_kind_of_data(source, workers):
    data, transform = SOURCES[source]
    head = linear()
    encoder = HashEncoder(nn.Identity(), head, transform, batch_size=3, num_workers=workers)
    assert (
        encoder.encode(data).tolist()
        == HashEncoder(nn.Identity(), head).encode(ROWS).tolist()
    )


def test_a_generator_holds_batches_of_any_size():
    head = linear()
    encoder = HashEncoder(nn.Identity(), head)
    expected = encoder.encode(ROWS)
    sizes = ((ROWS[:1], "label"), [ROWS[1:5]], ROWS[5:].numpy())
    assert torch.equal(encoder.encode(batch for batch in sizes), expected)


def test_slices_cover_the_rows():
    x = torch.arange(10)[:, None]
    for rows in (range(0, 10), range(3, 8), range(4, 4), range(9, 10)):
        found = [batch.flatten().tolist() for batch in batches(x, 3, rows=rows)]
        expected = [
            list(range(i, min(i + 3, rows.stop))) for i in range(rows.start, rows.stop, 3)
        ]
        assert found == expected
        found = [b.flatten().tolist() for b in batches(list(x.numpy()), 3, rows=rows)]
        assert found == expected


@pytest.mark.parametrize("merges", [0, 1, 2])
@pytest.mark.parametrize(
    "options", [{}, {"constant_width": True}, {"num_classes": 3}], ids=str
)
def test_serves_the_folded_head(merges, options):
    head = ProgressiveHead(6, (12, 9, 4), batch_norm=True, **options)
    x = torch.randn(50, 6)
    for _ in range(merges):
        head.observe(head(x), torch.arange(50) % 3)
        head.merge_next()
    encoder = HashEncoder(nn.Identity(), head)
    assert encoder.bits == head.bits == (12, 9, 4)[merges]
    served = unpack_codes(encoder.encode(x), head.bits)
    outputs = head.eval()(x)
    sure = outputs.abs() > 1e-5  # the others may flip by rounding
    assert torch.equal(served[sure], binarize(outputs)[sure])
    assert sure.float().mean() > 0.99
    # What happens to the head afterwards does not reach the encoder.
    nn.init.zeros_(head.linear.weight)
    assert torch.equal(unpack_codes(encoder.encode(x), encoder.bits), served)


def test_modules_are_served_in_eval_mode_and_left_as_they_were():
    trunk = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
    trunk(torch.randn(20, 6))
    trunk[1].eval()  # frozen by its owner
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 8))
    state = {name: value.clone() for name, value in trunk.state_dict().items()}
    x = torch.randn(9, 6)
    random_state = torch.get_rng_state()
    encoder = HashEncoder(trunk, head, batch_size=2)
    codes = encoder.encode(list(x))
    assert torch.equal(codes, encoder.encode(x))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [part.training for part in trunk] == [True, False, True]
    assert trunk.training
    assert head.training
    assert all(torch.equal(trunk.state_dict()[name], state[name]) for name in state)
    expected = pack_codes(binarize(head.eval()(trunk.eval()(x))))
    assert torch.equal(codes, expected)


def test_the_modes_come_back_after_an_error():
    encoder = HashEncoder(nn.Dropout(), nn.Linear(6, 8))
    with pytest.raises(RuntimeError):
        encoder.encode(torch.randn(2, 5))
    assert encoder.trunk.training


def test_amp_runs_the_trunk_only():
    dtypes = []
    trunk, head = nn.Linear(6, 5), nn.Linear(5, 8)
    for layer in (trunk, head):
        layer.register_forward_hook(lambda layer, args, out: dtypes.append(out.dtype))
    x = torch.randn(30, 6)
    codes = HashEncoder(trunk, head, amp=torch.bfloat16).encode(x)
    assert dtypes == [torch.bfloat16, torch.float32]
    with torch.autocast("cpu", torch.bfloat16):
        features = trunk(x).float()
        plain = HashEncoder(trunk, head).encode(x)  # not our autocast, so none at all
    assert torch.equal(codes, pack_codes(binarize(head(features))))
    assert dtypes[-2:] == [torch.float32, torch.float32]
    assert torch.equal(plain, HashEncoder(trunk, head).encode(x))


class Cosine(nn.Module):
    """A head whose width only a forward pass tells."""

    def __init__(self, bits):
        super().__init__()
        self.directions = nn.Parameter(torch.randn(bits, 6))

    def forward(self, x):
        return torch.cosine_similarity(x[:, None], self.directions, dim=2)


def test_a_head_of_unknown_width():
    encoder = HashEncoder(nn.Identity(), Cosine(11))
    with pytest.raises(ValueError, match="after its first batch"):
        _ = encoder.bits
    with pytest.raises(ValueError, match="after its first batch"):
        encoder.encode(torch.empty(0, 6))
    assert encoder.encode(torch.randn(3, 6)).shape == (3, 2)
    assert encoder.bits == 11


def test_nothing_to_encode():
    encoder = HashEncoder(nn.Identity(), nn.Linear(6, 11))
    for nothing in (torch.empty(0, 6), [], iter(())):
        codes = encoder.encode(nothing)
        assert (codes.shape, codes.dtype) == ((0, 2), torch.uint8)


def test_wrapped_modules_are_unwrapped():
    head = ProgressiveHead(6, (8,))
    encoder = HashEncoder(nn.DataParallel(nn.Linear(6, 6)), nn.DataParallel(head))
    assert isinstance(encoder.trunk, nn.Linear)
    assert encoder.bits == 8


@pytest.mark.parametrize("rows", [7, None])
def test_a_progress_bar_if_asked(rows, capsys):
    data = ROWS if rows else (ROWS[:4], ROWS[4:])
    for shown in (False, True):
        HashEncoder(nn.Identity(), linear(), progress=shown).encode(
            data if rows else iter(data)
        )
        printed = capsys.readouterr().err
        assert bool(printed) == shown
    assert ("7/7" if rows else "7row") in printed


def test_infinities_have_a_sign():
    x = torch.tensor([[torch.inf, -torch.inf, 1.0]])
    assert HashEncoder(nn.Identity(), nn.Identity()).encode(x).tolist() == [[0b10100000]]


def nan_at(row):
    x = torch.zeros(7, 6)
    x[row] = torch.nan
    return x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HashEncoder(nn.Identity(), linear(), batch_size=0), "batch_size=0"),
        (lambda: HashEncoder(nn.Identity(), linear(), num_workers=-1), "num_workers=-1"),
        (lambda: HashEncoder(nn.Identity(), linear(), amp=torch.int8), "bfloat16, got"),
        (
            lambda: HashEncoder(nn.Identity(), linear(), batch_size=2).encode(nan_at(5)),
            "row 5 holds NaN",
        ),
        (
            lambda: HashEncoder(nn.Identity(), nn.Identity()).encode(torch.randn(3)),
            r"must return \(3, bits\) for this batch, got \(3,\)",
        ),
        (
            lambda: HashEncoder(nn.Flatten(0), linear(18)).encode(torch.randn(3, 6)),
            r"must return \(3, 11\) for this batch, got \(11,\)",
        ),
        (
            lambda: HashEncoder(nn.Identity(), linear(), abs).encode(iter([ROWS])),
            "works on items, but batches were passed",
        ),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("workers", [0, 1])
def test_images_without_a_transform(workers):
    encoder = HashEncoder(nn.Identity(), linear(), num_workers=workers)
    with pytest.raises(TypeError, match=r"got Image. Images need HashEncoder"):
        encoder.encode(PICTURES)


@pytest.mark.parametrize("unit", [[{"image": ROWS}], "ab", [None]])
def test_batches_of_something_else(unit):
    with pytest.raises(TypeError, match="must be a tensor or an array"):
        HashEncoder(nn.Identity(), linear()).encode(iter(unit))


def test_the_page(tmp_path):
    """The examples of docs/encoding.md run; the last one as torchrun runs it."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 2
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        exec(compile(blocks[0], str(PAGE), "exec"), {})
    finally:
        os.chdir(here)
    expected = np.load(tmp_path / "codes.npy")
    (tmp_path / "encode.py").write_text(blocks[1])
    (tmp_path / "codes.npy").unlink()
    (tmp_path / "codes.npy.json").unlink()
    run_as_torchrun(2, tmp_path / "encode.py", tmp_path)
    assert np.array_equal(np.load(tmp_path / "codes.npy"), expected)
