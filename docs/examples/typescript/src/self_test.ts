// What the example client promises, tried against a running server. Ends with status 1 and the
// first thing that is not so.
//
//     node dist/self_test.js --url URL --token A1 --token A2 --token B1
//
// A1 and A2 are devices of one user, B1 is a device of another; neither user has written before.

import { deepStrictEqual as same, fail } from 'node:assert/strict';
import { parseArgs } from 'node:util';

import { Client, Rejected } from './client.js';
import { type Answer, bytesOf, direct, stringOf, textOf } from './frames.js';
import * as wire from './generated/mooring/wire.js';
import { LossyNetwork } from './lossy_network.js';

/** Bounds every single step; none of them needs a second. */
const STEP_TIMEOUT_MS = 30_000;

/** A client, with its inbox read entry by entry, behind a network that can fail. */
class Device {
  readonly client: Client;
  private readonly inbox: AsyncGenerator<wire.DeliverT, never>;

  private constructor(readonly network: LossyNetwork, token: string, last?: Device) {
    this.client = new Client(network.url, token, last?.client.state);
    this.inbox = this.client.deliveries();
  }

  /** Connects; after `last`, with its memory. */
  static async start(url: string, token: string, last?: Device): Promise<Device> {
    const device = new Device(await LossyNetwork.to(url), token, last);
    await step(device.client.live());
    return device;
  }

  async next(): Promise<wire.DeliverT> {
    const { value } = await step(this.inbox.next());
    this.client.keep(value);
    return value;
  }

  async event<Kind>(kind: new () => Kind): Promise<Kind> {
    const { event } = await this.next();
    if (!(event instanceof kind)) fail(`expected ${kind.name}, found ${event?.constructor.name}`);
    return event;
  }

  async texts(count: number): Promise<string[]> {
    const texts = [];
    while (texts.length < count) texts.push(textOf((await this.event(wire.MessageT)).body));
    return texts;
  }

  stop(): void {
    this.client.close();
    this.network.close();
  }
}

async function step<Value>(promise: Promise<Value>): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('a step took too long')), STEP_TIMEOUT_MS);
  });
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer));
}

function numbered(word: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${word} ${index}`);
}

async function aMessageReachesEveryDevice(
  a1: Device, a2: Device, b1: Device, channel: wire.ChannelIdT,
): Promise<void> {
  const posted = await step(a1.client.post(channel, 'hello'));
  same([posted.seq, posted.durability], [1n, wire.Durability.Durable], 'the first answer');
  for (const [device, text] of [[a1, ''], [a2, 'hello'], [b1, 'hello']] as const) {
    const { inboxSeq, event } = await device.next();
    const { seq, sender, body } = event as wire.MessageT;
    same([inboxSeq, seq, sender, textOf(body)], [1n, 1n, a1.client.user, text], 'the message');
  }
}

async function whatAReaderMissedComesInOrder(
  a1: Device, b1: Device, channel: wire.ChannelIdT,
): Promise<void> {
  const expected = numbered('while dropped', 40);
  const before = expected.slice(0, 20).map((text) => a1.client.post(channel, text));
  const found = await b1.texts(5);
  b1.network.drop();
  const after = expected.slice(20).map((text) => a1.client.post(channel, text));
  found.push(...(await b1.texts(35)));
  same(found, expected, 'what came over two connections');
  same(b1.client.connections, 2, 'connections');
  await step(Promise.all([...before, ...after]));
}

async function aSenderThatDropsSendsEachOnce(
  a1: Device, b1: Device, channel: wire.ChannelIdT,
): Promise<void> {
  const expected = numbered('from a dropped sender', 40);
  const posts = expected.map((text) => a1.client.post(channel, text));
  const first = (await step(posts[0]!)).seq;
  a1.network.drop();
  const seqs = (await step(Promise.all(posts))).map(({ seq }) => seq);
  same(seqs, expected.map((_, index) => first + BigInt(index)), 'places of retried posts');
  same(await b1.texts(40), expected, 'what came of retried posts');
}

async function aRepeatGetsTheFirstAnswer(
  a1: Device, b1: Device, channel: wire.ChannelIdT,
): Promise<void> {
  const nonce = a1.client.state.newNonce();
  const post = async (text: string, retry: boolean) => {
    const body = new wire.PostT(channel, nonce, 0, bytesOf(text), retry);
    return (await step(a1.client.submit(body))) as wire.PostedT;
  };
  const first = await post('once', false);
  for (const retry of [true, false]) {
    const again = await post('once', retry);
    same([again.seq, again.createdAt], [first.seq, first.createdAt], 'the answer to a repeat');
  }
  await refused(post('other', true), wire.RejectCode.NonceReused);
  same(await b1.texts(1), ['once'], 'what came of three sends');
}

async function refused(request: Promise<unknown>, code: wire.RejectCode): Promise<void> {
  try {
    await step(request);
  } catch (error) {
    if (!(error instanceof Rejected)) throw error;
    return same(error.code, code, 'the code of a refusal');
  }
  fail(`expected code ${code}, was accepted`);
}

async function historyAgreesInBothDirections(
  b1: Device, channel: wire.ChannelIdT, newest: number,
): Promise<void> {
  const page = async (direction: wire.Direction, from: bigint) => {
    const answer = await step(b1.client.ask(new wire.HistoryT(channel, direction, from, 7)));
    const { entries, more } = answer as wire.HistoryPageT;
    return { messages: entries.map(({ event }) => event as wire.MessageT), more };
  };
  const backward: wire.MessageT[] = [];
  for (let from = 0n, more = true; more; from = backward[0]!.seq) {
    const found = await page(wire.Direction.Backward, from);
    backward.unshift(...found.messages);
    more = found.more;
  }
  const forward: wire.MessageT[] = [];
  for (let from = 1n, more = true; more; from = forward.at(-1)!.seq + 1n) {
    const found = await page(wire.Direction.Forward, from);
    forward.push(...found.messages);
    more = found.more;
  }
  same(forward.map(({ seq }) => Number(seq)), Array.from({ length: newest }, (_, i) => i + 1));
  same(backward, forward, 'history in both directions');
}

async function aGroupComesAndGoes(
  a1: Device, b1: Device, channel: wire.ChannelIdT,
): Promise<void> {
  const [alice, bob] = [a1.client, b1.client];
  const nonce = () => alice.state.newNonce();
  const kind = wire.ChannelKind.Group;
  const create = new wire.ChannelCreateT(nonce(), kind, 'plans', [bob.user]);
  const group = ((await step(alice.submit(create))) as wire.ChannelReadyT).channel!;
  const again = ((await step(alice.submit(create))) as wire.ChannelReadyT).channel!;
  same([again.high, again.low], [group.high, group.low], 'the same creation again');
  const created = await b1.event(wire.ChannelCreatedT);
  same([stringOf(created.title), created.members], ['plans', [alice.user, bob.user]]);

  const carol = bob.user + 1n;
  const add = new wire.ChannelAddMembersT(group, nonce(), [carol], wire.Role.Member);
  same(((await step(alice.submit(add))) as wire.PostedT).seq, 2n, 'the place of the addition');
  const change = await b1.event(wire.MembershipChangeT);
  same([change.op, change.members], [wire.MembershipOp.Add, [carol]], 'the addition');
  await step(bob.post(group, 'here'));
  same((await b1.event(wire.MessageT)).seq, 3n, 'the place of a message of a member');

  await step(bob.submit(new wire.ChannelLeaveT(group, bob.state.newNonce())) as Promise<Answer>);
  same((await b1.event(wire.MembershipChangeT)).op, wire.MembershipOp.Leave, 'the leave');
  await step(alice.post(group, 'without bob'));
  await step(alice.post(channel, 'to bob'));
  same(await b1.texts(1), ['to bob'], 'what comes after the leave');
  await refused(bob.post(group, 'still here?'), wire.RejectCode.NotMember);
}

async function aNewRunResumesWhereTheLastOneEnded(
  a1: Device, url: string, token: string, last: Device, channel: wire.ChannelIdT,
): Promise<void> {
  const expected = numbered('while away', 250); // More than two pages.
  await step(Promise.all(expected.map((text) => a1.client.post(channel, text))));
  const b1 = await Device.start(url, token, last);
  same(await b1.texts(250), expected, 'what came after a restart');
  const list = (await step(b1.client.ask(new wire.ChannelListT()))) as wire.ChannelPageT;
  const newest = list.conversations[0]!;
  same([newest.channel, newest.inboxSeq], [channel, b1.client.state.cursor], 'the newest one');
  same(b1.client.resets, 0, 'resets');
  b1.stop();
}

async function main(): Promise<void> {
  const options = {
    url: { type: 'string', default: '' }, token: { type: 'string', multiple: true },
  } as const;
  const { url, token: tokens } = parseArgs({ options }).values;
  const [tokenA1, tokenA2, tokenB1] = tokens ?? [];
  if (!url || !tokenA1 || !tokenA2 || !tokenB1) throw new TypeError('--url and three --token');
  const a1 = await Device.start(url, tokenA1);
  const a2 = await Device.start(url, tokenA2);
  const b1 = await Device.start(url, tokenB1);
  const channel = direct(a1.client.user, b1.client.user);
  await aMessageReachesEveryDevice(a1, a2, b1, channel);
  await whatAReaderMissedComesInOrder(a1, b1, channel);
  await aSenderThatDropsSendsEachOnce(a1, b1, channel);
  await aRepeatGetsTheFirstAnswer(a1, b1, channel);
  await historyAgreesInBothDirections(b1, channel, 1 + 40 + 40 + 1);
  await aGroupComesAndGoes(a1, b1, channel);
  b1.stop();
  await aNewRunResumesWhereTheLastOneEnded(a1, url, tokenB1, b1, channel);
  console.log('self-test passed');
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    console.error('self-test failed:', error);
    process.exit(1);
  },
);
