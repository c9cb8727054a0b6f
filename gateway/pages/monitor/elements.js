/** Elements of the page, changed only where they change: what is written again is read out and laid out again. */

/** @returns {HTMLElement} a new element with this class and text */
export function made(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== "") element.textContent = text;
  return element;
}

export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function mark(element, name, value) {
  if (element.dataset[name] !== String(value)) element.dataset[name] = value;
}

export function hide(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

/** Alerts as chips. @param {{level: string, text: string}[]} alerts */
export function showAlerts(box, alerts) {
  const wanted = alerts.map(({ level, text }) => `${level} ${text}`).join("|");
  if (box.dataset.shown === wanted) return;
  box.dataset.shown = wanted;
  box.replaceChildren(
    ...alerts.map(({ level, text }) => {
      const chip = made("span", "alert", text);
      chip.dataset.level = level;
      return chip;
    }),
  );
}

/** A list of names and values; those that `isFresh` says are lit up once. @param {[string, string, boolean?][]} pairs */
export function showFacts(list, pairs) {
  const wanted = JSON.stringify(pairs);
  if (list.dataset.shown === wanted) return;
  list.dataset.shown = wanted;
  list.replaceChildren(
    ...pairs.map(([name, value, isFresh]) => {
      const row = made("div");
      row.append(made("dt", "", name), made("dd", isFresh ? "fresh" : "", value));
      return row;
    }),
  );
}

/** A figure with its name. @param {{name: string, value: string, note?: string, bad?: boolean}[]} tiles */
export function showTiles(list, tiles) {
  const wanted = JSON.stringify(tiles);
  if (list.dataset.shown === wanted) return;
  list.dataset.shown = wanted;
  list.replaceChildren(
    ...tiles.map(({ name, value, note = "", bad = false }) => {
      const tile = made("div", "tile");
      const figure = made("dd", "figure", value);
      figure.dataset.late = bad;
      tile.append(made("dt", "", name), figure);
      if (note) tile.append(made("dd", "note", note));
      return tile;
    }),
  );
}

/**
 * Cards with a table each.
 *
 * @param {{title: string, columns: string[], rows: (string|number)[][], empty: string}[]} tables  first column: names
 */
export function showTables(box, tables) {
  const wanted = JSON.stringify(tables);
  if (box.dataset.shown === wanted) return;
  box.dataset.shown = wanted;
  box.replaceChildren(...tables.map(card));
}

function card({ title, columns, rows, empty }) {
  const section = made("section", "card pad");
  section.append(made("h3", "heading", title));
  section.setAttribute("aria-label", title);
  if (rows.length === 0) {
    section.append(made("p", "hint", empty));
    return section;
  }
  const scroller = made("div", "scroller");
  scroller.tabIndex = 0;
  scroller.setAttribute("role", "group");
  scroller.setAttribute("aria-label", title);
  const table = scroller.appendChild(made("table", "figures"));
  const head = table.createTHead().insertRow();
  for (const name of columns) {
    const cell = made("th", "", name);
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const [name, ...values] of rows) {
    const row = body.insertRow();
    const first = made("th", "", name);
    first.scope = "row";
    row.append(first, ...values.map((value) => made("td", "figure", String(value))));
  }
  section.append(scroller);
  return section;
}
