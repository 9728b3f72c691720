"""The judge's part inside the sandbox: reads code without running it, and runs code without judging it.

Shipped as text (see `judge.py`): it uses the standard library alone, of whatever Python the sandbox has.
"""

from __future__ import annotations

import ast
import builtins
import json
import symtable
from typing import Any

# Ways to the test's own machinery, or out of the process before it is done. In code whose tests run beside it, a use
# of any of them is reason enough to refuse; none has a place in a solution.
MACHINERY = {
    "_exit", "exit", "quit", "abort", "kill", "atexit", "settrace", "setprofile", "_getframe", "_current_frames",
    "f_globals", "f_locals", "f_back", "f_builtins", "tb_frame", "gi_frame", "cr_frame", "gc", "inspect", "ctypes",
    "signal", "builtins", "importlib", "__import__", "__builtins__", "__globals__", "__subclasses__", "__code__",
    "__closure__", "__main__", "AssertionError", "excepthook", "modules", "judge_inside", "SystemExit",
}  # fmt: skip
COMPARISONS = {"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__bool__", "__contains__"}
MODULE_NAMES = {"__name__", "__file__", "__doc__", "__spec__", "__builtins__", "__annotations__", "__class__"}


def values(candidate: str, function: str, calls: list[list[Any]]) -> str:
    """What the candidate's function returns for each list of arguments, as JSON of ["value" or "error", text]."""
    namespace: dict[str, Any] = {"__name__": "candidate", "__builtins__": __builtins__}
    exec(compile(candidate, "candidate.py", "exec"), namespace)
    answers = []
    for arguments in calls:
        try:
            answers.append(["value", json.dumps(namespace[function](*arguments))])
        except Exception as error:
            answers.append(["error", f"{type(error).__name__}: {str(error)[:200]}"])
    return json.dumps(answers)


def tests(candidate: str, statements: list[str], nonce: str) -> str:
    """Runs the tests beside the candidate: "NONCE COUNT" of the statements that passed, or the failure."""
    namespace: dict[str, Any] = {"__name__": "candidate", "__builtins__": __builtins__}
    exec(compile(candidate, "candidate.py", "exec"), namespace)
    for number, statement in enumerate(statements, 1):
        try:
            exec(compile(statement, "tests.py", "exec"), namespace)
        except AssertionError as error:
            return f"statement {number} fails: {(str(error) or statement)[:200]}"
    return f"{nonce} {len(statements)}"


def read(code: str) -> str:
    """What can be said of code that is not run, as JSON: see `judge.Reading`."""
    try:
        tree = ast.parse(code)
        table = symtable.symtable(code, "code.py", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        where = f"line {line}: " if line else ""
        said = str(getattr(error, "msg", error)) or type(error).__name__
        return json.dumps({"syntax": where + said})
    statements = [ast.unparse(statement) for statement in tree.body]
    statements += [f"{name}()" for name in test_functions(tree)]
    checks = sum(isinstance(statement, ast.Assert) for statement in tree.body) + len(test_functions(tree))
    return json.dumps(
        {
            "syntax": None,
            "undefined": [] if stars(tree) else sorted(undefined(table)),
            "machinery": sorted(machinery(tree)),
            "statements": statements,
            "checks": checks,
        }
    )


def test_functions(tree: ast.Module) -> list[str]:
    """Functions that a test runner would call, and that can be called without arguments."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [node.name for node in functions if node.name.startswith("test") and not node.args.args]


def undefined(table: symtable.SymbolTable) -> set[str]:
    """Names that are read as global but bound nowhere."""
    bound, read_names = set(dir(builtins)) | MODULE_NAMES, set[str]()
    tables = [table]
    while tables:
        scope = tables.pop()
        tables += scope.get_children()
        for symbol in scope.get_symbols():
            binds = symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
            if binds and (scope is table or symbol.is_declared_global()):
                bound.add(symbol.get_name())
            if symbol.is_referenced() and (scope is table or symbol.is_global()):
                read_names.add(symbol.get_name())
    return read_names - bound


def stars(tree: ast.Module) -> bool:
    """Whether names may come from an import of all there is."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return any(alias.name == "*" for node in imports for alias in node.names)


def machinery(tree: ast.Module) -> set[str]:
    """Names of the test's machinery that the code touches, and comparisons that do not look at what they compare."""
    found = set[str]()
    for node in ast.walk(tree):
        names = set[str]()
        if isinstance(node, ast.Name):
            names = {node.id}
        elif isinstance(node, ast.Attribute):
            names = {node.attr}
        elif isinstance(node, ast.alias):
            names = set(node.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            names = set((node.module or "").split("."))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = {node.value} & (COMPARISONS | {name for name in MACHINERY if name.startswith("_")})
        found |= names & MACHINERY
        if isinstance(node, (ast.Name, ast.Constant)):
            found |= names & COMPARISONS
        if isinstance(node, ast.FunctionDef) and node.name in COMPARISONS:
            parameters = [argument.arg for argument in node.args.args]
            looked_at = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
            if not parameters or parameters[-1] not in looked_at:
                found.add(node.name)
    return found
