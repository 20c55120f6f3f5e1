"use strict";

const TOAST_MS = 2000;

function showToast(message) {
  const toast = document.querySelector("[data-toast]");
  toast.dataset.kind = message.kind;
  toast.querySelector("[data-text]").textContent = message.text;
  toast.hidden = false;
  hideLater(toast);
}

function hideLater(toast) {
  if ("stays" in toast.dataset) return;
  clearTimeout(hideLater.timer);
  hideLater.timer = setTimeout(() => { toast.hidden = true; }, TOAST_MS);
}

async function openDrawer() {
  const drawer = document.querySelector("[data-drawer]");
  const body = drawer.querySelector("[data-drawer-body]");
  body.innerHTML = "<p>Your basket is empty.</p>";
  drawer.hidden = false;
  const answer = await fetch(drawer.dataset.drawer);
  // The drawer says "empty" long enough for a reader to believe it.
  setTimeout(async () => { body.innerHTML = await answer.text(); }, 300);
}

async function add(form) {
  const answer = await fetch(form.action, {
    method: "POST",
    headers: { Accept: "application/json" },
    body: new URLSearchParams(new FormData(form)),
  });
  if (answer.redirected) return location.assign(answer.url);
  if (!(answer.headers.get("content-type") || "").includes("json")) {
    return showToast({ kind: "error", text: "Oops! That went sideways." });
  }
  const message = await answer.json();
  form.elements.form_token.value = message.form_token;
  if (message.kind === "nothing") return;
  if (message.kind === "success") {
    if (form.dataset.confirmation === "none") return;
    for (const badge of document.querySelectorAll("[data-count]")) badge.textContent = message.count;
    if (form.dataset.confirmation === "drawer") return openDrawer();
  }
  showToast(message);
}

function showStock(form, inStock, checking) {
  const stock = form.querySelector("[data-stock]");
  stock.dataset.stock = checking ? "checking" : inStock ? "in" : "out";
  stock.textContent = checking ? "Checking stock…" : inStock ? "In stock" : "Out of stock";
}

// Until the choice has settled, an add is accepted by the page and ignored by the shop.
async function settle(form) {
  if (form.dataset.offer) {
    form.elements.settled.value = "";
    form.dataset.state = "settling";
    showStock(form, true, true);
    const ticket = form.dataset.ticket = String(Number(form.dataset.ticket || 0) + 1);
    const query = new URLSearchParams(new FormData(form));
    for (const name of [...query.keys()]) if (!name.startsWith("option.")) query.delete(name);
    const answer = await fetch(`${form.dataset.offer}?${query}`);
    const offer = answer.ok ? await answer.json() : { in_stock: false };
    if (ticket !== form.dataset.ticket) return;
    showStock(form, offer.in_stock, false);
  }
  form.elements.settled.value = "yes";
  form.dataset.state = "settled";
}

function choose(button) {
  const form = button.closest("form");
  form.elements[button.dataset.choose].value = button.dataset.value;
  for (const other of form.querySelectorAll("[data-choose]")) {
    if (other.dataset.choose !== button.dataset.choose) continue;
    other.setAttribute(other.hasAttribute("role") ? "aria-selected" : "aria-pressed", other === button);
  }
  const list = button.closest("[role=listbox]");
  if (list) {
    list.hidden = true;
    list.previousElementSibling.textContent = button.dataset.value;
    list.previousElementSibling.setAttribute("aria-expanded", "false");
  }
  settle(form);
}

function accept(button) {
  document.cookie = `shop_consent=${button.dataset.accept}; path=/; max-age=31536000; samesite=lax`;
  button.closest("[data-consent]").remove();
}

document.addEventListener("click", (event) => {
  const find = (selector) => event.target.closest(selector);
  if (find("[data-accept]")) accept(find("[data-accept]"));
  if (find("[data-choose]")) choose(find("[data-choose]"));
  if (find("[data-submit]")) find("[data-submit]").closest("form").requestSubmit();
  if (find("[data-close-drawer]")) find("[data-drawer]").hidden = true;
  const reveal = find("[data-reveal]");
  if (reveal) {
    const list = reveal.nextElementSibling;
    list.hidden = !list.hidden;
    reveal.setAttribute("aria-expanded", String(!list.hidden));
  }
});

document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-state]");
  if (form && event.target.matches("select, [type=radio], [type=checkbox]")) settle(form);
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-add]") || ["redirect", "flash"].includes(form.dataset.confirmation)) return;
  event.preventDefault();
  add(form);
});

for (const dialog of document.querySelectorAll("dialog[data-consent]")) dialog.showModal();
for (const toast of document.querySelectorAll("[data-toast]:not([hidden])")) hideLater(toast);
for (const promotion of document.querySelectorAll("[data-overlay-ms]")) {
  setTimeout(() => promotion.remove(), Number(promotion.dataset.overlayMs));
}
