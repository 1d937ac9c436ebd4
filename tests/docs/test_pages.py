"""README, CONTRIBUTING and pages: what they may weigh, and that every link leads somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from skip2lora.cli import fill, group

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
LINK = re.compile(r"\]\((?!https?://)([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Names of the headings of a page, as links to them are written."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 600
    assert max(map(len, README.splitlines())) <= 140


def test_the_readme_has_one_picture_that_is_light() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert pictures == ["docs/skip2lora.svg"]
    svg = (ROOT / pictures[0]).read_text()
    assert len(svg) < 12_000
    assert "<script" not in svg
    assert re.findall(r'(?:href|src)="(?!#)', svg) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{page.name} links to {link}, which is not there"
        assert not anchor or anchor in anchors(target), f"{page.name}: no heading for {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_programs_themselves_and_not_to_an_index_of_packages(page: Path) -> None:
    hosts = re.findall(r"https?://([^/)\s]+)", page.read_text())
    assert [host for host in hosts if re.search(r"pypi\b|pythonhosted|npmjs", host)] == []


def test_every_page_is_listed() -> None:
    """The site fails for one in no list; this holds the README's table and the index."""
    index = (ROOT / "docs" / "index.md").read_text()
    for page in ROOT.glob("docs/*.md"):
        name = page.stem
        assert name == "index" or name.startswith("add-a-") or f"\n{name}\n" in index


def blocks_of(page: str, word: str) -> list[str]:
    """Commands of a page that have ``word`` in them."""
    text = (ROOT / "docs" / page).read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for block in blocks if word in block]


@pytest.mark.parametrize("word", ["sbatch", "kubectl"])
def test_what_needs_a_cluster_is_bash_at_least(word: str) -> None:
    (block,) = blocks_of("cluster.md", word)
    done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    commands = re.findall(r"skip2lora fill [^'\"]+", block)
    assert len(commands) == 1
    number = {"sbatch": "$SLURM_ARRAY_TASK_ID", "kubectl": "$JOB_COMPLETION_INDEX"}[word]
    words = commands[0].replace(number, "3").split()
    context = fill.command.make_context("fill", words[2:], **group.context_settings)
    assert context.params["shard"] == (3, 16)


def test_the_job_of_kubernetes_is_one() -> None:
    yaml = pytest.importorskip("yaml")
    (block,) = blocks_of("cluster.md", "kubectl")
    job = yaml.safe_load(block.partition("<<'END'\n")[2].rpartition("END")[0])
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == 16
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] in ("OnFailure", "Never")
    mounts = [mount["name"] for mount in pod["containers"][0]["volumeMounts"]]
    assert mounts == [volume["name"] for volume in pod["volumes"]]
