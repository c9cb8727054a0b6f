/**
 * What was said, built from the gateway's messages one by one. Pure: `hear` returns a new conversation.
 *
 * A line: {id, side: "caller"|"bot"|"note", round, text, state, ...}, with the states
 *
 *     caller   hearing (words so far) -> said -> joined (its words begin a later line, its reply is withdrawn)
 *     bot      saying -> said | held (stopped, it may go on) -> said | cut (the caller spoke over it); withdrawn
 *     note     what else happened: keys, a resumed call, an error
 */

export const EMPTY = Object.freeze({ lines: Object.freeze([]), next: 1, callerSpeaks: false });

/**
 * @param {object} conversation
 * @param {object} message one of the gateway's, or of the page's own: {type: "played"}, {type: "key", digit},
 *     {type: "note", text}
 */
export function hear(conversation, message) {
  const handler = HANDLERS[message.type];
  return handler ? Object.freeze(handler(conversation, message)) : conversation;
}

/** What a screen reader says of a message; empty for what would only be noise. */
export function announcement(message) {
  if (message.type === "prompt") return `Bot: ${message.text}`;
  if (message.type === "transcript" && message.final) return `You: ${message.text}`;
  return message.type === "note" ? message.text : "";
}

const HANDLERS = {
  ready(talk, { resumed }) {
    if (!resumed) return { ...talk, callerSpeaks: false };
    const lines = talk.lines.map((line) => (isBeingSaid(line) ? { ...line, state: "cut" } : line));
    return add({ ...talk, lines, callerSpeaks: false }, { side: "note", text: "The call goes on where it was." });
  },

  speech_started: (talk) => ({ ...talk, callerSpeaks: true }),

  speech_ended: (talk) => ({ ...talk, callerSpeaks: false }),

  transcript(talk, { round_id: round, text, final, supersedes }) {
    const lines = talk.lines
      .map((line) => (supersedes !== null && line.round === supersedes ? withdraw(line) : line))
      .map((line) => (final && line.state === "held" ? { ...line, state: "cut" } : line));
    const words = { side: "caller", round, text, state: final ? "said" : "hearing" };
    if (!lines.some(isBeingHeard)) return add({ ...talk, lines }, words);
    return change({ ...talk, lines }, isBeingHeard, (line) => ({ ...line, ...words }));
  },

  intent(talk, { round_id: round, intent, score, slots }) {
    return change(talk, isWordsOf(round), (line) => ({ ...line, intent, score, slots }));
  },

  prompt(talk, { round_id: round, text, node, timing }) {
    const lines = talk.lines.map((line) => (line.state === "held" && line.round !== round ? { ...line, state: "cut" } : line));
    return add({ ...talk, lines }, { side: "bot", round, text, node, timing, state: "saying" });
  },

  /** The gateway stopped a prompt: for good, or until it knows whether the caller wants the turn. */
  clear: (talk) => ({
    ...talk,
    lines: talk.lines.map((line) => (line.state === "saying" ? { ...line, state: "held" } : line)),
  }),

  /** The loudspeaker has played a prompt to its end: the oldest of those that have begun. */
  played(talk) {
    const oldest = talk.lines.find(isBeingSaid);
    return change(talk, (line) => line === oldest, (line) => ({ ...line, state: "said" }));
  },

  transfer: (talk, { target }) => add(talk, { side: "note", text: `Transfer to ${target}.` }),

  key(talk, { digit }) {
    const last = talk.lines.at(-1);
    if (last?.keys === undefined) return add(talk, { side: "note", keys: digit, text: `You pressed ${digit}` });
    const keys = last.keys + digit;
    return { ...talk, lines: [...talk.lines.slice(0, -1), { ...last, keys, text: `You pressed ${keys}` }] };
  },

  note: (talk, { text }) => add(talk, { side: "note", text }),

  error: (talk, { message }) => add(talk, { side: "note", text: message }),
};

const isWordsOf = (round) => (line) => line.side === "caller" && line.round === round;
const isBeingHeard = (line) => line.side === "caller" && line.state === "hearing";
const isBeingSaid = (line) => line.state === "saying" || line.state === "held";

function withdraw(line) {
  if (line.side === "caller") return { ...line, state: "joined" };
  return line.side === "bot" ? { ...line, state: "withdrawn" } : line;
}

function add(talk, line) {
  const lines = [...talk.lines, { round: null, state: "said", ...line, id: talk.next }];
  return { ...talk, lines, next: talk.next + 1 };
}

/** The last line that is meant, changed. */
function change(talk, isMeant, changed) {
  const at = talk.lines.findLastIndex(isMeant);
  return at < 0 ? talk : { ...talk, lines: talk.lines.with(at, changed(talk.lines[at])) };
}
