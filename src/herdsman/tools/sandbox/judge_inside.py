"""The judge's part inside the sandbox: reads code without running it, and runs code without judging it.

Shipped as text (see `judge.py`): it uses the standard library alone, of whatever Python the sandbox has.
"""

import ast
import builtins
import json
import symtable

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


def values(candidate, function, calls):
    """What the candidate's function returns for each list of arguments, as JSON of ["value" or "error", text]."""
    namespace = {"__name__": "candidate", "__builtins__": __builtins__}
    exec(compile(candidate, "candidate.py", "exec"), namespace)
    answers = []
    for arguments in calls:
        try:
            answers.append(["value", json.dumps(namespace[function](*arguments))])
        except Exception as error:
            answers.append(["error", "%s: %.200s" % (type(error).__name__, error)])
    return json.dumps(answers)


def tests(candidate, statements, nonce):
    """Runs the tests beside the candidate: "NONCE COUNT" of the statements that passed, or the failure."""
    namespace = {"__name__": "candidate", "__builtins__": __builtins__}
    exec(compile(candidate, "candidate.py", "exec"), namespace)
    for number, statement in enumerate(statements, 1):
        try:
            exec(compile(statement, "tests.py", "exec"), namespace)
        except AssertionError as error:
            return "statement %d fails: %.200s" % (number, str(error) or statement)
    return "%s %d" % (nonce, len(statements))


def read(code):
    """What can be said of code that is not run, as JSON: see `judge.Reading`."""
    try:
        tree = ast.parse(code)
        table = symtable.symtable(code, "code.py", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = "line %d: " % error.lineno if getattr(error, "lineno", None) else ""
        said = str(getattr(error, "msg", error)) or type(error).__name__
        return json.dumps({"syntax": where + said})
    statements = [ast.unparse(statement) for statement in tree.body]
    statements += ["%s()" % name for name in test_functions(tree)]
    checks = sum(isinstance(statement, ast.Assert) for statement in tree.body) + len(test_functions(tree))
    return json.dumps(
        {
            "syntax": None,
            "undefined": sorted(undefined(table)),
            "machinery": sorted(machinery(tree)),
            "statements": statements,
            "checks": checks,
        }
    )


def test_functions(tree):
    """Functions that a test runner would call, and that can be called without arguments."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [node.name for node in functions if node.name.startswith("test") and not node.args.args]


def undefined(table):
    """Names that are read as global but bound nowhere."""
    bound, read_names = set(dir(builtins)) | MODULE_NAMES, set()
    tables = [table]
    while tables:
        scope = tables.pop()
        tables += scope.get_children()
        for symbol in scope.get_symbols():
            if scope is table or symbol.is_declared_global():
                if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace():
                    bound.add(symbol.get_name())
            if symbol.is_referenced() and (scope is table or symbol.is_global()):
                read_names.add(symbol.get_name())
    return set() if any("*" in name for name in bound) else read_names - bound


def machinery(tree):
    """Names of the test's machinery that the code touches, and comparisons that do not look at what they compare."""
    found = set()
    for node in ast.walk(tree):
        names = set()
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
            if not parameters or parameters[-1] not in {
                name.id for name in ast.walk(node) if isinstance(name, ast.Name)
            }:
                found.add(node.name)
    return found
