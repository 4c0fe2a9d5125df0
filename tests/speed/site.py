"""The site of 100,000 results from the index, and how fast it answers in a real browser.

    python tests/speed/site.py [--store DIR] [--models 1000]

The store is that of `board.py`. Targets: the site is written in under 10 s, without torch; the
leaderboard is there in a second and answers to sorting, scrolling and filtering in half of one.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from board import READ, fill, timed

SITE = """
from bench.cli import main
sys.argv = ["sslbench", "board", "--format", "html", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    assert not stop.code
assert "torch" not in sys.modules
"""
# What a reader does, and when it is over: two frames after the page has drawn itself.
ACTIONS = {
    "sort by a task": "document.querySelectorAll('.heading')[6].click()",
    "scroll by a screen": "table.scrollTop += 700",
    "scroll to the middle": "table.scrollTop = 40000",
    "scroll sideways": "table.scrollLeft = 3000",
    "filter by a word": "filter.value = 'mae'; filter.dispatchEvent(new Event('input'))",
    "show all again": "filter.value = ''; filter.dispatchEvent(new Event('input'))",
}
TIMED = """async () => {
  const table = document.querySelector(".tabulator-tableholder");
  const filter = document.getElementById("filter");
  const began = performance.now();
  %s;
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - began;
}"""


def browse(site: Path) -> None:
    """Prints how long the leaderboard and a model's page take in Chromium, if there is one."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("no chromium here: apt-get install chromium")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        began = time.perf_counter()
        page.goto((site / "index.html").as_uri())
        page.wait_for_selector(".tabulator-row")
        print(f"leaderboard opened: {1000 * (time.perf_counter() - began):.0f} ms")
        for name, action in ACTIONS.items():
            print(f"{name}: {page.evaluate(TIMED % action):.0f} ms")
        began = time.perf_counter()
        page.locator(".tabulator-row .name").first.click()
        page.wait_for_selector("#scores")
        print(f"page of a model opened: {1000 * (time.perf_counter() - began):.0f} ms")
        browser.close()


def main() -> None:
    """Prints seconds, sizes and milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--models", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, out = options.store or Path(folder) / "results", Path(folder) / "site"
        if not root.exists():
            fill(root, options.models)
            time.sleep(3)  # what changed a moment ago is not kept in the index
        arguments = ["--results", str(root), "--out", str(out)]
        every = timed("reading every result whole, no site", READ, str(root))
        timed("site, the index written", SITE, *arguments)
        seconds = timed("site from the index (target 10 s wall)", SITE, *arguments)
        print(f"  {every / seconds:.1f} times as fast as reading every result")
        sizes = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
        print(f"{len(sizes)} files, {sum(sizes) / 1e6:.0f} MB")
        browse(out)


if __name__ == "__main__":
    main()
