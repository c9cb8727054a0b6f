/** What the control port is asked over HTTP. A refusal is an error whose message is for people. */

const PATIENCE_MS = 8000;
const SOUND_MS = 600_000; // an hour's recording is 115 MB

/** Close code of a socket whose token is over (docs/monitoring.md): it opens nothing any more. */
export const TOKEN_EXPIRED = 4401;

export class Refused extends Error {
  /** @param {number} status 0 where there was no answer  @param {string} code for programs  @param {string} message */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export class ControlPlane {
  constructor() {
    this.token = "";
    this.setup = { needs_token: false, authorized: false, who: "", scopes: [], pause_ms: 250, recording: null };
  }

  /** Who this token is, and what it may do. @throws {Refused} where the gateway does not answer */
  async load(token) {
    this.token = token;
    this.setup = await this.json("monitor/setup.json");
  }

  /** The token is over: nothing is asked with it again. */
  forget() {
    this.token = "";
    this.setup = { ...this.setup, authorized: false, who: "", scopes: [] };
  }

  may(scope) {
    return this.setup.scopes.includes(scope);
  }

  /** A WebSocket of the control port; browsers can show a token in the address alone. */
  socket(path, query = {}) {
    const url = new URL(path, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.hash = "";
    url.search = new URLSearchParams({ ...query, ...(this.token ? { token: this.token } : {}) });
    return new WebSocket(url);
  }

  /** Where a call stands, with its last ten turns. */
  call(callId, raw) {
    return this.json(`v1/calls/${encodeURIComponent(callId)}${raw ? "?raw=1" : ""}`);
  }

  whisper(callId, text) {
    return this.json(`v1/calls/${encodeURIComponent(callId)}/whisper`, { method: "POST", body: { text } });
  }

  /** Give the bot a call that `from` has taken over. */
  handBack(callId, from) {
    const query = new URLSearchParams({ from });
    return this.json(`v1/calls/${encodeURIComponent(callId)}/hand-back?${query}`, { method: "POST" });
  }

  hangUp(callId) {
    return this.json(`v1/calls/${encodeURIComponent(callId)}/hang-up`, { method: "POST" });
  }

  /** What came of the calls that ended, the newest first. */
  outcomes() {
    return this.json("v1/outcomes");
  }

  /** The record of a call, if there is one. @returns {Promise<object[]>} */
  async outcomesOf(callId) {
    return (await this.json(`v1/outcomes?${new URLSearchParams({ call: callId, count: "5000" })}`)).outcomes;
  }

  /** What was recorded of a call, the newest part first. */
  async recordings(callId) {
    return (await this.json(`v1/recordings?${new URLSearchParams({ call: callId })}`)).recordings;
  }

  /** A recording and its events. */
  timeline(name) {
    return this.json(`v1/recordings/${encodeURIComponent(name)}/timeline`);
  }

  /**
   * A recording's sound.
   *
   * @param {(done: number, all: number) => void} told bytes that have come, of how many  @param {AbortSignal} signal
   * @returns {Promise<ArrayBuffer>}
   */
  async sound(name, told, signal) {
    const path = `v1/recordings/${encodeURIComponent(name)}/sound`;
    const answer = await this.ask(path, { patienceMs: SOUND_MS, signal });
    const all = Number(answer.headers.get("Content-Length") ?? 0);
    const pieces = [];
    let done = 0;
    try {
      for (const reader = answer.body.getReader(); ; ) {
        const { value, done: isDone } = await reader.read();
        if (isDone) break;
        pieces.push(value);
        told((done += value.length), all);
      }
    } catch {
      throw new Refused(0, "away", "The recording broke off on its way here. Open it again.");
    }
    return new Blob(pieces).arrayBuffer();
  }

  /** Prometheus' text. */
  async metrics() {
    return (await this.ask("metrics")).text();
  }

  /** Whether calls can be served; null where there is no answer. */
  async readiness() {
    try {
      return await (await this.ask("readyz", {}, [200, 503])).json();
    } catch {
      return null;
    }
  }

  async json(path, options) {
    return (await this.ask(path, options)).json();
  }

  async ask(path, { method = "GET", body, patienceMs = PATIENCE_MS, signal } = {}, good = [200]) {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    if (body) headers["Content-Type"] = "application/json";
    const more = { method, headers, body: body && JSON.stringify(body), cache: "no-store" };
    const enough = AbortSignal.timeout(patienceMs);
    let answer;
    try {
      answer = await fetch(path, { ...more, signal: signal ? AbortSignal.any([enough, signal]) : enough });
    } catch {
      throw new Refused(0, "away", "The gateway does not answer.");
    }
    if (good.includes(answer.status)) return answer;
    const problem = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, problem.code ?? "", sentence(problem.message ?? `The gateway answered ${answer.status}.`));
  }
}

/** A message of the gateway's as a sentence. */
export function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
