// Filtered replication brings what was asked for, and nothing else.
import { device, ids, main, remote } from './pouch.mjs';

main(async (url) => {
  const one = device();
  await one.bulkDocs([
    { _id: 'a', folder: 'inbox' },
    { _id: 'b', folder: 'spam' },
    { _id: 'c', folder: 'inbox' },
    { _id: 'd', secret: true },
    { _id: '_design/app', filters: { mine: 'function () { return true; }' } },
  ]);
  await one.replicate.to(remote(url));
  const [byIds, bySelector, live] = [device(), device(), device()];
  await byIds.replicate.from(remote(url), { doc_ids: ['a', 'd'] });
  await bySelector.replicate.from(remote(url), { selector: { folder: 'inbox' } });
  const following = live.replicate.from(remote(url), { live: true, selector: { folder: 'inbox' } });
  await new Promise((resolve) => following.on('paused', resolve));
  const arrived = new Promise((resolve) => following.on('change', resolve));
  await remote(url).put({ _id: 'e', folder: 'spam' });
  await remote(url).put({ _id: 'f', folder: 'inbox' });
  await arrived;
  following.cancel();
  let script;
  try {
    await device().replicate.from(remote(url), { filter: 'app/mine' });
    script = 'served';
  } catch (error) {
    script = error.status ?? error.message;
  }
  return { byIds: await ids(byIds), bySelector: await ids(bySelector), live: await ids(live), script };
});
