"""Processes that kill themselves, for tests of what they leave behind."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

KILLED = -signal.SIGKILL


def kill_at(step: int, files: tuple[str, ...]) -> None:
    """Kill this process when that many lines of these files have run."""
    left = step

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal left
        if Path(frame.f_code.co_filename).name not in files:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def start(target: Callable[..., None], *arguments: Any) -> Any:
    """Start a process; the imports, which take seconds, are done once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "tests.hooks.test_checkpoints",
            "tests.retrieval.test_encode_to_file",
            "tests.retrieval.test_export",
            "tests.retrieval.test_saving_encoders",
        ]
    )
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def exit_codes(*processes: Any) -> list[int]:
    """Wait for processes."""
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def was_killed(process: Any) -> bool:
    """Wait for a process; it ends well or is killed, and in no other way."""
    (code,) = exit_codes(process)
    assert code in (0, KILLED), code
    return code == KILLED
