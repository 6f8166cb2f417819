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
# # 07 · Evaluate: does the small scorer keep what the reasoner learned?
#
# **The question.** The reasoner was trained on one domain. Does it rate other domains better than a regression on its own visual
# features, does it need its reasoning for that, and does RALI, which never writes a word, keep up with it?
#
# **What you'll do**
# - rate the test images of all five domains with five methods, on the same images;
# - put intervals on every number, clustered by scene, and compare methods in pairs;
# - see how the protocol moves a leaderboard;
# - measure parameters, time and peak memory of teacher and RALI side by side, and RALI again as one ONNX file;
# - enter the verdicts into the claims ledger.
#
# **What you'll learn**: why two overlapping intervals do not mean "no difference"; what a cluster bootstrap is; how to measure
# the memory of a small model inside a large process.
#
# **What you need**: notebooks 02 and 06 have been run (they make the teacher and RALI); basic Python.
#
# | in | out |
# |---|---|
# | images, teacher, RALI (artefacts, made now if they are not there) | `results.json`, figures `07_*`, verdicts in `claims.json` |
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

nb = open_notebook("07", profile=profile, out_dir=out_dir)
sizes = get_profile(profile)

# %% [markdown]
# ## 1 · The protocol
#
# A correlation has a meaning only together with its protocol. This is ours, for every number below.

# %%
from rali_lab.data.records import select
from rali_lab.evaluate.protocol import Protocol, assert_disjoint

images = experiments.images(sizes)
train, test = select(images, split=("train", "val")), select(images, split="test")
assert_disjoint(train, test)
options = {"clustered_by": "source", "n_boot": sizes.n_boot}
print(Protocol(split="test", label="pseudo-MOS", fit="none", **options))
pd.Series([p.domain for p in test]).value_counts(sort=False).rename("test images").to_frame()

# %% [markdown]
# ## 2 · A correlation and its interval, by hand
#
# The images of one scene are alike, so they are not independent evidence. The *cluster bootstrap* draws scenes, not images:
# take as many scenes as there are, with replacement, put all their images in, compute the correlation; do that a thousand
# times; the middle 95 % of the values is the interval.

# %%
from rali_lab.evaluate.correlation import correlate, plcc

rng = np.random.default_rng(0)
scene = np.repeat(np.arange(8), 12)
truth = rng.normal(size=96)
noise, shared = rng.normal(size=96) * 0.8, rng.normal(size=8)[scene]
guess = truth + noise + shared  # an error that a whole scene shares

draws = []
for _ in range(1000):
    rows = np.concatenate([np.flatnonzero(scene == s) for s in rng.integers(0, 8, 8)])
    draws.append(plcc(guess[rows], truth[rows]))
by_hand = np.percentile(draws, [2.5, 97.5])
by_library = correlate(guess, truth, groups=scene)
print("by hand      ", by_hand.round(2))
print("library      ", by_library)
print("one by one   ", correlate(guess, truth))
assert abs(by_hand[0] - by_library.ci_low) < 0.05 and abs(by_hand[1] - by_library.ci_high) < 0.05

# %% [markdown]
# ## 3 · Five methods, the same images
#
# - **base**: the model before reinforcement learning;
# - **teacher**: after it, with its reasoning; a score is the mean of several sampled answers;
# - **teacher_no_reasoning**: the same weights, but the answer begins with an empty `<think></think>`;
# - **ridge_visual**: ridge regression on the frozen features of the teacher's own tower, trained on the same scores. The paper
#   reports no such baseline;
# - **rali**: the small scorer of notebook 06.
#
# **Before you run:** which method will lose most when it leaves the domain `photo`?

# %%
artefact = experiments.score_everything(sizes, seed=seed)
print(artefact)
scores = pd.read_parquet(artefact.path / "scores.parquet")
answers = pd.read_parquet(artefact.path / "answers.parquet")
missing = scores[scores["score"].isna()].groupby("method").size()
print("images without any valid answer:", dict(missing) or "none")

# %%
from rali_lab.experiments.reports import accuracy_records

records = accuracy_records([scores], profile=profile, n_boot=sizes.n_boot)
nb.results(records)
table = pd.DataFrame([r.to_dict() for r in records])
by_plcc = table[table["metric"] == "plcc"]
domains = list(dict.fromkeys(scores["domain"]))
by_plcc.pivot(index="method", columns="domain", values="value")[domains].round(3)

# %%
from rali_lab.plotting import plot_dot_interval

note = "test images, intervals clustered by scene"
nb.figure(plot_dot_interval(by_plcc, metric="plcc", note=note), "07_accuracy", table)

# %%
from rali_lab.plotting import plot_score_scatter

shown = scores[scores["method"].isin(["teacher", "ridge_visual", "rali"])]
of_rali = shown[shown["method"] == "rali"].drop(columns="method")
fig = plot_score_scatter(of_rali, label="pseudo-MOS", note="RALI, test images")
nb.figure(fig, "07_scatter_rali", shown)

# %% [markdown]
# ## 4 · Pairs, not columns
#
# Two methods rate the same images, so their errors are correlated. The difference is bootstrapped as one number: its interval
# decides, not whether two bars overlap. "Mean" is the unweighted mean over the domains that were not trained on.

# %%
from rali_lab.experiments.reports import difference, mean_correlation

for method in dict.fromkeys(scores["method"]):
    inside = mean_correlation([scores], method, role="in", n_boot=sizes.n_boot)
    outside = mean_correlation([scores], method, role="out", n_boot=sizes.n_boot)
    print(f"{method:22s} in domain {inside}\n{'':22s} outside   {outside}")

# %%
comparisons = {
    "teacher.scoring": ("teacher", "base", "in"),
    "teacher.generalises": ("teacher", "ridge_visual", "out"),
    "rali.accuracy": ("rali", "teacher", "out"),
}
found = {}
for claim, (a, b, role) in comparisons.items():
    d = found[claim] = difference([scores], a, b, role=role, n_boot=sizes.n_boot)
    print(f"{a} minus {b} ({role} domains): {d}")
    nb.verdict(claim, d)
d = difference([scores], "teacher", "teacher_no_reasoning", role=None, n_boot=sizes.n_boot)
print("teacher minus teacher_no_reasoning (all domains; verdict in notebook 03):", d)

# %% [markdown]
# **What you should see**, as checks that can fail:

# %%
inside = {
    m: mean_correlation([scores], m, role="in", n_boot=100).value
    for m in ("base", "teacher", "rali")
}
nb.checks.observe(
    "the teacher rates its own domain well (PLCC)",
    inside["teacher"],
    low=0.7,
    if_missed="the RL run of notebook 02 did not learn; look at its curves",
)
nb.checks.observe(
    "the base model's ratings are weak (PLCC)",
    inside["base"],
    high=0.7,
    if_missed="the base already rates well, so RL has nothing to gain",
)
nb.checks.observe(
    "RL gained in its own domain",
    found["teacher.scoring"].value,
    low=0.1,
    if_missed="base and teacher may be the same weights, or the scores are not theirs",
)
nb.checks.observe(
    "RALI is within reach of the teacher outside",
    found["rali.accuracy"].value,
    low=-0.15,
    if_missed="alignment failed, or the rationales belong to other images (notebook 06)",
)

# %% [markdown]
# ## 5 · Three protocols, one leaderboard
#
# "PLCC" is three numbers in this field: raw; after a logistic with four parameters fitted on the test set (VQEG, DeQA-Score); after an
# isotonic fit, here cross-validated so that no image is mapped by its own label. The same scores, three columns; does a rank change?

# %%
from rali_lab.evaluate.correlation import plcc, plcc_fitted

protocols = {
    "raw": lambda t: plcc(t["score"], t["mos"]),
    "logistic": lambda t: plcc_fitted(t["score"], t["mos"]),
    "isotonic, cross-validated": lambda t: plcc_fitted(
        t["score"], t["mos"], fit="isotonic_cv", groups=t["source"]
    ),
}
outside = scores[scores["domain"] != "photo"].dropna(subset="score")
board = pd.DataFrame(
    {
        name: {
            m: np.mean([f(t) for _, t in rows.groupby("domain")])
            for m, rows in outside.groupby("method", sort=False)
        }
        for name, f in protocols.items()
    }
)
print("largest gain by a protocol:", round(float((board.max(axis=1) - board["raw"]).max()), 3))
pd.concat(
    {
        "mean over the domains not trained on": board.round(3),
        "rank": board.rank(ascending=False).astype(int),
    },
    axis=1,
)

# %% [markdown]
# ## 6 · Form and truth of the answers
#
# A correlation does not cover invalid answers, nor whether the named degradations are true.

# %%
from rali_lab.experiments.reports import count_records
from rali_lab.reasoner.rationales import format_share, naming_accuracy

by_method = dict(list(answers.groupby("method")))
quality = {
    m: {"format_share": format_share(t), "naming_accuracy": naming_accuracy(t, test)}
    for m, t in by_method.items()
    if m in ("base", "teacher")
}
no_reasoning = by_method["teacher_no_reasoning"]
quality["teacher_no_reasoning"] = {"format_share": format_share(no_reasoning)}
nb.results(count_records(quality, profile=profile, seeds=1))
by_domain = pd.DataFrame(
    {
        m: {
            d: naming_accuracy(by_method[m][by_method[m]["image"].str.startswith(d)], test)
            for d in domains
        }
        for m in ("base", "teacher")
    }
)
print(pd.DataFrame(quality).T.round(3))
print("\nall degradations named, none invented:\n", by_domain.round(2))
nb.checks.expect(
    "the teacher's answers have the required form",
    quality["teacher"]["format_share"],
    low=0.95,
    if_missed="correlations over the valid answers alone would be too high for the teacher",
)
nb.checks.observe(
    "RL did not cost naming accuracy (teacher minus base)",
    quality["teacher"]["naming_accuracy"] - quality["base"]["naming_accuracy"],
    low=-0.1,
    if_missed="the reward for the rating alone has cost the naming; raise degradation_share or beta",
)

# %% [markdown]
# ## 7 · Parameters, time, memory
#
# What a score costs is the cost of the procedure whose correlations stand above: the teacher's score is the mean of several sampled
# answers, RALI's is one pass. A single answer of the teacher costs less and correlates less; it is timed too. Both scorers run in this one
# process, in turns, on the same images, so that other load slows both equally; the ratio is what to compare. Memory is the peak
# of live tensors, weights included. The memory of the whole process would mostly measure the libraries.

# %%
import torch

from rali_lab.evaluate.efficiency import count_parameters, measure_side_by_side, peak_memory
from rali_lab.models.vlm import ask, load_policy
from rali_lab.rali.scorer import RaliScorer

torch.manual_seed(seed)
teacher, processor = load_policy(experiments.train_teacher(sizes, seed=seed).path)
rali = RaliScorer.load(experiments.fit_rali(sizes, seed=seed).path / "model")
some, answers_each = [p.pixels() for p in test[:16]], sizes.score_samples


def run_both(images, samples, **options):
    """Both scorers on the same images, as functions to time."""
    return {
        "teacher": lambda: ask(teacher, processor, images, samples=samples, **options),
        "rali": lambda: rali.predict(images),
    }


jobs = run_both(some, answers_each, batch=16 * answers_each)
timing = measure_side_by_side(jobs, n_images=len(some), repeats=5)
print(f"batch of 16 images, a score is the mean of {answers_each} answers\n{timing}")
single = measure_side_by_side(run_both(some, 1), n_images=len(some), repeats=5)
print(f"batch of 16 images, one answer\n{single}")
one = measure_side_by_side(run_both(some[:1], answers_each), n_images=1, repeats=7)
print(f"one image at a time, {answers_each} answers\n{one}")

# %%
cost = {"teacher": {"parameters": count_parameters(teacher)}}
cost["teacher"]["peak_memory_bytes"] = peak_memory(jobs["teacher"], resident=[teacher])
cost["rali"] = {"parameters": rali.parameters()}
cost["rali"]["peak_memory_bytes"] = peak_memory(jobs["rali"], resident=[rali.visual_])
for method in cost:
    cost[method]["seconds_per_image"] = timing.seconds[method].median
nb.results(count_records(cost, profile=profile, seeds=1))

# %%
from rali_lab.estimate import Estimate
from rali_lab.plotting import plot_efficiency

costs = pd.DataFrame([(m, k, v) for m, found in cost.items() for k, v in found.items()])
costs = costs.set_axis(["method", "metric", "value"], axis=1)
ratio = {k: cost["rali"][k] / v for k, v in cost["teacher"].items()}
print({k: f"{v:.2%}" for k, v in ratio.items()})


def exactly(name, n):
    """A ratio that is counted, not sampled: its interval is a point."""
    return Estimate(name, ratio[name], ratio[name], ratio[name], n=n)


nb.verdict("rali.parameters", exactly("parameters", 1))
against = f"against one answer: {single.ratio['rali'].median:.2%}; one image at a time: {one.ratio['rali'].median:.2%}"
detail = f"batch of 16, a score of the teacher is the mean of {answers_each} answers; {against}"
spread = timing.ratio["rali"]
time_ratio = Estimate("time ratio", spread.median, spread.low, spread.high, n=len(some))
nb.verdict("rali.time", time_ratio, detail)
nb.verdict("rali.memory", exactly("peak_memory_bytes", len(some)))
limits = {"parameters": 0.05, "seconds_per_image": 0.034, "peak_memory_bytes": 0.147}
nb.figure(plot_efficiency(costs, limits=limits), "07_efficiency", costs)

# %% [markdown]
# ## 8 · One file: ONNX and 8 bits
#
# The whole scorer (tower, PCA, basis) as one ONNX graph, and once more with 8-bit convolutions calibrated on training images. First
# the agreement on every test image, then the speed: one thread and batches of one size for all, beside the features of the ridge.

# %%
from rali_lab.rali.onnx_export import OnnxScorer

files = experiments.export_rali(sizes, seed=seed).path
exported = {
    "rali_onnx": OnnxScorer(files / "rali.onnx"),
    "rali_int8": OnnxScorer(files / "rali-int8.onnx"),
}
pixels = [p.pixels() for p in test]
plain = scores[scores["method"] == "rali"]
extra = {m: plain.assign(method=m, score=s.predict(pixels)) for m, s in exported.items()}
apart = {m: np.abs(t["score"].to_numpy() - plain["score"].to_numpy()) for m, t in extra.items()}
print({m: f"largest difference {d.max():.1e}, mean {d.mean():.1e}" for m, d in apart.items()})
both = pd.concat([plain, *extra.values()], ignore_index=True)
nb.results(accuracy_records([both[both["method"] != "rali"]], profile=profile, n_boot=sizes.n_boot))
for m in extra:
    d = difference([both], m, "rali", role=None, n_boot=sizes.n_boot)
    print(m, "minus rali, all domains:", d)
nb.checks.expect(
    "the ONNX file scores as torch does (largest difference)",
    float(apart["rali_onnx"].max()),
    high=1e-2,
    if_missed="another scorer was exported, or an operation differs from that of torch",
)

# %%
from torch.utils.flop_counter import FlopCounterMode

from rali_lab.rali.baselines import visual_features


def runners(images):
    return {
        "rali": lambda: rali.predict(images, batch=16),
        "rali_onnx": lambda: exported["rali_onnx"].predict(images, batch=16),
        "rali_int8": lambda: exported["rali_int8"].predict(images, batch=16),
        "ridge_visual": lambda: visual_features(images),
    }


speeds, threads = [], torch.get_num_threads()
torch.set_num_threads(1)
for n in (1, 4, 16):
    timed = measure_side_by_side(runners(pixels[:n]), n_images=n, repeats=9)
    speeds += [(n, m, 1 / s.median, timed.ratio[m].median) for m, s in timed.seconds.items()]
torch.set_num_threads(threads)
speeds = pd.DataFrame(speeds)
speeds.columns = ["batch", "method", "images a second", "time, share of torch"]
with FlopCounterMode(display=False) as counted:
    rali.predict(pixels[:1])
with FlopCounterMode(display=False) as counted_teacher:
    ask(teacher, processor, pixels[:1], samples=answers_each)
flops = {"rali": counted.get_total_flops(), "teacher": counted_teacher.get_total_flops()}
share = f"({flops['rali'] / flops['teacher']:.1%})"
print({m: f"{f / 1e6:.0f} million operations an image" for m, f in flops.items()}, share)
fast = speeds[speeds["batch"] == 16].set_index("method")["images a second"]
measured = {m: {"images_per_second": v} for m, v in fast.items()}
nb.results(count_records(measured, profile=profile, seeds=1))
measured = {m: {"flops_per_image": v} for m, v in flops.items()}
nb.results(count_records(measured, profile=profile, seeds=1))
speeds.pivot(index="batch", columns="method").round(2)

# %% [markdown]
# Convolutions and matrix products are counted, as torch counts them (a multiply and an add are two); the ridge's time is that of its
# features alone. A small file is no promise of speed: an 8-bit convolution pays where the processor has instructions for it.
#
# ## If it went differently
#
# | symptom | likely cause | what to do |
# |---|---|---|
# | base already above the bound | another base model, or answers of the teacher read as the base's | compare the folders' `SHA256SUMS.json` |
# | teacher below the ridge inside *and* outside | the RL run collapsed | notebook 02, spread and naming curves |
# | RALI far below the teacher everywhere | alignment on the wrong rationales | notebook 06, holdout top-1 |
# | time ratio jumps between runs | another program uses the cores | run the cell again; read the ratio, not the milliseconds |
#
# ## Exercises
#
# **1 · One number, three meanings** (easy, 5 min). Compute the teacher's PLCC on `authentic` raw, after a logistic fit and after a
# cross-validated isotonic fit. Which one would you publish?
#
# <details><summary>hint</summary>`rali_lab.evaluate.correlation.plcc_fitted`</details>
# <details><summary>solution</summary>
#
# ```python
# from rali_lab.evaluate.correlation import plcc, plcc_fitted
# t = scores[(scores.method == "teacher") & (scores.domain == "authentic")].dropna()
# print(plcc(t.score, t.mos), plcc_fitted(t.score, t.mos), plcc_fitted(t.score, t.mos, fit="isotonic_cv"))
# ```
# </details>
#
# **2 · Fewer answers** (medium, 15 min). The teacher's score is a mean of several answers. How does the PLCC depend on their number?
# Use `answers`; no new generation is needed. `check_fewer(values)` wants a list of PLCCs for 1, 2, 4 and 8 answers.


# %%
def check_fewer(values):
    assert len(values) == 4 and all(-1 <= v <= 1 for v in values), (
        "give four correlations, for 1, 2, 4 and 8 answers"
    )
    print("well formed; is the last one the largest?", values[-1] == max(values))


# %% [markdown]
# <details><summary>solution</summary>
#
# ```python
# a = answers[answers.method == "teacher"]
# mos = pd.Series({p.id: p.mos for p in test})
# check_fewer([a[a["sample"] < k].groupby("image").rating.mean().corr(mos) for k in (1, 2, 4, 8)])
# ```
# </details>
#
# ## Takeaways
#
# - A claim about generalisation is a claim about a *difference on the same images*; bootstrap the difference.
# - A baseline on the same features is the cheapest way to find out what a model adds.
# - Efficiency is a ratio measured in one run, and memory must be counted where the model's tensors are.
#
# ## Reuse this in your own study

# %%
from rali_lab.evaluate.correlation import compare

mine = scores[scores["method"] == "rali"].dropna()
yours = scores[scores["method"] == "ridge_visual"].set_index("image").loc[mine["image"]]
print(compare(mine["score"], yours["score"], mine["mos"], groups=mine["source"]))

# %% [markdown]
# ## References
#
# *Reasoning as Representation*, arXiv 2510.11369 · Q-Insight, arXiv 2503.22679 · B. Efron and R. Tibshirani, *An Introduction
# to the Bootstrap*, 1993 · DeQA-Score, arXiv 2501.11561 (PLCC after a logistic fit).
