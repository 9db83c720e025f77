"""View stores: the embedded one (SQLite) and CouchDB, behind the port `projections.view_store`."""
