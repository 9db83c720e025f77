// Attachments both ways: pushed inline, pulled one by one, kept by stubs through edits, removed again.
import { device, main, remote } from './pouch.mjs';

main(async (url) => {
  const bytes = Buffer.from([...Array(70000).keys()].map((n) => (n * 7919) % 256));
  const [one, two] = [device(), device()];
  await one.putAttachment('mail', 'picture.png', bytes, 'image/png');
  let doc = await one.get('mail');
  await one.putAttachment('mail', 'text.txt', doc._rev, Buffer.from('text'), 'text/plain');
  await one.replicate.to(remote(url));
  await two.replicate.from(remote(url));
  const got = Buffer.from(await two.getAttachment('mail', 'picture.png'));
  doc = await two.get('mail');
  await two.put({ ...doc, isRead: true });
  doc = await two.get('mail');
  await two.removeAttachment('mail', 'text.txt', doc._rev);
  await two.replicate.to(remote(url));
  await one.replicate.from(remote(url));
  const there = remote(url);
  const direct = Buffer.from(await there.getAttachment('mail', 'picture.png'));
  const whole = await there.get('mail', { attachments: true });
  return {
    same: got.equals(bytes) && direct.equals(bytes),
    inline: Buffer.from(whole._attachments['picture.png'].data, 'base64').equals(bytes),
    one: await one.get('mail'),
    remote: await there.get('mail'),
  };
});
