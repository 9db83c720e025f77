// device.mjs URL: one device with its own database, which does what lines of JSON on its standard input say.
// Each line {"do": …} is answered by one line {"ok": …} or {"failed": …}. It is offline but for "sync".
import { createInterface } from 'node:readline';
import { PouchDB, device } from '../../integration/sync/js/pouch.mjs';

const own = device();
let bodies = [];
let files = [];
let errors = [];
let live;

// Notes the ids of documents whose bodies are asked for, and the paths of attachments.
function note(path, options) {
  const [first, second] = path.split('/');
  if (first === '_bulk_get') {
    bodies.push(...JSON.parse(options.body).docs.map((each) => each.id));
  } else if ((options?.method ?? 'GET') === 'GET' && first && !first.startsWith('_')) {
    if (second === undefined) bodies.push(decodeURIComponent(first));
    else files.push(path);
  }
}

const remote = new PouchDB(process.argv[2], {
  skip_setup: true,
  fetch: (target, options) => {
    note(new URL(target).pathname.split('/').slice(2).join('/'), options);
    return PouchDB.fetch(target, options);
  },
});

async function all() {
  const { rows } = await own.allDocs({ include_docs: true, conflicts: true });
  return Object.fromEntries(rows.map((row) => [row.id, row.doc]));
}

const actions = {
  // Both ways, once. `bodies` and `files` say what was asked for at the node.
  async sync() {
    bodies = [];
    files = [];
    const { push, pull } = await own.sync(remote);
    const conflicts = Object.values(await all()).filter((doc) => doc._conflicts);
    return {
      pushed: push.docs_written,
      refused: push.doc_write_failures,
      pulled: pull.docs_written,
      bodies,
      files,
      conflicts: conflicts.map((doc) => doc._id),
    };
  },
  // Both ways from now on, until "offline", which says what was asked for and what went wrong meanwhile.
  live() {
    bodies = [];
    files = [];
    errors = [];
    live = own.sync(remote, { live: true, retry: true });
    live.on('error', (error) => errors.push(`${error}`)).on('denied', (denied) => errors.push(denied));
  },
  async offline() {
    const ended = new Promise((resolve) => live.on('complete', resolve));
    live.cancel();
    await ended;
    return { bodies, files, errors };
  },
  all,
  put: ({ doc }) => own.put(doc),
  async edit({ id, members }) {
    return own.put({ ...(await own.get(id)), ...members });
  },
  async remove({ id }) {
    return own.remove(await own.get(id));
  },
  attach: async ({ id, name, type, data }) =>
    own.putAttachment(id, name, (await own.get(id))._rev, Buffer.from(data, 'base64'), type),
  attachment: async ({ id, name }) => (await own.getAttachment(id, name)).toString('base64'),
};

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await actions[request.do](request)) ?? null };
  } catch (error) {
    answer = { failed: `${error.stack ?? error} ${JSON.stringify(error)}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
