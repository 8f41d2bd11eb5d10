"""Holds the repository to its own rules: no registry or machine is named, modules and exceptions are explained."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.need import DEBIAN, ROOT, need_program
from tocsin_cli.main import VERBS

PACKAGES: Final = (
    "core/tocsin_core",
    "edge/tocsin_edge",
    "cloud/tocsin_cloud",
    "simulators/tocsin_sim",
    "cli/tocsin_cli",
)
# Written in pieces, so that this file does not hold what it forbids.
REGISTRIES: Final = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("npmmirror", "com"),
        ("yarnpkg", "com"),
        ("unpkg", "com"),
        ("jsdelivr", "net"),
        ("deb.debian", "org"),
        ("crates", "io"),
        ("mirrors.aliyun", "com"),
        ("pypi.tuna", "tsinghua"),
    )
)
MACHINE_PATH: Final = re.compile(r"(?<![\w.~/-])/(?:work|root|home|Users|tmp/brief)/(?=[\w.])")


def tracked_texts() -> Iterator[tuple[str, str]]:
    """Yield the name and text of every file that git tracks and that holds no zero byte."""
    git = need_program("git")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in listed.decode().split("\0"):
        path = ROOT / name
        if not name or path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        if b"\0" not in content:
            yield name, content.decode("utf-8")


def modules() -> list[Path]:
    """Return every module of the five packages that a person wrote."""
    found = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return [path for path in found if not path.name.endswith("_pb2.py") and "node_modules" not in path.parts]


def faults_of(text: str) -> list[str]:
    """Return the forbidden addresses and machine paths in a text, each with its line number."""
    return [
        f"{number}: {word}"
        for number, line in enumerate(text.splitlines(), 1)
        for word in [*(address for address in REGISTRIES if address in line.lower()), *MACHINE_PATH.findall(line)]
    ]


def reasons_missing(text: str) -> list[str]:
    """Return the rules that ruff's configuration ignores without a comment on the same line that says why."""
    lint = tomllib.loads(text)["tool"]["ruff"]["lint"]
    ignored = [*lint["ignore"], *(code for codes in lint["per-file-ignores"].values() for code in codes)]
    given = re.findall(r'^\s*"([A-Z]+\d+)",\s*# \w.{9,}$', text, re.MULTILINE)
    missing = list(ignored)
    for code in given:
        if code in missing:
            missing.remove(code)
    return missing


def needs_of(text: str) -> set[str]:
    """Return what a module of tests asks `need_program`, by its first name, and `need_library` for."""
    return {
        str(call.args[0].value)
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in ("need_program", "need_library")
        and isinstance(call.args[0], ast.Constant)
    }


def test_no_tracked_text_names_a_registry_or_a_machine() -> None:
    """A clone works on any machine only if no file points at one."""
    faults = [f"{name}:{fault}" for name, text in tracked_texts() for fault in faults_of(text)]
    assert faults == []


@pytest.mark.parametrize("path", ["/" + "root/x", "see /" + "home/me/x", '"/' + 'work/main"'])
def test_a_machine_path_is_seen(path: str) -> None:
    """The search itself finds the paths that it is there to find."""
    assert faults_of(f"one\n{path}\n") != []


@pytest.mark.parametrize("text", ["https://example.com/home/x", "/api/v1/points", "a/tmp/b", "/var/lib/tocsin"])
def test_other_paths_are_left_alone(text: str) -> None:
    """Addresses and the paths of an installed system are no machine paths."""
    assert faults_of(text) == []


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_opens_with_one_sentence(module: Path) -> None:
    """A reader learns in one sentence what a module owns."""
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    assert docstring, "there is no docstring"
    assert docstring.endswith("."), "it does not end like a sentence"
    assert "\n" not in docstring, "it is longer than one line"
    assert not re.search(r"[a-z0-9)`][.!?] +[A-Z]", docstring), "it is more than one sentence"


def test_every_ignored_ruff_rule_has_its_reason() -> None:
    """A rule is switched off only with a word about why."""
    assert reasons_missing((ROOT / "pyproject.toml").read_text(encoding="utf-8")) == []


def test_a_rule_without_reason_is_seen() -> None:
    """The check itself notices a rule that has no comment."""
    text = '[tool.ruff.lint]\nignore = [\n  "D1",\n  "E5", # a reason of some length\n]\nper-file-ignores = {}\n'
    assert reasons_missing(text) == ["D1"]


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_both_readmes_name_every_verb(page: str) -> None:
    """Under "the command", at the beginning of a line or behind another one; and none that is not there."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"(?:^|· )tocsin ([a-z-]+)", text, re.MULTILINE)) == VERBS.keys()


def test_ci_installs_what_the_tests_need() -> None:
    """A test that needs a program or a library has its Debian package in the list of .ci/run."""
    needed = {need for module in (ROOT / "tests").rglob("*.py") for need in needs_of(module.read_text("utf-8"))}
    assert needed >= {"chromium", "mosquitto", "libatomic.so.1"}
    assert needed - DEBIAN.keys() == set(), "no Debian package is given in tests/support/need.py"
    listed = re.search(r"^needed=\((.*)\)$", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE)
    assert listed
    assert {DEBIAN[need] for need in needed} - set(listed[1].split()) == set()


def test_the_license_is_the_whole_apache_license() -> None:
    """The distribution says Apache-2.0, so the text of it is there in full."""
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "9. Accepting Warranty or Additional Liability" in text
    assert "END OF TERMS AND CONDITIONS" in text
