// A live list: the rows that the page came with, then what the socket says of them.

import { connect } from "./connection.js";
import { clone, readJson, reconcile, setText } from "./dom.js";
import { setServerTime } from "./times.js";

/**
 * `name` is what messages call the rows, `draw(element, row)` fills a copy of the row template.
 *
 * On the newest page rows come and go with their status; on an older one the same rows stay, live.
 */
export function liveList({ name, draw }) {
  const list = readJson("list");
  const { status } = list;
  const area = document.getElementById("list-area");
  let rows = new Map(list.rows.map((row) => [row.id, row]));

  setServerTime(list.at);
  drawRows();
  drawStats(list.stats);
  connect(address, (message) => {
    setServerTime(message.at);
    if (message.stats) drawStats(message.stats);
    take(message[name], message.complete);
    drawRows();
  });

  function address() {
    const query = new URLSearchParams();
    if (!list.is_newest) query.set("ids", [...rows.keys()].join(","));
    else if (status) query.set("status", status);
    return `${area.dataset.socket}?${query}`;
  }

  function take(changed, isComplete) {
    if (isComplete) rows = new Map();
    for (const row of changed) {
      if (list.is_newest && status && row.status !== status) rows.delete(row.id);
      else rows.set(row.id, row);
    }
  }

  function drawRows() {
    // UUIDv7: the newest id is the greatest.
    const shown = [...rows.values()].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, list.page_size);
    rows = new Map(shown.map((row) => [row.id, row]));
    reconcile(document.getElementById("rows"), shown, (row) => row.id, () => clone("row"), draw);
    document.querySelector(".rows").hidden = shown.length === 0;
    document.getElementById("empty").hidden = shown.length > 0;
  }

  function drawStats(stats) {
    for (const element of document.querySelectorAll("[data-stat]")) {
      const count = stats[element.dataset.stat] ?? 0;
      setText(element, count < list.most_counted ? String(count) : `${list.most_counted - 1}+`);
    }
  }
}

for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copies).textContent);
    button.textContent = "Copied";
  });
}
