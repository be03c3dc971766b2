import numpy as np
import pytest
import torch
from mmagic.structures import DataSample

from ppcd_mmagic.registry import MODELS


def build_classifier(**changes):
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='DomainClassifier',
            num_classes=3,
            base_channels=4,
            feature_dim=6,
            data_preprocessor=dict(type='DataPreprocessor'),
            **changes,
        )
    )


def batch(labels, side=16):
    """Pictures whose brightness is that of their class."""
    samples, images = [], []
    for label in labels:
        image = (label * 80 + torch.randint(0, 40, (3, side, side))).byte()
        sample = DataSample(gt_img=image, sample_idx=len(samples))
        sample.set_gt_label(label)
        samples.append(sample)
        images.append(image)
    return dict(inputs=images, data_samples=samples)


def network_inputs(classifier, data):
    data = classifier.data_preprocessor(data)
    return data['inputs'], data['data_samples']


def numpy_logits(classifier, images):
    """The layers after the stages, in float64."""
    with torch.no_grad():
        maps = classifier.stages(images).double().numpy()
    n, c, h, w = maps.shape
    pooled = maps.reshape(n, c, 2, h // 2, 2, w // 2).mean((3, 5))
    state = {k: v.double().numpy() for k, v in classifier.state_dict().items()}
    hidden = np.maximum(
        pooled.reshape(n, -1) @ state['neck.2.weight'].T + state['neck.2.bias'],
        0,
    )
    return hidden, hidden @ state['head.weight'].T + state['head.bias']


def test_loss_is_the_cross_entropy_with_the_labels():
    classifier = build_classifier().eval()
    images, samples = network_inputs(
        classifier, batch([2, 0, 1, 2, 2], side=32)
    )
    _, logits = numpy_logits(classifier, images)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(chances[range(5), [2, 0, 1, 2, 2]]).mean()
    loss = classifier(images, samples, mode='loss')
    assert loss.keys() == {'loss'}
    assert float(loss['loss']) == pytest.approx(expected, rel=1e-5)


def test_features_are_what_the_classes_are_read_from():
    classifier = build_classifier().eval()
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    hidden, _ = numpy_logits(classifier, images)
    assert hidden.shape == (4, 6)
    np.testing.assert_allclose(
        classifier.features(images).detach().numpy(), hidden, atol=1e-6
    )


def test_images_pass_three_stages_that_halve_them():
    classifier = build_classifier()
    shapes = []
    for stage in classifier.stages:
        stage.register_forward_hook(
            lambda stage, args, out: shapes.append(tuple(out.shape[1:]))
        )
    classifier.features(torch.rand(2, 3, 32, 32))
    assert shapes == [(4, 16, 16), (8, 8, 8), (8, 4, 4)]


def test_default_widths():
    classifier = MODELS.build(dict(type='DomainClassifier', num_classes=7))
    convs = [
        tuple(p.shape)
        for n, p in classifier.stages.named_parameters()
        if p.ndim == 4
    ]
    assert convs == [(32, 3, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3)]
    assert classifier.head.weight.shape == (7, 64)


def test_it_learns_and_predicts_each_sample_s_own_class():
    classifier = build_classifier()
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-2)
    labels = [0, 1, 2] * 8
    for _ in range(30):
        images, samples = network_inputs(classifier, batch(labels))
        optimizer.zero_grad()
        classifier(images, samples, mode='loss')['loss'].backward()
        optimizer.step()
    classifier.eval()
    labels = [2, 2, 0, 1, 0]
    predicted = classifier(*network_inputs(classifier, batch(labels)))
    assert [int(sample.pred_label) for sample in predicted] == labels
    assert [int(sample.gt_label.label) for sample in predicted] == labels


def test_weights_have_the_names_that_are_stored(repo):
    """No bias where a norm follows; what is in checkpoints/ loads."""
    names = [
        n.partition('.')[2]
        for n, _ in build_classifier().stages.named_parameters()
    ]
    assert names == 3 * ['0.weight', '1.weight', '1.bias']


def test_what_is_no_sequence_is_every_sample_s(tmp_path):
    classifier = build_classifier().eval()
    images, samples = network_inputs(classifier, batch([0, 1]))
    samples.set_metainfo(dict(dataset='digits'))
    samples.set_field('digits', 'source')
    predicted = classifier(images, samples)
    assert [sample.source for sample in predicted] == ['digits', 'digits']
    assert {tuple(sample.pred_label.shape) for sample in predicted} == {()}


def test_depth_is_the_number_of_convolutions_of_each_stage():
    """Weights of one, the default, keep their names of before."""

    def shapes(depth):
        return {
            name: tuple(value.shape)
            for name, value in build_classifier(depth=depth)
            .stages.state_dict()
            .items()
            if value.dim() == 4
        }

    assert shapes(1) == {
        '0.0.weight': (4, 3, 3, 3),
        '1.0.weight': (8, 4, 3, 3),
        '2.0.weight': (8, 8, 3, 3),
    }
    assert list(shapes(2).values()) == [
        (4, 3, 3, 3),
        (4, 4, 3, 3),
        *[(8, 4, 3, 3), (8, 8, 3, 3)],
        *[(8, 8, 3, 3)] * 2,
    ]
    two = build_classifier(depth=2).eval()
    assert two.features(torch.zeros(2, 3, 16, 16)).shape == (2, 6)
