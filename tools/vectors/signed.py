"""Writes `test-vectors/avp/signed.json`: signed frames, and what must be refused, signed by the package `cryptography`.

    pip install cryptography==50.0.2
    python tools/vectors/signed.py [--check]

It knows nothing of this library: it follows the description in `docs/frame.md`.
"""

import hashlib
import json
import pathlib
import struct
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

VECTORS = pathlib.Path(__file__).parents[2] / "test-vectors" / "avp"
SEED, OTHER = bytes(range(32)), bytes([7] * 32)
NOW, NONCE = 1_764_320_000, "00112233445566778899aabbccddeeff"
OPEN = "0" * 128


def public(seed):
    key = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))


def entry(name, value):
    both = b"\x0a" + varint(len(name)) + name.encode() + b"\x12" + varint(len(value.encode())) + value.encode()
    return b"\x72" + varint(len(both)) + both


def statement(**changes):
    stated = {
        "signed_by": public(SEED),
        "signed_for": "reader",
        "signed_at": str(NOW),
        "signed_until": str(NOW + 600),
        "signed_nonce": NONCE,
    }
    return [(name, value) for name, value in (stated | changes).items() if value is not None]


def with_entries(frame, entries, more=b""):
    version_and_flags, length, metadata = frame[2:4], *struct.unpack_from("<II", frame, 4)
    more += b"".join(entry(name, value) for name, value in entries)
    head = b"AV" + version_and_flags + struct.pack("<II", length + len(more), metadata + len(more))
    return head + frame[12 : 12 + metadata] + more, frame[12 + metadata :]


def with_small_order(message):
    """A signature whose point is the neutral element: the equation holds, and verifiers disagree about it."""
    secret = bytearray(hashlib.sha512(SEED).digest()[:32])
    secret[0] &= 248
    secret[31] = secret[31] & 63 | 64
    point, order = bytes([1]) + bytes(31), 2**252 + 27742317777372353535851937790883648493
    challenge = int.from_bytes(hashlib.sha512(point + bytes.fromhex(public(SEED)) + message).digest(), "little")
    return (point + (challenge * int.from_bytes(secret, "little") % order).to_bytes(32, "little")).hex()


def signed(frame, stated, seed=SEED, behind=(), more=b"", by=None):
    head, body = with_entries(frame, [*stated, ("signature", OPEN), *behind], more)
    message = b"AVP signed frame v1\0" + hashlib.sha256(head).digest() + hashlib.sha256(body).digest()
    signature = by(message) if by else Ed25519PrivateKey.from_private_bytes(seed).sign(message).hex()
    assert head.count(OPEN.encode()) == 1
    return head.replace(OPEN.encode(), signature.encode()) + body


def peers():
    for version, wanted in [("0.2.1", False), ("0.6.2", False), ("0.6.2", True)]:
        for case in json.loads((VECTORS / f"frames-{version}.json").read_text())["cases"]:
            frame = bytes.fromhex(case["input"]["hex"])
            if bool(frame[3] & 1) == wanted and 60 < len(frame) < 600:
                yield f"{version}, {'compressed' if wanted else 'plain'}", frame
                break


def flipped(frame, at, bit=1):
    return frame[:at] + bytes([frame[at] ^ bit]) + frame[at + 1 :]


def cases():
    trusted = [public(OTHER), public(SEED)]
    accepted = {"signer": public(SEED), "audience": "reader", "signed_at": NOW, "signed_until": NOW + 600, "nonce": NONCE}

    def case(rule, frame, kind=None, expect=accepted, **policy):
        policy = {"trusted": trusted, "audience": "reader", "now": NOW + 60} | policy
        outcome = {"error": {"kind": kind}} if kind else {"expect": expect}
        return {"rule": rule, "operation": "frame.verify", "input": {"hex": frame.hex()} | policy} | outcome

    for name, frame in peers():
        yield case(f"a signed frame is accepted: avp {name}", signed(frame, statement()))
    name, plain = next(iter(peers()))
    good = signed(plain, statement())
    body = len(plain) - 12 - struct.unpack_from("<I", plain, 8)[0]
    for_all = statement(signed_for=None)
    yield case("a signature for everybody", signed(plain, for_all), expect=accepted | {"audience": ""}, audience=None)
    yield case("a receiver without a name accepts any audience", good, audience=None)
    yield case("entries stand in any order, and others behind them", signed(plain, statement()[::-1], behind=[("z", "1")]))
    yield case("the signer's clock may be 60 s ahead", good, now=NOW - 60)
    yield case("valid for as long as the receiver allows", good, max_lifetime=600)
    yield case("no signature", plain, "not_signed")
    yield case("a bit of the body", flipped(good, len(good) - 1), "bad_signature")
    yield case("a bit of the model's name or another field", flipped(good, 14, 0x20), "bad_signature")
    yield case("another version of the body's first byte", flipped(good, len(good) - body), "bad_signature")
    at = good.index(b"signature") + len("signature") + 3
    digit = b"1" if good[at : at + 1] == b"0" else b"0"
    yield case("a digit of the signature", good[:at] + digit + good[at + 1 :], "bad_signature")
    yield case("signed with another key than it says", signed(plain, statement(), OTHER), "bad_signature")
    yield case("a trusted key put in place of another", signed(plain, statement(signed_by=public(OTHER))), "bad_signature")
    yield case("a signature of another body", good[: len(good) - body] + bytes(body), "bad_signature")
    weak = "01" + "00" * 31
    forged = "58" + "66" * 31 + "01" + "00" * 31
    yield case("a weak key, with which any signature agrees", signed(plain, statement(signed_by=weak), by=lambda _: forged), "bad_signature", trusted=[weak])
    yield case("a signature with a point of small order", signed(plain, statement(), by=with_small_order), "bad_signature")
    yield case("an untrusted signer", good, "untrusted_signer", trusted=[public(OTHER)])
    yield case("nobody is trusted", good, "untrusted_signer", trusted=[])
    yield case("another audience", good, "other_audience", audience="writer")
    yield case("a receiver with a name refuses what is for everybody", signed(plain, for_all), "other_audience")
    yield case("expired", good, "signature_expired", now=NOW + 600)
    yield case("signed in the future", good, "signature_not_yet_valid", now=NOW - 61)
    yield case("valid for longer than the receiver allows", good, "signature_too_long", max_lifetime=599)
    for name in ["signed_by", "signed_at", "signed_until", "signed_nonce"]:
        yield case(f"without {name}", signed(plain, statement(**{name: None})), "bad_signature")
    for name, value in [
        ("signed_by", public(SEED).upper()),
        ("signed_by", public(SEED)[:-1]),
        ("signed_for", ""),
        ("signed_at", f"+{NOW}"),
        ("signed_at", f"0{NOW}"),
        ("signed_until", f"{NOW + 600} "),
        ("signed_until", "1000000000000000"),
        ("signed_nonce", NONCE.upper()),
        ("signed_nonce", NONCE + "00"),
    ]:
        changed = signed(plain, statement(**{name: value}))
        yield case(f"{name} is not well written: {value[:24]}", changed, "bad_signature", audience=None)
    for name, value in [("signed_for", "writer"), ("signed_by", public(OTHER)), ("signed_until", str(NOW + 9))]:
        yield case(f"{name} twice", signed(plain, [*statement(), (name, value)]), "bad_signature")
    head, rest = with_entries(good, [("signature", "1" * 128)])
    yield case("signature twice", head + rest, "bad_signature")
    head, rest = with_entries(plain, statement())
    for what, both in [
        ("two values", [(1, "signed_for"), (2, "writer"), (2, "reader")]),
        ("two names, the last another", [(1, "signed_for"), (1, "z"), (2, "reader")]),
        ("two names, the first another", [(1, "z"), (1, "signed_for"), (2, "reader")]),
    ]:
        odd = b"".join(bytes([number << 3 | 2, len(text)]) + text.encode() for number, text in both)
        field = b"\x72" + varint(len(odd)) + odd
        yield case(f"an entry with {what}", signed(plain, for_all, more=field), "bad_signature", audience=None)
    yield case("without a signature, though with all else", head + rest, "bad_signature")
    yield case("a damaged frame", good[:-1], "truncated")


def main():
    numbered = [
        {"name": f"signed-{number:03}", "source": "cryptography"} | case for number, case in enumerate(cases())
    ]
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in numbered)
    text = f'{{"$schema": "schema.json", "cases": [\n{lines}\n]}}\n'
    path = VECTORS / "signed.json"
    if sys.argv[1:] == ["--check"]:
        sys.exit(path.read_text() != text and "signed.json is not what this script writes")
    path.write_text(text)


main()
