"""Closed classes of English words, as far as captions of pictures need them; all in small letters.

Open classes are not listed, with three exceptions that captions are full of: words of colour and size, verbs whose
forms look like nouns, and nouns that end like verb forms.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "ADJECTIVES",
    "BASE_VERBS",
    "COMPOUNDS",
    "COMPOUND_PREPOSITIONS",
    "JOINED",
    "NOUNS",
    "PARTICIPLES",
    "PLACES",
    "PLURALS",
    "SINGULAR",
    "TAGS",
    "VERBS",
    "WEARING",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SINGULAR = _words("a an one each every another this either neither")
"""What begins a noun phrase in the singular, so that a word in -s after its noun is a verb."""

ADJECTIVES = _words(
    """
    red orange yellow green blue purple pink brown black white gray grey gold golden silver beige tan teal turquoise
    maroon burgundy crimson scarlet cyan magenta violet indigo lavender lilac navy aqua khaki olive ivory bronze copper
    blonde blond colorful colourful multicolored reddish greenish bluish yellowish brownish pinkish vast big large
    small little tiny huge giant tall short long high low wide narrow thick thin tight fat skinny great lone old new
    young elderly older younger modern ancient empty full open closed clean dirty wet dry hot cold warm cool fresh
    bright dark pale shiny clear cloudy sunny snowy grassy leafy lush dense rustic wooden metallic golden woolen fluffy
    furry fuzzy hairy curly puffy soft hard smooth rough flat round rectangular circular triangular beautiful pretty
    cute nice ugly lovely friendly happy sad angry calm busy messy fancy plain male female various different similar
    same opposite other several many few single double whole half upper lower such
    """
)

_NUMBERS = _words("two three four five six seven eight nine ten eleven twelve thirteen fifteen twenty fifty hundred")
_DETERMINERS = SINGULAR | _words("the these those some any no all both its his her their my your our")
_PREPOSITIONS = _words(
    """
    about above across after against along alongside amid amidst among amongst around at atop before behind below
    beneath beside besides between beyond by down during for from in inside into like near of off on onto out outside
    over past per through throughout till to toward towards under underneath until unto up upon via with within without
    w
    """
)
_PRONOUNS = _words(
    """
    i you he she it we they me him us them himself herself itself themselves there here what
    """
)
_AUXILIARIES = _words(
    """
    is are was were be been am has have had do does did can could will would shall should may might must cannot it's
    he's she's that's there's what's who's i'm they're we're you're isn't aren't wasn't weren't don't doesn't didn't
    can't won't hasn't haven't
    """
)
_ADVERBS = _words(
    "very not also too just only so away together almost quite rather still even upside ever never asleep"
)
_STOPS = _words("while as because when if though although since than but yet whilst whereas")

VERBS = _words(
    """
    sits stands holds rides wears walks runs looks plays flies eats hangs lies lays rests takes goes shows features
    poses drives carries makes gets catches covers adorns hovers passes jumps watches contains includes seems appears
    waits reaches throws pulls pushes kicks swings leans moves drinks serves uses leads faces sleeps grazes stares
    smiles crosses performs prepares comes gives says reads keeps puts sees surfs skis chases travels floats climbs
    swims turns points perches shines emits sat stood held rode wore ran flew ate hung lay took went got came gave said
    read saw
    """
)
"""Finite forms, most of which could be nouns: verbs where a noun is before them."""

BASE_VERBS = _words(
    """
    sit stand hold ride wear walk run look play fly eat hang lie lay rest take go graze pose drive carry make get catch
    cover watch wait wade swim sleep lean pull push jump swing surf ski travel cross face line fill surround gather
    rest see keep put come serve use kick throw hit reach drink prepare perform move set park read point float climb
    turn chase pass perch
    """
)
"""The same without -s: verbs after a plural, or after "to"."""

PARTICIPLES = _words("made worn held seen shown taken hung built laid drawn driven kept lit stuck caught woven")
"""Past participles that do not end in -ed."""

WEARING = _words("wearing wears wear wore dressed")
"""What is worn does not act: in "a man wearing a shirt riding a bike" he rides."""

NOUNS = _words(
    """
    building ceiling clothing painting railing thing string ring king wing morning evening wedding awning frosting
    icing lighting bedding topping stuffing trimming filling sibling duckling lettering writing flooring carpeting
    shelving marking dressing pudding earring swing spring sling bed shed sled moped thoroughbred bobsled
    butterfly fly family jelly belly lily trolly doily bully assembly lady baby city pass glass grass dress bus cross
    """
)
"""Words that end like participles, adverbs or verbs, and are nouns."""

PLURALS = _words("men women people children sheep cattle mice geese feet teeth deer")
"""Plurals without -s."""

PLACES = _words("left right side top bottom middle center centre front back background foreground corner")
"""Where something is: in "a cat on the left and a dog on the right" the "and" does not join the left to the dog."""

COMPOUNDS: Mapping[str, frozenset[str]] = {
    "living": _words("room rooms area"),
    "dining": _words("room rooms table tables area chair chairs"),
    "dinning": _words("room table"),
    "parking": _words("lot lots meter meters garage space spaces area sign"),
    "swimming": _words("pool pools trunks"),
    "cutting": _words("board boards"),
    "washing": _words("machine machines"),
    "watering": _words("can cans"),
    "steering": _words("wheel wheels"),
    "waiting": _words("room area"),
    "frying": _words("pan pans"),
    "baking": _words("sheet tray pan"),
    "serving": _words("tray dish plate bowl"),
    "skating": _words("rink"),
    "rocking": _words("chair chairs horse"),
    "sleeping": _words("bag bags"),
    "traveling": _words("bag"),
    "wrapping": _words("paper"),
}
"""Nouns of two words of which the first ends in -ing."""

COMPOUND_PREPOSITIONS = tuple(
    tuple(words.split())
    for words in (
        "next to",
        "close to",
        "out of",
        "off of",
        "inside of",
        "outside of",
        "full of",
        "such as",
        "along with",
        "in between",
        "on top of",
        "on the top of",
        "in front of",
        "in back of",
        "on the side of",
        "to the side of",
        "to the left of",
        "to the right of",
        "on the left of",
        "on the right of",
    )
)
"""Several words that are one preposition, so that "front of a car" is no phrase."""

JOINED: Mapping[tuple[str, ...], str] = {
    **dict.fromkeys(COMPOUND_PREPOSITIONS, "prep"),
    ("close", "up"): "noun",
    ("each", "other"): "pron",
}
"""Several words with one class."""

TAGS: Mapping[str, str] = {
    **dict.fromkeys(ADJECTIVES, "adj"),
    **dict.fromkeys(_NUMBERS, "num"),
    **dict.fromkeys(_DETERMINERS, "det"),
    **dict.fromkeys(_PREPOSITIONS, "prep"),
    **dict.fromkeys(_PRONOUNS, "pron"),
    **dict.fromkeys(_AUXILIARIES, "verb"),
    **dict.fromkeys(_ADVERBS, "adv"),
    **dict.fromkeys(_STOPS, "stop"),
    **dict.fromkeys(NOUNS, "noun"),
    **dict.fromkeys(("that", "which", "who", "whose", "whom", "where"), "rel"),
    **dict.fromkeys(("and", "or", "&", "and/or"), "cc"),
    "'s": "poss",
    ",": "comma",
}
"""The class of a word that has one; what is missing is a noun, unless its ending or its neighbours say otherwise."""
