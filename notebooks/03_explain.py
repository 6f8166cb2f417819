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
# # 03 · Explain: where does the score come from, the words or the image?
#
# **The question.** The heart of the paper is one causal sentence: a reasoning model reads its score from the text it has written, not
# from the image. The evidence it shows is a map of attention. Attention says where a model looks, not what its answer depends on.
# So: does the score change when the words are changed, and does it stay when the image is taken away?
#
# **What you'll do**
# - compute an attention share and a knock-out by hand, on two tokens, and meet a head that looks at something it does not use;
# - measure where the score tokens look, and draw the paper's Fig. 3;
# - block attention, hide the image, swap the words, and watch the ratings;
# - ask whether reinforcement learning did this, or any training on the same scores would have;
# - enter the verdicts into the claims ledger.
#
# **What you'll learn**: attention share per token and in total; sinks; knock-outs and their detours; conflict of cues; controls.
#
# **What you need**: notebook 02 has been run (it makes the teacher); basic Python.
#
# | in | out |
# |---|---|
# | teacher and images (artefacts), tables of three seeds (docs/results) | probe of this seed (artefact), figures `03_*`, verdicts in `claims.json` |
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
from IPython.display import display

from rali_lab import experiments
from rali_lab.reproduce.notebook import open_notebook
from rali_lab.profiles import get_profile

nb = open_notebook("03", profile=profile, out_dir=out_dir)
sizes = get_profile(profile)

# %% [markdown]
# ## 1 · Two tokens, by hand
#
# A score token looks at two tokens, one of the image (P) and one of the text (T). Its query meets their keys with the logits
# `ln 1` and `ln 19`, so the softmax gives P 1/20 and T 19/20: the paper's 5 % and 95 %. What it reads is the mean of their values,
# weighted by these shares, and the score is that number.
#
# On paper, for an image whose P carries the value 4 and whose T carries 2:
#
# - as it is: `.05 · 4 + .95 · 2 = 2.10`
# - P blocked: all attention goes to T, so `2.00`: a change of −0.10
# - T blocked: all attention goes to P, so `4.00`: a change of +1.90
#
# Now the trap. Let T say the *same* for every image (value 2 always) while P differs from image to image. T still gets 95 %.
# For three images with P = 1, 3, 5 the scores are 1.95, 2.05, 2.15: all that distinguishes them comes through the 5 %. Block T
# and the scores are 1, 3, 5, in the same order, correlation 1. Block P and all three are 2: nothing is left.
# **A share of 95 % with no causal part in the ranking.** Check it:


# %%
def read(logits, values, blocked=None):
    """What one query reads: softmax over keys, of which one may be blocked."""
    logits = torch.tensor(logits, dtype=torch.float64)
    if blocked is not None:
        logits[blocked] = -torch.inf
    share = logits.softmax(0)
    return share, float(share @ torch.tensor(values, dtype=torch.float64))


LOGITS, P, T = [np.log(1.0), np.log(19.0)], 0, 1
share, score = read(LOGITS, [4.0, 2.0])
assert np.allclose(share, [0.05, 0.95]) and np.isclose(score, 2.10)
assert np.isclose(read(LOGITS, [4.0, 2.0], blocked=P)[1], 2.00)
assert np.isclose(read(LOGITS, [4.0, 2.0], blocked=T)[1], 4.00)

trap = pd.DataFrame(
    {
        "P": [1.0, 3.0, 5.0],
        "as it is": [read(LOGITS, [p, 2.0])[1] for p in (1.0, 3.0, 5.0)],
        "T blocked": [read(LOGITS, [p, 2.0], blocked=T)[1] for p in (1.0, 3.0, 5.0)],
        "P blocked": [read(LOGITS, [p, 2.0], blocked=P)[1] for p in (1.0, 3.0, 5.0)],
    }
)
assert np.allclose(trap["as it is"], [1.95, 2.05, 2.15]) and trap["P blocked"].nunique() == 1
trap

# %% [markdown]
# The library must do the same. This is torch's own attention with the block as a mask, and the same numbers:


# %%
def library(values, blocked=None):
    """The same through torch's scaled_dot_product_attention: keys are the logits, the query is 1."""
    query, keys = (
        torch.ones(1, 1, 1, 1),
        torch.tensor(LOGITS, dtype=torch.float32).reshape(1, 1, 2, 1),
    )
    seen = torch.tensor([[i != blocked for i in (P, T)]])
    value = torch.tensor(values, dtype=torch.float32).reshape(1, 1, 2, 1)
    return torch.nn.functional.scaled_dot_product_attention(
        query, keys, value, attn_mask=seen, scale=1.0
    ).item()


for values in ([4.0, 2.0], [1.0, 2.0], [5.0, 2.0]):
    for blocked in (None, P, T):
        assert np.isclose(library(values, blocked), read(LOGITS, values, blocked)[1], atol=1e-6)
print("nine cases agree")

# %% [markdown]
# ## 2 · One probe, thirteen conditions
#
# `rali_lab.interpret` lays an answer out token by token (image, prompt, reasoning, format, score, and the first token of all, the
# *sink*, which attracts attention whatever it says), reads attention row by row, and blocks it through the attention mask of any
# transformers model. The same code runs on Qwen2.5-VL; the tests do so on a miniature.
#
# Every answer keeps its own words unless the condition changes them; then only the digits of the rating are sampled again.
#
# **Before you run:** which loses more, hiding the image from the whole answer, or hiding the words from the digits?

# %%
live = experiments.explain(sizes.live, seed=seed)
print(live)
print(
    "answers without reasoning or rating:",
    (live.path / "unread.json").read_text().replace("\n", ""),
)
tables = experiments.seed_tables(sizes, "mechanism", live, seed=seed)
print(f"tables of seeds {tables.seeds}: {tables.origin}")
print(
    ""
    if tables.controls
    else "nothing is checked in for this profile: what follows compares this run with itself"
)

# %% [markdown]
# The probe of this seed was made here, now. Verdicts need more than one training, so the tables of several seeds are checked in, made
# by `make bench-seeds`, with the trainings that the controls need. The first check: does this run agree with what is checked in?

# %%
from rali_lab.experiments.reports import difference, mean_correlation, pooled

ratings = pd.read_parquet(live.path / "ratings.parquet")


def conditions(table, model):
    """Ratings of one model with the condition in the place of the method, as `rali_lab.experiments.reports` takes them."""
    return (
        table[table["model"] == model]
        .rename(columns={"condition": "method"})
        .reset_index(drop=True)
    )


kept = tables["ratings"][tables.seeds.index(seed) if seed in tables.seeds else 0]
kept = kept[
    kept["image"].isin(ratings["image"])
]  # the tables hold more images than are asked about here
both = [
    mean_correlation([conditions(t, "teacher")], "as written", role=None, n_boot=200)
    for t in (ratings, kept)
]
print("teacher as written, this run:   ", both[0])
print("teacher as written, checked in: ", both[1])
nb.checks.observe(
    "the checked-in tables tell the same story as this run (difference of PLCC)",
    abs(both[0].value - both[1].value),
    high=0.1,
    if_missed="the tables belong to an older teacher: run `make bench-seeds`",
)

# %% [markdown]
# ## 3 · Where the score tokens look
#
# One answer, all heads: what the tokens that decide the digits look at (their mean). The image's tokens are drawn as one column.

# %%
from rali_lab.data.records import select
from rali_lab.interpret import attention_share, score_rows
from rali_lab.plotting import plot_image_attention, plot_score_attention
from rali_lab.models.vlm import load_policy

teacher = load_policy(experiments.train_teacher(sizes, seed=seed).path)
images = {p.id: p for p in select(experiments.images(sizes), split="test")}
answers = pd.read_parquet(live.path / "answers-teacher.parquet").query(
    "sample == 0 and status == 'ok'"
)
shown = [
    images[i]
    for i in answers["image"]
    if images[i].domain == "photo" and len(images[i].distortions) == 1
][:8]
texts = answers.set_index("image")["text"].loc[[p.id for p in shown]].tolist()
rows = score_rows(*teacher, [p.pixels() for p in shown], texts)
heat = pd.DataFrame(
    rows[0].weights.reshape(-1, len(rows[0].tokens)),
    columns=[f"{i} {t}" for i, t in enumerate(rows[0].tokens)],
)
nb.figure(
    plot_score_attention(
        rows[0].tokens,
        rows[0].groups,
        rows[0].weights,
        title=f"teacher, {shown[0].id}",
        note="rows: heads; mean over the tokens that decide the rating's digits",
    ),
    "03_attention_map",
    heat,
)

# %%
side = int(np.sqrt(rows[0].of("image").shape[-1]))
grids = [r.of("image").mean((0, 1)).reshape(side, side) for r in rows]
captions = [
    f"{p.distortions[0].level_word} {p.distortions[0].name.replace('_', ' ')}\nimage: {100 * g.sum():.0f} % of attention"
    for p, g in zip(shown, grids)
]
nb.figure(
    plot_image_attention(
        [p.pixels() for p in shown],
        grids,
        captions,
        note="bright: where the score tokens look; mean over layers and heads",
    ),
    "03_attention_images",
)

# %% [markdown]
# Over all images and seeds. Left the total, right the attention per token: a kind that holds many tokens gets much in total without
# being preferred.

# %%
from rali_lab.interpret import GROUPS
from rali_lab.plotting import plot_token_shares

attention = pd.concat(tables["attention"], ignore_index=True)
bars = []
for model, part in attention.groupby("model", sort=False):
    tokens = part[[f"tokens_{g}" for g in GROUPS]].to_numpy()
    even = tokens / tokens.sum(1, keepdims=True)
    for i, g in enumerate(GROUPS):
        bars.append(
            {
                "method": model,
                "group": g,
                "share": part[f"share_{g}"].mean(),
                "tokens": tokens[:, i].mean(),
                "per_token": (part[f"share_{g}"] / even[:, i]).mean(),
            }
        )
bars = pd.DataFrame(bars)
nb.figure(
    plot_token_shares(
        bars,
        note=f"{attention['image'].nunique()} images, seeds {tables.seeds}; mean over layers and heads",
    ),
    "03_attention_share",
    bars,
)


# %%
def reasoning_share(table):
    part = table[table["model"] == "teacher"]
    return (part["share_reasoning"] / (part["share_reasoning"] + part["share_image"])).mean()


def with_counts(found, table):
    return {
        "value": found[0],
        "ci_low": found[1],
        "ci_high": found[2],
        "n": len(table[0]),
        "seeds": tables.seeds,
    }


teachers = [t[t["model"] == "teacher"] for t in tables["attention"]]
nb.ledger.record(
    "mechanism.attention_share",
    **with_counts(pooled(teachers, reasoning_share, n_boot=sizes.n_boot), teachers),
    detail=" and ".join(
        f"{pd.concat(teachers)[f'tokens_{g}'].mean():.0f} {g} tokens"
        for g in ("image", "reasoning")
    ),
)
sums = attention[[f"share_{g}" for g in GROUPS]].sum(axis=1)
nb.checks.expect(
    "shares sum to one (largest deviation)",
    float((sums - 1).abs().max()),
    high=1e-3,
    if_missed="some tokens belong to no kind, or the rows are not softmax rows",
)

# %% [markdown]
# ## 4 · Taking things away
#
# PLCC under each condition minus PLCC as written, paired on the same images. *score to image*: the tokens that decide the digits
# may not look at the image. A detour remains: the words before them have looked. *all to image* closes it. *score to prompt* is
# the control: what does it cost to block something that should not matter?

# %%
from rali_lab.interpret.probe import CONFLICT, CONTROLS, INTACT, TEXT_ONLY, WITHOUT
from rali_lab.interpret import KNOCKOUTS
from rali_lab.plotting import plot_effects

models = list(dict.fromkeys(attention["model"]))
effects = []
for condition in (*KNOCKOUTS, TEXT_ONLY, *CONTROLS, WITHOUT):
    for model in models:
        found = difference(
            [conditions(t, model) for t in tables["ratings"]],
            condition,
            INTACT,
            role=None,
            n_boot=sizes.n_boot,
        )
        effects.append(
            {
                "effect": condition,
                "method": model,
                "value": found.value,
                "ci_low": found.ci_low,
                "ci_high": found.ci_high,
                "unread": np.mean(
                    [
                        conditions(t, model).query("method == @condition")["unread"].mean()
                        for t in tables["ratings"]
                    ]
                ),
            }
        )
effects = pd.DataFrame(effects)
nb.figure(
    plot_effects(
        effects,
        xlabel="change of PLCC, mean over five domains",
        bands=[TEXT_ONLY, WITHOUT],
        note=f"seeds {tables.seeds}; intervals over scenes and seeds, paired with the ratings as written",
    ),
    "03_knockout",
    effects,
)

# %%
effects.pivot(index="effect", columns="method", values="unread").loc[
    list(dict.fromkeys(effects["effect"])), models
].round(3)

# %% [markdown]
# The last table counts ratings that could not be read (they are left out, never replaced). Read the figure with it: an answer that breaks
# down under a knock-out says less than one that goes on.


# %%
def gap(a, b, model="teacher"):
    """PLCC of condition a minus that of b, mean over all generated domains, as fields of a verdict."""
    found = difference(
        [conditions(t, model) for t in tables["ratings"]], a, b, role=None, n_boot=sizes.n_boot
    )
    return {
        "value": found.value,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "n": found.n,
        "seeds": tables.seeds,
    }


nb.ledger.record("mechanism.image_knockout", **gap("score to image", INTACT))
nb.ledger.record("mechanism.text_knockout", **gap("all to image", "answer to reasoning"))
nb.ledger.record("mechanism.text_only", **gap(TEXT_ONLY, INTACT))
nb.ledger.record("mechanism.reasoning_off", **gap(INTACT, WITHOUT))

shuffled = mean_correlation(
    [conditions(t, "teacher") for t in tables["ratings"]], CONTROLS[0], role=None, n_boot=200
)
nb.checks.expect(
    "another image's words alone say nothing about this one (PLCC)",
    shuffled.value,
    low=-0.25,
    high=0.25,
    if_missed="words and images are still paired somewhere: look at `donors`",
)

# %% [markdown]
# ## 5 · When image and words disagree
#
# Look back at the bars: how far do base model and teacher differ in where they look? If attention were the whole story, reinforcement
# learning would have changed just as much about where the score comes from. **Before you run:** more, less, or nothing?
#
# The sharpest test: this image, another image's words. If the score is read from the words it follows the donor; if it is read
# from the image it stays. The rating is regressed on both; the *weight of the text* is its coefficient over the sum of the two.

# %%
from rali_lab.experiments.reports import text_weights

weights = []
for model in models:
    conflicts = [t[t["model"] == model] for t in tables["conflict"]]
    value, low, high = pooled(conflicts, text_weights, n_boot=sizes.n_boot, counted=True)
    weights.append(
        {
            "effect": "weight of the text",
            "method": model,
            "value": value,
            "ci_low": low,
            "ci_high": high,
            "n": len(conflicts[0]),
        }
    )
weights = pd.DataFrame(weights)
nb.figure(
    plot_effects(
        weights,
        xlabel="0: follows the image alone     1: follows the text alone",
        reference=0.5,
        xlim=(0, 1),
        note=f"{CONFLICT}, seeds {tables.seeds}, intervals over scenes and seeds",
    ),
    "03_conflict",
    weights,
)


# %%
def weight_of(model):
    """Weight of the text of one model in every draw; `counts` says how often each row of the table was drawn."""
    return lambda table, counts: text_weights(
        table[table["model"] == model], counts[:, table["model"] == model]
    )


def weight_gap(a, b):
    return lambda table, counts: weight_of(a)(table, counts) - weight_of(b)(table, counts)


def weight_verdict(statistic, of):
    kept = [t[t["model"].isin(of)].reset_index(drop=True) for t in tables["conflict"]]
    return with_counts(
        pooled(kept, statistic, n_boot=sizes.n_boot, counted=True),
        [t[t["model"] == of[0]] for t in kept],
    )


nb.ledger.record("mechanism.conflict", **weight_verdict(weight_of("teacher"), ["teacher"]))
nb.ledger.record(
    "mechanism.rl_shift", **weight_verdict(weight_gap("teacher", "base"), ["teacher", "base"])
)
if tables.controls:
    nb.ledger.record(
        "mechanism.rl_not_sft",
        **weight_verdict(weight_gap("teacher", "supervised"), ["teacher", "supervised"]),
    )
else:
    nb.ledger.not_testable("mechanism.rl_not_sft", "needs the supervised control: make bench-seeds")

# %% [markdown]
# ## 6 · How much is in the words at all?
#
# An outside reader: ridge regression from MiniLM embeddings of the teacher's rationales, trained on the training images, reads the
# test images' rationales. If it did far better than the teacher reading its own words alone, the words would hold more than the
# teacher uses. The teacher as written, which sees the image too, stands beside.

# %%
from rali_lab.rali.baselines import ridge_scores
from rali_lab.evaluate.correlation import plcc
from rali_lab.models.clip import embed_texts, load_base_clip

clip = load_base_clip()


def embedded(table, ids):
    """Mean embedding of each image's rationales, (n, d)."""
    told = table[table["status"] == "ok"]
    return (
        pd.DataFrame(embed_texts(clip, told["reasoning"].tolist()))
        .groupby(told["image"].to_numpy())
        .mean()
        .loc[ids]
        .to_numpy()
    )


written = pd.read_parquet(experiments.write_reasoning(sizes, seed=seed).path / "rationales.parquet")
train = [
    p
    for p in select(experiments.images(sizes), domain="photo", split="train")
    if p.id in set(written["image"])
]
told = pd.read_parquet(live.path / "answers-teacher.parquet")
intact, alone = (
    ratings.query("model == 'teacher' and condition == @c").dropna(subset="score")
    for c in (INTACT, TEXT_ONLY)
)
read_by_ridge = ridge_scores(
    embedded(written, [p.id for p in train]),
    np.array([p.mos for p in train]),
    [p.source for p in train],
    embedded(told, intact["image"].tolist()),
)
outside = intact.assign(ridge=read_by_ridge)
reading = {
    "teacher as written": (intact, "score"),
    "teacher, its words alone": (alone, "score"),
    "ridge on its words": (outside, "ridge"),
}
pd.DataFrame(
    {
        name: {d: plcc(t[column], t["mos"]) for d, t in table.groupby("domain", sort=False)}
        for name, (table, column) in reading.items()
    }
).T.round(3)

# %% [markdown]
# ## 7 · Is it reinforcement learning, and does it need the reasoning?
#
# Two more trainings on the same images, for every seed: *supervised*, where the base model's own reasoning is kept and its rating
# replaced by the true one; and *RL without reasoning*, the same rewards, but every answer begins with an empty `<think></think>` in training
# and in use. The paper's Table A.1 is of that kind. All are scored alike, by the mean of independent sampled answers.
#
# The supervised control is not quite fair: part of the teacher's prompts ask for the degradation and reward it (the cell prints how many),
# while the control sees scores alone; and the settings were tuned for reinforcement learning.

# %%
print(
    f"share of the teacher's prompts that reward naming: {sizes.grpo.get('degradation_share', 0):.0%}"
)
if tables.controls:
    alike = {"base|base": "base", "photo|photo": "teacher"}  # both modules of one model
    asked = [t.assign(method=t["method"].astype(str).replace(alike)) for t in tables["scores"]]
    found = {
        (m, where): mean_correlation(asked, m, role=role, n_boot=sizes.n_boot)
        for m in ("base", "supervised", "unreasoned", "teacher")
        for where, role in (("trained domain", "in"), ("other domains", "out"))
    }
    trained = pd.DataFrame(
        [
            {
                "effect": where,
                "method": m,
                "value": c.value,
                "ci_low": c.ci_low,
                "ci_high": c.ci_high,
            }
            for (m, where), c in found.items()
        ]
    )
    for id, b, role in (
        ("teacher.rl_over_sft", "supervised", "out"),
        ("mechanism.reasoning_off_trained", "unreasoned", None),
    ):
        d = difference(asked, "teacher", b, role=role, n_boot=sizes.n_boot)
        nb.ledger.record(id, d.value, d.ci_low, d.ci_high, d.n, tables.seeds)
    display(
        nb.figure(
            plot_effects(
                trained,
                xlabel="PLCC",
                reference=None,
                note=f"seeds {tables.seeds}; intervals over scenes and seeds",
            ),
            "03_training",
            trained,
        )
    )
else:
    for id in ("teacher.rl_over_sft", "mechanism.reasoning_off_trained"):
        nb.ledger.not_testable(id, "needs trainings of its own: make bench-seeds")

# %% [markdown]
# ## 8 · Swapping the language modules
#
# The paper's Table 1: two teachers, trained on two data sets, exchange their language models; elsewhere the scores hardly change. Ours
# were trained on photographs and on procedural images and meet the three domains that neither has seen. "photo | procedural" is
# the vision side of the first with the language module of the second. The vision tower is frozen in all of them, so what is combined is
# a projector and a language model. The controls with the base model's modules show how much there is to lose.
#
# The verdict is on the PLCC *lost* by an exchange. An absolute change would never be near zero: two samplings of one and the same teacher
# already differ by more than the paper's .01 on so few images.

# %%
from rali_lab.evaluate.bootstrap import correlations

if tables.controls:
    elsewhere = ("authentic", "novel", "generated")
    away = [s[s["domain"].isin(elsewhere)].reset_index(drop=True) for s in tables["scores"]]
    rows = []
    for vision, language in experiments.SWAPS:
        c = mean_correlation(away, f"{vision}|{language}", role=None, n_boot=sizes.n_boot)
        rows.append(
            {
                "effect": f"{vision} | {language}",
                "method": "base" if "base" in (vision, language) else "teacher",
                "value": c.value,
                "ci_low": c.ci_low,
                "ci_high": c.ci_high,
            }
        )
    swaps = pd.DataFrame(rows)
    display(
        nb.figure(
            plot_effects(
                swaps,
                xlabel="PLCC, mean over three domains that neither training saw",
                reference=None,
                bands=["photo | base"],
                note="vision side | language module; grey: with a module of the base model",
            ),
            "03_swap",
            swaps,
        )
    )

    def changes(table, counts):
        """PLCC with the other training's language module minus that with its own, for each draw, and each vision side and domain."""

        def found(method, domain):
            rows = ((table["method"] == method) & (table["domain"] == domain)).to_numpy()
            return correlations(
                *table.loc[rows, ["score", "mos"]].to_numpy(float).T, counts[:, rows], "plcc"
            )

        pairs = (("photo", "procedural"), ("procedural", "photo"))
        changed = [
            found(f"{own}|{other}", d) - found(f"{own}|{own}", d)
            for own, other in pairs
            for d in elsewhere
        ]
        return np.stack(changed, axis=1)

    lost = pooled(
        away, lambda t, counts: -changes(t, counts).mean(axis=1), n_boot=sizes.n_boot, counted=True
    )
    nb.ledger.record(
        "mechanism.module_swap", *lost, n=away[0]["image"].nunique(), seeds=tables.seeds
    )
    print(
        "mean absolute change:",
        round(float(np.mean([np.abs(changes(t, np.ones((1, len(t))))).mean() for t in away])), 3),
    )
else:
    nb.ledger.not_testable("mechanism.module_swap", "needs a second teacher: make bench-seeds")

# %% [markdown]
# ## If it went differently
#
# | symptom | likely cause | what to do |
# |---|---|---|
# | "no eager attention to switch to" | a fused kernel that yields no weights | load with `attn_implementation="eager"` |
# | many unread ratings under one knock-out | the model breaks down there, it does not reason differently | read the share first, the PLCC second |
# | blocking the image changes nothing, text alone does | the prompt's tokens carry the image on | use "all to image" |
# | weight of the text exactly 0 or 1, or NaN | one of the two has no influence, or too few answers | more images; look at `conflict` |
#
# ## Exercises
#
# **1 · The trap, reversed** (easy, 5 min). Find values for P and T so that T gets 95 % of the attention, every image's T differs, and
# blocking P still changes the *order* of two images. Pass two pairs `(P, T)` to the check.


# %%
def check_order(first, second):
    before = read(LOGITS, list(first))[1] - read(LOGITS, list(second))[1]
    after = read(LOGITS, list(first), blocked=P)[1] - read(LOGITS, list(second), blocked=P)[1]
    assert first[1] != second[1] and before * after < 0, (
        "P must differ by more than 19 times what T does, the other way"
    )
    print("right")


# %% [markdown]
# <details><summary>hint</summary>The score is .05 P + .95 T: a difference of 0.1 in T is outweighed by one above 1.9 in P.</details>
# <details><summary>solution</summary>
#
# ```python
# check_order((5.0, 2.0), (1.0, 2.1))
# ```
# </details>
#
# **2 · Which layer?** (medium, 10 min). `rate(..., layers=[k])` blocks a single layer. Hide the reasoning from the answer in one layer at a
# time: how far do the ratings of the eight images of section 3 move? Pass the four mean absolute changes to the check.


# %%
def check_layers(moved):
    assert len(moved) == len(teacher[0].get_decoder().layers) and min(moved) >= 0, (
        "one mean absolute change for every layer"
    )
    print("well formed; most sensitive: layer", int(np.argmax(moved)) + 1)


# %% [markdown]
# <details><summary>hint</summary>Sample greedily (`samples=1, temperature=0`), so that what changes is not the dice.</details>
# <details><summary>solution</summary>
#
# ```python
# from rali_lab.interpret import rate
# from rali_lab.reasoner.prompts import parse
# words, seen = [parse(t).reasoning for t in texts], [p.pixels() for p in shown]
# greedy = dict(samples=1, temperature=0)
# plain = rate(*teacher, seen, words, **greedy)
# check_layers([np.nanmean(np.abs(rate(*teacher, seen, words, block=KNOCKOUTS["answer to reasoning"], layers=[k], **greedy) - plain))
#               for k in range(len(teacher[0].get_decoder().layers))])
# ```
# </details>
#
# ## Takeaways
#
# - A share of attention is not an effect: pair it with a knock-out, and every knock-out with its detours closed.
# - Put cues in conflict: the only way to see which one wins is to let them disagree.
# - "Is it RL?" needs another training on the same scores beside it; "does it need the reasoning?" needs a training without.
#
# ## Reuse this in your own study

# %%
from rali_lab.interpret import rate

model, processor = teacher  # any image-text-to-text model of transformers with its processor
share = attention_share(model, processor, [p.pixels() for p in shown[:2]], texts[:2])
blind = rate(
    model,
    processor,
    [p.pixels() for p in shown[:2]],
    ["There is serious blur.", "There is slight noise."],
    block=KNOCKOUTS["all to image"],
    samples=4,
)
print(
    "share of the reasoning:",
    share.text_share().round(2),
    " ratings without sight of the image:",
    blind.mean(1).round(2),
)

# %% [markdown]
# ## References
#
# *Reasoning as Representation*, arXiv 2510.11369 · Jain & Wallace, *Attention is not Explanation*, arXiv 1902.10186 · Geva et al.,
# *Dissecting Recall of Factual Associations* (attention knock-out), arXiv 2304.14767 · Xiao et al., *Attention Sinks*, arXiv 2309.17453.
