"""The code interpreter through the unmodified SDK on a real box: results, charts, contexts, variables, bad moments
(contract §3), and the languages that packaging/kernels.sh installs.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import e2b
import httpx
import pytest
from boxes import RunningBox
from e2b_code_interpreter import Execution, Sandbox
from e2b_code_interpreter.charts import ChartType

pytestmark = [pytest.mark.box, pytest.mark.timeout(120)]
SPECS = (Path("/usr/local/share/jupyter/kernels"), Path("/usr/share/jupyter/kernels"))

STUBBORN = """interrupts = 0
while interrupts < 2:
    try:
        while True: pass
    except KeyboardInterrupt:
        interrupts += 1
"""


def made(box: RunningBox, **options: Any) -> Iterator[Sandbox]:
    """A sandbox of this box for as long as the fixture lives."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in box.env.items():
            patch.setenv(name, value)
        sandbox = Sandbox.create(template="code-interpreter", timeout=600, **options)
        yield sandbox
        sandbox.kill()


@pytest.fixture(scope="module")
def sandbox(box: RunningBox) -> Iterator[Sandbox]:
    """One sandbox with a variable whose value needs quoting in every language."""
    yield from made(box, envs={"OWN": 'it\'s "global" $HOME'})


@pytest.fixture
def fresh(box: RunningBox) -> Iterator[Sandbox]:
    """A sandbox of this test's own."""
    yield from made(box)


def output(execution: Execution) -> str:
    """Everything printed."""
    return "".join(execution.logs.stdout)


def test_results_errors_and_counts(sandbox: Sandbox) -> None:
    """Main result, display, both channels, an error with its traceback, and a count of user cells only."""
    seen: list[Any] = []
    cell = "import sys; print('ü😀\\u2028'); print('e', file=sys.stderr)\ndisplay('shown')\n'last'"
    done = sandbox.run_code(cell, on_stdout=seen.append, on_stderr=seen.append, on_result=seen.append)
    assert (done.text, output(done), "".join(done.logs.stderr)) == ("last", "ü😀\u2028\n", "e\n")
    assert [(result.text, result.is_main_result) for result in done.results] == [("shown", False), ("last", True)]
    assert len(seen) == 4
    failed = sandbox.run_code(
        "def inner():\n    1 / 0\ntry:\n    inner()\nexcept Exception as e:\n    raise KeyError('k') from e"
    )
    assert failed.error is not None
    assert (failed.error.name, failed.error.value) == ("KeyError", "'k'")
    assert "ZeroDivisionError" in failed.error.traceback
    assert "\x1b" not in failed.error.traceback
    after = sandbox.run_code("2", envs={"A": "1"})
    assert done.execution_count is not None
    assert (failed.execution_count, after.execution_count) == (done.execution_count + 1, done.execution_count + 2)
    assert getattr(sandbox.run_code("input()").error, "name", None) == "StdinNotImplementedError"


def test_every_mime_type_has_its_member(sandbox: Sandbox) -> None:
    """Rich displays arrive under the SDK's names, unknown types under extra."""
    cell = """from IPython.display import *
display(HTML('<b>'), Markdown('# m'), Latex('$x$'), SVG('<svg xmlns="http://www.w3.org/2000/svg"/>'), Javascript('1'))
display(JSON({'a': 1}), Image(data=b'\\x89PNG\\r\\n', format='png'), Image(data=b'\\xff\\xd8', format='jpeg'))
display({'application/pdf': 'cGRm', 'application/x-own': 'own'}, raw=True)
{1: [1, None, {'a': 2.5}]}"""
    results = sandbox.run_code(cell).results
    members = ["html", "markdown", "latex", "svg", "javascript", "json", "png", "jpeg", "pdf", "json"]
    assert [name for result, name in zip(results, members, strict=True) if getattr(result, name) is None] == []
    assert results[8].extra == {"application/x-own": "own"}
    assert results[9].json == {"1": [1, None, {"a": 2.5}]}


def test_charts_and_tables_come_as_data(sandbox: Sandbox) -> None:
    """A figure has its picture and its numbers, several axes make a superchart, a DataFrame its columns."""
    line, several, table = (
        sandbox.run_code(cell).results[0]
        for cell in (
            "import matplotlib.pyplot as plt\nplt.plot([1, 2], [3, 4]); plt.title('T'); plt.xlabel('X (m)')\nNone",
            "f, (a, b) = plt.subplots(1, 2); a.bar(['p', 'q'], [1, 2]); b.pie([1, 3]); plt.show()",
            "import pandas as pd\npd.DataFrame({'n': [1, 2], 't': pd.to_datetime(['2020-01-01', '2021-01-01'])})",
        )
    )
    assert line.png
    assert line.chart is not None
    assert several.chart is not None
    assert (line.chart.type, line.chart.title, line.chart.to_dict()["x_unit"]) == (ChartType.LINE, "T", "m")
    assert line.chart.elements[0].points == [(1, 3), (2, 4)]
    assert several.chart.type is ChartType.SUPERCHART
    assert [element.type for element in several.chart.elements] == [ChartType.BAR, ChartType.PIE]
    assert table.data == {"n": [1, 2], "t": ["2020-01-01T00:00:00", "2021-01-01T00:00:00"]}
    assert table.html


def test_pictures_show_when_they_are_saved(sandbox: Sandbox) -> None:
    """PIL's save to a path also displays; its viewer does nothing."""
    cell = "from PIL import Image\ni = Image.new('RGB', (2, 2)); i.show(); i.save('/tmp/i.png')"
    assert [bool(result.png) for result in sandbox.run_code(cell).results] == [True]


def test_variables_are_the_sandboxs_and_the_calls(sandbox: Sandbox) -> None:
    """Global variables are in every context; those of one call are gone, or back, in the next."""
    read = "import os; print(os.environ['OWN'], os.environ.get('CALL'), sep='|')"
    for context in (None, sandbox.create_code_context(cwd="/tmp")):
        assert output(sandbox.run_code(read, context=context)) == 'it\'s "global" $HOME|None\n'
        assert output(sandbox.run_code(read, context=context, envs={"OWN": "o", "CALL": "c"})) == "o|c\n"
        assert output(sandbox.run_code(read, context=context)) == 'it\'s "global" $HOME|None\n'
        if context is not None:
            sandbox.remove_code_context(context)


def test_contexts_are_kept_apart(fresh: Sandbox) -> None:
    """Contexts have their own directory and names, are listed newest last, restart empty, and are 404 once removed."""
    one = fresh.create_code_context(cwd="/tmp")
    two = fresh.create_code_context()
    assert fresh.run_code("import os; v = 1; os.getcwd()", context=one).text == "/tmp"
    assert fresh.run_code("'v' in globals(), __import__('os').getcwd()", context=two).text == "(False, '/home/user')"
    assert [context.id for context in fresh.list_code_contexts()][-2:] == [one.id, two.id]
    running: list[Execution] = []
    cell = "print('on', flush=True)\nwhile True: pass"
    started = threading.Event()
    run = threading.Thread(
        target=lambda: running.append(fresh.run_code(cell, context=one, on_stdout=lambda _: started.set()))
    )
    run.start()
    assert started.wait(20)
    fresh.restart_code_context(one)
    run.join(20)
    assert running[0].error is not None
    assert (running[0].error.name, running[0].error.value) == ("ContextRestarting", "Context was restarted")
    assert fresh.run_code("'v' in globals()", context=one).text == "False"
    fresh.remove_code_context(one)
    with pytest.raises(e2b.NotFoundException, match=f"Context {one.id} not found"):
        fresh.run_code("1", context=one)
    with pytest.raises(e2b.SandboxException, match="cwd: /none is not a directory"):
        fresh.create_code_context(cwd="/none")
    made = fresh.create_code_context(cwd="/home/user/new/place")
    assert fresh.run_code("import os; os.getcwd()", context=made).text == "/home/user/new/place"
    assert fresh.files.get_info("/home/user/new").owner == "user"


@pytest.mark.parametrize(
    "cell",
    [
        "import time\ntime.sleep(100)",
        "import subprocess\nsubprocess.run(['sleep', '100'])",
        STUBBORN,
    ],
    ids=["sleep", "child", "stubborn"],
)
def test_a_client_that_gives_up_frees_its_context(sandbox: Sandbox, cell: str) -> None:
    """After the SDK's timeout the cell is interrupted, the next one runs at once and variables are still there."""
    sandbox.run_code("kept = 7")
    with pytest.raises(e2b.TimeoutException):
        sandbox.run_code(cell, timeout=0.5)
    assert sandbox.run_code("kept", timeout=60).text == "7"  # the cell itself would take longer


def test_a_dead_kernel_is_replaced(sandbox: Sandbox) -> None:
    """However a kernel ends, the cell says so and the next one runs on a fresh kernel."""
    for cell, says in (
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ("import os; os._exit(3)", "exit code 3"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    ):
        died = sandbox.run_code(cell)
        assert died.error is not None
        assert died.error.name == "UnexpectedEndOfExecution"
        assert says in died.error.value
        assert sandbox.run_code("1 + 1", timeout=60).text == "2"


def test_floods_and_giants(sandbox: Sandbox) -> None:
    """A hundred thousand lines, 20 MB of a child's output and a 20 MB result arrive whole."""
    assert output(sandbox.run_code("for i in range(100_000): print(i)")).split() == [str(i) for i in range(100_000)]
    assert len(output(sandbox.run_code("!yes | head -c 20000000"))) == 20_000_000
    assert sandbox.run_code("'x' * 20_000_000").text == "x" * 20_000_000


def test_silence_is_filled_with_keepalives_and_the_end_is_last(sandbox: Sandbox, box: RunningBox) -> None:
    """A cell that says nothing for six seconds sends a keepalive line; the last line is the literal terminator."""
    headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49999"}
    headers["X-Access-Token"] = sandbox._envd_access_token or ""
    answer = httpx.post(
        f"{box.env['E2B_SANDBOX_URL']}/execute",
        headers=headers,
        json={"code": "import time; time.sleep(5.5); 1"},
        timeout=30,
    )
    lines = answer.text.splitlines()
    assert [json.loads(line)["type"] for line in lines] == [
        "number_of_executions",
        "keepalive",
        "result",
        "end_of_execution",
    ]
    assert lines[-1] == '{"type": "end_of_execution"}'


def test_a_sandbox_killed_during_a_cell_says_so(fresh: Sandbox) -> None:
    """run_code fails with the documented words when its sandbox is killed under it."""
    started = threading.Event()
    kill = threading.Thread(target=lambda: started.wait(20) and fresh.kill())
    kill.start()
    with pytest.raises(e2b.TimeoutException, match="killed while the request was in progress"):
        fresh.run_code("print(1, flush=True); import time; time.sleep(60)", on_stdout=lambda _: started.set())
    kill.join()


def test_a_language_without_kernel_is_refused_by_name(sandbox: Sandbox) -> None:
    """The error names the language and what installs kernels."""
    with pytest.raises(e2b.SandboxException, match=r"'cobol'.*packaging/kernels\.sh"):
        sandbox.run_code("1", language="cobol")


def need_kernel(*names: str) -> None:
    """Skip where packaging/kernels.sh has not been run; packaging/test.sh runs it."""
    if not any((directory / name / "kernel.json").exists() for directory in SPECS for name in names):
        pytest.skip(f"no kernel {names}; packaging/kernels.sh installs it")


def test_no_result_of_a_javascript_cell_is_lost(fresh: Sandbox) -> None:
    """Deno publishes a result now and then after it has called the cell finished; each is here, in its own cell."""
    need_kernel("javascript", "deno")
    cells = (f"console.log('out {number}'); {number}" for number in range(60))
    done = [fresh.run_code(cell, language="javascript", timeout=60) for cell in cells]
    assert [(output(one), one.text) for one in done] == [(f"out {number}\n", str(number)) for number in range(60)]


SCRIPTS: dict[str, dict[str, str]] = {
    "javascript": {
        "own": "console.log(process.env.OWN)",
        "call": "console.log(process.env.CALL ?? '')",
        "cwd": "console.log(process.cwd())",
        "error": "throw new TypeError('bad')",
        "state": "let kept = 7; await new Promise(done => setTimeout(done, 1)); console.log(kept)",
        "endless": "while (true) {}",
    },
    "typescript": {
        "own": "const own: string = process.env.OWN!; console.log(own)",
        "call": "console.log(process.env.CALL ?? '')",
        "cwd": "interface Place { at: string }; const place: Place = { at: process.cwd() }; console.log(place.at)",
        "error": "throw new TypeError('bad')",
        "state": "let kept: number = 7; console.log(kept)",
        "endless": "await new Promise(() => {})",
    },
    "bash": {
        "own": 'echo "$OWN"',
        "call": 'echo "$CALL"',
        "cwd": "pwd",
        "error": "(exit 4)",
        "state": "kept=7; echo $kept",
        "endless": "sleep 100",
    },
    "r": {
        "own": "cat(Sys.getenv('OWN'), '\\n', sep='')",
        "call": "cat(Sys.getenv('CALL'), '\\n', sep='')",
        "cwd": "cat(getwd(), '\\n', sep='')",
        "error": "stop('bad')",
        "state": "kept <- 7; cat(kept, '\\n', sep='')",
        "endless": "Sys.sleep(100)",
    },
    "java": {
        "own": 'System.out.println(System.getProperty("OWN"))',
        "call": 'System.out.println(System.getProperty("CALL", ""))',
        "cwd": 'System.out.println(System.getProperty("user.dir"))',
        "error": 'throw new RuntimeException("bad");',
        "state": "int kept = 7; System.out.println(kept)",
        "endless": "while (true) {}",
    },
}
KERNELS = {"typescript": ("javascript",), "r": ("ir", "r")}


@pytest.mark.parametrize("language", list(SCRIPTS))
def test_other_languages(sandbox: Sandbox, language: str) -> None:
    """Output, variables, directory, errors, state, an abandoned endless cell and a killed kernel, in every language."""
    need_kernel(*KERNELS.get(language, (language,)))
    script = SCRIPTS[language]

    def run(name: str, **options: Any) -> Execution:
        return sandbox.run_code(script[name], language=f" {language.title()} ", **options)

    first = run("own")
    assert (output(first), first.execution_count) == ('it\'s "global" $HOME\n', 1)
    assert output(run("call", envs={"CALL": "it's"})) == "it's\n"
    third = run("call")
    assert (output(third), third.execution_count) == ("\n", 3)
    assert output(run("cwd")) == "/home/user\n"
    assert output(run("state")) == "7\n"
    assert run("error").error is not None
    with pytest.raises(e2b.TimeoutException):
        run("endless", timeout=0.5)
    assert output(run("cwd", timeout=30)) == "/home/user\n"
    died = sandbox.run_code(
        f"{script['cwd']};\n{script['endless']}",
        language=language,
        on_stdout=lambda _: sandbox.commands.run("sudo pkill -9 -f '/connection[.]json'"),
        timeout=60,
    )
    assert died.error is not None
    assert died.error.name == "UnexpectedEndOfExecution"
    assert output(run("own", timeout=60)) == 'it\'s "global" $HOME\n'
    contexts = [context for context in sandbox.list_code_contexts() if context.language == language]
    assert len(contexts) == 1
    sandbox.remove_code_context(contexts[0])
