/** The address of a call, and what of it a page's own address may ask for. */

export const RATES = [8000, 16000];

/**
 * @param {string} mediaUrl ws(s)://HOST:PORT
 * @param {{callId: string, bot: string, language: string, rate: number, token: string}} call empty: left out
 */
export function callUrl(mediaUrl, { callId, bot, language, rate, token }) {
  // In the query, not in a start message: on a slow line that one may come later than the gateway waits for it.
  const query = new URLSearchParams({ call_id: callId, encoding: "pcm_s16le", sample_rate: String(rate) });
  if (bot) query.set("bot", bot);
  if (language) query.set("language", language);
  if (token) query.set("token", token);
  return `${mediaUrl}/v1/call?${query}`;
}

/** A name for a new call that nobody else will think of. */
export function newCallId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The choices that a link to the page makes: ?bot=...&language=...&rate=...&call_id=... Never a token. */
export function choicesOf(search) {
  const query = new URLSearchParams(search);
  const rate = Number(query.get("rate"));
  return {
    bot: query.get("bot") ?? "",
    language: query.get("language") ?? "",
    callId: query.get("call_id") ?? "",
    rate: RATES.includes(rate) ? rate : RATES[1],
  };
}

/** Whether a page at `pageProtocol` may open a socket to `mediaUrl`: over TLS only to TLS, but for this machine. */
export function isMixed(pageProtocol, mediaUrl) {
  if (!URL.canParse(mediaUrl)) return false; // not known yet
  const { protocol, hostname } = new URL(mediaUrl);
  return pageProtocol === "https:" && protocol === "ws:" && !["localhost", "127.0.0.1", "[::1]"].includes(hostname);
}
