// From a letter to the message for `POST /api/v1/senddid`, and from a received document back to the letter
// (wire spec sections 5.2, 5.3, 5.4 and 6.4).
import { sealFile } from './attachment.mjs';
import { fromBase64, fromJson, toBase64url } from './encoding.mjs';
import { Refused } from './errors.mjs';
import { openSealed, seal } from './jwe.mjs';
import { CONTENT_TYPE, readLetter, signLetter } from './letter.mjs';

const ENCRYPTED = 'application/didcomm-encrypted+json';
const MAIL = 'application/mailio-smtp+json';

// What clients put behind the link of a sealed attachment (section 6.5).
const ENCRYPTED_SUFFIX = '?enc=1';

// Seals the files, signs the letter, encrypts it for everybody and for oneself.
//
// draft: {subject, text, html, files: [{name, contentType, content}]}; `me` and `to` are contacts, `now` in ms.
// {message, uploads}: upload first, then `sendRequest`.
export async function compose(draft, me, keys, to, now = Date.now()) {
  const files = draft.files ?? [];
  const uploads = await Promise.all(files.map((file) => sealFile(file.content)));
  const readers = new Map([...to, me].map((one) => [one.did, one.agreementKey]));
  const letter = {
    from: me.did,
    to: [...readers.keys()],
    created: now,
    subject: draft.subject ?? '',
    bodyText: draft.text ?? '',
    bodyHtml: draft.html ?? '',
    attachments: files.map((file, index) => ({
      id: uploads[index].id,
      key: toBase64url(uploads[index].key),
      filename: file.name,
      contentType: file.contentType,
      length: file.content.length,
    })),
  };
  const message = {
    type: ENCRYPTED,
    from: me.did,
    to: [...new Set(to.map((one) => one.did))],
    createdTime: now,
    intent: 'message',
    body: await seal(await signLetter(letter, keys), CONTENT_TYPE, me.did, readers),
  };
  return { message, uploads };
}

// The body of `senddid`; `links` has the URL of each upload by its id.
export function sendRequest({ message, uploads }, links = {}, thread = '') {
  const attachments = uploads.map(({ id }) => ({ id, data: { links: [links[id] + ENCRYPTED_SUFFIX] } }));
  return {
    didCommMessage: {
      ...message,
      ...(attachments.length ? { attachments } : {}),
      ...(thread ? { thid: thread, pthid: thread } : {}),
    },
  };
}

// Opens what the user's own node has sealed: it is from an email address, never from somebody's DID.
async function sealedMail(body, sender, me, keys) {
  if (sender.startsWith('did:')) throw new Refused('a mail has no DID for a sender');
  const opened = await openSealed(body, me.did, keys, sender);
  if (opened.contentType !== MAIL) throw new Refused('the message holds something that is not a mail');
  return mailOf(opened.plaintext);
}

function mailOf(content) {
  const mail = fromJson(content);
  if (typeof mail !== 'object' || mail === null || Array.isArray(mail)) {
    throw new Refused('the message holds something that is not a mail');
  }
  return mail;
}

// Reads a document of the user's database: {letter} whose author is proven, or {mail, sealed}.
export async function openDocument(document, me, keys) {
  const { type, from, body, plainBodyBase64 } = document?.didCommMessage ?? {};
  if (typeof from !== 'string') throw new Refused('not a message that can be opened');
  if (type === MAIL && body) return { mail: await sealedMail(body, from, me, keys), sealed: true };
  if (type === MAIL && typeof plainBodyBase64 === 'string') {
    return { mail: mailOf(fromBase64(plainBodyBase64)), sealed: false };
  }
  if (type !== ENCRYPTED) throw new Refused('not a message that can be opened');
  const opened = await openSealed(body, me.did, keys, from);
  if (opened.contentType !== CONTENT_TYPE) throw new Refused('the message holds something that is not a letter');
  return { letter: await readLetter(opened.plaintext, from, opened.recipients), sealed: true };
}
