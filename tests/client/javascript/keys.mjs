// A user's keys, made from a mnemonic, and what follows from them (wire spec sections 1.1, 1.2, 1.10).
//
// Seed of BIP-39, then HKDF (RFC 5869) with SHA-256, no salt, and a name for each key: as in the Python library.
import { generateMnemonic, mnemonicToSeed, validateMnemonic } from '@scure/bip39';
import { wordlist } from '@scure/bip39/wordlists/english.js';
import sodium from 'libsodium-wrappers';

import { fromBase64, toBase64, toBase64url, utf8 } from './encoding.mjs';
import { Refused } from './errors.mjs';

const SIGNING = 'mailio ed25519 1';
const AGREEMENT = 'mailio x25519 1';
const STRENGTH_BITS = 256;

// 24 words of the platform's randomness.
export const newMnemonic = () => generateMnemonic(wordlist, STRENGTH_BITS);

export async function sha256Hex(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

// The Mailio address of a public Ed25519 key (section 1.1).
export const addressOf = async (signingKey) => `0x${(await sha256Hex(utf8(toBase64(signingKey)))).slice(-40)}`;

async function derived(seed, name) {
  const material = await crypto.subtle.importKey('raw', seed, 'HKDF', false, ['deriveBits']);
  const algorithm = { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(), info: utf8(name) };
  return new Uint8Array(await crypto.subtle.deriveBits(algorithm, material, 256));
}

export class Keys {
  #signing;
  #agreement;

  // Both key pairs of a user, of two 32-byte seeds.
  static async fromSeeds(signingSeed, agreementSeed) {
    await sodium.ready;
    const keys = new Keys();
    const pair = sodium.crypto_sign_seed_keypair(signingSeed);
    keys.#signing = { secret: pair.privateKey, seed: signingSeed };
    keys.#agreement = agreementSeed;
    keys.signingKey = pair.publicKey;
    keys.agreementKey = sodium.crypto_scalarmult_base(agreementSeed);
    keys.address = await addressOf(pair.publicKey);
    return keys;
  }

  // The keys of 12 to 24 words (BIP-39).
  static async fromMnemonic(words, passphrase = '') {
    const normal = words.toLowerCase().trim().split(/\s+/).join(' ');
    if (!validateMnemonic(normal, wordlist)) {
      throw new Refused('these are not the words of a mnemonic: one is misspelt, missing or out of order');
    }
    const seed = await mnemonicToSeed(normal, passphrase);
    return Keys.fromSeeds(await derived(seed, SIGNING), await derived(seed, AGREEMENT));
  }

  // The content of the key file that `mailio-node account add` wrote.
  static fromFile(content) {
    return Keys.fromSeeds(fromBase64(content.signingSeed), fromBase64(content.agreementSeed));
  }

  sign(message) {
    return sodium.crypto_sign_detached(message, this.#signing.secret);
  }

  // The body of `POST /api/v1/login` that answers the challenge `nonce` (section 1.10).
  login(nonce, email) {
    return {
      email,
      mailioAddress: this.address,
      nonce,
      ed25519SigningPublicKeyBase64: toBase64(this.signingKey),
      signatureBase64: toBase64(this.sign(utf8(nonce))),
    };
  }

  // The body of `POST /api/v1/register`: that, and the X25519 key.
  registration(nonce, email, databasePassword) {
    const x25519PublicKeyBase64 = toBase64(this.agreementKey);
    return { ...this.login(nonce, email), databasePassword, x25519PublicKeyBase64 };
  }

  signingJwk() {
    return { ...publicJwk('Ed25519', this.signingKey), d: toBase64url(this.#signing.seed) };
  }

  agreementJwk() {
    return { ...publicJwk('X25519', this.agreementKey), d: toBase64url(this.#agreement) };
  }

  // A NaCl box's content for or from the X25519 key `theirs`, see box.mjs.
  box(message, nonce, theirs) {
    return sodium.crypto_box_easy(message, nonce, theirs, this.#agreement);
  }

  unbox(sealed, nonce, theirs) {
    return sodium.crypto_box_open_easy(sealed, nonce, theirs, this.#agreement);
  }
}

// A public key for JOSE (RFC 8037).
export const publicJwk = (crv, key) => ({ kty: 'OKP', crv, x: toBase64url(key) });
