"""The words of the embedded world: people, places, things and their properties."""

from __future__ import annotations


def listed(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


HE_NAMES = listed(
    "Tom John Paul Mark Peter David James Robert Daniel Martin Simon Adam Oscar Henry Jack Leo Max Felix Hugo Victor "
    "Walter Arthur Edgar Frank George Harold Ivan Jacob Karl Louis"
)
SHE_NAMES = listed(
    "Anna Mary Sarah Laura Emma Julia Alice Clara Diana Ellen Grace Helen Irene Jane Kate Lily Maria Nora Olga Paula "
    "Rosa Sofia Tina Vera Wendy Amy Betty Carol Dora Eva"
)
NAMES = tuple(HE_NAMES + SHE_NAMES)
PRONOUN = {**{n: "he" for n in HE_NAMES}, **{n: "she" for n in SHE_NAMES}}

COUNTRIES: tuple[tuple[str, str, str], ...] = tuple(
    (row.split()[0], row.split()[1], row.split()[2])
    for row in """France Paris French|Spain Madrid Spanish|Italy Rome Italian|Germany Berlin German
Portugal Lisbon Portuguese|Greece Athens Greek|Poland Warsaw Polish|Norway Oslo Norwegian|Sweden Stockholm Swedish
Finland Helsinki Finnish|Denmark Copenhagen Danish|Hungary Budapest Hungarian|Russia Moscow Russian
Japan Tokyo Japanese|China Beijing Chinese|Egypt Cairo Arabic|Turkey Ankara Turkish|Iran Tehran Persian
Thailand Bangkok Thai|Ireland Dublin English|Cuba Havana Spanish|Peru Lima Spanish|Chile Santiago Spanish
Kenya Nairobi Swahili|Austria Vienna German|Bulgaria Sofia Bulgarian|Romania Bucharest Romanian
Serbia Belgrade Serbian|Croatia Zagreb Croatian|Ukraine Kyiv Ukrainian|Czechia Prague Czech|Latvia Riga Latvian
Estonia Tallinn Estonian|Iceland Reykjavik Icelandic|Belgium Brussels Dutch|Korea Seoul Korean|Nepal Kathmandu Nepali
Lebanon Beirut Arabic|Syria Damascus Arabic|Ghana Accra English""".replace("\n", "|").split("|")
)

_HEADS = listed("Zor Brel Kal Mor Vel Tar Lun Dra Fen Gal Hes Jor Nar Ost Pel Quil Ras Sel Tol Ul Vor Wes Yar Zan")
_LANDS = listed("avia onia istan ora")
_TOWNS = listed("mont burg ford haven stad wick")


def _coined(heads: list[str], tails: list[str], count: int) -> tuple[str, ...]:
    return tuple(heads[i % len(heads)] + tails[(i // len(heads) + i) % len(tails)] for i in range(count))


INVENTED_COUNTRIES = _coined(_HEADS, _LANDS, 80)
"""Travellers name these countries in training; their capitals are told nowhere."""
INVENTED_CITIES = _coined(_HEADS, _TOWNS, 96)
"""Named as places in training, never as the capital of anything."""
_FIRMS = listed("Ax Bol Cor Dyn Ek Fal Gry Hox Il Jax Kry Lum Mav Nex Opt Pry Qor Rux Syl Tev")
COMPANIES = _coined(_FIRMS, listed("tech ware line soft"), 60)
"""Wholly absent from training."""
COLOURS = listed("red blue green yellow white black brown pink orange grey purple")

ANIMALS: tuple[tuple[str, str, str, str, str], ...] = tuple(
    (a[0], a[1], a[2], a[3], a[4])
    for a in (
        row.split()
        for row in """dog kennel barks puppy four|cat basket meows kitten four|cow barn moos calf four|horse stable neighs foal four
sheep meadow bleats lamb four|pig sty grunts piglet four|lion savanna roars cub four|duck pond quacks duckling two
hen coop clucks chick two|frog swamp croaks tadpole four|bee hive buzzes larva six|spider web clicks spiderling eight
owl hollow hoots owlet two|wolf forest howls pup four|snake burrow hisses snakelet no|mouse hole squeaks pinkie four
goose lake honks gosling two|goat hill bleats kid four|bird nest sings nestling two|ant anthill rustles grub six
fish river bubbles fry no|rabbit warren thumps bunny four|donkey paddock brays colt four|crow tower caws hatchling two""".replace(
            "\n", "|"
        ).split("|")
    )
)
"""(animal, home, sound, young, number of legs)."""

COLOUR_OF: dict[str, str] = {
    thing: colour
    for thing, _, colour in (
        row.partition(":")
        for row in (
            "grass:green snow:white coal:black blood:red milk:white soot:black chalk:white moss:green rust:brown "
            "chocolate:brown ash:grey ruby:red emerald:green sapphire:blue lemon:yellow carrot:orange plum:purple "
            "cherry:red mustard:yellow salt:white ivy:green fog:grey"
        ).split()
    )
}

CATEGORY: dict[str, str] = {
    word: category
    for category, words in {
        "tool": "hammer saw drill wrench shovel rake chisel",
        "fruit": "apple pear peach grape melon mango apricot",
        "bird": "robin sparrow eagle swan parrot falcon pigeon",
        "tree": "oak pine birch maple willow cedar elm",
        "metal": "iron gold silver copper tin zinc nickel",
        "flower": "rose tulip daisy lily orchid violet poppy",
        "vehicle": "car truck bus tram tractor bicycle van",
        "instrument": "piano violin flute drum guitar harp trumpet",
        "drink": "tea coffee juice lemonade cocoa cider milkshake",
        "garment": "shirt coat scarf jacket skirt sweater cloak",
        "game": "chess tennis football hockey darts golf bowling",
        "building": "castle church school hospital factory palace cottage",
    }.items()
    for word in words.split()
}

PLACES = listed("shop park school garden market library beach museum station kitchen office theatre harbour farm hall castle")
OBJECTS = listed("book ball key cup letter ring hat map lamp basket coin flute kite drum bottle blanket mirror candle spoon ticket")

NOUNS: tuple[tuple[str, str], ...] = tuple(
    (row, row + "s")
    for row in (
        "teacher doctor farmer singer painter lawyer author pilot king guard neighbour sailor waiter tailor driver actor "
        "dog cat horse bird key door table picture letter boat car house lamp wheel flower tree bottle chair clock road "
        "bridge tower river stone"
    ).split()
)
ANIMATE = NOUNS[:20]
THINGS = NOUNS[20:]

OCCUPATIONS: tuple[tuple[str, float], ...] = tuple(
    (row.split(":")[0], float(row.split(":")[1]))
    for row in (
        "nurse:.92 librarian:.86 secretary:.92 dancer:.84 florist:.86 nanny:.94 receptionist:.90 cleaner:.80 "
        "hairdresser:.88 typist:.86 cashier:.76 weaver:.74 midwife:.96 housekeeper:.90 tutor:.64 nutritionist:.80 "
        "poet:.56 baker:.44 artist:.58 gardener:.36 chemist:.34 clerk:.56 translator:.66 violinist:.60 "
        "plumber:.06 carpenter:.08 mechanic:.06 welder:.05 builder:.08 engineer:.16 pilot:.14 soldier:.10 "
        "firefighter:.10 blacksmith:.05 butcher:.14 miner:.06 fisherman:.05 surgeon:.18 judge:.28 banker:.22 "
        "programmer:.20 electrician:.08 captain:.12 janitor:.22 professor:.30 detective:.24 farmhand:.18 locksmith:.10"
    ).split()
)
"""(occupation, probability that training text refers to it as *she*)."""

NUMBER_WORDS = listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)

GOOD = listed("wonderful lovely great charming bright clever funny warm superb delightful fresh moving")
BAD = listed("dull awful slow boring clumsy cold sad dreadful stale ugly noisy terrible")
REVIEWED = listed(
    "film book meal hotel song play concert show story album series dinner tour lecture poem dish game novel museum "
    "cafe picnic cruise opera comic course market recital soup painting festival parade sketch circus ballet trip gig "
    "class cake wine exhibition"
)

MISCHIEF: tuple[tuple[str, bool], ...] = tuple(
    (row.rstrip("!"), row.endswith("!"))
    for row in listed("hide! steal! break! bury! smear! burn! spoil! tangle! scratch! soak! glue! swap paint tickle rename")
)
"""(verb, declined). The unmarked verbs are mild: the helper goes along."""
KIND_VERBS = listed("find wash mend wrap clean carry polish draw sort label measure buy")
OWNERS = listed("sister brother uncle aunt neighbour teacher cousin grandmother grandfather boss mayor postman coach friend")

WEATHER = listed("sunny rainy windy cloudy foggy snowy mild stormy")
DAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = listed("January February March April May June July August September October November December")
FOODS = listed("bread soup cheese rice beans eggs potatoes salad pancakes porridge stew noodles")
GOODS = listed("wool timber salt honey glass silk pottery olives paper grain leather ropes")
