"use strict";
const { metrics, families, groups } = JSON.parse(document.getElementById("content").textContent);
const by = (id) => document.getElementById(id);
const lengthsOf = (rows, metric) =>
  [...new Set(rows.flatMap((r) => Object.keys(r.values[metric] ?? {}).map(Number)))].sort((a, b) => a - b);
const rows = groups.flatMap((group) => group.rows.map((row) => ({ ...row, group })));
let sorting = { key: null, down: true };

const make = (tag, text, name) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
};

function fill(id, options, all) {
  const select = by(id), before = select.value;
  const items = [...(all ? [["", all]] : []), ...options];
  select.replaceChildren(...items.map(([value, text]) => {
    const option = make("option", text);
    option.value = value;
    return option;
  }));
  if (items.some(([value]) => value === before)) select.value = before;
}

const plain = (values) => [...new Set(values)].map((value) => [value, value]);
const inTask = () => groups.filter((g) => !by("task").value || g.task === by("task").value);
const number = (value, metric) => value.toFixed(metrics[metric].unit.startsWith("share") ? 3 : 1);

function choices() {
  fill("data", plain(inTask().map((g) => g.data)), "all");
  const here = rows.filter((r) => shownGroup(r.group));
  fill("family", plain(here.map((r) => r.family)).sort(), "all");
  const used = Object.keys(metrics).filter((m) => here.some((r) => r.values[m]));
  fill("metric", used.map((m) => [m, metrics[m].label]));
  fill("bits", lengthsOf(here, by("metric").value).map((b) => [String(b), String(b)]), "all");
}

const shownGroup = (g) =>
  (!by("task").value || g.task === by("task").value) && (!by("data").value || g.data === by("data").value);

function shown() {
  const text = by("text").value.toLowerCase(), metric = by("metric").value;
  return rows.filter((r) =>
    shownGroup(r.group) && r.values[metric] &&
    (!by("family").value || r.family === by("family").value) &&
    (!by("bits").value || r.values[metric][by("bits").value]) &&
    r.label.toLowerCase().includes(text));
}

function valueOf(row, key) {
  if (typeof key === "number") return row.values[by("metric").value][key]?.[0];
  return { method: row.label, family: row.family, task: row.group.task, data: row.group.data }[key];
}

function compare(a, b) {
  const x = valueOf(a, sorting.key), y = valueOf(b, sorting.key);
  if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
  const order = typeof x === "number" ? x - y : x.localeCompare(y);
  return sorting.down ? -order : order;
}

function draw() {
  const metric = by("metric").value, found = shown();
  const lengths = by("bits").value ? [Number(by("bits").value)] : lengthsOf(found, metric);
  if (typeof sorting.key === "number" ? !lengths.includes(sorting.key) : !sorting.key)
    sorting = { key: lengths[0] ?? "method", down: metrics[metric]?.better !== "down" };
  found.sort(compare);
  const columns = [["method", "method"], ["family", "family"], ...lengths.map((b) => [b, `${b} bits`])];
  if (!by("task").value) columns.push(["task", "task"]);
  if (!by("data").value) columns.push(["data", "data set"]);
  const head = make("tr");
  for (const [key, title] of columns) {
    const cell = make("th"), button = make("button", title);
    if (key === sorting.key) cell.setAttribute("aria-sort", sorting.down ? "descending" : "ascending");
    button.type = "button";
    button.addEventListener("click", () => {
      const first = typeof key === "number" && metrics[metric].better !== "down";
      sorting = { key, down: key === sorting.key ? !sorting.down : first };
      draw();
    });
    cell.append(button);
    head.append(cell);
  }
  by("board").tHead.replaceChildren(head);
  by("board").tBodies[0].replaceChildren(...found.map((row) => line(row, columns, metric)));
  const tables = new Set(found.map((r) => r.group)).size;
  const mixed = tables > 1 ? " Values of different tables are not comparable; ranks are within one." : "";
  const places = tables > 1 ? `${tables} tables` : `${found[0]?.group.task ?? "no table"}, ${found[0]?.group.data ?? ""}`;
  by("about").textContent = `${found.length} rows of ${places}.${mixed}`;
}

function line(row, columns, metric) {
  const tr = make("tr", undefined, row.reference ? "reference" : "");
  for (const [key] of columns) {
    const td = make("td");
    if (typeof key === "number") td.append(...cell(row, key, metric));
    else td.textContent = key === "method" && row.edge ? `${row.label} †` : valueOf(row, key);
    if (key === "family") td.title = families[row.family] ?? "";
    tr.append(td);
  }
  return tr;
}

function cell(row, bits, metric) {
  const own = row.values[metric][bits];
  if (!own) return ["–"];
  const [mean, spread] = own, rank = row.ranks[bits], button = make("button");
  button.type = "button";
  button.title = commandOf(row, bits);
  button.append(make("span", number(mean, metric), rank === 1 ? "best" : ""));
  if (spread !== null) button.append(make("small", ` ± ${number(spread, metric)}`));
  if (rank) button.append(make("small", ` (${rank})`));
  button.addEventListener("click", () => tell(row, bits, metric));
  return [button];
}

const commandOf = (row, bits) => `${row.group.command} --methods ${row.entry} --bits ${bits}`;

function tell(row, bits, metric) {
  const [mean, spread, seeds] = row.values[metric][bits];
  const more = spread === null ? "" : ` ± ${number(spread, metric)}`;
  by("what").textContent =
    `${row.label} on ${row.group.data}, ${bits} bits: ${metrics[metric].label} ${number(mean, metric)}${more} ` +
    `over ${seeds} seeds; an item takes ${row.stored[bits]} bits.`;
  by("command").textContent = commandOf(row, bits);
  by("copy").textContent = "Copy";
  by("detail").hidden = false;
}

by("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(by("command").textContent);
    by("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(by("command"));
    by("copy").textContent = "Selected: press Ctrl-C";
  }
});
by("close").addEventListener("click", () => { by("detail").hidden = true; });
by("filters").addEventListener("submit", (event) => event.preventDefault());
by("filters").addEventListener("input", (event) => {
  if (event.target.id !== "text") choices();
  draw();
});

fill("task", plain(groups.map((g) => g.task)), "all");
by("task").value = groups[0]?.task ?? "";
choices();
by("data").value = groups[0]?.data ?? "";
choices();
draw();
