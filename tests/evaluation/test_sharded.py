import json
import math
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
from tests.processes import process_group, run_group


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


def work(rank, folder):
    with process_group(rank, 2, folder):
        result = {
            "map": [
                sharded_mean_average_precision(*args, **options)
                for args, options in cases()
            ],
            "shares": [[s.start, s.stop] for s in map(query_share, (7, 1, 0))],
            "uneven": mean_over_ranks(torch.arange(1.0 + 2 * rank)),
            "nan": mean_over_ranks(torch.full((3,), torch.nan)),
        }
        with pytest.raises(ValueError, match="Q = 0 on every rank"):
            mean_over_ranks(torch.zeros(0))
        Path(folder, f"{rank}.json").write_text(json.dumps(result))


def test_two_processes_equal_one(tmp_path):
    run_group(work, 2, str(tmp_path))
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    expected = [mean_average_precision(*args, **options) for args, options in cases()]
    for result in ranks:
        assert result["map"] == pytest.approx(expected, abs=1e-12)
        assert result["uneven"] == pytest.approx((0 + 0 + 1 + 2) / 4)
        assert math.isnan(result["nan"])
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
