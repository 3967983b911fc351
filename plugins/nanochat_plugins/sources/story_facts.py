"""Facts of everyday knowledge that `stories` strings together: one sentence a line, grouped by topic. Plain data."""

FACTS: dict[str, tuple[str, ...]] = {
    topic: tuple(line.strip() for line in lines.strip().splitlines())
    for topic, lines in {
        "the body": """
            The heart pumps blood through the whole body.
            We breathe with our lungs and digest food in the stomach.
            Bones support the body and muscles move it.
            The skin protects us from dirt and germs.
            With our tongue we taste whether something is sweet, salty, bitter or sour.
            The brain remembers, plans and dreams.
            A fever is a sign that the body is fighting an illness.
            Fingernails and hair grow a little every day.
            Sleep gives the body time to recover.
            Eyebrows keep sweat out of the eyes.
        """,
        "the sky": """
            The sun is a star, and the earth travels around it once a year.
            The moon has no light of its own; it reflects the light of the sun.
            Clouds are made of countless tiny drops of water.
            Lightning is seen before thunder is heard, because light is faster than sound.
            A rainbow appears when sunlight shines through rain.
            Jupiter is the largest planet and Mercury the smallest.
            A comet is a lump of ice and dust with a glowing tail.
            Stars seem to twinkle because the air above us is never still.
            The sky looks blue because air scatters blue light more than red.
            An eclipse happens when the moon hides the sun.
        """,
        "water": """
            Water freezes into ice when it gets cold and turns into steam when it boils.
            Rivers carry rain from the mountains to the sea.
            The sea is salty, but lakes and streams are mostly fresh.
            The tide rises and falls because the moon pulls at the ocean.
            A desert is a place where it hardly ever rains.
            Dew is water that settles on cold grass during the night.
            A dam holds back a river, and its water can drive turbines.
            Icebergs float, and most of their bulk lies hidden below the surface.
            Wells reach down to water that has gathered beneath the soil.
            Every snowflake has six points.
        """,
        "plants": """
            Plants need light, water and soil to grow.
            Roots drink water from the ground and hold the plant firmly.
            Leaves make sugar out of sunlight and air.
            Bees carry pollen from one blossom to the next.
            An acorn can become a mighty oak.
            Pines and firs keep their needles in winter.
            Bread is made of wheat, and porridge of oats.
            Cotton grows on bushes and linen comes from flax.
            Cactuses store water in their thick stems.
            Each ring in a trunk stands for one year of the tree's life.
            Nettles sting, but their young leaves make a tasty soup.
            Moss likes damp and shady places.
        """,
        "animals": """
            Birds have feathers, fish have scales and mammals have fur.
            A caterpillar spins a cocoon and comes out as a butterfly.
            Bats hunt insects at night and sleep upside down during the day.
            Whales live in the ocean but breathe air.
            Spiders have eight legs and insects have six.
            Squirrels bury nuts and forget where some of them are.
            Camels can go for many days without drinking.
            Swallows fly south in autumn and return in spring.
            Owls turn their heads almost all the way around.
            Beavers fell trees with their teeth and build dams.
            Frogs begin their lives as tadpoles.
            Ants work together and carry loads much heavier than themselves.
            A snail leaves a silvery trail behind it.
            Wolves hunt in packs and howl to find each other.
            The cheetah is the fastest runner, but only over a short distance.
            Octopuses are clever and can change their colour.
            Elephants greet each other with their trunks.
            A kangaroo carries its baby in a pouch.
        """,
        "the house": """
            A roof keeps the rain out and walls keep the warmth in.
            Windows let in daylight, and curtains shut it out again.
            A thermometer shows how warm it is.
            Soap removes grease that plain water leaves behind.
            A fridge keeps milk fresh and butter firm.
            Chimneys lead the smoke away from the fire.
            Carpets make a room quieter.
            A key fits only the lock it was made for.
            Batteries give power where there is no socket.
            Dust gathers on shelves that nobody wipes.
            Wet laundry dries faster in the wind.
            A loose screw can be tightened with a screwdriver.
        """,
        "travel": """
            Trains run on rails and stop at stations.
            A compass needle points to the north.
            Bridges let people cross rivers and valleys.
            A passport is needed to visit many foreign countries.
            Sailing boats use the wind, and rowing boats use oars.
            Before there were engines, carriages were pulled by horses.
            Tunnels lead roads straight through mountains.
            A map shows cities, roads and borders from above.
            Aeroplanes need a long runway to take off and to land.
            Traffic lights are red, amber and green.
            Lighthouses warn ships of dangerous rocks.
            A bicycle stays upright more easily when it moves.
        """,
        "time": """
            A week has seven days and a year has twelve months.
            Spring follows winter, and summer follows spring.
            Clocks were once driven by weights and pendulums.
            A century is a hundred years.
            The days are long in June and short in December.
            Yesterday is over and tomorrow has not begun.
            Sundials tell the time only while the sun shines.
            February is the shortest month.
            A decade is ten years, and a minute is sixty seconds.
            When it is noon here, it is midnight on the other side of the earth.
        """,
        "people": """
            Some people live in crowded cities and others in lonely valleys.
            Languages differ, but a smile is understood everywhere.
            A museum keeps things that are worth remembering.
            Money was invented because swapping goods is awkward.
            In a democracy the citizens choose their government.
            Laws tell people what is allowed and what is forbidden.
            Stories were told aloud long before anyone could write.
            Paper was first made in China.
            Printing made books cheap enough for everybody.
            A recipe says which ingredients are needed and in which order.
            Medicine has made many diseases harmless.
            Musicians read notes the way others read sentences.
            Schools teach reading, writing and arithmetic.
            A festival brings neighbours together.
        """,
        "materials": """
            Iron rusts when it stays wet.
            Glass is made from melted sand.
            Steel is iron with a little carbon in it.
            Wood floats on water, but most metals sink.
            Rubber is soft and springs back into shape.
            Gold is heavy and never loses its shine.
            A magnet attracts iron and leaves copper alone.
            Wool keeps the cold away even when it is damp.
            Plastic is light and cheap, but it takes centuries to decay.
            Diamonds are the hardest of all stones.
            Bricks are baked from clay in a kiln.
            Leather is tanned so that it does not rot.
        """,
    }.items()
}
