# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   rali_lab:
#     after: ['06']
# ---

# %% [markdown]
# # 09 · RACT: can one model learn from data sets whose raters disagree?
#
# **The question.** Every data set has its own degradations and its own raters. Train on several at once and the model must learn their
# disagreement along with the quality. RACT mixes *words* instead of scores: one reasoner for each set, then the eyes of one of them learn
# to see what all of them say. Does that help, and with what: the words, the scores behind them, or simply more images?
#
# **What you'll do**
# - see in six numbers how mixing two honest sets reverses an order;
# - look at three training sets with raters of their own;
# - run RACT's third stage, now;
# - compare RACT with naive mixing and with rescaled scores, over three seeds, paired;
# - take RACT apart: scores behind the words, the language module trained too, the words of one set alone.
#
# **What you'll learn**: what annotation bias does; why scaling each set cannot cure it; why words can be mixed.
#
# **What you need**: notebooks 02 and 07; basic Python.
#
# | in | out |
# |---|---|
# | images, teacher (artefacts), words and tables of three seeds (docs/results) | RACT's model (artefact), records for `results.json`, figures `09_*`, verdicts in `claims.json` |
#
# The measured time of the last published run stands in the README's table of notebooks.

# %% tags=["parameters"]
profile = "tiny"
seed = 0
out_dir = "runs/tiny"

# %%
import json
from dataclasses import replace

import numpy as np
import pandas as pd

from rali_lab import experiments
from rali_lab.reproduce.notebook import open_notebook
from rali_lab.profiles import get_profile

nb = open_notebook("09", profile=profile, out_dir=out_dir)
sizes = get_profile(profile)

# %% [markdown]
# ## 1 · Two honest sets, one wrong order
#
# Set A holds blurred images, rated by a mild panel; set B hazy ones, rated by a harsh one. Within each set the scores are perfect: they fall
# as the degradation grows. A model that learns from both learns `blur -> mild scores`, `haze -> harsh scores`.

# %%
truth = {
    "blur": np.array([4.0, 3.0, 2.0]),
    "haze": np.array([4.2, 3.2, 2.2]),
}  # haze a little better at every level
panels = {"blur": truth["blur"] + 0.5, "haze": truth["haze"] - 0.8}
mixed = np.concatenate([panels["blur"], panels["haze"]])
wanted = np.concatenate([truth["blur"], truth["haze"]])
print("learned:", mixed, "\nwanted: ", wanted)
print(
    "within a set: PLCC",
    round(np.corrcoef(panels["haze"], truth["haze"])[0, 1], 2),
    " over both:",
    round(np.corrcoef(mixed, wanted)[0, 1], 2),
)

# %% [markdown]
# *Why not rescale?* Give both sets the same mean and spread, and the order is right here, because the two sets happen to hold equally
# good images. Drop the worst hazy image and it is wrong again: scaling takes a difference of *content* for one of raters.


# %%
def scaled(scores, to):
    return (scores - scores.mean()) / scores.std() * to.std() + to.mean()


for kept in (3, 2):
    both = np.concatenate([panels["blur"], scaled(panels["haze"][:kept], panels["blur"])])
    print(
        f"{kept} hazy images: PLCC over both after scaling",
        round(np.corrcoef(both, np.concatenate([truth["blur"], truth["haze"][:kept]]))[0, 1], 2),
    )

# %% [markdown]
# ## 2 · Three training sets
#
# `photo` is the set of notebook 02, with a fair panel. `procedural` shows generated scenes to a mild one. `snapshots` holds what goes wrong
# when an image is taken (haze, darkness, tint, defocus, grain) before a harsh one. The dashed line is a panel without bias.
#
# **Before you run:** which set's scores would mislead a model most about haze?

# %%
from rali_lab.data.domains import DOMAINS
from rali_lab.data.mixture import SNAPSHOTS
from rali_lab.data.records import mos_of, select
from rali_lab.plotting import look
from rali_lab.plotting.style import panels as make_panels
from rali_lab.plotting.style import styled

sets = experiments.training_sets(sizes)
shown = pd.concat(
    [
        pd.DataFrame(
            {
                "set": name,
                "quality": [p.reference for p in images],
                "mos": mos_of(images),
                "split": [p.split for p in images],
            }
        )
        for name, images in sets.items()
    ]
)


@styled
def plot_panels(data):
    fig, axes = make_panels(len(sets), columns=3, size=(2.9, 2.9), sharex=True, sharey=True)
    for ax, (name, part) in zip(axes, data.groupby("set", sort=False), strict=True):
        domain = {**DOMAINS, "snapshots": SNAPSHOTS}[name]
        ax.scatter(part["quality"], part["mos"], s=5, alpha=0.5, color=look(name).color)
        grid = np.linspace(1, 5, 50)
        ax.plot(grid, grid, "--", lw=1, color="0.4")
        ax.plot(grid, domain.panel.opinion(grid), lw=1.5, color="0.1")
        ax.set(
            title=f"{name} (n = {len(part)})",
            xlabel="quality before any panel",
            ylabel="pseudo-MOS" if ax is axes[0] else "",
        )
    return fig


nb.figure(plot_panels(shown), "09_sets", shown)

# %%
bias = (
    shown.assign(bias=shown["mos"] - shown["quality"])
    .groupby("set", sort=False)["bias"]
    .agg(["mean", "std"])
    .round(2)
)
nb.checks.expect(
    "the harsh panel is harsh (points below quality)",
    -bias.loc["snapshots", "mean"],
    low=0.5,
    if_missed="the panels agree, and there is nothing for RACT to mend: look at rali_lab/data/mixture.py",
)
bias

# %% [markdown]
# ## 3 · Stages one and two: a reasoner for each set, and what it says
#
# Stage one is notebook 02, three times. Stage two keeps the words and drops the ratings. Here are some of the words, with the score
# that the set's own panel gave: the words of the three sets can be laid side by side, the scores cannot.

# %%
folder = experiments.kept_tables_folder(sizes, "mixing")
model, live = experiments.mix_live(sizes, seed=seed)
print(model, "\n", live)
tables = experiments.seed_tables(sizes, "mixing", live, seed=seed)
print(f"tables of seeds {tables.seeds}: {tables.origin}")
if tables.controls:
    rated = {p.id: p for images in sets.values() for p in images}
    words = tables["words"][0]
    words = words[(words["sample"] == 0) & (words["status"] == "ok")]
    for name in sets:
        for _, row in words[words["image"].str.startswith(name)].iloc[[3, 40]].iterrows():
            print(
                f"{name:>10}, panel's score {rated[row['image']].mos:.2f}: {row['reasoning'][:110]}"
            )

# %% [markdown]
# ## 4 · Stage three: eyes that see what all of them say
#
# The reasoner of `photo` learns to write the words of all three sets. Only its vision side moves (the neck behind the frozen trunk, and the
# projector); the language module, which turns words into scores, stays as reinforcement learning on `photo` left it. The loss ends with
# `</think>`: no score of any set is seen. The curve is the score on validation images of `photo`.

# %%
curve = pd.read_csv(model.path / "validation.csv")
settings = json.loads((model.path / "settings.json").read_text())
print(
    {
        k: settings[k]
        for k in ("steps", "answers_per_step", "learning_rate", "train", "reasoning_only")
    }
)
nb.checks.observe(
    "the score survives on validation images (PLCC at the end)",
    float(curve["plcc"].iloc[-1]),
    low=0.6,
    if_missed="the eyes moved away from what the language module knows: fewer steps, a smaller rate",
)
curve.round(3)

# %%
from rali_lab.experiments.reports import difference, mean_correlation

OUT = ["authentic", "novel", "generated"]


def outside(tables):
    """The domains that none of the three sets shows: `procedural` is trained on here, though on other scenes."""
    return [t[t["domain"].isin(OUT)] for t in tables]


mine = mean_correlation(
    outside([pd.read_parquet(live.path / "scores.parquet")]), "ract", n_boot=200
)
kept = mean_correlation(
    outside([tables["scores"][tables.seeds.index(seed) if seed in tables.seeds else 0]]),
    "ract",
    n_boot=200,
)
print("RACT outside, this run:   ", mine, "\nRACT outside, checked in: ", kept)
nb.checks.observe(
    "the checked-in tables tell the same story as this run (difference of PLCC)",
    abs(mine.value - kept.value),
    high=0.1,
    if_missed="the tables belong to an older run: `make bench-seeds`",
)

# %% [markdown]
# ## 5 · Against mixing
#
# *Naive mixing* trains one reasoner with GRPO on all three sets, scores as they are; *rescaled* gives every set the mean and spread of
# `photo` first. Both take the same steps as the teacher of `photo`. (RACT has spent more: three trainings and a short fourth.)

# %%
from rali_lab.plotting import plot_dot_interval, plot_effects
from rali_lab.experiments.reports import accuracy_records

METHODS = [
    m
    for m in ("teacher", "naive_mixing", "scaled_mixing", "ract")
    if m in set(tables["scores"][0]["method"])
]
main = [t[t["method"].isin(METHODS)].reset_index(drop=True) for t in tables["scores"]]
records = accuracy_records(main, profile=profile, n_boot=sizes.n_boot)
dots = pd.DataFrame([r.to_dict() for r in records if r.metric == "plcc"]).drop(columns="role")
new = [r for r in records if r.method in ("ract", "naive_mixing", "scaled_mixing")]
nb.results([replace(r, role="in") if r.domain == "procedural" else r for r in new])
nb.figure(
    plot_dot_interval(dots, note=f"seeds {tables.seeds}; intervals over scenes and seeds"),
    "09_accuracy",
    dots,
)


# %%
def against(a, b, label, role="out"):
    """PLCC of a minus that of b as a row of a figure: on the domains that no set shows, or on `photo`."""
    found = difference(
        outside(tables["scores"]) if role == "out" else tables["scores"],
        a,
        b,
        role=role,
        n_boot=sizes.n_boot,
    )
    return {
        "effect": label,
        "method": a,
        "value": found.value,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "n": found.n,
    }


def verdict(id, a, b):
    found = difference(outside(tables["scores"]), a, b, role="out", n_boot=sizes.n_boot)
    nb.ledger.record(id, found.value, found.ci_low, found.ci_high, found.n, tables.seeds)


if tables.controls:
    verdict("ract.beats_naive", "ract", "naive_mixing")
    verdict("ract.beats_scaled", "ract", "scaled_mixing")
    verdict("ract.beats_one_set", "ract", "teacher")
    verdict("ract.naive_hurts", "naive_mixing", "teacher")
    verdict("ract.text_enough", "ract", "ract_scores")
    verdict("ract.vision_enough", "ract", "ract_both")
    verdict("ract.other_sets", "ract", "ract_photo")

# %% [markdown]
# ## 6 · Which part does it?
#
# The third stage again with something changed: each set's scores behind the words (so their scales come back in), the language module
# trained along, and the words about `photo` alone (more training of the eyes, no new images).

# %%
PAIRS = [
    ("ract", "naive_mixing", "RACT minus naive mixing"),
    ("ract", "scaled_mixing", "RACT minus rescaled mixing"),
    ("ract", "teacher", "RACT minus the teacher of one set"),
    ("naive_mixing", "teacher", "naive mixing minus the teacher of one set"),
    ("ract", "ract_scores", "words alone minus words and scores"),
    ("ract", "ract_both", "vision alone minus vision and language"),
    ("ract", "ract_photo", "words of all sets minus of photo alone"),
]
if tables.controls:
    parts = pd.DataFrame([against(a, b, label) for a, b, label in PAIRS])
    nb.figure(
        plot_effects(
            parts,
            xlabel="difference of PLCC, mean over the domains that no set shows",
            note=f"seeds {tables.seeds}; intervals over scenes and seeds, paired",
        ),
        "09_parts",
        parts,
    )
    display(pd.DataFrame([against(a, b, label, role="in") for a, b, label in PAIRS]).round(3))

# %% [markdown]
# The table below it is the same on test images of `photo`, where the scale is everybody's own.
#
# Do the eyes see better, or is the score better taken from what they see? Share of answers that name exactly what was done to an image, and
# the correlation with the quality *before* any panel over all outside domains at once, where a scale that depends on the degradation shows.

# %%
from rali_lab.experiments.reports import pooled


def name_or_nan(method):
    named = [
        pooled(
            [t[t["method"] == method] for t in outside(tables["scores"])],
            lambda t: t["named"].mean(),
            n_boot=sizes.n_boot,
        )
    ]
    whole = [
        pooled(
            [t[t["method"] == method] for t in outside(tables["scores"])],
            lambda t: t["score"].corr(t["reference"]),
            n_boot=sizes.n_boot,
        )
    ]
    return {
        f"{what} [95 %]": "{:.3f} [{:.3f}, {:.3f}]".format(*v[0])
        for what, v in (("named exactly", named), ("PLCC with quality, pooled", whole))
    }


pd.DataFrame({m: name_or_nan(m) for m in dict.fromkeys(tables["scores"][0]["method"])}).T

# %% [markdown]
# ## 7 · And RALI?
#
# RALI needs no reasoner to score, but it learns from one set's scores, too. Here it is aligned with the words about all three sets, and its basis
# is fitted in two ways: to each set's own scores, and to the quality before any panel, which we know because we made the images. The latter
# (`rali_wide`) is what `rali-lab score` uses.

# %%
from rali_lab.rali.scorer import RaliScorer
from rali_lab.models.image_encoder import embed_images

wide = experiments.fit_wide(sizes, seed=seed)
print(wide)
scorers = {
    "rali": RaliScorer.load(experiments.fit_rali(sizes, seed=seed).path / "model"),
    "rali_wide": RaliScorer.load(wide.path / "model"),
}
every = [p for images in sets.values() for p in images]
z = {
    s: embed_images(scorers["rali_wide"].visual_, [p.pixels() for p in every if p.split == s])
    for s in ("train", "val")
}
own = {s: mos_of([p for p in every if p.split == s]) for s in z}
naive = RaliScorer(random_state=seed, **sizes.rali).fit(
    z["train"], own["train"], validation=(z["val"], own["val"])
)
test = select(experiments.images(sizes), split="test")
pixels = [p.pixels() for p in test]
said = {m: s.predict(pixels) for m, s in scorers.items()}
said["rali_naive"] = naive.predict_embeddings(embed_images(scorers["rali_wide"].visual_, pixels))
about = pd.DataFrame(
    {
        "image": [p.id for p in test],
        "domain": [p.domain for p in test],
        "source": [p.source for p in test],
        "mos": mos_of(test),
    }
)
scored = pd.concat([about.assign(method=m, score=s) for m, s in said.items()], ignore_index=True)
rows = []
for a, b, label in (
    ("rali_wide", "rali", "all sets, one scale, minus photo alone"),
    ("rali_naive", "rali", "all sets, own scores, minus photo alone"),
    ("rali_wide", "rali_naive", "one scale minus own scores"),
):
    d = difference(outside([scored]), a, b, role="out", n_boot=sizes.n_boot)
    rows.append(
        {
            "effect": label,
            "method": "rali",
            "value": d.value,
            "ci_low": d.ci_low,
            "ci_high": d.ci_high,
            "n": d.n,
        }
    )
shipped = pd.DataFrame(rows)
nb.figure(
    plot_effects(
        shipped,
        xlabel="difference of PLCC, mean over the domains that no set shows",
        note=f"seed {seed}; intervals over scenes, paired",
    ),
    "09_rali",
    shipped,
)

# %%
nb.checks.observe(
    "RALI from all sets is no worse outside than from one (PLCC gained)",
    float(shipped["value"].iloc[0]),
    low=-0.01,
    if_missed="do not ship it: `rali_lab.reproduce.publish` copies this scorer into the package",
)

# %% [markdown]
# ## If it went differently
#
# | symptom | likely cause | what to do |
# |---|---|---|
# | mixing does not hurt | panels agree, or every set holds every degradation | make the panels differ, or the sets |
# | RACT loses its own domain | the third stage ran too long | fewer steps, chosen on validation images |
# | scores behind the words help | raters agree better than feared | rescaling may be all you need |
#
# ## Exercises
#
# **1 · When scaling is enough** (easy, 5 min). Change the hazy set of section 1 so that scaling gives PLCC 1.00 over both sets although the
# panels differ, and pass truth and panel scores of the hazy set to the check.


# %%
def check_scaling(hazy_truth, hazy_scores):
    hazy_truth, hazy_scores = np.asarray(hazy_truth, float), np.asarray(hazy_scores, float)
    assert np.abs(hazy_scores - hazy_truth).max() > 0.3, "the panel should differ from the truth"
    both = np.concatenate([panels["blur"], scaled(hazy_scores, panels["blur"])])
    assert np.corrcoef(both, np.concatenate([truth["blur"], hazy_truth]))[0, 1] > 0.999, (
        "not yet 1.00"
    )
    print("right")


# %% [markdown]
# <details><summary>hint</summary>Scaling is right when both sets hold equally good images.</details>
# <details><summary>solution</summary>
#
# ```python
# check_scaling(truth["blur"], 0.5 * truth["blur"] + 0.2)
# ```
# </details>
#
# **2 · How far do scaled scores go astray?** (medium, 10 min). With `experiments.mixed_scores(sets, "scaled")`, what is the correlation of the
# scaled scores with quality over all training images of all sets? And of the naive ones? Give both to the check.


# %%
def check_mixed(naive_plcc, scaled_plcc):
    assert 0 < naive_plcc < 1 and 0 < scaled_plcc < 1 and naive_plcc != scaled_plcc, (
        "two correlations that differ"
    )
    print(
        "scaling",
        "helps" if scaled_plcc > naive_plcc else "hurts",
        "by",
        round(abs(scaled_plcc - naive_plcc), 3),
    )


# %% [markdown]
# <details><summary>hint</summary>`p.reference` is the quality, `p.mos` the score.</details>
# <details><summary>solution</summary>
#
# ```python
# def over_all(how):
#     made = [p for images in experiments.mixed_scores(sets, how).values() for p in images if p.split == "train"]
#     return float(np.corrcoef([p.mos for p in made], [p.reference for p in made])[0, 1])
#
# check_mixed(over_all("naive"), over_all("scaled"))
# ```
# </details>
#
# ## Takeaways
#
# - A score is a number on somebody's scale. A word about an image is not.
# - Rescaling a set assumes that its images are as good as the other set's.
# - Ask of every method that uses more data whether the data alone would have done it.
#
# ## Reuse this in your own study

# %%
from rali_lab.reasoner.ract import rescale, text_labels

own_sets = experiments.mixed_scores(sets, "naive")  # or your own lists of rated images, by name
print(
    {
        name: round(float(np.mean([p.mos for p in images])), 2)
        for name, images in rescale(own_sets, "photo").items()
    }
)
one = pd.DataFrame(
    [{"image": "a", "sample": 0, "reasoning": "I can see serious haze.", "status": "ok"}]
)
print(text_labels(one)["text"][0])  # what the third stage learns from

# %% [markdown]
# ## References
#
# *Reasoning as Representation*, arXiv 2510.11369, Table 5 and section on RACT · Zhang et al., *Uncertainty-Aware Blind Image Quality
# Assessment in the Laboratory and Wild* (UNIQUE), IEEE TIP 2021, on training with several data sets.
