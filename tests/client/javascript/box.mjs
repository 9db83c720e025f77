// The envelope's boxes of MIR-6: see box.py, which says what is base64 of what.
import sodium from 'libsodium-wrappers';

import { fromBase64, fromJson, toBase64, utf8 } from './encoding.mjs';
import { Refused, refusing } from './errors.mjs';

const NONCE_BYTES = 24;

export const newSharedKey = () => crypto.getRandomValues(new Uint8Array(32));

function joined(nonce, sealed) {
  const both = new Uint8Array(nonce.length + sealed.length);
  both.set(nonce);
  both.set(sealed, nonce.length);
  return toBase64(both);
}

function parted(encoded) {
  const both = fromBase64(encoded);
  return [both.slice(0, NONCE_BYTES), both.slice(NONCE_BYTES)];
}

const freshNonce = () => crypto.getRandomValues(new Uint8Array(NONCE_BYTES));

export function boxKey(sharedKey, mine, theirs) {
  const nonce = freshNonce();
  return joined(nonce, mine.box(sharedKey, nonce, theirs));
}

export function unboxKey(encoded, mine, theirs) {
  return refusing('the box is not what was sealed, or not for this key', () => {
    const [nonce, sealed] = parted(encoded);
    return mine.unbox(sealed, nonce, theirs);
  });
}

export function sealReference(reference, sharedKey) {
  const nonce = freshNonce();
  return joined(nonce, sodium.crypto_secretbox_easy(utf8(JSON.stringify(reference)), nonce, sharedKey));
}

export async function openReference(encoded, sharedKey) {
  const content = await refusing('the reference is not what was sealed', () => {
    const [nonce, sealed] = parted(encoded);
    return fromJson(sodium.crypto_secretbox_open_easy(sealed, nonce, sharedKey));
  });
  if (typeof content?.reference !== 'string') throw new Refused('this is not a reference');
  return content;
}
