"""The commands `report` and `interpolate`, from files to files."""

import json
import time

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from conftest import ROOT
from mmagic.models.editors.biggan import BigGANGenerator
from mmengine.config import Config
from painting import painter_checkpoint, register_painter, share
from scipy import linalg
from sklearn.datasets import load_digits
from test_visualization import RGB, Reader
from tool_calls import call_tool, load_tool

from ppcd_mmagic import PPCDError
from ppcd_mmagic.datasets import DigitsDataset
from ppcd_mmagic.export import export_student, save_export
from ppcd_mmagic.models import DomainClassifier

TEACHER = (
    'configs/biggan/biggan_digits_16.py',
    'checkpoints/biggan_digits_16.pth',
)
PER_CLASS = 6


@pytest.fixture(scope='module')
def judge(tmp_path_factory):
    """A classifier that has seen the digits for a moment; its config and
    checkpoint, and itself."""
    folder = tmp_path_factory.mktemp('judge')
    torch.manual_seed(0)
    classifier = DomainClassifier(num_classes=10, base_channels=8)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=3e-3)
    images, labels = real_digits()
    for _ in range(40):
        batch = torch.randint(len(labels), (64,))
        logits = classifier.head(classifier.features(images[batch]))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels[batch]).backward()
        optimizer.step()
    torch.save(dict(state_dict=classifier.state_dict()), folder / 'judge.pth')
    (folder / 'judge.py').write_text(
        "model = dict(type='DomainClassifier', num_classes=10, "
        'base_channels=8)\n'
    )
    return (
        str(folder / 'judge.py'),
        str(folder / 'judge.pth'),
        classifier.eval(),
    )


def real_digits():
    digits = DigitsDataset()
    images = np.stack(
        [digits.get_data_info(i)['gt'] for i in range(len(digits))]
    )
    return (
        torch.tensor(images).permute(0, 3, 1, 2) / 127.5 - 1,
        torch.tensor(load_digits().target),
    )


@pytest.fixture(scope='module')
def student(trained_student, tmp_path_factory):
    """Folder of the export of the trained student."""
    from mmengine.registry import DefaultScope

    folder = tmp_path_factory.mktemp('export')
    with DefaultScope.overwrite_default_scope('ppcd_mmagic'):
        save_export(
            export_student(
                Config.fromfile(trained_student.config),
                trained_student.checkpoint,
            ),
            str(folder),
        )
    return folder


@pytest.fixture(scope='module')
def report(judge, student, tmp_path_factory):
    """What the report of a student, its export first, and the teacher says:
    figures, and the folder they are in."""
    out = tmp_path_factory.mktemp('report')
    scalars = out / 'run' / '20260101_000000' / 'vis_data'
    scalars.mkdir(parents=True)
    (scalars / 'scalars.json').write_text(
        '\n'.join(
            json.dumps(
                {
                    'step': step,
                    'loss_adv': 1.0 / step,
                    'sparsity/conv_blocks.0.conv_1': step / 10,
                }
            )
            for step in range(1, 5)
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        call_tool(
            patch,
            'report',
            '--model',
            'student',
            student / 'config.py',
            student / 'generator.pth',
            '--model',
            'teacher',
            *TEACHER,
            '--classifier',
            *judge[:2],
            '--images-per-class',
            PER_CLASS,
            '--columns',
            3,
            '--batch-size',
            2,
            '--seed',
            5,
            '--export',
            student,
            '--curves',
            out / 'run',
            '--out',
            out / 'report.html',
        )
    return json.loads((out / 'report.json').read_text()), out


def teacher_by_hand():
    """MMagic's own class with the weights of the checkpoint."""
    config = Config.fromfile(f'{ROOT}/configs/biggan/biggan_digits_16.py')
    settings = config.biggan_generator.to_dict()
    settings.pop('type')
    generator = BigGANGenerator(**settings)
    state = torch.load(f'{ROOT}/{TEACHER[1]}', weights_only=False)
    generator.load_state_dict(
        {
            key.removeprefix('generator_ema.module.'): value
            for key, value in state['state_dict'].items()
            if key.startswith('generator_ema.module.')
        }
    )
    return generator.eval()


@pytest.fixture(scope='module')
def teachers_images():
    labels = torch.arange(10).repeat_interleave(PER_CLASS)
    torch.manual_seed(5)
    noise = torch.stack([torch.randn(24) for _ in labels])
    with torch.no_grad():
        return teacher_by_hand()(noise, label=labels), labels


def test_report_has_a_line_for_every_model(report):
    figures, _ = report
    assert list(figures) == ['student', 'teacher']


def test_report_counts_parameters(report, student):
    figures, _ = report
    assert figures['teacher']['parameters'] == sum(
        p.numel() for p in teacher_by_hand().parameters()
    )
    state = torch.load(student / 'generator.pth')['state_dict']
    assert figures['student']['parameters'] == sum(
        value.numel()
        for key, value in state.items()
        if 'running' not in key and 'num_batches' not in key
    )


def test_report_counts_multiply_adds_of_one_image(report):
    figures, _ = report
    generator, count = teacher_by_hand(), 0

    def note(layer, args, out):
        nonlocal count
        count += out.numel() * layer.weight[0].numel()

    for layer in generator.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            layer.register_forward_hook(note)
    generator(torch.zeros(1, 24), label=torch.zeros(1, dtype=torch.long))
    assert figures['teacher']['multiply_adds'] == count


def test_report_judges_accuracy_and_score(report, judge, teachers_images):
    figures, _ = report
    images, labels = teachers_images
    with torch.no_grad():
        probabilities = judge[2].head(judge[2].features(images)).softmax(1)
    right = (probabilities.argmax(1) == labels).float().mean()
    assert figures['teacher']['accuracy'] == pytest.approx(float(right))
    assert 0.2 < right < 1, 'neither a blind judge nor one that cannot err'
    divergence = torch.distributions.kl_divergence(
        torch.distributions.Categorical(probabilities),
        torch.distributions.Categorical(probabilities.mean(0)),
    )
    assert figures['teacher']['score'] == pytest.approx(
        float(divergence.mean().exp()), rel=1e-4
    )


def test_report_compares_with_the_real_digits(report, judge, teachers_images):
    figures, _ = report
    real, real_labels = real_digits()
    fake, fake_labels = teachers_images
    with torch.no_grad():
        a, b = (judge[2].features(x).double().numpy() for x in (fake, real))
    root = linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    distance = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(
        np.cov(a.T) + np.cov(b.T) - 2 * root
    )
    assert figures['teacher']['frechet'] == pytest.approx(distance, rel=1e-3)

    def spread(images, labels, label):
        flat = images[labels == label].flatten(1).double()
        pairs = torch.cdist(flat, flat)
        return float(pairs.sum() / (len(flat) * (len(flat) - 1)))

    assert figures['teacher']['variety'] == pytest.approx(
        np.mean(
            [
                spread(fake, fake_labels, k) / spread(real, real_labels, k)
                for k in range(10)
            ]
        ),
        rel=1e-4,
    )


def test_report_has_the_kernel_distance_of_each_class(
    report, judge, teachers_images
):
    """The unbiased estimate of Binkowski et al., pair by pair."""
    figures, _ = report
    real, real_labels = real_digits()
    fake, fake_labels = teachers_images
    with torch.no_grad():
        a, b = (
            judge[2].features(x).double()
            for x in (fake[fake_labels == 7], real[real_labels == 7])
        )

    def mean(x, y, but=None):
        values = [
            float((p @ q / p.numel() + 1) ** 3)
            for i, p in enumerate(x)
            for j, q in enumerate(y)
            if but is None or i != j
        ]
        return np.mean(values)

    expected = mean(a, a, 'itself') + mean(b, b, 'itself') - 2 * mean(a, b)
    assert set(figures['teacher']['kid_of_classes']) == set('0123456789')
    assert figures['teacher']['kid_of_classes']['7'] == pytest.approx(
        expected, rel=1e-3
    )


def test_report_names_the_classes_drawn_worst(report):
    figures, out = report
    reader = Reader()
    reader.feed((out / 'report.html').read_text())
    rows = reader.cells[3:]
    assert rows[0] == ['class', 'student', 'teacher']
    shown = [float(row[2]) for row in rows[1:]]
    assert len(shown) == 10 and shown == sorted(shown, reverse=True)
    for name, student, teacher in rows[1:]:
        for text, model in ((student, 'student'), (teacher, 'teacher')):
            assert float(text) == pytest.approx(
                figures[model]['kid_of_classes'][name], abs=6e-4
            )


def test_report_shows_the_figures(report):
    figures, out = report
    reader = Reader()
    reader.feed((out / 'report.html').read_text())
    header, student, teacher = reader.cells[:3]
    assert header[0] == 'model' and student[0] == 'student'
    one, other = figures['student'], figures['teacher']
    ratio = one['parameters'] / other['parameters']
    assert student[1] == f'{one["parameters"]:,} (1.00x)'
    assert teacher[1] == f'{other["parameters"]:,} ({ratio:.2f}x)'
    assert teacher[4] == f'{100 * other["accuracy"]:.1f} %'
    assert teacher[6] == f'{other["frechet"]:.2f}'
    assert teacher[7] == f'{other["kid"]:.3f}'
    # pictures, losses, sparsity, leakage
    assert len(reader.images) == 4


def test_report_says_how_well_the_judge_knows_the_real_digits(report, judge):
    _, out = report
    images, labels = real_digits()
    with torch.no_grad():
        seen = judge[2].head(judge[2].features(images)).argmax(1)
    share_right = 100 * float((seen == labels).double().mean())
    text = (out / 'report.html').read_text()
    assert f'recognises {share_right:.1f} % of the real images' in text


def test_report_repeats_the_summary_of_the_export(report, student):
    _, out = report
    summary = json.loads((student / 'summary.json').read_text())
    text = (out / 'report.html').read_text()
    assert (
        f'Parameters {summary["before"]["parameters"]:,} before and '
        f'{summary["after"]["parameters"]:,} after'
    ) in text


class Sleeper(torch.nn.Module):
    noise_size, num_classes = 2, 3

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, noise, label):
        self.calls.append((len(noise), label.tolist()))
        time.sleep(0.03)
        return noise


def test_latency_is_in_milliseconds_of_a_batch():
    tool = load_tool('report')
    sleeper = Sleeper()
    found = tool.latencies([tool.Entry('s', None, sleeper)], 4)
    assert found['s'] >= 30
    assert {(count, tuple(labels)) for count, labels in sleeper.calls} == {
        (4, (0, 1, 2, 0))
    }


def test_report_refuses_names_given_twice(judge, repo, tmp_path, monkeypatch):
    with pytest.raises(PPCDError, match='names t, t must differ'):
        call_tool(
            monkeypatch,
            'report',
            '--model',
            't',
            *TEACHER,
            '--model',
            't',
            *TEACHER,
            '--classifier',
            *judge[:2],
            '--out',
            tmp_path / 'r.html',
        )
    assert not list(tmp_path.iterdir())


def painter_files(tmp_path, monkeypatch, **settings):
    """Config and checkpoint of a painter."""
    generator = register_painter(monkeypatch, **settings)
    (tmp_path / 'painter.py').write_text(
        f'_base_ = "{ROOT}/configs/_base_/datasets/digits_16.py"\n'
        f'model = dict(generator={generator!r})\n'
    )
    return (
        tmp_path / 'painter.py',
        painter_checkpoint(tmp_path / 'painter.pth', **settings),
    )


def test_report_refuses_generators_of_other_inputs(
    judge, repo, tmp_path, monkeypatch
):
    painter = painter_files(tmp_path, monkeypatch)
    with pytest.raises(PPCDError, match=r'same noise.*\(4, 3\), \(24, 10\)'):
        call_tool(
            monkeypatch,
            'report',
            '--model',
            't',
            *TEACHER,
            '--model',
            'p',
            *painter,
            '--classifier',
            *judge[:2],
            '--out',
            tmp_path / 'r.html',
        )


# ----------------------------------------------------------------- interpolate


def frames(path):
    return imageio.imread(path, index=None)[..., :3]


@pytest.fixture
def walked(tmp_path, monkeypatch):
    """What a painter of red, green and blue walks through."""
    config, checkpoint = painter_files(tmp_path, monkeypatch)
    call_tool(
        monkeypatch,
        'interpolate',
        config,
        checkpoint,
        '--classes',
        0,
        2,
        '--steps',
        5,
        '--frames',
        3,
        '--seed',
        7,
        '--out-dir',
        tmp_path,
    )
    return tmp_path


def tile(picture, row, column):
    """An image of a grid: 64 pixels, and 2 pixels between them."""
    return picture[
        66 * row + 2 : 66 * row + 66, 66 * column + 2 : 66 * column + 66
    ]


def test_walk_through_classes_goes_from_red_over_purple_to_blue(walked):
    picture = imageio.imread(walked / 'classes.png')
    assert picture.shape == (2 * 66 + 2, 5 * 66 + 2, 3)
    for row in range(2):  # there, and back to the first
        for column in range(5):
            t = column / 4 if row == 0 else 1 - column / 4
            middle = tile(picture, row, column)[32, 32]
            expected = np.array([255 * (1 - t), 0, 255 * t])
            assert abs(middle - expected).max() <= 1


def test_film_of_the_classes_goes_there_and_back(walked):
    film = frames(walked / 'classes.gif')
    # Pillow makes one frame of the two at the turn
    assert len(film) == 5
    for frame, t in zip(film, (0, 0.5, 1, 0.5, 0)):
        for column, part in enumerate((t, 1 - t)):  # a column for each walk
            middle = tile(frame, 0, column)[32, 32].astype(int)
            expected = np.array([255 * (1 - part), 0, 255 * part])
            assert abs(middle - expected).max() <= 2


def test_walk_through_noises_keeps_the_class(walked):
    picture = imageio.imread(walked / 'noises.png')
    for column in range(5):
        assert share(tile(picture, 0, column), RGB['red']) == 252 / 256
        assert share(tile(picture, 1, column), RGB['blue']) == 252 / 256
    for frame in frames(walked / 'noises.gif'):
        assert share(tile(frame, 0, 0), RGB['red']) == 252 / 256


def dots(image):
    """The gray dots at the bottom, 4 pixels wide, as noise."""
    return image[62, 2:16:4, 0] / 127.5 - 1


def test_noise_half_way_is_on_the_circle_between_the_ends(walked):
    torch.manual_seed(7)
    noise = torch.stack([torch.randn(4) for _ in range(4)]).numpy()
    noise = noise.reshape(2, 2, 4)
    picture = imageio.imread(walked / 'noises.png')
    for row, (start, end) in enumerate(noise):
        angle = np.arccos(
            start @ end / np.linalg.norm(start) / np.linalg.norm(end)
        )
        for column, t in enumerate((0, 0.25, 0.5, 0.75, 1)):
            expected = (
                np.sin((1 - t) * angle) * start + np.sin(t * angle) * end
            ) / np.sin(angle)
            np.testing.assert_allclose(
                4 * dots(tile(picture, row, column)), expected, atol=0.03
            )


def test_first_classes_are_walked_through_if_none_are_named(
    tmp_path, monkeypatch
):
    config, checkpoint = painter_files(tmp_path, monkeypatch)
    call_tool(
        monkeypatch,
        'interpolate',
        config,
        checkpoint,
        '--steps',
        2,
        '--frames',
        2,
        '--out-dir',
        tmp_path,
    )
    picture = imageio.imread(tmp_path / 'classes.png')
    for row, name in enumerate(('red', 'green', 'blue')):
        assert tuple(tile(picture, row, 0)[32, 32]) == RGB[name]
    assert picture.shape[:2] == (3 * 66 + 2, 2 * 66 + 2)


@pytest.mark.parametrize(
    'classes, said',
    [
        ((0, 3), 'must be within 0 and 2'),
        ((-1, 2), '"-1" is no whole number of at least 0'),
    ],
)
def test_classes_that_there_are_not_are_refused(
    classes, said, tmp_path, monkeypatch, capsys
):
    """By the generator, which knows how many it has, or by the parser."""
    config, checkpoint = painter_files(tmp_path, monkeypatch)
    with pytest.raises((PPCDError, SystemExit)) as refused:
        call_tool(
            monkeypatch,
            'interpolate',
            config,
            checkpoint,
            '--classes',
            *classes,
            '--out-dir',
            tmp_path / 'out',
        )
    assert said in str(refused.value) + capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_trained_students_walk_like_their_export(
    trained_student, student, tmp_path, monkeypatch
):
    """Pictures of the student with its masks, and of what was exported."""
    pictures = {}
    for name, files in (
        ('student', trained_student[:2]),
        ('export', (student / 'config.py', student / 'generator.pth')),
    ):
        call_tool(
            monkeypatch,
            'interpolate',
            *files,
            '--classes',
            1,
            8,
            '--steps',
            3,
            '--frames',
            2,
            '--out-dir',
            tmp_path / name,
        )
        pictures[name] = imageio.imread(tmp_path / name / 'classes.png').astype(
            int
        )
    assert abs(pictures['student'] - pictures['export']).max() <= 1
    ends = [tile(pictures['export'], 0, column) for column in (0, 2)]
    assert abs(ends[0] - ends[1]).mean() > 5


@pytest.mark.parametrize(
    'arguments, message',
    [
        (('--export', 'absent'), '--export: no summary.json can be read'),
        (('--curves', 'absent'), '--curves: there is no log of losses'),
    ],
)
def test_what_a_report_cannot_show_is_said_before_anything_is_judged(
    arguments, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PPCDError, match=message):
        call_tool(
            monkeypatch,
            'report',
            *('--model', 'one', 'never.py', 'read.pth'),
            *('--classifier', 'never.py', 'read.pth'),
            *arguments,
        )


def test_a_report_does_not_go_where_its_figures_go(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call_tool(
            monkeypatch,
            'report',
            *('--model', 'one', 'never.py', 'read.pth'),
            *('--classifier', 'never.py', 'read.pth'),
            *('--out', 'report.json'),
        )
    assert 'does not end in .html' in capsys.readouterr().err
