"""Arguments of a run: those of a profile's options, with typos refused and the choices recorded."""

import json
from dataclasses import fields, replace

import pytest

from rali_lab.profiles import GrpoOptions, SftOptions
from rali_lab.reasoner.grpo import GrpoConfig
from rali_lab.reasoner.sft import SftConfig


@pytest.mark.parametrize(
    ("config", "options"), [(GrpoConfig, GrpoOptions()), (SftConfig, SftOptions())]
)
def test_options_and_arguments_have_the_same_fields_and_defaults(config, options, tmp_path):
    made, usual = config.from_options(options, tmp_path), config(output_dir=str(tmp_path))
    for name in {f.name for f in fields(options)} - {"trl_options"}:
        assert getattr(made, name) == getattr(usual, name), name
        given = getattr(options, name)
        assert given is None or getattr(made, name) == given, name


def test_options_of_trl_are_passed_on_and_typos_are_refused(tmp_path):
    options = GrpoOptions(max_steps=30, trl_options={"top_p": 0.9, "max_steps": 7})
    made = GrpoConfig.from_options(options, tmp_path)
    assert (made.top_p, made.max_steps, made.warmup_steps) == (0.9, 7, 0)
    assert GrpoConfig(output_dir="x", max_steps=30).warmup_steps == 3
    assert GrpoConfig(output_dir="x", max_steps=300).warmup_steps == 5
    with pytest.raises(TypeError, match="top_pp"):
        GrpoConfig.from_options(replace(options, trl_options={"top_pp": 0.9}), tmp_path)


def test_settings_hold_what_was_chosen_and_no_folder(tmp_path):
    kept = GrpoConfig.from_options(GrpoOptions(trl_options={"top_p": 0.9}), tmp_path).settings()
    own = {f.name for f in fields(GrpoOptions)} - {"trl_options"}
    assert own | {"top_p"} <= kept.keys() and kept["top_p"] == 0.9
    assert str(tmp_path) not in json.dumps(kept, default=str) and "adam_beta1" not in kept
