import base64
import html
import io
from typing import List, Sequence

from matplotlib.figure import Figure

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto;
       padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 }
th, td { padding: .3em .8em; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child { text-align: left }
img { max-width: 100%; display: block; margin: .5em 0 }
figcaption, p.note { color: #555; font-size: 90% }
"""


class HtmlReport:
    """One self-contained HTML file, put together from top to bottom.

    Args:
        title (str): Title and first heading.
    """

    def __init__(self, title: str) -> None:
        self.title = html.escape(title)
        self._parts: List[str] = []

    def heading(self, text: str) -> None:
        self._parts.append(f'<h2>{html.escape(text)}</h2>')

    def text(self, text: str) -> None:
        self._parts.append(f'<p>{html.escape(text)}</p>')

    def table(self, header: Sequence[str], rows: Sequence[Sequence]) -> None:

        def line(cells: Sequence, tag: str) -> str:
            inner = ''.join(
                f'<{tag}>{html.escape(str(cell))}</{tag}>' for cell in cells
            )
            return f'<tr>{inner}</tr>'

        body = ''.join(line(row, 'td') for row in rows)
        self._parts.append(f'<table>{line(header, "th")}{body}</table>')

    def figure(self, figure: Figure, caption: str) -> None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format='png', dpi=130, bbox_inches='tight')
        data = base64.b64encode(buffer.getvalue()).decode()
        caption = html.escape(caption)
        self._parts.append(
            f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
            f'<figcaption>{caption}</figcaption></figure>'
        )

    def save(self, path: str) -> None:
        with open(path, 'w') as file:
            file.write(
                '<!doctype html><html lang="en"><meta charset="utf-8">'
                f'<title>{self.title}</title><style>{_STYLE}</style>'
                f'<h1>{self.title}</h1>{"".join(self._parts)}</html>'
            )
