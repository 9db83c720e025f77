"""One account: decides on its owner's and the operator's commands, one at a time."""

from __future__ import annotations

from actors.messages import Inspect
from actors.runtime.aggregate import AggregateActor
from events import account
from events.account import Account, Command

KIND = "account"


class AccountActor(AggregateActor[Account, Command]):
    """The account `key` (a Mailio address)."""

    state_type = Account
    questions = (Inspect,)
    stream_of = staticmethod(account.stream)
    initial = staticmethod(account.initial)
    decide = staticmethod(account.decide)
    evolve = staticmethod(account.evolve)

    def handle(self, message: object) -> object:
        """Answer `Inspect` with the state."""
        match message:
            case Inspect():
                return self.state
            case _:
                raise TypeError(f"an account is not told {type(message).__name__}")
