"""The playground in Chromium: from a change to its first votes on screen, and frames while votes fall.

`python -m benchmarks.playground` starts a server of the published models and drives its page. The browser draws on the
processor, which it shares with the server.
"""

import argparse
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.report import write
from benchmarks.server_process import serving
from tests.support.browser import DESKTOP, Watched, chromium, missing

HEADER: Final = ["| figure | measured | aim |", "|---|---|---|"]
CHANGES: Final = 40
FALLS: Final = (20, 100, 1000)  # votes of each lane
AIMS: Final = {"change to first votes, median (ms)": "≤ 100", "longest task (ms)": "≤ 50", "frames a second": "60"}
# While votes fall: the time of each frame, and tasks of 50 ms and more, which are all that the browser tells of.
WATCH: Final = """async ({tries}) => {
  const frames = [], tasks = [];
  const observer = new PerformanceObserver(list => list.getEntries().forEach(each => tasks.push(each.duration)));
  observer.observe({type: "longtask"});
  for (let i = 0; i < tries; i += 1) {
    document.querySelector("#replay").click();
    const end = performance.now() + 2500;
    let before = await new Promise(requestAnimationFrame);
    while (before < end) {
      const now = await new Promise(requestAnimationFrame);
      frames.push(now - before);
      before = now;
    }
  }
  observer.disconnect();
  return {frames, tasks};
}"""
ROLL: Final = """() => new Promise(done => {
  const observer = new PerformanceObserver(list => { observer.disconnect(); done(list.getEntries()[0].duration); });
  observer.observe({type: "measure"});
  document.querySelector("#roll").click();
})"""


def main() -> None:
    """Measure, print the table, and write it where `--out` says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.playground", description=__doc__)
    parser.add_argument("--model-store", type=Path, default=Path("model_store/models"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also write the figures to OUT.json and the table to OUT.md")
    options = parser.parse_args()
    why = missing()
    if why is not None:
        raise SystemExit(f"benchmarks: {why}")
    with serving(options.threads, options.model_store) as (base, _), chromium() as browser:
        page = Watched(browser.new_context(viewport=DESKTOP).new_page(), base)
        figures = _first_votes(page) | {name: value for votes in FALLS for name, value in _frames(page, votes).items()}
    table = [*HEADER, *(f"| {name} | {value:.4g} | {_aim(name)} |" for name, value in figures.items())]
    print(*table, sep="\n")
    if options.out:
        write(options.out, figures, table, "The playground in a browser")


def _first_votes(page: Watched) -> dict[str, float]:
    """Milliseconds from a rolled seed to the frame that shows its first votes, three networks of 20 votes each."""
    page.open("/#x=mnist-38&s=0.9&n=20")
    found = []
    for _ in range(CHANGES):
        found.append(float(page.page.evaluate(ROLL)))
        page.page.wait_for_function("() => document.querySelector('#stage').getAttribute('aria-busy') === 'false'")
        page.page.wait_for_timeout(200)  # as a person would, who looks before rolling again
    found.sort()
    return {
        "change to first votes, median (ms)": median(found),
        "change to first votes, 90 % (ms)": found[int(0.9 * len(found))],
    }


def _frames(page: Watched, votes: int) -> dict[str, float]:
    page.page.goto("about:blank")
    page.open(f"/#x=mnist-38&s=0.9&n={votes}")
    seen: dict[str, Any] = page.page.evaluate(WATCH, {"tries": 3})
    frames = sorted(seen["frames"])
    return {
        f"{votes} votes fall: frames a second": 1000 * len(frames) / sum(frames),
        f"{votes} votes fall: slowest frame of a hundred (ms)": frames[int(0.99 * len(frames))],
        f"{votes} votes fall: longest task (ms)": max(seen["tasks"], default=0.0),
    }


def _aim(name: str) -> str:
    return next((aim for key, aim in AIMS.items() if key in name), "")


if __name__ == "__main__":
    main()
