"""Projections are tested on what they promise, not on coordinates; the quality numbers against
scikit-learn.
"""

import numpy as np
import pytest
from sklearn import manifold
from sklearn.decomposition import PCA

from rali_lab.analysis import continuity, project, trustworthiness
from rali_lab.analysis.distances import prepared


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(size=(30, 6)), rng.normal(size=(30, 6)) + 8])


@pytest.mark.parametrize("k", [2, 10, 29])
def test_trustworthiness_and_continuity_equal_sklearn(X, k):
    Z = X[:, :2] + np.random.default_rng(1).normal(size=(60, 2))
    assert trustworthiness(X, Z, k=k) == pytest.approx(
        manifold.trustworthiness(X, Z, n_neighbors=k)
    )
    assert continuity(X, Z, k=k) == pytest.approx(manifold.trustworthiness(Z, X, n_neighbors=k))


def test_cosine_trustworthiness_equals_sklearn(X):
    Z = X[:, :2]
    expected = manifold.trustworthiness(X, Z, n_neighbors=5, metric="cosine")
    assert trustworthiness(X, Z, k=5, metric="cosine") == pytest.approx(expected)


def test_ends_and_anchors(X):
    rng = np.random.default_rng(0)
    assert trustworthiness(X, 2 * X + 1, k=10) == continuity(X, 2 * X + 1, k=10) == 1
    cloud = rng.normal(size=(200, 6))
    random = [trustworthiness(cloud, rng.normal(size=(200, 2)), k=10) for _ in range(5)]
    assert np.mean(random) == pytest.approx(0.5, abs=0.05)
    assert trustworthiness(cloud, cloud[:, :2], max_anchors=80) == pytest.approx(
        trustworthiness(cloud, cloud[:, :2]), abs=0.03
    )


def test_pca_equals_sklearn_up_to_sign_and_has_one_seed(X):
    found = project(X, method="pca")
    expected = PCA(2).fit_transform(X)
    assert abs(np.corrcoef(found.coordinates[0][:, 0], expected[:, 0])[0, 1]) == pytest.approx(1)
    assert found.seeds == (0,) and found.seed_procrustes is None
    assert found.trustworthiness == (trustworthiness(X, found.coordinates[0]),)
    assert str(found).startswith("pca: trustworthiness 0.") and "coordinates" not in found.to_dict()


def test_overlap_is_the_share_of_kept_neighbours(X):
    assert project(X, method="pca", n_components=6).overlap == (1.0,)
    blurred = project(X, method="pca", n_components=1).overlap[0]
    assert 10 / 59 < blurred < 0.9


@pytest.mark.slow
def test_umap_with_our_neighbours_is_umap(X):
    """What `project` finds beforehand changes no coordinate."""
    umap = pytest.importorskip("umap")
    found = project(X, seeds=(0,), n_neighbors=5, n_epochs=50).coordinates[0]
    plain = umap.UMAP(n_neighbors=5, n_epochs=50, random_state=0, n_jobs=1)
    np.testing.assert_array_equal(found, plain.fit_transform(prepared(X, "euclidean")))


@pytest.mark.slow
def test_umap_keeps_neighbours_and_agrees_with_itself(X):
    pytest.importorskip("umap")
    found = project(X, seeds=(0, 1), n_neighbors=10, n_epochs=100)
    assert [c.shape for c in found.coordinates] == [(60, 2)] * 2
    assert min(found.trustworthiness) > 0.85 and min(found.continuity) > 0.85
    assert 0.5 < found.seed_overlap < 1 and 0.3 < found.seed_procrustes <= 1
    again = project(X, seeds=(0,), n_neighbors=10, n_epochs=100)
    np.testing.assert_array_equal(again.coordinates[0], found.coordinates[0])
    assert "2 seeds agree" in str(found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_neighbors": 30}, "n_neighbors=30 with n=60.*trustworthiness leaves"),
        ({"n_neighbors": 1}, "2 <= n_neighbors < n / 2"),
        ({"method": "tsne"}, "method='tsne' is not known; choose one of"),
        ({"metric": "l1"}, "metric='l1' is not known"),
        ({"seeds": ()}, "seeds is empty"),
        ({"n_components": 7}, "n_components=7, expected 1 to 6"),
    ],
)
def test_errors(options, message, X):
    with pytest.raises(ValueError, match=message):
        project(X, **options)


def test_too_many_neighbours_for_the_quality(X):
    for measure in (trustworthiness, continuity):
        with pytest.raises(ValueError, match="k=30 with n=60"):
            measure(X, X, k=30)


def test_without_umap_the_way_out_is_named(X, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(ImportError, match='pip install umap-learn, or pass method="pca"'):
        project(X)
