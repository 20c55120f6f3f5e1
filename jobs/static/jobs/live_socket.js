// A websocket that comes back. What is missed meanwhile is asked for in the address it returns to.

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;
// The server says something every 20 s. Silence for longer means that the connection is gone,
// though nobody told us: a computer that slept, a network that changed.
const SILENCE = 45_000;
const WORTH_ASKING_AGAIN = (code) => code < 4400 || code > 4499;

export class LiveSocket {
  #pause = FIRST_PAUSE;
  #socket = null;
  #timer = null;
  #heardAt = 0;
  #hasEnded = false;

  /**
   * address() is the path to connect to, asked anew each time. onState gets one of
   *   {name: "connecting"}, {name: "live"}, {name: "reconnecting", at}, {name: "ended", code, reason}
   */
  constructor(address, { onMessage, onState }) {
    this.address = address;
    this.onMessage = onMessage;
    this.onState = onState;
    setInterval(() => this.#checkSilence(), 5000);
    // Back from sleep, from another tab, from being offline: do not wait for a timer.
    for (const event of ["online", "pageshow", "focus"]) {
      window.addEventListener(event, () => this.#hurry());
    }
    document.addEventListener("visibilitychange", () => !document.hidden && this.#hurry());
    onState({ name: "connecting" });
    this.#connect();
  }

  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #connect() {
    clearTimeout(this.#timer);
    const url = new URL(this.address(), window.location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#heardAt = Date.now();
    socket.onmessage = (event) => {
      if (socket !== this.#socket) return;
      this.#heardAt = Date.now();
      this.#pause = FIRST_PAUSE;
      this.onMessage(JSON.parse(event.data));
      this.onState({ name: "live" });
    };
    socket.onclose = (event) => {
      if (socket === this.#socket) this.#lost(event.code, event.reason);
    };
  }

  #lost(code, reason) {
    this.#socket = null;
    if (!WORTH_ASKING_AGAIN(code)) {
      this.#hasEnded = true;
      this.onState({ name: "ended", code, reason });
      return;
    }
    // Half of the pause is left to chance: pages that were cut off together come back one by one.
    const pause = this.#pause * (0.5 + Math.random() / 2);
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
    this.#timer = setTimeout(() => this.#connect(), pause);
    this.onState({ name: "reconnecting", at: Date.now() + pause });
  }

  #drop() {
    const socket = this.#socket;
    this.#lost(1006, "");
    socket.close();
  }

  #checkSilence() {
    if (this.#socket && Date.now() - this.#heardAt > SILENCE) this.#drop();
  }

  #hurry() {
    if (this.#hasEnded) return;
    if (this.#socket) this.#checkSilence();
    if (!this.#socket) {
      this.#pause = FIRST_PAUSE;
      this.#connect();
    }
  }
}
