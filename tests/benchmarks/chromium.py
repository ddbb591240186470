"""Headless Chromium: what a page holds after layout, what it looks like, what it says."""

import os
import shutil
import signal
import subprocess

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # root, as in most containers, has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--enable-logging=stderr",
)


def find():
    """Return the program: the one of the environment, or the first that is installed."""
    given = os.environ.get("CHROMIUM")
    return given or next(filter(None, map(shutil.which, NAMES)), None)


def look(page, profile, size, *flags):
    """Open a page in a window of (width, height): (standard output, console messages)."""
    width, height = size
    words = [
        find(),
        *FLAGS,
        f"--user-data-dir={profile}",
        f"--window-size={width},{height}",
    ]
    process = subprocess.Popen(
        [*words, *flags, page.as_uri()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, log = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # it has children of its own
        raise
    assert process.returncode == 0, log
    return output, [line for line in log.splitlines() if "CONSOLE" in line]
