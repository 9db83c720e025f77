"""Settings: one commented TOML file, environment variables above it, and where each value came from.

A setting's default and its description stand here or in the limits structs that the rooms define; the
default configuration file and `docs/configuration.md` are generated from them (`node.reference`).
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin

import msgspec

from actors.outgoing import DeliverySettings
from actors.runtime.activation import ActorLimits
from actors.runtime.reaction import DispatchLimits
from events.consent import Demands, Level, SignupMinutes
from events.errors import Misconfigured
from node.discovery.limits import DiscoverySettings
from node.mime.limits import MimeLimits
from node.mtp.limits import MtpSettings
from node.smtp.limits import SmtpLimits
from node.sync.limits import SyncLimits
from projections.runner import RunnerLimits

ENVIRONMENT_PREFIX = "MAILIO_"

MOST_OPEN_OFFERS = 128
"""Most that `handshakes.open_offers` may say: a book remembers twice as many, used ones included."""

CONFIGURATION_VARIABLE = "MAILIO_CONFIG"
"""Environment variable that names the configuration file itself."""


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who this node is, and where it keeps its data."""

    server_domain: str = "localhost"
    """Host name that serves the API and the DID documents."""
    email_domains: tuple[str, ...] = ("alpha.example",)
    """Domains whose emails this node accepts; accounts belong to one of them."""
    web_domain: str = "localhost"
    """Host name of the web client: relying-party id of passkeys."""
    data: Path = Path("var")
    """Folder of log, blobs, views and keys; relative paths start at the configuration file."""
    quota_bytes: int = 524_288_000
    """Bytes that one mailbox may hold."""
    goodreads_percent: int = 30
    """A sender whose messages are read with interest at least this often (percent) goes to goodreads."""
    registration: bool = True
    """Whether anyone may register over HTTP; if not, only `mailio-node account add` makes accounts."""

    def __post_init__(self) -> None:
        """Raise ValueError for a node that could serve nobody."""
        if not self.email_domains:
            raise ValueError("email_domains must name at least one domain")
        if self.quota_bytes <= 0:
            raise ValueError("quota_bytes must be positive")


class SmtpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The door for mail from the rest of the world."""

    listen: str = "127.0.0.1:2525"
    """Address and port."""
    hostname: str = ""
    """Name in the banner; empty: the server domain."""
    certificate: Path | None = None
    """PEM file with the certificate chain for STARTTLS; without it STARTTLS is not offered."""
    private_key: Path | None = None
    """PEM file with the private key of the certificate."""
    backlog: int = 50_000
    """Events that may wait to be worked on before the door answers 451: about half a minute of filing. Up to
    half of it, a rush of mail goes before filing."""
    limits: SmtpLimits = SmtpLimits()
    """Bounds on what one client may do."""
    mime: MimeLimits = MimeLimits()
    """Bounds on the form of a message."""


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The door for clients: API and sync. TLS is a reverse proxy's work."""

    listen: str = "127.0.0.1:8025"
    """Address and port."""
    origins: tuple[str, ...] = ()
    """Web origins that may call the API with credentials, for example https://mail.alpha.example."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    metrics: bool = True
    """Whether /metrics answers; keep the port private or the proxy strict, or set a password."""
    metrics_password: str = ""
    """Password that /metrics asks for (HTTP Basic, any user name); empty: none."""
    requests_per_second: float = 10.0
    """Public requests per client address and second (wire spec section 3.8)."""
    request_burst: int = 50
    """Public requests that a client address may make at once."""
    body_bytes: int = 1_048_576
    """Bytes in the body of an API request; the sync door has its own limit."""
    token_days: int = 30
    """Days that a client token is valid (wire spec section 1.11)."""


class CouchdbSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A CouchDB that is given the same views as the embedded store."""

    url: str = ""
    """http(s)://user:password@host:port of a CouchDB 3.x; empty: none."""
    prefix: str = ""
    """Text before each database name, where several nodes share one server."""


class LogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Signed checkpoints of the log."""

    checkpoint_events: int = 10_000
    """Events after which a checkpoint is signed: some seconds of a rush, and a ten-thousandth of the log."""
    checkpoint_hours: float = 1.0
    """Hours after which one is signed if anything is new: what a quiet node leaves unattested."""
    former_keys: tuple[str, ...] = ()
    """Public keys (base64) that this node signed with before it had its present one."""

    def __post_init__(self) -> None:
        """Raise ValueError for what could never be due, or would always be."""
        if self.checkpoint_events < 1 or self.checkpoint_hours <= 0:
            raise ValueError("checkpoint_events and checkpoint_hours must be positive")


class HandshakeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the node demands of handshakes, and how long the links last by which people ask for them."""

    offer_hours: float = 72.0
    """Hours in which the link of an offer can be used, once."""
    open_offers: int = 20
    """Unused links that one owner may have at the same time."""
    minimum_level: Level = Level.NONE
    """none, recaptchaV3, poh or personal: accepted handshakes of a lower level don't open the inbox."""
    signup_minutes: SignupMinutes = SignupMinutes()
    """Limits by purpose."""

    def __post_init__(self) -> None:
        """Raise ValueError for links that nobody could use."""
        if self.offer_hours <= 0 or not 1 <= self.open_offers <= MOST_OPEN_OFFERS:
            raise ValueError(f"offer_hours must be positive, open_offers from 1 to {MOST_OPEN_OFFERS}")

    @property
    def demands(self) -> Demands:
        """What the policy holds handshakes against."""
        return Demands(minimum_level=self.minimum_level, signup_minutes=self.signup_minutes)


class KeySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changing the node's own key (docs/keys.md)."""

    ttl_seconds: int = 3_600
    """Longest TTL of the node's key records, in force or before: how long a change takes to be everywhere."""
    grace_seconds: int = 172_800
    """How long an old key stays beside the new one that signs. Reference servers use a key for a day after
    they looked it up; the other day is for those who were down."""

    def __post_init__(self) -> None:
        """Raise ValueError for waiting that would be none."""
        if self.ttl_seconds < 1 or self.grace_seconds < 1:
            raise ValueError("ttl_seconds and grace_seconds must be positive")


class LoggingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The daemon's own messages, on standard error."""

    level: str = "info"
    """debug, info, warning or error."""
    json: bool = False
    """One JSON object a line instead of text."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set."""

    node: NodeSettings = NodeSettings()
    smtp: SmtpSettings = SmtpSettings()
    http: HttpSettings = HttpSettings()
    couchdb: CouchdbSettings = CouchdbSettings()
    log: LogSettings = LogSettings()
    keys: KeySettings = KeySettings()
    discovery: DiscoverySettings = DiscoverySettings()
    handshakes: HandshakeSettings = HandshakeSettings()
    mtp: MtpSettings = MtpSettings()
    delivery: DeliverySettings = DeliverySettings()
    logging: LoggingSettings = LoggingSettings()
    actors: ActorLimits = ActorLimits()
    reactions: DispatchLimits = DispatchLimits()
    views: RunnerLimits = RunnerLimits()
    sync: SyncLimits = SyncLimits()


class Effective(msgspec.Struct, frozen=True):
    """Settings with the source of each value, keyed by its dotted name."""

    settings: Settings
    sources: dict[str, str]


def leaves(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, msgspec.structs.FieldInfo]]:
    """All settings below a struct as (dotted name, field)."""
    for field in msgspec.structs.fields(struct):
        name = f"{prefix}{field.name}"
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from leaves(field.type, f"{name}.")
        else:
            yield name, field


def environment_name(name: str) -> str:
    """Name of the environment variable that sets a setting."""
    return ENVIRONMENT_PREFIX + name.replace(".", "_").upper()


def load(file: Path | None, environment: Mapping[str, str] = os.environ) -> Effective:
    """Read the configuration file (None: defaults only) and the environment above it.

    Raises Misconfigured with one line that names the file, the setting and what to do.
    """
    values = _read(file) if file else {}
    _refuse_unknown(values, Settings, str(file))
    sources = {name: "default" for name, _ in leaves(Settings)}
    sources |= {name: str(file) for name in sources if _get(values, name) is not None}
    sources |= _apply_environment(values, environment)
    settings = _convert(values, sources)
    for name, listen in (("smtp.listen", settings.smtp.listen), ("http.listen", settings.http.listen)):
        host_and_port(name, listen)
    return Effective(_anchor(settings, file), sources)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Misconfigured(f"{file}: no such file; `mailio-node --config {file} init` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{file}: can't be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"{file}: not valid TOML: {error}") from error


def _refuse_unknown(
    values: Mapping[str, Any], struct: type[msgspec.Struct], file: str, prefix: str = ""
) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in values.items():
        if key not in fields:
            close = difflib.get_close_matches(key, fields, 1)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"known here: {', '.join(fields)}"
            raise Misconfigured(f"{file}: unknown setting {prefix}{key}; {hint}")
        inner = fields[key]
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            if not isinstance(value, Mapping):
                raise Misconfigured(f"{file}: {prefix}{key} is a table, not a value")
            _refuse_unknown(value, inner, file, f"{prefix}{key}.")


def _get(values: Mapping[str, Any], name: str) -> Any:
    found: Any = values
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def _apply_environment(values: dict[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    known = {environment_name(name): (name, field) for name, field in leaves(Settings)}
    sources = {}
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIGURATION_VARIABLE:
            continue
        if variable not in known:
            close = difflib.get_close_matches(variable, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise Misconfigured(f"environment: {variable} sets nothing{hint}")
        name, field = known[variable]
        _set(values, name, _from_text(variable, text, field.type))
        sources[name] = f"environment {variable}"
    return sources


def _from_text(variable: str, text: str, kind: Any) -> Any:
    try:
        if get_origin(kind) is tuple:
            parts = [part.strip() for part in text.split(",") if part.strip()]
            return msgspec.convert(parts, kind, strict=False)
        return msgspec.to_builtins(msgspec.convert(text, kind, strict=False, dec_hook=_decode), enc_hook=str)
    except msgspec.ValidationError as error:
        raise Misconfigured(f"environment: {variable}: {error}") from error


def _set(values: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split(".")
    for part in path:
        values = values.setdefault(part, {})
    values[last] = value


def _decode(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(kind)


def _convert(values: Mapping[str, Any], sources: Mapping[str, str]) -> Settings:
    try:
        return msgspec.convert(values, Settings, dec_hook=_decode)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at ")
        name = place.strip("`").removeprefix("$.") or "the file"
        raise Misconfigured(f"{sources.get(name, 'configuration')}: {name}: {text}") from error


def _anchor(settings: Settings, file: Path | None) -> Settings:
    """Make paths relative to the configuration file absolute."""
    base = (file.parent if file else Path()).resolve()
    node = msgspec.structs.replace(settings.node, data=base / settings.node.data)
    smtp = settings.smtp
    if smtp.certificate:
        smtp = msgspec.structs.replace(smtp, certificate=base / smtp.certificate)
    if smtp.private_key:
        smtp = msgspec.structs.replace(smtp, private_key=base / smtp.private_key)
    return msgspec.structs.replace(settings, node=node, smtp=smtp)


def host_and_port(name: str, listen: str) -> tuple[str, int]:
    """Split `host:port` ([v6]:port); raises Misconfigured naming the setting."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise Misconfigured(f"{name}: expected address:port, for example 127.0.0.1:2525, got {listen!r}")
    return host.strip("[]"), int(port)
