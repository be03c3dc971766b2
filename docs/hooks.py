"""What the site shows of files outside ``docs``: README is its first page,
and what pages link to with ``../`` comes along."""

import ast
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

PAGES = {'index.md': 'README.md', 'changelog.md': 'CHANGELOG.md'}
PART = re.compile(r'^::: ([\w.]+)(?:\s+options: .*members: \[(.+)\])?', re.M)
OUTSIDE = re.compile(r'\]\(\.\./([^)#]+)')


def on_files(files, config):
    """Add them to what mkdocs has found."""
    root = Path(config.config_file_path).parent
    for name, source in PAGES.items():
        text = (root / source).read_text().replace('](docs/', '](')
        files.append(File.generated(config, name, content=text))
    linked = {
        link
        for page in Path(config.docs_dir).glob('*.md')
        for link in OUTSIDE.findall(page.read_text())
    }
    for link in sorted(linked):
        files.append(
            File.generated(config, link, abs_src_path=str(root / link))
        )
    return files


def on_page_markdown(markdown, **kwargs):
    """Links to them, from where they are now."""
    return OUTSIDE.sub(r'](\1', markdown)


def on_page_content(html, page, config, **kwargs):
    """What the API's page lists is on it: mkdocstrings leaves out names that
    it does not find, and those that a module hides, without a word."""
    parts = PART.findall(page.markdown) if page.url == 'api/' else []
    missing = [
        f'{module}.{name}'
        for module, members in parts
        for name in (members.split(', ') if members else public(module, config))
        if f'id="{module}.{name}"' not in html
    ]
    if missing:
        raise PluginError(f'docs/api.md lacks {", ".join(missing)}')


def public(module, config):
    """The names in ``__all__`` of a module of the package."""
    path = Path(config.config_file_path).parent / module.replace('.', '/')
    file = path / '__init__.py' if path.is_dir() else path.with_suffix('.py')
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == '__all__':
            return ast.literal_eval(node.value)
    return []
