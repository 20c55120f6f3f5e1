// What a voucher site's page (or one of its frames) is and says, answered in one round trip.
//
// Runs in the page, as one expression: a function from a question to a plain object. It only
// reads. Parts are handed back as the place they have among the matches of their selector, which
// is how a locator finds them again.

(question) => {
  const roots = (root) => {
    const found = [root];
    for (const element of root.querySelectorAll("*")) {
      if (element.shadowRoot) found.push(...roots(element.shadowRoot));
    }
    return found;
  };
  const documents = roots(document);
  const unreadable = [];

  const isXPath = (selector) => /^\(*\//.test(selector);

  const byXPath = (selector, root) => {
    // "//a" below a row means below that row, as it does for a Playwright locator.
    const path = root === document ? selector : selector.replace(/^(\(*)\//, "$1./");
    const inOrder = XPathResult.ORDERED_NODE_SNAPSHOT_TYPE;
    const result = document.evaluate(path, root, null, inOrder, null);
    return Array.from({ length: result.snapshotLength }, (_, i) => result.snapshotItem(i));
  };

  const find = (selector, root = document) => {
    try {
      if (isXPath(selector)) {
        return byXPath(selector, root).filter((node) => node.nodeType === Node.ELEMENT_NODE);
      }
      const places = root === document ? documents : [root];
      return places.flatMap((each) => Array.from(each.querySelectorAll(selector)));
    } catch (error) {
      unreadable.push(selector);
      return [];
    }
  };

  const rendered = (element) =>
    element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });

  const shown = (element) => {
    // An option has no box of its own while its list is closed.
    if (element.matches("option")) return shown(element.closest("select"));
    const boxes = Array.from(element.getClientRects());
    return rendered(element) && boxes.some((box) => box.width > 0 && box.height > 0);
  };

  const squeeze = (text) => (text ?? "").replace(/\s+/g, " ").trim();

  // What is typed into a field is not read: it may be a card. A field that only shows is.
  const textOf = (element) => {
    if (element.matches("select")) return squeeze(element.selectedOptions[0]?.text);
    if (element.matches("input, textarea")) return element.readOnly ? squeeze(element.value) : "";
    const spoken = element.getAttribute("aria-label") ?? element.getAttribute("alt");
    return squeeze(element.innerText || element.textContent) || squeeze(spoken);
  };

  const isDisabled = (element) =>
    element.matches(":disabled") || element.getAttribute("aria-disabled") === "true";

  const timeOf = (element) => {
    const time = element.matches("time") ? element : element.querySelector("time");
    return time?.getAttribute("datetime") ?? null;
  };

  const part = (element, place) => {
    const anchor = element.closest("a[href]") ?? element.querySelector("a[href]");
    return {
      place,
      text: textOf(element).slice(0, 500),
      href: anchor?.href ?? null,
      moment: timeOf(element),
      disabled: isDisabled(element),
    };
  };

  // An empty box waits for a captcha whose script was not let in.
  const counts = (key) => (key === "captcha" ? rendered : shown);

  const parts = (selectors, root) => {
    const found = {};
    for (const [key, selector] of Object.entries(selectors)) {
      const matches = find(selector, root)
        .map((element, place) => [element, place])
        .filter(([element]) => counts(key)(element));
      if (matches.length) found[key] = matches.slice(0, 20).map((each) => part(...each));
    }
    return found;
  };

  const rows = () => {
    const all = find(question.row).map((element, place) => [element, place]);
    return all
      .filter(([element]) => shown(element))
      .map(([element, place]) => ({
        place,
        text: textOf(element).slice(0, 2000),
        parts: parts(question.parts, element),
      }));
  };

  return {
    document: performance.timeOrigin,
    url: location.href,
    complete: document.readyState === "complete",
    parts: parts(question.selectors, document),
    text: question.wants_text ? squeeze(document.body?.innerText).slice(0, 20000) : "",
    rows: question.row ? rows() : null,
    unreadable,
  };
}
