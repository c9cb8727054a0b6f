/** A supervisor's headphones and microphone: both sides of a call in, the supervisor's voice out. */

const SPEECH = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
const here = (file) => new URL(file, import.meta.url).href;

export class Headphones {
  /** @param {AudioContext} context  @param {number} rate of the call, in Hz  @param {(report) => void} told */
  static async open(context, rate, told) {
    await context.audioWorklet.addModule(here("listener.worklet.js"));
    return new Headphones(context, rate, told);
  }

  constructor(context, rate, told) {
    const options = { processorOptions: { rate }, numberOfInputs: 0, outputChannelCount: [2] };
    this.output = new AudioWorkletNode(context, "listener", options);
    this.output.port.onmessage = ({ data }) => told(data);
    this.output.connect(context.destination);
  }

  /** @param {ArrayBuffer} pcm 16-bit pairs; given away */
  play(pcm) {
    this.output.port.postMessage({ pcm }, [pcm]);
  }

  /** Whoever speaks in the bot's place must not hear themselves. */
  muteBot(mute) {
    this.output.port.postMessage({ mute });
  }

  close() {
    this.output.port.postMessage({ stop: true });
    this.output.disconnect();
  }
}

export class Microphone {
  /**
   * @param {(pcm: ArrayBuffer) => void} spoken every 20 ms, at the call's rate
   * @throws {DOMException} the browser's own; or an Error named "insecure"
   */
  static async open(context, rate, spoken) {
    if (!window.isSecureContext) throw Object.assign(new Error(), { name: "insecure" });
    const [stream] = await Promise.all([
      navigator.mediaDevices.getUserMedia({ audio: SPEECH }),
      context.audioWorklet.addModule(here("../shared/microphone.worklet.js")),
    ]);
    return new Microphone(context, stream, rate, spoken);
  }

  constructor(context, stream, rate, spoken) {
    this.stream = stream;
    const options = { processorOptions: { rate }, outputChannelCount: [1] };
    this.input = new AudioWorkletNode(context, "microphone", options);
    this.input.port.onmessage = ({ data }) => spoken(data.pcm);
    // Nothing of it is heard here; it is connected because browsers only run what leads to the loudspeaker.
    this.source = context.createMediaStreamSource(stream);
    this.source.connect(this.input).connect(context.destination);
  }

  close() {
    this.input.port.postMessage("stop");
    this.source.disconnect();
    this.input.disconnect();
    for (const track of this.stream.getTracks()) track.stop();
  }
}
