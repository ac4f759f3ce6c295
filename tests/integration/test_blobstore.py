from pgflow_events.connection import Connection
async def test_x(database):
    async with await Connection.connect(database) as c:
        print(c.info.server_version)
        await c.execute("select pgflow.create_flow('pages')")
        print(await (await c.execute("select run_id from pgflow.start_flow('pages','{}')")).fetchall())
