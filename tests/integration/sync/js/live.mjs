// Two devices in live sync: each sees what the other writes, without polling.
import { device, main, remote, until } from './pouch.mjs';

main(async (url) => {
  const [one, two] = [device(), device()];
  const requests = [];
  const syncs = [one.sync(remote(url, requests), { live: true }), two.sync(remote(url), { live: true })];
  await one.put({ _id: 'from-one', folder: 'inbox' });
  const seen = await until(two, () => two.get('from-one'));
  await two.put({ ...seen, folder: 'archive', isRead: true });
  const back = await until(one, async () => {
    const doc = await one.get('from-one');
    return doc.folder === 'archive' ? doc : null;
  });
  await two.remove(await two.get('from-one'));
  await until(one, async () => {
    try {
      await one.get('from-one');
      return false;
    } catch (error) {
      return error.reason === 'deleted';
    }
  });
  syncs.forEach((sync) => sync.cancel());
  return { back, requests };
});
