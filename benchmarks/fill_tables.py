"""Put the tables of docs/results into the pages that name them, between
`<!-- results/NAME.json -->` and `<!-- end -->`; `make tables` runs it."""

import re
from pathlib import Path

from tables import filled

from ppcd_mmagic.experiments import read_table

DOCS = Path(__file__).resolve().parent.parent / 'docs'


def with_results(page: str) -> str:
    """A page with its tables as they are in docs/results."""
    for name in re.findall(r'<!-- (results/[\w.-]+\.json) -->', page):
        text = read_table(str(DOCS / name)).markdown()
        page = filled(page, name, f'\n{text}\n')
    return page


if __name__ == '__main__':
    for path in DOCS.glob('*.md'):
        path.write_text(with_results(path.read_text()))
