"""Hashes of a model's weights and configuration, which tell one pretrained model from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from analog_lora_cli.models.loaded import Fingerprint
from analog_lora_cli.models.modules import is_inside

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BLOCK = 1 << 24
"""Bytes that are hashed at a time."""
_HEADS_OWN = {"num_labels", "id2label", "label2id", "problem_type"}
_NOT_COMPUTED = {"transformers_version", "architectures", "dtype", "torch_dtype"}


def fingerprint(model: PreTrainedModel, heads: list[str], new: list[str]) -> Fingerprint:
    """Take the hashes of a plain model, before anything is clipped or trained.

    Args:
        model: the pretrained model with its head.
        heads: names of the head's modules.
        new: names of the parameters that the pretrained weights do not have.
    """
    # The models of all tasks share all but the head and the pooler, which some tasks do without.
    not_body = {name for name in model.state_dict() if is_inside(name, heads) or "pooler" in name}
    base, body = _hashes(model, [set(new), not_body])
    return Fingerprint(base, body, body_config(model))


def weights_sha256(model: nn.Module, leave_out: set[str]) -> str:
    """sha256 over names, shapes, types and bytes of all parameters and persistent buffers, in order of name.

    Args:
        model: any module.
        leave_out: names that do not belong to the pretrained weights.
    """
    return _hashes(model, [leave_out])[0]


def body_config(model: PreTrainedModel) -> dict[str, object]:
    """Entries of the model's configuration about its body, such as the activation, which weights alone do not tell."""
    content = json.loads(model.config.to_json_string(use_diff=False))
    return {
        key: value
        for key, value in content.items()
        if not key.startswith("_") and key not in _HEADS_OWN | _NOT_COMPUTED
    }


def tensor_sha256(tensor: Tensor) -> str:
    """sha256 of the bytes of one tensor."""
    digest = hashlib.sha256()
    for block in _bytes(tensor):
        digest.update(block)
    return digest.hexdigest()


def _hashes(model: nn.Module, left_out: Sequence[AbstractSet[str]]) -> list[str]:
    """Hashes as of `weights_sha256`, one for each set of names; in one pass, because weights are read from a disk."""
    digests = [hashlib.sha256() for _ in left_out]
    for name, tensor in sorted(model.state_dict().items()):
        counting = [digest for digest, names in zip(digests, left_out, strict=True) if name not in names]
        for digest in counting:
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        for block in _bytes(tensor) if counting else ():
            for digest in counting:
                digest.update(block)
    return [digest.hexdigest() for digest in digests]


def _bytes(tensor: Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor in order, a few rows at a time: rows on another device, or not in one piece, are copied."""
    rows = tensor.detach().reshape(1) if tensor.dim() == 0 else tensor.detach()
    size = rows[:1].numel() * rows.element_size()
    for part in rows.split(max(1, _BLOCK // max(1, size))):
        # Viewed as bytes, because numpy knows no bfloat16.
        yield part.cpu().contiguous().view(-1).view(torch.uint8).numpy().data
