"""Which kinds of labels and outputs each part takes: rows of docs/compatibility.md."""

import torch
from torch.nn import functional as F

from pml_nmlayer.evaluation import HammingAccuracyCalculator, HammingRetrieval
from pml_nmlayer.losses import CSQLoss, DPSHLoss, HashCrossBatchMemory, MultiLabelLoss
from pml_nmlayer.miners import MultiLabelMiner
from pml_nmlayer.ranking import mean_average_precision
from pml_nmlayer.samplers import MultiLabelMPerClassSampler
from tests.compatibility import BITS, CLASSES, class_ids, embeddings, multi_hot, page_part

CPU = torch.device("cpu")


def kinds():
    ids = class_ids()
    names = ["owl", "cat", "bee", "ant"]
    return {
        "class ids (N,)": ids,
        "rows of 0 and 1 (N, C)": multi_hot(),
        "ids that begin with 1": ids + 1,
        "hashes of 64 bits": ids * 2**61 - 7,
        "strings": [names[i] for i in ids],
        "a column of ids (N, 1)": ids[:, None],
        "smoothed rows": F.one_hot(ids, CLASSES) * 0.9 + 0.025,
        "two columns of ids": torch.stack([ids, ids % 2], 1),
        "fractions (N,)": ids + 0.5,
    }


def parts():
    u = embeddings().detach()
    codes = torch.where(u >= 0, 1.0, -1.0)
    memory = HashCrossBatchMemory(DPSHLoss(), BITS, 64)
    rows_memory = HashCrossBatchMemory(DPSHLoss(), BITS, 64, num_classes=CLASSES)

    def remember(y):
        is_rows = torch.is_tensor(y) and y.shape[1:] == (CLASSES,)
        return (rows_memory if is_rows else memory)(u, y)

    return {
        "DPSHLoss": lambda y: DPSHLoss()(u, y),
        "CSQLoss": lambda y: CSQLoss(CLASSES, BITS)(u, y),
        "MultiLabelLoss": lambda y: MultiLabelLoss(DPSHLoss())(u, y),
        "HashCrossBatchMemory": remember,
        "MultiLabelMiner": lambda y: MultiLabelMiner()(u, y),
        "MultiLabelMPerClassSampler": lambda y: MultiLabelMPerClassSampler(y, 2),
        "HammingAccuracyCalculator": lambda y: HammingAccuracyCalculator(
            device=CPU
        ).get_accuracy(u, y),
        "HammingRetrieval": lambda y: HammingRetrieval().update(u, y),
        "mean_average_precision": lambda y: mean_average_precision(
            codes, y, codes, y, ref_includes_query=True
        ),
    }


def matrix() -> str:
    """Run every cell; a refusal becomes a note."""
    notes: list[str] = []
    columns = parts()
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for kind, labels in kinds().items():
        cells = []
        for run in columns.values():
            torch.manual_seed(0)
            try:
                run(labels)
                cells.append("yes")
            except (ValueError, TypeError) as refusal:
                text = " ".join(str(refusal).split())
                for name in ("query labels", "database labels"):
                    text = text.replace(name, "labels")
                if text not in notes:
                    notes.append(text)
                cells.append(f"no ({notes.index(text) + 1})")
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return page_part(lines, notes)
