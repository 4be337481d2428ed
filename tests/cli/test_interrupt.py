import signal
import subprocess
import sys
import textwrap
import time

import pytest

PROGRAM = """
    import sys, time
    import jax, jax.numpy as jnp, typer
    from jifv.cli import interrupt
    from jifv.cli.interrupt import interruptible

    # A program that runs is one instruction then, as a compilation is. JAX would wait for it and heed Ctrl-C.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    interrupt._GRACE = {grace}
    if not interrupt._GRACE:
        interrupt.complain = lambda text: [time.sleep(1), print(text, file=sys.stderr, flush=True), time.sleep(1)]
    app = typer.Typer()
    endless = jax.jit(lambda x: jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: jnp.cos(x) + 1, x))

    @app.command()
    def main(kind: str) -> None:
        x = jnp.ones(1000)
        run = endless.lower(x).compile() if kind == "compiled" else None  # while the test still waits
        with interruptible("what is finished is kept"):
            print("ready", flush=True)
            if run:
                run(x)
            try:
                while True:
                    time.sleep(0.01)
            except KeyboardInterrupt:
                time.sleep(0.5)  # as if the machine were busy
                raise

    app()
"""


HEEDING = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, sys.argv[1:])"
"""Undoes what shells do to jobs in the background: they ignore Ctrl-C, and so would what they start."""


@pytest.mark.parametrize(("kind", "grace"), [("compiled", 1.5), ("python", 1.5), ("python", 0)])
def test_one_interrupt_ends_the_process(kind, grace):
    """Without a grace both threads want to tell the user at the same time, and one of them does."""
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM.replace("{grace}", str(grace))), kind]
    command = [sys.executable, "-c", HEEDING, *program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(1 if kind == "compiled" else 0)  # in the compiled program, which never ends
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=100)  # seconds, and what a busy machine makes of them
        finally:
            process.kill()
    assert process.returncode == 130
    assert errors.count("what is finished is kept\n") == 1  # XLA may have alarms of its own
