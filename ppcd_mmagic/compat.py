"""Work-arounds for the age of the packages below us; each names the version
it is for, and does nothing where that version is not installed."""
import importlib.util
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType


class _MissingOps(ModuleType):
    """Stands in for ``mmcv._ext``: any operator can be looked up, none called.

    For mmcv-lite 2.1.0 (and any MMCV built without its operators). MMagic
    1.2.0 imports ``mmcv.ops`` for its video editors at the top of
    ``mmagic.models``, so without this not even BigGAN can be imported.
    """

    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)

        def missing_op(*args, **kwargs):
            raise RuntimeError(
                f'MMCV operator "{name}" was called, but this MMCV has no '
                'compiled operators (mmcv-lite, or a build without them). '
                'Install the full "mmcv" (>=2.1,<2.2) to use models that '
                'need it.')

        return missing_op


def _allow_mmcv_without_ops():
    if importlib.util.find_spec('mmcv') is None:
        raise ImportError(
            'ppcd_mmagic needs MMCV: install "mmcv" or "mmcv-lite", '
            'version >=2.1,<2.2 (MMagic 1.2.0 refuses newer ones).')
    if importlib.util.find_spec('mmcv._ext') is None:
        placeholder = _MissingOps('mmcv._ext')
        placeholder.__spec__ = ModuleSpec('mmcv._ext', loader=None)
        placeholder.__file__ = __file__
        sys.modules['mmcv._ext'] = placeholder


_allow_mmcv_without_ops()

# diffusers 0.24 calls a pytree function that torch >= 2.2 renamed; harmless,
# but printed three times at every import of mmagic.models.
warnings.filterwarnings(
    'ignore', message=r'.*_register_pytree_node.*', category=FutureWarning)


def _load_mmengine_checkpoints():
    """For MMEngine 0.10.7 on torch >= 2.6, whose ``torch.load`` refuses by
    default the log history that MMEngine writes into its checkpoints. As ever
    with MMEngine: load checkpoints only from sources you trust."""
    import os.path as osp

    import torch
    from mmengine.runner import CheckpointLoader

    @CheckpointLoader.register_scheme(prefixes='', force=True)
    def load_from_local(filename, map_location):
        filename = osp.expanduser(filename)
        if not osp.isfile(filename):
            raise FileNotFoundError(f'{filename} can not be found.')
        return torch.load(
            filename, map_location=map_location, weights_only=False)


_load_mmengine_checkpoints()


def join_ranks_without_gpu(config) -> None:
    """For MMEngine 0.10.7, which asks for a GPU in any distributed run.

    Where there is none, processes started by ``torchrun`` join through gloo
    (the runner finds them joined and goes on), and the model wrapper is not
    given GPUs to use.

    Args:
        config (Config): Training config with its ``launcher``.
    """
    import torch
    if config.launcher == 'pytorch' and not torch.cuda.is_available():
        torch.distributed.init_process_group('gloo')
        config.model_wrapper_cfg.device_ids = None
