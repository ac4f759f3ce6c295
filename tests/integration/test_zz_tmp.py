import psycopg, pytest, trio
from pgflow_events import Flow

@pytest.mark.parametrize("bad", ['1e400', '['*1500 + ']'*1500, '1'*400, '123456789012345678901234567890', '1.0e15','0.1234567890123456789012345'])
async def test_poison(database, client, work, bad):
    flow = Flow("f", base_delay=0, max_attempts=1)
    got = []
    @flow.step(flow.input)
    async def step(run): 
        got.append(run); return None
    await work(flow)
    with psycopg.connect(database, autocommit=True) as c:
        (rid,) = c.execute("select run_id from pgflow.start_flow('f', %s::jsonb)", [bad]).fetchone()
    run = await client.find(rid)
    with trio.fail_after(3):
        print(await run.result(), got)
