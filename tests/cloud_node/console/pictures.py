"""The pictures of docs/console.md: both nodes as processes on the bundled recording, and a browser that looks on.

make demo && python tests/cloud_node/console/pictures.py out/demo docs/pictures
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDE, PHONE = {"width": 1200, "height": 800}, {"width": 390, "height": 844}


@contextmanager
def program(module, *arguments):
    """A console script of this tree as a process, ended at the end."""
    with subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def item_with_picture(base):
    """The most valuable item that was asked for its picture; the address of its page."""
    with urllib.request.urlopen(f"{base}/export?form=jsonl&order=value", timeout=60) as answer:
        found = [json.loads(line) for line in answer]
    lanes = [(one["verdict"] or {}).get("lanes", ()) for one in found]
    chosen = next(
        one
        for one, read in zip(found, lanes, strict=True)
        if "pixels" in read and "asked_for" in one["header"]["reasons"]
    )
    return "/item/" + chosen["item"].replace("#", "/")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="what `replay demo` wrote")
    parser.add_argument("out", type=Path)
    told = parser.parse_args()
    sets = ["listen=127.0.0.1:0", "console.listen=127.0.0.1:0"]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        sets += [f"ledger={folder}/ledger.db"]
        arguments = [part for one in sets for part in ("--set", one)]
        with program("cloud_node.cli", "serve", "--config", told.demo / "cloud.toml", *arguments) as service:
            address, base = (service.stdout.readline().split()[-1].rstrip("/") for _ in range(2))
            sets = [f"spool.path={folder}/spool.db", f"uplink.address={address}", "source.pace=realtime"]
            arguments = [part for one in sets for part in ("--set", one)]
            with program(
                "edge_node.cli", "run", "--until-done", "--config", told.demo / "edge.toml", *arguments
            ) as device:
                page = browser.new_context(viewport=WIDE, base_url=base).new_page()
                page.goto("/")
                page.wait_for_timeout(25_000)
                page.screenshot(path=told.out / "console-live.png")
                page.goto("/devices")
                page.screenshot(path=told.out / "console-devices.png")
                device.wait(300)
            page.goto("/triage")
            page.keyboard.press("j")
            page.screenshot(path=told.out / "console-triage.png")
            address = item_with_picture(base)
            page.goto(address)
            page.wait_for_load_state("networkidle")
            page.screenshot(
                path=told.out / "console-item.png", clip={"x": 0, "y": 0, "width": 1200, "height": 1150}, full_page=True
            )
            page = browser.new_context(viewport=PHONE, base_url=base, color_scheme="dark", is_mobile=True).new_page()
            page.goto(address)
            page.wait_for_load_state("networkidle")
            page.screenshot(path=told.out / "console-phone.png")
        browser.close()


if __name__ == "__main__":
    main()
