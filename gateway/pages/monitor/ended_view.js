/** The calls that ended, newest first: a row for each that leads to what is kept of it. */

import { lasting, readable } from "../shared/words.js";
import { hide, made, say } from "./elements.js";
import { chosen, isKept } from "./outcomes.js";
import { ended } from "./told.js";

const MOST_SHOWN = 100;
const SAME_DAY = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const OTHER_DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

export class EndedView {
  /** @param {(id: string) => HTMLElement} find  @param {() => object|null} recording what this gateway records */
  constructor(find, recording) {
    this.find = find;
    this.recording = recording;
    this.rows = new Map(); // call id -> row, so that the focus stays where it is
  }

  /** @param {object[]} records of `GET /v1/outcomes`, newest first  @param {number} time now, in seconds since the epoch */
  show(records, time) {
    const { find } = this;
    const kept = (record) => isKept(record, this.recording(), time);
    const wanted = { query: find("ended-query").value, recorded: find("ended-recorded").ariaPressed === "true" };
    const found = chosen(records, wanted, kept);
    const some = found.slice(0, MOST_SHOWN);
    say(find("ended-counted"), found.length === records.length ? `${found.length}` : `${found.length} of ${records.length}`);
    hide(find("ended-scroller"), some.length === 0);
    hide(find("ended-none"), some.length > 0 && some.length === found.length);
    say(find("ended-none"), some.length ? `The newest ${MOST_SHOWN}; search to find others.` : none(records));
    const rows = new Map(some.map((record) => [record.call_id, this.rows.get(record.call_id) ?? row(record, kept(record), time)]));
    for (const [id, element] of this.rows) if (!rows.has(id)) element.remove();
    let at = find("ended-rows").firstChild;
    for (const element of rows.values()) {
      if (element === at) at = at.nextSibling;
      else find("ended-rows").insertBefore(element, at);
    }
    this.rows = rows;
  }
}

const none = (records) => (records.length ? "No call is as you ask for." : "No call has ended yet.");

function row(record, recorded, time) {
  const line = made("tr");
  const name = line.appendChild(made("th"));
  name.scope = "row";
  const link = name.appendChild(made("a", "", record.call_id));
  link.href = `#${encodeURIComponent(record.call_id)}`;
  const figure = (value) => made("td", "figure", String(value ?? "–"));
  const place = made("td", "words", record.bot);
  if (record.node) place.append(made("small", "", record.node));
  line.append(
    made("td", "words figure", when(record.ended_at, time)),
    made("td", "words", record.disposition ? readable(record.disposition) : ended(record.ended_by)),
    made("td", "words", recorded ? "kept" : "–"),
    place,
    figure(record.duration_s === null ? null : lasting(record.duration_s)),
    figure(record.turns),
    figure(record.no_match),
    figure(record.no_input),
  );
  return line;
}

function when(at, time) {
  const date = new Date(1000 * at);
  const isToday = date.toDateString() === new Date(1000 * time).toDateString();
  return (isToday ? SAME_DAY : OTHER_DAY).format(date);
}
