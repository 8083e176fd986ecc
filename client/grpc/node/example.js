#!/usr/bin/env node
'use strict';
// Sends numbered events to telemetryd over grpc.sock and ends when all are on stable storage.
//
// usage: example.js [--socket PATH] [--app NAME] [--count N] [--stream] [--proto FOLDER]
// Exit codes: 0 all acknowledged, 1 failed, 2 usage, 3 collection is off.

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { CollectionOff, Sender, newEvent } = require('./sender.js');

const EVENTS_PER_REQUEST = 10;
const USAGE = 'usage: example.js [--socket PATH] [--app NAME] [--count N] [--stream] [--proto FOLDER]';

function absolute(name) {
  const value = process.env[name] ?? '';
  return value.startsWith('/') ? value : undefined;
}

/** The system's telemetryd, else the one of this user: never a folder that others may write to. */
function defaultSocket() {
  const system = '/run/telemetryd';
  if (fs.existsSync(system)) return path.join(system, 'grpc.sock');
  const runtime = absolute('XDG_RUNTIME_DIR');
  if (runtime) return path.join(runtime, 'telemetryd/grpc.sock');
  const state = absolute('XDG_STATE_HOME') ?? path.join(os.homedir(), '.local/state');
  return path.join(state, 'telemetryd/run/grpc.sock');
}

function parse() {
  const { values } = parseArgs({
    options: {
      socket: { type: 'string', default: defaultSocket() },
      app: { type: 'string', default: 'grpc-example' },
      count: { type: 'string', default: '100' },
      stream: { type: 'boolean', default: false }, // PublishStream instead of Publish
      proto: { type: 'string', default: path.join(__dirname, '../../../proto') },
    },
  });
  if (!/^[0-9]{1,15}$/.test(values.count)) throw new Error(`--count: not a number of events: ${values.count}`);
  return { ...values, count: Number(values.count) };
}

async function send(sender, options) {
  const flush = () => (options.stream ? sender.flushStream() : sender.flush());
  for (let first = 0; first < options.count; first += EVENTS_PER_REQUEST) {
    const events = [];
    for (let n = first; n < Math.min(options.count, first + EVENTS_PER_REQUEST); n += 1) {
      events.push(newEvent('example', [{ key: 'n', int_value: n }]));
    }
    while (!sender.add(events)) await flush();
  }
  await flush();
}

async function main() {
  let options;
  try {
    options = parse();
  } catch (error) {
    console.error(`${error.message}\n${USAGE}`);
    return 2;
  }
  let sender;
  try {
    sender = new Sender(options.socket, options.app, { protoFolder: options.proto });
    if (!fs.existsSync(options.socket)) {
      throw new Error(`there is no ${options.socket}: start telemetryd, or name its grpc.sock with --socket`);
    }
    await send(sender, options);
  } catch (error) {
    const off = error instanceof CollectionOff;
    console.error(off ? `collection is off: ${error.message}` : `failed: ${error.message}`);
    return off ? 3 : 1;
  } finally {
    sender?.close();
  }
  for (const { number, code, message } of sender.refused) {
    console.error(`request ${number} was refused: ${code}: ${message}`);
  }
  console.log(`acknowledged ${options.count} events, ${sender.resent} requests sent again`);
  return sender.refused.length > 0 ? 1 : 0;
}

main().then((code) => { process.exitCode = code; });
