"""The results as a table and a plot."""

import json
import os
import os.path as osp
import re

import matplotlib
from cases import ALIKE, MULTIPLES, OURS
from tables import table

from ppcd_mmagic.files import written_whole

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402


def write_report(results: dict, out_dir: str) -> str:
    """Write JSON, table and plot under the device's name; returns the path
    of the table. Parts of the same device and torch that were measured before
    are kept beside those measured now."""
    os.makedirs(out_dir, exist_ok=True)
    name = re.sub(r'\W+', '-', results['device']).strip('-').lower()
    base = osp.join(out_dir, name + ('-quick' if results['quick'] else ''))
    results = {**_kept(f'{base}.json', results), **results}
    with written_whole(f'{base}.json') as path, open(path, 'w') as file:
        json.dump(results, file, indent=1)
    sections = [f'# {results["device"]}, torch {results["torch"]}\n']
    sections += [
        write(results[part])
        for part, write in TABLES.items()
        if part in results
    ]
    with open(f'{base}.md', 'w') as file:
        file.write('\n'.join(sections))
    _plot(results, f'{base}.png')
    return f'{base}.md'


def _kept(path: str, results: dict) -> dict:
    if not osp.exists(path):
        return {}
    with open(path) as file:
        before = json.load(file)
    return before if before['torch'] == results['torch'] else {}


def _scale(part: dict) -> str:
    scale = part['scale']
    return (
        f'{scale["resolution"]} px, student of base {scale["student"]}, '
        f'teacher of base {scale["teacher"]}'
    )


def _training_scale(part: dict) -> str:
    return f'{_scale(part)}, batch {part["scale"]["batch"]}'


def _time(seconds: float) -> str:
    """Three digits, or all of more."""
    milliseconds = seconds * 1e3
    digits = '.0f' if milliseconds >= 100 else '.3g'
    return f'{milliseconds:{digits}} ms'


def _inference(part: dict) -> str:
    names, dense = list(part['complexity']), part['complexity']['dense']
    rows = []
    for name in names:
        size = part['complexity'][name]
        row = [
            name,
            f'{size["parameters"] / 1e6:.2f} M',
            f'{size["multiply_adds"] / dense["multiply_adds"]:.3f}',
        ]
        for batch, latency in part['latency'].items():
            row += [
                _time(latency[name]),
                f'{latency[name] / latency["dense"]:.3f}',
                f'{part["memory"][batch][name]:.0f} MiB',
            ]
        rows.append(row)
    head = ['model', 'parameters', 'multiply-adds / dense']
    for batch in part['latency']:
        head += [f'latency, batch {batch}', '/ dense', 'peak memory']
    limit, reached, alike = speedup_and_limit(part)
    return '\n'.join(
        [
            f'## Inference ({_scale(part)}, alpha {part["alpha"]}, shared masks)',
            '',
            table([head, *rows]),
            '',
            f'Batch {_largest_batch(part)}: the export is {reached:.2f} times as '
            f'fast as the dense student and has {limit:.2f} times fewer multiply-adds: '
            f'{reached / limit:.0%} of that. Of that the narrower layers '
            f'alone, beside a dense student that is computed alike: '
            f'{alike / limit:.0%}.',
            '',
            *(_ways(batch, ways) for batch, ways in part['ways'].items()),
        ]
    )


def _ways(batch: int, ways: dict) -> str:
    rows = [
        [name, _time(seconds), f'{seconds / ways["dense, eager"]:.3f}']
        for name, seconds in ways.items()
    ]
    head = [f'batch {batch}', 'latency', '/ dense, eager']
    return table([head, *rows]) + '\n'


def _largest_batch(part: dict):
    return max(part['latency'], key=int)  # a string where it comes from a file


def speedup_and_limit(part: dict) -> tuple:
    macs = part['complexity']
    latency = part['latency'][_largest_batch(part)]
    return (
        macs['dense']['multiply_adds'] / macs['exported']['multiply_adds'],
        latency['dense'] / latency['exported'],
        latency[ALIKE] / latency['exported'],
    )


def _training(part: dict) -> str:
    rows = [
        [name, _time(part[name]), f'{part[name] / part[base]:.3f}', base]
        for name, base in (
            ('SAGAN', 'SAGAN'),
            ('SAGAN + masks + hook', 'SAGAN'),
            ('SAGAN + teacher', 'SAGAN'),
            ('PPCD-GAN', 'SAGAN + teacher'),
            ('hook alone', 'PPCD-GAN'),
        )
    ]
    return '\n'.join(
        [
            f'## Training step ({_training_scale(part)})',
            '',
            table([['step', 'time', 'ratio', 'to'], *rows]),
            '',
        ]
    )


def _switches(part: dict) -> str:
    rows = [
        [
            name,
            _time(seconds),
            f'{seconds / part["SAGAN"]:.3f}',
            f'{seconds / part["SAGAN, channels_last"]:.3f}',
        ]
        for name, seconds in part.items()
        if name != 'scale'
    ]
    return '\n'.join(
        [
            f'## Training step under switches ({_training_scale(part)})',
            '',
            table(
                [['step', 'time', '/ SAGAN', '/ SAGAN, channels_last'], *rows]
            ),
            '',
        ]
    )


def _alphas(part: dict) -> list:
    return [float(name.split()[1]) for name in part if 'masked' in name]


def _shrinking(part: dict) -> str:
    rows = [
        [
            f'{alpha:g}',
            *(
                _time(part[f'{kind} {alpha:g}'])
                for kind in ('masked', 'shrunk')
            ),
            f'{part[f"shrunk {alpha:g}"] / part[f"masked {alpha:g}"]:.3f}',
        ]
        for alpha in _alphas(part)
    ]
    return '\n'.join(
        [
            f'## Training step by sparsity ({_training_scale(part)})',
            '',
            table(
                [['sparsity of every mask', 'masked', 'shrunk', 'ratio'], *rows]
            ),
            '',
        ]
    )


def _peers(part: dict) -> str:
    rows = []
    ours, dense = part[OURS], part['dense']
    runtimes = list(ours['latency'])
    for name, row in part.items():
        if name == 'scale':
            continue
        if 'error' in row:
            rows.append([name, row['error'], *[''] * (1 + 2 * len(runtimes))])
            continue
        cells = [
            name,
            f'{row["difference"]:.1e}' if 'difference' in row else '',
            f'{row["parameters"]:,}',
        ]
        for runtime in runtimes:
            seconds = row['latency'][runtime]
            cells += [
                _time(seconds),
                f'{seconds / ours["latency"][runtime]:.3f}',
            ]
        rows.append(cells)
    alike = part[ALIKE]
    gains = [
        _gain(name, part[name], dense, alike)
        for name in (OURS, MULTIPLES)
        if name in part  # not in files of before
    ]
    return '\n'.join(
        [
            f'## Peers, given the same masks ({_scale(part)})',
            '',
            table(
                [
                    [
                        'by',
                        'largest difference to the masked student',
                        'parameters',
                        *(
                            head
                            for runtime in runtimes
                            for head in (
                                f'{runtime}, batch 16',
                                '/ ppcd_mmagic',
                            )
                        ),
                    ],
                    *rows,
                ]
            ),
            '',
            *gains,
            '',
        ]
    )


def _gain(name: str, ours: dict, dense: dict, alike: dict) -> str:
    """What of its fewer multiply-adds is seen in the latency."""
    limit = dense['multiply_adds'] / ours['multiply_adds']
    reached = []
    for runtime, seconds in ours['latency'].items():
        factors = [by['latency'][runtime] / seconds for by in (dense, alike)]
        reached.append(
            f'{runtime} '
            + ' and '.join(f'{f:.2f} ({f / limit:.0%})' for f in factors)
        )
    return (
        f'{name} has {limit:.2f} times fewer multiply-adds than the dense '
        'student and is as many times as fast, as part of that, beside the '
        'dense student as it is, and computed alike: '
        + '; '.join(reached)
        + '.\n'
    )


TABLES = dict(
    inference=_inference,
    training=_training,
    switches=_switches,
    shrinking=_shrinking,
    peers=_peers,
)


def _plot(results: dict, path: str) -> None:
    parts = [part for part in ('inference', 'shrinking') if part in results]
    if not parts:
        if osp.exists(path):  # of another run, beside this one's table
            os.remove(path)
        return
    figure, axes = plt.subplots(
        1, len(parts), figsize=(4.5 * len(parts), 3.5), squeeze=False
    )
    left, right = axes[0, 0], axes[0, -1]
    if 'inference' in results:
        latency = results['inference']['latency']
        batches = [int(batch) for batch in latency]
        for name in results['inference']['complexity']:
            left.plot(
                batches,
                [row[name] * 1e3 for row in latency.values()],
                marker='o',
                label=name,
            )
        left.set(
            xlabel='batch', ylabel='latency, ms', xscale='log', yscale='log'
        )
        left.set_xticks(batches, batches)
        left.minorticks_off()
        left.legend(loc='upper left', fontsize=8)
    if 'shrinking' in results:
        part = results['shrinking']
        for kind in ('masked', 'shrunk'):
            right.plot(
                _alphas(part),
                [part[f'{kind} {a:g}'] * 1e3 for a in _alphas(part)],
                marker='o',
                label=kind,
            )
        right.set(
            xlabel='sparsity of every mask',
            ylabel='training step, ms',
            ylim=(0, None),
        )
        right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
