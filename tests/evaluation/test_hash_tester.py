import logging

import pytest
import torch
from pytorch_metric_learning.testers import GlobalEmbeddingSpaceTester
from pytorch_metric_learning.utils import logging_presets

from pml_nmlayer.codes import binarize
from pml_nmlayer.evaluation import HAMMING_METRICS, HammingAccuracyCalculator, hash_tester
from pml_nmlayer.multilabel import multilabel
from pml_nmlayer.ranking import mean_average_precision
from tests.hamming.test_hamming import random_labels

CPU = torch.device("cpu")
logging.getLogger("PML").setLevel(logging.ERROR)


def dataset(labels):
    inputs = torch.randn(len(labels), 6, generator=torch.Generator().manual_seed(1))
    return torch.utils.data.TensorDataset(inputs, labels)


class Seen(HammingAccuracyCalculator):
    """Keeps the embeddings that the tester hands over."""

    def get_accuracy(self, query, *args, **kwargs):
        self.query = query
        return super().get_accuracy(query, *args, **kwargs)


def test_outputs_are_judged_as_they_are():
    trunk = torch.nn.Linear(6, 16)
    data = dataset(torch.arange(40) % 4)
    calculator = Seen(device=CPU)
    tester = hash_tester(
        accuracy_calculator=calculator, dataloader_num_workers=0, data_device=CPU
    )
    assert isinstance(tester, GlobalEmbeddingSpaceTester)
    result = tester.test({"val": data}, 1, trunk)["val"]
    outputs = trunk(data.tensors[0]).detach()
    torch.testing.assert_close(calculator.query, outputs)
    codes, labels = binarize(outputs), data.tensors[1]
    expected = mean_average_precision(codes, labels, codes, labels, ref_includes_query=True)
    assert result["hamming_map_level0"] == pytest.approx(expected, abs=1e-12)
    assert not hash_tester().normalize_embeddings
    assert hash_tester(normalize_embeddings=True).normalize_embeddings


def test_multi_hot_labels():
    data = dataset(random_labels(30, "multi-hot"))
    tester = hash_tester(
        multilabel(GlobalEmbeddingSpaceTester), dataloader_num_workers=0, data_device=CPU
    )
    result = tester.test({"val": data}, 1, torch.nn.Linear(6, 16))["val"]
    assert 0 < result["hamming_map_levelall"] < 1


def test_all_metrics_through_a_hook_container(tmp_path):
    pytest.importorskip("record_keeper")
    keeper, _, _ = logging_presets.get_record_keeper(str(tmp_path / "records"))
    hooks = logging_presets.HookContainer(keeper, primary_metric="hamming_mrr")
    calculator = HammingAccuracyCalculator(include=HAMMING_METRICS, k=5, device=CPU)
    tester = hash_tester(
        accuracy_calculator=calculator,
        dataloader_num_workers=0,
        data_device=CPU,
        end_of_testing_hook=hooks.end_of_testing_hook,
    )
    data = {"val": dataset(torch.arange(40) % 4)}
    for epoch in (1, 2):
        tester.test(data, epoch, torch.nn.Linear(6, 16))
        keeper.save_records()
    history = hooks.get_accuracy_history(tester, "val", metrics=[*HAMMING_METRICS])
    for name in HAMMING_METRICS:
        assert len(history[f"{name}_level0"]) == 2
    assert (
        history["hamming_mrr_level0"][1]
        == tester.all_accuracies["val"]["hamming_mrr_level0"]
    )
