"""Every event of what goes out has words of its own."""

from __future__ import annotations

from typing import get_args

import pytest

from events.delivery import DeliveryEvent
from events.destination import DestinationEvent
from events.event import Event
from events.mailbox import MessageSent
from node.inspection.phrases import phrase
from tests.golden.record import sample


@pytest.mark.parametrize("kind", [*get_args(DeliveryEvent), *get_args(DestinationEvent), MessageSent])
def test_it_is_told_in_a_sentence(kind: type[Event]) -> None:
    told = phrase(sample(kind))
    assert told != kind.__name__
    assert " " in told
