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

from rali_lab import experiments
from rali_lab.evaluate import compare, correlate, plcc, plcc_fitted, srcc
from rali_lab.experiments import rated_images
from rali_lab.experiments.reports import estimates_table
from rali_lab.plotting import opinion_scores as charts
from rali_lab.profiles import get_profile
from rali_lab.reproduce.notebook import open_notebook

nb = open_notebook("01", profile=profile, out_dir=out_dir)
expect = nb.checks.expect
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
# given the same random numbers, must give the same scores.

# %%
from rali_lab.data.labels import RaterPanel

panel, quality = RaterPanel(raters=5), np.array([4.6, 3.2, 1.3])
rng = np.random.default_rng(7)
opinion = panel.opinion(quality)  # mean opinion of this panel, without noise
offsets = rng.normal(0, panel.bias, panel.raters)  # one per rater: some are strict, some are kind
noise = rng.normal(0, panel.noise, (len(quality), panel.raters))  # one per vote
cast = np.clip(opinion[:, None] + offsets + noise, 1, 5)
mos_by_hand, std_by_hand = cast.mean(axis=1), cast.std(axis=1, ddof=1)

mos_of_library, std_of_library = panel.rate(quality, np.random.default_rng(7))
assert np.allclose(mos_by_hand, mos_of_library) and np.allclose(std_by_hand, std_of_library)
table = pd.DataFrame({"quality": quality, "pseudo-MOS": mos_by_hand, "std": std_by_hand})
table.join(pd.DataFrame(cast).rename(columns=lambda i: f"vote {i + 1}")).round(2)

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
from rali_lab.data.domains import DOMAINS, TEST
from rali_lab.data.records import mos_of, select
from rali_lab.data.validation import validate

report = validate(images)
print(report)
expect(
    "problems found in the images (divided sources, doubles, bad scores)",
    len(report.problems),
    high=0,
    if_missed="a test image may have been trained on; the report above names it",
)
scenes = {name: len({p.source for p in select(images, domain=name)}) for name in DOMAINS}
recipes = [(d.name, d.role, scenes[d.name], ", ".join(d.types)) for d in DOMAINS.values()]
table = pd.DataFrame(recipes, columns=["domain", "role", "scenes", "distortions"])
table.style.hide().set_properties(**{"text-align": "left"})

# %%
shown = []
for name in DOMAINS:
    ranked = sorted(select(images, domain=name, split="test"), key=lambda p: -p.mos)
    shown += [ranked[int(i)] for i in np.linspace(2, len(ranked) - 3, 5)]
done = [charts.what_was_done(p) for p in shown]
table = pd.DataFrame({"image": [p.id for p in shown], "done": done, "mos": mos_of(shown)})
note = "test images, the best of each domain on the left; number in the title: pseudo-MOS (1-5); below: distortion and level"
nb.figure(charts.plot_rated_images(shown, note=note), "01_domains", table)

# %% [markdown]
# ## 3 · The distortion library
#
# Each distortion has five levels, and the strengths were searched so that a level costs about the same full-reference quality
# whatever the distortion is. First those of the RL domain, then those that it never holds.

# %%
from rali_lab.data.content import photographs
from rali_lab.data.distortions import TYPES
from rali_lab.plotting import plot_distortion_sheet, plot_mos_histograms

pristine, window = photographs("motorcycle_left", count=3, seed=seed)[2], np.s_[24:104, 24:104]
trained = DOMAINS["photo"].types
for figure, kept in {
    "01_distortions_trained": [name for name in TYPES if name in trained],
    "01_distortions_untrained": [name for name in TYPES if name not in trained],
}.items():
    sheet = {k: [x[window] for x in rated_images.distorted(pristine, k)] for k in kept}
    note = f"the middle of one photograph; distortions {'of the RL domain' if kept[0] in trained else 'that RL never sees'}"
    display(nb.figure(plot_distortion_sheet(sheet, pristine=pristine[window], note=note), figure))

# %% [markdown]
# Does a level mean the same for every distortion? We measure the full-reference quality of every distortion at every level, on
# photographs of the test split.
#
# **Before you run:** a colour cast changes every pixel but keeps every edge. Will its level 5 be as low as that of blur?

# %%
clean = np.stack([x for s in TEST for x in photographs(s, count=2, seed=seed + 1)])
levels = rated_images.quality_by_level(clean)
note = f"mean over n = {len(clean)} test photographs, bars: 95 % intervals"
label = "full-reference quality (1-5, higher is better)"
fig = charts.plot_levels(levels, value="quality", label=label, groups=charts.FAMILIES, note=note)
nb.figure(fig, "01_levels", levels)

# %%
by_level = levels.pivot(index="distortion", columns="level", values="quality")
expect(
    "share of the steps from a level to the next that lower the quality",
    float((by_level.diff(axis=1).iloc[:, 1:] < 0).mean().mean()),
    low=0.95,
    if_missed="a distortion's strengths are out of order; run scripts.calibrate_distortions again",
)
why = "levels no longer spread over the scale, so the words of severity mean something else"
expect("mean quality at level 3", by_level[3].mean(), low=2.3, high=3.9, if_missed=why)
spread = by_level.assign(spread=by_level[1] - by_level[5]).sort_values("spread").round(2)
spread.iloc[[0, 1, 2, -3, -2, -1]]

# %% [markdown]
# **What you should see**: every line falls. Distortions that cannot get very bad, because they leave the edges in place, are spread
# over what they can reach; their level 5 is a milder thing. That is a limit of the full-reference measure, not of the eye.
#
# ## 4 · Annotation bias
#
# Published data sets do not share a scale: instructions, rater populations and rating tools differ. Each of our domains has a panel
# that sees quality through its own monotone map. So an image of one and the same quality gets different scores.

# %%
grid = np.linspace(1, 5, 41)
curves = pd.DataFrame({"quality": grid} | {k: d.panel.opinion(grid) for k, d in DOMAINS.items()})
nb.figure(charts.plot_annotation_bias(curves), "01_annotation_bias", curves)

# %%
at_middle = {name: float(d.panel.opinion([3.0])[0]) for name, d in DOMAINS.items()}
print("an image of quality 3 is rated:", {k: round(v, 2) for k, v in at_middle.items()})
expect(
    "points between the kindest and the strictest panel at mid quality",
    np.ptp(list(at_middle.values())),
    low=0.3,
    if_missed="the panels are alike; mixing domains would cost nothing and notebook 09 would have no subject",
)
rows = [(p.id, p.domain, p.source, p.reference, p.mos) for p in images]
rated = pd.DataFrame(rows, columns=["image", "domain", "source", "quality", "mos"])
fig = plot_mos_histograms(rated[["domain", "mos"]], note="all splits")
nb.figure(fig, "01_mos_histograms", rated)

# %% [markdown]
# A monotone map keeps the order within a domain, so a correlation *inside* one domain hardly notices it. Trouble begins when domains
# are mixed. Take pairs of images whose quality differs only a little, and count how often the scores put them in the wrong order:
# once for pairs inside a domain (then only the raters' noise is to blame), once across domains.
#
# **Before you run:** which share is larger, and by how much?

# %%
inside, across = rated_images.wrong_order_shares(rated, gap=(0.1, 0.4))
print(f"close pairs in the wrong order: {inside:.1%} inside a domain, {across:.1%} across domains")
ratio, why = across / inside, "annotation bias is too small to matter beside the raters' noise"
expect("wrong order across domains over wrong order inside", ratio, low=1.3, if_missed=why)
ceiling = {
    name: correlate(part["quality"], part["mos"], groups=part["source"], n_boot=sizes.n_boot)
    for name, part in rated.groupby("domain", sort=False)
}
print("\nthe best any scorer could do, quality itself against pseudo-MOS:")
print(*(f"  {name:11s}{found}" for name, found in ceiling.items()), sep="\n")
lowest = min(c.value for c in ceiling.values())
why = "the panel is so noisy that methods could not be distinguished"
expect("the ceiling set by the raters (lowest PLCC of a domain)", lowest, low=0.95, if_missed=why)

# %% [markdown]
# ## 5 · Why splits go by source
#
# Many images are versions of few scenes. Divide *images* at random, and nearly every test image has versions of its scene in
# training; a model may then recognise the scene and repeat its score. Divide *scenes*, and it cannot. We predict every image of the domain
# *photo* once under each protocol (five folds), with two simple methods on the features of the frozen tower: the nearest neighbour,
# which can do nothing but recognise, and a ridge regression.
#
# **Before you run:** how often, would you say, is the nearest neighbour of an image an image of the same scene?

# %%
from sklearn.model_selection import GroupKFold, KFold
from sklearn.neighbors import KNeighborsRegressor, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rali_lab.rali.baselines import ridge_scores, visual_features

photo = select(images, domain="photo")
X, mos = visual_features([p.pixels() for p in photo]), mos_of(photo)
source = np.array([p.source for p in photo])
Z = StandardScaler().fit_transform(X)
nearest = NearestNeighbors(n_neighbors=2).fit(Z).kneighbors(Z, return_distance=False)[:, 1]
same_scene = float((source[nearest] == source).mean())
chance = float(np.mean([(source == s).mean() for s in source]))
print(f"features {X.shape}; nearest of the same scene: {same_scene:.0%} (by chance {chance:.0%})")

# %%
neighbour = make_pipeline(StandardScaler(), KNeighborsRegressor(1))
methods = {
    "nearest neighbour": lambda X, y, groups, X_test: neighbour.fit(X, y).predict(X_test),
    "ridge": ridge_scores,
}
protocols = {
    "images": KFold(5, shuffle=True, random_state=seed),
    "scenes": GroupKFold(5, shuffle=True, random_state=seed),
}
predicted = {}
for method, scores_of in methods.items():
    for protocol, folds in protocols.items():
        predicted[method, protocol] = out = np.zeros(len(mos))
        for train, test in folds.split(X, mos, source if protocol == "scenes" else None):
            out[test] = scores_of(X[train], mos[train], source[train], X[test])
options = {"groups": source, "n_boot": sizes.n_boot}
leak = {m: compare(predicted[m, "images"], predicted[m, "scenes"], mos, **options) for m in methods}
print(*(f"{m:18s} what a split by images adds: {found}" for m, found in leak.items()), sep="\n")
expect(
    "flattery of the nearest neighbour by a split of images (PLCC)",
    leak["nearest neighbour"].value,
    low=0.03,
    if_missed="scenes no longer repeat, or the features cannot tell them apart; then a random split would be harmless",
)

# %%
splits = estimates_table({k: correlate(score, mos, **options) for k, score in predicted.items()})
splits.columns = ["method", "split by", "plcc", "ci_low", "ci_high", "n"]
note = f"the same n = {len(mos)} images, each predicted once"
nb.figure(charts.plot_splits(splits, note=note), "01_splits", splits)

# %% [markdown]
# **What you should see**: the same images, the same features, the same methods, and a higher number when scenes are divided over both
# sides. The gain comes from recognised scenes, not from judged quality; the method that can only recognise gains most. From here on every split and every
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
shortcuts = {
    "brightness": lambda p: p.pixels().mean(),
    "contrast": lambda p: p.pixels().std(),
    "size as PNG": lambda p: rated_images.png_bytes(p.pixels()),
    "number in the name": lambda p: int(p.id.split("-")[1]),
}
found = rated_images.shortcut_correlations(images, shortcuts, n_boot=sizes.n_boot)
tricks = estimates_table(found)
tricks.columns = ["shortcut", "domain", "srcc", "ci_low", "ci_high", "n"]
nb.figure(charts.plot_shortcuts(tricks, note="all images of a domain"), "01_shortcuts", tricks)

# %%
worst = tricks.loc[tricks["srcc"].abs().idxmax()]
shared = f"SRCC {worst['srcc']:.2f}, which is {worst['srcc'] ** 2:.0%} of the rank variance"
print(f"strongest: {worst['shortcut']} in {worst['domain']}, {shared}")
in_photo = tricks[tricks["domain"] == "photo"].set_index("shortcut")["srcc"].abs()
mean = tricks.groupby("shortcut")["srcc"].mean().abs()
why = "a scorer could rate images without using their quality; balance the distortions"
expect("the strongest shortcut, mean over domains (|SRCC|)", mean.max(), high=0.45, if_missed=why)
why = "darkening and over-exposure no longer balance; the teacher would learn exposure, not quality"
expect("brightness in the RL domain (|SRCC|)", in_photo["brightness"], high=0.3, if_missed=why)
number = in_photo["number in the name"]
why = "the order of making leaks into the score; check the random streams in data/domains.py"
expect("the running number in the RL domain (|SRCC|)", number, high=0.2, if_missed=why)

# %% [markdown]
# ## 7 · Three numbers called PLCC
#
# Pearson's correlation asks for a straight line, Spearman's only for the right order. By hand, on five images:

# %%
a, b = np.array([1.2, 2.0, 2.9, 3.1, 4.8]), np.array([1.0, 2.5, 2.4, 3.5, 4.0])
da, db = a - a.mean(), b - b.mean()
pearson = (da * db).sum() / np.sqrt((da**2).sum() * (db**2).sum())
rank_a, rank_b = (np.argsort(np.argsort(x)) for x in (a, b))
n = len(a)
spearman = 1 - 6 * ((rank_a - rank_b) ** 2).sum() / (n * (n**2 - 1))  # valid without ties
assert np.isclose(pearson, plcc(a, b)) and np.isclose(spearman, srcc(a, b))
squared = f"PLCC {plcc(a**2, b):.3f}, SRCC {srcc(a**2, b):.3f}"
print(f"PLCC {pearson:.3f}, SRCC {spearman:.3f}; after squaring the scores: {squared}")

# %% [markdown]
# Some papers report the raw Pearson correlation; some first bend the scores with a logistic curve, some with an isotonic staircase,
# fitted *on the test labels*. Bending is meant to forgive a harmless change of scale. A staircase forgives more than that, because it
# has as many free steps as there are images. Cross-validated, so that no image is bent by its own label, it cannot.

# %%
from sklearn.isotonic import IsotonicRegression

staircase = IsotonicRegression(out_of_bounds="clip")  # in sample: the library does not offer it
kinds = {
    "raw": plcc,
    "logistic": plcc_fitted,
    "isotonic, cross-validated": lambda s, m: plcc_fitted(s, m, "isotonic_cv"),
    "isotonic, in sample": lambda s, m: plcc(staircase.fit_transform(s, m), m),
}
ridge, few = predicted["ridge", "scenes"], np.random.default_rng(seed).choice(len(mos), 100, False)
print("one and the same score (ridge, split by scenes), four protocols:")
parts = {f"n = {len(r)}": (ridge[r], mos[r]) for r in (few, np.arange(len(mos)))}
pd.DataFrame({n: {k: f(*part) for k, f in kinds.items()} for n, part in parts.items()}).round(3)

# %% [markdown]
# **Before you run:** now the score is pure noise. What would an honest protocol give? What will the staircase give with 25 images, and
# with 400?

# %%
nothing, note = rated_images.random_score_correlations(kinds, mos, seed=seed)
print(note)
mean_of = nothing[nothing["n"] == 50].groupby("protocol")["plcc"].mean()
stairs, fair = mean_of["isotonic, in sample"], mean_of["isotonic, cross-validated"]
why = "a staircase in sample should flatter noise; is it fitted on the labels that it is judged by?"
expect("PLCC of noise after an isotonic fit in sample, 50 images", stairs, low=0.1, if_missed=why)
why = "noise correlates with the labels: the random streams are not independent"
expect("PLCC of noise, raw, 50 images", mean_of["raw"], low=-0.1, high=0.1, if_missed=why)
why = "labels leak between the folds of evaluate.fitted"
expect(
    "PLCC of noise after a cross-validated isotonic fit, 50 images", fair, high=0.1, if_missed=why
)
nb.figure(charts.plot_random_scores(nothing, note="30 draws a point"), "01_protocols", nothing)

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
from functools import partial

check_1 = partial(rated_images.check_raters, panel=DOMAINS["photo"].panel)
check_2 = partial(rated_images.check_unbiased, rated=rated[rated["domain"] == "generated"])
with_scenes = plcc(predicted["ridge", "images"], mos)  # of a method that has seen the scenes
check_3 = partial(rated_images.check_honest, mos=mos, source=source, limit=with_scenes)

# %% [markdown]
# ## What to take away
#
# - A MOS is a mean with a standard error, and the raters' noise puts a ceiling on every scorer.
# - Scores of two data sets are not on one scale, even when both run from 1 to 5. Orders inside a set survive, orders across do not.
# - A split that divides a scene measures how well scenes are recognised.
# - Test the trivial predictors before the clever ones.
# - Say which PLCC you mean, and never fit a staircase to the labels it is judged by.
#
# ## Reuse this in your own study
#
# The guards need only arrays and any list of `RatedImage` records (`rali_lab.data.datasets.read_dataset` makes them from a table of scores).

# %%
from rali_lab.evaluate import assert_disjoint

train, test = select(photo, split="train"), select(photo, split="test")
validate(train + test).raise_if_bad()  # doubles, divided sources, impossible scores
assert_disjoint(train, test)  # no scene on both sides
split = np.array([p.split for p in photo])
known, groups = X[split == "train"], [p.source for p in test]
score = ridge_scores(known, mos_of(train), [p.source for p in train], X[split == "test"])
print(correlate(score, mos_of(test), groups=groups, n_boot=sizes.n_boot))  # raw PLCC
fitted = plcc_fitted(score, mos_of(test), "isotonic_cv", groups=groups)
print(f"after a cross-validated isotonic fit: {fitted:.3f}")

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
