"""Code of users is read by type checkers as if the package were installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[2] / "tools" / "check_types.py"


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("check_types", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_blocks_of_a_page_keep_their_lines(tool: Any) -> None:
    page = "# Page\n\n```python\na = X\n```\n\n```sh\nls\n```\n\n```python\nmodel = y\nmodel\n```\n"
    lines = tool.page_code(page).splitlines()
    assert (lines[3], lines[11:13]) == ("a = X", ["model = y", "model"])
    assert lines[0] == "from reader import X, y"  # and no model, which the page makes
    assert set(lines[4:11]) == {""}


def test_a_block_that_is_not_run_is_left_out(tool: Any) -> None:
    assert tool.page_code('# Page\n\n<!-- skip: next "needs it" -->\n```python\na\n```\n') == ""


def test_imports_are_found_by_their_full_names(tool: Any) -> None:
    source = "import a.b as c\nfrom d.e import f\ndef g():\n    import h\nfrom . import i\n"
    assert tool.imported(source) == {"a.b", "d.e", "h"}


def test_the_checkers_see_what_is_wrong_and_that_nothing_is(tool: Any, tmp_path: Path) -> None:
    for checker in ("mypy", "pyright"):
        pytest.importorskip(checker, reason=f"{checker} is not installed: make check")
    page, code = tmp_path / "page.md", tmp_path / "code.py"
    page.write_text(
        "# Page\n\n```python\nimport skip2lora as s2\n\ns2.adapt(model, X, y).timing.total_ms\n"
        "s2.adapt('model.onnx', X, y)\n```\n"
    )
    code.write_text(
        "import skip2lora as s2\nimport torch\n\n"
        "model = s2.TorchBackbone(torch.nn.Linear(2, 2))\n"
        "model.predict()  # wrong\nmodel.predict([[1]])  # wrong\n"
    )
    wide = ":6: {} sees no error, expected one: are the types of what is called too wide?"
    marked = sorted(PATH.parents[1].glob("tests/typing/*.py"))  # every line of it as it should be
    assert len(marked) == 2
    flaws = tool.flaws(tmp_path / "types", [page, code, *marked])
    said = [flaw.splitlines()[0].partition(tmp_path.name + "/")[2] for flaw in flaws]
    assert [flaw for flaw in said if flaw.startswith("code")] == [
        f"code.py{wide.format(checker)}" for checker in ("pyright", "mypy")
    ]
    others = [flaw for flaw in said if not flaw.startswith("code")]
    assert [flaw.partition(": Arg")[0] for flaw in others] == [
        "page.md:7: pyright", "page.md:7: mypy"
    ]  # fmt: skip
