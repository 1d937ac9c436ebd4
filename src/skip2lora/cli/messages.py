"""Messages of the library, which name keywords, for those who type options."""

from __future__ import annotations

import re
import shlex

#: Keywords of the library that are options here, and what they are set to, if anything.
_KEYWORD = re.compile(
    r"(?<![\w./-])(?P<name>class_names|class_weight|data|force|groups?|i2c|ignore|keep|keep_outputs"
    r"|keep_weight|mask|mean|new_classes|output|penalty|precision|recipe|resume|sample_weight|samples|size"
    r"|solver|source|split|standardize|std|suspects|target|task|threshold|validation_data|validation|weight)="
    r"(?P<value>'[^']*'|[\w-]*)"
)
#: Those that are called otherwise here, as --output is where a result goes.
_RENAMED = {
    "groups": "group", "output": "output-name", "sample-weight": "weight", "samples": "data",
}  # fmt: skip


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
