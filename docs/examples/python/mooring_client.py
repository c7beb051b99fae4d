"""A client of Mooring for asyncio: one session that outlives its connections.

    async with Client(url, token) as client:
        posted = await client.post(frames.direct(1, 2), "hello")
        async for delivery in client.deliveries():
            ...  # Store it.
            client.keep(delivery)

What it does by itself: it says hello, sends heartbeats, fetches what it has missed, comes back
after a drop and then sends again what had no answer. docs/protocol.md tells why each step is so.
"""

import asyncio
import base64
import json
import logging
import random
from collections.abc import AsyncIterator

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

import frames
from generated import frame_generated as wire
from state import Pending, State

log = logging.getLogger("mooring")

SUBPROTOCOL = "mooring.v1"
PROTOCOL_VERSION = 1
SERVER_FRAME_BYTES_MAX = 1 << 20

# The delay of "resume later" doubles from one to the other, in seconds.
BACKOFF_MIN = 1.0
BACKOFF_MAX = 60.0
# How long the gateway may take to answer Hello, in seconds.
WELCOME_TIMEOUT = 10.0
# How often a cursor that has moved is acknowledged, in seconds.
ACK_INTERVAL = 2.0

# What to do after a close, by its code: the table of docs/protocol.md. Any other: resume later.
RESUME, RESUME_LATER, LOG_IN, END = "resume", "resume later", "log in", "end"
AFTER_CLOSE = {
    1001: RESUME, 4408: RESUME, 4413: RESUME,
    4401: LOG_IN,
    4403: END, 4406: END, 4409: END,
    1002: END, 1003: END, 1007: END, 1009: END, 4400: END, 4410: END,
}  # fmt: skip


class SessionEnded(Exception):
    """The gateway will not have this session back: its text says why."""


class Rejected(Exception):
    """A request was refused; the session goes on."""

    def __init__(self, rejected: wire.RejectedT):
        self.code = rejected.code
        # Seconds after which the same request may succeed; 0 for never.
        self.retry_after = rejected.retryAfterMs / 1000
        super().__init__(f"code {rejected.code}: {(rejected.text or b'').decode()}")


class ConnectionLost(Exception):
    """The connection broke before the answer came."""


class Client:
    """One device's session."""

    def __init__(self, url: str, token: str, state: State | None = None):
        self.url = url
        self.token = token
        self.state = state or State()
        self.user = 0
        # How often the gateway has voided the cursor: what was kept of the inbox is worthless.
        self.resets = 0
        # How often it has been welcomed.
        self.connections = 0
        # Set while the gateway hears us; and for good when the session has ended.
        self.live = asyncio.Event()
        # Set when everything that was in the inbox at the welcome has arrived.
        self.caught_up = asyncio.Event()
        self._device = _claims(token)["did"]
        self._websocket: ClientConnection | None = None
        self._received = 0
        self._next_request = 1
        self._waiting: dict[int, asyncio.Future] = {}
        self._inbox: asyncio.Queue[tuple[int, wire.DeliverT] | None] = asyncio.Queue()
        self._reconnect: wire.ReconnectT | None = None
        self._error: Exception | None = None
        self._task: asyncio.Task | None = None

    async def __aenter__(self) -> "Client":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_exception) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    # What an application calls.

    async def post(self, channel: wire.ChannelIdT, text: str) -> wire.PostedT:
        """Puts a text into a channel; returns when the gateway has it on its disk."""
        nonce = self.state.new_nonce()
        return await self.submit(wire.PostT(channel=channel, nonce=nonce, body=text.encode()))

    async def submit(self, body: object) -> object:
        """Sends a request that has a nonce until it is answered, over as many connections as it
        takes."""
        pending = Pending(self._request(), body)
        self.state.outbox[pending.request] = pending
        try:
            while True:
                answer = self._expect(pending.request)
                if self._websocket is not None:
                    await self._transmit(self._websocket, pending)
                try:
                    return _answer_of(await answer)
                except Rejected as refusal:
                    if not refusal.retry_after:
                        raise
                    await asyncio.sleep(refusal.retry_after)
        finally:
            del self.state.outbox[pending.request]

    async def ask(self, body: object) -> object:
        """Sends a question until it is answered. It needs no nonce: reading twice is harmless."""
        while True:
            while self._websocket is None:
                await self.live.wait()
                if self._error is not None:
                    raise self._error
            request = self._request()
            answer = self._expect(request)
            await self._send(self._websocket, request, body)
            try:
                return _answer_of(await answer)
            except ConnectionLost:
                pass

    async def deliveries(self) -> AsyncIterator[wire.DeliverT]:
        """The entries of the inbox in their order. Store each one, then `keep` it; one that was not
        kept comes again after a drop."""
        while (item := await self._inbox.get()) is not None:
            epoch, delivery = item
            if epoch == self.state.epoch and delivery.inboxSeq > self.state.cursor:
                yield delivery
        raise self._error

    def keep(self, delivery: wire.DeliverT) -> None:
        """Everything up to this entry is stored. The gateway is told soon."""
        if delivery.inboxSeq <= self._received:  # Not one from before a reset.
            self.state.cursor = max(self.state.cursor, delivery.inboxSeq)

    def drop(self) -> None:
        """Breaks the connection without a good-bye, as a lost network does (for tests)."""
        if self._websocket is not None:
            self._websocket.transport.abort()

    # The life of the session.

    async def _run(self) -> None:
        try:
            backoff = BACKOFF_MIN
            while True:
                welcomed = self.connections
                action = await self._connect_once()
                self._lose_connection()
                if self.connections > welcomed:
                    backoff = BACKOFF_MIN
                if action == RESUME:
                    delay = self._resume_delay()
                else:
                    # Between half of it and all: clients that lost one gateway together must not
                    # come back together.
                    delay = backoff * random.uniform(0.5, 1.0)
                    backoff = min(backoff * 2, BACKOFF_MAX)
                log.warning("connecting again in %.1f s", delay)
                await asyncio.sleep(delay)
        except Exception as error:
            self._fail(error)

    async def _connect_once(self) -> str:
        """Connects, and stays until the connection ends. Tells what to do then."""
        url = self.url
        if self._reconnect is not None and self._reconnect.url:
            url = self._reconnect.url.decode()
        self._reconnect = None
        # Bodies are usually encrypted or short: compression would cost memory for nothing. The
        # protocol has heartbeats of its own.
        options = {
            "subprotocols": [SUBPROTOCOL], "compression": None, "ping_interval": None,
            "max_size": SERVER_FRAME_BYTES_MAX, "open_timeout": WELCOME_TIMEOUT, "close_timeout": 1,
        }  # fmt: skip
        with_ticket = self.state.ticket is not None
        try:
            async with connect(url, **options) as websocket:
                heartbeat = await self._greet(websocket)
                beating = asyncio.create_task(self._beat(websocket, heartbeat))
                try:
                    async for message in websocket:
                        await self._handle(websocket, frames.decode(message))
                finally:
                    beating.cancel()
        except ConnectionClosed:
            pass
        except (OSError, InvalidHandshake) as error:
            log.warning("%s: %s", url, error)
            return RESUME_LATER
        code, reason = websocket.close_code, websocket.close_reason
        log.warning("%s: closed with %s %s", url, code, reason)
        action = AFTER_CLOSE.get(code, RESUME_LATER)
        if action == LOG_IN and with_ticket:
            self.state.ticket = None  # Perhaps the token is still good.
            return RESUME
        if action in (LOG_IN, END):
            raise SessionEnded(f"closed with {code}: {reason}")
        return action

    async def _greet(self, websocket: ClientConnection) -> float:
        """Says hello, takes the verdict about the cursor, sends again what had no answer."""
        state = self.state
        hello = wire.HelloT(
            protocolVersion=PROTOCOL_VERSION, device=self._device, epoch=state.epoch,
            cursor=state.cursor, client="example/python",
        )  # fmt: skip
        if state.ticket is not None:
            hello.ticket = state.ticket
        else:
            hello.token = self.token
        await self._send(websocket, self._request(), hello)
        welcome = frames.decode(await asyncio.wait_for(websocket.recv(), WELCOME_TIMEOUT)).body
        self.user = welcome.user
        self.connections += 1
        state.ticket = bytes(welcome.ticket)
        if welcome.resume != wire.Resume.Resumed:
            if state.epoch != 0:
                self.resets += 1
            state.epoch, state.cursor = welcome.epoch, welcome.inboxHead
        # What is queued and not kept comes again.
        while not self._inbox.empty():
            self._inbox.get_nowait()
        self._received = state.cursor
        if state.cursor == welcome.inboxHead:
            self.caught_up.set()
        # Retries go before new posts. Those are added while we wait here, so look again.
        while unsent := [it for it in state.outbox.values() if it.sent_on != self.connections]:
            for pending in unsent:
                await self._transmit(websocket, pending)
        self._websocket = websocket
        self.live.set()
        return welcome.heartbeatIntervalMs / 1000

    async def _beat(self, websocket: ClientConnection, heartbeat: float) -> None:
        """Acknowledges the cursor when it has moved; otherwise shows that we are alive."""
        acknowledged, silence = self.state.cursor, 0.0
        interval = min(ACK_INTERVAL, heartbeat / 3)
        while True:
            await asyncio.sleep(interval)
            silence += interval
            if self.state.cursor != acknowledged:
                acknowledged, silence = self.state.cursor, 0.0
                await self._send(websocket, 0, wire.CursorAckT(inboxSeq=acknowledged))
            elif silence >= heartbeat / 2:
                silence = 0.0
                await self._send(websocket, 0, wire.PingT())

    async def _handle(self, websocket: ClientConnection, frame: wire.ServerFrameT) -> None:
        match frame.body:
            case wire.DeliverT() as delivery:
                self._receive(delivery)
            case wire.SyncPageT() as page:
                for delivery in page.entries:
                    self._receive(delivery)
                if page.end:
                    self.caught_up.set()
                else:
                    await self._send(websocket, self._request(), wire.SyncT(after=page.next))
            case wire.ReconnectT() as reconnect:
                self._reconnect = reconnect
            case None | wire.TypingFromT() | wire.PongT():
                pass  # Of a later version, or nothing to do.
            case answer:
                waiting = self._waiting.pop(frame.request, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)

    def _receive(self, delivery: wire.DeliverT) -> None:
        if delivery.inboxSeq <= self._received:
            return
        if delivery.inboxSeq != self._received + 1:
            # The gateway promises that there are no gaps: resume from what we have.
            self.drop()
            return
        self._received = delivery.inboxSeq
        self._inbox.put_nowait((self.state.epoch, delivery))

    # Small parts.

    def _request(self) -> int:
        request = self._next_request
        self._next_request = request % 0xFFFF_FFFF + 1
        return request

    def _expect(self, request: int) -> asyncio.Future:
        if self._error is not None:
            raise self._error
        answer = asyncio.get_running_loop().create_future()
        self._waiting[request] = answer
        return answer

    async def _transmit(self, websocket: ClientConnection, pending: Pending) -> None:
        if pending.sent_on != 0 and isinstance(pending.body, wire.PostT):
            pending.body.retry = True
        pending.sent_on = self.connections
        await self._send(websocket, pending.request, pending.body)

    async def _send(self, websocket: ClientConnection, request: int, body: object) -> None:
        try:
            await websocket.send(frames.encode(request, body))
        except ConnectionClosed:
            pass  # Whoever reads the connection learns it, too, and acts.

    def _lose_connection(self) -> None:
        self._websocket = None
        self.live.clear()
        self.caught_up.clear()
        for request in [it for it in self._waiting if it not in self.state.outbox]:
            _fail_future(self._waiting.pop(request), ConnectionLost())

    def _resume_delay(self) -> float:
        if self._reconnect is not None:
            return self._reconnect.afterMs / 1000
        return random.uniform(0.0, 1.0)

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._websocket = None
        self.live.set()
        for answer in self._waiting.values():
            _fail_future(answer, error)
        self._inbox.put_nowait(None)


def _answer_of(answer: object) -> object:
    if isinstance(answer, wire.RejectedT):
        raise Rejected(answer)
    return answer


def _fail_future(future: asyncio.Future, error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _claims(token: str) -> dict:
    """What a token says (not checked: that is the gateway's part)."""
    try:
        payload = token.split(".")[1]
        return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError) as error:
        raise ValueError("the token is not a JWT; `mooring token` prints one") from error
