"""Streams give what one shot gives, and minibatches never give NaN."""

import numpy as np
import pytest

from rali_lab.analysis import StreamingCKA, cka, minibatch_cka


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = (
        rng.normal(size=(200, 6)) + np.linspace(0, 9, 200)[:, None]
    )  # drifts: the first batch has another mean
    return X + 100, X[:, :3] ** 2 + rng.normal(size=(200, 3))


@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("step", [1, 7, 64, 200])
def test_streaming_equals_one_shot_whatever_the_batches(data, step, debiased):
    X, Y = data
    stream = StreamingCKA()
    for start in range(0, 200, step):
        stream.update(X[start : start + step], Y[start : start + step])
    assert stream.n == 200
    assert stream.result(debiased=debiased) == pytest.approx(
        cka(X, Y, debiased=debiased), abs=1e-10
    )


def test_merged_streams_equal_one_stream_and_stay_usable(data):
    X, Y = data
    first, second = StreamingCKA().update(X[:70], Y[:70]), StreamingCKA().update(X[70:], Y[70:])
    before = first.result(), second.result()
    assert first.merge(second).result() == pytest.approx(cka(X, Y), abs=1e-10)
    assert (first.result(), second.result()) == before
    assert StreamingCKA().merge(first).result() == pytest.approx(before[0])
    assert first.merge(StreamingCKA()).update(X[70:], Y[70:]).result() == pytest.approx(
        cka(X, Y), abs=1e-10
    )
    assert first.n == 70
    assert StreamingCKA().merge(StreamingCKA()).n == 0


def test_centres_given_beforehand_change_nothing(data):
    X, Y = data
    stream = StreamingCKA(centres=(np.full(6, 50.0), np.zeros(3))).update(X, Y)
    assert stream.result() == pytest.approx(cka(X, Y), abs=1e-10)


def test_memory_mapped_float32_streams(data, tmp_path):
    X, Y = (A.astype(np.float32) for A in data)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    stream = StreamingCKA()
    for start in range(0, 200, 50):
        stream.update(mapped[start : start + 50], Y[start : start + 50])
    assert stream.result() == pytest.approx(cka(X.astype(float), Y.astype(float)), abs=1e-10)
    assert cka(mapped, Y) == pytest.approx(stream.result(), abs=1e-10)


def test_stream_errors_say_what_to_do(data):
    X, Y = data
    with pytest.raises(ValueError, match="needs n >= 4.*got 3; add batches"):
        StreamingCKA().update(X[:3], Y[:3]).result()
    with pytest.raises(ValueError, match="got 0; add batches"):
        StreamingCKA().result()
    with pytest.raises(ValueError, match="this batch has 5 rows of X and 4 of Y"):
        StreamingCKA().update(X[:5], Y[:4])
    with pytest.raises(ValueError, match=r"2 and 3 columns, expected \(6, 3\) as before"):
        StreamingCKA().update(X, Y).update(X[:, :2], Y)
    with pytest.raises(ValueError, match="merge streams of the same two"):
        StreamingCKA().update(X, Y).merge(StreamingCKA().update(Y, X))
    with pytest.raises(ValueError, match="NaN or infinite values in 1 of 1 rows"):
        StreamingCKA().update([[np.nan]], [[1.0]])
    with pytest.raises(ValueError, match="rows of Y are equally alike"):
        StreamingCKA().update(X, np.ones((200, 2))).result()


def test_minibatch_cka_is_the_mean_hsic_of_its_batches(data):
    X, Y = data
    assert minibatch_cka(X, Y, batch_size=200) == pytest.approx(cka(X, Y))
    assert minibatch_cka(X, Y, batch_size=500) == pytest.approx(cka(X, Y))
    assert minibatch_cka(X, X, batch_size=10) == pytest.approx(1)
    assert minibatch_cka(X, Y, batch_size=50, n_epochs=20) == pytest.approx(cka(X, Y), abs=0.03)


def test_minibatch_cka_of_noise_is_about_zero_even_in_tiny_batches():
    """Batches of 4: about half of the HSIC of independent arrays are negative, whose roots would be
    NaN.
    """
    rng = np.random.default_rng(0)
    values = [
        minibatch_cka(
            rng.normal(size=(60, 50)), rng.normal(size=(60, 50)), batch_size=4, random_state=s
        )
        for s in range(20)
    ]
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 0.1


def test_minibatch_needs_four_rows_in_a_batch(data):
    with pytest.raises(ValueError, match="needs n >= 4.*batch_size=3; pass a larger"):
        minibatch_cka(*data, batch_size=3)
