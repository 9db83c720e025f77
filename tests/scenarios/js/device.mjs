// device.mjs URL: one device with its own database, which does what lines of JSON on its standard input say.
// Each line {"do": …} is answered by one line {"ok": …} or {"failed": …}. It is offline but for "sync".
import { createInterface } from 'node:readline';
import { PouchDB, device } from '../../integration/sync/js/pouch.mjs';

const own = device();
let requests = [];
let fetched = [];

const remote = new PouchDB(process.argv[2], {
  skip_setup: true,
  fetch: (target, options) => {
    const path = new URL(target).pathname.split('/').slice(2).join('/');
    requests.push(`${options?.method ?? 'GET'} ${path}`);
    if (path === '_bulk_get') {
      fetched.push(...JSON.parse(options.body).docs.map((each) => each.id));
    } else if (options?.method === undefined || options.method === 'GET') {
      if (path && !path.startsWith('_')) fetched.push(decodeURIComponent(path.split('/')[0]));
    }
    return PouchDB.fetch(target, options);
  },
});

async function all() {
  const { rows } = await own.allDocs({ include_docs: true, conflicts: true });
  return Object.fromEntries(rows.map((row) => [row.id, row.doc]));
}

const actions = {
  // Both ways, once. `fetched` are the ids of all documents that were asked for by body.
  async sync() {
    requests = [];
    fetched = [];
    const { push, pull } = await own.sync(remote);
    const conflicts = Object.values(await all()).filter((doc) => doc._conflicts);
    return {
      pushed: push.docs_written,
      refused: push.doc_write_failures,
      pulled: pull.docs_written,
      fetched,
      requests,
      conflicts: conflicts.map((doc) => doc._id),
    };
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
