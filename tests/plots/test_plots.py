"""Pictures show the numbers that they were given."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from pml_nmlayer import plots
from pml_nmlayer.layers import NMLayer
from pml_nmlayer.merging.scorers import Correlation
from tests import naive


@pytest.fixture
def ax():
    return Figure().subplots()


def pairs(codes, labels):
    """Distances of all pairs of items, by kind; item by item."""
    same, other = [], []
    for i in range(len(codes)):
        for j in range(len(codes)):
            if i != j:
                distance = int((codes[i] != codes[j]).sum())
                (same if labels[i] == labels[j] else other).append(distance)
    return same, other


def test_axes_come_back(ax):
    assert plots.bit_importance({"a": [1.0, 2.0]}, ax=ax) is ax


def test_importance_is_sorted_and_scaled(ax):
    plots.bit_importance({"a": torch.tensor([1.0, -1.0, 4.0])}, ax=ax)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [2.0, 0.5, -0.5])
    np.testing.assert_allclose(ax.lines[1].get_xdata(), [100 / 6, 50, 500 / 6])


def test_a_graph_has_a_line_for_each_strong_pair(ax):
    torch.manual_seed(1)
    layer = NMLayer(6, 3, scorer=Correlation(weighting="equal"))
    u = torch.randn(50, 3)
    layer.observe(torch.cat([u, -u], 1))
    layer.freeze()
    rho = layer.graph.correlation()
    plots.redundancy_graph(rho, layer.groups, threshold=0.9, ax=ax)
    assert len(ax.lines) == 3  # each bit and its negation
    assert all(line.is_dashed() for line in ax.lines)
    (dots,) = ax.collections
    assert len(np.unique(dots.get_offsets().round(6), axis=0)) == 6


def test_without_a_threshold_as_many_pairs_as_bits(ax):
    rho = np.corrcoef(np.random.RandomState(0).randn(8, 40))
    np.fill_diagonal(rho, 0)
    plots.redundancy_graph(rho, np.arange(8) % 2, ax=ax)
    assert len(ax.lines) == 8


def test_a_tree_joins_each_bit_to_its_group(ax):
    first = np.array([[0.5, 0, -0.5, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    second = np.array([[0, 0.5, 0.5], [1, 0, 0]])
    plots.merge_tree([first, torch.tensor(second)], ax=ax)
    assert len(ax.lines) == 4 + 3
    negated = [line for line in ax.lines if line.is_dashed()]
    assert len(negated) == 1
    leaves, middle, root = (c.get_offsets()[:, 0] for c in reversed(ax.collections[::-1]))
    # No two lines of one level cross
    for matrix, above, below in ((first, leaves, middle), (second, middle, root)):
        ends = below[np.abs(matrix).argmax(0)][np.argsort(above)]
        assert (np.diff(ends) >= 0).all()
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [
        "4 bits",
        "3 bits",
        "2 bits",
    ]


def test_distances_are_those_of_a_loop(ax):
    generator = torch.Generator().manual_seed(3)
    codes = torch.randint(0, 2, (14, 5), generator=generator).float() * 2 - 1
    labels = torch.arange(14) % 3
    same, other = pairs(codes, labels)
    plots.distance_distribution(
        codes, labels, codes, labels, ref_includes_query=True, ax=ax
    )
    for values, container in zip((same, other), ax.containers, strict=True):
        heights = [bar.get_height() for bar in container]
        wanted = 100 * np.bincount(values, minlength=6) / len(values)
        np.testing.assert_allclose(heights, wanted)
    closer = np.mean([(s < o) + 0.5 * (s == o) for s in same for o in other])
    assert f"{100 * closer:.1f} %" in ax.get_title()


def test_map_against_bits_shows_means_and_deviations(ax):
    plots.map_against_bits({"a": {24: [0.5, 0.9], 12: [0.2, 0.4]}}, ax=ax)
    (container,) = ax.containers
    line, _, (bars,) = container.lines
    assert list(line.get_xdata()) == [12, 24]
    assert list(line.get_ydata()) == pytest.approx([0.3, 0.7])
    low = [float(segment[0, 1]) for segment in bars.get_segments()]
    np.testing.assert_allclose(low, [0.3 - 0.02**0.5, 0.7 - 0.08**0.5])
    assert "2 seeds" in ax.get_title()


def test_precision_recall_leaves_empty_radii_out(ax):
    plots.precision_recall({"a": ([np.nan, 0.8, 0.5], [0.0, 0.5, 1.0])}, ax=ax)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [0.5, 1.0])


def test_a_gallery_shows_images_bits_and_distances(ax):
    images = np.random.RandomState(0).rand(4, 6, 3)
    codes = np.array([[0b10100000], [0b10000000], [0b01000000], [0b10100000]], np.uint8)
    rows = np.array([[3, 2]])
    plots.neighbour_gallery(
        images[:1], codes[:1], images, codes, rows, bits=3, same=[[True, False]], ax=ax
    )
    shown = [image.get_array() for image in ax.images]
    assert all((a == images[i]).all() for a, i in zip(shown, (0, 3, 2), strict=True))
    distances = (
        [
            naive.hamming(*pair)
            for pair in (((1, -1, 1), (1, -1, 1)), ((1, -1, 1), (-1, 1, -1)))
        ]
        if hasattr(naive, "hamming")
        else [0, 3]
    )
    assert [text.get_text() for text in ax.texts] == ["query", *map(str, distances)]
    orange = to_rgba("#D55E00")
    cells = [p for p in ax.patches if p.get_edgecolor() == orange and p.get_width() < 1]
    assert len(cells) == 3  # the bits in which the second neighbour differs
    frames = [p for p in ax.patches if p.get_width() == 1]
    assert [p.get_linestyle() == "-" for p in frames] == [True, False]


REFUSED = {
    "no code": lambda: plots.bit_importance({}),
    "importance of zeros": lambda: plots.bit_importance({"a": [0.0, 0.0]}),
    "importance of NaN": lambda: plots.bit_importance({"a": [np.nan, 1.0]}),
    "groups of another length": lambda: plots.redundancy_graph(np.eye(3), [0, 1]),
    "groups of fractions": lambda: plots.redundancy_graph(np.eye(2), [0, 0.5]),
    "threshold": lambda: plots.redundancy_graph(np.eye(2), [0, 1], threshold=2),
    "no merge": lambda: plots.merge_tree([]),
    "merges that do not follow": lambda: plots.merge_tree([np.eye(2), np.eye(3)]),
    "a bit in two groups": lambda: plots.merge_tree([np.ones((2, 2))]),
    "one kind of pairs": lambda: plots.distance_distribution(
        torch.ones(2, 3), torch.zeros(2).long(), torch.ones(2, 3), torch.zeros(2).long()
    ),
    "no method": lambda: plots.map_against_bits({}),
    "no bits": lambda: plots.map_against_bits({"a": {0: 1.0}}),
    "no curve": lambda: plots.precision_recall({}),
    "curves of two lengths": lambda: plots.precision_recall({"a": ([1.0], [0.5, 1])}),
    "a recall of 2": lambda: plots.precision_recall({"a": ([1.0], [2.0])}),
    "rows outside": lambda: plots.neighbour_gallery(
        np.ones((1, 2, 2)),
        np.uint8([[0]]),
        np.ones((1, 2, 2)),
        np.uint8([[0]]),
        [[1]],
        bits=2,
    ),
    "fewer codes": lambda: plots.neighbour_gallery(
        np.ones((1, 2, 2)),
        np.uint8([[0]]),
        np.ones((2, 2, 2)),
        np.uint8([[0]]),
        [[1]],
        bits=2,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_drawn_is_refused(name):
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        REFUSED[name]()


def test_several_axes_are_refused():
    with pytest.raises(TypeError, match="pass one"):
        plots.bit_importance({"a": [1.0]}, ax=Figure().subplots(1, 2))


def test_a_new_figure_where_none_is_given():
    from matplotlib import pyplot

    ax = plots.bit_importance({"a": [1.0]})
    assert pyplot.fignum_exists(ax.figure.number)
    pyplot.close(ax.figure)
