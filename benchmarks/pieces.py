"""A suite in pieces, for a machine that is lent for minutes and then forgets everything.

Each call unpacks what earlier ones left, runs on from there, stops in time, and leaves one
archive for the next call beside a table of all there is by then. Codes stay behind: the
archive holds records and metrics, which are small.
"""

import io
import json
import subprocess
import sys
import tarfile
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from .datasets import data_root, is_there
from .reporting.judging import judged_all, without_codes
from .results import Spec, Store, file_name, write_file, write_text
from .running import runner
from .running.devices import Machine, check_device
from .running.inputs import check_inputs
from .specs import Selection, plan
from .suite_files import load_suites
from .suites import QualitySuite, narrow

ARCHIVE = "results.tar.xz"
TESTS = "gpu_tests.txt"
MOST_BYTES = 16 * 2**20  # of a file that is left
_FOR_REPORTS = 0.2  # share of the time that is kept for judging and tables
_IMAGES = "_images.tar.xz"  # ends the name of an archive of images


def run(options: Namespace) -> int:
    """Run one piece.

    Args:
        options: of the command line: suite, scale, dataset, methods, device, jobs, minutes,
            earlier, archives, data_root, work, out.

    Returns:
        0, or 1 if tests or runs failed.
    """
    begin = time.monotonic()
    end = begin + 60 * options.minutes
    machine = Machine(check_device(options.device))
    store, root = Store(options.work), data_root(options.data_root)
    if root is None:
        raise ValueError("pieces need --data-root DIR, where images lie or are unpacked")
    _unpack_images(options.archives, root)
    if options.earlier is not None:
        _unpack(options.earlier, options.work)
    tests = _tests(options, end)
    suites = _suites(options, root)
    for suite in suites:
        check_inputs(suite, machine)
    until = end - 60 * options.minutes * _FOR_REPORTS
    failed = 0
    longest = (until - begin) / 2  # of one run: another one must fit beside it
    for suite, specs in _parts(suites, store):
        if time.monotonic() >= until:
            break
        done = runner.run(
            specs,
            store,
            processes=options.jobs,
            timeout_s=min(suite.timeout_s, longest),
            root=root,
            machine=machine,
            until=until,
        )
        failed += done.failed
    selection: Selection = [(suite, plan(suite)) for suite in suites]
    _report(selection, store, options)
    count = _pack(selection, store, options)
    whole = sum(len(specs) for _, specs in selection)
    spent = time.monotonic() - begin
    print(f"{count} of {whole} runs are done, after {spent:.0f} s; {failed} failed")
    return 1 if failed or tests else 0


def _suites(options: Namespace, root: Path) -> list[QualitySuite]:
    """Load the data sets of a suite whose images are here, in the order of the suite."""
    found: list[QualitySuite] = []
    for suite in load_suites(
        options.suite,
        datasets=options.dataset,
        results=options.work,
        scale=options.scale,
    ):
        if not isinstance(suite, QualitySuite):
            raise ValueError(f"suite {suite.name} is about kernels; run it whole")
        if is_there(suite.dataset, root):
            found.append(narrow(suite, options.methods, options.bits, options.seeds))
        else:
            print(f"left out: {suite.dataset} is not in {root}")
    if not found:
        raise ValueError(
            f"none of the data sets of {options.suite} is in {root}; name a folder with "
            f"archives NAME{_IMAGES} by --archives"
        )
    return found


def _parts(
    suites: Sequence[QualitySuite], store: Store
) -> Iterator[tuple[QualitySuite, list[Spec]]]:
    """Yield what is run together: a data set with one seed, so that tables are whole.

    What failed in an earlier piece, such as a run that is too long, is tried again last.
    """
    failed: list[tuple[QualitySuite, list[Spec]]] = []
    for suite in suites:
        for seed in suite.seeds:
            specs = plan(replace(suite, seeds=(seed,)))
            again = [s for s in specs if "error" in (store.load(s) or {})]
            failed.append((suite, again))
            yield suite, [s for s in specs if s not in again]
    yield from failed


def _tests(options: Namespace, end: float) -> int:
    """Run the tests that need a GPU, where there is one, until they have passed once."""
    kept = options.work / TESTS
    if not options.device.startswith("cuda") or options.tests is None or kept.exists():
        return 0
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(options.tests)]
    left = max(end - time.monotonic(), 1) / 2
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=left, check=False
        )
        code, text = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        code, text = 124, f"no end after {left:.0f} s"
    print(text[-2_000:])
    if code == 0:
        write_text(kept, text)
    write_text(options.out / TESTS, text[-100_000:])
    return code


def _report(selection: Selection, store: Store, options: Namespace) -> None:
    from .reporting.writing import write_report

    specs = [spec for _, own in selection for spec in own]
    judged_all(store, specs, options.jobs)
    scale = "" if options.scale is None else f" --scale {options.scale}"
    command = f"python -m benchmarks pieces --suite {options.suite}{scale}"
    if options.device != "cpu":
        command += f" --device {options.device}"
    write_report(selection, store, options.out, options.jobs, command)


def _pack(selection: Selection, store: Store, options: Namespace) -> int:
    """Write the archive for the next call; return how many runs it holds.

    What earlier calls left of other data sets is kept in it.
    """
    done = [s for _, specs in selection for s in specs if store.has_result(s)]
    fresh = {store.metrics_path(spec): without_codes(store, spec) for spec in done}
    paths = {p for p in options.work.rglob("*.json") if _is_kept(p)}
    paths |= {p for p in options.work.rglob("*.metrics") if p.with_suffix(".json") in paths}
    if (options.work / TESTS).exists():
        paths.add(options.work / TESTS)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        for path in sorted(paths):
            content = fresh.get(path, path.read_text()).encode()
            member = tarfile.TarInfo(path.relative_to(options.work).as_posix())
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    size = packed.tell()
    if size > MOST_BYTES:
        raise ValueError(f"the archive has {size:,} bytes, and {MOST_BYTES:,} may be left")
    write_file(options.out / ARCHIVE, lambda file: file.write(packed.getvalue()))
    return len(done)


def _is_kept(path: Path) -> bool:
    """Keep runs that are judged, refused or failed; of embeddings failures alone."""
    if path.with_suffix(".metrics").exists():
        return True
    record = json.loads(path.read_text())
    return isinstance(record, dict) and bool({"refused", "error"} & record.keys())


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack what an earlier call left; what is here already stays as it is."""
    if not archive.is_file():
        raise ValueError(f"there is no archive {archive} of earlier results")
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as packed:
        fresh = [each for each in packed if not (folder / each.name).exists()]
        packed.extractall(folder, members=fresh, filter="data")


def _unpack_images(archives: Path | None, root: Path) -> None:
    """Unpack NAME_images.tar.xz into the folder NAME of the data folder, once."""
    if archives is None:
        return
    if not archives.is_dir():
        raise ValueError(f"there is no folder {archives} with archives NAME{_IMAGES}")
    for path in sorted(archives.glob(f"*{_IMAGES}")):
        place = root / path.name.removesuffix(_IMAGES)
        if not place.exists():
            partly = place.with_name(f".{file_name(place.name)}.partly")
            with tarfile.open(path) as packed:
                packed.extractall(partly, filter="data")
            partly.rename(place)
