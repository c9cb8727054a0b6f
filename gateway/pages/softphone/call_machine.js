/**
 * The states of a call, as a pure function: what happened goes in, the next state and what is to be done come out.
 *
 *     idle --dial--> preparing --soundReady--> connecting --ready--> talking
 *     talking --lost--> reconnecting --retry--> reconnecting --ready--> talking
 *     preparing, connecting, talking, reconnecting --hangUp | an end--> ended --dial--> preparing
 *
 * Odd cases: a socket that closes after the end changes nothing; a call lost before it was ever ready is not tried
 * again, its failure is looked into instead; one that is lost again and again right after it came back counts on.
 *
 * Events: {type, now (ms), ...}. Effects: {type, ...}, carried out by phone.js in order.
 */

import { isLost } from "./endings.js";

export const RETRY_MS = [500, 1000, 2000, 4000, 8000, 8000, 8000, 8000, 8000, 8000]; // about a minute
const STEADY_MS = 10000; // talking for so long, a call counts as well connected again

export const IDLE = Object.freeze({
  phase: "idle",
  callId: null,
  attempt: 0, // reconnections tried since the call was last steady
  resumed: false,
  readyAt: null, // ms, when the gateway last took the call
  startedAt: null, // ms, when it first did
  endedAt: null,
  ending: null, // {by: "bot"|"caller"|"transfer"|"fault", code, error, target, reason, fault}
  error: null, // the gateway's last error message, {code, message}
  farewell: null, // its hangup or transfer, while the connection closes
});

/** @returns {{state: object, effects: object[]}} */
export function step(state, event) {
  const handler = HANDLERS[event.type];
  return (handler && handler(state, event)) || keep(state);
}

const HANDLERS = {
  dial(state, { callId }) {
    if (isUnderWay(state)) return null;
    return go({ ...IDLE, phase: "preparing", callId }, { type: "openSound" });
  },

  soundReady(state) {
    if (state.phase !== "preparing") return null;
    return go({ ...state, phase: "connecting" }, { type: "connect", callId: state.callId });
  },

  soundFailed(state, { fault, now }) {
    if (!isUnderWay(state)) return null;
    return end(state, now, { by: "fault", fault });
  },

  ready(state, { callId, resumed, now }) {
    if (state.phase !== "connecting" && state.phase !== "reconnecting") return null;
    const startedAt = state.startedAt ?? now;
    return go({ ...state, phase: "talking", callId, resumed, readyAt: now, startedAt, error: null });
  },

  error(state, { code, message }) {
    return go({ ...state, error: { code, message } });
  },

  farewell(state, { farewell }) {
    return go({ ...state, farewell });
  },

  closed(state, { code, now }) {
    if (!isUnderWay(state)) return null;
    if (state.farewell) return end(state, now, { ...state.farewell, code });
    if (state.startedAt === null) {
      const unknown = code === 1006 ? [{ type: "investigate" }] : []; // browsers do not tell what was answered
      return end(state, now, { by: "fault", code, error: state.error }, ...unknown);
    }
    if (code === 1000) return end(state, now, { by: "bot", code });
    const attempt = state.readyAt !== null && now - state.readyAt > STEADY_MS ? 0 : state.attempt;
    if (!isLost(code) || attempt >= RETRY_MS.length) return end(state, now, { by: "fault", code, error: state.error });
    return go(
      { ...state, phase: "reconnecting", attempt: attempt + 1, readyAt: null },
      { type: "silence" },
      { type: "retryAfter", ms: RETRY_MS[attempt] },
    );
  },

  /** The time to wait is over, or the browser says that the network is back. */
  retry(state) {
    if (state.phase !== "reconnecting") return null;
    return go(state, { type: "connect", callId: state.callId });
  },

  hangUp(state, { now }) {
    if (!isUnderWay(state)) return null;
    return end(state, now, { by: "caller", code: 1000 }, { type: "stop" });
  },

  /** What `investigate` found out. */
  found(state, { fault }) {
    if (state.phase !== "ended" || state.ending.by !== "fault") return null;
    return go({ ...state, ending: { ...state.ending, fault } });
  },
};

export function isUnderWay(state) {
  return ["preparing", "connecting", "talking", "reconnecting"].includes(state.phase);
}

function end(state, now, ending, ...effects) {
  return go({ ...state, phase: "ended", endedAt: now, ending }, ...effects, { type: "closeSound" });
}

function go(state, ...effects) {
  return { state: Object.freeze(state), effects };
}

function keep(state) {
  return { state, effects: [] };
}
