"""Modules of mmgen as files that stand alone, for machines that load a model without mmgen.

A file is made from the sources themselves: a class and all that it needs of mmgen's modules, each definition as it is
written there, in the order in which they need each other. What only an annotation names becomes `object`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill

import mmgen

_PACKAGE = "mmgen"
_FUTURE = "from __future__ import annotations"


def standalone(module: str, name: str, leave_out: Collection[str] = ()) -> str:
    """The source of a file with one definition of a module of mmgen and all that it needs of mmgen.

    Args:
        module: dotted name, such as `mmgen.models.fusion`.
        name: of the class or function.
        leave_out: its methods that the file does without.

    Raises:
        ValueError: the sources use what cannot be put into one file: a module of mmgen as a whole or under another
            name, an import of mmgen inside a function, two definitions of one name.
    """
    sources: dict[str, _Source] = {}
    root = _read(module, sources)
    if leave_out:
        _cut_methods(root, name, leave_out)
    kept = _reachable(root, name, sources)
    names = {kept_name for found in kept.values() for kept_name in found}
    if len(names) < sum(map(len, kept.values())):
        twice = next(n for n in sorted(names) if sum(n in found for found in kept.values()) > 1)
        raise ValueError(f"two modules that {module} needs define {twice}")
    imports, bodies = set(), []
    for source in _in_order(root, sources):
        for definition in sorted((source.definitions[n] for n in kept.get(source.name, ())), key=lambda d: d.start):
            text, needed = _without_unknown_annotations(definition, source, names)
            imports |= {source.outside[n] for n in (needed | definition.uses()) & source.outside.keys()}
            bodies.append(text)
    files = ", ".join(s.name.replace(".", "/") + ".py" for s in _in_order(root, sources) if kept.get(s.name))
    head = (
        f'"""{ast.get_docstring(root.tree) or name}\n\n'
        + fill(f"Written by mmgen {mmgen.__version__} out of {files}, to be loaded where mmgen is not installed.", 100)
        + '\n"""'
    )
    text = "\n\n".join([head, _FUTURE, *_import_blocks(imports), _joined(bodies)]) + "\n"
    _check(text, module)
    return text


@dataclass
class _Definition:
    """Lines `start` to `end` of a module, without `cut` ones, that define a name; all count from 1."""

    node: ast.stmt
    start: int
    end: int
    cut: set[int] = field(default_factory=set)
    nodes: list[ast.AST] = field(default_factory=list)

    def uses(self) -> set[str]:
        """Names that are looked up when it runs."""
        return {n.id for top in self.nodes for n in _walk(top, annotations=False) if isinstance(n, ast.Name)}


@dataclass
class _Source:
    """A module: its definitions, what it imports from mmgen (name -> module) and from elsewhere (name -> import)."""

    name: str
    lines: list[str]
    tree: ast.Module
    definitions: dict[str, _Definition] = field(default_factory=dict)
    own: dict[str, str] = field(default_factory=dict)
    outside: dict[str, tuple[str, str]] = field(default_factory=dict)


def _read(module: str, sources: dict[str, _Source]) -> _Source:
    if module in sources:
        return sources[module]
    spec = find_spec(module)
    text = Path(spec.origin).read_text(encoding="utf-8")
    source = sources[module] = _Source(module, text.splitlines(), ast.parse(text))
    last: _Definition | None = None
    for node in source.tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            _note_imports(node, source)
            continue
        if isinstance(node, ast.Expr):  # A text under a constant describes it.
            if last is not None and isinstance(last.node, (ast.Assign, ast.AnnAssign)):
                last.end = node.end_lineno
            continue
        names = _defined(node)
        start = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        while start > 1 and source.lines[start - 2].startswith("#"):
            start -= 1
        last = _Definition(node, start, node.end_lineno, nodes=[node])
        source.definitions |= dict.fromkeys(names, last)
    return source


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [n.id for target in targets if target is not None for n in ast.walk(target) if isinstance(n, ast.Name)]


def _note_imports(node: ast.Import | ast.ImportFrom, source: _Source) -> None:
    for alias in node.names:
        bound = alias.asname or alias.name
        if isinstance(node, ast.Import):
            source.outside[bound.split(".")[0]] = ("", f"{alias.name} as {bound}" if alias.asname else alias.name)
        elif node.module.split(".")[0] != _PACKAGE:
            source.outside[bound] = (node.module, f"{alias.name} as {bound}" if alias.asname else alias.name)
        else:
            if alias.asname:
                raise ValueError(f"{source.name} imports {alias.name} of mmgen under another name")
            source.own[bound] = node.module


def _cut_methods(source: _Source, name: str, methods: Collection[str]) -> None:
    definition = source.definitions[name]
    body = definition.node.body
    for method in methods:
        node = next(n for n in body if getattr(n, "name", None) == method)
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        definition.cut |= set(range(first - 1, node.end_lineno + 1))  # with the empty line above
    definition.nodes = [
        *definition.node.bases,
        *definition.node.keywords,
        *definition.node.decorator_list,
        *(n for n in body if getattr(n, "name", None) not in methods),
    ]


def _reachable(root: _Source, name: str, sources: dict[str, _Source]) -> dict[str, set[str]]:
    """Module -> names of its definitions that are needed, by their first name where one line defines several."""
    kept: dict[str, set[str]] = {}
    todo = [(root, name)]
    while todo:
        source, wanted = todo.pop()
        if wanted not in source.definitions:
            raise ValueError(f"{source.name} defines no {wanted}; a module of mmgen cannot be taken as a whole")
        definition = source.definitions[wanted]
        wanted = next(n for n, d in source.definitions.items() if d is definition)
        if wanted in kept.setdefault(source.name, set()):
            continue
        kept[source.name].add(wanted)
        for used in definition.uses():
            if used in source.definitions:
                todo.append((source, used))
            elif used in source.own:
                todo.append((_read(source.own[used], sources), used))
    return kept


def _in_order(root: _Source, sources: dict[str, _Source]) -> list[_Source]:
    """Every module after those that it imports."""
    order: list[_Source] = []

    def visit(source: _Source, above: tuple[str, ...]) -> None:
        for module in dict.fromkeys(source.own.values()):
            if module in sources and module not in above:
                visit(sources[module], (*above, module))
        if source not in order:
            order.append(source)

    visit(root, (root.name,))
    return order


def _walk(node: ast.AST, annotations: bool) -> Iterator[ast.AST]:
    """A node and all below it, with or without annotations."""
    yield node
    for name, value in ast.iter_fields(node):
        if not annotations and name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child, annotations)


def _without_unknown_annotations(
    definition: _Definition, source: _Source, known: Collection[str]
) -> tuple[str, set[str]]:
    """The text of a definition, and the names in its annotations; those that name what is not there are replaced."""
    needed: set[str] = set()
    lines = {n: source.lines[n - 1].encode() for n in range(definition.start, definition.end + 1)}
    spots = [
        annotation
        for top in definition.nodes
        for node in _walk(top, annotations=True)
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if annotation is not None
    ]
    for spot in sorted(spots, key=lambda s: (s.lineno, s.col_offset), reverse=True):
        names = {n.id for n in ast.walk(spot) if isinstance(n, ast.Name)}
        if any((n in source.own or n in source.definitions) and n not in known for n in names):
            tail = lines[spot.end_lineno][spot.end_col_offset :]
            lines[spot.lineno] = lines[spot.lineno][: spot.col_offset] + b"object" + tail
            for gone in range(spot.lineno + 1, spot.end_lineno + 1):
                del lines[gone]
        else:
            needed |= names
    return "\n".join(lines[n].decode() for n in sorted(lines) if n not in definition.cut), needed


def _import_blocks(imports: set[tuple[str, str]]) -> list[str]:
    """Imports (module or "", what) as lines: the standard library's, then the others'."""
    blocks: dict[bool, list[str]] = {True: [], False: []}
    for what in sorted(what for module, what in imports if not module):
        blocks[what.split(".")[0].split()[0] in sys.stdlib_module_names].append(f"import {what}")
    for module in sorted({module for module, _ in imports if module}, key=str.lower):
        names = ", ".join(sorted(what for other, what in imports if other == module))
        blocks[module.split(".")[0] in sys.stdlib_module_names].append(f"from {module} import {names}")
    return ["\n".join(lines) for lines in blocks.values() if lines]


def _joined(bodies: list[str]) -> str:
    """Definitions with two empty lines around classes and functions."""
    blocks = [bool(re.match(r"(#.*\n)*(class |def |@)", body)) for body in bodies]
    text = ""
    for index, body in enumerate(bodies):
        text += ("\n" if blocks[index] or blocks[index - 1] else "") + body + "\n\n"
    return text.rstrip("\n")


def _check(text: str, module: str) -> None:
    for node in ast.walk(ast.parse(text)):
        named = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            named = ["." if node.level else node.module]
        if any(name.split(".")[0] in (_PACKAGE, "") for name in named):
            raise ValueError(f"what {module} needs imports mmgen inside a function")
