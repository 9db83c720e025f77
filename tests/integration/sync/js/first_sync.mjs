// The first sync of a mailbox: everything arrives; how long it took, in milliseconds.
import { device, main, remote } from './pouch.mjs';

main(async (url) => {
  const one = device();
  const began = performance.now();
  const requests = [];
  const pulled = await one.replicate.from(remote(url, requests), { batch_size: 500 });
  const took = performance.now() - began;
  return { docs: (await one.info()).doc_count, took, requests: requests.length, pulled };
});
