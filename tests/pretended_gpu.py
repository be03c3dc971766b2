"""A GPU that is not there: values are computed on the CPU, but each tensor is
on a device, which is what a program is told and what must agree."""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree

CPU, CUDA = torch.device('cpu'), torch.device('cuda', 0)
_MOVES = (torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.cpu)
_INDEXED = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)


def device_of(tensor):
    """None of what autograd has made out of sight."""
    known = vars(tensor).get('_pretended')
    return known or (CPU if tensor.is_leaf else None)


def _tagged(out, device):
    for leaf in _pytree.tree_leaves(out):
        if isinstance(leaf, torch.Tensor) and device is not None:
            leaf._pretended = device
    return out


def _named(value):
    if isinstance(value, str) and value.split(':')[0] in ('cpu', 'cuda'):
        value = torch.device(value)
    if type(value) is int:  # a GPU's number
        return CUDA
    if isinstance(value, torch.device):
        return CUDA if value.type == 'cuda' else value
    return None


class PretendedGpu(TorchFunctionMode):
    """Inside, ``.to('cuda')`` and ``device='cuda'`` work, and tensors of two
    devices do not meet, but where torch lets them: a single number of the CPU
    joins any, and an index of the CPU may ask for parts of what is on a GPU.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        of = getattr(func, '__self__', None)
        if of is torch.Tensor.device:
            return device_of(args[0]) or CPU
        if func is torch.Tensor.get_device:
            return 0 if device_of(args[0]) == CUDA else -1
        if of is torch.Tensor.is_cuda:
            return device_of(args[0]) == CUDA
        if of is torch.Tensor.data and len(args) == 2:
            func(*args)
            _tagged(args[0], device_of(args[1]))
            return None
        if func in _MOVES:
            return self._moved(func, *args, **kwargs)
        wanted = _named(kwargs.get('device'))
        if wanted is not None:
            kwargs['device'] = CPU
        given = [
            leaf
            for leaf in _pytree.tree_leaves((args, kwargs))
            if isinstance(leaf, torch.Tensor)
        ]
        found = self._common(func, given)
        if func is torch.Tensor.numpy and found == CUDA:
            raise TypeError('numpy of a CUDA tensor')
        return _tagged(func(*args, **kwargs), wanted or found)

    def _moved(self, func, tensor, *args, **kwargs):
        if func is not torch.Tensor.to:
            kwargs['device'] = 'cuda' if func is torch.Tensor.cuda else 'cpu'
            args = ()
        now = device_of(tensor)
        wanted = now
        for value in (*args, kwargs.get('device')):
            if isinstance(value, torch.Tensor):
                wanted = device_of(value)
            wanted = _named(value) or wanted
        args = [CPU if _named(value) else value for value in args]
        if _named(kwargs.get('device')):
            kwargs['device'] = CPU
        out = tensor.to(*args, **kwargs)
        if out is tensor and wanted != now:
            out = tensor.clone()
        return _tagged(out, wanted)

    def _common(self, func, given):
        """The device of what is given, which must be one."""
        if not given:
            return CPU
        if func in (
            torch.Tensor.copy_,
            torch.Tensor.__deepcopy__,  # also given what was copied before
            torch._has_compatible_shallow_copy_type,
        ):
            return device_of(given[0])
        found = [
            (device_of(tensor), tensor.dim() == 0)
            for tensor in given
            if device_of(tensor) is not None
        ]
        devices = {device for device, single in found}
        if len(devices) < 2:
            return next(iter(devices), None)
        if func in _INDEXED and device_of(given[0]) == CUDA:
            return CUDA
        if any(device == CPU and not single for device, single in found):
            raise RuntimeError(
                f'tensors of cuda and cpu meet in {func.__name__}'
            )
        return CUDA
