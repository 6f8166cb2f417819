"""The base CLIP: its head learns which statistics belong to which description."""

import numpy as np
import torch

from rali_lab.data.records import Distortion
from rali_lab.models.clip import build_clip
from scripts.base_model.pretrain_clip import pretrain_clip


def test_the_head_learns_descriptions_and_nothing_else_moves():
    rng = np.random.default_rng(0)
    kinds = [(Distortion(name, 3),) for name in ("gaussian_blur", "jpeg", "darkening")]
    centres = rng.normal(0, 3, (3, 196))
    statistics = np.concatenate([c + rng.normal(size=(40, 196)) for c in centres]).astype("float16")
    lines = []
    options = {"epochs": 10, "batch_size": 30, "noise": 0.1, "report": lines.append}
    model = pretrain_clip(statistics, [k for k in kinds for _ in range(40)], **options)
    assert [line.split(":")[0] for line in lines] == ["clip epoch 5", "clip epoch 10"]
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines]
    assert losses[1] < losses[0] < np.log(30)
    fresh, _ = build_clip(seed=0)
    for name, value in model.state_dict().items():
        moves = name.startswith("visual.head") or "stat_" in name or name == "logit_scale"
        assert torch.equal(value, fresh.state_dict()[name]) != moves, name
    raw = statistics.astype(np.float32)
    np.testing.assert_allclose(model.visual.trunk.stat_mean.numpy(), raw.mean(axis=0), atol=1e-3)
