// One device writes and pushes, another pulls: documents, revisions, numbers and attachments arrive unchanged.
import { device, main, remote } from './pouch.mjs';

main(async (url) => {
  const one = device();
  await one.bulkDocs([
    { _id: 'mail/1 <a+b@c>', folder: 'inbox', created: 1760000000000, isRead: false },
    { _id: 'überschrift%2F', text: 'ä€😀', big: 9007199254740991, small: 5e-324, half: 0.5, nested: { a: [1, null, true] } },
    { _id: 'file', _attachments: { 'a/b ü.txt': { content_type: 'text/plain', data: Buffer.from('hello').toString('base64') } } },
  ]);
  const file = await one.get('file');
  await one.put({ ...file, edited: true });
  const pushed = await one.replicate.to(remote(url));
  const two = device();
  const pulled = await two.replicate.from(remote(url));
  const left = await one.allDocs({ include_docs: true, attachments: true });
  const right = await two.allDocs({ include_docs: true, attachments: true });
  return { pushed, pulled, left: left.rows, right: right.rows };
});
