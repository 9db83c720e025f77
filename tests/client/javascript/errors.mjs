// What was given is not what it claims to be; the text says what is wrong and shows no secret.
export class Refused extends Error {}

// Has whatever goes wrong in `work` refused with one text.
export async function refusing(text, work) {
  try {
    return await work();
  } catch (error) {
    throw error instanceof Refused ? error : new Refused(text);
  }
}
