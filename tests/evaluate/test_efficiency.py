"""Cost: parameters by storage, interleaved timing, and peak memory against allocations of known
size.
"""

import time

import numpy as np
import pytest
import torch

from rali_lab.evaluate import count_parameters, measure_side_by_side, peak_memory

MB = 2**20
QUARTER = MB  # float32 numbers in 4 MB


def test_tied_weights_and_views_count_once():
    model = torch.nn.ModuleDict(
        {"a": torch.nn.Linear(8, 8, bias=False), "b": torch.nn.Linear(8, 8, bias=False)}
    )
    assert count_parameters(model) == 128
    model["b"].weight = model["a"].weight
    assert count_parameters(model) == 64
    assert count_parameters(model, model["a"], model["a"].weight.detach()[:4]) == 64


def test_tables_outside_a_module_count_and_flat_storage_is_not_lost():
    assert count_parameters(torch.nn.Linear(2, 3), np.zeros((5, 4)), np.zeros(7)) == 9 + 20 + 7
    flat = torch.zeros(10)
    assert count_parameters(flat[:4], flat[4:]) == 10


def test_meta_tensors_are_told_apart():
    assert count_parameters(torch.nn.Linear(4, 4, device="meta")) == 20


def test_runs_are_interleaved_in_alternating_order():
    calls = []
    measure_side_by_side(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, n_images=1, repeats=2
    )
    assert "".join(calls) == "baabba"


def test_ratio_and_seconds_per_image():
    found = measure_side_by_side(
        {"slow": lambda: time.sleep(0.03), "fast": lambda: time.sleep(0.003)}, n_images=3, repeats=5
    )
    assert (
        0.009
        < found.seconds["slow"].low
        <= found.seconds["slow"].median
        <= found.seconds["slow"].high
    )
    assert found.ratio["slow"].median == 1
    assert 0.05 < found.ratio["fast"].median < 0.5
    assert "of slow" in str(found)


def test_nothing_to_measure_is_an_error():
    with pytest.raises(ValueError, match="got 0 callables"):
        measure_side_by_side({}, n_images=1)


def test_two_tensors_alive_at_once():
    def both():
        a = torch.zeros(QUARTER)
        b = torch.ones(QUARTER)
        return a, b

    assert peak_memory(both) == 8 * MB


def test_freed_tensors_and_views_do_not_add_up():
    def one_after_the_other():
        for _ in range(5):
            a = torch.zeros(QUARTER)
            view = a.view(1024, -1).t()[:7]
            del a, view

    assert peak_memory(one_after_the_other) == 4 * MB


def test_inputs_from_numpy_and_temporaries_count():
    def double():
        return torch.from_numpy(np.ones(QUARTER, dtype=np.float32)) * 2

    assert peak_memory(double) == 8 * MB


def test_resident_modules_count_with_buffers_even_when_not_used():
    model = torch.nn.BatchNorm1d(QUARTER // 4, affine=True)
    assert peak_memory(lambda: None, resident=[model]) == 4 * MB + 8
    assert peak_memory(lambda: torch.zeros(QUARTER), resident=[model, model]) == 8 * MB + 8


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_activations_of_a_network(context):
    net = torch.nn.Sequential(*(torch.nn.Linear(256, 256, bias=False) for _ in range(4)))
    x = torch.zeros(1024, 256)  # 1 MB

    def forward():
        with context():
            net(x)

    weights = 4 * 256 * 256 * 4
    assert peak_memory(forward, resident=[net]) == pytest.approx(weights + 3 * MB, rel=0.01)


def test_inference_mode_sees_inside_composites():
    def forward():
        with torch.inference_mode():
            torch.nn.functional.cosine_similarity(torch.ones(1024, 1024), torch.ones(1024, 1024))

    assert peak_memory(forward) > 8 * MB


def test_autograd_keeps_activations_alive():
    def graph(grad):
        x = torch.zeros(QUARTER, requires_grad=grad)
        return x.exp().exp().exp()

    assert peak_memory(lambda: graph(True)) == 16 * MB
    assert peak_memory(lambda: graph(False)) == 12 * MB


def test_a_failing_call_leaves_nothing_behind():
    with pytest.raises(ZeroDivisionError):
        peak_memory(lambda: 1 / 0)
    assert peak_memory(lambda: torch.zeros(QUARTER)) == 4 * MB
