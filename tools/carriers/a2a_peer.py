"""Writes A2A messages that carry frames with the installed `a2a-sdk`, or reads given ones with it.

    python a2a_peer.py make [FILE]    the cases of test-vectors/carriers/a2a.json
    python a2a_peer.py read           a line {"kind", "value"} in, a line with what the package found out

`multipart/related` is no part of the package: urllib3, which comes with it, writes such bodies, and Python's own `email` reads
them.
"""

import base64
import email
import email.policy
import json

from a2a.client.service_parameters import ServiceParametersFactory, with_a2a_extensions
from a2a.compat.v0_3 import conversions
from a2a.compat.v0_3.extension_headers import add_legacy_extension_header
from a2a.extensions.common import find_extension_by_uri, get_requested_extensions
from a2a.helpers.proto_helpers import new_raw_part, new_text_part, new_url_part
from a2a.types import a2a_pb2
from google.protobuf import json_format
from urllib3.fields import RequestField
from urllib3.filepost import encode_multipart_formdata

from common import CONTEXT, FRAMES, MEDIA_TYPE, URL, carries_context, carries_frame, case, run

EXTENSION = "urn:agent-vector-protocol:a2a:v1"
OTHER_EXTENSION = "https://b.example/ext/v1"
CID = "cid:frame%2F1@a.example"


def make():
    carried = [carries_frame(FRAMES[0]), carries_context(), carries_frame(FRAMES[1])]
    parts = [
        new_text_part("Here are the notes."),
        new_raw_part(FRAMES[0], MEDIA_TYPE, "notes.avp"),
        context_part(),
        new_raw_part(b"\x89PNG", "image/png"),
        new_raw_part(FRAMES[1], MEDIA_TYPE),
    ]
    message = a2a_pb2.Message(message_id="m1", role=a2a_pb2.ROLE_USER, parts=parts, extensions=[EXTENSION])
    artifact = a2a_pb2.Artifact(artifact_id="a1", name="notes", parts=parts, extensions=[EXTENSION])
    old = conversions.to_compat_message(message)
    attached = a2a_pb2.Message(message_id="m2", role=a2a_pb2.ROLE_USER, parts=[new_url_part(CID, MEDIA_TYPE)])
    bare = a2a_pb2.Message(message_id="m3", role=a2a_pb2.ROLE_AGENT, parts=[new_url_part(URL, MEDIA_TYPE)])
    nothing = dict.fromkeys(CONTEXT) | {"id": "c1"}
    return [
        case("message", "frames and contexts are taken from a message of A2A 1.0", "message", to_json(message), carried),
        case("artifact", "frames and contexts are taken from an artifact of A2A 1.0", "message", to_json(artifact), carried),
        case("message 0.3", "frames and contexts are taken from a message of A2A 0.3", "message",
             old.model_dump(mode="json", by_alias=True, exclude_none=True), carried),
        case("address alone", "an address without a word about it is a context all the same", "message",
             to_json(bare), [carries_context(**nothing)]),
        case("attached", "an address in the same body names a part of it", "message",
             to_json(attached), [{"attached": "frame/1@a.example"}]),
        case("multipart", "the frame lies in the body beside the message that names it", "multipart",
             multipart(to_json(attached), FRAMES[0]), [carries_frame(FRAMES[0])]),
        case("card", "the extension is found beside others, with its parameters", "card", to_json(card()),
             {"url": "https://a.example/", "avp_version": "0.6.2", "dialects": ["0.2", "0.3"],
              "identity": CONTEXT["identity"]}),
        case("headers", "a request names its extensions in the header of A2A 1.0, or of 0.3, or both", "headers",
             headers(), [OTHER_EXTENSION, EXTENSION]),
    ]


def read(kind, value):
    if kind == "message":
        return read_parts(json_format.ParseDict(value, a2a_pb2.Message()).parts)
    if kind == "artifact":
        return read_parts(json_format.ParseDict(value, a2a_pb2.Artifact()).parts)
    if kind == "card":
        found = find_extension_by_uri(json_format.ParseDict(value, a2a_pb2.AgentCard()), EXTENSION)
        return {"required": found.required, "params": to_json(found.params)}
    if kind == "header":
        return sorted(get_requested_extensions([value]))
    if kind == "multipart":
        return read_multipart(value["content_type"], base64.b64decode(value["body"]))
    raise ValueError(f"no kind is called {kind}")


def read_parts(parts):
    return [
        {
            "media_type": part.media_type,
            "raw": part.raw.hex() if part.HasField("raw") else None,
            "url": part.url if part.HasField("url") else None,
            "metadata": to_json(part.metadata),
        }
        for part in parts
    ]


def read_multipart(content_type, body):
    message = email.message_from_bytes(
        b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body, policy=email.policy.HTTP)
    root, *others = message.iter_parts()
    return {
        "type": message.get_content_type(),
        "root_type": message.get_param("type"),
        "root": read_parts(json_format.Parse(root.get_payload(decode=True), a2a_pb2.Message()).parts),
        "others": [
            {
                "content_id": part["Content-ID"],
                "media_type": part.get_content_type(),
                "encoding": part["Content-Transfer-Encoding"],
                "body": part.get_payload(decode=True).hex(),
            }
            for part in others
        ],
        "defects": [str(defect) for defect in message.defects],
    }


def context_part():
    part = new_url_part(URL, MEDIA_TYPE)
    part.metadata.update({f"{EXTENSION}/context": CONTEXT})
    return part


def card():
    params = {"url": "https://a.example/", "avp_version": "0.6.2", "dialects": ["0.2", "0.3"],
              "identity": CONTEXT["identity"]}
    avp = a2a_pb2.AgentExtension(uri=EXTENSION, description="Speaks AVP.", required=False)
    avp.params.update(params)
    return a2a_pb2.AgentCard(
        name="A",
        description="Takes notes.",
        version="1.0.0",
        supported_interfaces=[
            a2a_pb2.AgentInterface(url="https://a.example/a2a", protocol_binding="JSONRPC", protocol_version="1.0")
        ],
        capabilities=a2a_pb2.AgentCapabilities(
            streaming=True, extensions=[a2a_pb2.AgentExtension(uri=OTHER_EXTENSION), avp]),
        default_input_modes=["text/plain", MEDIA_TYPE],
        default_output_modes=["text/plain", MEDIA_TYPE],
    )


def headers():
    named = ServiceParametersFactory.create([with_a2a_extensions([EXTENSION, OTHER_EXTENSION])])
    add_legacy_extension_header(named)
    return dict(named)


def multipart(root, data):
    def part(content, **names):
        # The name is for forms, and is not written without a call of `make_multipart`.
        return RequestField("part", content, headers={name.replace("_", "-"): value for name, value in names.items()})

    fields = [
        part(json.dumps(root), Content_Type="application/json", Content_ID="<root@a.example>"),
        part(data, Content_Type=MEDIA_TYPE, Content_ID="<frame/1@a.example>", Content_Transfer_Encoding="binary"),
    ]
    boundary = "gc0pJq0M:08jU534c0p"
    body, _ = encode_multipart_formdata(fields, boundary)
    content_type = f'multipart/related; boundary="{boundary}"; type="application/json"; start="<root@a.example>"'
    return {"content_type": content_type, "body": base64.b64encode(body).decode()}


def to_json(message):
    return json_format.MessageToDict(message)


if __name__ == "__main__":
    run("a2a-sdk", make, read)
