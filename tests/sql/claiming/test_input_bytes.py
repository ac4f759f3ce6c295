"""Tasks within a budget: the bytes of the blobs that their handlers take to memory."""

import pytest

from ...parts.models.core import Core, Outcome

MB = 10**6


def waiting(core: Core, *sizes: int) -> None:
    """A task that loads a blob of this size, for each of them, in this order; 0: none."""
    core.flow("a", "b<a", base_delay=0)
    runs = core.start_many(len(sizes))
    core.claim(len(sizes))
    outcomes = [
        Outcome(run, "a", blob=core.blob(run, "a", size) if size else None)
        for run, size in zip(runs, sizes, strict=True)
    ]
    for outcome in outcomes:
        core.settle(outcome)


def sizes(claim) -> list[int]:
    return [task.input_bytes for task in claim.tasks]


# What a task loads


def test_a_task_notes_the_bytes_of_the_blobs_it_depends_on(core):
    core.flow("a", "b", "c", "d<a,b,c")
    run = core.start("x" * 9_998)
    core.complete(run, "a", "x" * 19_998)
    core.complete(run, "b", "small")
    core.complete(run, "c", "x" * 29_998)
    assert core.task(run, "a").input_bytes == 10_000
    assert core.task(run, "d").input_bytes == 60_000


def test_a_task_without_blobs_loads_no_bytes(core):
    core.flow("a", "b<a")
    run = core.start()
    core.complete(run, "a", 1)
    assert [core.task(run, step).input_bytes for step in "ab"] == [0, 0]


def test_a_list_counts_with_its_elements_each_in_all_of_its_places(core):
    core.flow("a", "b<a")
    run = core.start()
    core.claim()
    elements = [core.blob(run, "a", 300), None, core.blob(run, "a", 40)]
    core.settle(Outcome(run, "a", blob=core.blob(run, "a", 5, [*elements, elements[0]])))
    assert core.task(run, "b").input_bytes == 645


def test_what_is_in_chunks_counts_as_a_whole(core):
    core.flow("a", "b<a")
    run = core.start()
    core.claim()
    blob = core.open(run, "a")
    core.write(blob, 0)
    core.settle(Outcome(run, "a", blob=core.finish(blob, 1, size=5 * 10**9)))
    assert core.task(run, "b").input_bytes == 5 * 10**9


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        (None, 31_000),
        ([], 0),
        (["run"], 10_000),
        (["a"], 21_000),
        (["run", "a"], 31_000),
        (["other"], 0),
    ],
    ids=str,
)
def test_a_step_may_say_which_of_its_inputs_it_loads(core, loads, expected):
    core.flow("a", "b<a")
    core.db.execute("update pgflow.steps set opt_loads = %s where step_slug = 'b'", [loads])
    run = core.start("x" * 9_998)
    core.complete(run, "a", "x" * 20_998)
    assert core.task(run, "b").input_bytes == expected


def test_a_blob_that_is_passed_on_counts_where_it_is_taken(core):
    core.flow("a", "b<a", "c<b")
    run = core.start()
    core.claim()
    blob = core.blob(run, "a", 700)
    core.settle(Outcome(run, "a", blob=blob), qty=1)
    core.settle(Outcome(run, "b", blob=blob))
    assert core.task(run, "c").input_bytes == 700


# What is claimed


@pytest.mark.parametrize(
    ("max_bytes", "expected"),
    [
        (None, [3, 0, 2, 4, 0]),
        (9, [3, 0, 2, 4, 0]),
        (8, [3, 0, 2, 0]),
        (5, [3, 0, 2, 0]),
        (4, [3, 0, 0]),
        (2, [0, 0]),
        (0, [0, 0]),
        (-1, [0, 0]),
    ],
)
def test_a_claim_takes_in_order_what_fits_and_all_that_loads_nothing(core, max_bytes, expected):
    waiting(core, 3, 0, 2, 4, 0)
    assert sizes(core.claim(max_bytes=max_bytes)) == expected


def test_what_did_not_fit_waits_and_is_told_of(core):
    waiting(core, 3, 9, 1)
    for max_bytes, taken, waits in ((10, [3], 9), (7, [], 9), (9, [9], 1), (1, [1], None)):
        claim = core.claim(max_bytes=max_bytes)
        assert (sizes(claim), claim.next_bytes) == (taken, waits)


def test_while_it_waits_the_next_due_is_that_of_others(core):
    waiting(core, 9, 3)
    claim = core.claim(max_bytes=1)
    assert (claim.next_bytes, claim.next_due) == (9, None)
    core.claim(qty=1)
    claim = core.claim(max_bytes=1)
    assert claim.next_bytes == 3
    assert claim.next_due == pytest.approx(62, abs=1)


def test_what_did_not_fit_has_not_been_attempted(core):
    waiting(core, 9)
    core.claim(max_bytes=1)
    attempts = "select attempts_count, started_at from pgflow.step_tasks where step_slug = 'b'"
    assert core.row(attempts) == (0, None)
    assert core.value("select sum(read_ct)::integer from pgmq.q_f") == 0


def test_what_loads_nothing_is_told_of_as_zero_bytes(core):
    waiting(core, 0, 5)
    claim = core.claim(qty=0)
    assert (claim.next_bytes, claim.next_due) == (0, 0)


def test_the_flows_of_a_claim_share_its_bytes(core):
    for slug in "fg":
        core.flow("a", slug=slug)
        for _ in range(2):
            core.start("x" * 9_998, slug)
    claim = core.claim(flows=("f", "g"), max_bytes=30_000)
    assert [task.flow_slug for task in claim.tasks] == ["f", "f", "g"]
    assert core.claim(flows=("f", "g"), max_bytes=9_999).next_bytes == 10_000


# What is handed over


def completed(core: Core, *blobs: int, **call: int):
    """Complete so many first steps with blobs of these sizes (0: none), in one call that claims."""
    core.flow("a", "b<a")
    runs = core.start_many(len(blobs))
    core.claim(len(blobs))
    outcomes = [
        Outcome(run, "a", blob=core.blob(run, "a", size) if size else None)
        for run, size in zip(runs, blobs, strict=True)
    ]
    return core.settle(*outcomes, **call)


@pytest.mark.parametrize(
    ("max_bytes", "expected", "next_bytes"),
    [
        (None, [3, 0, 2, 4, 0], None),
        (5, [3, 0, 2, 0], 4),
        (3, [3, 0, 0], 2),
        (0, [0, 0], 3),
    ],
)
def test_a_hand_over_takes_what_fits_and_all_that_loads_nothing(
    core, max_bytes, expected, next_bytes
):
    claim = completed(core, 3, 0, 2, 4, 0, qty=5, max_bytes=max_bytes)
    assert sizes(claim) == expected
    assert claim.owed_tasks == (["f"] if next_bytes else [])
    assert claim.next_bytes == next_bytes


def test_what_is_handed_over_and_what_is_claimed_share_the_bytes(core):
    waiting(core, 6, 6, 1)  # older, but the hand-over comes first
    run = core.start()
    core.claim(max_bytes=0)
    claim = core.settle(Outcome(run, "a", blob=core.blob(run, "a", 5)), qty=9, max_bytes=11)
    assert sizes(claim) == [5, 6]
    assert claim.next_bytes == 6


def test_a_task_that_is_queued_again_is_as_large_as_before(core):
    waiting(core, 7)
    (task,) = core.claim().tasks
    core.settle(Outcome(task.run_id, "b", error="boom"))
    core.lapse()
    assert sizes(core.claim(max_bytes=6)) == []
    assert sizes(core.claim(max_bytes=7)) == [7]


def test_a_poll_of_the_seeds_own_heeds_no_bytes(core):
    waiting(core, 5 * 10**9)
    assert len(core.poll()) == 1
