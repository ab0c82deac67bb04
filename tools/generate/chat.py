"""What Transformers renders of chat templates: records for test-vectors/chat."""

import json
from pathlib import Path

from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

TEMPLATES = Path(__file__).resolve().parent / "templates"

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "find_person",
            "description": "Finds where someone lives — \"as far as known\" <&>.",
            "parameters": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "limit": {"type": "number", "default": 1.0, "minimum": 1e-7}},
                "required": ["name"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {}}},
]

USER = {"role": "user", "content": "Where does Rosa live?"}
SYSTEM = {"role": "system", "content": "You are brief. "}
ANSWER = {"role": "assistant", "content": " In Lisbon.\n"}
UNICODE = {"role": "user", "content": "  Çok güzel 😀\n\t日本  "}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call00001", "type": "function", "function": {"name": "find_person", "arguments": {"name": "Rosa", "é": [1, 2.0, True, None]}}}
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call00001", "name": "find_person", "content": "Lisbon"}
PARTS = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " Who is this? "}]}
THOUGHT = {"role": "assistant", "content": "<think>\nLisbon, I think.\n</think>\n\nIn Lisbon."}
REASONED = {"role": "assistant", "content": "In Lisbon.", "reasoning_content": "Her notes say so.\n"}

CONVERSATIONS = {
    "one": [USER],
    "system": [SYSTEM, USER],
    "turns": [SYSTEM, USER, ANSWER, UNICODE],
    "ends with an answer": [USER, ANSWER],
    "two users": [USER, USER],
    "calls": [USER, CALL, RESULT],
    "calls and asks on": [SYSTEM, USER, CALL, RESULT, ANSWER, UNICODE],
    "parts": [PARTS],
    "parts behind a system": [{"role": "system", "content": [{"type": "text", "text": "Brief."}]}, PARTS],
    "thoughts": [USER, THOUGHT, UNICODE],
    "reasoned": [USER, ANSWER, UNICODE, REASONED],
    "unknown role": [USER, {"role": "narrator", "content": "Later."}],
}

DOCUMENTS = [{"title": "Notes", "text": "Rosa lives\nin Lisbon."}, {"title": "Map", "text": "Lisbon, Portugal."}]

# Which conversations each template meets, and with what beside them.
CASES = {
    "chatml": [("one", {}), ("turns", {}), ("ends with an answer", {"add_generation_prompt": False}), ("parts", {})],
    "llama3": [
        (name, {"date_string": "3 May 2025", **more})
        for name, more in [
            ("one", {}),
            ("system", {}),
            ("turns", {}),
            ("calls", {"tools": TOOLS}),
            ("calls and asks on", {"tools": TOOLS, "tools_in_user_message": False}),
            ("ends with an answer", {"add_generation_prompt": False}),
        ]
    ],
    "mistral": [
        ("one", {}),
        ("turns", {}),
        ("calls", {"tools": TOOLS}),
        ("calls and asks on", {"tools": TOOLS}),
        ("two users", {}),
        ("unknown role", {}),
    ],
    "gemma": [("one", {}), ("turns", {}), ("parts", {}), ("parts behind a system", {}), ("two users", {})],
    "qwen2.5-tools": [
        ("one", {}),
        ("turns", {}),
        ("one", {"tools": TOOLS}),
        ("calls", {"tools": TOOLS}),
        ("calls and asks on", {"tools": TOOLS}),
    ],
    "reasoning": [("one", {"enable_thinking": False}), ("thoughts", {}), ("reasoned", {"add_generation_prompt": False})],
    "documents": [("turns", {"documents": DOCUMENTS}), ("one", {})],
    "python": [("turns", {})],
}


def render(template, messages, more):
    more = {"tools": None, "documents": None, "add_generation_prompt": True, **more}
    try:
        rendered, _ = render_jinja_template([messages], chat_template=template, **more, **TOKENS)
    except TemplateError as error:
        return {"refused": str(error)}
    except Exception as error:  # Python's own words differ from any other engine's.
        return {"failed": type(error).__name__}
    return {"rendered": rendered[0]}


def record(folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    for name, cases in CASES.items():
        template = (TEMPLATES / f"{name}.jinja").read_text()
        recorded = [
            {"name": conversation, "messages": CONVERSATIONS[conversation], "with": more}
            | render(template, CONVERSATIONS[conversation], more)
            for conversation, more in cases
        ]
        whole = {"template": template, **TOKENS, "cases": recorded}
        (folder / f"{name}.json").write_text(json.dumps(whole, ensure_ascii=False, indent=1) + "\n")
