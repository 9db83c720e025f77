// visible.mjs URL: live replication into a PouchDB; one line "ID NANOSECONDS" whenever a document has become
// visible there. The time is the kernel's monotonic clock, the one of Python's time.monotonic_ns.
import { device, remote } from '../tests/integration/sync/js/pouch.mjs';

const own = device();
own
  .changes({ live: true, since: 'now' })
  .on('change', (change) => process.stdout.write(`${change.id} ${process.hrtime.bigint()}\n`));

const failed = (error) => {
  process.stderr.write(`${error.stack ?? JSON.stringify(error)}\n`);
  process.exit(1);
};
own.replicate.from(remote(process.argv[2]), { live: true }).on('error', failed).on('denied', failed);
process.stdin.on('end', () => process.exit(0)).resume();
