"""The bound of the stack that ``make size`` prints, from made-up call graphs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[2] / "bench" / "arm" / "size.py"


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("arm_size", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def graph(folder: Path, frames: dict[str, int], calls: list[tuple[str, str]]) -> list[Path]:
    """A call graph as gcc writes it: bytes of each function, and who calls whom."""
    nodes = [
        f'node: {{ title: "{name}" label: "{name}\\na.c:1:1\\n{size} bytes (static)\\n0 dynamic" }}'
        for name, size in frames.items()
    ]
    edges = [f'edge: {{ sourcename: "{a}" targetname: "{b}" label: "a.c:2:2" }}' for a, b in calls]
    path = folder / "a.ci"
    path.write_text("\n".join(['graph: { title: "a.c"', *nodes, *edges, "}"]))
    return [path]


def test_the_deepest_chain_counts(tool: Any, tmp_path: Path) -> None:
    graphs = graph(
        tmp_path,
        {"main": 1000, "a": 16, "b": 64, "c": 8},
        [("main", "a"), ("main", "c"), ("a", "b"), ("c", "a")],
    )
    assert tool.stack_bound(graphs, "main") == 8 + 16 + 64


def test_a_function_of_the_library_takes_its_allowance(tool: Any, tmp_path: Path) -> None:
    graphs = graph(tmp_path, {"main": 0, "a": 16}, [("main", "a"), ("a", "memcpy")])
    assert tool.stack_bound(graphs, "main") == 16 + tool.LIBRARY


def test_a_call_through_a_pointer_may_be_any_kernel(tool: Any, tmp_path: Path) -> None:
    small, large = "src/kernels_scalar.c:small", "src/kernels_scalar.c:large"
    graphs = graph(
        tmp_path,
        {"main": 0, "a": 16, small: 8, large: 40, "src/device.c:step": 500},
        [("main", "a"), ("a", "__indirect_call")],
    )
    assert tool.stack_bound(graphs, "main") == 16 + 40


def test_recursion_has_no_bound(tool: Any, tmp_path: Path) -> None:
    graphs = graph(tmp_path, {"main": 0, "a": 8, "b": 8}, [("main", "a"), ("a", "b"), ("b", "a")])
    with pytest.raises(SystemExit, match="no bound: main > a > b > a"):
        tool.stack_bound(graphs, "main")


def test_a_frame_of_any_size_has_no_bound(tool: Any, tmp_path: Path) -> None:
    graphs = graph(tmp_path, {"main": 0, "a": 8}, [("main", "a")])
    graphs[0].write_text(graphs[0].read_text().replace("8 bytes (static)", "8 bytes (dynamic)"))
    with pytest.raises(SystemExit, match="a has a stack frame without a bound"):
        tool.stack_bound(graphs, "main")
