"""A gallery shows the stored codes' neighbours, and whether they are of the class."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.__main__ import main
from benchmarks.datasets import load_split
from benchmarks.reporting import gallery
from benchmarks.results import Store
from benchmarks.specs import plan
from benchmarks.suite_files import load_suite
from tests.benchmarks.picture_set import SUITE, write_pictures


@pytest.fixture
def stored(tmp_path):
    """Codes of 8 bits that say the class, but for one query."""
    write_pictures(tmp_path / "set", side=32)
    (tmp_path / "s.yml").write_text(SUITE)
    specs = plan(load_suite(str(tmp_path / "s.yml")))
    spec = next(s for s in specs if s["method"] == "supcon_nm" and s["bits"] == 8)
    split = load_split(spec["dataset"], 0, "report", tmp_path)
    labels = split.labels.numpy()
    codes = np.array([0b11110000, 0b00001111, 0b11000011], np.uint8)[labels][:, None]
    query = split.queries.numpy()
    asking = codes[query].copy()
    asking[0] = 0b00001111  # of class 1, and it is of class 0
    arrays = {
        "query_code": asking,
        "database_code": codes[split.database.numpy()],
        "query_labels": labels[query],
        "database_labels": labels[split.database.numpy()],
    }
    store = Store(tmp_path / "out")
    store.save(spec, {}, arrays)
    return tmp_path, store, spec


def test_neighbours_are_nearest_and_marked(stored, monkeypatch):
    root, store, spec = stored
    seen = {}

    def drawn(query_images, query_codes, images, codes, rows, *, bits, same, ax):
        seen.update(rows=rows, codes=codes, asking=query_codes, same=same, images=images)
        assert bits == 8

    monkeypatch.setattr(gallery, "neighbour_gallery", drawn)
    gallery.draw(spec, store, root, queries=3)
    found = seen["codes"][seen["rows"]][..., 0]
    assert found.shape == (3, 7)
    assert (found[:, 0] == seen["asking"][:, 0]).all()
    apart = np.unpackbits((found ^ seen["asking"])[..., None], axis=2).sum(2)
    assert (np.diff(apart.astype(int), axis=1) >= 0).all()
    assert seen["same"][1:, 0].all()
    assert not seen["same"][0, 0]
    files = load_split(spec["dataset"], 0, "report", root).features
    with Image.open(files.root / files.names[0]) as image:
        assert seen["images"].shape[1:] == np.array(image).shape


def test_the_command_writes_a_small_picture(stored, capsys):
    root, _, spec = stored
    page = root / "g.png"
    words = ["--suite", str(root / "s.yml"), "--dataset", spec["dataset"], "--bits", "8"]
    words += ["--seeds", "0", "--out", str(root / "out"), "--data-root", str(root)]
    words += ["--page", str(page)]
    assert main(["gallery", *words, "--methods", "supcon_classes"]) == 0
    assert 1_000 < page.stat().st_size < 60_000
    assert main(["gallery", *words, "--methods", "class_codes"]) == 2
    assert "has no codes; `run` this method first" in capsys.readouterr().err
