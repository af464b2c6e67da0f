"""What autograd keeps of a forward pass, by its own account."""

import torch

from tests.tokscale.cuda_autocast import AutocastOfCuda


def kept_for_backward(module, loss, bf16):
    """Bytes that autograd keeps of a loss besides the parameters."""
    own, storages, alive = {parameter.data_ptr() for parameter in module.parameters()}, {}, []

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16), AutocastOfCuda():
        assert loss().isfinite()
    return sum(storages.values())
