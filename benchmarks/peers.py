"""Other libraries, given the same masks."""
from contextlib import redirect_stdout
from copy import deepcopy
from io import StringIO
from typing import Callable

import nni
import torch
import torch.nn as nn
import torch_pruning
from nni.compression.speedup import ModelSpeedup

from cases import inputs
from ppcd_mmagic.channel_groups import channel_groups
from ppcd_mmagic.export.speedup import weight_masks
from ppcd_mmagic.masks import fold_masks
from ppcd_mmagic.tracing import trace


def with_torch_pruning(student: nn.Module) -> nn.Module:
    """Torch-Pruning: its dependency graph finds what belongs to a channel."""
    groups = [(group.writers[0], (~group.alive()).nonzero().flatten().tolist())
              for group in channel_groups(student)]
    fold_masks(student)
    noise, label = inputs(student, 2)
    graph = torch_pruning.DependencyGraph().build_dependency(
        student.requires_grad_(True),
        example_inputs=dict(noise=noise, label=label))
    for name, dead in groups:
        conv = student.get_submodule(name)
        graph.get_pruning_group(
            conv, torch_pruning.prune_conv_out_channels, idxs=dead).prune()
    return student.requires_grad_(False).eval()


def with_nni_as_documented(student: nn.Module) -> nn.Module:
    """``ModelSpeedup(model, dummy_input, masks).speedup_model()``."""
    masks = weight_masks(student)
    fold_masks(student)
    return ModelSpeedup(student, inputs(student, 2), masks).speedup_model()


def with_nni_and_a_graph(student: nn.Module) -> nn.Module:
    """The same, with the graph that NNI's own tracer cannot make."""
    masks = weight_masks(student)
    fold_masks(student)
    speedup = ModelSpeedup(
        student, inputs(student, 2), masks, graph_module=trace(student),
        garbage_collect_values=False)
    speedup.speedup_model()
    return student.eval()


PEERS = {
    f'Torch-Pruning {torch_pruning.__version__}': with_torch_pruning,
    f'NNI {nni.__version__}, as documented': with_nni_as_documented,
    f'NNI {nni.__version__}, given the graph': with_nni_and_a_graph,
}


def attempt(peer: Callable, student: nn.Module) -> tuple:
    """What a peer makes of a student and how far its images are from the
    student's; or its error in one line and None."""
    noise, label = inputs(student, 4)
    with torch.no_grad():
        expected = student(noise, label=label)
    try:
        with redirect_stdout(StringIO()):
            slim = peer(deepcopy(student))
        with torch.no_grad():
            difference = (slim(noise, label=label) - expected).abs().max()
    except Exception as error:
        message = f'{type(error).__name__}: {str(error).splitlines()[0]}'
        return message[:90], None
    return slim, float(difference)
