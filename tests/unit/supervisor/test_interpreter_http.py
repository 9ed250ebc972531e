"""The interpreter's HTTP interface on a real kernel."""

from __future__ import annotations

import http.client
import json
import threading
from pathlib import Path
from typing import Any

import pytest


def test_a_cell_has_output_count_and_result(shared: Any) -> None:
    """Output, execution count and main result arrive as events of their own."""
    kinds = {event["type"] for event in shared.run("print('out'); 5")}
    assert kinds == {"number_of_executions", "stdout", "result"}


def test_output_of_child_processes_belongs_to_the_cell(shared: Any) -> None:
    """What a child writes to the descriptors comes before the end of the cell, on the right channel; of two pipes
    either may be read first.
    """
    events = shared.run("import subprocess\nsubprocess.run('echo o; echo e >&2', shell=True)\nNone")
    assert sorted((e["type"], e["text"]) for e in events if e["type"] in ("stdout", "stderr")) == [
        ("stderr", "e\n"),
        ("stdout", "o\n"),
    ]


def test_call_variables_are_restored(shared: Any) -> None:
    """Variables of one call are gone in the next."""
    assert shared.text("import os; os.environ['CALL']", env_vars={"CALL": "v"}) == "v"
    assert shared.text("repr(os.environ.get('CALL'))") == "None"


def test_a_failed_cell_does_not_stop_the_next(shared: Any) -> None:
    """After an error the snippet that restores variables and the next cell still run."""
    assert shared.run("1/0", env_vars={"E": "1"})[-1]["name"] == "ZeroDivisionError"
    assert shared.text("import os; 'E' in os.environ") == "False"


def test_top_level_await(shared: Any) -> None:
    """A cell may await."""
    assert shared.text("import asyncio; await asyncio.sleep(0, 'done')") == "done"


def test_json_and_long_lists(shared: Any) -> None:
    """Lists are not shortened and come as JSON too."""
    event = next(e for e in shared.run("list(range(1200))") if e["type"] == "result")
    assert event["json"] == list(range(1200))
    assert event["text"].endswith("1199]")


def test_contexts_live_and_die(shared: Any) -> None:
    """A context is isolated, listed last, restarts with an empty namespace, and is 404 once removed."""
    status, context = shared.call("POST", "/contexts", {"cwd": "/"})
    assert (status, context["language"], context["cwd"]) == (200, "python", "/")
    assert shared.call("GET", "/contexts")[1][-1] == context
    assert shared.text("v = 1; v", context_id=context["id"]) == "1"
    assert shared.call("POST", f"/contexts/{context['id']}/restart") == (200, None)
    assert shared.run("v", context_id=context["id"])[-1]["name"] == "NameError"
    assert shared.call("DELETE", f"/contexts/{context['id']}") == (200, None)
    assert shared.call("DELETE", f"/contexts/{context['id']}")[0] == 404


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 422, "code"),
        ({"code": 1}, 422, "$.code"),
        ({"code": "1", "context_id": "x", "language": "python"}, 400, "context_id"),
        ({"code": "1", "context_id": "nope"}, 404, "Context nope not found"),
        ({"code": "1", "language": "klingon"}, 500, "klingon"),
        ({"code": "1", "env_vars": {"A": 1}}, 422, "env_vars"),
    ],
)
def test_bad_requests_name_the_field(shared: Any, body: dict[str, Any], status: int, says: str) -> None:
    """Every refusal says which member was wrong."""
    answered, text = shared.call("POST", "/execute", body)
    assert answered == status
    assert says in json.dumps(text)


def test_a_client_that_leaves_interrupts_its_cell(shared: Any) -> None:
    """A dropped connection stops the cell: the next one is answered long before ten minutes are over."""
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=20)
    connection.request(
        "POST", "/execute", json.dumps({"code": "import time\nprint('on', flush=True)\ntime.sleep(600)"})
    )
    assert b"number_of_executions" in connection.getresponse().readline()
    connection.close()
    assert shared.text("'free'") == "free"


def test_a_pipe_without_a_reader_is_an_exception(shared: Any) -> None:
    """Writing to it raises in the cell, as in every Python, and is no signal that ends the kernel; programs that a
    cell starts have the default again.
    """
    write = "try:\n  os.write(ends[1], b'x')\nexcept BrokenPipeError:\n  pass\n"
    code = f"import os\nends = os.pipe()\nos.close(ends[0])\n{write}"
    assert shared.text(f"{code}'alive'") == "alive"
    assert shared.text("import subprocess; subprocess.run('yes | head -1', shell=True).returncode") == "0"


def test_unknown_paths_and_methods(shared: Any) -> None:
    """Errors are JSON with a code."""
    assert shared.call("GET", "/nothing")[1]["code"] == 404
    assert shared.call("PUT", "/execute")[1]["code"] == 405


def test_a_restart_names_itself_to_the_running_cell(shared: Any) -> None:
    """The cell that a restart ends is told so, not that its kernel died."""
    context = shared.call("POST", "/contexts", {})[1]["id"]
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=20)
    connection.request("POST", "/execute", json.dumps({"code": "while True: pass", "context_id": context}))
    answer = connection.getresponse()
    assert b"number_of_executions" in answer.readline()
    assert shared.call("POST", f"/contexts/{context}/restart") == (200, None)
    lines = [json.loads(line) for line in answer.read().splitlines()]
    connection.close()
    assert [(line["type"], line.get("name")) for line in lines] == [
        ("error", "ContextRestarting"),
        ("end_of_execution", None),
    ]
    shared.call("DELETE", f"/contexts/{context}")


def test_exit_ends_the_kernel_before_the_next_cell(shared: Any) -> None:
    """A cell right behind exit() runs whole, in a fresh kernel."""
    context = shared.call("POST", "/contexts", {})[1]["id"]
    assert shared.run("v = 1; exit()", context_id=context)[-1]["type"] == "number_of_executions"
    assert shared.text("import time; time.sleep(0.3); 'v' in globals()", context_id=context) == "False"
    shared.call("DELETE", f"/contexts/{context}")


def test_cells_at_once_are_answered_in_turn(shared: Any) -> None:
    """Many clients of one context wait for each other, and each gets its own result."""
    results: dict[int, str | None] = {}

    def one(number: int) -> None:
        results[number] = shared.text(f"{number} * 2", env_vars={"N": str(number)})

    threads = [threading.Thread(target=one, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {number: str(number * 2) for number in range(30)}


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_cell_may_lose_its_streams(shared: Any, name: str) -> None:
    """A cell that leaves None in place of a stream does not break the next one."""
    shared.run(f"import sys; sys.{name} = None")
    events = shared.run(f"import sys; print('back', file=sys.{name})")
    assert [event["text"] for event in events if event["type"] == name] == ["back\n"]


def test_a_broken_shell_still_answers(shared: Any) -> None:
    """When the shell itself fails, the cell ends at once with that error instead of a time limit."""
    context = shared.call("POST", "/contexts", {})[1]["id"]
    breaking = """def fail(*arguments, **options): raise RuntimeError('broken')
get_ipython().run_cell_async = get_ipython().run_cell = fail"""
    shared.run(breaking, context_id=context)
    last = shared.run("1", context_id=context)[-1]
    assert (last["type"], last["name"], last["value"]) == ("error", "RuntimeError", "broken")
    shared.call("DELETE", f"/contexts/{context}")


def test_kernels_die_before_the_runtime_when_memory_is_short(shared: Any) -> None:
    """A kernel's OOM score is above the supervisor's and the server's."""
    server, kernel = (int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in shared.children[:2])
    assert kernel == 100
    assert server < kernel


def test_printing_does_not_fill_the_kernels_memory(shared: Any) -> None:
    """40 MB of output through a kernel leave its memory where it was."""
    kernel = Path(f"/proc/{shared.children[1]}/status")

    def resident() -> int:
        return int(kernel.read_text().partition("VmRSS:")[2].split()[0])

    shared.run("print('x' * 1_000_000)")
    before = resident()
    for _ in range(4):
        assert (
            sum(len(event.get("text", "")) for event in shared.run("for _ in range(10): print('x' * 1_000_000)"))
            > 10**7
        )
    assert resident() - before < 20_000
