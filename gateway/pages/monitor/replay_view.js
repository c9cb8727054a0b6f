/**
 * The recording of a call that is over: its whole length as a slider, half a minute of it around the place that is played
 * as the strip of a live call has it, the words at that place, and what one can do with it.
 *
 * Keys on the slider: arrows a second, Page ten, Home, End, space to play. While it plays nothing is read out, since the
 * sound is heard; a place that is sought is, with its words.
 */

import { lasting } from "../shared/words.js";
import { hide, say } from "./elements.js";
import { days } from "./kept.js";
import { drawStrip, placeOf, positionAt } from "./strip.js";
import { SHOWN_MS } from "./timeline_view.js";

const STEPS_MS = { ArrowRight: 1000, ArrowUp: 1000, ArrowLeft: -1000, ArrowDown: -1000, PageUp: 10_000, PageDown: -10_000 };
const BESIDE_MS = 20;
const NAMES = { caller: "Caller", bot: "Bot", note: "" };
const AROUND = "Half a minute around the place that is played: the caller above, the bot below";
const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "long" });
const LARGE_BYTES = 2_000_000;

export class ReplayView {
  /**
   * @param {(id: string) => HTMLElement} find
   * @param {import("./after.js").AfterCall} after
   * @param {import("../shared/conversation_view.js").ConversationView} story
   */
  constructor(find, after, story) {
    this.find = find;
    this.after = after;
    this.story = story;
    this.audio = find("sound");
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.ofLive = find("timeline").ariaLabel;
    this.shown = null; // the sound in the player
    this.drawn = { look: "", position: -1 }; // what the pictures were drawn for
    this.line = null; // at the place that is played
    find("open-recording").onclick = () => after.open();
    find("part").oninput = () => after.choose(Number(find("part").value));
    find("play").onclick = () => this.toggle();
    find("speed").oninput = () => (this.audio.playbackRate = Number(find("speed").value));
    const slider = find("overview");
    slider.onkeydown = (event) => this.press(event);
    slider.onpointerdown = (event) => {
      slider.setPointerCapture(event.pointerId);
      this.seekOn(find("whole"), event, this.all);
    };
    slider.onpointermove = (event) => {
      if (slider.hasPointerCapture(event.pointerId)) this.seekOn(find("whole"), event, this.all);
    };
    find("timeline").addEventListener("click", (event) => {
      if (this.shown) this.seekOn(find("timeline"), event, this.near);
    });
    for (const type of ["play", "pause", "ended", "seeked"]) this.audio.addEventListener(type, () => this.showState());
    this.audio.addEventListener("error", () => this.refuse());
  }

  /** The sound is the player's for as long as its call is shown. */
  get isOpen() {
    return this.shown !== null;
  }

  /** It is not known yet whether anything is kept. */
  get isLooking() {
    return this.after.phase === "idle" || this.after.phase === "asking";
  }

  get position() {
    return Math.min(this.audio.currentTime * 1000, this.shown.durationMs);
  }

  /** All of it. */
  get all() {
    return { from: 0, until: this.shown.durationMs };
  }

  /** Half a minute, with the place that is played in the middle. */
  get near() {
    const { durationMs } = this.shown;
    const from = Math.max(0, Math.min(this.position - SHOWN_MS / 2, durationMs - SHOWN_MS));
    return { from, until: Math.min(durationMs, from + SHOWN_MS) };
  }

  /** What is kept, and what can be done. @param {boolean} isOver the call that is shown is over */
  show(isOver) {
    const { after, find } = this;
    hide(find("after"), !isOver);
    if (!isOver) return;
    say(find("after-words"), this.words());
    hide(find("after-problem"), after.problem === "" || after.phase === "failed");
    say(find("after-problem"), after.problem);
    hide(find("open-recording"), after.phase !== "kept");
    hide(find("player"), this.shown === null);
    this.showParts();
  }

  words() {
    const { after } = this;
    const { done, all } = after.fetched;
    const recording = after.recordings[after.chosen];
    switch (after.phase) {
      case "none":
        return after.absence();
      case "refused":
        return "If it was recorded, your token may not hear it: that needs the scope recordings.";
      case "failed":
        return after.problem;
      case "kept":
        return `Recorded, ${lasting(recording.duration_s)}. Kept until ${DATE.format(1000 * recording.expires_at)}. Who opens it is noted in the audit.`;
      case "opening":
        return all > LARGE_BYTES ? `Fetching the recording: ${10 * Math.floor((10 * done) / all)} %` : "Fetching the recording …";
      case "open":
        return `Kept until ${DATE.format(1000 * recording.expires_at)}, for ${days(after.control.setup.recording.keep_days)}. Words are redacted; the sound is not.`;
      default:
        return "Looking for what is kept of it …";
    }
  }

  /** A call that was resumed has a recording for each part. */
  showParts() {
    const { recordings, chosen } = this.after;
    const select = this.find("part");
    hide(select, recordings.length < 2);
    if (select.dataset.shown === String(recordings.length) && select.value === String(chosen)) return;
    select.dataset.shown = String(recordings.length);
    const part = (at) => new Option(`Part ${recordings.length - at} of ${recordings.length}`, String(at));
    select.replaceChildren(...recordings.map((_, at) => part(at)).reverse());
    select.value = String(chosen);
  }

  /** Another sound, or none: what played is silent at once. */
  follow() {
    const { audio, find } = this;
    const { sound } = this.after;
    if (sound === this.shown) return;
    this.shown = sound;
    this.drawn = { look: "", position: -1 };
    this.line = null;
    find("timeline").classList.toggle("sought", sound !== null);
    find("timeline").ariaLabel = sound ? AROUND : this.ofLive;
    audio.pause();
    if (sound === null) {
      audio.removeAttribute("src");
      find("download").removeAttribute("href");
      return;
    }
    audio.src = sound.url;
    audio.playbackRate = audio.defaultPlaybackRate = Number(find("speed").value);
    find("download").href = sound.url;
    find("download").download = sound.name;
    find("overview").ariaValueMax = String(Math.round(sound.durationMs / 1000));
    this.showState();
  }

  // What a person does.

  async toggle() {
    if (!this.audio.paused) return this.audio.pause();
    try {
      await this.audio.play();
    } catch (error) {
      if (error.name !== "AbortError") this.refuse();
    }
  }

  seek(ms) {
    this.audio.currentTime = Math.min(this.shown.durationMs, Math.max(0, ms)) / 1000;
    this.showState();
  }

  seekOn(canvas, event, stretch) {
    this.seek(positionAt(canvas, event.clientX - canvas.getBoundingClientRect().left, stretch));
  }

  press(event) {
    const { durationMs } = this.shown;
    const to = { Home: 0, End: durationMs }[event.key] ?? this.position + (STEPS_MS[event.key] ?? NaN);
    if (event.key === " ") this.toggle();
    else if (Number.isNaN(to)) return;
    else this.seek(to);
    event.preventDefault();
  }

  refuse() {
    if (this.shown) this.after.turn("open", "This browser does not play the recording. Download it, and play it elsewhere.");
  }

  // What is shown of it.

  /** What changes with what one does, and not with time. */
  showState() {
    if (!this.shown) return;
    const { find, position } = this;
    const line = this.lineAt(position);
    say(find("play"), this.audio.paused ? "Play" : "Pause");
    const slider = find("overview");
    slider.ariaValueNow = String(Math.round(position / 1000));
    const place = `${lasting(position / 1000)} of ${lasting(this.shown.durationMs / 1000)}`;
    slider.ariaValueText = line ? `${place}. ${spoken(line)}` : place;
  }

  /** With each picture of the screen. @param {import("./call.js").Call} call the recorded one */
  draw(call) {
    const { find, near, position } = this;
    const { levels, durationMs } = this.shown;
    const whole = find("whole");
    const look = [whole.clientWidth, devicePixelRatio, this.dark.matches].join();
    if (look === this.drawn.look && position === this.drawn.position) return;
    if (look !== this.drawn.look) drawStrip(whole, { ...this.all, marks: call.marks, levels, small: true });
    this.drawn = { look, position };
    find("head").style.transform = `translateX(${placeOf(whole, position, this.all)}px)`;
    const [left, right] = [near.from, near.until].map((at) => placeOf(whole, at, this.all));
    find("near").style.transform = `translateX(${left}px)`;
    find("near").style.width = `${right - left}px`;
    hide(find("near"), durationMs <= SHOWN_MS);
    drawStrip(find("timeline"), { ...near, marks: call.marks, levels, head: position });
    say(find("place"), `${lasting(position / 1000)} / ${lasting(durationMs / 1000)}`);
    this.showLine(position);
  }

  showLine(position) {
    const line = this.lineAt(position);
    if (line === this.line) return;
    this.line = line;
    const caption = this.find("caption");
    caption.dataset.side = line?.side ?? "";
    say(caption, line ? spoken(line) : "");
    this.story.point(line?.id ?? null);
  }

  /** What is being said at a place: the last line that has begun. A browser may seek a moment beside it. */
  lineAt(position) {
    return this.after.call.story.lines.findLast(({ at }) => at !== null && at <= position + BESIDE_MS) ?? null;
  }
}

const spoken = ({ side, text }) => (NAMES[side] ? `${NAMES[side]}: ${text}` : text);
