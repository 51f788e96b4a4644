"""torch's fully_shard on a model with tiles, on two CPU processes.

The commands refuse FSDP, because Accelerate starts it on accelerators only and we have none to test with; that the
tiles would not stand in its way is shown here.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

PROCESSES = 2


def _model() -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import BertConfig, BertForQuestionAnswering

    from analog_lora_cli.config.sections.hardware import HardwareConfig
    from analog_lora_cli.hardware.tile.training_noise import TrainingNoise
    from analog_lora_cli.models.tiling import replace_linear_layers

    torch.manual_seed(0)
    size = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 160}
    model = BertForQuestionAnswering(
        BertConfig(vocab_size=60, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **size)
    )
    targets = ["query", "value", "dense"]
    lora = LoraConfig(r=4, target_modules=targets, modules_to_save=["qa_outputs"], init_lora_weights=False)
    made = get_peft_model(model, lora)
    noise = TrainingNoise(0)
    hardware = HardwareConfig(tile_rows=100, tile_columns=100)
    replace_linear_layers(made.get_base_model(), {"qa_outputs": "head"}, hardware, noise)
    noise.begin_step(1)
    noise.begin_forward()
    return made.train()


def _work(rank: int, port: int, folder: str) -> None:
    from analog_lora_cli.runtime.libraries import prepare_libraries

    prepare_libraries()
    torch.set_num_threads(1)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=PROCESSES)
    ids = torch.randint(0, 60, (4, 12), generator=torch.Generator().manual_seed(5))
    batch = {"input_ids": ids, "start_positions": ids[:, 0] % 12, "end_positions": ids[:, 1] % 12}
    whole, sharded = _model(), _model()
    mesh = init_device_mesh("cpu", (PROCESSES,))
    for layer in sharded.get_base_model().bert.encoder.layer:
        fully_shard(layer, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    losses, results = [], []
    for model in (whole, sharded):
        loss = model(**batch).loss
        loss.backward()
        trained = {name: p for name, p in model.named_parameters() if p.grad is not None}
        torch.optim.AdamW(trained.values(), lr=1e-3).step()
        losses.append(float(loss))
        results.append({name: getattr(p, "full_tensor", lambda p=p: p)().detach() for name, p in trained.items()})
    sharded.reshard()
    held = sharded.get_base_model().bert.encoder.layer[0].attention.self.query.base_layer.weight
    if rank == 0:
        share = held.to_local().numel() / held.numel()
        torch.save({"losses": losses, "results": results, "share": share}, Path(folder) / "found.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_a_step_of_a_sharded_model(tmp_path: Path) -> None:
    """Each process holds half of the analog weights, and the step is that of one process with the same batch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_work, (port, str(tmp_path)), nprocs=PROCESSES)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert found["share"] == 0.5
    assert found["losses"][0] == found["losses"][1]
    whole, sharded = found["results"]
    assert whole.keys() == sharded.keys() and len(whole) > 10
    for name, value in whole.items():
        assert torch.allclose(sharded[name], value, rtol=1e-5, atol=1e-7), name
