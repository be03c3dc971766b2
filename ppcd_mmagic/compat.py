"""Work-arounds for the age of the packages below us; each names the version
it is for, and does nothing where that version is not installed."""

import functools
import importlib.util
import os
import sys
import warnings
from datetime import timedelta
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree

MMCV_WANTED = ('2.1', '2.2')


def _require_mmcv():
    """MMagic 1.2.0 asserts MMCV < 2.2 as it is imported."""
    wanted = 'version >={},<{}'.format(*MMCV_WANTED)
    if importlib.util.find_spec('mmcv') is None:
        raise ImportError(
            f'ppcd_mmagic needs MMCV, {wanted}, and found none: install '
            'ppcd_mmagic[lite], or [mmcv] for MMCV with its operators.'
        )
    import mmcv
    from mmengine.utils import digit_version

    least, beyond = map(digit_version, MMCV_WANTED)
    if not least <= digit_version(mmcv.__version__) < beyond:
        raise ImportError(
            f'ppcd_mmagic needs MMCV, {wanted}, and found '
            f'{mmcv.__version__}: install ppcd_mmagic[lite], or [mmcv] for '
            'MMCV with its operators.'
        )


def _placeholder(name: str, module: ModuleType) -> None:
    """Have ``module`` imported wherever ``name`` is asked for."""
    module.__spec__ = ModuleSpec(name, loader=None)
    module.__file__ = __file__
    sys.modules[name] = module


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
                'need it.'
            )

        return missing_op


class _MissingFaces:
    """Stands in for controlnet_aux's detector of faces, the one that needs
    what mediapipe no longer has."""

    def __init__(self, *args, **kwargs):
        raise RuntimeError(
            'MediapipeFaceDetector needs mediapipe<0.10.30; the one installed '
            'has no "solutions".'
        )


def _without_mediapipe_solutions() -> bool:
    """Whether mediapipe is there, but 0.10.30 or newer; told from its files,
    for importing it takes seconds."""
    spec = importlib.util.find_spec('mediapipe')
    if spec is None:
        return False
    return not any(
        os.path.isdir(os.path.join(place, 'python', 'solutions'))
        for place in spec.submodule_search_locations or []
    )


# albumentations 1.4 asks the network for a newer version as it is imported
os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')
_require_mmcv()
if importlib.util.find_spec('mmcv._ext') is None:
    _placeholder('mmcv._ext', _MissingOps('mmcv._ext'))
# controlnet_aux 0.0.10, which mmagic.apis imports, asks mediapipe for
# `solutions` as it is imported itself
if _without_mediapipe_solutions():
    _faces = ModuleType('controlnet_aux.mediapipe_face')
    vars(_faces).update(MediapipeFaceDetector=_MissingFaces)
    _placeholder(_faces.__name__, _faces)

# diffusers 0.24 calls a pytree function that torch >= 2.2 renamed; harmless,
# but printed three times at every import of mmagic.models.
warnings.filterwarnings(
    'ignore', message=r'.*_register_pytree_node.*', category=FutureWarning
)

# torch has it since 2.2
if not hasattr(_pytree, 'tree_leaves'):
    vars(_pytree).update(tree_leaves=lambda tree: _pytree.tree_flatten(tree)[0])

# torch has it where it is public since 2.3
if hasattr(torch.compiler, 'is_compiling'):
    is_compiling = torch.compiler.is_compiling
else:
    from torch._dynamo.external_utils import is_compiling  # noqa: F401


def join_ranks_without_gpu(config) -> None:
    """For MMEngine 0.10.7, which asks for a GPU in any distributed run.

    Where there is none, processes started by ``torchrun`` join through gloo
    (the runner finds them joined and goes on), and the model wrapper is not
    given GPUs to use.

    Args:
        config (Config): Training config with its ``launcher``;
            ``env_cfg.dist_cfg.timeout`` are seconds, as in MMEngine.
    """
    if config.launcher == 'pytorch' and not torch.cuda.is_available():
        seconds = config.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
        # torch 2.1 takes no timeout of None
        timeout: Any = (
            {'timeout': timedelta(seconds=seconds)} if seconds else {}
        )
        torch.distributed.init_process_group('gloo', **timeout)
        config.model_wrapper_cfg.device_ids = None


def part_ranks() -> None:
    """For torch, which at the end of the interpreter may abort a process that
    is still joined ("terminate called without an active exception", seen with
    2.14 and gloo): a training that was whole then counts as failed."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()  # none leaves while another still asks
        torch.distributed.destroy_process_group()


def flatten_labels() -> None:
    """For MMagic 1.2.0, whose conditional GANs take labels (n, 1) from their
    data and hand them on. A projection discriminator then gives n scores for
    each image in place of one, without an error. They are made (n, )."""
    import mmagic

    if mmagic.__version__ != '1.2.0':
        return
    from mmagic.models.base_models import BaseConditionalGAN
    from mmengine.logging import print_log

    original = BaseConditionalGAN.data_sample_to_label
    if hasattr(original, '__wrapped__'):
        return

    logged = False

    @functools.wraps(original)
    def data_sample_to_label(self, data_sample):
        nonlocal logged
        label = original(self, data_sample)
        if label is None or label.shape[1:] != (1,):
            return label
        if not logged:
            logged = True
            print_log(
                f'labels {tuple(label.shape)} of MMagic 1.2.0 are flattened, '
                'so that a discriminator gives one score for each image',
                'current',
            )
        return label.flatten()

    BaseConditionalGAN.data_sample_to_label = data_sample_to_label


def mend_initialization() -> None:
    """For MMagic 1.2.0, whose DCGAN, pix2pix and CycleGAN cannot be trained:
    their ``init_weights`` notes for the log how a module was initialized, and
    fails at the first that it does not initialize."""
    import mmagic

    if mmagic.__version__ != '1.2.0':
        return
    from mmagic.models import utils
    from mmagic.models.editors.dcgan import DCGANDiscriminator, DCGANGenerator

    for kind in (DCGANDiscriminator, DCGANGenerator):
        if not hasattr(kind.init_weights, '__wrapped__'):
            kind.init_weights = _one_by_one(kind.init_weights)
    original = utils.generation_init_weights
    if hasattr(original, '__wrapped__'):
        return
    mended = _without_notes(original)
    for module in list(sys.modules.values()):
        if (
            getattr(module, '__dict__', {}).get('generation_init_weights')
            is original
        ):
            vars(module).update(generation_init_weights=mended)


def _one_by_one(init_weights):
    """Show the original each layer alone, and only those it initializes."""

    @functools.wraps(init_weights)
    def mended(self):
        pretrained = self.init_cfg and self.init_cfg['type'] == 'Pretrained'
        if pretrained:
            return init_weights(self)
        for layer in self.modules():
            if isinstance(layer, (_ConvNd, _BatchNorm)):
                init_weights(
                    SimpleNamespace(init_cfg=None, modules=lambda: [layer])
                )

    return mended


def _without_notes(generation_init_weights):
    """Keep nothing to write notes to while the original runs."""

    @functools.wraps(generation_init_weights)
    def mended(module, *args, **kwargs):
        notes = [
            (part, vars(part).pop('_params_init_info'))
            for part in module.modules()
            if '_params_init_info' in vars(part)
        ]
        try:
            generation_init_weights(module, *args, **kwargs)
        finally:
            for part, note in notes:
                part._params_init_info = note

    return mended
