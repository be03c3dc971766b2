"""Tables in the pages of docs/, between two marks."""

import re
from typing import List, Sequence


def table(rows: List[Sequence]) -> str:
    """Markdown; the first row is the head."""
    head, *lines = rows
    return '\n'.join(
        '| ' + ' | '.join(map(str, row)) + ' |'
        for row in [head, ['---'] * len(head), *lines]
    )


def filled(page: str, name: str, text: str) -> str:
    """A page with ``text`` between every ``<!-- name -->`` and the next
    ``<!-- end -->``."""
    changed, count = re.subn(
        rf'(<!-- {name} -->\n).*?(\n?<!-- end -->)',
        lambda found: found[1] + text + '\n<!-- end -->',
        page,
        flags=re.S,
    )
    assert count, f'the page has no <!-- {name} --> with an <!-- end -->'
    return changed


def put_into_page(path: str, name: str, text: str) -> None:
    """See :func:`filled`."""
    with open(path) as file:
        changed = filled(file.read(), name, text)
    with open(path, 'w') as file:
        file.write(changed)
