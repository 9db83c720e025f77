// A client's conversation with its node: login by challenge, contacts, uploads, sending (wire spec section 7).
import { contactOf } from './contact.mjs';
import { Refused } from './errors.mjs';
import { sendRequest } from './message.mjs';

export class NodeSession {
  // `url` has scheme, host and port, and no `/` at its end; `token` is there after `login`.
  constructor(url, fetch = globalThis.fetch) {
    this.url = url;
    this.fetch = fetch;
    this.token = '';
  }

  async login(keys, email) {
    const { nonce } = await this.#ask('GET', '/api/v1/nonce');
    this.token = (await this.#ask('POST', '/api/v1/login', keys.login(nonce, email))).token;
  }

  // Somebody who lives on this node.
  async contact(address) {
    return contactOf(await this.#ask('GET', `/${encodeURIComponent(address)}/did.json`));
  }

  // Somebody by `did:web`, wherever they live.
  async find(did) {
    const { found } = await this.#ask('POST', '/api/v1/resolve/webdid', { dids: [did] });
    for (const one of found ?? []) {
      const contact = await contactOf(one.didDocument);
      if (contact.did === did) return contact;
    }
    throw new Refused(`${did} was not found`);
  }

  // Uploads the attachments, sends the message, returns its id.
  async send(outgoing, thread = '') {
    const links = {};
    for (const upload of outgoing.uploads) {
      const { url } = await this.#ask('GET', `/api/v1/s3presign?objectKey=${upload.id}&method=put`);
      const answer = await this.fetch(url, { method: 'PUT', body: upload.data });
      if (!answer.ok) throw new Refused(`the upload was refused: ${answer.status}`);
      [links[upload.id]] = url.split('?');
    }
    return (await this.#ask('POST', '/api/v1/senddid', sendRequest(outgoing, links, thread))).didCommId;
  }

  async #ask(method, path, body) {
    const headers = { 'Content-Type': 'application/json' };
    if (this.token) headers.Authorization = this.token;
    const answer = await this.fetch(this.url + path, { method, headers, body: body && JSON.stringify(body) });
    const content = await answer.json();
    if (!answer.ok) throw new Refused(`${path.split('?')[0]}: ${answer.status} ${content.message ?? ''}`);
    return content;
  }
}
