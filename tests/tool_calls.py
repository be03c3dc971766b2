"""Tools called in the process of the tests: the parts that a test registers
are theirs as well, and MMagic is imported once."""

import importlib.util
import os.path as osp
import sys

from conftest import ROOT

TOOLS = osp.join(ROOT, 'tools')


def load_tool(name: str):
    """``tools/NAME.py`` as a module."""
    if TOOLS not in sys.path:
        sys.path.insert(0, TOOLS)  # what they share
    spec = importlib.util.spec_from_file_location(
        f'tool_{name}', osp.join(TOOLS, f'{name}.py')
    )
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def call_tool(monkeypatch, name: str, *arguments) -> None:
    """What ``python tools/NAME.py ARGUMENTS`` does."""
    monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
    load_tool(name).main()
