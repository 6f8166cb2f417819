"""What can be asked of the steps of RALI once they are fitted: whether images find their texts, how
score bins fill, what quoted texts name. The checks of the exercises about them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.base import clone

from rali_lab.data.records import RatedImage, mos_of
from rali_lab.evaluate import plcc
from rali_lab.rali.basis import binned_kmeans, softmax_score, softmax_weights
from rali_lab.reasoner.prompts import findings, named
from rali_lab.reasoner.rationales import is_valid

if TYPE_CHECKING:
    from rali_lab.rali.scorer import RaliScorer


def first_rationales(images: Sequence[RatedImage], table: pd.DataFrame) -> pd.DataFrame:
    """What a reasoner wrote first about each image: columns image, mos, rationale, and the mean
    rating of its valid answers.

    Parameters
    ----------
    images
        Each with at least one valid rationale.
    table
        Of `rali_lab.reasoner.rationales.write_rationales`.
    """
    valid = table[is_valid(table)].groupby("image")
    ids = [p.id for p in images]
    found = pd.DataFrame({"image": ids, "mos": mos_of(images)})
    found["rationale"] = valid["reasoning"].first()[ids].to_numpy()
    return found.assign(rating=valid["rating"].mean()[ids].to_numpy())


def retrieval(z: np.ndarray, z_texts: np.ndarray, own: np.ndarray) -> tuple[float, float]:
    """How well images find their own texts.

    Parameters
    ----------
    z, z_texts
        (n, d) and (m, d) embeddings of length 1, of images and of texts.
    own
        (n, m) bool, which texts belong to an image: at least one, not all.

    Returns
    -------
    margin : float
        Mean cosine with own texts minus mean cosine with all others, mean over images; 0: the texts
        say nothing about the images.
    top1 : float
        Share of images whose nearest text is an own one.

    Examples
    --------
    >>> retrieval(np.eye(2), np.eye(2), np.eye(2, dtype=bool))
    (1.0, 1.0)
    """
    cosines = z @ z_texts.T
    margins = [row[mine].mean() - row[~mine].mean() for row, mine in zip(cosines, own, strict=True)]
    return float(np.mean(margins)), float(own[np.arange(len(z)), cosines.argmax(axis=1)].mean())


def retrieval_table(
    views: Mapping[str, np.ndarray], z_texts: np.ndarray, own: np.ndarray, *, seed: int = 0
) -> pd.DataFrame:
    """`retrieval` of several embeddings of the same images, and its top1 once more with the texts
    permuted among the images.

    Parameters
    ----------
    views
        (n, d) embeddings of the images, by name.
    z_texts, own
        As for `retrieval`.
    seed
        Of the permutation.

    Returns
    -------
    DataFrame
        Index: the names; columns margin, nearest text is its own, the same, texts permuted.
    """
    permuted = own[np.random.default_rng(seed).permutation(len(own))]
    columns = ["margin", "nearest text is its own", "the same, texts permuted"]
    rows = {
        name: (*retrieval(z, z_texts, own), retrieval(z, z_texts, permuted)[1])
        for name, z in views.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def project(
    views: Mapping[str, np.ndarray], onto: str, mos: np.ndarray
) -> tuple[pd.DataFrame, float]:
    """Sets of embeddings in the plane of the two leading principal components of one of them.

    Parameters
    ----------
    views
        (n, d) arrays by the name of the set.
    onto
        The set that the plane is fitted on.
    mos
        (n,) opinion scores.

    Returns
    -------
    places : DataFrame
        Columns x, y, view, mos, as `rali_lab.plotting.rali_steps.plot_projection` draws them.
    share : float
        Share of the variance of `onto` that the plane holds, 0..1.
    """
    from sklearn.decomposition import PCA

    plane = PCA(2).fit(views[onto])
    places = [
        pd.DataFrame(plane.transform(z), columns=["x", "y"]).assign(view=name, mos=mos)
        for name, z in views.items()
    ]
    return pd.concat(places), float(plane.explained_variance_ratio_.sum())


def crowding(
    z: np.ndarray, mos: np.ndarray, bases: Mapping[str, tuple[int, int]], *, seed: int = 0
) -> pd.DataFrame:
    """How images and basis vectors of `rali_lab.rali.basis.binned_kmeans` spread over score bins.

    Parameters
    ----------
    z, mos
        (n, d) compressed embeddings and their (n,) scores.
    bases
        Numbers of bins and of basis vectors to try, by name.
    seed
        Of k-means.

    Returns
    -------
    DataFrame
        A column for each of `bases`. The last row is the share of bins with one cluster that there
        would be even if no bin were empty.

    Examples
    --------
    >>> z, mos = np.arange(4.0)[:, None], np.array([1.0, 1.0, 2.0, 5.0])
    >>> print(crowding(z, mos, {"four": (4, 4)}).round(2).to_string(header=False))
    bins N                                     4.00
    basis vectors K                            4.00
    empty bins                                 1.00
    images per basis vector                    1.00
    bins with one cluster, of those not empty  0.67
    the same if no bin were empty, at least    1.00
    """
    found, limits = {}, (mos.min(), mos.max())
    for name, (n_bins, n_basis) in bases.items():
        _, scores = binned_kmeans(z, mos, n_bins=n_bins, n_basis=n_basis, seed=seed)
        images, vectors = (
            np.histogram(np.clip(x, *limits), n_bins, limits)[0] for x in (mos, scores)
        )
        found[name] = {
            "bins N": n_bins,
            "basis vectors K": n_basis,
            "empty bins": (images == 0).sum(),
            "images per basis vector": len(z) / n_basis,
            "bins with one cluster, of those not empty": np.mean(vectors[images > 0] == 1),
            "the same if no bin were empty, at least": 1 - min(1, (n_basis - n_bins) / n_bins),
        }
    return pd.DataFrame(found)


def temperature_sweep(
    z: np.ndarray, basis: tuple[np.ndarray, np.ndarray], mos: np.ndarray, taus: np.ndarray
) -> tuple[pd.DataFrame, np.ndarray]:
    """Scores of (n, d) compressed embeddings at many temperatures.

    Parameters
    ----------
    z
        (n, d) compressed embeddings.
    basis
        Basis vectors (k, d) and basis scores (k,).
    mos
        (n,) opinion scores.
    taus
        (m,) temperatures.

    Returns
    -------
    sweep : DataFrame
        Columns tau, spread (standard deviation of the scores), plcc, relative_spread (spread over
        that of `mos`).
    scores : np.ndarray
        (m, n).
    """
    scores = np.stack([softmax_score(z, *basis, tau=tau) for tau in taus])
    sweep = pd.DataFrame({"tau": taus, "spread": scores.std(axis=1)})
    sweep["plcc"] = [plcc(s, mos) for s in scores]
    sweep["relative_spread"] = sweep["spread"] / mos.std()
    return sweep, scores


def refit(
    scorer: RaliScorer, changes: Sequence[Mapping[str, float]], *, train: tuple, validation: tuple
) -> pd.DataFrame:
    """The scorer fitted again with other settings.

    Parameters
    ----------
    scorer
        Whose settings are kept but for the changes.
    changes
        Settings to replace, a row of the result each.
    train, validation
        (n, d) embeddings and (n,) scores, to fit on, and to choose the epoch and measure on.

    Returns
    -------
    DataFrame
        Index: the changes. Columns: spread over that of pseudo-MOS, PLCC, mean squared error.
    """
    rows = {}
    for change in changes:
        other = clone(scorer).set_params(**change).fit(*train, validation=validation)
        z, mos = validation
        out = other.predict_embeddings(z)
        name = ", ".join(f"{setting} = {value:g}" for setting, value in change.items())
        rows[name] = {
            "spread over that of pseudo-MOS": out.std() / mos.std(),
            "PLCC": plcc(out, mos),
            "mean squared error": np.mean((out - mos) ** 2),
        }
    return pd.DataFrame(rows).T


def naming_table(images: Sequence[RatedImage], quoted: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Whether texts name the degradations of their images, one row for each image.

    Parameters
    ----------
    images
        Generated images: their degradations are known.
    quoted
        Sets of texts by name, one text for each image.

    Returns
    -------
    DataFrame
        Column domain, and for each set bool columns "<set>: one right" (the text names at least one
        of the degradations, or rightly none) and "<set>: all right" (it names exactly these).
    """
    truth = [{f.word for f in findings(p.distortions)} for p in images]
    table = pd.DataFrame({"domain": [p.domain for p in images]})
    for name, texts in quoted.items():
        pairs = list(zip([{f.word for f in named(text)} for text in texts], truth, strict=True))
        table[f"{name}: one right"] = [bool(words & true) or words == true for words, true in pairs]
        table[f"{name}: all right"] = [words == true for words, true in pairs]
    return table


def refusal_of_damage(folder: str | Path) -> str:
    """Change one bit of a saved scorer's tensors, load it, and return the error's message, with
    "..." for the folder; "" if there is no error.
    """
    from rali_lab.rali.scorer import RaliScorer
    from rali_lab.rali.scorer_files import TENSORS

    file = Path(folder) / TENSORS
    tensors = bytearray(file.read_bytes())
    tensors[-1] ^= 1
    file.write_bytes(tensors)
    try:
        RaliScorer.load(folder)
    except ValueError as error:
        return str(error).replace(str(folder), "...")
    return ""


def check_half_weight(tau: float, n_basis: int) -> str:
    """Exercise: the temperature that gives the match among orthogonal vectors half of the weight.

    >>> check_half_weight(1 / np.log(99), 100)
    'right: the match has weight 0.500'
    """
    weight = softmax_weights(np.eye(n_basis)[:1], np.eye(n_basis), tau=tau)[0, 0]
    return f"{_verdict(abs(weight - 0.5) < 0.01)}: the match has weight {weight:.3f}"


def check_null(margins: Sequence[float], real: float) -> str:
    """Exercise: at least a hundred margins of permuted texts lie around 0.

    >>> check_null([-0.1, 0.1] * 50, 0.4)
    'right: null 0.000 ± 0.100, real 0.400, at or above it: 0.0%'
    """
    m = np.asarray(margins)
    fair = len(m) >= 100 and abs(m.mean()) < 3 * m.std() / np.sqrt(len(m)) + 0.02
    null = f"null {m.mean():.3f} ± {m.std():.3f}"
    return f"{_verdict(fair)}: {null}, real {real:.3f}, at or above it: {np.mean(m >= real):.1%}"


def check_few_bins(few: RaliScorer, whole: RaliScorer, z: np.ndarray, mos: np.ndarray) -> str:
    """Exercise: a scorer with as many basis vectors as `whole`, but fewer bins; both rate `z`."""
    fair = few.n_bins < whole.n_bins and len(few.vectors_) == len(whole.vectors_)
    found = [np.corrcoef(s.predict_embeddings(z), mos)[0, 1] for s in (few, whole)]
    bins = f"with {few.n_bins} bins, {found[1]:.3f} with {whole.n_bins}"
    return f"{_verdict(fair)}: PLCC {found[0]:.3f} {bins}"


def _verdict(right: bool) -> str:
    return "right" if right else "not yet"
