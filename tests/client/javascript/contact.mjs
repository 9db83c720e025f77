// Somebody to write to, out of their DID document (wire spec sections 1.2 and 1.4).
import { base58 } from '@scure/base';

import { fromBase64url } from './encoding.mjs';
import { Refused } from './errors.mjs';
import { addressOf } from './keys.mjs';

// The address of a `did:web:<server>#<address>`; '' for anything else.
export const addressIn = (did) => (/^did:web:[^#]+#(.*)$/s.exec(did) ?? ['', ''])[1];

function signingKey(document) {
  const jwk = document?.verificationMethod?.[0]?.publicKeyJwk;
  if (jwk?.kty === 'OKP' && jwk?.crv === 'Ed25519') {
    const key = fromBase64url(jwk.x);
    if (key.length === 32) return key;
  }
  throw new Refused('the DID document has no Ed25519 key');
}

function agreementKey(document) {
  const spelt = document?.keyAgreement?.[0]?.publicKeyMultibase;
  // base58 without the prefix that multibase would have; `z` in front is tolerated.
  for (const spelling of typeof spelt === 'string' && spelt.length <= 64 ? [spelt, spelt.replace(/^z/, '')] : []) {
    try {
      const key = base58.decode(spelling);
      if (key.length === 32) return key;
    } catch {
      // The other spelling, or none.
    }
  }
  throw new Refused('the DID document has no X25519 key');
}

function host(document) {
  const services = Array.isArray(document.service) ? document.service : [];
  const endpoint = services.find((one) => one?.type === 'DIDCommMessaging')?.serviceEndpoint;
  const found = typeof endpoint === 'string' && endpoint.replace(/^https?:\/\//, '').split('/')[0];
  if (!found) throw new Refused('the DID document names no messaging service');
  return found;
}

// {did, signingKey, agreementKey}. The id proves the signing key only; the agreement key is whatever the node says.
export async function contactOf(document) {
  const signing = signingKey(document);
  const address = await addressOf(signing);
  if (document?.id !== `did:mailio:${address}`) {
    throw new Refused("the DID document's id does not belong to its signing key");
  }
  const did = `did:web:${host(document)}#${address}`;
  return { did, address, signingKey: signing, agreementKey: agreementKey(document) };
}
