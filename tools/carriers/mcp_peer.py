"""Writes MCP results that carry frames with the installed `mcp`, or reads given ones with it.

    python mcp_peer.py make [FILE]    the cases of test-vectors/carriers/mcp.json
    python mcp_peer.py read           a line {"kind", "value"} in, a line with what the package found out

A result is written, and a given one checked, under the schema of each revision that has `resource_link`.
"""

import base64

import mcp_types as types
from mcp_types.methods import parse_server_result, serialize_server_result

from common import CONTEXT, FRAMES, MEDIA_TYPE, URL, carries_context, carries_frame, case, run

REVISIONS = ["2025-06-18", "2025-11-25", "2026-07-28"]
CONTEXT_KEY = "agent-vector-protocol/context"
METHODS = {"tool_result": "tools/call", "resources": "resources/list", "contents": "resources/read"}


def make():
    # The context's size stands in the field that MCP has for it.
    known = {name: value for name, value in CONTEXT.items() if name != "size"}
    about = {"name": "c1", "uri": URL, "mime_type": MEDIA_TYPE, "size": CONTEXT["size"], "_meta": {CONTEXT_KEY: known}}
    notes = {"name": "notes.txt", "uri": "file:///notes.txt", "mime_type": "text/plain"}
    blobs = [
        types.BlobResourceContents(uri=URL, mime_type=MEDIA_TYPE, blob=base64.b64encode(data).decode())
        for data in FRAMES
    ]
    text = types.TextResourceContents(uri="file:///notes.txt", mime_type="text/plain", text="Rosa lives in Lisbon.")
    results = {
        "tool_result": types.CallToolResult(content=[
            types.TextContent(text="The notes are read."),
            types.ResourceLink(**about),
            types.EmbeddedResource(resource=blobs[0]),
            types.EmbeddedResource(resource=text),
            types.EmbeddedResource(resource=blobs[1]),
        ]),
        "resources": types.ListResourcesResult(resources=[types.Resource(**about), types.Resource(**notes)]),
        "contents": types.ReadResourceResult(contents=[blobs[0], text, blobs[1]]),
    }
    frames = [carries_frame(data) for data in FRAMES]
    expect = {
        "tool_result": [carries_context(), *frames],
        "resources": [carries_context()],
        "contents": frames,
    }
    rules = {
        "tool_result": "frames and contexts are taken from the result of a tool",
        "resources": "contexts are taken from the list of resources",
        "contents": "frames are taken from what a resource holds",
    }
    return [
        case(f"{kind}, {revision}", rules[kind], kind,
             serialize_server_result(METHODS[kind], revision, result.model_dump(by_alias=True, exclude_none=True)),
             expect[kind])
        for revision in REVISIONS
        for kind, result in results.items()
    ]


def read(kind, value):
    found = [describe(kind, parse_server_result(METHODS[kind], revision, value)) for revision in REVISIONS]
    if any(other != found[0] for other in found):
        raise ValueError("the revisions read it differently")
    return found[0]


def describe(kind, result):
    return {
        "tool_result": lambda: [describe_block(block) for block in result.content],
        "resources": lambda: [describe_resource(resource) for resource in result.resources],
        "contents": lambda: [describe_contents(contents) for contents in result.contents],
    }[kind]()


def describe_block(block):
    if isinstance(block, types.ResourceLink):
        return {"type": block.type} | describe_resource(block)
    if isinstance(block, types.EmbeddedResource):
        return {"type": block.type} | describe_contents(block.resource)
    return {"type": block.type}


def describe_resource(resource):
    return {
        "uri": resource.uri,
        "name": resource.name,
        "media_type": resource.mime_type,
        "size": resource.size,
        "context": (resource.meta or {}).get(CONTEXT_KEY),
    }


def describe_contents(contents):
    return {"uri": contents.uri, "media_type": contents.mime_type, "raw": base64.b64decode(contents.blob, validate=True).hex()}


if __name__ == "__main__":
    run("mcp", make, read)
