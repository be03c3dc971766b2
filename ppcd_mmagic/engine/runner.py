from typing import Callable, Sequence, Tuple, Union

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner, get_state_dict, load_state_dict

from ppcd_mmagic.checkpoints import check_fit, read_checkpoint, rename_to_fit
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.registry import RUNNERS

# what MMEngine's runner looks for in order to go on
_RESUMED = {'meta', 'message_hub', 'optimizer', 'param_schedulers'}


@RUNNERS.register_module()
class SafeRunner(Runner):
    """MMEngine's runner, where a checkpoint is loaded whole or not at all.

    For configs of any scope: ``runner_type = 'ppcd_mmagic.SafeRunner'``.
    """

    def load_checkpoint(
        self,
        filename: str,
        map_location: Union[str, Callable] = 'cpu',
        strict: bool = True,
        revise_keys: Sequence[Tuple[str, str]] = ()
    ) -> dict:
        """Load the weights of the whole model.

        Args:
            filename (str): Checkpoint on disk.
            map_location (str | Callable): As in ``torch.load``.
            strict, revise_keys: There for MMEngine's signature; whatever they
                are, every key must fit.

        Raises:
            PPCDError: If it cannot be read or does not fit, or a training is
                to be resumed from weights alone; the model is then as it was.
        """
        checkpoint = read_checkpoint(filename, 'given', map_location)
        if self._resume and not _RESUMED <= checkpoint.keys():
            raise PPCDError(
                f'The given checkpoint {filename} holds weights alone, no '
                'training to resume: start another one from them with '
                '--cfg-options load_from=PATH.')
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model = _unwrapped(self.model)
        wanted = get_state_dict(model)
        state = rename_to_fit(checkpoint.get('state_dict', checkpoint), wanted)
        check_fit(state, wanted, 'given', filename, type(model).__name__)
        load_state_dict(model, {**wanted, **state}, strict=True)
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint


def _unwrapped(model):
    return model.module if is_model_wrapper(model) else model
