"""xbarc's own passes, one a file: the pass `fold-batchnorm` is in `fold_batchnorm.py`.

The folder is the list; `xbarc.pipeline.registry` imports a pass when it is first asked for, and
refuses one that isn't called as its file.
"""
