"""Cases of HTTP/1.1: RFC 9110 and RFC 9112.

Behind the bytes of every case goes a last sound request that asks for the connection's end. So the answers always end, and
say how the server went on: an answer to the last request means that the connection lived.
"""

import socket

import avp
from avp.types import AVPMetadata

PATIENCE = 30.0
LAST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
FRAME = avp.encode(b"tensor", AVPMetadata())
CASES = []


def case(rule):
    def register(function):
        CASES.append((rule, function))
        return function

    return register


def talk(address, *pieces, last=LAST):
    """The statuses of all answers to these bytes, in order; the connection has then ended."""
    received = b""
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        try:
            for piece in (*pieces, last):
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server may end a connection while it is still written to; what it said can be read
        try:
            while piece := connection.recv(1 << 16):
                received += piece
        except ConnectionResetError:
            pass
    return statuses(received)


def statuses(received):
    found = []
    while received:
        head, separator, rest = received.partition(b"\r\n\r\n")
        assert separator and head.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")), f"no answer of HTTP/1: {received[:60]!r}"
        status = int(head[9:12])
        headers = [line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:]]
        length = next((int(value) for name, value in headers if name == b"content-length"), 0)
        found.append(status)
        received = rest if 100 <= status < 200 or status in (204, 304) else rest[length:]
    return found


def expect(got, *allowed):
    assert got in allowed, f"answered {got}, expected {' or '.join(map(str, allowed))}"


def refused(got, *others):
    """One refusal, or none, and the connection ends: what follows is not read as a request."""
    expect(got, [400], [], *others)


def post(*lines, body=b"", path=b"/avp/v2/transmit", version=b"HTTP/1.1"):
    return b"\r\n".join((b"POST " + path + b" " + version, b"Host: localhost", b"Content-Type: application/avp+binary", *lines)) + b"\r\n\r\n" + body


def get(*lines, path=b"/health", version=b"HTTP/1.1"):
    return b"\r\n".join((b"GET " + path + b" " + version, *lines)) + b"\r\n\r\n"


def length(bytes_):
    return b"Content-Length: %d" % len(bytes_)


def chunked(body, size=5):
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def health(address):
    expect(talk(address), [200])


@case("RFC 9112, 9.3")
def a_connection_lives_on_behind_an_answer(address):
    expect(talk(address, get(b"Host: localhost"), post(length(FRAME), body=FRAME), get(b"Host: localhost")), [200, 200, 200, 200])


@case("RFC 9112, 9.3.2")
def pipelined_requests_are_answered_in_order(address):
    bad = post(b"Content-Length: 3", body=b"bad")
    expect(talk(address, get(b"Host: localhost") + bad + get(b"Host: localhost", path=b"/none")), [200, 400, 404, 200])


@case("RFC 9112, 9.3")
def http_1_0_ends_behind_its_answer(address):
    expect(talk(address, get(version=b"HTTP/1.0")), [200])


@case("RFC 9112, 2.3")
def another_major_version_is_refused(address):
    refused(talk(address, get(b"Host: localhost", version=b"HTTP/9.9")), [505])


@case("RFC 9112, 3.2")
def a_request_without_a_host_is_refused(address):
    expect(talk(address, get()), [400, 200], [400])


@case("RFC 9112, 3.2")
def a_request_with_two_hosts_is_refused(address):
    expect(talk(address, get(b"Host: localhost", b"Host: y")), [400, 200], [400])


@case("RFC 9110, 9.1")
def a_method_that_is_not_known_is_refused(address):
    expect(talk(address, b"BREW /health HTTP/1.1\r\nHost: localhost\r\n\r\n"), [405, 200], [501, 200])


@case("RFC 9110, 9.3.2")
def a_head_request_has_no_body(address):
    # Its answer says the length of what is not sent, so nothing could be told from it behind it.
    head = b"HEAD /avp/v2/contexts/none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    expect(talk(address, last=head), [404])


@case("RFC 9112, 3")
def a_request_line_with_a_space_too_many_is_refused(address):
    refused(talk(address, b"GET /health x HTTP/1.1\r\nHost: localhost\r\n\r\n"))


@case("RFC 9112, 3")
def a_request_line_of_a_megabyte_is_refused(address):
    refused(talk(address, get(b"Host: localhost", path=b"/" + b"x" * (1 << 20))), [414], [431])


@case("RFC 6585, 5")
def a_header_field_of_a_megabyte_is_refused(address):
    refused(talk(address, get(b"Host: localhost", b"X: " + b"x" * (1 << 20))), [431])


@case("RFC 6585, 5")
def ten_thousand_header_fields_are_refused(address):
    refused(talk(address, get(b"Host: localhost", *[b"X: x"] * 10_000)), [431])


@case("RFC 6585, 5")
def header_fields_over_the_limit_are_refused_with_their_status(address):
    expect(talk(address, get(b"Host: localhost", *[b"X-%d: %b" % (n, b"x" * 1000) for n in range(20)])), [431, 200], [431])


@case("RFC 9112, 5.1")
def white_space_before_a_colon_is_refused(address):
    refused(talk(address, post(b"Content-Length : 5", body=b"hello")))


@case("RFC 9112, 5.2")
def a_folded_header_field_is_refused(address):
    refused(talk(address, get(b"Host: localhost", b"X: a", b" b")))


@case("RFC 9112, 5.2")
def a_folded_transfer_encoding_is_refused(address):
    refused(talk(address, post(b"Transfer-Encoding:", b" chunked", body=chunked(FRAME))))


@case("RFC 9112, 2.2")
def lines_that_end_with_a_bare_line_feed_are_one_request_or_refused(address):
    refused(talk(address, b"GET /health HTTP/1.1\nHost: localhost\n\n"), [200, 200])


@case("RFC 9112, 2.2")
def a_bare_carriage_return_is_refused(address):
    refused(talk(address, get(b"Host: localhost", b"X: a\rContent-Length: 10")))


@case("RFC 9110, 5.5")
def a_nul_in_a_header_field_is_refused(address):
    refused(talk(address, get(b"Host: localhost", b"X: a\0b")))


@case("RFC 9110, 5.1")
def a_header_field_without_a_name_is_refused(address):
    refused(talk(address, get(b"Host: localhost", b": a")))


@case("RFC 9112, 6.3")
def two_lengths_that_differ_are_refused(address):
    refused(talk(address, post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!")))


@case("RFC 9112, 6.3")
def a_list_of_lengths_that_differ_is_refused(address):
    refused(talk(address, post(b"Content-Length: 5, 6", body=b"hello!")))


@case("RFC 9110, 8.6")
def a_length_that_is_no_number_is_refused(address):
    for value in (b"+5", b"-1", b"0x5", b"5 5", b"5.0", b"five", b""):
        refused(talk(address, post(b"Content-Length: " + value, body=b"hello")))


@case("RFC 9110, 8.6")
def a_length_beyond_any_integer_is_refused(address):
    for value in (1 << 64, 1 << 80):
        refused(talk(address, post(b"Content-Length: %d" % value, body=b"hello")), [413])


@case("RFC 9112, 6.1")
def length_and_chunks_together_never_smuggle_a_request(address):
    # Whoever goes by the length sees one request; whoever goes by the chunks sees a second in what is left.
    smuggled = b"0\r\n\r\nGET /none HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for order in (slice(None), slice(None, None, -1)):
        lines = (length(smuggled), b"Transfer-Encoding: chunked")[order]
        refused(talk(address, post(*lines, body=smuggled)))


@case("RFC 9112, 6.1")
def a_transfer_encoding_that_is_not_known_is_refused(address):
    for value in (b"xchunked", b"chunked, gzip", b"identity", b"chunked, chunked", b"\x0bchunked", b"chunked;x=y"):
        refused(talk(address, post(b"Transfer-Encoding: " + value, body=chunked(FRAME))), [501], [501, 200])


@case("RFC 9112, 6.1")
def two_transfer_encodings_are_refused(address):
    lines = (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity")
    refused(talk(address, post(*lines, body=chunked(FRAME))), [501], [501, 200])


@case("RFC 9112, 6.1")
def chunks_in_http_1_0_are_refused(address):
    refused(talk(address, post(b"Transfer-Encoding: chunked", version=b"HTTP/1.0", body=chunked(FRAME))))


@case("RFC 9112, 7.1")
def a_body_in_chunks_is_read_to_its_end(address):
    request = post(b"Transfer-Encoding: chunked", body=chunked(FRAME))
    expect(talk(address, request, request), [200, 200, 200])
    trailed = chunked(FRAME)[:-2] + b"X-Trailer: x\r\n\r\n"
    extended = chunked(FRAME).replace(b"5\r\n", b"5;name=value\r\n", 1)
    expect(talk(address, post(b"Transfer-Encoding: chunked", body=trailed)), [200, 200])
    expect(talk(address, post(b"Transfer-Encoding: chunked", body=extended)), [200, 200])


@case("RFC 9112, 7.1")
def a_chunk_size_beyond_any_integer_is_refused(address):
    for size in (b"f" * 16, b"1" + b"0" * 16):
        refused(talk(address, post(b"Transfer-Encoding: chunked", body=size + b"\r\nhello\r\n0\r\n\r\n")))


@case("RFC 9112, 7.1")
def a_chunk_size_that_is_no_number_is_refused(address):
    for size in (b"-5", b"+5", b"0x5", b"g", b"", b" 5"):
        refused(talk(address, post(b"Transfer-Encoding: chunked", body=size + b"\r\nhello\r\n0\r\n\r\n")))


@case("RFC 9112, 7.1")
def a_chunk_without_its_line_end_is_refused(address):
    for body in (b"5\r\nhelloXX0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\rXhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n"):
        refused(talk(address, post(b"Transfer-Encoding: chunked", body=body)))


@case("RFC 9112, 7.1.1")
def a_chunk_extension_without_an_end_is_refused(address):
    body = b"5;" + b"x" * (1 << 20) + b"\r\nhello\r\n0\r\n\r\n"
    refused(talk(address, post(b"Transfer-Encoding: chunked", body=body)))


@case("RFC 9112, 7.1.2")
def trailers_without_an_end_are_refused(address):
    trailers = b"".join(b"X-%d: %b\r\n" % (number, b"x" * 100) for number in range(10_000))
    request = post(b"Transfer-Encoding: chunked", body=chunked(FRAME)[:-2] + trailers + b"\r\n")
    # The frame is whole before them; what must not happen is that they are kept, or read as a request.
    refused(talk(address, request), [200], [431])


@case("RFC 9112, 6.3")
def bytes_behind_a_body_are_the_next_request(address):
    expect(talk(address, post(length(FRAME), body=FRAME + b"\0\0\0\0")), [200, 400], [200])


@case("RFC 9112, 8")
def a_body_that_ends_early_is_refused(address):
    announced = b"Content-Length: %d" % (len(FRAME) + len(LAST) + 1)
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        connection.sendall(post(announced, body=FRAME))
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while piece := connection.recv(1 << 16):
            received += piece
    refused(statuses(received))


@case("RFC 9110, 10.1.1")
def who_waits_for_leave_to_go_on_gets_it(address):
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        connection.sendall(post(length(FRAME), b"Expect: 100-continue"))
        first = connection.recv(1 << 16)
        expect(statuses(first), [100])
        connection.sendall(FRAME + LAST)
        received = b""
        while piece := connection.recv(1 << 16):
            received += piece
    expect(statuses(received), [200, 200])


@case("RFC 9110, 10.1.1")
def who_waits_for_leave_may_be_refused_at_once(address):
    # The second answer is to the last request, or the connection has ended: the body was never sent.
    expect(talk(address, post(b"Content-Length: 5", b"Expect: 100-continue", path=b"/none"))[:1], [404])


@case("RFC 9112, 3.2.2")
def a_target_in_absolute_form_is_taken(address):
    expect(talk(address, get(b"Host: localhost", path=b"http://localhost/health")), [200, 200])
