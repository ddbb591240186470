"""Processes that kill themselves, for tests of what they leave behind."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.processes import exit_codes

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


def was_killed(process: Any) -> bool:
    """Wait for a process; it ends well or is killed, and in no other way."""
    (code,) = exit_codes(process)
    assert code in (0, KILLED), code
    return code == KILLED
