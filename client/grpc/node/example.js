#!/usr/bin/env node
'use strict';
// Sends numbered events to telemetryd over grpc.sock and ends when all are on stable storage.
//
// Exit codes: 0 all acknowledged, 1 failed, 3 collection is off.

const fs = require('node:fs');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { CollectionOff, Sender, newEvent } = require('./sender.js');

const EVENTS_PER_REQUEST = 10;

function defaultSocket() {
  const system = '/run/telemetryd';
  const user = path.join(process.env.XDG_RUNTIME_DIR ?? '/tmp', 'telemetryd');
  return path.join(fs.existsSync(system) ? system : user, 'grpc.sock');
}

async function main() {
  const { values: options } = parseArgs({
    options: {
      socket: { type: 'string', default: defaultSocket() },
      app: { type: 'string', default: 'grpc-example' },
      count: { type: 'string', default: '100' },
      stream: { type: 'boolean', default: false }, // PublishStream instead of Publish
      proto: { type: 'string', default: path.join(__dirname, '../../../proto') },
    },
  });
  const count = Number(options.count);
  const sender = new Sender(`unix:${options.socket}`, options.app, { protoFolder: options.proto });
  const flush = () => (options.stream ? sender.flushStream() : sender.flush());
  try {
    for (let first = 0; first < count; first += EVENTS_PER_REQUEST) {
      const events = [];
      for (let n = first; n < Math.min(count, first + EVENTS_PER_REQUEST); n += 1) {
        events.push(newEvent('example', [{ key: 'n', int_value: n }]));
      }
      while (!sender.add(events)) await flush();
    }
    await flush();
  } catch (error) {
    const off = error instanceof CollectionOff;
    console.error(off ? `collection is off: ${error.message}` : `failed: ${error.message}`);
    return off ? 3 : 1;
  } finally {
    sender.close();
  }
  for (const { number, code, message } of sender.refused) {
    console.error(`request ${number} was refused: ${code}: ${message}`);
  }
  console.log(`acknowledged ${count} events, ${sender.resent} requests sent again`);
  return sender.refused.length > 0 ? 1 : 0;
}

main().then((code) => { process.exitCode = code; });
