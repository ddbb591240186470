"""Command line: `python -m benchmarks list | extract | tune | validate | run | report`,
`compare` and `leaderboard`.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

try:
    from . import commands, pieces, plugins
    from .datasets import DATA_ROOT
except ModuleNotFoundError as error:
    if error.name != "yaml":
        raise
    sys.exit("error: PyYAML is missing; run `pip install 'pml-nmlayer[bench]'`")

# What reports need as well: better missed before the runs than after them
_EXTRA = ("matplotlib", "markdown_it", "pandas", "scikit_posthocs", "statsmodels")

_ACTIONS = {
    "tune": (commands.tune, "search settings for every method of a suite"),
    "validate": (commands.validate, "judge a suite's methods on validation queries"),
    "run": (commands.run, "run what has no result yet, then report"),
    "report": (commands.report_stored, "write tables and figures of stored results"),
    "compare": (commands.compare_stored, "compare stored results with a baseline"),
}

_EXAMPLES = """examples:
  three methods on handwritten digits, at 12, 24 and 48 bits with five seeds:
    python -m benchmarks run --suite quick --methods itq supcon_tanh supcon_nm

  the same on data of your own, a .npz file with `features` (N, D) and `labels` (N,),
  which may be names; the report lies in results/quick/features_mine.npz:
    python -m benchmarks run --suite quick --methods itq supcon_tanh supcon_nm \\
      --dataset features:mine.npz --data-root FOLDER

  then one page of all results:
    python -m benchmarks leaderboard
"""


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = top.add_subparsers(dest="action", required=True)
    names = actions.add_parser("list", help="name suites, methods, datasets and so on")
    names.set_defaults(command=commands.list_names)
    _add_methods_from(names)
    _add_extract(actions)
    _add_leaderboard(actions)
    _add_gallery(actions)
    _add_confirmed(actions)
    _add_pieces(actions)
    for action, (command, text) in _ACTIONS.items():
        sub = actions.add_parser(action, help=text)
        sub.set_defaults(command=command)
        sub.add_argument(
            "--suite", default="quick", help="a name, or the path of a .yml file"
        )
        sub.add_argument(
            "--scale", metavar="NAME", help="a smaller form that the suite file describes"
        )
        sub.add_argument("--methods", nargs="+", metavar="NAME", help="default: all")
        _add_methods_from(sub)
        sub.add_argument("--out", type=Path, default=Path("results"), help="results folder")
        sub.add_argument(
            "--dataset",
            nargs="+",
            metavar="NAME",
            help="any, such as features:FILE.npz, see `list`; default: those of the suite",
        )
        if action not in (
            "tune",
            "validate",
        ):  # a search covers all lengths, with seeds of its own
            sub.add_argument(
                "--bits", nargs="+", type=int, metavar="K", help="default: all"
            )
            sub.add_argument(
                "--seeds", nargs="+", type=_seed, metavar="SEED", help="default: all"
            )
        sub.add_argument("--jobs", type=_at_least(1), default=_cores(), help="processes")
        if action == "compare":
            sub.add_argument(
                "--baseline",
                type=Path,
                metavar="FILE",
                help="a summary.json; default: the one in docs/results/<suite>",
            )
        if action == "report":
            sub.add_argument(
                "--publish",
                type=Path,
                metavar="DIR",
                help="write a short table, one chart and a small summary here, too",
            )
        if action in ("tune", "validate", "run"):
            sub.add_argument("--force", action="store_true", help="repeat what is done")
            _add_device(sub)
            sub.add_argument(
                "--loaders",
                type=_at_least(0),
                default=0,
                metavar="N",
                help="processes beside each of --jobs that load images; default: none",
            )
            _add_data_root(sub)
    return top


def _add_leaderboard(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    sub = actions.add_parser("leaderboard", help="write one HTML page of all suites")
    sub.set_defaults(command=commands.write_leaderboard)
    sub.add_argument("--out", type=Path, default=Path("results"), help="results folder")
    sub.add_argument(
        "--from",
        dest="summaries",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="folders of summaries; default: published ones, and those of --out",
    )
    sub.add_argument(
        "--page", type=Path, metavar="FILE.html", help="default: leaderboard.html in --out"
    )


def _add_gallery(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    sub = actions.add_parser("gallery", help="draw what one stored code finds in images")
    sub.set_defaults(command=commands.draw_gallery)
    sub.add_argument("--suite", default="images", help="a name, or the path of a .yml file")
    sub.add_argument("--scale", metavar="NAME", help="of the suite")
    sub.add_argument("--dataset", nargs=1, required=True, metavar="NAME")
    sub.add_argument("--methods", nargs=1, required=True, metavar="NAME")
    _add_methods_from(sub)
    sub.add_argument("--bits", nargs=1, type=int, required=True, metavar="K")
    sub.add_argument("--seeds", nargs=1, type=_seed, required=True, metavar="SEED")
    sub.add_argument("--out", type=Path, default=Path("results"), help="results folder")
    _add_data_root(sub)
    sub.add_argument("--page", type=Path, required=True, metavar="FILE.png")


def _add_confirmed(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    sub = actions.add_parser(
        "confirmed", help="say which findings on frozen features images confirm"
    )
    sub.set_defaults(command=commands.write_confirmed)
    sub.add_argument(
        "--summary", type=Path, required=True, metavar="FILE", help="of suite images"
    )
    sub.add_argument("--bits", type=int, default=24, metavar="K")
    sub.add_argument("--page", type=Path, required=True, metavar="FILE.md")


def _add_pieces(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    sub = actions.add_parser(
        "pieces", help="run a suite for some minutes, and go on in the next call"
    )
    sub.set_defaults(command=pieces.run)
    sub.add_argument("--suite", default="images", help="a name, or the path of a .yml file")
    sub.add_argument("--scale", metavar="NAME", help="of the suite")
    for name in ("dataset", "methods"):
        sub.add_argument(f"--{name}", nargs="+", metavar="NAME", help="default: all")
    sub.add_argument("--bits", nargs="+", type=int, metavar="K", help="default: all")
    sub.add_argument("--seeds", nargs="+", type=_seed, metavar="SEED", help="default: all")
    sub.add_argument("--minutes", type=float, default=9.0, help="that all of it may take")
    sub.add_argument("--jobs", type=_at_least(1), default=1, help="runs side by side")
    _add_device(sub)
    _add_data_root(sub)
    sub.add_argument("--archives", type=Path, metavar="DIR", help="of images to unpack")
    sub.add_argument("--earlier", type=Path, metavar="FILE", help="archive to go on from")
    sub.add_argument(
        "--tests", type=Path, metavar="DIR", help="run those marked gpu first, on a GPU"
    )
    sub.add_argument("--work", type=Path, default=Path("results"), help="results folder")
    sub.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="archive and tables go here"
    )


def _add_extract(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    sub = actions.add_parser("extract", help="write features of an image set, once")
    sub.set_defaults(command=commands.extract_features)
    sub.add_argument("--dataset", required=True, metavar="NAME")
    sub.add_argument("--trunk", required=True, metavar="NAME", help="see `list`")
    sub.add_argument(
        "--weights",
        metavar="FILE",
        help="state dictionary, or the word random; default: torchvision's cache",
    )
    sub.add_argument("--out", type=Path, required=True, metavar="FILE.npz")
    _add_device(sub)
    sub.add_argument("--batch-size", type=_at_least(1), default=64)
    sub.add_argument(
        "--jobs", type=_at_least(1), default=1, help="processes that load images"
    )
    _add_data_root(sub)


def _add_methods_from(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--methods-from",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE.py",
        help="files that register methods by @method, beside those of installed packages",
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        default="cpu",
        help="of networks and kernels: cpu (default), cuda, cuda:0, mps; all of "
        "--jobs share it",
    )


def _add_data_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help=f"data folder; default: the environment variable {DATA_ROOT}",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status.

    0: all is well. 1: some runs failed, or are worse than the baseline. 2: the command
    cannot be understood. 130: Ctrl-C.
    """
    options = parser().parse_args(arguments)
    if missing := [name for name in _EXTRA if find_spec(name) is None]:
        text = f"{', '.join(missing)} missing; run `pip install 'pml-nmlayer[bench]'`"
        print(f"error: {text}", file=sys.stderr)
        return 2
    try:
        plugins.load(getattr(options, "methods_from", ()))
        return options.command(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\nstopped; what is done is kept, and the same command goes on from there",
            file=sys.stderr,
        )
        return 130


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {text}")
        return value

    return number


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"must lie in 0 .. 2^32 - 1, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
