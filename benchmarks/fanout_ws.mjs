// What `fanout` compares with: a server that sends ready-made bytes with `ws.send` of the package ws.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const require = createRequire(process.argv[3]);
const { WebSocketServer } = require('ws');
const { version } = require('ws/package.json');
const text = Buffer.alloc(Number(process.argv[2]), 'x');
const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });

server.on('listening', () => console.log('ready', server.address().port, 'ws', version, 'on Node.js', process.version));

createInterface({ input: process.stdin }).on('line', (line) => {
  const [, events, seconds] = line.split(' ').map(Number);
  const members = [...server.clients];
  const begun = process.hrtime.bigint();
  const until = begun + BigInt(Math.round(seconds * 1e9));
  let turns = 0;
  (function publish() {
    if (process.hrtime.bigint() >= until) {
      console.log(turns, String(begun));
      return;
    }
    if (members[turns % members.length].bufferedAmount <= 65536) {
      turns += 1;
      for (let n = 0; n < events; n += 1) {
        for (const client of server.clients) client.send(text, { binary: false });
      }
    }
    setImmediate(publish);
  })();
}).on('close', () => process.exit());
