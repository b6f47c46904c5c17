// Elements from plain values. Text only ever becomes text: nothing here parses HTML.

/** An element with attributes, listeners (`on…`) and children; what is null or false is left out. */
export function h(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Puts new content in, and the focus back to the element that has the same id or address as the one that had it. */
export function show(container, ...children) {
  const active = document.activeElement;
  const inside = active && container.contains(active) && active !== container;
  const id = inside ? active.id : "";
  const href = inside ? active.getAttribute("href") : null;
  container.replaceChildren(...children.flat(Infinity).filter(Boolean));
  if (id) document.getElementById(id)?.focus({ preventScroll: true });
  else if (href) container.querySelector(`[href="${CSS.escape(href)}"]`)?.focus({ preventScroll: true });
}

/** A path of encoded parts. */
export function path(...parts) {
  return "/" + parts.map(encodeURIComponent).join("/");
}
