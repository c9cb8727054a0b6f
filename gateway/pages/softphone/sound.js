/**
 * Microphone and loudspeaker, through the two worklets. The audio thread paces the call: timers of a page in the
 * background are slowed down, its sound is not.
 */

const SPEECH = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
const KEY_HZ = { columns: [1209, 1336, 1477], rows: [697, 770, 852, 941] }; // ITU-T Q.23
const KEYS = ["123", "456", "789", "*0#"];
const KEY_S = 0.12;
const KEY_GAIN = 0.06;

export class Sound {
  /**
   * Ask for the microphone and start. Called from a click: browsers let sound begin in no other way.
   *
   * @param {number} rate of the call, in Hz
   * @param {object} told {frame({pcm, db}), playing({db, queuedMs, gaps}), reached(names), lost()}
   * @throws {DOMException} the browser's own, by whose name endings.js has the words; or Error("noSound")
   */
  static async open(rate, told) {
    if (typeof AudioWorkletNode === "undefined") throw Object.assign(new Error(), { name: "noSound" });
    const context = new AudioContext({ latencyHint: "interactive" });
    try {
      const here = (file) => new URL(file, import.meta.url).href;
      const [microphone] = await Promise.all([
        navigator.mediaDevices.getUserMedia({ audio: SPEECH }),
        context.audioWorklet.addModule(here("../shared/microphone.worklet.js")),
        context.audioWorklet.addModule(here("loudspeaker.worklet.js")),
        context.resume(),
      ]);
      return new Sound(context, microphone, rate, told);
    } catch (error) {
      await context.close();
      throw error;
    }
  }

  constructor(context, microphone, rate, told) {
    this.context = context;
    this.track = microphone.getAudioTracks()[0];
    this.track.onended = () => told.lost();
    const options = { processorOptions: { rate }, outputChannelCount: [1] };
    this.input = new AudioWorkletNode(context, "microphone", options);
    this.input.port.onmessage = ({ data }) => told.frame(data);
    this.output = new AudioWorkletNode(context, "loudspeaker", { ...options, numberOfInputs: 0 });
    this.output.port.onmessage = ({ data }) => (data.reached ? told.reached(data.reached) : told.playing(data));
    // Of the microphone nothing is heard; it is connected because browsers only run what leads to the loudspeaker.
    context.createMediaStreamSource(microphone).connect(this.input).connect(context.destination);
    this.output.connect(context.destination);
  }

  /** @param {ArrayBuffer} pcm 16-bit samples at the call's rate; given away */
  play(pcm) {
    this.output.port.postMessage({ pcm }, [pcm]);
  }

  /** `reached` is told when all that was given to `play` before has been heard. */
  mark(name) {
    this.output.port.postMessage({ mark: name });
  }

  /** Fall silent now, and forget what was to be played. */
  clear() {
    this.output.port.postMessage({ clear: true });
  }

  /** Frames go on, silent ones: the gateway counts time by them. */
  mute(muted) {
    this.track.enabled = !muted;
  }

  /** The tone of a key, for the ear of whoever pressed it: the gateway is told in words. */
  beep(key) {
    const row = KEYS.findIndex((keys) => keys.includes(key));
    const volume = new GainNode(this.context, { gain: KEY_GAIN });
    volume.connect(this.context.destination);
    for (const frequency of [KEY_HZ.rows[row], KEY_HZ.columns[KEYS[row].indexOf(key)]]) {
      const tone = new OscillatorNode(this.context, { frequency });
      tone.connect(volume);
      tone.start();
      tone.stop(this.context.currentTime + KEY_S);
    }
  }

  close() {
    this.track.onended = null;
    this.track.stop();
    this.input.port.postMessage("stop");
    this.output.port.postMessage({ stop: true });
    return this.context.close();
  }
}
