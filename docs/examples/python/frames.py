"""Bytes to frames and back. The frames themselves are generated from wire/schema/frame.fbs."""

import flatbuffers

from generated import frame_generated as wire

CLIENT_IDENTIFIER = b"MRC1"
SERVER_IDENTIFIER = b"MRS1"

# The members of the unions, by the class of their body.
_BODY_TYPES = {
    wire.HelloT: wire.ClientBody.Hello,
    wire.PostT: wire.ClientBody.Post,
    wire.CursorAckT: wire.ClientBody.CursorAck,
    wire.SyncT: wire.ClientBody.Sync,
    wire.HistoryT: wire.ClientBody.History,
    wire.ChannelCreateT: wire.ClientBody.ChannelCreate,
    wire.ChannelAddMembersT: wire.ClientBody.ChannelAddMembers,
    wire.ChannelRemoveMembersT: wire.ClientBody.ChannelRemoveMembers,
    wire.ChannelLeaveT: wire.ClientBody.ChannelLeave,
    wire.ChannelListT: wire.ClientBody.ChannelList,
    wire.MarkReadT: wire.ClientBody.MarkRead,
    wire.TypingT: wire.ClientBody.Typing,
    wire.PingT: wire.ClientBody.Ping,
}


def encode(request: int, body: object) -> bytes:
    """A frame from the device."""
    builder = flatbuffers.Builder(256)
    frame = wire.ClientFrameT(request=request, bodyType=_BODY_TYPES[type(body)], body=body)
    builder.Finish(frame.Pack(builder), file_identifier=CLIENT_IDENTIFIER)
    return bytes(builder.Output())


def decode(data: bytes) -> wire.ServerFrameT:
    """A frame from the gateway. Its `body` is None if it is of a type that we do not know."""
    if data[4:8] != SERVER_IDENTIFIER:
        raise ValueError(f"not a frame of a gateway: {data[:8].hex(' ')}")
    return wire.ServerFrameT.InitFromPackedBuf(data)


def direct(one: int, other: int) -> wire.ChannelIdT:
    """The channel between two users, or of one with herself: the lower number comes first."""
    return wire.ChannelIdT(high=min(one, other), low=max(one, other))


def text_of(message: wire.MessageT) -> str | None:
    """A message's text; None in the sending device's own copy, which comes without."""
    return None if message.body is None else bytes(message.body).decode(errors="replace")
