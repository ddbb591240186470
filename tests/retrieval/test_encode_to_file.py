"""encode_to_file: killed at any line, and shared by two processes."""

import dataclasses
import json
import os
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from pml_nmlayer.retrieval import HashEncoder, code_file
from tests.processes import exit_codes, process_group, start
from tests.retrieval.killed import KILLED, kill_at, was_killed

BITS = 11
STRIDE = 19
SOURCES = ("code_file.py", "code_record.py", "atomic.py")


class Rows:
    """Rows that remember how often they were read."""

    def __init__(self, count):
        self.rows = torch.randn(count, 6, generator=torch.Generator().manual_seed(1))
        self.reads = 0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        self.reads += 1
        return self.rows[i], f"label {i}"


def encoder(batch_size=4, seed=0, **options):
    torch.manual_seed(seed)
    trunk, head = nn.Sequential(nn.Linear(6, 5), nn.ReLU()), nn.Linear(5, BITS)
    return HashEncoder(trunk, head, batch_size=batch_size, **options)


def packed(count, batch_size=4):
    return encoder(batch_size).encode(Rows(count).rows).numpy()


def listing(folder):
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("count", [0, 1, 4, 33])
def test_the_file_holds_what_encode_returns(count, tmp_path):
    path = encoder().encode_to_file(Rows(count), tmp_path / "codes.npy")
    assert path == tmp_path / "codes.npy"
    found = np.load(path, mmap_mode="r")
    assert found.dtype == np.uint8
    assert np.array_equal(found, packed(count))
    assert listing(tmp_path) == ["codes.npy", "codes.npy.json"]
    about = json.loads((tmp_path / "codes.npy.json").read_text())
    assert (about["rows"], about["bits"], about["done"]) == (count, BITS, count)


def test_a_complete_file_is_left_alone(tmp_path):
    path = encoder().encode_to_file(Rows(9), str(tmp_path / "codes.npy"))
    before = path.stat()
    data = Rows(9)
    encoder(batch_size=2).encode_to_file(data, path)
    assert data.reads == 0
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (
        before.st_mtime_ns,
        before.st_ino,
    )


def test_two_files_in_a_folder(tmp_path):
    for count in (5, 6):
        encoder().encode_to_file(Rows(count), tmp_path / f"{count}.npy")
    assert len(listing(tmp_path)) == 4


class Failing(Rows):
    """Stops reading at some row."""

    def __init__(self, count, at):
        super().__init__(count)
        self.at = at

    def __getitem__(self, i):
        if i == self.at:
            raise OSError("the disk is gone")
        return super().__getitem__(i)


def begun(folder, count=33, at=10, **options):
    """A file on the way, with the first two batches done."""
    with pytest.raises(OSError, match="disk is gone"):
        encoder(**options).encode_to_file(Failing(count, at), folder / "codes.npy")
    return folder / "codes.npy"


@pytest.fixture
def _record_always(monkeypatch):
    monkeypatch.setattr(code_file, "_RECORD_EVERY_S", 0)


@pytest.mark.usefixtures("_record_always")
@pytest.mark.parametrize(("batch_size", "workers"), [(4, 0), (4, 1), (3, 0), (100, 0)])
def test_goes_on_where_it_stopped(tmp_path, batch_size, workers):
    path = begun(tmp_path)
    assert listing(tmp_path) == ["codes.npy.json", "codes.npy.partial"]
    data = Rows(33)
    encoder(batch_size, num_workers=workers).encode_to_file(data, path)
    assert data.reads == (0 if workers else 33 - 8)  # workers count in their own copy
    if batch_size == 4:
        assert np.array_equal(np.load(path), packed(33))


def test_records_at_intervals_and_at_the_end(tmp_path, monkeypatch):
    written = []
    write = code_file.write_record
    monkeypatch.setattr(
        code_file,
        "write_record",
        lambda record, facts, **progress: (
            written.append(progress.get("done")),
            write(record, facts, **progress),
        ),
    )
    encoder().encode_to_file(Rows(33), tmp_path / "codes.npy")
    assert written[:2] == [0, 33]
    clock = iter(range(0, 1000))
    monkeypatch.setattr(code_file.time, "monotonic", lambda: next(clock) * 0.4)
    written.clear()
    encoder().encode_to_file(Rows(33), tmp_path / "again.npy")
    assert written[:4] == [0, 12, 24, 33]


@pytest.mark.usefixtures("_record_always")
def test_deleting_the_record_starts_over(tmp_path):
    path = begun(tmp_path)
    (tmp_path / "codes.npy.json").unlink()
    data = Rows(33)
    encoder(seed=3).encode_to_file(data, path)
    assert data.reads == 33
    assert np.array_equal(np.load(path), encoder(seed=3).encode(data.rows).numpy())


@pytest.mark.usefixtures("_record_always")
def test_deleting_the_partial_file_starts_over(tmp_path):
    path = begun(tmp_path)
    (tmp_path / "codes.npy.partial").unlink()
    encoder().encode_to_file(Rows(33), path)
    assert np.array_equal(np.load(path), packed(33))


def wider():
    torch.manual_seed(0)
    return HashEncoder(nn.Sequential(nn.Linear(6, 5), nn.ReLU()), nn.Linear(5, 12))


def other_activation():
    torch.manual_seed(0)
    return HashEncoder(nn.Sequential(nn.Linear(6, 5), nn.GELU()), nn.Linear(5, BITS))


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize(
    ("change", "count", "message"),
    [
        (lambda: encoder(seed=1), 33, r"encoding \(model: \w{64} there, \w{64} here\)"),
        (encoder, 34, r"encoding \(rows: 33 there, 34 here\)"),
        (wider, 33, r"bits: 11 there, 12 here, model:"),
        (other_activation, 33, r"encoding \(model: "),
        (
            lambda: encoder(amp=torch.bfloat16),
            33,
            r"\(amp: None there, torch.bfloat16 here",
        ),
    ],
)
def test_refuses_to_go_on_with_something_else(tmp_path, change, count, message, complete):
    if complete:
        path = encoder().encode_to_file(Rows(33), tmp_path / "codes.npy")
    else:
        path = begun(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in listing(tmp_path)}
    with pytest.raises(ValueError, match=message):
        change().encode_to_file(Rows(count), path)
    assert before == {name: (tmp_path / name).read_bytes() for name in listing(tmp_path)}
    encoder().encode_to_file(Rows(33), path)
    assert np.array_equal(np.load(path), packed(33))


@pytest.mark.parametrize(
    "text", ["", "[1]", "{}", '{"done": 3}', '{"done": "x", "run": 1}']
)
def test_a_foreign_record(tmp_path, text):
    (tmp_path / "codes.npy.json").write_text(text)
    with pytest.raises(ValueError, match="is not a record of encode_to_file"):
        encoder().encode_to_file(Rows(5), tmp_path / "codes.npy")


def test_a_foreign_file_is_not_overwritten(tmp_path):
    path = tmp_path / "codes.npy"
    np.save(path, np.arange(3))
    with pytest.raises(FileExistsError, match="is not the result of such a call"):
        encoder().encode_to_file(Rows(5), path)
    assert np.array_equal(np.load(path), np.arange(3))


@pytest.mark.parametrize("size", [0, 20, 140])
def test_a_truncated_part_is_refused(tmp_path, size):
    path = begun(tmp_path)
    os.truncate(tmp_path / "codes.npy.partial", size)
    for _ in range(2):  # and the refusal does not repair it by halves
        with pytest.raises(ValueError, match=r"codes.npy.partial is damaged"):
            encoder().encode_to_file(Rows(33), path)


def test_another_array_in_place_of_the_codes_is_refused(tmp_path):
    path = begun(tmp_path)
    with open(tmp_path / "codes.npy.partial", "wb") as file:
        np.save(file, np.zeros((33, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"uint8 of shape \(33, 2\), it holds uint8"):
        encoder().encode_to_file(Rows(33), path)


@pytest.mark.parametrize(
    "data",
    [DataLoader(Rows(5)), iter([torch.randn(2, 6)])],
    ids=["loader", "iterator"],
)
def test_data_without_rows_by_number(tmp_path, data):
    with pytest.raises(TypeError, match=r"needs a length and items by number.*loader"):
        encoder().encode_to_file(data, tmp_path / "codes.npy")


def test_a_full_disk_is_an_error_at_the_start(tmp_path, monkeypatch):
    def full(descriptor, offset, length):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        encoder().encode_to_file(Rows(5), tmp_path / "codes.npy")
    monkeypatch.undo()
    encoder().encode_to_file(Rows(5), tmp_path / "codes.npy")


class Free(nn.Module):
    """A head whose width only a forward pass tells."""

    def forward(self, x):
        return torch.cat([x, -x], 1)


def test_a_head_of_unknown_width(tmp_path):
    def make():
        return HashEncoder(nn.Identity(), Free(), batch_size=4)

    path = make().encode_to_file(Rows(9), tmp_path / "codes.npy")
    assert np.array_equal(np.load(path), make().encode(Rows(9).rows))
    with pytest.raises(ValueError, match="after its first batch"):
        make().encode_to_file(Rows(0), tmp_path / "none.npy")


# --- killed ---------------------------------------------------------------------------


def encode_and_die(path, step):
    torch.set_num_threads(1)
    code_file._RECORD_EVERY_S = 0
    coder, data = encoder(), Rows(18)
    kill_at(step, SOURCES)
    coder.encode_to_file(data, path)


@pytest.mark.usefixtures("_record_always")
@pytest.mark.parametrize("part_lost", [False, True])
def test_killed_at_any_line(tmp_path, part_lost):
    """At some lines, from nothing or from a record whose array was deleted."""
    expected, kills, continued, step = packed(18), 0, 0, 1
    while True:
        folder = tmp_path / str(step)
        folder.mkdir()
        path = folder / "codes.npy"
        if part_lost:
            begun(folder, count=18)
            (folder / "codes.npy.partial").unlink()
        if not was_killed(start(encode_and_die, path, step)):
            break
        kills += 1
        if path.exists():  # whole, or not there
            assert np.array_equal(np.load(path), expected)
        data = Rows(18)
        encoder().encode_to_file(data, path)
        continued += 0 < data.reads < 18
        assert np.array_equal(np.load(path), expected)
        left = [name for name in listing(folder) if not name.endswith(".tmp")]
        assert left == ["codes.npy", "codes.npy.json"]
        step += STRIDE
    assert kills > 20
    assert continued > 5


class Slow(Rows):
    def __getitem__(self, i):
        time.sleep(0.005)
        return super().__getitem__(i)


def encode_slowly(path):
    torch.set_num_threads(1)
    code_file._RECORD_EVERY_S = 0
    encoder().encode_to_file(Slow(120), path)


def test_killed_from_outside_again_and_again(tmp_path):
    path = tmp_path / "codes.npy"
    kills, dones = 0, []
    while not path.exists():
        process = start(encode_slowly, path)
        record = tmp_path / "codes.npy.json"
        before = dones[-1] if dones else -1
        deadline = time.monotonic() + 60
        while not path.exists() and time.monotonic() < deadline:
            done = json.loads(record.read_text())["done"] if record.exists() else 0
            if done > before + 20:
                dones.append(done)
                break
            time.sleep(0.001)
        process.kill()
        process.join()
        kills += 1
        assert kills < 30
    assert kills > 2
    assert dones == sorted(dones)
    encoder().encode_to_file(Rows(120), path)
    assert np.array_equal(np.load(path), packed(120))


# --- two processes --------------------------------------------------------------------

WORLD = 2


def in_group(rank, folder, work, arguments):
    code_file._RECORD_EVERY_S = 0
    with process_group(rank, WORLD, folder):
        work(rank, folder, *arguments)


def two_processes(folder, work, *arguments):
    """Run on two processes; their exit codes."""
    (folder / "meeting").unlink(missing_ok=True)
    processes = [start(in_group, rank, folder, work, arguments) for rank in range(WORLD)]
    return exit_codes(*processes)


@dataclasses.dataclass
class Counts:
    """Sizes with even, uneven and empty shares of the two processes."""

    batch_size: int
    sizes: tuple[int, ...]


COUNTS = [Counts(4, (0, 1, 4, 5, 8, 9, 33, 40)), Counts(100, (0, 7))]


def encode_all(rank, folder):
    for counts in COUNTS:
        for size in counts.sizes:
            data = Rows(size)
            encoder(counts.batch_size).encode_to_file(
                data, folder / f"{counts.batch_size}-{size}.npy"
            )
            (folder / f"reads-{counts.batch_size}-{size}-{rank}").write_text(
                str(data.reads)
            )


def test_two_processes_write_the_file_of_one(tmp_path):
    assert two_processes(tmp_path, encode_all) == [0, 0]
    for counts in COUNTS:
        for size in counts.sizes:
            name = f"{counts.batch_size}-{size}"
            (tmp_path / "one").mkdir(exist_ok=True)
            one = encoder(counts.batch_size).encode_to_file(
                Rows(size), tmp_path / "one" / f"{name}.npy"
            )
            assert (tmp_path / f"{name}.npy").read_bytes() == one.read_bytes()
            reads = [
                int((tmp_path / f"reads-{name}-{r}").read_text()) for r in range(WORLD)
            ]
            assert sum(reads) == size
            assert abs(reads[0] - reads[1]) <= counts.batch_size
            # A single process accepts the result of two.
            encoder(counts.batch_size).encode_to_file(Rows(size), tmp_path / f"{name}.npy")
    left = [name for name in listing(tmp_path) if "partial" in name or ".1." in name]
    assert left == []


def die_in_step(rank, folder, victim, step):
    coder, data = encoder(), Rows(30)
    if rank == victim:
        kill_at(step, SOURCES)
    coder.encode_to_file(data, folder / "codes.npy")


def finish(rank, folder):
    data = Rows(30)
    encoder().encode_to_file(data, folder / "codes.npy")
    (folder / f"reads-{rank}").write_text(str(data.reads))


@pytest.mark.parametrize("victim", [0, 1])
def test_one_of_two_processes_is_killed(tmp_path, victim):
    """The other fails, as it loses its peer; a second start finishes the work."""
    kills, continued, step = 0, 0, 3
    while True:
        folder = tmp_path / str(step)
        folder.mkdir()
        path = folder / "codes.npy"
        code = two_processes(folder, die_in_step, victim, step)[victim]
        if code == 0:
            break
        assert code == KILLED
        kills += 1
        if path.exists():
            assert np.array_equal(np.load(path), packed(30))
        assert two_processes(folder, finish) == [0, 0]
        assert np.array_equal(np.load(path), packed(30))
        assert not [name for name in listing(folder) if "partial" in name or ".1." in name]
        continued += (
            sum(int((folder / f"reads-{rank}").read_text()) for rank in (0, 1)) < 30
        )
        step += 90
    assert kills > 3
    assert continued > 1


def fail_on_one(rank, folder):
    """Every kind of failure of one process is an error on both."""
    cases = {
        "the model differs": lambda: encoder(seed=rank).encode_to_file(
            Rows(9), folder / "model.npy"
        ),
        "batch sizes differ": lambda: encoder(3 + rank).encode_to_file(
            Rows(30), folder / "sizes.npy"
        ),
        "no first row": lambda: HashEncoder(nn.Identity(), Free()).encode_to_file(
            Failing(9, at=0 if rank else None), folder / "first.npy"
        ),
        "row 20 is lost": lambda: encoder().encode_to_file(
            Failing(30, 20), folder / "lost.npy"
        ),
        "begun by one": lambda: encoder().encode_to_file(Rows(30), folder / "one.npy"),
        "begun in fours": lambda: encoder(3).encode_to_file(Rows(30), folder / "lost.npy"),
        "foreign": lambda: encoder().encode_to_file(Rows(30), folder / "foreign.npy"),
    }
    messages = {}
    for name, case in cases.items():
        try:
            case()
            messages[name] = "no error"
        except (ValueError, RuntimeError, OSError) as error:
            messages[name] = f"{type(error).__name__}: {error}"
    (folder / f"messages-{rank}.json").write_text(json.dumps(messages))


def test_a_failure_of_one_process_is_one_of_both(tmp_path, monkeypatch):
    with pytest.raises(OSError, match="disk is gone"):
        encoder().encode_to_file(Failing(30, 10), tmp_path / "one.npy")
    np.save(tmp_path / "foreign.npy", np.zeros(3))
    assert two_processes(tmp_path, fail_on_one) == [0, 0]
    first, second = (
        json.loads((tmp_path / f"messages-{rank}.json").read_text()) for rank in (0, 1)
    )
    for found in (first, second):
        assert "process 1 (here) is about to encode" in found["the model differs"]
        assert "model:" in found["the model differs"]
        assert "batch_size: 3 there, 4 here" in found["batch sizes differ"]
        assert "disk is gone" in found["no first row"]
        assert "disk is gone" in found["row 20 is lost"]
        assert "processes: 1 there, 2 here" in found["begun by one"]
        assert "batch_size: 4 there, 3 here" in found["begun in fours"]
        assert "is not the result of such a call" in found["foreign"]
    assert second["row 20 is lost"].startswith("OSError")
    assert first["row 20 is lost"].startswith("RuntimeError: process 1 failed")


def encode_changed_data(rank, folder):
    data = Rows(30)
    data.rows = -data.rows
    encoder().encode_to_file(data, folder / "codes.npy")


@pytest.mark.parametrize("deleted", ["codes.npy.json", "codes.npy.partial"])
def test_deleting_a_file_of_process_0_makes_all_start_over(tmp_path, deleted):
    assert two_processes(tmp_path, die_in_step, 0, 260)[0] == KILLED
    assert (tmp_path / "codes.npy.1.json").exists()
    (tmp_path / deleted).unlink()
    assert two_processes(tmp_path, encode_changed_data) == [0, 0]
    expected = encoder().encode(-Rows(30).rows).numpy()
    assert np.array_equal(np.load(tmp_path / "codes.npy"), expected)
