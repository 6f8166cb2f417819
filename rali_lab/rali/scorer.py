"""The RALI scorer: fitted on scored images, asked for scores, saved and loaded without any language
model.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator
from torch import nn

from rali_lab.io import ASSETS
from rali_lab.models.image_encoder import embed_images, fold_batch_norm
from rali_lab.rali.basis import (
    TAU,
    Compressor,
    binned_kmeans,
    cosines,
    softmax_score,
    softmax_weights,
)

if TYPE_CHECKING:
    import pandas as pd

LOWEST, HIGHEST = 1.0, 5.0


class Explanation(NamedTuple):
    """Why a score: the score, basis vectors (basis, weight, score), and remembered texts (text,
    similarity -1..1), heaviest first.

    Weight times score, over all basis vectors, sums to the score.
    """

    score: float
    basis: pd.DataFrame
    words: pd.DataFrame


class RaliScorer(BaseEstimator):
    """Scores images from an aligned image tower, PCA and basis vectors, in the manner of
    scikit-learn.

    Basis scores stay in 1..5 while they are fine-tuned and a prediction is a weighted mean of them,
    so predictions lie in 1..5 without being cut. Those of a basis that was given (`of_basis`) lie
    between its lowest and its highest score.

    Parameters
    ----------
    n_components
        dimensions kept by PCA (paper: 512 of 768); None for no PCA.
    n_bins, n_basis
        N and K of the binned k-means (paper: 240, 250).
    tau
        temperature of the softmax.
    fine_tune_epochs, fine_tune_lr
        of fitting basis vectors and scores end to end by the squared error; 0 epochs: none.
    random_state
        seed of k-means and of the shuffling.

    Attributes
    ----------
    compressor_
        fitted `Compressor`.
    vectors_
        (n_basis, n_components).
    scores_
        (n_basis,) in 1..5.
    visual_
        the image tower with batch norms folded, or None when fitted on embeddings alone.
    history_
        one row per fine-tuning epoch from 0: epoch, train_mse, validation_mse (NaN without
        validation).
    trained_ids_
        sha256 of the ids of the training images, if they were given.
    texts_, text_vectors_
        remembered texts and their (m, n_components) compressed embeddings; see `store_texts`.

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
        self.fine_tune_epochs, self.fine_tune_lr, self.random_state = (
            fine_tune_epochs,
            fine_tune_lr,
            random_state,
        )

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
        X
            images, n arrays (H, W, 3) uint8, or their embeddings, one (n, d) array.
        mos
            (n,) scores in 1..5.
        model
            the aligned open_clip model (or its `.visual`), copied; needed for images, and to save
            or to predict.
        ids
            of the training images; `predict` then refuses them.
        validation
            (X, mos) held out of the fit; the epoch with the smallest squared error on it is kept
            (early stopping).

        Raises
        ------
        ValueError
            On scores outside 1..5, lists of different lengths, images without a model, or a basis
            too large for the data.
        """
        mos = _scores(mos, len(X))
        self._see_with(model, ids)
        z = self._embed(X)
        self.compressor_ = Compressor(self.n_components).fit(z)
        z = self.compressor_.transform(z)
        self.vectors_, self.scores_ = binned_kmeans(
            z, mos, n_bins=self.n_bins, n_basis=self.n_basis, seed=self.random_state
        )
        held = None
        if validation is not None:
            held = (
                self.compressor_.transform(self._embed(validation[0])),
                _scores(validation[1], len(validation[0])),
            )
        self.history_ = self._fine_tune(z, mos, held)
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
        """A scorer whose basis is given instead of fitted: `vectors` (k, d) in the space of
        `model`, with `scores` (k,); no PCA.

        model, ids : as for `fit`. texts : what the vectors are embeddings of, remembered for
        `explain`; none, or k. There is no `history_`. ValueError on lists of different lengths.
        """
        if len(vectors) != len(scores):
            raise ValueError(f"{len(vectors)} vectors but {len(scores)} scores; give one for each")
        scorer = cls(
            n_components=None,
            n_bins=len(vectors),
            n_basis=len(vectors),
            tau=tau,
            fine_tune_epochs=0,
        )
        scorer._see_with(model, ids)
        scorer.compressor_ = Compressor(None).fit(vectors)
        scorer.vectors_, scorer.scores_ = (
            np.asarray(vectors, np.float64),
            np.asarray(scores, np.float64),
        )
        return scorer.store_texts(texts, vectors) if texts else scorer

    def predict(
        self, images: Sequence[np.ndarray], *, ids: Sequence[str] | None = None, batch: int = 2
    ) -> np.ndarray:
        """Scores in 1..5 (of a given basis: between its scores), higher is better.

        Parameters
        ----------
        images
            n arrays (H, W, 3) uint8 of at least 32 px, of any sizes.
        ids
            theirs, to guard against leaks.
        batch
            images in memory at a time.

        Returns
        -------
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
        """Scores (n,) float64, as `predict` gives them, of (n, d) embeddings as `embed_images`
        makes them.
        """
        if len(z) == 0:
            return np.zeros(0)
        return softmax_score(
            self.compressor_.transform(z), self.vectors_, self.scores_, tau=self.tau
        )

    def store_texts(self, texts: Sequence[str], embeddings: np.ndarray) -> RaliScorer:
        """Keep texts for `explain` to quote: the rationales that the image tower was aligned with.

        Parameters
        ----------
        texts
            m strings, repeats dropped.
        embeddings
            (m, d) theirs, from the text tower of the same model.
        """
        if len(texts) != len(embeddings):
            raise ValueError(
                f"{len(texts)} texts but {len(embeddings)} embeddings; give one for each"
            )
        first = {text: i for i, text in reversed(list(enumerate(texts)))}
        self.texts_ = sorted(first)
        self.text_vectors_ = self.compressor_.transform(
            embeddings[[first[t] for t in self.texts_]]
        ).astype(np.float32)
        return self

    def explain(self, image: np.ndarray, *, k: int = 3) -> Explanation:
        """What speaks for the score of one (H, W, 3) uint8 image, without a language model.

        Returns
        -------
        Explanation
            Its score; the `k` basis vectors that weigh most; and, if texts were remembered, the `k`
            whose embeddings lie nearest to the image's, after PCA. They are quotations of what the
            teacher wrote about other images (notebook 06 measures how often they name the right
            degradation).
        """
        import pandas as pd

        z = self.compressor_.transform(self._embed([image]))
        weights = softmax_weights(z, self.vectors_, tau=self.tau)[0]
        order = np.argsort(-weights, kind="stable")[:k]
        basis = pd.DataFrame(
            {"basis": order, "weight": weights[order], "score": self.scores_[order]}
        )
        words = pd.DataFrame({"text": pd.Series(dtype=str), "similarity": pd.Series(dtype=float)})
        if self.texts_:
            near = cosines(z, self.text_vectors_)[0]
            best = np.argsort(-near, kind="stable")[:k]
            words = pd.DataFrame({"text": [self.texts_[i] for i in best], "similarity": near[best]})
        return Explanation(float(weights @ self.scores_), basis, words)

    def nearest_texts(self, images: Sequence[np.ndarray]) -> list[str]:
        """The remembered text nearest to each image; ValueError if there are none."""
        if not self.texts_:
            raise ValueError(
                "this scorer remembers no texts; call `store_texts` after `fit`, or load one that"
                " was saved with them"
            )
        near = cosines(self.compressor_.transform(self._embed(images)), self.text_vectors_)
        return [self.texts_[i] for i in near.argmax(axis=1)]

    def parameters(self) -> int:
        """Numbers needed to score an image: image tower, PCA (mean, scale, components), basis
        vectors and scores.

        Remembered texts are not among them: no score needs them.

        >>> rng = np.random.default_rng(0)
        >>> RaliScorer(n_components=2, n_bins=2, n_basis=3).fit(rng.normal(size=(9, 4)), np.linspace(1, 5, 9)).parameters()
        25
        """
        pca = self.compressor_
        arrays = (pca.mean_, pca.scale_, pca.components_, self.vectors_, self.scores_)
        tower = (
            0
            if self.visual_ is None
            else sum(t.numel() for t in self.visual_.state_dict().values())
        )
        return int(sum(a.size for a in arrays) + tower)

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors` and `config.json` to `folder`; see
        `rali_lab.rali.scorer_files`.
        """
        from rali_lab.rali.scorer_files import save

        return save(self, folder)

    @classmethod
    def load(cls, folder: str | Path) -> RaliScorer:
        """Read a scorer that `save` wrote, after checking hash and shapes; see
        `rali_lab.rali.scorer_files`.
        """
        from rali_lab.rali.scorer_files import load

        return load(cls(), folder)

    def _see_with(self, model: nn.Module | None, ids: Sequence[str] | None) -> None:
        visual = getattr(model, "visual", model)
        self.visual_ = (
            None
            if visual is None
            else fold_batch_norm(copy.deepcopy(visual).eval()).requires_grad_(False)
        )
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

    def _fine_tune(
        self, z: np.ndarray, mos: np.ndarray, held: tuple[np.ndarray, np.ndarray] | None
    ) -> pd.DataFrame:
        """Adam on basis vectors and scores, squared error, batches of 128; keeps the best epoch
        when something is held.
        """
        import pandas as pd

        basis = [
            torch.tensor(a, dtype=torch.float64, requires_grad=True)
            for a in (self.vectors_, self.scores_)
        ]
        optimiser = torch.optim.Adam(basis, lr=self.fine_tune_lr)
        rng = np.random.default_rng(self.random_state)
        z_all, mos_all = torch.as_tensor(z, dtype=torch.float64), torch.as_tensor(mos)
        rows, best = [self._errors(0, z, mos, held)], (self.vectors_, self.scores_)
        for epoch in range(1, self.fine_tune_epochs + 1):
            for batch in torch.from_numpy(rng.permutation(len(z))).split(128):
                optimiser.zero_grad()
                F.mse_loss(
                    softmax_score(z_all[batch], *basis, tau=self.tau), mos_all[batch]
                ).backward()
                optimiser.step()
                basis[1].data.clamp_(LOWEST, HIGHEST)
            self.vectors_, self.scores_ = (b.detach().numpy().copy() for b in basis)
            rows.append(self._errors(epoch, z, mos, held))
            if held is None or rows[-1]["validation_mse"] <= min(r["validation_mse"] for r in rows):
                best = self.vectors_, self.scores_
        self.vectors_, self.scores_ = best
        return pd.DataFrame(rows)

    def _errors(
        self, epoch: int, z: np.ndarray, mos: np.ndarray, held: tuple[np.ndarray, np.ndarray] | None
    ) -> dict:
        def mse(z: np.ndarray, mos: np.ndarray) -> float:
            return float(
                np.mean((softmax_score(z, self.vectors_, self.scores_, tau=self.tau) - mos) ** 2)
            )

        return {
            "epoch": epoch,
            "train_mse": mse(z, mos),
            "validation_mse": mse(*held) if held else np.nan,
        }


def _scores(mos: np.ndarray, n: int) -> np.ndarray:
    mos = np.asarray(mos, dtype=np.float64)
    if mos.shape != (n,):
        raise ValueError(f"expected {n} scores, one per image, got shape {mos.shape}")
    bad = ~((mos >= LOWEST) & (mos <= HIGHEST))
    if bad.any():
        i = int(bad.argmax())
        raise ValueError(
            f"score {i} is {mos[i]}, expected {LOWEST:g}..{HIGHEST:g}; rescale the scores, drop"
            " unrated images"
        )
    return mos


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
            f"no RALI model in {folder}; run `make reproduce`, or give --model a folder that"
            " RaliScorer.save wrote"
        )
    return RaliScorer.load(folder)
