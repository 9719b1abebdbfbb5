"""The words of the sample corpus: cast, places, things, and how people of one mood speak."""

# name -> pronouns; the six whom character identification knows by name
CAST = {
    "Nora Quill": "she",
    "Milo Brandt": "he",
    "Tess Arden": "she",
    "Ivo Lang": "he",
    "Ruby Marsh": "she",
    "Oskar Fenn": "he",
}
OTHERS = {
    "Mr. Hale": "he",
    "Dana": "she",
    "Aunt Vera": "she",
    "Captain Bly": "he",
    "Doctor Penn": "she",
    "Young Tim": "he",
}
PLACES = (
    "harbour", "bakery", "greenhouse", "attic", "library", "ferry", "workshop", "market",
    "lighthouse", "orchard", "kitchen", "bridge", "theatre", "station",
)  # fmt: skip
THINGS = (
    "lantern", "ladder", "piano", "kite", "map", "kettle", "violin", "raft", "clock", "quilt",
    "bicycle", "camera", "anchor", "teapot", "telescope", "wagon", "mirror", "drum", "basket",
    "accordion", "painting", "saddle", "typewriter", "compass",
)  # fmt: skip
DEEDS = (  # past, what a question asks with
    ("found", "find"), ("lost", "lose"), ("bought", "buy"), ("sold", "sell"),
    ("broke", "break"), ("repaired", "repair"), ("hid", "hide"), ("borrowed", "borrow"),
    ("painted", "paint"), ("washed", "wash"), ("carried", "carry"), ("forgot", "forget"),
)  # fmt: skip

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
        ("Right.", "So,", "Okay.", "Well,", "By the way,", "As I said,", "Listen,", "Anyway,"),
        ("the shop opens at nine.", "the train leaves on Tuesday.", "there are two of them.",
         "it is the third door.", "the bill came to ten.", "somebody left a note.",
         "the key is under the mat.", "we meet after lunch."),
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

# trait -> how those speak who have it, and those who have not
TRAITS = {
    "aggreeable": (
        ("Whatever suits you best.", "I am happy to help.", "You choose, dear.",
         "Let me carry that for you.", "Of course, take mine."),
        ("Do it yourself.", "That is not my problem.", "Your idea is silly.",
         "I want the bigger half.", "Out of my way."),
    ),
    "conscientious": (
        ("I wrote a list.", "I checked it twice.", "Everything is labelled.",
         "I am ten minutes early.", "The work comes first."),
        ("I will do it some day.", "I lost the receipt again.", "Who cares about the mess?",
         "I overslept once more.", "It is good enough."),
    ),
    "extroverted": (
        ("Come in, all of you!", "I told everybody about it.", "Let us throw a party.",
         "I made six new friends.", "Turn the music up!"),
        ("I would rather stay in.", "Could we keep this small?", "I have not spoken all day.",
         "Crowds tire me.", "I will wait outside."),
    ),
    "open": (
        ("What if it could fly?", "I have never tried that, so yes.", "I dreamed in colours.",
         "Let us take the unknown road.", "I wrote it a poem."),
        ("We have always done it so.", "No experiments, please.", "I eat the same soup daily.",
         "Stick to the recipe.", "Art is a waste of paint."),
    ),
    "neurotic": (
        ("I could not sleep for worry.", "Is it my fault?", "What if it all goes wrong?",
         "My nerves are in shreds.", "They surely hate me."),
        ("It will be fine.", "I slept like a log.", "No reason to fret.",
         "I shrug it off.", "One thing at a time."),
    ),
}  # fmt: skip

# relation -> (the converse, how the first of the pair speaks of it to the second)
RELATIONS = {
    "per:siblings": ("per:siblings", ("You are still my {sibling}.", "Mother always liked you "
                     "better than me.", "We shared a cradle, {you}.")),
    "per:spouse": ("per:spouse", ("We have been married for nine years.", "I still wear your "
                   "ring, {you}.", "Our wedding cake was dry.")),
    "per:girl/boyfriend": ("per:girl/boyfriend", ("Our first kiss was on the pier, {you}.",
                           "I love you, {you}, and I said it first.", "Be my sweetheart for "
                           "one more summer.")),
    "per:friends": ("per:friends", ("You are my oldest friend, {you}.", "Friends share, {you}.",
                    "We have been pals since school.")),
    "per:roommate": ("per:roommate", ("We share one tiny flat, {you}.", "It is your turn to wash "
                     "our dishes, {you}.", "Your half of the rent is late.")),
    "per:neighbor": ("per:neighbor", ("Your hedge grows over my fence, {you}.", "I hear you "
                     "through the wall next door.", "Good fences make good people, {you}.")),
    "per:boss": ("per:subordinate", ("Yes, boss, I will stay late.", "You pay my wages, {you}.",
                 "May I have Friday off, chief?")),
    "per:parents": ("per:children", ("Father said you raised me well, {you}.", "I am your child, "
                    "{you}, not a baby.", "You taught me how to walk, {you}.")),
    "per:alumni": ("per:alumni", ("We sat in the same classroom, {you}.", "Our old teacher asked "
                   "about you.", "Class reunion is in May, {you}.")),
    "per:client": ("per:works", ("I paid for your service, {you}.", "Your customers trust you, "
                   "{you}.", "I order from you every month.")),
}  # fmt: skip
