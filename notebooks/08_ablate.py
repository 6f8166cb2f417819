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
# # 08 · Ablate: which piece of RALI earns its place?
#
# **The question.** RALI is a chain: align, compress, bin, weigh, fine-tune. The paper's Table 4 takes one link out at a time and the score
# falls each time. It does not report what a plain regression on the same features would have done, nor what happens when the words are
# wrong. Which links matter here, and is it the *content* of the reasoning that helps?
#
# **What you'll do**
# - take every piece out, over three seeds, with paired intervals;
# - align with permuted texts, random words, noise and bare scores;
# - start once from an image side pretrained with quality words, and once from one without any text;
# - read the same features with ridge, neighbours, kernels and a small network;
# - choose basis vectors for every image.
#
# **What you'll learn**: why an ablation needs a control; why a strong start hides an effect; what a baseline on the *same* features shows.
#
# **What you need**: notebooks 06 and 07; basic Python.
#
# | in | out |
# |---|---|
# | RALI, rationales, images (artefacts), tables of three seeds (docs/results) | scores of every variant (artefact), figures `08_*`, verdicts in `claims.json` |
#
# The measured time of the last published run stands in the README's table of notebooks.

# %% tags=["parameters"]
profile = "tiny"
seed = 0
out_dir = "runs/tiny"

# %%
from dataclasses import asdict

import numpy as np
import pandas as pd

from rali_lab import experiments
from rali_lab.profiles import get_profile
from rali_lab.reproduce.notebook import open_notebook

nb = open_notebook("08", profile=profile, out_dir=out_dir)
sizes = get_profile(profile)

# %% [markdown]
# ## 1 · Why pairs, in small numbers
#
# Two methods rate the same 60 images and are fooled by the same hard ones; B is a little noisier. Draw images again and again: how far
# does A's correlation spread, and how far the *difference* of the two? What both get wrong cancels in the difference.

# %%
rng = np.random.default_rng(0)
mos = rng.uniform(1, 5, 60)
hard = rng.normal(0, 0.9, 60)  # what both methods get wrong
a, b = mos + hard + rng.normal(0, 0.15, 60), mos + hard + rng.normal(0, 0.30, 60)
draws = [rng.integers(0, 60, 60) for _ in range(1000)]
r = np.array([[np.corrcoef(x[d], mos[d])[0, 1] for x in (a, b)] for d in draws])
for name, values in {"A": r[:, 0], "the difference": r[:, 0] - r[:, 1]}.items():
    print(f"width of the interval of {name}:", np.ptp(np.percentile(values, [2.5, 97.5])).round(3))

# %% [markdown]
# ## 2 · One run of everything
#
# All variants learn from the same training images of `photo` and rate the same test images of all domains. The tables of several
# seeds are checked in (`make bench-seeds`); this seed is made here.
#
# **Before you run:** the paper's largest losses are without score fine-tuning and without alignment. Which will it be here?

# %%
live = experiments.ablate(sizes, seed=seed)
print(live)
tables = experiments.seed_tables(sizes, "ablations", live, seed=seed)
print(f"tables of seeds {tables.seeds}: {tables.origin}")
if not tables.controls:
    print("nothing is checked in for this profile: what follows compares this run with itself")

# %%
from rali_lab.experiments.reports import difference, mean_correlation

mine = pd.read_parquet(live.path / "scores.parquet")
nb.checks.expect(
    "share of the test images for which a variant has a score",
    float(np.isfinite(mine["score"]).mean()),
    low=1,
    if_missed="a variant cannot read some images; its correlation would be over a selection of them",
)
kept = tables["scores"][tables.seeds.index(seed) if seed in tables.seeds else 0]
both = [mean_correlation([t], "rali", role=None, n_boot=200) for t in (mine, kept)]
print("RALI, this run:   ", both[0], "\nRALI, checked in: ", both[1])
nb.checks.observe(
    "the checked-in tables agree with this run (difference of PLCC)",
    abs(both[0].value - both[1].value),
    high=0.1,
    if_missed="the tables belong to an older run: `make bench-seeds`",
)
across = {
    m: {
        name: mean_correlation(tables["scores"], m, role=role, n_boot=2).value
        for name, role in (("photo", "in"), ("others", "out"))
    }
    for m in dict.fromkeys(tables["scores"][0]["method"])
}
across = pd.DataFrame.from_dict(across, orient="index").rename_axis("method")
across.round(3)

# %% [markdown]
# ## 3 · Table 4: one piece out at a time

# %%
from rali_lab.experiments.reports import estimates_table
from rali_lab.plotting import plot_effects

PIECES = {
    "no_alignment": "no contrastive alignment",
    "no_pca": "no PCA",
    "no_binned_kmeans": "k-means without bins",
    "no_fine_tuning": "no score fine-tuning",
    "no_augmentation": "one rationale an image",
}
paired = f"seeds {tables.seeds}; intervals over scenes and seeds, paired"


def against(a, b, role=None):
    """PLCC of method a minus that of b over all seeds."""
    return difference(tables["scores"], a, b, role=role, n_boot=sizes.n_boot)


lost = estimates_table({(label, "rali"): against(m, "rali") for m, label in PIECES.items()})
xlabel = "PLCC minus that of the full RALI, mean over five domains"
nb.figure(plot_effects(lost, xlabel=xlabel, note=paired), "08_table4", lost)

# %%
PIECE_CLAIMS = {
    "ablation.alignment": "no_alignment",
    "ablation.pca": "no_pca",
    "ablation.binning": "no_binned_kmeans",
    "ablation.fine_tuning": "no_fine_tuning",
    "ablation.augmentation": "no_augmentation",
}
for claim, without in PIECE_CLAIMS.items():
    nb.verdict(claim, against("rali", without), seeds=tables.seeds)

# %% [markdown]
# ## 4 · Is it the alignment? Two starts
#
# Our small CLIP was pretrained on descriptions of the same kind of corpus (docs/BASE_MODEL.md): its embeddings hold words for quality before
# any teacher writes. The paper starts from OpenAI's CLIP, which was trained on captions of everything. So alignment is done once more from an
# image side with a *random* head, without any text before (longer and with larger steps: a pretrained head needs little); there "no
# alignment" means the trunk's own statistics. Because RALI's cosine readout suits embeddings better than raw statistics, the verdict compares
# ridges on both.
#
# And the controls: the texts of *another* image, random letters of the same length, the bare score "4.2".

# %%
TEXTS = {
    "rali": "the teacher's words",
    "text_base": "the base model's words",
    "text_supervised": "the supervised model's words",
    "text_score": "bare scores",
    "text_words": "random words",
    "text_permuted": "another image's words",
    "text_noise": "random letters",
}
FRESH = {
    "fresh_rali": "the teacher's words",
    "fresh_score": "bare scores",
    "fresh_permuted": "another image's words",
    "fresh_noise": "random letters",
}
present = set(tables["scores"][0]["method"])
START = {"pretrained head": ("no_alignment", TEXTS), "random head": ("fresh_no_alignment", FRESH)}
words = estimates_table(
    {
        (f"{head}: {label}", "rali"): against(m, without)
        for head, (without, variants) in START.items()
        for m, label in variants.items()
        if m in present
    }
)
xlabel = "PLCC minus that without alignment, mean over five domains"
bands = ["random head: the teacher's words"]
nb.figure(plot_effects(words, xlabel=xlabel, bands=bands, note=paired), "08_words", words)

# %%
FRESH_CLAIMS = {
    "ablation.alignment_fresh": ("fresh_rali_ridge", "raw_ridge"),
    "ablation.text_content": ("fresh_rali", "fresh_permuted"),
    "ablation.text_over_score": ("fresh_rali", "fresh_score"),
}
for claim, pair in FRESH_CLAIMS.items():
    nb.verdict(claim, against(*pair), seeds=tables.seeds)
noise = mean_correlation(tables["scores"], "fresh_noise", role=None, n_boot=200)
real = mean_correlation(tables["scores"], "fresh_rali", role=None, n_boot=200)
nb.checks.observe(
    "from a random head, words beat random letters (PLCC gained)",
    real.value - noise.value,
    low=0.0,
    if_missed="the contrastive loss learns nothing from the texts: look at `alignment.csv`",
)

# %% [markdown]
# How to read it: if right words, wrong words and letters all do the same from the pretrained head, then it is not this alignment that
# carries the score there. From a random head, the teacher's words against another image's tells whether the *pairing* matters; against
# bare scores, whether the words hold more than the number they lead to.
#
# ## 5 · Would a plain regression do?
#
# The same features, read in other ways. Every regression chooses its settings by cross-validation over scenes. *Trunk statistics* are what
# the image side starts from; *before alignment* and *aligned* are embeddings. BRISQUE's features with a support vector regression, trained
# on the same images, stand for the classical methods. *Conditional means* is RALI with one basis vector for each filled score bin and no
# fine-tuning: the mean embedding of images with a given score.

# %%
from rali_lab.rali.baselines import READOUTS, read_scores

COLUMNS = {
    **{
        (r.replace("_", " "), k): f"{k}_{r}"
        for r in READOUTS
        for k in ("aligned", "unaligned", "raw")
    },
    ("RALI", "aligned"): "rali",
    ("RALI", "unaligned"): "no_alignment",
    ("RALI", "raw"): "fresh_no_alignment",
    ("conditional means", "aligned"): "conditional_means",
    ("BRISQUE + SVR", "raw"): "brisque",
}
found = {
    key: mean_correlation(tables["scores"], m, role="out", n_boot=sizes.n_boot)
    for key, m in COLUMNS.items()
}
reads = estimates_table(found).drop(columns="n")
xlabel = "PLCC on the domains not trained on"
note = f"seeds {tables.seeds}; intervals over scenes and seeds"
fig = plot_effects(reads, xlabel=xlabel, reference=None, bands=["RALI"], note=note)
nb.figure(fig, "08_readouts", reads)

# %%
best = {
    kind: max(READOUTS, key=lambda r: across.loc[f"{kind}_{r}", "others"])
    for kind in ("aligned", "unaligned", "raw")
}
pairs = {
    (f"RALI minus {readout} on {kind} features", "rali"): against(
        "rali", f"{kind}_{readout}", "out"
    )
    for kind, found in best.items()
    for readout in dict.fromkeys(("ridge", found))
}
nb.verdict("ablation.beats_raw", against("rali", "raw_ridge", "out"), seeds=tables.seeds)
nb.verdict("ablation.beats_ridge", against("rali", "aligned_ridge", "out"), seeds=tables.seeds)
estimates_table(pairs).round(3)

# %% [markdown]
# The best readout of each kind was picked on these very images, which flatters it; the ridge was not picked.
#
# ## 6 · One setting at a time
#
# One setting is varied, the others are as the profile has them (dashed). Settings are chosen on validation images; the other line shows
# what would have been picked on the test domains, which is not allowed.

# %%
from rali_lab.data.records import mos_of, select
from rali_lab.evaluate.correlation import plcc
from rali_lab.models.image_encoder import embed_images
from rali_lab.plotting import plot_sweeps
from rali_lab.rali.scorer import RaliScorer

everything = experiments.images(sizes)
parts = {k: select(everything, domain="photo", split=k) for k in ("train", "val")}
parts["test"] = select(everything, split="test")
rali = RaliScorer.load(experiments.fit_rali(sizes, seed=seed).path / "model")
z = {k: embed_images(rali.visual_, [p.pixels() for p in v]) for k, v in parts.items()}
domain = np.array([p.domain for p in parts["test"]])
mos = {k: mos_of(v) for k, v in parts.items()}
used = asdict(sizes.rali)
n_bins, n_basis = used["n_bins"], used["n_basis"]
SWEEPS = {
    "tau": [0.01, 0.03, 0.07, 0.15, 0.25, 0.5, 1.0],
    "n_basis": [n_bins + 1, *(int(n_basis * f) for f in (1, 1.5, 2.5, 4))],
    "n_bins": [1, *(max(2, int(n_bins * f)) for f in (0.125, 0.25, 0.5, 1)), n_basis - 1],
    "n_components": [2, 4, 8, 16, 32, 64, 128],
}


def mean_outside(score):
    """Mean PLCC of scores of the test images over the domains not trained on."""
    others = [d for d in dict.fromkeys(domain) if d != "photo"]
    return np.mean([plcc(score[domain == d], mos["test"][domain == d]) for d in others])


rows = []
for setting, values in SWEEPS.items():
    for value in values:
        scorer = RaliScorer(random_state=seed, **(used | {setting: value}))
        scorer.fit(z["train"], mos["train"], validation=(z["val"], mos["val"]))
        inside = plcc(scorer.predict_embeddings(z["val"]), mos["val"])
        rows.append((setting, value, "validation", inside))
        outside = mean_outside(scorer.predict_embeddings(z["test"]))
        rows.append((setting, value, "other domains", outside))
swept = pd.DataFrame(rows, columns=["setting", "at", "images", "value"])
chosen = {k: used[k] for k in SWEEPS}
nb.figure(plot_sweeps(swept, chosen=chosen, note=f"seed {seed}, one run"), "08_sweeps", swept)

# %% [markdown]
# ## 7 · Every image its own basis
#
# A next step the authors name: choose or weigh basis vectors per image. *nearest*: only the closest few count. *entropy*: every
# image gets the temperature that makes its weights equally certain. *domain*: vectors that this domain's images use much count
# more (no labels needed). Each setting was chosen on validation images.

# %%
RULES = {
    "dynamic_nearest": "nearest few",
    "dynamic_entropy": "equal certainty",
    "dynamic_domain": "what the domain uses",
}
dynamic = estimates_table(
    {(label, "rali"): against(m, "rali", "out") for m, label in RULES.items()}
)
xlabel = "PLCC minus that of fixed weights, domains not trained on"
nb.figure(plot_effects(dynamic, xlabel=xlabel, note=paired), "08_dynamic", dynamic)

# %%
top = max(RULES, key=lambda m: across.loc[m, "others"])
nb.verdict("ablation.dynamic_basis", against(top, "rali", "out"), seeds=tables.seeds)
nb.checks.observe(
    "weights of single images change little (largest change of PLCC)",
    float(dynamic["value"].abs().max()),
    high=0.1,
    if_missed="a rule breaks the score somewhere: look at its settings on the validation images",
)

# %% [markdown]
# ## If it went differently
#
# | symptom | likely cause | what to do |
# |---|---|---|
# | every text helps equally | the image side was pretrained for it, or the loss drifts along one direction | start from a random head (section 4) |
# | score-only captions beat reasoning | the score is what the test asks for | look at domains with other annotators (notebook 09) |
# | no readout differs from another | too few images | compare the paired intervals, not the table |
#
# ## Exercises
#
# **1 · One vector a bin** (easy, 5 min). With as many basis vectors as filled bins, what is a basis vector? Write `by_hand(z, mos, edges)`
# that gives the vectors, and pass it to the check.


# %%
def check_means(by_hand):
    from rali_lab.rali.basis import binned_kmeans

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), np.repeat([1.2, 2.6, 4.8], [10, 20, 10])
    edges = np.linspace(y.min(), y.max(), 6)
    assert np.allclose(by_hand(x, y, edges), binned_kmeans(x, y, n_bins=5, n_basis=3)[0]), (
        "the mean embedding of each filled bin"
    )
    print("right")


# %% [markdown]
# <details><summary>hint</summary>k-means with one cluster returns a mean.</details>
# <details><summary>solution</summary>
#
# ```python
# def by_hand(z, mos, edges):
#     bins = np.clip(np.searchsorted(edges, mos, side="right") - 1, 0, len(edges) - 2)
#     return np.stack([z[bins == b].mean(axis=0) for b in np.unique(bins)])
#
# check_means(by_hand)
# ```
# </details>
#
# **2 · Fewer images** (medium, 10 min). Only every fourth training image has a score. Which loses less outside, RALI or a ridge on the same
# embeddings? Give the mean PLCC over the other domains of both to the check.


# %%
def check_few(rali_plcc, ridge_plcc):
    assert 0 < rali_plcc < 1 and 0 < ridge_plcc < 1, "two correlations"
    better = "RALI" if rali_plcc > ridge_plcc else "the ridge"
    print(better, "does better by", round(abs(rali_plcc - ridge_plcc), 3))


# %% [markdown]
# <details><summary>hint</summary>Fewer images fill fewer bins: lower `n_basis` to 30.</details>
# <details><summary>solution</summary>
#
# ```python
# few, y = z["train"][::4], mos["train"][::4]
# small = RaliScorer(**(used | {"n_basis": max(30, len(y) // 3), "n_bins": 10})).fit(few, y, validation=(z["val"], mos["val"]))
# sources = [p.source for p in parts["train"]][::4]
# check_few(mean_outside(small.predict_embeddings(z["test"])), mean_outside(read_scores("ridge", few, y, sources, z["test"])))
# ```
# </details>
#
# ## Takeaways
#
# - An ablation shows what a piece adds *to this start*; another start may need it.
# - Before believing a mechanism, test it with wrong inputs: texts of other images, letters, bare scores.
# - Read the same features with a ridge first. If nothing beats it, report that.
#
# ## Reuse this in your own study

# %%
from rali_lab.rali.dynamic import nearest_weights

sources = [p.source for p in parts["train"]]
ridge = read_scores("ridge", z["train"], mos["train"], sources, z["test"][:3])
z_new = rali.compressor_.transform(z["test"][:3])  # any (n, d) features, scores and groups
weights = nearest_weights(z_new, rali.vectors_, tau=rali.tau, k=5)
print("ridge:", ridge.round(2), " five nearest:", (weights @ rali.scores_).round(2))

# %% [markdown]
# ## References
#
# *Reasoning as Representation*, arXiv 2510.11369, Table 4 · Mittal et al., *No-Reference Image Quality Assessment in the Spatial Domain*
# (BRISQUE), IEEE TIP 2012 · Radford et al., CLIP, arXiv 2103.00020.
