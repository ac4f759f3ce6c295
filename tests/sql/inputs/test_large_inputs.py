"""What SQL callers start runs with may be large, too."""

PAGE = "x" * 9_000


def define(db) -> None:
    db.execute("select pgflow.create_flow('f'), pgflow.add_step('f', 's')")


def test_an_input_over_the_threshold_becomes_a_blob(db):
    define(db)
    run = db.execute("select * from pgflow.start_flow('f', to_jsonb(%s::text))", [PAGE]).fetchone()
    assert run.input is None
    stored = db.execute(
        "select run_id, kind, codec, raw_size, pgflow.blob_json(id) as value"
        " from pgflow.output_blobs where id = %s",
        [run.input_blob_id],
    ).fetchone()
    assert stored == (run.run_id, "json", "none", len(PAGE) + 2, PAGE)
    task = db.execute("select * from pgflow.poll_for_tasks('f', 1, 1, 0)").fetchone()
    assert (task.input, task.blobs_refs) == ({}, {"run": str(run.input_blob_id)})


def test_of_several_inputs_only_the_large_ones_become_blobs(db):
    define(db)
    runs = db.execute(
        "select * from pgflow.start_flows('f', array['1', to_jsonb(%s::text), '\"\"'])", [PAGE]
    ).fetchall()
    assert [run.input for run in runs] == [1, None, ""]
    assert [run.input_blob_id is None for run in runs] == [True, False, True]


def test_a_poll_takes_nothing_and_does_not_wait_when_told_null(db):
    define(db)
    db.execute("select pgflow.start_flow('f', '1')")
    assert db.execute("select * from pgflow.poll_for_tasks('f', 1, null, null)").fetchall() == []
