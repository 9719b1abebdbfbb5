"""Similarity and clusters of constructed regions, against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score, f1_score
from sklearn.metrics.pairwise import cosine_similarity, euclidean_distances

from dfwe.studies.region.geometry import (
    agreement,
    cosine,
    distances,
    gram,
    plane,
    spectral,
    tree,
    variance,
)

OWNERS = [name for name in "abc" for _ in range(4)]
SIZE = 700


@pytest.fixture(scope="module")
def region():
    """(rows, origin): three regions around one base, four models each."""
    rng = torch.Generator().manual_seed(0)
    origin = torch.randn(SIZE, generator=rng)
    centres = torch.randn(3, SIZE, generator=rng)
    rows = [origin + centres[i // 4] + 0.7 * torch.randn(SIZE, generator=rng) for i in range(12)]
    return rows, origin


@pytest.fixture(scope="module")
def vectors(region):
    rows, origin = region
    return torch.stack(rows).numpy() - origin.numpy()


@pytest.mark.parametrize("block", [64, 10**6])
def test_similarity_and_distance_are_scikit_learns_whatever_the_block(block, region, vectors):
    products = gram(*region, block=block)
    assert cosine(products) == pytest.approx(cosine_similarity(vectors), abs=1e-5)
    assert distances(products) == pytest.approx(euclidean_distances(vectors), abs=1e-3)


def test_without_an_origin_the_rows_mean_is_it(region, vectors):
    centred = vectors - vectors.mean(0)
    assert cosine(gram(region[0])) == pytest.approx(cosine_similarity(centred), abs=1e-5)


def test_variance_is_the_mean_squared_distance_from_the_centroid(region, vectors):
    cluster = vectors[4:8]
    wanted = ((cluster - cluster.mean(0)) ** 2).sum(1).mean()
    assert variance(gram(*region), [4, 5, 6, 7]) == pytest.approx(wanted, rel=1e-5)


def test_spectral_clustering_finds_the_regions_as_scikit_learn_does(region, vectors):
    clusters = spectral(cosine(gram(*region)), 3)
    affinity = np.clip(cosine_similarity(vectors), 1e-9, None)
    theirs = SpectralClustering(3, affinity="precomputed", random_state=0).fit_predict(affinity)
    assert adjusted_rand_score(theirs, clusters) == 1.0
    assert vars(agreement(clusters.tolist(), OWNERS)) == {"accuracy": 1.0, "f1": 1.0, "ari": 1.0}


def test_models_of_two_bases_cluster_by_base():
    rng = torch.Generator().manual_seed(1)
    bases = torch.randn(2, SIZE, generator=rng)
    rows = [bases[i % 2] + 0.3 * torch.randn(SIZE, generator=rng) for i in range(8)]
    clusters = spectral(cosine(gram(rows, torch.zeros(SIZE))), 2)
    assert agreement(clusters.tolist(), ["a", "b"] * 4).accuracy == 1.0


def test_agreement_is_what_a_person_counts():
    clusters, truth = [0, 0, 1, 1, 1, 2], ["a", "a", "a", "b", "b", "c"]
    scores = agreement(clusters, truth)
    assert scores.accuracy == pytest.approx(5 / 6)
    assert scores.f1 == pytest.approx(
        f1_score(truth, ["a", "a", "b", "b", "b", "c"], average="macro")
    )
    assert scores.ari == pytest.approx(adjusted_rand_score(truth, clusters))


def test_the_plane_keeps_the_distances_of_points_in_a_plane():
    points = torch.tensor([[0.0, 0], [3, 0], [0, 4], [5, 5]])
    rows = [torch.cat([p, torch.zeros(8)]) for p in points]
    products = gram(rows, torch.zeros(10))
    places, shares = plane(products)
    assert euclidean_distances(places) == pytest.approx(distances(products), abs=1e-5)
    assert sum(shares) == pytest.approx(1.0)


def test_the_tree_joins_each_region_before_it_joins_two(region):
    from scipy.cluster.hierarchy import fcluster

    clusters = fcluster(tree(cosine(gram(*region))), 3, "maxclust")
    assert agreement(clusters.tolist(), OWNERS).accuracy == 1.0


def test_a_model_that_never_moved_is_similar_to_none():
    rows = [torch.ones(5), torch.zeros(5), 2 * torch.ones(5)]
    similar = cosine(gram(rows, torch.zeros(5)))
    assert similar[0].tolist() == pytest.approx([1, 0, 1])
    assert similar[1].tolist() == [0, 1, 0]
