'use strict';
// Hands events to telemetryd over grpc.sock and keeps each request until it is acknowledged.
//
// A request has a number within this sender's instance. What was not acknowledged is sent again
// with the same number, so nothing is lost and nothing is stored twice, whatever dies in between.

const crypto = require('node:crypto');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');
const { whyOff } = require('./consent.js');

const REQUESTS_KEPT_MAX = 1000;
const UNANSWERED_MAX = 64; // in a stream, as docs/formats/grpc.md has it
const CALL_TIMEOUT_MS = 30_000;
const DELAY_MIN_MS = 100;
const DELAY_MAX_MS = 10_000;
const RETRY_INFO = 'type.googleapis.com/google.rpc.RetryInfo';

const { status } = grpc;
const RETRYABLE = new Set([status.UNAVAILABLE, status.ABORTED, status.DEADLINE_EXCEEDED,
  status.CANCELLED, status.UNKNOWN, status.INTERNAL]);

/** Policy or consent says no. Stop making events; what was kept may be forgotten. */
class CollectionOff extends Error {}

/** 16 bytes: 48 bits of milliseconds, then version, variant and randomness (RFC 9562). */
function uuid7() {
  const id = crypto.randomBytes(16);
  id.writeUIntBE(Date.now(), 0, 6);
  id[6] = 0x70 | (id[6] & 0x0f);
  id[8] = 0x80 | (id[8] & 0x3f);
  return id;
}

function newEvent(name, attributes = []) {
  return { id: uuid7(), name, time_unix_nano: `${Date.now()}000000`, attributes };
}

/** The client class of telemetry.v1.IngestService and a reader of RetryInfo, from the .proto files. */
function load(protoFolder) {
  const loaded = protoLoader.loadSync(
    ['telemetry/v1/ingest.proto', path.join(__dirname, '../retry_info.proto')],
    { includeDirs: [protoFolder], keepCase: true, longs: String, defaults: true });
  const { telemetry } = grpc.loadPackageDefinition(loaded);
  const type = (name) => protoLoader.loadSync(path.join(__dirname, '../retry_info.proto'),
    { longs: Number, defaults: true })[`telemetry.example.${name}`];
  return { Client: telemetry.v1.IngestService, readStatus: type('Status'), readRetryInfo: type('RetryInfo') };
}

/**
 * `patienceMs` bounds how long a flush goes on without an acknowledgement. Throws CollectionOff when
 * this process's user said no.
 */
class Sender {
  #client;
  #protos;
  #context;
  #instance = crypto.randomBytes(16);
  #number = 0;
  #kept = []; // oldest first
  #patienceMs;
  #failures = 0; // since the last acknowledgement
  #giveUp = 0;
  resent = 0;
  refused = []; // {number, code, message} of requests that were refused for good

  constructor(socket, app, { protoFolder, patienceMs = 60_000 }) {
    const rule = whyOff(app, socket);
    if (rule) throw new CollectionOff(rule);
    this.#protos = load(protoFolder);
    // A channel that lost its gateway connects again at most this late.
    this.#client = new this.#protos.Client(`unix:${socket}`, grpc.credentials.createInsecure(),
      { 'grpc.max_reconnect_backoff_ms': 1000 });
    this.#context = { app, language: 'javascript', sdk: 'grpc-example/1' };
    this.#patienceMs = patienceMs;
  }

  close() {
    this.#client.close();
  }

  /** Makes one request of the events. False: too much is waiting; flush first. */
  add(events) {
    if (this.#kept.length >= REQUESTS_KEPT_MAX) return false;
    this.#number += 1;
    this.#kept.push({ events, instance: this.#instance, number: this.#number, context: this.#context });
    return true;
  }

  /** One call per request, each answered after it is on stable storage. */
  async flush() {
    this.#progress();
    while (this.#kept.length > 0) {
      const request = this.#oldestFirst(this.#kept[0]);
      try {
        this.#settle((await this.#publish(request)).acknowledged);
      } catch (error) {
        if (error.code === status.INVALID_ARGUMENT) {
          this.refused.push({ number: request.number, code: 'INVALID_ARGUMENT', message: error.details });
          this.#settle(request.number);
          continue;
        }
        await this.#waitAfter(error);
        this.resent += 1;
      }
    }
  }

  /** Many requests on the way at a time; a stream that ends is opened again. */
  async flushStream() {
    this.#progress();
    while (this.#kept.length > 0) {
      try {
        await this.#streamOnce();
      } catch (error) {
        await this.#waitAfter(error);
      }
    }
  }

  #publish(request) {
    return new Promise((resolve, reject) => {
      this.#client.Publish(request, { deadline: Date.now() + CALL_TIMEOUT_MS },
        (error, answer) => (error ? reject(error) : resolve(answer)));
    });
  }

  async #streamOnce() {
    const stream = this.#client.PublishStream();
    let sent = 0; // of #kept, from its beginning
    const fill = () => {
      for (; sent < Math.min(this.#kept.length, UNANSWERED_MAX); sent += 1) {
        stream.write(this.#oldestFirst(this.#kept[sent]));
      }
    };
    try {
      fill();
      for await (const answer of stream) {
        sent -= this.#settle(answer.acknowledged);
        if (answer.refused?.retryable) {
          await sleep(answer.refused.retry_after_ms || DELAY_MIN_MS);
          this.#checkPatience(answer.refused.message);
          // Everything from that number on has to come again, which is all that is kept.
          this.resent += sent;
          sent = 0;
        } else if (answer.refused) {
          if (answer.refused.code === 'COLLECTION_OFF') throw new CollectionOff(answer.refused.message);
          this.refused.push(answer.refused);
        }
        if (this.#kept.length === 0) stream.end();
        fill();
      }
    } catch (error) {
      this.resent += sent;
      throw error;
    } finally {
      stream.on('error', () => {}); // of a call that is over
      stream.cancel();
    }
  }

  #oldestFirst(request) {
    return Object.assign(request, { oldest_number: this.#kept[0].number });
  }

  /** How many requests that was the answer to. */
  #settle(acknowledged) {
    let settled = 0;
    while (settled < this.#kept.length && this.#kept[settled].number <= Number(acknowledged)) settled += 1;
    this.#kept.splice(0, settled);
    if (settled > 0) this.#progress();
    return settled;
  }

  #progress() {
    this.#failures = 0;
    this.#giveUp = Date.now() + this.#patienceMs;
  }

  #checkPatience(why) {
    if (Date.now() > this.#giveUp) throw new Error(`telemetryd took nothing for ${this.#patienceMs} ms: ${why}`);
  }

  /** The delay that a refusal names, in ms; undefined when it names none. */
  #retryInfo(error) {
    const [details] = error.metadata?.get('grpc-status-details-bin') ?? [];
    if (!details) return undefined;
    const found = this.#protos.readStatus.deserialize(details).details.find((one) => one.typeUrl === RETRY_INFO);
    if (!found) return undefined;
    const delay = this.#protos.readRetryInfo.deserialize(found.value).retryDelay;
    return delay ? delay.seconds * 1000 + delay.nanos / 1e6 : undefined;
  }

  /** Returns when it is time to try again; throws when trying again is of no use. */
  async #waitAfter(error) {
    if (error.code === status.PERMISSION_DENIED) throw new CollectionOff(error.details);
    const named = this.#retryInfo(error);
    if (!RETRYABLE.has(error.code) && !(error.code === status.RESOURCE_EXHAUSTED && named !== undefined)) throw error;
    this.#checkPatience(error.details);
    const backoff = Math.random() * Math.min(DELAY_MAX_MS, DELAY_MIN_MS * 2 ** this.#failures);
    this.#failures += 1;
    await sleep(named ?? backoff);
  }
}

module.exports = { CollectionOff, Sender, newEvent };
