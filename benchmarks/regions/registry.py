"""How a region is declared: a function of the results it shows, with a name for the markers."""

from collections.abc import Callable, Sequence
from functools import cache

from harness import numbers, results

REGIONS: dict[str, Callable[[], str]] = {}
"""What is in each region, by its name."""


def block(name: str, *sources: str, packages: Sequence[str] = ("jax",)) -> Callable:
    """Declare a table or a paragraph, below which stands where its numbers come from.

    Args:
        name: The region's.
        sources: Names of the results, which the function is called with.
        packages: Whose versions are told, besides Python's.
    """

    def register(function: Callable[..., str]) -> Callable[..., str]:
        def content() -> str:
            shown = [result(source) for source in sources]
            return f"{function(*shown).strip()}\n\n{origin(shown, packages)}"

        _add(name, content)
        return function

    return register


def words(name: str, *sources: str) -> Callable:
    """Declare a few words within a sentence. The block beside them tells where the numbers come from."""

    def register(function: Callable[..., str]) -> Callable[..., str]:
        _add(name, lambda: function(*map(result, sources)))
        return function

    return register


@cache
def result(name: str) -> results.Result:
    """A result in `benchmarks/results`."""
    return results.read(results.RESULTS / f"{name}.json")


def origin(shown: Sequence[results.Result], packages: Sequence[str]) -> str:
    """The line below a table: machine, versions, commit and file of each result."""
    places: dict[str, list[str]] = {}
    for one in shown:
        version = [f"Python {one.versions['python']}"]
        version += [f"{_TITLES.get(name, name)} {one.versions[name]}" for name in packages]
        place = f"{one.machine}; {', '.join(version)}; commit {short(one)}, {one.when}"
        places.setdefault(place, []).append(f"`{one.name}`")
    return "\n".join(f"<sub>{numbers.listed(names)}: {place}.</sub>\\" for place, names in places.items())[:-1]


def short(one: results.Result) -> str:
    """The commit, as long as git writes it."""
    return str(one.commit)[:7]


_TITLES = {"torch": "PyTorch", "numpy": "NumPy", "scipy": "SciPy"}


def _add(name: str, content: Callable[[], str]) -> None:
    if name in REGIONS:
        raise ValueError(f"two regions are called {name}")
    REGIONS[name] = content
