import signal
import subprocess
import sys
import textwrap
import time

import pytest

PROGRAM = """
    import time
    import jax, jax.numpy as jnp, typer
    from jifv.cli.interrupt import interruptible

    app = typer.Typer()
    endless = jax.jit(lambda x: jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: jnp.cos(x) + 1, x))

    @app.command()
    def main(kind: str) -> None:
        with interruptible("what is finished is kept"):
            print("ready", flush=True)
            if kind == "compiled":
                endless(jnp.ones(1000)).block_until_ready()
            while True:
                time.sleep(0.01)

    app()
"""


@pytest.mark.parametrize("kind", ["compiled", "python"])
def test_one_interrupt_ends_the_process_within_seconds(kind):
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(1 if kind == "compiled" else 0)  # in a compilation or in the compiled program, which never ends
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert errors.count("what is finished is kept\n") == 1  # XLA may have alarms of its own
    assert time.monotonic() - began < 30  # 3, and what a busy machine adds
