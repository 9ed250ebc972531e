"""Every feature of ``e2b-code-interpreter``, one probe each (see harness.py). Run inside a release's environment."""

from __future__ import annotations

import os
import threading
from typing import Any

import e2b
import e2b_code_interpreter as own
from e2b_code_interpreter.charts import ChartType
from harness import call, main, need, probe, takes, until

PATIENCE = 180
"""Seconds for what starts a kernel or imports much: some of it takes twenty on a crowded machine."""
UNTRANSLATED = "the call ends at once, with an error of the HTTP library that this release does not translate"


class Kit:
    """One mode of the release and a sandbox that the probes share."""

    def __init__(self, sandbox_class: Any) -> None:
        self.Sandbox = sandbox_class
        self.sbx: Any = None

    async def open(self) -> None:
        """A sandbox of the release's own default template."""
        self.sbx = await call(self.Sandbox.create(timeout=900))

    async def close(self) -> None:
        """End it."""
        await call(self.sbx.kill())

    async def speaker(self) -> Any:
        """The sandbox in which all releases on this box run the languages whose kernels take seconds to start."""
        return await call(self.Sandbox.connect(os.environ["COMPAT_LANGUAGES"]))

    async def run(self, code: str, **options: Any) -> Any:
        """``run_code`` in the shared sandbox."""
        return await call(self.sbx.run_code(code, **options))


@probe("run_code: result, output, variables kept")
async def results(kit: Kit) -> None:
    done = await kit.run("import sys\nx = 41\nprint('out')\nprint('err', file=sys.stderr)\nx + 1")
    assert (done.text, done.logs.stdout, done.logs.stderr) == ("42", ["out\n"], ["err\n"])
    assert (await kit.run("x")).text == "41"


@probe("run_code: errors")
async def errors(kit: Kit) -> None:
    seen: list[Any] = []
    done = await kit.run("1/0", on_error=seen.append)
    assert done.error.name == "ZeroDivisionError" and "division" in done.error.value and done.error.traceback
    assert [one.name for one in seen] == ["ZeroDivisionError"]


@probe("run_code: callbacks")
async def callbacks(kit: Kit) -> None:
    seen: list[Any] = []
    await kit.run(
        "print('a')\n2", on_stdout=lambda one: seen.append(one.line), on_result=lambda one: seen.append(one.text)
    )
    assert seen == ["a\n", "2"], seen


@probe("run_code: variables per call")
async def envs(kit: Kit) -> None:
    assert (await kit.run("import os; os.environ['ONE']", envs={"ONE": "1"})).text == "1"
    assert (await kit.run("os.environ.get('ONE', 'gone')")).text == "gone"


@probe("run_code: timeout interrupts the cell")
async def timeout(kit: Kit) -> None:
    try:
        await kit.run("import time\ntime.sleep(30)", timeout=1)
    except e2b.TimeoutException:
        assert (await kit.run("'free'")).text == "free"
        return
    raise AssertionError("no TimeoutException")


@probe("results: HTML, Markdown, PNG, JSON, several at once")
async def mime(kit: Kit) -> None:
    code = "from IPython.display import *\ndisplay(HTML('<b>h</b>'), Markdown('# m'))\n{'a': [1]}"
    html, markdown, json = (await kit.run(code)).results
    assert html.html == "<b>h</b>" and markdown.markdown == "# m" and json.json == {"a": [1]}
    assert list(html.formats()) == ["text", "html"] or "html" in list(html.formats())


@probe("results: charts (matplotlib)")
async def charts(kit: Kit) -> None:
    code = "import matplotlib.pyplot as p\np.bar(['a', 'b'], [1, 2]); p.title('T'); p.show()"
    (result,) = (await kit.run(code, timeout=PATIENCE)).results
    assert result.png and result.chart.type == ChartType.BAR and result.chart.title == "T"
    assert [(one.label, one.value) for one in result.chart.elements] == [("a", 1), ("b", 2)]


@probe("results: data frames (pandas)")
async def frames(kit: Kit) -> None:
    done = await kit.run("import pandas\npandas.DataFrame({'n': [1, 2]})", timeout=PATIENCE)
    assert done.results[0].data == {"n": [1, 2]} and "<table" in done.results[0].html


@probe("contexts: create, separate variables, cwd")
async def contexts(kit: Kit) -> None:
    context = await call(kit.sbx.create_code_context(cwd="/tmp", language="python"))
    assert (await kit.run("import os; y = 1; os.getcwd()", context=context)).text == "/tmp"
    assert (await kit.run("y")).error.name == "NameError"


@probe("contexts: list, restart, remove")
async def manage(kit: Kit) -> None:
    need(kit.sbx, "list_code_contexts", "restart_code_context", "remove_code_context")
    context = await call(kit.sbx.create_code_context())
    await kit.run("z = 1", context=context)
    await call(kit.sbx.restart_code_context(context))
    assert (await kit.run("z", context=context)).error.name == "NameError"
    await call(kit.sbx.remove_code_context(context))
    assert context.id not in [one.id for one in await call(kit.sbx.list_code_contexts())]


SLOW = ("r", "java")


def language(name: str, code: str, text: str) -> None:
    """A probe of one more language."""

    @probe(f"language: {name}")
    async def speak(kit: Kit) -> None:
        takes(kit.Sandbox.run_code, "language")
        sbx = await kit.speaker() if name in SLOW else kit.sbx
        done = await call(sbx.run_code(code, language=name, timeout=PATIENCE))
        assert done.error is None, done.error
        assert text in ((done.text or "") + "".join(done.logs.stdout)), done


language("javascript", "const a = [1, 2].map(n => n * 2); console.log(a.length); a[1]", "4")
language("typescript", "const n: number = 6 * 7; n", "42")
language("bash", "echo $((6 * 7))", "42")
language("r", "cat(6 * 7)", "42")
language("java", "System.out.println(6 * 7);", "42")


@probe("a killed sandbox ends run_code with a clear error")
async def killed(kit: Kit) -> None:
    sbx = await call(kit.Sandbox.create(timeout=PATIENCE))
    begun = threading.Event()

    def kill() -> None:
        begun.wait(PATIENCE)
        own.Sandbox.kill(sbx.sandbox_id)

    killer = threading.Thread(target=kill)
    killer.start()
    code = "import time\nprint('begun', flush=True)\ntime.sleep(600)"
    try:
        await call(sbx.run_code(code, on_stdout=lambda _: begun.set()))
    except (e2b.TimeoutException, e2b.SandboxException):
        return
    except Exception:
        raise AssertionError(UNTRANSLATED) from None
    finally:
        begun.set()
        killer.join()
    raise AssertionError("run_code ended well")


@probe("pause and resume keep variables")
async def pausing(kit: Kit) -> None:
    sbx = await call(kit.Sandbox.create(timeout=PATIENCE))
    await call(sbx.run_code("kept = 1"))
    await call(sbx.pause() if hasattr(sbx, "pause") else sbx.beta_pause())
    again = await call(kit.Sandbox.connect(sbx.sandbox_id))

    async def kept() -> bool:
        return (await call(again.run_code("kept"))).text == "1"

    await until(kept)
    await call(again.kill())


if __name__ == "__main__":
    main({"sync": lambda: Kit(own.Sandbox), "async": lambda: Kit(own.AsyncSandbox)})
