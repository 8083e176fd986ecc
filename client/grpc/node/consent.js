'use strict';
// May this process send? What its user said: the environment, the consent files, the daemon's
// policy file.
//
// telemetryd sees neither the environment of a sender nor its files, so the sender asks. Off wins,
// and whatever cannot be understood is off. A file is regular and small, or it is not understood.

const fs = require('node:fs');
const path = require('node:path');

const FILE_BYTES_MAX = 4096;
const YES = ['1', 'true', 'on', 'yes'];
const NO = ['0', 'false', 'off', 'no'];
const STATES = new Map([['enabled', 'enabled'], ['disabled', 'disabled'], ['opted-out', 'disabled'],
  ['local', 'local'], ['unset', 'unset']]);
const STATUSES = new Map([['Granted', 'enabled'], ['Denied', 'disabled'], ['OptedOut', 'disabled'],
  ['Unknown', 'unset']]);
const POLICIES = ['opt-in', 'opt-out', 'off'];
const UNREADABLE = 'unreadable';

/** What a variable says: yes, no, unset, or unknown. */
function word(name) {
  const text = (process.env[name] ?? '').replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, '').toLowerCase();
  if (text === '') return 'unset';
  if (YES.includes(text)) return 'yes';
  return NO.includes(text) ? 'no' : 'unknown';
}

/** The text of a file; undefined when there is none. Throws when it cannot be read. */
function readSmall(file) {
  const { O_RDONLY, O_NONBLOCK, O_NOCTTY } = fs.constants;
  let descriptor;
  try {
    // A pipe in its place must not keep us waiting.
    descriptor = fs.openSync(file, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
    throw error;
  }
  try {
    if (!fs.fstatSync(descriptor).isFile()) throw new Error('is no regular file');
    const bytes = Buffer.alloc(FILE_BYTES_MAX + 1);
    const size = fs.readSync(descriptor, bytes, 0, bytes.length, 0);
    if (size > FILE_BYTES_MAX) throw new Error('is too long');
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(0, size));
  } finally {
    fs.closeSync(descriptor);
  }
}

/** The decision in the JSON file of telemetry-kit. */
function stateInJson(text) {
  if ((text.match(/"status"\s*:/g) ?? []).length !== 1) return UNREADABLE;
  return STATUSES.get(JSON.parse(text).status) ?? UNREADABLE;
}

/** The decision in a consent.toml: of TOML what telemetryctl writes, line by line. */
function stateInToml(text) {
  let state;
  for (const line of text.split('\n').map((one) => one.trim())) {
    if (line === '' || line.startsWith('#')) continue;
    if (line.startsWith('[')) break; // a table; our keys are not in one
    const pair = /^([A-Za-z0-9_-]+)\s*=\s*(.+)$/.exec(line);
    if (!pair) return UNREADABLE;
    const [, key, value] = pair;
    if (key === 'version' && !/^1\s*(#.*)?$/.test(value)) return UNREADABLE;
    if (key !== 'state') continue;
    const quoted = /^(["'])([a-z-]*)\1\s*(#.*)?$/.exec(value);
    if (!quoted || state !== undefined) return UNREADABLE;
    state = STATES.get(quoted[2]) ?? UNREADABLE;
  }
  return state ?? UNREADABLE;
}

/** enabled, disabled, local, unset, or unreadable. */
function consentState(app) {
  const { XDG_CONFIG_HOME: config = '', HOME: home = '' } = process.env;
  if (!config.startsWith('/') && !home.startsWith('/')) return 'unset';
  const folder = config.startsWith('/') ? config : path.join(home, '.config');
  try {
    const text = readSmall(path.join(folder, app, 'consent.toml'));
    if (text === undefined) return 'unset';
    return /^[ \t\r\n]*\{/.test(text) ? stateInJson(text) : stateInToml(text);
  } catch {
    return UNREADABLE;
  }
}

/** What the daemon published beside its sockets; opt-out and opt-in leave the rest to its answer. */
function policyBeside(socket) {
  try {
    const text = readSmall(path.join(path.dirname(socket), 'policy'));
    if (text === undefined) return 'unset';
    const policy = text.split('\n')[0].replace(/^[^=]*=/, '').replace(/^[ \t\r"]+|[ \t\r"]+$/g, '');
    return POLICIES.includes(policy) ? policy : 'off';
  } catch {
    return 'off';
  }
}

/** The rule that forbids to send, or undefined: then telemetryd decides by what it knows. */
function whyOff(app, socket) {
  for (const name of ['DO_NOT_TRACK', 'DNT']) {
    if (['yes', 'unknown'].includes(word(name))) return `${name} is set`;
  }
  const variable = `${app.replace(/[a-z]/g, (letter) => letter.toUpperCase()).replace(/[^A-Z0-9]/g, '_')}_TELEMETRY`;
  if (['no', 'unknown'].includes(word(variable))) return `${variable} says so`;
  // "local" wants the events kept on this machine, which a sender over gRPC cannot pass on.
  for (const tool of [app, 'telemetryd']) {
    const state = consentState(tool);
    if (['disabled', 'local', UNREADABLE].includes(state)) return `consent.toml of ${tool} is ${state}`;
  }
  return policyBeside(socket) === 'off' ? "the machine's policy is off" : undefined;
}

module.exports = { whyOff };
