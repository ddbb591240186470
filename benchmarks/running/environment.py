"""Where a result came from: versions, machine, code."""

import hashlib
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pml_nmlayer

_ROOT = Path(__file__).resolve().parents[2]
_DISTRIBUTIONS = ("torch", "pytorch-metric-learning", "numpy", "scikit-learn")
_DECISIVE = (
    "interface.py",
    "datasets/*.py",
    "training/*.py",
    "methods/*.py",
    "running/inputs.py",
    "running/quality.py",
    "running/contests.py",
    "running/kernels.py",
)


@lru_cache(maxsize=1)
def environment() -> dict[str, Any]:
    """Return versions, CPU name and the state of the code, as plain JSON."""
    import faiss

    versions = {name: _version(name) for name in _DISTRIBUTIONS}
    return {
        "versions": {
            "python": platform.python_version(),
            **versions,
            "faiss": faiss.__version__,
            "pml-nmlayer": pml_nmlayer.__version__,
        },
        "cpu": _cpu_name(),
        "platform": platform.platform(),
        "git": _git_state(),
        "code": _fingerprint(),
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [
        line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def _git_state() -> dict[str, Any] | None:
    if not (_ROOT / ".git").exists():  # installed: a repository around it is another one
        return None
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "dirty": bool(_git("status", "--porcelain"))}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _fingerprint() -> str:
    """Hash the sources that decide about results, to notice those of older code."""
    digest = hashlib.sha256()
    patterns = ("pml_nmlayer/**/*.py", *(f"benchmarks/{name}" for name in _DECISIVE))
    for path in sorted(path for pattern in patterns for path in _ROOT.glob(pattern)):
        digest.update(str(path.relative_to(_ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]
