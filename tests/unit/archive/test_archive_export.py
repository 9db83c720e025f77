"""What of a mail to several goes into the archive of one of them."""

from __future__ import annotations

from events.mail import MailAccepted, Recipient, Turned
from node.archive.exporting import own_part
from tests.factories import recorded

ALICE, BOB, CAROL = ("0x" + digit * 40 for digit in "abc")


def test_of_a_mail_to_several_an_archive_has_what_concerns_its_owner() -> None:
    accepted = MailAccepted(
        transport="mtp",
        blob="b",
        size=100,
        recipients=(Recipient(ALICE, "alice@alpha.example"), Recipient(BOB, "bob@alpha.example")),
        authors=("did:web:mio.beta.example#0x1",),
        received_at=1,
        turned=(Turned(CAROL, "5.7.1", "the recipient does not want it"),),
    )
    record = recorded(accepted, 7, "mail-1")
    own = own_part(record, ALICE)
    assert own is not None
    assert isinstance(own.event, MailAccepted)
    assert (own.position, own.stream, own.event.recipients) == (7, "mail-1", accepted.recipients[:1])
    assert own.event.turned == ()
    assert own_part(record, CAROL) is None
