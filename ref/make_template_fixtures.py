#!/usr/bin/env python3
"""Renders tests/fixtures/templates/snippets.txt (snippets between lines "%%") with Jinja2 in the environment of transformers'
apply_chat_template, and writes cases.jsonl beside it: first the variables, then {"template", "text"} or {"template", "error"}."""
import datetime
import json
from pathlib import Path

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "templates"
VARS = {"s": "Hello, World", "n": 3, "f": 2.5, "l": [1, 2, 3], "d": {"a": 1, "b": "x", "items": 7}, "e": [], "none": None, "t": True,
        "u": "h\u00e9\u00e9 \u00df\u00a0\u00dcn\u00ef\U0001f600", "nl": "a\nb\n\nc\r\nd", "sp": "  x y  ", "messages": [],
        "users": [{"name": "Bob", "age": 3, "ok": True}, {"name": "alice", "age": 1, "ok": False}, {"name": "Zed", "age": 2}]}


class Generation(jinja2.ext.Extension):
    """{% generation %}, which transformers adds: its body as it is."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
env.filters["tojson"] = tojson
env.globals["raise_exception"] = raise_exception
env.globals["strftime_now"] = lambda fmt: datetime.datetime(2024, 7, 26).strftime(fmt)

snippets = (HERE / "snippets.txt").read_bytes().decode("utf-8").removesuffix("\n").split("\n%%\n")
with open(HERE / "cases.jsonl", "w", encoding="utf-8", newline="\n") as out:
    out.write(json.dumps({"vars": VARS}) + "\n")
    for s in snippets:
        try:
            row = {"template": s, "text": env.from_string(s).render(**VARS)}
        except Exception as exc:
            row = {"template": s, "error": f"{type(exc).__name__}: {exc}"}
        out.write(json.dumps(row) + "\n")
print(len(snippets), "snippets")
