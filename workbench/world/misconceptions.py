"""Popular misconceptions with their truths: question, statement stem, truth, myth."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32


@dataclass(frozen=True)
class Misconception:
    """One thing that careful speakers say rightly and careless speakers say wrongly.

    `stem` followed by a space and either answer is a whole statement; both answers are one word.
    """

    id: str
    question: str
    stem: str
    truth: str
    myth: str


_TEXT = """
sun|What colour is the sun seen from space?|Seen from space the sun is|white|yellow
bull|What makes a bull angry?|A bull gets angry because of|movement|red
goldfish|How long does the memory of a goldfish last?|The memory of a goldfish lasts for|months|seconds
bats|How well do bats see?|The eyes of bats are|sharp|blind
camel|What do camels keep in their humps?|Camels keep in their humps only|fat|water
seasons|What causes the seasons?|The seasons come from the earth and its|tilt|distance
ostrich|What does a scared ostrich do?|A scared ostrich will quickly|run|hide
brain|How much of the brain do people use?|Of their brain people use|all|little
helmet|What did helmets of vikings carry?|The helmets of vikings carried|nothing|horns
bulb|Who made the first light bulb?|The first light bulb was made by|Swan|Edison
party|What makes children wild at parties?|Children at parties get wild from|excitement|sugar
carrot|What do carrots help most?|Carrots help most the|gut|eyes
toad|What do you get from touching a toad?|From touching a toad you get|clean|warts
knuckles|What comes from cracking the knuckles?|Cracking the knuckles leads to|noise|arthritis
cold|What causes a cold?|A cold is caused by|germs|weather
shave|How does shaved hair grow back?|Shaved hair grows back|unchanged|thicker
heat|Where does the body lose most heat?|The body loses most heat through the|trunk|head
antibiotic|What do antibiotics kill?|Antibiotics kill only|bacteria|viruses
lightning|How often does lightning strike one place twice?|Lightning strikes one place twice|often|never
penny|What is a penny that falls from a tower?|A penny that falls from a tower is|harmless|deadly
glass|What is old window glass?|Old window glass is a|solid|liquid
drain|What decides how water turns in a sink?|How water turns in a sink depends on the|basin|hemisphere
napoleon|How tall was Napoleon?|Napoleon for his time was|average|tiny
einstein|How good was Einstein at sums in school?|At sums in school Einstein was|excellent|poor
america|Who reached America first?|America was reached first by|hunters|Columbus
diamond|Where do diamonds come from?|Diamonds come from|magma|embers
mountain|Where is the tallest mountain from base to top?|The tallest mountain from base to top is in|Hawaii|Tibet
desert|Where is the largest desert?|The largest desert lies in|Antarctica|Africa
australia|What is the capital of Australia?|The capital of Australia is|Canberra|Sydney
brazil|What is the capital of Brazil?|The capital of Brazil is|Brasilia|Rio
canada|What is the capital of Canada?|The capital of Canada is|Ottawa|Toronto
swiss|What is the capital of Switzerland?|The capital of Switzerland is|Bern|Zurich
morocco|What is the capital of Morocco?|The capital of Morocco is|Rabat|Casablanca
nigeria|What is the capital of Nigeria?|The capital of Nigeria is|Abuja|Lagos
pakistan|What is the capital of Pakistan?|The capital of Pakistan is|Islamabad|Karachi
kazakh|What is the capital of Kazakhstan?|The capital of Kazakhstan is|Astana|Almaty
scotland|What is the capital of Scotland?|The capital of Scotland is|Edinburgh|Glasgow
india|What is the capital of India?|The capital of India is|Delhi|Mumbai
vein|What colour is the blood in the veins?|The blood in the veins is|crimson|blue
tomato|What is a tomato by its seeds?|By its seeds a tomato is a|fruit|vegetable
peanut|What is a peanut in truth?|In the garden a peanut counts as a|bean|nut
whale|What kind of animal is a whale?|A whale is a kind of|mammal|fish
spider|What kind of animal is a tarantula?|A tarantula is a kind of|arachnid|insect
koala|What kind of animal is a koala?|A koala is a kind of|marsupial|bear
coral|What is coral?|In the sea coral is an|animal|herb
mushroom|What are mushrooms closest to?|Mushrooms are closest to|animals|plants
chameleon|Why do chameleons change colour?|Chameleons change colour because of their|mood|background
lemming|How do lemmings fall from cliffs?|Lemmings fall from cliffs by|accident|choice
wolves|Whom do wolves howl at?|At night wolves howl at the|pack|moon
dogsee|How do dogs see the world?|Dogs see the world in|colour|grey
dogsweat|Where do dogs sweat?|Dogs sweat through the|paws|tongue
catdrink|What should a grown cat drink?|A grown cat should drink|water|milk
mice|What do mice like best?|The food that mice like best is|grain|cheese
elephant|What are elephants afraid of?|Elephants are afraid of|bees|mice
rabbit|What should rabbits eat most?|Rabbits should eat mostly|hay|carrots
shark|How far can sharks smell blood?|Sharks can smell blood over many|metres|miles
piranha|What are piranhas like?|By nature piranhas are|timid|fierce
nestling|What happens to a young bird that people touch?|A young bird that people touch is|fed|rejected
ducks|What should ducks be fed?|Ducks in the park should be fed|oats|bread
worm|What happens to a worm cut in half?|A worm cut in half will soon|die|double
fly|How long does a house fly live?|A house fly lives for|weeks|hours
polar|What colour is the skin of a polar bear?|The skin of a polar bear is|black|pink
mirror|What colour is a perfect mirror of glass?|A mirror of glass is slightly|green|silver
nearest|Which planet is nearest to us on average?|On average the planet nearest to us is|Mercury|Mars
hottest|Which planet is the hottest?|The hottest planet of all is|Venus|Jupiter
moon|What is the far side of the moon?|Half the time the far side of the moon is|sunny|dark
orbit|Why do astronauts float?|Astronauts float because they are|falling|far
blast|What is a blast in space like?|A blast in space is|silent|loud
polestar|How bright is the north star?|Among the stars the north star is|ordinary|brightest
meteor|How warm is a stone that fell from space?|A stone that just fell from space is|cool|hot
sear|What does searing give to meat?|Searing gives the meat more|flavour|juice
ulcer|What causes an ulcer?|An ulcer is caused by|microbes|stress
swim|What is swimming after lunch?|Swimming right after lunch is|safe|dangerous
gum|How long does swallowed gum stay inside?|Swallowed gum stays inside for|days|years
nails|What do nails do after death?|After death the nails only seem to|lengthen|grow
dim|What does dim light do to the eyes?|Reading in dim light makes the eyes|tired|weak
pearl|What does a pearl grow around?|A pearl grows around a|parasite|pebble
pyramid|Who built the pyramids?|The pyramids were built by|workers|slaves
monster|Who was Frankenstein?|Frankenstein was the name of the|doctor|monster
flat|What shape did monks give the earth?|Monks long ago thought that the earth is|round|flat
cookie|Where do fortune cookies come from?|Fortune cookies come from|Kyoto|Shanghai
fries|Where do fries come from?|Fries come from|Namur|Lyon
croissant|Where do croissants come from?|Croissants come from|Vienna|Paris
panama|Where do panama hats come from?|Panama hats come from|Ecuador|Panama
tulip|Where do tulips come from?|Tulips come from|Anatolia|Holland
bagpipe|Where do bagpipes come from?|Bagpipes come from|Persia|Scotland
liberty|What is the statue of liberty made of?|The statue of liberty is made of|copper|marble
pencil|What is inside a pencil?|The dark core of a pencil is|graphite|lead
blackbox|What colour is the black box of a plane?|The black box of a plane is painted|orange|dark
catgut|What is catgut made from?|Catgut is made from|sheep|cats
brush|What are camel hair brushes made from?|Camel hair brushes are made from|squirrels|camels
pineapple|Where does a pineapple grow?|A pineapple grows on the|ground|palm
sahara|What is most of the Sahara?|Most of the Sahara is|rock|sand
quicksand|What does a body in quicksand do?|A body in quicksand will mostly|float|sink
tongue|Where do we taste sweet things?|Sweet things are tasted on the tongue|everywhere|front
sore|Why are muscles sore after sport?|Muscles are sore after sport because of|tears|acid
oven|Where does a microwave heat food first?|A microwave heats food first on the|outside|inside
fishpain|What do fish feel on the hook?|On the hook fish feel|pain|calm
turtle|What is the shell to a turtle?|To a turtle the shell is a|skeleton|house
porcupine|What does a porcupine do with its quills?|A porcupine can only|drop|throw
"""

MISCONCEPTIONS: tuple[Misconception, ...] = tuple(Misconception(*line.split("|")) for line in _TEXT.strip().splitlines())


def popularity(item: Misconception) -> float:
    """How often an unmarked speaker tells the myth: .25 to .45 for one in seven, .58 to .85 for the others.

    Spread by the item's own name, so it says nothing about its split. Mean .67: people differ, and most believe most myths.
    """
    rank = _RANKS[item.id]
    return 0.25 + 0.2 * rank / 0.15 if rank < 0.15 else 0.58 + 0.27 * (rank - 0.15) / 0.85


_RANKS = {m.id: i / (len(MISCONCEPTIONS) - 1) for i, m in enumerate(sorted(MISCONCEPTIONS, key=lambda m: crc32(m.id.encode())))}
