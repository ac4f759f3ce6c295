"""The order in which flows are asked for tasks."""

from math import inf

import pytest
import trio

from pgflow_events.worker.claiming.turns import PATIENCE, REST, SHY, Question, Turns

NOW = -inf


@pytest.fixture
async def turns(autojump_clock) -> Turns:
    """Two flows that have answered that they have nothing."""
    turns = Turns(["f", "g"])
    for slug in ("f", "g"):
        answered(turns, turns.ask(slug), inf)
    return turns


def answered(turns: Turns, question: Question, due: float, *, in_vain: bool = False) -> bool:
    turns.end(question)
    return turns.answer(question, due, in_vain=in_vain)


async def test_at_first_each_flow_is_asked_once(autojump_clock):
    turns = Turns(["f", "g"])
    for slug in ("f", "g"):
        assert turns.first() == slug
        answered(turns, turns.ask(slug), inf)
    assert turns.first() is None


async def test_a_wake_up_concerns_its_own_flow_only(turns, autojump_clock):
    turns.wake("g")
    assert turns.first() == "g"
    answered(turns, turns.ask("g"), inf)
    assert turns.first() is None


async def test_without_a_name_all_flows_are_woken(turns, autojump_clock):
    turns.wake()
    assert turns.first() == "f"
    answered(turns, turns.ask("f"), inf)
    assert turns.first() == "g"


async def test_a_flow_that_has_more_comes_after_those_that_wait(turns, autojump_clock):
    turns.wake()
    for slug in ("f", "g", "f"):
        assert turns.first() == slug
        answered(turns, turns.ask(slug), NOW)


async def test_a_flow_is_ready_at_its_time_and_not_before(turns, autojump_clock):
    answered(turns, turns.ask("f"), trio.current_time() + 5)
    assert (turns.next_due(), turns.first()) == (trio.current_time() + 5, None)
    await trio.sleep(5)
    assert (turns.next_due(), turns.first()) == (inf, "f")


async def test_the_last_answer_moves_the_time(turns, autojump_clock):
    for seconds in (5, 50):
        answered(turns, turns.ask("f"), trio.current_time() + seconds)
    await trio.sleep(49)
    assert turns.first() is None
    await trio.sleep(1)
    assert turns.first() == "f"


async def test_an_answer_that_may_be_older_than_a_wake_up_does_not_hide_it(turns, autojump_clock):
    question = turns.ask("f")
    turns.wake("f")
    assert not answered(turns, question, inf)
    assert turns.first() == "f"
    assert answered(turns, turns.ask("f"), inf)
    assert turns.first() is None


async def test_of_two_answers_at_once_the_sooner_time_counts(turns, autojump_clock):
    one, other = turns.ask("f"), turns.ask("f")
    answered(turns, one, trio.current_time() + 5)
    answered(turns, other, trio.current_time() + 50)
    assert turns.next_due() == trio.current_time() + 5


async def test_a_call_without_an_answer_leaves_its_flow_ready(turns, autojump_clock):
    turns.wake("f")
    turns.end(turns.ask("f"))
    assert turns.first_unasked() == "f"


async def test_a_flow_that_is_being_asked_is_not_asked_beside_unless_it_is_woken(
    turns, autojump_clock
):
    turns.wake("f")
    turns.ask("f")
    assert (turns.first(), turns.first_unasked()) == ("f", None)
    turns.wake("f")
    assert turns.first_unasked() == "f"


async def test_a_flow_is_asked_by_another_call_when_one_gives_no_answer(turns, autojump_clock):
    turns.wake("f")
    turns.ask("f")
    assert turns.next_due() == trio.current_time() + PATIENCE
    await trio.sleep(PATIENCE)
    assert (turns.first_unasked(), turns.next_due()) == ("f", inf)


async def test_after_a_claim_in_vain_a_flow_rests(turns, autojump_clock):
    turns.wake("f")
    answered(turns, turns.ask("f"), NOW, in_vain=True)
    turns.wake("f")
    assert turns.first() is None
    await trio.sleep(REST)
    assert turns.first() == "f"


async def test_a_flow_that_is_left_out_is_not_asked_until_it_is_taken_back(turns, autojump_clock):
    turns.leave_out("f")
    turns.wake()
    assert turns.first() == "g"
    answered(turns, turns.ask("g"), inf)
    assert turns.first() is None
    turns.take_back("f")
    assert turns.first() == "f"


async def test_times_that_do_not_count_any_more_are_forgotten(turns, autojump_clock):
    for seconds in range(2000):
        answered(turns, turns.ask("f"), trio.current_time() + 1000 + seconds)
    assert len(turns._dues) < 200
    assert turns.next_due() == trio.current_time() + 2999


CROWD = 50


@pytest.fixture
async def shy(autojump_clock) -> Turns:
    """A flow of many workers, after a claim in vain."""
    turns = Turns(["f"], lambda _: CROWD)
    answered(turns, turns.ask("f"), inf)
    turns.notify("f")
    assert turns.first() == "f"
    answered(turns, turns.ask("f"), inf, in_vain=True)
    await trio.sleep(1)
    return turns


async def test_after_a_claim_in_vain_others_go_first_for_a_while(shy, autojump_clock):
    shy.notify("f")
    assert shy.first() is None
    assert trio.current_time() < shy.next_due() < trio.current_time() + SHY * CROWD
    await trio.sleep(SHY * CROWD)
    assert shy.first() == "f"


async def test_notifications_meanwhile_neither_shorten_nor_lengthen_it(shy, autojump_clock):
    shy.notify("f")
    due = shy.next_due()
    for _ in range(100):
        shy.notify("f")
    assert shy.next_due() == due


async def test_a_claim_that_found_something_ends_it(shy, autojump_clock):
    answered(shy, shy.ask("f"), inf, in_vain=False)
    shy.notify("f")
    assert shy.first() == "f"


async def test_what_falls_due_or_is_checked_is_claimed_at_once(shy, autojump_clock):
    answered(shy, shy.ask("f"), trio.current_time(), in_vain=None)
    assert shy.first() == "f"
    answered(shy, shy.ask("f"), inf, in_vain=None)
    shy.wake()
    assert shy.first() == "f"


async def test_a_claim_in_vain_that_no_notification_caused_makes_nobody_shy(autojump_clock):
    turns = Turns(["f"], lambda _: CROWD)
    answered(turns, turns.ask("f"), inf, in_vain=True)
    await trio.sleep(1)
    turns.notify("f")
    assert turns.first() == "f"


async def test_a_lone_worker_is_never_shy(autojump_clock):
    turns = Turns(["f"])
    turns.notify("f")
    answered(turns, turns.ask("f"), inf, in_vain=True)
    await trio.sleep(1)
    turns.notify("f")
    assert turns.first() == "f"
