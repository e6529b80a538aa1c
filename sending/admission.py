"""Which first attempts a worker takes on: so many of a subscription, and more wait as rows with its drain."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID


class Admission:
    """What one activity may begin. Each yes holds a place in its subscription's queue until that attempt is begun and
    counts by itself, or until the activity has begun what it was going to."""

    def __init__(self, admitted: Counter[UUID], has_room: Callable[[UUID], bool]) -> None:
        self._all = admitted
        self._own: Counter[UUID] = Counter()
        self._has_room = has_room

    def may_begin(self, subscription_id: UUID) -> bool:
        """Whether this worker takes on one more."""
        if not self._has_room(subscription_id):
            return False
        self._own[subscription_id] += 1
        self._all[subscription_id] += 1
        return True

    def begun(self, subscription_id: UUID) -> None:
        """One is under way: counted twice, a burst's batches would turn each other's attempts away."""
        if self._own[subscription_id]:
            self._give_back(subscription_id, 1)

    def end(self) -> None:
        """Give back what was not begun; more may be asked for afterwards."""
        for subscription_id, places in list(self._own.items()):
            self._give_back(subscription_id, places)

    def _give_back(self, subscription_id: UUID, places: int) -> None:
        self._own[subscription_id] -= places
        self._all[subscription_id] -= places
        if not self._all[subscription_id]:
            del self._all[subscription_id]


class Admissions:
    """Of one worker, all activities together. `under_way` tells the attempts of a subscription that were begun."""

    def __init__(self, most: int, under_way: Callable[[UUID], int]) -> None:
        self._most = most
        self._under_way = under_way
        self._admitted: Counter[UUID] = Counter()

    @contextmanager
    def begin(self) -> Iterator[Admission]:
        """Within the block an activity asks for each first attempt, and begins it."""
        admission = Admission(self._admitted, self._has_room)
        try:
            yield admission
        finally:
            admission.end()

    def _has_room(self, subscription_id: UUID) -> bool:
        return self._under_way(subscription_id) + self._admitted[subscription_id] < self._most
