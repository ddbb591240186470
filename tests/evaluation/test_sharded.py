import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pml_nmlayer.codes import pack_codes
from pml_nmlayer.evaluation import (
    mean_over_ranks,
    query_share,
    sharded_mean_average_precision,
)
from pml_nmlayer.ranking import mean_average_precision, mean_over_queries
from tests.hamming.test_hamming import random_codes, random_labels

ROOT = Path(__file__).parents[2]

# Run by torchrun; every rank writes what it computed.
SCRIPT = """
import json, sys
import torch
import torch.distributed as dist
from tests.evaluation.test_sharded import cases
from pml_nmlayer.evaluation import mean_over_ranks, query_share
from pml_nmlayer.evaluation import sharded_mean_average_precision

dist.init_process_group("gloo")
rank = dist.get_rank()
result = {
    "map": [sharded_mean_average_precision(*args, **options) for args, options in cases()],
    "shares": [[s.start, s.stop] for s in map(query_share, (7, 1, 0))],
    "uneven": mean_over_ranks(torch.arange(1.0 + 2 * rank)),
}
for values in (torch.zeros(0), torch.full((3,), torch.nan)):
    try:
        result.setdefault("nothing", []).append(str(mean_over_ranks(values)))
    except ValueError as error:
        result["nothing"].append(str(error))
with open(f"{sys.argv[1]}/{rank}.json", "w") as file:
    json.dump(result, file)
dist.destroy_process_group()
"""


def cases():
    """Arguments of mean_average_precision: query counts that two ranks cannot share."""
    r = random_codes(90, 11)
    for kind in ("class ids", "multi-hot"):
        z = random_labels(90, kind)
        for count in (1, 2, 7):
            q, y = random_codes(count, 11, 5), random_labels(count, kind, 5)
            if kind == "class ids":
                y[0] = 99  # without relevant items
            yield (q, y, r, z), {"empty": "zero"}
            yield (
                (r[:count], z[:count], r, z),
                {
                    "k": 5,
                    "normalizer": "min",
                    "ref_includes_query": True,
                },
            )
    packed = pack_codes(r)
    yield (packed[:31], z[:31], packed, z), {"bits": 11, "tie_order": "worst"}


def test_two_processes_equal_one(tmp_path):
    script = tmp_path / "sharded.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", str(script), str(tmp_path)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    expected = [mean_average_precision(*args, **options) for args, options in cases()]
    for result in ranks:
        assert result["map"] == pytest.approx(expected, abs=1e-12)
        assert result["uneven"] == pytest.approx((0 + 0 + 1 + 2) / 4)
        message, nan = result["nothing"]
        assert "Q = 0 on every rank" in message
        assert nan == "nan"
    assert ranks[0]["shares"] == [[0, 3], [0, 0], [0, 0]]
    assert ranks[1]["shares"] == [[3, 7], [0, 1], [0, 0]]


def test_one_process_needs_no_group():
    assert query_share(9) == slice(0, 9)
    for args, options in cases():
        expected = mean_average_precision(*args, **options)
        assert sharded_mean_average_precision(*args, **options) == pytest.approx(
            expected, abs=1e-12
        )
    values = torch.tensor([0.5, torch.nan, 0.25])
    for empty in ("skip", "zero"):
        expected = mean_over_queries(values, empty=empty)
        assert mean_over_ranks(values, empty=empty) == pytest.approx(expected)
    with pytest.raises(ValueError, match="empty must be one of skip, zero"):
        mean_over_ranks(values, empty="nan")
