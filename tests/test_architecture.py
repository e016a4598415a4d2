"""The design's floors and style rules, held by the source itself (design §3 and §10).

Rules
1. Every check collects all that offends, as ``module:line what``, and asserts that it is nothing.
2. An exception to a rule is an entry in a table here, never a comment in the source.
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

ROOT: Final = Path(__file__).parents[1]
SRC: Final = ROOT / "src"
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Import: TypeAlias = ast.Import | ast.ImportFrom

_PORTS: Final = (
    *("antiphon.backends.base", "antiphon.tools.base", "antiphon.store.base"),
    *("antiphon.blobs.base", "antiphon.documents.base", "antiphon.retrieval.base"),
    "antiphon.sandbox.base",
    *("antiphon.retrieval.words", "antiphon.images.base"),  # pure
)
_GROUND: Final = ("antiphon.protocol", "antiphon.errors", "antiphon.__init__")
#: Part of the package → what it may import besides itself. Everybody may import `errors`.
FLOORS: Final[Mapping[str, tuple[str, ...]]] = {
    "antiphon.__init__": (),
    "antiphon.errors": (),
    "antiphon.settings": (),
    "antiphon.config": (),
    "antiphon.protocol": _GROUND,
    "antiphon.egress": (*_GROUND, "antiphon.egress_names"),
    "antiphon.egress_names": (),
    "antiphon.backends": (*_GROUND, "antiphon.workers_side"),
    "antiphon.egress_pages": (*_GROUND, "antiphon.egress"),
    "antiphon.turns": (),
    "antiphon.workers": ("antiphon.turns", "antiphon.workers_side"),
    "antiphon.workers_side": (),
    "antiphon.tools": (
        *_GROUND,
        *("antiphon.egress", "antiphon.egress_names", "antiphon.egress_pages", "antiphon.turns"),
        *("antiphon.workers", "antiphon.workers_side", "antiphon.images.base"),
    ),
    "antiphon.images": (
        *_GROUND,
        *("antiphon.egress", "antiphon.egress_pages", "antiphon.turns"),
        *("antiphon.backends.resilience", "antiphon.backends.sse"),  # pure
    ),
    "antiphon.blobs": _GROUND,
    "antiphon.documents": (
        *_GROUND,
        *("antiphon.egress", "antiphon.egress_pages", "antiphon.workers", "antiphon.workers_side"),
    ),
    "antiphon.retrieval": (*_GROUND, "antiphon.turns"),
    "antiphon.sandbox": (),
    "antiphon.store": _GROUND,
    "antiphon.engine": (*_GROUND, *_PORTS),
    "antiphon.api": (*_GROUND, *_PORTS, "antiphon.engine"),
    "antiphon.testing": (*_GROUND, *_PORTS, "antiphon.store.memory", "antiphon.engine"),
    "antiphon.app": ("antiphon",),
    "antiphon.cli": ("antiphon",),
    "antiphon.__main__": ("antiphon.cli",),
}
#: Who may import what only the composition root should know.
ROOT_ONLY: Final[Mapping[str, frozenset[str]]] = {
    "antiphon.app": frozenset({"antiphon.cli"}),
    "antiphon.cli": frozenset({"antiphon.cli", "antiphon.__main__"}),
    "antiphon.settings": frozenset({"antiphon.app", "antiphon.cli"}),
    "antiphon.config": frozenset({"antiphon.app", "antiphon.cli"}),
    "antiphon.testing": frozenset(),
}
#: Module → what is heavy and often not needed, which it may import inside a function (design §3).
LAZY: Final[Mapping[str, frozenset[str]]] = {
    "antiphon.egress": frozenset({"aiohttp", "antiphon.egress_names.Resolver"}),
    "antiphon.app.backends": frozenset(
        {
            "antiphon.app.any_llm.any_llm_of",
            "antiphon.backends.anthropic.backend.Anthropic",
            "antiphon.backends.gemini.backend.Gemini",
        }
    ),
    "antiphon.app.images": frozenset(
        {f"antiphon.images.openai.{name}" for name in ("ImageServer", "OpenAIImages")}
    ),
    "antiphon.app.library": frozenset(
        {
            f"antiphon.retrieval.embeddings.{name}"
            for name in ("EmbeddingsServer", "OpenAIEmbeddings")
        }
    ),
    "antiphon.cli.serve": frozenset({"antiphon.api.wire_socket.guarded_socket"}),
    "antiphon.cli.prompt_files": frozenset(
        {f"antiphon.cli.plain_yaml.{name}" for name in ("dump", "load")}
    ),
    "antiphon.cli.models": frozenset(
        {f"antiphon.cli.pulling.{name}" for name in ("CannotPull", "Puller")}
    ),
    "antiphon.engine.counting": frozenset({"bpe_openai"}),
    "antiphon.engine.sealing": frozenset(
        {
            "cryptography.exceptions.InvalidTag",
            "cryptography.hazmat.primitives.ciphers.aead.AESGCM",
        }
    ),
    "antiphon.protocol.grammars": frozenset({"llguidance"}),
    "antiphon.protocol.schemas": frozenset({"antiphon.protocol.schemas_validator.complaint"}),
    "antiphon.protocol.schemas_answer": frozenset(
        {"antiphon.protocol.schemas_validator.Validator"}
    ),
    "antiphon.backends.any_llm.library": frozenset(
        {
            *("any_llm.AnyLLM", "any_llm.AnyLLMError", "botocore.config.Config"),
            "any_llm.providers.openai.base.BaseOpenAIProvider",
        }
    ),
    "antiphon.backends.local.child": frozenset({"xllamacpp"}),
    "antiphon.blobs.s3": frozenset({"obstore", "obstore.exceptions", "obstore.store"}),
    "antiphon.documents.worker": frozenset(
        {"antiphon.documents.reading.answer", "antiphon.documents.reading.warm_up"}
    ),
    "antiphon.images.pillow": frozenset({"PIL.Image", "PIL.ImageDraw", "PIL.ImageFont"}),
    "antiphon.retrieval.vectors": frozenset({"numpy"}),
    "antiphon.sandbox.inside": frozenset({"jupyter_client.blocking.BlockingKernelClient", "zmq"}),
    "antiphon.store.migrate": frozenset({"antiphon.store.scripts"}),
    "antiphon.tools.web.text": frozenset({"trafilatura"}),
    "antiphon.tools.web.duckduckgo": frozenset({"ddgs", "ddgs.exceptions"}),
    "antiphon.tools.mcp.tool": frozenset(
        {"antiphon.egress_names.Resolver", "antiphon.tools.mcp.connection.Connection"}
    ),
}
#: The borders of design §10 rule 7: run, call of a tool (decision 0007), worker (of jobs, of
#: webhooks, any loop), HTTP 500.
BROAD_EXCEPT: Final = frozenset(
    {
        "antiphon.engine.run",
        "antiphon.engine.calls",
        "antiphon.engine.ingestion",
        "antiphon.engine.jobs",
        "antiphon.engine.loops",
        "antiphon.engine.webhooks",
        "antiphon.api.headers",
    }
)
#: Commands with more than six parameters: they are options, by name, and click alone passes them.
OPTIONS: Final = frozenset({"antiphon.cli.files add_files"})
BANNED_WORD: Final = re.compile("(?i)(manager|handler|helper|util)s?|process|data")
#: Names that asyncio's protocols prescribe.
PRESCRIBED: Final = frozenset({"data_received"})
#: Design §10 rule 6: `protocol/` is a function of what it is given.
IMPURE: Final = re.compile(
    "asyncio|datetime|logging|os|pathlib|random|secrets|socket|sqlite3|subprocess|tempfile|"
    "threading|time|urllib|uuid|aiohttp|sqlalchemy|starlette|structlog"
)
#: Reliability R-136.
DANGEROUS: Final = re.compile(
    r"\b(pickle|marshal|shelve|trust_remote_code)\b|\byaml\.load\b|(?<![\w.])(eval|exec)\("
)
_BLOCKS: Final = (
    *(ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar),
    ast.Match,
)


@dataclass(frozen=True)
class Module:
    """A parsed source file."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    def functions(self) -> Iterator[Function]:
        """All functions and methods, nested ones too."""
        for node in ast.walk(self.tree):
            if isinstance(node, Function):
                yield node

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and module of every import of our own package."""
        for node in ast.walk(self.tree):
            if isinstance(node, Import):
                for name in _imported(node):
                    if name.split(".")[0] in ("antiphon", "relative"):
                        yield node.lineno, name if name in NAMES else name.rpartition(".")[0]


def _module(path: Path, base: Path) -> Module:
    name = ".".join(path.relative_to(base).with_suffix("").parts)
    text = path.read_text(encoding="utf-8")
    name = name if name == "antiphon.__init__" else name.removesuffix(".__init__")
    return Module(name, path, text, ast.parse(text))


def _imported(node: Import) -> list[str]:
    """``from a import b`` may mean the module ``a.b``: `imports` decides."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    source = "relative" if node.level else node.module
    return [f"{source}.{alias.name}" for alias in node.names]


SOURCES: Final = [_module(path, SRC) for path in sorted(SRC.rglob("*.py"))]
EVERYTHING: Final = SOURCES + [
    _module(path, ROOT) for top in ("tests", "benchmarks") for path in (ROOT / top).rglob("*.py")
]
NAMES: Final = frozenset(module.name for module in SOURCES)


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def _depth(node: ast.AST, level: int = 0) -> int:
    """How deep blocks are nested below `node`; ``elif`` is no deeper than its ``if``."""
    deepest = level
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, Function | ast.ClassDef):
                continue
            is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and field == "orelse"
            deeper = isinstance(child, _BLOCKS) and not is_elif
            deepest = max(deepest, _depth(child, level + deeper))
    return deepest


def _is_broad(node: ast.expr | None) -> bool:
    match node:
        case None | ast.Name(id="Exception" | "BaseException"):
            return True
        case ast.Tuple(elts=elements):
            return any(_is_broad(element) for element in elements)
    return False


def test_there_is_source_to_check() -> None:
    assert {part for part in FLOORS if any(_within(name, part) for name in NAMES)} >= {
        "antiphon.api",
        "antiphon.engine",
        "antiphon.protocol",
    }


def test_every_module_stands_on_a_floor_and_imports_downwards_only() -> None:
    problems = []
    for module in SOURCES:
        parts = [part for part in FLOORS if _within(module.name, part)]
        if len(parts) != 1:
            problems.append(f"{module.name} stands on no floor")
            continue
        allowed = (parts[0], *FLOORS[parts[0]])
        for line, name in module.imports():
            if name != "antiphon" and not any(_within(name, part) for part in allowed):
                problems.append(f"{module.name}:{line} imports {name}")
            if not any(_within(module.name, part) for part in ROOT_ONLY.get(name, {module.name})):
                problems.append(f"{module.name}:{line} imports {name}")
    assert problems == []


def test_imports_have_no_cycles() -> None:
    edges = {module.name: {name for _, name in module.imports()} for module in SOURCES}
    while edges:
        leaves = [name for name, below in edges.items() if not below & edges.keys() - {name}]
        assert leaves, f"import cycle among {sorted(edges)}"
        for name in leaves:
            del edges[name]


def test_imports_stand_at_the_top() -> None:
    problems = [
        f"{module.name}:{node.lineno} {ast.unparse(node)}"
        for module in SOURCES
        for function in module.functions()
        for node in ast.walk(function)
        if isinstance(node, Import)
        if not set(_imported(node)) <= LAZY.get(module.name, frozenset())
    ]
    problems += [m.name for m in SOURCES if re.search(r"\b(import_module|__import__)\b", m.text)]
    assert problems == []


def test_bodies_that_are_built_late_are_built_in_a_thread() -> None:
    """R-118: pydantic's lock is held meanwhile; `read_form` does it."""
    late = {
        form.name
        for module in SOURCES
        if _within(module.name, "antiphon.protocol")
        for form in ast.walk(module.tree)
        if isinstance(form, ast.ClassDef)
        and any("WITH_ITEMS" in ast.unparse(node) for node in form.body)
    }
    read = [re.findall(r"read_form\(request, (\w+)", module.text) for module in SOURCES]
    assert len(late) == 5
    assert late <= {name for names in read for name in names}


def test_protocol_is_pure() -> None:
    problems = [
        f"{module.name}:{node.lineno} {ast.unparse(node)}"
        for module in SOURCES
        if _within(module.name, "antiphon.protocol")
        for node in ast.walk(module.tree)
        if isinstance(node, Import)
        for name in _imported(node)
        if IMPURE.fullmatch(name.split(".")[0])
    ]
    assert problems == []


def test_files_and_functions_are_small() -> None:
    problems = []
    for module in EVERYTHING:
        if (lines := module.text.count("\n")) > 500:
            problems.append(f"{module.name} has {lines} lines")
        for function in module.functions():
            where = f"{module.name}:{function.lineno} {function.name}"
            if (length := (function.end_lineno or 0) - function.lineno + 1) > 60:
                problems.append(f"{where} has {length} lines")
            if (depth := _depth(function)) > 4:
                problems.append(f"{where} nests {depth} deep")
            names = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
            count = sum(name.arg not in ("self", "cls") for name in names)
            if count > 6 and f"{module.name} {function.name}" not in OPTIONS:
                problems.append(f"{where} has {count} parameters")
            if function.args.kwarg is not None and function.args.kwarg.arg == "kwargs":
                problems.append(f"{where} passes **kwargs through")
    assert problems == []


def test_nine_in_ten_files_and_functions_are_much_smaller() -> None:
    lengths = sorted(
        (function.end_lineno or 0) - function.lineno + 1
        for module in SOURCES
        for function in module.functions()
    )
    assert lengths[len(lengths) * 9 // 10] <= 30
    files = sorted(module.text.count("\n") for module in SOURCES)
    assert files[len(files) * 9 // 10] <= 300


def test_broad_except_stands_at_the_borders_only() -> None:
    problems = []
    for module in SOURCES:
        for node in ast.walk(module.tree):
            match node:
                case ast.ExceptHandler(type=caught, lineno=line) if _is_broad(caught):
                    if module.name not in BROAD_EXCEPT:
                        problems.append(f"{module.name}:{line} catches everything")
                case ast.Call(func=ast.Attribute(attr="suppress"), args=args, lineno=line):
                    if any(_is_broad(argument) for argument in args):
                        problems.append(f"{module.name}:{line} suppresses everything")
    assert problems == []


def test_names_say_what_things_are() -> None:
    problems = []
    for module in EVERYTHING:
        named = [(1, module.name.rpartition(".")[2])]
        named += [
            (node.lineno, node.name)
            for node in ast.walk(module.tree)
            if isinstance(node, Function | ast.ClassDef)
            if node.name not in PRESCRIBED and not node.name.startswith("test_")
        ]
        for line, name in named:
            if any(map(BANNED_WORD.fullmatch, re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", name))):
                problems.append(f"{module.name}:{line} is called {name}")
    assert problems == []


def test_every_module_says_what_it_is_for() -> None:
    assert [m.name for m in EVERYTHING if m.text.strip() and not ast.get_docstring(m.tree)] == []


def test_attributes_are_not_probed() -> None:
    problems = [
        f"{module.name}:{node.lineno} {ast.unparse(node)}"
        for module in SOURCES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("getattr", "hasattr")
    ]
    assert problems == []


def test_nothing_runs_text_as_code() -> None:
    """R-136."""
    assert [module.name for module in SOURCES if DANGEROUS.search(module.text)] == []


def test_the_oldest_python_is_the_one_that_types_are_checked_for() -> None:
    assert sys.version_info >= (3, 11)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">=3.11"' in text
    assert 'python_version = "3.11"' in text
