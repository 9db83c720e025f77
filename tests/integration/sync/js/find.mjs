// pouchdb-find against the node: the folder index, other selectors, paging.
import { main, remote } from './pouch.mjs';

main(async (url) => {
  const there = remote(url);
  await there.bulkDocs(
    [...Array(60).keys()].map((n) => ({ _id: `m${String(n).padStart(2, '0')}`, folder: n % 3 ? 'inbox' : 'spam', created: 1000 + n, n })),
  );
  const page = (bookmark) =>
    there.find({
      selector: { folder: 'inbox', created: { $gt: 0 } },
      sort: [{ folder: 'desc' }, { created: 'desc' }],
      use_index: 'client-folder-created-desc-index',
      limit: 15,
      fields: ['_id', 'created'],
      bookmark,
    });
  const first = await page();
  const second = await page(first.bookmark);
  const third = await page(second.bookmark);
  const scanned = await there.find({ selector: { n: { $mod: [10, 3] } } });
  const made = await there.createIndex({ index: { fields: ['n'] } });
  const again = await there.createIndex({ index: { fields: ['n'] } });
  const indexes = await there.getIndexes();
  return { first, second, third, scanned, made: made.result, again: again.result, indexes };
});
