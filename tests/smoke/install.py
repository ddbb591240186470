"""Install a wheel and a source distribution in empty environments, and use each once.

Needs nothing but Python: `python tests/smoke/install.py dist --torch 2.4.1 --pml 2.8.0`.
"""

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

USE = Path(__file__).with_name("use.py")


def main() -> None:
    """Try each file of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="what `make dist` filled")
    parser.add_argument("--torch", help="version of torch; the newest without it")
    parser.add_argument("--pml", help="version of pytorch-metric-learning")
    options = parser.parse_args()
    files = [*options.folder.glob("*.whl"), *options.folder.glob("*.tar.gz")]
    if len(files) != 2:
        sys.exit(f"{options.folder} must hold one wheel and one sdist, got {files}")
    pins = [f"torch=={options.torch}"] if options.torch else []
    pins += [f"pytorch-metric-learning=={options.pml}"] if options.pml else []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "venv")
        venv.create(home, with_pip=True)
        python = str(home / "bin" / "python")
        pip = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *pins, str(files[0].resolve())], check=True)
        for file in files:
            again = ["--no-deps", "--force-reinstall", str(file.resolve())]
            subprocess.run([*pip, *again], check=True)
            subprocess.run([python, str(USE)], check=True, cwd=folder)
            print(f"{file.name}: works", flush=True)


if __name__ == "__main__":
    main()
