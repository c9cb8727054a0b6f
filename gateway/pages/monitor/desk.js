/**
 * A supervisor at one call: what the connection to its sound is doing. Pure: an event in, the next state and effects out.
 *
 *     idle --listen--> connecting --listening--> listening --takeOver--> asking --microphone--> taking --taken_over--> speaking
 *     speaking --handBack--> handing --handed_back--> listening
 *     speaking --handed_back--> listening (it lapsed, or somebody took it)      taking, handing --error--> listening
 *     any --stop, closed, expired, over--> idle
 *
 * What becomes of acts that go by HTTP, a whisper among them, comes as `acted`: it changes words alone, never the phase.
 *
 * Effects: {type: "connect"|"disconnect"|"askMicrophone"|"dropMicrophone"} and {type: "send", message}.
 */

export const IDLE = Object.freeze({ phase: "idle", callId: null, then: null, from: "", problem: "" });

export const hears = ({ phase }) => phase !== "idle" && phase !== "connecting";
export const speaks = ({ phase }) => phase === "speaking";

/** Words of a browser's refusal of the microphone. */
const MICROPHONE = {
  NotAllowedError: "The browser did not allow the microphone. Allow it for this page, then take over again.",
  NotFoundError: "There is no microphone. Connect one, then take over again.",
  NotReadableError: "The microphone is in use by another program.",
  insecure: "Browsers give the microphone to localhost and to pages over TLS alone. See docs/softphone.md.",
};

/** Words of refusals that are about what this page shows; all others come with their own. */
const REFUSALS = {
  taken_over: "Somebody else has the call. The button names them now: press it again to take the call from them.",
};

const NO_SOUND = "This browser cannot play the call here: it wants localhost or a page over TLS. See docs/softphone.md.";

/**
 * @param {object} state
 * @param {{type: string}} event  listen {callId, then, from}, stop, listening, noSound, takeOver {from: who has the call, or ""},
 *     microphone, noMicrophone {name}, handBack, taken_over, handed_back {message, unless it was asked for}, acted {problem},
 *     error {code, message}, over, closed, expired
 * @returns {{state: object, effects: object[]}}
 */
export function step(state, event) {
  const found = TABLE[event.type]?.(state, event);
  return found ?? { state, effects: [] };
}

const to = (state, phase, effects = [], more = {}) => ({
  state: Object.freeze({ ...state, problem: "", ...more, phase }),
  effects: effects.map((effect) => (typeof effect === "string" ? { type: effect } : effect)),
});
const send = (type, more = {}) => ({ type: "send", message: { type, ...more } });
const over = (state, problem) => to(state, "idle", ["dropMicrophone", "disconnect"], { callId: null, then: null, problem });

const TABLE = {
  listen: (state, { callId, then = null, from = "" }) =>
    state.phase === "idle" ? to(state, "connecting", ["connect"], { callId, then, from }) : undefined,

  stop: (state) => (state.phase === "idle" && !state.problem ? undefined : over(state, "")),

  noSound: (state) => (state.phase === "connecting" ? over(state, NO_SOUND) : undefined),

  listening(state) {
    if (state.phase !== "connecting") return undefined;
    if (state.then !== "takeOver") return to(state, "listening");
    return to(state, "asking", ["askMicrophone"], { then: null });
  },

  takeOver: (state, { from = "" }) => (state.phase === "listening" ? to(state, "asking", ["askMicrophone"], { from }) : undefined),

  microphone(state) {
    if (state.phase !== "asking") return undefined;
    return to(state, "taking", [send("take_over", state.from ? { from: state.from } : {})]);
  },

  noMicrophone(state, { name }) {
    if (state.phase !== "asking") return undefined;
    return to(state, "listening", [], { problem: MICROPHONE[name] ?? `The microphone does not work (${name}).` });
  },

  taken_over: (state) => (state.phase === "taking" ? to(state, "speaking") : undefined),

  handBack: (state) => (state.phase === "speaking" ? to(state, "handing", [send("hand_back")]) : undefined),

  handed_back(state, { message = "the bot has it" }) {
    if (state.phase === "speaking") {
      return to(state, "listening", ["dropMicrophone"], { problem: `You no longer have the call: ${message}.` });
    }
    return state.phase === "handing" ? to(state, "listening", ["dropMicrophone"]) : undefined;
  },

  acted: (state, { problem }) => to(state, state.phase, [], { problem }),

  error(state, { code, message }) {
    const problem = REFUSALS[code] ?? message;
    if (state.phase === "connecting") return over(state, problem);
    if (["taking", "handing"].includes(state.phase)) return to(state, "listening", ["dropMicrophone"], { problem });
    return to(state, state.phase, [], { problem });
  },

  over: (state) => (state.phase === "idle" ? undefined : over(state, "")),

  closed(state) {
    if (state.phase === "idle") return undefined;
    return over(state, state.problem || "The connection to the call’s sound was lost. Listen again.");
  },

  expired(state) {
    if (state.phase === "idle") return undefined;
    const had = ["speaking", "taking", "handing"].includes(state.phase);
    return over(state, `Your token expired, so ${had ? "the bot has the call again" : "you no longer hear the call"}. Listen again.`);
  },
};
