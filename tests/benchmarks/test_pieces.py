"""A suite in pieces: each goes on where the last one stopped, from its archive alone."""

import json
import os
import subprocess
import sys
import tarfile

import pytest

from benchmarks import pieces
from benchmarks.__main__ import main
from benchmarks.reporting import judging, pictures
from benchmarks.reporting.captions import Picture
from benchmarks.results import Store
from benchmarks.running import runner
from benchmarks.specs import plan
from benchmarks.suite_files import load_suites
from tests.benchmarks.conftest import ROOT, in_this_process
from tests.benchmarks.picture_set import SUITE, write_pictures


@pytest.fixture
def place(tmp_path, monkeypatch, one_thread):
    monkeypatch.setattr(runner, "run_jobs", in_this_process)
    nothing = [Picture("none", "Figures", "Not drawn here.", None)]  # seconds of drawing
    monkeypatch.setattr(pictures, "of_quality", lambda *_: nothing)
    write_pictures(tmp_path / "unpacked")
    (tmp_path / "archives").mkdir()
    with tarfile.open(tmp_path / "archives" / "set_images.tar.xz", "w:xz") as archive:
        for folder in (tmp_path / "unpacked").iterdir():
            archive.add(folder, folder.name)
    (tmp_path / "s.yml").write_text(SUITE)
    return tmp_path


def piece(place, number, *more):
    """Run one on a machine that knows nothing but the archives; return what it left."""
    out = place / f"out{number}"
    words = ["--suite", str(place / "s.yml"), "--device", "cpu", "--out", str(out)]
    folders = {"archives": place / "archives", "data-root": place / f"data{number}"}
    folders["work"] = place / f"work{number}"
    words += [word for name, path in folders.items() for word in (f"--{name}", str(path))]
    if number:
        words += ["--earlier", str(place / f"out{number - 1}" / pieces.ARCHIVE)]
    assert main(["pieces", *words, *more]) == 0
    return out


def test_a_second_piece_does_what_the_first_one_left(place, capsys, monkeypatch):
    first = piece(place, 0, "--scale", "small", "--methods", "supcon_itq")
    assert "1 of 1 runs are done" in capsys.readouterr().out
    with tarfile.open(first / pieces.ARCHIVE) as archive:
        names = archive.getnames()
    assert {name.rpartition(".")[2] for name in names} == {"json", "metrics"}
    assert len(names) == 2

    trained = []
    run = runner.execute

    def noted(spec, *rest, **more):
        trained.append(spec["method"])
        return run(spec, *rest, **more)

    monkeypatch.setattr(runner, "execute", noted)
    second = piece(place, 1, "--scale", "small")
    assert "2 of 2 runs are done" in capsys.readouterr().out
    assert trained == ["classifier_codes", "class_codes"]
    table = (second / "table.md").read_text()
    assert "| SupCon" not in table
    rows = json.loads((second / "summary.json").read_text())["datasets"]
    (part,) = rows.values()
    values = part["rows"]["supcon_itq"]
    before = json.loads((first / "summary.json").read_text())["datasets"]
    (old,) = before.values()
    assert values["values"] == old["rows"]["supcon_itq"]["values"]
    assert sum(1 for path in second.iterdir() if path.is_file()) <= 8
    assert all(path.stat().st_size < pieces.MOST_BYTES for path in second.iterdir())


def test_a_piece_without_time_leaves_a_table_and_an_archive(place, capsys):
    out = piece(place, 0, "--scale", "small", "--minutes", "0")
    assert "0 of 2 runs are done" in capsys.readouterr().out
    assert "–" in (out / "table.md").read_text()
    assert (out / pieces.ARCHIVE).is_file()


def test_metrics_without_codes_are_refused_under_other_rules(place, monkeypatch):
    piece(place, 0, "--scale", "small", "--methods", "class_codes")
    store = Store(place / "fresh")
    pieces._unpack(place / "out0" / pieces.ARCHIVE, store.root)
    (suite,) = load_suites(str(place / "s.yml"), scale="small")
    spec = next(s for s in plan(suite) if s["method"] == "class_codes")
    assert store.has_result(spec)
    assert not store.has_codes(spec)
    assert store.load_arrays(spec) == {}
    assert judging.judged(store, spec)["code"]["map"] > 0
    monkeypatch.setattr(judging, "_rules", lambda: "others")
    with pytest.raises(ValueError, match="repeat the run with --force"):
        judging.judged(store, spec)


def test_images_that_are_not_there_are_left_out(place, capsys):
    words = ["--suite", str(place / "s.yml"), "--out", str(place / "o"), "--work"]
    words += [str(place / "w"), "--data-root", str(place / "nothing")]
    assert main(["pieces", *words]) == 2
    said = capsys.readouterr()
    assert "left out: images:set:random" in said.out
    assert "none of the data sets" in said.err
    assert main(["pieces", *words, "--archives", str(place / "no")]) == 2
    assert "no folder" in capsys.readouterr().err
    assert main(["pieces", *words, "--earlier", str(place / "no")]) == 2
    assert "no archive" in capsys.readouterr().err


def test_what_failed_is_kept_and_tried_again_after_the_rest(place):
    (suite,) = load_suites(str(place / "s.yml"), scale="small")
    first, second = plan(suite)
    store = Store(place / "work")
    store.save(first, {"error": "too long"}, {})
    suites = [suite]
    order = [spec for _, specs in pieces._parts(suites, store) for spec in specs]
    assert order == [second, first]
    assert pieces._is_kept(store.path(first))
    store.save(second["behind"], {"train_s": 1.0}, {})
    assert not pieces._is_kept(store.path(second["behind"]))


def test_one_command_is_enough(place):
    """The script for a GPU, here without one and without time."""
    words = [str(place / "archives"), str(place / "out"), "-", "--device", "cpu"]
    words += ["--suite", str(place / "s.yml"), "--scale", "small"]
    done = subprocess.run(
        ["sh", "benchmarks/gpu.sh", *words],
        cwd=ROOT,
        env={**os.environ, "MINUTES": "0", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "0 of 2 runs are done" in done.stdout
    assert {path.name for path in (place / "out").iterdir()} >= {
        pieces.ARCHIVE,
        "table.md",
        "summary.json",
    }
