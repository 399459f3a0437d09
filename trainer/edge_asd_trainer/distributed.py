"""One training by several processes: `torchrun ... -m edge_asd_trainer train ...` (PyTorch's distributed engine).

Every process holds the whole network and an equal share of every batch. Three things make the result that of one
process with the whole batch: batch normalisation takes its statistics over all shares, the variance and covariance
terms see the embeddings of all shares (gathered, so that gradients flow back), and gradients are averaged.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist

from edge_asd import progress
from edge_asd.errors import ConfigError

# Others wait this long for the one that goes first, through the log-mels of a whole data set.
PATIENCE = timedelta(hours=6)


@dataclass(frozen=True)
class Group:
    """The processes that share a training, and which of them this is.

    Attributes:
        rank: 0 leads: it alone writes files and speaks.
        size: how many there are.
        device: on which this one computes: "cpu", "cuda:0".
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, batch: int, name: str = "batch") -> slice:
        """The rows of a batch that are for this process. Raises: ConfigError where it can't be shared out evenly."""
        if batch % self.size:
            raise ConfigError(
                f"{name}: {batch} can't be shared out evenly among {self.size} processes; "
                f"set it to a multiple, such as {batch - batch % self.size or self.size}."
            )
        rows = batch // self.size
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def placed(self, frames: Tensor) -> Tensor:
        """Log-mel frames where windows are cut fastest: in a GPU's memory if they take at most half of what is free."""
        if self.device.startswith("cuda"):
            free, _ = torch.cuda.mem_get_info(self.device)
            if frames.nbytes <= free // 2:
                return frames.to(self.device)
        return frames

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, one share behind the other; gradients flow back to each share."""
        if self.size == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
        return gathered

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a value over all processes, for their logs."""
        if self.size == 1:
            return value
        return _summed(value) / self.size

    def wrapped(self, network: nn.Module) -> nn.Module:
        """The network as all processes train it together: its batch normalisation is replaced, its parameters stay."""
        if self.size == 1:
            return network
        if self.device.startswith("cuda"):
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
            return nn.parallel.DistributedDataParallel(network, device_ids=[self.device])
        _globalise(network)
        return nn.parallel.DistributedDataParallel(network)

    @contextmanager
    def first(self) -> Iterator[None]:
        """Inside, the leader goes first; the others follow when it is done, and find what it wrote."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


ALONE = Group()


@contextmanager
def joined() -> Iterator[Group]:
    """The group that torchrun made this process part of; alone where it didn't."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available()
    if size == 1:
        yield Group(device="cuda" if cuda else "cpu")
        return
    device = f"cuda:{os.environ['LOCAL_RANK']}" if cuda else "cpu"
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    # It tells of a layout in memory, for kernels of one channel, that both sides read alike.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    try:
        group = Group(dist.get_rank(), dist.get_world_size(), device)
        progress.be_quiet(quiet=not group.leads)
        yield group
    finally:
        dist.destroy_process_group()


class GlobalBatchNorm(nn.Module):
    """Batch normalisation over the batches of all processes, on processors (PyTorch's own is for GPUs alone).

    Takes over the parameters and buffers of a `BatchNorm1d` or `BatchNorm2d`, so a state dictionary fits both.
    """

    def __init__(self, local: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias = local.weight, local.bias
        for name, buffer in local.named_buffers():
            self.register_buffer(name, buffer)
        self.eps, self.momentum = local.eps, cast(float, local.momentum)
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (x.dim() - 2))
        if not self.training:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        axes = (0, *range(2, x.dim()))
        count = x.numel() // x.shape[1] * dist.get_world_size()
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # as PyTorch's own takes bfloat16's statistics
        mean = _Total.apply(wide.sum(axes)) / count  # type: ignore[no-untyped-call]
        centred = wide - mean.view(shape)
        variance = _Total.apply(centred.square().sum(axes)) / count  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normalised: Tensor = centred * scale.view(shape) + self.bias.view(shape)
        return normalised.to(x.dtype)


class _Gather(torch.autograd.Function):
    """Rows of all processes; backwards, every process's part of their gradient comes home and is added up."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        shares = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(shares, rows.contiguous())
        return torch.cat(shares)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = _summed(gradients[0])
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


class _Total(torch.autograd.Function):
    """The sum over all processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _summed(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def _summed(value: Tensor) -> Tensor:
    total = value.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def _globalise(network: nn.Module) -> None:
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            setattr(network, name, GlobalBatchNorm(child))
        else:
            _globalise(child)
