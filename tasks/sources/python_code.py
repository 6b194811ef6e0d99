"""Cut Python files into English (docstrings) and code (what is left), without running or importing them."""

from __future__ import annotations

import ast
import re
import warnings

_HOLDERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_BLANK = re.compile(r"\n(?:[ \t]*\n){3,}")


def separate(source: str) -> tuple[str, str] | None:
    """(docstrings joined by blank lines, source without them), or ``None`` where the file does not parse.

    A body that was only a docstring keeps ``...`` in its place, so that what remains still parses.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old test data are not ours to report
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    docstrings: list[tuple[int, str]] = []
    lines = source.encode().split(b"\n")  # column offsets of `ast` count UTF-8 bytes
    spans: list[tuple[int, int, int, int, bytes]] = []
    for node in ast.walk(tree):
        if not isinstance(node, _HOLDERS) or not node.body:
            continue
        first = node.body[0]
        if not (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)):
            continue
        text = first.value.value
        if not isinstance(text, str):
            continue
        docstrings.append((first.lineno, dedent(text)))
        alone = len(node.body) == 1 and not isinstance(node, ast.Module)
        end_line, end_column = first.end_lineno or first.lineno, first.end_col_offset or 0
        spans.append((first.lineno, first.col_offset, end_line, end_column, b"..." if alone else b""))
    for start, column, end, end_column, filler in sorted(spans, reverse=True):
        kept = lines[start - 1][:column] + filler + lines[end - 1][end_column:].lstrip(b"; \t")
        lines[start - 1 : end] = [kept] if kept.strip() else []
    prose = "\n\n".join(text for _, text in sorted(docstrings) if text)
    code = _BLANK.sub("\n\n\n", b"\n".join(lines).decode()).strip()
    return prose, code


def dedent(text: str) -> str:
    """A docstring without its indentation.

    Written out here because the standard library's versions changed between Python releases, and the corpus must not.
    """
    lines = text.expandtabs(8).split("\n")
    margins = [len(line) - len(line.lstrip(" ")) for line in lines[1:] if line.strip()]
    margin = min(margins, default=0)
    return "\n".join([lines[0].strip(), *(line[margin:].rstrip() for line in lines[1:])]).strip()
