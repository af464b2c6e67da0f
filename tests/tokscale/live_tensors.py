"""What is alive at once while a function runs, by the tensors that its operations make."""

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Alive(TorchDispatchMode):
    """Follows storages that operations make; those that they only see, such as weights, are left out."""

    def __init__(self):
        super().__init__()
        self.most, self.made, self.given = 0, {}, {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        for key, storage in _storages((args, kwargs)):
            if key not in self.made:
                self.given[key] = StorageWeakRef(storage)
        found = operation(*args, **(kwargs or {}))
        for key, storage in _storages(found):
            if key not in self.given or self.given[key].expired():
                self.made[key] = StorageWeakRef(storage), storage.nbytes()
        self.made = {key: kept for key, kept in self.made.items() if not kept[0].expired()}
        self.most = max(self.most, sum(size for _, size in self.made.values()))
        return found


def _storages(values):
    tensors = [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]
    return [(tensor.untyped_storage()._cdata, tensor.untyped_storage()) for tensor in tensors]


def most_alive(call):
    """Bytes of the tensors made in a call without gradients that are alive together, at most; on any device."""
    with torch.no_grad(), _Alive() as alive:
        call()
    return alive.most
