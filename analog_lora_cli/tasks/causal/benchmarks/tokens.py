"""The tokens of requests, as lm-eval's model for transformers makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analog_lora_cli.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class RequestTokenizer:
    """Turns texts of requests into tokens."""

    tokenizer: PreTrainedTokenizerBase

    def pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """The tokens of a context and of its continuation.

        Both are tokenized together and then cut, so that a word may begin with the space between them; spaces at the
        end of a context belong to the continuation. An empty context is the tokenizer's first token, or its end token.

        Raises:
            UsageError: the continuation has no token of its own.
        """
        if not context:
            first, tokens = self._prefix, self._encode(continuation, add_special_tokens=False)
            known, counted = ([first], tokens) if tokens[:1] != [first] else (tokens[:1], tokens[1:])
        else:
            kept = context.rstrip()
            whole = self._encode(context + continuation)
            known = self._encode(kept)
            counted = whole[len(known) :]
        if not known or not counted:
            raise UsageError(f"the tokenizer makes no token of {(continuation if known else context)!r}")
        return known, counted

    def prompt(self, text: str) -> list[int]:
        """The tokens of a prompt."""
        first = self.tokenizer.bos_token
        own = isinstance(first, str) and text.startswith(first)
        return self._encode(text, **({"add_special_tokens": False} if own else {}))

    @property
    def _prefix(self) -> int:
        token = self.tokenizer.bos_token_id
        token = self.tokenizer.eos_token_id if token is None else token
        if not isinstance(token, int):
            raise UsageError("model.name: the tokenizer has no first token and no end token")
        return token

    def _encode(self, text: str, **options: Any) -> list[int]:
        if not options and text.startswith(str(self.tokenizer.decode(self._prefix))):
            options = {"add_special_tokens": False}
        tokens: list[int] = self.tokenizer.encode(text, verbose=False, **options)
        return tokens
