# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · Train the reasoner: what does a reward for the rating alone teach a model that talks?
#
# **The question.** A small vision-language model can already name what is wrong with an image, but its ratings are worth little.
# Reinforcement learning rewards good ratings. Does the model learn to rate *through what it writes*, and how would you notice if
# it did not?
#
# **What you'll do**
# - work out one GRPO update by hand, on four answers;
# - train the reasoner with TRL's `GRPOTrainer`;
# - follow six curves and learn which one to trust;
# - examine a run that went wrong although its reward rose all the way.
#
# **What you'll learn**: rewards, groups, advantages; why a group of equal rewards teaches nothing; collapse.
#
# **What you need**: notebook 01 (domains and pseudo-MOS); basic Python. No GPU.
#
# | in | out |
# |---|---|
# | images of the RL domain (artefact), the committed base model | the teacher (artefact), figures `02_*`, a verdict in `claims.json` |
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
from rali_lab.data.records import select
from rali_lab.profiles import get_profile
from rali_lab.reproduce.notebook import open_notebook

nb = open_notebook("02", profile=profile, out_dir=out_dir)
sizes = get_profile(profile)
images = experiments.images(sizes)
train, val = (select(images, domain="photo", split=s) for s in ("train", "val"))
print(len(train), "images to train on,", len(val), "to validate on")

# %% [markdown]
# ## 1 · What the base model answers
#
# The stand-in for an instruct model (how it was made: docs/BASE_MODEL.md) names degradations and gives ratings in the right form.
# Read a few answers to the *same* image. Which part changes from answer to answer?

# %%
import torch

from rali_lab.models.vlm import ask, load_policy
from rali_lab.plotting import plot_images_grid

base, processor = load_policy(experiments.base_path(sizes))
torch.manual_seed(seed)
shown = val[:4]
completions = ask(base, processor, [p.pixels() for p in shown], samples=3)
for image, texts in zip(shown, completions):
    truth = ", ".join(f"{d.level_word} {d.name}" for d in image.distortions) or "clean"
    print(f"\n{image.id}, pseudo-MOS {image.mos:.2f}, in truth: {truth}")
    print(*("   " + text for text in texts), sep="\n")
titles = [f"{p.id}\npseudo-MOS {p.mos:.2f}" for p in shown]
nb.figure(plot_images_grid([p.pixels() for p in shown], titles), "02_examples")

# %% [markdown]
# ## 2 · Rewards
#
# The paper's teacher earns 1 for a rating within 0.35 of the MOS, 1 for the exact form, and in a second task up to 1 for naming
# the degradation and its severity. Four hand-made answers to an image with MOS 3.0:

# %%
from rali_lab.reasoner.rewards import ClosenessReward, ScoreReward, format_reward

completions = [
    '<think>There is slight noise.</think><answer>{"rating": 3.20}</answer>',
    '<think>There is slight noise.</think><answer>{"rating": 4.00}</answer>',
    '<think>There is serious blur.</think><answer>{"rating": 1.50}</answer>',
    "I would say 3.00",
]
about = {"task": ["score"] * 4, "mos": [3.0] * 4}
rewards = pd.DataFrame(
    {
        "form": format_reward(completions, **about),
        "score": ScoreReward(0.35)(completions, **about),
        "closeness": ClosenessReward(2.0)(completions, **about),
    }
)
rewards["total"] = rewards.sum(axis=1)
rewards

# %% [markdown]
# The last answer holds the best rating of all and earns nothing: it cannot be parsed, and a default rating would teach the model that
# form does not matter. *Closeness* is ours, not the paper's: with ratings spread over the whole scale few fall within 0.35, and a
# reward that is nearly always 0 teaches slowly.
#
# ## 3 · From rewards to an update
#
# GRPO compares the answers to one image with each other. The advantage of an answer is its reward minus the group's mean, in
# units of the group's standard deviation. Every token of an answer is then made more likely if its advantage is positive, less if it is
# negative; ratios to the policy that wrote the answers are clipped, and a KL term holds the model near its start.

# %%
r = rewards["total"].to_numpy()
advantage = (r - r.mean()) / (r.std(ddof=1) + 1e-4)
print("rewards   ", r.round(2), "\nadvantages", advantage.round(2))

equal = np.full(4, 1.7)
print(
    "equal rewards ->",
    (equal - equal.mean()) / (equal.std(ddof=1) + 1e-4),
    " nothing is learned from such a group",
)

# one token per answer: probability now / when it was written, clipped at 1 +- epsilon, the smaller of both counts
ratio, epsilon = np.array([1.3, 1.0, 0.7, 1.0]), 0.2
per_answer = np.minimum(ratio * advantage, np.clip(ratio, 1 - epsilon, 1 + epsilon) * advantage)
print("loss of this group:", round(float(-per_answer.mean()), 3))

# %% [markdown]
# TRL must do the same. Its loss with the same numbers, `loss_type="grpo"`:

# %%
from rali_lab.reasoner.reference import grpo_loss

library = grpo_loss(
    torch.log(torch.tensor(ratio))[:, None], torch.zeros(4, 1), torch.tensor(r), epsilon=epsilon
)
assert abs(float(library) + per_answer.mean()) < 1e-6
print("reference implementation agrees:", round(float(library), 3))

# %% [markdown]
# ## 4 · The run
#
# What follows is TRL's `GRPOTrainer`, unchanged, with the settings below. What differs from the paper's preset is listed by the cell:
# a model of a few million parameters and a few hundred images need larger steps and a reward with a slope.
#
# **Before you run:** the reward will rise. Will the share of exactly named degradations rise or fall, although a rating is
# what is asked for most of the time?

# %%
from dataclasses import asdict

from rali_lab.reasoner.grpo import paper_options

mine, paper = asdict(sizes.grpo), asdict(paper_options(max_steps=0))
pd.DataFrame(
    [
        {"setting": k, "paper": paper[k], "here": v}
        for k, v in mine.items()
        if v != paper[k] and k not in ("system", "score_question", "seed", "max_steps")
    ]
)

# %%
teacher = experiments.train_teacher(sizes, seed=seed)
print(teacher)
stopped = teacher.path / "stopped.txt"
print(stopped.read_text() if stopped.exists() else "the run ended by itself")
curve = pd.read_csv(teacher.path / "validation.csv")
log = pd.read_csv(teacher.path / "log.csv").dropna(subset=["reward"])
curve.round(3)

# %% [markdown]
# ## 5 · Six curves
#
# Top: measured on the training batches. Bottom: measured on the validation images, which nothing was trained on.

# %%
from rali_lab.plotting import plot_training_curves

history = pd.concat(
    [
        log[["step", "reward", "frac_reward_zero_std", "kl"]].rename(
            columns={"frac_reward_zero_std": "groups without spread"}
        ),
        curve[["step", "plcc", "srcc", "naming_accuracy", "spread", "format_share"]],
    ]
).sort_values("step")
fig = plot_training_curves(
    history,
    metrics=["reward", "kl", "groups without spread", "plcc", "naming_accuracy", "spread"],
    note=f"GRPO on {len(train)} images; plcc, naming and spread on {len(val)} validation images",
)
nb.figure(fig, "02_training", history)

# %%
first, last = curve.iloc[0], curve.iloc[-1]
nb.checks.expect(
    "the form has converged",
    last["format_share"],
    low=0.95,
    if_missed="no score of such a model means anything",
)
nb.checks.observe(
    "ratings follow the pseudo-MOS better than before (PLCC gained)",
    last["plcc"] - first["plcc"],
    low=0.1,
    if_missed="rewards may be unrelated to the images, or the learning rate is too small",
)
nb.checks.observe(
    "the ratings have not collapsed (spread over that of the MOS)",
    last["spread"],
    low=0.5,
    if_missed="one safe rating for every image: see the failed run below",
)
nb.checks.observe(
    "the model still names degradations (share gained)",
    last["naming_accuracy"] - first["naming_accuracy"],
    low=-0.12,
    if_missed="the words no longer describe the image; text cannot carry quality then",
)

# %%
from rali_lab.estimate import Estimate
from rali_lab.reasoner.rationales import has_rating, write_rationales

# images are resampled, the answers to one image stay together
torch.manual_seed(seed)
policy, _ = load_policy(teacher.path)
answers = write_rationales(policy, processor, val, samples=4)
well_formed = has_rating(answers)
share = well_formed.groupby(answers["image"]).mean().to_numpy()
draws = np.random.default_rng(seed).choice(share, (1000, len(share))).mean(axis=1)
ends = np.percentile(draws, [2.5, 97.5])
form = Estimate("share of well-formed answers", share.mean(), *ends, n=len(answers))
nb.verdict("teacher.format", form)
print(form)

# %% [markdown]
# ## 6 · The same images, before and after

# %%
texts = answers.set_index(["image", "sample"])["text"]
torch.manual_seed(seed)
before = ask(base, processor, [p.pixels() for p in shown])
for p, old in zip(shown, before):
    print(f"{p.id}, pseudo-MOS {p.mos:.2f}\n   before: {old[0]}\n   after:  {texts[p.id, 0]}")

# %% [markdown]
# ## 7 · What went wrong: a run whose reward rose
#
# Now without constraints: no KL term, a large learning rate, only the rating rewarded. The rule that would stop the run is switched
# off here, so that you can see the collapse.
#
# **Before you run:** which of the curves will show it first?

# %%
wrong = experiments.train_teacher(sizes, seed=seed, name="collapse", options=sizes.collapse)
bad_curve = pd.read_csv(wrong.path / "validation.csv")
bad_log = pd.read_csv(wrong.path / "log.csv").dropna(subset=["reward"])
runs = {"as trained": (log, curve), "without constraints": (bad_log, bad_curve)}
both = pd.concat(
    part[["step", *columns]].assign(run=run)
    for run, parts in runs.items()
    for part, columns in zip(parts, (["reward"], ["plcc", "naming_accuracy", "spread"]))
)
fig = plot_training_curves(
    both,
    metrics=["reward", "plcc", "naming_accuracy", "spread"],
    note="validation images; the reward is the training batch's",
)
nb.figure(fig, "02_what_went_wrong", both)

# %%
reward = bad_log["reward"]
nb.checks.observe(
    "the wrong run's reward rose all the same",
    reward.tail(5).mean() - reward.head(5).mean(),
    low=0.0,
    if_missed="then it is another failure than the one this section is about",
)
nb.checks.observe(
    "but its words went (naming accuracy, wrong run minus the good one)",
    bad_curve["naming_accuracy"].iloc[-1] - last["naming_accuracy"],
    high=-0.1,
    if_missed="the run was not driven hard enough to show the effect",
)

# %% [markdown]
# ## If it went differently
#
# | symptom | likely cause | what to do |
# |---|---|---|
# | form share stuck near a half | temperature too high, or the base does not know the form | read `answers[answers.status != "ok"]` |
# | most groups have no spread | binary reward, too few answers per image | more generations, or a reward with a slope |
# | reward rises, PLCC does not | ratings shrink to one safe value | check the spread; raise `beta`, lower the learning rate |
# | naming falls | only the rating earns anything | raise `degradation_share` |
#
# ## Exercises
#
# **1 · The silent group** (easy, 5 min). With a binary reward that one answer in `p` earns, what share of groups of 8 has no spread?
# Write `silent(p, g)` and pass it to the check.


# %%
def check_silent(silent):
    sample = np.random.default_rng(0).random((20000, 8)) < 0.18
    assert abs(silent(0.18, 8) - (sample.all(1) | ~sample.any(1)).mean()) < 0.02, (
        "try p**g + (1 - p)**g"
    )
    print("right")


# %% [markdown]
# <details><summary>hint</summary>All answers earn it, or none does.</details>
# <details><summary>solution</summary>
#
# ```python
# check_silent(lambda p, g: p**g + (1 - p) ** g)
# ```
# </details>
#
# **2 · Without the slope** (medium, 10 min of computing). Train with `closeness_weight=0`, as the paper does, and compare the curves:
# `experiments.train_teacher(sizes, seed=seed, name="binary", closeness_weight=0.0)`.
#
# ## Takeaways
#
# - A group of equal rewards teaches nothing; log the share of such groups.
# - Reward is what you optimise, correlation is what you want, and naming and spread tell you how it was got.
# - An answer that cannot be read earns nothing and is counted; it never becomes a rating.
#
# ## Reuse this in your own study

# %%
from rali_lab.reasoner.grpo import GrpoConfig, default_rewards

args = GrpoConfig(output_dir="out", max_steps=500, images_per_step=4, beta=1e-3)  # TRL's, and ours
rewards = default_rewards(args)  # functions with weights; append your own
# rali_lab.reasoner.grpo.train_grpo("a folder with your model", train, val, args=args, rewards=rewards)
print({k: getattr(args, k) for k in ("max_steps", "beta", "num_generations", "learning_rate")})

# %% [markdown]
# ## References
#
# Q-Insight, arXiv 2503.22679 · *Reasoning as Representation*, arXiv 2510.11369 · DeepSeekMath (GRPO), arXiv 2402.03300 · TRL's
# documentation of `GRPOTrainer`.
