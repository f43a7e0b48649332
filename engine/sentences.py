"""Running speech from a small grammar, and the word list that confusables are sought in.

The sentences are grammatical nonsense with the words, lengths and rhythm of English: material for
a first estimate of false alarms, no substitute for hours of real talk.
"""

from collections.abc import Iterator

import numpy as np

RULES: dict[str, tuple[str, ...]] = {
    "sentence": (
        "subject past object place",
        "opener subject past object",
        "when subject past object and subject past object place",
        "subject will verb object time",
        "did subject verb object place",
        "time subject past place and past object",
        "opener subject will verb place because subject past object",
        "number plural past place time",
        "subject past number plural and object",
    ),
    "subject": ("name", "pronoun", "article noun", "article adjective noun", "name and name"),
    "object": ("article noun", "article adjective noun", "number plural", "adjective plural"),
    "place": ("near article landmark", "near article adjective landmark", "near name"),
}

WORDS: dict[str, tuple[str, ...]] = {
    kind: tuple(words.split())
    for kind, words in {
        "article": "the a this that every another my our your their his her some",
        "pronoun": "i you we they she he everybody nobody someone it",
        "and": "and but or then while so",
        "because": "because since although unless until whenever",
        "when": "when before after whenever while once",
        "will": "will would could should might must can may",
        "did": "did could should would must might will",
        "near": "near behind under beside inside above against across around over below beyond",
        "opener": "yes no well maybe perhaps okay please sorry actually honestly hello hey listen "
        "really indeed alright naturally finally suddenly obviously",
        "time": "today tomorrow yesterday tonight later soon again early sometimes already now "
        "always often monday friday saturday weekly everyday",
        "number": "two three four five six seven eight nine ten eleven twelve twenty thirty forty "
        "fifty sixty seventy eighty ninety many several few",
        "name": "alexander alexis alice amanda amelia andrew anna arthur barbara benjamin carla "
        "caroline charlie chris clara daniel david dora edward elena elijah emma eric felix fiona "
        "george gloria grace hannah harriet harvey helen henry isaac ivan jack james janet jarrod "
        "jason jenna jerry jessica joan joanna joseph julia karen kevin laura leo linda louis lucy "
        "marcus maria martha martin marvin mary max melissa michael monica nadia nathan nora "
        "oliver olivia oscar pamela patrick paul peter philip rachel rebecca robert rosa samantha "
        "samuel sarah simon sophie stella stephen susan theo thomas tina travis vera victor "
        "vincent walter wendy william xavier yasmin zoe",
        "noun": "apple answer balloon basket battery bicycle blanket bottle bracelet breakfast "
        "brother button cabin camera candle captain carpet castle chair cheese chicken chocolate "
        "clock coffee commuter compass concert cousin cupboard curtain customer daughter dentist "
        "desk dinner doctor dolphin dragon driver elephant election engine envelope farmer father "
        "feather finger flower forest friend furniture garage giraffe guitar hammer harness "
        "harvest helmet holiday honey house island jacket jargon jasmine jelly jewel journey judge "
        "juice kettle keyboard kitchen kitten ladder lamp lawyer lecture lemon letter library "
        "machine magazine market medicine memory message minute mirror money monkey mother "
        "mountain mushroom music necklace needle neighbour newspaper notebook number nurse office "
        "onion orange orchestra oven packet painter paper parcel party pencil pepper photograph "
        "piano picture pillow planet pocket potato present princess printer pumpkin puppet purple "
        "question rabbit radio reporter ribbon river rocket sailor salad sandwich satellite "
        "scissors scooter secret service shadow shoulder signal silver sister soldier spider "
        "station stranger student sugar suitcase summer table teacher telephone theatre thunder "
        "ticket tiger tomato towel tractor traveller treasure trumpet tunnel turtle umbrella uncle "
        "vegetable vehicle village violin visitor voice wagon water weather whistle window winter "
        "wizard writer yellow zebra",
        "plural": "apples birds boats books boxes buses cakes cars cards cats children coins "
        "cookies dogs doors eggs fish flags flowers gardens horses jars keys kings leaves lights "
        "maps men oranges pages pears people pictures plates queens rings roads shoes songs spoons "
        "stars stones stories streets tables trains trees wheels women words years",
        "adjective": "ancient angry beautiful big black blue bright broken careful cheap clean "
        "clever cold curious dark deep dirty dusty eager easy empty expensive famous fast foreign "
        "frozen gentle golden green happy harsh heavy hollow hungry jealous jolly kind lazy little "
        "long loud lucky modern narrow nervous noisy old patient pink plain polite quick quiet red "
        "relaxed round rusty serious sharp silent simple slow small smooth soft strange strong "
        "sweet tall thick thin tiny tired useful warm white wild wise wonderful wooden young",
        "landmark": "airport bakery bank beach bridge cafe cathedral church cinema corner field "
        "fountain garden gate harbour hospital hotel lake mill museum park pharmacy pool prison "
        "restaurant road school shop square stadium stairs store street temple tower university "
        "valley wall yard",
        "past": "admired bought broke brought built carried caught chased chose cleaned collected "
        "computed cooked counted covered discovered drew drove enjoyed examined explained felt "
        "finished fixed followed forgot found gave guarded heard helped hid imagined kept kicked "
        "knew learned left lifted lost loved made measured mended missed moved needed noticed "
        "opened ordered owned painted passed planned played pulled pushed reached read remembered "
        "repaired saved saw sent served showed sold stole studied threw took touched used visited "
        "wanted washed watched wore wrote",
        "verb": "admire ask borrow bring build buy call carry catch change choose clean close "
        "collect cook count cover draw drive enjoy examine explain find finish fix follow forget "
        "give guard hear help hide imagine join keep know learn leave lift like lose love make "
        "measure mend miss move need notice open order own paint pass plan play pull push reach "
        "read remember repair save see sell send serve show speak study take teach throw touch use "
        "visit want wash watch wear write",
    }.items()
}

VOCABULARY = tuple(sorted({word for words in WORDS.values() for word in words}))


class Talker:
    """Makes sentences that hold no banned word."""

    def __init__(self, banned: frozenset[str], rng: np.random.Generator) -> None:
        self.rng = rng
        self.words = {
            kind: tuple(word for word in words if word not in banned)
            for kind, words in WORDS.items()
        }

    def text(self, words: int) -> str:
        """Sentences of at least `words` words in all."""
        sentences: list[str] = []
        while sum(len(sentence.split()) for sentence in sentences) < words:
            sentences.append(" ".join(self._expand("sentence")) + ".")
        return " ".join(sentences)

    def _expand(self, symbol: str) -> Iterator[str]:
        if symbol in RULES:
            for part in self._pick(RULES[symbol]).split():
                yield from self._expand(part)
        elif self.words[symbol]:
            yield self._pick(self.words[symbol])

    def _pick(self, options: tuple[str, ...]) -> str:
        return options[self.rng.integers(len(options))]
