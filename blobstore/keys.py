"""Encryption at rest: the keys that seal what blobs hold.

    ring = KeyRing.from_file(Path("/etc/pgflow/keys"))
    key, wrapped = ring.new_key(bound)         # one for each blob
    sealed = key.seal(chunk, chunk_bound)
    # ring.active and wrapped stand in the blob's row, and later:
    key = ring.unwrap(key_id, wrapped, bound)
    chunk = key.open(sealed, chunk_bound)

What this protects from, and how keys are made and rotated, is in docs/operate/encryption.md.
"""

import os
import re
import stat
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, Self

from blobstore.errors import BlobError, KeyMissing

if TYPE_CHECKING:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 24
TAG_BYTES = 16

# Ids are stored and shown: they are shorter than any key in base64 or hex, so that a file
# with the sides of a line exchanged is refused.
KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,40}")

# Others may do nothing with a key file, its group may read it: systemd lets a service read
# its credentials by an ACL, which fstat() shows as a right of the group.
FORBIDDEN_MODE = 0o027

MOST_BYTES = 1024 * 1024  # of a key file

# Random bytes have fewer different ones in less than one of 10**18 keys.
LEAST_VARIETY = 12


class KeyRingError(BlobError):
    """A key ring cannot be made of this file, id or key, or without the library."""


class Key:
    """256 bits that seal and open, in any thread; made by a key ring.

    What is sealed is XAES-256-GCM (c2sp.org/XAES-256-GCM): 24 bytes of random nonce, the
    ciphertext, 16 bytes of tag.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret: Final = secret

    def seal(self, plain: bytes, bound: bytes) -> bytes:
        """Encrypt and authenticate: 40 bytes longer, and other bytes each time.

        Args:
            plain: What to hide, less than 2 GiB.
            bound: What it belongs to, such as a blob's id and a chunk's number: it opens
                with the same one only. Not stored.
        """
        nonce = token_bytes(NONCE_BYTES)
        return nonce + self._cipher(nonce).encrypt(nonce[12:], plain, bound)

    def open(self, sealed: bytes, bound: bytes) -> bytes:
        """Give exactly what was sealed, or raise.

        Args:
            sealed: What :meth:`seal` returned.
            bound: What it was bound to.

        Raises:
            ValueError: It was not sealed like this, with this key and `bound`; which of
                these is wrong cannot be known.
        """
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            raise ValueError(f"it has {len(sealed)} bytes, too few for a sealed value")
        nonce, rest = sealed[:NONCE_BYTES], memoryview(sealed)[NONCE_BYTES:]
        try:
            return self._cipher(nonce).decrypt(nonce[12:], rest, bound)
        except _library().invalid_tag:
            raise ValueError("its seal is broken: wrong key, or changed or moved data") from None

    def _cipher(self, nonce: bytes) -> "AESGCM":
        # A key of plain AES-GCM is used up after 2**32 random nonces. Here each message has
        # a key of its own, derived from half of a longer nonce: 2**80 of them are safe.
        # AES-GCM-SIV takes ten times as long, and the library has no XChaCha20.
        library = _library()
        return library.aes_gcm(library.derive(self._secret, nonce[:12]))

    def __repr__(self) -> str:
        return "<Key>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key cannot be copied or pickled")


class KeyRing:
    """Keys by id; the first one seals, all of them open. In any thread.

    Args:
        keys: 32 random bytes for each id: what a vault gives, where there is no file.

    Attributes:
        active: The id of the key that seals.

    Raises:
        KeyRingError: There is no key, one cannot be used, or the library is missing.
    """

    __slots__ = ("_keys", "active")

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        _library()
        known: dict[str, bytes] = {}
        for number, (key_id, secret) in enumerate(keys.items(), 1):
            if fault := _fault(key_id, secret, known):
                raise KeyRingError(f"key {number}: {fault}")
            known[key_id] = secret
        if not known:
            raise KeyRingError("a key ring needs at least one key")
        self._keys: Final = {key_id: Key(secret) for key_id, secret in known.items()}
        self.active: Final = next(iter(known))

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a key file: `id:base64 of 32 bytes` on each line, comments after `#`.

        Raises:
            KeyRingError: It cannot be read or used, others may read it, or the library is
                missing. The message names file and line, and quotes nothing of them.
        """
        _library()  # before a variable holds a key, which some tracebacks print
        keys, fault = _parse(_read(path))
        if fault:
            raise KeyRingError(f"{path}: {fault}")
        return cls(keys)

    @classmethod
    def from_credential(cls, name: str = "pgflow-keys") -> Self | None:
        """Read the key file that systemd's `LoadCredential=` gives, or None if it gives none.

        Raises:
            KeyRingError: It gives one that :meth:`from_file` refuses.
        """
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            return None
        path = Path(directory, name)
        try:
            path.lstat()
        except FileNotFoundError:
            return None
        except OSError as error:
            # Not None, as exists() has it: blobs would be stored in clear without a word.
            raise KeyRingError(f"{path}: {error.strerror}") from error
        return cls.from_file(path)

    @staticmethod
    def new_line(key_id: str) -> str:
        """Make a key: a line for a key file, without its end.

        Raises:
            KeyRingError: This cannot be an id.
        """
        secret = token_bytes(KEY_BYTES)
        if fault := _fault(key_id, secret, {}):
            raise KeyRingError(fault)
        return f"{key_id}:{b64encode(secret).decode()}"

    def seal(self, plain: bytes, bound: bytes) -> bytes:
        """Seal with the active key; see :meth:`Key.seal`."""
        return self._keys[self.active].seal(plain, bound)

    def open(self, key_id: str, sealed: bytes, bound: bytes) -> bytes:
        """Open with the key of this id; see :meth:`Key.open`.

        Raises:
            KeyMissing: The ring does not have this key.
            ValueError: It was not sealed like this, with this key and `bound`.
        """
        key = self._keys.get(key_id)
        if key is None:
            raise KeyMissing(key_id)
        return key.open(sealed, bound)

    def reseal(self, key_id: str, sealed: bytes, bound: bytes) -> bytes:
        """Seal with the active key what this one has sealed; raises what :meth:`open` does."""
        return self.seal(self.open(key_id, sealed, bound), bound)

    def new_key(self, bound: bytes) -> tuple[Key, bytes]:
        """Make a key for one blob; returns it, and what to store: it, sealed by the active key.

        So a rotation reseals 72 bytes of the blob's row, in one update. Chunks stay as they
        are, wherever they are: no reader and no crash finds them half rotated.
        """
        secret = token_bytes(KEY_BYTES)
        return Key(secret), self.seal(secret, bound)

    def unwrap(self, key_id: str, wrapped: bytes, bound: bytes) -> Key:
        """Give the key of a blob back; raises what :meth:`open` does."""
        return Key(self.open(key_id, wrapped, bound))

    def __repr__(self) -> str:
        return f"<KeyRing {', '.join(self._keys)}>"


def _fault(key_id: str, secret: bytes, before: Mapping[str, bytes]) -> str | None:
    """Why this key cannot stand after those before; quotes nothing."""
    if not KEY_ID.fullmatch(key_id):
        return "an id has 1 to 40 of the characters A-Z a-z 0-9 . _ -"
    if len(secret) != KEY_BYTES:
        return f"a key has {KEY_BYTES} bytes; a file has them as base64 after the first colon"
    if len(set(secret)) < LEAST_VARIETY or secret in secret[1:] + secret[:-1]:
        return "its bytes repeat themselves: make a random key with `pgflow-events blob key`"
    if key_id in before:
        return "an earlier key has the same id"
    if secret in before.values():
        return "an earlier key has the same bytes"
    return None


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if fault := _file_fault(os.fstat(file.fileno()), path.lstat()):
                raise KeyRingError(f"{path}: {fault}")
            return file.read(MOST_BYTES)
    except OSError as error:
        raise KeyRingError(f"{path}: {error.strerror}") from error


def _open_at_once(path: str, flags: int) -> int:
    """Open a file, without waiting for who writes to it if it is a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _file_fault(file: os.stat_result, link: os.stat_result) -> str | None:
    """Why nobody should trust what is in this file, or the link that leads to it."""
    if not stat.S_ISREG(file.st_mode):
        return "this is not a regular file"
    if not {file.st_uid, link.st_uid} <= {0, os.geteuid()}:
        return "it belongs to another user, who could replace the keys: run `chown` on it"
    if file.st_mode & FORBIDDEN_MODE:
        return "others may read or change it: run `chmod 600` on it"
    if file.st_size > MOST_BYTES:
        return f"it has more than {MOST_BYTES:,} bytes"
    return None


def _parse(content: bytes) -> tuple[dict[str, bytes], str | None]:
    """The keys of a file, or what is wrong with it.

    Told, not raised: tracebacks that print variables find no key in the frames that remain.
    """
    keys: dict[str, bytes] = {}
    for number, line in enumerate(content.splitlines(), 1):
        if entry := line.partition(b"#")[0].strip():
            left, _, right = entry.partition(b":")
            key_id, secret = left.strip().decode("ascii", "replace"), _decoded(right.strip())
            if fault := _fault(key_id, secret, keys):
                return {}, f"line {number}: {fault}"
            keys[key_id] = secret
    return keys, None if keys else "it contains no key"


def _decoded(encoded: bytes) -> bytes:
    try:
        return b64decode(encoded, validate=True)
    except ValueError:
        return b""


class _Library(NamedTuple):
    """What is used of the library `cryptography`."""

    aes_gcm: "type[AESGCM]"
    derive: Callable[[bytes, bytes], bytes]
    invalid_tag: "type[InvalidTag]"


@cache
def _library() -> _Library:
    try:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra, and slow
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
        from cryptography.hazmat.primitives.ciphers.algorithms import AES  # noqa: PLC0415
        from cryptography.hazmat.primitives.cmac import CMAC  # noqa: PLC0415
    except ImportError as error:
        raise KeyRingError(
            "encryption needs the package cryptography:"
            f" pip install 'pgflow-events[encryption]' ({error})"
        ) from error

    def derive(secret: bytes, context: bytes) -> bytes:
        # NIST SP 800-108r1: counter mode over CMAC, with X for label, as XAES-256-GCM says.
        halves = CMAC(AES(secret)), CMAC(AES(secret))
        for counter, half in enumerate(halves, 1):
            half.update(bytes((0, counter)) + b"X\0" + context)
        return b"".join(half.finalize() for half in halves)

    return _Library(AESGCM, derive, InvalidTag)
