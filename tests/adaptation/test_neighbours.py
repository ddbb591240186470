import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pml_nmlayer.adaptation import neighbours as room
from pml_nmlayer.adaptation.clusters import spherical_kmeans
from pml_nmlayer.adaptation.neighbours import nearest_neighbours, neighbour_graph
from pml_nmlayer.adaptation.teacher import (
    diffusion_embedding,
    largest_eigenpairs,
    neighbour_teacher,
)


def points(count, features=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, features, generator=generator), dim=1)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_neighbours_are_those_of_a_loop(block, monkeypatch):
    monkeypatch.setattr(room, "_BLOCK", block)
    x = points(30)
    values, indices = nearest_neighbours(x, 4)
    for i in range(30):
        ranked = sorted((j for j in range(30) if j != i), key=lambda j: -float(x[i] @ x[j]))
        assert indices[i].tolist() == ranked[:4]
        assert values[i, 0] == pytest.approx(float(x[i] @ x[ranked[0]]), abs=1e-6)


def test_the_graph_is_symmetric_without_loops():
    graph = neighbour_graph(points(40), 3)
    assert abs(graph - graph.T).max() == 0
    assert graph.diagonal().sum() == 0
    assert graph.max() <= 1 + 1e-6


def test_power_iteration_finds_the_eigenvalues_of_the_exact_method():
    graph = neighbour_graph(points(400), 5)
    scale = np.asarray(graph.sum(1)).ravel() ** -0.5
    walk = graph.multiply(scale[:, None]).multiply(scale[None]).tocsr()
    values, vectors = largest_eigenpairs(walk, 6)
    exact = np.linalg.eigvalsh(walk.toarray())[::-1][:6]
    np.testing.assert_allclose(values, exact, atol=1e-3)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(6), atol=1e-8)


def test_the_teacher_puts_separate_groups_apart():
    x = F.normalize(points(200) + 4 * torch.eye(6)[torch.arange(200) % 4], dim=1)
    teacher = diffusion_embedding(neighbour_graph(x, 8), 3)
    similarity = teacher @ teacher.T
    same = (torch.arange(200)[:, None] % 4) == (torch.arange(200) % 4)
    assert similarity[same].mean() > 0.95
    assert similarity[~same].mean() < 0.1


@pytest.mark.parametrize("count", [1, 2, 3, 5, 30])
def test_few_or_equal_items_have_a_teacher(count):
    for x in (points(count), points(1).expand(count, 6)):
        assert neighbour_teacher(x, neighbours=20, dimensions=100).isfinite().all()


def test_kmeans_finds_separate_groups_and_refuses_too_many():
    x = F.normalize(points(60) * 0.1 + torch.eye(6)[torch.arange(60) % 3], dim=1)
    centroids = spherical_kmeans(x, 12)
    assert (x @ centroids.T).amax(1).min() > 0.9
    torch.testing.assert_close(centroids.norm(dim=1), torch.ones(12))
    with pytest.raises(ValueError, match="count"):
        spherical_kmeans(x, 61)
