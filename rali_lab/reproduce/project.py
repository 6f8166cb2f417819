"""Where things lie: the checkout, and the folder that runs, artefacts and models are kept in.

Nothing here depends on the current folder, so a notebook finds the same places from JupyterLab, VS
Code, `jupyter nbconvert` and papermill.
"""

from __future__ import annotations

import os
from pathlib import Path

HOME_VARIABLE = "RALI_LAB_HOME"
"""Environment variable that names the folder in which results are kept."""
RATED_VARIABLE = "RALI_LAB_LIVEC"
"""Environment variable that names a folder of photographs rated by people: ratings.csv and images/.
"""


class ProjectError(RuntimeError):
    """A place is missing or cannot be written."""


def checkout() -> Path | None:
    """The folder of the checkout that this package is part of; None for an installed copy."""
    folder = Path(__file__).resolve().parents[2]
    return (
        folder
        if (folder / "notebooks" / "claims.toml").is_file()
        and (folder / "pyproject.toml").is_file()
        else None
    )


def home() -> Path:
    """The folder under which runs/, artifacts/ and models/ lie.

    RALI_LAB_HOME where it is set; else the checkout; else, for an installed package, the user's
    data folder (`rali-lab doctor` prints it).
    """
    if named := os.environ.get(HOME_VARIABLE):
        return Path(named).expanduser().resolve()
    if (folder := checkout()) is not None:
        return folder
    import platformdirs

    return platformdirs.user_data_path("rali_lab")


def under_home(path: str | Path) -> Path:
    """An absolute path as it is; a relative one below `home`."""
    return home() / Path(path).expanduser()


def notebooks() -> Path:
    """The folder of the notebooks and of claims.toml.

    Raises
    ------
    ProjectError
        Outside a checkout, saying how to get one.
    """
    folder = checkout()
    if (
        folder is None
        and HOME_VARIABLE in os.environ
        and (home() / "notebooks" / "claims.toml").is_file()
    ):
        folder = home()
    if folder is None:
        raise ProjectError(
            "the notebooks belong to a checkout of rali_lab, and this installed package is none:"
            f" clone the repository and run `make lab` in it, or set {HOME_VARIABLE} to the folder"
            " of a clone"
        )
    return folder / "notebooks"


def writable(folder: str | Path) -> Path:
    """Make a folder and try to write into it.

    Raises
    ------
    ProjectError
        If it cannot be made or written, with the system's reason and the way out.
    """
    folder = Path(folder)
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ProjectError(
            f"{folder} cannot be written ({error.strerror or error}); make room or give rights"
            f" there, or set {HOME_VARIABLE} to another folder"
        ) from error
    return folder


def rated_photographs() -> Path | None:
    """The folder of rated photographs that RALI_LAB_LIVEC names; None where it is not set.

    Raises
    ------
    ProjectError
        If it is set to a folder without ratings.csv.
    """
    named = os.environ.get(RATED_VARIABLE)
    if not named:
        return None
    folder = under_home(named)
    if not (folder / "ratings.csv").is_file():
        raise ProjectError(
            f"{RATED_VARIABLE} names {folder}, which holds no ratings.csv; put ratings.csv (image,"
            " mos, std) and images/ there, or unset the variable"
        )
    return folder
