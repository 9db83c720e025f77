"""What an account shows of itself, and how much room it uses (wire spec sections 6.2, 6.7 and 7.2)."""

from __future__ import annotations

import msgspec

from events.account import ChangeProfile, SealInbound
from events.consent import Level
from events.errors import NotFound
from node.api.mailboxes import Mailboxes
from node.api.route import Auth, Call, Route, client
from node.core import Core
from node.levels import minimum_level, set_minimum_level
from projections.directory import PROFILES, Profile


class Social(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Names on other services (wire spec section 6.2)."""

    twitter: str = ""
    github: str = ""
    linkedin: str = ""
    facebook: str = ""
    instagram: str = ""
    tiktok: str = ""
    snapchat: str = ""
    whatsapp: str = ""
    telegram: str = ""
    signal: str = ""
    discord: str = ""
    slack: str = ""
    skype: str = ""
    zoom: str = ""
    clubhouse: str = ""
    other: str = ""


class ProfileRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The members that an owner may set; what is left out is removed. The node's own are ignored."""

    display_name: str = ""
    phone: str = ""
    picture: str = ""
    job_title: str = ""
    company: str = ""
    description: str = ""
    what_to_share: str = ""
    social: Social | None = None


class Me(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The account that asks. Disk figures in bytes, `created` in milliseconds."""

    address: str
    total_disk: int = 0
    used_disk: int = 0
    display_name: str = ""
    picture: str = ""
    phone: str = ""
    job_title: str = ""
    company: str = ""
    description: str = ""
    social: dict[str, str] = {}
    created: int = 0
    what_to_share: str = ""
    seal_inbound: bool = False
    minimum_level: Level = Level.NONE


class Minimum(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The level below which a handshake does not open the inbox; the node may demand more."""

    minimum_level: Level


class Sealing(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Whether mail that comes by SMTP is sealed to the owner's X25519 key before it is stored."""

    seal_inbound: bool


class SavedProfile(Profile, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A profile as stored."""

    id: str = msgspec.field(name="_id")
    rev: str = msgspec.field(name="_rev")


class ProfileRoutes:
    """Routes of one's own profile."""

    def __init__(self, core: Core, mailboxes: Mailboxes) -> None:
        self._core = core
        self._mailboxes = mailboxes

    def routes(self) -> list[Route]:
        """Declare the routes."""
        return [
            Route(
                method="GET",
                path="/api/v1/user/me",
                summary="Own profile and disk use",
                tag="profile",
                handler=self.me,
                answer=Me,
                auth=Auth.TOKEN,
            ),
            Route(
                method="PUT",
                path="/api/v1/user/me",
                summary="Replace the own profile",
                tag="profile",
                handler=self.change,
                body=ProfileRequest,
                answer=SavedProfile,
                auth=Auth.TOKEN,
                refusals=(404, 409),
            ),
            Route(
                method="PUT",
                path="/api/v1/user/sealinbound",
                summary="Have mail by SMTP sealed to the own key, or not",
                tag="profile",
                handler=self.seal_inbound,
                body=Sealing,
                answer=Sealing,
                auth=Auth.TOKEN,
                refusals=(404,),
            ),
            Route(
                method="PUT",
                path="/api/v1/user/minimumlevel",
                summary="Let handshakes below a level no longer open the inbox",
                tag="profile",
                handler=self.demand,
                body=Minimum,
                answer=Minimum,
                auth=Auth.TOKEN,
            ),
        ]

    async def me(self, call: Call[None, None]) -> Me:
        """Tell about the account."""
        profile = await self._core.directory.profile(call.address)
        if profile is None:
            raise NotFound("user not found")
        shown = {name: getattr(profile, name) for name in _SHOWN}
        return Me(
            address=call.address,
            total_disk=self._core.settings.node.quota_bytes,
            used_disk=(await self._mailboxes.state(call.address)).used,
            seal_inbound=(await self._core.accounts.state(call.address)).seal_inbound,
            minimum_level=await minimum_level(self._core.actors, call.address),
            **shown,
        )

    async def change(self, call: Call[None, ProfileRequest]) -> SavedProfile:
        """Replace the profile. Raises InvalidInput for texts that are too long."""
        social = msgspec.to_builtins(call.body.social) if call.body.social else {}
        profile = msgspec.to_builtins(msgspec.structs.replace(call.body, social=None))
        command = ChangeProfile(profile, social, self._core.clock.now())
        await self._core.accounts.execute(call.address, command, client(call.address))
        return await self._saved(call.address)

    async def seal_inbound(self, call: Call[None, Sealing]) -> Sealing:
        """Switch sealing on or off, apart from the profile: what a profile leaves out is removed."""
        await self._core.accounts.execute(
            call.address, SealInbound(call.body.seal_inbound), client(call.address)
        )
        return call.body

    async def demand(self, call: Call[None, Minimum]) -> Minimum:
        """Demand a level of handshakes."""
        await set_minimum_level(self._core.actors, call.address, call.body.minimum_level, call.origin)
        return call.body

    async def _saved(self, address: str) -> SavedProfile:
        stored = await self._core.views.stores["directory"].get(PROFILES, address)
        if stored is None:
            raise NotFound("user not found")
        profile = msgspec.json.decode(stored.winner.body, type=Profile)
        return SavedProfile(id=stored.id, rev=stored.winner.rev, **msgspec.structs.asdict(profile))


_SHOWN = frozenset(Me.__struct_fields__) & frozenset(Profile.__struct_fields__)
