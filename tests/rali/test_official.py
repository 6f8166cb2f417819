"""The released layout goes round, scores by the released formula, and a pickle that holds anything else is refused unrun."""

from __future__ import annotations

import os
import pickle
import shutil

import joblib
import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rali_lab.rali.basis import Compressor
from rali_lab.rali.official import OfficialScorer, read_official, read_pickled_pca, write_official

D, COMPONENTS, K = 12, 5, 7
RNG = np.random.default_rng(0)


def clip():
    from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    return CLIPModel(CLIPConfig(
        text_config=small | {"vocab_size": 20, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2},
        vision_config=small | {"image_size": 32, "patch_size": 16}, projection_dim=D,
    )).eval()  # fmt: skip


def processor():
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


@pytest.fixture
def scorer():
    features = RNG.normal(2, 3, (40, D)) * np.arange(1, D + 1)
    return OfficialScorer(clip(), processor(), Compressor(COMPONENTS).fit(features), RNG.normal(size=(K, COMPONENTS)), RNG.uniform(1, 5, K))


@pytest.fixture
def folder(scorer, tmp_path):
    return write_official(scorer, tmp_path / "released")


def test_round_trip(scorer, folder):
    pictures = [RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(3)]
    back = read_official(folder)
    np.testing.assert_allclose(back.embed(pictures), scorer.embed(pictures), atol=1e-6)
    np.testing.assert_allclose(back.predict(pictures), scorer.predict(pictures), atol=1e-9)
    assert back.predict([]).shape == (0,) and back.embed(pictures).shape == (3, D)


def test_the_score_is_the_released_formula(scorer):
    """Standardise by sqrt(var), project, cosine with every vector, softmax at tau, weighted mean: written out in torch."""
    z = RNG.normal(size=(50, D))
    mean, var = torch.tensor(scorer.compressor.mean_), torch.tensor(scorer.compressor.scale_ ** 2)
    u, vectors, scores = (torch.tensor(a) for a in (scorer.compressor.components_, scorer.vectors, scorer.scores))
    x = ((torch.tensor(z) - mean) / torch.sqrt(var)) @ u.T
    logits = torch.nn.functional.cosine_similarity(x[:, None], vectors[None], dim=-1)
    expected = (torch.softmax(logits / 0.07, dim=1) * scores).sum(1)
    np.testing.assert_allclose(scorer.predict_embeddings(z), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("form", ["pca", "pipeline", "dict", "tuple"])
def test_projections_of_every_plain_form_project_as_scikit_learn_does(form, tmp_path, folder, scorer):
    z = RNG.normal(3, 2, (60, D))
    scaler = StandardScaler().fit(z)
    pca = PCA(COMPONENTS).fit(z if form == "pca" else scaler.transform(z))
    held = {"pca": pca, "pipeline": make_pipeline(scaler, pca), "dict": {"scaler": scaler, "pca": pca}, "tuple": (scaler, pca)}[form]
    joblib.dump(held, folder / "pca.pkl")
    expected = pca.transform(z if form == "pca" else scaler.transform(z))
    np.testing.assert_allclose(read_official(folder).compressor.transform(z), expected, atol=1e-9)


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("hidden", ["bare", "in an array", "in a PCA"])
def test_code_in_the_projection_is_named_and_never_run(hidden, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pca = PCA(2).fit(RNG.normal(size=(9, D)))
    pca.extra = Evil()
    joblib.dump({"bare": Evil(), "in an array": np.array([Evil()], dtype=object), "in a PCA": pca}[hidden], folder / "pca.pkl")
    with pytest.raises(ValueError, match="pca.pkl: holds .*(system|array of Python objects).*refused"):
        read_official(folder)
    assert not (tmp_path / "pwned").exists()


def test_other_estimators_are_named(folder):
    joblib.dump(LinearRegression().fit(RNG.normal(size=(5, 2)), np.arange(5)), folder / "pca.pkl")
    with pytest.raises(ValueError, match="holds sklearn.linear_model._base.LinearRegression, which a PCA does not need"):
        read_official(folder)
    joblib.dump(StandardScaler().fit(RNG.normal(size=(5, 2))), folder / "pca.pkl")
    with pytest.raises(ValueError, match="holds no fitted PCA"):
        read_official(folder)
    joblib.dump(PCA(2, whiten=True).fit(RNG.normal(size=(9, D))), folder / "pca.pkl")
    with pytest.raises(ValueError, match="whitens"):
        read_official(folder)


def test_compressed_and_broken_pickles_are_named(folder):
    joblib.dump(PCA(2).fit(RNG.normal(size=(9, 3))), folder / "pca.pkl", compress=3)
    with pytest.raises(ValueError, match="compressed or no pickle"):
        read_pickled_pca(folder / "pca.pkl")
    whole = pickle.dumps([1.0] * 50)
    (folder / "pca.pkl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="pca.pkl: (is broken|holds)"):
        read_pickled_pca(folder / "pca.pkl")


def test_code_in_the_weights_is_never_run(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Evil()}, folder / "ckpt.pt")
    with pytest.raises(ValueError, match="ckpt.pt: cannot be read as plain weights"):
        read_official(folder)
    assert not (tmp_path / "pwned").exists()


def test_weights_replace_those_in_best_and_must_belong_there(folder):
    state = {f"module.{k}": v + 1 for k, v in torch.load(folder / "ckpt.pt", weights_only=True).items() if v.is_floating_point()}
    torch.save(state, folder / "ckpt.pt")
    name = "visual_projection.weight"
    torch.testing.assert_close(read_official(folder).clip.state_dict()[name], state[f"module.{name}"])
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
    np.savez(folder / "basis.npz", vectors=np.ones((3, 2)), scores=np.ones(3))
    joblib.dump(PCA(2).fit(RNG.normal(size=(9, D + 1))), folder / "pca.pkl")
    with pytest.raises(ValueError, match="projects 13 features, best/ gives 12"):
        read_official(folder)
    shutil.rmtree(folder / "best")
    with pytest.raises(FileNotFoundError, match="best is missing"):
        read_official(folder)
