"""Ed25519 and X25519 keys: the server's key file, users' keys, signing and verifying.

Wire spec sections 1.1 (address), 1.3 (server keys file). Verification is libsodium's: it refuses
small-order public keys and non-canonical signatures, so a signature has one form only.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.public import PrivateKey
from nacl.signing import SigningKey, VerifyKey

from events.errors import InvalidInput, MailioError, Misconfigured
from events.identity import Did, mailio_address, mailio_did
from events.log import failpoints
from node.crypto.base64_text import from_base64, to_base64

KEY_FILE_TYPE: Final = "mailio_server_keys_ed25519"
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

MAX_KEY_FILE_BYTES: Final = 65_536
"""A key file has about 200 bytes, and 150 more for each key that was retired; more is some other file."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def verify_signature(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) is that of `public_key` (32 bytes) over `message`; never raises."""
    if len(public_key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        VerifyKey(public_key).verify(message, signature)
    except BadSignatureError:
        return False
    return True


def public_key_from_base64(text: object) -> bytes:
    """Decode a 32-byte public key. Raises InvalidInput `invalid public key`."""
    try:
        return from_base64(text, length=KEY_BYTES, limit=64)
    except MailioError as error:
        raise InvalidInput("invalid public key", str(error)) from None


class SigningKeys:
    """An Ed25519 key pair and the identity that follows from it. Never shows its secret."""

    def __init__(self, seed: bytes) -> None:
        """Take the 32-byte seed. Raises InvalidInput."""
        if len(seed) != KEY_BYTES:
            raise InvalidInput("invalid key seed", f"{len(seed)} bytes where {KEY_BYTES} are due")
        self._signing = SigningKey(seed)
        self.public_key = bytes(self._signing.verify_key)
        self.address = mailio_address(self.public_key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address})"

    @property
    def did(self) -> Did:
        """`did:mailio:<address>`."""
        return mailio_did(self.address)

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes, for whoever has to store them."""
        return bytes(self._signing)

    def sign(self, message: bytes) -> bytes:
        """Sign with Ed25519; 64 bytes."""
        return self._signing.sign(message).signature


class UserKeys(SigningKeys):
    """A user's two key pairs: Ed25519 to sign, X25519 to receive encrypted content."""

    def __init__(self, signing_seed: bytes, agreement_seed: bytes) -> None:
        """Take two 32-byte seeds. Raises InvalidInput."""
        super().__init__(signing_seed)
        if len(agreement_seed) != KEY_BYTES:
            raise InvalidInput("invalid key seed", f"{len(agreement_seed)} bytes where {KEY_BYTES} are due")
        self._agreement = PrivateKey(agreement_seed)
        self.agreement_public_key = bytes(self._agreement.public_key)

    @classmethod
    def generate(cls) -> Self:
        """Draw fresh keys from the operating system."""
        return cls(secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES))

    @property
    def agreement_seed(self) -> bytes:
        """The secret X25519 key, for whoever has to store it."""
        return bytes(self._agreement)


class Stage(StrEnum):
    """How far a change of keys is; what DNS has to say at each is in `ServerKeys.published`."""

    STEADY = "steady"
    ANNOUNCED = "announced"
    """The new key stands beside the old one, for those who read both; the old one signs."""
    PROMOTED = "promoted"
    """The new key stands first, where those who read one key look; the old one still signs."""
    SIGNING = "signing"
    """The new key signs; the old one stands beside it for what is on its way."""


class OtherKey(SigningKeys):
    """The second live key: the next one, or from `Stage.SIGNING` on the one before. `created` in ms."""

    def __init__(self, seed: bytes, created: int) -> None:
        """Take the 32-byte seed and its time of creation. Raises InvalidInput."""
        super().__init__(seed)
        self.created = created


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """A change of keys under way. Times in ms: `since` its stage began, `published_at` (0: not yet) DNS was
    seen to say what it asks for, with a TTL of `ttl` seconds.
    """

    stage: Stage
    other: OtherKey
    since: int
    published_at: int = 0
    ttl: int = 0


class RetiredKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that signs no more; what it signed before `retired` (ms) was the node's word. `created` in ms.

    `stolen`: somebody else may have signed with it, so what is shown by others no longer counts by it.
    """

    public_key: bytes
    created: int
    retired: int
    stolen: bool = False


class ServerKeys(SigningKeys):
    """The key pair that signs everything a server says now, and the other keys that are or were its own.

    `created` is in milliseconds. `retired` are in order of retirement.
    """

    def __init__(
        self,
        seed: bytes,
        created: int,
        rotation: Rotation | None = None,
        retired: tuple[RetiredKey, ...] = (),
    ) -> None:
        """Take the 32-byte seed and its time of creation. Raises InvalidInput."""
        super().__init__(seed)
        self.created = created
        self.rotation = rotation
        self.retired = retired

    def adopt(self, changed: ServerKeys) -> None:
        """Become `changed`: whoever holds these keys signs by them from the next signature on."""
        self._signing = changed._signing
        self.public_key, self.address = changed.public_key, changed.address
        self.created, self.rotation, self.retired = changed.created, changed.rotation, changed.retired

    @property
    def stage(self) -> Stage:
        """How far a change of keys is."""
        return self.rotation.stage if self.rotation is not None else Stage.STEADY

    @property
    def other(self) -> OtherKey | None:
        """The second live key."""
        return self.rotation.other if self.rotation is not None else None

    @property
    def signers(self) -> tuple[SigningKeys, ...]:
        """The keys to sign a request with, in this order, until the peer takes it.

        A peer that reads one key holds the old one still or the new one already; two tries find which.
        """
        return (self, self.other) if self.other is not None else (self,)

    @property
    def published(self) -> tuple[bytes, bytes | None]:
        """The keys that DNS should give: the one that readers of one key take, and the one beside it."""
        if self.rotation is None:
            return self.public_key, None
        other = self.rotation.other.public_key
        return (other, self.public_key) if self.stage is Stage.PROMOTED else (self.public_key, other)

    @property
    def live(self) -> tuple[bytes, ...]:
        """The public keys by which peers may believe this node, the one that signs first."""
        return (self.public_key, self.other.public_key) if self.other is not None else (self.public_key,)

    @property
    def trusted(self) -> tuple[bytes, ...]:
        """All keys but stolen ones."""
        return self.live + tuple(one.public_key for one in self.retired if not one.stolen)

    @property
    def known(self) -> tuple[bytes, ...]:
        """All keys by which this node ever signed or is going to."""
        return self.live + tuple(one.public_key for one in self.retired)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses of all known keys, the present one first: as each of them the node has signed."""
        return tuple(map(mailio_address, self.known))

    @property
    def origin(self) -> str:
        """Address of the first key that this node ever had: a name that no change of keys changes."""
        if self.retired:
            return mailio_address(self.retired[0].public_key)
        if self.rotation is not None and self.stage is Stage.SIGNING:
            return self.rotation.other.address
        return self.address


class _OtherKeyFile(msgspec.Struct):
    private_key: str = msgspec.field(name="privateKey")
    created: int


class _RotationFile(msgspec.Struct, rename="camel"):
    stage: Stage
    since: int
    other: _OtherKeyFile
    published_at: int = 0
    ttl: int = 0


class _RetiredFile(msgspec.Struct, rename="camel", omit_defaults=True):
    public_key: str
    created: int
    retired: int
    stolen: bool = False


class _KeyFile(msgspec.Struct, omit_defaults=True):
    """The file of wire spec section 1.3, which allows other members: `rotation` and `retired` are ours."""

    type: str
    private_key: str = msgspec.field(name="privateKey")
    created: int
    rotation: _RotationFile | None = None
    retired: list[_RetiredFile] = []


def load_server_keys(path: Path) -> ServerKeys:
    """Read the key file. Raises Misconfigured, which says in one line what to do; never shows the key."""
    try:
        content = msgspec.json.decode(_read_private_file(path), type=_KeyFile)
    except FileNotFoundError:
        raise Misconfigured(
            f"{path}: no key file: a backup has it; of a new node the first `mailio-node run` makes it"
        ) from None
    except OSError as error:
        raise Misconfigured(f"{path}: the key file can't be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeError):
        # No detail: a message about bad content may quote a piece of the key.
        raise Misconfigured(f"{path}: this is not a key file (JSON with type, privateKey, created)") from None
    if content.type != KEY_FILE_TYPE:
        raise Misconfigured(f"{path}: the key file's type is not {KEY_FILE_TYPE}: name the right file")
    return _keys_of(path, content)


@failpoints.after("keys-written")
def create_server_keys(path: Path, now: int, seed: bytes | None = None) -> ServerKeys:
    """Make new keys at `now` (ms) and write their file, readable by its owner only, synced to disk.

    The file appears whole or not at all, and an existing one is never replaced. Raises Misconfigured.
    """
    keys = ServerKeys(seed or secrets.token_bytes(KEY_BYTES), now)
    try:
        _write_new_private_file(path, key_file_bytes(keys))
    except FileExistsError:
        raise Misconfigured(
            f"{path}: exists already; move it away if you really want a new identity"
        ) from None
    except OSError as error:
        raise Misconfigured(f"{path}: the key file can't be written: {error.strerror}") from None
    return keys


def load_or_create_server_keys(path: Path, now: int) -> ServerKeys:
    """Read the key file, or make it at the first start. Raises Misconfigured.

    What a crash left of making it goes: it holds a private key.
    """
    for aside in path.parent.glob(f".{path.name}.*"):
        aside.unlink(missing_ok=True)
    return load_server_keys(path) if os.path.lexists(path) else create_server_keys(path, now)


def replace_server_keys(path: Path, keys: ServerKeys) -> None:
    """Put these keys in the place of those in the file, all at once: a crash leaves the old file or the new.

    Raises Misconfigured; then the old file stands.
    """
    aside = _aside(path)
    try:
        _write_aside(aside, key_file_bytes(keys))
        aside.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        raise Misconfigured(f"{path}: the key file can't be written: {error.strerror}") from None
    finally:
        aside.unlink(missing_ok=True)


def key_file_bytes(keys: ServerKeys) -> bytes:
    """Serialise the keys as the file of wire spec section 1.3: what signs now is where all readers look."""
    content = _KeyFile(
        type=KEY_FILE_TYPE,
        private_key=_private_text(keys),
        created=keys.created,
        rotation=_rotation_file(keys.rotation),
        retired=[
            _RetiredFile(to_base64(one.public_key), one.created, one.retired, one.stolen)
            for one in keys.retired
        ],
    )
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def _private_text(keys: SigningKeys) -> str:
    return to_base64(keys.seed + keys.public_key)


def _rotation_file(rotation: Rotation | None) -> _RotationFile | None:
    if rotation is None:
        return None
    other = _OtherKeyFile(_private_text(rotation.other), rotation.other.created)
    return _RotationFile(rotation.stage, rotation.since, other, rotation.published_at, rotation.ttl)


def _keys_of(path: Path, content: _KeyFile) -> ServerKeys:
    rotation = _rotation_of(path, content.rotation) if content.rotation is not None else None
    try:
        retired = tuple(
            RetiredKey(
                public_key=public_key_from_base64(one.public_key),
                created=one.created,
                retired=one.retired,
                stolen=one.stolen,
            )
            for one in content.retired
        )
    except InvalidInput:
        raise Misconfigured(f"{path}: a retired key is not base64 of 32 bytes: restore the file") from None
    return ServerKeys(_seed_of(path, content.private_key), content.created, rotation, retired)


def _rotation_of(path: Path, content: _RotationFile) -> Rotation:
    return Rotation(
        stage=content.stage,
        since=content.since,
        other=OtherKey(_seed_of(path, content.other.private_key), content.other.created),
        published_at=content.published_at,
        ttl=content.ttl,
    )


def _seed_of(path: Path, text: str) -> bytes:
    try:
        raw = from_base64(text, length=2 * KEY_BYTES, limit=256)
    except MailioError:
        raise Misconfigured(f"{path}: privateKey is not base64 of 64 bytes: restore the file") from None
    if SigningKeys(raw[:KEY_BYTES]).public_key != raw[KEY_BYTES:]:
        raise Misconfigured(f"{path}: privateKey's two halves do not belong together: restore the file")
    return raw[:KEY_BYTES]


def _read_private_file(path: Path) -> bytes:
    """Read a bounded regular file that nobody else may touch; checks what was opened, not the name."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Misconfigured(f"{path}: the key file is not a regular file")
        if status.st_mode & _OTHERS:
            raise Misconfigured(f"{path}: other users may access the key file: run `chmod 600 {path}`")
        data = file.read(MAX_KEY_FILE_BYTES + 1)
    if len(data) > MAX_KEY_FILE_BYTES:
        raise Misconfigured(f"{path}: too large for a key file: name the right file")
    return data


def _write_new_private_file(path: Path, data: bytes) -> None:
    """Write aside with mode 0600, sync, then link to the final name, which fails if it is taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    try:
        _write_aside(aside, data)
        os.link(aside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()
    _sync_directory(path.parent)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def _write_aside(aside: Path, data: bytes) -> None:
    _fill(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), data)


@failpoints.after("key-aside-written")
def _fill(descriptor: int, data: bytes) -> None:
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
