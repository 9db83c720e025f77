// pull.mjs URL: a fresh device pulls everything once and says what it holds, files read and hashed.
import { createHash } from 'node:crypto';
import { device, main, remote } from '../../integration/sync/js/pouch.mjs';

const md5 = (data) => `md5-${createHash('md5').update(data).digest('base64')}`;

function described(doc) {
  const files = Object.entries(doc._attachments ?? {}).map(([name, file]) => [
    name,
    { type: file.content_type, said: file.digest, found: md5(file.data), length: file.data.length },
  ]);
  return { rev: doc._rev, body: doc.didCommMessage?.plainBodyBase64, files: Object.fromEntries(files) };
}

await main(async (url) => {
  const own = device();
  const result = await own.replicate.from(remote(url));
  const { rows } = await own.allDocs({
    include_docs: true,
    conflicts: true,
    attachments: true,
    binary: true,
  });
  return {
    read: result.docs_read,
    failures: result.doc_write_failures,
    conflicts: rows.filter((row) => row.doc._conflicts).map((row) => row.id),
    documents: Object.fromEntries(rows.map((row) => [row.id, described(row.doc)])),
  };
});
