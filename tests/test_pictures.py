"""Pictures that are broken, misplaced or of other kinds."""

import json

import cv2
import numpy as np
import pytest
from conftest import ROOT
from mmengine.config import Config
from PIL import Image

from ppcd_mmagic import PPCDError
from ppcd_mmagic.datasets import (
    ENDINGS,
    PictureFolder,
    fault_of,
    faults_in,
    fingerprint,
    pictures_in,
)
from ppcd_mmagic.engine import find_problems

PIPELINE = [
    dict(type='LoadImageFromFile', key='gt'),
    dict(type='Resize', keys='gt', scale=(16, 16), backend='pillow'),
    dict(type='PackInputs', keys='gt'),
]


def paint(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.random.RandomState(seed).randint(0, 255, (40, 50, 3))
    assert cv2.imwrite(str(path), picture.astype(np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Two classes of four pictures of different kinds."""
    for label in 'ab':
        for index, ending in enumerate(('png', 'jpg', 'webp', 'tiff')):
            paint(tmp_path / 'all' / label / f'{index}.{ending}', index)
    return tmp_path / 'all'


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def page(path):
    path.write_text('<html>not found</html>')


def empty(path):
    path.write_bytes(b'')


SPOILT = [(cut, 'truncated'), (page, 'no picture'), (empty, 'empty')]


@pytest.mark.parametrize('ending', [e for e in ENDINGS if e != '.pgm'])
def test_whole_pictures_of_every_kind_are_read(tmp_path, ending):
    paint(tmp_path / f'x{ending}')
    assert fault_of(str(tmp_path / f'x{ending}')) is None


@pytest.mark.parametrize('name', ['0.png', '1.jpg'])
@pytest.mark.parametrize('spoil, fault', SPOILT)
def test_faults_are_told_from_head_and_end(folder, name, spoil, fault):
    spoil(folder / 'a' / name)
    assert fault_of(str(folder / 'a' / name)) == fault


def test_check_and_data_set_take_the_same_files(folder):
    data = PictureFolder(data_root=str(folder), pipeline=PIPELINE)
    assert len(data) == len(pictures_in(str(folder))) == 8
    assert [
        data[i]['data_samples'].gt_label.label.item() for i in range(8)
    ] == [0] * 4 + [1] * 4


@pytest.mark.parametrize('spoil, fault', SPOILT)
def test_a_broken_picture_is_replaced_by_one_of_its_class(
    folder, spoil, fault, monkeypatch
):
    data = PictureFolder(
        data_root=str(folder), pipeline=PIPELINE, tolerated=0.5
    )
    expected = data[1]['data_samples'].gt_img
    said = []
    monkeypatch.setattr(
        'ppcd_mmagic.datasets.picture_folder.print_log',
        lambda line, *args: said.append(line),
    )
    spoil(folder / 'a' / '0.png')
    data = PictureFolder(
        data_root=str(folder), pipeline=PIPELINE, tolerated=0.5
    )
    for _ in range(2):
        sample = data[0]['data_samples']
        assert sample.gt_label.label.item() == 0
        assert (sample.gt_img == expected).all()
    assert len(said) == 1 and f'0.png cannot be read ({fault})' in said[0]


def test_the_last_of_the_data_is_replaced_as_well(folder):
    cut(folder / 'b' / '3.tiff')
    (folder / 'b' / '3.tiff').write_bytes(b'II*\0')
    data = PictureFolder(
        data_root=str(folder), pipeline=PIPELINE, tolerated=0.5
    )
    assert data[7]['data_samples'].gt_label.label.item() == 1


def test_too_many_broken_pictures_end_the_training(folder):
    empty(folder / 'a' / '0.png')
    data = PictureFolder(data_root=str(folder), pipeline=PIPELINE)
    with pytest.raises(PPCDError, match=r'1 of 8 .* 1 %.*0.png \(empty\)'):
        data[0]


def test_a_class_of_which_nothing_can_be_read(folder):
    for path in (folder / 'a').iterdir():
        empty(path)
    data = PictureFolder(data_root=str(folder), pipeline=PIPELINE, tolerated=1)
    with pytest.raises(PPCDError, match='No picture of class 0'):
        data[0]


def test_what_pillow_reads_and_opencv_does_not_is_named(folder):
    picture = Image.fromarray(np.full((9, 9), 70000, np.int32))
    picture.save(folder / 'a' / '0.tiff')
    data = PictureFolder(data_root=str(folder), pipeline=PIPELINE)
    (index,) = (
        i
        for i in range(len(data))
        if data.get_data_info(i)['gt_path'].endswith('a/0.tiff')
    )
    with pytest.raises(PPCDError, match='0.tiff .*OpenCV'):
        data[index]


def test_a_link_to_nothing_is_named(folder):
    (folder / 'a' / '0.png').unlink()
    (folder / 'a' / '0.png').symlink_to('nowhere.png')
    faults = faults_in(str(folder), pictures_in(str(folder)))
    assert list(faults) == ['a/0.png']


def test_faults_of_the_pipeline_are_not_blamed_on_the_picture(folder):
    data = PictureFolder(
        data_root=str(folder), pipeline=[lambda results: results['none']]
    )
    with pytest.raises(KeyError):
        data[0]


def test_what_was_looked_at_is_not_looked_at_again(folder, monkeypatch):
    from ppcd_mmagic.datasets import pictures

    looked, original = [], pictures.fault_of
    monkeypatch.setattr(
        pictures,
        'fault_of',
        lambda path: (looked.append(path), original(path))[1],
    )
    empty(folder / 'a' / '0.png')
    for _ in range(2):
        files = pictures_in(str(folder))
        assert faults_in(str(folder), files) == {'a/0.png': 'empty'}
    assert len(looked) == 8
    paint(folder / 'a' / '0.png')  # mended: of another size
    assert faults_in(str(folder), pictures_in(str(folder))) == {}


def test_a_spoilt_record_is_made_anew(folder):
    files = pictures_in(str(folder))
    faults_in(str(folder), files)
    (record,) = folder.glob('.*.json')
    for text in ('', '[]', json.dumps(dict(fingerprint=3))):
        record.write_text(text)
        assert faults_in(str(folder), files) == {}


def test_the_fingerprint_is_of_names_and_sizes(folder):
    files = pictures_in(str(folder))
    before = fingerprint(str(folder), files)
    assert fingerprint(str(folder), files) == before
    assert fingerprint(str(folder), files[1:]) != before
    cut(folder / 'a' / '0.png')
    assert fingerprint(str(folder), files) != before


def problems(train, val=None, num_classes=2):
    dataset = dict(type='PictureFolder', data_root=str(train))
    return find_problems(
        Config(
            dict(
                model=dict(num_classes=num_classes),
                train_dataloader=dict(dataset=dataset),
                val_dataloader=dict(
                    dataset=dict(dataset, data_root=str(val or train))
                ),
            )
        )
    )


def test_good_data(folder):
    assert problems(folder) == []


def test_one_level_too_deep(folder):
    (problem,) = problems(folder.parent, num_classes=1)
    assert 'hold folders, no pictures' in problem
    assert str(folder.parent / 'all') in problem


def test_a_class_without_a_picture_is_named(folder):
    (folder / 'c').mkdir()
    (folder / 'c' / 'notes.txt').touch()
    (problem,) = problems(folder, num_classes=3)
    assert f'{folder} for c (pictures end in .jpg' in problem


def test_the_validation_s_folder_is_looked_at(folder):
    (problem,) = problems(folder, folder / 'none')
    assert problem.startswith('validation data not found')
    assert 'val_dataloader.dataset.data_root' in problem


def test_training_and_validation_with_different_classes(folder, tmp_path):
    for label in 'ac':
        paint(tmp_path / 'val' / label / '0.png')
    (problem,) = problems(folder, tmp_path / 'val')
    assert 'different classes (b, c are not in all of them)' in problem


def test_many_broken_pictures_are_a_problem_before_the_training(folder):
    empty(folder / 'a' / '0.png')
    (problem,) = problems(folder)
    assert '1 of 8 pictures cannot be read' in problem
    assert '0.png (empty)' in problem


def test_few_broken_pictures_are_named(folder, monkeypatch):
    said = []
    monkeypatch.setattr(
        'ppcd_mmagic.engine.preflight.print_log',
        lambda line, *args: said.append(line),
    )
    for index in range(120):
        paint(folder / 'a' / f'more{index}.png', index)
    empty(folder / 'a' / '0.png')
    assert problems(folder) == []
    assert len(said) == 1 and '0.png (empty) cannot be read' in said[0]


@pytest.mark.parametrize('path', ["it's", 'back\\slash', '{{$HOME}}', 'ü "x"'])
def test_a_path_from_the_environment_is_text(monkeypatch, path):
    monkeypatch.setenv('PICTURES', path)
    config = Config.fromfile(f'{ROOT}/configs/ppcd_gan/ppcd_folder.py')
    assert config.train_dataloader.dataset.data_root == path
    again = Config.fromstring(config.pretty_text, '.py')
    assert again.train_dataloader.dataset.data_root == path
