// What a device keeps between two connections, and what it keeps between two runs.

import type * as wire from './generated/mooring/wire.js';

/** A request that may be sent again: its nonce makes the repeat harmless. */
export type Nonced =
  | wire.PostT
  | wire.ChannelCreateT
  | wire.ChannelAddMembersT
  | wire.ChannelRemoveMembersT
  | wire.ChannelLeaveT;

/** A line of the outbox: a request with a nonce that has no answer yet. */
export interface Pending {
  body: Nonced;
  /** On which connection it was sent last; 0 for none. Sending it again is a retry. */
  sentOn: number;
}

/**
 * The device's memory.
 *
 * This example keeps it in memory. An application keeps it all in durable storage (in a browser:
 * IndexedDB), and writes a message to the outbox before it is sent: then neither a crash nor a
 * restart can lose it or send it twice.
 */
export class State {
  /** Which history of the inbox the cursor belongs to; 0 before the first connection. */
  epoch = 0n;
  /** Everything in the inbox up to here is kept. */
  cursor = 0n;
  /** Spares the next connection the token. A secret. */
  ticket: number[] | null = null;
  /** By request number, in the order in which they were first sent. */
  outbox = new Map<number, Pending>();
  /** Random, so that a device that has lost its memory does not use an old nonce again. */
  private nextNonce = crypto.getRandomValues(new BigUint64Array(1))[0]! >> 2n;

  /** A nonce that this device has not used. */
  newNonce(): bigint {
    this.nextNonce += 1n;
    return this.nextNonce;
  }
}
