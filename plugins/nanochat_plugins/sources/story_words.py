"""The words that `stories` is made of: lists by what they mean, so that every sentence makes sense.

Plain data. A list is one string of comma-separated entries, cut once at import.
"""


def _cut(text: str) -> tuple[str, ...]:
    return tuple(" ".join(entry.split()) for entry in text.split(","))


GIRLS = _cut(
    """Anna, Lucy, Mia, Clara, Emma, Sofia, Nora, Ella, Rosa, Lily, Alice, Maya, Ruth, Zoe, Hannah, Julia, Amira, Ines,
    Freya, Priya, Mei, Olga, Tessa, Wanda, Grace, Ivy, Leila, Marta, Nina, Paula"""
)
BOYS = _cut(
    """Tom, Ben, Max, Leo, Sam, Jack, Oscar, Peter, Noah, Felix, Hugo, Omar, Ivan, Paul, Finn, David, Ravi, Kenji,
    Marco, Otto, Carlos, Daniel, Erik, George, Henry, Isaac, Jonas, Karim, Luca, Miles"""
)
FAMILY = _cut(
    """mother, father, sister, brother, grandmother, grandfather, aunt, uncle, cousin, neighbour, teacher, friend"""
)
ANIMALS = _cut(
    """cat, dog, rabbit, horse, cow, sheep, goat, pig, duck, hen, mouse, hedgehog, squirrel, fox, owl, frog, turtle,
    swan, parrot, donkey, pony, kitten, puppy, lamb, beaver, badger, robin, sparrow, crow, deer, otter, bear,
    wolf, penguin, lizard, hamster, pigeon, rooster, swallow, butterfly, snail, spider, beetle, elephant,
    monkey, lion, tiger, camel, whale, dolphin, seal, eagle, goose, bat, mole"""
)
FRUIT = _cut(
    """apple, pear, plum, cherry, peach, banana, orange, lemon, melon, strawberry, raspberry, apricot, fig, mango,
    coconut, grape, blueberry, carrot, potato, tomato, onion, pumpkin, cabbage, cucumber, radish, turnip,
    mushroom, pepper, walnut, chestnut, almond"""
)
MEALS = _cut(
    """bread and butter, hot soup, rice with beans, pancakes with honey, a bowl of porridge, toast and jam, cheese and
    crackers, an omelette, roast chicken, noodles, fish with potatoes, a slice of pie, vegetable stew, a warm
    muffin, oatmeal, scrambled eggs, a fresh salad, chocolate pudding, apple cake, a ham sandwich, yoghurt with
    berries, dumplings, waffles, a biscuit and a glass of milk, sweet corn, lentils and spinach, baked fish,
    tomato sauce with garlic"""
)
THINGS = _cut(
    """basket, bottle, blanket, box, bucket, candle, clock, compass, cup, drum, feather, flute, glass, hammer, key,
    kite, ladder, lamp, lantern, letter, map, mirror, necklace, needle, notebook, pencil, picture, pillow,
    plate, purse, ribbon, ring, rope, shell, shovel, spoon, stone, suitcase, telescope, ticket, trumpet,
    umbrella, violin, wallet, watch, whistle, wheel, teapot, saucer, jar, brush, comb, broom, guitar, envelope,
    postcard, newspaper, calendar, puzzle, marble, doll, balloon, puppet, wagon, sledge, bicycle, toy boat,
    paper plane, model train, wooden horse, rubber ball, music box, story book, paint box, flower pot, watering
    can, silver bell, coin, button, magnet, kettle, saddle"""
)
CONTAINERS = _cut(
    """basket, bucket, box, bowl, bag, sack, jar, crate, wheelbarrow, cup, pot, suitcase, purse, backpack, drawer"""
)
CLOTHES = _cut(
    """hat, scarf, coat, jacket, sweater, shirt, dress, skirt, apron, cap, raincoat, vest, belt, cloak, glove, mitten,
    shoe, boot, sock, slipper, sandal"""
)
WORN = _cut(
    """hat, scarf, coat, jacket, sweater, shirt, apron, cap, raincoat, vest, belt, cloak, pair of boots, pair of
    gloves, pair of trousers, woollen jumper, straw hat, pair of sandals, uniform, silk tie"""
)
PETS = _cut("""cat, dog, rabbit, pony, kitten, puppy, hamster, parrot, turtle, goldfish, canary, guinea pig""")
MATERIALS = _cut("""wood, glass, clay, iron, silver, leather, copper, stone, brass, plastic, tin, ivory, bamboo""")
COLOURS = _cut(
    """red, blue, green, yellow, white, black, brown, grey, purple, pink, golden, orange, violet, scarlet, cream"""
)
LOOKS = _cut(
    """old, new, small, large, tiny, huge, broken, shiny, dusty, heavy, light, beautiful, strange, simple, plain,
    pretty, round, square, long, narrow, wide, smooth, rough, soft, hard, clean, dirty, empty, painted,
    polished, forgotten, precious, ordinary, ancient, elegant, crooked, faded, borrowed, favourite, delicate,
    enormous, striped, spotted"""
)
CHARACTER = _cut(
    """kind, brave, quiet, cheerful, clever, curious, careful, gentle, honest, lazy, lonely, loud, patient, polite,
    proud, shy, silly, stubborn, thoughtful, wise, friendly, generous, hungry, sleepy, nervous, helpful, grumpy,
    playful, restless, modest, faithful, greedy, humble, bold, calm, fearless, merry, serious, sensible"""
)
FEELINGS = _cut(
    """happy, glad, proud, surprised, tired, excited, relieved, pleased, thankful, content, delighted, hopeful, calm,
    grateful, amazed, satisfied"""
)
SAD = _cut(
    """sad, worried, angry, afraid, lonely, upset, disappointed, cross, nervous, puzzled, ashamed, jealous, anxious,
    bored, frightened, confused"""
)
INDOORS = _cut(
    """in the kitchen, in the attic, in the cellar, in the library, in the bedroom, in the hall, in the workshop, in
    the barn, in the classroom, in the museum, at the bakery, in the shop, at the post office, in the theatre,
    in the hospital, in the castle, in the tower, in the cottage, in the stable, at the railway station, in the
    greenhouse, in the garage, in the bathroom, in the laundry, in the pantry, at the hotel, in the chapel, in
    the lighthouse"""
)
OUTDOORS = _cut(
    """in the garden, in the forest, by the river, at the lake, on the beach, on the hill, in the park, in the meadow,
    at the market, in the village, on the bridge, at the harbour, in the orchard, in the valley, near the
    waterfall, on the farm, by the old mill, in the desert, on the island, at the edge of the wood, under the
    oak tree, behind the school, in the playground, on the mountain, by the pond, in the vineyard, along the
    canal, by the fountain, at the campsite, on the road"""
)
HIDING = _cut(
    """under the bed, behind the curtain, on the highest shelf, inside an old boot, under a pile of leaves, behind the
    stove, in the bottom drawer, beneath the stairs, between two cushions, in a hollow tree, under the carpet,
    beside the fireplace, in the cupboard, behind the bookcase, on the window sill, inside the wardrobe, under
    the bench, in the tall grass, behind the fence, on top of the roof, in a coat pocket, at the bottom of the
    basket"""
)
TIMES = _cut(
    """One morning, One evening, On a cold night, After lunch, Before breakfast, At noon, Early in spring, One summer,
    Late in autumn, On a winter day, Last week, Yesterday, On Monday, On Tuesday, On Wednesday, On Thursday, On
    Friday, On Saturday, On Sunday, During the holidays, After school, At sunset, At dawn, In the middle of the
    night, On a rainy afternoon, On the first day of May, One day in October, On his birthday, Long ago, Not
    long ago, A year ago, That afternoon"""
)
WEATHER = _cut(
    """The sun was shining, It was raining hard, A cold wind was blowing, Snow was falling, The sky was full of clouds,
    It was warm and still, Fog lay over the fields, Thunder rolled in the distance, The stars were bright, The
    air smelled of flowers, Ice covered the puddles, A rainbow stood above the hills, The leaves were turning
    yellow, The moon was rising, It was the hottest day of the year, A storm was coming, Frost sparkled on the
    grass, The birds were singing, Everything was quiet, The streets were wet"""
)
MOVED = _cut(
    """walked, ran, hurried, climbed, wandered, marched, skipped, strolled, rushed, crept, travelled, raced, tiptoed,
    rode, trotted, limped, stumbled, slipped, drove, sailed"""
)
ASKED = _cut("""asked, wondered, wanted to know, inquired, asked again, asked softly""")
SAID = _cut(
    """said, whispered, shouted, answered, replied, laughed, cried, explained, called, sighed, muttered, admitted,
    insisted, added"""
)
MADE = _cut(
    """built, painted, carved, mended, polished, cleaned, drew, decorated, sewed, wrapped, designed, measured,
    repaired, finished, sold, bought, borrowed, carried, dropped, hid, lost, found, opened, admired, collected,
    weighed, lifted, threw away, gave back"""
)
HOW = _cut(
    """quickly, slowly, quietly, carefully, gladly, bravely, gently, loudly, happily, politely, patiently, eagerly,
    proudly, secretly, nervously, cheerfully, lazily, together, alone, at once, without a word, with a smile, as
    fast as possible, in a great hurry, for a long time, step by step"""
)
HOBBIES = _cut(
    """swimming, reading, dancing, painting, singing, fishing, cooking, gardening, skating, climbing trees, playing
    chess, riding a bicycle, telling jokes, watching birds, collecting stamps, baking, sewing, playing the
    piano, building sandcastles, flying kites, looking at the stars, drawing maps, solving riddles, writing
    poems, juggling, sailing, hiking, running races, playing football, learning languages, taking photographs,
    knitting, camping"""
)
LESSONS = _cut(
    """it is better to share, a small friend can be a great help, patience brings the best reward, nobody is too old to
    learn, telling the truth makes life easier, kindness costs nothing, work is lighter when many hands help, it
    is wise to look before you leap, a promise must be kept, asking for help is no shame, the longest way home
    is sometimes the prettiest, practice makes hard things easy, listening is as important as speaking,
    everybody makes mistakes, a good night's sleep solves many problems, true treasure is not always gold,
    courage does not mean having no fear, a little effort every day goes far, being different is nothing bad,
    home is where you are welcome"""
)
WISHES = _cut(
    """to see the sea, to learn to fly, to find a friend, to become a doctor, to visit the capital, to bake the best
    cake in town, to own a horse, to play in the orchestra, to win the race, to climb the highest mountain, to
    write a book, to sail around the world, to build a house, to speak with animals, to grow the largest
    pumpkin, to travel by train, to be a captain, to discover an island, to invent a machine, to sleep under the
    open sky, to catch a falling star"""
)
JOBS: dict[str, str] = {
    "baker": "bakes bread, rolls and cakes long before the town wakes up",
    "carpenter": "cuts planks with a saw and joins them with nails, screws and glue",
    "farmer": "ploughs the fields, feeds the cattle and brings in the harvest",
    "doctor": "examines sick people and gives them medicine",
    "nurse": "looks after patients and changes their bandages",
    "dentist": "checks teeth and repairs the ones that hurt",
    "tailor": "measures customers and sews suits from cloth and thread",
    "fisherman": "throws nets into the water and sells the catch at the harbour",
    "gardener": "plants seeds, waters flowers and trims hedges",
    "blacksmith": "heats iron until it glows and hammers it into horseshoes",
    "postman": "delivers letters and parcels from door to door",
    "librarian": "lends books and knows where each of them stands",
    "firefighter": "puts out fires and rescues people from burning buildings",
    "pilot": "flies an aeroplane above the clouds from city to city",
    "sailor": "hoists the sails, ties knots and scrubs the deck",
    "miller": "grinds wheat and rye into flour",
    "shepherd": "guards the flock and leads it to fresh pasture",
    "mechanic": "repairs engines, brakes and tyres",
    "plumber": "mends leaking pipes and blocked drains",
    "electrician": "lays cables and connects switches and sockets",
    "architect": "draws plans for houses, bridges and schools",
    "bricklayer": "builds walls from bricks and mortar",
    "painter": "mixes colours and covers walls or canvas with them",
    "potter": "shapes wet clay into bowls and vases on a turning wheel",
    "jeweller": "sets precious stones in rings and necklaces",
    "cook": "chops vegetables, stirs sauces and seasons them with herbs",
    "waiter": "takes orders and brings dishes to the table",
    "butcher": "sells sausages and cuts of meat",
    "barber": "cuts hair and trims beards",
    "judge": "listens to both sides and decides what is fair",
    "journalist": "asks questions and writes articles for the newspaper",
    "photographer": "waits for the right light and takes pictures",
    "musician": "practises scales every day and plays at concerts",
    "actor": "learns long speeches by heart and performs on the stage",
    "scientist": "makes experiments and writes down every result",
    "astronomer": "studies planets and distant galaxies through a telescope",
    "chemist": "mixes liquids and powders and observes how they react",
    "beekeeper": "wears a veil and gathers honey from the hives",
    "miner": "digs coal and ore deep under the ground",
    "weaver": "makes cloth on a loom from coloured yarn",
    "shoemaker": "cuts leather and stitches new soles",
    "clockmaker": "repairs tiny springs and gears with tweezers",
    "veterinarian": "cures sick animals, from hamsters to horses",
    "engineer": "calculates loads and designs machines",
    "lighthouse keeper": "keeps the lamp burning so that ships pass safely",
    "bus driver": "stops at every corner and greets the passengers",
    "conductor": "raises a baton and leads the orchestra",
    "translator": "turns sentences of one language into another",
    "explorer": "crosses jungles, glaciers and deserts that are on no map",
    "inventor": "tinkers with strange contraptions until one of them works",
}
