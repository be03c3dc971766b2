"""Other libraries, given the same masks."""

from contextlib import redirect_stdout
from copy import deepcopy
from io import StringIO
from typing import Callable

import nni
import torch
import torch.nn as nn
import torch_pruning
from cases import inputs
from nni.compression.speedup import ModelSpeedup

from ppcd_mmagic.channels import Channels, link_masks
from ppcd_mmagic.channels.masks import output_gates
from ppcd_mmagic.channels.speedup import fold_masks
from ppcd_mmagic.generators import example_inputs


def dead_by_writer(channels: Channels) -> dict:
    """Indices of the channels that leave, by the first convolution that
    writes them."""
    taken, dead = set(), {}
    for name in output_gates(channels.module):
        leaving, atoms = channels.leaving_of(name), channels.atoms_of(name)
        dead[name] = [
            i
            for i, atom in enumerate(atoms)
            if leaving[i] and atom not in taken
        ]
        taken.update(atoms)
    return {name: indices for name, indices in dead.items() if indices}


def weight_masks(channels: Channels) -> dict:
    """Channel masks as NNI takes them: on each weight, by rows."""
    masks = {}
    for name in output_gates(channels.module):
        conv = channels.module.get_submodule(name)
        rows = channels.alive_outputs(name)
        masks[name] = dict(
            weight=torch.ones_like(conv.weight) * rows.view(-1, 1, 1, 1)
        )
        if conv.bias is not None:
            masks[name]['bias'] = rows.to(conv.weight)
    return masks


def with_torch_pruning(student: nn.Module) -> nn.Module:
    """Torch-Pruning: its dependency graph finds what belongs to a channel."""
    channels = link_masks(student, example_inputs(student))
    groups = dead_by_writer(channels)
    fold_masks(channels)
    noise, label = inputs(student, 2)
    graph = torch_pruning.DependencyGraph().build_dependency(
        student.requires_grad_(True),
        example_inputs=dict(noise=noise, label=label),
    )
    for name, dead in groups.items():
        conv = student.get_submodule(name)
        graph.get_pruning_group(
            conv, torch_pruning.prune_conv_out_channels, idxs=dead
        ).prune()
    return student.requires_grad_(False).eval()


def with_nni_as_documented(student: nn.Module) -> nn.Module:
    """``ModelSpeedup(model, dummy_input, masks).speedup_model()``."""
    channels = link_masks(student, example_inputs(student))
    masks = weight_masks(channels)
    fold_masks(channels)
    return ModelSpeedup(student, inputs(student, 2), masks).speedup_model()


def with_nni_and_a_graph(student: nn.Module) -> nn.Module:
    """The same, with the graph that NNI's own tracer cannot make."""
    channels = link_masks(student, example_inputs(student))
    masks = weight_masks(channels)
    fold_masks(channels)
    speedup = ModelSpeedup(
        student,
        inputs(student, 2),
        masks,
        graph_module=channels.analysis.recording,
        garbage_collect_values=False,
    )
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
