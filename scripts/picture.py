"""Takes the moving picture of the explorer that README and documentation show.

    python scripts/picture.py runs/explore/rollouts.parquet docs/images/explorer.webp

It needs Chromium. Each scene is a state of the page that a reader can reach; nothing is drawn by hand.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image

from gpo_lightning.evaluation import explorer
from tests.evaluation.explorer.browser import Page, browser

SIZE = (1200, 760)
_EXPLORER = "document.querySelector('gpo-explorer')"


def scenes(page: Page) -> list[tuple[str, int]]:
    """Scripts that bring the page from scene to scene, and how long each is shown, in milliseconds."""
    select = f"{_EXPLORER}.trajectory.move(1)"
    turn = int(page.evaluate(f"{_EXPLORER}.list.rows[0].t"))
    first = f"{_EXPLORER}.open({_EXPLORER}.list.rows[0])"
    to_start = f"{_EXPLORER}.trajectory.choose(0)"
    otherwise = "document.querySelector('gpo-otherwise').scrollIntoView({block: 'start'})"
    back = "document.querySelector('.sheet').scrollTop = 0"
    following = f"{back}; {_EXPLORER}.list.step(1)"
    return [
        ("0", 2200),
        (first, 1400),
        (to_start, 500),
        *[(select, 450)] * max(0, turn - 1),
        (f"{_EXPLORER}.trajectory.toTurn()", 2600),
        (otherwise, 2800),
        (following, 2600),
    ]


def main() -> None:
    """Draw the page of some rollouts, and take its picture."""
    rollouts, output = map(Path, sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder) / "profile") as page:
        html = Path(folder) / "page.html"
        explorer.write_page(html, explorer.read_saved(rollouts))
        page.size(*SIZE)
        page.open(html)
        frames: list[Image.Image] = []
        lengths: list[int] = []
        for script, milliseconds in scenes(page):
            page.evaluate(f"{script}; 0")
            page.evaluate("new Promise((resolve) => setTimeout(resolve, 300))")
            page.picture(Path(folder) / "frame.png")
            frames.append(Image.open(Path(folder) / "frame.png").convert("RGB"))
            lengths.append(milliseconds)
    output.parent.mkdir(parents=True, exist_ok=True)
    settings = {
        "save_all": True,
        "append_images": frames[1:],
        "duration": lengths,
        "loop": 0,
        "quality": 82,
        "method": 6,
    }
    frames[0].save(output, **settings)
    print(f"{output}: {len(frames)} scenes, {output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
