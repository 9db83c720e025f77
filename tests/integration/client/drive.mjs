// The JavaScript client as a process of the tests: one JSON request per line in, one JSON answer per line out.
// Bytes travel as base64. A refusal is an answer, everything else ends the process.
import { createInterface } from 'node:readline';

import * as client from '../../client/javascript/index.mjs';

const from64 = (text) => new Uint8Array(Buffer.from(text, 'base64'));
const to64 = (bytes) => Buffer.from(bytes).toString('base64');

const keysOf = (request) => client.Keys.fromMnemonic(request.words, request.passphrase ?? '');
const contacts = (documents) => Promise.all(documents.map(client.contactOf));

const work = {
  async keys(request) {
    const keys = await keysOf(request);
    return {
      address: keys.address,
      signing: to64(keys.signingKey),
      agreement: to64(keys.agreementKey),
      login: keys.login('abc', 'alice@alpha.example'),
    };
  },
  async login({ url, email, ...request }) {
    const keys = await keysOf(request);
    const session = new client.NodeSession(url);
    await session.login(keys, email);
    const { did, agreementKey } = await session.contact(keys.address);
    return { token: session.token, did, agreement: to64(agreementKey) };
  },
  async compose({ draft, me, to, ...request }) {
    const files = draft.files.map((file) => ({ ...file, content: from64(file.content) }));
    const [mine] = await contacts([me]);
    const outgoing = await client.compose({ ...draft, files }, mine, await keysOf(request), await contacts(to));
    const links = Object.fromEntries(outgoing.uploads.map(({ id }) => [id, `https://alpha.example/files/${id}`]));
    const uploads = outgoing.uploads.map(({ id, data }) => ({ id, data: to64(data) }));
    return { request: client.sendRequest(outgoing, links), uploads };
  },
  async open({ document, me, ...request }) {
    return client.openDocument(document, (await contacts([me]))[0], await keysOf(request));
  },
  async openFile({ id, key, data }) {
    return to64(await client.openFile(id, from64(key), from64(data)));
  },
  async box({ reference, theirs, ...request }) {
    const sharedKey = client.newSharedKey();
    const boxed = client.boxKey(sharedKey, await keysOf(request), from64(theirs));
    return { boxed, reference: client.sealReference(reference, sharedKey) };
  },
  async unbox({ boxed, reference, theirs, ...request }) {
    const sharedKey = await client.unboxKey(boxed, await keysOf(request), from64(theirs));
    return client.openReference(reference, sharedKey);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { call, ...request } = JSON.parse(line);
  let answer;
  try {
    answer = { answer: await work[call](request) };
  } catch (error) {
    if (!(error instanceof client.Refused)) throw error;
    answer = { refused: error.message };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
