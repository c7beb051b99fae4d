"""Sends a message, or shows what arrives.

    chat.py --url ws://127.0.0.1:7700 --token TOKEN --to 2 hello
    chat.py --url ws://127.0.0.1:7700 --token TOKEN --listen

`mooring token --data DIR --user 1 --device 1` prints a token.
"""

import argparse
import asyncio
import sys

import frames
from generated import frame_generated as wire
from mooring_client import Client, Rejected, SessionEnded

DURABILITY = ("accepted", "durable", "replicated")


def channel_name(channel: wire.ChannelIdT) -> str:
    return f"group {channel.low}" if channel.high == 0 else f"{channel.high}+{channel.low}"


def describe(delivery: wire.DeliverT) -> str:
    """One line about an entry of the inbox."""
    match delivery.event:
        case wire.MessageT() as it:
            text = frames.text_of(it)
            said = "(sent from here)" if text is None else text
            return f"{channel_name(it.channel)} #{it.seq}  user {it.sender}: {said}"
        case wire.ReadMarkerT() as it:
            return f"{channel_name(it.channel)}  user {it.user} has read up to #{it.seq}"
        case wire.MembershipChangeT() as it:
            what = ("added", "removed", "left")[it.op] if it.op < 3 else "changed"
            users = ", ".join(str(user) for user in it.members)
            return f"{channel_name(it.channel)} #{it.seq}  user {it.actor} {what}: {users}"
        case wire.ChannelCreatedT() as it:
            title = (it.title or b"").decode()
            return f"{channel_name(it.channel)} #{it.seq}  user {it.creator} made {title!r}"
        case _:
            return "something of a later version"


async def send(client: Client, user: int, text: str) -> None:
    await client.live.wait()
    posted = await client.post(frames.direct(client.user, user), text)
    print(f"Posted #{posted.seq} to {channel_name(posted.channel)}", end=" ")
    print(f"({DURABILITY[min(posted.durability, 2)]})")


async def listen(client: Client) -> None:
    await client.live.wait()
    print(f"user {client.user} is listening; Ctrl-C ends", flush=True)
    async for delivery in client.deliveries():
        print(describe(delivery), flush=True)
        client.keep(delivery)


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True, help="ws://HOST:PORT")
    parser.add_argument("--token", required=True, help="whose device speaks")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--to", type=int, metavar="USER", help="send TEXT to this user")
    what.add_argument("--listen", action="store_true", help="show what arrives")
    parser.add_argument("text", nargs="*", metavar="TEXT")
    arguments = parser.parse_args()
    if arguments.to is not None and not arguments.text:
        parser.error("--to USER needs a TEXT")
    async with Client(arguments.url, arguments.token) as client:
        if arguments.listen:
            await listen(client)
        else:
            await send(client, arguments.to, " ".join(arguments.text))


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (SessionEnded, Rejected, ValueError) as error:
        sys.exit(f"chat.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
