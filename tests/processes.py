"""Processes beside that of the tests, of one thread each: alone, or in a process group.

They are forked from a server that has imported what takes seconds, once for all tests.
"""

import contextlib
import datetime
import multiprocessing
import os
import runpy
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch

_IMPORTED = [
    "hypothesis",
    "pytest",
    "pml_nmlayer.evaluation",
    "pml_nmlayer.hooks",
    "pml_nmlayer.losses",
    "pml_nmlayer.retrieval",
    "torch.distributed.elastic.multiprocessing",
    # their tests start dozens
    "tests.hooks.test_checkpoints",
    "tests.retrieval.test_encode_to_file",
    "tests.retrieval.test_saving_encoders",
]


def start(target: Callable[..., None], *arguments: Any) -> Any:
    """Start a process that calls a function, which can be imported."""
    process = _context().Process(target=target, args=arguments)
    process.start()
    return process


def exit_codes(*processes: Any) -> list[int]:
    """Wait for processes."""
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def run_group(target: Callable[..., None], world: int, *arguments: Any) -> None:
    """Call target(rank, *arguments) in `world` processes, and raise an error of theirs."""
    _context()
    torch.multiprocessing.start_processes(
        target, arguments, nprocs=world, start_method="forkserver"
    )


def run_as_torchrun(world: int, script: Path, folder: Path) -> list[str]:
    """Run a script in a folder, as torchrun does; return what each process prints."""
    store = torch.distributed.TCPStore(
        "127.0.0.1", 0, is_master=True, wait_for_workers=False
    )
    run_group(_of_torchrun, world, world, store.port, script, folder)
    return [(folder / f"printed{rank}.txt").read_text() for rank in range(world)]


def _of_torchrun(rank: int, world: int, port: int, script: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    os.chdir(folder)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    printed = folder / f"printed{rank}.txt"
    with printed.open("w") as file, contextlib.redirect_stdout(file):
        runpy.run_path(str(script), run_name="__main__")


def _context() -> Any:
    """Start the server, once, where it finds the tests that it imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    before = os.getcwd()
    os.chdir(Path(__file__).parent.parent)
    try:
        forkserver.ensure_running()
    finally:
        os.chdir(before)
    return context


@contextlib.contextmanager
def process_group(rank: int, world: int, folder: str) -> Iterator[None]:
    """Be process `rank` of `world`, of one thread; they meet in a folder."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=60),
    )
    yield
    torch.distributed.destroy_process_group()
