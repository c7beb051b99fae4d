// Sends a message, or shows what arrives.
//
//     node dist/chat.js --url ws://127.0.0.1:7700 --token TOKEN --to 2 hello
//     node dist/chat.js --url ws://127.0.0.1:7700 --token TOKEN --listen
//
// `mooring token --data DIR --user 1 --device 1` prints a token.

import { parseArgs } from 'node:util';

import { Client } from './client.js';
import { direct, stringOf, textOf } from './frames.js';
import * as wire from './generated/mooring/wire.js';

const USAGE = 'usage: chat.js --url ws://HOST:PORT --token TOKEN (--to USER TEXT | --listen)';

function channelName(channel: wire.ChannelIdT | null): string {
  if (channel === null) return '';
  return channel.high === 0n ? `group ${channel.low}` : `${channel.high}+${channel.low}`;
}

/** One line about an entry of the inbox. */
function describe(client: Client, { event }: wire.DeliverT): string {
  if (event instanceof wire.MessageT) {
    const isOwn = event.sender === client.user && event.device === client.device;
    const said = isOwn ? '(sent from here)' : textOf(event.body);
    return `${channelName(event.channel)} #${event.seq}  user ${event.sender}: ${said}`;
  }
  if (event instanceof wire.ReadMarkerT) {
    return `${channelName(event.channel)}  user ${event.user} has read up to #${event.seq}`;
  }
  if (event instanceof wire.MembershipChangeT) {
    const what = wire.MembershipOp[event.op] ?? 'changed';
    const users = event.members.join(', ');
    return `${channelName(event.channel)} #${event.seq}  user ${event.actor}, ${what}: ${users}`;
  }
  if (event instanceof wire.ChannelCreatedT) {
    const title = stringOf(event.title);
    return `${channelName(event.channel)} #${event.seq}  user ${event.creator} made "${title}"`;
  }
  return 'something of a later version';
}

async function listen(client: Client): Promise<void> {
  await client.live();
  console.log(`user ${client.user} is listening; Ctrl-C ends`);
  for await (const delivery of client.deliveries()) {
    console.log(describe(client, delivery));
    client.keep(delivery);
  }
}

async function send(client: Client, user: bigint, text: string): Promise<void> {
  await client.live();
  const posted = await client.post(direct(client.user, user), text);
  const durability = (wire.Durability[posted.durability] ?? 'Accepted').toLowerCase();
  console.log(`Posted #${posted.seq} to ${channelName(posted.channel)} (${durability})`);
  client.close();
}

async function main(): Promise<void> {
  const options = {
    url: { type: 'string' }, token: { type: 'string' },
    to: { type: 'string' }, listen: { type: 'boolean' },
  } as const;
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const { url, token, to } = values;
  const text = positionals.join(' ');
  if (!url || !token || (to === undefined) !== (values.listen === true) || (to && !text)) {
    throw new TypeError(USAGE);
  }
  const client = new Client(url, token);
  client.onTrouble = (text) => console.error(text);
  await (to === undefined ? listen(client) : send(client, BigInt(to), text));
}

main().catch((error: unknown) => {
  console.error(`chat.js: ${error instanceof Error ? error.message : error}`);
  process.exit(1);
});
