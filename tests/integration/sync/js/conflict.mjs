// Two devices change the same document offline: both end with the same winner and know of the other version.
import { device, main, remote } from './pouch.mjs';

main(async (url) => {
  const [one, two] = [device(), device()];
  await one.put({ _id: 'note', text: 'first' });
  await one.replicate.to(remote(url));
  await two.replicate.from(remote(url));
  await one.put({ ...(await one.get('note')), text: 'by one' });
  await two.put({ ...(await two.get('note')), text: 'by two' });
  await two.put({ ...(await two.get('note')), text: 'by two again' });
  for (const each of [one, two, one, two]) await each.sync(remote(url));
  const before = await Promise.all([one, two, remote(url)].map((each) => each.get('note', { conflicts: true })));
  const [loser] = before[0]._conflicts;
  await one.remove('note', loser);
  for (const each of [one, two]) await each.sync(remote(url));
  const after = await Promise.all([one, two, remote(url)].map((each) => each.get('note', { conflicts: true })));
  return { before, after };
});
