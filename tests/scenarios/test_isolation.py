"""One user's password or token opens nothing of another's, whatever the path; every refusal looks the same."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from node.crypto.base64_text import from_base64, to_base64
from node.crypto.keys import UserKeys
from tests.daemon import Daemon, running

SECRET = "for nobody else"

Account = dict[str, Any]

PATHS: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("PUT", "", None),
    ("DELETE", "", None),
    ("POST", "", {"_id": "planted"}),
    ("GET", "/_all_docs?include_docs=true", None),
    ("POST", "/_all_docs", {"keys": ["private"]}),
    ("GET", "/_changes?include_docs=true", None),
    ("POST", "/_changes?filter=_doc_ids", {"doc_ids": ["private"]}),
    ("POST", "/_bulk_get", {"docs": [{"id": "private"}]}),
    ("POST", "/_bulk_docs", {"docs": [{"_id": "planted"}], "new_edits": False}),
    ("POST", "/_revs_diff", {"private": ["1-0123456789abcdef0123456789abcdef"]}),
    ("POST", "/_find", {"selector": {}}),
    ("GET", "/_index", None),
    ("GET", "/_security", None),
    ("PUT", "/_security", {"admins": {"names": []}, "members": {"names": []}}),
    ("GET", "/_local/checkpoint", None),
    ("PUT", "/_local/planted", {"text": "planted"}),
    ("GET", "/private", None),
    ("GET", "/private/note.txt", None),
    ("PUT", "/private", {"text": "overwritten"}),
    ("PUT", "/planted", {"text": "planted"}),
    ("DELETE", "/private?rev=1-0123456789abcdef0123456789abcdef", None),
    ("GET", "/_design/any/_view/any", None),
    ("GET", "/no-such-document", None),
]


def ask(
    daemon: Daemon, method: str, path: str, authorization: str = "", body: Any = None
) -> tuple[int, bytes, dict[str, str]]:
    """Ask, and return status, body and headers, whatever they are."""
    request = urllib.request.Request(daemon.url + path, method=method)
    if authorization:
        request.add_header("Authorization", authorization)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


def by_password(account: Account) -> str:
    """HTTP Basic with an account's database password."""
    pair = f"{account['address']}:{account['databasePassword']}".encode()
    return "Basic " + base64.b64encode(pair).decode()


def by_token(daemon: Daemon, account: Account) -> str:
    """A token that the account's key was given (wire spec sections 1.9 to 1.11)."""
    keys = UserKeys(from_base64(account["signingSeed"]), from_base64(account["agreementSeed"]))
    nonce = json.loads(ask(daemon, "GET", "/api/v1/nonce")[1])["nonce"]
    proof = {
        "mailioAddress": keys.address,
        "nonce": nonce,
        "ed25519SigningPublicKeyBase64": to_base64(keys.public_key),
        "signatureBase64": to_base64(keys.sign(nonce.encode())),
        "email": account["email"],
    }
    status, body, _ = ask(daemon, "POST", "/api/v1/login", "", proof)
    assert status == 200, body
    return f"Bearer {json.loads(body)['token']}"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One node for all tests of this module: each changes only what belongs to accounts of its own."""
    with running(tmp_path_factory.mktemp("isolation")) as started:
        yield started


@pytest.fixture(scope="module")
def two(daemon: Daemon) -> tuple[Account, Account]:
    """Two accounts; the second has something to hide."""
    first, second = daemon.account("ann@alpha.example"), daemon.account("ben@alpha.example")
    note = {"content_type": "text/plain", "data": base64.b64encode(SECRET.encode()).decode()}
    document = {"_id": "private", "text": SECRET, "_attachments": {"note.txt": note}}
    daemon.request("POST", f"/{second['database']}", second, document)
    return first, second


def shape(answer: tuple[int, bytes, dict[str, str]]) -> tuple[int, bytes, tuple[str, ...]]:
    """What a client can tell of an answer: everything but the time and its length."""
    status, body, headers = answer
    return status, body, tuple(sorted(f"{k}: {v}" for k, v in headers.items() if k != "Date"))


@pytest.mark.parametrize("credential", ["password", "token"])
def test_no_route_leads_into_anothers_database(
    daemon: Daemon, two: tuple[Account, Account], credential: str
) -> None:
    first, second = two
    authorization = by_password(first) if credential == "password" else by_token(daemon, first)
    before = daemon.get(f"/{second['database']}", second)
    # The credential is good: it opens the own database.
    assert ask(daemon, "GET", f"/{first['database']}", authorization)[0] == 200
    seen = set()
    for method, tail, body in PATHS:
        answer = ask(daemon, method, f"/{second['database']}{tail}", authorization, body)
        assert answer[0] in {401, 403, 404}, (method, tail)
        assert SECRET.encode() not in answer[1]
        seen.add(shape(answer))
    assert len(seen) == 1, "refusals differ"
    # Not even whether such a database exists can be told.
    nobody = "userdb-" + "30" * 42
    assert {shape(ask(daemon, m, f"/{nobody}{t}", authorization, b)) for m, t, b in PATHS} == seen
    assert daemon.get(f"/{second['database']}", second) == before
    assert set(daemon.documents(second)) == {"private"}
    assert daemon.documents(second)["private"]["text"] == SECRET


@pytest.mark.parametrize(
    "around",
    [
        "/{own}/../{other}/_all_docs",
        "/{own}/..%2F{other}/_all_docs",
        "/{own}%2F..%2F{other}/_all_docs",
        "//{other}/_all_docs",
        "/{own}/%2e%2e/{other}/_all_docs",
        "/{own}/_local/..%2F..%2F{other}",
        "/{OTHER}/_all_docs",
        "/{other}%00/_all_docs",
        "/{other}%20/_all_docs",
        "/%75serdb-{hex}/_all_docs",
    ],
)
def test_no_spelling_of_a_path_leads_into_anothers_database(
    daemon: Daemon, two: tuple[Account, Account], around: str
) -> None:
    first, second = two
    other = second["database"]
    path = around.format(
        own=first["database"], other=other, OTHER=other.upper(), hex=other.removeprefix("userdb-")
    )
    status, body, _ = ask(daemon, "GET", path, by_password(first))
    assert status in {400, 401, 403, 404}
    assert SECRET.encode() not in body
    assert b"private" not in body


def test_without_or_with_a_wrong_identity_every_database_looks_the_same(
    daemon: Daemon, two: tuple[Account, Account]
) -> None:
    first, second = two
    wrong = [
        "",
        by_password(first | {"databasePassword": second["databasePassword"]}),
        by_password(first | {"databasePassword": ""}),
        by_password(first | {"address": second["address"]}),
        "Basic !!!",
    ]
    for authorization in wrong:
        answers = {
            shape(ask(daemon, "GET", f"/{name}/_all_docs", authorization))
            for name in (first["database"], second["database"], "userdb-" + "30" * 42)
        }
        assert len(answers) == 1
        assert next(iter(answers))[0] == 401
    assert ask(daemon, "GET", f"/{first['database']}", "Bearer a.b.c")[0] in {400, 401}


def test_a_disabled_account_reaches_nothing_any_more(daemon: Daemon) -> None:
    first = daemon.account("cid@alpha.example")
    token = by_token(daemon, first)
    assert ask(daemon, "GET", f"/{first['database']}", token)[0] == 200
    daemon.command("account", "disable", "cid@alpha.example")
    for authorization in (token, by_password(first)):
        assert ask(daemon, "GET", f"/{first['database']}", authorization)[0] in {401, 403}


def test_the_api_shows_nobody_anothers_messages_and_folders(daemon: Daemon) -> None:
    first, second = daemon.account("dan@alpha.example"), daemon.account("eve@alpha.example")
    daemon.send(b"From: bob@beta.example\r\nSubject: secret\r\n\r\nsecret\r\n", "eve@alpha.example")
    daemon.wait_for(lambda: daemon.documents(second), "accepted mail is not filed")
    (message,) = daemon.documents(second)
    mine, theirs = by_token(daemon, first), by_token(daemon, second)
    assert ask(daemon, "GET", f"/api/v1/message/{message}", theirs)[0] == 200
    assert ask(daemon, "GET", f"/api/v1/message/{message}", mine)[0] == 404
    assert ask(daemon, "GET", f"/api/v1/message/{message}")[0] in {400, 401}
    for path in ("/api/v1/message", "/api/v1/folder", "/api/v1/user/me", "/api/v1/openapi.json", "/metrics"):
        body = ask(daemon, "GET", path, mine)[1]
        assert message.encode() not in body
        assert b"eve@alpha.example" not in body
        assert second["address"].encode() not in body
    created = ask(daemon, "POST", "/api/v1/folder", theirs, {"name": "plans"})
    assert created[0] in {200, 201}, created
    (folder,) = daemon.documents(second).keys() - {message}
    name = folder.removeprefix("folder:")
    assert ask(daemon, "DELETE", f"/api/v1/folder/{name}", mine)[0] == 404
    assert folder in daemon.documents(second)
