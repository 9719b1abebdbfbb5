"""The scenes behind the sample corpus: who did and felt what, and how it is put into words."""

import re
from dataclasses import dataclass
from random import Random

import sample_words as words

LIKING = 4.0  # how much likelier a mood is that suits the deed
LEANING = 2.0  # ... or a trait of the speaker's


@dataclass(frozen=True)
class Event:
    """Who did what, to which thing, where."""

    actor: str
    past: str
    base: str
    participle: str
    liked: bool
    thing: str
    place: str


@dataclass(frozen=True)
class Scene:
    """What a dialogue is about; `relation` is what the second speaker is to the first."""

    id: str
    speakers: tuple[str, str]
    absent: str  # someone spoken of
    relation: str
    traits: dict[str, bool]  # of the first speaker
    events: tuple[Event, ...]

    def noun(self, of: str) -> str:
        """What a speaker is to the other one: `sister`, `boss`."""
        relation = self.relation if of == self.speakers[1] else words.RELATIONS[self.relation][0]
        return words.RELATIONS[relation][1][words.CAST[of] == "he"]


@dataclass
class Line:
    """A turn and what is known of it."""

    speaker: str
    hearer: str
    mood: str | None
    text: str
    mentions: list[tuple[int, str, str]]  # start, words, whom


def scene(number: int, rng: Random) -> Scene:
    """Draw one scene of two events."""
    first, second = rng.sample(list(words.CAST), 2)
    absent = rng.choice([*(n for n in words.CAST if n not in (first, second)), *words.OTHERS])
    actors = rng.sample([first, second, absent], 2)
    deeds, things = rng.sample(words.DEEDS, 2), rng.sample(words.THINGS, 2)
    places = rng.sample(words.PLACES, 2)
    events = tuple(
        Event(actor, *deed, thing, place)
        for actor, deed, thing, place in zip(actors, deeds, things, places, strict=True)
    )
    traits = {trait: rng.random() < 0.5 for trait in words.TRAITS}
    relation = rng.choice(list(words.RELATIONS))
    return Scene(f"s{number:04d}", (first, second), absent, relation, traits, events)


def lines(plot: Scene, rng: Random) -> list[Line]:
    """The scene as six turns: each event is narrated and answered, then what binds the two."""
    first, second = plot.speakers
    shown = [rng.choice(words.TRAITS[t][0 if has else 1]) for t, has in plot.traits.items()]
    rng.shuffle(shown)
    turns: list[Line] = []
    for event, trait in zip(plot.events, shown[:2], strict=True):
        opening = Line(first, second, _mood(event, plot.traits, rng), "", [])
        _tell(opening, event, plot, rng)
        _say(opening, f"{_feeling(opening.mood, rng)} {trait}")
        answer = Line(second, first, _mood(event, {}, rng), "", [])
        _answer(answer, opening, event, plot, rng)
        _say(answer, _feeling(answer.mood, rng))
        turns += [opening, answer]
    converse = words.RELATIONS[plot.relation][0]
    for speaker, hearer, relation, traits in (
        (first, second, plot.relation, shown[2:4]),
        (second, first, converse, []),
    ):
        bond = rng.choice(words.RELATIONS[relation][2])
        text = bond.format(you=hearer, noun=plot.noun(hearer))
        turns.append(Line(speaker, hearer, None, " ".join([text, *traits]), []))
    return turns


def _mood(event: Event, traits: dict[str, bool], rng: Random) -> str:
    """A mood that suits the deed and the speaker's traits."""
    weights = {m: LIKING if (m in words.LIKED) == event.liked else 1.0 for m in words.MOODS}
    for trait, has in traits.items():
        for mood in words.LEANINGS[trait][0 if has else 1]:
            weights[mood] *= LEANING
    return rng.choices(list(weights), list(weights.values()))[0]


def _feeling(mood: str | None, rng: Random) -> str:
    """How a mood sounds: how it begins, how it goes on, or both."""
    assert mood is not None
    _, _, openers, backbones = words.MOODS[mood]
    parts = rng.choices(((1, 1), (1, 0), (0, 1)), (5, 2, 3))[0]
    return " ".join([rng.choice(openers)] * parts[0] + [rng.choice(backbones)] * parts[1])


def _say(line: Line, text: str, whom: dict[str, str] | None = None) -> None:
    """Add a sentence to a turn, and mentions: words in the sentence -> whom they mean."""
    start = len(line.text) + bool(line.text)
    text = text[0].upper() + text[1:]
    for mention, meant in (whom or {}).items():
        match = re.search(rf"\b{re.escape(mention)}\b", text, re.IGNORECASE)
        assert match
        line.mentions.append((start + match.start(), match.group(), meant))
    line.text = f"{line.text} {text}".strip()


def _subject(line: Line, who: str, rng: Random) -> str:
    """How the speaker calls someone."""
    if who == line.speaker:
        return "I"
    return rng.choice(["you", who]) if who == line.hearer else who


def _tell(line: Line, event: Event, plot: Scene, rng: Random) -> None:
    """An event in the first speaker's words."""
    who = _subject(line, event.actor, rng)
    form = rng.choice(
        (
            "{who} {past} the {thing} {place}.",
            "{place} {who} {past} the {thing}.",
            "the {thing}? {who} {past} it {place}.",
        )
    )
    _say(
        line,
        form.format(who=who, past=event.past, thing=event.thing, place=event.place),
        {who: event.actor},
    )
    if who == event.actor and rng.random() < 0.5:
        pronoun = (words.CAST | words.OTHERS)[event.actor]
        tail = rng.choice(("said nothing about it.", "whistled all the way.", "came home late."))
        _say(line, f"{pronoun} {tail}", {pronoun: event.actor})
    if rng.random() < 0.4:
        name = rng.choice((line.hearer, plot.noun(line.hearer)))
        _say(line, f"What say you, {name}?", {"you": line.hearer, name: line.hearer})


def _answer(line: Line, opening: Line, event: Event, plot: Scene, rng: Random) -> None:
    """The other one repeats the event, names the first one's mood, or neither."""
    if rng.random() < 0.5:
        who = _subject(line, event.actor, rng)
        form = rng.choice(
            (
                "so {who} {past} the {thing}.",
                "{who} {past} it {place}?",
                "{place}, {who} really {past} the {thing}.",
            )
        )
        _say(
            line,
            form.format(who=who, past=event.past, thing=event.thing, place=event.place),
            {who: event.actor},
        )
    if rng.random() < 0.4:
        assert opening.mood is not None
        named = rng.choice(words.NAMED[opening.mood])
        name = rng.choice((line.hearer, plot.noun(line.hearer)))
        form = rng.choice(("you sound {named}, {name}.", "why so {named}, {name}?"))
        whom = {name: line.hearer} | ({"you": line.hearer} if form.startswith("you") else {})
        _say(line, form.format(named=named, name=name), whom)
