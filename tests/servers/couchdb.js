// A CouchDB-protocol server for the tests: express-pouchdb over PouchDB's in-memory adapter.
// Usage: node couchdb.js <private folder>. Prints its port as one line, ends when stdin closes.
"use strict";

const path = require("node:path");
const express = require("express");
const PouchDB = require("pouchdb");
PouchDB.plugin(require("pouchdb-adapter-memory"));

const folder = path.resolve(process.argv[2]);
process.chdir(folder);

const app = express();
app.use(
  "/",
  require("express-pouchdb")(PouchDB.defaults({ adapter: "memory", prefix: folder + "/" }), {
    inMemoryConfig: true,
    logPath: path.join(folder, "couchdb.log"),
    overrideMode: { exclude: ["routes/fauxton"] },
  }),
);
const server = app.listen(0, "127.0.0.1", () => process.stdout.write(`${server.address().port}\n`));

process.stdin.on("end", () => process.exit(0)).resume();
