"""Which examples make which batch: the order of an epoch, shared between ranks."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from capsbench.data.batch import Batch, BatchKey
from capsbench.data.randomness import buffered_order, permutation


class EpochSampler(Sampler[BatchKey]):
    """The batches of an epoch, as a function of (seed, epoch).

    Ranks share each batch: together they see each example once, as a single process would. Batch norm cannot train on
    one example, so a last batch of one is merged with the batch before it.

    Attributes:
        sizes: the number of examples in each batch, over all ranks.

    Args:
        num_examples: in the split.
        batch_size: examples per batch, over all ranks.
        seed: of the run.
        shuffle: a new order each epoch; otherwise the order of the split, and always the first epoch.
        repeat: every epoch is the first.
        buffer: shuffle with a buffer of so many examples, through which the split passes in its order; None: shuffle
            the whole split.
        device: where the indices are created.
        rank, world_size: this process's share.
        done: returns, at the start of an epoch, how many of its batches to skip because they were trained on before an
            interruption.

    Raises:
        ValueError: the last batch has fewer examples than there are ranks.
    """

    def __init__(
        self,
        num_examples: int,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        repeat: bool = False,
        device: torch.device,
        buffer: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        done: Callable[[], int] = lambda: 0,
    ) -> None:
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.repeat = repeat
        self.device = device
        self.buffer = buffer
        self.rank = rank
        self.world_size = world_size
        self.done = done
        self.epoch = 0
        self.sizes = [len(batch) for batch in self._divide(torch.empty(num_examples))]
        if self.sizes[-1] < world_size:
            raise ValueError(
                f"batches of {batch_size} leave {self.sizes[-1]} of {num_examples} examples for the last, too few for "
                f"{world_size} devices; set another data.batch_size, or data.eval_batch_size"
            )

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration gives; Lightning calls this at the start of each epoch."""
        self.epoch = epoch if self.shuffle and not self.repeat else 0

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[BatchKey]:
        for indices in self._divide(self._order())[self.done() :]:
            yield BatchKey(self.epoch, indices[self.rank :: self.world_size])

    def _order(self) -> Tensor:
        if not self.shuffle:
            return torch.arange(self.num_examples, device=self.device)
        key = (self.seed, "order", self.epoch)
        if self.buffer is None:
            return permutation(key, self.num_examples, self.device)
        return buffered_order(key, self.num_examples, self.buffer, self.device)

    def _divide(self, order: Tensor) -> list[Tensor]:
        *batches, last = torch.split(order, self.batch_size)
        if batches and len(last) == 1 < self.batch_size:
            return [*batches[:-1], torch.cat([batches[-1], last])]
        return [*batches, last]


class BatchDataset(Dataset[Batch]):
    """A data set whose items are batches, so that a DataLoader does not collate single examples."""

    def __init__(self, make_batch: Callable[[BatchKey], Batch]) -> None:
        self.make_batch = make_batch

    def __getitem__(self, key: BatchKey) -> Batch:
        return self.make_batch(key)
