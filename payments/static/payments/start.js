// The start screen: what the purchase comes to, as it is typed.

import { formatMoney } from "./money.js";

const form = document.getElementById("start");

if (form) {
  form.addEventListener("input", drawSum);
  form.addEventListener("submit", () => {
    form.querySelector("button").disabled = true;
  });
  // Back from the purchase's page, the button must work again.
  window.addEventListener("pageshow", () => {
    form.querySelector("button").disabled = false;
  });
  drawSum();
}

function drawSum() {
  const qty = form.elements.qty.valueAsNumber;
  const amount = form.elements.amount.valueAsNumber;
  const isKnown = qty > 0 && amount > 0;
  document.getElementById("sum-words").textContent = isKnown
    ? `${qty} × ${formatMoney(amount, "INR")} = `
    : "";
  document.getElementById("sum").textContent = isKnown ? formatMoney(qty * amount, "INR") : "";
}
