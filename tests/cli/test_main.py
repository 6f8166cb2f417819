"""The command line: exit codes that scripts can trust, and nothing heavy before it is needed."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

from rali_lab import __version__, cli

ROOT = Path(__file__).parents[2]


def test_reproduce_passes_everything_on(monkeypatch):
    seen = []
    fake = types.ModuleType("rali_lab.reproduce.runner")
    fake.main = lambda argv: seen.append(argv)
    monkeypatch.setitem(sys.modules, "rali_lab.reproduce.runner", fake)
    monkeypatch.setattr("rali_lab.reproduce.runner", fake, raising=False)
    assert cli.main(["reproduce", "--profile", "tiny", "--only", "02", "--help"]) == 0
    assert seen == [["--profile", "tiny", "--only", "02", "--help"]]


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["data"],
        ["data", "check"],
        ["data", "check", "a", "--mos-range", "1"],
        ["score"],
        ["score", "a.png", "--colour"],
        ["data", "check", "a.csv", "--layout"],
        ["results", "--profile", "tiny", "--run-dir", "x"],
    ],
)
def test_wrong_usage_exits_with_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2 and "usage: rali-lab" in capsys.readouterr().err


def run(code, **options):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


@pytest.mark.parametrize(
    ("option", "first"), [("--version", f"rali-lab {__version__}"), ("--help", "usage: rali-lab")]
)
def test_version_and_help_stay_light(option, first):
    code = (
        "import sys; from rali_lab import cli\n"
        f"try: cli.main(['{option}'])\n"
        "finally: print(sorted({'torch', 'numpy', 'pandas', 'PIL', 'tqdm'} & set(sys.modules)))"
    )
    printed = run(code).stdout
    assert printed.startswith(first) and printed.endswith("\n[]\n")


def test_a_reader_that_leaves_early_is_no_error():
    """The pipe is closed by hand, as `head` would do."""
    code = (
        "import os, sys; from rali_lab import cli\n"
        "read, write = os.pipe(); os.close(read); os.dup2(write, 1)\n"
        "cli.show.results = lambda args: print('x' * 100_000) or 0\n"
        "sys.exit(cli.main(['results']))"
    )
    done = run(code)
    assert (done.returncode, done.stderr) == (141, "")
