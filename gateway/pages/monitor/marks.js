/**
 * What lies where in a call's time: stretches of speech, tails, prompts and take-overs, and the moments between them.
 * Times are positions in the caller's audio, in ms. Pure.
 *
 *     speech  the caller speaks          tail   silence that is waited for until the turn ends
 *     prompt  the bot speaks             held   a prompt that waits: the caller speaks over it
 *     taken   a supervisor has the call
 */

const KEPT_MS = 120_000;
const MANY = 100; // then those that are older are forgotten

export class Marks {
  /** @param {{keptMs: number}} options  how far back it remembers */
  constructor({ keptMs = KEPT_MS } = {}) {
    this.keptMs = keptMs;
    this.spans = []; // {kind, from, to}: `to` null goes on
    this.moments = []; // {kind: "barged_in"|"keys"|"silent"|"late", at, text}
    this.saidUntil = null; // a tail begins here
  }

  take(event) {
    const at = event.at_ms;
    HANDLERS[event.type]?.call(this, event, at);
    this.forget(at - this.keptMs);
  }

  forget(before) {
    if (this.spans.length > MANY) this.spans = this.spans.filter(({ to }) => (to ?? Infinity) >= before);
    if (this.moments.length > MANY) this.moments = this.moments.filter(({ at }) => at >= before);
  }

  begin(kind, from, more = {}) {
    this.end(kind, from); // its end did not come
    this.spans.push({ kind, from, to: null, ...more });
  }

  end(kind, to) {
    const span = this.spans.findLast((one) => one.kind === kind && one.to === null);
    if (span) span.to = Math.max(to, span.from);
    return span;
  }
}

const HANDLERS = {
  speech_started({ speech_ms: from }) {
    this.begin("speech", from);
  },

  speech_ended({ speech_ms: to }, at) {
    this.end("speech", to);
    this.spans.push({ kind: "tail", from: to, to: at });
  },

  prompt_started({ round_id: round }, at) {
    this.begin("prompt", at, { round });
  },

  prompt_held(_, at) {
    this.begin("held", at);
  },

  barged_in({ verdict }, at) {
    this.end("held", at);
    this.moments.push({ kind: "barged_in", at, text: verdict });
  },

  prompt_ended({ heard }, at) {
    this.end("held", at);
    const span = this.end("prompt", at);
    if (span && heard !== null) span.cut = true;
  },

  keys_pressed(_, at) {
    this.moments.push({ kind: "keys", at, text: "keys" });
  },

  caller_silent(_, at) {
    this.moments.push({ kind: "silent", at, text: "silent" });
  },

  budget_missed({ took_ms: took }, at) {
    this.moments.push({ kind: "late", at, text: `${Math.round(took)} ms` });
  },

  supervised({ act }, at) {
    if (act === "take_over") this.begin("taken", at);
    if (act === "hand_back") this.end("taken", at);
  },

  call_ended(_, at) {
    for (const span of this.spans) span.to ??= at;
  },
};
