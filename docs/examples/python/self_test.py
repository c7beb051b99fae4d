"""What the example client promises, tried against a running server. Ends with status 1 and the
first thing that is not so.

    self_test.py --url URL --token A1 --token A2 --token B1

A1 and A2 are devices of one user, B1 is a device of another; neither user has written before.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable

import frames
from generated import frame_generated as wire
from mooring_client import Client, Rejected, SessionEnded

# Bounds every single step; none of them needs a second.
STEP_TIMEOUT = 30.0
NOT_MEMBER, NONCE_REUSED = 3, 6


class Device:
    """A client, with its inbox read entry by entry."""

    def __init__(self, client: Client):
        self.client = client
        self.inbox = client.deliveries()

    async def next(self) -> wire.DeliverT:
        delivery = await step(anext(self.inbox))
        self.client.keep(delivery)
        return delivery

    async def texts(self, count: int) -> list[str | None]:
        return [frames.text_of((await self.next()).event) for _ in range(count)]


async def step(awaitable: Awaitable):
    return await asyncio.wait_for(awaitable, STEP_TIMEOUT)


def expect(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise AssertionError(f"{what}: expected {expected!r}, found {found!r}")


def numbered(word: str, count: int) -> list[str]:
    return [f"{word} {index}" for index in range(count)]


async def a_message_reaches_every_device(a1: Device, a2: Device, b1: Device, channel) -> None:
    posted = await step(a1.client.post(channel, "hello"))
    expect((posted.seq, posted.durability), (1, wire.Durability.Durable), "the first answer")
    for device, body in [(a1, None), (a2, "hello"), (b1, "hello")]:
        delivery = await device.next()
        expect(delivery.inboxSeq, 1, "the first place in an inbox")
        expect(frames.text_of(delivery.event), body, "the body")
        expect((delivery.event.seq, delivery.event.sender), (1, a1.client.user), "the message")


async def what_a_reader_missed_comes_in_order(a1: Device, b1: Device, channel) -> None:
    expected = numbered("while dropped", 40)
    before = asyncio.gather(*[a1.client.post(channel, text) for text in expected[:20]])
    found = await b1.texts(5)
    b1.client.drop()
    after = asyncio.gather(*[a1.client.post(channel, text) for text in expected[20:]])
    found += await b1.texts(35)
    expect(found, expected, "what came over two connections")
    expect(b1.client.connections, 2, "connections")
    await step(asyncio.gather(before, after))


async def a_sender_that_drops_sends_each_once(a1: Device, b1: Device, channel) -> None:
    expected = numbered("from a dropped sender", 40)
    posts = [asyncio.ensure_future(a1.client.post(channel, text)) for text in expected]
    await step(posts[10])
    a1.client.drop()
    seqs = [posted.seq for posted in await step(asyncio.gather(*posts))]
    expect(seqs, list(range(seqs[0], seqs[0] + 40)), "places of retried posts")
    expect(await b1.texts(40), expected, "what came of retried posts")


async def a_repeat_gets_the_first_answer(a1: Device, b1: Device, channel) -> None:
    def post(text: str, retry: bool) -> wire.PostT:
        body = text.encode()
        return wire.PostT(channel=channel, nonce=nonce, body=body, retry=retry)

    nonce = a1.client.state.new_nonce()
    first = await step(a1.client.submit(post("once", False)))
    for retry in [True, False]:
        again = await step(a1.client.submit(post("once", retry)))
        expect((again.seq, again.createdAt), (first.seq, first.createdAt), "the repeat's answer")
    await refused(a1.client.submit(post("other", True)), NONCE_REUSED, "other content")
    expect(await b1.texts(1), ["once"], "what came of three sends")


async def refused(request: Awaitable, code: int, what: str) -> None:
    try:
        await step(request)
    except Rejected as rejected:
        expect(rejected.code, code, what)
    else:
        raise AssertionError(f"{what}: expected code {code}, was accepted")


async def history_agrees_in_both_directions(b1: Device, channel, newest: int) -> None:
    async def page(direction: int, start: int) -> wire.HistoryPageT:
        history = {"direction": direction, "from_": start, "limit": 7}
        return await step(b1.client.ask(wire.HistoryT(channel=channel, **history)))

    backward, start, more = [], 0, True
    while more:
        found = await page(wire.Direction.Backward, start)
        backward = found.entries + backward
        start, more = found.entries[0].event.seq, found.more
    forward, start, more = [], 1, True
    while more:
        found = await page(wire.Direction.Forward, start)
        forward += found.entries
        start, more = found.entries[-1].event.seq + 1, found.more
    for name, entries in [("backward", backward), ("forward", forward)]:
        expect([it.event.seq for it in entries], list(range(1, newest + 1)), f"history {name}")
    texts = [[frames.text_of(it.event) for it in entries] for entries in (backward, forward)]
    expect(texts[0], texts[1], "the texts of both")


async def a_group_comes_and_goes(a1: Device, b1: Device, direct) -> None:
    alice, bob = a1.client, b1.client
    title = {"title": "plans", "kind": wire.ChannelKind.Group}
    create = wire.ChannelCreateT(nonce=alice.state.new_nonce(), members=[bob.user], **title)
    group = (await step(alice.submit(create))).channel
    again = (await step(alice.submit(create))).channel
    expect((again.high, again.low), (group.high, group.low), "the same creation again")
    created = (await b1.next()).event
    expect((created.title, created.members), (b"plans", [alice.user, bob.user]), "the creation")

    carol = max(alice.user, bob.user) + 1
    nonce = alice.state.new_nonce()
    add = wire.ChannelAddMembersT(channel=group, nonce=nonce, members=[carol])
    expect((await step(alice.submit(add))).seq, 2, "the addition's place")
    change = (await b1.next()).event
    expect((change.op, change.members), (wire.MembershipOp.Add, [carol]), "the addition")
    await step(bob.post(group, "here"))
    expect((await b1.next()).event.seq, 3, "a member's message")

    leave = wire.ChannelLeaveT(channel=group, nonce=bob.state.new_nonce())
    await step(bob.submit(leave))
    expect((await b1.next()).event.op, wire.MembershipOp.Leave, "the leave")
    await step(alice.post(group, "without bob"))
    await step(alice.post(direct, "to bob"))
    expect(await b1.texts(1), ["to bob"], "what comes after the leave")
    await refused(bob.post(group, "still here?"), NOT_MEMBER, "a post after the leave")


async def a_new_run_resumes_where_the_last_one_ended(a1: Device, url, token, last, channel) -> None:
    expected = numbered("while away", 250)  # More than two pages.
    await step(asyncio.gather(*[a1.client.post(channel, text) for text in expected]))
    async with Client(url, token, last.state) as client:
        b1 = Device(client)
        expect(await b1.texts(250), expected, "what came after a restart")
        await step(client.caught_up.wait())
        conversations = (await step(client.ask(wire.ChannelListT()))).conversations
        newest = conversations[0]
        expect((newest.channel.high, newest.channel.low), (channel.high, channel.low), "the list")
        expect(newest.inboxSeq, client.state.cursor, "the newest conversation's place")
        expect(client.resets, 0, "resets")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--token", required=True, action="append")
    arguments = parser.parse_args()
    url, (token_a1, token_a2, token_b1) = arguments.url, arguments.token
    async with Client(url, token_a1) as alice:
        a1 = Device(alice)
        async with Client(url, token_a2) as alices_phone, Client(url, token_b1) as bob:
            a2, b1 = Device(alices_phone), Device(bob)
            for client in (alice, alices_phone, bob):
                await step(client.live.wait())
            channel = frames.direct(alice.user, bob.user)
            await a_message_reaches_every_device(a1, a2, b1, channel)
            await what_a_reader_missed_comes_in_order(a1, b1, channel)
            await a_sender_that_drops_sends_each_once(a1, b1, channel)
            await a_repeat_gets_the_first_answer(a1, b1, channel)
            await history_agrees_in_both_directions(b1, channel, 1 + 40 + 40 + 1)
            await a_group_comes_and_goes(a1, b1, channel)
        await a_new_run_resumes_where_the_last_one_ended(a1, url, token_b1, bob, channel)
    print("self-test passed")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (AssertionError, Rejected, SessionEnded, TimeoutError) as error:
        sys.exit(f"self-test failed: {type(error).__name__}: {error}")
