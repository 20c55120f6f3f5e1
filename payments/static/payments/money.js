// Amounts as people write them: ₹1,500, and ₹1,500.50 where there are paise.

export function formatMoney(amount, currency) {
  const digits = Number.isInteger(amount) ? 0 : 2;
  return new Intl.NumberFormat("en-IN", {
    style: "currency",
    currency,
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(amount);
}
