"""Put the tables of docs/results into the pages that name them, between
`<!-- results/NAME.json -->` and `<!-- end -->`; `make tables` runs it."""

import re
from pathlib import Path

from ppcd_mmagic.experiments import read_table

DOCS = Path(__file__).resolve().parent
PLACE = re.compile(
    r'(<!-- (results/[\w.-]+\.json) -->\n).*?(<!-- end -->)', re.S
)


def filled(text: str) -> str:
    """A page with its tables as they are in docs/results."""
    return PLACE.sub(
        lambda place: (
            f'{place[1]}\n{read_table(str(DOCS / place[2])).markdown()}\n\n'
            f'{place[3]}'
        ),
        text,
    )


if __name__ == '__main__':
    for page in DOCS.glob('*.md'):
        page.write_text(filled(page.read_text()))
