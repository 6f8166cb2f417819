"""Bad input: an error or a warning that names the problem and the remedy, whatever the measure."""

import warnings

import numpy as np
import pytest
from scipy import sparse

from rali_lab import analysis
from rali_lab.analysis import AnalysisWarning, inputs


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(30, 4))


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (np.zeros(5), ValueError, r"one-dimensional with 5 values.*X\[:, None\]"),
        (np.zeros((2, 3, 4)), ValueError, r"shape \(2, 3, 4\).*pool or reshape"),
        (np.empty((5, 0)), ValueError, "no columns"),
        (np.zeros((1, 3)), ValueError, "needs n >= 2, got 1"),
        (np.full((5, 3), 7.0), ValueError, "all 5 rows of X are equal"),
        (np.full((5, 3), 0.1) * 3, ValueError, "all 5 rows of X are equal"),
        (np.ones((5, 3), dtype=bool), TypeError, r"bool array.*astype\(float\)"),
        (np.ones((5, 3), dtype=complex), TypeError, "complex128"),
        (np.array([["a", "b"], ["c", "d"]]), TypeError, "expected real numbers"),
        (np.array([[1, None], [2, 3]], dtype=object), TypeError, "array of object"),
        ([[1.0, 2.0], [3.0]], TypeError, "ragged"),
        (sparse.eye_array(4), TypeError, r"sparse.*toarray\(\)"),
    ],
    ids=lambda x: x if isinstance(x, str) else None,
)
def test_bad_arrays_are_named(bad, error, message):
    with pytest.raises(error, match=message):
        inputs.matrix(bad)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_counted_by_row_and_column(X, value):
    X[3, 1] = X[3, 2] = X[7, 1] = value
    with pytest.raises(
        ValueError,
        match=r"NaN or infinite values in 2 of 30 rows \(first: row 3\) and 2 of 4 columns",
    ):
        inputs.matrix(X)


def test_bad_values_are_found_in_any_block(X, monkeypatch):
    monkeypatch.setattr(inputs, "_BLOCK", 8)
    X[29, 0] = np.nan
    with pytest.raises(ValueError, match="first: row 29"):
        inputs.matrix(X)


def test_integers_and_lists_become_floats_and_floats_are_not_copied(X):
    assert inputs.matrix(np.arange(6).reshape(3, 2)).dtype == np.float64
    assert inputs.matrix([[1, 2], [3, 4]]).dtype == np.float64
    assert inputs.matrix(X) is X
    assert inputs.matrix(X.astype(np.float32)).dtype == np.float32


def test_different_n_and_the_hint_for_transposed_arrays(X):
    with pytest.raises(
        ValueError, match="X has 30 rows and Y 29, expected the same n items.*join them"
    ):
        inputs.pair(X, X[:-1, :3])
    with pytest.raises(ValueError, match="agree in columns: pass X.T and Y.T"):
        inputs.pair(X[:20].T, X[:20, :3].T)


@pytest.mark.parametrize(
    ("shape", "warned"),
    [
        ((50, 768), False),
        ((10, 768), True),
        ((64, 1000), True),
        ((64, 128), False),
        ((100, 90), False),
    ],
)
def test_transposed_looking_arrays_are_warned_about(shape, warned):
    X = np.random.default_rng(0).normal(size=shape)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        inputs.matrix(X)
    assert [w.category for w in caught] == [AnalysisWarning] * warned
    assert all("pass X.T if features are in rows" in str(w.message) for w in caught)


def test_labels_become_integers_and_missing_ones_are_counted():
    assert inputs.codes(["b", "a", "b"], 3).tolist() == [1, 0, 1]
    assert inputs.codes(None, 3).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"shape \(2,\), expected one label per row, \(3,\)"):
        inputs.codes(["a", "b"], 3)
    with pytest.raises(ValueError, match="1 of 3 groups are missing"):
        inputs.codes(np.array(["a", None, "b"], dtype=object), 3)
    with pytest.raises(ValueError, match="1 of 2 domains are missing"):
        inputs.codes([1.0, np.nan], 2, "domains")


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0, 2.0], "one number per row"),
        ([1.0, np.nan, 2.0], "1 of 3 scores are NaN"),
        ([2.0] * 3, "all 3 scores are 2"),
    ],
)
def test_scores_are_checked(scores, message):
    with pytest.raises(ValueError, match=message):
        inputs.vector(scores, 3)


def test_duplicates_are_found_by_value():
    X = np.array([[1.0, 0.0], [2.0, 3.0], [1.0, -0.0], [2.0, 3.0]])
    assert inputs.first_of_duplicates(X).tolist() == [0, 1]
    with pytest.warns(AnalysisWarning, match="2 of 4 rows of X repeat another row"):
        inputs.warn_duplicates(X, "X", "drop them")


def test_torch_tensors_of_any_float_type_are_taken(X):
    torch = pytest.importorskip("torch")
    T = torch.tensor(X, requires_grad=True)
    np.testing.assert_array_equal(inputs.matrix(T), X)
    assert analysis.cka(T, T.detach().to(torch.bfloat16)) == pytest.approx(1, abs=1e-3)
    assert analysis.cka(T.float(), X) == pytest.approx(1, abs=1e-6)


PAIRED = [
    analysis.cka,
    lambda X, Y: analysis.cka(X, Y, kernel="rbf"),
    lambda X, Y: analysis.cka(X, Y, debiased=False),
    analysis.minibatch_cka,
    analysis.procrustes,
    analysis.rsa,
    lambda X, Y: analysis.mutual_knn(X, Y, k=3, metric="euclidean"),
    lambda X, Y: analysis.cknna(X, Y, k=3, metric="euclidean"),
    analysis.cca,
    analysis.svcca,
    analysis.mmd,
    analysis.frechet_distance,
    analysis.proxy_a_distance,
    analysis.silhouette,
    lambda X, Y: analysis.knn_mixing(X, Y, k=3),
]
SINGLE = [
    lambda X: analysis.spectrum(X).sum(),
    analysis.participation_ratio,
    analysis.effective_rank,
    analysis.pca_dimension,
    lambda X: analysis.two_nn(X).value,
    lambda X: analysis.mle_dimension(X, k=3).value,
    analysis.uniformity,
    lambda X: analysis.project(X, method="pca", n_neighbors=2).overlap[0],
]


def degenerate() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(24, 4))
    return {
        "plain": X,
        "one column": X[:, :1],
        "constant columns": np.hstack([X[:, :1], np.ones((24, 3))]),
        "half zero rows": X * (np.arange(24) % 2)[:, None],
        "one outlier": X + 1e12 * (np.arange(24) == 0)[:, None],
        "huge mean": X + 1e9,
        "huge": X * 1e200,
        "tiny": X * 1e-200,
        "one-hot": np.eye(24),
        "two points": np.repeat(np.eye(4)[:2], 12, axis=0),
        "one different row": np.eye(24)[:, :1],
        "duplicates": np.tile(X[:4], (6, 1)),
        "collinear": np.outer(np.arange(24.0), np.ones(4)),
        "wide": rng.normal(size=(24, 300)),
        "four rows": X[:4],
        "float32": X.astype(np.float32) * 1e30,
    }


@pytest.mark.filterwarnings("ignore::rali_lab.analysis.AnalysisWarning")
@pytest.mark.parametrize("case", degenerate())
def test_no_measure_returns_nan(case):
    """A finite number or a ValueError; also no numpy warning, since warnings are errors here."""
    X = degenerate()[case]
    Y = np.random.default_rng(1).normal(size=X.shape)
    calls = [lambda m=m, a=a: m(*a) for m in PAIRED for a in ((X, Y), (Y, X), (X, X))] + [
        lambda m=m: m(X) for m in SINGLE
    ]
    finite = 0
    for call in calls:
        try:
            assert np.isfinite(call())
            finite += 1
        except ValueError as error:
            assert len(str(error)) > 20
    assert finite >= (0 if case == "four rows" else 10)
