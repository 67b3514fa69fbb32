"""Checks what no other tool here checks; `make check` runs it.

Links between documents lead somewhere, the README's `make` commands exist, the list of decisions has them all, no file names a place that
exists on one machine only, and every test says in its docstring what it shows. It does not judge the text, and follows no link that leaves
the repository.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent

_LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s*<?([^\s>]+)", re.MULTILINE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_CODE_SPAN = re.compile(r"`[^`\n]*`")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_MAKE_COMMAND = re.compile(r"(?:^[ \t]*(?:\$ )?|`|&& |; )make ([a-z][a-z-]*)", re.MULTILINE)
_MAKE_TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
# Written so that they do not match themselves.
_ONE_MACHINE_ONLY = re.compile(
    r"(?<![\w.:~/-])/(?:work|root|farm)/|/tmp/[x]/|(?:pypi|pythonhosted|npmjs)\.(?:org|com)\b|\b(?:deb|security)\.debian\.org\b"
)


def headings(text: str) -> set[str]:
    """The fragments that a Markdown text's headings can be linked by: lower case, no punctuation, hyphens for spaces."""
    found = _HEADING.findall(_FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def dead_links(file: Path, text: str) -> Iterator[str]:
    """The relative links of a Markdown file that lead to no file, or to no heading of one."""
    prose = _CODE_SPAN.sub("", _FENCE.sub("", text))
    for match in _LINK.finditer(prose):
        link = match[1] or match[2]
        if _SCHEME.match(link):
            continue
        name, _, fragment = link.partition("#")
        target = file.parent / unquote(name) if name else file
        if not target.exists():
            yield f"link to {link}: there is no {name}"
        elif fragment and target.suffix == ".md" and unquote(fragment) not in headings(target.read_text()):
            yield f"link to {link}: {target.name} has no such heading"


def unknown_targets(readme: str, makefile: str) -> Iterator[str]:
    """The `make` commands of a text that the Makefile does not have."""
    known = set(_MAKE_TARGET.findall(makefile))
    yield from (f"make {target}: the Makefile has no such target" for target in _MAKE_COMMAND.findall(readme) if target not in known)


def one_machine_only(text: str) -> Iterator[str]:
    """What a text names that exists on one machine only: its paths, the hosts that its packages come from."""
    for number, line in enumerate(text.splitlines(), 1):
        yield from (f"line {number}: {match[0]} is not to be named here" for match in _ONE_MACHINE_ONLY.finditer(line))


def unlisted(index: str, names: Iterable[str]) -> Iterator[str]:
    """The files beside an index that it has no link to."""
    yield from (f"{name} is not in the list" for name in sorted(names) if f"({name})" not in index)


def undocumented_tests(source: str) -> Iterator[str]:
    """The tests of a Python module that have no docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test") and not ast.get_docstring(node):
            yield f"line {node.lineno}: {node.name} does not say what it shows"


def _text(file: Path) -> str | None:
    try:
        return file.read_text()
    except UnicodeDecodeError:
        return None


def _faults_of(file: Path) -> Iterable[str]:
    text = _text(file)
    if text is None:
        return
    yield from one_machine_only(text)
    if file.suffix == ".md":
        yield from dead_links(file, text)
    if file.name == "README.md" and file.parent == ROOT:
        yield from unknown_targets(text, (ROOT / "Makefile").read_text())
    if file == ROOT / "docs" / "decisions" / "README.md":
        yield from unlisted(text, (each.name for each in file.parent.glob("2*.md")))
    if file.name.startswith("test_") and file.suffix == ".py":
        yield from undocumented_tests(text)


def repository_files() -> list[Path]:
    """The files that git keeps or would keep: tracked, or new and not ignored. Raises `CalledProcessError` outside a repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout.decode()
    return [ROOT / name for name in sorted(set(filter(None, listed.split("\0")))) if (ROOT / name).is_file()]


def main(tell: Callable[[str], object] = print) -> int:
    """Check the repository; tell each fault as `file: fault`. 0 when there is none, else 1."""
    files = repository_files()
    faults = [f"{file.relative_to(ROOT)}: {fault}" for file in files for fault in _faults_of(file)]
    if ROOT / "README.md" not in files:
        faults.append("README.md: there is none")
    for fault in faults:
        tell(fault)
    tell(f"{len(files)} files checked, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
