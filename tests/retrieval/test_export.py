"""export_program and export_onnx: the codes of HashEncoder, from a graph."""

import builtins
import itertools
import json
import os
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import pml_nmlayer
from pml_nmlayer.codes import unpack_codes
from pml_nmlayer.heads.folding import Readout
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.merging.nm_layer import Merge
from pml_nmlayer.retrieval import HashEncoder, export_onnx, export_program
from pml_nmlayer.retrieval.states import checksum
from tests.digits import digits, trunk_and_head
from tests.processes import exit_codes, start
from tests.retrieval.killed import KILLED, kill_at

# torch.onnx.export copies programs in a way that torch itself declares old
pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")

BOTH = (".pt2", ".onnx")
STRIDES = {".pt2": 400, ".onnx": 9}  # lines between two kills; one file has many writes


def loaded(path):
    """A function from batches to packed codes, of a file alone."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    session = onnxruntime.InferenceSession(path)
    return lambda x: torch.from_numpy(session.run(["codes"], {"x": x.numpy()})[0])


def write(encoder, example, path):
    (export_onnx if path.suffix == ".onnx" else export_program)(encoder, example, path)


def exported(encoder, example, path):
    write(encoder, example, path)
    return loaded(path)


@pytest.fixture
def path(suffix, tmp_path):
    return tmp_path / f"model{suffix}"


def in_both_kinds(test):
    return pytest.mark.parametrize("suffix", BOTH)(test)


def whole_linear(in_features, bits):
    """A Linear whose outputs are exact for whole numbers in any order, many of them 0."""
    layer = nn.Linear(in_features, bits)
    with torch.no_grad():
        layer.weight.copy_(torch.randint(-3, 4, (bits, in_features)))
        layer.bias.copy_(torch.randint(-3, 4, (bits,)))
    return layer


@pytest.mark.parametrize(
    ("suffix", "bits", "tanh", "dtype"),
    [
        (".pt2", 1, False, torch.float64),
        (".pt2", 8, False, torch.float32),
        (".pt2", 11, True, torch.bfloat16),
        (".pt2", 64, True, torch.float32),
        (".onnx", 8, True, torch.float32),
        (".onnx", 11, False, torch.float64),
    ],
)
def test_exact_outputs_give_equal_codes(path, bits, tanh, dtype):
    trunk, head = whole_linear(6, 5).to(dtype), whole_linear(5, bits).to(dtype)
    encoder = HashEncoder(trunk, nn.Sequential(head, nn.Tanh()) if tanh else head)
    x = torch.randint(-4, 5, (300, 6)).to(dtype)
    serve = exported(encoder, x[:1], path)
    zero = head(trunk(x)) == 0
    assert zero.any()
    for rows in (1, 2, 7, 300):
        codes = serve(x[:rows])
        assert codes.dtype == torch.uint8
        assert torch.equal(codes, encoder.encode(x[:rows]))
    assert (unpack_codes(codes, bits)[zero] == 1).all()
    assert serve(x[:0]).shape == (0, -(-bits // 8))


def trained(stage, **options):
    """A head whose biases fit its trunk, after some merges."""
    torch.manual_seed(stage)
    trunk, head = trunk_and_head((45, 20, 12), **options)
    x, y = digits()[0][:400]
    optimizer = torch.optim.Adam([*trunk.parameters(), *head.parameters()], 1e-2)
    for step in range(30 * (stage + 1)):
        if step and step % 30 == 0:
            head.merge_next()
        h = head(trunk(x))
        head.observe(h, y)
        agree = (y[:, None] == y).float() * 2 - 1
        loss = (h @ h.T / h.shape[1] - agree).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return trunk, head


@pytest.mark.parametrize(
    ("suffix", "stage", "options"),
    [
        (".pt2", 0, {}),
        (".pt2", 1, {"activation": None}),
        (".pt2", 2, {"batch_norm": True}),
        (".onnx", 1, {}),
        (".pt2", 2, {"num_classes": 10}),
        (".onnx", 2, {"num_classes": 10, "batch_norm": True}),
    ],
    ids=str,
)
def test_digits_give_equal_codes(path, stage, options):
    trunk, head = trained(stage, **options)
    encoder = HashEncoder(trunk, head)
    assert encoder.bits == (45, 20, 12)[stage]
    parts = encoder.head.modules()
    assert any(isinstance(part, Readout) for part in parts) == ("num_classes" in options)
    serve = exported(encoder, digits()[0][:1][0], path)
    x = torch.cat([part[:][0] for part in digits()])
    # Nothing is within rounding of 0, so that nothing may differ
    x = x[head.eval()(trunk(x)).abs().amin(dim=1) > 1e-5]
    assert len(x) > 690
    codes = encoder.encode(x)
    assert len(codes.unique(dim=0)) > 10
    for rows in (1, 13, 700):
        assert torch.equal(torch.cat([serve(part) for part in x.split(rows)]), codes)


@in_both_kinds
def test_only_outputs_near_0_may_differ(path):
    trunk, head = nn.Sequential(nn.Linear(200, 150), nn.ReLU()), nn.Linear(150, 64)
    with torch.no_grad():
        head.bias.copy_(-head.weight @ trunk(torch.zeros(200)))  # x = 0 is a tie
    encoder = HashEncoder(trunk, head)
    near = torch.logspace(-7, 0, 2000)[:, None] * torch.randn(2000, 200)
    different = unpack_codes(exported(encoder, near, path)(near), 64) != unpack_codes(
        encoder.encode(near), 64
    )
    u = head(trunk(near)).abs()
    assert (u < 1e-7).sum() > 1000  # the question arises
    assert not different[u > 1e-6].any()


@in_both_kinds
def test_a_tie_between_opposite_members_of_a_group_is_plus_1(path):
    head = ProgressiveHead(3, (4, 2))
    with torch.no_grad():
        head.linear.weight.copy_(
            torch.tensor([[1, 2, 3], [-1, -2, -3], [1, 0, 0], [1, 0, 0]])
        )
        head.linear.bias.zero_()
    head.merges.commit(Merge(torch.tensor([0, 0, 1, 1]), torch.full((4,), 0.5)))
    encoder = HashEncoder(nn.Identity(), head)
    x = torch.randn(50, 3)
    codes = exported(encoder, x, path)(x)
    assert torch.equal(codes, encoder.encode(x))
    assert (unpack_codes(codes, 2)[:, 0] == 1).all()


@in_both_kinds
def test_numbers_at_both_ends(path):
    """A graph cannot raise: what is NaN gets bit 0, as in raw_sign."""
    encoder = HashEncoder(nn.Identity(), nn.Sequential(nn.Identity(), nn.Tanh()))
    smallest = torch.finfo(torch.float32).smallest_normal
    # A runtime's tanh may round the smallest to 0, which has another sign
    low = -torch.tensor([2.0**-149, 2.0**-140, smallest / 2, smallest, 1e-30, 1, 99, 0])
    odd = torch.tensor([torch.nan, torch.inf, -torch.nan, -torch.inf, -0.0, 3, -3, 0])
    x = torch.stack([low, -low, odd])
    codes = exported(encoder, x[:1], path)(x)
    assert codes.tolist() == [[0b00000001], [0b11111111], [0b01001101]]
    assert torch.equal(codes[:2], encoder.encode(x[:2]))
    with pytest.raises(ValueError, match="row 2 holds NaN"):
        encoder.encode(x)


class Digit(nn.Module):
    """A convolutional trunk that takes bytes and has an opinion on the batch."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        x = self.norm(self.convolution(x.unsqueeze(1).float() / 16))
        return self.dropout(x).flatten(1)


@in_both_kinds
def test_items_a_transform_and_a_trunk_in_training_mode(path):
    trunk, head = Digit(), ProgressiveHead(8 * 6 * 6, (9,))
    images = (digits()[0][:20][0] * 16).reshape(-1, 8, 8).byte().numpy()
    trunk(torch.from_numpy(images))
    trunk.norm.eval()  # frozen by its owner
    encoder = HashEncoder(trunk, head, lambda image: torch.tensor(image).flip(0))
    codes = encoder.encode(list(images))
    assert len(codes.unique(dim=0)) > 10
    state = {name: value.clone() for name, value in trunk.state_dict().items()}
    random_state = torch.get_rng_state()
    serve = exported(encoder, list(images[:3]), path)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [part.training for part in trunk.children()] == [True, False, True]
    assert all(torch.equal(trunk.state_dict()[name], state[name]) for name in state)
    assert torch.equal(serve(torch.from_numpy(images).flip(1)), codes)


def test_training_goes_on_without_the_program():
    trunk, x = nn.Linear(6, 6), torch.randn(40, 6)
    encoder = HashEncoder(trunk, nn.Linear(6, 8))
    program, codes = export_program(encoder, x), encoder.encode(x)
    nn.init.zeros_(trunk.weight)
    nn.init.zeros_(encoder.head.weight)
    assert torch.equal(program.module()(x), codes)
    assert not torch.equal(encoder.encode(x), codes)


class Cosine(nn.Module):
    """A head whose width only a forward pass tells."""

    def __init__(self, bits):
        super().__init__()
        self.directions = nn.Parameter(torch.randn(bits, 6))

    def forward(self, x):
        return torch.cosine_similarity(x[:, None], self.directions, dim=2)


@pytest.mark.parametrize("suffix", [".pt2"])
def test_a_head_of_unknown_width(path):
    encoder, x = HashEncoder(nn.Identity(), Cosine(11)), torch.randn(30, 6)
    assert torch.equal(exported(encoder, x, path)(x), encoder.encode(x))


@pytest.mark.gpu
# torch's own, of a program whose weights lie on a device
@pytest.mark.filterwarnings("ignore:The given buffer is not writable")
@in_both_kinds
def test_a_cuda_encoder(path):
    trunk, head, x = whole_linear(6, 5), whole_linear(5, 11), torch.randn(30, 6).round()
    codes = HashEncoder(trunk, head).encode(x)
    serve = exported(HashEncoder(trunk, head, device="cuda"), x, path)
    x = x.cuda() if path.suffix == ".pt2" else x
    assert torch.equal(serve(x).cpu(), codes)


def test_the_files_tell_what_they_hold_and_nothing_else(tmp_path):
    encoder = HashEncoder(*trunk_and_head((12,)))
    example = torch.full((40, 64), 0.7310586)
    onnx_file, program_file = tmp_path / "model.onnx", tmp_path / "model.pt2"
    assert export_onnx(encoder, example, str(onnx_file)) == onnx_file
    export_program(encoder, example, str(program_file))
    assert sorted(tmp_path.iterdir()) == [onnx_file, program_file]
    for file in (onnx_file, program_file):
        content = file.read_bytes()
        assert encoder.head[0].weight.detach().numpy().tobytes() in content
        assert example[0].numpy().tobytes() not in content
        assert b"encoder.py" not in content  # source lines and paths
        assert b"container.py" not in content
    model = onnx.load(onnx_file)
    onnx.checker.check_model(model, full_check=True)
    told = {entry.key: entry.value for entry in model.metadata_props}
    extra = {"metadata.json": ""}
    torch.export.load(program_file, extra_files=extra)
    assert json.loads(extra["metadata.json"]) == told
    assert told == {
        "bits": "12",
        "package_version": pml_nmlayer.__version__,
        "convention": "bit 1 where output >= 0; eight bits a byte, first bit highest",
        "model": checksum(encoder.trunk, encoder.head),
    }
    values = [(*model.graph.input, "x", 64), (*model.graph.output, "codes", 2)]
    for value, name, width in values:
        assert value.name == name
        batch, second = value.type.tensor_type.shape.dim
        assert (batch.dim_param, second.dim_value) == ("batch", width)


def test_a_program_runs_without_this_package(tmp_path, monkeypatch):
    encoder, x = HashEncoder(*trunk_and_head((12,))), digits()[1][:][0]
    codes = encoder.encode(x)
    export_program(encoder, x, tmp_path / "model.pt2")
    for name in list(sys.modules):
        if name.split(".")[0] == "pml_nmlayer":
            monkeypatch.setitem(sys.modules, name, None)  # importing it is an error
    assert torch.equal(loaded(tmp_path / "model.pt2")(x), codes)


class OnlyBatchesOf(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def forward(self, x):
        return x.reshape(self.rows, 6)


@in_both_kinds
def test_a_trunk_for_one_batch_size_is_refused(path):
    path.write_bytes(b"old")
    for encoder in (
        HashEncoder(OnlyBatchesOf(2), nn.Linear(6, 8)),
        HashEncoder(nn.Sequential(OnlyBatchesOf(4), nn.Linear(6, 6)), nn.Linear(6, 8)),
    ):
        rows = 2 if isinstance(encoder.trunk, OnlyBatchesOf) else 4
        with pytest.raises(Exception, match=r"(?i)batch|invalid for input"):
            exported(encoder, torch.randn(rows, 6), path)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".pt2"])
@pytest.mark.parametrize(
    ("options", "example", "message"),
    [
        ({"amp": torch.bfloat16}, torch.randn(2, 6), "amp=torch.bfloat16: export one"),
        ({}, torch.randn(0, 6), "at least one item, got none"),
        ({}, iter([torch.randn(2, 6)]), "at least one item, got none"),
        ({}, torch.full((2, 6), torch.nan), "row 0 holds NaN"),
    ],
)
def test_bad_values(path, options, example, message):
    encoder = HashEncoder(nn.Identity(), nn.Linear(6, 8), **options)
    with pytest.raises(ValueError, match=message):
        exported(encoder, example, path)
    assert not path.exists()


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_without_onnx(tmp_path, monkeypatch, missing):
    load = builtins.__import__

    def without(name, *args, **kwargs):
        if name == missing:
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    encoder = HashEncoder(nn.Identity(), nn.Linear(6, 8))
    with pytest.raises(ImportError, match=r"pip install pml-nmlayer\[onnx\]"):
        export_onnx(encoder, torch.randn(2, 6), tmp_path / "model.onnx")
    export_program(encoder, torch.randn(2, 6), tmp_path / "model.pt2")


HEADS = {
    "tanh": {},
    "linear": {"activation": None, "batch_norm": True},
    "batch norm": {"batch_norm": True},
    "constant width": {"constant_width": True},
    "joint": {"longer": "joint"},
    "classes": {"num_classes": 10},
    "classes, linear": {"num_classes": 10, "activation": None},
    "classes, batch norm": {"num_classes": 10, "batch_norm": True},
}


@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS)
def test_heads_alone_can_be_exported_in_every_stage(tmp_path, options):
    head, (x, y) = ProgressiveHead(64, (24, 12, 6), **options), digits()[0][:]
    batch = ({0: torch.export.Dim("batch")},)
    for stage in range(3):
        if stage:
            head.train()
            head.observe(head(x), y)
            head.merge_next()
        head.eval()
        program = torch.export.export(head, (x[:2],), dynamic_shapes=batch)
        folded = head.fold()
        folded_program = torch.export.export(folded, (x[:2],), dynamic_shapes=batch)
        for rows in (1, 500):
            assert torch.equal(program.module()(x[:rows]), head(x[:rows]))
            assert torch.equal(folded_program.module()(x[:rows]), folded(x[:rows]))
    if head.norm is None or head.classes is None:
        return  # of the layers of this one, so one ONNX file will do
    torch.onnx.export(
        folded_program,
        f=tmp_path / "head.onnx",
        dynamo=True,
        verbose=False,
        input_names=["x"],
        dynamic_shapes=batch,
    )
    session = onnxruntime.InferenceSession(tmp_path / "head.onnx")
    for rows in (1, 500):
        (u,) = session.run(None, {"x": x[:rows].numpy()})
        np.testing.assert_allclose(u, head(x[:rows]).detach(), rtol=0, atol=1e-5)


def die_at_every_step(folder, file):
    """Fork processes that write over an old file and die, each some lines later.

    Tracing, which touches no file, is replaced by its result to save time.
    """
    encoder = HashEncoder(nn.Identity(), nn.Linear(6, 8))
    encoder.encode(torch.randn(2, 6))
    module = "pml_nmlayer.retrieval.export"
    with pytest.MonkeyPatch.context() as patch:
        if file.suffix == ".onnx":
            result = type("Exported", (), {"model_proto": onnx.load(file)})
            patch.setattr(f"{module}._trace", lambda *args: None)
            patch.setitem(sys.modules, "onnxscript", onnx)  # importing it takes seconds
            patch.setattr("torch.onnx.export", lambda *args, **options: result)
        else:
            program = torch.export.load(file)
            patch.setattr(f"{module}._trace", lambda *args: program)
        for step in itertools.count(1, STRIDES[file.suffix]):
            path = folder / f"{step}{file.suffix}"
            path.write_bytes(b"old")
            process = os.fork()
            if process == 0:
                kill_at(step, ("export.py", "atomic.py"))
                write(encoder, None, path)
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            assert code in (0, KILLED)
            if code == 0:
                return


def die_in_both_kinds(folder, files):
    torch.set_num_threads(1)
    for file in files:
        die_at_every_step(folder, file)


def test_killed_while_writing_the_old_file_or_the_new_one_is_whole(tmp_path):
    x, encoder = torch.randn(40, 6), HashEncoder(nn.Identity(), nn.Linear(6, 8))
    files = [tmp_path / f"model{suffix}" for suffix in BOTH]
    for file in files:
        write(encoder, x, file)
    folder = tmp_path / "killed"
    folder.mkdir()
    assert exit_codes(start(die_in_both_kinds, folder, files)) == [0]
    for suffix in BOTH:
        found = []
        files = folder.glob(f"[0-9]*{suffix}")
        for file in sorted(files, key=lambda file: int(file.stem)):
            is_old = file.read_bytes() == b"old"
            found.append("old" if is_old else "new")
            assert is_old or torch.equal(loaded(file)(x), encoder.encode(x))
        assert found == sorted(found, reverse=True)
        assert list(folder.glob(f".*{suffix}.tmp"))  # killed with half of a file, too
        assert found[0] == "old"
        assert found[-1] == "new"  # not killed
