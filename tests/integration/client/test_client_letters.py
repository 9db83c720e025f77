"""The reference client: what one library makes, the other opens, and nobody else; nothing can be changed."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from node.crypto.keys import UserKeys
from tests.client.python import jwe
from tests.client.python.attachment import File, open_file
from tests.client.python.box import box_key, new_shared_key, open_reference, seal_reference, unbox_key
from tests.client.python.contact import Contact
from tests.client.python.encoding import from_base64url, from_json, to_base64url, to_json
from tests.client.python.errors import Refused
from tests.client.python.keys import WORDS, Keys, new_mnemonic
from tests.client.python.letter import CONTENT_TYPE, Letter, sign_letter
from tests.client.python.message import Draft, compose
from tests.integration.client.people import ALICE, BOB, MALLORY, JavaScript, Person, stored, to64
from tests.vectors.vectors import vector

REPORT = File("résumé.pdf", "application/pdf", b"%PDF-1.7 \x00\xff" * 99)
DRAFT = Draft("Grüße", "Only for you \U0001f512", "<p>Only for you</p>", (REPORT,))
LINK = "https://alpha.example/files/"


def written(draft: Draft = DRAFT, to: tuple[Person, ...] = (BOB,)) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Alice's message in Python as it is stored, and the uploads by id."""
    outgoing = compose(draft, ALICE.contact, ALICE.keys, [one.contact for one in to])
    links = {one.id: LINK + one.id for one in outgoing.uploads}
    return stored(outgoing.request(links)), {one.id: one.data for one in outgoing.uploads}


def written_in(
    javascript: JavaScript, to: tuple[Person, ...] = (BOB,)
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The same message in JavaScript."""
    files = [{"name": REPORT.name, "contentType": REPORT.content_type, "content": to64(REPORT.content)}]
    draft = {"subject": DRAFT.subject, "text": DRAFT.text, "html": DRAFT.html, "files": files}
    answer = javascript.ask(
        "compose", draft=draft, me=ALICE.document, to=[one.document for one in to], words=ALICE.words
    )
    return stored(answer["request"]), {one["id"]: base64.b64decode(one["data"]) for one in answer["uploads"]}


def test_the_seed_is_that_of_bip39() -> None:
    assert WORDS.to_seed(ALICE.words, "TREZOR").hex().startswith("c55257c360c07c72029aebc1b53c05ed")


def test_a_new_mnemonic_has_24_words_and_gives_the_same_keys_in_both_libraries(
    javascript: JavaScript,
) -> None:
    words = new_mnemonic()
    assert len(words.split()) == 24
    keys = Keys.from_mnemonic(words, "and a passphrase")
    other = javascript.ask("keys", words=words, passphrase="and a passphrase")
    assert (other["address"], other["signing"], other["agreement"]) == (
        keys.address,
        to64(keys.signing_key),
        to64(keys.agreement_key),
    )
    assert other["login"] == keys.login("abc", "alice@alpha.example")


def test_keys_of_the_same_words_never_change() -> None:
    assert ALICE.keys.address == "0x787bf6ab03bc99352b639deaec89b57a5e3de1a1"
    assert (
        ALICE.keys.agreement_key.hex() == "c8a438ee67f77a346a9c41f2e92b6c8f81d66dc3bb88b6b967815484965b7427"
    )


def test_words_with_a_wrong_checksum_are_refused(javascript: JavaScript) -> None:
    wrong = "abandon " * 12
    with pytest.raises(Refused, match="words"):
        Keys.from_mnemonic(wrong)
    with pytest.raises(Refused, match="words"):
        javascript.ask("keys", words=wrong)


def test_addresses_and_challenge_answers_are_those_of_the_wire_vectors() -> None:
    given, expected = vector("address-user-alice")
    keys = Keys(bytes.fromhex(given["ed25519SeedHex"]), bytes(32))
    assert keys.address == expected["address"]
    assert to64(keys.signing_key) == expected["ed25519PublicKeyBase64"]
    given, expected = vector("nonce-signature")
    assert to64(keys.sign(given["nonce"].encode())) == expected["signatureBase64"]


def test_a_published_did_document_is_read_as_a_contact() -> None:
    given, expected = vector("did-document-user")
    document = expected["document"]
    contact = Contact.of(document)
    assert to64(contact.agreement_key) == given["x25519PublicKeyBase64"]
    assert contact.did == "did:web:mio.beta.example#" + document["id"].rpartition(":")[2]


def test_a_did_document_with_another_signing_key_is_refused() -> None:
    forged = ALICE.document | {"verificationMethod": MALLORY.document["verificationMethod"]}
    with pytest.raises(Refused, match="does not belong"):
        Contact.of(forged)


def test_what_python_writes_javascript_reads(javascript: JavaScript) -> None:
    document, uploads = written()
    letter = javascript.open(BOB, document)["letter"]
    assert (letter["subject"], letter["bodyText"], letter["bodyHtml"]) == (
        DRAFT.subject,
        DRAFT.text,
        DRAFT.html,
    )
    (enclosed,) = letter["attachments"]
    assert (enclosed["filename"], enclosed["contentType"]) == (REPORT.name, REPORT.content_type)
    opened = javascript.ask(
        "openFile",
        id=enclosed["id"],
        key=to64(from_base64url(enclosed["key"])),
        data=to64(uploads[enclosed["id"]]),
    )
    assert base64.b64decode(opened) == REPORT.content


def test_what_javascript_writes_python_reads(javascript: JavaScript) -> None:
    document, uploads = written_in(javascript)
    letter = BOB.open(document).letter
    assert letter is not None
    assert (letter.subject, letter.text, letter.html) == (DRAFT.subject, DRAFT.text, DRAFT.html)
    assert (letter.from_, letter.to) == (ALICE.contact.did, (BOB.contact.did, ALICE.contact.did))
    (enclosed,) = letter.enclosures
    assert open_file(enclosed.id, from_base64url(enclosed.key), uploads[enclosed.id]) == REPORT.content


@pytest.mark.parametrize("to", [(), (BOB,), (BOB, MALLORY)], ids=["oneself", "one", "two"])
def test_every_recipient_and_the_sender_read_it(javascript: JavaScript, to: tuple[Person, ...]) -> None:
    for document in (written(to=to)[0], written_in(javascript, to)[0]):
        for reader in (ALICE, *to):
            letter = reader.open(document).letter
            assert letter is not None
            assert letter.text == DRAFT.text
            assert javascript.open(reader, document)["letter"]["bodyText"] == DRAFT.text


def test_somebody_else_reads_nothing(javascript: JavaScript) -> None:
    document, _ = written()
    assert_refused(javascript, document, MALLORY)
    # Nor by saying that their key is Bob's.
    with pytest.raises(Refused, match="can't be decrypted"):
        jwe.open_sealed(document["didCommMessage"]["body"], BOB.contact.did, MALLORY.keys, ALICE.contact.did)


def test_nothing_of_the_content_stands_in_the_message() -> None:
    document, uploads = written()
    shown = json.dumps(document) + str(uploads)
    for secret in (DRAFT.subject, "Only for you", REPORT.name, REPORT.content_type, "PDF"):
        assert secret not in shown


def test_the_jwe_has_the_form_that_passes_the_reference_server(javascript: JavaScript) -> None:
    for document, _ in (written(), written_in(javascript)):
        message = document["didCommMessage"]
        body = message["body"]
        assert set(body) == {"aad", "ciphertext", "iv", "recipients", "tag", "protected"}
        assert from_json(from_base64url(body["protected"])) == {
            "typ": "application/didcomm-encrypted+json",
            "alg": "ECDH-ES+A256KW",
            "enc": "A256GCM",
            "cty": CONTENT_TYPE,
        }
        assert [one["header"]["kid"] for one in body["recipients"]] == [BOB.contact.did, ALICE.contact.did]
        assert all(set(one["header"]) == {"kid", "epk"} for one in body["recipients"])
        assert all(set(one["header"]["epk"]) == {"kty", "crv", "x"} for one in body["recipients"])
        ephemeral = [one["header"]["epk"]["x"] for one in body["recipients"]]
        assert len(set(ephemeral)) == len(ephemeral)
        (attachment,) = message["attachments"]
        assert attachment["data"]["links"] == [f"{LINK}{attachment['id']}?enc=1"]


def assert_refused(javascript: JavaScript, document: dict[str, Any], reader: Person = BOB) -> None:
    with pytest.raises(Refused):
        reader.open(document)
    with pytest.raises(Refused):
        javascript.open(reader, document)


def other(text: str) -> str:
    """The same base64url with its first bit turned, which is always another content."""
    data = bytearray(from_base64url(text))
    data[0] ^= 0x80
    return to_base64url(bytes(data))


def respelt(text: str) -> str:
    """The same bytes, where base64url has a second spelling; else a line break."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) ^ 1] if len(text) % 4 else text + "\n"


def protected(body: dict[str, Any], **changes: Any) -> None:
    body["protected"] = to_base64url(to_json(from_json(from_base64url(body["protected"])) | changes))


def spaced(body: dict[str, Any]) -> None:
    body["protected"] = to_base64url(json.dumps(from_json(from_base64url(body["protected"]))).encode())


def swapped(body: dict[str, Any]) -> None:
    body["recipients"].reverse()


def first(body: dict[str, Any]) -> dict[str, Any]:
    recipient: dict[str, Any] = body["recipients"][0]
    return recipient


TEXTS = ("aad", "ciphertext", "iv", "tag", "protected")
Change = Callable[[dict[str, Any]], object]


def replaced(name: str, change: Callable[[str], object]) -> Change:
    return lambda body: body.update({name: change(body[name])})


def removed(name: str) -> Change:
    return lambda body: body.pop(name)


CHANGES: dict[str, Change] = {
    **{f"{name}-changed": replaced(name, other) for name in TEXTS},
    **{f"{name}-respelt": replaced(name, respelt) for name in TEXTS},
    **{f"{name}-missing": removed(name) for name in (*TEXTS, "recipients")},
    **{f"{name}-number": replaced(name, len) for name in (*TEXTS, "recipients")},
    "tag-short": lambda body: body.update(tag=to_base64url(from_base64url(body["tag"])[:12])),
    "iv-short": lambda body: body.update(iv=to_base64url(from_base64url(body["iv"])[:8])),
    "key-changed": lambda body: first(body).update(encrypted_key=other(first(body)["encrypted_key"])),
    "key-of-another": lambda body: first(body).update(encrypted_key=body["recipients"][1]["encrypted_key"]),
    "epk-changed": lambda body: first(body)["header"]["epk"].update(
        x=other(first(body)["header"]["epk"]["x"])
    ),
    "epk-of-small-order": lambda body: first(body)["header"]["epk"].update(x=to_base64url(bytes(32))),
    "epk-curve": lambda body: first(body)["header"]["epk"].update(crv="Ed25519"),
    "epk-more": lambda body: first(body)["header"]["epk"].update(d="AAAA"),
    "kid-of-another": lambda body: first(body)["header"].update(kid=MALLORY.contact.did),
    "header-alg": lambda body: first(body)["header"].update(alg="dir"),
    "recipient-removed": lambda body: body["recipients"].pop(1),
    "recipient-added": lambda body: body["recipients"].append(copy.deepcopy(first(body))),
    "recipients-swapped": swapped,
    "recipients-none": lambda body: body.update(recipients=[]),
    "recipients-null": lambda body: body.update(recipients=[None]),
    "unprotected-added": lambda body: body.update(unprotected={"alg": "dir"}),
    "algorithm-none": lambda body: protected(body, alg="none"),
    "algorithm-direct": lambda body: protected(body, alg="ECDH-ES"),
    "content-cbc": lambda body: protected(body, enc="A256CBC-HS512"),
    "zip": lambda body: protected(body, zip="DEF"),
    "crit": lambda body: protected(body, crit=["exp"]),
    "type-of-a-mail": lambda body: protected(body, cty="application/mailio-smtp+json"),
    "protected-spaced": spaced,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_jwe_is_refused(javascript: JavaScript, change: str) -> None:
    document, _ = written()
    CHANGES[change](document["didCommMessage"]["body"])
    assert_refused(javascript, document)


def test_a_message_under_another_sender_is_refused(javascript: JavaScript) -> None:
    document, _ = written()
    document["didCommMessage"]["from"] = MALLORY.contact.did
    assert_refused(javascript, document)


def sealed_letter(letter: Letter, signer: Person, sender: str, readers: tuple[Person, ...]) -> dict[str, Any]:
    """A message made by somebody who holds against no rule but those of the signature."""
    recipients = {one.contact.did: one.contact.agreement_key for one in readers}
    body = jwe.seal(sign_letter(letter, signer.keys), CONTENT_TYPE, sender, recipients)
    message = {"type": "application/didcomm-encrypted+json", "from": sender, "body": body}
    return stored({"didCommMessage": message})


def test_a_letter_that_another_signed_is_refused(javascript: JavaScript) -> None:
    """What a node could do that forges its user's messages: encrypting is open to all, signing is not."""
    readers = (BOB, ALICE)
    letter = Letter(ALICE.contact.did, tuple(one.contact.did for one in readers), 1, text="Send money")
    assert_refused(javascript, sealed_letter(letter, MALLORY, ALICE.contact.did, readers))


def test_a_letter_that_is_passed_on_does_not_hold_there(javascript: JavaScript) -> None:
    """Mallory got a letter from Alice, and encrypts it to Bob as if Alice had."""
    letter = Letter(ALICE.contact.did, (MALLORY.contact.did, ALICE.contact.did), 1, text="I hate you")
    assert_refused(javascript, sealed_letter(letter, ALICE, ALICE.contact.did, (BOB, ALICE)))


def test_a_letter_in_the_name_of_another_is_refused(javascript: JavaScript) -> None:
    letter = Letter(ALICE.contact.did, (BOB.contact.did,), 1, text="I am Alice")
    assert_refused(javascript, sealed_letter(letter, MALLORY, MALLORY.contact.did, (BOB,)))


def test_a_peer_can_not_send_what_looks_like_a_sealed_mail(javascript: JavaScript) -> None:
    sender = MALLORY.contact.did
    mail = to_json({"from": {"Address": "bank@bank.example"}, "subject": "Your account"})
    body = jwe.seal(
        mail, "application/mailio-smtp+json", sender, {BOB.contact.did: BOB.contact.agreement_key}
    )
    for kind in ("application/mailio-smtp+json", "application/didcomm-encrypted+json"):
        assert_refused(javascript, stored({"didCommMessage": {"type": kind, "from": sender, "body": body}}))


def test_an_attachment_in_another_s_place_is_refused(javascript: JavaScript) -> None:
    document, uploads = written(Draft(files=(REPORT, File("b.txt", "text/plain", b"b"))))
    letter = BOB.open(document).letter
    assert letter is not None
    one, two = letter.enclosures
    changed = bytearray(uploads[one.id])
    changed[-1] ^= 1
    for identifier, key, data in (
        (one.id, one.key, uploads[two.id]),
        (two.id, one.key, uploads[one.id]),
        (one.id, two.key, uploads[one.id]),
        (one.id, one.key, bytes(changed)),
        (one.id, one.key, uploads[one.id][:20]),
    ):
        with pytest.raises(Refused):
            open_file(identifier, from_base64url(key), data)
        with pytest.raises(Refused):
            javascript.ask("openFile", id=identifier, key=to64(from_base64url(key)), data=to64(data))


def test_boxes_of_mir_6_go_both_ways(javascript: JavaScript) -> None:
    reference = {"filename": "a", "reference": "s3://bucket/a", "size": 1, "aesKey": to64(bytes(32))}
    shared = new_shared_key()
    boxed, sealed = box_key(shared, ALICE.keys, BOB.keys.agreement_key), seal_reference(reference, shared)
    theirs = to64(ALICE.keys.agreement_key)
    assert javascript.ask("unbox", boxed=boxed, reference=sealed, theirs=theirs, words=BOB.words) == reference
    made = javascript.ask("box", reference=reference, theirs=to64(BOB.keys.agreement_key), words=ALICE.words)
    assert (
        open_reference(made["reference"], unbox_key(made["boxed"], BOB.keys, ALICE.keys.agreement_key))
        == reference
    )


def test_a_changed_box_or_one_of_another_is_refused(javascript: JavaScript) -> None:
    shared = new_shared_key()
    boxed, sealed = (
        box_key(shared, ALICE.keys, BOB.keys.agreement_key),
        seal_reference({"reference": "a"}, shared),
    )
    broken = to64(base64.b64decode(boxed)[:-1] + b"!")
    for text, theirs in ((broken, ALICE), (boxed, MALLORY)):
        with pytest.raises(Refused):
            unbox_key(text, BOB.keys, theirs.keys.agreement_key)
        with pytest.raises(Refused):
            javascript.ask(
                "unbox", boxed=text, reference=sealed, theirs=to64(theirs.keys.agreement_key), words=BOB.words
            )


def test_the_key_file_of_the_command_gives_the_same_keys(tmp_path: Any) -> None:
    made = UserKeys.generate()
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"signingSeed": to64(made.seed), "agreementSeed": to64(made.agreement_seed)}))
    keys = Keys.from_file(path)
    assert (keys.signing_key, keys.agreement_key) == (made.public_key, made.agreement_public_key)


NONSENSE: list[Any] = [
    {},
    {"didCommMessage": None},
    {"didCommMessage": {"type": "application/didcomm-encrypted+json"}},
    {"didCommMessage": {"type": "application/didcomm-encrypted+json", "from": 7, "body": {}}},
    {"didCommMessage": {"type": "application/didcomm-encrypted+json", "from": "x", "body": [1]}},
    {"didCommMessage": {"type": "application/mailio-smtp+json", "from": "x", "plainBodyBase64": "!"}},
    {"didCommMessage": {"type": "application/mailio-smtp+json", "from": "x", "plainBodyBase64": "WzFd"}},
]


@pytest.mark.parametrize("document", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_is_refused_and_nothing_else_happens(javascript: JavaScript, document: Any) -> None:
    assert_refused(javascript, document)


@pytest.mark.parametrize(
    "change",
    [
        {"id": 7},
        {"verificationMethod": None},
        {"verificationMethod": [{"publicKeyJwk": {"kty": "OKP", "crv": "Ed25519", "x": 7}}]},
        {"keyAgreement": "x"},
        {"keyAgreement": [{"publicKeyMultibase": "0OIl"}]},
        {"service": [7]},
        {"service": {"type": "DIDCommMessaging"}},
        {"service": [{"type": "DIDCommMessaging", "serviceEndpoint": ""}]},
    ],
)
def test_a_broken_did_document_is_refused(javascript: JavaScript, change: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        Contact.of(BOB.document | change)
    with pytest.raises(Refused):
        javascript.ask("open", document={}, me=BOB.document | change, words=BOB.words)
