# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   rali_lab:
#     after: ['02']
# ---

# %% [markdown]
# # 04 · Measure compression: is the reasoning a smaller representation, and what does it keep?
#
# **The question.** The paper says that reasoning turns redundant visual features into a *compact* text representation. Compact can mean
# three things: fewer tokens, fewer dimensions, or fewer distinguishable states. Each is measured here, at every stage from pixels to words,
# before and after reinforcement learning, together with what a representation is for: can the quality still be read from it?
#
# **What you'll do**
# - compute the dimension of a cloud of points by hand, in three ways that disagree;
# - count the tokens of an image before and after merging, and those of the reasoning;
# - compare spectra and dimensions of visual features, hidden states and rationales;
# - see what a repeated text does to an intrinsic dimension;
# - measure how much of the quality each stage keeps, on scenes held out.
#
# **What you'll learn**: participation ratio, effective rank, PCA dimension, intrinsic dimension; why a smaller number is no merit by itself.
#
# **What you need**: notebook 02 has been run (it trains the teacher); eigenvalues.
#
# | in | out |
# |---|---|
# | test images, base model, teacher, their answers, RALI (artefacts, made now if they are not there) | figures `04_*`, verdicts in `claims.json` |
#
# The measured time of the last published run stands in the README's table of notebooks.

# %% tags=["parameters"]
profile = "tiny"
seed = 0
out_dir = "runs/tiny"

# %%
import numpy as np
import pandas as pd

from rali_lab import experiments
from rali_lab.profiles import get_profile
from rali_lab.reproduce.notebook import open_notebook

nb = open_notebook("04", profile=profile, out_dir=out_dir)
sizes = get_profile(profile)
artefact = experiments.represent(sizes, seed=seed)
stages, tokens = (
    dict(np.load(artefact.path / f"{name}.npz")) for name in ("representations", "tokens")
)
about = pd.read_parquet(artefact.path / "images.parquet")
missing = {name: np.isnan(x).any(axis=1) for name, x in stages.items()}
invalid = {name: int(rows.sum()) for name, rows in missing.items() if rows.any()}
print(f"{artefact}\nimages without a valid answer, by stage: {invalid or 'none'}")
kept = ~np.any(list(missing.values()), axis=0)
stages, about = {name: x[kept] for name, x in stages.items()}, about[kept].reset_index(drop=True)
nb.checks.expect(
    "share of the images that all stages can be compared on",
    kept.mean(),
    low=0.9,
    if_missed="too many answers are invalid; the rest would be a selection of easy images",
)
pd.DataFrame(
    {"images": [len(x) for x in stages.values()], "width": [x.shape[1] for x in stages.values()]},
    index=list(stages),
)

# %% [markdown]
# `visual` are the statistics of the frozen tower. `_image` is the projector's output, averaged over the image's tokens; `_reasoning` and
# `_score` are states of the last layer, over the reasoning and right before the rating; `_text` is a sentence embedding (MiniLM) of the
# reasoning alone, which no image can leak into. `clip` and `rali` are image embeddings before and after alignment with the texts.
#
# ## 1 · How many dimensions has a cloud?
#
# Six points, almost on a line. With λ the variances along the principal axes and σ = √λ: the *participation ratio* is (Σλ)² / Σλ², the
# *effective rank* is the exponential of the entropy of σ / Σσ, and the *PCA dimension* counts the axes that hold nine tenths of Σλ.

# %%
from rali_lab.analysis import effective_rank, participation_ratio, pca_dimension, spectrum

cloud = np.array([[-3.0, 0.1], [-2.0, -0.1], [-1.0, 0.2], [1.0, -0.2], [2.0, 0.1], [3.0, -0.1]])
centred = cloud - cloud.mean(axis=0)
eigen = np.linalg.eigvalsh(centred.T @ centred / (len(cloud) - 1))[::-1]
share, weight = eigen / eigen.sum(), np.sqrt(eigen) / np.sqrt(eigen).sum()
by_hand = (
    eigen.sum() ** 2 / (eigen**2).sum(),
    np.exp(-(weight * np.log(weight)).sum()),
    int((share.cumsum() < 0.9).sum()) + 1,
)
by_library = (
    participation_ratio(cloud, debiased=False),
    effective_rank(cloud),
    pca_dimension(cloud, 0.9),
)
assert np.allclose(by_hand, by_library) and np.allclose(eigen, spectrum(cloud))
print("participation ratio {:.3f}, effective rank {:.3f}, PCA dimension {}".format(*by_hand))

# %% [markdown]
# With few points in many dimensions the plain participation ratio is far too small: noise with equal variance on every one of `d`
# axes seems to have about n d / (n + d). The library's default removes that bias.

# %%
rng = np.random.default_rng(seed)
wide = {n: rng.normal(size=(n, 384)) for n in (50, 200, 800)}
bias = pd.DataFrame(
    {
        n: {"plain": participation_ratio(x, debiased=False), "debiased": participation_ratio(x)}
        for n, x in wide.items()
    }
).T
print("participation ratio of white noise in 384 dimensions (truth: 384)\n", bias.round(1))
nb.checks.expect(
    "debiased participation ratio of white noise over the truth, 200 points",
    bias.loc[200, "debiased"] / 384,
    low=0.7,
    high=1.5,
    if_missed="the estimator is biased; no dimension below can be trusted",
)

# %% [markdown]
# ## 2 · Tokens
#
# The count that the paper quotes: about a thousand visual tokens become fewer than a hundred text tokens. Such a count depends on the size
# of the image and on the layer where one counts, so both counts are given: positions of the feature map before they are merged, and what the
# language model is given.
#
# **Before you run:** our images have 128 x 128 pixels and the tower a stride of 16. How many positions is that?

# %%
from rali_lab.estimate import Estimate
from rali_lab.models.vlm import load_policy
from rali_lab.reasoner.rationales import is_valid

answers = pd.read_parquet(experiments.score_everything(sizes, seed=seed).path / "answers.parquet")
teacher, processor = load_policy(experiments.train_teacher(sizes, seed=seed).path)
mine = answers[(answers["method"] == "teacher") & is_valid(answers)]
length = mine["reasoning"].map(lambda text: len(processor.tokenizer(text)["input_ids"])).to_numpy()
source = mine["image"].map(about.set_index("image")["source"])
ratio = tokens["map"].shape[1] / length.mean()
per_source = pd.Series(length).groupby(source.to_numpy()).mean().to_numpy()
draws = tokens["map"].shape[1] / rng.choice(per_source, (1000, len(per_source))).mean(axis=1)
print(
    f"visual tokens per image: {tokens['map'].shape[1]} before merging, {tokens['cells'].shape[1]} after; "
    f"text tokens: {length.mean():.1f} on average, {length.max()} at most"
)
low, high = np.percentile(draws, [2.5, 97.5])
nb.verdict(
    "compression.tokens",
    Estimate("visual tokens per text token", ratio, low, high, n=mine["image"].nunique()),
    detail="images of 128 px; at the paper's 512 x 384 this tower would have twelve times as many positions",
)

# %% [markdown]
# Counts of tokens mean little by themselves: neighbouring tokens of an image are alike. The participation ratio of an image's
# tokens, relative to their count, measures how redundant they are.

# %%
inside = "participation ratio inside an image"
redundancy = pd.DataFrame(
    {
        name: {
            "tokens": x.shape[1],
            "channels": x.shape[2],
            inside: np.mean([participation_ratio(t, debiased=False) for t in x]),
        }
        for name, x in tokens.items()
    }
).T
redundancy["share of the most possible"] = redundancy[inside] / (redundancy["tokens"] - 1)
redundancy.round(3)

# %% [markdown]
# ## 3 · Dimensions
#
# **Before you run:** will a sentence embedding have fewer or more effective dimensions than the visual features?

# %%
from rali_lab.plotting.stages import STAGES, plot_spectra

spectra = {name: spectrum(stages[name]) for name in STAGES}
rows = [
    {"stage": n, "axis": i + 1, "share": v}
    for n, s in spectra.items()
    for i, v in enumerate(np.cumsum(s / s.sum())[:60])
]
note = f"n = {len(about)} test images of five domains; grey line: nine tenths"
nb.figure(plot_spectra(pd.DataFrame(rows), note=note), "04_spectra", pd.DataFrame(rows))

# %%
dimension = pd.DataFrame(
    {
        name: {
            "participation ratio": participation_ratio(x),
            "effective rank": effective_rank(x),
            "PCA dimension (90 %)": pca_dimension(x, 0.9),
        }
        for name, x in stages.items()
    }
).T
dimension.round(1)

# %% [markdown]
# The three numbers weigh the spectrum differently: the participation ratio depends on the strongest axes only, the PCA dimension also on the long
# tail. A claim that holds for one and fails for another is a claim about the shape of a spectrum, not about compactness.
#
# Interval: half of the sources of each domain are drawn at random many times; the spread of such half-samples is that of the whole (a
# half-sample has twice the variance, and half of it is taken away by drawing without replacement).

# %%
from rali_lab.evaluate.half_samples import half_samples, half_sampling

PAIRS = (
    ("teacher_text", "visual"),
    ("teacher_reasoning", "visual"),
    ("teacher_text", "base_text"),
    ("teacher_reasoning", "base_reasoning"),
)
draws = half_samples(
    about["source"], about["domain"], np.random.default_rng(seed).integers(1 << 31, size=200)
)


def log_ratios(rows):
    names = {name for pair in PAIRS for name in pair}
    ratio = {name: participation_ratio(stages[name][rows]) for name in names}
    return {f"{a} / {b}": np.log(ratio[a] / ratio[b]) for a, b in PAIRS}


ratios = half_sampling(log_ratios, len(about), draws, transform=np.exp)
print("participation ratio, one stage over another [95 %]", *ratios.values(), sep="\n")
nb.verdict("compression.compact", ratios["teacher_text / visual"])
nb.verdict("compression.rl", ratios["teacher_text / base_text"])

# %% [markdown]
# ## 4 · Intrinsic dimension, and what repeated texts do to it
#
# Spectra describe straight axes only. *Intrinsic* dimensions use distances to the nearest neighbours, and so also describe curved sheets. They
# break when points coincide: texts made from few words do repeat. The library drops repeated rows, reports how many, and refuses
# when too few are left.

# %%
import warnings

from rali_lab.analysis import AnalysisWarning, two_nn

found = {}
for name, x in stages.items():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AnalysisWarning)
        m = two_nn(x)
    found[name] = {"TwoNN": m.value, "low": m.ci_low, "high": m.ci_high, "rows": m.n}
    found[name]["warnings"] = "; ".join(str(w.message)[:60] for w in caught)
intrinsic = pd.DataFrame(found).T
single = answers[(answers["method"] == "teacher") & (answers["sample"] == 0)]["reasoning"]
print(f"single rationales: {single.nunique()} different ones for {len(single)} images")
intrinsic

# %% [markdown]
# ## 5 · What is kept
#
# Throwing everything away is the best compression. So: how well can the pseudo-MOS be read from each stage by a linear readout, on
# sources held out? The pseudo-MOS of every domain is standardised first, because each domain has its own raters.

# %%
from rali_lab.analysis import decode_score

quality = about.groupby("domain")["mos"].transform(lambda x: (x - x.mean()) / x.std()).to_numpy()
groups = about["source"].to_numpy()
readout = {
    name: decode_score(x, quality, groups=groups, n_permutations=100, random_state=seed)
    for name, x in stages.items()
}
table = pd.DataFrame(
    {
        name: {"PLCC": m.value, "low": m.ci_low, "high": m.ci_high, "null": m.null_mean, "p": m.p}
        for name, m in readout.items()
    }
).T
table = table.join(dimension)
nb.checks.expect(
    "the readout of shuffled scores finds nothing (largest |null|)",
    table["null"].abs().max(),
    high=0.1,
    if_missed="the null is not a null: folds leak",
)
table.sort_values("PLCC", ascending=False).round(3)

# %%
from rali_lab.plotting.stages import plot_readout_and_dimension

note = f"n = {len(about)} test images; bars: 95 % intervals, sources resampled; hollow: before RL or alignment"
figure = plot_readout_and_dimension(table.sort_values("PLCC"), note=note)
nb.figure(figure, "04_compact_and_kept", table.reset_index(names="stage"))


# %%
def readout_gain(rows):
    """PLCC from the rationale minus PLCC from the visual features."""
    options = {"groups": groups[rows], "n_permutations": 0, "n_boot": 0}
    text, visual = (
        decode_score(stages[name][rows], quality[rows], **options).value
        for name in ("teacher_text", "visual")
    )
    return text - visual


gain = half_sampling(readout_gain, len(about), draws[:60], name="PLCC difference")
print(f"rationale minus visual features: {gain}")
nb.verdict("compression.quality", gain)

# %% [markdown]
# ## If it went differently
#
# | symptom | cause | what to do |
# |---|---|---|
# | `TwoNN` refuses: too few different rows | the teacher writes the same sentence about everything | notebook 02: did the naming accuracy fall? |
# | participation ratio near 1 everywhere | one axis (brightness, say) rules unstandardised features | standardise, or subtract it |
# | a readout below its null | folds that share sources | pass `groups` |
#
# ## Exercises
#
# **1 (easy, 5 minutes).** A cloud has two equal axes and a hundred axes with a hundredth of their variance each. What is its participation
# ratio? Call `check_1(your_number)`.
#
# <details><summary>Hint</summary>Two λ of 1 and a hundred of 0.01: both sums are easy.</details>
# <details><summary>Solution</summary>
#
# ```python
# check_1((2 + 100 * 0.01) ** 2 / (2 + 100 * 0.01**2))
# ```
# </details>
#
# **2 (medium, 10 minutes).** How large may the biased participation ratio of white noise in 384 dimensions be at most with 100 points?
# Measure it ten times and call `check_2(your_mean)`.
#
# <details><summary>Hint</summary>`participation_ratio(x, debiased=False)`.</details>
# <details><summary>Solution</summary>
#
# ```python
# check_2(np.mean([participation_ratio(np.random.default_rng(i).normal(size=(100, 384)), debiased=False) for i in range(10)]))
# ```
# </details>
#
# **3 (harder, 15 minutes).** Find a stage whose 8 leading principal components give a readout at most .02 below that of the whole stage, and
# call `check_3(name)`.
#
# <details><summary>Hint</summary>`np.linalg.svd` of the centred stage, the first 8 columns of u times s, then `decode_score`.</details>
# <details><summary>Solution</summary>
#
# ```python
# def leading(x):
#     u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
#     return (u * s)[:, :8]
#
# loss = {n: readout[n].value - decode_score(leading(x), quality, groups=groups, n_permutations=0).value for n, x in stages.items()}
# check_3(min(loss, key=loss.get))
# ```
# </details>


# %%
def check_1(number):
    assert abs(number - 9 / 2.01) < 0.01, f"{number:.3f} is not (sum)^2 / sum of squares"
    print("right: a hundred weak axes more than double what two strong ones give")


def check_2(mean):
    assert abs(mean - 100 * 384 / 484) < 3, f"{mean:.1f} is not near n d / (n + d)"
    print("right: never more than n, however many dimensions there are")


def check_3(name):
    u, s, _ = np.linalg.svd(stages[name] - stages[name].mean(0), full_matrices=False)
    small = decode_score((u * s)[:, :8], quality, groups=groups, n_permutations=0).value
    assert small >= readout[name].value - 0.02, f"{name} loses {readout[name].value - small:.3f}"
    print(f"right: eight axes of {name} hold its quality")


# %% [markdown]
# ## Takeaways
#
# - "Compact" has to be said in a unit: tokens, axes, or distinguishable states. The units do not agree.
# - A dimension without the readout beside it is no merit: noise removed and quality removed look the same.
# - Debias before comparing stages of different width; drop repeated rows before asking for an intrinsic dimension.
#
# ## Reuse this in your own study
#
# ```python
# from rali_lab.analysis import decode_score, participation_ratio, two_nn
#
# for name, x in {"mine": my_features, "theirs": their_features}.items():   # (n, d) arrays, rows are the same items
#     print(name, participation_ratio(x), two_nn(x), decode_score(x, my_scores, groups=my_sources))
# ```
#
# ## References
#
# - *Reasoning as Representation*, arXiv 2510.11369, section 3
# - Gao et al., *A theory of multineuronal dimensionality* (2017): participation ratio
# - Roy & Vetterli, *The effective rank* (2007)
# - Facco et al., *Estimating the intrinsic dimension by a minimal neighborhood information* (2017): TwoNN
