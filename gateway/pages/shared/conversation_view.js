/** The conversation as a list, changed where it changed: lines stay the elements they are. */

import { lasting, meant, readable } from "./words.js";

const TAGS = {
  joined: "goes on below",
  withdrawn: "taken back",
  held: "stopped for the caller",
  cut: "interrupted",
  hearing: "still listening",
  ignored: "no answer to it",
};

export class ConversationView {
  /** @param {HTMLOListElement} list  @param {Record<"bot"|"caller", string>} names of the two sides */
  constructor(list, names) {
    this.list = list;
    this.names = names;
    this.shown = new Map(); // id -> {line, item}
    this.seek = null;
    this.pointed = null; // id
  }

  /**
   * @param {{lines: object[]}} story
   * @param {((ms: number) => void)|null} seek  in a recording: go to where a line begins; lines then have a button for it
   */
  show({ lines }, seek = null) {
    this.seek = seek;
    const atEnd = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 40;
    const wanted = new Set(lines.map((line) => line.id));
    for (const [id, { item }] of this.shown) {
      if (!wanted.has(id)) {
        item.remove();
        this.shown.delete(id);
      }
    }
    let before = null;
    for (const line of lines) {
      const item = this.showLine(line);
      const place = before ? before.nextSibling : this.list.firstChild;
      if (place !== item) this.list.insertBefore(item, place);
      before = item;
    }
    if (atEnd) this.list.scrollTop = this.list.scrollHeight;
  }

  showLine(line) {
    const known = this.shown.get(line.id);
    if (known?.line === line) return known.item;
    const item = known?.item ?? document.createElement("li");
    item.className = "line";
    item.dataset.side = line.side;
    item.dataset.state = line.state;
    if (line.side === "note") item.replaceChildren(line.text);
    else item.replaceChildren(this.who(line), words(line), about(line));
    this.shown.set(line.id, { line, item });
    return item;
  }

  who(line) {
    const box = part("span", "who", line.by ?? this.names[line.side]);
    if (this.seek === null || line.at === null) return box;
    const button = part("button", "seek figure", lasting(line.at / 1000));
    button.type = "button";
    button.title = "Play from here";
    button.ariaLabel = `Play from ${lasting(line.at / 1000)}`;
    button.onclick = () => this.seek?.(line.at);
    box.append(" ", button);
    return box;
  }

  /** Mark the line that is being played, and keep it in sight. @param {number|null} id */
  point(id) {
    if (id === this.pointed) return;
    this.shown.get(this.pointed)?.item.removeAttribute("aria-current");
    this.pointed = id;
    const item = this.shown.get(id)?.item;
    if (item === undefined) return;
    item.ariaCurrent = "true";
    const { list } = this;
    const above = item.offsetTop - list.offsetTop - list.scrollTop;
    if (above < 0 || above + item.offsetHeight > list.clientHeight) list.scrollTop += above - list.clientHeight / 3;
  }
}

function words(line) {
  const taken = line.state === "joined" || line.state === "withdrawn";
  return part(taken ? "s" : "span", "words", line.text);
}

function about(line) {
  const facts = [];
  if (line.intent) facts.push(`${meant(line.intent)} ${Math.round(line.score * 100)} %`);
  for (const { name, value } of line.slots ?? []) facts.push(`${readable(name)}: ${value}`);
  if (TAGS[line.state]) facts.push(TAGS[line.state]);
  const box = part("span", "about", "");
  box.append(...facts.map((fact) => part("span", "", fact)));
  return box;
}

function part(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}
