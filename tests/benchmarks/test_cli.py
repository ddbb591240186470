import json
import time

import numpy as np
import pytest
import yaml

from benchmarks.__main__ import main, parser
from benchmarks.commands import _command
from benchmarks.pool import Outcome
from benchmarks.results import Store
from benchmarks.running import runner
from benchmarks.running.quality import execute


def in_this_process(function, jobs, processes, timeout_s, parents=False, until=None):
    for index, job in enumerate(jobs):
        if until is not None and time.monotonic() >= until:
            return
        yield index, Outcome(function(job))


def raw_results(out):
    return sorted(path for path in out.rglob("*.json") if path.name != "summary.json")


def records(out):
    return [json.loads(path.read_text()) for path in raw_results(out)]


def test_a_failing_method_leaves_a_record_and_the_rest_go_on(finished):
    status, output, said, out = finished
    assert status == 1
    found = records(out / "smoke" / "digits")
    assert len(found) == 6
    failed = [record for record in found if "error" in record]
    assert [record["spec"]["method"] for record in failed] == ["supcon"] * 2
    assert all("Invalid learning rate: -1" in record["error"] for record in failed)
    assert "4 runs done, 0 skipped, 2 failed" in output
    line = (
        "failed: broken on digits, 12 bits, seeds 0, 1: ValueError: Invalid learning rate"
    )
    assert said.count(line) == 1
    assert "(whole error: " in said


def test_a_record_says_where_it_came_from(finished):
    *_, out = finished
    record = next(r for r in records(out) if r["spec"]["method"] == "supcon_nm")
    assert record["spec"]["settings"]["scorer"] == "random"
    assert record["threads"] == {"torch": 1, "faiss": 1}
    assert record["split"]["sizes"] == {
        "train": 700,
        "validation": 100,
        "test": 200,
        "database": 1497,
    }
    assert len(record["split"]["checksum"]) == 64
    assert set(record["versions"]) >= {"python", "torch", "numpy", "faiss", "pml-nmlayer"}
    assert record["cpu"]
    assert {"git", "code"} <= set(record)
    assert 0 < record["train_s"] < record["wall_s"]
    training, served = 256 * 48 + 48, 256 * 12 + 12
    assert record["head_parameters"] == {"training": training, "serving": served}


def test_reports_are_written(finished):
    _, output, _, out = finished
    text = (out / "smoke" / "table.md").read_text()
    failed, merged = (
        next(line for line in text.splitlines() if line.startswith(f"| {label}"))
        for label in ("a broken method", "SupCon + NMLayer")
    )
    assert "failed" in failed
    assert "±" in merged
    assert merged in output
    for words in (
        "expectation",
        "700 train, 100 validation, 200 test, 1497 database",
        "over seeds 0, 1",
        "4 epochs",
        "nothing was tuned",
        "failed: sign(a broken method) (ValueError: Invalid learning rate: -1.0)",
        "python -m benchmarks run --suite",
    ):
        assert words in text
    assert (out / "smoke" / "map_vs_bits.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_run_skips_what_is_done(copied, smoke_file, capsys):
    paths = raw_results(copied)
    before = [path.read_bytes() for path in paths]
    arguments = ["run", "--suite", str(smoke_file), "--out", str(copied)]
    assert main([*arguments, "--methods", "itq", "supcon_nm"]) == 0
    assert "0 runs done, 4 skipped, 0 failed" in capsys.readouterr().out
    assert [path.read_bytes() for path in paths] == before


def test_results_of_other_origin_are_pointed_out(copied, smoke_file, capsys, monkeypatch):
    where = ["--suite", str(smoke_file), "--out", str(copied)]
    arguments = ["run", *where, "--methods", "itq"]
    assert main(arguments) == 0
    assert "note" not in capsys.readouterr().err
    monkeypatch.setattr(runner, "environment", lambda: {"code": "changed"})
    assert main(arguments) == 0
    said = capsys.readouterr().err
    assert "2 of the skipped results come from other code" in said
    assert "device" not in said
    monkeypatch.undo()
    path = next(p for p in raw_results(copied) if '"method": "itq"' in p.read_text())
    path.write_text(path.read_text().replace('"device": "cpu"', '"device": "cuda (H100)"'))
    assert main(arguments) == 0
    said = capsys.readouterr().err
    assert "1 of the skipped results come from another device; --force repeats" in said
    assert "code" not in said


def test_the_same_seed_gives_the_same_codes_in_another_process(finished, one_thread):
    *_, out = finished
    store = Store(out)
    specs = [r["spec"] for r in records(out) if "error" not in r]
    assert len(specs) == 4
    for spec in specs:
        stored = store.load_arrays(spec)
        _, again = execute(spec)
        assert sorted(stored) == sorted(again)
        for name, values in stored.items():
            np.testing.assert_array_equal(values, again[name])
    first, second = (
        store.load_arrays(s)["query_code"] for s in specs if s["method"] == "supcon_nm"
    )
    assert not np.array_equal(first, second)  # another seed is another code


def test_ctrl_c_leaves_valid_results(interrupted):
    status, out, errors = interrupted
    assert status == 130, errors
    assert "stopped; what is done is kept" in errors
    found = [record for record in records(out) if "error" not in record]
    assert 0 < len(found) < 14
    for record in found:
        assert len(Store(out).load_arrays(record["spec"])["query_code"]) == 200
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


def test_tuning_writes_what_the_suite_reads(
    tmp_path, smoke_file, capsys, monkeypatch, one_thread
):
    monkeypatch.setattr(runner, "run_jobs", in_this_process)
    suite = tmp_path / "tiny.yml"
    suite.write_text(smoke_file.read_text())
    arguments = ["--suite", str(suite), "--methods", "itq", "--out", str(tmp_path)]
    assert main(["tune", *arguments, "--jobs", "1"]) == 0
    record = yaml.safe_load((tmp_path / "tiny-tune" / "digits_trials.yml").read_text())
    outcome = record["methods"]["itq"]
    assert len(outcome["trials"]) == 2
    best = max(outcome["trials"], key=lambda trial: trial["scores"][12])
    assert outcome["chosen"]["settings"] == best["settings"]
    chosen = (tmp_path / "tiny_tuned.yml").read_text()
    assert (
        "tune --suite tiny`,\n# which keeps all trials in results/tiny-tune/digits_"
        in chosen
    )
    (origin,) = yaml.safe_load(chosen).pop("made_with")
    assert origin == outcome["made_with"]
    assert yaml.safe_load(chosen)["methods"]["itq"] == outcome["chosen"]
    assert yaml.safe_load(chosen)["trials"] == 2
    assert main(["report", *arguments]) == 0
    assert "chosen from 2 random trials" in (tmp_path / "tiny" / "table.md").read_text()

    everything = ["--suite", str(suite), "--out", str(tmp_path)]
    assert main(["report", *everything]) == 2
    assert "has no settings of supcon_nm" in capsys.readouterr().err


def test_list_names_everything(capsys):
    assert main(["list"]) == 0
    output = capsys.readouterr().out
    for name in ("quick", "kernels", "digits", "map", "dpsh_nm", "loss/DPSHLoss"):
        assert name in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--suite", "quik"], "unknown suite 'quik'; known: "),
        (["run", "--suite", "no.yml"], "there is no suite file no.yml"),
        (["run", "--methods", "dspsh"], "unknown method of quick 'dspsh'; known: itq, sig"),
        (["run", "--bits", "16"], "unknown bits of quick 16; known: 12, 24, 48"),
        (["run", "--seeds", "1000"], "seeds [1000] of quick served to tune it"),
        (["run", "--suite", "kernels", "--bits", "12"], "takes no --bits"),
        (["run", "--suite", "kernels", "--loaders", "1"], "takes no --loaders"),
        (
            ["run", "--suite", "kernels", "--methods", "x"],
            "unknown kernel 'x'; known: loss/",
        ),
        (["tune", "--suite", "kernels"], "nothing to tune"),
    ],
)
def test_what_is_unknown_is_named(arguments, message, capsys, tmp_path):
    assert main([*arguments, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [["--jobs", "0"], ["--seeds", "-1"]])
def test_numbers_out_of_range_are_refused(option, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["run", *option])
    assert "got" in capsys.readouterr().err


def test_the_command_below_a_table_names_the_device():
    words = ["run", "--suite", "kernels", "--methods", "map/pml"]
    assert _command(parser().parse_args(words)) == f"python -m benchmarks {' '.join(words)}"
    told = [*words, "--device", "cuda"]
    assert _command(parser().parse_args(told)) == f"python -m benchmarks {' '.join(told)}"
    compared = parser().parse_args(["compare", "--suite", "kernels"])
    assert _command(compared) == "python -m benchmarks run --suite kernels"
