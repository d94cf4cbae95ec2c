"""What the site has beside docs/: the documents of the root, the files that are linked to, and the reference.

mkdocs calls the functions (`hooks` in mkdocs.yml). Links are written for a reader of the repository; here
they are turned to where the site has things.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
# The documents of the root, as pages.
PAGES = ("README.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "CHANGELOG.md")
MODULES = ("pyloop", "pyloop.sync", "pyloop.fs")

_LINK = re.compile(r"\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, the reference, and each file that a page links to."""
    from mkdocs.structure.files import File

    linked = set[str]()
    for name in (*PAGES, *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))):
        # What else is in docs/, the site has.
        linked |= {path for path in _linked_from(name) if not _is_page(path) and not path.startswith("docs/")}
    for name in PAGES:
        files.append(File.generated(config, name.lower(), content=(ROOT / name).read_text()))
    for path in sorted(linked):
        if (ROOT / path).is_file():
            files.append(File.generated(config, f"source/{path}.txt", abs_src_path=str(ROOT / path)))
    files.append(File.generated(config, "reference.md", content=reference()))
    return files


def on_page_markdown(markdown: str, page: Page, **_more: Any) -> str:
    """Turn the links of one page."""
    name = page.file.src_uri
    known = {page.lower(): page for page in PAGES}
    return turned(markdown, known.get(name, f"docs/{name}"), name)


def turned(markdown: str, source: str, target: str) -> str:
    """The text of `source`, a file of the repository, whose links lead from the page `target`."""

    def turn(found: re.Match[str]) -> str:
        if "://" in found["target"]:
            return found[0]
        path = _resolved(source, found["target"])
        if (ROOT / path).is_dir():
            path = f"{path}/Cargo.toml"
        if path.startswith("docs/"):
            there = path.removeprefix("docs/")
        else:
            there = path.lower() if path in PAGES else f"source/{path}.txt"
        away = os.path.relpath(there, PurePosixPath(target).parent)
        return f"]({away}{found['anchor'] or ''})"

    # What is in a block of code is no link.
    parts, last = list[str](), 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(turn, markdown[last : fence.start()]), fence[0]]
        last = fence.end()
    return "".join([*parts, _LINK.sub(turn, markdown[last:])])


def _resolved(source: str, target: str) -> str:
    return os.path.normpath(PurePosixPath(source).parent / target)


def _is_page(path: str) -> bool:
    return path in PAGES or (path.startswith("docs/") and path.endswith(".md"))


def _linked_from(name: str) -> Iterator[str]:
    for found in _LINK.finditer(_FENCE.sub("", (ROOT / name).read_text())):
        if "://" not in found["target"]:
            path = _resolved(name, found["target"])
            yield f"{path}/Cargo.toml" if (ROOT / path).is_dir() else path


# ---- the reference ---------------------------------------------------------------------------------------


def reference() -> str:
    """Each public name with its signature and its docstring, as `help` shows them."""
    parts = ["# Reference", "What `help()` says of each public name. The stubs (`*.pyi`) have the types."]
    for name in MODULES:
        module = importlib.import_module(name)
        parts += [f"## `{name}`", inspect.getdoc(module) or ""]
        for public in module.__all__:
            parts += _entry(module, public)
    return "\n\n".join(parts) + "\n"


def _entry(module: ModuleType, name: str) -> Iterator[str]:
    thing = getattr(module, name)
    yield f"### `{module.__name__}.{name}`"
    if not (inspect.isclass(thing) or inspect.isroutine(thing)):
        yield f"```python\n{name} = {thing!r}\n```"
        return
    yield f"```python\n{name}{signature(thing)}\n```"
    yield inspect.getdoc(thing) or ""
    if inspect.isclass(thing):
        for member, value in vars(thing).items():
            said = inspect.getdoc(value)
            if not member.startswith("_") and said and said != inspect.getdoc(type(value)):
                mark = "()" if callable(value) else ""
                yield f"- `{member}{mark}`: " + " ".join(said.split())


def signature(thing: Any) -> str:
    """Its parameters and their types; nothing for what does not say them, or is not made by a call."""
    if inspect.isclass(thing) and (
        issubclass(thing, Enum) or (thing.__init__ is object.__init__ and not thing.__text_signature__)
    ):
        return ""
    try:
        said = str(inspect.signature(thing))
    except (ValueError, TypeError):
        return thing.__text_signature__ or ""
    if inspect.isclass(thing):
        said = said.partition(" ->")[0]
    # Annotations are kept as text, which is shown in quotes.
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", said)
