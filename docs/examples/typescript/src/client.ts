// A client of Mooring: one session that outlives its connections.
//
//     const client = new Client(url, token);
//     const posted = await client.post(direct(1n, 2n), 'hello');
//     for await (const delivery of client.deliveries()) {
//       ...  // Store it.
//       client.keep(delivery);
//     }
//
// What it does by itself: it says hello, sends heartbeats, fetches what it has missed, comes back
// after a drop and then sends again what had no answer. docs/protocol.md tells why each step is so.
// It needs nothing but the platform's WebSocket, so it runs in browsers, too.

import { type Answer, type ClientBody } from './frames.js';
import { bytesOf, decode, encode, hello, stringOf } from './frames.js';
import * as wire from './generated/mooring/wire.js';
import { Queue } from './queue.js';
import { type Nonced, type Pending, State } from './state.js';

const SUBPROTOCOL = 'mooring.v1';
const PROTOCOL_VERSION = 1;

/** The delay of "resume later" doubles from one to the other. */
const BACKOFF_MIN_MS = 1_000;
const BACKOFF_MAX_MS = 60_000;
/** How long the gateway may take to answer Hello. */
const WELCOME_TIMEOUT_MS = 10_000;
/** How often a cursor that has moved is acknowledged. */
const ACK_INTERVAL_MS = 2_000;

type Action = 'resume' | 'resume later' | 'log in' | 'end';

/** What to do after a close, by its code: the table of docs/protocol.md. */
const AFTER_CLOSE: Record<number, Action> = {
  1001: 'resume', 4408: 'resume', 4413: 'resume',
  4401: 'log in',
  4403: 'end', 4406: 'end', 4409: 'end',
  1002: 'end', 1003: 'end', 1007: 'end', 1009: 'end', 4400: 'end', 4410: 'end',
};

/** The gateway will not have this session back: the message says why. */
export class SessionEnded extends Error {}

/** The connection broke before the answer came. */
class ConnectionLost extends Error {}

/** A request was refused; the session goes on. */
export class Rejected extends Error {
  readonly code: wire.RejectCode;
  /** After how long the same request may succeed; 0 for never. */
  readonly retryAfterMs: number;

  constructor(rejected: wire.RejectedT) {
    super(`code ${rejected.code}: ${stringOf(rejected.text)}`);
    this.code = rejected.code;
    this.retryAfterMs = rejected.retryAfterMs;
  }
}

interface Waiting {
  resolve(answer: Answer): void;
  reject(error: Error): void;
}

/** One device's session. */
export class Client {
  user = 0n;
  /** How often it has been welcomed. */
  connections = 0;
  /** How often the gateway has voided the cursor: what was kept of the inbox is worthless. */
  resets = 0;
  /** Told what happens to the connection. */
  onTrouble: (text: string) => void = () => {};

  readonly device: number;
  private socket: WebSocket | null = null;
  private received = 0n;
  private nextRequest = 1;
  private waiting = new Map<number, Waiting>();
  private inbox = new Queue<{ epoch: bigint; delivery: wire.DeliverT }>();
  private reconnect: wire.ReconnectT | null = null;
  private ended: Error | null = null;
  private whenLive: (() => void)[] = [];

  constructor(
    private readonly url: string,
    private readonly token: string,
    readonly state = new State(),
  ) {
    this.device = claimsOf(token).did;
    void this.run();
  }

  // What an application calls.

  /** Puts a text into a channel; resolves when the gateway has it on its disk. */
  async post(channel: wire.ChannelIdT, text: string): Promise<wire.PostedT> {
    const post = new wire.PostT(channel, this.state.newNonce());
    post.body = bytesOf(text);
    return (await this.submit(post)) as wire.PostedT;
  }

  /** Sends a request that has a nonce until it is answered, over as many connections as needed. */
  async submit(body: Nonced): Promise<Answer> {
    const request = this.newRequest();
    const pending = { body, sentOn: 0 };
    this.state.outbox.set(request, pending);
    try {
      for (;;) {
        const answer = this.expect(request);
        if (this.socket !== null) this.transmit(this.socket, request, pending);
        try {
          return await answer;
        } catch (error) {
          if (!(error instanceof Rejected && error.retryAfterMs > 0)) throw error;
          await sleep(error.retryAfterMs);
        }
      }
    } finally {
      this.state.outbox.delete(request);
    }
  }

  /** Sends a question until it is answered. It needs no nonce: reading twice is harmless. */
  async ask(body: ClientBody): Promise<Answer> {
    for (;;) {
      const socket = await this.live();
      const request = this.newRequest();
      const answer = this.expect(request);
      socket.send(encode(request, body));
      try {
        return await answer;
      } catch (error) {
        if (!(error instanceof ConnectionLost)) throw error;
      }
    }
  }

  /**
   * The entries of the inbox in their order. Store each one, then `keep` it; one that was not kept
   * comes again after a drop.
   */
  async *deliveries(): AsyncGenerator<wire.DeliverT, never> {
    for (;;) {
      const { epoch, delivery } = await this.inbox.next();
      if (epoch === this.state.epoch && delivery.inboxSeq > this.state.cursor) yield delivery;
    }
  }

  /** Everything up to this entry is stored. The gateway is told soon. */
  keep(delivery: wire.DeliverT): void {
    const isOld = delivery.inboxSeq <= this.state.cursor;
    const isFromBeforeAReset = delivery.inboxSeq > this.received;
    if (!isOld && !isFromBeforeAReset) this.state.cursor = delivery.inboxSeq;
  }

  /** Resolves when the gateway hears us. */
  async live(): Promise<WebSocket> {
    while (this.socket === null) {
      if (this.ended !== null) throw this.ended;
      await new Promise<void>((resolve) => this.whenLive.push(resolve));
    }
    return this.socket;
  }

  /** Ends the session. Its state can begin another one. */
  close(): void {
    const socket = this.socket;
    this.fail(new SessionEnded('closed here'));
    socket?.close(1000);
  }

  // The life of the session.

  private async run(): Promise<void> {
    let backoff = BACKOFF_MIN_MS;
    while (this.ended === null) {
      const welcomed = this.connections;
      const action = await this.connectOnce();
      this.loseConnection();
      if (this.ended !== null) return;
      if (this.connections > welcomed) backoff = BACKOFF_MIN_MS;
      let delay = this.reconnect?.afterMs ?? Math.random() * 1000;
      if (action === 'resume later') {
        // Between half of it and all: clients that lost one gateway together must not come back
        // together.
        delay = backoff * (0.5 + Math.random() / 2);
        backoff = Math.min(backoff * 2, BACKOFF_MAX_MS);
      } else if (action === 'end' || action === 'log in') {
        return;
      }
      this.onTrouble(`connecting again in ${(delay / 1000).toFixed(1)} s`);
      await sleep(delay);
    }
  }

  /** Connects, and stays until the connection ends. Tells what to do then. */
  private connectOnce(): Promise<Action> {
    const url = stringOf(this.reconnect?.url ?? null) || this.url;
    this.reconnect = null;
    const withTicket = this.state.ticket !== null;
    return new Promise((resolve) => {
      const socket = new WebSocket(url, SUBPROTOCOL);
      socket.binaryType = 'arraybuffer';
      const timeout = setTimeout(() => socket.close(), WELCOME_TIMEOUT_MS);
      let beat: NodeJS.Timeout | undefined;
      const end = (code: number, reason: string) => {
        clearTimeout(timeout);
        clearInterval(beat);
        resolve(this.afterClose(code, reason, withTicket));
      };
      socket.onopen = () => socket.send(this.greeting());
      socket.onmessage = ({ data }) => {
        const { request, body } = decode(new Uint8Array(data as ArrayBuffer));
        if (body instanceof wire.WelcomeT) {
          clearTimeout(timeout);
          beat = this.beat(socket, body.heartbeatIntervalMs);
          this.welcome(socket, body);
        } else {
          this.handle(socket, request, body);
        }
      };
      socket.onclose = ({ code, reason }) => end(code, reason);
      // Where no connection comes about, some runtimes tell of no close.
      socket.onerror = () => end(1006, 'no connection');
    });
  }

  private afterClose(code: number, reason: string, withTicket: boolean): Action {
    if (this.ended !== null) return 'end';
    this.onTrouble(`${this.url}: closed with ${code} ${reason}`);
    const action = AFTER_CLOSE[code] ?? 'resume later';
    if (action === 'log in' && withTicket) {
      this.state.ticket = null; // Perhaps the token is still good.
      return 'resume';
    }
    if (action === 'log in' || action === 'end') {
      this.fail(new SessionEnded(`closed with ${code}: ${reason}`));
    }
    return action;
  }

  private greeting(): Uint8Array<ArrayBuffer> {
    const frame = hello(this.token, this.state.ticket);
    frame.protocolVersion = PROTOCOL_VERSION;
    frame.device = this.device;
    frame.epoch = this.state.epoch;
    frame.cursor = this.state.cursor;
    frame.client = 'example/typescript';
    return encode(this.newRequest(), frame);
  }

  /** Takes the verdict about the cursor, then sends again what had no answer. */
  private welcome(socket: WebSocket, welcome: wire.WelcomeT): void {
    this.user = welcome.user;
    this.connections += 1;
    this.state.ticket = welcome.ticket;
    if (welcome.resume !== wire.Resume.Resumed) {
      if (this.state.epoch !== 0n) this.resets += 1;
      this.state.epoch = welcome.epoch;
      this.state.cursor = welcome.inboxHead;
    }
    // What is queued and not kept comes again.
    this.inbox.clear();
    this.received = this.state.cursor;
    for (const [request, pending] of this.state.outbox) this.transmit(socket, request, pending);
    this.socket = socket;
    this.whenLive.splice(0).forEach((resolve) => resolve());
  }

  /** Acknowledges the cursor when it has moved; otherwise shows that we are alive. */
  private beat(socket: WebSocket, heartbeatMs: number): NodeJS.Timeout {
    let acknowledged = this.state.cursor;
    let silence = 0;
    const interval = Math.min(ACK_INTERVAL_MS, heartbeatMs / 3);
    return setInterval(() => {
      silence += interval;
      if (this.state.cursor !== acknowledged) {
        acknowledged = this.state.cursor;
        socket.send(encode(0, new wire.CursorAckT(acknowledged)));
        silence = 0;
      } else if (silence >= heartbeatMs / 2) {
        socket.send(encode(0, new wire.PingT()));
        silence = 0;
      }
    }, interval);
  }

  private handle(socket: WebSocket, request: number, body: Answer | null): void {
    if (body instanceof wire.DeliverT) {
      this.receive(socket, body);
    } else if (body instanceof wire.SyncPageT) {
      body.entries.forEach((delivery) => this.receive(socket, delivery));
      if (!body.end) socket.send(encode(this.newRequest(), new wire.SyncT(body.next)));
    } else if (body instanceof wire.ReconnectT) {
      this.reconnect = body;
    } else if (body instanceof wire.RejectedT) {
      this.waiting.get(request)?.reject(new Rejected(body));
      this.waiting.delete(request);
    } else if (body !== null) {
      this.waiting.get(request)?.resolve(body);
      this.waiting.delete(request);
    }
  }

  private receive(socket: WebSocket, delivery: wire.DeliverT): void {
    if (delivery.inboxSeq <= this.received) return;
    if (delivery.inboxSeq !== this.received + 1n) {
      // The gateway promises that there are no gaps: resume from what we have.
      socket.close();
      return;
    }
    this.received = delivery.inboxSeq;
    this.inbox.push({ epoch: this.state.epoch, delivery });
  }

  // Small parts.

  private newRequest(): number {
    const request = this.nextRequest;
    this.nextRequest = (request % 0xffff_ffff) + 1;
    return request;
  }

  private expect(request: number): Promise<Answer> {
    if (this.ended !== null) return Promise.reject(this.ended);
    return new Promise((resolve, reject) => this.waiting.set(request, { resolve, reject }));
  }

  private transmit(socket: WebSocket, request: number, pending: Pending): void {
    if (pending.sentOn !== 0 && pending.body instanceof wire.PostT) pending.body.retry = true;
    pending.sentOn = this.connections;
    socket.send(encode(request, pending.body));
  }

  private loseConnection(): void {
    this.socket = null;
    for (const [request, { reject }] of this.waiting) {
      if (this.state.outbox.has(request)) continue; // It is sent again.
      this.waiting.delete(request);
      reject(new ConnectionLost('the connection broke'));
    }
  }

  private fail(error: Error): void {
    this.ended = error;
    this.socket = null;
    this.whenLive.splice(0).forEach((resolve) => resolve());
    this.waiting.forEach(({ reject }) => reject(error));
    this.waiting.clear();
    this.inbox.fail(error);
  }
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** What a token says (not checked: that is the gateway's part). */
function claimsOf(token: string): { did: number } {
  try {
    const payload = (token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/');
    return JSON.parse(atob(payload)) as { did: number };
  } catch {
    throw new TypeError('the token is not a JWT; `mooring token` prints one');
  }
}
