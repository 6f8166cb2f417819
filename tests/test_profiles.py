"""Profiles: typed, complete, and in step with the functions whose options they hold."""

from __future__ import annotations

import inspect
from dataclasses import asdict, fields, replace

import pytest

from rali_lab.data.domains import DOMAINS
from rali_lab.profiles import (
    PROFILES,
    AlignOptions,
    BasisOptions,
    GrpoOptions,
    Profile,
    SftOptions,
    get_profile,
)


def test_unknown_profile_names_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown profile 'huge'; known: tiny, small, small_cpu"):
        get_profile("huge")


@pytest.mark.parametrize("options", [GrpoOptions, SftOptions, AlignOptions, BasisOptions, Profile])
def test_a_misspelt_setting_is_an_error(options):
    with pytest.raises(TypeError, match="learning_rat"):
        options(learning_rat=1.0)


def test_every_domain_has_images_in_every_profile():
    for profile in PROFILES.values():
        assert list(profile.images) == list(DOMAINS)
        for name, counts in profile.images.items():
            assert (set(counts) == {"test"}) == (DOMAINS[name].role == "out")


def test_live_differs_from_the_recorded_sizes_in_the_probe_alone():
    tiny = get_profile("tiny")
    assert tiny.live.probe_images < tiny.probe_images
    assert replace(tiny.live, probe_images=tiny.probe_images) == tiny


def test_align_options_are_those_of_align():
    from rali_lab.rali.align import align

    known = inspect.signature(align).parameters
    for option in fields(AlignOptions):
        assert known[option.name].default == option.default


def test_basis_options_are_those_of_the_scorer():
    from rali_lab.rali.scorer import RaliScorer

    known = inspect.signature(RaliScorer).parameters
    assert set(asdict(BasisOptions())) == set(known) - {"random_state"}


def test_training_options_are_fields_of_trls_configurations(tmp_path):
    from rali_lab.reasoner.grpo import GrpoConfig
    from rali_lab.reasoner.sft import SftConfig

    for options, config in ((GrpoOptions, GrpoConfig), (SftOptions, SftConfig)):
        names = {option.name for option in fields(options)} - {"trl_options"}
        assert names <= {field.name for field in fields(config)}
        made = config.from_options(options(seed=7, trl_options={"logging_steps": 3}), tmp_path)
        assert (made.seed, made.logging_steps, made.output_dir) == (7, 3, str(tmp_path))
