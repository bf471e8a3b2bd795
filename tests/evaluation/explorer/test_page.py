"""What is in the page's file: everything that was asked for, nothing that could run or call home."""

import gzip
import itertools
import json
import re
from base64 import b64decode, b64encode
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpo_lightning.errors import DataError
from gpo_lightning.evaluation import explorer
from gpo_lightning.rollouts import Rollouts, RolloutTree, write_trees
from tests.conftest import tree_of
from tests.evaluation.explorer.made import Story, falling, many, rising

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)> {{SCRIPT}} \u2028 🙂 $\\href{javascript:1}{x}$"
)


def unpacked(page: str) -> dict[str, Any]:
    """The data that the page carries."""
    found = re.findall(r'<script type="text/plain" id="data-([\w-]+)">([^<]*)</script>', page)
    return {name: json.loads(gzip.decompress(b64decode(packed))) for name, packed in found}


def text_of(problem: dict[str, Any], index: int) -> str:
    """As the page puts texts together again, in JavaScript's units."""
    sample = problem["samples"][index]
    parent = "" if sample["p"] is None else text_of(problem, sample["p"])
    return parent.encode("utf-16-le")[: 2 * sample["c"]].decode("utf-16-le") + sample["t"]


class TestData:
    def test_every_trajectory_stands_in_the_list_with_its_turn(self) -> None:
        data = unpacked(explorer.page([falling(2).tree(), rising(1).tree()]))["index"]
        valued = [row for row in data["rows"] if "t" in row]
        assert [(row["t"], row["d"] < 0, row["q"] > 0.9) for row in valued] == [(2, True, True), (1, False, True)]
        assert len(data["rows"]) == 26, "the siblings are listed as well"
        assert [(its["tries"], its["right"]) for its in data["problems"]] == [(13, 12), (13, 1)]

    def test_the_same_response_valued_twice_is_two_trajectories(self) -> None:
        tree = falling(2).tree()
        tree.add(tree.samples[0])
        tree.curves.append(tree.curves[0])
        rows = unpacked(explorer.page([tree]))["index"]["rows"]
        assert len([row for row in rows if "t" in row]) == 2

    @settings(max_examples=25)
    @given(
        st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4), st.lists(st.text(max_size=20), max_size=4)
    )
    def test_texts_are_put_together_again_whatever_is_in_them(self, steps: list[str], tries: list[str]) -> None:
        story = Story(steps, 0.0, {t: [(follows, 1.0) for follows in tries] for t in range(len(steps))})
        tree = story.tree()
        (problem,) = unpacked(explorer.page([tree]))["block-0"]
        for index, sample in enumerate(tree.samples):
            if "t" in problem["samples"][index]:
                assert text_of(problem, index) == sample.text
        cuts = problem["valued"]["0"]["cuts"]
        whole = "".join(steps).encode("utf-16-le")
        assert [whole[2 * a : 2 * b].decode("utf-16-le") for a, b in itertools.pairwise(cuts)] == steps

    def test_continuations_are_all_counted_but_only_some_are_told(self) -> None:
        (problem,) = unpacked(explorer.page([falling(1, steps=6, probes=40).tree()]))["block-0"]
        nodes = problem["valued"]["0"]["nodes"]
        told = [sum("t" in problem["samples"][i] for i in node) for node in nodes]
        assert [len(node) for node in nodes[:6]] == [40] * 6
        assert told[1] == told[2] == 12
        assert told[4] == 2

    def test_problems_are_packed_in_blocks_and_found_there(self) -> None:
        data = unpacked(explorer.page(many(40, group=4, words=40)))
        blocks = [name for name in data if name.startswith("block-")]
        assert len(blocks) > 1
        for problem in data["index"]["problems"]:
            block, place = problem["place"]
            assert data[f"block-{block}"][place]["id"] == problem["id"]

    def test_ungraded_and_given_responses_are_shown_as_such(self) -> None:
        rows = unpacked(explorer.page([tree_with(None)]))["index"]["rows"]
        assert [row["r"] for row in rows] == [None]

    @pytest.mark.parametrize("trees", [[], [tree_of([])]], ids=["nothing", "a problem without rollouts"])
    def test_a_page_of_nothing_is_a_page(self, trees: list[RolloutTree]) -> None:
        assert unpacked(explorer.page(trees))["index"]["rows"] == []


def tree_with(reward: float | None) -> RolloutTree:
    tree = Story(["a\n", "b"], reward).tree()
    tree.curves.clear()
    return tree


class TestSafety:
    def test_what_a_model_writes_never_stands_in_the_file_as_it_is(self) -> None:
        story = Story([HOSTILE, "#5"], 0.0, question=HOSTILE, name=HOSTILE, task=HOSTILE)
        page = explorer.page([story.tree()], title=HOSTILE)
        written = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
        assert "alert(1)" not in written.replace(escape(HOSTILE), "")
        assert "<img" not in written
        assert unpacked(page)["index"]["problems"][0]["id"] == HOSTILE

    @pytest.mark.parametrize("text", ["plain", "$\\frac{1}{2}$"])
    def test_only_the_pages_own_script_and_style_may_run(self, text: str) -> None:
        page = explorer.page([Story([text], 0.0).tree()])
        (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
        for tag in ("script", "style"):
            (source,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
            assert f"{tag}-src 'sha256-{b64encode(sha256(source.encode()).digest()).decode()}'" in policy
        assert policy.startswith("default-src 'none'")
        assert ("temml=function" in page) == ("$" in text), "the library for maths comes only where there is some"

    def test_the_page_needs_nothing_but_itself(self) -> None:
        page = re.sub(r"http://www\.w3\.org/\S+", "", explorer.page([falling(1).tree()]))
        assert not re.search(r"\bsrc=|@import|url\(|https?://|\bfetch\(|\bimport\b", page)

    def test_sources_bind_no_name_twice(self) -> None:
        """They become one script, so what two of them define under one name would clash."""
        web = Path(explorer.__file__).parent / "web"
        defined = [
            name
            for file in web.glob("*.js")
            if "min" not in file.name
            for name in re.findall(
                r"^(?:export )?(?:const|class|function|async function) (\w+)", file.read_text(), re.M
            )
        ]
        assert len(defined) == len(set(defined)) > 40


class TestSaved:
    def test_rollouts_without_texts_ask_for_a_tokenizer(self, tokenizer: Any, tmp_path: Path) -> None:
        tree = tree_of([((107, 13, 103), 0, 1.0)])
        with pytest.raises(DataError, match="--tokenizer"):
            explorer.page([tree])
        assert unpacked(explorer.page([tree], tokenizer=tokenizer))["searched"] == [tokenizer.decode([107, 13, 103])]

    def test_a_runs_folder_gives_all_its_iterations(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for iteration in range(3):
            file = tmp_path / f"rollouts/iteration-{iteration:04d}-rank0.parquet"
            write_trees(file, [falling(iteration, iteration=iteration).tree()])
        explorer.report(tmp_path)
        data = unpacked((tmp_path / "report.html").read_text())["index"]
        assert [its["iteration"] for its in data["problems"]] == [0, 1, 2]
        assert "3 problems, 3 trajectories valued" in capsys.readouterr().out

    def test_a_folder_without_rollouts_says_where_they_should_be(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"no rollouts here.*rollouts\.parquet"):
            explorer.report(tmp_path)


class TestShow:
    def test_a_notebook_gets_the_page_in_a_frame_that_can_reach_nothing(self) -> None:
        shown = explorer.show(Rollouts([falling(1).tree()]), title=HOSTILE, height=500)
        html = shown._repr_html_()
        assert html.startswith("<iframe")
        assert 'sandbox="allow-scripts"' in html
        assert "height:500px" in html
        assert html.count("<") == 2, "the page is an attribute, escaped"
        assert "html" not in repr(shown)
