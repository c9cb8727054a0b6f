/**
 * The calls as a table of which only the rows in sight exist: hundreds of calls cost as much as a screenful. A row keeps
 * its call for as long as it is in sight, so that the focus stays with the call and not with the place.
 */

import { lasting, meant, readable } from "../shared/words.js";
import { hide, made, mark, say, showAlerts } from "./elements.js";
import { ended } from "./told.js";

const BEYOND = 4; // rows above and below what is seen
const COMPACT_BELOW_PX = 760;

export class ListView {
  /**
   * @param {{table: HTMLElement, rows: HTMLElement}} parts
   * @param {() => void} moved what is in sight has changed
   */
  constructor({ table, rows }, moved) {
    this.table = table;
    this.rows = rows;
    this.spacer = rows.appendChild(made("div", "spacer"));
    this.spacer.setAttribute("role", "none");
    this.shown = new Map(); // call id -> Row
    this.calls = [];
    this.height = 60;
    this.chosen = ""; // the open call, once it has been brought into sight
    this.goal = undefined; // the call whose row is to have the focus
    this.moved = moved;
    rows.addEventListener("scroll", moved, { passive: true });
    rows.addEventListener("keydown", (event) => this.step(event));
    new ResizeObserver(() => {
      if (table.clientWidth === 0) return; // a phone shows the open call alone
      mark(table, "compact", table.clientWidth < COMPACT_BELOW_PX);
      const height = parseFloat(getComputedStyle(rows).getPropertyValue("--row"));
      const isOther = height !== this.height;
      this.height = height;
      if (isOther) this.rearrange();
      else moved();
    }).observe(table);
  }

  /** @param {import("./call.js").Call[]} calls  @param {number} time now  @param {string} chosen the id of the open one */
  show(calls, time, chosen) {
    this.calls = calls;
    const { rows, height } = this;
    this.table.setAttribute("aria-rowcount", String(calls.length + 1));
    const tall = `${calls.length * height}px`;
    if (this.spacer.style.height !== tall) this.spacer.style.height = tall;
    if (chosen !== this.chosen && chosen) this.reveal(chosen);
    this.chosen = chosen;
    const from = Math.max(0, Math.floor(rows.scrollTop / height) - BEYOND);
    const to = Math.min(calls.length, Math.ceil((rows.scrollTop + rows.clientHeight) / height) + BEYOND);
    const focused = document.activeElement?.closest(".row")?.dataset.id;
    const kept = new Set();
    let before = this.spacer;
    calls.forEach((call, at) => {
      if ((at < from || at >= to) && call.id !== focused && call.id !== this.goal) return;
      kept.add(call.id);
      const row = this.shown.get(call.id) ?? new Row(call.id);
      this.shown.set(call.id, row);
      if (before.nextSibling !== row.element) before.after(row.element); // readers go by the document's order
      before = row.element;
      row.show(call, at, at * height, time, call.id === chosen);
    });
    for (const [id, row] of this.shown) {
      if (kept.has(id)) continue;
      row.element.remove();
      this.shown.delete(id);
    }
    const lost = document.activeElement === document.body ? focused : undefined; // moving an element takes its focus
    this.shown.get(this.goal ?? lost)?.link.focus({ preventScroll: true });
    this.goal = undefined;
  }

  /** The call's row is to have the focus, with the next picture. */
  focus(id) {
    this.goal = id;
    this.reveal(id);
    this.moved();
  }

  /** Other calls, or rows of another height: the open call is in sight, or else the first one. */
  rearrange() {
    this.rows.scrollTop = 0;
    this.chosen = "";
    this.moved();
  }

  /** Scroll as little as brings the call's row into sight. */
  reveal(id) {
    const at = this.calls.findIndex((call) => call.id === id);
    const { rows, height } = this;
    if (at < 0) return;
    rows.scrollTop = Math.min(at * height, Math.max(rows.scrollTop, (at + 1) * height - rows.clientHeight));
  }

  /** The arrow keys go from call to call. */
  step(event) {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity }[event.key];
    const id = event.target.closest(".row")?.dataset.id;
    if (by === undefined || id === undefined || this.calls.length === 0) return;
    event.preventDefault();
    const at = this.calls.findIndex((call) => call.id === id);
    this.focus(this.calls[Math.max(0, Math.min(this.calls.length - 1, at + by))].id);
  }
}

class Row {
  constructor(id) {
    this.call = null;
    this.version = -1;
    this.second = -1;
    this.element = made("div", "row");
    this.element.dataset.id = id;
    this.element.setAttribute("role", "row");
    this.cells = ["who", "place", "lasted", "words", "meaning", "alerts"].map((name) => {
      const cell = made("span", name);
      cell.setAttribute("role", "cell");
      return cell;
    });
    this.element.append(...this.cells);
    const [who, place, , words, meaning] = this.cells;
    this.link = who.appendChild(made("a"));
    this.link.href = `#${encodeURIComponent(id)}`;
    this.id = who.appendChild(made("small", "", id));
    this.bot = place.appendChild(made("span"));
    this.node = place.appendChild(made("small"));
    this.text = words.appendChild(made("span"));
    this.intent = meaning.appendChild(made("span"));
    this.score = meaning.appendChild(made("small", "figure"));
  }

  show(call, at, top, time, chosen) {
    const { element } = this;
    const place = `translateY(${top}px)`;
    if (element.style.transform !== place) element.style.transform = place;
    if (element.ariaRowIndex !== String(at + 2)) element.ariaRowIndex = String(at + 2);
    mark(element, "chosen", chosen);
    if (chosen !== (this.link.ariaCurrent === "true")) this.link.ariaCurrent = String(chosen);
    const second = Math.floor(call.lasts(time));
    if (second !== this.second) say(this.cells[2], lasting(second));
    this.second = second;
    if (call === this.call && call.version === this.version) return;
    [this.call, this.version] = [call, call.version];
    say(this.link, call.caller || "Unknown caller");
    say(this.bot, call.bot);
    say(this.node, call.node);
    say(this.text, call.words.text);
    mark(this.cells[3], "side", call.words.side);
    mark(this.cells[3], "partial", Boolean(call.words.partial));
    say(this.intent, call.intent ? meant(call.intent) : "");
    say(this.score, call.intent ? `${Math.round(call.score * 100)} %` : "");
    mark(this.cells[4], "oos", call.intent === "oos");
    mark(element, "speaking", call.speaking);
    mark(element, "over", call.isOver);
    const over = call.isOver ? [{ level: "over", text: call.disposition ? readable(call.disposition) : ended(call.endedBy) }] : [];
    showAlerts(this.cells[5], [...over, ...call.alerts]);
    hide(this.cells[5], over.length + call.alerts.length === 0);
  }
}
