// A device that has synced asks only for what is new, and a push of the same again sends nothing.
import { device, main, remote } from './pouch.mjs';

main(async (url) => {
  const one = device();
  await one.bulkDocs([...Array(30).keys()].map((n) => ({ _id: `doc-${n}`, n })));
  await one.replicate.to(remote(url));
  const two = device();
  await two.replicate.from(remote(url));
  await one.put({ _id: 'late', n: 30 });
  const pushing = [];
  const pushed = await one.replicate.to(remote(url, pushing));
  const pulling = [];
  const pulled = await two.replicate.from(remote(url, pulling));
  const idle = [];
  const nothing = await two.replicate.from(remote(url, idle));
  return { pushed, pushing, pulled, pulling, nothing, idle };
});
