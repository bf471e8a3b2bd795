"""Which problems an iteration asks: all of them in turn, each by one rank."""

from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.problems import Problem
from gpo_lightning.rollouts import RolloutPlan
from gpo_lightning.rollouts.order import ProblemOrder


def problems(count: int) -> list[Problem]:
    return [Problem(f"p{number}", "task", "1", prompt="?") for number in range(count)]


@given(count=st.integers(1, 30), asked=st.integers(1, 40), ranks=st.integers(1, 4), seed=st.integers(0, 99))
def test_in_a_round_every_problem_is_asked_once_by_one_rank(count: int, asked: int, ranks: int, seed: int) -> None:
    plan = RolloutPlan(problems=asked)
    orders = [ProblemOrder(problems(count), plan, seed, rank, ranks) for rank in range(ranks)]
    iterations = -(-2 * count // asked)
    series = list[str]()
    for number in range(iterations):
        shares = [[problem.id for problem in order.iteration(number)] for order in orders]
        assert sum(map(len, shares)) == asked
        series += [shares[place % ranks][place // ranks] for place in range(asked)]
    assert (
        sorted(series[:count]) == sorted(series[count : 2 * count]) == sorted(problem.id for problem in problems(count))
    )


@given(ranks=st.integers(1, 4), refills=st.integers(0, 5), number=st.integers(0, 5))
def test_a_reserve_is_fresh_and_of_one_rank_only(ranks: int, refills: int, number: int) -> None:
    plan = RolloutPlan(problems=8, refills=refills)
    orders = [ProblemOrder(problems(40), plan, 3, rank, ranks) for rank in range(ranks)]
    reserves = [[problem.id for problem in order.reserve(number)] for order in orders]
    assert len({name for reserve in reserves for name in reserve}) == sum(map(len, reserves))
    for order, reserve in zip(orders, reserves, strict=True):
        own = {problem.id for problem in order.iteration(number)}
        ranks_part = {problem.id for problem in problems(40)[order.rank :: ranks]}
        assert set(reserve) <= ranks_part - own
        assert len(reserve) == min(refills * len(own), len(ranks_part - own))
    assert reserves == [[problem.id for problem in order.reserve(number)] for order in orders]
