"""What `rali_lab.analysis` costs, side by side in one process: `python -m scripts.bench_analysis`.

Debiased linear CKA against the n x n Gram formula and against torch-cka, a stream of a million
rows, the permutation null and the import time. Writes docs/BENCH_ANALYSIS.md and
docs/results/bench-analysis.json. Peak memory of functions is what Python and NumPy allocate beside
the arrays handed in (tracemalloc; work space inside BLAS is not seen); of processes, the resident
set.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rali_lab.reproduce.tables import markdown_table

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Sizes:
    """How large each measurement is; ``seed`` makes the arrays."""

    n: int = 10_000
    d: int = 768
    stream_n: int = 1_000_000
    batch: int = 4096
    null_n: int = 2000
    null_d: int = 384
    draws: int = 1000
    repeats: int = 5
    seed: int = 0


def arrays(n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two float64 arrays (n, d) with population CKA 0.5: the second is the first plus as much
    noise.
    """
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X, X + rng.standard_normal((n, d))


def gram_as_written(X: np.ndarray, Y: np.ndarray) -> float:
    """The formula of Song et al. (2012) as it stands, and as torch-cka and platonic-rep compute it:
    trace(K L), O(n³).
    """
    return _gram(X, Y, lambda A, B: np.trace(A @ B))


def gram_elementwise(X: np.ndarray, Y: np.ndarray) -> float:
    """The same with sum(K * L) for the trace: O(n² d), the best that n x n matrices allow."""
    return _gram(X, Y, lambda A, B: np.vdot(A, B))


def against_gram(sizes: Sizes) -> dict:
    """Seconds, peak bytes and values of ours and the two Gram formulas on the same arrays."""
    from rali_lab.analysis import cka

    X, Y = arrays(sizes.n, sizes.d, sizes.seed)
    found = {}
    for name, function, repeats in (
        ("ours", cka, sizes.repeats),
        ("gram elementwise", gram_elementwise, 2),
        ("gram as written", gram_as_written, 1),
    ):
        found[name] = _measured(lambda f=function: f(X, Y), repeats)
    for name in ("gram elementwise", "gram as written"):
        other = found[name]
        other["times ours"] = other["seconds"] / found["ours"]["seconds"]
        other["our share of memory"] = found["ours"]["bytes"] / other["bytes"]
        other["difference"] = abs(other["value"] - found["ours"]["value"])
    return {"n": sizes.n, "d": sizes.d, **found}


def stream(n: int, d: int, batch: int, seed: int) -> dict:
    """Debiased CKA of ``n`` rows made batch by batch; run in a process of its own, whose peak
    resident set is reported.
    """
    import resource

    from rali_lab.analysis import StreamingCKA

    rng, cka, start = np.random.default_rng(seed), StreamingCKA(), time.perf_counter()
    for first in range(0, n, batch):
        X = rng.standard_normal((min(batch, n - first), d), dtype=np.float32)
        cka.update(X, X + rng.standard_normal(X.shape, dtype=np.float32))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
    return {
        "n": n,
        "d": d,
        "value": cka.result(),
        "expected": 0.5,
        "seconds": time.perf_counter() - start,
        "bytes": peak,
    }


def null(sizes: Sizes) -> dict:
    """Seconds for a permutation null of linear CKA, and for two other measures with shared work."""
    from rali_lab.analysis import cka, mutual_knn, significance

    X, Y = arrays(sizes.null_n, sizes.null_d, sizes.seed)
    found = {}
    for name, measure, options in (
        ("cka", cka, {}),
        ("cka, rbf", cka, {"kernel": "rbf"}),
        ("mutual_knn", mutual_knn, {}),
    ):
        start = time.perf_counter()
        result = significance(
            measure, X, Y, n_permutations=sizes.draws, random_state=sizes.seed, **options
        )
        found[name] = {"seconds": time.perf_counter() - start, "result": str(result)}
    return {"n": sizes.null_n, "d": sizes.null_d, "draws": sizes.draws, **found}


def against_torch_cka(sizes: Sizes) -> dict:
    """torch-cka from PyPI on the same float32 arrays (it takes no other), one batch; then with a
    mean added to noise.
    """
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            import torch_cka  # noqa: F401
    except ImportError:
        return {"installed": False}
    from rali_lab.analysis import cka

    X, Y = (A.astype(np.float32) for A in arrays(sizes.null_n, sizes.null_d, sizes.seed))
    ours, theirs = (_measured(lambda f=f: f(X, Y), sizes.repeats) for f in (cka, torch_cka_value))
    noise = (
        np.random.default_rng(sizes.seed)
        .standard_normal((2, 1000, sizes.null_d))
        .astype(np.float32)
    )
    offsets = {
        str(m): {"ours": cka(*(noise + m)), "torch-cka": _or_error(torch_cka_value, *(noise + m))}
        for m in (0, 10, 1000)
    }
    return {
        "installed": True,
        "n": sizes.null_n,
        "d": sizes.null_d,
        "ours": ours,
        "torch-cka": theirs,
        "times ours": theirs["seconds"] / ours["seconds"],
        "noise plus mean": offsets,
    }


def torch_cka_value(X: np.ndarray, Y: np.ndarray) -> float:
    """torch-cka compares layers of modules fed by loaders: here identities fed with the arrays, all
    rows in one batch.
    """
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    from torch_cka import CKA

    loaders = [DataLoader(TensorDataset(torch.as_tensor(A)), batch_size=len(A)) for A in (X, Y)]
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        them = CKA(
            *(torch.nn.Sequential(torch.nn.Identity()) for _ in loaders), "X", "Y", ["0"], ["0"]
        )
        them.compare(*loaders)
    return them.hsic_matrix.item()


def import_seconds(repeats: int = 7) -> dict:
    """Median seconds that `import rali_lab.analysis` takes after numpy and scipy, in fresh
    processes; and what it loads.
    """
    code = (
        "import sys, time, numpy, scipy; t = time.perf_counter(); import rali_lab.analysis; t ="
        " time.perf_counter() - t; print(t, [m for m in ('torch', 'umap', 'sklearn', 'pandas',"
        " 'matplotlib') if m in sys.modules])"
    )
    lines = [_python("-c", code).split(maxsplit=1) for _ in range(repeats)]
    return {
        "seconds": statistics.median(float(seconds) for seconds, _ in lines),
        "heavy": lines[0][1].strip(),
    }


def measure(sizes: Sizes) -> dict:
    """Everything above, with the facts of the machine."""
    from rali_lab.reproduce.provenance import commit, versions

    machine = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        "python": platform.python_version(),
        "versions": versions(["numpy", "scipy", "torch", "torch-cka"]),
        "commit": commit(),
    }
    arguments = [str(x) for x in (sizes.stream_n, sizes.d, sizes.batch, sizes.seed)]
    # First, while this process is small: on Linux a child's peak starts at what its parent held
    # when it was made.
    streamed = json.loads(_python("-m", "scripts.bench_analysis", "--stream", *arguments))
    return {
        "sizes": asdict(sizes),
        "machine": machine,
        "gram": against_gram(sizes),
        "stream": streamed,
        "null": null(sizes),
        "torch_cka": against_torch_cka(sizes),
        "import": import_seconds(),
    }


def targets(found: dict) -> list[tuple[str, str, str, bool]]:
    """What was asked for, what was measured and whether it was reached."""
    written, streamed, draws, them = (
        found["gram"]["gram as written"],
        found["stream"],
        found["null"],
        found["torch_cka"],
    )
    speed, memory, difference = (
        written["times ours"],
        written["our share of memory"],
        written["difference"],
    )
    peak, seconds, load = (
        streamed["bytes"] / 1e9,
        draws["cka"]["seconds"],
        found["import"]["seconds"],
    )
    rows = [
        ("speed against the Gram formula as written", ">= 100 x", f"{speed:.0f} x", speed >= 100),
        ("memory against the Gram formula as written", "< 5 %", f"{memory:.1%}", memory < 0.05),
        ("difference from the Gram formula", "<= 1e-8", f"{difference:.1e}", difference <= 1e-8),
        (
            f"peak of a process streaming {streamed['n']:,} rows",
            "< 1 GB",
            f"{peak:.2f} GB",
            peak < 1,
        ),
        (
            f"{draws['draws']} null draws, n = {draws['n']}, d = {draws['d']}",
            "seconds",
            f"{seconds:.1f} s",
            seconds < 60,
        ),
        ("import over numpy and scipy", "<= 0.1 s", f"{load:.3f} s", load <= 0.1),
    ]
    if them["installed"]:
        failed = [
            mean
            for mean, row in them["noise plus mean"].items()
            if isinstance(row["torch-cka"], str)
        ]
        rows.append(
            (
                "speed against torch-cka",
                "> 1 x",
                f"{them['times ours']:.1f} x",
                them["times ours"] > 1,
            )
        )
        rows.append(
            (
                "a number where torch-cka fails",
                "always",
                f"noise with mean {' and '.join(failed) or '-'}",
                bool(failed),
            )
        )
    return rows


def page(found: dict) -> str:
    """docs/BENCH_ANALYSIS.md from what `measure` returned."""
    gram, streamed, draws, machine = (found[key] for key in ("gram", "stream", "null", "machine"))
    facts = [
        machine["cpu"],
        f"{machine['cores']} cores",
        f"OMP_NUM_THREADS {machine['threads']}",
        f"Python {machine['python']}",
    ]
    facts += [
        f"{name} {version or 'not installed'}" for name, version in machine["versions"].items()
    ]
    values = {name: gram[name] for name in ("ours", "gram elementwise", "gram as written")}
    parts = [
        "# Cost of `rali_lab.analysis`",
        (
            f"Generated by `python -m scripts.bench_analysis`. {', '.join(facts)}. Seed"
            f" {found['sizes']['seed']}."
        ),
        markdown_table(
            ["what", "target", "measured", "reached"],
            [[a, b, c, "yes" if ok else "**no**"] for a, b, c, ok in targets(found)],
        ),
        f"## Debiased linear CKA, n = {gram['n']:,}, d = {gram['d']}",
        'Median wall clock; peak of what is allocated beside the two arrays. "As written"'
        " multiplies the n x n matrices, as torch-cka "
        "and platonic-rep do; with the elementwise product instead, the formula costs"
        f" {gram['gram elementwise']['times ours']:.1f} times "
        f"ours and ours {gram['gram elementwise']['our share of memory']:.1%} of its memory.",
        markdown_table(
            ["method", "time", "peak memory", "value"],
            [
                [name, _seconds(v["seconds"]), f"{v['bytes'] / 1e6:.0f} MB", f"{v['value']:.12f}"]
                for name, v in values.items()
            ],
        ),
        f"## Stream of {streamed['n']:,} rows, d = {streamed['d']}",
        (
            f"{_seconds(streamed['seconds'])} with making the rows, peak resident set"
            f" {streamed['bytes'] / 1e6:.0f} MB, CKA {streamed['value']:.6f} (population"
            f" {streamed['expected']})."
        ),
        f"## Null of {draws['draws']} permutations, n = {draws['n']}, d = {draws['d']}",
        markdown_table(
            ["measure", "time", "result"],
            [
                [k, _seconds(v["seconds"]), v["result"]]
                for k, v in draws.items()
                if isinstance(v, dict)
            ],
        ),
        "## torch-cka",
        _torch_cka_text(found["torch_cka"]),
    ]
    return "\n\n".join(parts) + "\n"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--stream",
        nargs=4,
        type=int,
        metavar=("N", "D", "BATCH", "SEED"),
        help="only the stream, as JSON (used by itself)",
    )
    args = parser.parse_args(argv)
    if args.stream:
        print(json.dumps(stream(*args.stream)))
        return
    from rali_lab.io import write_json

    found = measure(Sizes())
    write_json(ROOT / "docs" / "results" / "bench-analysis.json", found)
    (ROOT / "docs" / "BENCH_ANALYSIS.md").write_text(page(found), encoding="utf-8")
    print(page(found))


def _gram(
    X: np.ndarray, Y: np.ndarray, product: Callable[[np.ndarray, np.ndarray], float]
) -> float:
    K, L, n = X @ X.T, Y @ Y.T, len(X)
    np.fill_diagonal(K, 0)
    np.fill_diagonal(L, 0)

    def hsic(A: np.ndarray, B: np.ndarray) -> float:
        a, b = A.sum(axis=1), B.sum(axis=1)
        return product(A, B) + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (a @ b)

    return float(hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L)))


def _measured(function: Callable[[], float], repeats: int) -> dict:
    """Median seconds of ``repeats`` calls, then the peak of one more under tracemalloc (the only
    one if ``repeats`` is 1).
    """
    seconds = []
    for _ in range(repeats - 1):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    start = time.perf_counter()
    value = function()
    seconds.append(time.perf_counter() - start)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"value": value, "seconds": statistics.median(seconds), "bytes": peak}


def _or_error(function: Callable[..., float], *arguments) -> float | str:
    try:
        return function(*arguments)
    except (AssertionError, ZeroDivisionError) as error:
        return f"{type(error).__name__}: {error}"


def _torch_cka_text(them: dict) -> str:
    if not them["installed"]:
        return "Not installed: `pip install torch-cka` (or the `bench` extra), then run again."
    ours, theirs, cases = them["ours"], them["torch-cka"], them["noise plus mean"]
    text = (
        f"The same float32 arrays (it takes no other), n = {them['n']}, d = {them['d']}, one batch:"
        f" ours {_seconds(ours['seconds'])} in float64, torch-cka {_seconds(theirs['seconds'])} in"
        f" float32; values {ours['value']:.6f} and {theirs['value']:.6f}. Then independent noise,"
        " whose true value is 0, with a mean added, as activations have one:"
    )
    answers = {mean: row["torch-cka"] for mean, row in cases.items()}
    shown = {mean: x if isinstance(x, str) else f"{x:.4f}" for mean, x in answers.items()}
    return (
        text
        + "\n\n"
        + markdown_table(
            ["mean", "ours", "torch-cka"], [[m, f"{cases[m]['ours']:.4f}", shown[m]] for m in cases]
        )
    )


def _python(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _seconds(s: float) -> str:
    return f"{s:.3g} s"


if __name__ == "__main__":
    main()
