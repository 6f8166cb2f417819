"""Your own rated images: how well is their score predicted, by RALI as it comes, by RALI trained on
them, and by a plain regression?

`study` measures that over several random splits by source, on the same images for every method, so
that differences are paired; `fit` makes a scorer to use afterwards.
"""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from rali_lab.data.ratings import split_sources
from rali_lab.data.records import RatedImage, mos_of
from rali_lab.evaluate.bootstrap import correlations
from rali_lab.experiments.reports import drawn_counts
from rali_lab.io import digest
from rali_lab.rali import quality_levels
from rali_lab.reproduce.store import Artifact, ArtifactStore

if TYPE_CHECKING:
    from rali_lab.models.towers import StatTower
    from rali_lab.profiles import Profile
    from rali_lab.rali.kernel_levels import KernelLevels
    from rali_lab.rali.scorer import RaliScorer

TRUNK = "lite0_stats_s32"
"""The whole of lite0 (3.4 million numbers): people's scores hang on more than a small tower sees.
"""
METHODS = {
    "rali": "RALI as it comes, never trained on these images",
    "rali_levels": (
        "texts of five quality levels, learned by the whole trunk from generated images, never"
        " trained on these"
    ),
    "rali_refitted": "its embeddings, with a basis fitted on these scores",
    "rali_trained": (
        "the whole trunk's statistics mapped to texts of five quality levels, read by RALI's score"
        " (rali_lab.rali.quality_levels)"
    ),
    "rali_tuned": "the same, after the deep half of the trunk was trained through that score",
    "ridge_visual": "ridge on the statistics of the whole trunk",
    "ridge_tuned": (
        "ridge on the statistics of the trunk that `rali_tuned` trained: what the texts add to it"
    ),
    "ridge_small": "ridge on the statistics that RALI's small tower sees",
}
"""What `study` measures."""
MIN_IMAGES = 60


def example(folder: str | Path, *, n: int = 120, seed: int = 7) -> Path:
    """Write a small rated folder for those who have none: n images of the recipe `authentic` and
    the table `ratings.csv`, returned.
    """
    from PIL import Image

    from rali_lab.data.domains import DOMAINS, build_domain

    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    made = build_domain(DOMAINS["authentic"], {"test": n}, seed=seed)
    for p in made:
        Image.fromarray(p.pixels()).save(folder / "images" / f"{p.id}.png")
    rows = {
        "image": [f"images/{p.id}.png" for p in made],
        "mos": mos_of(made).round(3),
        "source": [p.source for p in made],
    }
    pd.DataFrame(rows).to_csv(folder / "ratings.csv", index=False)
    return folder / "ratings.csv"


def name_of(data: str | Path) -> str:
    """What a data set is called here: the name of its folder.

    >>> name_of("koniq10k"), name_of("livec/ratings.csv")
    ('koniq10k', 'livec')
    """
    place = Path(data)
    return (place if place.is_dir() or not place.suffix else place.parent).resolve().name


def study(
    images: Sequence[RatedImage],
    *,
    looks: dict[str, np.ndarray] | None = None,
    n_splits: int = 10,
    test_share: float = 0.2,
    rali: dict | None = None,
    tune: bool = True,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> list[pd.DataFrame]:
    """Scores of every method of `METHODS` on the held-out images of every split.

    Every tuned trunk is kept as an artefact, so an interrupted study goes on where it was.

    Parameters
    ----------
    images
        rated images of at least 32 px, at least 60 of at least five sources; their own splits are
        not used.
    looks
        what `look` said of these images, if it was asked before; with scores by `zero_shot` under
        "rali_levels", these are compared, too.
    n_splits, test_share
        random divisions of the sources.
    rali
        options of `RaliScorer`.
    tune
        also train the trunk (`rali_tuned`, `ridge_tuned`).

    Returns
    -------
    A table for each split: image, source, mos and a column for each method. Cost: `look` once, and
    for each split some 5 s, and with `tune` about 1 s for each training image of 500 x 500 pixels
    on one core (600 images, ten splits: an hour and a half).

    Raises
    ------
    ValueError
        On too few images or sources, or scores that do not differ.
    """
    from rali_lab.models.clip import embed_texts, load_base_clip
    from rali_lab.rali.baselines import ridge_scores

    mos, sources = _enough(images)
    seen = look(images, report=report) if looks is None else looks
    texts = embed_texts(load_base_clip(), quality_levels.TEXTS)
    tuned, tables = _Tuned(images) if tune else None, []
    for split in range(n_splits):
        chosen = split_sources(
            sources, seed=seed + split, fractions=(1 - test_share, 0, test_share)
        )
        held = np.array([chosen[s] == "test" for s in sources])
        fit, new = np.flatnonzero(~held), np.flatnonzero(held)
        reader = quality_levels.fit_levels(seen["trunk"][fit], mos[fit], sources[fit], texts)
        options, made = {**(rali or {}), "random_state": seed + split}, None
        ridges = {"ridge_visual": seen["trunk"], "ridge_small": seen["small"]}
        scores = {k: seen[k][new] for k in ("rali", "rali_levels") if k in seen}
        scores |= {
            "rali_trained": reader.read(seen["trunk"][new]),
            "rali_refitted": read_basis(seen["embedding"], mos, fit, new, **options),
        }
        if tuned is not None:
            made, ridges["ridge_tuned"] = tuned.statistics(reader, fit, seed + split)
            scores["rali_tuned"] = reader.read(ridges["ridge_tuned"][new])
        scores |= {
            name: ridge_scores(x[fit], mos[fit], sources[fit], x[new]) for name, x in ridges.items()
        }
        methods = [m for m in METHODS if m in scores]
        about = {"image": [images[i].id for i in new], "source": sources[new], "mos": mos[new]}
        tables.append(pd.DataFrame({**about, **{m: scores[m] for m in methods}}))
        found = ", ".join(f"{m} {spearmanr(scores[m], mos[new])[0]:.2f}" for m in methods)
        report(f"split {split + 1} of {n_splits}: SRCC {found}" + (f" ({made!r})" if made else ""))
    return tables


def _enough(images: Sequence[RatedImage]) -> tuple[np.ndarray, np.ndarray]:
    """Scores and sources, if something can be learned from them; ValueError otherwise."""
    mos, sources = mos_of(images), np.array([p.source for p in images])
    if len(images) < MIN_IMAGES or len(set(sources)) < 5:
        found = f"{len(images)} images of {len(set(sources))} sources"
        raise ValueError(f"{found} are too few; give {MIN_IMAGES} images of five sources or more")
    if np.ptp(mos) == 0:
        raise ValueError(f"all {len(mos)} scores are {mos[0]:g}; nothing can be predicted")
    return mos, sources


def _check_direction(images: Sequence[RatedImage], report: Callable[[str], None]) -> None:
    """Raise ValueError if the scores seem to run the other way, lower for a better image.

    The rule and the cost are those of `rali_lab.data.dataset_report.check_dataset`: at most 100
    images scored by the bundled scorer, and a Spearman correlation whose whole 95 % interval is
    below 0.
    """
    from rali_lab.data import dataset_report
    from rali_lab.evaluate.correlation import Correlation
    from rali_lab.rali.scorer import load_scorer

    sign = dataset_report.agreement_with_scorer(images, load_scorer)
    if not isinstance(sign, Correlation):
        report(f"the direction of the scores was not checked: {sign}")
    elif sign.ci_high < 0:
        raise ValueError(
            f"the scores seem to run the other way, where higher should be better: {sign} with the "
            "bundled scorer. Turn them round with --dmos (higher_is_better=False), or leave it out "
            "if it is given; if they are right, pass --trust-direction (trust_direction=True)"
        )


def fit(
    images: Sequence[RatedImage],
    *,
    tune: bool = True,
    seed: int = 0,
    looks: dict[str, np.ndarray] | None = None,
    trust_direction: bool = False,
    report: Callable[[str], None] = print,
) -> RaliScorer:
    """A scorer trained on all of these images, as `rali_tuned` of `study` is on those of a split
    (without `tune`: `rali_trained`).

    Parameters
    ----------
    images, tune
        as for `study`, which says what to expect of it.
    seed
        of the tuning.
    looks
        what `look` said of these images, if it was asked before.
    trust_direction
        do not look whether the scores run the right way (up to 100 images, about 0.1 s each).

    Returns
    -------
    A scorer like any other: to save, to export, to ask why; it refuses the ids of these images. Its
    words are the five levels: the nearest is not the name of the score, as the levels lie close
    together and their scores are stretched to fit. For an image worse or better than all of these
    the score may lie a little outside 1..5. Cost: about 1 s and 0.6 MB for 500 x 500 pixels on a
    core; a tenth of a second, and no memory, without `tune`.

    Raises
    ------
    ValueError
        As `study` does; on scores that seem to run the other way, with their correlation; on a
        image below 32 px, naming it; when the memory does not suffice, saying how much is needed.
    """
    from rali_lab.models.clip import embed_texts, load_base_clip
    from rali_lab.rali.baselines import frozen_tower
    from rali_lab.reproduce.machine import hardware

    mos, sources = _enough(images)
    if not trust_direction:
        _check_direction(images, report)
    seen = _statistics_of(images, report) if looks is None else looks["trunk"]
    reader = quality_levels.fit_levels(
        seen, mos, sources, embed_texts(load_base_clip(), quality_levels.TEXTS)
    )
    trunk = copy.deepcopy(frozen_tower(TRUNK))
    if tune:
        needed, free = (
            2.5 * sum(p.pixels()[..., 0].size for p in images),
            hardware()["memory_available"],
        )
        if free is not None and needed > free:
            gigabytes = f"{needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
            raise ValueError(
                f"tuning on {len(images)} images takes {gigabytes}; give fewer or smaller ones, or"
                " leave out the tuning"
            )
        halves = quality_levels.Halves((p.pixels() for p in images), trunk)
        quality_levels.tune(
            reader,
            trunk.blocks[quality_levels.FIXED :],
            halves,
            range(len(images)),
            mos,
            seed=seed,
            report=report,
        )
    return _scorer(reader, trunk, [p.id for p in images])


def _statistics_of(images: Sequence[RatedImage], report: Callable[[str], None]) -> np.ndarray:
    """What the whole trunk says of images (n, d), one at a time; ValueError on one that is too
    small for it.
    """
    from rali_lab.models.image_encoder import MIN_SIDE
    from rali_lab.rali.baselines import visual_features

    seen = []
    for p in images:
        shown = p.pixels()
        height, width = shown.shape[:2]
        if min(height, width) < MIN_SIDE:
            raise ValueError(
                f"image {p.id!r} is {width} x {height} pixels, at least {MIN_SIDE} x {MIN_SIDE} are"
                " needed; leave it out"
            )
        seen.append(visual_features([shown], tower=TRUNK))
        if len(seen) % 100 == 0 or len(seen) == len(images):
            report(f"looked at {len(seen)} of {len(images)} images")
    return np.concatenate(seen)


def _scorer(reader: quality_levels.LevelReader, trunk: StatTower, ids: Sequence[str]) -> RaliScorer:
    """The same scores from a `RaliScorer`: the level texts are its basis, the reader's map is the
    head of its image side.
    """
    import torch

    from rali_lab.models.image_encoder import image_tower
    from rali_lab.rali.scorer import RaliScorer

    n_levels, width = reader.texts.shape
    visual = image_tower(TRUNK, hidden=n_levels, embed_dim=width, curved=False)
    visual.trunk.load_state_dict(
        trunk.state_dict() | {"stat_mean": reader.mean, "stat_std": reader.std}
    )
    weights = (reader.weight, reader.bias, reader.texts.T, torch.zeros(width))
    visual.head.load_state_dict(dict(zip(visual.head.state_dict(), weights, strict=True)))
    return RaliScorer.of_basis(
        visual,
        reader.texts.numpy(),
        reader.scores.numpy(),
        texts=quality_levels.TEXTS,
        tau=quality_levels.TAU,
        ids=ids,
    )


class _Tuned:
    """What trunks say of the images after they were tuned on some of them; every tuning is kept as
    an artefact.
    """

    def __init__(self, images: Sequence[RatedImage]) -> None:
        self.images, self.mos = images, mos_of(images)
        self.known = [[p.id, p.mos, _content(p)] for p in images]

    @functools.cached_property
    def halves(self) -> quality_levels.Halves:
        from rali_lab.rali.baselines import frozen_tower

        return quality_levels.Halves((p.pixels() for p in self.images), frozen_tower(TRUNK))

    def statistics(
        self, reader: quality_levels.LevelReader, fit: np.ndarray, seed: int
    ) -> tuple[Artifact, np.ndarray]:
        """(n, d) of all images, by a trunk that was tuned on the rows `fit`, and the artefact that
        holds them.
        """
        from rali_lab.rali.baselines import frozen_tower

        def make(folder: Path) -> None:
            deep = copy.deepcopy(frozen_tower(TRUNK).blocks[quality_levels.FIXED :])
            quality_levels.tune(
                reader, deep, self.halves, fit, self.mos[fit], seed=seed, report=lambda line: None
            )
            np.save(
                folder / "statistics.npy",
                self.halves.all_statistics(deep, range(len(self.images))).astype(np.float32),
            )

        params = {"images": digest(self.known), "fit": fit.tolist(), "seed": seed}
        made = ArtifactStore().make("tuned", make, params=params)
        return made, np.load(made.path / "statistics.npy", allow_pickle=False).astype(np.float64)


def look(
    images: Sequence[RatedImage], *, report: Callable[[str], None] = print
) -> dict[str, np.ndarray]:
    """Every image once: `rali` (n,) scores as RALI comes, `embedding` (n, 384) behind them,
    `small` and `trunk`, the statistics (n, d) of RALI's tower and of the whole trunk.

    RALI's tower is the beginning of the trunk, so one look gives all four. What the trunk says
    is kept as an artefact: the same images are not looked at again. Cost: about 0.1 s for
    500 x 500 pixels on one core.
    """
    import torch

    from rali_lab.rali.scorer import load_scorer

    scorer, trunk = load_scorer(), _statistics(images, report)
    tower = scorer.visual_
    small = trunk[:, : tower.trunk.num_features]
    with torch.inference_mode():
        seen = (torch.from_numpy(small).float() - tower.trunk.stat_mean) / tower.trunk.stat_std
        z = torch.nn.functional.normalize(tower.head(seen), dim=-1).numpy()
    return {"rali": scorer.predict_embeddings(z), "embedding": z, "small": small, "trunk": trunk}


def _statistics(images: Sequence[RatedImage], report: Callable[[str], None]) -> np.ndarray:
    """What the whole trunk says of the images, (n, d), kept as an artefact."""
    from rali_lab.rali.baselines import visual_features

    def make(folder: Path) -> None:
        seen = []
        for p in images:  # one at a time: several do not fit into the cache and are slower
            seen.append(visual_features([p.pixels()], tower=TRUNK))
            if len(seen) % 100 == 0 or len(seen) == len(images):
                report(f"looked at {len(seen)} of {len(images)} images")
        np.save(folder / "statistics.npy", np.concatenate(seen))

    params = {"images": digest([_content(p) for p in images])}
    made = ArtifactStore().make("looks", make, params=params)
    return np.load(made.path / "statistics.npy", allow_pickle=False)


def _content(image: RatedImage) -> str:
    """sha256 of an image's file, or of its pixels where it has none."""
    if image.array is None:
        return hashlib.sha256(Path(str(image.path)).read_bytes()).hexdigest()
    return hashlib.sha256(repr(image.array.shape).encode() + image.array.tobytes()).hexdigest()


def zero_shot(profile: Profile) -> KernelLevels:
    """Levels of quality learned from the statistics that the whole trunk gives of the three
    generated training sets, and from their quality before any panel. Its `predict` takes
    `looks["trunk"]`. Cost: a minute for the profile tiny.
    """
    from rali_lab.experiments import training_sets
    from rali_lab.models.clip import embed_texts, load_base_clip
    from rali_lab.rali.baselines import visual_features
    from rali_lab.rali.kernel_levels import fit_across_sets

    made = [p for part in training_sets(profile).values() for p in part]
    statistics = visual_features([p.pixels() for p in made], tower=TRUNK)
    quality = np.array([p.reference for p in made])
    return fit_across_sets(
        statistics,
        quality,
        [p.domain for p in made],
        embed_texts(load_base_clip(), quality_levels.TEXTS),
    )


def _sizes(n: int) -> dict[str, object]:
    """Bins and vectors for n images: about a dozen images a bin, eight a vector."""
    return {"n_components": 16, "n_bins": max(4, n // 24), "n_basis": max(6, n // 16), "tau": 0.25}


def read_basis(
    z: np.ndarray, mos: np.ndarray, fit: np.ndarray, new: np.ndarray, **options: object
) -> np.ndarray:
    """Scores of the rows `new` of embeddings (n, d) by a RALI basis fitted on the rows `fit`, sized
    for as many images.
    """
    from rali_lab.rali.scorer import RaliScorer

    return (
        RaliScorer(**{**_sizes(len(fit)), **options})
        .fit(z[fit], mos[fit])
        .predict_embeddings(z[new])
    )


def summarise(tables: Sequence[pd.DataFrame], *, n_boot: int = 500, seed: int = 0) -> pd.DataFrame:
    """PLCC and SRCC of every method: mean over splits, with 95 % intervals.

    Sources are drawn with replacement, once for all splits, and so are the splits; a split of
    which no source was drawn does not count in that draw.

    Returns
    -------
    Columns method, metric ("plcc", "srcc"), value, ci_low, ci_high, and against ridge_visual,
    paired: minus_ridge, minus_low, minus_high.
    """
    methods = [m for m in METHODS if m in tables[0]]
    base = methods.index("ridge_visual")
    rng, names = np.random.default_rng(seed), sorted(set().union(*(t["source"] for t in tables)))
    drawn, splits = (np.empty((n_boot, k), dtype=int) for k in (len(names), len(tables)))
    for i in range(n_boot):
        drawn[i] = rng.integers(len(names), size=len(names))
        splits[i] = rng.integers(len(tables), size=len(tables))
    place, often = {name: k for k, name in enumerate(names)}, drawn_counts(drawn, len(names))
    whole, total, weight = [], *np.zeros((2, 2, len(methods), n_boot))
    for table, times in zip(tables, drawn_counts(splits, len(tables)).T, strict=True):
        all_once = np.ones((1, len(table)), dtype=int)
        counts = np.vstack([all_once, often[:, [place[s] for s in table["source"]]]])
        found = _correlations(table, methods, counts)
        whole.append(found[:, :, 0])
        known = np.isfinite(found[:, :, 1:])
        weight += times * known
        total += np.where(known, times * found[:, :, 1:], 0)
    whole = np.mean(whole, axis=0)
    draws = np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)
    draws = np.moveaxis(draws, 2, 0)
    minus, ridge = whole - whole[:, [base]], draws - draws[:, :, [base]]
    ends, minus_ends = (np.nanquantile(d, [0.025, 0.975], axis=0) for d in (draws, ridge))
    out = [
        (method, metric, *(x[k, m] for x in (whole, *ends, minus, *minus_ends)))
        for k, metric in enumerate(("plcc", "srcc"))
        for m, method in enumerate(methods)
    ]
    numbers = ["value", "ci_low", "ci_high", "minus_ridge", "minus_low", "minus_high"]
    return pd.DataFrame(out, columns=["method", "metric", *numbers])


def _correlations(table: pd.DataFrame, methods: list[str], counts: np.ndarray) -> np.ndarray:
    """PLCC and SRCC of every resample (2, methods, n_draws); NaN where there are fewer than
    three different scores of people."""
    mos = table["mos"].to_numpy(float)
    few = ((counts @ (mos[:, None] == np.unique(mos))) > 0).sum(axis=1) < 3
    scores = [table[m].to_numpy(float) for m in methods]
    found = [[correlations(x, mos, counts, kind) for x in scores] for kind in ("plcc", "srcc")]
    return np.where(few, np.nan, np.array(found))


def with_recorded(
    tables: Sequence[pd.DataFrame],
    folder: Path,
    *,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> list[pd.DataFrame]:
    """The tables of `study` with the methods that they lack, as they were recorded by
    `python -m rali_lab.experiments.run_custom`: tuning takes an hour.

    Nothing is added, and `report` says so, unless every split is recorded with the same
    images and the same scores of people.

    Parameters
    ----------
    folder
        where the record lies.
    seed
        as for `study`.
    """
    if not (folder / "scores.parquet").exists():
        report(f"no scores are recorded in {folder.name}")
        return list(tables)
    kinds = {"image": str, "method": str, "score": float, "mos": float}
    known, out, moved = pd.read_parquet(folder / "scores.parquet").astype(kinds), [], 0.0
    for split, table in enumerate(tables):
        part, ids = known[known["seed"] == seed + split], table["image"].astype(str).tolist()
        wide = part.pivot(index="image", columns="method", values="score")
        mos = part.groupby("image")["mos"].first()
        if set(wide.index) != set(ids) or not np.allclose(mos[ids], table["mos"], atol=1e-3):
            found = f"{folder.name} records other images or scores for split {split + 1}"
            report(f"{found}; nothing is taken from it")
            return list(tables)
        wide = wide.loc[ids].reset_index(drop=True)
        both = [m for m in wide if m in table]
        moved = max(moved, float((wide[both] - table[both]).abs().max(axis=None)))
        more = [m for m in METHODS if m in wide and m not in table]
        out.append(table.assign(**{m: wide[m].to_numpy() for m in more}))
    report(
        f"as recorded in {folder.name}: {', '.join(more) or 'nothing new'}; "
        f"a score of the other methods differs from the record by {moved:.3f} at most"
    )
    return out


def page(name: str, check: str, summary: pd.DataFrame, n: int, n_splits: int) -> str:
    """A page of results in Markdown: what was found on disk, what was measured, and what the
    methods are.
    """
    lines = [
        f"# {name}: {n} rated images",
        "",
        "## What was found",
        "",
        "```",
        check,
        "```",
        "",
        "## How well their scores are predicted",
        "",
        (
            f"Mean over {n_splits} random splits by source, 80 % for training, [95 % interval over"
            " sources and splits]."
        ),
        "",
        "| method | PLCC | SRCC | SRCC minus ridge_visual, paired |",
        "|:---|---:|---:|---:|",
    ]
    wide = {m: part.set_index("metric") for m, part in summary.groupby("method", sort=False)}
    for method, part in wide.items():
        cells = [
            "{value:.3f} [{ci_low:.3f}, {ci_high:.3f}]".format(**part.loc[k])
            for k in ("plcc", "srcc")
        ]
        cells.append(
            "{minus_ridge:+.3f} [{minus_low:+.3f}, {minus_high:+.3f}]".format(**part.loc["srcc"])
        )
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"- `{m}`: {METHODS[m]}" for m in wide), ""])
