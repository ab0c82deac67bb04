"""Cases of HTTP/2: RFC 9113, and RFC 7541 for its headers.

Frames go out as they are written here, right or wrong. An error of a stream must end the stream, one of the connection the
connection; a server may always do the latter.
"""

import itertools
import socket
import struct

from hpack import Decoder, Encoder
from hyperframe.frame import (ContinuationFrame, DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame,
                              SettingsFrame, WindowUpdateFrame)

from http1 import FRAME, LAST, PATIENCE, expect, statuses

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEALTH = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/health")]
TRANSMIT = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", "/avp/v2/transmit"), ("content-type", "application/avp+binary")]

NO_ERROR, PROTOCOL_ERROR, _, FLOW_CONTROL_ERROR, _, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM = range(8)
COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 9, 11
PUSH_PROMISE, CONTINUATION = 5, 9
CASES = []


def case(rule):
    def register(function):
        CASES.append((rule, function))
        return function

    return register


class Ended(Exception):
    """The server has closed the connection."""


class Connection:
    """A connection behind its preface, and all that has come over it."""

    def __init__(self, address, settings=None, preface=PREFACE):
        self.socket = socket.create_connection(address, timeout=PATIENCE)
        self.buffer, self.encoder, self.decoder = b"", Encoder(), Decoder()
        self.send(preface)
        self.send(SettingsFrame(0, settings or {}))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *frames):
        bytes_ = b"".join(frame if isinstance(frame, bytes) else frame.serialize() for frame in frames)
        try:
            self.socket.sendall(bytes_)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Ended from error

    def headers(self, stream, headers, *flags):
        return HeadersFrame(stream, self.encoder.encode(headers), flags=["END_HEADERS", *flags])

    def receive(self):
        while len(self.buffer) < 9:
            self._more()
        frame, length = Frame.parse_frame_header(memoryview(self.buffer[:9]))
        while len(self.buffer) < 9 + length:
            self._more()
        frame.parse_body(memoryview(self.buffer[9 : 9 + length]))
        self.buffer = self.buffer[9 + length :]
        if isinstance(frame, HeadersFrame):
            frame.status = int(dict(self.decoder.decode(frame.data))[":status"])
        return frame

    def _more(self):
        try:
            piece = self.socket.recv(1 << 16)
        except ConnectionResetError as error:
            raise Ended from error
        if not piece:
            raise Ended
        self.buffer += piece

    def until(self, wanted):
        """The first frame that `wanted` holds for; nothing before it says that the server has given up."""
        while True:
            try:
                frame = self.receive()
            except Ended:
                raise AssertionError("the connection ended") from None
            if wanted(frame):
                return frame
            assert not isinstance(frame, GoAwayFrame), f"the connection was given up with error {frame.error_code}"

    def status(self, stream):
        return self.until(lambda frame: isinstance(frame, HeadersFrame) and frame.stream_id == stream).status

    def lives(self, stream=99):
        """The connection still answers."""
        self.send(self.headers(stream, HEALTH, "END_STREAM"))
        expect(self.status(stream), 200)

    def fails(self, *codes):
        """The connection ends, and where the server says why, it is for one of these reasons or the unspecific one."""
        try:
            while not isinstance(frame := self.receive(), GoAwayFrame):
                pass
            expect(frame.error_code, PROTOCOL_ERROR, *codes)
            while True:
                self.receive()
        except Ended:
            pass

    def fails_stream(self, stream, *codes, statuses=()):
        """The stream or the connection ends as in `fails`, or the request is answered with one of these statuses."""
        try:
            while True:
                frame = self.receive()
                if isinstance(frame, RstStreamFrame) and frame.stream_id == stream:
                    return expect(frame.error_code, PROTOCOL_ERROR, *codes)
                if isinstance(frame, HeadersFrame) and frame.stream_id == stream:
                    return expect(frame.status, *statuses)
                if isinstance(frame, GoAwayFrame):
                    return expect(frame.error_code, PROTOCOL_ERROR, *codes)
        except Ended:
            pass


def raw(kind, stream, body=b"", flags=0):
    """A frame of any type, right or wrong."""
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


def breaks(address, *codes, first=False):
    """A case that sends one thing, given the connection, and expects the connection's end."""

    def over(make):
        with Connection(address) as connection:
            if first:
                connection.send(connection.headers(1, TRANSMIT))
            try:
                connection.send(make(connection))
                connection.fails(*codes)
            except Ended:
                pass

    return over


@case("RFC 9113, 3.4")
def the_first_frame_of_the_server_is_its_settings(address):
    with Connection(address) as connection:
        frame = connection.receive()
        assert isinstance(frame, SettingsFrame) and "ACK" not in frame.flags, f"first came {frame}"


@case("RFC 9113, 3.4")
def a_wrong_preface_is_no_request(address):
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + LAST)
        received = b""
        try:
            while piece := connection.recv(1 << 16):
                received += piece
        except ConnectionResetError:
            pass
    if received.startswith(b"HTTP/1.1"):
        expect(statuses(received), [400], [505])


@case("RFC 9113, 3.4")
def a_preface_in_pieces_is_taken(address):
    with Connection(address, preface=PREFACE[:5]) as connection:
        pass
    with socket.create_connection(address, timeout=PATIENCE) as sock:
        for at in range(len(PREFACE)):
            sock.sendall(PREFACE[at : at + 1])
        sock.sendall(SettingsFrame(0).serialize())
        assert sock.recv(1), "the connection ended"


@case("RFC 9113, 3.4")
def something_else_than_settings_first_ends_the_connection(address):
    with socket.create_connection(address, timeout=PATIENCE) as sock:
        sock.sendall(PREFACE + PingFrame(0, b"12345678").serialize())
        try:
            while sock.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass


@case("RFC 9113, 6.5.3")
def settings_are_acknowledged(address):
    with Connection(address) as connection:
        connection.until(lambda frame: isinstance(frame, SettingsFrame) and "ACK" in frame.flags)
        connection.lives()


@case("RFC 9113, 6.7")
def a_ping_is_answered_with_its_own_bytes(address):
    with Connection(address) as connection:
        connection.send(PingFrame(0, b"12345678"))
        frame = connection.until(lambda frame: isinstance(frame, PingFrame))
        assert "ACK" in frame.flags and frame.opaque_data == b"12345678", f"answered {frame}"


@case("RFC 9113, 5.5")
def frames_of_unknown_type_and_settings_of_unknown_name_are_passed_over(address):
    with Connection(address, settings={0xFEED: 1}) as connection:
        connection.send(raw(0xBE, 0, b"whatever", 0xFF), connection.headers(1, TRANSMIT), raw(0xBE, 1, b"whatever"))
        connection.send(DataFrame(1, FRAME, flags=["END_STREAM"]))
        expect(connection.status(1), 200)


@case("RFC 9113, 8.1")
def many_streams_are_answered_over_one_connection(address):
    with Connection(address) as connection:
        settings = connection.until(lambda frame: isinstance(frame, SettingsFrame) and "ACK" not in frame.flags)
        most = settings.settings[SettingsFrame.MAX_CONCURRENT_STREAMS]
        streams, waiting = iter(range(1, 101, 2)), set()
        while True:
            for stream in itertools.islice(streams, most - len(waiting)):
                connection.send(connection.headers(stream, TRANSMIT), DataFrame(stream, FRAME, flags=["END_STREAM"]))
                waiting.add(stream)
            if not waiting:
                break
            frame = connection.until(lambda frame: isinstance(frame, (HeadersFrame, DataFrame)))
            if isinstance(frame, HeadersFrame):
                expect(frame.status, 200)
            if "END_STREAM" in frame.flags:
                waiting.remove(frame.stream_id)


@case("RFC 9113, 6.1")
def padding_is_taken_off(address):
    with Connection(address) as connection:
        headers = HeadersFrame(1, connection.encoder.encode(TRANSMIT), flags=["END_HEADERS", "PADDED"], pad_length=200)
        connection.send(headers, DataFrame(1, FRAME, flags=["END_STREAM", "PADDED"], pad_length=255))
        expect(connection.status(1), 200)


@case("RFC 9113, 6.1")
def padding_longer_than_its_frame_ends_the_connection(address):
    breaks(address, PROTOCOL_ERROR, first=True)(lambda _: raw(0, 1, b"\x06hello", 0x8))
    breaks(address, PROTOCOL_ERROR)(lambda _: raw(1, 1, b"\x06hello", 0x8 | 0x4))


@case("RFC 9113, 4.2")
def a_frame_longer_than_the_server_takes_ends_the_connection(address):
    with Connection(address) as connection:
        settings = connection.until(lambda frame: isinstance(frame, SettingsFrame) and "ACK" not in frame.flags)
        longest = settings.settings.get(SettingsFrame.MAX_FRAME_SIZE, 1 << 14)
        try:
            connection.send(connection.headers(1, TRANSMIT), raw(0, 1, bytes(longest + 1)))
            connection.fails(FRAME_SIZE_ERROR)
        except Ended:
            pass


@case("RFC 9113, 5.1.1")
def an_even_stream_of_a_client_ends_the_connection(address):
    breaks(address, PROTOCOL_ERROR)(lambda connection: connection.headers(2, HEALTH, "END_STREAM"))


@case("RFC 9113, 5.1.1")
def a_stream_below_the_last_one_ends_the_connection(address):
    with Connection(address) as connection:
        connection.lives(5)
        connection.send(connection.headers(3, HEALTH, "END_STREAM"))
        connection.fails(PROTOCOL_ERROR, STREAM_CLOSED)


@case("RFC 9113, 6.2")
def headers_on_stream_0_end_the_connection(address):
    breaks(address, PROTOCOL_ERROR)(lambda connection: raw(1, 0, connection.encoder.encode(HEALTH), 0x5))


@case("RFC 9113, 6.1")
def data_on_stream_0_ends_the_connection(address):
    breaks(address, PROTOCOL_ERROR)(lambda _: raw(0, 0, b"x"))


@case("RFC 9113, 5.1")
def data_on_an_idle_stream_ends_the_connection(address):
    breaks(address, PROTOCOL_ERROR, STREAM_CLOSED)(lambda _: DataFrame(1, b"x"))


@case("RFC 9113, 5.1")
def a_reset_of_an_idle_stream_ends_the_connection(address):
    breaks(address, PROTOCOL_ERROR)(lambda _: RstStreamFrame(1, 8))


@case("RFC 9113, 5.1")
def a_window_for_an_idle_stream_ends_the_connection(address):
    breaks(address, PROTOCOL_ERROR)(lambda _: WindowUpdateFrame(1, 10))


@case("RFC 9113, 5.1")
def data_behind_the_end_of_a_stream_ends_it(address):
    with Connection(address) as connection:
        connection.send(connection.headers(1, TRANSMIT), DataFrame(1, FRAME, flags=["END_STREAM"]), DataFrame(1, b"x"))
        # The answer may be on its way already.
        connection.fails_stream(1, STREAM_CLOSED, statuses=[200])


@case("RFC 9113, 6.4")
def a_reset_of_wrong_length_or_on_stream_0_ends_the_connection(address):
    breaks(address, FRAME_SIZE_ERROR, first=True)(lambda _: raw(3, 1, b"\0\0\0"))
    breaks(address, PROTOCOL_ERROR)(lambda _: raw(3, 0, b"\0\0\0\x08"))


@case("RFC 9113, 6.5")
def settings_of_wrong_length_or_place_end_the_connection(address):
    breaks(address, FRAME_SIZE_ERROR)(lambda _: raw(4, 0, b"\0\x03\0"))
    breaks(address, FRAME_SIZE_ERROR)(lambda _: raw(4, 0, b"\0\x03\0\0\0\x01", 1))
    breaks(address, PROTOCOL_ERROR)(lambda _: raw(4, 1, b""))


@case("RFC 9113, 6.5.2")
def settings_out_of_their_range_end_the_connection(address):
    setting = lambda name, value: raw(4, 0, struct.pack(">HI", name, value))
    breaks(address, PROTOCOL_ERROR)(lambda _: setting(SettingsFrame.ENABLE_PUSH, 2))
    breaks(address, FLOW_CONTROL_ERROR)(lambda _: setting(SettingsFrame.INITIAL_WINDOW_SIZE, 1 << 31))
    breaks(address, PROTOCOL_ERROR)(lambda _: setting(SettingsFrame.MAX_FRAME_SIZE, 16383))
    breaks(address, PROTOCOL_ERROR)(lambda _: setting(SettingsFrame.MAX_FRAME_SIZE, 1 << 24))


@case("RFC 9113, 6.6")
def a_push_of_a_client_ends_the_connection(address):
    promise = lambda connection: raw(PUSH_PROMISE, 1, b"\0\0\0\x02" + connection.encoder.encode(HEALTH), 0x4)
    breaks(address, PROTOCOL_ERROR, first=True)(promise)


@case("RFC 9113, 6.7")
def a_ping_of_wrong_length_or_place_ends_the_connection(address):
    breaks(address, FRAME_SIZE_ERROR)(lambda _: raw(6, 0, b"1234567"))
    breaks(address, PROTOCOL_ERROR)(lambda _: raw(6, 1, b"12345678"))


@case("RFC 9113, 6.8")
def a_goaway_on_a_stream_ends_the_connection(address):
    breaks(address, PROTOCOL_ERROR)(lambda _: raw(7, 1, bytes(8)))


@case("RFC 9113, 6.9")
def a_window_update_of_wrong_length_or_of_0_ends_the_connection(address):
    breaks(address, FRAME_SIZE_ERROR)(lambda _: raw(8, 0, b"\0\0\x01"))
    breaks(address, PROTOCOL_ERROR)(lambda _: raw(8, 0, bytes(4)))


@case("RFC 9113, 6.9.1")
def a_window_beyond_its_maximum_is_refused(address):
    breaks(address, FLOW_CONTROL_ERROR)(lambda _: WindowUpdateFrame(0, (1 << 31) - 1))
    with Connection(address) as connection:
        connection.send(connection.headers(1, TRANSMIT), WindowUpdateFrame(1, (1 << 31) - 1))
        connection.fails_stream(1, FLOW_CONTROL_ERROR)


@case("RFC 9113, 6.9.2")
def an_answer_keeps_to_the_clients_window(address):
    with Connection(address, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 1}) as connection:
        connection.send(connection.headers(1, HEALTH, "END_STREAM"))
        is_data = lambda frame: isinstance(frame, DataFrame) and frame.stream_id == 1 and frame.data
        expect(len(connection.until(is_data).data), 1)
        connection.send(WindowUpdateFrame(1, 2))
        expect(len(connection.until(is_data).data), 2)
        connection.send(WindowUpdateFrame(1, 1000))
        expect(connection.until(is_data).data, b'tatus":"ok"}')


@case("RFC 9113, 6.10")
def a_continuation_of_nothing_ends_the_connection(address):
    breaks(address, PROTOCOL_ERROR)(lambda connection: ContinuationFrame(1, connection.encoder.encode(HEALTH), flags=["END_HEADERS"]))


@case("RFC 9113, 6.10")
def a_frame_within_headers_ends_the_connection(address):
    begun = lambda connection: HeadersFrame(1, connection.encoder.encode(HEALTH), flags=["END_STREAM"]).serialize()
    breaks(address, PROTOCOL_ERROR)(lambda connection: begun(connection) + PingFrame(0, bytes(8)).serialize())
    other = lambda connection: begun(connection) + ContinuationFrame(3, b"", flags=["END_HEADERS"]).serialize()
    breaks(address, PROTOCOL_ERROR)(other)


@case("RFC 9113, 6.10")
def headers_in_pieces_are_put_together(address):
    with Connection(address) as connection:
        block = connection.encoder.encode(HEALTH)
        first = HeadersFrame(1, block[:1], flags=["END_STREAM"])
        last = ContinuationFrame(1, block[2:], flags=["END_HEADERS"])
        connection.send(first, ContinuationFrame(1, block[1:2]), ContinuationFrame(1, b""), last)
        expect(connection.status(1), 200)


@case("RFC 7541, 2.3.3 and 5.1")
def headers_that_do_not_decode_end_the_connection(address):
    # An index beyond the table; an integer without an end; a string longer than its block.
    for block in (b"\xff\xff\xff\xff\x0f", b"\xff" + b"\xff" * 20, b"\x00\x7fshort"):
        breaks(address, COMPRESSION_ERROR)(lambda _, block=block: raw(1, 1, block, 0x5))


@case("RFC 9113, 8.2")
def headers_that_are_malformed_end_the_stream(address):
    for wrong in (("X-Upper", "x"), ("connection", "keep-alive"), ("transfer-encoding", "chunked"), ("te", "gzip"),
                  ("x", "a\nb"), ("x", "a\0b"), ("x y", "z"), (":unknown", "x"), (":path", "/health")):
        malformed(address, [*HEALTH, wrong])


@case("RFC 9113, 8.3")
def pseudo_headers_that_are_missing_or_out_of_order_end_the_stream(address):
    malformed(address, [("x", "y"), *HEALTH])
    malformed(address, [HEALTH[0], *HEALTH])
    for name in (":method", ":scheme", ":path"):
        malformed(address, [header for header in HEALTH if header[0] != name])
    malformed(address, [*HEALTH[:3], (":path", "")])
    malformed(address, [*HEALTH, (":status", "200")])


def malformed(address, headers):
    with Connection(address) as connection:
        # The encoder writes what it is given, in the order in which it is given.
        connection.send(connection.headers(1, headers, "END_STREAM"))
        try:
            connection.fails_stream(1, PROTOCOL_ERROR, statuses=[400])
        except AssertionError as fault:
            raise AssertionError(f"{headers}: {fault}") from None


@case("RFC 9113, 8.1.1")
def a_body_of_another_length_than_announced_ends_the_stream(address):
    for difference in (-1, 1):
        with Connection(address) as connection:
            headers = [*TRANSMIT, ("content-length", str(len(FRAME) + difference))]
            connection.send(connection.headers(1, headers), DataFrame(1, FRAME, flags=["END_STREAM"]))
            connection.fails_stream(1, PROTOCOL_ERROR, statuses=[400])
    with Connection(address) as connection:
        connection.send(connection.headers(1, [*TRANSMIT, ("content-length", "5")], "END_STREAM"))
        connection.fails_stream(1, PROTOCOL_ERROR, statuses=[400])


@case("RFC 9113, 5.1.2")
def streams_over_the_limit_are_refused(address):
    with Connection(address) as connection:
        settings = connection.until(lambda frame: isinstance(frame, SettingsFrame) and "ACK" not in frame.flags)
        most = settings.settings[SettingsFrame.MAX_CONCURRENT_STREAMS]
        connection.send(*(connection.headers(2 * number + 1, TRANSMIT) for number in range(most + 1)))
        connection.fails_stream(2 * most + 1, PROTOCOL_ERROR, REFUSED_STREAM)


@case("RFC 9113, 10.5.1")
def a_header_list_over_the_limit_is_refused(address):
    with Connection(address) as connection:
        headers = [*HEALTH, *((f"x-{number}", "x" * 1000) for number in range(200))]
        block = connection.encoder.encode(headers)
        pieces = [block[at : at + (1 << 14)] for at in range(0, len(block), 1 << 14)]
        frames = [ContinuationFrame(1, piece) for piece in pieces[1:]]
        frames[-1].flags.add("END_HEADERS")
        try:
            connection.send(HeadersFrame(1, pieces[0], flags=["END_STREAM"]), *frames)
            connection.fails_stream(1, PROTOCOL_ERROR, ENHANCE_YOUR_CALM, COMPRESSION_ERROR, statuses=[431])
        except Ended:
            pass


@case("RFC 9113, 10.5 (CVE-2024-27316)")
def headers_without_an_end_are_not_collected(address):
    piece = ContinuationFrame(1, Encoder().encode([("x", "x" * 10_000)])).serialize()
    with Connection(address) as connection:
        try:
            connection.send(HeadersFrame(1, connection.encoder.encode(HEALTH)))
            for _ in range(10_000):  # 75 MB in all
                connection.send(piece)
        except Ended:
            return
        raise AssertionError("the server read it all")


@case("RFC 9113, 10.5 (CVE-2023-44487)")
def streams_that_are_reset_at_once_end_the_connection(address):
    with Connection(address) as connection:
        try:
            for stream in range(1, 100_000, 2):
                connection.send(connection.headers(stream, HEALTH, "END_STREAM"), RstStreamFrame(stream, 8))
            connection.fails(ENHANCE_YOUR_CALM)
        except Ended:
            pass


@case("RFC 9113, 10.5 (CVE-2019-9512, 9515)")
def pings_and_settings_without_end_are_survived(address):
    for frame in (PingFrame(0, bytes(8)), SettingsFrame(0), raw(0xBE, 0)):
        bytes_ = (frame if isinstance(frame, bytes) else frame.serialize()) * 100
        with Connection(address) as connection:
            # Nothing is read of the answers: a server must not keep them without limit.
            connection.socket.settimeout(2.0)
            try:
                for _ in range(2000):
                    connection.send(bytes_)
            except (Ended, TimeoutError):
                pass


@case("RFC 9113, 10.5 (CVE-2019-9518)")
def data_frames_of_nothing_are_survived(address):
    with Connection(address) as connection:
        try:
            connection.send(connection.headers(1, TRANSMIT))
            for _ in range(1000):
                connection.send(DataFrame(1, b"").serialize() * 100)
            connection.send(DataFrame(1, FRAME, flags=["END_STREAM"]))
            connection.fails_stream(1, ENHANCE_YOUR_CALM, PROTOCOL_ERROR, statuses=[200, 408])
        except Ended:
            pass


@case("RFC 9113, 5.4.2")
def a_stream_that_the_client_gave_up_leaves_the_others_alone(address):
    with Connection(address) as connection:
        connection.send(connection.headers(1, TRANSMIT), DataFrame(1, FRAME[:5]), RstStreamFrame(1, 8))
        connection.lives(3)


@case("RFC 9113, 6.8")
def a_client_that_says_goodbye_gets_its_last_answer(address):
    with Connection(address) as connection:
        connection.send(connection.headers(1, HEALTH, "END_STREAM"), GoAwayFrame(0, 0, NO_ERROR))
        expect(connection.status(1), 200)
