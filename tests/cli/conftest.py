"""What several files test: the commands on networks that need no weights."""

import pytest
from support.toy import TOYS, load

import jifv.cli.audit
import jifv.cli.compare
import jifv.cli.invert
import jifv.cli.visualize


@pytest.fixture(scope="module")
def toys():
    """The networks that commands for pictures load."""
    with pytest.MonkeyPatch.context() as patch:
        for command in (jifv.cli.audit, jifv.cli.compare, jifv.cli.invert, jifv.cli.visualize):
            patch.setattr(command, "network_of", load)
        yield TOYS
