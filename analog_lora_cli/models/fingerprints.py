"""Hashes of a model's weights and configuration, which tell one pretrained model from another."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from analog_lora_cli.models.loaded import Fingerprint
from analog_lora_cli.models.modules import is_inside

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_HEADS_OWN = {"num_labels", "id2label", "label2id", "problem_type"}
_NOT_COMPUTED = {"transformers_version", "architectures", "dtype", "torch_dtype"}


def fingerprint(model: PreTrainedModel, heads: list[str], new: list[str]) -> Fingerprint:
    """Take the hashes of a plain model, before anything is clipped or trained.

    Args:
        model: the pretrained model with its head.
        heads: names of the head's modules.
        new: names of the parameters that the pretrained weights do not have.
    """
    return Fingerprint(weights_sha256(model, leave_out=set(new)), body_sha256(model, heads), body_config(model))


def weights_sha256(model: nn.Module, leave_out: set[str]) -> str:
    """sha256 over names, shapes, types and bytes of all parameters and persistent buffers, in order of name.

    Args:
        model: any module.
        leave_out: names that do not belong to the pretrained weights.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name in leave_out:
            continue
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def body_sha256(model: nn.Module, heads: list[str]) -> str:
    """sha256 of what the models of all tasks share: all but the head and the pooler, which some tasks do without."""
    names = {name for name in model.state_dict() if is_inside(name, heads) or "pooler" in name}
    return weights_sha256(model, leave_out=names)


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
    return hashlib.sha256(_bytes(tensor)).hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    # Viewed as bytes, because numpy knows no bfloat16.
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
