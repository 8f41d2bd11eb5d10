"""The figures of several processes as one each: what one of them has counted stays while nobody hears it."""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain
from threading import Lock
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

Key = tuple[str, tuple[tuple[str, str], ...]]


class _Figure(NamedTuple):
    family: Metric
    key: Key
    value: float

    @property
    def counts(self) -> bool:
        return self.family.name.startswith("tocsin_") and self.family.type in ("counter", "histogram")


class Added:
    """Adds figures up; those of the processes themselves are told apart by name.

    A figure of ours is moved by whoever does the work, and stands at 0 everywhere else: so the sum is right for gauges
    too. A counter that is lower than before is taken for one that has begun anew, by us and by Prometheus: the sum goes
    back neither while a process is silent nor when another has taken its work over.
    """

    def __init__(self) -> None:
        """Nobody was heard yet."""
        self._counted: dict[str, list[_Figure]] = {}
        self._over: dict[Key, _Figure] = {}
        # Who scrapes and who judges the plant's health look in threads of their own.
        self._turn = Lock()

    def of(self, texts: Mapping[str, str], known: AbstractSet[str]) -> Iterable[Metric]:
        """The families, by `texts` in the Prometheus text format of each process that is heard.

        Those in `known` may be heard again; what any other one counted is final.
        """
        heard = {process: list(_parsed(process, text)) for process, text in texts.items()}
        with self._turn:
            self._counted |= {process: [each for each in found if each.counts] for process, found in heard.items()}
            for process in self._counted.keys() - known - heard.keys():
                for each in self._counted.pop(process):
                    before = self._over.get(each.key)
                    self._over[each.key] = each if before is None else each._replace(value=before.value + each.value)
            unheard = [found for process, found in self._counted.items() if process not in heard]
            over = list(self._over.values())
        return _summed(chain(*heard.values(), *unheard, over))


def _parsed(process: str, text: str) -> Iterator[_Figure]:
    for family in text_string_to_metric_families(text):
        # When a counter was made means nothing for the sum of several.
        if family.name.endswith("_created"):
            continue
        more = {} if family.name.startswith("tocsin_") else {"process": process}
        for sample in family.samples:
            yield _Figure(family, (sample.name, tuple((sample.labels | more).items())), sample.value)


def _summed(figures: Iterable[_Figure]) -> Iterable[Metric]:
    families: dict[str, Metric] = {}
    sums: dict[str, dict[Key, float]] = {}
    for family, key, value in figures:
        families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        of = sums.setdefault(family.name, {})
        of[key] = of.get(key, 0.0) + value
    for name, family in families.items():
        for (sample_name, labels), value in sums[name].items():
            family.add_sample(sample_name, dict(labels), value)
    return families.values()
