#!/usr/bin/env node
/*
 * Watches a daemon from Node.js and prints a line for each thing that it tells. Needs `npm install ws`.
 *
 *   node examples/node-client.js [ws://localhost:9615/ws] [--seconds N]
 */
"use strict";

const WebSocket = require("ws");

class PMDaemonClient {
  constructor(url = "ws://localhost:9615/ws") {
    this.url = url;
    this.waiting = new Map(); // id of a request -> the two ends of its promise
    this.sent = 0;
  }

  /** Resolves when the connection is open; rejects when the daemon is not there or refuses. */
  connect() {
    return new Promise((resolve, reject) => {
      this.ws = new WebSocket(this.url);
      this.ws.on("open", resolve);
      this.ws.on("error", reject);
      this.ws.on("message", (text) => this.handleMessage(JSON.parse(text)));
      this.closed = new Promise((done) => this.ws.on("close", (code, reason) => done({ code, reason: String(reason) })));
    });
  }

  /** Send a message; its reply's data, or an Error with what the daemon said. */
  request(type, data) {
    const id = `node-${++this.sent}`;
    this.ws.send(JSON.stringify({ type, data, id }));
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }

  subscribe(events, processes = null, interval = 1000) {
    return this.request("subscribe", { events, processes, interval });
  }

  handleMessage({ type, data, reply_to: id }) {
    const request = this.waiting.get(id);
    if (request) {
      this.waiting.delete(id);
      if (type === "error") request.reject(new Error([data.message, data.hint].filter(Boolean).join("; ")));
      else request.resolve(data);
    }
    if (Object.hasOwn(PRINT, type)) PRINT[type](data);
  }
}

const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;

const PRINT = {
  subscribed: (data) => console.log(`watching ${data.snapshot.map((one) => one.name).join(", ") || "nothing yet"}`),
  process_status: (data) => console.log(`status   ${data.name}: ${data.previous_status ?? "new"} -> ${data.status}`),
  process_metrics: (data) => data.processes.forEach((one) =>
    console.log(`process  ${one.name}: ${one.status}, CPU ${one.cpu}%, memory ${megabytes(one.memory)}`)),
  system_metrics: ({ cpu, memory, load }) =>
    console.log(`system   CPU ${cpu.usage}% of ${cpu.cores} cores, memory ${memory.usage_percent}%, load ${load.one}`),
};

async function main([url, ...options]) {
  const seconds = Number(options[options.indexOf("--seconds") + 1] || 0);
  const client = new PMDaemonClient(url);
  await client.connect();
  console.log(`connected to ${client.url}`);
  await client.subscribe(["process_status", "process_metrics", "system_metrics"]);
  if (seconds) setTimeout(() => client.ws.close(1000), seconds * 1000);
  const { code, reason } = await client.closed;
  console.log(`closed with ${code} ${reason}`.trim());
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`cannot watch: ${error.message || error.code}`);
  process.exitCode = 1;
});
