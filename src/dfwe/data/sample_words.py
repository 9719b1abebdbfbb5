"""The words of the sample corpus: cast, places, things, and how people of one mood speak."""

# name -> pronoun; the six whom character identification knows by name
CAST = {"Nora": "she", "Milo": "he", "Tess": "she", "Ivo": "he", "Ruby": "she", "Oskar": "he"}
OTHERS = {
    "Mr. Hale": "he", "Dana": "she", "Aunt Vera": "she", "Captain Bly": "he",
    "Doctor Penn": "she", "Young Tim": "he",
}  # fmt: skip
PLACES = (
    "at the harbour", "in the bakery", "in the greenhouse", "in the attic", "in the library",
    "on the ferry", "in the workshop", "at the market", "at the lighthouse", "in the orchard",
    "in the kitchen", "on the bridge", "at the theatre", "at the station",
)  # fmt: skip
THINGS = (
    "lantern", "ladder", "piano", "kite", "map", "kettle", "violin", "raft", "clock", "quilt",
    "bicycle", "camera", "anchor", "teapot", "telescope", "wagon", "mirror", "drum", "basket",
    "accordion", "painting", "saddle", "typewriter", "compass",
)  # fmt: skip
# past, what a question asks with, participle, whether people like it
DEEDS = (
    ("found", "find", "found", True), ("bought", "buy", "bought", True),
    ("repaired", "repair", "repaired", True), ("painted", "paint", "painted", True),
    ("washed", "wash", "washed", True), ("carried", "carry", "carried", True),
    ("lost", "lose", "lost", False), ("sold", "sell", "sold", False),
    ("broke", "break", "broken", False), ("hid", "hide", "hidden", False),
    ("borrowed", "borrow", "borrowed", False), ("forgot", "forget", "forgotten", False),
)  # fmt: skip
LIKED = ("delight", "pride", "calm", "plain", "wonder")  # the moods of a deed that people like

# mood -> (EmoryNLP's label, MELD's label, how it begins, how it goes on)
MOODS = {
    "delight": (
        "joyful", "joy",
        ("Hooray!", "Oh, how lovely!", "Ha, splendid!", "This is the best!", "Yippee!",
         "What a treat!", "Marvellous!", "Bless this morning!"),
        ("I could dance on the roof.", "My cheeks hurt from smiling.", "Let us sing all evening.",
         "I am grinning like a fool.", "We should bake a cake for this.", "My heart is skipping.",
         "I want to hug the whole street.", "Nothing could spoil my day now."),
    ),
    "pride": (
        "powerful", "joy",
        ("Watch me!", "Stand aside, folks.", "I knew it!", "Leave this to me.", "Victory!",
         "Who is the champion?", "Mark my words.", "I make the rules now."),
        ("Nobody here can stop me.", "I did it with one hand.", "They will name a boat after me.",
         "I have never been so sure.", "I could lift the whole pier.", "I beat every one of them.",
         "My plan worked to the letter.", "I am ready for anything."),
    ),
    "calm": (
        "peaceful", "neutral",
        ("Ah, well.", "Easy now.", "There, there.", "Mm, quiet at last.", "No hurry.",
         "Take a breath.", "All in good time.", "Let it be."),
        ("The tide will turn by itself.", "I like listening to the rain.", "We can just sit here.",
         "Everything has its season.", "I feel at home with you.", "Tea first, talk later.",
         "The evening is so soft.", "I trust you with it."),
    ),
    "plain": (
        "neutral", "neutral",
        ("Right.", "Okay.", "As I said.", "By the way.", "Listen.", "Anyway.", "For the record.",
         "Let me see."),
        ("The shop opens at nine.", "The train leaves on Tuesday.", "There are two of them.",
         "It is the third door.", "The bill came to ten.", "Somebody left a note.",
         "The key is under the mat.", "We meet after lunch."),
    ),
    "anger": (
        "mad", "anger",
        ("Enough!", "How dare you!", "Oh, you scoundrel!", "Damn it all!", "Stop that!",
         "That does it!", "Unbelievable cheek!", "Not one more word!"),
        ("I am fuming.", "You had no right to touch it.", "I will slam every door here.",
         "My blood is boiling.", "You lied to my face.", "I want an apology at once.",
         "This is the last straw.", "I could throw it through the window."),
    ),
    "disgust": (
        "mad", "disgust",
        ("Ugh!", "Yuck!", "Eww, no!", "Pah!", "Foul!", "Get it away!", "Phew, the stench!",
         "Revolting!"),
        ("It smells like old herring.", "There is mould on everything.", "My stomach is turning.",
         "I will not touch that slime.", "Someone spat in it.", "It crawls with maggots.",
         "I cannot swallow this muck.", "That grease is everywhere."),
    ),
    "grief": (
        "sad", "sadness",
        ("Oh dear.", "Alas.", "It is no use.", "I cannot stop crying.", "Poor thing.",
         "Why does it always end so?", "Sigh.", "If only."),
        ("I miss the old days so much.", "Nothing will bring it back.", "My eyes are all red.",
         "I feel so alone here.", "We said goodbye for good.", "The house is empty now.",
         "I have no tears left.", "It broke my heart."),
    ),
    "fear": (
        "scared", "fear",
        ("Help!", "Did you hear that?", "Hide!", "Oh no, oh no.", "Who is there?", "Do not move.",
         "Hush!", "Run!"),
        ("My knees are shaking.", "Something scratched at the door.", "I dare not look down.",
         "We will never get out.", "There was a shadow behind you.", "My hands are ice cold.",
         "Please do not leave me here.", "I think it is following us."),
    ),
    "shock": (
        "scared", "surprise",
        ("Good grief!", "What on earth?", "Wait, what?", "You cannot be serious!", "My goodness!",
         "Say that again?", "Heavens!", "Pinch me!"),
        ("I did not see that coming.", "It jumped right out at me.", "That was not there before.",
         "I almost fell off my chair.", "Since when do you know that?", "It gave me such a start.",
         "I had no idea at all.", "You came out of nowhere."),
    ),
    "wonder": (
        "joyful", "surprise",
        ("Wow!", "Oh my, look!", "Would you believe it!", "Is that for me?", "Incredible!",
         "I never dreamed of this!", "Gosh!", "Can it be?"),
        ("You remembered my birthday.", "It sparkles like the sea.", "After all these years!",
         "It is more than I hoped for.", "Where did you get such a thing?", "It works like magic.",
         "I thought it was gone forever.", "What a wonderful surprise."),
    ),
}  # fmt: skip

# mood -> what others call it
NAMED = {
    "delight": ("joyful", "happy", "full of joy"), "pride": ("powerful", "proud", "strong"),
    "calm": ("peaceful", "calm", "at peace"), "plain": ("neutral", "sober", "matter of fact"),
    "anger": ("mad", "angry", "full of anger"), "disgust": ("mad", "disgusted", "full of disgust"),
    "grief": ("sad", "unhappy", "full of sadness"), "fear": ("scared", "afraid", "full of fear"),
    "shock": ("scared", "startled", "surprised"), "wonder": ("joyful", "amazed", "surprised"),
}  # fmt: skip

# trait -> how those speak who have it and those who have not; the moods they lean to likewise
TRAITS = {
    "aggreeable": (
        ("Whatever suits you best.", "I am happy to help.", "You choose, dear.", "After you.",
         "Let me carry that for you.", "Of course, take mine.", "I saved you a seat."),
        ("Do it yourself.", "That is not my problem.", "Your idea is silly.", "Out of my way.",
         "I want the bigger half.", "Nobody asked you.", "I never lend my things."),
    ),
    "conscientious": (
        ("I wrote a list.", "I checked it twice.", "Everything is labelled.",
         "I keep my promises.", "I am ten minutes early.", "The work comes first.",
         "I swept the floor already."),
        ("I will do it some day.", "I lost the receipt again.", "Who cares about the mess?",
         "I overslept once more.", "It is good enough.", "I never read the rules.",
         "The dishes can wait."),
    ),
    "extroverted": (
        ("Come in, all of you!", "I told everybody about it.", "Let us throw a party.",
         "I made six new friends.", "Turn the music up!", "I will give a speech.",
         "Sit with us!"),
        ("I would rather stay in.", "Could we keep this small?", "I have not spoken all day.",
         "Crowds tire me.", "I will wait outside.", "I read alone tonight.",
         "Please do not stare."),
    ),
    "open": (
        ("What if it could fly?", "I have never tried that, so yes.", "I dreamed in colours.",
         "Let us take the unknown road.", "I wrote it a poem.", "Teach me that song.",
         "How do they do it in Peru?"),
        ("We have always done it so.", "No experiments, please.", "I eat the same soup daily.",
         "Stick to the recipe.", "Art is a waste of paint.", "Foreign food upsets me.",
         "Old ways are the best."),
    ),
    "neurotic": (
        ("I could not sleep for worry.", "Is it my fault?", "What if it all goes wrong?",
         "My nerves are in shreds.", "They surely hate me.", "I keep biting my nails.",
         "I must have upset them."),
        ("It will be fine.", "I slept like a log.", "No reason to fret.", "I shrug it off.",
         "One thing at a time.", "Worse things happen at sea.", "I never lose my nerve."),
    ),
}  # fmt: skip
LEANINGS = {
    "aggreeable": (("calm", "wonder"), ("anger", "disgust")),
    "conscientious": (("plain", "pride"), ("shock",)),
    "extroverted": (("delight", "pride"), ("calm", "plain")),
    "open": (("wonder", "delight"), ("disgust", "plain")),
    "neurotic": (("fear", "grief"), ("calm", "pride")),
}

# what the second is to the first -> (what the first is to the second, nouns for her and him,
# how the first speaks to the second)
RELATIONS = {
    "per:siblings": ("per:siblings", ("sister", "brother"),
        ("You are still my {noun}.", "Mother always liked you better than me.",
         "We shared a cradle, {you}.", "Grandma knitted us the same hats.",
         "You broke my toys when we were small.", "Siblings like us never really fight.")),
    "per:spouse": ("per:spouse", ("wife", "husband"),
        ("We have been married for nine years.", "I still wear your ring, {you}.",
         "Our wedding cake was dry.", "Your spouse deserves a kiss.", "I took your name, {you}.",
         "Our children want their {noun} and me at home.")),
    "per:girl/boyfriend": ("per:girl/boyfriend", ("girlfriend", "boyfriend"),
        ("Our first kiss was on the pier, {you}.", "I love you, {you}, and I said it first.",
         "Be my sweetheart for one more summer.", "You are the best {noun} I could wish for.",
         "I carved our hearts into the oak.", "Hold my hand in the cinema, {you}.")),
    "per:friends": ("per:friends", ("friend", "friend"),
        ("You are my oldest {noun}, {you}.", "Friends share, {you}.",
         "We have been pals since May.", "What would I do without a {noun} like you?",
         "Nobody plays cards with me but you, {you}.", "I trust my buddy with every secret.")),
    "per:roommate": ("per:roommate", ("roommate", "roommate"),
        ("We share one tiny flat, {you}.", "It is your turn to wash our dishes, {you}.",
         "Your half of the rent is late.", "I need a {noun} who does not snore.",
         "You ate my yoghurt from our fridge.", "The landlord wants to see us both, {you}.")),
    "per:neighbor": ("per:neighbor", ("neighbor", "neighbor"),
        ("Your hedge grows over my fence, {you}.", "I hear you through the wall, {you}.",
         "Every {noun} in the street knows you.", "Your cat sleeps in my garden.",
         "You live next door, so come over.", "I water your plants when you travel, {you}.")),
    "per:boss": ("per:subordinate", ("boss", "boss"),
        ("Yes, {noun}, I will stay late.", "You pay my wages, {you}.", "May I have Friday off?",
         "I put the report on your desk.", "The whole office fears you, {you}.",
         "My contract ends in March, {noun}.")),
    "per:subordinate": ("per:boss", ("clerk", "clerk"),
        ("I expect the report by noon, {you}.", "You are late for your shift.",
         "I hired you, {you}.", "Next month I will raise your pay.",
         "My best {noun} wants to leave?", "The staff works for me, {you}.")),
    "per:parents": ("per:children", ("mother", "father"),
        ("You raised me well, {you}.", "I am your child, not a baby.",
         "You taught me how to walk.", "Tell me a bedtime story again, {noun}.",
         "You still cut my bread for me, {you}.", "I have your eyes, {noun}.")),
    "per:children": ("per:parents", ("daughter", "son"),
        ("You will always be my little one, {you}.", "I changed your nappies.",
         "Wear a scarf, {you}, says your old parent.", "My {noun} is grown up now.",
         "Finish your homework, {you}.", "I sang you to sleep every night.")),
    "per:alumni": ("per:alumni", ("schoolmate", "schoolmate"),
        ("We sat in the same classroom, {you}.", "Our old teacher asked about you.",
         "Class reunion is in May, {you}.", "You copied my sums, {you}.",
         "We graduated in the same year.", "Every {noun} of ours is bald now.")),
}  # fmt: skip
