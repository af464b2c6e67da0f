"""How much memory tensors take together, by following every storage from the operation that makes it to its end."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Bytes of what operations make while this mode is on, and of what it was told of; those only seen do not count.

    On the meta device and among fake tensors too, so that no size is too large.
    """

    def __init__(self, *told):
        super().__init__()
        self.now = self.most = 0
        self._known = {}
        self._follow(told, counts=True)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self._follow((args, kwargs), counts=False)
        found = operation(*args, **(kwargs or {}))
        self._follow(found, counts=True)
        return found

    def _follow(self, values, counts):
        for tensor in tree_leaves(values):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes() if counts else 0
                if key not in self._known:
                    end = weakref.finalize(storage, self._gone, key, size)
                    end.atexit = False
                    self._known[key] = end
                    self.now += size
        self.most = max(self.most, self.now)

    def _gone(self, key, size):
        del self._known[key]
        self.now -= size


def most_alive(call):
    """Bytes of the tensors made in a call without gradients that are alive together, at most; on any device."""
    with torch.no_grad(), LiveBytes() as alive:
        call()
    return alive.most
