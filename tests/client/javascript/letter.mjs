// The content of a message, signed by its author before it is encrypted (compact JWS, Ed25519), because everybody
// can encrypt to a public key. The signer's key stands in the JWS: its address must be the one in `from`.
import { CompactSign, compactVerify, importJWK } from 'jose';

import { addressIn } from './contact.mjs';
import { fromBase64url, fromJson, hasExactly, text, utf8 } from './encoding.mjs';
import { Refused, refusing } from './errors.mjs';
import { addressOf } from './keys.mjs';

export const CONTENT_TYPE = 'application/didcomm-signed+json';
const ALGORITHM = 'Ed25519';
const TEXTS = ['from', 'subject', 'bodyText', 'bodyHtml'];

// A letter: {from, to, created, subject, bodyText, bodyHtml, attachments: [{id, key, filename, contentType, length}]}
export async function signLetter(letter, keys) {
  const { d, ...jwk } = keys.signingJwk();
  const secret = await importJWK({ ...jwk, d }, ALGORITHM);
  const jws = new CompactSign(utf8(JSON.stringify(letter))).setProtectedHeader({ alg: ALGORITHM, jwk });
  return utf8(await jws.sign(secret));
}

async function signer(jws, sender) {
  const header = fromJson(fromBase64url(jws.split('.')[0]));
  if (!hasExactly(header, ['alg', 'jwk']) || header.alg !== ALGORITHM || header.jwk?.crv !== 'Ed25519') {
    throw new Refused('the letter is not signed as letters are');
  }
  const key = fromBase64url(header.jwk.x);
  if (key.length !== 32 || (await addressOf(key)) !== addressIn(sender)) {
    throw new Refused('the letter is signed by somebody else');
  }
  return importJWK({ kty: 'OKP', crv: 'Ed25519', x: header.jwk.x }, ALGORITHM);
}

function isLetter(content) {
  if (typeof content !== 'object' || content === null) return false;
  const enclosed = (one) =>
    ['id', 'key', 'filename', 'contentType'].every((name) => typeof one?.[name] === 'string') &&
    Number.isInteger(one.length);
  return (
    TEXTS.every((name) => typeof content[name] === 'string') &&
    Number.isInteger(content.created) &&
    Array.isArray(content.to) &&
    content.to.every((one) => typeof one === 'string') &&
    Array.isArray(content.attachments) &&
    content.attachments.every(enclosed)
  );
}

// Checks who signed it, and that it was written by `sender` to these `recipients`.
export async function readLetter(signed, sender, recipients) {
  const letter = await refusing("the letter's signature is wrong", async () => {
    const jws = text(signed);
    const verified = await compactVerify(jws, await signer(jws, sender), { algorithms: [ALGORITHM] });
    return fromJson(verified.payload);
  });
  if (!isLetter(letter)) throw new Refused('this is not a letter');
  if (letter.from !== sender) throw new Refused('the letter was written by somebody else');
  const same = new Set(letter.to).size === new Set(recipients).size && letter.to.every((one) => recipients.includes(one));
  if (!same) throw new Refused('the letter was written to somebody else');
  return letter;
}
