# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Look at the data: what is an opinion score, and what can go wrong with it?
#
# **The question.** Everything in this repository is judged by one number per image, the mean opinion score. What is that number
# made of, why does the same image get another one in another data set, and which habits of evaluation make a bad scorer look good?
#
# **What you'll do**
# - turn a handful of votes into a mean opinion score with its interval, by hand and with the library;
# - look at five domains, and at every distortion of the library in its five levels;
# - see how an annotation bias moves the scores of a whole data set;
# - catch two ways of fooling yourself: splitting versions of one scene, and fitting a curve to the test labels.
#
# **What you'll learn**: MOS, standard error, annotation bias, splits by source, shortcuts, and why "PLCC" is three numbers.
#
# **What you need**: basic Python and NumPy. No model is trained here.
#
# | in | out |
# |---|---|
# | bundled photographs (made into rated images on the first run, reused later) | figures `01_*`, checks |
#
# The measured time of the last published run stands in the README's table of notebooks.

# %% tags=["parameters"]
profile = "tiny"
seed = 0
out_dir = "runs/tiny"

# %%
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure

from rali_lab import experiments
from rali_lab.reproduce.notebook import open_notebook
from rali_lab.profiles import get_profile

nb = open_notebook("01", profile=profile, out_dir=out_dir)
sizes = get_profile(profile)
made = experiments.make_images(sizes)
images = experiments.images(sizes)
print(f"{made}; {len(images)} images")

# %% [markdown]
# ## 1 · A mean opinion score, by hand
#
# Five people look at three images and say a number from 1 (bad) to 5 (excellent). The *mean opinion score* (MOS) of an image is
# the mean of its votes. The standard deviation says how much people disagree. The standard error, deviation over the square root of
# the number of raters, says how far the mean itself may be off: with it comes the interval, here Student's t for five votes. (It knows
# nothing of the ends of the scale and may reach past them.)
#
# **Before you run:** people agree on very good and very bad images. Which of the three means will have the widest interval?

# %%
from scipy.stats import t as student

votes = pd.DataFrame(
    [[5, 4, 5, 5, 5], [4, 2, 5, 3, 3], [1, 1, 2, 1, 1]],
    index=["sharp", "slightly blurred", "ruined"],
    columns=[f"rater {c}" for c in "ABCDE"],
)
raters = votes.shape[1]
summary = pd.DataFrame({"MOS": votes.mean(axis=1), "std": votes.std(axis=1, ddof=1)})
summary["standard error"] = summary["std"] / np.sqrt(raters)
half = student.ppf(0.975, raters - 1) * summary["standard error"]
summary["95 % from"], summary["to"] = summary["MOS"] - half, summary["MOS"] + half
votes.join(summary.round(2))

# %% [markdown]
# No human has rated the images of this repository. Their score is a **pseudo-MOS**: a full-reference quality (how much of the
# pristine original is left, two published measures from `piq`) is shown to a simulated panel. Every rater has a personal offset
# and a fresh noise for each image, and votes are cut at 1 and 5. Here is a panel of five, written out; the library's panel,
# given the same random numbers, must say the same.

# %%
from rali_lab.data.labels import RaterPanel

panel, quality = RaterPanel(raters=5), np.array([4.6, 3.2, 1.3])
rng = np.random.default_rng(7)
opinion = panel.opinion(quality)  # what this panel would say on average, without noise
offsets = rng.normal(0, panel.bias, panel.raters)  # one per rater: some are strict, some are kind
noise = rng.normal(0, panel.noise, (len(quality), panel.raters))  # one per vote
cast = np.clip(opinion[:, None] + offsets + noise, 1, 5)
mos_by_hand, std_by_hand = cast.mean(axis=1), cast.std(axis=1, ddof=1)

mos_of_library, std_of_library = panel.rate(quality, np.random.default_rng(7))
assert np.allclose(mos_by_hand, mos_of_library) and np.allclose(std_by_hand, std_of_library)
pd.DataFrame({"quality": quality, "pseudo-MOS": mos_by_hand, "std": std_by_hand}).join(
    pd.DataFrame(cast, columns=[f"vote {i + 1}" for i in range(panel.raters)])
).round(2)

# %% [markdown]
# ## 2 · Five domains
#
# A *domain* is what the field calls a data set: its own images, its own distortions, its own raters.
#
# - **photo**: photographs, mostly one distortion. This is the only domain that reinforcement learning sees.
# - **authentic**: other photographs, up to three distortions stacked in the order in which a camera would make them.
# - **procedural**: generated patterns (dead leaves, fractal noise, mosaics, plaids) with the distortions of *photo*.
# - **novel**: distortions that *photo* never holds.
# - **generated**: bent lines and repeated patches, the marks of an image generator.

# %%
from rali_lab.data.domains import DOMAINS
from rali_lab.data.records import mos_of, select
from rali_lab.data.validation import validate

report = validate(images)
print(report)
nb.checks.expect(
    "problems found in the images (divided sources, doubles, bad scores)",
    len(report.problems),
    high=0,
    if_missed="a test image may have been trained on; the report above names it",
)
pd.DataFrame(
    {
        name: {
            "role": d.role,
            "scenes": len({p.source for p in select(images, domain=name)}),
            "distortions": ", ".join(d.types),
        }
        for name, d in DOMAINS.items()
    }
).T.style.set_properties(**{"text-align": "left"})

# %%
import textwrap

from rali_lab.plotting import look, plot_images_grid
from rali_lab.reasoner.prompts import findings


def what_was_done(image) -> str:
    found = [f"{f.word}\N{NO-BREAK SPACE}{f.level}" for f in findings(image.distortions)] or [
        "nothing"
    ]
    return textwrap.fill(", ".join(found), 22)


shown = []
for name in DOMAINS:
    ranked = sorted(select(images, domain=name, split="test"), key=lambda p: -p.mos)
    shown += [ranked[int(i)] for i in np.linspace(2, len(ranked) - 3, 5)]
fig = plot_images_grid(
    [p.pixels() for p in shown],
    [f"{look(p.domain).label}, {p.mos:.1f}\n{what_was_done(p)}" for p in shown],
    note="test images, the best of each domain on the left; number in the title: pseudo-MOS (1-5); below: distortion and level",
)
table = pd.DataFrame(
    {
        "image": [p.id for p in shown],
        "done": [what_was_done(p) for p in shown],
        "mos": [p.mos for p in shown],
    }
)
nb.figure(fig, "01_domains", table)

# %% [markdown]
# ## 3 · The distortion library
#
# Each distortion has five levels, and the strengths were searched so that a level costs about the same full-reference quality
# whatever the distortion is. First those of the RL domain, then those that it never holds.

# %%
from rali_lab.data.content import photographs
from rali_lab.data.distortions import TYPES, apply
from rali_lab.data.records import Distortion
from rali_lab.plotting import plot_distortion_sheet

pristine, window = photographs("motorcycle_left", count=3, seed=seed)[2], np.s_[24:104, 24:104]
sheet = {
    name: [
        apply(pristine, (Distortion(name, level),), np.random.default_rng(0))[window]
        for level in range(1, 6)
    ]
    for name in TYPES
}
trained = DOMAINS["photo"].types
kept = {
    "01_distortions_trained": [k for k in TYPES if k in trained],
    "01_distortions_untrained": [k for k in TYPES if k not in trained],
}
for figure, names in kept.items():
    note = f"the middle of one photograph; distortions {'of the RL domain' if names[0] in trained else 'that RL never sees'}"
    fig = plot_distortion_sheet({k: sheet[k] for k in names}, pristine=pristine[window], note=note)
    display(nb.figure(fig, figure))

# %% [markdown]
# Does a level mean the same for every distortion? We measure the full-reference quality of every distortion at every level, on
# photographs of the test split.
#
# **Before you run:** a colour cast changes every pixel but keeps every edge. Will its level 5 be as low as that of blur?

# %%
import seaborn as sns

from rali_lab.data.domains import TEST
from rali_lab.data.labels import full_reference_quality
from rali_lab.plotting.style import caption, panels

clean = np.stack([x for s in TEST for x in photographs(s, count=2, seed=seed + 1)])
rows = []
for name in TYPES:
    for level in range(1, 6):
        rng = np.random.default_rng(level)
        worse = np.stack([apply(x, (Distortion(name, level),), rng) for x in clean])
        q = full_reference_quality(clean, worse)
        rows.append(
            {
                "distortion": name,
                "family": TYPES[name].family,
                "level": level,
                "quality": q.mean(),
                "half": 1.96 * q.std(ddof=1) / np.sqrt(len(q)),
            }
        )
levels = pd.DataFrame(rows)
groups = {
    "noise": ["noise"],
    "blur": ["blur"],
    "compression": ["compression"],
    "light": ["darken", "brighten", "contrast"],
    "colour and structure": ["colour", "structure"],
}
fig, axes = panels(len(groups), size=(3.3, 2.7), sharey=True)
marks = list(zip("osD^v", sns.color_palette("colorblind", 5)))
for ax, (title, families) in zip(axes, groups.items()):
    for (marker, color), (name, line) in zip(
        marks, levels[levels["family"].isin(families)].groupby("distortion", sort=False)
    ):
        ax.errorbar(
            line["level"],
            line["quality"],
            line["half"],
            marker=marker,
            color=color,
            ms=5,
            lw=1.5,
            capsize=2,
            label=name.replace("_", " "),
        )
    ax.set(title=title, xticks=range(1, 6), ylim=(1, 5), xlabel="level")
    ax.tick_params(labelleft=True)
    ax.legend(fontsize=7.5)
fig.supylabel("full-reference quality (1-5, higher is better)", fontsize=10)
caption(fig, f"mean over n = {len(clean)} test photographs, bars: 95 % intervals")
nb.figure(fig, "01_levels", levels)

# %%
by_level = levels.pivot(index="distortion", columns="level", values="quality")
falls = float((by_level.diff(axis=1).iloc[:, 1:] < 0).mean().mean())
nb.checks.expect(
    "share of the steps from a level to the next that lower the quality",
    falls,
    low=0.95,
    if_missed="a distortion's strengths are out of order; run scripts.calibrate_distortions again",
)
nb.checks.expect(
    "mean quality at level 3",
    by_level[3].mean(),
    low=2.3,
    high=3.9,
    if_missed="levels no longer spread over the scale, so the words of severity mean something else",
)
by_level.assign(spread=by_level[1] - by_level[5]).sort_values("spread").round(2).iloc[
    [0, 1, 2, -3, -2, -1]
]

# %% [markdown]
# **What you should see**: every line falls. Distortions that cannot get very bad, because they leave the edges in place, are spread
# over what they can reach; their level 5 is a milder thing. That is a limit of the full-reference measure, not of the eye.
#
# ## 4 · Annotation bias
#
# Published data sets do not share a scale: instructions, rater populations and rating tools differ. Each of our domains has a panel
# that sees quality through its own monotone map. So an image of one and the same quality gets different scores.

# %%
from rali_lab.plotting import plot_mos_histograms

grid = np.linspace(1, 5, 41)
curves = pd.DataFrame(
    {"quality": grid, **{name: d.panel.opinion(grid) for name, d in DOMAINS.items()}}
)
fig = Figure(figsize=(5.4, 4.2), layout="constrained")
ax = fig.subplots()
for name in DOMAINS:
    ax.plot(
        grid,
        curves[name],
        color=look(name).color,
        marker=look(name).marker,
        markevery=8,
        label=look(name).label,
    )
ax.plot([1, 5], [1, 5], color="white", ls=(0, (3, 4)), lw=1.2, zorder=5)
ax.set(
    xlabel="full-reference quality (1-5)",
    ylabel="what the panel says on average (1-5)",
    xlim=(1, 5),
    ylim=(1, 5),
)
ax.legend()
caption(fig, "dashed diagonal: no bias")
nb.figure(fig, "01_annotation_bias", curves)

# %%
rated = pd.DataFrame(
    {
        "image": [p.id for p in images],
        "domain": [p.domain for p in images],
        "source": [p.source for p in images],
        "quality": [p.reference for p in images],
        "mos": mos_of(images),
    }
)
at_middle = {name: float(d.panel.opinion([3.0])[0]) for name, d in DOMAINS.items()}
print("an image of quality 3 is rated:", {k: round(v, 2) for k, v in at_middle.items()})
nb.checks.expect(
    "points between the kindest and the strictest panel at mid quality",
    np.ptp(list(at_middle.values())),
    low=0.3,
    if_missed="the panels are alike; mixing domains would cost nothing and notebook 09 would have no subject",
)
nb.figure(
    plot_mos_histograms(rated[["domain", "mos"]], note="all splits"), "01_mos_histograms", rated
)

# %% [markdown]
# A monotone map keeps the order within a domain, so a correlation *inside* one domain hardly notices it. Trouble begins when domains
# are mixed. Take pairs of images whose quality differs only a little, and count how often the scores put them in the wrong order:
# once for pairs inside a domain (then only the raters' noise is to blame), once across domains.
#
# **Before you run:** which share is larger, and by how much?

# %%
i, j = np.triu_indices(len(rated), k=1)
gap = rated["quality"].to_numpy()[i] - rated["quality"].to_numpy()[j]
close = (np.abs(gap) > 0.1) & (np.abs(gap) < 0.4)
wrong = (gap * (rated["mos"].to_numpy()[i] - rated["mos"].to_numpy()[j]) < 0)[close]
across = (rated["domain"].to_numpy()[i] != rated["domain"].to_numpy()[j])[close]
print(
    f"close pairs in the wrong order: {wrong[~across].mean():.1%} inside a domain, {wrong[across].mean():.1%} across domains"
)
nb.checks.expect(
    "wrong order across domains over wrong order inside",
    wrong[across].mean() / wrong[~across].mean(),
    low=1.3,
    if_missed="annotation bias is too small to matter beside the raters' noise",
)

from rali_lab.evaluate import correlate

ceiling = {
    name: correlate(
        part["quality"].to_numpy(),
        part["mos"].to_numpy(),
        groups=part["source"].to_numpy(),
        n_boot=sizes.n_boot,
    )
    for name, part in rated.groupby("domain", sort=False)
}
print("\nthe best any scorer could do, quality itself against pseudo-MOS:")
for name, found in ceiling.items():
    print(f"  {name:11s}{found}")
nb.checks.expect(
    "the ceiling set by the raters (lowest PLCC of a domain)",
    min(c.value for c in ceiling.values()),
    low=0.95,
    if_missed="the panel is so noisy that no method could be told from another",
)
# %% [markdown]
# ## 5 · Why splits go by source
#
# Many images are versions of few scenes. Divide *images* at random, and nearly every test image has sisters in training; a
# model may then recognise the scene and remember its score. Divide *scenes*, and it cannot. We predict every image of the domain
# *photo* once under each protocol (five folds), with two simple methods on the features of the frozen tower: the nearest neighbour,
# which can do nothing but recognise, and a ridge regression.
#
# **Before you run:** how often, would you say, is the nearest neighbour of an image an image of the same scene?

# %%
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from rali_lab.rali.baselines import ridge_scores, visual_features

photo = select(images, domain="photo")
X, mos = visual_features([p.pixels() for p in photo]), mos_of(photo)
source = np.array([p.source for p in photo])
Z = StandardScaler().fit_transform(X)
nearest = NearestNeighbors(n_neighbors=2).fit(Z).kneighbors(Z, return_distance=False)[:, 1]
same_scene, by_chance = (
    float((source[nearest] == source).mean()),
    float(np.mean([(source == s).mean() for s in source])),
)
print(
    f"features {X.shape}; nearest neighbour from the same scene: {same_scene:.0%} (by chance {by_chance:.0%})"
)

# %%
from sklearn.model_selection import GroupKFold, KFold
from sklearn.neighbors import KNeighborsRegressor

from rali_lab.evaluate import compare


def nearest_scores(X_train, y, groups, X_test):
    scale = StandardScaler().fit(X_train)
    return KNeighborsRegressor(1).fit(scale.transform(X_train), y).predict(scale.transform(X_test))


protocols = {
    "images": KFold(5, shuffle=True, random_state=seed),
    "scenes": GroupKFold(5, shuffle=True, random_state=seed),
}
methods = {"nearest neighbour": nearest_scores, "ridge": ridge_scores}
predicted = {}
for method, scores_of in methods.items():
    for protocol, folds in protocols.items():
        out = np.zeros(len(mos))
        parts = folds.split(X, mos, source) if protocol == "scenes" else folds.split(X)
        for train, test in parts:
            out[test] = scores_of(X[train], mos[train], source[train], X[test])
        predicted[method, protocol] = out
leak = {
    m: compare(
        predicted[m, "images"], predicted[m, "scenes"], mos, groups=source, n_boot=sizes.n_boot
    )
    for m in methods
}
for method, d in leak.items():
    print(f"{method:18s} what a split by images adds: {d}")
nb.checks.expect(
    "flattery of the nearest neighbour by a split of images (PLCC)",
    leak["nearest neighbour"].value,
    low=0.03,
    if_missed="scenes no longer repeat, or the features cannot tell them apart; then a random split would be harmless",
)
# %%
from rali_lab.evaluate import plcc

rows = []
for (method, protocol), score in predicted.items():
    found = correlate(score, mos, groups=source, n_boot=sizes.n_boot)
    rows.append(
        {
            "method": method,
            "split by": protocol,
            "plcc": found.value,
            "ci_low": found.ci_low,
            "ci_high": found.ci_high,
        }
    )
splits = pd.DataFrame(rows)
fig = Figure(figsize=(6.4, 2.5), layout="constrained")
ax = fig.subplots()
for protocol, marker, color, shift in (
    ("images", "o", "#8c8c8c", -0.12),
    ("scenes", "D", "#029e73", 0.12),
):
    part = splits[splits["split by"] == protocol]
    y = np.arange(len(part)) + shift
    ax.hlines(y, part["ci_low"], part["ci_high"], color=color, lw=2, alpha=0.6)
    ax.plot(part["plcc"], y, marker, color=color, ms=7, label=f"split by {protocol}")
ax.set(
    yticks=range(len(methods)),
    yticklabels=list(methods),
    ylim=(len(methods) - 0.5, -0.5),
    xlim=(0.4, 1),
    xlabel="PLCC (higher is better)",
)
ax.grid(axis="y", visible=False)
fig.legend(loc="outside upper center", ncols=2)
caption(
    fig,
    f"the same n = {len(mos)} images, each predicted once; bars: 95 % intervals, scenes resampled",
)
nb.figure(fig, "01_splits", splits)

# %% [markdown]
# **What you should see**: the same images, the same features, the same methods, and a higher number when scenes are divided over both
# sides. The gain is memory, not judgement; the method that can only recognise gains most. From here on every split and every
# interval in this repository goes by source.
#
# ## 6 · Shortcuts
#
# A score is only worth learning if nothing trivial predicts it. Four shortcuts: mean brightness, contrast, the size of the image as
# a PNG file, and the running number in its name.
#
# **Before you run:** one of the four cannot be innocent, since blur makes a file smaller and noise makes it larger. Which of the two
# wins?

# %%
import io

from PIL import Image


def png_bytes(image) -> int:
    buffer = io.BytesIO()
    Image.fromarray(image.pixels()).save(buffer, "PNG")
    return buffer.tell()


shortcuts = {
    "brightness": lambda p: p.pixels().mean(),
    "contrast": lambda p: p.pixels().std(),
    "size as PNG": png_bytes,
    "number in the name": lambda p: int(p.id.split("-")[1]),
}
rows = []
for name in DOMAINS:
    own = select(images, domain=name)
    for shortcut, value in shortcuts.items():
        found = correlate(
            [value(p) for p in own],
            mos_of(own),
            kind="srcc",
            groups=[p.source for p in own],
            n_boot=sizes.n_boot,
        )
        rows.append(
            {
                "shortcut": shortcut,
                "domain": name,
                "srcc": found.value,
                "ci_low": found.ci_low,
                "ci_high": found.ci_high,
                "n": found.n,
            }
        )
tricks = pd.DataFrame(rows)
fig = Figure(figsize=(7, 3.6), layout="constrained")
ax = fig.subplots()
for k, name in enumerate(DOMAINS):
    part = tricks[tricks["domain"] == name]
    y = np.arange(len(part)) + (k - 2) * 0.15
    ax.hlines(y, part["ci_low"], part["ci_high"], color=look(name).color, lw=2, alpha=0.5)
    ax.plot(
        part["srcc"], y, look(name).marker, color=look(name).color, ms=5.5, label=look(name).label
    )
ax.axvline(0, color="#6b7280", lw=1)
ax.set(
    yticks=range(len(shortcuts)),
    yticklabels=list(shortcuts),
    ylim=(len(shortcuts) - 0.5, -0.5),
    xlim=(-1, 1),
    xlabel="SRCC with the pseudo-MOS (0: tells nothing)",
)
ax.grid(axis="y", visible=False)
fig.legend(loc="outside upper center", ncols=5)
caption(fig, "bars: 95 % intervals, scenes resampled; all images of a domain")
nb.figure(fig, "01_shortcuts", tricks)

# %%
worst = tricks.loc[tricks["srcc"].abs().idxmax()]
print(
    f"strongest: {worst['shortcut']} in {worst['domain']}, SRCC {worst['srcc']:.2f}, which is {worst['srcc'] ** 2:.0%} of the rank variance"
)
own, mean = (
    tricks[tricks["domain"] == "photo"].set_index("shortcut")["srcc"],
    tricks.groupby("shortcut")["srcc"].mean(),
)
nb.checks.expect(
    "the strongest shortcut, mean over domains (|SRCC|)",
    mean.abs().max(),
    high=0.45,
    if_missed="a scorer could rate images without looking at quality; balance the distortions",
)
nb.checks.expect(
    "brightness in the RL domain (|SRCC|)",
    abs(own["brightness"]),
    high=0.3,
    if_missed="darkening and over-exposure no longer balance; the teacher would learn exposure, not quality",
)
nb.checks.expect(
    "the running number in the RL domain (|SRCC|)",
    abs(own["number in the name"]),
    high=0.2,
    if_missed="the order of making leaks into the score; look at the random streams in data/domains.py",
)
# %% [markdown]
# ## 7 · Three numbers called PLCC
#
# Pearson's correlation asks for a straight line, Spearman's only for the right order. By hand, on five images:

# %%
from rali_lab.evaluate import plcc_fitted, srcc

a, b = np.array([1.2, 2.0, 2.9, 3.1, 4.8]), np.array([1.0, 2.5, 2.4, 3.5, 4.0])
pearson = ((a - a.mean()) * (b - b.mean())).sum() / np.sqrt(
    ((a - a.mean()) ** 2).sum() * ((b - b.mean()) ** 2).sum()
)
rank_a, rank_b = (np.argsort(np.argsort(x)) for x in (a, b))
spearman = 1 - 6 * ((rank_a - rank_b) ** 2).sum() / (
    len(a) * (len(a) ** 2 - 1)
)  # valid without ties
assert np.isclose(pearson, plcc(a, b)) and np.isclose(spearman, srcc(a, b))
print(
    f"PLCC {pearson:.3f}, SRCC {spearman:.3f}; after squaring the scores: PLCC {plcc(a**2, b):.3f}, SRCC {srcc(a**2, b):.3f}"
)

# %% [markdown]
# Some papers report the raw Pearson correlation; some first bend the scores with a logistic curve, some with an isotonic staircase,
# fitted *on the test labels*. Bending is meant to forgive a harmless change of scale. A staircase forgives more than that, because it
# has as many free steps as there are images. Cross-validated, so that no image is bent by its own label, it cannot.

# %%
from sklearn.isotonic import IsotonicRegression


def in_sample_isotonic(score, mos) -> float:
    """What some tables report; the library does not offer it."""
    return plcc(IsotonicRegression(out_of_bounds="clip").fit_transform(score, mos), mos)


kinds = {
    "raw": plcc,
    "logistic": plcc_fitted,
    "isotonic, cross-validated": lambda s, m: plcc_fitted(s, m, "isotonic_cv"),
    "isotonic, in sample": in_sample_isotonic,
}
honest = predicted["ridge", "scenes"]
few = np.random.default_rng(seed).choice(len(mos), 100, replace=False)
real = pd.DataFrame(
    {
        f"n = {len(r)}": {k: f(honest[r], mos[r]) for k, f in kinds.items()}
        for r in (few, np.arange(len(mos)))
    }
)
print("one and the same score (ridge, split by scenes), four protocols:")
real.round(3)

# %% [markdown]
# **Before you run:** now the score is pure noise. What would an honest protocol say? What will the staircase say with 25 images, and
# with 400?

# %%
import warnings

rng, rows, failed = np.random.default_rng(seed), [], 0
with warnings.catch_warnings(
    record=True
) as noted:  # kept and counted below: many fits to noise are not determined by the data
    warnings.simplefilter("always")
    for n in (25, 50, 100, 200, 400):
        for _ in range(30):
            labels, noise = rng.choice(mos, n), rng.normal(size=n)
            for kind, value_of in kinds.items():
                try:
                    rows.append({"n": n, "protocol": kind, "plcc": value_of(noise, labels)})
                except ValueError:  # a logistic that finds no curve in noise, or a fit that is flat: there is no correlation
                    failed += 1
nothing = pd.DataFrame(rows)
fig = Figure(figsize=(6.4, 3.6), layout="constrained")
ax = fig.subplots()
for (kind, part), marker, color in zip(
    nothing.groupby("protocol", sort=False), "osD^", ("#22272e", "#0173b2", "#029e73", "#d55e00")
):
    stats = (
        part.groupby("n")["plcc"]
        .agg(["mean", lambda x: x.quantile(0.1), lambda x: x.quantile(0.9)])
        .to_numpy()
        .T
    )
    ax.plot(sorted(part["n"].unique()), stats[0], marker + "-", color=color, label=kind)
    ax.fill_between(sorted(part["n"].unique()), stats[1], stats[2], color=color, alpha=0.12, lw=0)
ax.axhline(0, color="#6b7280", lw=1, ls="--")
ax.set(
    xscale="log",
    xticks=[25, 50, 100, 200, 400],
    xlabel="test images (log scale)",
    ylabel="PLCC of a random score (0 is honest)",
)
ax.set_xticklabels([25, 50, 100, 200, 400])
ax.minorticks_off()
ax.legend()
caption(fig, "30 draws a point; bands: the middle 80 % of the draws")
print(
    f"{failed} of {failed + len(rows)} fits found no curve and are left out; warnings: {pd.Series([w.category.__name__ for w in noted]).value_counts().to_dict()}"
)
nb.figure(fig, "01_protocols", nothing)

# %%
mean_of = nothing.groupby(["protocol", "n"])["plcc"].mean()
nb.checks.expect(
    "PLCC of noise after an isotonic fit in sample, 50 images",
    mean_of["isotonic, in sample", 50],
    low=0.1,
    if_missed="an in-sample staircase should flatter noise; is it still fitted on the labels it is judged on?",
)
nb.checks.expect(
    "PLCC of noise, raw, 50 images",
    mean_of["raw", 50],
    low=-0.1,
    high=0.1,
    if_missed="noise correlates with the labels: the random streams are not independent",
)
nb.checks.expect(
    "PLCC of noise after a cross-validated isotonic fit, 50 images",
    mean_of["isotonic, cross-validated", 50],
    high=0.1,
    if_missed="labels leak between the folds of evaluate.fitted",
)

# %% [markdown]
# **What you should see**: with few images the staircase finds a clear correlation in noise, and it needs many images to lose
# it. The logistic curve, allowed to run upside down, finds some too. Raw and cross-validated stay around or below zero. So this
# repository reports raw PLCC and SRCC, and names the fit wherever there is one.
#
# ## If it went differently
#
# | symptom | cause | fix |
# |---|---|---|
# | `ArtifactError: ... is missing or changed since it was made` | a file under `artifacts/` was touched | delete the folder it names, run again |
# | the image problems are not zero | your own domain shares a photograph with another | give each domain its own sources (`data/domains.py`) |
# | the split by images adds nothing | one image per scene, or features that ignore content | then a random split is harmless; say so with this figure |
# | many fits found no curve | tiny test sets, or constant scores | report raw values; a curve through few points means nothing |
#
# ## Exercises
#
# **1 (easy, 5 minutes).** How many raters would the panel of *photo* need so that the standard error of a MOS, ignoring the cut at 1
# and 5, is at most 0.1? Each vote is off by the rater's own offset and by the noise. Call `check_1(your_number)`.
#
# <details><summary>Hint</summary>Independent errors add in squares: a single vote has variance bias² + noise².</details>
# <details><summary>Solution</summary>
#
# ```python
# panel = DOMAINS["photo"].panel
# check_1(int(np.ceil((panel.bias**2 + panel.noise**2) / 0.1**2)))
# ```
# </details>
#
# **2 (medium, 10 minutes).** Undo the annotation bias: write a function that takes the MOS of *generated* images and gives back
# quality on the common scale, then call `check_2(your_function)`.
#
# <details><summary>Hint</summary>`panel.opinion` is monotone and you can evaluate it on a grid; `np.interp` reads it backwards.</details>
# <details><summary>Solution</summary>
#
# ```python
# grid = np.linspace(1, 5, 401)
# check_2(lambda mos: np.interp(mos, DOMAINS["generated"].panel.opinion(grid), grid))
# ```
# </details>
#
# **3 (harder, 20 minutes).** Do all four shortcuts *together* predict more than each alone? Fit `ridge_scores` on the four values, by
# scenes, and call `check_3(scores)` with one score per image of `photo`.
#
# <details><summary>Hint</summary>Build an (n, 4) array and reuse the fold loop of section 5 with the protocol "scenes".</details>
# <details><summary>Solution</summary>
#
# ```python
# S = np.array([[f(p) for f in shortcuts.values()] for p in photo], dtype=float)
# out = np.zeros(len(mos))
# for train, test in protocols["scenes"].split(S, mos, source):
#     out[test] = ridge_scores(S[train], mos[train], source[train], S[test])
# check_3(out)
# ```
# </details>


# %%
def check_1(raters: int) -> str:
    panel = DOMAINS["photo"].panel
    error = lambda n: np.sqrt((panel.bias**2 + panel.noise**2) / n)
    return (
        "right"
        if error(raters) <= 0.1 < error(raters - 1)
        else f"not yet: {raters} raters give {error(raters):.3f}"
    )


def check_2(undo) -> str:
    own = rated[rated["domain"] == "generated"]
    before, after = (
        np.abs(x - own["quality"]).mean() for x in (own["mos"], undo(own["mos"].to_numpy()))
    )
    return f"{'right' if after < 0.75 * before else 'not yet'}: mean error {before:.2f} before, {after:.2f} after"


def check_3(score) -> str:
    found = correlate(np.asarray(score, dtype=float), mos, kind="srcc", groups=source)
    fair = plcc(score, mos) < plcc(predicted["ridge", "images"], mos)
    return (
        f"{'right' if fair else 'too good to be true: is a scene on both sides?'}: together {found}"
    )


# %% [markdown]
# ## What to take away
#
# - A MOS is a mean with a standard error, and the raters' noise puts a ceiling on every scorer.
# - Scores of two data sets are not on one scale, even when both run from 1 to 5. Orders inside a set survive, orders across do not.
# - A split that divides a scene measures memory.
# - Test the trivial predictors before the clever ones.
# - Say which PLCC you mean, and never fit a staircase to the labels it is judged by.
#
# ## Reuse this in your own study
#
# The guards need only arrays and any list of `RatedImage` records (`rali_lab.data.ratings` makes them from a table of scores).

# %%
from rali_lab.data.validation import validate
from rali_lab.evaluate import assert_disjoint, correlate, plcc_fitted

train, test = select(photo, split="train"), select(photo, split="test")
validate(train + test).raise_if_bad()  # doubles, divided sources, impossible scores
assert_disjoint(train, test)  # no scene on both sides
score = ridge_scores(
    X[[p.split == "train" for p in photo]],
    mos_of(train),
    [p.source for p in train],
    X[[p.split == "test" for p in photo]],
)
print(
    correlate(score, mos_of(test), groups=[p.source for p in test], n_boot=sizes.n_boot)
)  # raw PLCC, scenes resampled
print(
    f"after a cross-validated isotonic fit: {plcc_fitted(score, mos_of(test), 'isotonic_cv', groups=[p.source for p in test]):.3f}"
)

# %% [markdown]
# ## References
#
# - ITU-R BT.500: methods for the subjective assessment of image quality (votes, panels, intervals).
# - Reisenhofer et al., *A Haar wavelet-based perceptual similarity index* (HaarPSI), 2018; Nafchi et al., *Mean deviation similarity
#   index* (MDSI), 2016; both through `piq`.
# - VQEG, *Final report on the validation of objective models of video quality assessment*, 2003 (the logistic fit).
# - Efron & Tibshirani, *An introduction to the bootstrap*, 1993.
# - The paper: *Reasoning as Representation*, arXiv 2510.11369. Its cross-domain part, RACT, is about the bias of section 4.
#
# Next: [02_train_the_reasoner](02_train_the_reasoner.ipynb) trains a reasoner on the domain *photo*.
