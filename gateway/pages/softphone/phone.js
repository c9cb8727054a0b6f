/**
 * The telephone itself: carries out what the call machine decides, with a socket and with sound, and tells whoever shows
 * it. Knows nothing of the page.
 */

import { callUrl, isMixed } from "./address.js";
import { IDLE, isUnderWay, step } from "./call_machine.js";
import { announcement, EMPTY, hear } from "./conversation.js";
import { measure, NOTHING } from "./latency.js";
import { Sound } from "./sound.js";

const SILENCE_DB = -50; // as the gateway's own figures have it
const UNSENT_BYTES = 64000; // two seconds at 16 kHz: on a line slower than the call, sound is left out, not delayed

export class Phone {
  /**
   * @param {object} gateway where calls go and what is known of it (gateway.js)
   * @param {object} told {changed(what)}: "call", "conversation", "latency", "muted"; {announce(text)}; {level(side, db)};
   *     {buffer({queuedMs, gaps})}
   */
  constructor(gateway, told) {
    this.gateway = gateway;
    this.told = told;
    this.call = IDLE;
    this.conversation = EMPTY;
    this.latency = NOTHING;
    this.muted = false;
    this.socket = null;
    this.sound = null;
    this.timer = null;
    this.loudAt = -Infinity; // when the caller was last heard by the microphone
    this.opening = 0; // microphones asked for so far
  }

  /** @param {object} choices {bot, language, rate, token}  @param {string} callId a known one resumes that call */
  dial(choices, callId) {
    if (isUnderWay(this.call)) return;
    if (callId !== this.call.callId) {
      this.conversation = EMPTY;
      this.latency = NOTHING;
    }
    this.choices = choices;
    this.dispatch({ type: "dial", callId });
    this.told.changed("conversation");
    this.told.changed("latency");
  }

  /** Why no call can be made from this page at all: one of FAULTS, or null. */
  obstacle() {
    if (!window.isSecureContext) return "insecure";
    return isMixed(location.protocol, this.gateway.mediaUrl) ? "mixed" : null;
  }

  hangUp() {
    this.dispatch({ type: "hangUp" });
  }

  /** The network is back: why wait? */
  retryNow() {
    if (this.timer !== null) this.dispatch({ type: "retry" });
  }

  mute(muted) {
    this.muted = muted;
    this.sound?.mute(muted);
    this.told.changed("muted");
  }

  press(digit) {
    if (this.call.phase !== "talking") return;
    this.send({ type: "dtmf", digit });
    this.sound.beep(digit);
    this.hear({ type: "key", digit });
  }

  dispatch(event) {
    const { state, effects } = step(this.call, { now: performance.now(), ...event });
    const changed = state !== this.call;
    this.call = state;
    for (const effect of effects) this[effect.type](effect);
    if (changed) this.told.changed("call");
  }

  // Effects of the call machine, by their types.

  async openSound() {
    const opening = ++this.opening;
    try {
      const obstacle = this.obstacle();
      if (obstacle) throw Object.assign(new Error(), { name: obstacle });
      const sound = await Sound.open(this.choices.rate, {
        frame: ({ pcm, db }) => this.spoken(pcm, db),
        playing: ({ db, queuedMs, gaps }) => {
          this.told.level("bot", db);
          this.told.buffer({ queuedMs, gaps });
        },
        reached: (names) => names.forEach((name) => this.played(name)),
        lost: () => this.hear({ type: "note", text: "The microphone is gone. The bot hears silence." }),
      });
      // Hung up while the browser asked, and perhaps dialled again: that call has a microphone of its own coming.
      if (opening !== this.opening || this.call.phase !== "preparing") return sound.close();
      this.sound = sound;
      sound.mute(this.muted);
      this.dispatch({ type: "soundReady" });
    } catch (error) {
      if (opening === this.opening) this.dispatch({ type: "soundFailed", fault: error.name });
    }
  }

  connect({ callId }) {
    clearTimeout(this.timer);
    this.timer = null;
    const socket = new WebSocket(callUrl(this.gateway.mediaUrl, { ...this.choices, callId }), "voicegate.v1");
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return; // hung up: what it still says is of no interest
      if (typeof data === "string") this.receive(JSON.parse(data));
      else this.sound?.play(data);
    };
    socket.onclose = ({ code }) => {
      if (socket !== this.socket) return; // of an attempt before
      this.socket = null;
      this.dispatch({ type: "closed", code });
    };
    this.socket = socket;
  }

  retryAfter({ ms }) {
    this.timer = setTimeout(() => this.dispatch({ type: "retry" }), ms);
  }

  silence() {
    this.sound.clear();
  }

  stop() {
    const { socket } = this;
    this.socket = null;
    clearTimeout(this.timer);
    this.timer = null;
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "stop" }));
    socket?.close(1000);
  }

  closeSound() {
    this.sound?.close();
    this.sound = null;
    this.told.level("caller", -Infinity);
    this.told.level("bot", -Infinity);
  }

  async investigate() {
    this.dispatch({ type: "found", fault: await this.gateway.whyNoCall(this.choices.token) });
  }

  // What comes from the gateway, the microphone and the loudspeaker.

  receive(message) {
    switch (message.type) {
      case "ready":
        this.dispatch({ type: "ready", callId: message.call_id, resumed: message.resumed });
        break;
      case "mark":
        this.sound?.mark(message.name);
        break;
      case "clear":
        this.sound?.clear();
        break;
      case "prompt":
        this.latency = measure(this.latency, message.timing, performance.now() - this.loudAt);
        this.told.changed("latency");
        break;
      case "hangup":
        this.dispatch({ type: "farewell", farewell: { by: "bot", reason: message.reason } });
        break;
      case "transfer":
        this.dispatch({ type: "farewell", farewell: { by: "transfer", target: message.target } });
        break;
      case "error":
        this.dispatch({ type: "error", code: message.code, message: message.message });
        if (this.call.phase !== "talking") return; // it ends the call, and is told there
        break;
    }
    this.hear(message);
  }

  hear(message) {
    const before = this.conversation;
    this.conversation = hear(before, message);
    if (this.conversation !== before) this.told.changed("conversation");
    const text = announcement(message);
    if (text) this.told.announce(text);
  }

  spoken(pcm, db) {
    this.told.level("caller", db);
    if (db > SILENCE_DB) this.loudAt = performance.now();
    if (this.socket?.readyState === WebSocket.OPEN && this.socket.bufferedAmount < UNSENT_BYTES) this.socket.send(pcm);
  }

  played(name) {
    this.send({ type: "mark_reached", name });
    this.hear({ type: "played" });
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }
}
