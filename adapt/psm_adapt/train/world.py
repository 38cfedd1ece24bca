"""The processes that train together, and the device of each: one process, or as many as torchrun started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from psm_stream.errors import ConfigError, DeviceError


@dataclass(frozen=True, slots=True)
class World:
    """This process among those that train together."""

    rank: int
    """0-based; the first one writes files and shows progress."""
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Average a tensor over the processes; alone, return it."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def wrap(self, objective: nn.Module) -> nn.Module:
        """Make a module average its gradients over the processes; the weights of the first one go to all."""
        if self.size == 1:
            return objective
        return DistributedDataParallel(objective)

    def share(self, batch_size: int) -> int:
        """Return how many of a global batch this process takes. Raises ConfigError: it cannot be split evenly."""
        if batch_size % self.size:
            raise ConfigError(f"run.batch_size {batch_size} cannot be split evenly over {self.size} processes")
        return batch_size // self.size


@contextmanager
def join(device: Literal["auto", "cpu", "cuda"]) -> Iterator[World]:
    """Join the processes that torchrun started (RANK, WORLD_SIZE, ... in the environment), or be alone.

    Over gloo on the CPU, over nccl on CUDA, one device per process.

    Raises DeviceError: CUDA is asked for and there is none, or less than one device per process.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        torch.backends.cudnn.benchmark = True  # all batches have one size, so the search for a fast algorithm pays
    if size == 1:
        yield World(0, 1, chosen)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size, chosen)
        dist.barrier()  # nobody takes the connections down while another still uses them
    finally:
        dist.destroy_process_group()


def pick_precision(asked: Literal["auto", "fp32", "bf16"], device: torch.device) -> tuple[bool, str]:
    """Decide whether to compute in bfloat16 where that is safe. Returns the decision, and why in words."""
    if asked != "auto":
        return asked == "bf16", f"{asked}, as asked for"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return True, "bf16: the GPU computes it"
        return False, "fp32: this GPU has no bfloat16"
    found = sorted({"amx_bf16", "avx512_bf16"} & _cpu_flags())
    return bool(found), f"bf16: the CPU has {found[0]}" if found else "fp32: the CPU has no instructions for bfloat16"


def _device(asked: Literal["auto", "cpu", "cuda"], local_rank: int) -> torch.device:
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceError("run.device cuda: torch finds no CUDA device here; use --device cpu, or see psm-doctor")
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise DeviceError(
            f"process {local_rank} has no GPU: there are {count}; start torchrun --nproc-per-node {count}"
        )
    return torch.device("cuda", local_rank)


def _cpu_flags() -> set[str]:
    """Instruction sets as Linux names them; elsewhere none are known, and float32 is used."""
    file = Path("/proc/cpuinfo")
    if not file.is_file():
        return set()
    lines = (line for line in file.read_text().splitlines() if line.startswith("flags"))
    return set(next(lines, "").partition(":")[2].split())
