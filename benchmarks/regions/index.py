"""benchmarks/results/README.md: which results there are."""

from harness import results
from harness.tables import markdown

from regions.registry import REGIONS, result, short


def _index(studies):
    names = sorted(path.stem for path in results.RESULTS.glob("*.json"))
    shown = [one for one in map(result, names) if one.command.startswith("jifv ") == studies]
    rows = [
        (f"[`{one.name}`]({one.name}.json)", short(one), one.when, one.machine, f"`{one.command}`", one.note)
        for one in shown
    ]
    return markdown(("result", "commit", "day", "machine", "command", "note"), rows, left=6)


REGIONS["studies"] = lambda: _index(studies=True)
REGIONS["benchmarks"] = lambda: _index(studies=False)
