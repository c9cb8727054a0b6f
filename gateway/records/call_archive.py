"""All that Redis holds about a call, or about a caller: to be shown, exported and forgotten.

| key | what |
| --- | --- |
| `vg:{CALL_ID}:state`, `:answers`, `:order` | the dialogue (`dialogue.store`) |
| `vg:{CALL_ID}:intent:N`, `:meaning:N`, `:answer:N` | answers of the HTTP API; a chat is the call `chat/BOT/UID` |
| `vg:{results}:open`, `:done:CALL_ID`, the stream of records | what came of it (`gateway.records.results`) |
| the stream of events, where there is one | what was said, redacted (`gateway.monitoring`) |
| `vg:{caller:HASH}:last`, `:calls` | whose it was (`gateway.records.callers`) |

What has no name of its own is looked for from end to end, once however many calls are asked for: 50,000 keys take
30 ms, 500,000 half a second, a stream of 100,000 records two seconds (a busy core).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import redis.asyncio as redis

from dialogue.store import RedisStore, state_keys
from gateway.records.callers import caller_keys
from gateway.records.results import OPEN_KEY, done_key

__all__ = ["CallArchive", "Forgotten", "StoredCall"]

_PAGE: Final = 1000
_GLOB: Final = str.maketrans({char: f"\\{char}" for char in "*?[]^\\"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCall:
    """One call as Redis has it. Values are JSON as they were stored."""

    call_id: str
    epoch: int
    version: int
    expires_in_s: int | None
    """None: there is no state (any more), only what is left of the call elsewhere."""
    state: dict[str, Any] | None
    answers: dict[str, Any]
    """By write key: what was done in each of the last steps."""
    http_answers: dict[str, Any]
    records: list[dict[str, Any]]
    events: list[dict[str, Any]]

    @property
    def empty(self) -> bool:
        """Whether nothing was found."""
        return self.state is None and not (self.answers or self.http_answers or self.records or self.events)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """How much was deleted."""

    calls: int
    keys: int
    records: int
    events: int


class CallArchive:
    """Over a client that decodes responses; whoever made the client closes it. Everything may raise RedisError, OSError
    or StoreError."""

    def __init__(self, client: redis.Redis, *, records: str, events: str | None = None) -> None:
        """`records`, `events`: names of the streams."""
        self._client = client
        self._store = RedisStore(client)
        self._records = records
        self._events = events

    async def calls_of(self, who: str) -> list[str]:
        """Ids of a caller's calls, the oldest first; `who` as `gateway.records.callers.identity` makes it."""
        known = {str(call_id): None for call_id in await self._client.zrange(caller_keys(who)[1], 0, -1)}
        async for _, fields in self._walk(self._records):
            if fields.get("caller") == who:
                known[fields["call_id"]] = None
        return list(known)

    async def find(self, call_ids: Sequence[str]) -> list[StoredCall]:
        """What there is of each of these calls."""
        if not call_ids:
            return []
        http_keys = await self._http_keys(call_ids)
        records: dict[str, list[dict[str, Any]]] = {call_id: [] for call_id in call_ids}
        async for _, call_id, fields in self._about(self._records, set(call_ids)):
            records[call_id].append(json.loads(fields["record"]))
        events: dict[str, list[dict[str, Any]]] = {call_id: [] for call_id in call_ids}
        async for _, call_id, fields in self._about(self._events, set(call_ids)):
            events[call_id].append(json.loads(fields["event"]))
        return [
            await self._stored(call_id, http_keys[call_id], records[call_id], events[call_id]) for call_id in call_ids
        ]

    async def _stored(
        self, call_id: str, http_keys: list[str], records: list[dict[str, Any]], events: list[dict[str, Any]]
    ) -> StoredCall:
        state_key, answers_key, order_key = state_keys(call_id)
        stored = cast("dict[str, str]", await self._client.hgetall(state_key))
        body = stored.get("body")
        http_answers = {
            _owner_and_name(key)[1]: _parsed(cast("str | None", await self._client.get(key)))
            for key in sorted(http_keys)
        }
        answers = cast("dict[str, str]", await self._client.hgetall(answers_key))
        order = cast("list[str]", await self._client.lrange(order_key, 0, -1))
        return StoredCall(
            call_id=call_id,
            epoch=int(stored.get("epoch", 0)),
            version=int(stored.get("version", 0)),
            expires_in_s=await self._client.ttl(state_key) if body else None,
            state=_parsed(body) if body else None,
            answers={name: _parsed(answers[name]) for name in order if name in answers},
            http_answers=http_answers,
            records=records,
            events=events,
        )

    async def forget(self, call_ids: Sequence[str], *, who: str | None = None) -> Forgotten:
        """Delete what there is of these calls, and of their caller. A call in progress ends (4409) with its next step;
        what is left of each is the number that refuses its late writes, until it expires."""
        keys = 0
        http_keys = await self._http_keys(call_ids)
        for call_id in call_ids:
            keys += await self._store.forget(call_id)
            for key in (*http_keys[call_id], done_key(call_id)):
                keys += await self._client.unlink(key)
        wanted = set(call_ids)
        async for member, _ in self._client.zscan_iter(OPEN_KEY):
            if json.loads(member)[0] in wanted:
                keys += await self._client.zrem(OPEN_KEY, member)
        for key in caller_keys(who) if who is not None else ():
            keys += await self._client.unlink(key)
        return Forgotten(
            calls=len(call_ids),
            keys=keys,
            records=await self._delete(self._records, wanted),
            events=await self._delete(self._events, wanted),
        )

    async def _delete(self, stream: str | None, call_ids: set[str]) -> int:
        entries = [entry_id async for entry_id, _, _ in self._about(stream, call_ids)]
        for first in range(0, len(entries), _PAGE):
            await self._client.xdel(stream or "", *entries[first : first + _PAGE])
        return len(entries)

    async def _http_keys(self, call_ids: Sequence[str]) -> dict[str, list[str]]:
        """Keys of each call beside those of its dialogue."""
        found: dict[str, list[str]] = {call_id: [] for call_id in call_ids}
        known = {key for call_id in call_ids for key in state_keys(call_id)}
        owner = call_ids[0].translate(_GLOB) if len(call_ids) == 1 else "*"
        async for key in self._client.scan_iter(match=f"vg:{{{owner}}}:*", count=_PAGE):
            if key not in known and (call_id := _owner_and_name(str(key))[0]) in found:
                found[call_id].append(str(key))
        return found

    async def _about(self, stream: str | None, call_ids: set[str]) -> AsyncIterator[tuple[str, str, dict[str, str]]]:
        """Entries of a stream that are about one of these calls: entry id, call id, fields."""
        if stream is None:
            return
        async for entry_id, fields in self._walk(stream):
            call_id = json.loads(fields["event"]).get("call_id") if "event" in fields else fields.get("call_id")
            if call_id in call_ids:
                yield entry_id, call_id, fields

    async def _walk(self, stream: str) -> AsyncIterator[tuple[str, dict[str, str]]]:
        start = "-"
        while True:
            page = cast("list[tuple[str, dict[str, str]]]", await self._client.xrange(stream, min=start, count=_PAGE))
            if not page:
                return
            for entry in page:
                yield entry
            start = f"({page[-1][0]}"


def _owner_and_name(key: str) -> tuple[str, str]:
    """The call that a key belongs to, and what it is of that call's."""
    owner, _, name = key.removeprefix("vg:{").rpartition("}:")
    return owner, name


def _parsed(text: str | None) -> Any:
    try:
        return json.loads(text or "null")
    except ValueError:
        return text
