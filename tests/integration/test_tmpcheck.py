def test_a(db): assert db.execute("select count(*) n from pg_tables where schemaname='pgflow'").fetchone().n
def test_b(database): pass
