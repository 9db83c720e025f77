// The reference client in JavaScript, for browsers and Node.js; begin reading at message.mjs.
export { openFile, sealFile } from './attachment.mjs';
export { boxKey, newSharedKey, openReference, sealReference, unboxKey } from './box.mjs';
export { contactOf } from './contact.mjs';
export { Refused } from './errors.mjs';
export { Keys, newMnemonic } from './keys.mjs';
export { compose, openDocument, sendRequest } from './message.mjs';
export { NodeSession } from './session.mjs';
