/**
 * A supervisor at one call: carries out what the desk decides, with the call's sound socket, headphones and microphone.
 * Knows nothing of the page.
 */

import { TOKEN_EXPIRED } from "./control_plane.js";
import { hears, IDLE, speaks, step } from "./desk.js";
import { Headphones, Microphone } from "./sound.js";

const HEADER_BYTES = 4;
const UNSENT_BYTES = 64_000; // of the voice: a network that takes less loses sound, it does not delay it

export class Supervisor {
  /**
   * @param {import("./control_plane.js").ControlPlane} control
   * @param {object} told {changed(), handedBack(callId) as was asked for, expired() of the token, sound({first, pairs, rate}),
   *     buffer({queuedMs, gaps})}
   */
  constructor(control, told) {
    this.control = control;
    this.told = told;
    this.desk = IDLE;
    this.context = null;
    this.socket = null;
    this.headphones = null;
    this.microphone = null;
    this.rate = 0;
  }

  // From a click: browsers let sound begin in no other way.

  listen(callId, more = {}) {
    this.context ??= new AudioContext({ latencyHint: "interactive" });
    this.context.resume();
    this.dispatch({ type: "listen", callId, ...more });
  }

  /** @param {string} callId  @param {string} from who has the call, "": the bot */
  takeOver(callId, from) {
    if (this.desk.phase === "idle") this.listen(callId, { then: "takeOver", from });
    else this.dispatch({ type: "takeOver", from });
  }

  handBack() {
    this.dispatch({ type: "handBack" });
  }

  stop() {
    this.dispatch({ type: "stop" });
  }

  /** What was done to the call by other ways than this connection. @param {string} problem "": it was done */
  acted(problem) {
    this.dispatch({ type: "acted", problem });
  }

  /** The token is over, and with it all that it had opened. */
  expire() {
    this.dispatch({ type: "expired" });
  }

  dispatch(event) {
    const { state, effects } = step(this.desk, event);
    const changed = state !== this.desk;
    this.desk = state;
    for (const effect of effects) this[effect.type](effect);
    if (!changed) return;
    this.headphones?.muteBot(speaks(state));
    this.told.changed();
  }

  // Effects of the desk, by their types.

  connect() {
    const socket = this.control.socket(`v1/calls/${encodeURIComponent(this.desk.callId)}/audio`);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return;
      if (typeof data === "string") this.receive(JSON.parse(data));
      else this.hear(data);
    };
    socket.onclose = ({ code }) => {
      if (socket !== this.socket) return;
      if (code === TOKEN_EXPIRED) this.told.expired();
      else this.dispatch({ type: "closed" });
    };
    this.socket = socket;
  }

  disconnect() {
    const { socket } = this;
    this.socket = null;
    socket?.close(1000);
    this.headphones?.close();
    this.headphones = null;
  }

  async askMicrophone() {
    const { socket } = this;
    try {
      const microphone = await Microphone.open(this.context, this.rate, (pcm) => this.speak(pcm));
      if (socket !== this.socket || this.desk.phase !== "asking") return microphone.close(); // gone meanwhile
      this.microphone = microphone;
      this.dispatch({ type: "microphone" });
    } catch (error) {
      if (socket === this.socket) this.dispatch({ type: "noMicrophone", name: error.name });
    }
  }

  dropMicrophone() {
    this.microphone?.close();
    this.microphone = null;
  }

  send({ message }) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  // What comes.

  async receive(message) {
    if (message.type === "listening") {
      const { socket } = this;
      const isReady = await this.putOn(message.sample_rate);
      if (socket !== this.socket) return;
      if (!isReady) return this.dispatch({ type: "noSound" });
    }
    if (message.type === "handed_back" && !message.message) this.told.handedBack(this.desk.callId);
    this.dispatch(message);
  }

  /** @returns {Promise<boolean>} false where the browser plays nothing here */
  async putOn(rate) {
    const { socket } = this;
    try {
      const headphones = await Headphones.open(this.context, rate, (report) => this.told.buffer(report));
      if (socket !== this.socket) headphones.close();
      else [this.headphones, this.rate] = [headphones, rate];
      return true;
    } catch {
      return false;
    }
  }

  hear(data) {
    if (!hears(this.desk)) return;
    const first = new DataView(data).getUint32(0, true);
    const pairs = data.slice(HEADER_BYTES);
    this.told.sound({ first, pairs, rate: this.rate });
    this.headphones?.play(pairs); // gives it away
  }

  speak(pcm) {
    if (speaks(this.desk) && this.socket?.bufferedAmount < UNSENT_BYTES) this.socket.send(pcm);
  }
}
