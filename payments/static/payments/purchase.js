// The page of a purchase. The socket sends all of it anew whenever anything has changed.

import { connect } from "../jobs/connection.js";
import { clone, part, readJson, reconcile, setAttribute, setText } from "../jobs/dom.js";
import { ask, askToCancel, askToRunAgain } from "../jobs/job_control.js";
import { post, postFor } from "../jobs/post.js";
import { showBar, showMark } from "../jobs/status.js";
import {
  between,
  formatDuration,
  formatFully,
  formatMoment,
  setServerTime,
  since,
  stopTicking,
  tick,
  until,
} from "../jobs/times.js";
import { formatMoney } from "./money.js";
import { hasEnded, showStatus } from "./purchase_status.js";

const SHOWN_SECONDS = 60; // a revealed code; then it is hidden again
const head = document.getElementById("purchase");
const title = head.querySelector(".job-title").textContent.trim().replace(/\s+/g, " ");
const revealed = new Map(); // voucher -> its code and PIN, for as long as they are shown

let run = readJson("run");

function draw() {
  drawHead();
  drawTrouble();
  drawAsks();
  drawMoney();
  drawSteps(document.getElementById("validation"), stepsOf(null, "validation"));
  drawTransactions();
}

function money(amount) {
  return formatMoney(amount, run.metadata.currency);
}

function stepsOf(index, type = null) {
  return run.job_steps.filter(
    (step) => step.transaction_index === index && (!type || step.step_type === type),
  );
}

// ---- the head ----

function drawHead() {
  showStatus(part(head, "status"), run.status);
  const percent = run.progress_percentage;
  showBar(part(head, "bar"), {
    percent,
    status: part(head, "status").dataset.status,
    name: "Progress of the purchase",
  });
  setText(part(head, "percent"), `${percent} %`);
  setText(part(head, "message"), run.message);
  showMoment(part(head, "created"), run.created_at);
  drawTime(part(head, "time"));
  part(head, "cancel").hidden = hasEnded(run.status) && run.status !== "manual";
  const again = part(head, "again");
  const isOver = ["failed", "manual", "cancelled"].includes(run.status);
  again.hidden = !isOver || again.hasAttribute("data-not-allowed");
  document.title = `${hasEnded(run.status) ? part(head, "status").textContent : `${percent} %`} · ${title}`;
}

function drawTime(time) {
  if (run.completed_at) {
    stopTicking(time);
    const took = between(run.created_at, run.completed_at);
    return setText(time, `Took ${formatDuration(took, { exact: true })}`);
  }
  tick(time, () => `Running for ${formatDuration(since(run.created_at))}`);
}

function showMoment(element, iso) {
  setText(element, formatMoment(iso));
  setAttribute(element, "datetime", iso);
  setAttribute(element, "title", formatFully(iso));
}

const HEADINGS = {
  manual: ["orange", "front_hand", "A person has to take over"],
  failed: ["red", "error", "This did not work"],
  cancelled: ["gray", "do_not_disturb_on", "This was cancelled"],
};

function drawTrouble() {
  const box = document.getElementById("trouble");
  const words = HEADINGS[run.status];
  box.hidden = !words || !run.error_message;
  if (box.hidden) return;
  const [tone, symbol, heading] = words;
  setAttribute(box, "data-tone", tone);
  setText(part(box, "symbol"), symbol);
  setText(part(box, "heading"), heading);
  setText(part(box, "message"), run.error_message);
  setText(part(box, "advice"), run.advice);
  setText(part(box, "code"), run.metadata.error_code);
}

// ---- what is asked of the reader ----

const CODES = {
  gyftr_login: () => "The code to sign in at the voucher portal",
  amazon_login: () => "The code to sign in at the redeeming shop",
  payment: (step) => `The bank's code for transaction ${step?.transaction_index ?? ""}`,
};

function drawAsks() {
  const steps = new Map(run.job_steps.map((step) => [step.id, step]));
  const codes = run.otp_requests
    .filter((code) => code.status === "requested" && steps.get(code.job_step_id)?.status === "waiting_otp")
    .map((code) => ({ kind: "code", id: code.id, code, step: steps.get(code.job_step_id) }));
  const choices = run.job_steps.flatMap((step) =>
    step.step_data.waits
      .filter((wait) => wait.kind === "approval")
      .map((wait) => ({ kind: "choice", id: wait.id, wait, step })),
  );
  const cvv = run.waiting_for_cvv ? [{ kind: "cvv", id: "cvv" }] : [];
  const asks = [...cvv, ...codes, ...choices];
  document.getElementById("asks").hidden = asks.length === 0;
  reconcile(
    document.getElementById("asks"),
    asks,
    (each) => `${each.kind}-${each.id}`,
    (each) => clone(`ask-${each.kind}`),
    (element, each) => DRAW[each.kind](element, each),
  );
}

const DRAW = { code: drawCode, choice: drawChoice, cvv: drawCvv };

function drawCode(element, { code, step }) {
  setText(part(element, "heading"), (CODES[code.otp_type] ?? (() => "A one-time password"))(step));
  const from = `${code.service} sends it${code.phone_number ? ` to ${code.phone_number}` : ""}.`;
  const tries = code.attempts_count
    ? ` Try ${code.attempts_count + 1} of ${code.max_attempts}: the one before was refused.`
    : " It is used by itself when the phone forwards it; or type it here.";
  setText(part(element, "words"), from + tries);
  tick(part(element, "deadline"), () => {
    const left = until(code.timeout_at);
    return left < 1000 ? "Its time is over" : `${formatDuration(left)} left`;
  });
  const url = `/api/purchases/${head.dataset.id}/otp`;
  sendOnSubmit(element, url, (value) => ({ otpRequestId: code.id, otpValue: value }));
}

function drawCvv(element) {
  sendOnSubmit(element, `/api/purchases/${head.dataset.id}/cvv`, (value) => ({ cvv: value }));
}

function sendOnSubmit(element, url, body) {
  part(element, "form").onsubmit = async (event) => {
    event.preventDefault();
    const form = event.target;
    if (await send(element, url, body(form.elements.code.value))) form.reset();
  };
}

function drawChoice(element, { wait, step }) {
  setText(part(element, "heading"), wait.question);
  reconcile(
    part(element, "choices"),
    wait.choices,
    (choice) => choice,
    () => clone("choice"),
    (button, choice) => {
      setText(button, choice[0].toUpperCase() + choice.slice(1));
      button.onclick = () =>
        send(element, `/api/jobs/${step.job_run_id}/waits/${wait.id}`, { choice });
    },
  );
}

/** Whether it was taken; what was wrong stands in the element else. */
async function send(element, url, body) {
  const controls = element.querySelectorAll("button, input");
  controls.forEach((each) => (each.disabled = true));
  const trouble = await post(url, body);
  controls.forEach((each) => (each.disabled = false));
  setText(part(element, "trouble"), trouble);
  return !trouble;
}

// ---- money ----

function drawMoney() {
  const { summary } = run;
  const ended = hasEnded(run.status);
  const of = `of ${run.total_transactions}`;
  const cards = [
    { id: "paid", label: "Paid", tone: "blue", of },
    { id: "issued", label: "Vouchers issued", tone: "blue", of },
    { id: "redeemed", label: "Redeemed", tone: "green", of },
    { id: "pending_redemption", label: ended ? "To be redeemed" : "Being redeemed", tone: "orange" },
    { id: "awaiting_voucher", label: "Paid, no voucher yet", tone: "orange", isOptional: true },
    { id: "unknown", label: "Unknown", tone: "red", isOptional: true },
  ].filter((card) => !card.isOptional || summary[card.id].count);
  reconcile(
    document.getElementById("money"),
    cards,
    (card) => card.id,
    () => clone("money-card"),
    (element, card) => {
      const { count, amount } = summary[card.id];
      setAttribute(element, "data-tone", count ? card.tone : "gray");
      setAttribute(element, "data-money", card.id);
      setText(part(element, "label"), card.label);
      setText(part(element, "amount"), money(amount));
      setText(part(element, "count"), `${count} ${card.of ?? (count === 1 ? "voucher" : "vouchers")}`);
    },
  );
}

// ---- steps ----

const MARKS = {
  pending: "pending",
  in_progress: "running",
  completed: "completed",
  failed: "failed",
  waiting_otp: "waiting",
};
const TITLES = {
  inventory_check: "Inventory",
  gyftr_login: "Sign in at the portal",
  amazon_login: "Sign in at the shop",
  availability_check: "Availability",
  generate_payment_link: "Link",
  process_payment: "Pay",
  wait_for_vouchers: "Voucher",
  redeem_amazon_vouchers: "Redeem",
  redeem_voucher: "Redeem later",
};
const SPOKEN = {
  pending: "not begun",
  in_progress: "in progress",
  completed: "done",
  failed: "failed",
  waiting_otp: "waits for a code",
};

function drawSteps(list, steps) {
  reconcile(list, steps, (step) => step.id, () => clone("chip"), (element, step) => {
    setAttribute(element, "data-status", MARKS[step.status]);
    setAttribute(element, "title", step.error_message ?? step.step_data.title);
    showMark(part(element, "mark"), MARKS[step.status]);
    setText(part(element, "title"), TITLES[step.step_name] ?? step.step_data.title);
    setText(part(element, "spoken"), `, ${SPOKEN[step.status]}`);
  });
}

// ---- transactions ----

const TONES = {
  paying: "blue",
  paid: "blue",
  issued: "blue",
  redeemed: "green",
  pending_redemption: "orange",
  unknown: "red",
  failed: "red",
};

function drawTransactions() {
  setText(
    document.getElementById("transactions-count"),
    `${run.completed_transactions} of ${run.total_transactions} done`,
  );
  reconcile(
    document.getElementById("transactions"),
    run.transactions,
    (transaction) => transaction.id,
    () => clone("transaction"),
    drawTransaction,
  );
}

function drawTransaction(element, transaction) {
  element.id = `transaction-${transaction.index}`;
  setText(part(element, "index"), String(transaction.index));
  setText(part(element, "amount"), money(transaction.amount));
  const badge = part(element, "status");
  setText(badge, transaction.status_label);
  setAttribute(badge, "data-tone", TONES[transaction.status] ?? "gray");
  setAttribute(element, "data-transaction", transaction.status);
  const steps = stepsOf(transaction.index);
  drawSteps(part(element, "steps"), steps);
  drawNote(part(element, "note"), steps);
  const failed = steps.find((step) => step.status === "failed");
  setText(part(element, "error"), transaction.error_message || (failed?.error_message ?? ""));
  setText(part(element, "facts"), facts(transaction).join(" · "));
  drawVoucher(element, transaction.voucher);
}

function drawNote(note, steps) {
  const step = steps.find((each) => each.status === "in_progress");
  const { phase, due_at: due } = step?.step_data ?? {};
  if (!due) {
    stopTicking(note);
    return setText(note, phase ?? "");
  }
  const words = step.error_message ? `${step.error_message} Tries again` : phase || "Looks again";
  tick(note, () => {
    const left = until(due);
    return left < 1000 ? words : `${words} in ${formatDuration(left)}`;
  });
}

function facts(transaction) {
  const { order, paid_at: paid, payment_reference: reference, link, link_expires_at: until_ } = transaction;
  return [
    order && `Order ${order}`,
    paid && `Paid ${formatMoment(paid)}`,
    reference && `Bank reference ${reference}`,
    link && until_ && `Link good until ${formatMoment(until_)}`,
  ].filter(Boolean);
}

function drawVoucher(element, voucher) {
  const box = part(element, "voucher");
  box.hidden = !voucher;
  if (!voucher) return;
  setText(part(box, "voucher-words"), describeVoucher(voucher));
  const shown = revealed.get(voucher.id);
  part(box, "code").hidden = !shown;
  setText(part(box, "code"), shown ? [shown.code, shown.pin && `PIN ${shown.pin}`].filter(Boolean).join("  ") : "");
  part(box, "copy").hidden = !shown;
  part(box, "copy").onclick = () => navigator.clipboard.writeText(shown.code);
  const reveal = part(box, "reveal");
  setText(reveal, shown ? "Hide the code" : "Show the code");
  reveal.onclick = () => (shown ? hide(voucher) : show(box, voucher));
  part(box, "redeem").hidden = !voucher.can_redeem;
  part(box, "redeem").onclick = () => send(box, `/api/vouchers/${voucher.id}/redeem`, {});
  part(box, "redeemed").hidden = !voucher.can_mark_redeemed;
  part(box, "redeemed").onclick = () => askToMark(voucher);
}

function describeVoucher(voucher) {
  const parts = [`…${voucher.tail}`];
  if (voucher.amount) parts.push(money(voucher.amount));
  if (voucher.redeemed_at) {
    const by = voucher.redeemed_by ? `by hand, said ${voucher.redeemed_by}` : "into the balance";
    parts.push(`redeemed ${formatMoment(voucher.redeemed_at)} ${by}`);
  } else if (voucher.expires_on) {
    parts.push(`good until ${formatDay(voucher.expires_on)}`);
  }
  return parts.join(" · ");
}

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeZone: "UTC" });

function formatDay(iso) {
  return day.format(new Date(`${iso}T00:00:00Z`));
}

async function show(box, voucher) {
  const { trouble, answer } = await postFor(`/api/vouchers/${voucher.id}/reveal`, {});
  setText(part(box, "trouble"), trouble);
  if (trouble) return;
  revealed.set(voucher.id, answer);
  setTimeout(() => hide(voucher), SHOWN_SECONDS * 1000);
  drawTransactions();
}

function hide(voucher) {
  revealed.delete(voucher.id);
  drawTransactions();
}

function askToMark(voucher) {
  ask({
    heading: `Mark voucher …${voucher.tail} as redeemed?`,
    words: "Say so when its amount is in the account's balance. It is not redeemed by us any more, and your word for it is noted.",
    button: "It is redeemed",
    hasReason: true,
    send: (reason) => post(`/api/vouchers/${voucher.id}/redeemed`, { reason }),
  });
}

// ---- from here on it lives ----

setServerTime(run.at);
part(head, "cancel").onclick = () => askToCancel(run.id);
part(head, "again").onclick = () => askToRunAgain(run.id);
draw();
if (location.hash) document.querySelector(location.hash)?.scrollIntoView();

connect(
  () => `/ws/purchases/${head.dataset.id}/`,
  (message) => {
    setServerTime(message.at);
    if (message.type !== "run") return;
    run = message.run;
    draw();
  },
);
