# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · Start here: what is this about, and does it run on my machine?
#
# **The question.** A language model that reads an image, reasons about what is wrong with it and then writes a number judges image
# quality well, also on images unlike those it was trained on. Why, and can the same be had without the language model?
#
# **What you'll do**
# - read the argument in six sentences and see it as one diagram;
# - check the machine;
# - score an image, make it worse step by step, and follow the score;
# - score your own photographs from the command line;
# - compare the scores with those of people, where a set of rated photographs is at hand;
# - go through the figures of the last published run.
#
# **What you'll learn**: what a RALI score is and what it is not. **What you need**: nothing but this repository; no GPU, no network.
#
# | in | out |
# |---|---|
# | the small scorer that comes with the package; rated photographs if you have them | figures `00_*`, two records for `results.json` if you have them |
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

from rali_lab.profiles import get_profile
from rali_lab.rali.scorer import load_scorer
from rali_lab.reproduce.notebook import open_notebook

nb = open_notebook("00", profile=profile, out_dir=out_dir)
sizes = get_profile(profile)

# %% [markdown]
# ## 1 · The argument in six sentences
#
# The paper is *Reasoning as Representation: Rethinking Visual Reinforcement Learning in Image Quality Assessment* (arXiv 2510.11369).
#
# 1. Reinforcement learning turns a vision-language model into a scorer that first writes down what is wrong with an image and then rates
#    it, and this scorer does well on data sets it was not trained on.
# 2. While it writes the number it hardly attends to the image any more, but to its own words.
# 3. So the words hold the quality: they turn redundant visual features, which differ from one data set to the next, into a short text,
#    which does not.
# 4. Then a small image encoder that learns to land where the text of an image lies should score just as well.
# 5. That is **RALI**: align an image encoder with the reasoner's texts, compress, and read the score off a few hundred basis vectors, with
#    no language model and no text when an image is scored.
# 6. And where several data sets disagree about their scale, their texts still agree: **RACT** trains on the texts instead of the scores.
#
# This repository runs that argument from end to end in miniature, checks each sentence by a rule fixed beforehand, and reports what held.

# %%
from rali_lab.plotting import plot_pipeline

nb.figure(plot_pipeline(), "00_pipeline")

# %% [markdown]
# ## 2 · Check the machine
#
# The profile `tiny` wants two processor cores, a few gigabytes of memory and of disk, and some patience.

# %%
import os
import platform
import shutil
import sys

import psutil

memory, disk = psutil.virtual_memory().available / 2**30, shutil.disk_usage(nb.out_dir).free / 2**30
print(
    f"Python {platform.python_version()}, {os.cpu_count()} cores, {memory:.1f} GiB memory free, {disk:.1f} GiB disk free"
)
nb.checks.expect(
    "Python version (major + minor / 100)",
    sys.version_info[0] + sys.version_info[1] / 100,
    low=3.11,
    if_missed="make the environment again with Python 3.11 or newer (`make setup PYTHON=python3.11`)",
)
nb.checks.expect(
    "free memory in GiB",
    memory,
    low=2,
    if_missed="close other programs; notebook 02 would be killed half-way",
)
nb.checks.expect(
    "free disk in GiB", disk, low=1, if_missed="make room; artefacts and notebooks of a run need it"
)
# %% [markdown]
# ## 3 · Score an image
#
# `load_scorer` gives the RALI model that comes with the package (or the one of a folder that you name). It was aligned
# and fitted on generated images of three training sets (notebook 09); the cat below is a test scene.
#
# **Before you run:** a score runs from 1 (bad) to 5 (excellent). Guess one for this image.

# %%
from rali_lab.data.content import photographs
from rali_lab.plotting import plot_images_grid

scorer = load_scorer()
cat = photographs("chelsea", count=1, seed=seed)[0]
score = float(scorer.predict([cat])[0])
print(f"{scorer.parameters():,} numbers, image {cat.shape}")
nb.figure(
    plot_images_grid([cat], [f"RALI {score:.2f}"]),
    "00_a_score",
    pd.DataFrame({"image": ["chelsea"], "score": [score]}),
)

# %% [markdown]
# One number says little. Make the image worse, and worse again: the number must follow.
#
# **Before you run:** which of the three will RALI punish most at level 1?

# %%
from rali_lab.experiments.rated_images import distorted

KINDS = ("gaussian_blur", "gaussian_noise", "jpeg")
levels = {kind: [cat, *distorted(cat, kind)] for kind in KINDS}  # level 0: the image as it is
rows = [
    {"distortion": kind, "level": level, "score": s}
    for kind in KINDS
    for level, s in enumerate(scorer.predict(levels[kind]))
]
what = [f"{r['distortion'].replace('_', ' ')}, level {r['level']}" for r in rows]
fig = plot_images_grid(
    [x for kind in KINDS for x in levels[kind]],
    [f"{w if r['level'] else 'as it is'}\nRALI {r['score']:.2f}" for r, w in zip(rows, what)],
    columns=6,
    note="a scene that RALI was not trained on; levels as in notebook 01",
)
nb.figure(fig, "00_levels", pd.DataFrame(rows))

# %% [markdown]
# The same for several crops of every test scene, and the mean.

# %%
from rali_lab.data.domains import TEST
from rali_lab.plotting.opinion_scores import plot_levels

rows = []
for scene in TEST:
    for crop, image in enumerate(photographs(scene, count=3, seed=seed)):
        for kind in KINDS:
            for level, s in enumerate(scorer.predict([image, *distorted(image, kind)])):
                rows.append((scene, crop, kind, level, s))
scored = pd.DataFrame(rows, columns=["scene", "crop", "distortion", "level", "score"])
n = scored.groupby(["scene", "crop"]).ngroups
drawn = scored.groupby(["distortion", "level"], sort=False)["score"].agg(["mean", "std"])
drawn["half"] = 1.96 * drawn["std"] / np.sqrt(n)
note = (
    f"mean over n = {n} crops of {len(TEST)} test scenes, bars: 95 % intervals; level 0: as it is"
)
label = "RALI score (1-5, higher is better)"
fig = plot_levels(drawn.reset_index(), value="mean", label=label, note=note)
nb.figure(fig, "00_score_falls", scored)

# %%
mean = scored.groupby(["distortion", "level"])["score"].mean().unstack()
nb.checks.expect(
    "points lost from the image as it is to level 5, the least of the three",
    (mean[0] - mean[5]).min(),
    low=0.8,
    if_missed="the scorer ignores this distortion; was it saved from a run whose checks failed?",
)
falls = float((mean.diff(axis=1).iloc[:, 1:] < 0).mean(axis=None))
nb.checks.expect(
    "share of the steps at which the mean score falls",
    falls,
    low=0.8,
    if_missed="scores go up and down; compare with the validation error in notebook 06",
)
mean.round(2)

# %% [markdown]
# ## 4 · Score your own photographs
#
# On the command line, with files or folders, in any common format and size:
#
# ```
# rali-lab score photo.jpg holiday/
# rali-lab score --json holiday/ > scores.jsonl
# ```
#
# Every line is one image. What cannot be read is named on the error stream, the others are still scored, and the exit code says that
# something was wrong. Here are a few awkward files, made on the spot; in your own shell the command is `rali-lab score .`.

# %%
import contextlib
import tempfile
from pathlib import Path

from PIL import Image

from rali_lab import cli

with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
    image = Image.fromarray(cat)
    image.save("photo.jpg", quality=92)
    image.convert("CMYK").save("for_print.jpg", quality=92)
    image.convert("L").save("grey.png")
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter before it is shown, as telephones write it
    image.rotate(90).save("from_a_phone.jpg", quality=92, exif=exif)
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save("sixteen_bits.png")
    Image.merge("RGBA", (*image.split(), Image.new("L", image.size, 200))).save(
        "half_transparent.webp"
    )
    Path("broken.jpg").write_bytes(Path("photo.jpg").read_bytes()[:1500])
    code = cli.main(["score", "."])
print("exit code", code)
nb.checks.expect(
    "exit code with one broken file among good ones",
    code,
    low=1,
    high=1,
    if_missed="a damaged image went unnoticed, or the good ones were not scored",
)
# %% [markdown]
# ## 5 · Against people
#
# Everything so far was judged by a formula. If a folder with photographs rated by people is at hand, the same scorer is tested on them
# as it is: nothing is trained on them, no image is resized. The set is a part of the LIVE In the Wild Challenge; it is not in this
# repository. Put `ratings.csv` (image, mos, std) and `images/` in a folder and name it in the environment variable `RALI_LAB_LIVEC`.
#
# **Before you run:** RALI has learned from a few hundred synthetic images. What rank correlation with people would you call a success?

# %%
from rali_lab.reproduce.project import rated_photographs

livec = rated_photographs()
if livec is None:
    rated = pd.DataFrame()
    print(
        "no photographs rated by people are at hand; set RALI_LAB_LIVEC to the folder that holds them, and run again"
    )
else:
    from rali_lab.data.datasets import read_dataset
    from rali_lab.data.records import mos_of
    from rali_lab.experiments import custom_dataset

    people = read_dataset(
        livec / "ratings.csv",
        image_dir=livec / "images",
        domain="livec",
        mos_range=(0, 100),
        fractions=(0, 0, 1),
    )[: sizes.real_limit]
    # kept as an artefact, which notebook 10 finds
    score = custom_dataset.extract_features(people, report=lambda line: None)["rali"]
    rated = pd.DataFrame({"image": [p.id for p in people], "mos": mos_of(people), "score": score})
    print(f"{len(rated)} photographs rated by people")

# %%
from rali_lab.evaluate import Record, correlate
from rali_lab.plotting import plot_score_scatter

if len(rated):
    measured = {
        kind: correlate(rated["score"], rated["mos"], kind=kind, n_boot=sizes.n_boot)
        for kind in ("plcc", "srcc")
    }
    nb.results(
        Record.of(m, profile=profile, method="rali", domain="livec", role="real")
        for m in measured.values()
    )
    print("zero-shot, native size:", *measured.values(), sep="\n  ")
    nb.checks.expect(
        "SRCC with human scores",
        measured["srcc"].value,
        low=0.1,
        if_missed="the scores say nothing about real photographs; are colours and sizes read as in data/images.py?",
    )
    drawn = rated.assign(domain="livec")
    fig = plot_score_scatter(
        drawn, correlations={"livec": measured["srcc"]}, label="MOS of people", note="zero-shot"
    )
    fig.set_size_inches(4, 4)
    display(nb.figure(fig, "00_livec", drawn))

# %% [markdown]
# Read the number with care: our images are small and wronged by formula, theirs are large and taken by people with telephones, out of
# focus, in bad light, and people also judge the subject. What is tested is whether anything of the learned quality carries over.
#
# ## 6 · The story in figures
#
# These come from the last published run and were drawn by the notebooks named in front.

# %%
from IPython.display import Image as Show
from IPython.display import Markdown

from rali_lab.reproduce import project

story = {
    "02_training": "**Notebook 02.** Reinforcement learning: do the ratings get better, and do the words stay correct?",
    "02_what_went_wrong": "**Notebook 02.** A run that failed while its reward was rising.",
    "06_temperature": "**Notebook 06.** The score as a softmax over basis vectors, with and without a temperature.",
    "07_accuracy": "**Notebook 07.** Five methods on five domains, with intervals.",
    "07_efficiency": "**Notebook 07.** What teacher and RALI cost.",
}
for name, text in story.items():
    file = project.notebooks().parent / "figures" / f"{name}.png"
    display(Markdown(text))
    display(
        Show(filename=str(file), width=720)
        if file.is_file()
        else Markdown(
            f"*`figures/{file.name}` is not there yet: run notebook {name[:2]}, or `make reproduce` and `make publish`.*"
        )
    )

# %% [markdown]
# ## 7 · Where to go next
#
# | notebook | question |
# |---|---|
# | [01_images_and_opinion_scores](01_images_and_opinion_scores.ipynb) | What is an opinion score, and how does one fool oneself with it? |
# | [02_train_the_reasoner](02_train_the_reasoner.ipynb) | How does reinforcement learning turn a model that names defects into one that rates? |
# | [06_build_rali](06_build_rali.ipynb) | Can a small encoder score images with what the reasoner wrote? |
# | [07_evaluate](07_evaluate.ipynb) | Does it hold: accuracy, intervals, cost, and the verdict on each claim? |
#
# `make reproduce` runs them all, `make lab` opens them. Reading order is number order; each can be read alone once the artefacts exist.
#
# ## If it went differently
#
# | symptom | cause | fix |
# |---|---|---|
# | `FileNotFoundError: no RALI model in ...` | the package came without its scorer | `make reproduce`, then give the folder to `load_scorer(...)` or `--model` |
# | `sha256 is ..., expected ...` | the model file was damaged on its way | check it out or copy it again |
# | a score hardly moves under a distortion | a kind that neither base model nor teacher ever named | compare the naming accuracy in notebook 07 |
# | a large sharp photograph scores low | noise or JPEG blocks at full size, which scaling down would hide | scale it as it will be seen, then score again |
#
# ## Exercises
#
# **1 (easy, 5 minutes).** Does the score change if the image is mirrored? Score the cat and its mirror image and
# call `check_1(score, score_of_mirror)`.
#
# <details><summary>Hint</summary>`cat[:, ::-1]` mirrors; `np.ascontiguousarray` makes a proper array of it.</details>
# <details><summary>Solution</summary>
#
# ```python
# check_1(*scorer.predict([cat, np.ascontiguousarray(cat[:, ::-1])]))
# ```
# </details>
#
# **2 (medium, 10 minutes).** Find a change that gives the cat a *better* score, without making a new image: sharpen it,
# denoise it, change its contrast. Call `check_2(your_image)`.
#
# <details><summary>Hint</summary>`PIL.ImageFilter.UnsharpMask` is a beginning. What does a higher score prove, and what not?</details>
# <details><summary>Solution</summary>
#
# ```python
# from PIL import ImageFilter
# blurred = distorted(cat, "gaussian_blur")[0]
# check_2(np.asarray(Image.fromarray(blurred).filter(ImageFilter.UnsharpMask(2, 150, 0))), before=blurred)
# ```
# </details>


# %%
def check_1(score: float, mirrored: float) -> str:
    close = abs(score - mirrored) < 0.5 and score != mirrored
    return f"{'right' if close else 'not yet'}: {score:.3f} and {mirrored:.3f}; a mirror image is another image to a convolution, but no worse one"


def check_2(image: np.ndarray, before: np.ndarray = cat) -> str:
    old, new = scorer.predict([before, image])
    return f"{'right' if new > old else 'not yet'}: from {old:.2f} to {new:.2f}; only people could tell whether it is better"


# %% [markdown]
# ## What to take away
#
# - A RALI score is a weighted mean of known scores: no language model speaks when an image is scored.
# - A scorer must be seen to fall when an image gets worse, before any correlation is worth reporting.
# - A score without people behind it is a pseudo-score; say so.
#
# ## Reuse this in your own study

# %%
from rali_lab.data.images import find_images, read_image
from rali_lab.rali.scorer import load_scorer

rali = load_scorer()  # or load_scorer("folder of your own model")
with tempfile.TemporaryDirectory() as folder:
    Image.fromarray(cat).save(Path(folder) / "photo.png")
    for file in find_images(folder):  # files and folders, searched recursively
        print(f"{rali.predict([read_image(file)])[0]:.2f}  {file.name}")

# %% [markdown]
# ## References
#
# - The paper: *Reasoning as Representation*, ICLR 2026, arXiv 2510.11369. Its teacher: Q-Insight, arXiv 2503.22679.
# - D. Ghadiyaram and A. C. Bovik, *Massive online crowdsourced study of subjective and objective image quality*, IEEE TIP 2016, and the
#   *LIVE In the Wild Image Quality Challenge Database*, 2015 (section 5).
#
# Next: [01_images_and_opinion_scores](01_images_and_opinion_scores.ipynb).
