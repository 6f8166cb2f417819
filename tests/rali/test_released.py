"""The released layout goes round, scores by the released formula, and code in its files is refused
unrun.
"""

from __future__ import annotations

import json
import os
import shutil

import joblib
import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rali_lab.rali.basis import compressor_arrays, fit_compressor
from rali_lab.rali.released import OfficialScorer, read_official, write_official

D, COMPONENTS, K = 12, 5, 7
RNG = np.random.default_rng(0)


def clip():
    from transformers import CLIPConfig, CLIPModel

    small = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    torch.manual_seed(0)
    return CLIPModel(
        CLIPConfig(
            text_config=small
            | {
                "vocab_size": 20,
                "max_position_embeddings": 8,
                "bos_token_id": 0,
                "eos_token_id": 1,
                "pad_token_id": 2,
            },
            vision_config=small | {"image_size": 32, "patch_size": 16},
            projection_dim=D,
        )
    ).eval()


def processor():
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


@pytest.fixture
def scorer():
    features = RNG.normal(2, 3, (40, D)) * np.arange(1, D + 1)
    return OfficialScorer(
        clip(),
        processor(),
        fit_compressor(features, COMPONENTS)[0],
        RNG.normal(size=(K, COMPONENTS)),
        RNG.uniform(1, 5, K),
    )


@pytest.fixture
def folder(scorer, tmp_path):
    return write_official(scorer, tmp_path / "released")


def test_round_trip(scorer, folder):
    images = [RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(3)]
    back = read_official(folder)
    np.testing.assert_allclose(back.embed(images), scorer.embed(images), atol=1e-6)
    np.testing.assert_allclose(back.predict(images), scorer.predict(images), atol=1e-9)
    assert back.predict([]).shape == (0,) and back.embed(images).shape == (3, D)


def test_the_score_is_the_released_formula(scorer):
    """Standardise by sqrt(var), project, cosine with every vector, softmax at tau, weighted mean:
    written out in torch.
    """
    z = RNG.normal(size=(50, D))
    mean, scale, u = map(torch.tensor, compressor_arrays(scorer.compressor).values())
    vectors, scores = torch.tensor(scorer.vectors), torch.tensor(scorer.scores)
    x = ((torch.tensor(z) - mean) / torch.sqrt(scale**2)) @ u.T
    logits = torch.nn.functional.cosine_similarity(x[:, None], vectors[None], dim=-1)
    expected = (torch.softmax(logits / 0.07, dim=1) * scores).sum(1)
    np.testing.assert_allclose(scorer.predict_embeddings(z), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("form", ["pca", "pipeline", "dict", "tuple"])
def test_projections_of_every_plain_form_project_as_scikit_learn_does(
    form, tmp_path, folder, scorer
):
    z = RNG.normal(3, 2, (60, D))
    scaler = StandardScaler().fit(z)
    pca = PCA(COMPONENTS).fit(z if form == "pca" else scaler.transform(z))
    held = {
        "pca": pca,
        "pipeline": make_pipeline(scaler, pca),
        "dict": {"scaler": scaler, "pca": pca},
        "tuple": (scaler, pca),
    }[form]
    joblib.dump(held, folder / "pca.pkl")
    expected = pca.transform(z if form == "pca" else scaler.transform(z))
    np.testing.assert_allclose(read_official(folder).compressor.transform(z), expected, atol=1e-9)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_projections_of_every_protocol_are_read(protocol, folder):
    z, new = RNG.normal(3, 2, (60, D)), RNG.normal(3, 2, (5, D))
    pca = PCA(COMPONENTS).fit(np.asfortranarray(z))
    joblib.dump(pca, folder / "pca.pkl", protocol=protocol)
    np.testing.assert_allclose(
        read_official(folder).compressor.transform(new), pca.transform(new), atol=1e-9
    )


def test_numpy_1_named_its_numbers_otherwise(folder):
    z = RNG.normal(3, 2, (60, D))
    pca = PCA(COMPONENTS).fit(z)
    joblib.dump(pca, folder / "pca.pkl", protocol=3)
    data = (folder / "pca.pkl").read_bytes()
    assert b"numpy._core.multiarray" in data
    (folder / "pca.pkl").write_bytes(
        data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    )
    np.testing.assert_allclose(
        read_official(folder).compressor.transform(z), pca.transform(z), atol=1e-9
    )


@pytest.mark.parametrize("left_out", ["with_mean", "with_std"])
def test_a_scaler_that_leaves_something_out_does_so_here(left_out, folder):
    z = RNG.normal(3, 2, (60, D)) * np.arange(1, D + 1)
    both = make_pipeline(StandardScaler(**{left_out: False}), PCA(COMPONENTS)).fit(z)
    joblib.dump(both, folder / "pca.pkl")
    np.testing.assert_allclose(
        read_official(folder).compressor.transform(z), both.transform(z), atol=1e-9
    )


def test_a_converted_projection_is_read_in_place_of_the_pickle(folder):
    """As the module's docstring converts it."""
    z = RNG.normal(3, 2, (60, D))
    scaler = StandardScaler().fit(z)
    pca = PCA(COMPONENTS).fit(scaler.transform(z))
    mean = scaler.mean_ + scaler.scale_ * pca.mean_
    np.savez(folder / "pca.npz", mean=mean, scale=scaler.scale_, components=pca.components_)
    (folder / "pca.pkl").unlink()
    expected = pca.transform(scaler.transform(z))
    np.testing.assert_allclose(read_official(folder).compressor.transform(z), expected, atol=1e-9)
    np.savez(folder / "pca.npz", mean=mean[1:], scale=scaler.scale_, components=pca.components_)
    with pytest.raises(
        ValueError,
        match=r"pca.npz: mean \(11,\), scale \(12,\) and components \(5, 12\) do not fit each",
    ):
        read_official(folder)
    (folder / "pca.npz").write_bytes((folder / "pca.npz").read_bytes()[:200])
    with pytest.raises(
        ValueError, match="pca.npz: expected plain arrays `mean` and `scale` and `components`"
    ):
        read_official(folder)


def test_a_folder_that_brings_code_is_refused_by_name(folder):
    for file in (
        "best/preprocessor_config.json",
        "best/config.json",
        "best/tokenizer_config.json",
        "config.json",
    ):
        before = (folder / file).read_text() if (folder / file).exists() else "{}"
        (folder / file).write_text(
            json.dumps(
                {**json.loads(before), "within": [{"auto_map": {"AutoImageProcessor": "evil.P"}}]}
            )
        )
        with pytest.raises(
            ValueError,
            match=rf"{file}: the model wants to run its own code \(evil.P\), which is refused",
        ):
            read_official(folder)
        (folder / file).write_text(before)
    read_official(folder)


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("hidden", ["bare", "in an array", "in a PCA"])
def test_code_in_the_projection_is_named_and_never_run(hidden, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pca = PCA(2).fit(RNG.normal(size=(9, D)))
    pca.extra = Evil()
    joblib.dump(
        {"bare": Evil(), "in an array": np.array([Evil()], dtype=object), "in a PCA": pca}[hidden],
        folder / "pca.pkl",
    )
    with pytest.raises(
        ValueError, match="pca.pkl: holds .*(system|array of Python objects).*refused"
    ):
        read_official(folder)
    assert not (tmp_path / "pwned").exists()


def test_other_estimators_are_named(folder):
    joblib.dump(LinearRegression().fit(RNG.normal(size=(5, 2)), np.arange(5)), folder / "pca.pkl")
    with pytest.raises(
        ValueError,
        match="holds sklearn.linear_model._base.LinearRegression, which a PCA does not need",
    ):
        read_official(folder)
    joblib.dump(StandardScaler().fit(RNG.normal(size=(5, 2))), folder / "pca.pkl")
    with pytest.raises(ValueError, match="holds no fitted PCA"):
        read_official(folder)
    joblib.dump(PCA(2, whiten=True).fit(RNG.normal(size=(9, D))), folder / "pca.pkl")
    with pytest.raises(ValueError, match="whitens"):
        read_official(folder)


def test_code_in_the_weights_is_never_run(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Evil()}, folder / "ckpt.pt")
    with pytest.raises(ValueError, match="ckpt.pt: cannot be read as plain weights"):
        read_official(folder)
    assert not (tmp_path / "pwned").exists()


def test_weights_replace_those_in_best_and_must_belong_there(folder):
    state = {
        f"module.{k}": v + 1
        for k, v in torch.load(folder / "ckpt.pt", weights_only=True).items()
        if v.is_floating_point()
    }
    torch.save(state, folder / "ckpt.pt")
    name = "visual_projection.weight"
    torch.testing.assert_close(
        read_official(folder).clip.state_dict()[name], state[f"module.{name}"]
    )
    torch.save({"stranger": torch.ones(1)}, folder / "ckpt.pt")
    with pytest.raises(ValueError, match="1 tensors have no place in best/, 'stranger' first"):
        read_official(folder)
    torch.save({name: torch.ones(2, 2)}, folder / "ckpt.pt")
    with pytest.raises(ValueError, match=r"visual_projection.weight is \(2, 2\)"):
        read_official(folder)


def test_parts_that_do_not_fit_each_other_are_named(folder):
    np.savez(folder / "basis.npz", vectors=np.ones((3, COMPONENTS + 1)), scores=np.ones(3))
    with pytest.raises(ValueError, match=r"basis.npz: vectors \(3, 6\)"):
        read_official(folder)
    np.savez(folder / "basis.npz", vectors=np.array([object()], dtype=object), scores=np.ones(1))
    with pytest.raises(ValueError, match="basis.npz: expected plain arrays"):
        read_official(folder)
    (folder / "basis.npz").write_bytes((folder / "basis.npz").read_bytes()[:300])
    with pytest.raises(ValueError, match="basis.npz: expected plain arrays"):
        read_official(folder)
    np.savez(folder / "basis.npz", vectors=np.ones((3, 2)), scores=np.ones(3))
    joblib.dump(PCA(2).fit(RNG.normal(size=(9, D + 1))), folder / "pca.pkl")
    with pytest.raises(ValueError, match="projects 13 features, best/ gives 12"):
        read_official(folder)
    shutil.rmtree(folder / "best")
    with pytest.raises(FileNotFoundError, match="best is missing"):
        read_official(folder)
