"""What pyproject.toml cannot say: the wheel carries configs and tools in
``ppcd_mmagic/.mim``, where OpenMMLab's packages have theirs."""

import os
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py

CARRIED = ('configs', 'tools', 'model-index.yml')


class BuildWithMim(build_py):
    """Adds ``.mim``: copies in a wheel, links in an editable install."""

    def run(self):
        super().run()
        root = os.path.dirname(os.path.abspath(__file__))
        package = os.path.join(
            root if self.editable_mode else self.build_lib, 'ppcd_mmagic'
        )
        mim = os.path.join(package, '.mim')
        shutil.rmtree(mim, ignore_errors=True)
        os.makedirs(mim)
        for name in CARRIED:
            source, target = os.path.join(root, name), os.path.join(mim, name)
            if self.editable_mode:
                os.symlink(os.path.relpath(source, mim), target)
            elif os.path.isdir(source):
                shutil.copytree(
                    source, target, ignore=shutil.ignore_patterns('__pycache__')
                )
            else:
                shutil.copy(source, target)


setup(cmdclass={'build_py': BuildWithMim})
