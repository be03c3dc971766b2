"""Speed and memory of everything, as ratios of one run.

python benchmarks/run.py            # about ten minutes on two cores
python benchmarks/run.py --quick    # small models, about a minute
"""

import argparse
import json
import logging
import os.path as osp
import platform
import tempfile
import warnings
from contextlib import redirect_stdout
from copy import deepcopy
from functools import partial
from io import StringIO
from types import SimpleNamespace
from unittest.mock import Mock

import torch
from cases import (
    ALIKE,
    FULL,
    MODERATE,
    MULTIPLES,
    OURS,
    SMALL,
    Scale,
    Trainer,
    computed_alike,
    dense,
    export,
    generator_cfg,
    inputs,
    masked_student,
    prune,
    teacher,
    without_spectral_norm,
)
from mmengine import MessageHub
from mmengine.registry import DefaultScope
from peers import PEERS, attempt
from report import write_report
from timing import by_turns, peak_memory

import ppcd_mmagic  # noqa: F401, registers the parts
from ppcd_mmagic.channels import complexity, shrink_channels
from ppcd_mmagic.export import program_of
from ppcd_mmagic.export.formats import save_onnx
from ppcd_mmagic.generators import example_inputs
from ppcd_mmagic.onnx_generator import OnnxGenerator
from ppcd_mmagic.registry import HOOKS

ALPHA = 0.6
# by device: batch sizes, and those at which a model is run in several ways
BATCHES = dict(cpu=(1, 4, 16), cuda=(1, 16, 128))
SEVERAL_WAYS = dict(cpu=(16,), cuda=(1, 128))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Measure speed and memory.')
    parser.add_argument('--quick', action='store_true', help='small models')
    parser.add_argument(
        '--parts',
        nargs='+',
        choices=PARTS,
        default=list(PARTS),
        help='measure these only (default: all)',
    )
    parser.add_argument(
        '--rounds', type=int, default=4, help='turns of each model (default: 4)'
    )
    parser.add_argument(
        '--out',
        default=osp.join(osp.dirname(osp.abspath(__file__)), 'results'),
        help='folder of the table and the plot',
    )
    return parser.parse_args()


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'{platform.machine()} CPU, {torch.get_num_threads()} threads'


def call(model, arguments) -> None:
    with torch.no_grad():
        model(arguments[0], label=arguments[1])


def inference(scale: Scale, rounds: int, device: str) -> dict:
    """Latency by batch size and the ways to run a model; peak memory."""
    student = masked_student(scale, ALPHA)
    models = {
        'teacher': teacher(scale),
        'dense': dense(scale),
        ALIKE: computed_alike(scale),
        'masked': without_spectral_norm(student),
        'exported': export(scale, without_spectral_norm(student)),
    }
    models = {name: m.to(device).eval() for name, m in models.items()}
    result = dict(
        alpha=ALPHA,
        complexity={
            name: complexity(m, example_inputs(m, batch=1))
            for name, m in models.items()
        },
        latency={},
        memory={},
    )
    for batch in BATCHES[device]:
        arguments = inputs(models['dense'], batch)
        result['latency'][batch] = by_turns(
            {n: partial(call, m, arguments) for n, m in models.items()}, rounds
        )
        result['memory'][batch] = {
            n: peak_memory(m, partial(call, m, arguments))
            for n, m in models.items()
        }
    pair = {name: models[name] for name in ('dense', 'exported')}
    result['ways'] = {
        batch: ways(pair, inputs(models['dense'], batch), rounds, device)
        for batch in SEVERAL_WAYS[device]
    }
    return result


def has_bf16(device: str) -> bool:
    if device == 'cuda':
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported()


def ways(models: dict, arguments: tuple, rounds: int, device: str) -> dict:
    """Eager, compiled, bf16 and channels_last, which exports have anyway.
    On a GPU what is compiled is launched at once (CUDA graphs). Each way has
    its own copy: the layout of an export's weights follows the precision."""
    functions = {}
    mode = 'reduce-overhead' if device == 'cuda' else None
    for name, model in models.items():
        functions[f'{name}, eager'] = partial(call, model, arguments)
        functions[f'{name}, compiled'] = partial(
            call, torch.compile(deepcopy(model), mode=mode), arguments
        )
        if has_bf16(device):
            functions[f'{name}, bf16'] = partial(
                torch.autocast(device, torch.bfloat16)(call),
                deepcopy(model),
                arguments,
            )
    last = deepcopy(models['dense']).to(memory_format=torch.channels_last)
    functions['dense, channels_last'] = partial(call, last, arguments)
    return by_turns(functions, rounds, warmup=3)


def training(scale: Scale, rounds: int, device: str) -> dict:
    """A training step with more and more of PPCD, and the hook alone."""
    masked = generator_cfg(
        scale, 'PPResSAGANGenerator', residual_masks='shared'
    )
    under_teacher = dict(
        teacher=dict(
            type='GeneratorTeacher',
            generator=generator_cfg(scale, 'BigGANGenerator'),
        )
    )
    plain = dict(generator=generator_cfg(scale, 'SAGANGenerator'))
    pruned = dict(generator=masked, pruning_loss=dict(type='MaskL1Loss'))
    build = partial(Trainer, scale, device)
    steps = {
        'SAGAN': build(**plain),
        'SAGAN + masks + hook': build(**pruned),
        'SAGAN + teacher': build(**plain, **under_teacher),
        'PPCD-GAN': build(**pruned, **under_teacher),
    }
    hooks = [
        step_hook(steps[name].model)
        for name in ('SAGAN + masks + hook', 'PPCD-GAN')
    ]
    functions = dict(steps)
    for hook, name in zip(hooks, ('SAGAN + masks + hook', 'PPCD-GAN')):
        functions[name] = partial(_both, steps[name], hook)
    functions['hook alone'] = hooks[1]
    return by_turns(functions, 2 * rounds)


def _both(step, hook) -> None:
    step()
    hook()


def switches(scale: Scale, rounds: int, device: str) -> dict:
    """What makes a training step faster, with PPCD and without."""
    masked = generator_cfg(
        scale, 'PPResSAGANGenerator', residual_masks='shared'
    )
    build = partial(Trainer, scale, device)
    ppcd = partial(build, masked, pruning_loss=dict(type='MaskL1Loss'))
    precisions = [None, *(['bf16'] if has_bf16(device) else [])]
    steps = {
        'SAGAN': build(generator_cfg(scale, 'SAGANGenerator')),
        'SAGAN, channels_last': channels_last(
            build(generator_cfg(scale, 'SAGANGenerator'))
        ),
    }
    for precision in precisions:
        teacher = dict(
            type='GeneratorTeacher',
            generator=generator_cfg(scale, 'BigGANGenerator'),
            precision=precision,
        )
        name = 'PPCD-GAN' + (f', teacher in {precision}' if precision else '')
        steps[name] = ppcd(teacher=teacher)
        steps[f'{name}, channels_last'] = channels_last(ppcd(teacher=teacher))
        small = ppcd(teacher=teacher)
        shrink(small, 0.8)
        steps[f'{name}, channels_last, shrunk to 0.8'] = channels_last(small)
    return by_turns(steps, 2 * rounds)


def channels_last(step: Trainer) -> Trainer:
    hook = HOOKS.build(dict(type='ChannelsLastHook'))
    hook.before_train_iter(SimpleNamespace(model=step.model), 0)
    return step


def shrink(step: Trainer, alpha: float) -> None:
    step()  # the optimizer gets its state
    generator = step.model.generator
    prune(generator, alpha)
    shrink_channels(
        generator,
        example_inputs(generator),
        step.optim_wrapper['generator'].optimizer,
    )


def step_hook(model):
    """The binarization hook as a runner calls it after an iteration."""
    hook = HOOKS.build(
        dict(
            type='MaskBinarizationHook',
            alpha=ALPHA,
            end=1000000,
            schedule='cubic',
        )
    )
    runner = SimpleNamespace(
        model=model,
        iter=0,
        max_iters=1000000,
        visualizer=Mock(),
        message_hub=MessageHub.get_instance('benchmarks'),
    )
    hook.before_run(runner)
    hook.before_train(runner)
    return partial(hook.after_train_iter, runner, 0)


def shrinking(scale: Scale, rounds: int, device: str) -> dict:
    """A training step by sparsity, masked and with the channels removed."""
    masked = generator_cfg(
        scale, 'PPResSAGANGenerator', residual_masks='shared'
    )
    steps = {}
    for alpha in (0, 0.3, 0.6, 0.8):
        for name in ('masked', 'shrunk'):
            step = Trainer(
                scale, device, masked, pruning_loss=dict(type='MaskL1Loss')
            )
            if name == 'shrunk':
                shrink(step, alpha)
            else:
                prune(step.model.generator, alpha)
            steps[f'{name} {alpha}'] = step
    return by_turns(steps, rounds + 1)


def peers(scale: Scale, rounds: int, device: str) -> dict:
    """Other libraries against the export, on the same masks, and the dense
    student beside them, under several runtimes."""
    plain = without_spectral_norm(masked_student(scale, ALPHA))
    arguments = [value.to(device) for value in inputs(plain, 16)]
    models = {'dense': dense(scale), ALIKE: computed_alike(scale)}
    rows = {name: {} for name in models}
    ours = partial(export, scale)
    multiples = without_spectral_norm(masked_student(scale, ALPHA, 16))
    attempts = {OURS: (ours, plain), MULTIPLES: (ours, multiples)}
    attempts.update({name: (peer, plain) for name, peer in PEERS.items()})
    for name, (peer, student) in attempts.items():
        model, difference = attempt(peer, student)
        if difference is None:
            rows[name] = dict(error=model)
        else:
            rows[name] = dict(difference=difference)
            models[name] = model
    functions = {}
    for name, model in models.items():
        rows[name].update(complexity(model, example_inputs(model, batch=1)))
        by_us = name in (OURS, MULTIPLES, ALIKE)
        write = save_onnx if by_us else torch_onnx
        runs = under_runtimes(model, arguments, device, write)
        for runtime, run in runs.items():
            functions[name, runtime] = run
    for (name, runtime), seconds in by_turns(functions, 2 * rounds).items():
        rows[name].setdefault('latency', {})[runtime] = seconds
    return rows


def under_runtimes(model, arguments, device: str, write) -> dict:
    """An inference by everything that runs the same generator."""
    session = {}
    if device == 'cpu':  # which it runs on here
        session['ONNX Runtime'] = onnx(model, arguments, write)
    model = model.to(device)
    return dict(
        eager=partial(call, model, arguments),
        compiled=partial(call, torch.compile(model), arguments),
        **session,
    )


def torch_onnx(generators: dict, folder: str, images: dict) -> None:
    """As torch itself writes it."""
    program = torch.onnx.export(
        program_of(generators['generator']), dynamo=True
    )
    program.save(osp.join(folder, 'generator.onnx'), external_data=False)


def onnx(model, arguments, write):
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        write(dict(generator=model), folder, {})
        session = OnnxGenerator(osp.join(folder, 'generator.onnx'))
    return partial(session, *arguments)


PARTS = dict(
    inference=inference,
    training=training,
    switches=switches,
    shrinking=shrinking,
    peers=peers,
)
AT_FULL_SIZE = ('inference', 'peers')


def scale_of(part: str, device: str, quick: bool) -> Scale:
    """Sizes of the paper, but for what trains where there is no GPU."""
    if quick:
        return SMALL
    return FULL if part in AT_FULL_SIZE or device == 'cuda' else MODERATE


def main() -> None:
    args = parse_args()
    warnings.simplefilter('ignore')
    logging.disable(logging.ERROR)
    torch.manual_seed(0)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    results = dict(
        device=device_name(), torch=torch.__version__, quick=args.quick
    )
    for name in args.parts:
        print(f'{name} ...', flush=True)
        scale = scale_of(name, device, args.quick)
        with DefaultScope.overwrite_default_scope('ppcd_mmagic'):
            results[name] = dict(
                PARTS[name](scale, args.rounds, device), scale=scale._asdict()
            )
        print(json.dumps(results[name], indent=1), flush=True)
        # what is measured stays if the rest is interrupted
        print(f'written: {write_report(results, args.out)}', flush=True)


if __name__ == '__main__':
    main()
