/**
 * How calls end or fail, in words for the person at the phone: what happened, what to do, and whether the call can be
 * taken up again. Codes: docs/protocols.md, "Errors and close codes".
 */

import { readable } from "../shared/words.js";

/** Close codes: [what happened, what to do, may it be resumed]. */
export const CLOSE_CODES = {
  1000: ["The call is over.", "", true],
  1001: ["The gateway is going down or restarting.", "The call goes on when it is back.", true],
  1002: ["The connection carried something that is not WebSocket.", "A proxy in between may be at fault.", true],
  1006: ["The connection was lost.", "Check the network; the bot remembers where you were.", true],
  1007: ["The gateway got text that it could not read.", "Reload this page.", true],
  1009: ["A message was too large for the gateway.", "See the gateway's setting limits.message_bytes.", true],
  1011: ["The gateway cannot serve the call now.", "A model or the store does not answer: its log says which.", true],
  4400: ["The gateway did not understand this page.", "Reload it: it may be older than the gateway.", true],
  4401: ["The token does not open the gateway.", "Get a new one: voicegate token", false],
  4408: ["The call lasted too long, or no sound reached the gateway.", "Is this tab allowed to run?", true],
  4409: ["Another connection has taken this call over.", "It goes on there.", false],
  4415: ["The gateway cannot start such a call.", "Check bot, language and sound quality.", false],
  4429: ["Sound arrived faster than real time.", "This computer may have been asleep. Call again.", true],
};

/** What a page can find out by itself: [what happened, what to do]. */
export const FAULTS = {
  insecure: [
    "This page may not use the microphone here.",
    "Browsers allow it on localhost or over TLS only. Make a certificate on the gateway's machine:",
    "voicegate certificate --out tls --host HOST",
    "voicegate serve --host 0.0.0.0 --tls tls",
  ],
  mixed: [
    "This page came over TLS, and the media port speaks without.",
    "Browsers allow no such call. Give both ports a certificate:",
    "voicegate serve --host 0.0.0.0 --tls tls",
  ],
  NotAllowedError: ["The browser does not let this page use the microphone.", "Allow it beside the address, then call again."],
  NotFoundError: ["No microphone was found.", "Plug one in, then call again."],
  NotReadableError: ["The microphone cannot be used.", "Another program may have it. Close that, then call again."],
  noSound: ["This browser cannot work with sound as a call needs it.", "It needs AudioWorklet: any browser since 2021 has it."],
  token: ["The gateway wants a token for calls, and this is none that it knows.", "Get one on its machine:", "voicegate token"],
  away: ["The gateway does not answer.", "Is it running, and this computer connected?"],
  notReady: ["The gateway is not ready for calls yet.", "Try again in a moment; /readyz says what it waits for."],
  certificate: [
    "The media port could not be reached.",
    "With a certificate of your own, some browsers want it accepted there too: open the media port once, then call again.",
  ],
  busy: ["The media port did not take the call.", "All lines may be busy, or a firewall is in the way. Try again in a moment."],
};

/** Whether a connection that closed so is worth another try by itself. */
export function isLost(code) {
  return [1001, 1002, 1006, 1011].includes(code);
}

/**
 * @param {object} ending as the call machine has it
 * @returns {{title: string, advice: string, commands: string[], resumable: boolean, good: boolean}}
 */
export function describe(ending) {
  const { by, code, error, fault, target, reason } = ending;
  if (by === "caller") return words("You hung up", "", { good: true, resumable: true });
  if (by === "transfer") return words(`Transferred to ${target}`, "", { good: true });
  if (by === "bot") return words("The bot hung up", reason ? `Outcome: ${readable(reason)}.` : "", { good: true });
  if (fault) {
    const [title, advice, ...commands] = FAULTS[fault] ?? FAULTS.busy;
    return words(title, advice, { commands });
  }
  const [title, advice, resumable] = CLOSE_CODES[code] ?? ["The connection was closed.", `Code ${code}.`, true];
  return words(title, error ? sentence(error.message) : advice, { resumable });
}

function words(title, advice, { commands = [], resumable = false, good = false } = {}) {
  return { title, advice, commands, resumable, good };
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
