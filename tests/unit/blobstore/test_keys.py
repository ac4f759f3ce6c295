"""Sealing: what comes out is what went in, or an error, and never a key."""

import copy
import os
import pickle
import re
import subprocess
import sys
import traceback
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256, shake_128
from pathlib import Path
from secrets import token_bytes
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blobstore.errors import KeyMissing
from blobstore.keys import KeyRing, KeyRingError
from blobstore.keys import ring as keys
from blobstore.keys.ring import Key

BLOB = UUID("0197a3c4-58a1-7c5e-9a53-6f1e1c2b3a4d")
BOUND, ELSEWHERE = BLOB.bytes + b"0", BLOB.bytes + b"1"
OLD, NEW = (sha256(word).digest() for word in (b"old", b"new"))
RING = KeyRing({"old": OLD})

FAILS_TO_OPEN = pytest.raises(ValueError, match=r"its seal is broken|too few for a sealed value")


def base64(secret: bytes) -> str:
    return b64encode(secret).decode()


def shown(secret: bytes, text: str) -> bool:
    forms = (repr(secret)[2:-1], secret.hex(), base64(secret), repr(list(secret))[1:-1])
    # A part of a key is a key that can be guessed: sixteen characters are no accident.
    pieces = (form[start : start + 16] for form in forms for start in range(len(form) - 15))
    return any(piece in text for piece in pieces)


def told(error: BaseException) -> str:
    """All that a log may hold of an error: its texts, and the variables of our frames."""
    printed = [*traceback.format_exception(error), repr(error), repr(error.args)]
    chain: BaseException | None = error
    while chain is not None:
        for frame, _ in traceback.walk_tb(chain.__traceback__):
            if frame.f_code.co_filename == keys.__file__:
                printed.append(repr(frame.f_locals))
        printed.append(repr(vars(chain)))
        chain = chain.__context__
    return "\n".join(printed)


def named(path: Path, fault: str) -> str:
    return f"^{re.escape(str(path))}: {fault}"


@pytest.fixture
def key_file(tmp_path: Path) -> Callable[..., Path]:
    def write(content: str | bytes, mode: int = 0o600) -> Path:
        path = tmp_path / "pgflow-keys"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    return write


# What is sealed


@given(plain=st.binary(), bound=st.binary())
@settings(deadline=None)
def test_what_is_sealed_comes_back(plain, bound):
    sealed = RING.seal(plain, bound)
    assert RING.open("old", sealed, bound) == plain
    assert len(sealed) == len(plain) + 40


def test_a_chunk_of_four_mebibytes_comes_back():
    chunk = token_bytes(4 << 20)
    assert RING.open("old", RING.seal(chunk, BOUND), BOUND) == chunk


def test_equal_contents_and_digests_are_sealed_to_unequal_bytes():
    digest = sha256(b"the same page").digest()
    sealed = {RING.seal(digest, BOUND) for _ in range(1000)}
    assert len({part for one in sealed for part in (one[:12], one[12:24], one[24:56])}) == 3000


@pytest.mark.parametrize(
    ("secret", "bound", "sealed"),
    [
        (b"\1", b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (
            b"\3",
            b"c2sp.org/XAES-256-GCM",
            "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
        ),
    ],
)
def test_the_examples_of_xaes_256_gcm_open(secret, bound, sealed):
    nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX"
    assert Key(secret * 32).open(nonce + bytes.fromhex(sealed), bound) == b"XAES-256-GCM"


def test_ten_thousand_messages_are_sealed_as_xaes_256_gcm_says():
    stream = iter(shake_128().digest(6_000_000))
    seen = shake_128()

    def read(count: int) -> bytes:
        return bytes(next(stream) for _ in range(count))

    for _ in range(10_000):
        key, nonce = Key(read(32)), read(24)
        plain, bound = (read(read(1)[0]) for _ in range(2))
        seen.update(key._cipher(nonce).encrypt(nonce[12:], plain, bound))
    assert seen.hexdigest(32) == "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"


# What does not open


@given(plain=st.binary(max_size=200), data=st.data())
@settings(deadline=None)
def test_no_changed_byte_goes_unseen(plain, data):
    sealed = bytearray(RING.seal(plain, BOUND))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    with FAILS_TO_OPEN:
        RING.open("old", bytes(sealed), BOUND)


def test_no_changed_bit_goes_unseen():
    sealed = RING.seal(b"a short text", BOUND)
    for bit in range(8 * len(sealed)):
        changed = int.from_bytes(sealed) ^ 1 << bit
        with FAILS_TO_OPEN:
            RING.open("old", changed.to_bytes(len(sealed)), BOUND)


def test_no_missing_and_no_additional_byte_goes_unseen():
    sealed = RING.seal(b"a short text", BOUND)
    shorter = [sealed[:length] for length in range(len(sealed))]
    for other in [*shorter, sealed[1:], sealed + b"\0", b"\0" + sealed, sealed + sealed]:
        with FAILS_TO_OPEN:
            RING.open("old", other, BOUND)


@given(bound=st.binary(), other=st.binary())
@settings(deadline=None)
def test_it_opens_only_where_it_belongs(bound, other):
    sealed = RING.seal(b"a short text", bound)
    if bound != other:
        with FAILS_TO_OPEN:
            RING.open("old", sealed, other)


def test_another_key_does_not_open_it_whatever_its_id():
    sealed = RING.seal(b"a short text", BOUND)
    with FAILS_TO_OPEN:
        KeyRing({"old": NEW}).open("old", sealed, BOUND)
    with FAILS_TO_OPEN:
        KeyRing({"new": NEW, "old": OLD}).open("new", sealed, BOUND)


def test_parts_of_two_sealings_do_not_fit_together():
    one, two = (RING.seal(b"a short text", BOUND) for _ in range(2))
    for cut in (12, 24, len(one) - 16):
        with FAILS_TO_OPEN:
            RING.open("old", one[:cut] + two[cut:], BOUND)


# Rotation


def test_after_a_rotation_the_new_key_seals_and_the_old_one_still_opens():
    rotated = KeyRing({"new": NEW, "old": OLD})
    assert (RING.active, rotated.active) == ("old", "new")
    assert rotated.open("old", RING.seal(b"before", BOUND), BOUND) == b"before"
    assert KeyRing({"new": NEW}).open("new", rotated.seal(b"after", BOUND), BOUND) == b"after"


def test_what_is_resealed_needs_the_old_key_no_more():
    sealed = KeyRing({"new": NEW, "old": OLD}).reseal("old", RING.seal(b"text", BOUND), BOUND)
    assert KeyRing({"new": NEW}).open("new", sealed, BOUND) == b"text"


def test_the_chunks_of_a_blob_outlive_the_key_that_its_own_was_wrapped_with():
    key, wrapped = RING.new_key(BLOB.bytes)
    chunk = key.seal(b"chunk", BOUND)
    rewrapped = KeyRing({"new": NEW, "old": OLD}).reseal("old", wrapped, BLOB.bytes)
    again = KeyRing({"new": NEW}).unwrap("new", rewrapped, BLOB.bytes)
    assert again.open(chunk, BOUND) == b"chunk"


def test_each_blob_has_a_key_of_its_own():
    (one, _), (two, _) = (RING.new_key(BLOB.bytes) for _ in range(2))
    with FAILS_TO_OPEN:
        two.open(one.seal(b"chunk", BOUND), BOUND)
    with FAILS_TO_OPEN:
        RING.open("old", one.seal(b"chunk", BOUND), BOUND)


def test_a_missing_key_is_told_from_damage():
    for call in (RING.open, RING.reseal, RING.unwrap):
        with pytest.raises(KeyMissing, match="no key 'new'") as caught:
            call("new", b"", BOUND)
        assert not isinstance(caught.value, ValueError)
        assert caught.value.key_id == "new"


# Key files


def test_the_first_line_of_a_file_seals_and_all_of_them_open(key_file):
    lines = ["# rotated in May", "", f"new:{base64(NEW)}", f"  old : {base64(OLD)}  # till June"]
    for ending in ("\n", "\r\n"):
        ring = KeyRing.from_file(key_file(ending.join(lines)))
        assert ring.active == "new"
        assert ring.open("old", RING.seal(b"text", BOUND), BOUND) == b"text"


def test_a_new_line_is_a_key_that_nobody_else_has(key_file):
    lines = [KeyRing.new_line(f"2026-{number}") for number in range(100)]
    assert KeyRing.from_file(key_file("\n".join(lines))).active == "2026-0"
    assert len({line.partition(":")[2] for line in lines}) == 100


ID = r"an id has 1 to 40 of the characters A-Z a-z 0-9 \. _ -$"
LENGTH = "a key has 32 bytes; a file has them as base64 after the first colon$"
SAME_ID = "an earlier key has the same id$"
SAME_KEY = "an earlier key has the same bytes$"
SECRET = sha256(b"secret").digest()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (base64(SECRET), ID),
        (f"{base64(SECRET)}:new", ID),
        (f"{SECRET.hex()}:new", ID),
        (f":{base64(SECRET)}", ID),
        (f"ä:{base64(SECRET)}", ID),
        (f"a b:{base64(SECRET)}", ID),
        (f"\ufeffnew:{base64(SECRET)}", ID),
        (f"{'x' * 41}:{base64(SECRET)}", ID),
        ("new", LENGTH),
        ("new:", LENGTH),
        (f"new:{SECRET.hex()}", LENGTH),
        (f"new:{base64(SECRET)[:-1]}", LENGTH),
        (f"new:{base64(SECRET[:-1])}", LENGTH),
        (f"new:{base64(SECRET + b'x')}", LENGTH),
        (f"new:{base64(SECRET)} {base64(SECRET)}", LENGTH),
        (f"new:{base64(SECRET)}:", LENGTH),
        (f"new:ä{base64(SECRET)}", LENGTH),
        (f"new:{urlsafe_b64encode(b'~' + b'?' * 31).decode()}", LENGTH),
        (b"new:" + SECRET, LENGTH),
        (f"first:{base64(SECRET)}", SAME_ID),
        (f"new:{base64(OLD)}", SAME_KEY),
    ],
    ids=repr,
)
def test_a_faulty_line_is_named_and_not_quoted(key_file, line, fault):
    content = f"# keys\nfirst:{base64(OLD)}\n".encode()
    path = key_file(content + (line if isinstance(line, bytes) else line.encode()) + b"\n")
    with pytest.raises(KeyRingError, match=named(path, f"line 3: {fault}")) as caught:
        KeyRing.from_file(path)
    assert not shown(SECRET, told(caught.value))
    assert not shown(OLD, told(caught.value))


@pytest.mark.parametrize("content", ["", "\n\n", "# old:AAAA\n"])
def test_a_file_without_a_key_is_refused(key_file, content):
    path = key_file(content)
    with pytest.raises(KeyRingError, match=named(path, "it contains no key$")):
        KeyRing.from_file(path)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o620, 0o644, 0o666])
def test_a_file_that_others_may_read_or_change_is_refused(key_file, mode):
    path = key_file(f"old:{base64(OLD)}", mode)
    with pytest.raises(KeyRingError, match=named(path, "others may read or change it")) as caught:
        KeyRing.from_file(path)
    assert not shown(OLD, told(caught.value))


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
def test_a_file_with_the_rights_that_systemd_gives_is_read(key_file, mode):
    assert KeyRing.from_file(key_file(f"old:{base64(OLD)}", mode)).active == "old"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(KeyRingError, match=named(tmp_path / "no", "No such file or directory$")):
        KeyRing.from_file(tmp_path / "no")
    with pytest.raises(KeyRingError, match=named(tmp_path, "Is a directory$")):
        KeyRing.from_file(tmp_path)


def test_a_file_or_link_of_another_user_is_refused(key_file, tmp_path, monkeypatch):
    path, link = key_file(f"old:{base64(OLD)}"), tmp_path / "link"
    link.symlink_to(path)
    assert KeyRing.from_file(link).active == "old"  # as Kubernetes gives a secret
    if os.geteuid() == 0:
        os.chown(link, 65534, -1, follow_symlinks=False)
        assert KeyRing.from_file(path).active == "old"
        with pytest.raises(KeyRingError, match="it belongs to another user"):
            KeyRing.from_file(link)
        os.chown(path, 65534, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
    with pytest.raises(KeyRingError, match=named(path, "it belongs to another user")) as caught:
        KeyRing.from_file(path)
    assert not shown(OLD, told(caught.value))


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(KeyRingError, match=named(path, "this is not a regular file$")):
            KeyRing.from_file(path)
    (tmp_path / "large").touch(0o600)
    os.truncate(tmp_path / "large", 2**40)
    with pytest.raises(KeyRingError, match="it has more than"):
        KeyRing.from_file(tmp_path / "large")


@pytest.mark.parametrize(
    "secret",
    [bytes(32), b"\xff" * 32, b"ab" * 16, OLD[:16] * 2, b"0123456789abcdef" * 2, b"a" * 31 + b"b"],
)
def test_bytes_that_are_not_random_are_no_key(key_file, secret):
    fault = "its bytes repeat themselves: make a random key with `pgflow-events blob key`$"
    path = key_file(f"new:{base64(secret)}")
    with pytest.raises(KeyRingError, match=named(path, f"line 1: {fault}")):
        KeyRing.from_file(path)
    with pytest.raises(KeyRingError, match=f"^key 1: {fault}"):
        KeyRing({"new": secret})


def test_a_ring_refuses_what_a_file_may_not_hold():
    for faulty, fault in (
        ({}, "a key ring needs at least one key"),
        ({"a": OLD, "b": NEW[:16]}, "key 2: a key has 32 bytes"),
        ({"a": OLD, "b": OLD}, "key 2: an earlier key has the same bytes"),
        ({"a b": OLD}, "key 1: an id has"),
    ):
        with pytest.raises(KeyRingError, match=f"^{fault}") as caught:
            KeyRing(faulty)
        assert not shown(OLD, str(caught.value))


@pytest.mark.parametrize("key_id", ["", "a:b", "a#b", "a\nb", "a\n", "x" * 41, "ä"])
def test_no_line_is_made_that_no_file_may_hold(key_id):
    with pytest.raises(KeyRingError, match=ID):
        KeyRing.new_line(key_id)


# The credential of systemd


def test_the_credential_is_read(key_file, monkeypatch):
    path = key_file(f"old:{base64(OLD)}", 0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.parent))
    ring = KeyRing.from_credential()
    assert ring is not None
    assert ring.active == "old"


def test_without_a_credential_there_is_no_ring(tmp_path, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert KeyRing.from_credential() is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "")
    assert KeyRing.from_credential() is None
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert KeyRing.from_credential() is None


def test_a_credential_that_cannot_be_read_is_not_taken_for_none(key_file, monkeypatch):
    path = key_file("")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.parent))
    with pytest.raises(KeyRingError, match=named(path, "it contains no key$")):
        KeyRing.from_credential()
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(KeyRingError, match=named(path, "No such file or directory$")):
        KeyRing.from_credential()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", __file__)
    with pytest.raises(KeyRingError, match=r"pgflow-keys: Not a directory$"):
        KeyRing.from_credential()


# Keys stay where they are


def test_nothing_prints_a_key():
    ring = KeyRing({"new": NEW, "old": OLD})
    assert repr(ring) == str(ring) == "<KeyRing new, old>"
    assert repr(ring._keys["new"]) == "<Key>"
    key, _ = ring.new_key(BOUND)
    assert not shown(key._secret, f"{key!r} {key}")


def test_no_failure_to_open_prints_a_key():
    for sealed in (b"", RING.seal(b"text", ELSEWHERE)):
        with pytest.raises(ValueError, match="seal") as caught:
            RING.open("old", sealed, BOUND)
        assert not shown(OLD, told(caught.value))


def test_a_wrong_type_does_not_print_a_key():
    with pytest.raises(TypeError) as caught:
        RING.seal("a text", BOUND)  # type: ignore[arg-type]  # what is tested
    assert not shown(OLD, told(caught.value))


@pytest.mark.parametrize("leave", [pickle.dumps, copy.deepcopy])
@pytest.mark.parametrize("thing", [RING, RING.new_key(BOUND)[0]], ids=["ring", "key"])
def test_no_key_leaves_the_process(leave, thing):
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        leave(thing)


# The library, and threads

WITHOUT_THE_LIBRARY = """
import sys
from pathlib import Path
from blobstore.keys import KeyRing, KeyRingError

assert not any(name.startswith("cryptography") for name in sys.modules)
sys.modules["cryptography"] = None
print(KeyRing.new_line("new"))
for make in (lambda: KeyRing({"new": bytes(32)}), lambda: KeyRing.from_file(Path("no-such-file"))):
    try:
        make()
    except KeyRingError as error:
        print(error)
"""


def test_without_the_library_only_a_ring_cannot_be_made():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_LIBRARY],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    line, *errors = done.stdout.splitlines()
    assert line.startswith("new:")
    assert len(errors) == 2
    for error in errors:
        assert error.startswith(
            "encryption needs the package cryptography: pip install 'pgflow-events[encryption]'"
        )


def test_one_ring_serves_many_threads():
    ring = KeyRing({"new": NEW, "old": OLD})
    key, _ = ring.new_key(BOUND)

    def work(thread: int) -> int:
        for turn in range(200):
            plain, bound = token_bytes(turn * 50), f"{thread}, {turn}".encode()
            assert ring.open("new", ring.seal(plain, bound), bound) == plain
            assert key.open(key.seal(plain, bound), bound) == plain
        return thread

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(work, range(16))) == list(range(16))
