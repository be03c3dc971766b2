"""Ends of a distributed training that another process is the cause of."""

import re
from contextlib import contextmanager
from typing import Iterator

from torch import distributed as dist

from ppcd_mmagic.errors import PPCDError

# torch 2.1 has neither
_STORE_ERRORS = tuple(
    getattr(dist, name)
    for name in ('DistNetworkError', 'DistStoreError')
    if hasattr(dist, name)
)
# what torch has no class for: gloo's transport, and what NCCL and its
# watchdog say of another process
_LOST = re.compile(
    r'gloo/transport/|timeout caused pair closure|remote process exited|'
    r'ncclRemoteError|collective operation timeout|NCCL communicator was '
    r'aborted'
)


@contextmanager
def lost_processes_named() -> Iterator[None]:
    """End in one line where another process has ended or does not answer.

    Raises:
        PPCDError: In place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, _STORE_ERRORS) or _LOST.search(str(error))):
            raise
        said = str(error).strip().splitlines()[0][:200]
        raise PPCDError(
            'Another process of this training has ended, or has not answered '
            'for as long as env_cfg.dist_cfg.timeout allows; what it printed '
            'last says why. This one ends as well, unsaved: start all of them '
            f'again with --resume. ({said})'
        ) from error
