"""A node that is given a CouchDB: the same documents, under the same revisions, as its own store shows."""

from __future__ import annotations

import base64
import json
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.daemon import running
from tests.servers.couchdb import couchdb_server


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.loads(response.read())


def rows(url: str, database: str) -> dict[str, str]:
    listing = get(f"{url}/{quote(database, safe='')}/_all_docs")["rows"]
    return {row["id"]: row["value"]["rev"] for row in listing if not row["id"].startswith("_design/")}


def test_mail_and_edits_reach_a_couchdb_under_the_same_revisions(tmp_path: Path) -> None:
    (tmp_path / "couchdb").mkdir()
    with couchdb_server(tmp_path / "couchdb") as url, running(tmp_path, **{"couchdb.url": url}) as daemon:
        account = daemon.account()
        daemon.send(b"From: a@beta.example\r\nSubject: one\r\n\r\nhello\r\n")
        daemon.wait_for(daemon.settled, "not filed")
        (document,) = daemon.documents(account).values()
        document["isRead"] = True
        daemon.request("PUT", f"/{account['database']}/{document['_id']}", account, document)
        daemon.request("PUT", f"/{account['database']}/mine", account, {"note": "offline"})
        daemon.wait_for(daemon.settled, "CouchDB is behind")
        ours = {id_: doc["_rev"] for id_, doc in daemon.documents(account).items()}
        assert len(ours) == 2
        assert rows(url, account["database"]) == ours
        read = get(f"{url}/{account['database']}/{document['_id']}")
        assert read["isRead"] is True
        body = json.loads(base64.b64decode(read["didCommMessage"]["plainBodyBase64"]))
        assert body["subject"] == "one"
        assert "did:mailio:" + account["address"] in rows(url, "did")


def test_a_couchdb_that_is_away_holds_nothing_else_up(tmp_path: Path) -> None:
    (tmp_path / "couchdb").mkdir()
    with couchdb_server(tmp_path / "couchdb") as url, running(tmp_path, **{"couchdb.url": url}) as daemon:
        account = daemon.account()
        assert daemon.stop() == 0
    daemon.settings["couchdb.url"] = "http://127.0.0.1:9"
    daemon.configure()
    try:
        daemon.start()
        daemon.send(b"From: a@beta.example\r\nSubject: one\r\n\r\nhello\r\n")
        daemon.wait_for(lambda: len(daemon.documents(account)) == 1, "the embedded store is held up")
    finally:
        daemon.end()
