"""One made-up document: a little story, a portrait, a talk, a letter, some facts, a day, directions.

In: a random generator. Out: a text of simple, sensible English. The words come from `story_words` and `story_facts`.
Not in any text: sums, letters counted or words spelt, which are asked in evaluations.
"""

import random
from collections.abc import Sequence

import attrs

from nanochat_plugins.sources import story_words as words
from nanochat_plugins.sources.story_facts import FACTS


@attrs.frozen
class Person:
    """Someone a text is about."""

    name: str
    they: str
    them: str
    their: str

    @property
    def They(self) -> str:  # noqa: N802 (at the beginning of a sentence)
        return self.they.capitalize()

    @property
    def Their(self) -> str:  # noqa: N802
        return self.their.capitalize()


def write(draw: random.Random) -> str:
    """A document of one of the kinds."""
    kind = draw.choices([_story, _portrait, _talk, _letter, _facts, _day, _search], [5, 2, 3, 2, 3, 3, 3])[0]
    return kind(draw)


def _person(draw: random.Random) -> Person:
    if draw.random() < 0.5:
        return Person(draw.choice(words.GIRLS), "she", "her", "her")
    return Person(draw.choice(words.BOYS), "he", "him", "his")


def _a(noun: str) -> str:
    vowel = noun.startswith("hon") or (noun[0] in "aeiou" and not noun.startswith(("uni", "use")))
    return f"an {noun}" if vowel else f"a {noun}"


def _thing(draw: random.Random) -> str:
    """A thing with a look, without an article: "dusty old lamp"."""
    noun = draw.choice(words.THINGS + words.CLOTHES)
    form = draw.randrange(4)
    if form == 0:
        return f"{draw.choice(words.COLOURS)} {noun}"
    if form == 1:
        return f"{noun} made of {draw.choice(words.MATERIALS)}"
    return f"{draw.choice(words.LOOKS)} {noun}"


def _place(draw: random.Random) -> str:
    return draw.choice(words.INDOORS + words.OUTDOORS)


def _plural(noun: str) -> str:
    irregular = {"sheep": "sheep", "deer": "deer", "mouse": "mice", "goose": "geese", "wolf": "wolves"}
    if noun in irregular:
        return irregular[noun]
    if noun.endswith(("ch", "sh", "s", "x")) or noun in ("potato", "tomato"):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def _two(draw: random.Random, entries: Sequence[str]) -> tuple[str, str]:
    first, second = draw.sample(entries, 2)
    return first, second


def _join(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _opening(draw: random.Random, who: Person) -> str:
    trait = draw.choice(words.CHARACTER)
    return draw.choice(
        [
            f"Once upon a time there was {_a(trait)} child named {who.name}.",
            f"{draw.choice(words.TIMES)}, {who.name} was {_place(draw)}.",
            f"{draw.choice(words.TIMES)}, {who.name} {draw.choice(words.MOVED)} home {draw.choice(words.HOW)}.",
            f"{who.name} was {trait} and lived with {who.their} {draw.choice(words.FAMILY)} near the sea.",
            f"{draw.choice(words.WEATHER)}. {who.name} looked out of the window.",
            f"There once lived {_a(trait)} {draw.choice(list(words.JOBS))} whose name was {who.name}.",
        ]
    )


def _deed(draw: random.Random, who: Person) -> str:
    first, second = _two(draw, words.ANIMALS)
    food = draw.choice(words.FRUIT)
    return draw.choice(
        [
            f"{who.They} {draw.choice(words.MADE)} {_a(_thing(draw))} {draw.choice(words.HOW)}.",
            f"{who.They} gave {_a(food)} to {_a(draw.choice(words.CHARACTER))} {first}.",
            f"{_a(first).capitalize()} and {_a(second)} watched {who.them} {_place(draw)}.",
            f"Then {who.they} {draw.choice(words.MOVED)} after {_a(first)} until it was dark.",
            f"{who.They} picked some {_plural(food)} and put them into {_a(draw.choice(words.CONTAINERS))}.",
            f"For dinner there was {draw.choice(words.MEALS)}.",
            f"{who.They} had always wanted {draw.choice(words.WISHES)}.",
            f"{draw.choice(words.WEATHER)}, but {who.they} did not mind.",
            f"{who.Their} {draw.choice(words.FAMILY)} came along and helped.",
        ]
    )


def _ending(draw: random.Random, who: Person) -> str:
    return draw.choice(
        [
            f"In the end {who.they} was {draw.choice(words.FEELINGS)}.",
            f"{who.name} learned that {draw.choice(words.LESSONS)}.",
            f"That night {who.they} slept well and dreamed of {_a(draw.choice(words.ANIMALS))}.",
            f"And from that day on {who.they} was never {draw.choice(words.SAD)} again.",
            f"Everyone was {draw.choice(words.FEELINGS)}, and they ate {draw.choice(words.MEALS)}.",
            f'"What a day!" {draw.choice(words.SAID)} {who.name}.',
        ]
    )


def _story(draw: random.Random) -> str:
    who = _person(draw)
    trouble = f"{who.They} felt {draw.choice(words.SAD)}, because {who.their} {_thing(draw)} was gone."
    deeds = [_deed(draw, who) for _ in range(draw.randint(2, 4))]
    return _join(_opening(draw, who), trouble if draw.random() < 0.4 else "", *deeds, _ending(draw, who))


def _portrait(draw: random.Random) -> str:
    who = _person(draw)
    job = draw.choice(list(words.JOBS))
    other = draw.choice([name for name in words.JOBS if name != job])
    first, second = _two(draw, words.HOBBIES)
    trait, weakness = _two(draw, words.CHARACTER)
    return _join(
        f"{who.name} is {_a(job)}. {_a(job).capitalize()} {words.JOBS[job]}.",
        f"People say that {who.name} is {trait}, and sometimes a little {weakness}.",
        f"After work {who.they} likes {first} and {second}.",
        f"{who.Their} {draw.choice(words.FAMILY)} is {_a(other)} and {words.JOBS[other]}.",
        f"One day {who.they} hopes {draw.choice(words.WISHES)}.",
    )


def _talk(draw: random.Random) -> str:
    one, two = _person(draw), _person(draw)
    thing, place = _thing(draw), _place(draw)
    question, answer = draw.choice(
        [
            (f"Have you seen my {thing}?", f"Yes, it is {draw.choice(words.HIDING)}"),
            ("What shall we eat today?", f"I would like {draw.choice(words.MEALS)}"),
            ("Where were you all day?", f"I was {place} with my {draw.choice(words.FAMILY)}"),
            (f"Why are you so {draw.choice(words.SAD)}?", f"Because I lost my {thing}"),
            ("What do you like best?", f"I like {draw.choice(words.HOBBIES)} more than anything"),
            (f"May I borrow your {thing}?", "Of course, but please bring it back"),
            ("What do you want to be?", f"I want to be {_a(draw.choice(list(words.JOBS)))}"),
            ("Did you hear that noise?", f"It was only {_a(draw.choice(words.ANIMALS))}"),
            ("What did you dream?", f"I dreamed of {_a(draw.choice(words.ANIMALS))} with {_a(thing)}"),
        ]
    )
    return _join(
        f'"{question}" {draw.choice(words.ASKED)} {one.name}.',
        f'"{answer}," {draw.choice(words.SAID)} {two.name}.',
        f"{draw.choice(words.WEATHER)}.",
        _deed(draw, one),
        _ending(draw, two) if draw.random() < 0.6 else "",
    )


def _letter(draw: random.Random) -> str:
    sender, reader = _person(draw), _person(draw)
    first, second = _two(draw, words.OUTDOORS)
    body = _join(
        draw.choice(["How are you?", "Thank you for your letter.", "I hope you are well.", "It has been a long time."]),
        f"{draw.choice(words.TIMES)} we were {first}, and the day after that {second}.",
        f"I found {_a(_thing(draw))} there.",
        f"{draw.choice(words.WEATHER)} when we came back, and we ate {draw.choice(words.MEALS)}.",
        f"My {draw.choice(words.FAMILY)} is {draw.choice(words.FEELINGS + words.SAD)} and sends you greetings.",
        draw.choice(["Please write soon.", "Come and visit us!", "I miss you.", "See you in the holidays."]),
    )
    return f"Dear {reader.name},\n\n{body}\n\n{draw.choice(['Yours', 'With love', 'Best wishes'])},\n{sender.name}"


def _facts(draw: random.Random) -> str:
    topic = draw.choice(list(FACTS))
    told = draw.sample(FACTS[topic], draw.randint(4, 6))
    opening = draw.choice(
        [
            f"Here is something about {topic}.",
            f"What do we know about {topic}?",
            "",
            f"{_person(draw).name} read a book.",
        ]
    )
    return _join(opening, *told)


def _day(draw: random.Random) -> str:
    who = _person(draw)
    hobby, other = _two(draw, words.HOBBIES)
    return _join(
        f"{who.name} gets up early and has {draw.choice(words.MEALS)}.",
        f"{who.They} puts on {_a(draw.choice(words.COLOURS))} {draw.choice(words.WORN)} and goes out.",
        f"In the morning {who.they} is {_place(draw)}, where {_a(draw.choice(list(words.JOBS)))} is at work.",
        f"At noon {who.they} meets {who.their} {draw.choice(words.FAMILY)} {_place(draw)}.",
        f"They talk about {hobby} and share {_a(draw.choice(words.FRUIT))}.",
        f"In the afternoon there is time for {other}.",
        f"In the evening {who.name} is {draw.choice(words.FEELINGS)} and tells {who.their} "
        f"{draw.choice(words.PETS)} about the {_thing(draw)}.",
    )


def _search(draw: random.Random) -> str:
    who = _person(draw)
    lost = _thing(draw)
    here, there, last = draw.sample(words.HIDING, 3)
    animal = draw.choice(words.ANIMALS)
    question = draw.choice(["Where can it be?", "Who has taken it?", "It cannot just vanish!"])
    route = draw.choice(["back and forth", "through every room", "around the house"])
    return _join(
        f"{who.name} was looking for {who.their} {lost}.",
        f"It was not {here}, and it was not {there}.",
        f'"{question}" {who.they} {draw.choice(words.SAID[:3])}.',
        f"{who.They} {draw.choice(words.MOVED[:12])} {route}.",
        f"At last {_a(draw.choice(words.CHARACTER))} {animal} showed {who.them} the way: the {lost} lay {last}.",
        _ending(draw, who),
    )
