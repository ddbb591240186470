"""One page of all suites: what it holds, that it needs nothing, and that it works."""

import base64
import hashlib
import json
import re
from html import unescape
from statistics import fmean, stdev

import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.reporting import leaderboard
from benchmarks.reporting.summary import save_small_summary, save_summary
from tests.benchmarks import chromium
from tests.benchmarks.test_page import EVIL, Reader
from tests.benchmarks.test_verdict import contender_row

HEAD = {"format": 1, "kind": "quality", "origins": [], "digits": None}
COMMAND = "python -m benchmarks run --suite {} --methods a b --bits 12 --seeds 0 1"


def summary(suite, rows, edges=None):
    tuning = {"trials": 6, "seeds": [9], "source": "x", "edges": edges} if edges else None
    for name, row in rows.items():
        row["entry"] = name
    part = {"recipe": {}, "tuning": tuning, "splits": {}, "rows": rows}
    return {
        **HEAD,
        "suite": suite,
        "command": COMMAND.format(suite),
        "datasets": {"digits:unseen": part},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two suites, and a second summary of one of them."""
    folder = tmp_path_factory.mktemp("summaries")
    rows = {
        "nm": contender_row("nm", {12: [0.5, 0.6], 24: [0.9, 0.8]}, label=EVIL),
        "itq": contender_row(
            "quantizer", {12: [0.1, 0.2], 24: [0.95, 0.85]}, asymmetric_map={12: [0.7, 0.8]}
        ),
        "raw": contender_row("floats", {12: [0.9, 0.9]}, "float"),
    }
    save_summary(
        folder / "a" / "summary.json", summary("seen", rows, {"nm": {"lr": "lowest"}})
    )
    other = {"dpsh": contender_row("direct", {12: [0.3]})}
    save_summary(folder / "b" / "summary.json", summary("unseen", other))
    save_small_summary(folder / "c" / "summary.json", summary("seen", other))
    timed = {**HEAD, "kind": "kernels", "suite": "k", "command": "c", "kernels": {}}
    save_summary(folder / "k" / "summary.json", timed)
    return folder


@pytest.fixture(scope="module")
def page(folder):
    path = folder / "page.html"
    assert main(["leaderboard", "--from", str(folder), "--page", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def text(page):
    return page.read_text()


@pytest.fixture(scope="module")
def data(text):
    return json.loads(re.search('id="content">(.*?)</script>', text, re.DOTALL)[1])


def test_it_holds_every_row_with_means_spreads_ranks_and_commands(data, folder):
    tasks = [(each["task"], each["data"]) for each in data["groups"]]
    again = f"seen ({folder / 'c'})"  # another summary of the same suite and data set
    assert tasks == [(name, "digits:unseen") for name in ("unseen", "seen", again)]
    group = data["groups"][1]
    assert group["command"] == (
        "python -m benchmarks run --suite seen --seeds 0 1 --dataset digits:unseen"
    )
    nm, itq, real, raw = group["rows"]
    assert nm["values"]["map"]["12"] == [0.55, round(stdev([0.5, 0.6]), 4), 2]
    assert nm["label"] == EVIL
    assert (nm["edge"], itq["edge"]) == (True, False)
    assert (nm["ranks"], itq["ranks"]) == ({"12": 2, "24": 2}, {"24": 1})
    assert (real["label"], real["ranks"]) == ("quantizer, real query", {"12": 1})
    assert real["values"]["map"]["12"][0] == pytest.approx(fmean([0.7, 0.8]))
    assert (raw["reference"], raw["ranks"]) == (True, {})
    assert list(data["metrics"]) == ["map"]


def test_it_needs_nothing_and_runs_its_own_script_alone(text):
    elements = Reader(text).elements
    assert not {"link", "iframe", "img", "object"} & {tag for tag, _ in elements}
    for tag, attributes in elements:
        assert not {"src", "href"} & set(attributes), tag
        assert not [name for name in attributes if name.startswith("on")], tag
    assert not re.findall(r"@[A-Z]+@", text)  # no slot is left
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1
    assert (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
        in text
    )
    assert EVIL.split("&")[0] not in text  # a label is no element


def test_numbers_of_papers_have_sources_and_no_rank(text, data, tmp_path, monkeypatch):
    block = text[text.index('<section id="papers">') :]
    for each in leaderboard.papers():
        assert unescape(block).count(each["source"]) > 0
        assert all(0 < value < 1 for value in each["values"].values())
        assert all(each["source"] not in json.dumps(group) for group in data["groups"])
    (tmp_path / "papers.yml").write_text(yaml.dump([{**each, "source": ""}]))
    monkeypatch.setattr(leaderboard, "_HERE", tmp_path)
    with pytest.raises(ValueError, match=r"must say .*source"):
        leaderboard.papers()


def test_a_folder_without_summaries_is_named(tmp_path, capsys):
    assert main(["leaderboard", "--from", str(tmp_path)]) == 2
    assert f"there is no summary.json in {tmp_path}; `python" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "own"),
    [
        ("p run --suite s", "p run --suite s --dataset d:e"),
        ("p run --dataset a b --suite s --bits 1 2", "p run --suite s --dataset d:e"),
        (
            "p run --suite s --device cuda --methods a",
            "p run --suite s --device cuda --dataset d:e",
        ),
    ],
)
def test_a_command_is_narrowed_to_its_data_set(command, own):
    assert leaderboard.command_of(command, "d:e") == own


PROBE = """<script>
const list = () => [...document.querySelectorAll("#board tbody tr")]
  .map((row) => [...row.cells].map((cell) => cell.textContent));
const choose = (id, value) => {
  document.getElementById(id).value = value;
  document.getElementById(id).dispatchEvent(new Event("input", { bubbles: true }));
};
const found = { start: list() };
choose("task", "seen");
found.seen = list();
document.querySelectorAll("#board th button")[3].click();
found.sorted = list();
document.querySelector("#board tbody td button").click();
found.command = document.getElementById("command").textContent;
found.what = document.getElementById("what").textContent;
choose("family", "nm");
choose("bits", "24");
found.filtered = list();
found.width = document.documentElement.scrollWidth;
document.body.dataset.found = JSON.stringify(found);
</script></body>"""
needs_chromium = pytest.mark.skipif(
    chromium.find() is None,
    reason="no Chromium: install the package chromium, or name the program in CHROMIUM",
)


@needs_chromium
@pytest.mark.parametrize("width", [1280, 500])
def test_it_sorts_filters_and_tells_commands(text, page, tmp_path, width):
    _, said = chromium.look(page, tmp_path / "profile", (width, 900), "--dump-dom")
    assert said == []  # the policy lets its script run
    probing = re.sub("<meta http-equiv[^>]*>", "", text).replace("</body>", PROBE)
    (tmp_path / "probing.html").write_text(probing)
    dom, said = chromium.look(
        tmp_path / "probing.html", tmp_path / "profile", (width, 900), "--dump-dom"
    )
    assert said == []
    found = json.loads(unescape(re.search('data-found="([^"]*)"', dom)[1]))
    assert found["start"] == [["direct", "direct", "0.300 (1)"]]  # of the first task
    nm = f"{EVIL} †"
    assert [row[0] for row in found["seen"]] == [
        "floats",
        "quantizer, real query",
        nm,
        "quantizer",
    ]
    assert found["seen"][2][2:] == ["0.550 ± 0.071 (2)", "0.850 ± 0.071 (2)"]
    by_24 = ["quantizer", nm, "quantizer, real query", "floats"]  # what lacks it comes last
    assert [row[0] for row in found["sorted"]] == by_24
    assert found["command"].endswith("--dataset digits:unseen --methods itq --bits 12")
    assert "quantizer on digits:unseen, 12 bits: mAP@all 0.150" in found["what"]
    assert found["filtered"] == [[nm, "nm", "0.850 ± 0.071 (2)"]]
    assert found["width"] <= width
