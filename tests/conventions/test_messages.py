"""Every error that the package raises says what was got, what was expected and what to do.

And none below cli/ names an option of the command line. The messages are read from the syntax tree,
so that none is left out because no test provokes it. The text of a message is its literal parts,
with ``{}`` for each value. Names are followed to what is assigned to them in the same function, and
calls to functions of the same module that return a message or an error.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import skip2lora
from skip2lora import errors

ROOT = Path(skip2lora.__file__).parent
PUBLIC = {name for name in vars(errors) if name.endswith("Error")}

# What was expected: by that word, or one that says the same of a model or of this program.
EXPECTED = re.compile(r"\b(expected|expects|takes|needs?|must|this program reads)\b")
# What to do: the last sentence starts with one of these, or is a question.
VERBS = frozenset(
    re.findall(
        r"\w+",
        """
        adapt add ask attach average call change check choose collect connect convert copy
        correct create cut define disable do drop export fetch fill fix free give install keep learn
        leave load lower make map measure move name number open pad pass pip pool prepare read
        remove rename repeat replace reshape resize round run save say scale see set shorten split
        sort start take train try turn unpack update upgrade use wait wrap write
        """,
    )
)
OPTION = re.compile(r"(?<![\w-])--[a-z]")  # the library takes keywords
UNKNOWN = "\0"  # stands for an expression that cannot be read as text
VALUE = "{}"
#: The parameter by which a caller says what to do, and what stands for it: callers are checked.
FIX, FIXED = "fix", "change it"


class Message(NamedTuple):
    """A possible text of an error, and where it is raised."""

    file: str
    line: int
    error: str
    text: str


class Texts:
    """The texts that expressions of one module can have."""

    def __init__(self, tree: ast.Module) -> None:
        self.functions = {
            node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
        }
        self.constants = assigned(tree.body)

    def of(self, node: ast.expr, local: dict[str, list[ast.expr]], depth: int = 2) -> list[str]:
        """Every text of an expression: f-strings joined, both sides of a choice, what is named."""
        match node:
            case ast.Constant(value=str() as text):
                return [text]
            case ast.JoinedStr(values=parts):
                texts = [""]
                for part in parts:
                    more = self.inner(part, local, depth)
                    texts = [text + end for text in texts for end in more]
                return texts
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                ends = self.of(right, local, depth)
                return [a + b for a in self.of(left, local, depth) for b in ends]
            case ast.IfExp(body=body, orelse=other):
                return self.of(body, local, depth) + self.of(other, local, depth)
            case ast.Name(id=name) if depth and (name in local or name in self.constants):
                values = local.get(name) or self.constants[name]
                return [text for value in values for text in self.of(value, local, depth - 1)]
            case ast.Call(func=ast.Name(id=name)) if depth and name in self.functions:
                return self.returned(self.functions[name], depth - 1)
        return [FIXED] if isinstance(node, ast.Name) and node.id == FIX else [UNKNOWN]

    def inner(self, part: ast.expr, local: dict[str, list[ast.expr]], depth: int) -> list[str]:
        """The texts of one part of an f-string; a value stays a value unless its text is known."""
        if isinstance(part, ast.Constant):
            return [str(part.value)]
        assert isinstance(part, ast.FormattedValue)
        texts = self.of(part.value, local, depth)
        if isinstance(part.value, ast.Name) and part.value.id == FIX and {*texts} == {UNKNOWN}:
            return [FIXED]
        return [VALUE if text == UNKNOWN else text.replace(UNKNOWN, VALUE) for text in texts]

    def returned(self, function: ast.FunctionDef, depth: int) -> list[str]:
        """The texts that a helper can return, or those of the errors that it returns."""
        local = assigned(function.body)
        texts = []
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and node.value is not None:
                value = node.value
                if isinstance(value, ast.Call) and is_public(value.func) and value.args:
                    value = value.args[0]
                texts += self.of(value, local, depth)
        return texts or [UNKNOWN]


def assigned(body: list[ast.stmt]) -> dict[str, list[ast.expr]]:
    """The values that names are bound to in a body."""
    values: dict[str, list[ast.expr]] = {}
    for node in ast.walk(ast.Module(body, [])):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    values.setdefault(target.id, []).append(node.value)
    return values


def is_public(function: ast.expr) -> bool:
    return isinstance(function, ast.Name) and function.id in PUBLIC


def messages(source: str, file: str) -> Iterator[Message]:
    """Every text of every public error that a module makes, raised or returned to be raised."""
    tree = ast.parse(source)
    texts = Texts(tree)
    inside: dict[ast.AST, ast.FunctionDef] = {}
    for function in ast.walk(tree):  # from the outside in: the innermost stays
        if isinstance(function, ast.FunctionDef):
            inside.update(dict.fromkeys(ast.walk(function), function))
    passed_on = {id(call) for call in passed_on_by(tree)}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and is_public(node.func)) or id(node) in passed_on:
            continue
        local = assigned(inside[node].body) if node in inside else {}
        for text in texts.of(node.args[0], local) if node.args else [""]:
            yield Message(file, node.lineno, ast.unparse(node.func), text)


def passed_on_by(tree: ast.Module) -> Iterator[ast.Call]:
    """Errors whose text ends with that of another error of ours, such as ``f"{file}: {error}"``."""
    for scope in ast.walk(tree):
        for caught in errors_in(scope):
            local = assigned(scope.body)
            for node in ast.walk(scope):
                if isinstance(node, ast.Call) and is_public(node.func):
                    text = node.args[0]
                    if isinstance(text, ast.Name) and len(local.get(text.id, ())) == 1:
                        text = local[text.id][0]
                    if ends_with(text, caught):
                        yield node


def errors_in(scope: ast.AST) -> list[str]:
    """Names of errors of ours that a handler catches, or that a function is given."""
    if isinstance(scope, ast.ExceptHandler) and scope.type and scope.name:
        types = scope.type.elts if isinstance(scope.type, ast.Tuple) else [scope.type]
        return [scope.name] if all(is_public(of) for of in types) else []
    if isinstance(scope, ast.FunctionDef):
        return [
            each.arg for each in scope.args.args if each.annotation and is_public(each.annotation)
        ]
    return []


def ends_with(text: ast.expr, name: str) -> bool:
    """Whether the last value in the f-strings of ``text`` is that name, with nothing behind it."""
    joined = [node for node in ast.walk(text) if isinstance(node, ast.JoinedStr)]
    match joined:
        case [ast.JoinedStr(values=[*_, ast.FormattedValue(value=ast.Name(id=last))])]:
            return last == name
    return False


def fault(text: str, file: str) -> str | None:
    """What a message lacks, or None."""
    if text == UNKNOWN:
        return "cannot be read: write the text where it is raised, or in a helper of the module"
    if "\n" in text:
        return "has several lines"
    if not file.startswith("cli/") and OPTION.search(text):
        return "names an option of the command line"
    says = EXPECTED.search(text)
    if not says:
        return "does not say what was expected"
    if not text[: says.start()].strip(" ,:"):
        return "does not say what was got"
    advice = re.split(r"[:;] ", text)[-1]
    if advice == text:
        return "does not say what to do"
    last = re.split(r"(?<=\?) ", advice)[-1]
    first = re.match(r"[a-z]+", last)
    if not (advice.endswith("?") or (first and first[0] in VERBS)):
        return f"does not say what to do: {last!r} starts with no verb of the list"
    return None


def advices(tree: ast.Module) -> Iterator[ast.expr]:
    """What is passed as ``fix``, and its defaults."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == FIX:
            yield node.value
        elif isinstance(node, ast.arguments):
            yield from (
                default
                for argument, default in zip(node.kwonlyargs, node.kw_defaults, strict=True)
                if argument.arg == FIX and default is not None
            )


def cuts(tree: ast.Module) -> Iterator[str]:
    """What is cut to so many characters or names in a text, or of one."""
    for part in ast.walk(tree):
        within = ast.walk(part) if isinstance(part, ast.JoinedStr) else [part]
        for each in within:
            match each:
                case ast.Subscript(value=value, slice=ast.Slice(lower=None, upper=most)) if most:
                    is_text = bool(re.match(r"(str|repr)\(", ast.unparse(value)))
                    several = re.fullmatch(r"[A-Z_]+|[2-9]|\d\d+", ast.unparse(most))
                    if several and (is_text or isinstance(part, ast.JoinedStr)):
                        yield ast.unparse(each)


def modules() -> list[str]:
    return sorted(str(file.relative_to(ROOT)) for file in ROOT.rglob("*.py"))


@pytest.mark.parametrize("file", modules())
def test_what_was_got_what_was_expected_what_to_do(file):
    source = (ROOT / file).read_text(encoding="utf-8")
    faults = [
        f"{message.file}:{message.line} {lack}: {message.text!r}"
        for message in messages(source, file)
        if (lack := fault(message.text, file))
    ]
    assert not faults, "\n" + "\n".join(faults)


def test_callers_say_what_to_do():
    starts = []
    for file in modules():
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        for node in advices(tree):
            starts += [text.split()[0] for text in Texts(tree).of(node, {}) if text[0].isalpha()]
    assert len(starts) > 2
    assert set(starts) <= VERBS


@pytest.mark.parametrize(
    ("source", "lack"),
    [
        ('raise DataError(f"X has {n} rows, expected 1: pass one")', None),
        ('raise DataError(f"X has {n} rows, expected 1: was it cut?")', None),
        (
            'raise DataError("X has" " 2 rows," + f" expected {n}: " + ("pass" if n else "cut"))',
            None,
        ),
        ('raise DataError(f"X has {n} rows: pass one")', "expected"),
        ('raise DataError(f"expected {n} rows: pass one")', "got"),
        ('raise DataError(f"X has {n} rows, expected 1")', "what to do"),
        ('raise DataError(f"X has {n} rows, expected 1: there are many")', "no verb"),
        ('raise DataError(f"X has {n} rows, expected 1: {what}")', "no verb"),
        ('raise DataError(f"X has {n} rows, expected 1: {fix}")', None),
        ('raise DataError(f"X has {n}, expected 1: pass --rows")', "option"),
        ("raise DataError(describe(n))", "cannot be read"),
        ('text = "X has rows: pass one"\nraise DataError(text)', "expected"),
        ('def bad(n):\n    return DataError(f"X has {n}")\nraise bad(1)', "expected"),
        ('def text(n):\n    return f"X has {n}"\nraise DataError(text(1))', "expected"),
        ('try:\n    f()\nexcept DataError as e:\n    raise DataError(f"{p}: {e}") from e', None),
        ('def named(p, e: DataError):\n    return DataError(f"{p}: {e}")', None),
        ('def named(p, e: OSError):\n    return DataError(f"{p}: {e}")', "expected"),
        (
            'try:\n    f()\nexcept OSError as e:\n    raise DataError(f"{p}: {e}") from e',
            "expected",
        ),
        ('raise ValueError("no error of ours")', None),
    ],
)
def test_the_check_itself(source, lack):
    faults = [fault(message.text, "a.py") for message in messages(source, "a.py")]
    if lack is None:
        assert not any(faults)
    else:
        assert len(faults) == 1
        assert lack in faults[0]


@pytest.mark.parametrize("file", modules())
def test_brief_and_listing_alone_cut_what_a_message_shows(file):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert [part for part in cuts(tree) if not re.search(r"hash|digest|_HEAD", part)] == []


@pytest.mark.parametrize("text", ['f"is {word[:40]!r}"', "f'{a.b[:_MOST]}'"])
def test_a_cut_is_seen(text):
    assert len({*cuts(ast.parse(text))}) == 1
    assert len({*cuts(ast.parse("str(word)[:40]"))}) == 1


@pytest.mark.parametrize("text", ["word[:40]", 'f"{word[:n]}"', 'f"{rows[:1]}"', "f'{a[2:]}'"])
def test_a_slice_that_is_no_cut_is_left_alone(text):
    assert not [*cuts(ast.parse(text))]
