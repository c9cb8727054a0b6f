"""What PROTOCOLS.md asks of each dialect under "conformance tests", and the tests that show it.

    python -m tests.gateway.protocols.conformance [--protocol twilio] [--json]

runs them and says by protocol and requirement what came of them. A test is named by its file under tests/ and the
beginning of its id: all that begin so are meant, with every parameter.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

__all__ = ["REQUIREMENTS", "Requirement"]

TESTS = Path(__file__).parents[2]
HERE = "gateway/protocols"
RULES = f"{HERE}/test_rules.py::test_"
CALLS = f"{HERE}/test_calls.py::test_"
ODD = f"{HERE}/test_calls_odd.py::test_"
SHAKES = f"{HERE}/test_handshakes.py::test_"
PACE = f"{HERE}/test_pace.py::test_fifty_frames_a_second_in_every_dialect"
FUZZ = f"{HERE}/test_fuzz.py::test_"
AUTH = "gateway/access/test_dialect_auth.py::test_"
SOCKET = "gateway/calls/test_websocket.py::test_"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One line of the list, and the tests of it."""

    text: str
    tests: tuple[str, ...]


def _asked(prefix: str, rows: Mapping[str, Sequence[str]]) -> tuple[Requirement, ...]:
    """Requirements whose tests lie in one module, but for those named with a path."""
    return tuple(
        Requirement(text, tuple(name if "::" in name else prefix + name for name in names))
        for text, names in rows.items()
    )


REQUIREMENTS: Mapping[str, tuple[Requirement, ...]] = {
    "every dialect": _asked(
        RULES,
        {
            "accepts no subprotocol, a known one, a strange one": ["no_subprotocol_a_known_one"],
            "never an extension in the 101": ["no_subprotocol_a_known_one", f"{SOCKET}an_offer_of_deflate"],
            "the 101 waits for no store and no model": ["the_101_waits_for_nothing"],
            "messages unfragmented, 16 KiB at most": [
                f"{SHAKES}frames_of_ours_are_whole_unmasked_and_small",
                f"{CALLS}the_greeting_comes_at_once",
            ],
            "never stops reading": ["reading_goes_on_while_the_recogniser_hangs"],
            "order, message sizes and odd bytes do not matter": [
                "half_samples_and_empty_messages_change_nothing",
                f"{CALLS}messages_of_any_size_give_the_same_samples",
                f"{FUZZ}nothing_raises_in_any_order",
            ],
            "an empty binary message is no error": ["half_samples_and_empty_messages_change_nothing"],
            "a stall and its burst give the same samples": [f"{CALLS}messages_of_any_size_give_the_same_samples"],
            "a tenth of the frames may be missing": ["a_tenth_of_the_frames_may_be_missing"],
            "first words within 200 ms, bit-exact": [f"{CALLS}the_greeting_comes_at_once"],
            "50.0 frames a second": [PACE],
            "at most 200 ms ahead": ["gateway/calls/test_playout.py::test_first_frames_leave_at_once"],
            "barge-in clears the peer": [f"{CALLS}speech_over_the_prompt_clears_what_the_peer_has"],
            "no pings unless they are asked for": [
                f"{SHAKES}the_gateway_sends_no_pings",
                f"{SOCKET}no_pings_unless_they_are_asked_for",
                f"{SOCKET}pings_go_out_at_their_interval",
            ],
            "token by Bearer, Basic, query and path, refused before audio": [f"{AUTH}bearer_basic_query_and_path"],
            "trusted networks": [f"{AUTH}a_trusted_network_needs_no_token", f"{AUTH}networks"],
            "tokens and queries are not logged": [f"{AUTH}no_token_reaches_the_log"],
            "G.711 both laws bit-exact": ["audio/test_g711.py::test_"],
            "a hostile peer harms its own call alone": [f"{HERE}/test_hostile.py::test_", FUZZ],
        },
    ),
    "asterisk": _asked(
        f"{HERE}/test_asterisk.py::test_",
        {
            "(a) plain and JSON MEDIA_START, the oldest form, unknown fields": [
                "a_start_in_either_form",
                "the_oldest_form_has_no_format",
                "fields_of_later_builds",
            ],
            "(b) replies in the same format": ["commands_come_in_the_peers_own_form"],
            "(c) 101 without extensions, echoes `media`": [
                f"{SHAKES}the_answer_to_each_products_request[asterisk-media]"
            ],
            "(d) no subprotocol offered": [f"{SHAKES}the_answer_to_each_products_request[asterisk-none]"],
            "(e) Basic good and bad": [f"{AUTH}bearer_basic_query_and_path[/asterisk]"],
            "(f) ulaw, alaw, slin, slin16 both ways, whole frames": [
                f"{CALLS}a_caller_is_heard_and_the_bot_hangs_up[asterisk",
                f"{CALLS}the_greeting_comes_at_once_bit_exact_in_frames_of_the_right_size[asterisk",
                "audio_of_any_size_goes_out_in_whole_frames",
                "an_own_frame_size_is_obeyed",
            ],
            "(g) XOFF stops within a frame, XON resumes, no loss": [
                f"{ODD}xoff_stops_the_bot_within_a_frame",
                "a_full_driver_gets_nothing",
                "a_long_wait_comes_out_in_bursts",
                "a_flush_empties_what_waits",
                "what_waits_is_bounded",
            ],
            "(h) barge-in flushes, marks on their way are resolved here": [
                f"{CALLS}speech_over_the_prompt_clears_what_the_peer_has_and_is_answered[asterisk",
                f"{ODD}marks_that_a_flush_swallowed",
            ],
            "(i) marks resolve in order": [
                f"{CALLS}marks_come_in_order_and_the_silence_after_them_is_noticed[asterisk"
            ],
            "(j) every command is 128 bytes at most": ["no_command_is_longer_than_the_driver_takes"],
            "(k) audio before MEDIA_START is kept": [
                "audio_before_the_start_is_kept",
                "no_more_than_two_seconds_are_kept",
                f"{ODD}audio_ahead_of_media_start_is_heard",
            ],
            "(l) CLOSE without warning ends the session": [
                f"{CALLS}a_caller_who_hangs_up_ends_the_call_once[asterisk",
                f"{CALLS}a_peer_that_vanishes_is_a_lost_call[asterisk",
            ],
            "(m) DTMF_END reaches the dialogue": [
                f"{CALLS}keys_stop_the_prompt_and_are_one_entry[asterisk",
                "every_event_in_both_forms",
            ],
            "(n) 50.0 frames a second": [PACE],
        },
    ),
    "freeswitch": _asked(
        f"{HERE}/test_freeswitch.py::test_",
        {
            "(a) the module's own header spelling": [f"{SHAKES}the_answer_to_each_products_request[freeswitch"],
            "(b) deflate offered or not": [f"{SHAKES}the_answer_to_each_products_request[freeswitch"],
            "(c) binary before text, no text, text that is no JSON": [
                "audio_first_then_metadata",
                "no_metadata_at_all",
                "metadata_that_is_no_json_or_cut",
            ],
            "(d) 8k and 16k, mono and stereo, the caller first": [
                "rate_and_channels_where_the_deployer_put_them",
                f"{RULES}of_two_channels_the_first_is_the_caller[freeswitch",
            ],
            "(e) odd sizes and 200 ms messages": [
                "audio_of_any_size_is_handed_on",
                f"{RULES}half_samples_and_empty_messages_change_nothing",
                f"{CALLS}messages_of_any_size_give_the_same_samples[freeswitch",
            ],
            "(f) reply JSON passes a strict checker": [
                "json_playback_passes_a_strict_checker",
                f"{CALLS}the_greeting_comes_at_once_bit_exact_in_frames_of_the_right_size[freeswitch",
            ],
            "(g) an abrupt end and a 1000 close end the session once": [
                f"{CALLS}a_caller_who_hangs_up_ends_the_call_once[freeswitch",
                f"{CALLS}a_peer_that_vanishes_is_a_lost_call[freeswitch",
            ],
            "a pause of the audio ends no call": [
                f"{ODD}a_line_that_is_paused_or_stalls_is_not_asked_whether_anybody_is_there[freeswitch"
            ],
            "metadata from far away": [f"{ODD}freeswitch_from_afar_says_what_the_call_is"],
        },
    ),
    "jambonz": _asked(
        f"{HERE}/test_jambonz.py::test_",
        {
            "both subprotocols": [f"{SHAKES}the_answer_to_each_products_request[jambonz"],
            "binary of 320 and of 32,000 bytes": ["whatever_was_buffered_is_one_message"],
            "two JSON objects in one text": ["two_objects_in_one_text"],
            "truncated JSON": ["a_preamble_cut_anywhere", "later_texts"],
            "zero-length binary": [
                "an_empty_binary_message_is_no_error_and_no_audio",
                f"{ODD}a_line_that_is_paused_or_stalls_is_not_asked_whether_anybody_is_there[jambonz",
            ],
            "a preamble from far away": [f"{ODD}every_product_from_afar_says_what_the_call_is[-jambonz"],
            "stereo split": ["rate_and_mix", f"{RULES}of_two_channels_the_first_is_the_caller[jambonz"],
            "playAudio raw, playDone by its id": [
                "files_are_played_one_behind_the_other",
                f"{CALLS}a_caller_is_heard_and_the_bot_hangs_up[jambonz-files",
            ],
            "streaming output ends with 80 ms of silence": ["a_prompt_ends_with_its_mark_and_80_ms_of_silence"],
            "no sample of -1": ["streamed_audio_holds_no_mark_of_the_module"],
            "30 marks outstanding at most": ["no_more_than_30_marks_are_outstanding"],
            "killAudio on barge-in, cleared marks tolerated": [
                "a_clear_kills_audio_and_marks",
                "later_texts",
                f"{CALLS}speech_over_the_prompt_clears_what_the_peer_has_and_is_answered[jambonz",
            ],
        },
    ),
    "twilio": _asked(
        f"{HERE}/test_twilio.py::test_",
        {
            "the media servers' own request": [f"{SHAKES}the_answer_to_each_products_request[twilio"],
            "connected, start, media": [
                "connected_start_media",
                f"{CALLS}a_caller_is_heard_and_the_bot_hangs_up[twilio",
            ],
            "media before the start is ignored": ["media_out_of_the_call_is_passed_over"],
            "the outbound track is ignored": ["our_own_voice_is_not_heard"],
            "bad base64 is skipped": ["a_payload_that_is_no_base64_is_passed_over"],
            "a sequence gap is counted": ["gaps_in_the_sequence_are_counted"],
            "marks echo in order": [
                "marks_come_back_in_order",
                f"{CALLS}marks_come_in_order_and_the_silence_after_them_is_noticed[twilio",
            ],
            "a clear resolves marks": ["marks_come_back_in_order", "marks_and_clears"],
            "stop, then close": [f"{ODD}a_stop_and_then_the_close_end_the_call_once"],
            "close with no stop": [f"{ODD}twilio_may_close_without_a_stop"],
            "a token in customParameters is checked before any audio": [
                f"{AUTH}a_token_may_stand_in_twilios_start_and_nothing_is_said_before",
                f"{AUTH}a_start_that_never_comes_is_not_waited_for",
            ],
            "the signature is that of Twilio's own library": [
                f"{AUTH}the_signature_is_that_of_twilios_own_library",
                f"{AUTH}the_addresses_that_twilio_may_have_signed",
                f"{AUTH}twilios_signature_opens_and_a_wrong_one_does_not",
            ],
            "numbers may come as strings": ["numbers_may_be_strings"],
            "the REST call that ends or transfers": ["gateway/outside/test_carriers.py::test_"],
        },
    ),
    "vosk": _asked(
        "gateway/calls/test_recognition.py::test_",
        {
            "one reply to each audio message, none to a config": ["a_sample_client_gets_one_reply_a_message"],
            "partial and final texts": ["words_appear_while_the_utterance_goes_on", "a_sample_client_gets"],
            "eof in any spelling, then the close": ["every_message", "the_last_words_are_given_at_the_end"],
            "reset": ["a_reset_gives_the_words_and_goes_on"],
            "messages of any size": ["message_sizes_do_not_matter"],
            "any sample rate": ["a_sample_client_gets", "a_rate_that_no_audio_has_is_refused"],
            "a client that does not wait is bounded": ["a_client_that_waits_for_no_reply_is_bounded"],
        },
    ),
}


@dataclass
class _Outcomes:
    """A pytest plugin: runs the tests wanted, and keeps what came of each."""

    wanted: frozenset[str]
    failed: dict[str, bool] = field(default_factory=dict)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out what nobody asks for."""
        items[:] = [item for item in items if any(_id(item.nodeid).startswith(name) for name in self.wanted)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test has failed where one of its phases has, or where it was left out."""
        test = _id(report.nodeid)
        self.failed[test] = self.failed.get(test, False) or report.outcome != "passed"

    def of(self, requirement: Requirement) -> tuple[int, list[str]]:
        """How many tests were run for it, and what is wrong: those that failed, and names without a test."""
        ran = [test for test in self.failed if test.startswith(requirement.tests)]
        absent = [name for name in requirement.tests if not any(test.startswith(name) for test in self.failed)]
        return len(ran), [test for test in ran if self.failed[test]] + [f"no test {name}..." for name in absent]


def _id(nodeid: str) -> str:
    return nodeid.removeprefix("tests/")


def _report(outcomes: _Outcomes, protocols: Sequence[str]) -> Iterator[tuple[str, Requirement, int, list[str]]]:
    for protocol in protocols:
        for requirement in REQUIREMENTS[protocol]:
            yield protocol, requirement, *outcomes.of(requirement)


def main() -> int:
    """Run and report; 1 where a requirement is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", choices=REQUIREMENTS, help="only this one")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    args = parser.parse_args()
    protocols = [args.protocol] if args.protocol else list(REQUIREMENTS)
    wanted = frozenset(test for name in protocols for asked in REQUIREMENTS[name] for test in asked.tests)
    files = sorted({str(TESTS / test.partition("::")[0]) for test in wanted})
    outcomes = _Outcomes(wanted)
    silent = ["-o", "addopts=", "-p", "no:terminal", "-p", "no:cacheprovider"]
    pytest.main([*silent, *files], plugins=[outcomes])
    rows = list(_report(outcomes, protocols))
    if args.json:
        keys = ("protocol", "requirement", "tests", "wrong")
        document = [dict(zip(keys, (name, asked.text, ran, wrong), strict=True)) for name, asked, ran, wrong in rows]
        print(json.dumps(document, ensure_ascii=False))  # noqa: T201
    else:
        for name, asked, ran, wrong in rows:
            print(f"{name:<15}{asked.text:<72}{ran:>4} tests  {'ok' if not wrong else '; '.join(wrong)}")  # noqa: T201
        met = sum(not wrong for *_, wrong in rows)
        print(f"{met} of {len(rows)} requirements met, {len(outcomes.failed)} tests")  # noqa: T201
    return int(any(wrong for *_, wrong in rows))


if __name__ == "__main__":
    sys.exit(main())
