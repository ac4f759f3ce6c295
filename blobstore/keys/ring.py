"""Encryption at rest: the keys that seal the contents of blobs.

    ring = KeyRing.from_file(Path("/etc/pgflow/keys"))
    key, wrapped = ring.new_key(bound)         # one key for each blob
    sealed = key.seal(chunk, chunk_bound)
    # the blob's row holds ring.active and wrapped; later:
    key = ring.unwrap(key_id, wrapped, bound)
    chunk = key.open(sealed, chunk_bound)

docs/operate/encryption.md says what this protects from, and how to make and rotate keys.
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

# Ids are stored and shown. They are shorter than any key in base64 or hex, so that a line with its
# two sides exchanged is refused.
KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,40}")

# The group may read a key file, and other users have no rights. systemd lets a service read its
# credentials by an ACL, which fstat() shows as a right of the group.
FORBIDDEN_MODE = 0o027

MOST_BYTES = 1024 * 1024  # the size of a key file

# Fewer than one random key in 10**18 has fewer different bytes.
LEAST_VARIETY = 12


class KeyRingError(BlobError):
    """A file, an id or a key cannot be used for a key ring, or the library is missing.

    The message says what to do, and quotes no key.
    """


class Key:
    """A key of 256 bits that seals and opens. A key ring makes it, and any thread may use it.

    The format is XAES-256-GCM (c2sp.org/XAES-256-GCM): a random nonce of 24 bytes, the
    ciphertext, a tag of 16 bytes.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret: Final = secret

    def seal(self, plain: bytes, bound: bytes) -> bytes:
        """Encrypt and authenticate bytes.

        The result is 40 bytes longer, and differs at each call.

        Args:
            plain: The bytes to encrypt, less than 2 GiB.
            bound: Where they belong, such as a blob's id and a chunk's number. Not stored:
                :meth:`open` needs the same bytes.
        """
        nonce = token_bytes(NONCE_BYTES)
        return nonce + self._cipher(nonce).encrypt(nonce[12:], plain, bound)

    def open(self, sealed: bytes, bound: bytes) -> bytes:
        """Return exactly the bytes that were sealed.

        Args:
            sealed: The result of :meth:`seal`.
            bound: The same bytes as for :meth:`seal`.

        Raises:
            ValueError: `sealed` was changed, or was sealed with another key or `bound`. Which
                of these is wrong cannot be known.
        """
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            raise ValueError(f"it has {len(sealed)} bytes, too few for a sealed value")
        nonce, rest = sealed[:NONCE_BYTES], memoryview(sealed)[NONCE_BYTES:]
        try:
            return self._cipher(nonce).decrypt(nonce[12:], rest, bound)
        except _library().invalid_tag:
            raise ValueError("its seal is broken: wrong key, or changed or moved data") from None

    def _cipher(self, nonce: bytes) -> "AESGCM":
        # With plain AES-GCM, a key is safe for 2**32 random nonces. Here each message has its own
        # key, derived from half of a longer nonce: 2**80 messages are safe.
        # AES-GCM-SIV takes ten times as long, and the library has no XChaCha20.
        library = _library()
        return library.aes_gcm(library.derive(self._secret, nonce[:12]))

    def __repr__(self) -> str:
        return "<Key>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key cannot be copied or pickled")


class KeyRing:
    """Keys by id: the first one seals, and all of them open. Any thread may use it.

    Args:
        keys: 32 random bytes for each id, such as from a vault. :meth:`from_file` reads a file.

    Attributes:
        active: The id of the key that seals.

    Raises:
        KeyRingError: There is no key, a key or an id cannot be used, or the library is missing.
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
        """Read a key file: `id:base64 of 32 bytes` on each line, and comments after `#`.

        Args:
            path: The file. It belongs to this process's user or to root, and other users may
                not read it.

        Raises:
            KeyRingError: The file cannot be read or used, other users may read it, or the library
                is missing. The message names the file and the line, and quotes nothing of them.
        """
        _library()  # first, while no variable holds a key that a traceback could print
        keys, fault = _parse(_read(path))
        if fault:
            raise KeyRingError(f"{path}: {fault}")
        return cls(keys)

    @classmethod
    def from_credential(cls, name: str = "pgflow-keys") -> Self | None:
        """Read the key file that systemd passes with `LoadCredential=`.

        Returns None if systemd passes no file of this name.

        Args:
            name: The name of the credential, ``pgflow-keys`` by default.

        Raises:
            KeyRingError: :meth:`from_file` refuses the file.
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
            # Not None, as exists() would say: blobs would be stored unencrypted, without a warning.
            raise KeyRingError(f"{path}: {error.strerror}") from error
        return cls.from_file(path)

    @staticmethod
    def new_line(key_id: str) -> str:
        """Make a random key, as a line for a key file, without the line end.

        Args:
            key_id: 1 to 40 letters, digits, dots, underscores or hyphens.

        Raises:
            KeyRingError: `key_id` cannot be an id.
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
            ValueError: `sealed` was changed, or was sealed with another key or `bound`.
        """
        key = self._keys.get(key_id)
        if key is None:
            raise KeyMissing(key_id)
        return key.open(sealed, bound)

    def reseal(self, key_id: str, sealed: bytes, bound: bytes) -> bytes:
        """Open with the key of this id, and seal with the active key; raises as :meth:`open`."""
        return self.seal(self.open(key_id, sealed, bound), bound)

    def new_key(self, bound: bytes) -> tuple[Key, bytes]:
        """Make a key for one blob. Returns the key, and the sealed key that the blob's row holds.

        The active key seals it. So a rotation reseals 72 bytes of the row, in one update. The
        chunks do not change, wherever they are: a reader or a crash never finds them half rotated.
        """
        secret = token_bytes(KEY_BYTES)
        return Key(secret), self.seal(secret, bound)

    def unwrap(self, key_id: str, wrapped: bytes, bound: bytes) -> Key:
        """Return the key of a blob from its sealed form; raises as :meth:`open` does."""
        return Key(self.open(key_id, wrapped, bound))

    def __repr__(self) -> str:
        return f"<KeyRing {', '.join(self._keys)}>"


def _fault(key_id: str, secret: bytes, before: Mapping[str, bytes]) -> str | None:
    """Say why this key cannot follow the keys before it; quotes nothing."""
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
    """Open a file. If it is a pipe, do not wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _file_fault(file: os.stat_result, link: os.stat_result) -> str | None:
    """Say why this file, or the link that leads to it, cannot be trusted."""
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
    """Return the keys of a file, or what is wrong with it.

    The fault is returned, not raised: a traceback that prints variables finds no frame with a key.
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
    """The parts of the library `cryptography` that are used here."""

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
        # NIST SP 800-108r1: counter mode over CMAC with the label X, as XAES-256-GCM specifies.
        halves = CMAC(AES(secret)), CMAC(AES(secret))
        for counter, half in enumerate(halves, 1):
            half.update(bytes((0, counter)) + b"X\0" + context)
        return b"".join(half.finalize() for half in halves)

    return _Library(AESGCM, derive, InvalidTag)
