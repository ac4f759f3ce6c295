"""The example that passes files of any size."""

import hashlib
import json
from pathlib import Path

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "large_files.py")
SIZE = 20_000_000


def test_a_file_of_many_chunks_passes_through_the_example(cli, worker, tmp_path):
    content = (b"a line of text\n" * (SIZE // 15 + 1))[:SIZE]
    path = tmp_path / "lines.txt"
    path.write_bytes(content)
    worker(EXAMPLE)
    answer = cli("start", "large_files", json.dumps({"path": str(path)}), "--wait", "--json")
    assert json.loads(answer.stdout)["output"]["report"] == {
        "lines": content.count(b"\n"),
        "bytes": [SIZE, SIZE],
        "sha256": hashlib.sha256(content).hexdigest(),
        "begins": content[:80].decode(),
    }
