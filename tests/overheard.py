"""A pytest plugin: no caller's words in any log line of the whole run. What callers say is in `tests.caller_words`.

    our loggers, at every level, whatever a test sets --.
    other loggers, as far as they are on               --+--> caller's words? --> the run fails, naming test and line
    children's stderr: captured, or in a log file      --'

Where several processes share the tests (pytest-xdist), each tells the first what it heard as it ends.

Words that the product prints on purpose (`voicegate call`, `voicegate watch`) go to stdout, which is no log.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.caller_words import find_caller_words

__all__ = ["Overheard"]

_OURS: Final = ("audio", "bench", "dialogue", "gateway", "nlu", "tts_stub", "__main__")
_THE_TESTS_OWN: Final = ("websockets.client", "httpx", "httpcore")  # clients of theirs, whose frames hold what is said
_LOG_FILES: Final = ("*/log*", "*/*.log")  # in a test's or fixture's temporary folder


@dataclass(frozen=True, slots=True)
class Finding:
    """A caller's words in a log: in which test, and from which line of code or of a file."""

    test: str
    where: str
    words: str


class Overheard:
    """All that is logged in this process, without changing what handlers and levels let through."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.test = "(no test)"
        self._format = logging.Formatter().format
        self._is_enabled = logging.Logger.isEnabledFor
        self._call_handlers = logging.Logger.callHandlers

    def begin(self) -> None:
        """Hear every logger from now on."""
        overheard, is_enabled, call_handlers = self, self._is_enabled, self._call_handlers

        def enabled(logger: logging.Logger, level: int) -> bool:
            return _talks(logger) or is_enabled(logger, level)

        def handle(logger: logging.Logger, record: logging.LogRecord) -> None:
            overheard.look(record)
            if is_enabled(logger, record.levelno):
                call_handlers(logger, record)

        logging.Logger.isEnabledFor = enabled  # type: ignore[assignment,method-assign]
        logging.Logger.callHandlers = handle  # type: ignore[assignment,method-assign]

    def end(self) -> None:
        """Hear nothing any more."""
        logging.Logger.isEnabledFor = self._is_enabled  # type: ignore[method-assign]
        logging.Logger.callHandlers = self._call_handlers  # type: ignore[method-assign]

    def look(self, record: logging.LogRecord) -> None:
        """Take a record of any logger."""
        if not record.name.startswith(_THE_TESTS_OWN):
            self._find(self._format(record), self.test, f"{record.pathname}:{record.lineno} ({record.name})")

    def look_at_output(self, test: str, text: str) -> None:
        """Take what this process and its children wrote to stderr in a test."""
        for number, line in enumerate(text.splitlines(), 1):
            self._find(line, test, f"line {number} of its stderr")

    def look_at_files(self, folder: Path) -> None:
        """Take the logs that children wrote below the run's temporary folder, whose names hold their tests'."""
        logs = {path for pattern in _LOG_FILES for path in folder.glob(pattern) if path.is_file()}
        for file in sorted(path for path in logs if not path.parent.is_symlink()):
            with file.open(encoding="utf-8", errors="replace") as lines:
                for number, line in enumerate(lines, 1):
                    self._find(line, file.parent.name, f"{file}:{number}")

    def _find(self, text: str, test: str, where: str) -> None:
        if (words := find_caller_words(text)) is not None:
            self.findings.append(Finding(test, where, words))


def _talks(logger: logging.Logger) -> bool:
    """Whether a logger is ours and says what the settings want. One with a level of its own is kept quiet by the code,
    whatever the settings: libraries write frames into it."""
    return logger.name in _OURS or (logger.name.partition(".")[0] in _OURS and logger.level == logging.NOTSET)


_KEY: Final = pytest.StashKey[Overheard]()
_TOLD: Final = "overheard"


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is collected: modules may log as they are imported."""
    config.stash[_KEY] = Overheard()
    config.stash[_KEY].begin()


def pytest_unconfigure(config: pytest.Config) -> None:
    """After everything."""
    config.stash[_KEY].end()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Know in which test something is said; fixtures' ends are the last test's that had them."""
    item.config.stash[_KEY].test = item.nodeid
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What was captured of stderr, children's too."""
    report = yield
    captured = [text for name, text in report.sections if name == f"Captured stderr {report.when}"]
    item.config.stash[_KEY].look_at_output(item.nodeid, "".join(captured))
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run whose tests passed has failed all the same."""
    overheard = session.config.stash[_KEY]
    factory = getattr(session.config, "_tmp_path_factory", None)
    if factory is not None and factory._basetemp is not None:  # there is one only where a test wanted it
        overheard.look_at_files(factory.getbasetemp())
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[_TOLD] = [astuple(finding) for finding in overheard.findings]
    if overheard.findings and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What one of several processes heard. Of one that crashed nothing is known; its test has failed."""
    told = getattr(node, "workeroutput", {}).get(_TOLD, ())
    node.config.stash[_KEY].findings.extend(Finding(*finding) for finding in told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name each place once; what was said there is in `tests.caller_words`, and so no secret."""
    found = list(dict.fromkeys(config.stash[_KEY].findings))
    if found:
        terminalreporter.section("callers' words in a log", red=True, bold=True)
        for one in found:
            terminalreporter.line(f"{one.test}: {one.words!r} from {one.where}")
