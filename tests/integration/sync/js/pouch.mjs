// PouchDB 9 on the memory adapter, as a device of a user has it, and what the scripts share.
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
export const PouchDB = require('pouchdb');
PouchDB.plugin(require('pouchdb-adapter-memory'));
PouchDB.plugin(require('pouchdb-find'));

let devices = 0;

// A device's own database, empty.
export function device() {
  devices += 1;
  return new PouchDB(`device-${process.pid}-${devices}`, { adapter: 'memory' });
}

// The user's database on the node, with every request counted as "METHOD path".
export function remote(url, requests = []) {
  return new PouchDB(url, {
    skip_setup: true,
    fetch: (target, options) => {
      const asked = new URL(target);
      requests.push(`${options?.method ?? 'GET'} ${asked.pathname.split('/').slice(2).join('/')}`);
      return PouchDB.fetch(target, options);
    },
  });
}

// Resolves when `condition` (sync or async) holds; it is asked again after each change of `database`.
export function until(database, condition) {
  return new Promise((resolve, reject) => {
    const changes = database.changes({ live: true, since: 'now' });
    const look = async () => {
      try {
        const found = await condition();
        if (found) {
          changes.cancel();
          resolve(found);
        }
      } catch (error) {
        if (error.status !== 404) reject(error);
      }
    };
    changes.on('change', look).on('error', reject);
    look();
  });
}

export async function ids(database) {
  return (await database.allDocs()).rows.map((row) => row.id);
}

// Prints the result for the test that started the script, and ends.
export async function main(run) {
  try {
    const result = await run(...process.argv.slice(2));
    process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
  } catch (error) {
    process.stderr.write(`${error.stack ?? error}\n${JSON.stringify(error)}\n`, () => process.exit(1));
  }
}
