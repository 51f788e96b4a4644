"""Requests of one question as a tree of tokens: what several of them begin with is there once.

N tokens of a tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Pair = tuple[Sequence[int], Sequence[int]]
"""The tokens of a context, and those of its continuation."""


@dataclass(frozen=True)
class Path:
    """One request in a tree."""

    nodes: list[int]
    """Its tokens, all but the last, by their numbers in the tree."""
    counted: tuple[int, ...]
    """The tokens of its continuation; each follows one of the last nodes."""

    @property
    def scored(self) -> list[int]:
        """The nodes that the tokens of the continuation follow."""
        return self.nodes[len(self.nodes) - len(self.counted) :]


@dataclass(frozen=True)
class TokenTree:
    """Tokens that each see those before them on the way from the root, and no others."""

    tokens: list[int]
    """(N,): a token stands after the one that it follows."""
    parents: list[int]
    """(N,): number of the token that each one follows; -1 for the first of a request."""
    paths: list[Path]
    """The requests, in their order."""

    @classmethod
    def of(cls, requests: Iterable[Pair]) -> TokenTree:
        """The tree of some requests, of at least one token each beside the last."""
        tree = cls([], [], [])
        children: dict[tuple[int, int], int] = {}
        for known, counted in requests:
            nodes = []
            node = -1
            for token in [*known, *counted][:-1]:
                parent, node = node, children.setdefault((node, token), len(tree.tokens))
                if node == len(tree.tokens):
                    tree.tokens.append(token)
                    tree.parents.append(parent)
                nodes.append(node)
            tree.paths.append(Path(nodes, tuple(counted)))
        return tree

    @property
    def depth(self) -> int:
        """Tokens of the longest request, without its last."""
        return max(len(path.nodes) for path in self.paths)

    @property
    def branches(self) -> bool:
        """Whether it is more than one sequence."""
        return len(self.tokens) > self.depth

    @cached_property
    def positions(self) -> list[int]:
        """(N,): number of tokens before each one in its request."""
        positions: list[int] = []
        for parent in self.parents:
            positions.append(0 if parent < 0 else positions[parent] + 1)
        return positions

    @cached_property
    def order(self) -> list[int]:
        """(N,): the nodes with those in front that a token of a continuation follows."""
        return sorted(range(len(self.tokens)), key=lambda node: (node not in self._scored, node))

    @property
    def scored(self) -> int:
        """Number of the nodes that a token of a continuation follows."""
        return len(self._scored)

    @cached_property
    def _scored(self) -> frozenset[int]:
        return frozenset(node for path in self.paths for node in path.scored)

    def sees(self) -> npt.NDArray[Any]:
        """(N, N): whether a token, by row, sees another one, by column; itself, and those before it."""
        seen_NN = np.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen_NN[node] |= seen_NN[parent]
        return seen_NN
