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
# **The question.** You have images and scores that people gave them. Are they fit to train and to test on? How well does RALI know them
# without ever having seen them, how well after training, and is that better than a plain regression?
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
data = ""  # folder or table; "" looks for LIVE in the Wild and falls back on a generated example
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
from rali_lab.reproduce.notebook import open_notebook
from rali_lab.profiles import get_profile

nb = open_notebook("10", profile=profile, out_dir=out_dir)
from rali_lab.experiments import custom_dataset

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
# **Before you run:** name three things that would make a data set lie.

# %%
from rali_lab.data.dataset_report import check_dataset
from rali_lab.data.datasets import read_dataset
from rali_lab.rali.scorer import load_scorer
from rali_lab.reproduce.project import rated_photographs

livec = rated_photographs()
if data:
    path, name, asked = (
        Path(data),
        custom_dataset.name_of(data),
        {"mos_range": (mos_low, mos_high), "higher_is_better": not lower_is_better},
    )
elif livec is not None:
    path, name, asked = (
        livec / "ratings.csv",
        "livec",
        {"mos_range": (0, 100), "images": livec / "images"},
    )
else:
    path, name, asked = (
        custom_dataset.example(nb.out_dir / "example"),
        "example",
        {"mos_range": (1, 5)},
    )
report = check_dataset(path, scorer=load_scorer, **asked)
text = str(report).replace(str(path.parent.resolve()), name).replace(str(path.parent), name)
print(text)
nb.checks.expect(
    "problems found in the data set",
    len(report.report.problems),
    high=0,
    if_missed="read the lines above: each names images and says what is wrong with them",
)

# %% [markdown]
# *How to read it*: `sign` is the rank correlation of your scores with RALI's, which never saw them. If its whole interval is below zero, your
# scores probably run the other way (DMOS: lower is better). An interval around zero says that RALI knows nothing about such images.
#
# ## 3 · What do the representations hold?
#
# The probe report of notebooks 04 and 05 on your images: how many dimensions each representation fills, and how much of the score can be read
# from it by cross-validated regression, sources held out.

# %%
from rali_lab.analysis import compare
from rali_lab.data.records import mos_of

images = read_dataset(path, **asked)[: sizes.real_limit]
looks = custom_dataset.look(images, report=lambda line: None)
mos, sources = mos_of(images), [p.source for p in images]
probe = compare(
    {"small trunk": looks["small"], "whole trunk": looks["trunk"], "RALI": looks["embedding"]},
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
# levels of quality look like from the generated images, with the eyes of the whole trunk (`rali_lab.rali.kernel_levels`). `rali_refitted` keeps the eyes
# of `rali` and fits the basis to your scores. Nobody described your images, so for the next two the texts are five levels of quality ("The quality of
# this image is poor."): `rali_trained` maps the statistics of the whole trunk to them, and `rali_tuned` trains the trunk itself as well,
# through RALI's own score (`rali_lab.rali.quality_levels`). The ridges are plain regressions on the same features. A RALI that does not beat its
# ridge is one you do not need. Training the trunk takes about a second for each image and split, so it is left out here unless you set
# `tune = True`; where `make bench-custom` has recorded the ten splits of these images, its scores stand beside the others.
#
# **Before you run:** which will gain more from your scores, other texts or other eyes?

# %%
looks["rali_levels"] = custom_dataset.zero_shot(sizes).predict(looks["trunk"])
tables = custom_dataset.study(images, looks=looks, tune=tune, seed=seed)
if not tune:
    tables = custom_dataset.with_recorded(
        tables, experiments.kept_tables_folder(sizes, f"custom-{name}"), seed=seed
    )
summary = custom_dataset.summarise(tables, n_boot=min(sizes.n_boot, 500))
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
from rali_lab.evaluate.correlation import correlate
from rali_lab.evaluate.results import Record

if name == "livec":
    common = {"profile": profile, "domain": name, "role": "real", "n": len(images), "seeds": 1}
    rows = summary.set_index(["method", "metric"])

    def record(method, metric, row, columns=("value", "ci_low", "ci_high")):
        value, low, high = (float(row[c]) for c in columns)
        return Record(
            **common,
            method=method,
            metric=metric,
            value=value,
            ci_low=min(low, value),
            ci_high=max(high, value),
        )

    records = [
        record(
            "rali",
            "srcc_trained",
            rows.loc["rali_tuned" if "rali_tuned" in tables[0] else "rali_trained", "srcc"],
        )
    ]
    for kind in ("srcc", "plcc"):
        whole = correlate(
            looks["rali_levels"], mos, kind=kind, groups=np.array(sources), n_boot=sizes.n_boot
        )
        records.append(
            record(
                "rali_levels",
                kind,
                {"value": whole.value, "ci_low": whole.ci_low, "ci_high": whole.ci_high},
            )
        )
        print("rali_levels on all images:", whole)
    for method in dict.fromkeys(summary["method"]):
        if method not in ("rali", "rali_levels"):
            records += [
                record(method, f"{metric}_trained", rows.loc[method, metric])
                for metric in ("srcc", "plcc")
            ]
        if method not in ("rali", "rali_levels", "ridge_visual"):
            records.append(
                record(
                    method,
                    "srcc_minus_ridge",
                    rows.loc[method, "srcc"],
                    ("minus_ridge", "minus_low", "minus_high"),
                )
            )
trained = summary.set_index(["method", "metric"])["value"]
nb.checks.observe(
    "the scores can be predicted (SRCC of the best method)",
    float(trained.xs("srcc", level="metric").max()),
    low=0.2,
    if_missed="too few images, or scores that hang on something the trunk does not see",
)

# %% [markdown]
# ## 5 · The whole line on people's scores
#
# `make bench-people DATA=ratings.csv` puts a rated folder through the line of notebooks 02, 06 and 07: a reasoning teacher, its words, RALI from
# them. Two things differ. The tiny teacher sees 128 pixels a side, so it looks at four cut-outs of a photograph at native size, and a score is
# their mean. And the base rates photographs at random: rewards have nothing to select, and reinforcement learning from it collapses
# (docs/LOG.md). So it is first fine-tuned on its own descriptions, each ending in the people's score; GRPO starts from there.

# %%
from rali_lab.evaluate.bootstrap import correlations
from rali_lab.experiments.reports import pooled

LINE = {
    "base": "base model",
    "teacher_zero_shot": "teacher of `photo`, never trained on these",
    "supervised": "the base, taught these scores",
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


def ranks(a, b=None, kind="srcc"):
    """Correlation of one method's scores with the MOS in every draw, or the difference of two on the images that both have rated."""

    def statistic(table, counts):
        both = table[[a, b or a]].notna().all(axis=1).to_numpy()
        scores, mos = table.loc[both, [a, b or a]].to_numpy().T, table.loc[both, "mos"].to_numpy()
        first, second = (correlations(x, mos, counts[:, both], kind) for x in scores)
        return first - second if b else first

    return statistic


def drawn_ranks(*args, **options):
    return pooled(by_split, ranks(*args, **options), n_boot=500, counted=True)


kept = experiments.kept_tables_folder(sizes, f"people-{name}")
if (kept / "scores.parquet").exists():
    line = pd.read_parquet(kept / "scores.parquet")
    line["score"] = line["score"].astype(float)
    by_split = [
        part.pivot(index=["image", "source", "mos"], columns="method", values="score").reset_index()
        for _, part in line.astype({"image": str, "source": str, "method": str}).groupby("seed")
    ]
    rows = {label: drawn_ranks(m) for m, label in LINE.items()}
    rows |= {f"`{a}` minus `{b}`, paired": drawn_ranks(a, b) for a, b in PAIRS}
    print(
        f"{len(by_split)} splits of {name}, {line['image'].nunique()} images tested, {line['score'].isna().sum()} scores missing"
    )
    display(
        pd.DataFrame.from_dict(rows, orient="index", columns=["SRCC", "ci_low", "ci_high"]).round(3)
    )
    if name == "livec":
        found = {
            "srcc_trained": rows[LINE["teacher"]],
            "srcc_minus_ridge": rows["`teacher` minus `ridge_visual`, paired"],
            "plcc_trained": drawn_ranks("teacher", kind="plcc"),
        }
        columns = ("value", "ci_low", "ci_high")
        records += [
            record("teacher", metric, dict(zip(columns, row, strict=True)))
            for metric, row in found.items()
        ]
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
page = custom_dataset.page(name, text, summary, len(images), len(tables))
(nb.out_dir / "10_your_images.md").write_text(page)
Markdown(page.split("## How well")[1].join(["## How well", ""]))

# %% [markdown]
# ## If it went differently
#
# | symptom | likely cause | what to do |
# |---|---|---|
# | the sign is negative | DMOS | `lower_is_better = True` |
# | everything is near zero | scores about content, not quality | look at the best and the worst image |
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
# <details><summary>hint</summary>`custom_dataset.study(images[::2], looks={k: v[::2] for k, v in looks.items()})`</details>
# <details><summary>solution</summary>
#
# ```python
# quiet = {"report": lambda line: None, "n_splits": 5, "tune": False}
# half = custom_dataset.summarise(custom_dataset.study(images[::2], looks={k: v[::2] for k, v in looks.items()}, **quiet), n_boot=50)
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
some = custom_dataset.study(
    images, looks=looks, n_splits=2, tune=False, report=lambda line: None
)  # any list of rated images (read_dataset)
print(custom_dataset.summarise(some, n_boot=20).head(3).round(2))

# %% [markdown]
# When the numbers are good enough, `custom_dataset.fit` makes the scorer, with the five level texts as its basis. `mine.save("mine")` keeps it for
# `rali-lab score --model mine`; `rali-lab fit` does both from the command line.

# %%
others = {kind: seen[1:] for kind, seen in looks.items()}  # every image was looked at in section 3
mine = custom_dataset.fit(
    images[1:], looks=others, tune=False, report=lambda line: None
)  # tune=True trains the trunk as well
why = mine.explain(images[0].pixels(), k=5)
print(f"scored {why.score:.2f}, people say {images[0].mos:.2f}")
why.basis.assign(text=[custom_dataset.levels.TEXTS[i] for i in why.basis["basis"]]).round(2)

# %% [markdown]
# ## References
#
# Ghadiyaram and Bovik, *Massive Online Crowdsourced Study of Subjective and Objective Image Quality*, IEEE TIP 2016 (LIVE in the Wild).
