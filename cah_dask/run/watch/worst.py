"""The most frequent of very many names, in bounded memory: the space-saving method.

A. Metwally, D. Agrawal, A. El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data
Streams", 2005: who comes when all places are taken gets the place, and the weight, of the lightest.
So no name of a weight above the mean of the places is missing. What is told of a name is what was
counted since it has its place, never what it took over.
"""

from collections import Counter
from collections.abc import Mapping

from cah_dask.run.watch.figures import HostFigures


class _Place:
    """What is known of one name."""

    __slots__ = ("outcomes", "trouble", "weight")

    def __init__(self, taken_over: int) -> None:
        self.weight = taken_over
        self.trouble = 0
        self.outcomes: Counter[str] = Counter()


class WorstHosts:
    """Hosts by their trouble.

    Parameters
    ----------
    places
        Hosts that are kept in mind.
    """

    def __init__(self, places: int = 256) -> None:
        self._n_places = places
        self._places: dict[str, _Place] = {}

    def add(self, host: str, trouble: int, outcomes: Mapping[str, int]) -> None:
        """Add the urls of a host in one list, of which `trouble` had trouble."""
        place = self._places.get(host)
        if place is None:
            place = self._places[host] = _Place(self._make_room())
        place.weight += trouble
        place.trouble += trouble
        place.outcomes.update(outcomes)

    def _make_room(self) -> int:
        """Forget the lightest if all places are taken; return the weight of who was forgotten."""
        if len(self._places) < self._n_places:
            return 0
        lightest = min(self._places, key=lambda host: (self._places[host].weight, host))
        return self._places.pop(lightest).weight

    def top(self, number: int) -> list[HostFigures]:
        """Return the hosts with the most trouble, the worst first."""
        ranked = sorted(self._places.items(), key=lambda item: (-item[1].trouble, item[0]))
        return [
            HostFigures(
                host=host,
                trouble=place.trouble,
                outcomes=dict(place.outcomes.most_common()),
            )
            for host, place in ranked[:number]
        ]
