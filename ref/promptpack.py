"""Prompt packs (file format rmas-prompts 1): reader and renderer.

docs/PROMPTS.md says what a pack is; this file is the format in executable form, independent of the C reader.

    pack = load("default.prompts")
    ctx  = Context(task="code", question="Add two numbers.", form="named", fn_name="add")
    parts = pack.user("sequential", "critic", ctx)        # [("text", "..."), ("slot", "planner"), ("text", "...")]
    text  = pack.system("sequential", "critic", ctx)

Command line:  promptpack.py FILE                         check a file and print what is in it
               promptpack.py FILE STYLE ROLE [TASK]       render one prompt with a sample question
"""
import re
import sys
from dataclasses import dataclass

HEADER = "rmas-prompts 1"
MAX_BYTES = 1 << 20
MAX_DEPTH = 16
NAME = re.compile(r"[a-z0-9_-]+(/[a-z0-9_-]+)*(@[a-z0-9_-]+)?\Z")
PATH = re.compile(r"[a-z0-9_-]+(/[a-z0-9_-]+)*\Z")
WORD = re.compile(r"[a-z0-9_-]+\Z")
TASKS = ("math", "choice", "code")
FORMS = ("named", "unnamed", "program")
# placeholders that stand for a value handed in by the engine, and the sections that may use them (None: all)
VALUES = {"question": None, "choice_question": None, "fn_name": None,
          "tests": "question/tests", "starter_code": "question/starter_code", "query": "tool/search_off"}
PLAIN = ("choice-note", "choice-mark")          # sections without placeholders

# White space as Python's str.isspace has it: the same set for stripping and for \s in the lettered rule.
SPACE = ("\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
         "\u2028\u2029\u202f\u205f\u3000")
_S = "[" + re.escape(SPACE) + "]"
LETTERED = re.compile(r"(?:\A|(?<=\n))" + _S + "*[A-Da-d]" + _S + r"*[.):-]" + _S)


class PackError(ValueError):
    """code: one of the E_ names; line: 1-based, 0 when no line is to blame."""

    def __init__(self, code, line, message):
        super().__init__(f"{code} line {line}: {message}" if line else f"{code}: {message}")
        self.code, self.line, self.message = code, line, message


def lettered(question):
    """True if a line of the question opens like an answer option (A. / b) / C: / d - ...)."""
    return LETTERED.search(question) is not None


def ascii_lower(s):
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in s)


@dataclass
class Context:
    """What a lookup depends on. form and fn_name count for task code only; options: active option words, in order."""
    task: str = "math"
    question: str = ""
    form: str = "program"
    fn_name: str = ""
    options: tuple = ()

    def variants(self):
        """Suffixes tried in this order after a base name."""
        if self.task == "code":
            return ["/code/" + self.form, "/code", ""]
        out = ["/choice"] if self.task == "choice" else []
        if lettered(self.question):
            out.append("/lettered")
        return out + ["/math", ""]


def code_context(question, task_type, fn_name, options=()):
    """Context of a code task as the reference classifies it: function (named or not) or whole program."""
    kind = str(task_type or "").strip().lower()
    form = ("named" if fn_name else "unnamed") if kind in ("function", "functional") else "program"
    return Context("code", question, form, fn_name or "", tuple(options))


def split_body(body, section, line):
    """Body text -> list of ("text", s), ("value", name), ("slot", role), ("include", path)."""
    out, pos = [], 0
    while True:
        start = body.find("{{", pos)
        if start < 0:
            break
        while body.startswith("{", start + 2):            # of a longer run of {, the last two open the placeholder
            start += 1
        end = body.find("}}", start + 2)
        at = line + body.count("\n", 0, start)
        if end < 0:
            raise PackError("E_PLACEHOLDER", at, f"'{{{{' without '}}}}' in section {section}")
        inner = body[start + 2:end]
        if start > pos:
            out.append(("text", body[pos:start]))
        kind, colon, arg = inner.partition(":")
        if inner == "":
            pass
        elif inner == "braces":
            out.append(("text", "{{"))
        elif section in PLAIN:
            raise PackError("E_PLACEHOLDER", at, f"section {section} takes no placeholder, found {{{{{inner}}}}}")
        elif colon and kind == "slot" and WORD.match(arg):
            out.append(("slot", arg))
        elif colon and kind == "include" and PATH.match(arg):
            out.append(("include", arg))
        elif inner in VALUES:
            if VALUES[inner] not in (None, section.partition("@")[0]):
                raise PackError("E_PLACEHOLDER", at, f"{{{{{inner}}}}} is only for section {VALUES[inner]}")
            if inner == "fn_name" and "named" not in section.partition("@")[0].split("/"):
                raise PackError("E_PLACEHOLDER", at, "{{fn_name}} is only for sections with a part 'named' in their name")
            out.append(("value", inner))
        else:
            raise PackError("E_PLACEHOLDER", at, f"unknown placeholder {{{{{inner}}}}} in section {section}")
        pos = end + 2
    if pos < len(body):
        out.append(("text", body[pos:]))
    return out


class Pack:
    def __init__(self, data):
        if len(data) > MAX_BYTES:
            raise PackError("E_SIZE", 0, f"the file has {len(data)} bytes, more than {MAX_BYTES}")
        try:
            text = data.decode("utf-8", "strict")
        except UnicodeDecodeError as exc:
            raise PackError("E_UTF8", data.count(b"\n", 0, exc.start) + 1, "not valid UTF-8") from None
        lines = text.split("\n")
        for number, line in enumerate(lines, 1):
            if "\0" in line:
                raise PackError("E_CHAR", number, "NUL character")
            if line.endswith("\r"):
                raise PackError("E_CHAR", number, "CR at the end of the line: save the file with LF line ends")
        if lines[0] != HEADER:
            raise PackError("E_HEADER", 1, f"the first line must be '{HEADER}'")

        self.sections, self.line = {}, {}
        name, body, start = None, [], 0

        def close():
            if name is not None:
                self.sections[name] = split_body("\n".join(body).rstrip("\n"), name, start + 1)

        for number, line in enumerate(lines[1:], 2):
            if line.startswith("=== "):
                close()
                name, body, start = line[4:], [], number
                if not NAME.match(name):
                    raise PackError("E_NAME", number, f"bad section name '{name}'")
                if name in self.line:
                    raise PackError("E_DUPLICATE", number, f"section {name} stands in line {self.line[name]} already")
                self.line[name] = number
            elif name is not None:
                body.append(line)
            elif line and not line.startswith("#"):
                raise PackError("E_PREAMBLE", number, "text before the first section")
        close()
        self._check_includes()
        self._check_choice()

    # ---- load-time checks

    def _targets(self, path):
        """Every section that a lookup of path may end in."""
        suffixes = [""] + ["/math", "/choice", "/lettered", "/code"] + ["/code/" + f for f in FORMS]
        paths = {path + s for s in suffixes}
        return [n for n in self.sections if n.partition("@")[0] in paths]

    def _check_includes(self):
        """No dangling include, no cycle, bounded depth and expanded size (a lookup may end in any of the targets)."""
        done, path = {}, set()                            # done: name -> (depth, size)

        def visit(name):
            if name in done:
                return done[name]
            path.add(name)
            depth, size = 1, 0
            for kind, arg in self.sections[name]:
                if kind == "text":
                    size += len(arg.encode("utf-8"))
                if kind != "include":
                    continue
                targets = self._targets(arg)
                if not targets:
                    raise PackError("E_INCLUDE", self.line[name], f"section {name} includes {arg}, which does not exist")
                for target in targets:
                    if target in path:
                        raise PackError("E_CYCLE", self.line[name], f"section {name} includes {arg}, which leads back to it")
                below = [visit(target) for target in targets]
                depth = max(depth, 1 + max(d for d, _ in below))
                size += max(n for _, n in below)
                if depth > MAX_DEPTH:
                    raise PackError("E_SIZE", self.line[name], f"includes nest deeper than {MAX_DEPTH}")
                if size > MAX_BYTES:
                    raise PackError("E_SIZE", self.line[name], f"section {name} grows beyond {MAX_BYTES} bytes")
            path.remove(name)
            done[name] = (depth, size)
            return done[name]

        for name in self.sections:
            visit(name)

    def _check_choice(self):
        note, mark = self.sections.get("choice-note"), self.sections.get("choice-mark")
        for name, parts in self.sections.items():
            if ("value", "choice_question") in parts and (note is None or mark is None):
                raise PackError("E_MISSING", self.line[name], "{{choice_question}} needs the sections choice-note and choice-mark")
        if note is not None and mark is not None:
            if not self._marks() or not self._is_marked(self.plain("choice-note")):
                raise PackError("E_MARK", self.line["choice-note"], "choice-note holds none of the phrases of choice-mark")

    # ---- lookup and rendering

    def find(self, bases, ctx):
        """First existing section for the base names; None if there is none."""
        for base in bases:
            for suffix in ctx.variants():
                for name in [f"{base}{suffix}@{w}" for w in ctx.options] + [base + suffix]:
                    if name in self.sections:
                        return name
        return None

    def render(self, bases, ctx, values=None):
        """Parts of the first section found, includes resolved, neighbouring texts joined."""
        name = self.find(bases, ctx)
        if name is None:
            raise PackError("E_MISSING", 0, f"no section for {' or '.join(bases)}, task {ctx.task}")
        values = {"question": ctx.question, "fn_name": ctx.fn_name, **(values or {})}
        out = []

        def emit(section):
            for kind, arg in self.sections[section]:
                if kind == "include":
                    target = self.find([arg], ctx)
                    if target is None:
                        raise PackError("E_MISSING", self.line[section], f"no section for {arg}, task {ctx.task}")
                    emit(target)
                elif kind == "slot":
                    out.append(("slot", arg))
                else:
                    text = arg if kind == "text" else self.choice_question(ctx.question) if arg == "choice_question" else values[arg]
                    if out and out[-1][0] == "text":
                        out[-1] = ("text", out[-1][1] + text)
                    elif text:
                        out.append(("text", text))

        emit(name)
        return out

    def user(self, style, role, ctx, feedback=False, text_mode=False):
        base = f"{style}/{role}/feedback" if feedback else f"{style}/{role}"
        return self.render((["text/" + base] if text_mode else []) + [base], ctx)

    def system(self, style, role, ctx, text_mode=False):
        bases = [f"{style}/{role}/system", f"{style}/system", "system"]
        return self._text((["text/" + b for b in bases[:2]] if text_mode else []) + bases, ctx)

    def retry(self, style, ctx):
        return self._text([f"{style}/retry", "retry"], ctx)

    def search_off(self, query):
        return self._text(["tool/search_off"], Context(), {"query": query})

    def question_with_tests(self, question, tests):
        """Question of an MBPP+ item: tests is the list of assertion lines shown; without any, the question alone."""
        if not tests:
            return question
        return self._text(["question/tests"], Context(question=question), {"tests": "\n".join(tests)})

    def question_with_starter_code(self, question, starter_code):
        """Question of a LiveCodeBench item; blank starter code leaves the question alone."""
        if not starter_code.strip(SPACE):
            return question
        return self._text(["question/starter_code"], Context(question=question), {"starter_code": starter_code})

    def choice_question(self, question):
        question = question.rstrip(SPACE)
        return question if self._is_marked(question) else f"{question}\n\n{self.plain('choice-note')}"

    def plain(self, name):
        return "".join(arg for _, arg in self.sections[name])

    def _marks(self):
        return [ascii_lower(m) for m in self.plain("choice-mark").split("\n") if m]

    def _is_marked(self, text):
        text = ascii_lower(text)
        return any(m in text for m in self._marks())

    def _text(self, bases, ctx, values=None):
        parts = self.render(bases, ctx, values)
        if any(kind == "slot" for kind, _ in parts):
            raise PackError("E_SLOTS", 0, f"a slot in {bases[-1]}, which is plain text")
        return "".join(text for _, text in parts)


def loads(data):
    return Pack(data if isinstance(data, bytes) else data.encode("utf-8"))


def load(path):
    with open(path, "rb") as f:
        return Pack(f.read())


def slots_of(parts):
    return [arg for kind, arg in parts if kind == "slot"]


def fill(parts, slots):
    """Parts -> one string; slots maps a role to the text (or marker) that stands for its slot."""
    return "".join(arg if kind == "text" else slots[arg] for kind, arg in parts)


def main(argv):
    if len(argv) not in (2, 4, 5):
        print(__doc__)
        return 2
    try:
        pack = load(argv[1])
    except (OSError, PackError) as exc:
        print(f"{argv[1]}: {exc}", file=sys.stderr)
        return 1
    if len(argv) == 2:
        for name in pack.sections:
            print(name)
        return 0
    ctx = Context(task=argv[4] if len(argv) == 5 else "math", question="What is 2 + 2?", form="named", fn_name="add")
    for feedback in (False, True):
        bases = [f"{argv[2]}/{argv[3]}" + ("/feedback" if feedback else "")]
        if pack.find(bases, ctx):
            print(f"---- {bases[0]} ({pack.find(bases, ctx)})")
            print(fill(pack.user(argv[2], argv[3], ctx, feedback), {s: f"<<{s}>>" for s in slots_of(pack.user(argv[2], argv[3], ctx, feedback))}))
    print("---- system")
    print(pack.system(argv[2], argv[3], ctx))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
