"""The second track's client against a server on this machine that does what servers do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from dialogue.assistant import Assistant
from dialogue.bots import load_bot
from dialogue.state import Turn
from gateway.outside.answer_stream import AnswerError
from gateway.outside.assistants import Assistants, BusyError
from gateway.settings import load
from tests.gateway.chat_model import ChatModel, Play, answers, chat_model, chunk, then

pytestmark = pytest.mark.unit

DONE = b"data: [DONE]\n\n"
BEFORE = [
    Turn(round_id=1, node="greet", said="hello", intent="oos", score=0, reply="Which day?"),
    Turn(round_id=2, node="greet", said="", intent="", score=0, reply="Are you there?"),
    Turn(round_id=3, node="greet", said="is it far", intent="oos", score=0, reply="No."),
]


def client(**settings: str) -> Assistants:
    given = {"HOSTS": "127.0.0.1", **settings}
    return Assistants(load(environ={f"VOICEGATE_ASSISTANT_{name}": value for name, value in given.items()}).assistant)


def assistant(url: str, **options: int) -> Assistant:
    return replace(Assistant(url=url, model="small-1", instructions="Be brief."), **options)  # type: ignore[arg-type]


async def asked(model: ChatModel, assistants: Assistants | None = None, **options: int) -> list[str]:
    told: list[str] = []
    try:
        await (assistants or client()).ask(assistant(model.url, **options), "how far", BEFORE, into(told))
    except AnswerError as error:
        return [*told, f"! {error}"]
    return told


def into(told: list[str]) -> Callable[[str], Awaitable[None]]:
    async def tell(sentence: str) -> None:
        told.append(sentence)

    return tell


@pytest.mark.parametrize("chunked", [False, True])
async def test_sentences_come_one_by_one(chunked: bool) -> None:
    play = answers(chunk("It is"), chunk(" near. Take"), chunk(" the bus", finish_reason="stop"), DONE, chunked=chunked)
    async with chat_model(play) as model:
        assert await asked(model) == ["It is near.", "Take the bus"]
        head, body = model.requests[0]
    assert head.startswith("POST /v1/chat/completions HTTP/1.1\r\n") and "Authorization" not in head
    assert (body["model"], body["stream"], body["max_tokens"]) == ("small-1", True, 300)
    assert [(message["role"], message["content"]) for message in body["messages"]] == [
        ("system", "Be brief."),
        ("user", "hello"),
        ("assistant", "Which day?"),
        ("assistant", "Are you there?"),
        ("user", "is it far"),
        ("assistant", "No."),
        ("user", "how far"),
    ]
    assert "tools" not in body


async def test_a_key_is_sent_and_turns_before_only_as_many_as_wanted() -> None:
    async with chat_model(answers(chunk("Yes.", finish_reason="stop"))) as model:
        assert await asked(model, client(API_KEY="s3cret"), history=1) == ["Yes."]
        assert await asked(model, client(API_KEY="s3cret"), history=0) == ["Yes."]
    (head, one), (_, none) = model.requests
    assert "Authorization: Bearer s3cret\r\n" in head
    assert [m["content"] for m in one["messages"]] == ["Be brief.", "is it far", "No.", "how far"]
    assert [m["content"] for m in none["messages"]] == ["Be brief.", "how far"]


async def test_a_sentence_is_told_before_the_next_is_there() -> None:
    told: list[str] = []
    first = asyncio.Event()

    async def tell(sentence: str) -> None:
        told.append(sentence)
        first.set()

    async with chat_model(then(chunk("One. "), None, chunk("Two.", finish_reason="stop"))) as model:
        asking = asyncio.create_task(client().ask(assistant(model.url), "x", [], tell))
        async with asyncio.timeout(20):
            await first.wait()
            assert told == ["One."]
            model.go_on.set()
            await asking
    assert told == ["One.", "Two."]


@pytest.mark.parametrize(
    ("play", "expected"),
    [
        (answers(chunk("Cut in the mid"), chunk("dle of", finish_reason="length")), []),
        (answers(chunk("So. Cut in"), chunk("the", finish_reason="length")), ["So."]),
        (answers(DONE), []),
        (answers(chunk("So. And the line breaks")), ["So.", "! the stream ended in the middle of an answer"]),
        (answers(), ["! the stream ended in the middle of an answer"]),
        (answers(b"data: {\n\n"), ["! an event is no chunk of a chat completion"]),
        (answers(b"data: \xff\n\n"), ["! the stream is no UTF-8"]),
        (answers(b'data: {"error": {"message": "overloaded"}}\n\n'), ["! an event is no chunk of a chat completion"]),
        (answers(b"<html>not found</html>"), ["! the stream ended in the middle of an answer"]),
    ],
)
async def test_what_is_no_whole_answer(play: Play, expected: list[str]) -> None:
    async with chat_model(play) as model:
        assert await asked(model) == expected


async def _raw(sent: bytes) -> list[str]:
    async def play(model: ChatModel, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()
        writer.close()

    async with chat_model(play) as model:
        return await asked(model)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "the model's server answers 503"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "answers 302"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000, "RemoteProtocolError"),
        (b"", "RemoteProtocolError"),
    ],
)
async def test_what_is_no_answer_at_all(sent: bytes, why: str) -> None:
    (told,) = await _raw(sent)
    assert told.startswith("!") and why in told


async def test_a_dead_server() -> None:
    async with chat_model(answers()) as model:
        pass
    (told,) = await asked(model)
    assert "ConnectionRefusedError" in told


async def test_one_that_says_nothing_has_its_time() -> None:
    async with chat_model(then(None)) as model:
        assert await asked(model, client(TIMEOUT_S="0.05")) == ["! 127.0.0.1: no end within 0.05 s"]


async def test_one_that_never_ends_is_left_when_enough_came() -> None:
    async def endless(model: ChatModel, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(chunk("More and more. "))
            await writer.drain()

    async with chat_model(endless) as model:
        assert await asked(model, max_chars=60) == ["More and more."] * 4
        async with asyncio.timeout(20):
            await model.left.wait()


async def test_one_that_never_ends_without_a_word_too() -> None:
    async def endless(model: ChatModel, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b": still there\n\n" * 1000)
            await writer.drain()

    async with chat_model(endless) as model:
        assert await asked(model) == ["! the stream is too long"]


async def test_the_connection_ends_with_the_asker() -> None:
    async with chat_model(then(chunk("Wait"), None)) as model:
        asking = asyncio.create_task(client().ask(assistant(model.url), "x", [], into([])))
        async with asyncio.timeout(20):
            await model.asked.wait()
            asking.cancel()
            await model.left.wait()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_no_more_are_asked_than_may_be_at_once() -> None:
    assistants = client(CONCURRENCY="1")
    async with chat_model(then(None, chunk("Yes.", finish_reason="stop"))) as model:
        first = asyncio.create_task(assistants.ask(assistant(model.url), "x", [], into([])))
        async with asyncio.timeout(20):
            await model.asked.wait()
            with pytest.raises(BusyError):
                await assistants.ask(assistant(model.url), "x", [], into([]))
            model.go_on.set()
            await first
            assert await asked(model, assistants) == ["Yes."]
    assert len(model.requests) == 2


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://models.example.com/v1", "not among assistant.hosts"),
        ("http://models.example.org/v1", "without encryption"),
        ("http://127.0.0.1:1@models.example.com/v1", "not among assistant.hosts"),
    ],
)
async def test_hosts_that_may_not_be_asked_are_not(url: str, why: str) -> None:
    assistants = client(HOSTS="127.0.0.1,models.example.org")
    with pytest.raises(AnswerError, match=why):
        await assistants.ask(assistant(url), "x", [], into([]))
    bot = replace(load_bot("load"), assistant=assistant(url))
    (told,) = assistants.refused_hosts(bot)
    assert told.startswith("bot load, assistant: ") and why in told
    assert list(assistants.refused_hosts(load_bot("load"))) == []
