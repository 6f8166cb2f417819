"""What every notebook opens with: where its results go, its checks, its claims, and the line that
says what it runs on.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rali_lab.estimate import Estimate
from rali_lab.reproduce import project
from rali_lab.reproduce.checks import NOTEBOOK_VARIABLE, Checks
from rali_lab.reproduce.claims import Ledger
from rali_lab.reproduce.provenance import device, versions

SHOWN = ("numpy", "torch", "transformers", "trl", "open_clip_torch", "scikit-learn")


@dataclass(frozen=True)
class Notebook:
    """The recorders of one notebook run; make it with `open_notebook`."""

    name: str
    profile: str
    out_dir: Path
    checks: Checks
    ledger: Ledger

    def figure(self, fig, name: str, data=None):
        """Save a figure as PNG, SVG and CSV of its values under `figures/`, and return it so that
        the cell shows it.
        """
        from rali_lab.plotting import save_figure

        return save_figure(
            fig,
            name,
            self.out_dir / "figures",
            data,
            provenance=f"notebook {self.name}, profile {self.profile}",
        )

    def verdict(
        self,
        id: str,
        estimate: Estimate,
        detail: str = "",
        seeds: int | Sequence[int] | None = None,
    ) -> str:
        """Judge a claim by an estimate (`Ledger.record`) and return the verdict."""
        return self.ledger.record(id, estimate, detail=detail, seeds=seeds)

    def not_testable(self, id: str, why: str) -> str:
        """Record why this run cannot judge a claim (`Ledger.not_testable`)."""
        return self.ledger.not_testable(id, why)

    def results(self, records: Iterable) -> None:
        """Add headline numbers (`rali_lab.evaluate.results.Record`) to results.json."""
        from rali_lab.evaluate.results import write_records
        from rali_lab.io import exclusive

        with exclusive(self.out_dir):
            write_records(self.out_dir / "results.json", records)


def open_notebook(
    name: str, *, profile: str, out_dir: str, claims: str | Path | None = None
) -> Notebook:
    """Print versions, device and profile, set the plotting style, open checks and claims.

    Parameters
    ----------
    name : str
        Number of the notebook, such as "02".
    profile : str
        Size of the run.
    out_dir : str
        Folder of the run, for figures, results.json, checks.json and claims.json; a relative one
        lies in the project (`rali_lab.reproduce.project.home`), whatever the kernel's own folder
        is.
    claims : str, Path or None
        The sentences of the paper and their rules, fixed before any run; by default the project's.

    Raises
    ------
    ProjectError
        Outside a checkout, or if `out_dir` cannot be written, with the way out.
    """
    from rali_lab.plotting import use_style

    # Progress bars are text here: a widget would be an empty line in the notebook that readers see.
    warnings.filterwarnings("ignore", message="IProgress not found")
    use_style()
    _embed_figures()
    sources = project.notebooks()
    folder = project.writable(project.under_home(out_dir))
    found = versions(SHOWN)
    print(f"notebook {name} | profile {profile} | {device()}")
    print(", ".join(f"{k} {v}" for k, v in found.items() if v))
    if project.home() != sources.parent:
        print(f"results are kept in the folder that {project.HOME_VARIABLE} names")
    recorded = sources.parent / "docs" / "results" / f"{profile}-checks.json"
    asked = os.environ.get(NOTEBOOK_VARIABLE) or f"interactive {name}"
    checks = Checks(folder / "checks.json", asked, recorded=recorded)
    return Notebook(
        name,
        profile,
        folder,
        checks,
        Ledger(claims or sources / "claims.toml", folder / "claims.json"),
    )


def _embed_figures() -> None:
    """Let Jupyter show figures that were made without pyplot, as PNG inside the notebook."""
    from IPython import get_ipython
    from IPython.core.pylabtools import select_figure_formats

    if (shell := get_ipython()) is not None:
        select_figure_formats(shell, {"png"})
