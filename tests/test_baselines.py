"""The ridge on frozen visual features."""

import numpy as np

from rali_lab.baselines import ALPHAS, ridge_path, ridge_scores, visual_features


def test_features_do_not_depend_on_the_batch():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (96, 96, 3), dtype=np.uint8) for _ in range(3)]
    together = visual_features(pictures)
    alone = np.concatenate([visual_features([p]) for p in pictures])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-3)


def test_pictures_of_different_sizes_are_accepted():
    pictures = [np.zeros((s, 80, 3), np.uint8) for s in (64, 100)]
    assert len(visual_features(pictures)) == 2


def test_a_feature_that_only_tells_the_source_is_shrunk_away():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 12)
    offset = rng.normal(size=10)[groups]
    signal = rng.normal(size=120)
    X = np.c_[np.eye(10)[groups], signal]
    new = np.c_[np.zeros((50, 10)), rng.normal(size=50)]
    assert np.corrcoef(ridge_scores(X, signal + offset, groups, new), new[:, -1])[0, 1] > 0.99


def test_the_path_is_scikit_learns_ridge():
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    X, y, new = rng.normal(size=(30, 50)), rng.normal(size=30), rng.normal(size=(7, 50))
    found = ridge_path(X, y, new)
    for i in (0, 14, 28):
        model = make_pipeline(StandardScaler(), Ridge(ALPHAS[i])).fit(X, y)
        np.testing.assert_allclose(found[i], model.predict(new), atol=1e-8)
