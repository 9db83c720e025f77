// first_sync.mjs URL BATCH: a new device replicates a database once; prints documents, ms and requests as JSON.
import { device, main, remote } from '../tests/integration/sync/js/pouch.mjs';

main(async (url, batch) => {
  const own = device();
  const requests = [];
  const began = performance.now();
  const pulled = await own.replicate.from(remote(url, requests), { batch_size: Number(batch) });
  const ms = performance.now() - began;
  return { documents: (await own.info()).doc_count, failures: pulled.doc_write_failures, ms, requests: requests.length };
});
