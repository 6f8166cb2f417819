"""A real JupyterLab and a real Chromium, spoken to over its DevTools socket: what a reader has in
front of him, without a screen.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-proxy-server",
    "--window-size=1400,1000",
)
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
}
POLL = 0.1


def wait(what: str, found: Callable, *, limit: float, why: Callable[[], str] = str):
    """The first true value of `found()`; fails after `limit` seconds with what `why()` returns."""
    end = time.monotonic() + limit
    while not (value := found()):
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {limit:.0f} s\n{why()}", pytrace=False)
        time.sleep(POLL)
    return value


def get(url: str):
    """JSON from this machine, whatever proxy the environment names; None while nobody answers."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError, ValueError), direct.open(url, timeout=10) as answer:
        return json.load(answer)


@contextmanager
def process(command: list, log: Path, **options) -> Iterator[Callable[[], str]]:
    """A program that runs meanwhile; yields a function for the end of its log, which fails the test
    if the program has ended.
    """
    with (
        log.open("w") as file,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, **options
        ) as running,
    ):

        def tail() -> str:
            text = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            if running.poll() is not None:
                pytest.fail(
                    f"{Path(command[0]).name} has ended ({running.returncode}):\n{text}",
                    pytrace=False,
                )
            return text

        try:
            yield tail
        finally:
            running.terminate()
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                running.kill()


@contextmanager
def jupyterlab(root: Path, scratch: Path) -> Iterator[tuple[str, str]]:
    """Address and token of a JupyterLab started in `root`; it and its kernels keep everything else
    below `scratch`.
    """
    token = secrets.token_hex(16)
    ours = {
        f"JUPYTER_{name}_DIR": str(scratch / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")
    }
    ours |= {"IPYTHONDIR": str(scratch / "ipython"), "JUPYTER_TOKEN": token}
    ours |= {
        "RALI_LAB_HOME": str(scratch / "home"),
        "RALI_LAB_ARTIFACTS": str(scratch / "artifacts"),
    }
    ours |= {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}  # as `make lab`
    theirs = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("JUPYTER", "JPY_", "RALI_LAB_", "PYTEST"))
    }
    for name, values in SETTINGS.items():
        file = scratch / "config" / "lab" / "user-settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--expose-app-in-browser",
    ]
    command += [f"--ServerApp.root_dir={root}", "--LabApp.extension_manager=readonly"]

    with process(command, scratch / "jupyterlab.log", cwd=root, env=theirs | ours) as tail:

        def address() -> str | None:
            tail()
            for file in (scratch / "runtime").glob(
                "jpserver-*.json"
            ):  # the port that it found free
                with contextlib.suppress(ValueError):
                    url = json.loads(file.read_text())["url"]
                    return url if get(f"{url}api/status?token={token}") else None
            return None

        yield wait("JupyterLab answers", address, limit=120, why=tail), token


class Page:
    """One page of the browser."""

    def __init__(self, address: str) -> None:
        import websocket

        # Chromium turns away whoever names an origin.
        self._socket = websocket.create_connection(address, timeout=120, suppress_origin=True)
        self._sent = 0
        # JupyterLab gives its commands to the notebook that has the focus; without a screen nothing
        # has it.
        self.send("Emulation.setFocusEmulationEnabled", enabled=True)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    def send(self, method: str, **params) -> dict:
        """Give a command of the DevTools protocol and wait for its answer."""
        self._sent += 1
        self._socket.send(json.dumps({"id": self._sent, "method": method, "params": params}))
        while (answer := json.loads(self._socket.recv())).get("id") != self._sent:
            pass  # an event
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def js(self, body: str, *args):
        """What the body of an asynchronous JavaScript function of `args` returns."""
        call = f"(async (...args) => {{{body}}})(...{json.dumps(args)})"
        done = self.send("Runtime.evaluate", expression=call, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            about = done["exceptionDetails"]
            raise RuntimeError(about.get("exception", {}).get("description") or about["text"])
        return done["result"].get("value")

    def until(self, what: str, body: str, *args, limit: float = 60):
        """Wait until JavaScript returns something true; fails at once if JupyterLab asks or reports
        something.
        """
        trouble = None

        def found():
            nonlocal trouble
            try:
                if self.js("return !!document.querySelector('.jp-Dialog')"):
                    pytest.fail(
                        f"{what}: JupyterLab shows a dialog\n{self.describe()}", pytrace=False
                    )
                value, trouble = self.js(body, *args), None
                return value
            except RuntimeError as error:  # between two pages there is nothing to ask
                trouble = error

        return wait(what, found, limit=limit, why=lambda: f"{trouble or ''}\n{self.describe()}")

    def describe(self) -> str:
        """What a reader would see: address, open dialogs, or the text of the page."""
        return self.js("""
            const dialogs = [...document.querySelectorAll('.jp-Dialog')].map(x => x.innerText)
            const text = dialogs.join('\\n') || document.body.innerText.slice(0, 2000)
            return location.pathname + '\\n' + text
        """)

    def click(self, selector: str, text: str) -> None:
        """Click with the mouse on the element whose text is `text`, once it is in sight."""
        x, y = self.until(
            f"{text!r} can be clicked",
            """
            const fits = x => x.textContent.trim() === args[1] && x.checkVisibility()
            const found = [...document.querySelectorAll(args[0])].find(fits)
            const box = found?.getBoundingClientRect()
            const middle = box && [box.x + box.width / 2, box.y + box.height / 2]
            return middle && found.contains(document.elementFromPoint(...middle)) && middle
        """,
            selector,
            text,
        )
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, file: Path) -> None:
        file.write_bytes(
            base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])
        )


@pytest.fixture(scope="session")
def page(tmp_path_factory) -> Iterator[Page]:
    """A page of a headless Chromium with a new profile."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(
            f"none of {', '.join(BROWSERS)} is installed (Debian: apt-get install chromium)"
        )
    pytest.importorskip(
        "websocket", reason="websocket-client is not installed; it comes with JupyterLab"
    )
    folder = tmp_path_factory.mktemp("chromium")
    profile = folder / "profile"
    command = [
        program,
        *FLAGS,
        f"--user-data-dir={profile}",
        "--remote-debugging-port=0",
        "about:blank",
    ]
    with process(
        command, folder / "chromium.log", cwd=folder, env={**os.environ, "HOME": str(folder)}
    ) as tail:

        def address() -> str | None:
            tail()
            with contextlib.suppress(OSError, IndexError):
                port = (profile / "DevToolsActivePort").read_text().splitlines()[0]
                pages = get(f"http://127.0.0.1:{port}/json/list") or []
                return next((x["webSocketDebuggerUrl"] for x in pages if x["type"] == "page"), None)

        opened = Page(wait("Chromium answers", address, limit=60, why=tail))
        try:
            yield opened
            with contextlib.suppress(OSError, RuntimeError):
                opened.send("Browser.close")
        finally:
            opened.close()


@pytest.fixture(scope="session")
def start_jupyterlab(
    tmp_path_factory,
) -> Callable[[Path], contextlib.AbstractContextManager[tuple[str, str]]]:
    """Start a JupyterLab in a folder: `with start_jupyterlab(folder) as (address, token)`."""
    return lambda root: jupyterlab(root, tmp_path_factory.mktemp("jupyterlab"))
