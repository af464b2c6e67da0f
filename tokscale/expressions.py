"""Conditions such as ``patch >= 16 and dataset == 'imagenet'``: parsed, checked word by word, never given to ``eval``.

A name is a word or a dotted path (``tokenizer.patch``); one that Python could not spell stands in backticks
(`` `gFID_cfg1.5` ``). Everything works on one value (a config) and element by element on columns (a table) alike.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from tokscale.errors import ConfigError

ALLOWED = "names, numbers, 'strings', + - * / // % **, == != < <= > >=, in [..], and, or, not, parentheses"

_MAX_BITS = 4096  # of a whole-number power: nobody asks for more, and much longer ones take minutes
_INT64_BITS = 63


def _power(base: Any, exponent: Any) -> Any:
    """``base ** exponent``, exact for whole numbers; raises ``OverflowError`` before a number grows without bound."""
    if not _is_array(base) and not _is_array(exponent):
        if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > _MAX_BITS:
            raise OverflowError("the power is out of range")
        return base**exponent
    return _bounded(base) ** _bounded(exponent)


def _bounded(value: Any) -> Any:
    """A side of a power beside a column, as numbers of fixed width: Python's own would grow without bound."""
    if _is_array(value):
        return value.astype(float) if value.dtype.kind == "O" else value
    return float(value) if isinstance(value, int) and value.bit_length() > _INT64_BITS else value


_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_EQUALITY = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot)
_MEMBERSHIP = (ast.In, ast.NotIn)
_LISTS = (ast.List, ast.Tuple, ast.Set)


@dataclass(frozen=True)
class Expression:
    """A checked expression; ``names`` are the dotted names it asks for."""

    text: str
    names: frozenset[str]
    _tree: ast.expr = field(repr=False, compare=False)
    _quoted: dict[int, str] = field(repr=False, compare=False)

    def evaluate(self, lookup: Callable[[str], Any]) -> Any:
        """The expression's value, where ``lookup`` gives a name's value: a scalar, a NumPy array or a pandas column.

        Raises ``ConfigError`` where the values do not go together (``'S' < 3``); what ``lookup`` raises passes through.
        """
        values = {name: lookup(name) for name in sorted(self.names)}
        return _Evaluation(self, values).value(self._tree)


def compile_expression(text: str) -> Expression:
    """Parse and check an expression; ``ConfigError`` shows the place of what is not allowed."""
    text = text.strip().replace("\n", " ")
    plain, quoted = _unquote(text)
    try:
        tree = ast.parse(plain, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        column = (getattr(error, "offset", None) or len(text) + 1) - 1
        raise _refusal(text, column, "an expression cannot be read") from error
    names: set[str] = set()
    _check(tree, Expression(text, frozenset(), tree, quoted), names)
    return Expression(text, frozenset(names), tree, quoted)


def _unquote(text: str) -> tuple[str, dict[int, str]]:
    """Put an ordinary word of equal width where a name in backticks stands; returns the names by their byte offset."""
    quoted: dict[int, str] = {}

    def word(match: re.Match[str]) -> str:
        quoted[len(text[: match.start()].encode())] = match.group(1)
        return "_" * len(match.group(0).encode())

    return re.sub(r"`([^`]+)`", word, text), quoted


def _check(node: ast.expr, expression: Expression, names: set[str]) -> None:
    """Collect the names below a node and refuse what is not of the small language."""
    name = _name(node, expression._quoted)
    if name is not None:
        names.add(name)
        return
    for child in _operands(node, expression):
        _check(child, expression, names)


def _operands(node: ast.expr, expression: Expression) -> list[ast.expr]:
    """The expressions that an allowed node is made of."""
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, (bool, int, float, str))):
        return []
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return [node.left, node.right]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub, ast.UAdd)):
        return [node.operand]
    if isinstance(node, ast.BoolOp):
        return node.values
    if isinstance(node, ast.Compare):
        operands = [node.left]
        for side, comparison in zip(node.comparators, node.ops, strict=True):
            if isinstance(comparison, _MEMBERSHIP):
                if not isinstance(side, _LISTS):
                    raise _not_allowed(side, expression, "`in` takes a list of values")
                operands += side.elts
            elif isinstance(comparison, (ast.Is, ast.IsNot)) and not _is_none(side):
                raise _not_allowed(side, expression, "`is` goes with None only")
            else:
                operands.append(side)
        return operands
    raise _not_allowed(node, expression, f"an expression may not hold {_word_for(node)} here")


class _Evaluation:
    """One walk over a checked tree with the values of its names."""

    def __init__(self, expression: Expression, values: dict[str, Any]):
        self.expression, self.values = expression, values

    def value(self, node: ast.expr) -> Any:
        name = _name(node, self.expression._quoted)
        if name is not None:
            return self.values[name]
        try:
            return self._compute(node)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise _refusal(
                self.expression.text, _column(node, self.expression.text), f"an expression cannot be computed: {error}"
            ) from error

    def _compute(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.BinOp):
            left, right = self.value(node.left), self.value(node.right)
            for side in (left, right):
                _need_numbers(side)
            return _ARITHMETIC[type(node.op)](left, right)
        if isinstance(node, ast.UnaryOp):
            operand = self.value(node.operand)
            if isinstance(node.op, ast.Not):
                return ~_truth(operand) if _is_array(operand) else not _truth(operand)
            return -operand if isinstance(node.op, ast.USub) else +operand
        if isinstance(node, ast.BoolOp):
            return self._join(node)
        assert isinstance(node, ast.Compare), ast.dump(node)
        sides = [node.left, *node.comparators]
        pairs = [self._compare(*pair) for pair in zip(sides[:-1], node.ops, sides[1:], strict=True)]
        return reduce(operator.and_, pairs)

    def _join(self, node: ast.BoolOp) -> Any:
        """``and`` and ``or``: the second side of a scalar is not looked at once the first decides."""
        decisive = isinstance(node.op, ast.Or)
        join = operator.or_ if decisive else operator.and_
        result: Any = None
        for position, operand in enumerate(node.values):
            truth = _truth(self.value(operand))
            result = join(result, truth) if position else truth
            if not _is_array(result) and result == decisive:
                break
        return result

    def _compare(self, left: ast.expr, comparison: ast.cmpop, right: ast.expr) -> Any:
        value = self.value(left)
        if isinstance(comparison, _MEMBERSHIP):
            assert isinstance(right, _LISTS)
            nowhere = value != value if _is_array(value) else False
            found = reduce(operator.or_, (_equal(value, self.value(item)) for item in right.elts), nowhere & False)
            return _negated(found) if isinstance(comparison, ast.NotIn) else found
        other = self.value(right)
        if isinstance(comparison, _EQUALITY):
            equal = _equal(value, other)
            return _negated(equal) if isinstance(comparison, (ast.NotEq, ast.IsNot)) else equal
        return _ORDER[type(comparison)](value, other)


def _equal(left: Any, right: Any) -> Any:
    """Equality, where None stands for a missing value (in a column: one that differs from itself)."""
    if right is None:
        return left != left if _is_array(left) else left is None or left != left
    return left == right


def _negated(truth: Any) -> Any:
    return ~truth if _is_array(truth) else not truth


def _truth(value: Any) -> Any:
    """A truth value or a column of them; anything else is refused, so that ``patch and seed`` is not a condition."""
    kind = str(getattr(value, "dtype", type(value).__name__))
    if kind not in ("bool", "boolean", "bool[pyarrow]"):
        raise TypeError(f"{kind} is neither true nor false; compare it with something")
    return value


def _need_numbers(value: Any) -> None:
    """Refuse words and lists in arithmetic: ``'a' * 10**10`` would fill the memory."""
    if _is_array(value):
        words = value.dtype.kind not in "biufc" and any(isinstance(item, (str, bytes, list, tuple)) for item in value)
    else:
        words = not isinstance(value, (int, float, complex))
    if words:
        raise TypeError("arithmetic is for numbers only")


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__")


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _name(node: ast.AST, quoted: dict[int, str]) -> str | None:
    """The dotted name that a node spells, or None."""
    if isinstance(node, ast.Name):
        return quoted.get(node.col_offset, node.id)
    if isinstance(node, ast.Attribute):
        head = _name(node.value, quoted)
        return None if head is None else f"{head}.{node.attr}"
    return None


def _word_for(node: ast.AST) -> str:
    words: Iterable[tuple[type[ast.AST], str]] = (
        (ast.Call, "a call"),
        (ast.Subscript, "a subscript"),
        (ast.Lambda, "a lambda"),
        (ast.IfExp, "an if"),
        (ast.Attribute, "an attribute of a value"),
        (ast.NamedExpr, "an assignment"),
        (ast.Constant, "this kind of value"),
        (ast.List, "a list"),
    )
    return next((word for kind, word in words if isinstance(node, kind)), f"{type(node).__name__.lower()}")


def _column(node: ast.AST, text: str) -> int:
    """Where a node starts, in characters (Python counts bytes)."""
    return len(text.encode()[: getattr(node, "col_offset", 0)].decode(errors="ignore"))


def _not_allowed(node: ast.AST, expression: Expression, what: str) -> ConfigError:
    return _refusal(expression.text, _column(node, expression.text), what)


def _refusal(text: str, column: int, what: str) -> ConfigError:
    pointer = " " * (len("  given:   ") + column) + "^"
    return ConfigError(what, where=f"character {column + 1}", given=f"{text}\n{pointer}", allowed=ALLOWED)
