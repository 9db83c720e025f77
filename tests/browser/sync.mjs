// Opens the page in headless Chromium and lets two IndexedDB databases sync with the node.
import { createRequire } from 'node:module';

const { chromium } = createRequire(import.meta.url)('playwright-core');
const [origin, url, name, password] = process.argv.slice(2);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-default-apps',
    '--disable-domain-reliability',
    '--disable-sync',
    '--no-first-run',
    '--no-pings',
  ],
});
try {
  const page = await browser.newPage();
  await page.goto(origin);
  const result = await page.evaluate(
    async ({ url, name, password }) => {
      const remote = () => new PouchDB(url, { skip_setup: true, auth: { username: name, password } });
      const one = new PouchDB('one');
      const two = new PouchDB('two');
      await one.bulkDocs([
        { _id: 'mail', folder: 'inbox' },
        { _id: 'with-file', _attachments: { 'a.txt': { content_type: 'text/plain', data: btoa('hello') } } },
      ]);
      let pushed;
      try {
        pushed = await one.replicate.to(remote());
      } catch (error) {
        return { refused: String(error.message ?? error) };
      }
      await two.replicate.from(remote());
      const blob = await two.getAttachment('with-file', 'a.txt');
      const live = two.sync(remote(), { live: true });
      const following = one.sync(remote(), { live: true });
      const arrived = new Promise((resolve) => {
        two.changes({ live: true, since: 'now' }).on('change', (change) => change.id === 'from-live' && resolve());
      });
      await one.put({ _id: 'from-live', n: 1 });
      await arrived;
      const back = new Promise((resolve) => {
        one.changes({ live: true, since: 'now', include_docs: true }).on('change', (change) => change.doc.isRead && resolve(true));
      });
      await two.put({ ...(await two.get('mail')), isRead: true });
      const read = await back;
      live.cancel();
      following.cancel();
      return {
        pushed,
        second: (await two.allDocs()).rows.map((row) => row.id),
        text: await blob.text(),
        adapter: one.adapter,
        back: read,
      };
    },
    { url, name, password },
  );
  console.log(JSON.stringify(result));
} finally {
  await browser.close();
}
