// News from host-sync: draws again when something changed.

/** Calls `changed` at once, at every piece of news, and after every break. Only while the page is seen: a browser has few
 *  connections to one server. */
export function follow(indicator, changed) {
  let source = null;
  const tell = (state, text) => { indicator.dataset.state = state; indicator.textContent = text; };
  function open() {
    if (source || document.hidden) return;
    source = new EventSource("/api/events");
    source.addEventListener("hello", () => { tell("on", "Live"); changed(); });
    source.addEventListener("changed", changed);
    source.addEventListener("error", () => {
      tell("off", "Reconnecting");
      // A refusal is final for an EventSource; drawing again finds out why, and goes to sign in if that is it.
      if (source.readyState === EventSource.CLOSED) {
        source = null;
        changed();
        setTimeout(open, 3_000);
      }
    });
  }
  function close() {
    source?.close();
    source = null;
    tell("off", "Paused");
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", () => source?.close());
  open();
}
