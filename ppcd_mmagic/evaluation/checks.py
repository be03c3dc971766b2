from torch import Tensor

from ppcd_mmagic.errors import PPCDError


def check_number(fake_nums: int, least: int) -> None:
    """Refuse numbers of generated images that no figure can be made of.

    Raises:
        PPCDError: If there are fewer than ``least``.
    """
    if fake_nums < least:
        raise PPCDError(
            f'fake_nums={fake_nums} must be at least {least}: so '
            'many images are generated and judged.'
        )


def check_images(images: Tensor, low: float, high: float, whose: str) -> None:
    """Refuse images that no judge can judge. A network makes features of
    anything, and the class of NaN is class 0.

    Args:
        images (Tensor): Shape (n, 3, h, w).
        low (float): Least value allowed.
        high (float): Largest value allowed.
        whose (str): Whose images they are, for the message: 'generated'.

    Raises:
        PPCDError: If there are none, or any value is not finite or out of
            range.
    """
    if not len(images):
        raise PPCDError(f'There are no {whose} images to judge.')
    broken = int((~images.isfinite()).flatten(1).any(1).sum())
    if broken:
        raise PPCDError(
            f'{broken} of {len(images)} {whose} images hold NaN or infinity: '
            'the model has diverged, take an earlier checkpoint.'
        )
    least, largest = float(images.min()), float(images.max())
    slack = 1e-3 * (high - low)  # rounding
    if least < low - slack or largest > high + slack:
        raise PPCDError(
            f'The {whose} images go from {least:.4g} to {largest:.4g}, but '
            f'must be in [{low:g}, {high:g}].'
        )
