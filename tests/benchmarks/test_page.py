import json
import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from benchmarks.__main__ import main
from benchmarks.reporting import page
from benchmarks.results import Store
from benchmarks.running.environment import environment
from benchmarks.specs import plan_kernels, spec_of
from benchmarks.suite_files import load_suite
from tests.benchmarks import chromium

EVIL = 'a <script>alert("x")</script> & b | c'
SUITE = f"""
kind: quality
dataset: digits
bits: [8, 16]
seeds: [0, 1, 2]
epochs: 5
decay: 0.4
batch_size: 16
timeout_s: 60
methods:
  - itq
  - {{name: dpsh, label: '{EVIL}'}}
  - dpsh_nm
  - supcon
"""
FIGURES = {
    "map-against-bits": "mAP@all against bits",
    "precision-recall": "Precision and recall",
    "training-cost": "Training cost: mAP@all against seconds",
    "bit-importance": "Importance of bits before and after merging",
    "redundancy": "Redundancy of bits before the first merge",
    "critical-difference": "Critical differences",
}
IDS = [
    "finding.families",
    *(f"digits.{name}" for name in FIGURES),
    "kernels.kernel-ratios",
]
VOID = {"meta", "br", "hr", "input"}


def codes(rng, labels, bits, flips):
    """Packed codes: one random code a class, bits of it flipped."""
    centres = np.random.default_rng(0).random((4, bits)) < 0.5
    return np.packbits(centres[labels] ^ (rng.random((len(labels), bits)) < flips), 1)


def make_run(suite, entry, bits, seed, store):
    rng = np.random.default_rng(seed)
    flips = 0.05 + 0.08 * suite.entries.index(entry)
    arrays = {}
    for part, count in (("query", 20), ("database", 60)):
        labels = rng.integers(4, size=count)
        arrays[f"{part}_labels"] = labels
        for name in entry.encodings:
            real = name == "float"
            arrays[f"{part}_{name}"] = (
                rng.random((count, bits), np.float32)
                if real
                else codes(rng, labels, bits, flips)
            )
    if entry.method == "dpsh_nm":
        arrays |= {f"diagnostic_{name}": v for name, v in diagnostics(rng, bits).items()}
    record = {
        "train_s": 0.5 + flips,
        "head_parameters": {"training": 100, "serving": 50},
        "split": {"protocol": "digits", "sizes": {"test": 20, "database": 60}}
        | {"checksum": "0"},
        **environment(),
    }
    store.save(spec_of(suite, entry, bits, seed), record, arrays)


def diagnostics(rng, bits):
    return {
        "importance_start": rng.random(2 * bits),
        "importance_end": rng.random(bits),
        "correlation_1": rng.random((2 * bits, 2 * bits)),
        "groups_1": np.arange(2 * bits) % bits,
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Report on made-up results of a suite and of two kernels: the results folder."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "made.yml").write_text(SUITE)
    suite, store = load_suite(str(folder / "made.yml")), Store(folder / "out")
    for entry in suite.entries:
        for bits in suite.bits:
            for seed in suite.seeds:
                make_run(suite, entry, bits, seed, store)
    times = np.array([1.0, 2.0, 3.0])
    for spec in plan_kernels(load_suite("kernels"), ["map/argsort", "loss/DPSHLoss"]):
        store.save(
            spec, {"peer": "p", **environment()}, {"ours_s": times, "peer_s": 2 + 0 * times}
        )
    arguments = ["--suite", str(folder / "made.yml"), "--out", str(folder / "out")]
    assert main(["report", *arguments, "--jobs", "1"]) == 0
    return folder / "out" / "made"


class Reader(HTMLParser):
    """Checks that tags are balanced; keeps elements, and the text of table cells."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.rows = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def text(written):
    return (written / "report.html").read_text()


@pytest.fixture(scope="module")
def reader(text):
    return Reader(text)


def test_nothing_is_loaded_and_nothing_runs(reader, text):
    assert not {"script", "link", "iframe", "img", "object"} & {
        t for t, _ in reader.elements
    }
    for tag, attributes in reader.elements:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "srcset", "data"):
                assert value.startswith(("#", "data:image/png;base64,")), (tag, name, value)
            assert not name.startswith("on")
    assert set(re.findall(r"url\((.)", text)) == {"#"}
    assert "@import" not in text


def test_every_figure_has_its_title_and_says_what_it_rests_on(reader, text):
    ids = [a["id"] for _, a in reader.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert [a["id"] for tag, a in reader.elements if tag == "figure"] == IDS
    pictures = [a for tag, a in reader.elements if tag == "svg"]
    assert [a["aria-label"] for a in pictures[1:-1]] == list(FIGURES.values())
    assert all(a["role"] == "img" for a in pictures)
    captions = re.findall("<figcaption>(.*?)</figcaption>", text)
    assert len(captions) == len(IDS)
    assert "picked within its family" in captions.pop(0)
    for caption in captions[:5]:
        assert "seeds 0, 1, 2; items: 20 test, 60 database" in caption
    for caption in (captions[0], captions[2]):
        assert "all orders of items at equal Hamming distance" in caption
        assert "divided by the number of relevant items" in caption
    assert "a query whose ball is empty is left out" in captions[1]
    for words in ("DPSH + NMLayer, 8 bits at the end, seed 0", "dpsh_nm"):
        assert (words in captions[4]) == (words[0] == "D")


def test_labels_are_text(reader, text):
    assert "<script" not in text
    named = [row[0] for row in reader.rows if row and "script" in row[0]]
    assert set(named) == {EVIL}
    assert unescape(text).count(EVIL) > len(named)  # legends name it, too


def test_page_and_markdown_hold_the_same_tables(written, reader):
    lines = (written / "table.md").read_text().splitlines()
    found = []
    for line in (line for line in lines if line.startswith("| ")):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if set(cells[0]) != {"-"}:
            found.append([c.replace("\\|", "|").replace("**", "") for c in cells])
    assert len(found) > 15
    assert reader.rows == found


def test_what_is_missing_is_said(tmp_path):
    (tmp_path / "made.yml").write_text(SUITE)
    arguments = ["--suite", str(tmp_path / "made.yml"), "--out", str(tmp_path)]
    assert main(["report", *arguments, "--jobs", "1"]) == 0
    text = (tmp_path / "made" / "report.html").read_text()
    Reader(text)
    assert "No run has a result yet" in text
    assert "<figure" not in text
    assert not list(tmp_path.rglob("*.png"))


def test_several_data_sets_have_links():
    text = page.html("<t>", [("a:b.npz", "## A\n\n### Rest\n", []), ("c", "## C\n", [])])
    elements = Reader(text).elements
    links = [a["href"] for tag, a in elements if tag == "a"]
    assert links == ["#a_b_npz", "#c"]
    assert [a["id"] for tag, a in elements if tag == "section"] == ["a_b_npz", "c"]
    assert "<title>&lt;t&gt;</title>" in text


def test_a_real_suite_has_its_page(finished):
    *_, out = finished
    text = (out / "smoke" / "report.html").read_text()
    Reader(text)
    figures = re.findall('<figure id="digits.([a-z-]+)"', text)
    assert set(list(FIGURES)[:3]) <= set(figures)
    assert "a broken method" in text


# In a browser

PROBE = """<script>
const boxes = {};
for (const each of document.querySelectorAll("figure")) {
  const box = each.querySelector("svg").getBoundingClientRect();
  boxes[each.id] = [box.left, box.top, box.width, box.height].map(Math.round);
}
const root = document.documentElement;
const found = {boxes, height: root.scrollHeight, width: root.scrollWidth};
document.body.dataset.found = JSON.stringify(found);
console.error("probe");
</script></body>"""
needs_chromium = pytest.mark.skipif(
    chromium.find() is None,
    reason="no Chromium: install the package chromium, or name the program in CHROMIUM",
)


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return tmp_path_factory.mktemp("profile")


def measure(text, folder, profile, size):
    """Lay the page out, and let a script say where its figures are."""
    probing = re.sub("<meta http-equiv[^>]*>", "", text).replace("</body>", PROBE)
    path = folder / f"probing{size[0]}.html"
    path.write_text(probing)
    dom, said = chromium.look(path, profile, size, "--dump-dom")
    assert len(said) == 1, said  # messages do come through
    assert "probe" in said[0]
    return json.loads(unescape(re.search('data-found="([^"]*)"', dom)[1]))


@needs_chromium
def test_figures_are_seen(written, text, tmp_path, profile):
    found = measure(text, tmp_path, profile, (1000, 800))
    assert list(found["boxes"]) == IDS
    height, shot = found["height"], tmp_path / "page.png"
    flag = f"--screenshot={shot}"
    _, said = chromium.look(written / "report.html", profile, (1000, height), flag)
    assert said == []  # no errors, and the policy of the page refused nothing
    pixels = np.asarray(Image.open(shot).convert("RGB"))
    assert pixels.shape == (height, 1000, 3)
    for name, (left, top, width, tall) in found["boxes"].items():
        assert width > 300, name
        assert tall > 100, name
        part = pixels[top : top + tall, left : left + width].reshape(-1, 3)
        drawn = (part < 250).any(1).mean()
        assert 0.01 < drawn < 0.95, (name, drawn)
        assert len(np.unique(part, axis=0)) > 16, name
        assert name != "digits.redundancy" or drawn > 0.3  # a map fills its axes


@needs_chromium
def test_narrow_screens_scroll_tables_and_figures_alone(text, tmp_path, profile):
    found = measure(text, tmp_path, profile, (500, 800))
    assert found["width"] <= 500
    assert all(box[2] > 500 for box in found["boxes"].values())
