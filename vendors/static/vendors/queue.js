import { part, setAttribute, setLink, setText } from "../jobs/dom.js";
import { liveList } from "../jobs/live_list.js";
import { showBadge, showRowBar } from "../jobs/status.js";
import { between, formatDuration, showAge, stopTicking, tick, until } from "../jobs/times.js";

liveList({ name: "items", draw });

function draw(element, item) {
  const link = part(element, "link");
  const name = item.product_name || item.product_url;
  setText(link, name);
  setLink(link, item.url);
  setText(part(element, "quantity"), `× ${item.quantity}`);
  setText(part(element, "variant"), describeVariant(item.variant));
  setLink(part(element, "shop"), item.product_url);
  setText(part(element, "vendor"), item.vendor_name);
  showBadge(part(element, "status"), item.status);
  showRowBar(element, item.status === "processing", {
    percent: item.progress,
    status: item.status,
    name: `Progress of ${name}`,
  });
  drawNote(part(element, "note"), item);
  setText(part(element, "account"), item.account_email ?? "");
  setAttribute(part(element, "account"), "title", item.account_email ?? "");
  setText(part(element, "attempts"), item.attempts ? `${item.attempts} of ${item.max_attempts}` : "");
  showAge(part(element, "age"), item.created_at);
  setText(part(element, "took"), describeTimeToCart(item));
}

function describeVariant(variant) {
  if (!variant) return "";
  return typeof variant === "string" ? variant : Object.values(variant).join(", ");
}

/** What is going on, or what went wrong. */
function drawNote(note, item) {
  if (item.status === "pending" && item.due_at) {
    tick(note, () => `${item.error_message ?? item.phase} · in ${formatDuration(until(item.due_at))}`);
    return;
  }
  stopTicking(note);
  setText(note, item.status === "processing" ? item.phase : (item.error_message ?? ""));
}

function describeTimeToCart(item) {
  if (!item.completed_at) return "";
  const time = between(item.created_at, item.completed_at);
  return `took ${formatDuration(time, { exact: true })}`;
}
