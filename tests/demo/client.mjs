// client.mjs URL DOMAIN: one user's client. It takes lines of JSON on its standard input, beginning with the content
// of the user's key file, and answers each by a line {"ok": …} or {"failed": …}. Its PouchDB syncs live, both ways;
// keys, encryption and the talk with the node are those of the reference client.
import { createInterface } from 'node:readline';

import * as reference from '../client/javascript/index.mjs';
import { PouchDB, device, until } from '../integration/sync/js/pouch.mjs';

const [url, domain] = process.argv.slice(2);
const REQUEST = 'application/mailio-handshake-request+json';
const RESPONSE = 'application/mailio-handshake-response+json';
const ENCRYPTED = 'application/didcomm-encrypted+json';
const WAIT_MS = 30_000;

const toBase64 = (data) => Buffer.from(data).toString('base64');
const own = device();
let pulled = 0;
let keys;
let session;
let me;
let database;

// The node gives links with the name that the world knows; here that name leads to this machine.
const here = (target, options) => fetch(target.replace(`https://${domain}`, url), options);

async function open(file) {
  keys = await reference.Keys.fromFile(file);
  session = new reference.NodeSession(url, here);
  await session.login(keys, file.email);
  me = await session.contact(keys.address);
  const auth = { username: file.address, password: file.databasePassword };
  database = () => new PouchDB(`${url}/${file.database}`, { auth, skip_setup: true });
  const pause = (last) => (last ? Math.min(last * 2, 500) : 100);
  own
    .sync(database(), { live: true, retry: true, back_off_function: pause })
    .on('change', ({ direction, change }) => (pulled += direction === 'pull' ? change.docs.length : 0));
  return { did: me.did };
}

function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come in ${WAIT_MS / 1000} s`)), WAIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function revisions(from) {
  const { rows } = await from.allDocs();
  return Object.fromEntries(rows.map((row) => [row.id, row.value.rev]));
}

// The documents that hold a message; its id is the one that the sender's node gave it.
async function holding(id) {
  const { rows } = await own.allDocs({ include_docs: true });
  return rows.map((row) => row.doc).filter((doc) => doc.didCommMessage?.id === id && doc.folder !== 'sent');
}

async function files(doc, letter) {
  const found = doc.didCommMessage.attachments ?? [];
  return Promise.all(
    letter.attachments.map(async ({ id, key, filename }) => {
      const name = decodeURIComponent(found.find((one) => one.id === id).data.links[0].split('/').pop());
      const sealed = new Uint8Array(await own.getAttachment(doc._id, name));
      const content = await reference.openFile(id, Buffer.from(key, 'base64url'), sealed);
      return { name: filename, sealedBytes: sealed.length, content: toBase64(content) };
    }),
  );
}

async function send(did, draft, more = {}) {
  const composed = await reference.compose(draft, me, keys, [await session.find(did)]);
  return session.send({ ...composed, message: { ...composed.message, ...more } });
}

const actions = {
  // A link by which somebody may ask for a handshake, once.
  async offer() {
    return (await (await here(`${url}/api/v1/handshakeoffer`, { headers: { Authorization: session.token } })).json()).link;
  },
  // Asks the owner of a link for a handshake.
  async ask({ link, subject, text }) {
    const [nonce, server, address] = link.split(':');
    const plainBodyBase64 = toBase64(JSON.stringify({ nonce }));
    const more = { type: REQUEST, intent: 'handshake_request', plainBodyBase64 };
    return send(`did:web:${server}#${address}`, { subject, text }, more);
  },
  // Answers a request.
  answer: ({ to, subject, text }) => send(to, { subject, text }, { type: RESPONSE, intent: 'handshake' }),
  send({ to, subject, text, file }) {
    const enclosed = file && { name: file.name, contentType: file.type, content: Buffer.from(file.content, 'base64') };
    return send(to, { subject, text, files: enclosed ? [enclosed] : [] });
  },
  // Writes into the own database; the sync brings it to the node.
  put: ({ doc }) => own.put(doc),
  // Waits for a message, and opens it.
  async received({ id }) {
    const [doc] = await within('the message', until(own, async () => ((await holding(id)).length ? holding(id) : null)));
    const document = { didCommMessage: { ...doc.didCommMessage, type: ENCRYPTED } };
    const { letter } = await reference.openDocument(document, me, keys);
    const { _id, folder, reason, from, didCommMessage } = doc;
    const { subject, bodyText } = letter;
    return { id: _id, folder, reason, from, type: didCommMessage.type, subject, text: bodyText, files: await files(doc, letter) };
  },
  // How many documents hold a message.
  copies: async ({ id }) => (await holding(id)).length,
  // Waits until the document beside a sent message says so; without a state, until it says what came of an attempt.
  async delivery({ id, state = '', confirmed = false }) {
    const found = await within(
      `"${state}" of a message`,
      until(own, async () => {
        const [recipient] = (await own.get(`delivery:${id}`)).recipients;
        const holds = state ? recipient.state === state : recipient.state !== 'queued';
        return holds && (!confirmed || recipient.confirmed) ? recipient : null;
      }),
    );
    return found;
  },
  // What this client holds, and how many documents its sync has brought so far.
  holds: async () => ({ revisions: await revisions(own), pulled }),
  // What a device that has nothing yet gets.
  async fresh() {
    const other = device();
    await other.replicate.from(database());
    return revisions(other);
  },
};

let opened = false;
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await (opened ? actions[request.do](request) : open(request))) ?? null };
    opened = true;
  } catch (error) {
    answer = { failed: error.message ?? String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
