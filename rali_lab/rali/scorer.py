"""The RALI scorer: fitted on scored images, saved and loaded without any language model."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from torch import nn

from rali_lab.io import ASSETS
from rali_lab.models.image_encoder import embed_images, fold_batch_norm
from rali_lab.rali.basis import (
    TAU,
    binned_kmeans,
    compressor_arrays,
    cosines,
    fit_compressor,
    softmax_score,
    softmax_weights,
)
from rali_lab.rali.fine_tune import check_scores, fine_tune

if TYPE_CHECKING:
    import pandas as pd


class Explanation(NamedTuple):
    """Why a score: weight times score, over all basis vectors, sums to it.

    Attributes
    ----------
    score : float
        The score.
    basis : pd.DataFrame
        Basis vectors, heaviest first: basis, weight, score.
    texts : pd.DataFrame
        Stored texts, nearest first: text, similarity (-1..1).
    """

    score: float
    basis: pd.DataFrame
    texts: pd.DataFrame


class RaliScorer(BaseEstimator):
    """Scores images from an aligned image encoder, PCA and basis vectors, as a scikit-learn
    estimator.

    Basis scores stay in 1..5 while they are fine-tuned and a prediction is a weighted mean of them,
    so predictions lie in 1..5 without being cut. Those of a basis that was given (`of_basis`) lie
    between its lowest and its highest score.

    Parameters
    ----------
    n_components : int, optional
        Dimensions kept by PCA (paper: 512 of 768); None for no PCA.
    n_bins, n_basis : int
        N and K of the binned k-means (paper: 240, 250).
    tau : float
        Temperature of the softmax.
    fine_tune_epochs, fine_tune_lr : int, float
        Of fitting basis vectors and scores end to end (`rali_lab.rali.fine_tune`); 0 epochs: none.
    random_state : int
        Seed of k-means and of the shuffling.

    Attributes
    ----------
    compressor_ : Pipeline
        Standardisation and PCA (`rali_lab.rali.basis.fit_compressor`).
    explained_share_ : float
        Share of the standardised variance that PCA keeps, 0..1.
    vectors_, scores_ : np.ndarray
        (n_basis, n_components) and (n_basis,) in 1..5.
    visual_ : nn.Module or None
        The image encoder with batch norms folded; None when fitted on embeddings alone.
    history_ : pd.DataFrame
        One row per fine-tuning epoch from 0: epoch, train_mse, validation_mse (NaN without
        validation).
    trained_ids_ : frozenset of str
        Hashes of the ids of the training images, if they were given.
    texts_, text_vectors_ : list of str, np.ndarray
        Stored texts and their (m, n_components) compressed embeddings; see `store_texts`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(300, 8)); mos = 3 + np.tanh(z[:, 0])
    >>> scorer = RaliScorer(n_components=8, n_bins=20, n_basis=40).fit(z, mos)
    >>> bool(np.corrcoef(scorer.predict_embeddings(z), mos)[0, 1] > 0.9)
    True
    """

    def __init__(
        self,
        *,
        n_components: int | None = 64,
        n_bins: int = 240,
        n_basis: int = 250,
        tau: float = TAU,
        fine_tune_epochs: int = 30,
        fine_tune_lr: float = 3e-3,
        random_state: int = 0,
    ) -> None:
        self.n_components, self.n_bins, self.n_basis, self.tau = n_components, n_bins, n_basis, tau
        self.fine_tune_epochs, self.fine_tune_lr = fine_tune_epochs, fine_tune_lr
        self.random_state = random_state

    def fit(
        self,
        X: Sequence[np.ndarray] | np.ndarray,
        mos: np.ndarray,
        *,
        model: nn.Module | None = None,
        ids: Sequence[str] | None = None,
        validation: tuple[Sequence[np.ndarray] | np.ndarray, np.ndarray] | None = None,
    ) -> RaliScorer:
        """Learn PCA, basis vectors and basis scores, then fine-tune the basis.

        Parameters
        ----------
        X : sequence of np.ndarray
            Images, n arrays (H, W, 3) uint8, or their embeddings, one (n, d) array.
        mos : np.ndarray
            (n,) scores in 1..5.
        model : nn.Module, optional
            The aligned open_clip model (or its `.visual`), copied; needed for images, and to save
            or to predict.
        ids : sequence of str, optional
            Of the training images; `predict` then refuses them.
        validation : tuple, optional
            X and mos held out of the fit; the fine-tuning epoch with the smallest squared error on
            them is kept.

        Raises
        ------
        ValueError
            On scores outside 1..5, lists of different lengths, images without a model, or a basis
            too large for the data.
        """
        mos = check_scores(mos, len(X))
        self._set_encoder(model, ids)
        z = self._embed(X)
        self.compressor_, self.explained_share_ = fit_compressor(z, self.n_components)
        z, seed = self.compressor_.transform(z), self.random_state
        basis = binned_kmeans(z, mos, n_bins=self.n_bins, n_basis=self.n_basis, seed=seed)
        if validation is not None:
            held = self.compressor_.transform(self._embed(validation[0]))
            validation = held, check_scores(validation[1], len(held))
        options = {"tau": self.tau, "epochs": self.fine_tune_epochs, "lr": self.fine_tune_lr}
        self.vectors_, self.scores_, self.history_ = fine_tune(
            *basis, z, mos, **options, seed=seed, validation=validation
        )
        return self

    @classmethod
    def of_basis(
        cls,
        model: nn.Module,
        vectors: np.ndarray,
        scores: np.ndarray,
        *,
        tau: float = TAU,
        texts: Sequence[str] = (),
        ids: Sequence[str] = (),
    ) -> RaliScorer:
        """A scorer whose basis is given instead of fitted, without PCA and without `history_`.

        Parameters
        ----------
        model
            As for `fit`.
        vectors, scores : np.ndarray
            (k, d) in the space of `model`, and (k,).
        tau : float
            Temperature of the softmax.
        texts, ids : sequence of str
            What the vectors are embeddings of, for `explain` (none, or k); ids as for `fit`.

        Raises
        ------
        ValueError
            On lists of different lengths.
        """
        if len(vectors) != len(scores):
            raise ValueError(f"{len(vectors)} vectors but {len(scores)} scores; give one for each")
        n = len(vectors)
        scorer = cls(n_components=None, n_bins=n, n_basis=n, tau=tau, fine_tune_epochs=0)
        scorer._set_encoder(model, ids)
        scorer.compressor_, scorer.explained_share_ = fit_compressor(vectors, None)
        scorer.vectors_ = np.asarray(vectors, np.float64)
        scorer.scores_ = np.asarray(scores, np.float64)
        return scorer.store_texts(texts, vectors) if texts else scorer

    def predict(
        self, images: Sequence[np.ndarray], *, ids: Sequence[str] | None = None, batch: int = 2
    ) -> np.ndarray:
        """Scores in 1..5 (of a given basis: between its scores), higher is better.

        Parameters
        ----------
        images : sequence of np.ndarray
            The n arrays (H, W, 3) uint8 of at least 32 px, of any sizes.
        ids : sequence of str, optional
            Of the images, to guard against leaks.
        batch : int
            Images in memory at a time.

        Returns
        -------
        np.ndarray
            (n,) float64. The score of an image does not depend on the others.

        Raises
        ------
        ValueError
            On an image that is too small or no RGB array, or an id the scorer was fitted on.
        """
        seen = [i for i in ids or () if _sha(i) in self.trained_ids_]
        if seen:
            raise ValueError(
                f"{len(seen)} of these images were trained on, the first is {seen[0]!r}; score"
                " held-out ones"
            )
        return self.predict_embeddings(self._embed(images, batch))

    def predict_embeddings(self, z: np.ndarray) -> np.ndarray:
        """As `predict`, from (n, d) embeddings as `embed_images` makes them."""
        if len(z) == 0:
            return np.zeros(0)
        z = self.compressor_.transform(z)
        return softmax_score(z, self.vectors_, self.scores_, tau=self.tau)

    def store_texts(self, texts: Sequence[str], embeddings: np.ndarray) -> RaliScorer:
        """Keep texts for `explain` to quote: the rationales that the encoder was aligned with.

        Parameters
        ----------
        texts : sequence of str
            The m strings; repeats are dropped.
        embeddings : np.ndarray
            (m, d), from the text tower of the same model.
        """
        if len(texts) != len(embeddings):
            raise ValueError(
                f"{len(texts)} texts but {len(embeddings)} embeddings; give one for each"
            )
        first = {text: i for i, text in reversed(list(enumerate(texts)))}
        self.texts_ = sorted(first)
        rows = [first[t] for t in self.texts_]
        self.text_vectors_ = self.compressor_.transform(embeddings[rows]).astype(np.float32)
        return self

    def explain(self, image: np.ndarray, *, k: int = 3) -> Explanation:
        """What explains the score of one (H, W, 3) uint8 image, without a language model.

        Its `k` heaviest basis vectors and, if texts are stored, the `k` texts whose embeddings lie
        nearest to the image's, after PCA. The texts are quotations of what the teacher wrote about
        other images (notebook 06 measures how often they name the right degradation).
        """
        import pandas as pd

        z = self.compressor_.transform(self._embed([image]))
        weights = softmax_weights(z, self.vectors_, tau=self.tau)[0]
        order = np.argsort(-weights, kind="stable")[:k]
        heaviest = {"basis": order, "weight": weights[order], "score": self.scores_[order]}
        near = cosines(z, self.text_vectors_)[0] if self.texts_ else np.zeros(0)
        best = np.argsort(-near, kind="stable")[:k]
        quoted = pd.Series([self.texts_[i] for i in best], dtype=str)
        texts = pd.DataFrame({"text": quoted, "similarity": near[best]})
        return Explanation(float(weights @ self.scores_), pd.DataFrame(heaviest), texts)

    def nearest_texts(self, images: Sequence[np.ndarray]) -> list[str]:
        """The stored text nearest to each image; ValueError if there are none."""
        if not self.texts_:
            raise ValueError(
                "this scorer holds no texts; call `store_texts` after `fit`, or load one that was"
                " saved with them"
            )
        near = cosines(self.compressor_.transform(self._embed(images)), self.text_vectors_)
        return [self.texts_[i] for i in near.argmax(axis=1)]

    def parameters(self) -> int:
        """Numbers needed to score an image: encoder, PCA (mean, scale, components), basis vectors
        and scores, but no stored texts.

        >>> z, mos = np.random.default_rng(0).normal(size=(9, 4)), np.linspace(1, 5, 9)
        >>> RaliScorer(n_components=2, n_bins=2, n_basis=3).fit(z, mos).parameters()
        25
        """
        arrays = [*compressor_arrays(self.compressor_).values(), self.vectors_, self.scores_]
        encoder = [] if self.visual_ is None else self.visual_.state_dict().values()
        return sum(a.size for a in arrays) + sum(t.numel() for t in encoder)

    def save(self, folder: str | Path) -> Path:
        """Write the scorer to `folder` (`rali_lab.rali.scorer_files`)."""
        from rali_lab.rali.scorer_files import save

        return save(self, folder)

    @classmethod
    def load(cls, folder: str | Path) -> RaliScorer:
        """Read a scorer that `save` wrote, its hash and shapes verified."""
        from rali_lab.rali.scorer_files import load

        return load(cls(), folder)

    def _set_encoder(self, model: nn.Module | None, ids: Sequence[str] | None) -> None:
        self.visual_ = copy.deepcopy(getattr(model, "visual", model))
        if self.visual_ is not None:
            fold_batch_norm(self.visual_.eval()).requires_grad_(False)
        self.trained_ids_ = frozenset(map(_sha, ids or ()))
        self.texts_, self.text_vectors_ = [], np.zeros((0, 0), np.float32)

    def _embed(self, X: Sequence[np.ndarray] | np.ndarray, batch: int = 2) -> np.ndarray:
        if isinstance(X, np.ndarray) and X.ndim == 2:
            return X
        if self.visual_ is None:
            raise ValueError(
                "the scorer has no image tower; fit(..., model=...) to score images, or give"
                " embeddings"
            )
        return embed_images(self.visual_, X, batch=batch)


def _sha(image_id: str) -> str:
    return hashlib.sha256(image_id.encode()).hexdigest()[:16]


def load_scorer(folder: str | Path | None = None) -> RaliScorer:
    """The RALI scorer in `folder`, or the one that comes with the package.

    Raises
    ------
    FileNotFoundError, ValueError
        When there is none, or its weights do not have the recorded hash; the message says the way
        out.
    """
    folder = Path(folder) if folder else ASSETS / "rali"
    if not (folder / "config.json").exists():
        raise FileNotFoundError(
            f"no RALI model in {folder}; give --model a folder that RaliScorer.save wrote, or"
            " restore the package's: `git checkout -- rali_lab`, or install it again"
        )
    return RaliScorer.load(folder)
