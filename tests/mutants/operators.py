"""Small wrong changes of a source: mutmut's, and some that suit this package.

Left out is what changes no behaviour (docstrings, annotations, the text of
errors and logs) and what could only crash (``x = None``), so that the share of
noticed mutants means something.
"""

import ast
from dataclasses import dataclass
from itertools import islice
from os.path import commonprefix
from typing import Iterator, List

import libcst as cst
import libcst.matchers as m
from mutmut.mutation import mutators as mutmut

LOGGING = ('print', 'print_log', 'warn', 'info', 'warning', 'debug')
SAME_SHAPE = (
    'abs',
    'clone',
    'contiguous',
    'detach',
    'double',
    'eval',
    'exp',
    'float',
    'log',
    'round',
    'sqrt',
    'square',
    'train',
)
ORDERED_BY_TYPE = (
    'isinstance',
    'issubclass',
    'getattr',
    'hasattr',
    'setattr',
    'super',
    'len',
)
SYMMETRIC = ('max', 'maximum', 'min', 'minimum')


@dataclass(frozen=True)
class Mutant:
    """One wrong change: the lines ``was`` of ``path`` become ``becomes``."""

    path: str
    was: str
    becomes: str
    number: int  # among those of the same text in this file
    source: str  # the whole file, changed

    @property
    def key(self) -> str:
        again = f' #{self.number}' if self.number > 1 else ''
        return f'{self.path}: {self.was} -> {self.becomes}{again}'


def _string(node):
    # with a blank it is a text for people
    if isinstance(node, cst.SimpleString) and ' ' not in node.value:
        yield from islice(mutmut.operator_string(node), 1)


def _argument_left_out(node):
    if _name(node.func) in ORDERED_BY_TYPE or len(node.args) == 1:
        return
    for i, argument in enumerate(node.args):
        name = argument.keyword and argument.keyword.value
        # without an earlier one the others slip, and it crashes; and a
        # machine with one device cannot tell
        if (name or i == len(node.args) - 1) and name != 'device':
            yield node.with_changes(args=[*node.args[:i], *node.args[i + 1 :]])


def _arguments_swapped(node):
    if _name(node.func) in (*ORDERED_BY_TYPE, *SYMMETRIC):
        return
    for i, (a, b) in enumerate(zip(node.args, node.args[1:])):
        if not (a.keyword or b.keyword or a.star or b.star):
            swapped = [
                a.with_changes(value=b.value),
                b.with_changes(value=a.value),
            ]
            yield node.with_changes(
                args=[*node.args[:i], *swapped, *node.args[i + 2 :]]
            )


def _method_left_out(node):
    """``x.detach()`` becomes ``x``."""
    if m.matches(node.func, m.Attribute()) and _name(node.func) in SAME_SHAPE:
        yield node.func.value


def _statement_left_out(node):
    if m.matches(
        node, m.SimpleStatementLine(body=[m.Expr(m.Call())])
    ) and not m.matches(
        node,
        m.SimpleStatementLine(
            body=[
                m.Expr(
                    m.Call(func=m.Attribute(value=m.Call(func=m.Name('super'))))
                )
            ]
        ),
    ):
        yield node.with_changes(body=[cst.Pass()])


def _condition_negated(node):
    if m.matches(node.test, m.Name() | m.Attribute() | m.Call()):
        yield node.with_changes(test=cst.UnaryOperation(cst.Not(), node.test))


def _context_left_out(node):
    """``with torch.no_grad():`` becomes ``if True:``."""
    if all(item.asname is None for item in node.items):
        yield cst.If(
            test=cst.Name('True'),
            body=node.body,
            leading_lines=node.leading_lines,
        )


OPERATORS = [
    (cst.BaseNumber, mutmut.operator_number),
    (cst.BaseString, _string),
    (cst.Name, mutmut.operator_name),
    (cst.AugAssign, mutmut.operator_augmented_assignment),
    (cst.UnaryOperation, mutmut.operator_remove_unary_ops),
    (cst.Call, mutmut.operator_symmetric_string_methods_swap),
    (cst.Call, mutmut.operator_unsymmetrical_string_methods_swap),
    (cst.Lambda, mutmut.operator_lambda),
    (cst.CSTNode, mutmut.operator_keywords),
    (cst.CSTNode, mutmut.operator_swap_op),
    (cst.Match, mutmut.operator_match),
    (cst.IfExp, mutmut.operator_if_exp),
    (cst.Call, _argument_left_out),
    (cst.Call, _arguments_swapped),
    (cst.Call, _method_left_out),
    (cst.SimpleStatementLine, _statement_left_out),
    (cst.If, _condition_negated),
    (cst.With, _context_left_out),
]

NO_BEHAVIOUR = (
    m.Annotation()
    | m.Decorator()
    | m.Raise()
    | m.Import()
    | m.ImportFrom()
    | m.Expr(m.SimpleString() | m.ConcatenatedString())
    | m.Assign(targets=[m.AssignTarget(m.Name('__all__'))])
)


def _name(function) -> str:
    """The last part of what is called."""
    if isinstance(function, cst.Attribute):
        return function.attr.value
    return getattr(function, 'value', '')


def _is_text(node) -> bool:
    """An f-string for people, or a call that only tells them something."""
    if isinstance(node, cst.FormattedString):
        return any(
            isinstance(part, cst.FormattedStringText) and ' ' in part.value
            for part in node.parts
        )
    return (
        m.matches(node, m.SimpleStatementLine(body=[m.Expr(m.Call())]))
        and _name(node.body[0].value.func) in LOGGING
    )


class _Changes(cst.CSTVisitor):
    def __init__(self):
        super().__init__()
        self.found = []

    def on_visit(self, node):
        if m.matches(node, NO_BEHAVIOUR) or _is_text(node):
            return False
        for kind, operator in OPERATORS:
            if isinstance(node, kind):
                self.found.extend((node, other) for other in operator(node))
        return True


def _changed_lines(old: List[str], new: List[str]):
    start = len(commonprefix([old, new]))
    end = len(commonprefix([old[start:][::-1], new[start:][::-1]]))
    return [
        ' '.join(line.strip() for line in lines[start : len(lines) - end])
        for lines in (old, new)
    ]


def mutants(path: str, source: str) -> Iterator[Mutant]:
    """All mutants of a file, each of which is valid Python and differs from
    the source and from the other mutants."""
    module = cst.MetadataWrapper(cst.parse_module(source)).module
    # a file is long: only the statement that a change is in is written anew
    written = [module.code_for_node(statement) for statement in module.body]
    end, texts = source.index(''.join(written)), {}
    for statement, was in zip(module.body, written):
        ahead, end = source[:end], end + len(was)
        for code in _changed(module, statement, was):
            lines = tuple(_changed_lines(was.split('\n'), code.split('\n')))
            texts[lines] = number = texts.get(lines, 0) + 1
            yield Mutant(path, *lines, number, ahead + code + source[end:])


def _changed(
    module: cst.Module, statement: cst.CSTNode, was: str
) -> Iterator[str]:
    """The text of a statement of a module after each change."""
    changes = _Changes()
    statement.visit(changes)
    seen = {ast.dump(ast.parse(was))}
    for node, other in changes.found:
        changed = (
            other if node is statement else statement.deep_replace(node, other)
        )
        code = module.code_for_node(changed)
        try:
            tree = ast.dump(ast.parse(code))
        except SyntaxError:
            continue
        if tree not in seen:
            seen.add(tree)
            yield code
