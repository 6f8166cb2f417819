# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 · Your own images: what can be said about a folder of rated images?
#
# **The question.** You have images and scores that people gave them. Are they fit to train and to test on? How well does RALI score them
# without training on them, how well after training, and is that better than a plain regression?
#
# **What you'll do**
# - check the folder: missing, broken, repeated files, leaks, the sign and the range of the scores;
# - measure what the representations hold about your scores;
# - train and test over ten splits, paired, and write a page of results.
#
# **What you'll learn**: what to ask of a data set before using it; how to report a result on a few hundred images.
#
# **What you need**: nothing, a small example is generated. To use your own: set `data` below to a folder in one of the published layouts, or to
# a CSV, TSV or Parquet table with the columns `image` and `mos` (and perhaps `std`, `source`, `split`).
#
# | in | out |
# |---|---|
# | your folder or table; LIVE in the Wild where present; else a generated example | figures `10_*`, records for `results.json`, a page of results |
#
# The measured time of the last published run stands in the README's table of notebooks.

# %% tags=["parameters"]
profile = "tiny"
seed = 0
out_dir = "runs/tiny"
data = ""  # folder or table; "": LIVE in the Wild where it is present, else a generated example
mos_low = 1.0
mos_high = 5.0
lower_is_better = False
tune = False  # True: also train the trunk now, about a second for each training image of 500 x 500 pixels and split; False: as recorded

# %%
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from rali_lab import experiments
from rali_lab.experiments import custom_dataset, custom_report
from rali_lab.profiles import get_profile
from rali_lab.reproduce.notebook import open_notebook

nb = open_notebook("10", profile=profile, out_dir=out_dir)
sizes = get_profile(profile)

# %% [markdown]
# ## 1 · A correlation on a hundred images, in small numbers
#
# A method whose correlation is .80 on all images of the world is tested on 100 of them, again and again. How far apart are the results?

# %%
rng = np.random.default_rng(0)
world = rng.normal(size=(200, 100))
tests = 0.8 * world + np.sqrt(1 - 0.8**2) * rng.normal(size=world.shape)
found = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(world, tests, strict=True)])
print(
    "95 % of the tests lie between",
    np.percentile(found, [2.5, 97.5]).round(2),
    "although the method is the same",
)

# %% [markdown]
# So a table without intervals says little at this size, and two methods must be compared on the *same* images.
#
# ## 2 · Check the folder
#
# **Before you run:** name three faults of a data set that would make a result wrong.

# %%
from rali_lab.data.datasets import read_dataset
from rali_lab.data.validation import check_dataset
from rali_lab.rali.scorer import load_scorer
from rali_lab.reproduce.project import rated_photographs

livec = rated_photographs()
if data:
    path, name = Path(data), custom_dataset.dataset_name(data)
    asked = {"mos_range": (mos_low, mos_high), "higher_is_better": not lower_is_better}
elif livec is not None:
    path, name = livec / "ratings.csv", "livec"
    asked = {"mos_range": (0, 100), "image_dir": livec / "images"}
else:
    path, name = custom_dataset.write_example(nb.out_dir / "example"), "example"
    asked = {"mos_range": (1, 5)}
report = check_dataset(path, scorer=load_scorer, **asked)
text = str(report).replace(str(path.parent.resolve()), name).replace(str(path.parent), name)
print(text)
nb.checks.expect(
    "problems found in the data set",
    len(report.problems),
    high=0,
    if_missed="read the lines above: each names images and says what is wrong with them",
)

# %% [markdown]
# *How to read it*: `sign` is the rank correlation of your scores with RALI's, which was not trained on them. If its whole interval is below zero, your
# scores probably run the other way (DMOS: lower is better). An interval around zero says that RALI measures nothing that matters for such images.
#
# ## 3 · What do the representations hold?
#
# The probe report of notebooks 04 and 05 on your images: how many dimensions each representation fills, and how much of the score can be read
# from it by cross-validated regression, sources held out.

# %%
from rali_lab.analysis import compare
from rali_lab.data.records import mos_of

images = read_dataset(path, **asked)[: sizes.real_limit]
features = custom_dataset.extract_features(images, report=lambda line: None)
mos, sources = mos_of(images), [p.source for p in images]
probe = compare(
    {
        "small trunk": features["small"],
        "whole trunk": features["trunk"],
        "RALI": features["embedding"],
    },
    scores=mos,
    groups=sources,
    n_permutations=50,
    n_boot=20,
)
print(probe)

# %% [markdown]
# ## 4 · Train and test, ten times
#
# Ten random divisions of the *sources*, 80 % for training. `rali` is never trained on your images, nor is `rali_levels`, which learns what five
# levels of quality look like from the generated images, with the features of the whole trunk (`rali_lab.rali.quality_levels`). `rali_refitted` keeps the embeddings
# of `rali` and fits the basis to your scores. Nobody described your images, so for the next two the texts are five levels of quality ("The quality of
# this picture is poor."): `rali_trained` maps the statistics of the whole trunk to them, and `rali_tuned` trains the trunk itself as well,
# through RALI's own score (`rali_lab.rali.quality_levels`). The ridges are plain regressions on the same features. A RALI that does not beat its
# ridge is one you do not need. Training the trunk takes about a second for each image and split, so it is left out here unless you set
# `tune = True`; where `make bench-custom` has recorded the ten splits of these images, its scores stand beside the others.
#
# **Before you run:** which will gain more from your scores, other texts or other features?

# %%
features["rali_levels"] = custom_dataset.zero_shot(sizes).predict(features["trunk"])
tables = custom_dataset.score_splits(images, features=features, tune=tune, seed=seed)
if not tune:
    tables = custom_report.with_recorded(
        tables, experiments.kept_tables_folder(sizes, f"custom-{name}"), seed=seed
    )
summary = custom_report.summarise(tables, n_boot=min(sizes.n_boot, 500))
summary.round(3)

# %%
from rali_lab.plotting import plot_effects

drawn = summary[summary["metric"] == "srcc"].assign(
    effect=lambda t: t["method"].str.replace("_", " "),
    method=lambda t: np.where(t["method"].str.startswith("ridge"), "ridge_visual", "rali"),
)
nb.figure(
    plot_effects(
        drawn,
        xlabel=f"SRCC on held-out images of {name}",
        reference=None,
        note=f"{len(tables)} splits by source, n = {len(images)}; intervals over sources and splits",
    ),
    "10_splits",
    drawn,
)

# %%
from rali_lab.evaluate import Record, correlate


def record(method, metric, value, low, high):
    """A headline number of this data set; its interval is widened to hold the value."""
    ends = {"ci_low": float(min(low, value)), "ci_high": float(max(high, value))}
    about = {"profile": profile, "domain": name, "role": "real", "n": len(images)}
    return Record(**about, method=method, metric=metric, value=float(value), **ends)


if name == "livec":
    rows = summary.set_index(["method", "metric"])
    ends, minus = ["value", "ci_low", "ci_high"], ["minus_ridge", "minus_low", "minus_high"]
    best = "rali_tuned" if "rali_tuned" in tables[0] else "rali_trained"
    records = [record("rali", "srcc_trained", *rows.loc[(best, "srcc"), ends])]
    for kind in ("srcc", "plcc"):
        whole = correlate(
            features["rali_levels"], mos, kind=kind, groups=sources, n_boot=sizes.n_boot
        )
        records.append(record("rali_levels", kind, whole.value, whole.ci_low, whole.ci_high))
        print("rali_levels on all images:", whole)
    for method in dict.fromkeys(summary["method"]):
        if method not in ("rali", "rali_levels"):
            for kind in ("srcc", "plcc"):
                records.append(record(method, f"{kind}_trained", *rows.loc[(method, kind), ends]))
            if method != "ridge_visual":
                numbers = rows.loc[(method, "srcc"), minus]
                records.append(record(method, "srcc_minus_ridge", *numbers))
trained = summary.set_index(["method", "metric"])["value"]
nb.checks.observe(
    "the scores can be predicted (SRCC of the best method)",
    float(trained.xs("srcc", level="metric").max()),
    low=0.2,
    if_missed="too few images, or scores that depend on something the trunk does not measure",
)

# %% [markdown]
# ## 5 · The whole line on people's scores
#
# `make bench-people DATA=ratings.csv` puts a rated folder through the line of notebooks 02, 06 and 07: a reasoning teacher, its words, RALI from
# them. Two things differ. The tiny teacher takes 128 pixels a side, so it is shown four crops of a photograph at native size, and a score is
# their mean. And the base rates photographs at random: rewards have nothing to select, and reinforcement learning from it collapses
# (docs/LOG.md). So it is first fine-tuned on its own descriptions, each ending in the people's score; GRPO starts from there.

# %%
from rali_lab.evaluate.bootstrap import pooled
from rali_lab.evaluate.counted import correlations

LINE = {
    "base": "base model",
    "teacher_zero_shot": "teacher of `photo`, never trained on these",
    "supervised": "the base, fine-tuned on these scores",
    "teacher": "the same, then GRPO on these scores",
    "rali": "RALI from its words, small tower",
    "rali_trunk": "RALI from its words, whole trunk",
    "ridge_visual": "ridge, whole trunk",
}
PAIRS = [
    ("teacher", "supervised"),
    ("teacher", "ridge_visual"),
    ("rali", "teacher"),
    ("rali_trunk", "teacher"),
    ("rali_trunk", "ridge_visual"),
]


def paired(a, b=None, kind="srcc"):
    """Correlation of a method's scores with the MOS, or the difference of two on the images rated by both."""

    def statistic(table, counts):
        both = table[[a, b or a]].notna().all(axis=1).to_numpy()
        scores, mos = table.loc[both, [a, b or a]].to_numpy().T, table.loc[both, "mos"].to_numpy()
        first, second = (correlations(x, mos, counts[:, both], kind) for x in scores)
        return first - second if b else first

    return pooled(by_split, statistic, n_boot=500, counted=True)


kept = experiments.kept_tables_folder(sizes, f"people-{name}")
if (kept / "scores.parquet").exists():
    line = pd.read_parquet(kept / "scores.parquet")
    line = line.astype({"image": str, "source": str, "method": str, "score": float})
    by_split = [
        part.pivot(index=["image", "source", "mos"], columns="method", values="score").reset_index()
        for _, part in line.groupby("seed")
    ]
    rows = {label: paired(method) for method, label in LINE.items()}
    rows |= {f"`{a}` minus `{b}`, paired": paired(a, b) for a, b in PAIRS}
    tested, missing = line["image"].nunique(), line["score"].isna().sum()
    print(f"{len(by_split)} splits of {name}, {tested} images tested, {missing} scores missing")
    shown = [(e.value, e.ci_low, e.ci_high) for e in rows.values()]
    display(pd.DataFrame(shown, index=list(rows), columns=["SRCC", "ci_low", "ci_high"]).round(3))
    if name == "livec":
        found = {
            "srcc_trained": rows[LINE["teacher"]],
            "srcc_minus_ridge": rows["`teacher` minus `ridge_visual`, paired"],
            "plcc_trained": paired("teacher", kind="plcc"),
        }
        for metric, e in found.items():
            records.append(record("teacher", metric, e.value, e.ci_low, e.ci_high))
else:
    print(f"{kept.name} holds nothing yet: `make bench-people DATA=...`")
if name == "livec":
    nb.results(records)

# %% [markdown]
# *How to read it*: the teacher of `photo` against the base model is what reinforcement learning on generated images gives for photographs that
# people rated. `teacher` minus `supervised` is what rewards add after fine-tuning. `rali_trunk` minus `ridge_visual` is the price of going through
# words: the same trunk, the same images, but everything has to pass through a vocabulary of synthetic degradations. `rali_tuned` of
# section 4 has levels of quality for texts and pays no such price.
#
# ## 6 · The page of results

# %%
page = custom_report.results_page(name, text, summary, len(images), len(tables))
(nb.out_dir / "10_your_images.md").write_text(page)
Markdown(page.split("## How well")[1].join(["## How well", ""]))

# %% [markdown]
# ## If it went differently
#
# | symptom | likely cause | what to do |
# |---|---|---|
# | the sign is negative | DMOS | `lower_is_better = True` |
# | everything is near zero | scores about content, not quality | compare the best and the worst image |
# | training and test differ wildly | near duplicates on both sides | a `source` column |
#
# ## Exercises
#
# **1 · A leak** (easy, 5 min). Ten images of one scene in training and one in the test: what column tells the splitter? Pass its name to the
# check.


# %%
def check_column(column):
    assert column == "source", "the column that says which images belong together"
    print("right")


# %% [markdown]
# <details><summary>hint</summary>`split_sources` divides it.</details>
# <details><summary>solution</summary>
#
# ```python
# check_column("source")
# ```
# </details>
#
# **2 · How many images does it take?** (medium, 10 min). Give the study every second image, and pass both SRCC of `ridge_visual` to the check.


# %%
def check_half(srcc_half, srcc_all):
    assert -1 < srcc_half < 1 and -1 < srcc_all < 1, "two correlations"
    print("half the images cost", round(srcc_all - srcc_half, 3))


# %% [markdown]
# <details><summary>hint</summary>`custom_dataset.score_splits(images[::2], features={k: v[::2] for k, v in features.items()})`</details>
# <details><summary>solution</summary>
#
# ```python
# quiet = {"report": lambda line: None, "n_splits": 5, "tune": False}
# half = custom_report.summarise(custom_dataset.score_splits(images[::2], features={k: v[::2] for k, v in features.items()}, **quiet), n_boot=50)
# check_half(half.set_index(["method", "metric"])["value"]["ridge_visual", "srcc"], trained["ridge_visual", "srcc"])
# ```
# </details>
#
# ## Takeaways
#
# - Check before you train: most surprising results are surprising data.
# - Split by source, repeat, pair, and print the interval.
# - The baseline on the same features goes into the same table.
#
# ## Reuse this in your own study

# %%
quiet = {"tune": False, "report": lambda line: None}
some = custom_dataset.score_splits(images, features=features, n_splits=2, **quiet)
print(custom_report.summarise(some, n_boot=20).head(3).round(2))

# %% [markdown]
# When the numbers are good enough, `fit_scorer` makes the scorer, with the five level texts as its basis. `mine.save("mine")` keeps it for
# `rali-lab score --model mine`; `rali-lab fit` does both from the command line.

# %%
from rali_lab.experiments.fit_scorer import fit_scorer
from rali_lab.rali.quality_levels import TEXTS

others = {kind: values[1:] for kind, values in features.items()}  # known since section 3
mine = fit_scorer(images[1:], features=others, **quiet)  # tune=True trains the trunk as well
why = mine.explain(images[0].pixels(), k=5)
print(f"scored {why.score:.2f}, MOS {images[0].mos:.2f}")
why.basis.assign(text=[TEXTS[i] for i in why.basis["basis"]]).round(2)

# %% [markdown]
# ## References
#
# Ghadiyaram and Bovik, *Massive Online Crowdsourced Study of Subjective and Objective Image Quality*, IEEE TIP 2016 (LIVE in the Wild).
