"""Texts of this machine that come with a sentence about them.

Rules
1. A man page: its line under NAME says what it is about; the rest is the text.
2. A function or class of Python's standard library: the first sentence of its docstring says what
   it does; the rest of the docstring and the code are the text. Only what is public and stands at
   the top of a module: no code is in two texts.
3. Of a family of pages (the first word of their names) only some are taken: gcloud has 16,000, all
   made by one program.
"""

import ast
import gzip
import os
import random
import re
import subprocess
import sysconfig
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks.held_out import Document, held_out

_Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_MANUAL: Final = Path("/usr/share/man")
_FAMILY: Final = 100
_SEED: Final = 7
_NAME: Final = re.compile(r"^NAME\n((?:[ \t]+\S.*\n|\n)+)", re.MULTILINE)
_DASH: Final = re.compile(r"\s(?:-|--|–|—|‐|−)\s")
#: Parts of the library that are no library.
_OTHERS: Final = {
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "site-packages",
    "turtledemo",
    "pydoc_data",
}
_PARAGRAPH: Final = re.compile(r"\n\s*\n")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z])|:\s*$")


def manual_pages(most: int) -> Iterator[Document]:
    """So many in English, in order of their paths, as man(1) shows them."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for path, page in threads.map(_shown, _paths(most)):
            found = _NAME.search(page)
            if found is None:
                continue
            before, *after = _DASH.split(" ".join(found[1].split()))
            sentence = after[0] if len(after) == 1 else ""
            text = page[: found.start()] + page[found.end() :]
            yield held_out("man pages", path.stem, text, sentence, before.replace(",", " ").split())


def docstrings() -> Iterator[Document]:
    """In order of their modules."""
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if _OTHERS & set(parts) or any(_is_private(part) for part in parts):
            continue
        code = path.read_text(encoding="utf-8", errors="replace")
        lines = code.split("\n")
        for node in ast.parse(code).body:
            if isinstance(node, _Definition) and not _is_private(node.name):
                text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                name = ".".join((*parts, node.name))
                names = (node.name, *parts)
                yield held_out("Python", f"{name}.py", text, _first_sentence(node), names)


def _is_private(name: str) -> bool:
    return name.startswith("_")


def _first_sentence(node: _Definition) -> str:
    paragraph = _PARAGRAPH.split(ast.get_docstring(node) or "", maxsplit=1)[0]
    return _SENTENCE_END.split(" ".join(paragraph.split()), maxsplit=1)[0]


def _paths(most: int) -> list[Path]:
    """Pages, without those that are another's, and not too many of a family."""
    families = defaultdict(list)
    for path in sorted(_MANUAL.glob("man[1-8]/*.gz")):
        if not path.is_symlink() and not gzip.decompress(path.read_bytes()).startswith(b".so "):
            families[re.split(r"[-_.:]", path.name, maxsplit=1)[0]].append(path)
    generator = random.Random(_SEED)
    taken = [generator.sample(paths, min(_FAMILY, len(paths))) for paths in families.values()]
    pages = [path for paths in taken for path in paths]
    return sorted(generator.sample(pages, min(most, len(pages))))


def _shown(path: Path) -> tuple[Path, str]:
    """The page without its first and last line, which only say its name."""
    command = ["man", "--no-hyphenation", "--no-justification", "-E", "UTF-8", "-l", str(path)]
    environment = {**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    return path, "\n".join(lines[1:-1]) + "\n"
