/**
 * The stream of events of all calls: a socket that is opened again when it is lost, and not when its token is over. What
 * comes is handed on line by line; the page draws when the next picture is due.
 */

import { TOKEN_EXPIRED } from "./control_plane.js";

const RETRY_MS = [500, 1000, 2000, 4000, 8000];

export class EventStream {
  /**
   * @param {import("./control_plane.js").ControlPlane} control
   * @param {{lines(lines), state(state)}} told  state: "connecting", "watching", "lost", "expired"
   */
  constructor(control, told) {
    this.control = control;
    this.told = told;
    this.socket = null;
    this.tries = 0;
    this.timer = null;
  }

  /** Begin, or begin again as somebody else. @param {{raw: boolean}} options raw: without redaction */
  open({ raw }) {
    this.close();
    this.raw = raw;
    this.connect();
  }

  connect() {
    this.timer = null;
    this.told.state(this.tries === 0 ? "connecting" : "lost");
    const socket = this.control.socket("v1/monitor", this.raw ? { raw: "1" } : {});
    this.socket = socket;
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return;
      if (this.tries !== 0 || !this.watching) this.told.state("watching");
      [this.tries, this.watching] = [0, true];
      this.told.lines(data.split("\n").map((line) => JSON.parse(line)));
    };
    socket.onclose = ({ code }) => {
      if (socket !== this.socket) return;
      this.watching = false;
      if (code === TOKEN_EXPIRED) return this.told.state("expired");
      this.told.state("lost");
      this.timer = setTimeout(() => this.connect(), RETRY_MS[Math.min(this.tries++, RETRY_MS.length - 1)]);
    };
  }

  /** The network is back: why wait? */
  retryNow() {
    if (this.timer === null) return;
    clearTimeout(this.timer);
    this.connect();
  }

  close() {
    clearTimeout(this.timer);
    const { socket } = this;
    this.socket = this.timer = null;
    this.tries = 0;
    this.watching = false;
    socket?.close(1000);
  }
}
