// What the flow asks of a shop's page, answered in one round trip to the browser.
//
// Runs in the page, as one expression: a function from a question to a plain object. It reads, and
// sets form fields; everything that a person would do with the mouse is left to Playwright. Parts
// are handed back as the place they have among the matches of their selector, which is how a
// locator finds them again.

async (question) => {
  const { selectors, marks } = question;
  const foreign = new Set();

  // ---- waiting ----------------------------------------------------------------------------

  const until = performance.now() + question.patience_ms;
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

  // Something may show that is not a mutation (a style's transition, a field's value): for that
  // the page is read now and then. One that never stops changing is not read at every change.
  const everything = { subtree: true, childList: true, attributes: true, characterData: true };
  const stir = async () => {
    let observer;
    const mutation = new Promise((resolve) => {
      observer = new MutationObserver(resolve);
      observer.observe(document, everything);
    });
    await sleep(20);
    await Promise.race([mutation, sleep(80)]);
    observer.disconnect();
  };

  // ---- finding ----------------------------------------------------------------------------

  const roots = (root) => {
    const found = [root];
    for (const element of root.querySelectorAll("*")) {
      if (element.shadowRoot) found.push(...roots(element.shadowRoot));
    }
    return found;
  };
  let documents = null;

  const isXPath = (selector) => /^\(*\//.test(selector);

  const byXPath = (selector, root) => {
    // "//a" below a row means below that row, as it does for a Playwright locator.
    const path = root === document ? selector : selector.replace(/^(\(*)\//, "$1./");
    const inOrder = XPathResult.ORDERED_NODE_SNAPSHOT_TYPE;
    const result = document.evaluate(path, root, null, inOrder, null);
    return Array.from({ length: result.snapshotLength }, (_, i) => result.snapshotItem(i));
  };

  const query = (selector, root) => {
    if (marks[selector]) return Array.from(root.querySelectorAll(`[${marks[selector]}]`));
    if (isXPath(selector)) return byXPath(selector, root);
    if (root !== document) return Array.from(root.querySelectorAll(selector));
    documents ??= roots(document);
    return documents.flatMap((each) => Array.from(each.querySelectorAll(selector)));
  };

  // A selector that the browser cannot read may be one of Playwright's own (`:has-text()`): it is
  // reported, and the flow comes back with those elements marked.
  const find = (selector, root = document) => {
    if (!selector) return [];
    try {
      return query(selector, root).filter((node) => node.nodeType === Node.ELEMENT_NODE);
    } catch (error) {
      foreign.add(selector);
      return [];
    }
  };

  const findBelow = (selector, root) => {
    const found = find(selector, root);
    // An XPath from the top of the document finds nothing below a row: look from the top then.
    return found.length ? found : find(selector).filter((element) => root.contains(element));
  };

  // ---- reading ----------------------------------------------------------------------------

  const rendered = (element) =>
    element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });

  const boxed = (element) =>
    Array.from(element.getClientRects()).some((box) => box.width > 0 && box.height > 0);

  const shown = (element) =>
    (rendered(element) && boxed(element)) ||
    (getComputedStyle(element).display === "contents" && Array.from(element.children).some(shown));

  const squeeze = (text) => (text ?? "").replace(/\s+/g, " ").trim();

  const loose = (text) => squeeze(text).normalize("NFKC").toLowerCase();

  // The options of a select are not what it says: only the chosen one is.
  const textOf = (element) => {
    if (element.matches("input, textarea, select")) return squeeze(valueText(element));
    let text = element.innerText ?? element.textContent;
    for (const select of element.querySelectorAll("select")) {
      text = text.replace(select.innerText, ` ${select.selectedOptions[0]?.text ?? ""} `);
    }
    return squeeze(text) || squeeze(spokenOf(element));
  };

  const valueText = (element) =>
    element.tagName === "SELECT" ? element.selectedOptions[0]?.text : element.value;

  const spokenOf = (element) => {
    const said = (each) => ["aria-label", "alt", "title"].map((name) => each.getAttribute(name));
    return [element, ...element.querySelectorAll("[aria-label], [alt], [title]")]
      .flatMap(said)
      .filter(Boolean)
      .join(" ");
  };

  const nameOf = (element) => {
    if (!element) return null;
    const names = Array.from(element.classList, (name) => `.${name}`).join("");
    return `${element.tagName.toLowerCase()}${element.id ? `#${element.id}` : ""}${names}`;
  };

  // The first of `candidates` that shares the smallest part of the page with `anchor`.
  const nearest = (candidates, anchor) => {
    for (let part = anchor; part && candidates.length; part = part.parentElement) {
      const inside = candidates.find((element) => part.contains(element));
      if (inside) return inside;
    }
    return candidates[0] ?? null;
  };

  const best = (found) => found.find(shown) ?? found[0] ?? null;

  const place = (selector, element) => (element ? find(selector).indexOf(element) : null);

  const isDisabled = (element) =>
    element.matches(":disabled") || element.getAttribute("aria-disabled") === "true";

  // ---- where am I? ------------------------------------------------------------------------

  const indicators = () => {
    const said = {};
    for (const key of question.indicators) {
      const attached = find(selectors[key]);
      const counts = {
        logged_in_indicator: selectors.logged_in_indicator_is_hidden ? () => true : shown,
        // An empty box waits for a captcha whose script was not let in.
        captcha_indicator: rendered,
      };
      const seen = attached.filter(counts[key] ?? shown);
      if (seen.length) said[key] = seen.slice(0, 5).map((each) => textOf(each).slice(0, 200));
    }
    return said;
  };

  // The form to log in with: visible, with a password beside the e-mail, its own button.
  const loginForm = () => {
    const emails = find(selectors.email_input).filter(shown);
    const passwords = find(selectors.password_input).filter(shown);
    const together = (email) => passwords.some((each) => each.form && each.form === email.form);
    const email = emails.find(together) ?? emails[0] ?? null;
    const password = email ? nearest(passwords, email) : passwords[0] ?? null;
    const anchor = password ?? email;
    if (!anchor) return null;
    const button = nearest(find(selectors.login_button).filter(shown), anchor);
    return {
      email: place(selectors.email_input, email),
      password: place(selectors.password_input, password),
      button: place(selectors.login_button, button),
    };
  };

  // Among several buttons (a list of products) the one beside the product's name or link.
  const addButton = () => {
    const buttons = find(selectors.add_to_cart).filter(shown);
    const ownPart = (button) => {
      let part = button;
      while (
        part.parentElement &&
        !buttons.some((other) => other !== button && part.parentElement.contains(other))
      ) {
        part = part.parentElement;
      }
      return part;
    };
    const wanted = question.product ?? { names: [], links: [] };
    const names = wanted.names.map(loose);
    const isWanted = (button) => {
      const part = ownPart(button);
      const text = loose(part.innerText);
      return (
        names.some((name) => text.includes(name)) ||
        Array.from(part.querySelectorAll("a[href]")).some((a) => wanted.links.includes(a.href))
      );
    };
    const own = buttons.length > 1 ? buttons.find(isWanted) : buttons[0];
    return { element: own ?? buttons[0] ?? null, isGuess: !own && buttons.length > 0 };
  };

  const coverOf = (element) => {
    const inView = (box) =>
      box.top >= 0 && box.left >= 0 && box.bottom <= innerHeight && box.right <= innerWidth;
    if (!inView(element.getBoundingClientRect())) {
      element.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
    }
    const box = element.getClientRects()[0];
    if (!box) return null;
    let hit = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    while (hit?.shadowRoot && hit !== element) {
      const deeper = hit.shadowRoot.elementFromPoint(
        box.left + box.width / 2,
        box.top + box.height / 2,
      );
      if (!deeper || deeper === hit) break;
      hit = deeper;
    }
    return !hit || element === hit || element.contains(hit) ? null : nameOf(hit);
  };

  // What must be pressed once is aimed at first. A page that moves under the mouse in the last
  // moment would have something else pressed: that is kept from it, and counted as a miss.
  const AIM = Symbol.for("cartwright.aim");
  const PRESS = ["pointerdown", "mousedown", "pointerup", "mouseup", "click"];

  const currentAim = () => {
    if (window[AIM] === undefined) {
      const aim = { target: null, isMiss: false, misses: 0 };
      Object.defineProperty(window, AIM, { value: aim });
      const watch = (event) => {
        if (!event.isTrusted || !aim.target) return;
        if (event.type === "pointerdown") {
          aim.isMiss = !event.composedPath().includes(aim.target);
          aim.misses += aim.isMiss;
        }
        if (!aim.isMiss) return;
        event.preventDefault();
        event.stopImmediatePropagation();
      };
      PRESS.forEach((type) => window.addEventListener(type, watch, { capture: true }));
    }
    return window[AIM];
  };
  currentAim().target = null;

  // Where to press, once the part holds still; null if it is covered, disabled or gone.
  const aim = async () => {
    const element = find(selectors[question.key])[question.place];
    const place = () => {
      if (!element?.isConnected || isDisabled(element) || coverOf(element)) return null;
      const box = element.getClientRects()[0];
      return box ? { x: box.left + box.width / 2, y: box.top + box.height / 2 } : null;
    };
    let point = place();
    while (point && performance.now() < until) {
      await Promise.race([new Promise(requestAnimationFrame), sleep(100)]);
      const now = place();
      if (now && now.x === point.x && now.y === point.y) {
        currentAim().target = element;
        return { point };
      }
      point = now;
    }
    return { point: null };
  };

  const product = () => {
    const attribute = (selector, name) =>
      Array.from(document.querySelectorAll(selector), (each) => each[name]).filter(Boolean);
    const { element, isGuess } = addButton();
    return {
      titles: [
        ...Array.from(document.querySelectorAll("h1"), (each) => squeeze(each.innerText)),
        ...attribute('meta[property="og:title"]', "content"),
      ].filter(Boolean),
      links: [
        ...attribute('link[rel="canonical"]', "href"),
        ...attribute('meta[property="og:url"]', "content"),
      ],
      button: element && {
        place: place(selectors.add_to_cart, element),
        is_guess: isGuess,
        disabled: isDisabled(element),
        covered_by: coverOf(element),
      },
      misses: currentAim().misses,
    };
  };

  // ---- the cart ---------------------------------------------------------------------------

  // Without a selector for rows, a row is the largest part with only one name (or quantity).
  const inferredRows = () => {
    const anchors = find(selectors.cart_row_name ?? selectors.cart_quantity).filter(shown);
    return anchors.map((anchor) => {
      let part = anchor;
      const isAlone = (one) => anchors.every((each) => each === anchor || !one.contains(each));
      while (part.parentElement !== document.body && isAlone(part.parentElement)) {
        part = part.parentElement;
      }
      return part;
    });
  };

  // A heading or a total may look like a row: it has none of a row's parts.
  const rowElements = () => {
    if (!selectors.cart_row) return inferredRows();
    const parts = [selectors.cart_row_name, selectors.cart_quantity].filter(Boolean);
    const isRow = (element) =>
      !parts.length || parts.some((part) => findBelow(part, element).length);
    return find(selectors.cart_row).filter(shown).filter(isRow);
  };

  const CONTROL = 'input:not([type="hidden"], [type="checkbox"], [type="radio"]), select';

  const quantityControl = (row) => {
    const found = best(findBelow(selectors.cart_quantity, row));
    if (!found) return null;
    return found.matches("input, select") ? found : found.querySelector(CONTROL) ?? found;
  };

  const isEditable = (control) =>
    control.matches(CONTROL) && !isDisabled(control) && !control.readOnly;

  const row = (element) => {
    const control = quantityControl(element);
    const named = best(findBelow(selectors.cart_row_name, element));
    const anchors = Array.from(element.querySelectorAll("a[href]"));
    const ownAnchors = [element, named].map((each) => each?.closest("a[href]")).filter(Boolean);
    if (named) ownAnchors.push(...named.querySelectorAll("a[href]"));
    const links = [...ownAnchors, ...anchors]
      .map((anchor) => anchor.href)
      .filter((href) => /^https?:/.test(href) && new URL(href).pathname !== location.pathname);
    const linkTexts = anchors.map(textOf).sort((one, other) => other.length - one.length);
    return {
      name: (named ? textOf(named) : linkTexts[0] || textOf(element)).slice(0, 200),
      links: Array.from(new Set(links)).slice(0, 5),
      quantity: control && (control.getAttribute("aria-valuenow") ?? textOf(control)),
      editable: Boolean(control && isEditable(control)),
      text: `${textOf(element)} ${squeeze(spokenOf(element))}`.slice(0, 500),
    };
  };

  const look = () => ({
    document: performance.timeOrigin,
    url: location.href,
    parsed: document.readyState !== "loading",
    said: indicators(),
    login: question.wants.includes("login") ? loginForm() : null,
    product: question.wants.includes("product") ? product() : null,
    rows: question.wants.includes("cart") ? rowElements().map(row) : null,
  });

  // ---- setting form fields ----------------------------------------------------------------

  const announce = (element, types) =>
    types.forEach((type) =>
      element.dispatchEvent(new Event(type, { bubbles: true, composed: true })),
    );

  // The prototype's setter and every event a hand would cause: frameworks listen to either.
  const assign = (element, value) => {
    element.focus();
    const { set } = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(element), "value");
    set.call(element, value);
    announce(element, ["input", "keyup", "change"]);
    element.blur();
  };

  const digits = (text) => (text ?? "").normalize("NFKC").match(/\d+/)?.[0];

  const setNumber = (control, number) => {
    if (!control?.matches("input, select")) return { found: false };
    if (control.tagName === "SELECT") {
      const options = Array.from(control.options).filter((each) => !each.disabled);
      const option = options.find(
        (each) => each.value === `${number}` || digits(each.text) === `${number}`,
      );
      if (option) assign(control, option.value);
      const labels = options.map((each) => squeeze(each.text));
      return { found: true, set: Boolean(option), options: labels };
    }
    if (control.value !== `${number}`) assign(control, `${number}`);
    // The page may write it in its own way: 2.00, 2 pcs.
    const set = digits(control.value) === `${number}` && control.validity.valid;
    return { found: true, set, says: control.validationMessage, holds: control.value };
  };

  const fieldIn = (part) =>
    part?.matches("input, select") ? part : part?.querySelector("input, select");

  const fields = (selector) => find(selector).map(fieldIn).filter(Boolean);

  const setQuantity = () => {
    if (question.place !== undefined) {
      return setNumber(fieldIn(find(question.selector)[question.place]), question.quantity);
    }
    const all = fields(question.selector);
    const candidates = all.some(shown) ? all.filter(shown) : all;
    const button = addButton().element;
    return setNumber(button ? nearest(candidates, button) : candidates[0], question.quantity);
  };

  const setRowQuantity = () => {
    const element = rowElements()[question.row];
    if (!element || row(element).name !== question.name) return { found: false };
    return setNumber(quantityControl(element), question.quantity);
  };

  const focusRow = () => {
    const element = rowElements()[question.row];
    quantityControl(element)?.focus();
    return { found: Boolean(element) };
  };

  const updateButton = () => {
    const element = rowElements()[question.row];
    const buttons = find(selectors.cart_update).filter(shown);
    const button = element ? nearest(buttons, element) : buttons[0];
    return { place: place(selectors.cart_update, button) };
  };

  // Label or value, case and space apart; a label may go on with a price or a remark.
  const matching = (things, labels, wanted) => {
    const names = wanted.map(loose);
    const isExact = (label) => names.includes(loose(label));
    const exact = things.find((each) => labels(each).some(isExact));
    if (exact) return exact;
    const goesOn = (label) =>
      names.some((name) => {
        const rest = loose(label).slice(name.length).trimStart();
        return loose(label).startsWith(name) && /^[^\p{L}\p{N}]/u.test(rest);
      });
    const near = things.filter((each) => labels(each).some(goesOn));
    return near.length === 1 ? near[0] : null;
  };

  const pick = () => {
    const select = best(
      question.candidates.flatMap(fields).filter((each) => each.matches("select")),
    );
    if (!select) return { found: false };
    const options = Array.from(select.options);
    const labels = (each) => [each.text, each.label, each.value];
    const option = matching(options, labels, question.values);
    const free = Boolean(option) && !option.disabled && !select.disabled;
    if (free && question.act && !option.selected) {
      option.selected = true;
      announce(select, ["input", "change"]);
    }
    const offered = options.filter((each) => each.value);
    const texts = (some) => some.map((each) => squeeze(each.text));
    return {
      found: true,
      matched: Boolean(option),
      free,
      chosen: squeeze(option?.text),
      others: texts(offered.filter((each) => each !== option)),
      options: texts(offered),
    };
  };

  const isChosen = (element) =>
    element.checked === true ||
    ["aria-checked", "aria-pressed", "aria-selected"].some(
      (name) => element.getAttribute(name) === "true",
    );

  // One button, box or text field of an option: the one whose selector names the value, or else
  // the one among all its matches that bears the value as text.
  const control = () => {
    const labels = (each) => [
      textOf(each),
      spokenOf(each),
      each.value,
      ...Array.from(each.labels ?? [], textOf),
      ...Object.values(each.dataset),
    ];
    const choose = (all) => {
      if (question.names_value) return best(all);
      return all.length > 1 ? matching(all, labels, question.values) : all[0];
    };
    const selector = question.candidates.find((each) => choose(find(each)));
    const element = selector && choose(find(selector));
    const offered = question.names_value
      ? []
      : question.candidates.flatMap((each) => find(each)).filter(shown);
    const texts = (some) => some.map((each) => textOf(each) || spokenOf(each));
    const options = texts(offered);
    if (!element) return { found: false, options };
    return {
      found: true,
      options,
      others: texts(offered.filter((each) => each !== element)),
      selector,
      place: place(selector, element),
      shown: shown(element),
      disabled: isDisabled(element),
      chosen: isChosen(element),
      box: element.matches('input[type="checkbox"], input[type="radio"]'),
    };
  };

  // A styled box is hidden under its label, or covered by it: press the label, as a hand would.
  const tick = () => {
    const element = find(question.selector)[question.place];
    if (element) (Array.from(element.labels ?? []).find(shown) ?? element).click();
    return { found: Boolean(element) };
  };

  const isShown = () => ({
    shown: question.candidates.some((selector) => find(selector).some(shown)),
  });

  const link = () => {
    const selector = question.candidates.find((each) => find(each).length);
    const found = selector && best(find(selector));
    const anchor = found && (found.closest("a[href]") ?? found.querySelector("a[href]"));
    return { found: Boolean(found), selector, href: anchor?.href ?? null };
  };

  // The groups (of candidate selectors) in the order of their first matches on the page.
  const order = () => {
    const first = question.groups.map((group) => group.flatMap((each) => find(each))[0]);
    const isBefore = (one, other) =>
      one.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1;
    const rank = (one, other) =>
      first[one] && first[other] ? isBefore(first[one], first[other]) : first[one] ? -1 : 1;
    return question.groups.map((_, index) => index).sort(rank);
  };

  const questions = {
    look,
    aim,
    setQuantity,
    setRowQuantity,
    focusRow,
    updateButton,
    pick,
    control,
    tick,
    isShown,
    link,
    order,
  };

  // Answers at once when the answer is not the last one, else when it changes or patience ends:
  // waiting here costs no round trips.
  for (;;) {
    documents = null;
    const answer = await questions[question.ask]();
    const signature = JSON.stringify(answer);
    if (signature !== question.last || performance.now() >= until) {
      const complete = document.readyState === "complete";
      return { signature, complete, foreign: Array.from(foreign) };
    }
    await stir();
  }
}
