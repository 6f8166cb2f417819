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
# **The question.** The paper's second step rests on a t-SNE image: in text space the data sets overlap, in visual space they do not. A
# image of a projection is no measurement. Here the gap between domains is measured in the full space, at equal quality, with a null, a
# floor and an interval, for visual features, hidden states and rationales, before and after reinforcement learning.
#
# **What you'll do**
# - watch two popular tools invent a result: biased CKA on noise, and UMAP on a single blob;
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
from matplotlib.figure import Figure

from rali_lab import experiments
from rali_lab.reproduce.notebook import open_notebook
from rali_lab.plotting import look
from rali_lab.plotting.style import caption
from rali_lab.profiles import get_profile

nb = open_notebook("05", profile=profile, out_dir=out_dir)
sizes = get_profile(profile)
artefact = experiments.represent(sizes, seed=seed)
stages = dict(np.load(artefact.path / "representations.npz"))
about = pd.read_parquet(artefact.path / "images.parquet")
kept = ~np.any([np.isnan(x).any(axis=1) for x in stages.values()], axis=0)
stages, about = (
    {name: x[kept].astype(float) for name, x in stages.items()},
    about[kept].reset_index(drop=True),
)
domains, sources = about["domain"].to_numpy(), about["source"].to_numpy()
quality = about.groupby("domain")["mos"].transform(lambda x: (x - x.mean()) / x.std()).to_numpy()
print(f"{artefact}\n{len(about)} test images, {(~kept).sum()} left out without a readable answer")
pd.crosstab(about["domain"], pd.cut(about["mos"], [1, 2, 3, 4, 5])).rename_axis(
    columns="pseudo-MOS"
)

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
# **Before you run:** two sets of *independent noise*, as wide as a CLIP embedding. What should CKA say?

# %%
rng = np.random.default_rng(seed)
rows = []
for n in (20, 50, 100, 200, 500, 1000):
    for draw in range(5):
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
fig = Figure(figsize=(6, 3.4), layout="constrained")
ax = fig.subplots()
for name, colour in (("biased", "#d55e00"), ("debiased", "#0173b2")):
    ax.plot(noise["n"], noise[name], ".", color=colour, alpha=0.6)
    ax.plot(mean.index, mean[name], color=colour, lw=2, label=name)
ax.set(
    xscale="log",
    xlabel="items n",
    ylabel="CKA of independent noise\n(should be 0)",
    ylim=(-0.15, 1),
)
ax.legend(frameon=False)
caption(fig, "two independent Gaussian samples, d = 768, five draws for each n")
nb.figure(fig, "05_cka_of_noise", noise)

# %% [markdown]
# ## 2 · How a projection misleads
#
# One Gaussian blob in 50 dimensions, no groups at all. A projection with few neighbours tears it into islands all the same. The numbers
# that come with it tell: how many neighbours in the image are true ones (*trustworthiness*), how many of the true ones are left
# (*overlap*), and how far two seeds agree.

# %%
blob = np.random.default_rng(seed).normal(size=(300, 50))
maps = {
    f"UMAP, {k} neighbours": project(blob, n_neighbors=k, min_dist=0.0, seeds=(0, 1))
    for k in (3, 30)
}
maps["PCA"] = project(blob, method="pca", n_neighbors=15)
fig = Figure(figsize=(10, 3.5), layout="constrained")
for ax, (name, p) in zip(fig.subplots(1, 3), maps.items(), strict=True):
    z = p.coordinates[0]
    ax.scatter(z[:, 0], z[:, 1], s=7, color="#555555", lw=0)
    ax.set(
        xticks=[],
        yticks=[],
        title=f"{name}\ntrustworthiness {p.trustworthiness[0]:.2f}, overlap {p.overlap[0]:.2f}",
    )
    print(f"{name}: {p}")
caption(
    fig,
    "the same 300 points of a single Gaussian in 50 dimensions; overlap: share of true neighbours kept",
)
nb.figure(
    fig, "05_umap_of_a_blob", pd.DataFrame([{"map": n, **p.to_dict()} for n, p in maps.items()])
)

# %% [markdown]
# ## 3 · The image that everybody draws, over three seeds
#
# **Before you run:** which distances in these images may you use as evidence? (None.)

# %%
DRAWN = {
    "visual": "visual features",
    "base_text": "rationales before RL",
    "teacher_text": "rationales after RL",
}
drawn = {name: project(stages[name], n_neighbors=15, seeds=(0, 1, 2)) for name in DRAWN}
fig = Figure(figsize=(9.5, 9), layout="constrained")
axes = fig.subplots(3, 3)
for row, (name, p) in zip(axes, drawn.items(), strict=True):
    for j, (ax, z) in enumerate(zip(row, p.coordinates, strict=True)):
        for domain in dict.fromkeys(domains):
            pick = domains == domain
            ax.scatter(
                *z[pick].T,
                s=9,
                lw=0,
                alpha=0.75,
                color=look(domain).color,
                label=look(domain).label,
            )
        ax.set(
            xticks=[],
            yticks=[],
            title=f"seed {p.seeds[j]}: trust {p.trustworthiness[j]:.2f}, overlap {p.overlap[j]:.2f}",
        )
    row[0].set_ylabel(DRAWN[name])
    print(f"{name}: {p}")
fig.legend(
    *axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5, markerscale=2
)
caption(
    fig,
    f"UMAP, n = {len(about)} test images; read the measures of the next sections, not the distances",
)
nb.figure(fig, "05_umap", pd.DataFrame([{"stage": n, **p.to_dict()} for n, p in drawn.items()]))

# %% [markdown]
# ## 4 · The gap, measured
#
# The *proxy A-distance* asks a linear classifier which of two domains a held-out image is from: 0, it cannot tell; 2, it always can. Domains
# also differ in quality, and a representation of quality *should* tell them apart by that. So the gap is measured twice: raw, and among
# images matched in score (standardised inside each domain, since raters differ). The floor is the same number for two halves
# of one domain; the null deals the domain labels anew to the sources.

# %%
from rali_lab.analysis import compare

COMPARED = (
    "visual",
    "base_image",
    "base_reasoning",
    "teacher_reasoning",
    "base_text",
    "teacher_text",
    "clip",
    "rali",
)
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
at_equal = report.table.query("measure == 'proxy_a' and conditioned").set_index("representation")
raw = report.table.query("measure == 'proxy_a' and not conditioned").set_index("representation")
fig = Figure(figsize=(7, 4), layout="constrained")
ax = fig.subplots()
for i, name in enumerate(COMPARED):
    m = at_equal.loc[name]
    ax.plot([m["ci_low"], m["ci_high"]], [i, i], color="#0173b2", lw=2)
    ax.plot(m["value"], i, "o", color="#0173b2", label="at equal score" if not i else None)
    ax.plot(raw.loc[name, "value"], i, "x", color="#8c8c8c", label="raw" if not i else None)
    ax.plot(
        m["floor"],
        i,
        "|",
        color="#d55e00",
        ms=14,
        label="floor: halves of one domain" if not i else None,
    )
ax.set(
    yticks=range(len(COMPARED)),
    yticklabels=COMPARED,
    xlabel="proxy A-distance, mean over pairs of domains (0: alike, 2: apart)",
)
ax.invert_yaxis()
fig.legend(loc="outside upper center", ncols=3)
caption(fig, f"n = {len(about)}; bars: 95 % intervals, sources resampled")
nb.figure(fig, "05_domain_gap", at_equal.reset_index())

# %% [markdown]
# Two stages on the same images are compared by their difference, with sources halved at random (see notebook 04 for why the spread of
# halves is that of the whole).

# %%
from rali_lab.analysis import decode_score, domain_gap

units = about.groupby(["domain", "source"]).indices
names = pd.DataFrame(list(units), columns=["domain", "source"])


half = [
    np.concatenate(
        [
            units[tuple(u)]
            for u in names.groupby("domain", group_keys=False)
            .sample(frac=0.5, random_state=i)
            .to_numpy()
        ]
    )
    for i in range(40)
]


def gap(x, r):
    return domain_gap(
        x,
        domains[r],
        measure="proxy_a",
        scores=quality[r],
        groups=sources[r],
        n_permutations=0,
        n_floor=0,
        n_bins=3,
    ).value


everything = np.arange(len(about))
of_all = {name: gap(stages[name], everything) for name in ("visual", "base_text", "teacher_text")}
of_halves = {name: np.array([gap(stages[name][r], r) for r in half]) for name in of_all}


def difference(a, b):
    """Gap of stage a minus gap of stage b, and its 95 % interval over random halves of the sources of each domain."""
    value, spread = of_all[a] - of_all[b], of_halves[a] - of_halves[b]
    return value, *(value + np.percentile(spread - spread.mean(), [2.5, 97.5]))


closer = {
    f"{a} - {b}": difference(a, b)
    for a, b in (("teacher_text", "visual"), ("teacher_text", "base_text"))
}
print(
    pd.DataFrame(
        closer, index=["proxy A-distance at equal score, difference", "low", "high"]
    ).T.round(3)
)
nb.ledger.record("alignment.domain_gap", *closer["teacher_text - visual"], len(about), 1)
nb.ledger.record("alignment.rl", *closer["teacher_text - base_text"], len(about), 1)

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
photos = [
    x
    for s in OTHERS + TEST
    for x in photographs(s, count=PAIRS // len(OTHERS + TEST), seed=seed + 7)
]
textures = [
    x
    for k in PROCEDURAL
    for x in procedural(k, count=-(-len(photos) // len(PROCEDURAL)), seed=seed + 7)
]
textures = [textures[i] for i in rng.permutation(len(textures))[: len(photos)]]
done = [draw_distortions(DOMAINS["photo"], rng) for _ in photos]
pairs = {
    kind: [
        RatedImage(
            id=f"{kind}-{i}",
            domain=kind,
            source=str(i),
            split="test",
            distortions=d,
            array=apply(x, d, np.random.default_rng(i)),
        )
        for i, (x, d) in enumerate(zip(clean, done, strict=True))
    ]
    for kind, clean in (("photographs", photos), ("procedural", textures))
}
seen = {kind: experiments.read_images(sizes, made, seed=seed) for kind, made in pairs.items()}
readable = ~np.any(
    [np.isnan(x).any(axis=1) for found in seen.values() for x in found.values()], axis=0
)
print(f"{readable.sum()} of {len(readable)} pairs with readable answers on both sides")

# %%
paired = {
    name: significance(
        cka,
        seen["photographs"][name][readable],
        seen["procedural"][name][readable],
        n_permutations=500,
        n_boot=200,
        random_state=seed,
    )
    for name in seen["photographs"]
}
for name, m in paired.items():
    print(f"{name:18} {m}")
order = sorted(paired, key=lambda name: paired[name].value)
fig = Figure(figsize=(7, 3.8), layout="constrained")
ax = fig.subplots()
for i, name in enumerate(order):
    m = paired[name]
    ax.plot([m.ci_low, m.ci_high], [i, i], color="#0173b2", lw=2)
    ax.plot(m.value, i, "o", color="#0173b2")
    ax.plot(m.null_mean + 2 * m.null_sd, i, "|", color="#d55e00", ms=12)
ax.set(
    yticks=range(len(order)),
    yticklabels=order,
    xlim=(-0.05, 1),
    xlabel="debiased CKA, photographs ~ procedural images with the same degradations",
)
caption(
    fig,
    f"n = {readable.sum()} pairs; bars: 95 % intervals; orange: two standard deviations above the null of shuffled pairs",
)
nb.figure(fig, "05_paired_cka", pd.DataFrame([{"stage": n, **paired[n].to_dict()} for n in order]))


# %%
def lift(rows):
    a, b = (
        {kind: seen[kind][name][readable][rows] for kind in seen}
        for name in ("teacher_text", "visual")
    )
    return cka(*a.values()) - cka(*b.values())


count = int(readable.sum())
draw = np.random.default_rng(seed)
spread = np.array([lift(draw.permutation(count)[: count // 2]) for _ in range(300)])
low, high = np.percentile(spread - spread.mean(), [2.5, 97.5])
value = lift(np.arange(count))
print(
    f"CKA of the rationales minus CKA of the visual features: {value:.3f} [{value + low:.3f}, {value + high:.3f}]"
)
nb.ledger.record("alignment.contents", value, value + low, value + high, count, 1)
nb.checks.expect(
    "shuffled pairs have nothing in common (largest null mean)",
    max(abs(m.null_mean) for m in paired.values()),
    high=0.05,
    if_missed="the null of CKA is not centred at 0",
)

# %% [markdown]
# ## 6 · The answer on one page
#
# To the left: little of the domain (at equal score). Up: much of the quality. The paper's sentence says that words stand further left than
# visual features, and as high.

# %%
held = {
    name: decode_score(stages[name], quality, groups=sources, n_permutations=0, random_state=seed)
    for name in COMPARED
}
page = pd.DataFrame(
    {
        n: {
            "domain": at_equal.loc[n, "value"],
            "domain_low": at_equal.loc[n, "ci_low"],
            "domain_high": at_equal.loc[n, "ci_high"],
            "quality": held[n].value,
            "quality_low": held[n].ci_low,
            "quality_high": held[n].ci_high,
        }
        for n in COMPARED
    }
).T
COLOUR = {
    "visual": look("ridge_visual").color,
    "clip": look("rali").color,
    "rali": look("rali").color,
}
fig = Figure(figsize=(7, 4.6), layout="constrained")
ax = fig.subplots()
for name, r in page.iterrows():
    colour = COLOUR.get(name, look("teacher").color)
    ax.errorbar(
        r["domain"],
        r["quality"],
        xerr=[[r["domain"] - r["domain_low"]], [r["domain_high"] - r["domain"]]],
        yerr=[[r["quality"] - r["quality_low"]], [r["quality_high"] - r["quality"]]],
        fmt="s" if "text" in name else "o",
        color=colour,
        mfc="white" if name.startswith("base") or name == "clip" else colour,
        ms=8,
        lw=1.2,
    )
    left, low = (
        name.endswith("reasoning") or name == "base_image",
        name in ("visual", "base_text", "base_reasoning", "rali"),
    )
    ax.annotate(
        name,
        (r["domain"], r["quality"]),
        xytext=(-7 if left else 7, -12 if low else 6),
        textcoords="offset points",
        fontsize=8.5,
        ha="right" if left else "left",
    )
ax.axvline(at_equal["floor"].mean(), color="#d55e00", lw=1, ls="--")
ax.set(
    xlabel="domain: proxy A-distance at equal score (less to the left)",
    ylabel="quality: PLCC of a held-out readout\n(higher is better)",
)
caption(
    fig,
    f"n = {len(about)} test images; bars: 95 % intervals, sources resampled; dashed: floor; squares: text; hollow: before RL or alignment",
)
nb.figure(fig, "05_domain_against_quality", page.reset_index(names="stage"))

# %% [markdown]
# ## 7 · Images and texts in one space
#
# RALI's encoder was aligned with the texts. The *modality gap* is the distance between the centres of image and text embeddings; subtracting
# the means closes it, and does nothing for the ranking. What alignment is for shows in the pairs.

# %%
from rali_lab.analysis import modality_gap

gap_of = {
    name: modality_gap(stages[name], stages["teacher_text"], n_permutations=200, random_state=seed)
    for name in ("clip", "rali")
}
for name, m in gap_of.items():
    print(name, m)
pairing = {
    name: significance(
        cka,
        stages[name],
        stages["teacher_text"],
        n_permutations=200,
        n_boot=100,
        groups=sources,
        random_state=seed,
    )
    for name in ("visual", "clip", "rali")
}
for name, m in pairing.items():
    print(f"{name} ~ rationales: {m}")

# %% [markdown]
# ## If it went differently
#
# | symptom | cause | what to do |
# |---|---|---|
# | gaps of all stages at their floor | too few sources, the classifier learns nothing | more images per domain; look at the raw gap |
# | the null of a gap as large as the gap | domains are told apart by their sources, not as domains | more sources; that is what `groups` protects from |
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
    print("right: CKA does not see rotation or scale")


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
# - With fewer items than dimensions, biased CKA sees similarity in noise. Debias it, and shuffle the pairs.
# - A projection is an illustration. Print its trustworthiness, draw several seeds, and measure in the full space.
# - Domains differ in quality as well as in content: a gap that is not conditioned on the score confuses the two.
# - CKA between domains needs pairs that were made as pairs.
#
# ## Reuse this in your own study
#
# ```python
# from rali_lab.analysis import compare
#
# report = compare({"mine": my_features, "theirs": their_features},          # (n, d) arrays, rows are the same items
#                  scores=my_scores, domains=my_domains, groups=my_sources)
# print(report)
# report.figure()
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
