"""xbarc's own passes, one a file.

`get_all_passes` maps a pass's name to a function that imports it, so the list costs nothing. A pass
lives in the file named after it (`fold-batchnorm` in `fold_batchnorm.py`); a test holds this table
and the folder to each other.
"""

from collections.abc import Callable

from xbarc.pipeline import PassClass


def get_all_passes() -> dict[str, Callable[[], PassClass]]:
    """The loader of every pass by name."""

    def canonicalize() -> PassClass:
        from xbarc.passes.canonicalize import Canonicalize

        return Canonicalize

    def deconv() -> PassClass:
        from xbarc.passes.deconv import Deconv

        return Deconv

    def depthwise() -> PassClass:
        from xbarc.passes.depthwise import Depthwise

        return Depthwise

    def depthwise_mapping() -> PassClass:
        from xbarc.passes.depthwise_mapping import DepthwiseMapping

        return DepthwiseMapping

    def drop_zeros() -> PassClass:
        from xbarc.passes.drop_zeros import DropZeros

        return DropZeros

    def fc_to_1x1() -> PassClass:
        from xbarc.passes.fc_to_1x1 import FcTo1x1

        return FcTo1x1

    def fold_batchnorm() -> PassClass:
        from xbarc.passes.fold_batchnorm import FoldBatchNorm

        return FoldBatchNorm

    def im2col() -> PassClass:
        from xbarc.passes.im2col import Im2col

        return Im2col

    def kernel_2d1d() -> PassClass:
        from xbarc.passes.kernel_2d1d import Kernel2d1d

        return Kernel2d1d

    def kernel_first() -> PassClass:
        from xbarc.passes.kernel_first import KernelFirst

        return KernelFirst

    def map_() -> PassClass:
        from xbarc.passes.map import Map

        return Map

    def place() -> PassClass:
        from xbarc.passes.place import Place

        return Place

    def pool_on_crossbar() -> PassClass:
        from xbarc.passes.pool_on_crossbar import PoolOnCrossbar

        return PoolOnCrossbar

    def prune() -> PassClass:
        from xbarc.passes.prune import Prune

        return Prune

    def replicate() -> PassClass:
        from xbarc.passes.replicate import Replicate

        return Replicate

    def schedule() -> PassClass:
        from xbarc.passes.schedule import Schedule

        return Schedule

    def share_crossbars() -> PassClass:
        from xbarc.passes.share_crossbars import ShareCrossbars

        return ShareCrossbars

    def squeeze_excitation() -> PassClass:
        from xbarc.passes.squeeze_excitation import SqueezeExcite

        return SqueezeExcite

    def sub_image() -> PassClass:
        from xbarc.passes.sub_image import SubImage

        return SubImage

    def window() -> PassClass:
        from xbarc.passes.window import Window

        return Window

    return {
        "canonicalize": canonicalize,
        "deconv": deconv,
        "depthwise": depthwise,
        "depthwise-mapping": depthwise_mapping,
        "drop-zeros": drop_zeros,
        "fc-to-1x1": fc_to_1x1,
        "fold-batchnorm": fold_batchnorm,
        "im2col": im2col,
        "kernel-2d1d": kernel_2d1d,
        "kernel-first": kernel_first,
        "map": map_,
        "place": place,
        "pool-on-crossbar": pool_on_crossbar,
        "prune": prune,
        "replicate": replicate,
        "schedule": schedule,
        "share-crossbars": share_crossbars,
        "squeeze-excitation": squeeze_excitation,
        "sub-image": sub_image,
        "window": window,
    }
