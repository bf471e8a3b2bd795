"""Mathematics in killable processes: meaning is compared, and nothing hangs, kills or bloats the run."""

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gpo_lightning import RolloutDataModule
from gpo_lightning.engines import Transformers
from gpo_lightning.errors import ConfigError
from gpo_lightning.problems import ModularChains
from gpo_lightning.rewards import Boxed, Case, LastExpression, Marked, Maths, Number, Whole
from gpo_lightning.rewards.workers import Workers

WHOLE = (Whole(),)
SLOW = "tests.rewards.jobs:slow"


def workers(count: int = 1, deadline: float = 2.0, memory_mib: int = 512) -> Workers:
    return Workers("tests.rewards.jobs:run", count, deadline, memory_mib)


@pytest.mark.parametrize(
    ("given_answer", "gold"),
    [
        *((r"\dfrac12", r"\frac{1}{2}"), (r"2\sqrt2", r"\sqrt{8}"), ("1+x^2", "x^{2}+1"), ("(x+1)^2", "x^2+2x+1")),
        *(
            ("x=5", "5"),
            ("5", "x=5"),
            ("2, 1", "1,2"),
            (r"\{2,1\}", r"\{1,2\}"),
            (r"\text{Evelyn}", "Evelyn"),
            ("C", r"\text{(C)}"),
        ),
        *(
            (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac\pi2)"),
            (r"90^\circ", "90"),
            ("11111111100", r"11,\! 111,\! 111,\! 100"),
        ),
        *(("0.5", r"\frac12"), ("0.333333", r"\frac13"), (r"5 \leq x", r"x \geq 5"), ("1.22", "1,22"), ("025", "25")),
    ],
)
def test_equivalent_answers_are_right(given_answer: str, gold: str) -> None:
    assert Maths(WHOLE).grade(given_answer, gold, {}).reason == "right"


@pytest.mark.parametrize(
    ("given_answer", "gold"),
    [
        *(
            ("42 or 41", "42"),
            (r"\{41,42\}", "42"),
            ("41,42", "42"),
            (r"42 \lor 41", "42"),
            ("not 42", "42"),
            ("not $42$", "42"),
        ),
        *(
            ("0/0", "5"),
            (r"\frac{1}{0}", "5"),
            (r"\infty-\infty", "5"),
            ("y=5", "x=5"),
            ("[0,1]", "(0,1)"),
            ("1", "2x+z=1"),
        ),
        *(
            ("0.33", r"\frac13"),
            ("x", "5"),
            ("Carla", r"\text{Evelyn}"),
            ("B", r"\text{(C)}"),
            (r"\emptyset", "5"),
            ("", "5"),
        ),
        *(("42 \\approx 41", "41"), (r"4\sqrt2", "4"), (r"\begin{pmatrix}", "x"), ("(2,1)", "(1,2)")),
    ],
)
def test_other_answers_are_not(given_answer: str, gold: str) -> None:
    assert Maths(WHOLE).grade(given_answer, gold, {}).reward == 0.0


def test_hostile_expressions_end_at_the_deadline_and_leave_the_pool_healthy() -> None:
    maths = Maths(WHOLE, deadline=2.0, workers=2)
    maths.grade("(x+1)^2", "x^2+2x+1", {})  # so that the processes are there
    begin = time.perf_counter()
    hostile = [
        Case(text, "x^2+2x+1")
        for text in ("9^{9^{9^{9}}}x", "100000000!", r"\sum_{k=1}^{10000000}\frac{1}{k}", "10^{10^{10}}")
    ]
    grades = maths.grade_all([*hostile, Case("(x+1)^2", "x^2+2x+1")])
    assert [grade.reward for grade in grades] == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert time.perf_counter() - begin < 20.0
    assert maths.grade("(y+1)^2", "y^2+2y+1", {}).reward == 1.0


def test_a_gold_answer_that_hangs_judges_nothing() -> None:
    grade = Maths(WHOLE, deadline=2.0).grade("3", "100000000!", {})
    assert (grade.reward, grade.reason) == (None, "gold_timeout")


def test_a_worker_killed_by_another_hand_is_replaced_and_its_job_repeated() -> None:
    pool = workers()
    assert pool.run([{"say": 1}])[0].value == 1
    outcome = pool.run([{"die_in": pool.pids[0]}])[0]
    assert (outcome.status, outcome.value) == ("done", "survived")
    assert pool.counts.crashed == 1
    assert pool.run([{"die": True}])[0].status == "crashed"
    os.kill(pool.pids[0], signal.SIGKILL) if pool.pids else None
    assert pool.run([{"say": 2}])[0].value == 2
    pool.close()


def test_what_befalls_the_shared_processes_is_counted_for_the_run_it_befalls() -> None:
    grader = Maths(WHOLE, workers=1, deadline=1.5)
    pool, gold = grader.pool, "x+1"
    assert grader.grade("1+x", gold, {}).reward == 1.0
    run = RolloutDataModule(ModularChains(), engine=Transformers())
    assert not run.incidents
    (idle,) = pool.pids
    os.kill(idle, signal.SIGKILL)
    while pool.pids:
        time.sleep(0.01)
    assert grader.grade("1+x", gold, {}).reward == 1.0
    assert run.incidents == {"graders_died": 1}
    assert grader.grade("100000000!+x", gold, {}).reason == "timeout"
    assert run.incidents == {"graders_died": 1, "graders_killed": 1}
    assert not RolloutDataModule(ModularChains(), engine=Transformers()).incidents, "what was before is not its own"
    pool.close()


def test_a_job_is_killed_at_its_deadline_and_the_others_are_done() -> None:
    pool = workers(count=2, deadline=1.0)
    outcomes = pool.run([{"say": 0}, {"hang": True}, {"say": 2}, {"hang": True}, *({"say": i} for i in range(4, 50))])
    assert [outcome.status for outcome in outcomes[:4]] == ["done", "timeout", "done", "timeout"]
    assert [outcome.value for outcome in outcomes[4:]] == list(range(4, 50))
    assert pool.counts.killed == 2
    pool.close()


def test_memory_has_a_limit() -> None:
    pool = workers(memory_mib=300)
    assert pool.run([{"fill": True}])[0].status == "memory"
    assert pool.run([{"say": "again"}])[0].value == "again"
    pool.close()


def test_what_a_job_prints_or_raises_is_no_answer() -> None:
    pool = workers()
    outcomes = pool.run([{"print": '{"done": 1}'}, {"raise": True}, {"say": "\ud800\x00"}])
    assert [outcome.status for outcome in outcomes] == ["done", "ValueError", "done"]
    assert [outcome.value for outcome in outcomes] == ["printed", None, "\ud800\x00"]
    pool.close()


def test_workers_do_not_outlive_the_interpreter() -> None:
    code = (
        "from gpo_lightning.rewards import Maths, Whole\n"
        "maths = Maths((Whole(),), workers=1)\n"
        "maths.grade('(x+1)^2', 'x^2+2x+1', {})\n"
        "print(maths.pool.pids[0])"
    )
    pid = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    time.sleep(0.2)
    assert not Path(f"/proc/{pid}").exists()


def test_threads_may_share_a_grader() -> None:
    maths, grades = Maths(WHOLE), list[float | None]()
    threads = [
        threading.Thread(
            target=lambda i=i: grades.append(maths.grade(f"(x+{i})^2", f"x^2+{2 * i}x+{i * i}", {}).reward)
        )
        for i in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert grades == [1.0] * 8


def test_a_grader_is_copied_without_its_processes() -> None:
    maths = Maths((Boxed(),), deadline=3.0)
    maths.grade(r"\boxed{(x+1)^2}", "x^2+2x+1", {})
    for twin in (copy.deepcopy(maths), pickle.loads(pickle.dumps(maths))):
        assert twin == maths
        assert twin.pool is maths.pool


def test_workers_know_no_torch() -> None:
    code = "import sys, gpo_lightning.rewards.worker, gpo_lightning.rewards.equivalence; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_settings_that_cannot_work_are_refused() -> None:
    for wrong in ({"deadline": 0.0}, {"memory_mib": 1}, {"workers": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Maths(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="memory_mib"):
        Workers("tests.rewards.jobs:no_such_function", 1, 1.0, 512).run([{}])


# ---- real data -------------------------------------------------------------------------------------------------------


def test_gsm8k_verdicts_agree(benchmark_data: Path) -> None:
    rows = read(benchmark_data / "graded_outputs" / "gsm8k_example_model_solutions.jsonl")
    grader = Number((Marked("A:"),))
    agree = [
        (grader.grade(row[name]["solution"], row["ground_truth"].rpartition("A:")[2], {}).reward == 1.0)
        == row[name]["is_correct"]
        for row in rows
        for name in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    ]
    assert len(agree) == 5276
    assert sum(agree) / len(agree) >= 0.995


def test_equivalent_pairs_agree(benchmark_data: Path) -> None:
    pairs, reading = read(benchmark_data / "answer_equivalence" / "cases.jsonl"), LastExpression()
    grades = Maths((reading,), deadline=20.0).grade_all([Case(p["pred"], reading.find(p["gold"]) or "") for p in pairs])
    agree = [(g.reward == 1.0) == bool(p.get("expected", p.get("result"))) for g, p in zip(grades, pairs, strict=True)]
    assert sum(agree) / len(agree) >= 0.97


def test_math_500_golds_are_right_and_junk_is_not(benchmark_data: Path) -> None:
    golds = [row["answer"] for row in read(benchmark_data / "math500" / "test.jsonl")]
    themselves = Maths().grade_all([Case(rf"\boxed{{{gold}}}", gold) for gold in golds])
    assert all(grade.reward == 1.0 for grade in themselves)
    junk = [Case(text, gold) for gold in golds[::10] for text in ("0/0", r"\infty", r"\text{yes}", "q", "x=x", r"\{\}")]
    assert not [grade for grade in Maths(WHOLE, deadline=20.0).grade_all(junk) if grade.reward == 1.0]


def read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
