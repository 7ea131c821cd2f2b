"""A headless Chromium that tests drive through its DevTools pipe: no library, no port, no network.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
_PATIENCE = 60.0


class Browser:
    """One page of a headless Chromium with the network off.

    Attributes:
        console: what the page logged and threw, and what its policy refused.
        requests: the URLs that it asked for.
    """

    def __init__(self, profile: Path) -> None:
        to_read, to_write = os.pipe(), os.pipe()

        def give() -> None:  # the protocol's pipe is file descriptors 3 and 4
            own = os.dup(to_read[0]), os.dup(to_write[1])
            for source, target in zip(own, (3, 4), strict=True):
                os.dup2(source, target)

        self._process = subprocess.Popen(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND",
             "--disable-component-update", "--remote-debugging-pipe",
             f"--user-data-dir={profile}", "about:blank"],
            stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=give,
            pass_fds=(3, 4, *to_read, *to_write), start_new_session=True,
        )  # fmt: skip
        self._out, self._in = to_read[1], to_write[0]
        os.close(to_read[0])
        os.close(to_write[1])
        self._buffer, self._next, self._session = b"", 0, ""
        self._loaded: set[str] = set()
        self.console: list[str] = []
        self.requests: list[str] = []
        pages = self._call("Target.getTargets")["targetInfos"]
        target = next(p["targetId"] for p in pages if p["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self._call(f"{domain}.enable")
        self._call("Page.setLifecycleEventsEnabled", enabled=True)
        self._call("Emulation.setFocusEmulationEnabled", enabled=True)
        self._call("Network.emulateNetworkConditions", offline=True, latency=0,
                   downloadThroughput=-1, uploadThroughput=-1)  # fmt: skip

    def open(self, path: Path, width: int = 1280, scheme: str = "light", anchor: str = "") -> None:
        """Open a file as a reader would, at a width and in a colour scheme."""
        self.console.clear()
        self.requests.clear()
        self.resize(width, scheme)
        for url in ("about:blank", path.resolve().as_uri() + anchor):
            loader = self._call("Page.navigate", url=url)["loaderId"]
            self._until(lambda: loader in self._loaded)  # noqa: B023

    def reload(self) -> None:
        """Load the page again, as F5 does."""
        before = set(self._loaded)
        self._call("Page.reload")
        self._until(lambda: self._loaded - before)

    def resize(self, width: int, scheme: str = "light") -> None:
        """Change the window's width and the preferred colour scheme."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=900,
                   deviceScaleFactor=1, mobile=False)  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", features=features)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; it may await.

        Raises:
            AssertionError: the expression threw.
        """
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True,
                           awaitPromise=True, userGesture=True)  # fmt: skip
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """One key, as the keyboard gives it."""
        code = {"Tab": 9, "Enter": 13, " ": 32}.get(key, 0)
        text = {"Enter": "\r", " ": " "}.get(key, "")
        known = {"key": key, "windowsVirtualKeyCode": code}
        self._call("Input.dispatchKeyEvent", type="keyDown", text=text, **known)
        self._call("Input.dispatchKeyEvent", type="keyUp", **known)

    def tree(self) -> list[dict[str, Any]]:
        """The accessibility tree: role and name as assistive technology is told them."""
        nodes = self._call("Accessibility.getFullAXTree")["nodes"]
        return [
            {"role": n["role"]["value"], "name": (n.get("name") or {}).get("value", "")}
            for n in nodes
            if not n.get("ignored") and "role" in n
        ]

    def save_to(self, folder: Path) -> None:
        """Save what a page offers as a file into this folder."""
        self._call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        shot = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(_PATIENCE)
        os.close(self._out)
        os.close(self._in)

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._next += 1
        wanted, answer = self._next, {}
        message: dict[str, Any] = {"id": wanted, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")

        def done() -> bool:
            return "id" in answer

        self._wanted, self._answer = wanted, answer
        self._until(done)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def _until(self, done: Any) -> None:
        end = time.monotonic() + _PATIENCE
        while not done():
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"the browser said nothing for {_PATIENCE:.0f} s")
            got = os.read(self._in, 1 << 20)
            if not got:
                raise RuntimeError(f"the browser ended: {self._process.wait(5)}")
            *messages, self._buffer = (self._buffer + got).split(b"\0")
            for message in messages:
                self._take(json.loads(message))

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("id") == self._wanted:
            self._answer.update(message)
        method, params = message.get("method"), message.get("params", {})
        if method == "Page.lifecycleEvent" and params["name"] == "load":
            self._loaded.add(params["loaderId"])
        elif method == "Runtime.exceptionThrown":
            self.console.append(json.dumps(params["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled":
            self.console.append(f"{params['type']}: {params['args']}"[:500])
        elif method == "Log.entryAdded":
            self.console.append(params["entry"]["text"][:500])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
