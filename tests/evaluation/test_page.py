"""The page of critical steps, as a browser reads it."""

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gpo_lightning.evaluation import write_report
from gpo_lightning.rollouts import RolloutTree, ValueCurve
from tests.conftest import tree_of


class Words:
    """Tokens with texts that would break a page which does not escape them."""

    texts: Mapping[int, str] = {
        1: "",
        2: "",
        3: "plain\n",
        4: "<b>bold</b>\n",
        5: "a & b < c\n",
        6: "</td>'\"\n",
        7: "naïve ≠\n",
    }

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return "".join(self.texts[i] for i in ids)


class Page(HTMLParser):
    """Tags, table rows with their class and cells, and the marks of the curves."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.rows: list[tuple[str, list[str]]] = []
        self.circles: list[dict[str, str | None]] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "circle":
            self.circles.append(dict(attrs))
        if tag == "tr":
            self.rows.append((dict(attrs).get("class") or "", []))
        elif tag == "td":
            self.rows[-1][1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag != "td"

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[-1][1][-1] += data

    @property
    def steps(self) -> list[tuple[str, list[str]]]:
        return [row for row in self.rows if len(row[1]) == 6]


def explored() -> RolloutTree:
    """Four steps, the third critical; of three continuations from before it two were right."""
    tree = tree_of(
        [
            ((3, 4, 5, 6), 0, 0.0),
            ((3, 4, 7), 2, 1.0),
            ((3, 4, 3), 2, 1.0),
            ((3, 4, 6), 2, 0.0),
        ]
    )
    values = (0.5, 0.625, 0.875, 0.0, 0.0)
    tree.curves.append(ValueCurve((3, 4, 5, 6), (0, 1, 2, 3, 4), values, critical=2, trials=(7, 8, 9, 10)))
    return tree


def page_of(tmp_path: Path, trees: list[RolloutTree], **kwargs: object) -> str:
    path = tmp_path / "new" / "report.html"
    write_report(path, trees, Words(), **kwargs)  # type: ignore[arg-type]
    return path.read_text(encoding="utf-8")


def test_every_step_is_there_in_its_own_words(tmp_path: Path) -> None:
    text = page_of(tmp_path, [explored()])
    steps = Page(text).steps
    assert [cells[0] for _, cells in steps] == ["1", "2", "3", "4"]
    assert [cells[1] for _, cells in steps] == ["plain", "<b>bold</b>", "a & b < c", "</td>'\""]


def test_what_the_policy_writes_is_text_and_never_markup(tmp_path: Path) -> None:
    text = page_of(tmp_path, [explored()], title="<i>title</i>")
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert "&lt;i&gt;title" in text
    assert not {"b", "i", "script"} & set(Page(text).tags)


def test_values_and_advantages_stand_beside_their_steps(tmp_path: Path) -> None:
    steps = Page(page_of(tmp_path, [explored()])).steps
    assert [cells[2] for _, cells in steps] == ["0.50", "0.62", "0.88", "0.00"]
    assert [cells[4] for _, cells in steps] == ["7", "8", "9", "10"]
    assert [cells[5] for _, cells in steps] == ["+0.12", "+0.25", "-0.88", "+0.00"]


def test_exactly_one_step_of_a_trajectory_is_marked_and_it_is_the_critical_one(tmp_path: Path) -> None:
    steps = Page(page_of(tmp_path, [explored(), explored()])).steps
    assert [kind for kind, _ in steps] == ["", "", "critical", ""] * 2


def test_right_continuations_of_the_critical_prefix_are_counted_and_shown(tmp_path: Path) -> None:
    text = page_of(tmp_path, [explored()])
    assert "2 of 3 continuations" in text
    continuations = [cells for _, cells in Page(text).rows if len(cells) == 2]
    assert continuations == [
        ["naïve ≠", "right"],
        ["plain", "right"],
        ["</td>'\"", "wrong"],
    ]


def test_the_curve_has_a_point_a_prefix_and_marks_both_ends_of_the_critical_step(tmp_path: Path) -> None:
    text = page_of(tmp_path, [explored()])
    points = re.findall(r'polyline points="([^"]*)"', text)[0].split()
    heights = [float(point.split(",")[1]) for point in points]
    assert len(points) == 5
    assert heights[2] < heights[1] < heights[0] < heights[3], "higher values stand higher on the page"
    marked = [circle["cx"] for circle in Page(text).circles if circle.get("class") == "critical"]
    assert marked == [points[2].split(",")[0], points[3].split(",")[0]]


def test_the_largest_critical_steps_come_first_and_the_rest_is_only_counted(tmp_path: Path) -> None:
    small, large = explored(), explored()
    small.curves = [ValueCurve((3, 4, 5, 6), (0, 2, 4), (0.5, 0.25, 0.0), critical=0)]
    text = page_of(tmp_path, [small, large], most=1)
    assert len(Page(text).steps) == 4
    assert "1 of 2 explored trajectories from 2 problems" in " ".join(text.split())


@pytest.mark.parametrize("trees", [[], [tree_of([((3,), 0, 1.0)])]], ids=["no problems", "nothing explored"])
def test_without_an_explored_trajectory_the_page_says_so(tmp_path: Path, trees: list[RolloutTree]) -> None:
    text = page_of(tmp_path, trees)
    assert "No trajectory was explored" in text
    assert Page(text).steps == []


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    text = page_of(tmp_path, [explored()])
    assert not re.search(r"(?:src|href)\s*=|@import|url\(", text)
