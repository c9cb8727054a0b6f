"""Places for the boxes of a directed graph, in rows from top to bottom, so that few edges cross.

Source: the framework of Sugiyama, Tagawa and Toda (1981): edges that close a circle are turned around, every vertex
gets a row below its predecessors, edges over several rows pass through a thin vertex in each, rows are ordered by the
mean of their neighbours' places, and vertices are then drawn towards those neighbours. Deterministic: the same graph
gives the same places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Edge", "Layout", "Place", "Size", "lay_out"]

_GAP_X = 28.0
_GAP_Y = 84.0
_THIN = 14.0
_SWEEPS = 12
_PULLS = 24


@dataclass(frozen=True, slots=True)
class Edge:
    """From one vertex to another."""

    tail: str
    head: str


@dataclass(frozen=True, slots=True)
class Size:
    """Of a vertex, in the drawing's units."""

    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Place:
    """A vertex's middle."""

    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Places of vertices, and the points that each edge passes between its ends, tail first."""

    places: Mapping[str, Place]
    routes: Mapping[Edge, tuple[Place, ...]]
    width: float
    height: float


def lay_out(sizes: Mapping[str, Size], edges: Sequence[Edge], *, start: str) -> Layout:
    """Lay a graph out.

    Args:
        sizes: the vertices, in the order in which they should stand where nothing else decides.
        edges: between them; several of the same ends are one, an edge to itself has no route.
        start: the vertex to stand on top.
    """
    proper = list(dict.fromkeys(edge for edge in edges if edge.tail != edge.head))
    downward = _downward(list(sizes), proper, start)
    rows = _rows(list(sizes), downward)
    # From here on vertices are numbers: those of the graph first, then the thin ones.
    names = list(sizes)
    number = {name: i for i, name in enumerate(names)}
    row_of = [rows[name] for name in names]
    widths = [sizes[name].width for name in names]
    chains: dict[Edge, list[int]] = {}
    links: list[tuple[int, int]] = []
    for edge, turned in downward.items():
        tail, head = (edge.head, edge.tail) if turned else (edge.tail, edge.head)
        chain = [number[tail]]
        for row in range(rows[tail] + 1, rows[head]):
            row_of.append(row)
            widths.append(_THIN)
            chain.append(len(row_of) - 1)
        chain.append(number[head])
        links += zip(chain, chain[1:], strict=False)
        chains[edge] = chain[::-1] if turned else chain
    above: list[list[int]] = [[] for _ in row_of]
    below: list[list[int]] = [[] for _ in row_of]
    for upper, lower in links:
        above[lower].append(upper)
        below[upper].append(lower)
    order = _order(row_of, above, below)
    xs = _columns(order, widths, above, below)
    ys, height = _heights(order, [sizes[name].height for name in names])
    places = [Place(x, ys[row]) for x, row in zip(xs, row_of, strict=True)]
    return Layout(
        places={name: places[i] for i, name in enumerate(names)},
        routes={edge: tuple(places[i] for i in chain[1:-1]) for edge, chain in chains.items()},
        width=max((x + w / 2 for x, w in zip(xs, widths, strict=True)), default=0.0),
        height=height,
    )


def _downward(names: Sequence[str], edges: Sequence[Edge], start: str) -> dict[Edge, bool]:
    """Every edge, and whether it is turned around: those that lead back to where a walk from `start` came from."""
    heads: dict[str, list[Edge]] = {name: [] for name in names}
    for edge in edges:
        heads[edge.tail].append(edge)
    turned: dict[Edge, bool] = {}
    seen: set[str] = set()
    on_way: set[str] = set()
    for root in (start, *names):
        if root in seen:
            continue
        seen.add(root)
        on_way.add(root)
        walk = [(root, iter(heads[root]))]
        while walk:
            name, ahead = walk[-1]
            for edge in ahead:
                turned[edge] = edge.head in on_way
                if edge.head not in seen:
                    seen.add(edge.head)
                    on_way.add(edge.head)
                    walk.append((edge.head, iter(heads[edge.head])))
                    break
            else:
                on_way.discard(name)
                walk.pop()
    return {edge: turned[edge] for edge in edges}


def _rows(names: Sequence[str], downward: Mapping[Edge, bool]) -> dict[str, int]:
    """The longest way down to each vertex."""
    rows = dict.fromkeys(names, 0)
    pairs = [(e.head, e.tail) if turned else (e.tail, e.head) for e, turned in downward.items()]
    for _ in names:  # no way is longer than there are vertices
        moved = False
        for upper, lower in pairs:
            if rows[lower] <= rows[upper]:
                rows[lower] = rows[upper] + 1
                moved = True
        if not moved:
            break
    return rows


def _order(row_of: Sequence[int], above: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> list[list[int]]:
    """The vertices of each row from left to right, with the fewest crossings that the sweeps met."""
    rows: list[list[int]] = [[] for _ in range(max(row_of, default=-1) + 1)]
    for vertex, row in enumerate(row_of):
        rows[row].append(vertex)
    best, fewest = [list(row) for row in rows], _crossings(rows, below)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        neighbours = above if down else below
        for line in rows if down else reversed(rows):
            place = {vertex: float(i) for other in rows for i, vertex in enumerate(other)}
            mean = place | {v: _mean(place, neighbours[v]) for v in line if neighbours[v]}
            line.sort(key=mean.__getitem__)
        if (crossings := _crossings(rows, below)) < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return best


def _crossings(rows: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> int:
    count = 0
    for upper, lower in zip(rows, rows[1:], strict=False):
        place = {vertex: i for i, vertex in enumerate(lower)}
        ends = [place[n] for vertex in upper for n in sorted(below[vertex], key=place.__getitem__)]
        count += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return count


def _columns(
    order: Sequence[Sequence[int]],
    widths: Sequence[float],
    above: Sequence[Sequence[int]],
    below: Sequence[Sequence[int]],
) -> list[float]:
    """x of each vertex: near its neighbours', in the order of its row, and never over another."""
    xs = [0.0] * len(widths)
    for row in order:
        right = 0.0
        for vertex in row:
            xs[vertex] = right + widths[vertex] / 2
            right += widths[vertex] + _GAP_X
    for pull in range(_PULLS):
        neighbours = (above, below)[pull % 2]
        for row in order:
            wanted = [_mean(xs, neighbours[v]) if neighbours[v] else xs[v] for v in row]
            _pack(row, wanted, widths, xs)
    left = min((x - w / 2 for x, w in zip(xs, widths, strict=True)), default=0.0)
    return [x - left for x in xs]


def _mean(values: Mapping[int, float] | Sequence[float], of: Sequence[int]) -> float:
    return sum(values[n] for n in of) / len(of)


def _pack(row: Sequence[int], wanted: Sequence[float], widths: Sequence[float], xs: list[float]) -> None:
    """The places nearest to those wanted that keep the distances: blocks that touch move to their mean."""
    offset, blocks = 0.0, []
    for i, vertex in enumerate(row):
        if i:
            offset += (widths[row[i - 1]] + widths[vertex]) / 2 + _GAP_X
        blocks.append([wanted[i] - offset, 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, count = blocks.pop()
            before, members = blocks[-1]
            blocks[-1] = [(before * members + mean * count) / (members + count), members + count]
    bases = [base for base, members in blocks for _ in range(int(members))]
    offset = 0.0
    for i, vertex in enumerate(row):
        if i:
            offset += (widths[row[i - 1]] + widths[vertex]) / 2 + _GAP_X
        xs[vertex] = bases[i] + offset


def _heights(order: Sequence[Sequence[int]], heights: Sequence[float]) -> tuple[list[float], float]:
    """y of each row's middle, and that of the last one's lower edge."""
    ys, y = [], 0.0
    for row in order:
        tall = max((heights[v] for v in row if v < len(heights)), default=0.0)
        ys.append(y + tall / 2)
        y += tall + _GAP_Y
    return ys, y - _GAP_Y if ys else 0.0
