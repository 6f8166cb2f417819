"""Every notebook in JupyterLab, as a reader opens it: all of it is shown, its kernel starts, its
cells run without an error.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import jupytext
import nbformat
import pytest

pytestmark = pytest.mark.browser

SOURCES = sorted((Path(__file__).parents[2] / "notebooks").glob("[0-9][0-9]_*.py"))
OPENING = re.compile(r"^nb = open_notebook\(.*\)$", re.MULTILINE)

# JavaScript that starts with these lines speaks of the notebook at args[0].
NOTEBOOK = """
    const app = window.jupyterapp
    const widget = [...app.shell.widgets('main')].find(x => x.context?.path === args[0])
    if (!widget?.context.isReady) return null
    const session = widget.context.sessionContext, kernel = session.session?.kernel
    const cells = widget.content.widgets
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder as readers have them, with the notebooks as their sources are now; the opening call
    ends a cell of its own.
    """
    folder = tmp_path_factory.mktemp("browser") / "Mein Ordner ä"
    (folder / "notebooks").mkdir(parents=True)
    for source in SOURCES:
        notebook = jupytext.read(source, fmt="py:percent")
        notebook.metadata.pop("jupytext", None)  # no pair, as published
        k, opening = next(
            (k, m)
            for k, x in enumerate(notebook.cells)
            if x.cell_type == "code" and (m := OPENING.search(x.source))
        )
        rest = nbformat.v4.new_code_cell(notebook.cells[k].source[opening.end() :].lstrip("\n"))
        notebook.cells[k].source = notebook.cells[k].source[: opening.end()]
        notebook.cells.insert(k + 1, rest)
        nbformat.write(notebook, folder / "notebooks" / f"{source.stem}.ipynb")
    return folder


@pytest.fixture(scope="module")
def lab(start_jupyterlab, checkout, page):
    """The page with JupyterLab started in the root of the checkout."""
    with start_jupyterlab(checkout) as (address, token):
        page.send("Page.navigate", url=f"{address}lab?reset&token={token}")
        page.until(
            "JupyterLab is shown",
            "await jupyterapp.restored; return !document.querySelector('#jupyterlab-splash')",
        )
        yield page


@pytest.fixture
def images_folder(tmp_path):
    """Where screenshots go: RALI_LAB_SCREENSHOTS, if it is set."""
    folder = Path(os.environ.get("RALI_LAB_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def shown(page, path: str) -> None:
    """Wait until the notebook stands in the page, all of it, and its kernel waits for work."""
    page.until(f"{path} is open", f"{NOTEBOOK} return true", path)
    page.until(
        f"{path} has a kernel at rest",
        f"{NOTEBOOK} return kernel?.name === 'python3' && kernel.status === 'idle'",
        path,
    )
    page.until(
        f"every cell of {path} is shown",
        f"""{NOTEBOOK}
        const body = x => x.model.type === 'markdown' ? '.jp-MarkdownOutput > *' : '.cm-content'
        return cells.length === widget.context.model.cells.length
            && cells.every(x => x.node.isConnected && x.node.querySelector(body(x)))
    """,
        path,
    )


def outputs(page, path: str, until: int) -> str:
    """Wait until the code cells before cell `until` have run; their text.

    Fails with the first error.
    """
    done = page.until(
        f"{path} has run",
        f"""{NOTEBOOK}
        const code = x => x.model.type === 'code' && x.model.sharedModel.source.trim()
        const ran = cells.slice(0, args[1]).filter(code)
        const all = ran.flatMap(x => x.model.outputs.toJSON())
        const error = all.find(x => x.output_type === 'error')
        const mime = '[data-mime-type="application/vnd.jupyter.error"]'
        const drawn = widget.node.querySelector(mime)?.innerText
        const gone = ['dead', 'autorestarting', 'restarting'].includes(kernel?.status)
        const lost = gone && `the kernel is ${{kernel.status}}`
        if (error || drawn || lost) return {{error: error?.traceback.join('\\n') || drawn || lost}}
        const busy = x => x.model.executionState === 'running' || !x.model.executionCount
        if (kernel?.status !== 'idle' || ran.some(busy)) return null
        const printed = all.filter(x => x.output_type === 'stream')
        return {{text: printed.map(x => [x.text].flat().join('')).join('')}}
    """,
        path,
        until,
        limit=300,
    )
    if "error" in done:
        pytest.fail(f"{path}:\n" + re.sub(r"\x1b\[[0-9;]*m", "", done["error"]), pytrace=False)
    return done["text"]


def unroll(page, path: str) -> None:
    """Make the window so high that the whole notebook is in sight."""
    height = 1000
    for _ in range(3):  # what has not been in sight yet has no height of its own
        page.send(
            "Emulation.setDeviceMetricsOverride",
            width=1400,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        height = page.js(
            f"""{NOTEBOOK}
            const frame = () => new Promise(requestAnimationFrame)
            widget.content.activeCellIndex = 0
            const panel = widget.node.querySelector('.jp-WindowedPanel-outer')
            for (let i = 0; i < 5; i++) {{ await frame(); panel.scrollTop = 0 }}
            await frame()
            const [first, last] = [cells[0], cells.at(-1)].map(x => x.node.getBoundingClientRect())
            return 200 + Math.ceil(last.bottom - first.top)
        """,
            path,
        )


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_a_notebook_opens_and_starts(source, lab, images_folder):
    path = f"notebooks/{source.stem}.ipynb"
    try:
        lab.js("jupyterapp.commands.execute('docmanager:open', {path: args[0]})", path)
        shown(lab, path)
        opening = lab.js(
            f"""{NOTEBOOK}
            const opens = x => x.model.sharedModel.source.includes('nb = open_notebook(')
            const opening = cells.findIndex(x => x.model.type === 'code' && opens(x))
            widget.content.activeCellIndex = opening + 1
            app.commands.execute('notebook:run-all-above')
            return opening
        """,
            path,
        )
        assert f"notebook {source.stem[:2]} | profile tiny | " in outputs(lab, path, opening + 1)
        lab.screenshot(images_folder / f"{source.stem}.png")
    finally:
        lab.js("document.querySelectorAll('.jp-Dialog .jp-mod-accept').forEach(x => x.click())")
        lab.js(
            f"{NOTEBOOK} session.shutdown(); widget.context.model.dirty = false; widget.close()",
            path,
        )  # not saved
        lab.until(
            f"{path} is closed",
            f"{NOTEBOOK.replace('return null', 'return true')} return false",
            path,
        )


def test_start_here_runs_from_the_menu(start_jupyterlab, checkout, page, images_folder):
    """JupyterLab as `make lab` starts it, in the folder of the notebooks."""
    path = "00_start_here.ipynb"
    with start_jupyterlab(checkout / "notebooks") as (address, token):
        page.send("Page.navigate", url=f"{address}lab/tree/{path}?reset&token={token}")
        shown(page, path)
        page.click(".lm-MenuBar-itemLabel", "Run")
        page.click(".lm-Menu-itemLabel", "Run All Cells")
        outputs(page, path, 10**6)
        images = page.until(
            "the figures are drawn",
            f"""{NOTEBOOK}
            const images = [...widget.node.querySelectorAll('.jp-OutputArea-output img')]
            return images.every(x => x.complete && x.naturalWidth) && images.length
        """,
            path,
        )
        page.js("await window.jupyterapp.commands.execute('docmanager:save')")
        page.until("it is saved", f"{NOTEBOOK} return !widget.context.model.dirty", path)
        unroll(page, path)
        page.screenshot(images_folder / "00_start_here_run.png")
        page.send("Emulation.clearDeviceMetricsOverride")
        page.js(f"{NOTEBOOK} await session.shutdown()", path)
    saved = nbformat.read(checkout / "notebooks" / path, as_version=4)
    code = [cell for cell in saved.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    found = [output for cell in code for output in cell.outputs]
    assert [output for output in found if output.output_type == "error"] == []
    assert {file.suffix for file in checkout.rglob("*.*") if file.is_file()} == {".ipynb"}, (
        "nothing is written beside the notebooks"
    )
    assert images == sum("image/png" in output.get("data", {}) for output in found) > 5
