"""The part of docs/tests.md that `make mutants` writes."""

import json
import re
from pathlib import Path
from typing import Dict, Optional

HERE = Path(__file__).resolve().parent
DOC = HERE.parents[1] / 'docs' / 'tests.md'
REASONS = HERE / 'reasons.json'
BEGIN, END = '<!-- written by make mutants -->', '<!-- until here -->'
HEADING = re.compile(r'^(\w+): (\d+) mutants, (\d+) run, (\d+) noticed$', re.M)


def write_table(
    module: str,
    mutants: int,
    noticed_by: Dict[str, Optional[str]],
    doc: Path = DOC,
    reasons: Path = REASONS,
) -> None:
    """Put a module's figures into the document; the other modules' stay.

    Args:
        module (str): Its name.
        mutants (int): How many it has; the figures are of those that were run.
        noticed_by (dict): The test that noticed it, or None, by mutant.
        doc (Path): A Markdown file with the two marks.
        reasons (Path): JSON: why a mutant may stay, by module and mutant.
    """
    before, rest = doc.read_text().split(BEGIN)
    block, after = rest.split(END)
    sections = {
        text.split(':')[0]: text.rstrip() + '\n'
        for text in block.split('\n### ')[1:]
    }
    sections[module] = _section(
        module,
        mutants,
        noticed_by,
        json.loads(reasons.read_text()).get(module, {}),
    )
    rows = [HEADING.match(sections[name]).groups() for name in sorted(sections)]
    doc.write_text(
        '\n'.join(
            [
                before + BEGIN,
                '',
                '| module | mutants | run | noticed | not noticed | |',
                '| --- | ---: | ---: | ---: | ---: | ---: |',
                *(
                    f'| {name} | {n} | {run} | {noticed} | {int(run) - int(noticed)} | '
                    f'{100 * int(noticed) / int(run):.1f} % |'
                    for name, n, run, noticed in rows
                ),
                '',
                *(f'### {sections[name]}' for name in sorted(sections)),
                END + after,
            ]
        )
    )


def _section(
    module: str,
    mutants: int,
    noticed_by: Dict[str, Optional[str]],
    reasons: Dict[str, str],
) -> str:
    stay = [key for key, by in noticed_by.items() if by is None]
    for key in (reasons.keys() & noticed_by.keys()) - set(stay):
        print(f'{module}: noticed, it needs no reason: {key}')
    lines = [
        f'{module}: {mutants} mutants, {len(noticed_by)} run, '
        f'{len(noticed_by) - len(stay)} noticed',
        '',
    ]
    for key in stay:
        path, change = key.split(': ', 1)
        lines += [
            f'- `{path}`: `` {change} ``',
            f'  {reasons.get(key, "**no reason given**")}',
        ]
    return '\n'.join(lines) + '\n'
