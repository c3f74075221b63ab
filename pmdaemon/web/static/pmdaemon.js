/**
 * PMDaemonWebSocket: a browser's connection to the daemon.
 *
 *   <script src="/examples/pmdaemon.js"></script>
 *   <script>
 *     const pmdaemon = new PMDaemonWebSocket();
 *     pmdaemon.on("connected", () => pmdaemon.subscribe(["process_status", "process_metrics"]));
 *     pmdaemon.on("process_status", (data) => console.log(`${data.name} is ${data.status}`));
 *     pmdaemon.connect();
 *     const { processes } = await pmdaemon.restartProcess("web");
 *   </script>
 *
 * Listeners get the `data` of a message and, as a second argument, the whole message. Besides the types that the
 * daemon sends there are `connected`, `disconnected` (with `retryIn` in ms, or null) and `error` (what the daemon
 * answers to a bad request, or an Event of the socket).
 */
"use strict";

class PMDaemonError extends Error {
  /** @param {{code: string, message: string, hint: ?string, details: object}} data of an `error` message */
  constructor(data) {
    super(data.hint ? `${data.message} (${data.hint})` : data.message);
    this.name = "PMDaemonError";
    Object.assign(this, { code: data.code, hint: data.hint, details: data.details });
  }
}

const failure = (code, message) => new PMDaemonError({ code, message, hint: null, details: {} });

class PMDaemonWebSocket {
  /**
   * @param {string} [url] by default the daemon that served the page
   * @param {{reconnect?: boolean}} [options] by default a lost connection is opened again, after 0.5 s to 10 s
   */
  constructor(url = PMDaemonWebSocket.defaultUrl(), { reconnect = true } = {}) {
    this.url = url;
    this.reconnect = reconnect;
    this.ws = null;
    this.listeners = new Map();
    this.waiting = new Map(); // id of a request -> { resolve, reject, timer }
    this.lastId = null; // of the newest message: what `since` of a subscription takes
    this.attempts = 0;
    this.sent = 0;
  }

  static defaultUrl() {
    const { protocol, host } = globalThis.location ?? {};
    return host ? `${protocol === "https:" ? "wss" : "ws"}://${host}/ws` : "ws://localhost:9615/ws";
  }

  connect() {
    clearTimeout(this.timer);
    this.closing = false;
    const ws = this.ws = new WebSocket(this.url);
    ws.onopen = () => {
      this.attempts = 0;
      this.emit("connected");
    };
    ws.onmessage = (event) => this.receive(JSON.parse(event.data));
    ws.onclose = () => this.lost();
    ws.onerror = (event) => this.emit("error", event);
  }

  /** Close the connection, for good. */
  close() {
    this.closing = true;
    clearTimeout(this.timer);
    this.ws?.close();
  }

  /** Receive these types of events; `options` are the further ones of a subscription: since, tail, level, stream, grep. */
  subscribe(events, processes = null, interval = 1000, options = {}) {
    return this.request("subscribe", { events, processes, interval, ...options });
  }

  unsubscribe(events = null) {
    return this.request("unsubscribe", { events });
  }

  startProcess(name, config = null) {
    return this.command("start", name, { config });
  }

  stopProcess(name) {
    return this.command("stop", name);
  }

  restartProcess(name) {
    return this.command("restart", name);
  }

  deleteProcess(name) {
    return this.command("delete", name);
  }

  /** Any action of the protocol; the data of the `command_result` once it is done. */
  command(action, process, rest = {}) {
    return this.request("command", { action, process, ...rest });
  }

  /**
   * Send a message and wait for its reply.
   *
   * @returns {Promise<object>} the reply's data; rejected with a PMDaemonError when the daemon says `error`, when the
   *   connection is lost or when there is no reply within `timeout` ms. Whoever does not wait still hears of a
   *   failure through the `error` event.
   */
  request(type, data = {}, { timeout = 65000 } = {}) {
    const id = `js-${++this.sent}`;
    const reply = new Promise((resolve, reject) => {
      const late = () => this.settle(id, failure("TIMEOUT", `no reply to ${type} within ${timeout} ms`));
      this.waiting.set(id, { resolve, reject, timer: setTimeout(late, timeout) });
    });
    reply.catch(() => {});
    if (!this.send(type, data, id)) this.settle(id, failure("NOT_CONNECTED", `cannot send ${type}: not connected`));
    return reply;
  }

  settle(id, error, data) {
    const request = this.waiting.get(id);
    if (!request) return;
    this.waiting.delete(id);
    clearTimeout(request.timer);
    if (error) request.reject(error);
    else request.resolve(data);
  }

  /** Send a message and wait for nothing; false when there is no connection. */
  send(type, data, id) {
    if (this.ws?.readyState !== WebSocket.OPEN) return false;
    this.ws.send(JSON.stringify({ type, data, id }));
    return true;
  }

  /** Call `callback(data, message)` for each such event; the function that it returns ends that. */
  on(event, callback) {
    if (!this.listeners.has(event)) this.listeners.set(event, new Set());
    this.listeners.get(event).add(callback);
    return () => this.listeners.get(event).delete(callback);
  }

  emit(event, data, message) {
    for (const callback of this.listeners.get(event) ?? []) callback(data, message);
  }

  receive(message) {
    this.lastId = message.id;
    this.settle(message.reply_to, message.type === "error" ? new PMDaemonError(message.data) : null, message.data);
    this.emit(message.type, message.data, message);
  }

  lost() {
    for (const id of this.waiting.keys()) this.settle(id, failure("CONNECTION_LOST", "connection lost before the reply"));
    const retryIn = this.reconnect && !this.closing
      ? Math.round(Math.min(10000, 500 * 2 ** this.attempts++) * (0.8 + 0.4 * Math.random()))
      : null;
    if (retryIn !== null) this.timer = setTimeout(() => this.connect(), retryIn);
    this.emit("disconnected", { retryIn });
  }
}

Object.assign(globalThis, { PMDaemonWebSocket, PMDaemonError }); // for `import "/examples/pmdaemon.js"` too
