// The list of purchases.

import { part, setLink, setText } from "../jobs/dom.js";
import { liveList } from "../jobs/live_list.js";
import { showRowBar } from "../jobs/status.js";
import { between, formatDuration, showAge } from "../jobs/times.js";
import { hasEnded, likeJob, showStatus } from "./purchase_status.js";

liveList({ name: "purchases", draw });

function draw(element, purchase) {
  const link = part(element, "link");
  setText(link, purchase.title);
  setLink(link, purchase.url);
  setText(part(element, "total"), purchase.total);
  showStatus(part(element, "status"), purchase.status);
  showRowBar(element, !hasEnded(purchase.status), {
    percent: purchase.progress,
    status: likeJob(purchase.status),
    name: `Progress of ${purchase.title}`,
  });
  const doing = hasEnded(purchase.status) ? (purchase.error_message ?? "") : purchase.phase;
  setText(part(element, "note"), doing);
  setText(part(element, "card"), purchase.card);
  setText(part(element, "done"), `${purchase.completed_transactions} of ${purchase.qty}`);
  setText(part(element, "by"), purchase.started_by);
  showAge(part(element, "age"), purchase.created_at);
  const took = purchase.completed_at && between(purchase.created_at, purchase.completed_at);
  setText(part(element, "took"), took ? `took ${formatDuration(took, { exact: true })}` : "");
}
