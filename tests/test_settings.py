import jax.numpy as jnp
import numpy as np
import pytest

from jifv.visualization import Settings


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"adam_steps": -1}, ValueError, "adam_steps must be at least 0, got -1"),
        ({"lbfgs_steps": 1.5}, TypeError, "lbfgs_steps must be an integer >= 0, got 1.5"),
        ({"adam_steps": True}, TypeError, "adam_steps must be an integer >= 0, got True"),
        ({"redirected_steps": -1}, ValueError, "redirected_steps must be at least 0, got -1"),
        ({"history": 0}, ValueError, "history must be at least 1, got 0"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be positive, got 0"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate must be finite and >= 0, got nan"),
        ({"anneal": 1.5}, ValueError, "anneal must be at most 1, got 1.5"),
        ({"tolerance": float("inf")}, ValueError, "tolerance must be finite and >= 0, got inf"),
        ({"precision": "tf32"}, ValueError, "precision must be one of .*, got 'tf32'"),
        ({"adam_precision": "low"}, ValueError, "adam_precision must be None or one of .*, got 'low'"),
    ],
)
def test_settings_errors(options, error, message, unchecked):
    with pytest.raises(error, match=message):
        Settings(**options)


def test_settings_of_any_number_type_are_one_key(unchecked):
    settings = Settings(learning_rate=np.float64(0.05), anneal=jnp.asarray(0.25), tolerance=np.array(1e-8))
    assert settings == Settings(learning_rate=0.05, anneal=0.25)
    assert hash(settings) == hash(Settings(learning_rate=0.05, anneal=0.25))
