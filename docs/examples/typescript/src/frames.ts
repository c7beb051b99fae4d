// Bytes to frames and back. The frames themselves are generated from wire/schema/frame.fbs.

import { Builder, ByteBuffer } from 'flatbuffers';

import * as wire from './generated/mooring/wire.js';

const CLIENT_IDENTIFIER = 'MRC1';
const SERVER_IDENTIFIER = 'MRS1';

/** What a device can say, with its number in the union. */
const BODY_TYPES = new Map<unknown, wire.ClientBody>([
  [wire.HelloT, wire.ClientBody.Hello],
  [wire.PostT, wire.ClientBody.Post],
  [wire.CursorAckT, wire.ClientBody.CursorAck],
  [wire.SyncT, wire.ClientBody.Sync],
  [wire.HistoryT, wire.ClientBody.History],
  [wire.ChannelCreateT, wire.ClientBody.ChannelCreate],
  [wire.ChannelAddMembersT, wire.ClientBody.ChannelAddMembers],
  [wire.ChannelRemoveMembersT, wire.ClientBody.ChannelRemoveMembers],
  [wire.ChannelLeaveT, wire.ClientBody.ChannelLeave],
  [wire.ChannelListT, wire.ClientBody.ChannelList],
  [wire.MarkReadT, wire.ClientBody.MarkRead],
  [wire.TypingT, wire.ClientBody.Typing],
  [wire.PingT, wire.ClientBody.Ping],
]);

/**
 * Hello with a token. The generated `pack` cannot leave a vector out, and an empty ticket beside
 * the token would be a second credential.
 */
class HelloWithToken extends wire.HelloT {
  override pack(builder: Builder): number {
    const token = builder.createString(this.token!);
    const client = builder.createString(this.client!);
    const { protocolVersion, device, epoch, cursor } = this;
    return wire.Hello.createHello(
      builder, protocolVersion, token, 0, device, epoch, cursor, client,
    );
  }
}
BODY_TYPES.set(HelloWithToken, wire.ClientBody.Hello);

/** Who we are, by one credential: the token, or the ticket if there is one. */
export function hello(token: string, ticket: number[] | null): wire.HelloT {
  const hello = ticket === null ? new HelloWithToken() : new wire.HelloT();
  if (ticket === null) hello.token = token;
  else hello.ticket = ticket;
  return hello;
}

export type ClientBody = NonNullable<wire.ClientFrameT['body']>;
export type ServerBody = wire.ServerFrameT['body'];
/** What the gateway answers requests with. */
export type Answer = Exclude<ServerBody, null>;

/** A frame from the device. */
export function encode(request: number, body: ClientBody): Uint8Array<ArrayBuffer> {
  const bodyType = BODY_TYPES.get(body.constructor);
  if (bodyType === undefined) throw new TypeError(`not a frame: ${body.constructor.name}`);
  const builder = new Builder(256);
  const frame = new wire.ClientFrameT(request, bodyType, body);
  builder.finish(frame.pack(builder), CLIENT_IDENTIFIER);
  return builder.asUint8Array().slice();
}

/** A frame from the gateway. Its `body` is null if it is of a type that we do not know. */
export function decode(bytes: Uint8Array): wire.ServerFrameT {
  const identifier = String.fromCharCode(...bytes.subarray(4, 8));
  if (identifier !== SERVER_IDENTIFIER) throw new TypeError(`not a gateway's: ${identifier}`);
  return wire.ServerFrame.getRootAsServerFrame(new ByteBuffer(bytes)).unpack();
}

/** The channel between two users, or of one with herself: the lower number comes first. */
export function direct(one: bigint, other: bigint): wire.ChannelIdT {
  return one < other ? new wire.ChannelIdT(one, other) : new wire.ChannelIdT(other, one);
}

export function bytesOf(text: string): number[] {
  return [...new TextEncoder().encode(text)];
}

export function textOf(body: number[]): string {
  return new TextDecoder().decode(Uint8Array.from(body));
}

/** A string of a frame. */
export function stringOf(text: string | Uint8Array | null): string {
  return typeof text === 'string' ? text : new TextDecoder().decode(text ?? new Uint8Array());
}
