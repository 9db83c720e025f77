// JWE for several recipients in the one form that passes the reference server (wire spec sections 5.2, 5.3).
//
// ECDH-ES+A256KW and A256GCM (RFC 7518) on X25519 (RFC 8037). Whatever says how to decrypt stands in `protected`;
// a recipient's header has `kid` and `epk` and nothing else. `aad` names sender and recipients.
import { GeneralEncrypt, flattenedDecrypt, importJWK } from 'jose';

import { fromBase64url, fromJson, hasExactly, text, toBase64url, utf8 } from './encoding.mjs';
import { Refused, refusing } from './errors.mjs';
import { publicJwk } from './keys.mjs';

const ALGORITHM = 'ECDH-ES+A256KW';
const CONTENT = 'A256GCM';
const TYPE = 'application/didcomm-encrypted+json';

const aadOf = (sender, kids) => JSON.stringify({ from: sender, to: kids });

// Encrypts for `recipients`: a Map from their `did:web` to their X25519 key (32 bytes).
export async function seal(plaintext, contentType, sender, recipients) {
  const kids = [...recipients.keys()];
  const message = new GeneralEncrypt(plaintext)
    .setProtectedHeader({ typ: TYPE, alg: ALGORITHM, enc: CONTENT, cty: contentType })
    .setAdditionalAuthenticatedData(utf8(aadOf(sender, kids)));
  // For a single recipient jose puts `epk` into `protected`: one recipient is made twice, and one of the two left out.
  for (const kid of kids.length === 1 ? [...kids, ...kids] : kids) {
    const key = await importJWK(publicJwk('X25519', recipients.get(kid)), ALGORITHM);
    message.addRecipient(key).setUnprotectedHeader({ kid });
  }
  const sealed = await message.encrypt();
  return { ...sealed, recipients: sealed.recipients.slice(0, kids.length) };
}

function checkedRecipient(recipient) {
  const { encrypted_key: key, header } = hasExactly(recipient, ['encrypted_key', 'header']) ? recipient : {};
  if (!hasExactly(header, ['kid', 'epk']) || !hasExactly(header.epk, ['x', 'crv', 'kty']) || typeof header.kid !== 'string') {
    throw new Refused('a recipient of the JWE is not of the form that Mailio messages have');
  }
  fromBase64url(key);
  fromBase64url(header.epk.x);
  return recipient;
}

// Nothing is there but what section 5.2 names; each text in its one spelling.
function checked(sealed) {
  if (!hasExactly(sealed, ['aad', 'ciphertext', 'iv', 'recipients', 'tag', 'protected'])) {
    throw new Refused('not a JWE of the form that Mailio messages have');
  }
  for (const name of ['ciphertext', 'iv', 'tag']) fromBase64url(sealed[name]);
  if (!Array.isArray(sealed.recipients) || !sealed.recipients.length) throw new Refused('the JWE has no recipients');
  return { ...sealed, recipients: sealed.recipients.map(checkedRecipient) };
}

function protectedHeader(encoded) {
  const header = fromJson(fromBase64url(encoded));
  if (!hasExactly(header, ['typ', 'alg', 'enc', 'cty'])) {
    throw new Refused('the protected header has other members than it may');
  }
  if (toBase64url(utf8(JSON.stringify(header))) !== encoded) {
    throw new Refused('the protected header is not in its one spelling');
  }
  if (header.alg !== ALGORITHM || header.enc !== CONTENT || header.typ !== TYPE || typeof header.cty !== 'string') {
    throw new Refused('the message is encrypted in a way that is not taken');
  }
  return header;
}

// Decrypts as the recipient `kid` what `sender` (the message's `from`) wrote.
// {plaintext, contentType, recipients}
export async function openSealed(sealed, kid, keys, sender) {
  const { recipients, ...shared } = checked(sealed);
  const header = protectedHeader(shared.protected);
  const kids = recipients.map((recipient) => recipient.header.kid);
  if (text(fromBase64url(shared.aad)) !== aadOf(sender, kids)) {
    throw new Refused('sender or recipients are not those that the message was encrypted with');
  }
  const mine = recipients.filter((recipient) => recipient.header.kid === kid);
  if (mine.length !== 1) throw new Refused('the message is not encrypted for this key');
  const plaintext = await refusing('the message can\'t be decrypted: it was changed, or it is for another key', async () => {
    const key = await importJWK(keys.agreementJwk(), ALGORITHM);
    const allowed = { keyManagementAlgorithms: [ALGORITHM], contentEncryptionAlgorithms: [CONTENT] };
    return (await flattenedDecrypt({ ...shared, ...mine[0] }, key, allowed)).plaintext;
  });
  return { plaintext, contentType: header.cty, recipients: kids };
}
