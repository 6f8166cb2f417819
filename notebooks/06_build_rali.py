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
# # 06 · Build RALI: can a small encoder score images with what the reasoner wrote?
#
# **The question.** The reasoner writes what is wrong with an image, and then a score. If the words hold the quality, then an image encoder
# that has learned the words should do, and no language model is needed to score. RALI makes such a scorer in three steps.
#
# **What you'll do**
# - read the reasoning that the teacher wrote about its training images;
# - step 1: align a small image encoder with these texts by contrast, first by hand with four images and four texts;
# - step 2: compress the embeddings with PCA, and find basis vectors by k-means inside score bins, first by hand on six numbers;
# - step 3: score an image by a softmax over the basis vectors, and find out what the temperature, which the paper's formula does not
#   print, is for;
# - save the scorer, load it, and ask it why it gave a score.
#
# **What you'll learn**: contrastive learning and its loss; what repeated texts do to it; PCA and binned k-means; what a temperature does.
#
# **What you need**: notebook 02 has been run (it trains the teacher); basic Python and linear algebra.
#
# | in | out |
# |---|---|
# | images, the teacher's rationales, the fitted scorer (artefacts, made now if they are not there) | figures `06_*`, a verdict in `claims.json` |
#
# The measured time of the last published run stands in the README's table of notebooks.

# %% tags=["parameters"]
profile = "tiny"
seed = 0
out_dir = "runs/tiny"

# %%
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from rali_lab import experiments
from rali_lab.data.records import mos_of, select
from rali_lab.reproduce.notebook import open_notebook
from rali_lab.profiles import get_profile

nb = open_notebook("06", profile=profile, out_dir=out_dir)
sizes = get_profile(profile)
photo = select(experiments.images(sizes), domain="photo")
train, val = select(photo, split="train"), select(photo, split="val")
reasoning = experiments.write_reasoning(sizes, seed=seed)
fitted = experiments.fit_rali(sizes, seed=seed)
print(
    f"{reasoning}\n{fitted}\n{len(train)} training and {len(val)} validation images of the domain photo"
)

# %% [markdown]
# ## 1 · What the teacher wrote
#
# The teacher answered several times about every image, at temperature 1. Answers without the exact form are kept in the table and
# marked; they are never repaired, and RALI does not learn from them.

# %%
table = pd.read_parquet(reasoning.path / "rationales.parquet")
good = table[table["status"] == "ok"]
texts = good.groupby("image")["reasoning"].agg(list)
print(table["status"].value_counts().to_string())
print(
    f"\n{len(good)} usable rationales, {good['reasoning'].nunique()} different ones, {good['reasoning'].str.split().str.len().mean():.1f} words on average"
)
with_text = np.mean([p.id in texts.index for p in train])
nb.checks.expect(
    "share of the training images with a usable rationale",
    with_text,
    low=0.98,
    if_missed="the teacher lost the form; RALI would learn from a selection of easy images (see notebook 02)",
)
good[["image", "sample", "reasoning", "rating"]].head(6).style.set_properties(
    **{"text-align": "left"}
)

# %%
import textwrap

from rali_lab.plotting import plot_images_grid

ranked = sorted((p for p in train if p.id in texts.index), key=lambda p: -p.mos)
shown = [ranked[int(i)] for i in np.linspace(0, len(ranked) - 1, 6)]
mean_rating = good.groupby("image")["rating"].mean()
titles = [
    f"pseudo-MOS {p.mos:.1f}, teacher {mean_rating[p.id]:.1f}\n" + textwrap.fill(texts[p.id][0], 42)
    for p in shown
]
fig = plot_images_grid(
    [p.pixels() for p in shown],
    titles,
    columns=3,
    note="training images from best to worst, with the first rationale of the teacher",
)
fig.set_size_inches(8, 6.4)
listed = pd.DataFrame(
    {
        "image": [p.id for p in shown],
        "mos": [p.mos for p in shown],
        "rationale": [texts[p.id][0] for p in shown],
    }
)
nb.figure(fig, "06_rationales", listed)

# %% [markdown]
# ## 2 · Step 1, by hand: four images, four texts
#
# An image encoder and a text encoder turn both into vectors of length 1. Contrastive learning asks one thing: each image should lie
# nearer to its own text than to the others' texts. Take the cosines, multiply by a scale (one over the temperature), and read each row
# as a multiple-choice question, "which of these texts is mine?": a softmax gives probabilities, and the loss is minus the logarithm of
# the right one. The same down the columns, "which of these images is mine?", and the mean of both.

# %%
from open_clip.loss import ClipLoss

from rali_lab.models.clip import embed_texts, load_base_clip
from rali_lab.models.image_encoder import embed_images

clip = (
    load_base_clip()
)  # the small CLIP that alignment starts from; its text tower stays frozen throughout
apart = list({texts[p.id][0]: p for p in reversed(ranked)}.values())[:: max(1, len(ranked) // 8)]
four = sorted(apart, key=lambda p: -p.mos)[:: max(1, len(apart) // 4)][:4]
z_image = torch.from_numpy(embed_images(clip, [p.pixels() for p in four]))
z_text = torch.from_numpy(embed_texts(clip, [texts[p.id][0] for p in four]))
scale = clip.logit_scale.exp().detach()

cosine = z_image @ z_text.T
rows = torch.softmax(scale * cosine, dim=1)  # which text is mine?
columns = torch.softmax(scale * cosine, dim=0)  # which image is mine?
loss = (-rows.diag().log().mean() - columns.diag().log().mean()) / 2
assert torch.isclose(loss, ClipLoss()(z_image, z_text, scale), atol=1e-5)
print(
    f"temperature {1 / scale:.3f}, loss {loss:.3f}, for comparison guessing among four: {np.log(4):.3f}"
)
pd.DataFrame(
    cosine.numpy(), index=[p.id for p in four], columns=[f"text of {p.id}" for p in four]
).round(2)

# %% [markdown]
# Rationales come from a small vocabulary, so a batch holds equal ones. Does the loss then call an image's own words wrong whenever they
# belong to a neighbour? `SharedTextClipLoss`, which the library trains with, writes out targets that images with one text share
# evenly.
#
# **Before you run:** the second image now gets the first one's text. Will the plain loss drive the two images apart? And what if the
# second text says the same in other words?

# %%
from rali_lab.rali.align import SharedTextClipLoss
from rali_lab.reasoner.prompts import Finding, describe

ids = torch.tensor([0, 0, 1, 2])  # two images with one text
shared_text = z_text[ids]
target = (ids[:, None] == ids[None, :]).float()
target = target / target.sum(dim=1, keepdim=True)


def cross_entropy(logits: torch.Tensor) -> torch.Tensor:
    return -(target * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()


logits = scale * z_image @ shared_text.T
by_hand = (cross_entropy(logits) + cross_entropy(logits.T)) / 2
assert torch.isclose(by_hand, SharedTextClipLoss()(z_image, shared_text, scale, ids), atol=1e-5)
assert torch.isclose(
    by_hand, ClipLoss()(z_image, shared_text, scale), atol=1e-5
)  # equal columns: whichever counts as right
print(
    f"targets of the first image {target[0].tolist()}; loss {by_hand:.3f}, plain or shared; the least an encoder can reach here "
    f"{-(target * target.clamp_min(1e-9).log()).sum(dim=1).mean():.3f}"
)


def push(z_of_texts: torch.Tensor) -> float:
    """How hard the loss drives the first two images apart when every image lies exactly on its text."""
    z = z_of_texts.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(ClipLoss()(z, z_of_texts, scale), z)
    return float((gradient[0] - gradient[1]).norm())


wordings = sorted({describe([Finding("noise", 4)], np.random.default_rng(i)) for i in range(20)})[
    :2
]
z_wordings = torch.from_numpy(embed_texts(clip, wordings))
print(f"{wordings[0]!r} and {wordings[1]!r}: cosine {z_wordings[0] @ z_wordings[1]:.2f}")
pushes = {
    "equal text": push(shared_text),
    "same finding, other words": push(torch.cat([z_wordings, z_text[2:]])),
}
print({k: f"{v:.2g}" for k, v in pushes.items()})
nb.checks.expect(
    "push between two images with one text",
    pushes["equal text"],
    high=1e-4,
    if_missed="equal texts repel each other; are their embeddings really equal (dropout in the text tower)?",
)
nb.checks.expect(
    "push between two wordings of one finding",
    pushes["same finding, other words"],
    low=1e-3,
    if_missed="the text tower gives two wordings one vector; then rephrasing cannot teach anything",
)
# %% [markdown]
# **What you should see**: an equal text is harmless. It only raises the floor that the loss can reach, and the shared targets say so openly.
# Another wording of the same finding is a *false negative*: the loss drives apart what should stay together. That is a reason to draw another
# of an image's wordings in every epoch, so that no wording stays tied to one image.
#
# ## 3 · Step 1, for real
#
# The same, with all training images in large batches, one of an image's rationales drawn anew in every epoch ("seed augmentation" in
# the paper). Only the head of the small tower moves. The validation images show scenes that were never trained on.

# %%
from rali_lab.plotting import plot_training_curves

history = pd.read_csv(fitted.path / "alignment.csv")
curves = history.rename(columns={"epoch": "step"})
labels = {
    "loss": "contrastive loss, training (nats)",
    "holdout_loss": "the same, validation (nats)",
    "holdout_top1": "validation: share with own text nearest",
}
fig = plot_training_curves(curves, metrics=list(labels), labels=labels, note="a step is an epoch")
print(
    f"learned temperature: {history['temperature'].iloc[0]:.4f} at first, {history['temperature'].iloc[-1]:.4f} at the end"
)
nb.figure(fig, "06_alignment", history)

# %% [markdown]
# Does it know the words, or only the training scenes? We ask for every validation image which text is nearest, among all different
# texts of the validation images, before and after the alignment, and once with the texts dealt to the wrong images.

# %%
from rali_lab.rali.scorer import RaliScorer

scorer = RaliScorer.load(fitted.path / "model")
held = [p for p in val if p.id in texts.index]
vocabulary = sorted({t for p in held for t in texts[p.id]})
z_vocabulary = embed_texts(clip, vocabulary)
own = np.array([[t in texts[p.id] for t in vocabulary] for p in held])
towers = {"before": clip, "after": scorer.visual_}
z_val = {when: embed_images(tower, [p.pixels() for p in held]) for when, tower in towers.items()}


def margin(z: np.ndarray, own: np.ndarray) -> float:
    """Mean cosine with own texts minus mean cosine with all others."""
    cosines = z @ z_vocabulary.T
    return float(np.mean([row[mine].mean() - row[~mine].mean() for row, mine in zip(cosines, own)]))


def top1(z: np.ndarray, own: np.ndarray) -> float:
    return float(own[np.arange(len(z)), (z @ z_vocabulary.T).argmax(axis=1)].mean())


wrong = own[np.random.default_rng(seed).permutation(len(own))]
found = {
    when: {
        "margin": margin(z, own),
        "nearest text is its own": top1(z, own),
        "the same, texts dealt wrongly": top1(z, wrong),
    }
    for when, z in z_val.items()
}
print(f"{len(held)} images, {len(vocabulary)} texts")
nb.checks.observe(
    "margin of own over other texts after alignment (cosine)",
    found["after"]["margin"],
    low=0.05,
    if_missed="images and rationales may be paired wrongly, or the teacher's words say nothing about the image",
)
nb.checks.observe(
    "loss of the last epoch over that of the first",
    history["loss"].iloc[-1] / history["loss"].iloc[0],
    high=0.98,
    if_missed="alignment did not train; look at the learning rate in the curves above",
)
pd.DataFrame(found).T.round(3)

# %% [markdown]
# **How to read it**: the row "before" is not zero when the small CLIP was pretrained on other images. If "after" is lower than "before" on
# these unseen scenes while the training loss fell, the head has begun to learn scenes by heart; gentler settings (`lr`, `epochs`, `anchor`
# of the profile) keep more of the start.
#
# The space has hundreds of dimensions; a plane shows a little of it. The plane is that of the two largest principal components of the
# *texts*, and the images are projected into it, before and after.
#
# **Before you run:** will the images lie among the texts, or beside them?

# %%
from sklearn.decomposition import PCA

z_train = {
    when: embed_images(tower, [p.pixels() for p in ranked]) for when, tower in towers.items()
}
z_texts = embed_texts(clip, [texts[p.id][0] for p in ranked])
plane = PCA(2).fit(z_texts)
mos = mos_of(ranked)
views = {
    "texts of the teacher": z_texts,
    "images, before": z_train["before"],
    "images, after": z_train["after"],
}
places = pd.concat(
    [
        pd.DataFrame(plane.transform(z), columns=["x", "y"]).assign(view=name, mos=mos)
        for name, z in views.items()
    ]
)

from rali_lab.plotting.style import caption, panels

fig, axes = panels(3, size=(3.5, 3.3), sharex=True, sharey=True)
for ax, (name, part) in zip(axes, places.groupby("view", sort=False)):
    dots = ax.scatter(
        part["x"], part["y"], c=part["mos"], cmap="viridis", vmin=1, vmax=5, s=14, lw=0, alpha=0.8
    )
    ax.set(title=name, xlabel="first component of the texts")
axes[0].set_ylabel("second component of the texts")
fig.colorbar(dots, ax=list(axes), label="pseudo-MOS (1-5, higher is better)", ticks=range(1, 6))
share = plane.explained_variance_ratio_.sum()
caption(
    fig,
    f"n = {len(ranked)} training images and one rationale each; the plane holds {share:.0%} of the texts' variance",
)
nb.figure(fig, "06_planes", places)

# %% [markdown]
# ## 4 · Step 2, by hand: PCA and k-means inside score bins
#
# Six images, one number each, and their scores. The range of scores is cut into bins of equal width. Every bin that is not empty gets
# one cluster, and a cluster left over goes where most images wait. A basis vector is the mean embedding of its cluster, its basis score
# the mean score.

# %%
from rali_lab.rali.basis import Compressor, binned_kmeans

z6, mos6 = np.array([0.0, 0.4, 5.0, 5.2, 2.6, 9.0]), np.array([1.0, 1.2, 2.9, 2.8, 3.1, 5.0])
edges = np.linspace(mos6.min(), mos6.max(), 3 + 1)
bins = np.minimum(np.digitize(mos6, edges) - 1, 2)
print("bins", bins.tolist(), "from edges", edges.round(2).tolist())


def two_means(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best division of a few numbers in two groups: try every cut of the sorted list."""
    order = np.argsort(values)
    spread = lambda rows: ((values[rows] - values[rows].mean()) ** 2).sum()
    cut = min(range(1, len(values)), key=lambda c: spread(order[:c]) + spread(order[c:]))
    return order[:cut], order[cut:]


clusters = []
for b in range(3):
    members = np.flatnonzero(bins == b)
    crowded = (
        b == np.bincount(bins).argmax()
    )  # four clusters for three bins: the fullest bin gets the fourth
    clusters += [members[part] for part in two_means(z6[members])] if crowded else [members]
by_hand = sorted((z6[c].mean(), mos6[c].mean()) for c in clusters)
vectors, basis_scores = binned_kmeans(z6[:, None], mos6, n_bins=3, n_basis=4, seed=seed)
assert np.allclose(by_hand, sorted(zip(vectors[:, 0], basis_scores)))

rng = np.random.default_rng(0)
wide = rng.normal(size=(30, 5)) * [1, 2, 3, 4, 5] @ rng.normal(size=(5, 5))
standard = (wide - wide.mean(axis=0)) / wide.std(axis=0)  # first every dimension to one scale,
axes_by_hand = np.linalg.svd(standard, full_matrices=False)[2][
    :2
]  # then the directions of most variance
assert np.allclose(
    np.abs(Compressor(2).fit(wide).transform(wide)), np.abs(standard @ axes_by_hand.T)
)
pd.DataFrame(by_hand, columns=["basis vector", "basis score"]).round(2)

# %% [markdown]
# For real: how many components do the embeddings need? If quality had been squeezed out of redundant features into a few words, then few
# would do.

# %%
kept = scorer.n_components
spectra = {}
for name, z in {
    "images, before": z_train["before"],
    "images, after": z_train["after"],
    "texts of the teacher": z_texts,
}.items():
    standard = (z - z.mean(axis=0)) / np.maximum(z.std(axis=0), 1e-9)
    variance = np.linalg.svd(standard, compute_uv=False) ** 2
    spectra[name] = np.cumsum(variance) / variance.sum()
fig = Figure(figsize=(5.6, 3.5), layout="constrained")
ax = fig.subplots()
for (name, share), marker, color in zip(spectra.items(), "os^", ("#8c8c8c", "#d55e00", "#0173b2")):
    ax.plot(
        np.arange(1, len(share) + 1),
        share,
        color=color,
        marker=marker,
        markevery=[0, 1, 3, 7, 15, 31, 63],
        label=name,
    )
ax.axvline(kept, color="#22272e", ls=":", lw=1.3)
ax.annotate("kept", (kept, 0.04), xytext=(4, 0), textcoords="offset points", fontsize=9)
ax.set(
    xscale="log",
    ylim=(0, 1.02),
    xlabel="principal components (log scale)",
    ylabel="share of the variance held",
)
ax.legend(loc="center right")
caption(fig, f"standardised embeddings, n = {len(ranked)} training images")
half = {name: int(np.searchsorted(share, 0.9)) + 1 for name, share in spectra.items()}
print("components that hold 90 % of the variance:", half, f"| kept: {kept} of {z_texts.shape[1]}")
nb.checks.observe(
    "share of the variance that the kept components hold",
    scorer.compressor_.explained_share_,
    low=0.85,
    if_missed="raise n_components in the profile, or accept that fine differences are lost",
)
nb.figure(
    fig,
    "06_spectrum",
    pd.DataFrame(
        {"component": np.arange(1, len(ranked) + 1)[: len(spectra["images, after"])], **spectra}
    ),
)

# %% [markdown]
# ## 5 · More bins than it seems wise
#
# The paper takes 240 bins and 250 basis vectors. Then nearly every bin gets one cluster, and k-means has nothing to do: the basis is
# almost the mean embedding of the images with a given score. It has thousands of training images, we have hundreds, so the profile
# may take fewer bins; both are shown.
#
# **Before you run:** with the paper's numbers, how many of our bins stay empty, and how many basis vectors stand for a single image?

# %%
N, K = scorer.n_bins, scorer.n_basis
compressed = scorer.compressor_.transform(embed_images(scorer.visual_, [p.pixels() for p in train]))
mos_train = mos_of(train)
raw_vectors, raw_scores = binned_kmeans(
    compressed, mos_train, n_bins=N, n_basis=K, seed=scorer.random_state
)


def crowding(n_bins: int, n_basis: int) -> dict[str, float]:
    edges = np.linspace(mos_train.min(), mos_train.max(), n_bins + 1)
    bin_of = lambda scores: np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, n_bins - 1)
    images = np.bincount(bin_of(mos_train), minlength=n_bins)
    _, basis_scores = binned_kmeans(
        compressed, mos_train, n_bins=n_bins, n_basis=n_basis, seed=scorer.random_state
    )
    clusters = np.bincount(bin_of(basis_scores), minlength=n_bins)[images > 0]
    return {
        "bins N": n_bins,
        "basis vectors K": n_basis,
        "empty bins": int((images == 0).sum()),
        "images per basis vector": len(train) / n_basis,
        "bins with one cluster, of those not empty": np.mean(clusters == 1),
        "the same if no bin were empty, at least": 1 - min(1, (n_basis - n_bins) / n_bins),
    }


crowds = pd.DataFrame(
    {"the paper's N and K on our images": crowding(240, 250), "this profile": crowding(N, K)}
).T
nb.checks.expect(
    "images per basis vector",
    len(train) / K,
    low=1.0,
    if_missed="more basis vectors than images; lower n_basis in the profile",
)
crowds.T.round(2)

# %%
from rali_lab.plotting import plot_basis

flat = PCA(2).fit(compressed)
fig = plot_basis(
    flat.transform(scorer.vectors_),
    scorer.scores_,
    images=flat.transform(compressed),
    note=f"first two of {kept} components, {flat.explained_variance_ratio_.sum():.0%} of their variance; after fine-tuning",
)
nb.figure(
    fig,
    "06_basis",
    pd.DataFrame(flat.transform(scorer.vectors_), columns=["x", "y"]).assign(score=scorer.scores_),
)

# %% [markdown]
# ## 6 · Step 3: the score, and the temperature that the formula does not print
#
# The score of an embedding z is a weighted mean of the basis scores f, the weights a softmax over the cosines with the basis vectors,
# divided by a temperature τ. As printed in the paper, Eq. (3) has no τ, which is τ = 1; the released code uses another.

# %%
from rali_lab.rali.basis import TAU, softmax_score, softmax_weights

z, mu, f = (
    np.array([[3.0, 1.0]]),
    np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.5]]),
    np.array([4.5, 3.0, 1.2]),
)
cosines = (z @ mu.T)[0] / (np.linalg.norm(z) * np.linalg.norm(mu, axis=1))
lines = []
for tau in (1.0, TAU):
    weights = np.exp(cosines / tau) / np.exp(cosines / tau).sum()
    assert np.allclose(weights, softmax_weights(z, mu, tau=tau)[0]) and np.isclose(
        weights @ f, softmax_score(z, mu, f, tau=tau)[0]
    )
    lines.append(
        {"tau": tau, **{f"weight {i + 1}": w for i, w in enumerate(weights)}, "score": weights @ f}
    )
print("cosines", cosines.round(2), "basis scores", f)
pd.DataFrame(lines).round(3)

# %% [markdown]
# With three basis vectors a temperature of 1 only softens. With many, a perfect match is one voice in a crowd. We score the
# validation images at many temperatures, with the basis as k-means made it, so that no temperature was trained for.
#
# **Before you run:** what will all scores be near to when τ is large? And will the *order* of the images be lost too?

# %%
from matplotlib import colormaps

from rali_lab.evaluate import plcc

viridis = colormaps["viridis"]  # dark: bad, bright: good, as above
z_held, mos_val = (
    scorer.compressor_.transform(embed_images(scorer.visual_, [p.pixels() for p in val])),
    mos_of(val),
)
taus = np.unique(np.append(np.geomspace(0.01, 3, 25), [TAU, 1.0]))
scores = np.stack([softmax_score(z_held, raw_vectors, raw_scores, tau=t) for t in taus])
sweep = pd.DataFrame(
    {"tau": taus, "spread": scores.std(axis=1), "plcc": [plcc(s, mos_val) for s in scores]}
)
fig = Figure(figsize=(9.6, 3.6), layout="constrained")
left, right = fig.subplots(1, 2)
for i in np.argsort(mos_val)[:: max(1, len(mos_val) // 30)]:
    left.plot(taus, scores[:, i], color=viridis((mos_val[i] - 1) / 4), lw=1, alpha=0.8)
left.set(
    xscale="log",
    ylim=(1, 5),
    xlabel="temperature τ (log scale)",
    ylabel="score (1-5)",
    title="scores of validation images",
)
right.plot(
    taus,
    sweep["spread"] / mos_val.std(),
    "-",
    color="#d55e00",
    label="spread of scores / of pseudo-MOS",
)
right.plot(taus, sweep["plcc"], "--", color="#0173b2", label="PLCC with pseudo-MOS")
right.axhline(1, color="#6b7280", lw=1)
right.set(
    xscale="log",
    xlabel="temperature τ (log scale)",
    ylabel="share, and correlation",
    title="size and order are two things",
)
right.set_ylim(min(0, sweep["plcc"].min()), 1.25 * max(1, (sweep["spread"] / mos_val.std()).max()))
right.legend(loc="upper right")
for ax in (left, right):
    for t in (TAU, 1.0):
        ax.axvline(t, color="#22272e", ls=":", lw=1.2)
caption(
    fig,
    f"n = {len(val)} validation images, K = {K} basis vectors before fine-tuning; dotted: τ of the released code, and τ = 1",
)
nb.figure(fig, "06_temperature", sweep.assign(relative_spread=sweep["spread"] / mos_val.std()))

# %% [markdown]
# The claim and its rule stand in `claims.toml`: were Eq. (3) usable as printed, the scores at τ = 1 would keep at least the given share of
# their spread. The interval comes from drawing the validation images anew.

# %%
at = {t: softmax_score(z_held, raw_vectors, raw_scores, tau=t) for t in (1.0, TAU)}
ratio = at[1.0].std() / at[TAU].std()
rng = np.random.default_rng(seed)
draws = rng.integers(0, len(val), (sizes.n_boot, len(val)))
low, high = np.percentile(at[1.0][draws].std(axis=1) / at[TAU][draws].std(axis=1), [2.5, 97.5])
nb.ledger.record(
    "rali.temperature",
    ratio,
    low,
    high,
    len(val),
    1,
    detail=f"spread {at[1.0].std():.4f} at tau = 1, {at[TAU].std():.4f} at tau = {TAU}; images resampled, basis before fine-tuning",
)
trained = {}
for tau in (1.0, TAU):
    other = RaliScorer(**{**scorer.get_params(), "tau": tau})
    other.fit(
        embed_images(scorer.visual_, [p.pixels() for p in train]),
        mos_train,
        validation=(embed_images(scorer.visual_, [p.pixels() for p in val]), mos_val),
    )
    out = other.predict_embeddings(embed_images(scorer.visual_, [p.pixels() for p in val]))
    trained[f"tau = {tau:g}"] = {
        "spread over that of pseudo-MOS": out.std() / mos_val.std(),
        "PLCC": plcc(out, mos_val),
        "mean squared error": np.mean((out - mos_val) ** 2),
    }
print("\nand if the basis is fine-tuned at that temperature:")
pd.DataFrame(trained).T.round(3)

# %% [markdown]
# **What you should see**: at a large temperature every image gets nearly the mean of all basis scores. A correlation does not notice,
# because it forgives any scale; a reader of the scores would. That is why the formula needs its temperature, and why a correlation alone
# is no proof of a usable scorer.
#
# ## 7 · Fine-tuning the basis
#
# Last, basis vectors and basis scores are moved together to lower the squared error on the training scores. The epoch with the smallest
# error on the validation images is kept.

# %%
tuning = pd.read_csv(fitted.path / "basis.csv")
fig = Figure(figsize=(5.2, 3.2), layout="constrained")
ax = fig.subplots()
ax.plot(tuning["epoch"], tuning["train_mse"], color="#8c8c8c", marker="o", ms=3.5, label="training")
ax.plot(
    tuning["epoch"],
    tuning["validation_mse"],
    color="#d55e00",
    marker="^",
    ms=4,
    label="validation (unseen scenes)",
)
best = int(tuning["validation_mse"].idxmin())
ax.axvline(tuning["epoch"][best], color="#22272e", ls=":", lw=1.3, label="kept")
ax.set(
    xlabel="epoch of fine-tuning",
    ylabel="mean squared error (points², lower is better)",
    ylim=(0, None),
)
ax.legend()
nb.checks.expect(
    "validation error of the kept epoch over that of the start",
    tuning["validation_mse"][best] / tuning["validation_mse"][0],
    high=1.0,
    if_missed="fine-tuning kept a worse epoch than the first; early stopping in RaliScorer is broken",
)
at_val = plcc(scorer.predict([p.pixels() for p in val]), mos_val)
nb.checks.observe(
    "PLCC of RALI on validation images, scenes never trained on",
    at_val,
    low=0.55,
    if_missed="alignment or basis failed; compare the margin of section 3 with the loss curves",
)
nb.figure(fig, "06_fine_tuning", tuning)

# %% [markdown]
# ## 8 · Save, load, refuse
#
# A scorer is two files, tensors and a readable configuration with their hash. What is loaded must give the very same scores, to the last
# bit, and a file that was changed must be refused.

# %%
import tempfile
from pathlib import Path

some = [p.pixels() for p in val[:8]]
with tempfile.TemporaryDirectory() as folder:
    saved = scorer.save(Path(folder) / "rali")
    again = RaliScorer.load(saved)
    equal = np.array_equal(scorer.predict(some), again.predict(some))
    size = sum(f.stat().st_size for f in saved.iterdir())
    tensors = bytearray((saved / "model.safetensors").read_bytes())
    tensors[-1] ^= 1  # one bit
    (saved / "model.safetensors").write_bytes(tensors)
    try:
        RaliScorer.load(saved)
        refused = False
    except ValueError as error:
        refused = True
        print(str(error).replace(folder, "...")[:110], "...")
print(f"{scorer.parameters():,} numbers, {size / 2**20:.1f} MiB on disk")
nb.checks.expect(
    "saved and loaded: the same scores to the last bit (1 = yes)",
    equal,
    low=1,
    if_missed="something that predict needs is not saved; look at rali/checkpoint.py",
)
nb.checks.expect(
    "a changed file is refused (1 = yes)",
    refused,
    low=1,
    if_missed="the hash is not checked; a damaged model would score in silence",
)
# %% [markdown]
# ## 9 · Why this score?
#
# A score is a weighted mean, so it can be read: which basis vectors weigh most, and which training images lie nearest to them?
#
# And in words. RALI gives up the reasoning, but its images live in the space of the texts, so the nearest of the teacher's rationales can
# be quoted: no language model runs, nothing is written anew.

# %%
asked = sorted(val, key=lambda p: p.mos)[len(val) // 4]
explanation = scorer.explain(asked.pixels(), k=4)
why = explanation.basis
print(
    f"nearest words: {explanation.words['text'].iloc[0]!r} (similarity {explanation.words['similarity'].iloc[0]:.2f})"
)
unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
closest = (unit(scorer.vectors_[why["basis"]]) @ unit(compressed).T).argmax(axis=1)
neighbours = [train[i] for i in closest]
score = float(scorer.predict([asked.pixels()])[0])
titles = [f"the image: RALI {score:.2f},\npseudo-MOS {asked.mos:.2f}"] + [
    f"weight {w:.2f}, score {s:.2f}\n" + textwrap.fill(texts.get(p.id, ["(no rationale)"])[0], 34)
    for w, s, p in zip(why["weight"], why["score"], neighbours)
]
fig = plot_images_grid(
    [asked.pixels(), *(p.pixels() for p in neighbours)],
    titles,
    columns=5,
    note="left: a validation image; then the training images nearest to its heaviest basis vectors",
)
fig.set_size_inches(12.5, 3.1)
print(f"the {len(why)} heaviest of {K} basis vectors carry {why['weight'].sum():.0%} of the weight")
nb.figure(fig, "06_explain", why.assign(image=[p.id for p in neighbours]))

# %% [markdown]
# Are the quoted words true? For every test image of every domain: does the nearest rationale name one of the degradations that were
# really done, and all of them? Chance is a rationale drawn at random from the same ones.

# %%
from rali_lab.reasoner.prompts import findings, named

test = select(experiments.images(sizes), split="test")
truth = [{f.word for f in findings(p.distortions)} for p in test]


def names(quoted):
    """Share of images for which a quoted text names one of the true degradations, and exactly all of them."""
    said = [{f.word for f in named(text)} for text in quoted]
    one = [bool(s & t) or s == t for s, t in zip(said, truth)]
    return np.array(one), np.array([s == t for s, t in zip(said, truth)])


quoted = scorer.nearest_texts([p.pixels() for p in test])
by_chance = np.random.default_rng(seed).choice(scorer.texts_, len(test)).tolist()
table = pd.DataFrame(
    {
        "domain": [p.domain for p in test],
        **{
            f"{who}: {what}": hit
            for who, q in (("nearest", quoted), ("chance", by_chance))
            for what, hit in zip(("one right", "all right"), names(q))
        },
    }
)
words_right = table.groupby("domain", sort=False).mean()
nb.checks.observe(
    "the nearest words name a true degradation more often than chance does (share gained)",
    float(table["nearest: one right"].mean() - table["chance: one right"].mean()),
    low=0.2,
    if_missed="texts and images do not share a space: look at the alignment of section 3",
)
words_right.round(2)

# %% [markdown]
# ## If it went differently
#
# | symptom | cause | fix |
# |---|---|---|
# | `FileNotFoundError: ... visual.safetensors is missing` | the base model is not in the checkout | check out the file, or `make base-model` |
# | few usable rationales | the teacher lost the form of the answer | look at the format share in notebook 02; stop earlier or raise `beta` |
# | training loss falls, validation margin does not | the head learns scenes by heart | more `jitter`, fewer epochs, more sources |
# | `n_basis=... must be ...` | more bins than images can fill | lower `n_bins` and `n_basis` in the profile |
# | all scores nearly equal | temperature too high for so many basis vectors | section 6: lower `tau` |
# | validation error of fine-tuning rises from the start | basis too rich for the data | nothing to do: the start is kept |
#
# ## Exercises
#
# **1 (easy, 5 minutes).** With K basis vectors at right angles and an image exactly on one of them, which temperature gives that one
# half of the weight? Solve for τ and call `check_1(your_tau)` for the K of this notebook.
#
# <details><summary>Hint</summary>The weights are proportional to exp(1/τ), once, and exp(0), K − 1 times.</details>
# <details><summary>Solution</summary>
#
# ```python
# check_1(1 / np.log(K - 1))
# ```
# </details>
#
# **2 (medium, 15 minutes).** Is the shuffled null of section 3 really a null? Deal the texts wrongly many times and call
# `check_2(your_list_of_margins)` with at least a hundred margins.
#
# <details><summary>Hint</summary>Permute the rows of `own` and call `margin(z_val["after"], permuted)`.</details>
# <details><summary>Solution</summary>
#
# ```python
# rng = np.random.default_rng(1)
# check_2([margin(z_val["after"], own[rng.permutation(len(own))]) for _ in range(200)])
# ```
# </details>
#
# **3 (harder, 20 minutes).** Nearly one cluster a bin: does k-means matter at all? Fit `RaliScorer` on the embeddings with as many basis
# vectors but few bins, so that k-means has work to do, and call `check_3(few_bins_scorer)`.
#
# <details><summary>Hint</summary>`RaliScorer(**{**scorer.get_params(), "n_bins": 10})`, fitted on embeddings as in section 6.</details>
# <details><summary>Solution</summary>
#
# ```python
# few = RaliScorer(**{**scorer.get_params(), "n_bins": 10})
# few.fit(embed_images(scorer.visual_, [p.pixels() for p in train]), mos_train,
#         validation=(embed_images(scorer.visual_, [p.pixels() for p in val]), mos_val))
# check_3(few)
# ```
# </details>


# %%
def check_1(tau: float) -> str:
    weight = softmax_weights(np.eye(K)[:1], np.eye(K), tau=tau)[0, 0]
    return (
        f"{'right' if abs(weight - 0.5) < 0.01 else 'not yet'}: the match has weight {weight:.3f}"
    )


def check_2(margins) -> str:
    real, m = margin(z_val["after"], own), np.asarray(margins)
    fair = len(m) >= 100 and abs(m.mean()) < 3 * m.std() / np.sqrt(len(m)) + 0.02
    return f"{'right' if fair else 'not yet'}: null {m.mean():.3f} ± {m.std():.3f}, real {real:.3f}, at or above it: {(m >= real).mean():.1%}"


def check_3(few) -> str:
    out = few.predict_embeddings(embed_images(scorer.visual_, [p.pixels() for p in val]))
    done = few.n_bins < scorer.n_bins and len(few.vectors_) == K
    return f"{'right' if done else 'not yet'}: PLCC {plcc(out, mos_val):.3f} with {few.n_bins} bins, {at_val:.3f} with {N}"


# %% [markdown]
# ## What to take away
#
# - Contrast needs nothing but pairs; what it learns is whatever the texts agree on.
# - A repeated text does no harm to a contrastive loss; the same thing said in other words does.
# - With as many bins as basis vectors, binned k-means is a table of mean embeddings by score.
# - A softmax over many vectors needs a temperature, and a correlation will not tell you when it is missing.
# - A scorer that is a weighted mean can always be asked what it weighed.
#
# ## Reuse this in your own study
#
# `RaliScorer` takes any images with scores, or embeddings of your own encoder:

# %%
from rali_lab.rali.scorer import RaliScorer

z, y = z_train["after"], mos_of(ranked)  # your (n, d) embeddings and (n,) scores in 1..5
mine = RaliScorer(n_components=16, n_bins=20, n_basis=40, tau=0.07).fit(
    z[::2], y[::2], validation=(z[1::2], y[1::2])
)
print(mine.predict_embeddings(z[:3]), "for", y[:3])
whole = RaliScorer(n_components=16, n_bins=20, n_basis=40).fit(
    [p.pixels() for p in val], mos_of(val), model=scorer.visual_, ids=[p.id for p in val]
)
print(
    whole.predict([train[0].pixels()]),
    f"for {train[0].mos:.2f}; on images, with a tower; it can be saved",
)

# %% [markdown]
# ## References
#
# - The paper: *Reasoning as Representation*, arXiv 2510.11369; released code for the temperature and the standardised PCA.
# - Radford et al., *Learning transferable visual models from natural language supervision* (CLIP), 2021; loss and towers through `open_clip`.
# - Reimers & Gurevych, *Sentence-BERT*, 2019; the frozen text tower is all-MiniLM-L6-v2.
# - Pearson (1901) for principal components, Lloyd (1982) for k-means.
#
# Next: [07_evaluate](07_evaluate.ipynb) compares RALI with the teacher on all domains, and weighs both.
