"""What callers say to a phone service: a phrase grammar, and which of its templates are kept for tests.

A rule is a list of alternatives parted by `|`. In an alternative `{rule}` is one alternative of another
rule, `[words]` appears half of the time, and upper-case names are slots, filled last by
`audio.recipe.spoken_forms`. A *template* is an alternative after rules and options, before slots: its
checksum alone decides whether it belongs to training or to tests, so that a test sentence never comes
from a template that training used, whatever the seed. Bare slots and the short everyday answers ("yes",
"four two one") belong to both: there is only one way to say them, so they never count as new text.
"""

from __future__ import annotations

import re
import zlib
from random import Random

from audio.recipe.spoken_forms import SLOTS

__all__ = ["draw_sentence", "draw_template", "fill_slots", "is_test_template", "plain_words"]

TEST_SHARE = 8
"""One template in eight is a test template."""

RULES_TEXT = """
want:
    i want to | i would like to | i'd like to | i need to | can i | could i | may i | i have to | i am
    trying to | i'm calling to | how do i | how can i | is it possible to | let me | i wish to | help me
you:
    can you | could you | would you | will you | please | i need you to | i want you to | can you please |
    are you able to
my:
    my | the | my last | my new | this | that | my old | our
um:
    um | uh | well | okay | so | hello | hi | yes | no | please | actually | yeah | sorry | right | look |
    oh | hmm | listen | you know | i mean
pls:
    please | thanks | thank you | okay | right | if possible | if you can | as soon as possible | right now
    | today | then | for me | again | now
yes:
    yes | yes please | yeah | yep | yes that is correct | that is right | that's right | correct | sure |
    okay | sounds good | of course | go ahead | yes i do | yes i am | yes it is | that works | perfect |
    fine | absolutely | exactly | i agree | i think so | yes i can | all right | that is fine | why not |
    yes i will | definitely | yup | uh huh | good | great | that's me | speaking | yes speaking | this is me
no:
    no | no thanks | no thank you | nope | not now | not really | that is wrong | no that is not correct | i
    do not think so | i don't think so | never | not today | no i can't | no i don't | no way | absolutely
    not | no it is not | that's not right | not at all | i do not want that | i'm not interested | no i did
    not | that is not me | i disagree | no never mind | not yet
maybe:
    maybe | maybe later | i am not sure | i'm not sure | i don't know | i do not know | perhaps | possibly |
    let me think | i need to think about it | it depends | i have to check | i can't say right now | i will
    see | not sure yet | i guess so | probably | i have no idea | i would have to ask my {fam}
fam:
    wife | husband | mother | father | boss | son | daughter | partner | brother | sister
greet:
    hello | hi | hi there | good morning | good afternoon | good evening | hey | hello who is this | who is
    this | who is calling | who am i speaking to | is this a robot | are you a real person | can you hear me
    | how are you | is anyone there | good day
rep:
    what did you say | sorry | pardon | can you repeat that | please say that again | speak slowly please |
    i did not hear you | i can't hear you | say again | i did not understand | what do you mean | could you
    repeat the {thing} | the line is bad | you are breaking up | speak up please | slower please | what was
    that | repeat please | one more time | come again
thing:
    question | number | amount | date | address | time | name | last part | options | first part | total |
    price
bye:
    thank you | thanks | thank you very much | goodbye | bye | bye bye | have a nice day | that is all |
    that's everything | nothing else | no that is all thank you | see you | talk to you later | thanks for
    your help | take care | i have to go | have a good one
wait:
    hold on | wait a moment | one moment please | just a second | give me a minute | hang on | let me get my
    {pen} | wait | let me check | let me look | i am looking for it | hold on please | one second | just a
    minute
pen:
    pen | card | glasses | book | calendar | wallet | paper | letter | phone
busy:
    stop calling me | please do not call again | do not call this number | remove me from your list | take
    me off your list | you have the wrong number | wrong number | i am busy | i am driving | i'm at work |
    call me back later | call me back DATE | call me TIME | call back TIME DATE | this is not a good time |
    i am in a meeting | not a good time | he is not here | she is not home | there is no NAME here | can i
    take a message | i don't have time | i am sick | i'm on another call
payv:
    pay | pay off | settle | check | see | clear | dispute | discuss | look at | download | change | cancel
    | update | stop | renew | close | open | review | understand | find | lower | split | delay | confirm |
    transfer | freeze | block | activate | extend | upgrade | register | increase | switch
pay1:
    {want} {payv} {my} BILL | {want} {payv} {my} BILL [{pls}] | {want} pay AMT [DATE] | {want} pay half |
    {want} pay in full | {want} pay in installments | {want} get an extension | {want} set up a payment plan
    | {want} speak about {my} BILL | {want} ask about {my} BILL | i have a question about {my} BILL | there
    is a {prob} with {my} BILL | {you} check {my} BILL | {you} send me {my} BILL | {you} cancel {my} BILL |
    {you} explain {my} BILL | {you} tell me {my} BILL
prob:
    problem | mistake | error | issue | delay | question | hold | charge | limit
q:
    how much do i owe | how much is {my} BILL | what is my balance | what is {my} BILL | when is {my} BILL
    due | when is it due | what is the amount | how much is left | what do i owe you | is there a late fee |
    why is {my} BILL so high | why did you charge me | why was i charged AMT | what is this charge | when is
    my next payment | what is the minimum payment | what is the due date | did you get my payment | did you
    receive my {sent} | has it been paid | how long do i have | do you take {means} | can i pay by {means} |
    what happens if i do not pay | is my account {state} | was my payment {state} | how many payments are
    left | what is my limit
sent:
    payment | email | check | form | letter | message | documents | application | complaint | request
means:
    credit card | debit card | bank transfer | cash | check | phone | direct debit | mail | card
state:
    closed | open | active | blocked | late | overdue | paid | received | declined | approved | pending |
    locked | cancelled | suspended | ready | confirmed
prom:
    i already paid | i paid it DATE | i paid AMT [DATE] | i sent AMT DATE | i will pay DATE | i'll pay AMT
    DATE | i can pay AMT DATE | i can only pay AMT | i can not pay right now | i can't pay DATE | i can pay
    it DATE | i will pay AMT now and the rest DATE | i will pay half DATE | i promise to pay DATE | i get
    paid DATE | i lost my job | i don't have the money | i have no money | i need more time | give me until
    DATE | can i pay DATE | can i pay AMT a month | could we do AMT DATE | let's say AMT | let's say DATE |
    i will transfer the money DATE | i'll send the check DATE | i was in the hospital | i have been sick | i
    am waiting for my {inc} | my {inc} comes DATE | AMT a month is too much | i can do AMT | put AMT on my
    card | take AMT from my account | charge it to my card | the payment was AMT | the amount is AMT | it
    was AMT | i was charged AMT | i was charged twice | they took AMT DATE | it should be AMT not AMT | i
    did not make this {sent} | i never ordered that | i do not owe anything | that's not my debt | i paid
    everything | i have proof of payment | i want a refund of AMT | i need a refund | i want my money back |
    this is a mistake | i did not authorize that
inc:
    salary | paycheck | pension | benefits | refund | tax return | bonus
idn:
    my {num} is DN | my {num} is D4 | the {num} is DN | it is DN | it's D4 | that's D4 | the card ends in D4
    | the last four digits are D4 | my pin is D4 | my zip code is D5 | my phone number is PH | call me at PH
    | my reference number is CODE | reference CODE | the code is CODE | the code is D4 | the number is PH |
    account DN | account number DN | order number DN | order DN | the tracking number is DN | my member
    number is DN | my extension is D3 | area code D3 | it starts with D3 | it ends with D3 | my case number
    is CODE | my ticket is CODE | policy number CODE | my license plate is CODE | my date of birth is DATE |
    i was born DATE | my birthday is DATE | i was born in nineteen N | expires N N | the expiry date is
    EXPIRY
num:
    account number | order number | phone number | card number | reference number | customer number |
    tracking number | case number | policy number | invoice number | mobile number | social security number
    | number | code | password | room number | confirmation number
dig:
    DN | DN | D4 | D4 | D3 | D5 | PH | PH | D | D | AMT | AMT | DATE | DATE | TIME | TIME | NUM | NUM | CODE
    | SPELL | LET | NAME | DATE TIME | ADDR | EMAIL | CITY | D3 D3 | D3 D4 | D3 D3 D4 | press D | option D |
    number D | D D | CNT | yes D4 | no D4 | N
corr:
    no i mean {dv} | no {dv} | sorry {dv} | i mean {dv} | not {dv} {dv} | no not {dv} | no it is {dv} | no i
    said {dv} | wait {dv} | actually {dv} | let me correct that {dv} | that was wrong it is {dv} | make it
    {dv} | change it to {dv} | sorry i meant {dv} | it's {dv} not {dv} | {dv} no {dv} | {dv} sorry {dv} |
    the last digit is D | the first one is D | it is D not D | scratch that | start over | let me start
    again | go back | that is not what i said | you got it wrong | i did not say that
dv:
    AMT | DATE | TIME | D4 | D3 | D | NAME | CODE | ADDR | N | CITY | LET
ord:
    where is {my} {it} | what is the status of {my} {it} | {want} check {my} order | {want} track {my} {it}
    | {want} return {my} {it} | {want} exchange {my} {it} | {want} cancel {my} {it} | {want} order {q1} {it}
    | {want} buy {q1} {it} | {want} place an order | {want} change {my} {del} | has it shipped yet | when
    will it arrive | when will {my} {it} arrive | when will {my} {it} be {deld} | i have not received {my}
    {it} | i never got {my} {it} | {my} {it} is {bad} | {my} {it} arrived {bad} | {my} {it} came {bad} | i
    got the wrong {it} | the {it} does not work | the {it} stopped working DATE | i ordered {q1} {it} DATE |
    i bought {q1} {it} DATE | cancel order DN | cancel {my} {it} | {you} deliver it DATE | {you} deliver
    {my} {it} DATE | deliver it DATE TIME | leave it at the {place} | add one more {it} | how long does
    {ship} take | how much is the {it} | do you have the {it} in {col} | is the {it} in stock | does the
    {it} come in {col} | is there a discount on the {it} | how much does {ship} cost | it was delivered to
    the wrong {del} | nobody came DATE | the driver left it with my {nb} | i want the {col} one | i need a
    {size} size | the {size} one is too {bad}
it:
    ITEM | ITEM | ITEM | order | package | delivery | item | product | parcel | gift | replacement
q1:
    a | the | two | three | one | another | some | CNT
del:
    delivery address | address | delivery date | delivery time | house | shipping address | size | color |
    door
deld:
    delivered | ready | shipped | here | fixed | available | repaired | sent | replaced | back
bad:
    late | damaged | broken | missing | wrong | too small | too big | open | empty | wet | lost | defective
    | not working | dirty | slow | loud | expensive | old | scratched | tight | short | heavy
place:
    front door | back door | neighbor | office | post office | reception | garage | desk | gate
nb:
    neighbor | mother | son | receptionist | friend | landlord | roommate
ship:
    shipping | delivery | express shipping | the return | the repair | it | the refund | the transfer | the
    upgrade
col:
    black | white | red | blue | green | yellow | brown | gray | pink | silver | gold | orange | purple
size:
    small | medium | large | bigger | smaller | extra large | different | new
app:
    {want} make an appointment [for SVC] | {want} book SVC [DATE] | i need an appointment for SVC DATE | i
    need SVC [DATE] | can i come DATE [TIME] | can i come in DATE | DATE TIME | DATE works for me | DATE is
    fine | TIME is fine | TIME works | DATE at noon | {want} reschedule {my} {ap} | {want} move {my} {ap} to
    DATE | move it to DATE | change it to DATE TIME | {want} cancel {my} {ap} | cancel {my} {ap} DATE |
    confirm {my} {ap} | what time is {my} {ap} | when is {my} {ap} | do you have anything {when} | is there
    anything {when} | is there anything available DATE | are you open DATE | how about DATE | how about TIME
    | what about DATE TIME | that does not work for me | i can't make it DATE | i will be late | i am
    running late | i missed {my} {ap} | with doctor LASTN | who is the {dr} | which {dr} is it | for CNT
    people | table for CNT | for CNT people TIME | a room for CNT nights | from DATE to DATE | between TIME
    and TIME | any day but DATE | i prefer {when} | the {when2} one | any time DATE | TIME or TIME | DATE or
    DATE
ap:
    appointment | booking | reservation | meeting | visit | table | flight | room | ticket | lesson | class
    | call | interview | session
when:
    earlier | later | in the morning | in the afternoon | in the evening | sooner | DATE | TIME | after
    lunch | before noon | after work | on the weekend | another day | at noon | closer to home
when2:
    first | second | third | last | early | later | earlier | cheaper | other | next
dr:
    doctor | dentist | nurse | manager | technician | agent | driver | lawyer | teacher | person in charge
agt:
    {want} speak to {ag} | {want} talk to {ag} | {you} connect me to {ag} | {you} transfer me to {ag} | let
    me speak to {ag} | get me {ag} | give me {ag} | agent | operator | representative | human | real person
    | customer service please | i don't want to talk to a {mach} | i hate talking to a {mach} | {ag} please
    | is there a human | put me through to {ag} | extension D3 | i want a real person | this is {emo} | i am
    very {emo} | you are not helping | this is taking too long | i have been waiting for N minutes | nobody
    helps me | i called CNT times | i will call my lawyer | i want to complain | i want to file a complaint
    | i will cancel everything | that is not good enough | your service is {emo} | listen to me | you don't
    understand
ag:
    a human | an agent | an operator | a manager | someone | a person | customer service | a representative
    | your supervisor | the billing department | technical support | the sales team | somebody else | NAME |
    the manager | a live agent | your boss | sales | support
mach:
    machine | robot | computer | bot | recording
emo:
    ridiculous | terrible | angry | upset | unhappy | annoying | awful | frustrated | disappointed | happy |
    worried | confused | sorry | tired | bad | satisfied | stupid | great | useless | slow
gen:
    i need help | help | help me please | i have a question | i have a problem with {my} {it} | {my}
    internet is not working | {my} phone is not working | {my} {it} is not working | the website is down |
    the app does not open | i forgot my password | {want} reset my password | i can't log in | i am locked
    out | what are your hours | where are you located | what is your address | how much does it cost | is it
    available | i am interested | tell me more | send me {a} {msg} | {you} send me {a} {msg} | {you} call me
    back [DATE] | text me | email me | my email is EMAIL | my name is NAME | this is NAME | it's NAME | NAME
    speaking | my name is spelled SPELL | that is spelled SPELL | s as in sam | b as in boy | m as in mary |
    d as in david | LETR as in NAMEF | i live at ADDR | i live in CITY | my address is ADDR | ADDR in CITY |
    i moved to CITY DATE | {want} change my {pers} | {want} update my {pers} | {my} {pers} has changed |
    {want} cancel {my} {serv} | {want} order a new {serv} | i lost my {pen} | someone stole my {pen} | my
    {fam} is in the hospital | i bought a new {it} | it was {bad} | it is {col} | it's very {bad} | what
    {thing} is that | tell me the {thing} | i don't remember the {thing} | the {thing} is wrong | how long
    will it take | it takes too long | that's too {bad} | can you help me with {my} {it} | i am going to
    CITY DATE | how is the weather in CITY | are you there | start | stop | cancel | repeat | continue | go
    back | main menu | enter | next | previous | skip | finish | hold | pause | quit | exit | more | less |
    again | later | nothing | everything | something else | none of them | both | neither | all of them |
    the first one | the second one | the last one | english please | spanish please
a:
    a | an | the | another | that | one more
msg:
    message | text | email | link | letter | receipt | invoice | copy | confirmation | reminder | form |
    contract | brochure | password | code | statement
pers:
    address | phone number | email | name | password | bank details | plan | contact details | last name |
    billing address | payment method | preferences | language
serv:
    subscription | service | contract | card | internet | phone line | insurance | membership | sim card |
    policy | plan | newsletter
who:
    yes this is NAME | this is NAME | NAME speaking | yes speaking | speaking | that's me | yes that's me |
    yes it's me | it is | i am | you are speaking with NAME | yes i'm NAME | this is he | this is she | no
    this is {my} {fam} | NAME is not here | you want {my} {fam} | i'm the {fam} of NAME | there is nobody
    called NAME here | NAME does not live here | who wants to know | what is this about
bill_pay:
    {fut} pay {bit} DATE | {fut} pay DATE | {fut} pay AMT DATE | {fut} pay {bit} {how} | {fut} pay {how}
    DATE | {fut} transfer {bit} DATE | {fut} send {bit} DATE | you will have {bit} DATE | you will get {bit}
    DATE | i'll have {bit} for you DATE | payment DATE | DATE then | DATE is okay | DATE should be fine |
    make that DATE | put me down for DATE | let's do DATE | i think DATE | it will be DATE | i get paid DATE
    so {fut} pay then | my {inc} comes DATE so i can pay then | can i do it DATE | is DATE okay | would DATE
    be okay | i need until DATE | give me until DATE | no later than DATE | on DATE i promise | i promise
    DATE
fut:
    i'll | i will | i can | i could | i'm going to | i am going to | i plan to | i want to | we will | we
    can
bit:
    it | the bill | the money | everything | half | half of it | the rest | the full amount | AMT | the
    balance
how:
    by card | by bank transfer | in cash | online | with my card | by check | over the phone | in two
    payments
bill_paid:
    i already paid {thatbill} | i have already paid | i've already paid {thatbill} | i paid {thatbill} DATE
    | i paid {thatbill} {how} | i paid {how} DATE | it's been paid | it has been paid | that was paid DATE |
    that's already paid | {thatbill} is paid | the money left my account DATE | i sent the money DATE | i
    transferred it DATE | my {fam} paid {thatbill} DATE | check again i paid {thatbill} | the payment went
    through DATE | it was taken from my account DATE | i have the receipt | i have a receipt from DATE
thatbill:
    it | that | that bill | this bill | the bill | that one | the whole thing | AMT
dispute:
    i don't agree with {thisamt} | i do not agree with {thisamt} | {thisamt} is wrong | {thisamt} is not
    right | {thisamt} is too high | {thisamt} can't be right | i want to dispute {thisamt} | i dispute
    {thisamt} | i'm disputing {thisamt} | i want to contest {thisamt} | i don't owe that much | i don't owe
    you anything | that is not my bill | that's not my account | i never had that {serv} | i cancelled that
    {serv} DATE | i cancelled {my} {serv} DATE | i never got {thatbill} | i never received {thatbill} | i
    never got an invoice | it should be AMT | it should only be AMT | it was supposed to be AMT | you
    charged me twice | why is it so much | that's more than last month | i was told it would be AMT | i want
    to speak to someone about {thisamt}
thisamt:
    the bill | this bill | that bill | the amount | that amount | this charge | that charge | the total |
    the fee
later:
    call me {lat} | call back {lat} | can you call {lat} | could you call me {lat} | please call {lat} | try
    again {lat} | i can't talk {now} | i can't talk {now} call me {lat} | i'm busy call me {lat} | i'm
    driving call me {lat} | not now call me {lat} | it's a bad time | this is a bad time | now is not a good
    time | i'm at work call {lat} | i have to call you back | i'll call you back | i will call you back
    {lat} | ring me {lat}
lat:
    later | back | back later | TIME | DATE | DATE TIME | tomorrow | in an hour | in N minutes | after work
    | tonight
now:
    now | right now | at the moment | just now
refno:
    {my} reference is D6 | {my} reference number is D6 | {my} reference number is D8 | the reference is D6 |
    the reference is D8 | reference D6 | reference D4 | {my} account number is D6 | {my} account number is
    D8 | {my} account is D6 | {my} customer number is D6 | sure it's D6 | yes it's D6 | yeah it's D4 | okay
    D6 | okay D8 | it's D6 | it is D8 | it reads D6 | here it is D6 | one moment D6 | the number is D6 |
    that's D6 | the last digits are D4 | the last four are D4 | ending in D4 | it ends in D4 | no it's D6 |
    i said D6
refbare:
    D4 | D6 | D6 | D8 | D5 | D3 D3 | D3 D4 | D
"""

TOPICS = {
    "pay1": 7, "q": 6, "prom": 8, "idn": 9, "dig": 14, "corr": 5, "ord": 5, "app": 5, "agt": 6, "gen": 7,
    "yes": 5, "no": 5, "maybe": 2, "greet": 2, "rep": 3, "bye": 3, "wait": 2, "busy": 3,
    "who": 3, "bill_pay": 9, "bill_paid": 5, "dispute": 6, "later": 5, "refno": 6, "refbare": 5,
}  # fmt: skip
"""Rules that a sentence starts from, and how often."""


def _parse_rules(text: str) -> dict[str, tuple[str, ...]]:
    """Read the layout above: a name and a colon at the margin, its alternatives indented below."""
    bodies: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith(" "):
            body = bodies.setdefault(line.rstrip(":"), [])
        elif line:
            body.append(line.strip())
    return {
        name: tuple(" ".join(alternative.split()) for alternative in " ".join(lines).split("|"))
        for name, lines in bodies.items()
    }


RULES = _parse_rules(RULES_TEXT)
SHARED = frozenset(RULES["dig"] + RULES["yes"] + RULES["no"] + RULES["refbare"])

_OPTION = re.compile(r"\[([^\]]*)\]")
_RULE = re.compile(r"\{(\w+)\}")
_SLOT = re.compile(r"\b[A-Z][A-Z0-9]*\b")


def _expand(rng: Random, text: str) -> str:
    """Resolve options and rules, leave slots."""
    text = _OPTION.sub(lambda option: option[1] if rng.random() < 0.5 else "", text)
    return _RULE.sub(lambda rule: _expand(rng, rng.choice(RULES[rule[1]])), text)


def fill_slots(rng: Random, template: str) -> str:
    """A sentence of a template: every slot name replaced by words drawn for it."""
    return " ".join(_SLOT.sub(lambda slot: SLOTS[slot[0]](rng), template).split())


def is_test_template(template: str) -> bool:
    """Whether a template belongs to tests; fixed for ever by its text."""
    return template not in SHARED and len(template.split()) > 1 and zlib.crc32(template.encode()) % TEST_SHARE == 0


def draw_template(rng: Random, *, test: bool = False, topics: dict[str, int] = TOPICS) -> str:
    """Draw a template of training, or of the tests; `topics` maps start rules to weights."""
    names, weights = list(topics), list(topics.values())
    while True:
        template = " ".join(_expand(rng, f"{{{rng.choices(names, weights)[0]}}}").split())
        if is_test_template(template) == test:
            return template


def draw_sentence(rng: Random, *, test: bool = False, topics: dict[str, int] = TOPICS) -> str:
    """A template with its slots filled and, now and then, the ums, pleases and second thoughts of speech."""
    sentence = fill_slots(rng, draw_template(rng, test=test, topics=topics))
    extra = rng.random()
    if extra < 0.10:
        return f"{rng.choice(RULES['um'])} {sentence}"
    if extra < 0.14:
        return f"{sentence} {fill_slots(rng, _expand(rng, rng.choice(RULES['pls'])))}"
    words = sentence.split()
    if extra < 0.20 and len(words) < 5:
        return f"{sentence} {fill_slots(rng, draw_template(rng, test=test, topics=topics))}"
    if extra < 0.23 and len(words) > 3:
        words.insert(rng.randrange(1, len(words)), rng.choice(["um", "uh"]))
    return " ".join(words)


def plain_words(text: str) -> str:
    """Written text as the recogniser writes it: lower case, no punctuation, apostrophes kept."""
    text = re.sub(r"[.,?!;:\"()]", " ", text.lower().replace("\u2019", "'").replace("-", " "))
    return " ".join(text.split())
