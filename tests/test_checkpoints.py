"""Weights are read whole, finite and without running anything, or refused."""

import hashlib
import json
import os
import pickle
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch
import torch.nn as nn
from conftest import ROOT
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version
from runs import tiny_runner

from ppcd_mmagic import PPCDError, checkpoints
from ppcd_mmagic.checkpoints import (
    build_trained_generator,
    load_weights,
    read_checkpoint,
)


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture(params=['torch itself', 'the unpickler for older versions'])
def reader(request, monkeypatch):
    if request.param == 'torch itself' and digit_version(
        torch.__version__
    ) < digit_version('2.6'):
        pytest.skip('this torch takes no names of what may be loaded')
    monkeypatch.setattr(
        checkpoints, '_TORCH_TAKES_NAMES', request.param == 'torch itself'
    )


def history():
    buffer = HistoryBuffer()
    for value in (1.0, 3.0):
        buffer.update(value)
    return buffer


@pytest.mark.parametrize('zipped', [True, False])
def test_reads_what_mmengine_writes(reader, tmp_path, zipped):
    path = tmp_path / 'c.pth'
    torch.save(
        dict(
            state_dict=dict(weight=torch.arange(3.0)),
            message_hub=dict(loss=history(), best=np.float64(2)),
            param_schedulers=[dict(milestones=Counter([3, 5]))],
        ),
        path,
        _use_new_zipfile_serialization=zipped,
    )
    found = read_checkpoint(str(path), 'given')
    assert found['state_dict']['weight'].tolist() == [0, 1, 2]
    assert found['message_hub']['loss'].mean() == 2
    assert found['param_schedulers'][0]['milestones'] == {3: 1, 5: 1}
    assert found['message_hub']['best'] == 2


def test_nothing_in_a_checkpoint_is_executed(reader, tmp_path):
    path, made = tmp_path / 'c.pth', tmp_path / 'made'
    torch.save(dict(state_dict={}, more=Evil(made)), path)
    with pytest.raises(PPCDError, match=r'mkdir.*trust.*weights_only=False'):
        read_checkpoint(str(path), 'teacher')
    path.write_bytes(pickle.dumps(Evil(made)))
    with pytest.raises(PPCDError, match='teacher checkpoint'):
        read_checkpoint(str(path), 'teacher')
    assert not made.exists()


def test_the_history_s_getattr_reaches_nothing_else(reader, tmp_path):

    class Reach:
        def __reduce__(self):
            return getattr, (HistoryBuffer, '__init__')

    torch.save(dict(state_dict={}, more=Reach()), tmp_path / 'c.pth')
    with pytest.raises(PPCDError, match='given checkpoint'):
        read_checkpoint(str(tmp_path / 'c.pth'), 'given')


def test_a_pickled_module_is_converted_by_the_command_in_the_message(tmp_path):
    module = nn.Linear(2, 2)
    torch.save(module, tmp_path / 'module.pth')
    with pytest.raises(PPCDError) as error:
        read_checkpoint(str(tmp_path / 'module.pth'), 'given')
    program = str(error.value).split('python -c "')[1].rstrip('"')
    program = program.replace("'weights.pth'", f"r'{tmp_path}/weights.pth'")
    exec(program, {})
    other = nn.Linear(2, 2)
    load_weights(other, str(tmp_path / 'weights.pth'), 'given')
    assert torch.equal(module.weight, other.weight)


@pytest.mark.parametrize(
    'content', [b'', b'<html>not found</html>', b'PK\x03\x04 and no more']
)
def test_broken_files(tmp_path, content):
    path = tmp_path / 'c.pth'
    path.write_bytes(content)
    with pytest.raises(PPCDError, match='cannot be read'):
        read_checkpoint(str(path), 'given')


@pytest.mark.parametrize('content', [[1], dict(a=1), dict(state_dict=[1])])
def test_files_without_weights(tmp_path, content):
    torch.save(content, tmp_path / 'c.pth')
    with pytest.raises(PPCDError, match='holds no weights'):
        read_checkpoint(str(tmp_path / 'c.pth'), 'given')


def test_a_file_of_an_export_is_the_one_its_summary_names(tmp_path):
    path = tmp_path / 'generator.pth'
    torch.save(dict(a=torch.ones(2)), path)
    written = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / 'summary.json').write_text(
        json.dumps(dict(sha256={path.name: written}))
    )
    assert list(read_checkpoint(str(path), 'given')) == ['a']
    torch.save(dict(a=torch.zeros(2)), path)
    with pytest.raises(PPCDError, match='not the file that was exported'):
        read_checkpoint(str(path), 'given')
    (tmp_path / 'summary.json').write_text('{}')  # an older version's
    assert list(read_checkpoint(str(path), 'given')) == ['a']


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(PPCDError, match='is a folder'):
        read_checkpoint(str(tmp_path), 'given')


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('place', ['state_dict', 'optimizer'])
def test_values_that_are_not_finite(tmp_path, value, place):
    content = dict(
        state_dict=dict(weight=torch.ones(2)),
        optimizer=dict(state={0: dict(exp_avg=torch.ones(2))}),
    )
    if place == 'optimizer':
        content['optimizer']['state'][0]['exp_avg'][1] = value
    else:
        content['state_dict']['weight'][1] = value
    torch.save(content, tmp_path / 'c.pth')
    name = 'weight' if place == 'state_dict' else r'optimizer.state.0.exp_avg'
    with pytest.raises(PPCDError, match=f'spoilt: {name} has'):
        read_checkpoint(str(tmp_path / 'c.pth'), 'given')


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('trained')
    tiny_runner(work_dir).train()
    return work_dir / 'iter_6.pth'


def write_changed(path, trained, change):
    checkpoint = read_checkpoint(str(trained), 'given')
    change(checkpoint)
    torch.save(checkpoint, path)
    return str(path)


KEY = 'generator.noise2feat.bias'


def lose(checkpoint):
    del checkpoint['state_dict'][KEY]


def add(checkpoint):
    checkpoint['state_dict']['unknown'] = torch.ones(1)


def reshape(checkpoint):
    checkpoint['state_dict'][KEY] = torch.ones(7, 7)


@pytest.mark.parametrize(
    'change, what',
    [
        (lose, '1 keys missing'),
        (add, r'1 keys unexpected \(unknown\)'),
        (reshape, r'1 keys of another shape.*\(7, 7\)'),
    ],
)
def test_a_runner_loads_all_weights_or_none(trained, tmp_path, change, what):
    path = write_changed(tmp_path / 'c.pth', trained, change)
    runner = tiny_runner(tmp_path / 'run', load_from=path)
    before = {k: v.clone() for k, v in runner.model.state_dict().items()}
    with pytest.raises(PPCDError, match=f'does not fit PPCDGAN: {what}'):
        runner.load_or_resume()
    for key, value in runner.model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_runner_loads_what_fits(trained, tmp_path):
    runner = tiny_runner(tmp_path, load_from=str(trained))
    runner.load_or_resume()
    state = read_checkpoint(str(trained), 'given')['state_dict']
    for key, value in runner.model.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_checkpoints_of_distributed_trainings_keep_a_level_more(
    trained, tmp_path
):

    def wrap(checkpoint):
        checkpoint['state_dict'] = {
            key.replace('generator.', 'generator.module.', 1).replace(
                'discriminator.', 'discriminator.module.', 1
            )
            if key.startswith(('generator.', 'discriminator.'))
            else key: value
            for key, value in checkpoint['state_dict'].items()
        }

    path = write_changed(tmp_path / 'c.pth', trained, wrap)
    runner = tiny_runner(tmp_path / 'run', load_from=path)
    runner.load_or_resume()
    state = read_checkpoint(str(trained), 'given')['state_dict']
    for key, value in runner.model.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_weights_of_another_model_are_refused_for_a_generator(trained):
    config = Config.fromfile(f'{ROOT}/configs/biggan/biggan_digits_16.py')
    with pytest.raises(PPCDError, match='does not fit BigGANGenerator'):
        build_trained_generator(config, str(trained), 'student')


def test_a_training_is_not_resumed_from_weights_alone(trained, tmp_path):

    def strip(checkpoint):
        del checkpoint['optimizer']

    path = write_changed(tmp_path / 'c.pth', trained, strip)
    runner = tiny_runner(tmp_path / 'run', load_from=path, resume=True)
    with pytest.raises(PPCDError, match='weights alone.*load_from=PATH'):
        runner.load_or_resume()


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder and its address; downloads go to a place of their own."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setattr(
        SimpleHTTPRequestHandler, 'log_message', lambda *args: None
    )
    folder = tmp_path / 'served'
    folder.mkdir()
    server = ThreadingHTTPServer(
        ('127.0.0.1', 0),
        partial(SimpleHTTPRequestHandler, directory=str(folder)),
    )
    Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


def test_a_checkpoint_in_the_net_is_downloaded_once(served, capfd):
    folder, address = served
    net = nn.Linear(2, 2)
    torch.save(net.state_dict(), folder / 'net.pth')
    for _ in range(2):
        other = nn.Linear(2, 2)
        load_weights(other, f'{address}/net.pth', 'teacher')
        assert torch.equal(other.weight, net.weight)
        (folder / 'net.pth').unlink(missing_ok=True)  # the copy serves now


def test_a_program_is_not_taken_for_weights(tmp_path):
    (tmp_path / 'generator.onnx').write_text('')
    with pytest.raises(PPCDError, match='a program, not weights'):
        read_checkpoint(str(tmp_path / 'generator.onnx'), 'given')


def test_a_checkpoint_that_cannot_be_downloaded_is_one_line(served):
    _, address = served
    with pytest.raises(PPCDError, match='net.pth cannot be downloaded .*404'):
        read_checkpoint(f'{address}/net.pth', 'teacher')
    with pytest.raises(PPCDError, match='cannot be downloaded'):
        read_checkpoint('http://127.0.0.1:9/net.pth', 'teacher')
    with pytest.raises(PPCDError, match='begin with http:// or https://'):
        read_checkpoint('s3://bucket/net.pth', 'teacher')


def test_a_checkpoint_is_named_by_a_string_or_a_path(tmp_path):
    torch.save(dict(weight=torch.ones(2)), tmp_path / 'c.pth')
    assert read_checkpoint(tmp_path / 'c.pth', 'teacher')['weight'].sum() == 2
    for wrong in (None, 3, ['c.pth']):
        with pytest.raises(PPCDError, match='teacher checkpoint is .*: name a'):
            read_checkpoint(wrong, 'teacher')
