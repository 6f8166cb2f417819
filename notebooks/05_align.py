# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   rali_lab:
#     after: ['04']
# ---

# %% [markdown]
# # 05 · Compare domains: do the words carry less of where an image comes from, and as much of how good it is?
#
# **The question.** The paper's second step rests on a t-SNE plot: in text space the data sets overlap, in visual space they do not. A
# projection is no measurement. Here the gap between domains is measured in the full space, at equal quality, with a null, a
# floor and an interval, for visual features, hidden states and rationales, before and after reinforcement learning.
#
# **What you'll do**
# - make two popular tools invent a result: biased CKA on noise, and UMAP on a single blob;
# - draw the projection all the same, over several seeds and with its quality printed;
# - measure the gap between domains, raw and among images of equal score;
# - pair images by what was done to them, and ask which representation gives both of a pair the same description;
# - put both questions on one page: how much domain, how much quality?
#
# **What you'll learn**: debiased CKA; trustworthiness; proxy A-distance and MMD; why a domain gap has to be conditioned on the score.
#
# **What you need**: notebook 04, for the stages; the idea of a permutation test.
#
# | in | out |
# |---|---|
# | the representations of notebook 04, teacher and base model (artefacts, made now if they are not there) | figures `05_*`, verdicts in `claims.json` |
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

nb = open_notebook("05", profile=profile, out_dir=out_dir)
sizes = get_profile(profile)
artefact = experiments.represent(sizes, seed=seed)
stages = dict(np.load(artefact.path / "representations.npz"))
about = pd.read_parquet(artefact.path / "images.parquet")
kept = ~np.any([np.isnan(x).any(axis=1) for x in stages.values()], axis=0)
stages = {name: x[kept].astype(float) for name, x in stages.items()}
about = about[kept].reset_index(drop=True)
domains, sources = about["domain"].to_numpy(), about["source"].to_numpy()
quality = about.groupby("domain")["mos"].transform(lambda x: (x - x.mean()) / x.std()).to_numpy()
print(f"{artefact}\n{len(about)} test images, {(~kept).sum()} left out without a valid answer")
levels = pd.cut(about["mos"].rename("pseudo-MOS"), [1, 2, 3, 4, 5])
pd.crosstab(about["domain"], levels)

# %% [markdown]
# ## 1 · How CKA invents a similarity
#
# CKA compares two sets of features of the same items: 1, the same up to rotation and scale; 0, nothing in common. By hand, on four items:
# centre both Gram matrices, multiply, divide by the norms.

# %%
from rali_lab.analysis import cka, project, significance

x = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]])
y = np.array([[1.0], [0.0], [2.0], [2.5]])
H = np.eye(4) - 0.25
K, L = H @ x @ x.T @ H, H @ y @ y.T @ H
by_hand = (K * L).sum() / np.sqrt((K * K).sum() * (L * L).sum())
assert np.isclose(by_hand, cka(x, y, debiased=False))
print(f"biased CKA of four items: {by_hand:.4f}")

# %% [markdown]
# **Before you run:** two sets of *independent noise*, as wide as a CLIP embedding. Which CKA do you expect?

# %%
from rali_lab.plotting.stages import plot_cka_of_noise

rng = np.random.default_rng(seed)
rows = []
for n in (20, 50, 100, 200, 500, 1000):
    for _ in range(5):
        a, b = rng.normal(size=(2, n, 768))
        rows.append({"n": n, "biased": cka(a, b, debiased=False), "debiased": cka(a, b)})
noise = pd.DataFrame(rows)
mean = noise.groupby("n").mean()
nb.checks.expect(
    "biased CKA of independent noise, n = 50, d = 768",
    mean.loc[50, "biased"],
    low=0.9,
    if_missed="then it is not the biased estimator",
)
nb.checks.expect(
    "debiased CKA of the same noise, size",
    abs(mean.loc[50, "debiased"]),
    high=0.1,
    if_missed="the debiased estimator has a bias; nothing below can be trusted",
)
note = "two independent Gaussian samples, d = 768, five draws for each n"
nb.figure(plot_cka_of_noise(noise, note=note), "05_cka_of_noise", noise)

# %% [markdown]
# ## 2 · How a projection misleads
#
# One Gaussian blob in 50 dimensions, no groups at all. A projection with few neighbours tears it into islands all the same. The numbers
# that come with it measure how many neighbours in the plane are true ones (*trustworthiness*), how many of the true ones are left
# (*overlap*), and how far two seeds agree.

# %%
from rali_lab.plotting.stages import plot_projection_seeds, plot_projections

blob = np.random.default_rng(seed).normal(size=(300, 50))
maps = {
    f"UMAP, {k} neighbours": project(blob, n_neighbors=k, min_dist=0.0, seeds=(0, 1))
    for k in (3, 30)
}
maps["PCA"] = project(blob, method="pca", n_neighbors=15)
print(*(f"{name}: {p}" for name, p in maps.items()), sep="\n")
note = "the same 300 points of a single Gaussian in 50 dimensions; overlap: share of true neighbours kept"
table = pd.DataFrame([{"map": n, **p.to_dict()} for n, p in maps.items()])
nb.figure(plot_projections(maps, note=note), "05_umap_of_a_blob", table)

# %% [markdown]
# ## 3 · The projection that everybody draws, over three seeds
#
# **Before you run:** which distances in these planes may you use as evidence? (None.)

# %%
DRAWN = {
    "visual": "visual features",
    "base_text": "rationales before RL",
    "teacher_text": "rationales after RL",
}
drawn = {name: project(stages[name], n_neighbors=15, seeds=(0, 1, 2)) for name in DRAWN}
print(*(f"{name}: {p}" for name, p in drawn.items()), sep="\n")
note = (
    f"UMAP, n = {len(about)} test images; read the measures of the next sections, not the distances"
)
figure = plot_projection_seeds({DRAWN[n]: p for n, p in drawn.items()}, domains, note=note)
nb.figure(figure, "05_umap", pd.DataFrame([{"stage": n, **p.to_dict()} for n, p in drawn.items()]))

# %% [markdown]
# ## 4 · The gap, measured
#
# The *proxy A-distance* asks a linear classifier which of two domains a held-out image is from: 0, it is at chance; 2, it is always right. Domains
# also differ in quality, and a representation of quality *should* separate them by that. So the gap is measured twice: raw, and among
# images matched in score (standardised inside each domain, since raters differ). The floor is the same number for two random halves
# of one domain; the null permutes the domain labels of the sources.

# %%
from rali_lab.analysis import compare

COMPARED = ["visual", "base_image", "base_reasoning", "teacher_reasoning"]
COMPARED += ["base_text", "teacher_text", "clip", "rali"]
report = compare(
    {name: stages[name] for name in COMPARED},
    scores=quality,
    domains=domains,
    groups=sources,
    gaps=("proxy_a", "knn_mixing"),
    n_permutations=20,
    n_boot=20,
    random_state=seed,
)
print(*report.skipped, sep="\n")
gaps = report.table.query("measure in ('proxy_a', 'knn_mixing', 'domain_accuracy')")
gaps.drop(columns="notes").round(3)

# %%
from rali_lab.plotting.stages import plot_stage_intervals

at_equal = report.table.query("measure == 'proxy_a' and conditioned").set_index("representation")
raw = report.table.query("measure == 'proxy_a' and not conditioned").set_index("representation")
figure = plot_stage_intervals(
    at_equal.loc[COMPARED].assign(raw=raw["value"]),
    xlabel="proxy A-distance, mean over pairs of domains (0: alike, 2: apart)",
    marks={"raw": "raw", "floor": "floor: halves of one domain"},
    value_label="at equal score",
    note=f"n = {len(about)}; bars: 95 % intervals, sources resampled",
)
nb.figure(figure, "05_domain_gap", at_equal.reset_index())

# %% [markdown]
# Two stages on the same images are compared by their difference, over half-samples of the sources (see notebook 04 for why their spread
# is that of the whole).

# %%
from rali_lab.analysis import decode_score, domain_gap
from rali_lab.evaluate.half_samples import half_samples, half_sampling


def gap(x, rows):
    """Proxy A-distance between domains at equal score."""
    options = {"n_permutations": 0, "n_floor": 0, "n_bins": 3}
    about_rows = {"scores": quality[rows], "groups": sources[rows]}
    return domain_gap(x, domains[rows], measure="proxy_a", **about_rows, **options).value


def closer(rows):
    """Gap of the teacher's rationales minus that of two other stages."""
    text, *others = (gap(stages[s][rows], rows) for s in ("teacher_text", "visual", "base_text"))
    return {"rationales - visual": text - others[0], "after - before RL": text - others[1]}


everything = np.arange(len(about))
gap_change = half_sampling(closer, len(about), half_samples(sources, domains, seeds=range(40)))
print("proxy A-distance at equal score, difference", *gap_change.values(), sep="\n")
nb.verdict("alignment.domain_gap", gap_change["rationales - visual"])
nb.verdict("alignment.rl", gap_change["after - before RL"])

# %% [markdown]
# ## 5 · Pairs by construction
#
# CKA needs pairs: the same items seen twice. Between two domains there are none, unless one makes them. Here the *same degradations* are done
# to a photograph and to a procedural image. A representation of degradation that forgets the content will arrange both sets alike.
#
# **Before you run:** which will be higher, the CKA of the visual features or that of the rationales?

# %%
from rali_lab.data.content import PROCEDURAL, photographs, procedural
from rali_lab.data.distortions import apply
from rali_lab.data.domains import DOMAINS, OTHERS, TEST, draw_distortions
from rali_lab.data.records import RatedImage

PAIRS = 130
rng = np.random.default_rng(seed)
scenes, each = OTHERS + TEST, PAIRS // len(OTHERS + TEST)
photos = [x for s in scenes for x in photographs(s, count=each, seed=seed + 7)]
each = -(-len(photos) // len(PROCEDURAL))
textures = [x for k in PROCEDURAL for x in procedural(k, count=each, seed=seed + 7)]
textures = [textures[i] for i in rng.permutation(len(textures))[: len(photos)]]
done = [draw_distortions(DOMAINS["photo"], rng) for _ in photos]


def degraded(kind, i, clean):
    array = apply(clean, done[i], np.random.default_rng(i))
    return RatedImage(f"{kind}-{i}", kind, str(i), "test", distortions=done[i], array=array)


pairs = {
    kind: [degraded(kind, i, x) for i, x in enumerate(clean)]
    for kind, clean in (("photographs", photos), ("procedural", textures))
}
found = {kind: experiments.represent_images(sizes, made, seed=seed) for kind, made in pairs.items()}
valid = ~np.any([np.isnan(x).any(axis=1) for of in found.values() for x in of.values()], axis=0)
both = {
    name: [found[kind][name][valid] for kind in ("photographs", "procedural")]
    for name in found["photographs"]
}
print(f"{valid.sum()} of {len(valid)} pairs with valid answers on both sides")

# %%
options = {"n_permutations": 500, "n_boot": 200, "random_state": seed}
paired = {name: significance(cka, *x, **options) for name, x in both.items()}
for name, m in paired.items():
    print(f"{name:18} {m}")
order = sorted(paired, key=lambda name: paired[name].value)
rows = pd.DataFrame([{"stage": n, **paired[n].to_dict()} for n in order])
above = rows["null_mean"] + 2 * rows["null_sd"]
figure = plot_stage_intervals(
    rows.assign(null=above).set_index("stage")[::-1],
    xlabel="debiased CKA, photographs ~ procedural images with the same degradations",
    marks={"null": ""},
    xlim=(-0.05, 1),
    note=f"n = {valid.sum()} pairs; bars: 95 % intervals; orange: two standard deviations above the null of permuted pairs",
)
nb.figure(figure, "05_paired_cka", rows)


# %%
def lift(rows):
    """CKA of the rationales minus CKA of the visual features."""
    text, visual = (cka(*(x[rows] for x in both[name])) for name in ("teacher_text", "visual"))
    return text - visual


count, rng = int(valid.sum()), np.random.default_rng(seed)
draws = [rng.permutation(count)[: count // 2] for _ in range(300)]
gain = half_sampling(lift, count, draws, name="CKA difference")
print(f"rationales minus visual features: {gain}")
nb.verdict("alignment.contents", gain)
nb.checks.expect(
    "shuffled pairs have nothing in common (largest null mean)",
    max(abs(m.null_mean) for m in paired.values()),
    high=0.05,
    if_missed="the null of CKA is not centred at 0",
)

# %% [markdown]
# ## 6 · The answer on one page
#
# To the left: little of the domain (at equal score). Up: much of the quality. By the paper's sentence, words stand further left than
# visual features, and as high.

# %%
from rali_lab.plotting.stages import plot_domain_against_quality

held = {
    name: decode_score(stages[name], quality, groups=sources, n_permutations=0, random_state=seed)
    for name in COMPARED
}
fields = {"": "value", "_low": "ci_low", "_high": "ci_high"}
page = pd.DataFrame(
    {
        name: {f"domain{end}": at_equal.loc[name, field] for end, field in fields.items()}
        | {f"quality{end}": getattr(held[name], field) for end, field in fields.items()}
        for name in COMPARED
    }
).T
note = f"n = {len(about)} test images; bars: 95 % intervals, sources resampled; dashed: floor; squares: text; hollow: before RL or alignment"
figure = plot_domain_against_quality(page, floor=at_equal["floor"].mean(), note=note)
nb.figure(figure, "05_domain_against_quality", page.reset_index(names="stage"))

# %% [markdown]
# ## 7 · Images and texts in one space
#
# RALI's encoder was aligned with the texts. The *modality gap* is the distance between the centres of image and text embeddings; subtracting
# the means closes it, and does nothing for the ranking. What alignment is for shows in the pairs.

# %%
from rali_lab.analysis import modality_gap

text = stages["teacher_text"]
options = {"n_permutations": 200, "random_state": seed}
gap_of = {name: modality_gap(stages[name], text, **options) for name in ("clip", "rali")}
for name, m in gap_of.items():
    print(name, m)
options |= {"n_boot": 100, "groups": sources}
pairing = {n: significance(cka, stages[n], text, **options) for n in ("visual", "clip", "rali")}
for name, m in pairing.items():
    print(f"{name} ~ rationales: {m}")

# %% [markdown]
# ## If it went differently
#
# | symptom | cause | what to do |
# |---|---|---|
# | gaps of all stages at their floor | too few sources, the classifier learns nothing | more images per domain; inspect the raw gap |
# | the null of a gap as large as the gap | domains are recognised by their sources, not as domains | more sources; that is what `groups` protects from |
# | text stages skipped by `compare` | rationales repeat so often that estimators refuse | read `report.skipped` |
#
# ## Exercises
#
# **1 (easy, 5 minutes).** Multiply one of two feature sets by a random rotation and by 7. What does debiased CKA become? Call
# `check_1(before, after)` with your two numbers.
#
# <details><summary>Hint</summary>`np.linalg.qr` of a square Gaussian matrix gives a rotation.</details>
# <details><summary>Solution</summary>
#
# ```python
# a, b = stages["visual"], stages["teacher_text"]
# q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(a.shape[1],) * 2))
# check_1(cka(a, b), cka(7 * a @ q, b))
# ```
# </details>
#
# **2 (medium, 10 minutes).** Close the modality gap of `rali` by subtracting both means. Does CKA with the texts change? Call
# `check_2(gap_after, cka_after)`.
#
# <details><summary>Hint</summary>`rali_lab.analysis.close_gap`.</details>
# <details><summary>Solution</summary>
#
# ```python
# from rali_lab.analysis import close_gap
#
# a, b = close_gap(stages["rali"], stages["teacher_text"])
# check_2(modality_gap(a, b, n_permutations=0).value, cka(a, b))
# ```
# </details>
#
# **3 (harder, 20 minutes).** Make the domain gap of the visual features at equal score smaller without destroying the quality: remove the
# directions in which the domain means differ, and call `check_3(your_array)`.
#
# <details><summary>Hint</summary>The singular vectors of the centred domain means span four directions; project them out.</details>
# <details><summary>Solution</summary>
#
# ```python
# x = stages["visual"] - stages["visual"].mean(0)
# centres = np.stack([x[domains == d].mean(0) for d in dict.fromkeys(domains)])
# _, _, v = np.linalg.svd(centres, full_matrices=False)
# check_3(x - x @ v[:4].T @ v[:4])
# ```
# </details>


# %%
def check_1(before, after):
    assert abs(before - after) < 1e-6, f"{before:.4f} became {after:.4f}"
    print("right: CKA does not depend on rotation or scale")


def check_2(gap_after, cka_after):
    assert gap_after < 0.2 * gap_of["rali"].value, f"the gap is still {gap_after:.3f}"
    print(
        f"right: the gap went from {gap_of['rali'].value:.2f} to {gap_after:.2f}, CKA stands at {cka_after:.3f} (before: {pairing['rali'].value:.3f})"
    )


def check_3(x):
    now, before = gap(x, everything), gap(stages["visual"], everything)
    good = decode_score(x, quality, groups=sources, n_permutations=0, n_boot=0).value
    assert now < before and good > held["visual"].value - 0.1, (
        f"gap {before:.2f} to {now:.2f}, quality {held['visual'].value:.2f} to {good:.2f}"
    )
    print(f"right: gap {before:.2f} to {now:.2f}, quality {held['visual'].value:.2f} to {good:.2f}")


# %% [markdown]
# ## Takeaways
#
# - With fewer items than dimensions, biased CKA finds similarity in noise. Debias it, and permute the pairs.
# - A projection is an illustration. Print its trustworthiness, draw several seeds, and measure in the full space.
# - Domains differ in quality as well as in content: a gap that is not conditioned on the score confuses the two.
# - CKA between domains needs pairs that were made as pairs.
#
# ## Reuse this in your own study
#
# ```python
# from rali_lab.analysis import compare
# from rali_lab.plotting import plot_comparison
#
# report = compare({"mine": my_features, "theirs": their_features},          # (n, d) arrays, rows are the same items
#                  scores=my_scores, domains=my_domains, groups=my_sources)
# print(report)
# plot_comparison(report)
# ```
#
# ## References
#
# - *Reasoning as Representation*, arXiv 2510.11369, Fig. 4
# - Kornblith et al., *Similarity of neural network representations revisited* (2019); Murphy et al., arXiv 2405.01012: the bias
# - Ben-David et al., *A theory of learning from different domains* (2010): the A-distance
# - Iacus, King & Porro, *Causal inference without balance checking: coarsened exact matching* (2012)
# - McInnes et al., *UMAP* (2018); Venna & Kaski (2001): trustworthiness and continuity
# - Liang et al., *Mind the gap* (2022): the modality gap
