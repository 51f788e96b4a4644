"""Layers whose weights are handed to a function, past the layer itself.

The fused kernels of Mamba and its hybrids take the weight of a linear layer as an argument. A layer on tiles in its
place would never be called: its products would be digital, and nothing would say so. transformers has no flag for it,
so that the code of the class that holds such a layer is read.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from types import FunctionType

from torch import nn

_HARMLESS = {"isinstance", "getattr", "hasattr"}
_NOT_COMPUTING = {"__init__", "_init_weights"}


@cache
def handed_on(kind: type) -> frozenset[str]:
    """Attributes of a class of modules whose `weight` its methods hand to a function or multiply themselves.

    A part of a weight does not count, nor its type or shape.
    """
    names = set[str]()
    for function in _methods(kind):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        except (OSError, TypeError, SyntaxError):  # No source, or a piece of a line.
            continue
        names.update(name for node in ast.walk(tree) for name in _operands(node))
    return frozenset(names)


def _methods(kind: type[nn.Module]) -> Iterator[FunctionType]:
    for base in kind.__mro__[: kind.__mro__.index(nn.Module)]:
        for name in vars(base).keys() - _NOT_COMPUTING:
            value = vars(base)[name]
            function = inspect.unwrap(value) if callable(value) else value
            # Parsing is slow, and few methods name a weight.
            if isinstance(function, FunctionType) and "weight" in function.__code__.co_names:
                yield function


def _operands(node: ast.AST) -> Iterator[str]:
    """Names of the attributes of `self` whose weights this call or product takes as they are."""
    values: list[ast.expr] = []
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") not in _HARMLESS:
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        values = [node.left, node.right]
    for value in values:
        if isinstance(value, ast.Attribute) and value.attr == "weight" and isinstance(value.value, ast.Attribute):
            owner = value.value.value
            if isinstance(owner, ast.Name) and owner.id == "self":
                yield value.value.attr
