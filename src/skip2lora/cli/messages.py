"""Messages of the library, which name keywords, for those who type options."""

from __future__ import annotations

import re
import shlex

from skip2lora.errors import brief

#: Keywords of the library that are options here, and what they are set to, if anything.
_KEYWORD = re.compile(
    r"(?<![\w./-])(?P<name>cache|cache_samples|category|channels|class_names|class_weight"
    r"|confidence|crop|data|engine|every"
    r"|features|force|gain|groups?|hop|i2c"
    r"|ignore|keep|keep_outputs|keep_rows|keep_weight|label_by|margin|mask|mean|memory|mixed|new_classes"
    r"|output|penalty"
    r"|precision"
    r"|projection_from|rate|recipe|resume|sample_weight|samples|size|solver|source|split|square|standardize|std"
    r"|segments|suspects|taps_only|target_of|target|task|threshold|time"
    r"|validation_data|validation|weights?|window)="
    r"(?P<value>'[^']*'|[\w-]*)"
)
#: Those that are called otherwise here, as --output is where a result goes.
_RENAMED = {
    "cache": "cache-dir", "groups": "group", "output": "output-name", "sample-weight": "weight",
    "samples": "data",
}  # fmt: skip

#: What moves the cursor of a terminal, turns its text around or ends a line.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def spelled(control: re.Match[str]) -> str:
    """What a character that is a command to a terminal is called in Python."""
    return control[0].encode("unicode_escape").decode()


def shown(message: str) -> str:
    """A message on one line, cut where it is very long: names in it are as a file makes them."""
    return brief(CONTROL.sub(spelled, " ".join(message.split())), 2000)


def with_options(message: str) -> str:
    """A message of the library with options in place of keywords.

    ``task='regression'`` becomes ``--task regression``, ``force=True`` becomes ``--force`` and
    ``keep_outputs=False`` becomes ``--no-keep-outputs``.
    """

    def option(keyword: re.Match[str]) -> str:
        name, value = keyword["name"].replace("_", "-"), keyword["value"].strip("'")
        name = _RENAMED.get(name, name)
        if (name, value) == ("keep", "False"):
            return "--no-lab-set"
        if value == "False":
            return f"--no-{name}"
        return f"--{name}" if value in ("", "True") else f"--{name} {shlex.quote(value)}"

    return _KEYWORD.sub(option, message)
