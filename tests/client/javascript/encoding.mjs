// base64 and base64url, read strictly: one spelling per content. JSON without spaces.
import { Refused } from './errors.mjs';

export const utf8 = (text) => new TextEncoder().encode(text);

export function text(bytes) {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Refused('not UTF-8 text');
  }
}

export function toBase64(bytes) {
  let binary = '';
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}

export function fromBase64(encoded) {
  try {
    const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
    if (toBase64(bytes) === encoded) return bytes;
  } catch {
    // Said below.
  }
  throw new Refused('not base64 text');
}

export function toBase64url(bytes) {
  return toBase64(bytes).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

export function fromBase64url(encoded) {
  if (typeof encoded !== 'string' || /[^A-Za-z0-9_-]/.test(encoded)) throw new Refused('not base64url text');
  const standard = encoded.replaceAll('-', '+').replaceAll('_', '/');
  return fromBase64(standard + '='.repeat((4 - (standard.length % 4)) % 4));
}

export function fromJson(bytes) {
  try {
    return JSON.parse(typeof bytes === 'string' ? bytes : text(bytes));
  } catch {
    throw new Refused('not JSON');
  }
}

// Whether `value` is an object with these members and no others.
export function hasExactly(value, members) {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const names = Object.keys(value);
  return names.length === members.length && members.every((member) => names.includes(member));
}
