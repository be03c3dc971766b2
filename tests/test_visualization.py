"""Pictures people look at: what is drawn, where, and in which colour."""

import base64
import io
import json
import math
from html.parser import HTMLParser
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import BIGGAN, CLASSES, NOISE, STUDENTS, build_generator, prune
from mmagic.visualization import Visualizer
from mmengine.config import Config
from painting import (
    BLUE,
    COLOURS,
    GREEN,
    RED,
    Painter,
    pixels,
    register_painter,
    share,
    solid,
)
from PIL import Image

from ppcd_mmagic import PPCDError
from ppcd_mmagic.registry import HOOKS, MODELS
from ppcd_mmagic.visualization import (
    HtmlReport,
    class_grids,
    confusion_heatmaps,
    curves,
    interpolate_classes,
    interpolate_noises,
    picture_table,
    read_scalars,
    slerp,
    sparsity_panels,
)

RGB = dict(red=(255, 0, 0), green=(0, 255, 0), blue=(0, 0, 255))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close('all')


def shades(count, size=16):
    """Images (count, 3, size, size), each of a red of its own."""
    reds = torch.linspace(0, 1, count).view(-1, 1, 1)
    images = torch.full((count, 3, size, size), -1.0)
    images[:, 2] = 2 * reds - 1
    return images, reds.flatten()


def cell(axis, row, column, size=16):
    """The middle pixel of a picture in a grid, RGB in [0, 1]."""
    grid = np.asarray(axis.images[0].get_array())
    step = size + max(1, size // 16)
    return grid[row * step + step // 2, column * step + step // 2]


def test_class_grids_show_classes_in_rows():
    images, reds = shades(6)
    figure = class_grids(
        {'one': images, 'other': images.flip(0)},
        ['zero', 'one', 'two'],
        columns=2,
    )
    one, other = figure.axes
    assert (one.get_title(), other.get_title()) == ('one', 'other')
    assert [tick.get_text() for tick in one.get_yticklabels()] == [
        'zero',
        'one',
        'two',
    ]
    for row in range(3):
        for column in range(2):
            place = 2 * row + column
            np.testing.assert_allclose(
                cell(one, row, column), [reds[place], 0, 0], atol=1e-6
            )
            np.testing.assert_allclose(
                cell(other, row, column), [reds[5 - place], 0, 0], atol=1e-6
            )


def test_more_than_six_models_go_on_below():
    images = {str(index): shades(6)[0] for index in range(7)}
    axes = class_grids(images, ['zero', 'one', 'two'], 2).axes
    assert [axis.get_title() for axis in axes] == list('0123456')
    places = [axis.get_subplotspec() for axis in axes]
    assert [place.rowspan.start for place in places] == [0] * 4 + [1] * 3
    named = [bool(axis.get_yticklabels()[0].get_text()) for axis in axes]
    assert named == [True, False, False, False, True, False, False]


def test_names_of_classes_stand_beside_their_rows():
    figure = class_grids({'one': shades(6)[0]}, ['zero', 'one', 'two'], 2)
    (axis,) = figure.axes
    assert len(axis.images[0].get_array()) == 3 * 17 + 1
    for row, place in enumerate(axis.get_yticks()):
        assert 17 * row + 1 < place < 17 * row + 17


@pytest.mark.parametrize(
    'name, bgr', [('red', RED), ('green', GREEN), ('blue', BLUE)]
)
def test_grids_and_tables_keep_colours(name, bgr):
    images = torch.stack([solid(bgr)] * 4)
    for figure in (
        class_grids({'m': images}, ['a', 'b'], 2),
        picture_table({'row': {'column': images}}, 2),
    ):
        drawn = pixels(figure)
        for other, rgb in RGB.items():
            assert (share(drawn, rgb) > 0.3) == (other == name), other


def test_images_beyond_their_range_are_drawn_at_its_ends():
    image = solid(torch.tensor([-3.0, -3.0, 3.0]))[None]
    (axis,) = class_grids({'m': image}, ['a'], 1).axes
    assert cell(axis, 0, 0).tolist() == [1, 0, 0]


def test_picture_table_puts_every_cell_where_it_belongs():
    images, reds = shades(4)
    figure = picture_table(
        {
            'above': {'left': images[:1], 'right': images[1:2]},
            'below': {'left': images[2:3], 'right': images[3:]},
        },
        columns=1,
    )
    for axis, red in zip(figure.axes, reds):
        np.testing.assert_allclose(cell(axis, 0, 0), [red, 0, 0], atol=1e-6)
    above, right, below, _ = figure.axes
    assert [axis.get_title() for axis in (above, right)] == ['left', 'right']
    assert [axis.get_ylabel() for axis in (above, below)] == ['above', 'below']


def test_confusion_heatmaps_show_shares_of_the_class_asked_for():
    matrix = torch.tensor([[3, 1], [0, 0]])  # nothing asked of the second
    other = torch.tensor([[0, 5], [999, 1]])
    figure = confusion_heatmaps({'m': matrix, 'n': other}, ['a', 'b'])
    first, second = figure.axes[:2]
    np.testing.assert_allclose(
        first.images[0].get_array(), [[0.75, 0.25], [0, 0]]
    )
    np.testing.assert_allclose(
        second.images[0].get_array(), [[0, 1], [0.999, 0.001]]
    )
    written = [
        {text.get_position(): text.get_text() for text in axis.texts}
        for axis in (first, second)
    ]
    # at (column, row); what rounds to nothing is left out
    assert written == [
        {(0, 0): '75', (1, 0): '25'},
        {(1, 0): '100', (0, 1): '100'},
    ]
    assert (first.get_title(), second.get_title()) == ('m', 'n')
    assert first.get_xlabel() == 'recognised'
    assert first.get_ylabel() == 'asked for'


def test_scalars_of_resumed_runs_are_joined(tmp_path):
    records = {
        '20260101_000000': [
            dict(step=1, loss=5.0, lr=0.1),
            dict(step=2, loss=4.0),
            dict(step=3, loss=9.0),
        ],
        '20260102_000000': [
            dict(step=3, loss=3.0),
            dict(step=4, loss=2.0, note='text'),
            dict(fid=7.0),
        ],
    }
    for name, lines in records.items():
        folder = tmp_path / name / 'vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    series = read_scalars(str(tmp_path))
    assert series['loss'] == [(1, 5), (2, 4), (3, 3), (4, 2)]
    assert series['lr'] == [(1, 0.1)]
    assert 'note' not in series and 'fid' not in series


SERIES = dict(
    loss_a=[(1, 4.0), (5, 2.0)],
    sparsity=[(2, 0.25), (4, 0.5)],
    other=[(10, 0.0)],
)


def drawn_line(figure):
    (line,) = figure.axes[0].get_lines()
    return [tuple(point) for point in line.get_xydata()], line


def test_curves_are_the_points():
    figure = curves(SERIES, {'loss_a': 'a'}, 'loss (weighted)')
    points, line = drawn_line(figure)
    assert points == SERIES['loss_a'] and line.get_drawstyle() == 'default'
    assert line.get_label() == 'a'
    assert figure.axes[0].get_xlabel() == 'iteration'
    assert figure.axes[0].get_ylabel() == 'loss (weighted)'


def test_stepwise_curves_begin_at_zero_and_hold_to_the_end():
    points, line = drawn_line(
        curves(SERIES, {'sparsity': 's'}, 'fraction', stepwise=True)
    )
    assert points == [(0, 0), (2, 0.25), (4, 0.5), (10, 0.5)]
    assert line.get_drawstyle() == 'steps-post'


def test_panels_of_sparsity_are_the_masks_of_each_training():
    runs = dict(
        cubic={
            'sparsity/b': [(2, 0.5)],
            'sparsity/a': [(4, 0.25)],
            'x': [(8, 1.0)],
        },
        threshold={'loss_a': [(8, 1.0)]},  # it has pruned nothing
    )
    figure = sparsity_panels(runs)
    first, second = figure.axes
    assert [axis.get_title() for axis in figure.axes] == list(runs)
    drawn = {
        line.get_label(): list(zip(*line.get_data())) for line in first.lines
    }
    assert drawn == {
        'a': [(0, 0), (4, 0.25), (8, 0.25)],
        'b': [(0, 0), (2, 0.5), (8, 0.5)],
    }
    assert not second.lines
    labels = [text.get_text() for text in second.get_legend().get_texts()]
    assert labels == ['a', 'b']


class Reader(HTMLParser):
    """What a browser would show."""

    def __init__(self):
        super().__init__()
        self.cells, self.texts, self.images = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tag = tag
        if tag == 'tr':
            self.cells.append([])
        if tag == 'img':
            data = dict(attributes)['src'].split('base64,')[1]
            self.images.append(Image.open(io.BytesIO(base64.b64decode(data))))

    def handle_data(self, data):
        if self.tag in ('td', 'th'):
            self.cells[-1].append(data)
        elif self.tag != 'style':
            self.texts.append(data)


def test_html_report_shows_what_it_was_given(tmp_path):
    report = HtmlReport('a < b')
    report.heading('One & two')
    report.text('<script>alert(1)</script>')
    report.table(['model', 'x'], [['<b>', 1], ['c', 2.5]])
    report.figure(class_grids({'m': solid(RED)[None]}, ['a'], 1), 'A "caption"')
    report.save(str(tmp_path / 'r.html'))
    reader = Reader()
    reader.feed((tmp_path / 'r.html').read_text())
    assert reader.texts == [
        'a < b',
        'a < b',
        'One & two',
        '<script>alert(1)</script>',
        'A "caption"',
    ]
    assert reader.cells == [['model', 'x'], ['<b>', '1'], ['c', '2.5']]
    (image,) = reader.images
    assert share(image.convert('RGB'), RGB['red']) > 0.3


# ------------------------------------------------- MMagic's pictures in training


def test_pictures_written_during_training_keep_their_colours(
    tmp_path, monkeypatch, repo
):
    config = Config.fromfile('configs/biggan/biggan_digits_16.py')
    # the hook takes the newest
    Visualizer.get_instance(
        'colours',
        vis_backends=[dict(type='VisBackend')],
        save_dir=str(tmp_path),
    )
    model = MODELS.build(
        dict(
            type='SAGAN',
            noise_size=4,
            num_classes=1,
            data_preprocessor=dict(type='DataPreprocessor'),
            generator=register_painter(monkeypatch, num_classes=1, dots=False),
            discriminator=None,
        )
    )
    hook = HOOKS.build(
        dict(
            config.default_hooks.visualization,
            vis_kwargs_list=dict(
                config.default_hooks.visualization.vis_kwargs_list,
                sample_model='orig',
            ),
        )
    )
    hook.vis_sample(
        SimpleNamespace(
            model=model, train_dataloader=SimpleNamespace(batch_size=16)
        ),
        0,
        {},
    )
    (path,) = tmp_path.rglob('*.png')
    picture = np.asarray(Image.open(path).convert('RGB'))
    # 8 rows of 8 images of 16 pixels, two pixels of black around each
    assert picture.shape == (8 * 18 + 2, 8 * 18 + 2, 3)
    assert share(picture, RGB['red']) == pytest.approx(
        64 * 256 / (8 * 18 + 2) ** 2
    )
    assert share(picture, RGB['blue']) == 0


# --------------------------------------------------------------- interpolation


def test_slerp_walks_along_the_circle():
    a, b = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.0, 2.0, 0.0])
    t = torch.tensor([0, 1 / 3, 1 / 2, 1])
    degrees = [0, 30, 45, 90]
    expected = torch.tensor(
        [
            [2 * math.cos(math.radians(d)), 2 * math.sin(math.radians(d)), 0]
            for d in degrees
        ]
    )
    torch.testing.assert_close(slerp(a, b, t), expected, rtol=0, atol=1e-6)


def test_slerp_keeps_the_length_of_noises():
    torch.manual_seed(0)
    a, b = torch.randn(2, 50)
    b = b / b.norm() * a.norm()
    lengths = slerp(a, b, torch.linspace(0, 1, 9)).norm(dim=1)
    torch.testing.assert_close(lengths, a.norm().expand(9))
    middle = slerp(a, b, torch.tensor([0.5]))[0]
    torch.testing.assert_close(middle @ a, middle @ b, rtol=1e-4, atol=1e-4)


def test_slerp_between_parallel_noises_is_the_straight_line():
    a = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(
        slerp(a, 3 * a, torch.tensor([0, 0.5, 1])),
        torch.stack([a, 2 * a, 3 * a]),
    )


def test_between_red_and_blue_is_purple():
    images = interpolate_classes(Painter(dots=False), torch.zeros(4), 0, 2, 5)
    for image, t in zip(images, (0, 0.25, 0.5, 0.75, 1)):
        expected = (1 - t) * RED + t * BLUE
        torch.testing.assert_close(image, solid(expected))


@pytest.mark.parametrize('name', ['sagan_plain', 'sagan', 'biggan'])
def test_between_two_classes_every_embedding_is_between_theirs(name):
    """The row of a class in each table is replaced by a mixture."""
    generator = build_generator(STUDENTS[name])
    if name != 'biggan':
        prune(generator, 0.5)
    torch.manual_seed(3)
    noise = torch.randn(NOISE)
    images = interpolate_classes(generator, noise, 1, 4, 5)
    with torch.no_grad():
        for place, t in enumerate((0, 0.25, 0.5, 0.75, 1)):
            replaced = []
            for table in generator.modules():
                if isinstance(table, torch.nn.Embedding):
                    rows = table(torch.tensor([1, 4]))
                    row = (1 - t) * rows[0] + t * rows[1]
                    replaced.append(
                        table.register_forward_hook(
                            lambda module, args, out, row=row: row[None]
                        )
                    )
            expected = generator(noise[None], label=torch.tensor([0]))[0]
            for handle in replaced:
                handle.remove()
            torch.testing.assert_close(
                images[place], expected, rtol=0, atol=1e-5
            )
    assert (images[2] - images[0]).abs().max() > 1e-2


def test_between_two_classes_of_biggan_is_its_embedding_given_from_outside():
    generator = build_generator(BIGGAN)
    noise = torch.randn(NOISE)
    images = interpolate_classes(generator, noise, 0, 3, 3)
    with torch.no_grad():
        first, last = generator.shared_embedding(torch.tensor([0, 3]))
        expected = generator(
            noise[None],
            label=(first + last)[None] / 2,
            use_outside_embedding=True,
        )
    torch.testing.assert_close(images[1:2], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize('name', ['sagan', 'biggan'])
def test_walks_end_at_plain_images(name):
    generator = build_generator(STUDENTS[name])
    start, end = torch.randn(2, NOISE)
    classes = interpolate_classes(generator, start, 0, CLASSES - 1, 4)
    noises = interpolate_noises(generator, start, end, 2, 4)
    with torch.no_grad():
        for image, noise, label in (
            (classes[0], start, 0),
            (classes[3], start, CLASSES - 1),
            (noises[0], start, 2),
            (noises[3], end, 2),
        ):
            expected = generator(noise[None], label=torch.tensor([label]))[0]
            torch.testing.assert_close(image, expected, rtol=0, atol=1e-5)


def test_between_two_noises_is_the_image_of_the_noise_between():
    generator = build_generator(STUDENTS['sagan'])
    start, end = torch.zeros(2, NOISE)
    start[0], end[1] = 2, 2  # orthogonal: half way lies their sum / sqrt(2)
    middle = interpolate_noises(generator, start, end, 3, 3)[1]
    with torch.no_grad():
        expected = generator(
            (start + end)[None] / math.sqrt(2), label=torch.tensor([3])
        )[0]
    torch.testing.assert_close(middle, expected, rtol=0, atol=1e-5)


def test_a_walk_leaves_the_generator_as_it_was():
    generator = build_generator(STUDENTS['sagan'])
    noise, labels = torch.randn(2, NOISE), torch.tensor([0, 1])
    with torch.no_grad():
        before = generator(noise, label=labels)
        interpolate_classes(generator, noise[0], 0, 1, 3)
        assert torch.equal(generator(noise, label=labels), before)


def test_a_generator_without_classes_is_refused():
    class Plain(torch.nn.Module):
        pass

    with pytest.raises(PPCDError, match='Plain has no class embeddings'):
        interpolate_classes(Plain(), torch.zeros(4), 0, 1, 3)


def test_painter_paints_what_the_tests_take_for_granted():
    images = Painter(dots=False)(torch.zeros(3, 4), label=torch.arange(3))
    assert torch.equal(images[:, :, 0, 0], COLOURS)
