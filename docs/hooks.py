"""What the site shows of files outside ``docs``: README is its first page,
and what pages link to with ``../`` comes along."""

import re
from pathlib import Path

from mkdocs.structure.files import File

PAGES = {'index.md': 'README.md', 'changelog.md': 'CHANGELOG.md'}
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
