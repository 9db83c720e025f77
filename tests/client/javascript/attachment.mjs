// Attachments, sealed before they are uploaded. Form: 12 bytes nonce, AES-256-GCM ciphertext, 16 bytes tag;
// the attachment's id is authenticated with it.
import { utf8 } from './encoding.mjs';
import { Refused, refusing } from './errors.mjs';

const NONCE_BYTES = 12;

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
const random = (length) => crypto.getRandomValues(new Uint8Array(length));
const parameters = (iv, id) => ({ name: 'AES-GCM', iv, additionalData: utf8(id) });

// {id, key, data}: `data` is for the upload, `id` and `key` (32 bytes) for those who may read it.
export async function sealFile(content) {
  const [id, key, nonce] = [hex(random(16)), random(32), random(NONCE_BYTES)];
  const secret = await crypto.subtle.importKey('raw', key, 'AES-GCM', false, ['encrypt']);
  const sealed = new Uint8Array(await crypto.subtle.encrypt(parameters(nonce, id), secret, content));
  const data = new Uint8Array(NONCE_BYTES + sealed.length);
  data.set(nonce);
  data.set(sealed, NONCE_BYTES);
  return { id, key, data };
}

export function openFile(id, key, data) {
  if (key.length !== 32 || data.length < NONCE_BYTES + 16) throw new Refused('not a sealed attachment');
  return refusing('the attachment is not what was sealed', async () => {
    const secret = await crypto.subtle.importKey('raw', key, 'AES-GCM', false, ['decrypt']);
    const [nonce, sealed] = [data.slice(0, NONCE_BYTES), data.slice(NONCE_BYTES)];
    return new Uint8Array(await crypto.subtle.decrypt(parameters(nonce, id), secret, sealed));
  });
}
