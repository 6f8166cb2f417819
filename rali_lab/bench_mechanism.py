"""Where the score comes from, over several seeds: `python -m rali_lab.bench_mechanism` (what `make bench-mechanism` runs).

Per seed four reasoners are trained: the teacher, one without reasoning, one on another domain and a supervised one (some 20 minutes a
seed on two cores). What they rate goes as small tables into docs/results/<profile>-mechanism/, where notebook 03 finds it. Everything
made is kept, so a killed run resumes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from rali_lab import pipeline
from rali_lab.lab.artifacts import write_json
from rali_lab.lab.provenance import stamp
from rali_lab.profiles import get_profile


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args(argv)
    profile, parts, keys = get_profile(args.profile), {}, {}
    for seed in args.seeds:
        for made in (pipeline.explain(profile, seed=seed), pipeline.explain_controls(profile, seed=seed)):
            print(made, flush=True)
            keys.setdefault(str(seed), []).append(made.key)
            for file in [f for f in sorted(made.path.glob("*.parquet")) if not f.stem.startswith("answers")]:
                parts.setdefault(file.stem, []).append(pd.read_parquet(file).assign(seed=seed))
    write(pipeline.kept_tables_folder(profile), parts, {"profile": args.profile, "seeds": args.seeds, "artefacts": keys})


def write(folder: Path, parts: dict[str, list[pd.DataFrame]], about: dict) -> None:
    """The tables of all seeds, rounded to four decimals, and where they come from."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tables in parts.items():
        table = pd.concat(tables, ignore_index=True)
        numbers = table.select_dtypes("number").columns.drop("seed")
        text = {c: "category" for c in table.columns if table[c].dtype == object}
        table.astype({c: "float32" for c in numbers} | text).round({c: 4 for c in numbers}).to_parquet(
            folder / f"{name}.parquet", index=False, compression="zstd"
        )
    write_json(folder / "provenance.json", about | {"made_by": "make bench-mechanism", **stamp()})


if __name__ == "__main__":
    main()
