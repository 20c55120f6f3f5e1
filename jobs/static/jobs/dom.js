// The little of the DOM that the live pages need. Text is only ever set as text.

/** A copy of the one element in the <template> with this id. */
export function clone(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

/** The element inside `root` that is marked data-part="name". */
export function part(root, name) {
  return root.querySelector(`[data-part="${name}"]`);
}

// Writing only what differs keeps selections, transitions and screen readers undisturbed.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** A link's address; what is no web address (a stranger wrote it) is left out. */
export function setLink(element, url) {
  const isWeb = /^(https?:\/\/|\/)/i.test(url);
  if (isWeb) setAttribute(element, "href", url);
  else element.removeAttribute("href");
}

/** Makes the children of `parent` one element for each item, in order, and keeps those that stay. */
export function reconcile(parent, items, key, create, update) {
  const kept = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const id = String(key(item));
    let element = kept.get(id);
    if (element) kept.delete(id);
    else {
      element = create(item);
      element.dataset.key = id;
    }
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
    update(element, item);
  }
  for (const element of kept.values()) element.remove();
}

export function readJson(id) {
  return JSON.parse(document.getElementById(id).textContent);
}
