import cv2
import numpy as np
import pytest
import torch
from mmagic.apis import MMagicInferencer

from ppcd_mmagic import PPCDError
from ppcd_mmagic.apis import PPCDInferencer
from ppcd_mmagic.sampling import ClassSampler

TEACHER = (
    'configs/biggan/biggan_digits_16.py',
    'checkpoints/biggan_digits_16.pth',
)


def distance_to_class(images, digit):
    """Of RGB images in [0, 1], to the mean picture that the teacher draws."""
    sampler = ClassSampler(*TEACHER)
    noise = torch.randn(64, sampler.noise_size)
    drawn = torch.cat(list(sampler.draw(torch.full((64,), digit), noise, 64)))
    return (images - drawn.float().mean(0) / 255).abs().mean((1, 2, 3))


def test_the_class_asked_for_is_drawn(repo):
    _, images = PPCDInferencer(*TEACHER, device='cpu').infer(label=[3, 7])
    assert images.shape == (8, 3, 16, 16)
    to_3, to_7 = (distance_to_class(images, digit) for digit in (3, 7))
    assert (to_3 < to_7).tolist() == [True] * 4 + [False] * 4


def test_results_are_those_of_mmagics_inferencer(repo, tmp_path):
    editor = PPCDInferencer(
        *TEACHER, device='cpu', extra_parameters=dict(num_batches=1)
    )
    assert isinstance(editor, MMagicInferencer)
    path = tmp_path / 'three.png'
    result, images = editor.infer(label='3', result_out_dir=str(path))
    assert result['gt_label'].tolist() == [3]
    torch.testing.assert_close(
        result['fake_img'].flip(0) / 255, images[0], rtol=0, atol=0
    )
    # save_image frames only grids of several pictures
    written = cv2.imread(str(path))[..., ::-1].transpose(2, 0, 1)
    np.testing.assert_allclose(written / 255, images[0], atol=1e-2)


def test_calls_differ_and_the_seed_repeats_them(repo):

    def draw(seed):
        editor = PPCDInferencer(*TEACHER, device='cpu', seed=seed)
        return [editor.infer(label=1)[1] for _ in range(2)]

    first, second = draw(5)
    assert not torch.equal(first, second)
    torch.testing.assert_close(draw(5)[1], second, rtol=0, atol=0)
    assert not torch.equal(draw(6)[0], first)


def test_parameters_belong_to_one_inferencer(repo):
    PPCDInferencer(*TEACHER, 'cpu', extra_parameters=dict(num_batches=2))
    _, images = PPCDInferencer(*TEACHER, 'cpu').infer(label=0)
    assert len(images) == 4


@pytest.mark.parametrize(
    'request_, message',
    [
        (dict(label=10), 'Class 10 is out of range'),
        (dict(label='ten'), 'No class is called "ten"'),
        (dict(label=[]), r'label=\[\] names no class'),
        (dict(), 'label=None names no class'),
        (dict(label=3.0), 'label=3.0 names no class'),
        (dict(label=3, result_out_dir='threes'), 'no name of a picture'),
    ],
)
def test_requests_that_name_nothing_are_refused(request_, message, repo):
    with pytest.raises(PPCDError, match=message):
        PPCDInferencer(*TEACHER, 'cpu').infer(**request_)


def test_unknown_parameters_and_configs_are_refused(repo):
    with pytest.raises(PPCDError, match='no config "absent.py"'):
        PPCDInferencer('absent.py', TEACHER[1])
    with pytest.raises(PPCDError, match=r"\['sample_model'\] are unknown"):
        PPCDInferencer(
            *TEACHER, 'cpu', extra_parameters=dict(sample_model='ema')
        )
    for number in (0, 'many', True):
        with pytest.raises(PPCDError, match='num_batches'):
            PPCDInferencer(
                *TEACHER, 'cpu', extra_parameters=dict(num_batches=number)
            )
    with pytest.raises(PPCDError, match='seed=4294967296'):
        PPCDInferencer(*TEACHER, 'cpu', seed=2**32)


def test_labels_may_be_tensors(repo):
    editor = PPCDInferencer(
        *TEACHER, 'cpu', extra_parameters=dict(num_batches=1)
    )
    result, _ = editor.infer(label=torch.tensor(3))
    assert result['gt_label'].tolist() == [3]
