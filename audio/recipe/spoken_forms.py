"""How callers say numbers, dates, amounts, names and references: one function per kind, all seeded.

Every function takes the generator it draws from and returns lower-case words without punctuation, digits
spelled out ("o'clock" keeps its apostrophe): the only writing the bundled recogniser knows. `SLOTS` maps
the upper-case names that the phrase grammar uses to these functions.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

__all__ = ["DIGITS", "SLOTS", "Speaker", "digits", "spell"]

Speaker: TypeAlias = Callable[[Random], str]

DIGITS = tuple("zero one two three four five six seven eight nine".split())
TEENS = tuple("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split())
TENS = tuple("twenty thirty forty fifty sixty seventy eighty ninety".split())
ORDINALS_TO_9 = tuple("first second third fourth fifth sixth seventh eighth ninth".split())
ORDINALS = (
    *ORDINALS_TO_9,
    *"tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth".split(),
    *"eighteenth nineteenth twentieth".split(),
    *(f"twenty {ordinal}" for ordinal in ORDINALS_TO_9),
    "thirtieth",
    "thirty first",
)
MONTHS = tuple("january february march april may june july august september october november december".split())
WEEKDAYS = tuple("monday tuesday wednesday thursday friday saturday sunday".split())
FIRST_NAMES = tuple(
    "john mary david sarah james linda robert emma michael anna peter lisa thomas susan paul karen mark "
    "nancy kevin laura brian helen george alice frank julia steven maria daniel rachel eric diana adam "
    "grace henry sophie jack olivia ben lucy".split()
)
LAST_NAMES = tuple(
    "smith johnson brown miller wilson davis taylor clark lee white green king walker hall young wright "
    "scott hill baker adams nelson carter turner parker evans collins stewart morris cook bell ward cooper "
    "wood gray fox hunt stone price reed long".split()
)
STREETS = tuple(
    "main oak maple park church lake hill mill river high station garden bridge elm cedar washington lincoln".split()
)
CITIES = tuple(
    "london boston chicago dallas denver seattle paris manchester dublin austin houston berlin sydney "
    "toronto miami phoenix york".split()
)
ITEMS = tuple(
    "shoes phone laptop package jacket headphones book tablet charger shirt watch parcel printer camera "
    "keyboard monitor chair table lamp sofa mattress dress coat bag router modem cable battery screen "
    "television speaker bicycle toaster fridge washer dryer oven heater microwave".split()
)
SERVICES = tuple(
    "a haircut|the dentist|a check up|an oil change|a cleaning|a repair|an eye exam|a consultation|"
    "a blood test|the doctor|a vaccination|an inspection|a physical|a meeting|an installation|a delivery|"
    "the nurse|a massage|a test drive|a viewing|an interview".split("|")
)
BILLS = tuple(
    "bill|phone bill|water bill|electricity bill|gas bill|internet bill|invoice|statement|balance|payment|"
    "account|loan|mortgage|rent|insurance|credit card|card|subscription|membership|contract|plan|fee|"
    "deposit|refund|order|policy".split("|")
)
RELATIVE_DATES = tuple(
    "today|tomorrow|tomorrow morning|tomorrow afternoon|this afternoon|next week|next month|"
    "the end of the month|the day after tomorrow|this evening|on the weekend|tonight|yesterday|"
    "as soon as possible|by friday|at the end of the week|later today|right now|after payday|"
    "when i get paid|a week ago|two days ago|last month|last week".split("|")
)
CLOCK_TIMES = (
    "%s o'clock", "%s thirty", "%s fifteen", "%s forty five", "half past %s", "quarter to %s",
    "quarter past %s", "%s in the morning", "%s in the afternoon", "%s p m", "%s a m", "ten to %s",
    "ten past %s", "%s tonight",
)  # fmt: skip


def below_100(rng: Random) -> str:
    """1 to 99."""
    kind = rng.random()
    if kind < 0.25:
        return rng.choice(DIGITS[1:])
    if kind < 0.45:
        return rng.choice(TEENS)
    ten = rng.choice(TENS)
    return ten if rng.random() < 0.35 else f"{ten} {rng.choice(DIGITS[1:])}"


def number(rng: Random) -> str:
    """1 to 99,900, small ones more often."""
    kind = rng.random()
    if kind < 0.5:
        return below_100(rng)
    if kind < 0.8:
        hundreds = rng.choice([*DIGITS[1:], "a"]) + " hundred"
        return f"{hundreds}{rng.choice([' ', ' and '])}{below_100(rng)}" if rng.random() < 0.7 else hundreds
    thousands = f"{below_100(rng)} thousand"
    return thousands if rng.random() < 0.5 else f"{thousands} {rng.choice(DIGITS[1:])} hundred"


def digits(rng: Random, count: int) -> str:
    """`count` digits read one by one, with "oh", "double four" and "triple nine" as people say them."""
    words: list[str] = []
    left = count
    while left:
        digit = rng.choice(DIGITS)
        said = "oh" if digit == "zero" and rng.random() < 0.4 else digit
        if left >= 2 and rng.random() < 0.08:
            words += ["double", said]
            left -= 2
        elif left >= 3 and rng.random() < 0.015:
            words += ["triple", said]
            left -= 3
        else:
            words.append(said)
            left -= 1
    return " ".join(words)


def digit_pairs(rng: Random, count: int) -> str:
    """`count` groups of two digits, some read as numbers: "forty two one seven"."""
    return " ".join(
        rng.choice([below_100(rng), rng.choice(TENS), f"{rng.choice(DIGITS)} {rng.choice(DIGITS)}"])
        for _ in range(count)
    )


def amount(rng: Random) -> str:
    """Money, mostly with its currency."""
    currency = rng.choice(["dollars", "dollars", "pounds", "euros", "bucks"])
    kind = rng.random()
    if kind < 0.1:
        return number(rng)
    if kind < 0.2:
        return f"{rng.choice(DIGITS[1:])} dollar" if rng.random() < 0.3 else f"a hundred {currency}"
    whole = f"{number(rng)} {currency}"
    return whole if kind < 0.7 else f"{whole} and {below_100(rng)}{rng.choice([' cents', ' pence', ''])}"


def date(rng: Random) -> str:
    """A day as callers give it: calendar date, weekday, or relative to today."""
    kind = rng.random()
    if kind < 0.25:
        return f"{rng.choice(['', 'on '])}{rng.choice(MONTHS)} {rng.choice(['', 'the '])}{rng.choice(ORDINALS)}"
    if kind < 0.4:
        of_month = f" of {rng.choice(MONTHS)}"
        return f"the {rng.choice(ORDINALS)}{rng.choice(['', of_month, of_month])}"
    if kind < 0.7:
        before = rng.choice(["", "", "next ", "this ", "on ", "last "])
        return f"{before}{rng.choice(WEEKDAYS)}{rng.choice(['', '', ' morning', ' afternoon', ' evening'])}"
    if kind < 0.78:
        return f"in {rng.choice(['a', 'two', 'three', 'four', 'ten'])} {rng.choice(['days', 'weeks', 'months'])}"
    if kind < 0.82:
        return rng.choice(["", "in "]) + rng.choice(MONTHS)
    return rng.choice(RELATIVE_DATES)


def clock_time(rng: Random) -> str:
    """A time of day, with or without a preposition."""
    hour = rng.choice([*DIGITS[1:], *TEENS[:3]])
    before = rng.choice(["at ", "around ", "after ", "before ", "", "", "by "])
    return before + rng.choice(CLOCK_TIMES) % hour


def letters(rng: Random, count: int) -> str:
    """`count` random letters, spelled."""
    return " ".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(count))


def spell(word: str) -> str:
    """A word letter by letter."""
    return " ".join(word)


def reference(rng: Random) -> str:
    """A reference code: letters and digits in short groups."""
    groups = [
        lambda: letters(rng, 1),
        lambda: letters(rng, 2),
        lambda: digits(rng, 1),
        lambda: digits(rng, 2),
    ]
    return " ".join(rng.choice(groups)() for _ in range(rng.randint(2, 4)))


def spelled_name(rng: Random) -> str:
    """A name spelled, half of the time said first."""
    name = rng.choice(FIRST_NAMES + LAST_NAMES)
    return f"{name} {spell(name)}" if rng.random() < 0.5 else spell(name)


def email(rng: Random) -> str:
    """An e-mail address as read aloud."""
    first = rng.choice(FIRST_NAMES)
    user = rng.choice([first, f"{first} dot {rng.choice(LAST_NAMES)}", f"{first} {digits(rng, 2)}"])
    host = rng.choice(["example", "mail", "home", "work", "company"])
    return f"{user} at {host} dot {rng.choice(['com', 'com', 'org', 'net'])}"


def person(rng: Random) -> str:
    """A caller's or agent's name."""
    first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
    return rng.choice([first, f"{first} {last}", f"{rng.choice(['mister', 'miss', 'doctor'])} {last}"])


def address(rng: Random) -> str:
    """House number and street."""
    return f"{below_100(rng)} {rng.choice(STREETS)} {rng.choice(['street', 'road', 'avenue', 'lane', 'drive'])}"


def _one_of(words: tuple[str, ...]) -> Speaker:
    return lambda rng: rng.choice(words)


SLOTS: dict[str, Speaker] = {
    "D": _one_of(DIGITS),
    "D3": lambda rng: digits(rng, rng.choice([2, 3, 3])),
    "D4": lambda rng: digit_pairs(rng, 2) if rng.random() < 1 / 3 else digits(rng, 4),
    "D5": lambda rng: digits(rng, 5),
    "D6": lambda rng: digits(rng, 6),
    "D8": lambda rng: digits(rng, 8),
    "DN": lambda rng: digits(rng, rng.randint(5, 9)),
    "PH": lambda rng: digits(rng, rng.choice([3, 6, 7, 10])),
    "NUM": number,
    "N": below_100,
    "AMT": amount,
    "DATE": date,
    "TIME": clock_time,
    "CODE": reference,
    "LET": lambda rng: letters(rng, rng.randint(2, 5)),
    "LETR": lambda rng: letters(rng, 1),
    "SPELL": spelled_name,
    "EMAIL": email,
    "NAME": person,
    "NAMEF": _one_of(FIRST_NAMES),
    "LASTN": _one_of(LAST_NAMES),
    "ADDR": address,
    "CITY": _one_of(CITIES),
    "ITEM": _one_of(ITEMS),
    "SVC": _one_of(SERVICES),
    "BILL": _one_of(BILLS),
    "CNT": _one_of(DIGITS[1:]),
    "EXPIRY": lambda rng: f"{rng.choice(MONTHS)} twenty {rng.choice([*DIGITS[5:], 'thirty'])}",
}
